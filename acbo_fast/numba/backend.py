"""The Numba backend object: BLAS for products, compiled kernels for the rest, gradients by hand; float32 by default.

A state is changed in place by `update`. Everything between two calls is in one workspace, so a backend serves one thread.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from acbo_fast.numba import grpo, optim, policy
from acbo_fast.numba import rollout as episodes
from acbo_fast.numba.workspace import Workspace
from acbo_ref import policy as reference_policy
from acbo_ref.backend import History, Hyper, loss_weights
from acbo_ref.backend import decide as decide_by_replay
from acbo_ref.config import Config
from acbo_ref.grpo import LossWeights
from acbo_ref.history import Task
from acbo_ref.optim import OptimiserState, init_state
from acbo_ref.policy import PolicyInputs
from acbo_ref.rollout import Decision, EpisodeNoise, Trajectories
from acbo_ref.scm import SCMBatch

Array = NDArray[Any]


class NumbaBackend:
    """See acbo_ref.backend.Backend."""

    name = "numba"

    def __init__(self, config: Config) -> None:
        self.config = config
        self.dtype = config.dtype or "float32"
        self._space = Workspace(self.dtype)
        self._network = policy.Network(self._space, config.policy)
        size = optim.num_parameters(config.policy)
        self._flat_grads = np.zeros(size, self.dtype)
        self._grads = optim.views(config.policy, self._flat_grads)
        self._start = np.zeros(size, self.dtype)

    def init_state(self) -> optim.State:
        return self.from_host(init_state(reference_policy.init_params(self.config.policy, self.config.seed)))

    def from_host(self, state: OptimiserState) -> optim.State:
        order = reference_policy.parameter_shapes(self.config.policy)

        def flat(arrays: dict[str, Array]) -> Array:
            return np.concatenate([np.asarray(arrays[name], self.dtype).ravel() for name in order])

        params = flat(state.params)
        return optim.State(
            params, flat(state.first_moment), flat(state.second_moment), state.step, optim.views(self.config.policy, params)
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
        return episodes.rollout(
            self._network, state.params, self.config, problems, observation_mask, noise, fixed_std
        )

    def update(
        self, state: optim.State, trajectories: Trajectories, order: Array, hyper: Hyper
    ) -> tuple[optim.State, dict[str, float]]:
        """The state given is changed and returned."""
        settings, t = self.config.grpo, trajectories
        weights = loss_weights(self.config, hyper.entropy_coefficient)
        advantage = self._advantages(t.rewards)
        np.copyto(self._start, state.flat)
        records: list[dict[str, float]] = []
        skipped = 0
        for epoch in order:
            for index in np.split(epoch, settings.minibatches):
                inputs, batch = self._minibatch(t, advantage, index)
                loss, terms = self._loss_and_gradient(state.params, inputs, batch, t.fixed_std, weights)
                norm, skip = optim.guarded_step(
                    state, self._flat_grads, loss, hyper.learning_rate, settings.gradient_clip
                )
                skipped += skip
                records.append({"loss": loss, **terms, "gradient_norm": norm})
        diagnostics = {key: float(np.mean([record[key] for record in records])) for key in records[0]}
        np.subtract(state.flat, self._start, out=self._start)
        diagnostics["parameter_change"] = optim.global_norm(self._start)
        diagnostics["skipped_steps"] = float(skipped)
        return state, diagnostics

    def session(self, state: optim.State, task: Task, capacity: int) -> episodes.Session:
        return episodes.Session(self._network, state.params, self.config, task, capacity)

    def decide(self, state: optim.State, history: History) -> Decision:
        return decide_by_replay(self, state, history)

    def piece(self, name: str, *arguments: Any) -> Any:
        from acbo_fast.numba.pieces import PIECES

        return PIECES[name](self, *arguments)

    # -------------------------------------------------------------------------------------------------- its parts

    def _advantages(self, rewards: Array) -> Array:
        scale = self.config.grpo.scale_rewards
        out = self._space("advantage", *rewards.shape)
        divisor = 1.0 if scale == "none" else float(rewards.std()) + grpo.ADVANTAGE_EPSILON
        grpo.advantages(rewards.size, rewards, scale == "group", divisor, out)
        return out

    def _minibatch(self, t: Trajectories, advantage: Array, index: Array) -> tuple[PolicyInputs, grpo.Batch]:
        """The episodes `index`, copied into the workspace."""

        def taken(name: str, array: Array) -> Array:
            out = self._space("minibatch." + name, len(index), *array.shape[1:], dtype=array.dtype)
            return np.take(array, index, axis=0, out=out, mode="clip")  # indices are in range; "raise" would buffer

        parts = {name: getattr(t.inputs, name) for name in ("channels", "valid", "choosable", "row_mask")}
        inputs = PolicyInputs(**{name: taken(name, array) for name, array in parts.items()})
        whole = grpo.Batch(
            t.variable, t.value, t.log_prob, advantage, t.draw_variable, t.draw_value, t.draw_outcome, t.draw_variance,
            t.parents, t.parent_mask,
        )  # fmt: skip
        return inputs, grpo.Batch(*(taken(name, array) for name, array in zip(whole._fields, whole, strict=True)))

    def _loss_and_gradient(
        self, params: policy.Params, inputs: PolicyInputs, batch: grpo.Batch, fixed_std: float, weights: LossWeights
    ) -> tuple[float, dict[str, float]]:
        """Loss and its terms; the gradient of every parameter is then in `self._grads`."""
        outputs = self._network.forward(params, inputs, batch.variable.shape[1])
        learned = not self.config.policy.use_fixed_std
        loss, terms, d_outputs = grpo.loss_and_gradient(
            self._space, params, outputs, batch, fixed_std, learned, weights, self._grads
        )
        self._network.backward(params, inputs, outputs, d_outputs, self._grads)
        return loss, terms
