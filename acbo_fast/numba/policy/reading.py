"""Twin of acbo_ref/policy/reading.py: moments in place, and the views on them. Rows as they come,
for the trunk over rows, are the reference's own.

Letters: E episodes, V variables.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from acbo_fast.numba.policy.evidence import evidence_channels
from acbo_fast.numba.policy.moments import add_rows, copy, no_rows
from acbo_fast.numba.policy.pairs import pair_channels
from acbo_ref.arrays import Array
from acbo_ref.config import PolicyConfig
from acbo_ref.policy.evidence import EVIDENCE_CHANNELS
from acbo_ref.policy.inputs import HALF_WIDTH, Task, deviations, set_mask, standard_units
from acbo_ref.policy.moments import Moments
from acbo_ref.policy.network import reads_pairs
from acbo_ref.policy.pairs import PAIR_CHANNELS, background
from acbo_ref.policy.reading import RowReading, View


class PairReading:
    """See acbo_ref.policy.reading.PairReading. A view's arrays are written anew by the next one."""

    def __init__(self, task: Task, dtype: DTypeLike) -> None:
        self._task, self._target = task, np.asarray(task.target, np.int64)
        self.units = standard_units(task)
        centre = (self.units.mean - self.units.location) / (HALF_WIDTH * self.units.scale)
        num_episodes, num_obs, width = task.observations.shape
        observed = np.where(task.observation_mask[:, :, None], task.observations, 0.0)
        self._moments, self._peeked = no_rows(num_episodes, width), no_rows(num_episodes, width)
        nothing_set = np.zeros((num_episodes, num_obs, width), bool)
        counts = np.ascontiguousarray(task.observation_mask)
        add_rows(self._moments, deviations(self.units, task.valid, observed), nothing_set, counts)
        sums, squares = self._moments.observed, self._moments.observed_squares
        self._background = background(sums, squares, centre, task.target, task.manipulable, task.valid)
        self._one_row = np.ones((num_episodes, 1), bool)
        self._scratch, self._used, self._gram = (
            np.empty((2, width)),
            np.empty(width, np.int64),
            np.empty((width, width)),
        )
        self._evidence = np.empty((num_episodes, width, EVIDENCE_CHANNELS))
        self._view = View(
            np.empty((num_episodes, width, width, PAIR_CHANNELS), dtype),
            np.empty((num_episodes, width, EVIDENCE_CHANNELS), dtype),
        )

    def start(self) -> View[Array]:
        """After the observational rows."""
        return self._viewed(self._moments)

    def peek(self, variable: Array, rows: Array) -> View[Array]:
        """After raw rows (E, V), as if they were the next; variable as of RowReading."""
        copy(self._moments, self._peeked)
        self._add(self._peeked, variable, rows)
        return self._viewed(self._peeked)

    def append(self, variable: Array, rows: Array) -> View[Array]:
        """As `peek`, and keeps the rows."""
        self._add(self._moments, variable, rows)
        return self._viewed(self._moments)

    def _add(self, moments: Moments[Array], variable: Array, rows: Array) -> None:
        du = deviations(self.units, self._task.valid, rows[:, None])
        was_set = np.ascontiguousarray(set_mask(variable, rows.shape[1]))[:, None]
        add_rows(moments, du, was_set, self._one_row)

    def _viewed(self, moments: Moments[Array]) -> View[Array]:
        known, valid, view = self._background, self._task.valid, self._view
        evidence_channels(
            moments, known.centre, known.ordered, self._target, valid, self._scratch, self._used, self._gram,
            self._evidence,
        )  # fmt: skip
        pair_channels(moments, known, self._evidence, self._target, valid, view.channels)
        np.copyto(view.evidence, self._evidence)
        return view


def open_reading(task: Task, config: PolicyConfig, dtype: DTypeLike) -> PairReading | RowReading:
    """The reading that a network's trunk needs."""
    return PairReading(task, dtype) if reads_pairs(config) else RowReading(task, dtype)
