"""What a backend is, and the reference one.

A backend is an object, so two can live in one process and a test can hold both. The training loop, curriculum,
checkpoints and evaluation are written once and take any of them. Registry and the fast ones: `acbo_fast`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from acbo_ref import grpo, optim, policy
from acbo_ref.config import Config
from acbo_ref.history import Task
from acbo_ref.layers import Params
from acbo_ref.optim import OptimiserState
from acbo_ref.policy import PolicyInputs
from acbo_ref.rollout import Decision, EpisodeNoise, Session, Trajectories, rollout
from acbo_ref.scm import SCMBatch

Array = NDArray[Any]


@dataclass(frozen=True)
class Hyper:
    """What changes from iteration to iteration in an update."""

    learning_rate: float
    entropy_coefficient: float


class AnySession(Protocol):
    """See rollout.Session."""

    def observe(self, variable: Array, rows: Array) -> None: ...
    def decide(
        self,
        gumbel: Array | None = None,
        normal: Array | None = None,
        decision: str | None = None,
        optimism: float | None = None,
        allowed: Array | None = None,
    ) -> Decision: ...


class Backend(Protocol):
    """rollout, update, session and decide, for one Config; states and trajectories are the backend's own arrays."""

    name: str
    config: Config
    dtype: str

    def init_state(self) -> Any:
        """A fresh state from the config's seed."""

    def from_host(self, state: OptimiserState) -> Any:
        """The backend's state of NumPy arrays (from a checkpoint)."""

    def to_host(self, state: Any) -> OptimiserState:
        """The state as NumPy arrays, copied."""

    def rollout(
        self, state: Any, problems: SCMBatch, observation_mask: Array, noise: EpisodeNoise, fixed_std: float
    ) -> Any:
        """See rollout.rollout; acts with the parameters of `state`."""

    def update(self, state: Any, trajectories: Any, order: Array, hyper: Hyper) -> tuple[Any, dict[str, float]]:
        """All epochs and minibatches on the collected episodes.

        Args:
            order: (ppo_epochs, E) int, a permutation of the episodes for each pass.
        Returns:
            the new state, and diagnostics: means over the minibatches of `loss` and of the terms of
            grpo.loss_forward, `gradient_norm` (before clipping), `parameter_change`, `skipped_steps`.
        """

    def session(self, state: Any, task: Task, capacity: int) -> AnySession:
        """Deciding step by step in E systems, `capacity` interventions at most."""

    def piece(self, name: str, *arguments: Any) -> Any:
        """One function of the backend by its name in acbo_ref.verify, NumPy in and NumPy out, for comparisons."""


class ReferenceBackend:
    """The specification as a backend: NumPy, gradients by hand, float64 unless the config asks for float32."""

    name = "ref"

    def __init__(self, config: Config) -> None:
        self.config = config
        self.dtype = config.dtype or "float64"

    def init_state(self) -> OptimiserState:
        return optim.init_state(policy.init_params(self.config.policy, self.config.seed, np.dtype(self.dtype)))

    def from_host(self, state: OptimiserState) -> OptimiserState:
        return cast_state(state, self.dtype)

    def to_host(self, state: OptimiserState) -> OptimiserState:
        return cast_state(state, self.dtype)

    def rollout(
        self,
        state: OptimiserState,
        problems: SCMBatch,
        observation_mask: Array,
        noise: EpisodeNoise,
        fixed_std: float,
    ) -> Trajectories:
        return rollout(state.params, self.config, problems, observation_mask, noise, fixed_std)

    def update(
        self, state: OptimiserState, trajectories: Trajectories, order: Array, hyper: Hyper
    ) -> tuple[OptimiserState, dict[str, float]]:
        return update(state, self.config, trajectories, order, hyper)

    def session(self, state: OptimiserState, task: Task, capacity: int) -> Session:
        return Session(state.params, self.config, task, capacity)

    def piece(self, name: str, *arguments: Any) -> Any:
        raise NotImplementedError("the reference is what pieces of other backends are compared with")


