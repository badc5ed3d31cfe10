"""What a backend is, and the reference one.

A backend is an object, so two can live in one process and a test can hold both. The training loop,
curriculum, checkpoints and evaluation are written once and take any of them. A backend supplies the
rooms `systems`, `policy` and `grpo` again, at the same paths and under the same names. Registry and
the fast ones: `acbo_fast`.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import numpy as np

from acbo_ref.arrays import A, Array, Params
from acbo_ref.config import Config
from acbo_ref.grpo.noise import EpisodeNoise
from acbo_ref.grpo.optim import OptimiserState, init_state
from acbo_ref.grpo.rollout import Trajectories, rollout
from acbo_ref.grpo.update import ScheduledCoefficients, update
from acbo_ref.policy.inputs import Task
from acbo_ref.policy.network import init_params
from acbo_ref.policy.session import AnySession, Session
from acbo_ref.systems.batch import SCMBatch

State = TypeVar("State")


class Backend(Protocol[State, A]):
    """Rollouts, updates and sessions for one Config; `State` and the arrays `A` of trajectories are
    the backend's own.
    """

    name: str
    config: Config
    dtype: str

    def init_state(self) -> State:
        """A fresh state from the config's seed."""

    def from_host(self, state: OptimiserState[Array]) -> State:
        """The backend's state of NumPy arrays (from a checkpoint)."""

    def to_host(self, state: State) -> OptimiserState[Array]:
        """The state as NumPy arrays, copied."""

    def rollout(
        self,
        state: State,
        systems: SCMBatch[Array],
        observation_mask: Array,
        noise: EpisodeNoise[Array],
        fixed_std: float,
    ) -> Trajectories[A]:
        """See grpo.rollout.rollout; acts with the parameters of `state`."""

    def update(
        self, state: State, trajectories: Trajectories[A], order: Array, scheduled: ScheduledCoefficients
    ) -> tuple[State, dict[str, float]]:
        """See grpo.update.update. The state given must not be used afterwards."""

    def session(self, state: State, task: Task, capacity: int, budget: int | None = None) -> AnySession:
        """Deciding step by step in E systems, `capacity` interventions at most; see
        policy.session.Session.
        """


# For code that is written once and takes any backend: it hands states and trajectories on and looks
# into neither.
AnyBackend = Backend[Any, Any]


class ReferenceBackend:
    """The specification as a backend: NumPy, gradients by hand, float64 unless the config asks for
    float32.
    """

    name = "ref"

    def __init__(self, config: Config) -> None:
        self.config = config
        self.dtype = config.dtype or "float64"

    def init_state(self) -> OptimiserState[Array]:
        return init_state(init_params(self.config.policy, self.config.seed, np.dtype(self.dtype)))

    def from_host(self, state: OptimiserState[Array]) -> OptimiserState[Array]:
        return cast_state(state, self.dtype)

    def to_host(self, state: OptimiserState[Array]) -> OptimiserState[Array]:
        return cast_state(state, self.dtype)

    def rollout(
        self,
        state: OptimiserState[Array],
        systems: SCMBatch[Array],
        observation_mask: Array,
        noise: EpisodeNoise[Array],
        fixed_std: float,
    ) -> Trajectories[Array]:
        return rollout(state.params, self.config, systems, observation_mask, noise, fixed_std)

    def update(
        self,
        state: OptimiserState[Array],
        trajectories: Trajectories[Array],
        order: Array,
        scheduled: ScheduledCoefficients,
    ) -> tuple[OptimiserState[Array], dict[str, float]]:
        return update(state, self.config, trajectories, order, scheduled)

    def session(self, state: OptimiserState[Array], task: Task, capacity: int, budget: int | None = None) -> Session:
        return Session(state.params, self.config, task, capacity, budget)


def cast_state(state: OptimiserState[Array], dtype: str) -> OptimiserState[Array]:
    """A copy in another dtype."""

    def cast(arrays: Params) -> Params:
        return {name: np.array(value, dtype=dtype) for name, value in arrays.items()}

    return OptimiserState(cast(state.params), cast(state.first_moment), cast(state.second_moment), state.step)
