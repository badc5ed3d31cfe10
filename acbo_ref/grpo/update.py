"""One update: minibatches of the collected episodes, the loss, its gradient, and steps of Adam.

Contract: functions of a state and of data; a minibatch whose loss or gradient is not finite changes
nothing and is counted.
Letters: E episodes, K decisions, G candidates.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from acbo_ref.arrays import A, Array, Params
from acbo_ref.config import Config, episodes_together
from acbo_ref.grpo.credit import by_episode, by_group
from acbo_ref.grpo.loss import (
    LossBatch,
    LossWeights,
    advantages,
    edge_mask,
    loss_backward,
    loss_forward,
)
from acbo_ref.grpo.optim import OptimiserState, adam_step, clip_by_global_norm, global_norm, parameter_change
from acbo_ref.grpo.rollout import Trajectories
from acbo_ref.policy.local import Tried
from acbo_ref.policy.network import PolicyInputs, backward, forward
from acbo_ref.randomness import Role, generator


class ScheduledCoefficients(NamedTuple):
    """What the schedules of optim.py say for one iteration."""

    learning_rate: float
    entropy_coefficient: float


def loss_weights(config: Config, entropy_coefficient: float) -> LossWeights:
    """The loss coefficients of a config."""
    high = config.grpo.clip_ratio if config.grpo.clip_ratio_high is None else config.grpo.clip_ratio_high
    heads = config.heads
    return LossWeights(
        config.grpo.clip_ratio, high, entropy_coefficient, heads.parent_weight, heads.outcome_weight, heads.edge_weight
    )


def minibatch_order(config: Config, iteration: int) -> Array:
    """(ppo_epochs, E): a permutation of the episodes for each pass."""
    rng = generator(config.seed, Role.MINIBATCHES, iteration)
    return np.stack([rng.permutation(config.batch_size) for _ in range(config.grpo.ppo_epochs)])


def minibatch(
    trajectories: Trajectories[Array], advantage: Array, index: Array
) -> tuple[PolicyInputs[Array], LossBatch[Array]]:
    """The episodes `index` of a batch, as the network's inputs and the loss's data; advantage (E,
    K, G).
    """
    inputs = PolicyInputs(*(array[index] for array in trajectories.inputs))
    whole = loss_batch(trajectories, advantage)
    tried = Tried(*(array[index] for array in whole.tried))
    chosen = {name: array[index] for name, array in whole._asdict().items() if name not in ("fixed_std", "tried")}
    return inputs, LossBatch(**chosen, tried=tried, fixed_std=whole.fixed_std)


def loss_batch(trajectories: Trajectories[A], advantage: A) -> LossBatch[A]:
    """What the loss needs of all episodes, for arrays of any kind."""
    t = trajectories
    return LossBatch(
        variable=t.variable,
        value=t.value,
        old_log_prob=t.log_prob,
        advantage=advantage,
        judged_variable=t.judged_variable,
        judged_value=t.judged_value,
        judged_outcome=t.judged_outcome,
        judged_variance=t.judged_variance,
        judged_weight=t.judged_weight,
        parents=t.parents,
        parent_mask=t.parent_mask,
        causes=t.causes,
        tried=t.tried,
        edge_mask=edge_mask(t.inputs.valid),
        fixed_std=t.fixed_std,
    )


def group_advantages(rewards: Array, config: Config) -> Array:
    """Advantages (E, K, G) of rewards, within the group that the credit compares."""
    together = episodes_together(config)
    return by_episode(advantages(by_group(rewards, together), config.grpo.scale_rewards), together)


def loss_and_gradient(
    params: Params,
    config: Config,
    inputs: PolicyInputs[Array],
    batch: LossBatch[Array],
    weights: LossWeights,
) -> tuple[float, dict[str, float], Params]:
    """Loss, its terms and the gradient of every parameter, for one minibatch."""
    outputs, forward_cache = forward(params, config.policy, inputs, batch.variable.shape[1])
    loss, terms, loss_cache = loss_forward(params, outputs, batch, weights)
    grads: Params = {}
    d_outputs = loss_backward(params, outputs, batch, weights, loss_cache, grads)
    backward(params, config.policy, d_outputs, forward_cache, grads)
    return loss, terms, grads


def update(
    state: OptimiserState[Array],
    config: Config,
    trajectories: Trajectories[Array],
    order: Array,
    scheduled: ScheduledCoefficients,
) -> tuple[OptimiserState[Array], dict[str, float]]:
    """All epochs and minibatches on the collected episodes.

    Args:
        order: (ppo_epochs, E) int, a permutation of the episodes for each pass.
    Returns:
        the new state, and diagnostics: means over the minibatches of `loss` and of the terms of
        `loss_forward`, `gradient_norm` (before clipping), `parameter_change`, `skipped_steps`.
    """
    weights = loss_weights(config, scheduled.entropy_coefficient)
    advantage = group_advantages(trajectories.rewards, config)
    start = state.params
    records: list[dict[str, float]] = []
    skipped = 0
    for epoch in order:
        for index in np.split(epoch, config.grpo.minibatches):
            inputs, batch = minibatch(trajectories, advantage, index)
            loss, terms, grads = loss_and_gradient(state.params, config, inputs, batch, weights)
            norm = global_norm(grads)
            records.append({"loss": loss, **terms, "gradient_norm": norm})
            if not (np.isfinite(loss) and np.isfinite(norm)):
                skipped += 1
                continue
            clipped = clip_by_global_norm(grads, norm, config.grpo.gradient_clip)
            state = adam_step(state, clipped, scheduled.learning_rate)
    diagnostics = {key: float(np.mean([record[key] for record in records])) for key in records[0]}
    diagnostics["parameter_change"] = parameter_change(start, state.params)
    diagnostics["skipped_steps"] = float(skipped)
    return state, diagnostics
