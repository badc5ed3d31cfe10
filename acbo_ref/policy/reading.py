"""Rows as the network reads them: raw rows in, a view of what is known out, one row at a time.

`RowReading` gives the trunk over rows the newest row and nothing else; `PairReading` keeps moments
and gives the pairwise trunk its table and the evidence.

Contract: arithmetic is float64; views come out in the network's dtype.
Letters: E episodes, O observational rows, K decisions, V variables, C and P channels, F evidence
channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from acbo_ref.arrays import A, Array
from acbo_ref.config import PolicyConfig
from acbo_ref.policy.evidence import evidence_channels
from acbo_ref.policy.inputs import (
    HALF_WIDTH,
    Task,
    attention_mask,
    deviations,
    observation_channels,
    row_channels,
    set_mask,
    standard_units,
    start_channels,
)
from acbo_ref.policy.moments import Moments, add_rows, no_rows
from acbo_ref.policy.network import PolicyInputs, reads_pairs
from acbo_ref.policy.pairs import background, pair_channels


class View(NamedTuple, Generic[A]):
    """What the network reads at one decision: channels of the newest row (E, V, C) or of all pairs
    (E, V, V, P), and evidence (E, V, F).
    """

    channels: A
    evidence: A


class RowReading:
    """The rows of E systems, each as it comes.

    Args:
        task: what is known before the first intervention.
        dtype: of the views.

    Attributes:
        units: see inputs.standard_units.
    """

    def __init__(self, task: Task, dtype: DTypeLike) -> None:
        self._task, self._dtype = task, dtype
        self.units = standard_units(task)

    def observations(self) -> Array:
        """(E, O, V, C) of the observational rows."""
        return observation_channels(self._task, self.units).astype(self._dtype)

    def start(self) -> View[Array]:
        """The start row."""
        return self._view(start_channels(self._task.is_target))

    def peek(self, variable: Array, rows: Array) -> View[Array]:
        """After raw rows (E, V), as if they were the next.

        Args:
            variable: (E,) which variable was set, -1 for none; or (E, V) bool, any number of them.
        """
        standard = np.where(self._task.valid, (rows - self.units.location) / self.units.scale, 0.0)
        intervened = set_mask(variable, rows.shape[1])
        return self._view(row_channels(standard[:, None], self._task.is_target, intervened[:, None])[:, 0])

    def append(self, variable: Array, rows: Array) -> View[Array]:
        """As `peek`: a row does not depend on those before."""
        return self.peek(variable, rows)

    def _view(self, channels: Array) -> View[Array]:
        return View(channels.astype(self._dtype), np.zeros((*channels.shape[:2], 0), self._dtype))

    def inputs(self, views: Sequence[View[Array]], acquisition: Array, learned: Array) -> PolicyInputs[Array]:
        """What the network reads in one pass, of the views at all K decisions and the acquisition
        features (E, K, V, Q); all of them count, learned (E, K) or not.
        """
        channels = np.concatenate([self.observations(), np.stack([view.channels for view in views], axis=1)], axis=1)
        mask, evidence = (
            attention_mask(self._task.observation_mask, len(views)),
            np.stack([v.evidence for v in views], 1),
        )
        return PolicyInputs(
            channels, evidence, acquisition, self._task.valid, self._task.manipulable, self._task.target, mask
        )


class PairReading:
    """The moments of the rows of E systems so far; see RowReading."""

    def __init__(self, task: Task, dtype: DTypeLike) -> None:
        self._task, self._dtype = task, dtype
        self.units = standard_units(task)
        self._centre = (self.units.mean - self.units.location) / (HALF_WIDTH * self.units.scale)
        num_episodes, num_obs, width = task.observations.shape
        du = deviations(self.units, task.valid, np.where(task.observation_mask[:, :, None], task.observations, 0.0))
        nothing_set = np.zeros((num_episodes, num_obs, width), bool)
        self._moments = add_rows(no_rows(num_episodes, width), du, nothing_set, task.observation_mask)
        sums, squares = self._moments.observed, self._moments.observed_squares
        self._background = background(sums, squares, self._centre, task.target, task.manipulable, task.valid)

    def start(self) -> View[Array]:
        """After the observational rows."""
        return self._view(self._moments)

    def peek(self, variable: Array, rows: Array) -> View[Array]:
        """After raw rows (E, V), as if they were the next; variable as of RowReading."""
        return self._view(self._with(variable, rows))

    def append(self, variable: Array, rows: Array) -> View[Array]:
        """As `peek`, and keeps the rows."""
        self._moments = self._with(variable, rows)
        return self._view(self._moments)

    def _with(self, variable: Array, rows: Array) -> Moments[Array]:
        du = deviations(self.units, self._task.valid, rows[:, None])
        was_set = set_mask(variable, rows.shape[1])
        return add_rows(self._moments, du, was_set[:, None], np.ones((len(rows), 1), bool))

    def _view(self, moments: Moments[Array]) -> View[Array]:
        task, known = self._task, self._background
        evidence = evidence_channels(moments, known.centre, known.ordered, task.target, task.valid)
        channels = pair_channels(moments, known, evidence, task.target, task.valid)
        return View(channels.astype(self._dtype), evidence.astype(self._dtype))

    def inputs(self, views: Sequence[View[Array]], acquisition: Array, learned: Array) -> PolicyInputs[Array]:
        """What the network reads at the decisions `learned` (E, K') of those at all K."""
        each = np.arange(len(learned))[:, None]
        channels, evidence = (np.stack(arrays, axis=1)[each, learned] for arrays in zip(*views, strict=True))
        no_mask = np.zeros((len(learned), 0, 0), bool)
        task = self._task
        return PolicyInputs(
            channels, evidence, acquisition[each, learned], task.valid, task.manipulable, task.target, no_mask
        )


Reading = RowReading | PairReading


def open_reading(task: Task, config: PolicyConfig, dtype: DTypeLike) -> Reading:
    """The reading that a network's trunk needs."""
    return PairReading(task, dtype) if reads_pairs(config) else RowReading(task, dtype)
