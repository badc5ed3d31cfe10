"""Twin of acbo_ref/policy/reading.py: rows in standard units and as channels, in arrays of fixed
capacity.

Letters: E episodes, O observational rows, N rows in all, V variables, C channels.
"""

from __future__ import annotations

import numpy as np

from acbo_fast.numba.kernels import kernel
from acbo_fast.numba.policy.evidence import evidence_channels, open_evidence
from acbo_fast.numba.policy.inputs import standard_units
from acbo_fast.numba.workspace import Workspace
from acbo_ref.arrays import Array
from acbo_ref.config import PolicyConfig
from acbo_ref.policy.evidence import EVIDENCE_CHANNELS
from acbo_ref.policy.inputs import CHANNELS, HALF_WIDTH, Task


@kernel
def write_row(
    standard: Array, position: int, variable: Array, target: Array, is_start: bool, evidence: Array, out: Array
) -> None:
    """The channels (E, V, C) of row `position` of standard (E, N, V), in which variable (E,) was
    set; of the start row if `is_start`. The evidence (E, V, F) is copied behind them, where out has
    room for it."""
    first = CHANNELS
    for e in range(out.shape[0]):
        for i in range(out.shape[1]):
            out[e, i, 0] = 0.0 if is_start else standard[e, position, i] / HALF_WIDTH
            out[e, i, 1] = i == target[e]
            out[e, i, 2] = not is_start and variable[e] == i
            out[e, i, 3] = is_start
            for f in range(first, out.shape[2]):
                out[e, i, f] = evidence[e, i, f - first]


class Reading:
    """Twin of acbo_ref.policy.reading.Reading: the rows of E systems so far, with room for
    `capacity` interventions.
    """

    def __init__(self, workspace: Workspace, network: PolicyConfig, task: Task, capacity: int) -> None:
        num_episodes, num_obs, width = task.observations.shape
        self._target, self._valid = task.target.astype(np.int64), task.valid
        self._num_obs, self._later, self._knows = num_obs, 0, network.evidence == "regression"
        self._channels = CHANNELS + (EVIDENCE_CHANNELS if self._knows else 0)
        double = np.float64
        self.location, self.scale = np.empty((2, num_episodes, width))
        standard_units(
            task.observations, task.observation_mask, self._target, task.manipulable, task.low, task.high,
            self.location, self.scale,
        )  # fmt: skip
        self._standard = np.zeros((num_episodes, num_obs + capacity, width))
        self._variable = np.full((num_episodes, num_obs + capacity), -1)
        self._seen = np.ones((num_episodes, num_obs + capacity), bool)
        self._seen[:, :num_obs] = task.observation_mask
        counts = task.valid[:, None] & task.observation_mask[:, :, None]
        np.subtract(task.observations, self.location[:, None], out=self._standard[:, :num_obs], where=counts)
        np.divide(self._standard[:, :num_obs], self.scale[:, None], out=self._standard[:, :num_obs], where=counts)
        shape = (num_episodes, width)
        self._evidence = np.zeros((*shape, EVIDENCE_CHANNELS))
        self._spread, self._ordered, self._centre = np.zeros((3, *shape))
        self._gram = workspace("evidence.gram", width, width, dtype=double)
        self._direct = workspace("evidence.direct", width, dtype=double)
        self._scratch = workspace("evidence.scratch", 3, width, dtype=double)
        if self._knows:
            open_evidence(
                self._standard[:, :num_obs], task.observation_mask, self._target, task.valid,
                self._spread, self._ordered, self._centre, self._gram, workspace("evidence.matrix", width, width, dtype=double),
                self._direct, workspace("evidence.used", width, dtype=np.int64),
            )  # fmt: skip

    def observations(self, out: Array) -> None:
        """The channels of the observational rows into out (E, O, V, C); they carry no evidence."""
        out.fill(0)
        out[..., 0] = self._standard[:, : self._num_obs] / HALF_WIDTH
        out[..., 1] = (np.arange(self._valid.shape[1]) == self._target[:, None])[:, None]

    def start(self, out: Array) -> None:
        """The channels (E, V, C) of the start row."""
        self._complete(self._num_obs, self._target, True, out)

    def append(self, variable: Array, rows: Array, out: Array, keep: bool = True) -> None:
        """The channels (E, V, C) of raw rows (E, V) in which `variable` (E,) was set; without
        `keep` the next row replaces it.
        """
        position = self._num_obs + self._later
        standard = self._standard[:, position]
        np.subtract(rows, self.location, out=standard)
        np.divide(standard, self.scale, out=standard)
        np.copyto(standard, 0.0, where=~self._valid)
        self._variable[:, position] = variable
        self._complete(position + 1, variable, False, out)
        self._later += keep

    def _complete(self, num_rows: int, variable: Array, is_start: bool, out: Array) -> None:
        standard = self._standard
        if self._knows:
            evidence_channels(
                standard, self._variable, self._seen, num_rows,
                self._target, self._valid, self._spread, self._ordered, self._centre, self._gram, self._direct, self._scratch,
                self._evidence,
            )  # fmt: skip
        write_row(standard, num_rows - 1, variable, self._target, is_start, self._evidence, out)