def cast_state(state: OptimiserState, dtype: str) -> OptimiserState:
    """A copy in another dtype."""

    def cast(arrays: Params) -> Params:
        return {name: np.array(value, dtype=dtype) for name, value in arrays.items()}

    return OptimiserState(cast(state.params), cast(state.first_moment), cast(state.second_moment), state.step)


def loss_weights(config: Config, entropy_coefficient: float) -> grpo.LossWeights:
    """The loss coefficients of a config."""
    high = config.grpo.clip_ratio if config.grpo.clip_ratio_high is None else config.grpo.clip_ratio_high
    surrogate = config.surrogate
    return grpo.LossWeights(
        config.grpo.clip_ratio, high, entropy_coefficient, surrogate.parent_weight, surrogate.outcome_weight
    )


def minibatch(trajectories: Trajectories, advantage: Array, index: Array) -> tuple[PolicyInputs, grpo.LossBatch]:
    """The episodes `index` of a batch, as the network's inputs and the loss's data."""
    t = trajectories
    inputs = PolicyInputs(
        t.inputs.channels[index], t.inputs.valid[index], t.inputs.choosable[index], t.inputs.row_mask[index]
    )
    batch = grpo.LossBatch(
        variable=t.variable[index],
        value=t.value[index],
        old_log_prob=t.log_prob[index],
        advantage=advantage[index],
        draw_variable=t.draw_variable[index],
        draw_value=t.draw_value[index],
        draw_outcome=t.draw_outcome[index],
        draw_variance=t.draw_variance[index],
        parents=t.parents[index],
        parent_mask=t.parent_mask[index],
        fixed_std=t.fixed_std,
    )
    return inputs, batch


def loss_and_gradient(
    params: Params, config: Config, inputs: PolicyInputs, batch: grpo.LossBatch, weights: grpo.LossWeights
) -> tuple[float, dict[str, float], Params]:
    """Loss, its terms and the gradient of every parameter, for one minibatch."""
    outputs, forward_cache = policy.forward(params, config.policy, inputs, batch.variable.shape[1])
    loss, terms, loss_cache = grpo.loss_forward(params, outputs, batch, weights)
    grads: Params = {}
    d_outputs = grpo.loss_backward(params, outputs, batch, weights, loss_cache, grads)
    policy.backward(params, config.policy, d_outputs, forward_cache, grads)
    return loss, terms, grads


def update(
    state: OptimiserState, config: Config, trajectories: Trajectories, order: Array, hyper: Hyper
) -> tuple[OptimiserState, dict[str, float]]:
    """See Backend.update. A minibatch whose loss or gradient is not finite is skipped and counted."""
    weights = loss_weights(config, hyper.entropy_coefficient)
    advantage = grpo.advantages(trajectories.rewards, config.grpo.scale_rewards)
    start = state.params
    records: list[dict[str, float]] = []
    skipped = 0
    for epoch in order:
        for index in np.split(epoch, config.grpo.minibatches):
            inputs, batch = minibatch(trajectories, advantage, index)
            loss, terms, grads = loss_and_gradient(state.params, config, inputs, batch, weights)
            norm = optim.global_norm(grads)
            records.append({"loss": loss, **terms, "gradient_norm": norm})
            if not (np.isfinite(loss) and np.isfinite(norm)):
                skipped += 1
                continue
            clipped = optim.clip_by_global_norm(grads, norm, config.grpo.gradient_clip)
            state = optim.adam_step(state, clipped, hyper.learning_rate)
    diagnostics = {key: float(np.mean([record[key] for record in records])) for key in records[0]}
    diagnostics["parameter_change"] = optim.parameter_change(start, state.params)
    diagnostics["skipped_steps"] = float(skipped)
    return state, diagnostics
