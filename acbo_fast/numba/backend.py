"""The Numba backend object: BLAS for products, compiled kernels for the rest, gradients by hand; float32 by default.

A state is changed in place by `update`; a session keeps the parameters it was opened with. Sessions share one workspace, so a
backend serves one thread at a time; its own threads are in threads.py.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acbo_fast.numba import grpo, optim, policy, threads
from acbo_fast.numba import rollout as episodes
from acbo_fast.numba.workspace import Workspace
from acbo_ref import policy as reference_policy
from acbo_ref.backend import Hyper, loss_weights
from acbo_ref.config import Config
from acbo_ref.grpo import LossWeights
from acbo_ref.history import Task
from acbo_ref.optim import OptimiserState, init_state
from acbo_ref.policy import PolicyInputs
from acbo_ref.rollout import Decision, EpisodeNoise, Trajectories
from acbo_ref.scm import SCMBatch

Array = NDArray[Any]

# Rows of a training pass that a step of a rollout counts as, when it is decided how many threads share it.
ROLLOUT_SHARE = 8


class _Part:
    """What one part of a batch works in: arrays, the network on them, and a gradient."""

    def __init__(self, config: Config, dtype: str) -> None:
        self.space = Workspace(dtype)
        self.network = policy.Network(self.space, config.policy)
        self.flat_grads = np.zeros(optim.num_parameters(config.policy), dtype)
        self.grads = optim.views(config.policy, self.flat_grads)


class NumbaBackend:
    """See acbo_ref.backend.Backend."""

    name = "numba"

    def __init__(self, config: Config) -> None:
        self.config = config
        self.dtype = config.dtype or "float32"
        self._parts: list[_Part] = []
        self._before = np.zeros((3, optim.num_parameters(config.policy)), self.dtype)

    def part(self, number: int) -> _Part:
        """Arena number 0, 1, ...; the first has the sum of all gradients in the end."""
        while len(self._parts) <= number:
            self._parts.append(_Part(self.config, self.dtype))
        return self._parts[number]

    def init_state(self) -> optim.State:
        return self.from_host(init_state(reference_policy.init_params(self.config.policy, self.config.seed)))

    def from_host(self, state: OptimiserState) -> optim.State:
        order = reference_policy.parameter_shapes(self.config.policy)

        def flat(arrays: dict[str, Array]) -> Array:
            return np.concatenate([np.asarray(arrays[name], self.dtype).ravel() for name in order])

        return optim.State(
            self.config.policy, flat(state.params), flat(state.first_moment), flat(state.second_moment), state.step
        )

    def to_host(self, state: optim.State) -> OptimiserState:
        first, second, third = (
            {name: view.copy() for name, view in optim.views(self.config.policy, flat).items()}
            for flat in (state.flat, state.first_moment, state.second_moment)
        )
        return OptimiserState(first, second, third, state.step)

    def rollout(
        self, state: optim.State, problems: SCMBatch, observation_mask: Array, noise: EpisodeNoise, fixed_std: float
    ) -> Trajectories:
        whole = episodes.empty_trajectories(self.config, problems, observation_mask, noise, fixed_std, self.dtype)
        num_episodes, _, width = noise.observation.shape
        # a step reads one row an episode, so it takes many episodes to be worth a thread
        slices = threads.parts(num_episodes, ROLLOUT_SHARE * width)
        networks, params = [self.part(i).network for i in range(len(slices))], state.params

        def play(i: int) -> None:
            cut = slices[i]
            episodes.rollout(
                networks[i], params, self.config, problems.select(cut), observation_mask[cut], _cut(noise, cut),
                _cut(whole, cut),
            )  # fmt: skip

        with threads.one_blas_thread:
            threads.run(play, len(slices))
        return whole

    def update(
        self, state: optim.State, trajectories: Trajectories, order: Array, hyper: Hyper
    ) -> tuple[optim.State, dict[str, float]]:
        """The state given is changed and returned; an update that is interrupted leaves it as it was."""
        kept, step = (state.flat, state.first_moment, state.second_moment), state.step
        for before, array in zip(self._before, kept, strict=True):
            np.copyto(before, array)
        try:
            with threads.one_blas_thread:
                records = self._passes(state, trajectories, order, hyper)
        except BaseException:
            for before, array in zip(self._before, kept, strict=True):
                np.copyto(array, before)
            state.step = step
            raise
        diagnostics = {key: float(np.mean([record[key] for record in records])) for key in records[0]}
        diagnostics["skipped_steps"] *= len(records)
        np.subtract(state.flat, self._before[0], out=self._before[0])
        return state, diagnostics | {"parameter_change": optim.global_norm(self._before[0])}

    def _passes(self, state: optim.State, t: Trajectories, order: Array, hyper: Hyper) -> list[dict[str, float]]:
        """All minibatches of all epochs; what each gave."""
        settings, weights = self.config.grpo, loss_weights(self.config, hyper.entropy_coefficient)
        data = grpo.Batch(
            t.variable, t.value, t.log_prob, self._advantages(t.rewards), t.draw_variable, t.draw_value, t.draw_outcome,
            t.draw_variance, t.parents, t.parent_mask,
        )  # fmt: skip
        params, records = state.params, []
        for epoch in order:
            for index in np.split(epoch, settings.minibatches):
                loss, terms = self.loss_and_gradient(params, t.inputs, data, index, t.fixed_std, weights)
                norm, skipped = optim.guarded_step(
                    state, self.part(0).flat_grads, loss, hyper.learning_rate, settings.gradient_clip
                )
                records.append({"loss": loss, **terms, "gradient_norm": norm, "skipped_steps": float(skipped)})
        return records

    def session(self, state: optim.State, task: Task, capacity: int) -> episodes.Session:
        params = optim.views(self.config.policy, state.flat.copy())  # an update must not change a session that is open
        return episodes.Session(self.part(0).network, params, self.config, task, capacity)

    def piece(self, name: str, *arguments: Any) -> Any:
        from acbo_fast.numba.pieces import PIECES

        return PIECES[name](self, *arguments)

    # -------------------------------------------------------------------------------------------------- its parts

    def _advantages(self, rewards: Array) -> Array:
        return grpo.advantages(rewards, self.config.grpo.scale_rewards, self.part(0).space("advantage", *rewards.shape))

    def loss_and_gradient(
        self,
        params: policy.Params,
        inputs: PolicyInputs,
        data: grpo.Batch,
        index: Array,
        fixed_std: float,
        weights: LossWeights,
    ) -> tuple[float, dict[str, float]]:
        """Loss and its terms over the episodes `index`; the gradient of every parameter is then in `part(0).grads`."""
        rows, width = inputs.channels.shape[1:3]
        slices = threads.parts(len(index), rows * width)
        arenas = [self.part(i) for i in range(len(slices))]
        learned = not self.config.policy.use_fixed_std

        def work(i: int) -> Array:
            arena = arenas[i]
            few, batch = _take(arena.space, inputs, data, index[slices[i]])
            outputs = arena.network.forward(params, few, batch.variable.shape[1])
            terms, d_outputs = grpo.loss_and_gradient(
                arena.space, params, outputs, batch, len(index), fixed_std, learned, weights, arena.grads
            )
            arena.network.backward(params, few, outputs, d_outputs, arena.grads)
            return terms

        terms = threads.run(work, len(slices))
        for arena in arenas[1:]:
            optim.add(arenas[0].flat_grads, arena.flat_grads)
        return grpo.mean_terms(np.sum(terms, axis=0), len(index), data, weights)


def _cut(arrays: Any, part: slice) -> Any:
    """A dataclass of arrays of episodes, those of `part` only: views."""

    def cut(value: Any) -> Any:
        return value[part] if isinstance(value, np.ndarray) else _cut(value, part) if is_dataclass(value) else value

    return replace(arrays, **{field.name: cut(getattr(arrays, field.name)) for field in fields(arrays)})


def _take(space: Workspace, inputs: PolicyInputs, data: grpo.Batch, index: Array) -> tuple[PolicyInputs, grpo.Batch]:
    """The episodes `index`, copied into the workspace."""

    def taken(name: str, array: Array) -> Array:
        out = space("minibatch." + name, len(index), *array.shape[1:], dtype=array.dtype)
        return np.take(array, index, axis=0, out=out, mode="clip")  # indices are in range; "raise" would buffer

    few = {name: taken(name, getattr(inputs, name)) for name in ("channels", "valid", "choosable", "row_mask")}
    return PolicyInputs(**few), grpo.Batch(*(taken(n, a) for n, a in zip(data._fields, data, strict=True)))
