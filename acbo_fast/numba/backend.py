"""The Numba backend object: BLAS for products, compiled kernels for the rest, gradients by hand;
float32 by default.

A state is changed in place by `update`; a session keeps the parameters it was opened with. Sessions
share one workspace, so a backend serves one thread at a time; its own threads are in threads.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from acbo_fast.numba import threads
from acbo_fast.numba.grpo.optim import FlatState, num_parameters, views
from acbo_fast.numba.grpo.rollout import empty_trajectories, rollout
from acbo_fast.numba.grpo.update import Parts, update
from acbo_fast.numba.policy.session import Session
from acbo_ref.arrays import Array
from acbo_ref.config import Config
from acbo_ref.grpo.noise import EpisodeNoise
from acbo_ref.grpo.optim import OptimiserState, init_state
from acbo_ref.grpo.rollout import Trajectories
from acbo_ref.grpo.update import ScheduledCoefficients
from acbo_ref.policy.inputs import Task
from acbo_ref.policy.network import init_params, parameter_shapes, reads_pairs
from acbo_ref.systems.batch import SCMBatch, select

# Rows of a training pass that a step of a rollout counts as, when it is decided how many threads
# share it.
ROLLOUT_SHARE = 8


class NumbaBackend:
    """See acbo_ref.backend.Backend."""

    name = "numba"

    def __init__(self, config: Config) -> None:
        self.config = config
        self.dtype = config.dtype or "float32"
        self.parts = Parts(config, self.dtype)
        self._before = np.zeros((3, num_parameters(config.policy)), self.dtype)

    def init_state(self) -> FlatState:
        return self.from_host(init_state(init_params(self.config.policy, self.config.seed)))

    def from_host(self, state: OptimiserState[Array]) -> FlatState:
        order = parameter_shapes(self.config.policy)

        def flat(arrays: dict[str, Array]) -> Array:
            return np.concatenate([np.asarray(arrays[name], self.dtype).ravel() for name in order])

        return FlatState(
            self.config.policy, flat(state.params), flat(state.first_moment), flat(state.second_moment), state.step
        )

    def to_host(self, state: FlatState) -> OptimiserState[Array]:
        first, second, third = (
            {name: view.copy() for name, view in views(self.config.policy, flat).items()}
            for flat in (state.flat, state.first_moment, state.second_moment)
        )
        return OptimiserState(first, second, third, state.step)

    def rollout(
        self,
        state: FlatState,
        systems: SCMBatch[Array],
        observation_mask: Array,
        noise: EpisodeNoise[Array],
        fixed_std: float,
    ) -> Trajectories[Array]:
        whole = empty_trajectories(self.config, systems, observation_mask, noise, fixed_std, self.dtype)
        num_episodes, _, width = noise.observation.shape
        # a step reads one row or table an episode, so it takes many episodes to be worth a thread
        tokens = width * width // 2 if reads_pairs(self.config.policy) else ROLLOUT_SHARE * width
        slices = threads.parts(num_episodes, tokens)
        networks, params = [self.parts[i].network for i in range(len(slices))], state.params

        def play(i: int) -> None:
            cut = slices[i]
            rollout(
                params, self.config, select(systems, cut), observation_mask[cut], _cut(noise, cut), fixed_std,
                networks[i], _cut(whole, cut),
            )  # fmt: skip

        with threads.one_blas_thread:
            threads.run(play, len(slices))
        return whole

    def update(
        self, state: FlatState, trajectories: Trajectories[Array], order: Array, scheduled: ScheduledCoefficients
    ) -> tuple[FlatState, dict[str, float]]:
        """The state given is changed and returned; an update that is interrupted leaves it as it
        was.
        """
        return state, update(state, self.config, trajectories, order, scheduled, self.parts, self._before)

    def session(self, state: FlatState, task: Task, capacity: int, budget: int | None = None) -> Session:
        params = views(self.config.policy, state.flat.copy())  # an update must not change a session that is open
        return Session(params, self.config, task, capacity, self.parts[0].network, budget)


def _cut(record: Any, part: slice) -> Any:
    """A record of arrays of episodes, those of `part` only: views."""
    if isinstance(record, np.ndarray):
        return record[part]
    return type(record)(*(_cut(value, part) for value in record)) if isinstance(record, tuple) else record
