"""Twin of acbo_ref/grpo/update.py: all epochs and minibatches of an iteration as one compiled scan.

Each device of a mesh takes its share of a minibatch. The shares are equally large, so the mean of
their means is the mean.

Letters: E episodes.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from acbo_fast.jax.grpo.loss import advantages, loss
from acbo_fast.jax.grpo.optim import global_norm, guarded_step
from acbo_fast.jax.mesh import EPISODES
from acbo_fast.jax.policy.layers import Params, with_buffers
from acbo_fast.jax.policy.network import forward
from acbo_ref.config import Config, episodes_together
from acbo_ref.grpo.credit import by_episode, by_group
from acbo_ref.grpo.loss import LossBatch, LossWeights
from acbo_ref.grpo.optim import OptimiserState
from acbo_ref.grpo.rollout import Trajectories
from acbo_ref.grpo.update import ScheduledCoefficients, loss_batch, loss_weights
from acbo_ref.policy.network import PolicyInputs


def loss_of_minibatch(
    params: Params,
    config: Config,
    inputs: PolicyInputs[Array],
    batch: LossBatch[Array],
    weights: LossWeights,
    never: Array,
) -> tuple[Array, dict[str, Array]]:
    """The loss and its terms, by the path that training takes; `never` is an int that is always
    0.
    """
    outputs = forward(with_buffers(params, never), config.policy, inputs, batch.variable.shape[1])
    return loss(params, outputs, batch, weights)


def update(
    state: OptimiserState[Array],
    config: Config,
    trajectories: Trajectories[Array],
    order: Array,
    scheduled: ScheduledCoefficients,
    devices: int,
) -> tuple[OptimiserState[Array], dict[str, Array]]:
    """See acbo_ref.grpo.update.update; on one device of a mesh of `devices`."""
    settings = config.grpo
    never = (order[0, 0] < 0).astype(jnp.int32)
    weights = loss_weights(config, scheduled.entropy_coefficient)
    together = episodes_together(config)
    compared = advantages(by_group(trajectories.rewards, together), settings.scale_rewards)
    whole = loss_batch(trajectories, by_episode(compared, together))
    rate: Any = scheduled.learning_rate  # traced, like the entropy's coefficient

    def step(state: OptimiserState[Array], index: Array) -> tuple[OptimiserState[Array], dict[str, Array]]:
        inputs, batch = jax.tree.map(lambda a: a[index] if jnp.ndim(a) else a, (trajectories.inputs, whole))
        valued = jax.value_and_grad(loss_of_minibatch, has_aux=True)(
            state.params, config, inputs, batch, weights, never
        )
        (value, terms), grads = jax.lax.pmean(valued, EPISODES)
        state, norm, skipped = guarded_step(state, grads, value, rate, settings.gradient_clip)
        return state, {"loss": value, **terms, "gradient_norm": norm, "skipped_steps": skipped}

    steps = order.shape[0] * settings.minibatches
    own = order.reshape(steps, devices, -1)[:, jax.lax.axis_index(EPISODES)]
    final, records = jax.lax.scan(step, state, own)
    diagnostics = {key: values.mean() for key, values in records.items() if key != "skipped_steps"}
    change = jax.tree.map(lambda after, before: after - before, final.params, state.params)
    diagnostics["parameter_change"] = global_norm(change)
    diagnostics["skipped_steps"] = records["skipped_steps"].sum()
    return final, diagnostics
