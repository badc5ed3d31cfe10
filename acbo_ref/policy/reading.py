"""Rows as the network reads them: raw rows in, input channels out, one row at a time.

Contract: keeps the rows read so far, since the evidence channels (evidence.py) are a function of
all of them. Arithmetic is float64; channels come out in the network's dtype.
Letters: E episodes, O observational rows, V variables, C channels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from acbo_ref.arrays import Array
from acbo_ref.policy.evidence import EVIDENCE_CHANNELS, evidence_channels
from acbo_ref.policy.inputs import Task, observation_channels, row_channels, standard_units, start_channels


class Reading:
    """The rows of E systems so far.

    Args:
        task: what is known before the first intervention.
        evidence: `policy.evidence`.
        dtype: of the channels.

    Attributes:
        location, scale: (E, V), see history.standard_units.
    """

    def __init__(self, task: Task, evidence: str, dtype: DTypeLike) -> None:
        self._task, self._evidence, self._dtype = task, evidence, dtype
        self.location, self.scale = standard_units(task)
        counts = task.valid[:, None] & task.observation_mask[:, :, None]
        self._standard = np.where(counts, (task.observations - self.location[:, None]) / self.scale[:, None], 0.0)
        self._variable = np.full(task.observation_mask.shape, -1)
        self._seen = task.observation_mask

    def observations(self) -> Array:
        """(E, O, V, C) of the observational rows; they carry no evidence."""
        channels = observation_channels(self._task, self.location, self.scale)
        if self._evidence != "none":
            channels = np.pad(channels, ((0, 0), (0, 0), (0, 0), (0, EVIDENCE_CHANNELS)))
        return channels.astype(self._dtype)

    def start(self) -> Array:
        """(E, V, C) of the start row."""
        return self._complete(start_channels(self._task.is_target), self._standard, self._variable, self._seen)

    def peek(self, variable: Array, rows: Array) -> Array:
        """(E, V, C) of raw rows (E, V) in which `variable` (E,) was set, as if they were the
        next.
        """
        return self._next(variable, rows)[0]

    def append(self, variable: Array, rows: Array) -> Array:
        """As `peek`, and keeps the rows."""
        channels, (self._standard, self._variable, self._seen) = self._next(variable, rows)
        return channels

    def _next(self, variable: Array, rows: Array) -> tuple[Array, tuple[Array, Array, Array]]:
        standard = np.where(self._task.valid, (rows - self.location) / self.scale, 0.0)
        intervened = np.arange(rows.shape[1]) == variable[:, None]
        channels = row_channels(standard[:, None], self._task.is_target, intervened[:, None])[:, 0]
        past = (
            np.concatenate([self._standard, standard[:, None]], axis=1),
            np.concatenate([self._variable, variable[:, None]], axis=1),
            np.concatenate([self._seen, np.ones((len(variable), 1), bool)], axis=1),
        )
        return self._complete(channels, *past), past

    def _complete(self, channels: Array, standard: Array, variable: Array, seen: Array) -> Array:
        if self._evidence == "none":
            return channels.astype(self._dtype)
        known = evidence_channels(standard, variable, seen, self._task.target, self._task.valid)
        return np.concatenate([channels, known], axis=-1).astype(self._dtype)
