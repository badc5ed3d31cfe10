"""Twin of acbo_ref/grpo/update.py: minibatches cut into parts of whole episodes, each worked on by
a thread.

Letters: E episodes.
"""

from __future__ import annotations

import math

import numpy as np

from acbo_fast.numba import threads
from acbo_fast.numba.grpo import loss
from acbo_fast.numba.grpo.optim import FlatState, add, global_norm, guarded_step, num_parameters, views
from acbo_fast.numba.policy.network import Network
from acbo_fast.numba.workspace import Workspace
from acbo_ref.arrays import Array, Params
from acbo_ref.config import Config, episodes_together
from acbo_ref.grpo.credit import by_episode, by_group
from acbo_ref.grpo.loss import LossBatch, LossWeights
from acbo_ref.grpo.rollout import Trajectories
from acbo_ref.grpo.update import ScheduledCoefficients, loss_batch, loss_weights
from acbo_ref.policy.local import Tried
from acbo_ref.policy.network import PolicyInputs


class Part:
    """What one part of a batch works in: arrays, the network on them, and a gradient."""

    def __init__(self, config: Config, dtype: str) -> None:
        self.space = Workspace(dtype)
        self.network = Network(self.space, config.policy)
        self.flat_grads = np.zeros(num_parameters(config.policy), dtype)
        self.grads = views(config.policy, self.flat_grads)


class Parts:
    """Parts number 0, 1, ..., made when they are first asked for; the first has the sum of all
    gradients in the end.
    """

    def __init__(self, config: Config, dtype: str) -> None:
        self._config, self._dtype = config, dtype
        self._made: list[Part] = []

    def __getitem__(self, number: int) -> Part:
        while len(self._made) <= number:
            self._made.append(Part(self._config, self._dtype))
        return self._made[number]


def minibatch(
    inputs: PolicyInputs[Array], batch: LossBatch[Array], index: Array, space: Workspace
) -> tuple[PolicyInputs[Array], LossBatch[Array]]:
    """The episodes `index`, copied into the workspace."""

    def taken(name: str, array: Array) -> Array:
        out = space("minibatch." + name, len(index), *array.shape[1:], dtype=array.dtype)
        return np.take(array, index, axis=0, out=out, mode="clip")  # indices are in range; "raise" would buffer

    few = PolicyInputs(*(taken(name, array) for name, array in inputs._asdict().items()))
    plain = {name: array for name, array in batch._asdict().items() if name not in ("fixed_std", "tried")}
    arrays = {name: taken(name, array) for name, array in plain.items()}
    tried = Tried(*(taken("tried." + name, array) for name, array in batch.tried._asdict().items()))
    return few, LossBatch(**arrays, tried=tried, fixed_std=batch.fixed_std)


def loss_and_gradient(
    params: Params,
    config: Config,
    inputs: PolicyInputs[Array],
    batch: LossBatch[Array],
    weights: LossWeights,
    index: Array,
    parts: Parts,
) -> tuple[float, dict[str, float]]:
    """Loss and its terms over the episodes `index`; the gradient of every parameter is then in
    `parts[0].grads`.
    """
    slices = threads.parts(len(index), math.prod(inputs.channels.shape[1:-1]))
    used = [parts[i] for i in range(len(slices))]
    learned_std = not config.policy.use_fixed_std

    def work(i: int) -> Array:
        part = used[i]
        few, data = minibatch(inputs, batch, index[slices[i]], part.space)
        outputs = part.network.forward(params, few, data.variable.shape[1])
        terms, d_outputs = loss.loss_and_gradient(
            part.space, params, outputs, data, len(index), learned_std, weights, part.grads
        )
        part.network.backward(params, few, outputs, d_outputs, part.grads)
        return terms

    terms = threads.run(work, len(slices))
    for part in used[1:]:
        add(used[0].flat_grads, part.flat_grads)
    return loss.mean_terms(np.sum(terms, axis=0), len(index), batch, weights)


def update(
    state: FlatState,
    config: Config,
    trajectories: Trajectories[Array],
    order: Array,
    scheduled: ScheduledCoefficients,
    parts: Parts,
    before: Array,
) -> dict[str, float]:
    """The state given is changed; an update that is interrupted leaves it as it was. See
    acbo_ref.grpo.update.update.

    Args:
        before: (3, P) scratch for the state's arrays.
    """
    kept, step = (state.flat, state.first_moment, state.second_moment), state.step
    for copy, array in zip(before, kept, strict=True):
        np.copyto(copy, array)
    try:
        with threads.one_blas_thread:
            records = _passes(state, config, trajectories, order, scheduled, parts)
    except BaseException:
        for copy, array in zip(before, kept, strict=True):
            np.copyto(array, copy)
        state.step = step
        raise
    diagnostics = {key: float(np.mean([record[key] for record in records])) for key in records[0]}
    diagnostics["skipped_steps"] *= len(records)
    np.subtract(state.flat, before[0], out=before[0])
    return diagnostics | {"parameter_change": global_norm(before[0])}


def _passes(
    state: FlatState,
    config: Config,
    trajectories: Trajectories[Array],
    order: Array,
    scheduled: ScheduledCoefficients,
    parts: Parts,
) -> list[dict[str, float]]:
    """All minibatches of all epochs; what each gave."""
    settings, weights = config.grpo, loss_weights(config, scheduled.entropy_coefficient)
    rewards = trajectories.rewards
    together = episodes_together(config)
    grouped = np.ascontiguousarray(by_group(rewards, together))
    space = parts[0].space("advantage", *grouped.shape)
    advantage = by_episode(loss.advantages(grouped, settings.scale_rewards, space), together)
    batch, params, records = loss_batch(trajectories, advantage), state.params, []
    for epoch in order:
        for index in np.split(epoch, settings.minibatches):
            value, terms = loss_and_gradient(params, config, trajectories.inputs, batch, weights, index, parts)
            norm, skipped = guarded_step(
                state, parts[0].flat_grads, value, scheduled.learning_rate, settings.gradient_clip
            )
            records.append({"loss": value, **terms, "gradient_norm": norm, "skipped_steps": float(skipped)})
    return records
