"""The intervention problem as a Gymnasium environment (extra `gym`), for other
reinforcement-learning software.

    env = InterventionEnv(systems, num_observations=20, num_interventions=20)

An episode is one system: `reset` draws one of them and its observational rows, each `step` sets one
variable and measures one row. Everything is in the policy's standard units (policy/inputs.py), so
observations and actions are about 1.

Contract: no mathematics of its own; a wrapper around `System.simulate` and `standard_units`.
Letters: O observational rows, K interventions, V variables of the largest system.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from acbo_ref.arena.play import batch_task
from acbo_ref.arrays import Array
from acbo_ref.errors import AcboError
from acbo_ref.files import Document
from acbo_ref.policy.inputs import HALF_WIDTH, OUTCOME_BOUND, standard_units, to_domain
from acbo_ref.systems.scm import System
from acbo_ref.version import install

try:
    import gymnasium
except ImportError as error:
    raise AcboError(f"the environment needs gymnasium: {install('gym')}") from error


class InterventionEnv(gymnasium.Env[dict[str, Array], Document]):
    """Interventions on unknown systems.

    Args:
        systems: one is drawn for each episode; the seed of `reset` decides which, and its noise.
        num_observations, num_interventions: O and K.

    Observation (a dict): `rows` (O + K, V) standard value / 5 of what was measured so far, 0 after
    that and in padding; `intervened` (O + K, V) 1 where a row's variable was set; `target` (V,) and
    `manipulable` (V,), 0 or 1. Action (a dict): `variable`, an index below V, and `value` (1,) in
    [-1, 1], the ends of the domain. A variable that cannot be set sets nothing: the row is then
    observational. Reward: -(standard target) / 5, the target clipped at OUTCOME_BOUND as in
    training. `info["outcome"]` is the measured target, raw, in the user's direction. The episode is
    truncated after K steps.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own interface

    def __init__(self, systems: Sequence[System], num_observations: int = 20, num_interventions: int = 20) -> None:
        if not systems or num_observations < 0 or num_interventions < 1:
            raise AcboError("an environment needs systems, num_observations >= 0 and num_interventions >= 1")
        self._systems = [system.minimised() for system in systems]
        self._signs = [-1.0 if system.direction == "maximize" else 1.0 for system in systems]
        self._num_observations, self._num_interventions = num_observations, num_interventions
        width = max(len(system.names) for system in self._systems)
        shape = (num_observations + num_interventions, width)
        box = gymnasium.spaces.Box
        observation_space: Any = gymnasium.spaces.Dict(
            {
                "rows": box(-np.inf, np.inf, shape, np.float64),
                "intervened": box(0, 1, shape, np.int8),
                "target": box(0, 1, (width,), np.int8),
                "manipulable": box(0, 1, (width,), np.int8),
            }
        )
        action_space: Any = gymnasium.spaces.Dict(
            {"variable": gymnasium.spaces.Discrete(width), "value": box(-1.0, 1.0, (1,), np.float64)}
        )
        self.observation_space, self.action_space = observation_space, action_space
        self._shape = shape

    def reset(self, *, seed: int | None = None, options: Document | None = None) -> tuple[dict[str, Array], Document]:
        super().reset(seed=seed)
        number = int(self.np_random.integers(len(self._systems)))
        system, self._sign = self._systems[number], self._signs[number]
        self._system = system
        noise = self.np_random.standard_normal((self._num_observations, system.noise_dim))
        self._task = batch_task([system], [system.simulate(noise)])
        self._units = standard_units(self._task)
        self._rows, self._intervened = np.zeros(self._shape), np.zeros(self._shape, np.int8)
        self._done = 0
        for row in self._task.observations[0]:
            self._record(row)
        return self._observation(), {"system": system.name}

    def step(self, action: Document) -> tuple[dict[str, Array], float, bool, bool, Document]:
        variable, standard = int(action["variable"]), HALF_WIDTH * float(np.clip(action["value"], -1.0, 1.0)[0])
        system, width = self._system, len(self._system.names)
        set_one = variable < width and bool(system.manipulable[variable])
        noise = self.np_random.standard_normal((1, system.noise_dim))
        if set_one:
            value = to_domain(self._task, self._units, np.array([variable]), np.array([standard]))[0]
            row = system.simulate(noise, variable, float(value))[0]
            self._intervened[self._done, variable] = 1
        else:
            row = system.simulate(noise)[0]
        self._record(row)
        target = system.target_index
        bound = OUTCOME_BOUND / HALF_WIDTH
        reward = -float(np.clip(self._rows[self._done - 1, target], -bound, bound))
        truncated = self._done == self._shape[0]
        return self._observation(), reward, False, truncated, {"outcome": self._sign * float(row[target])}

    def _record(self, row: Array) -> None:
        width = len(row)
        standard = (row - self._units.location[0]) / self._units.scale[0]
        self._rows[self._done, :width] = np.where(self._system.visible, standard / HALF_WIDTH, 0.0)
        self._done += 1

    def _observation(self) -> dict[str, Array]:
        target, manipulable = np.zeros((2, self._shape[1]), np.int8)
        target[self._system.target_index] = 1
        manipulable[: len(self._system.names)] = self._system.manipulable
        return {
            "rows": self._rows.copy(),
            "intervened": self._intervened.copy(),
            "target": target,
            "manipulable": manipulable,
        }
