"""Seeing through exogenous variables: measured, never set, and moved by nothing that is set here,
such as the weather or a raw material. Only a person can know that of a variable; who is told takes
what they explain off all others before anything else is read.

With D the exogenous variables, m their observational mean and c_j the slopes of variable j on them,

    x'_j = x_j - c_j . (D - m)

In a linear system D is independent of what is set, and x' is the same system with D held at m: in
observations x_j = a_j + c_j . (D - m) + ..., and in rows under do(x_i = v) every effect of x_i
carries over from v to v - c_i . (D - m), so the variable that was set is shifted as all others are.
The policy then decides in that system, whose noise is what D does not explain (Frisch & Waugh 1933
for the regression; Pearl 2009, sec. 3.2.3, for conditioning on what no intervention moves).

The slopes are least squares within groups of rows in which the same was done: observations are one
group, and each setting that was repeated is one. So no response to a setting, however it bends, is
taken for an effect of D. Where a lever follows D, or systems bend, settings differ in their slopes,
and what is taken off is a compromise.

Contract: no randomness; float64. The session wraps one of any backend.
Letters: E systems, N rows, O observational rows, K experiments, V variables, X exogenous ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.policy.inputs import Task, set_mask
from acbo_ref.policy.session import AnySession, Decision, Prediction

# A slope on X variables needs more than twice as many rows to spare: with fewer, what is taken off
# is mostly chance, and what is left varies less than the next row will.
ROWS_A_SLOPE = 2
# Values that differ by less than this share of the largest differ by rounding.
ROUNDING = 1e-12


def exogenous_slopes(rows: Array, was_set: Array, exogenous: Array) -> Array:
    """The slopes c (X, V) of all variables on the exogenous ones: least squares within groups of
    rows in which the same was done. Of variable j those rows count that have it and all exogenous
    ones, and in which it was not set. 0 for what is exogenous itself, and where fewer than
    ROWS_A_SLOPE X + 1 rows are to spare in groups in which exogenous variables vary.

    Args:
        rows: (N, V), nan where missing. was_set: (N, V) bool. exogenous: (V,) bool, X of them.
    """
    done = np.concatenate([was_set, np.where(was_set, rows, 0.0)], axis=1)
    _, group = np.unique(done, axis=0, return_inverse=True)
    group, columns = group.reshape(-1), np.flatnonzero(exogenous)
    slopes = np.zeros((len(columns), rows.shape[1]))
    has_all = ~np.isnan(rows[:, columns]).any(axis=1)
    for j in np.flatnonzero(~exogenous):
        own = has_all & ~was_set[:, j] & ~np.isnan(rows[:, j])
        within = _within(rows[own][:, [*columns, j]], group[own])
        varies = np.isin(group[own], group[own][within[:, :-1].any(axis=1)])
        if varies.sum() - len(np.unique(group[own][varies])) > ROWS_A_SLOPE * len(columns):
            slopes[:, j] = np.linalg.lstsq(within[varies, :-1], within[varies, -1], rcond=None)[0]
    return slopes


def _within(values: Array, group: Array) -> Array:
    """Values (N, C) less the mean of their group (N,), exactly 0 where they differ by rounding."""
    counts = np.bincount(group)
    means = np.stack([np.bincount(group, column) for column in values.T], axis=1) / np.maximum(counts, 1)[:, None]
    difference = values - means[group]
    return np.where(np.abs(difference) > ROUNDING * np.abs(values).max(axis=0, initial=0.0), difference, 0.0)


class SeenThrough(NamedTuple):
    """A task and its experiments with the exogenous variables taken off.

    Attributes:
        task: as given, with other observations, and without the exogenous variables in `valid`.
        rows: (E, K, V) experiments.
        std: (E,) raw, standard deviation that they give the target when nothing is set.
    """

    task: Task
    rows: Array
    std: Array


def see_through(task: Task, was_set: Array, rows: Array, exogenous: Array) -> SeenThrough:
    """The task and its experiments with the exogenous variables held at their observational mean;
    without observations at their mean over all rows. Values may be missing (nan): they stay so, and
    a row without all exogenous variables stays as it is.

    Args:
        was_set, rows: (E, K, V) of the experiments, raw units.
        exogenous: (E, V) bool; neither the target nor one that can be set.

    Raises:
        ValueError: it is one of these, or padding.
    """
    if (exogenous & (task.is_target | task.manipulable | ~task.valid)).any():
        raise ValueError("an exogenous variable is neither the target, nor set, nor padding")
    observations, others, std = task.observations.copy(), rows.copy(), np.zeros(len(rows))
    for e in np.flatnonzero(exogenous.any(axis=1)):
        counts, width = task.observation_mask[e], rows.shape[2]
        observed = task.observations[e, counts]
        known = np.concatenate([observed, rows[e]])
        done = np.concatenate([np.zeros((len(observed), width), bool), was_set[e]])
        explained = explained_by(known, done, exogenous[e])
        left = known - explained
        left[:, exogenous[e]] = 0.0
        observations[e, counts], others[e] = left[: len(observed)], left[len(observed) :]
        of_target = explained[: len(observed) or None, task.target[e]]
        std[e] = of_target.std() if len(of_target) else 0.0
    return SeenThrough(replace(task, observations=observations, valid=task.valid & ~exogenous), others, std)


def explained_by(rows: Array, was_set: Array, exogenous: Array) -> Array:
    """What exogenous variables explain of rows (N, V): c_j . (D - m), with m their mean over the
    rows in which nothing was set, or over all if there are none; 0 where one of them is missing.
    Arguments as of `exogenous_slopes`.
    """
    slopes, values = exogenous_slopes(rows, was_set, exogenous), rows[:, exogenous]
    is_whole = np.asarray(~np.isnan(values).any(axis=1))
    observed = is_whole & ~was_set.any(axis=1)
    counts = observed if observed.any() else is_whole
    if not counts.any():
        return np.zeros(rows.shape)
    return np.where(is_whole[:, None], values - values[counts].mean(axis=0), 0.0) @ slopes


class ExogenousSession:
    """A session that sees through exogenous variables (E, V), of any backend.

    Every row changes the slopes, so a session is begun anew when something is asked of it: K rows
    cost K each time.

    Args:
        begin: opens a session on a task.
    """

    def __init__(self, task: Task, exogenous: Array, begin: Callable[[Task], AnySession]) -> None:
        self._task, self._exogenous, self._begin = task, exogenous, begin
        count, width = task.valid.shape
        self._was_set, self._rows = np.zeros((count, 0, width), bool), np.zeros((count, 0, width))
        self._begun: tuple[AnySession, Array] | None = None

    def observe(self, variable: Array, rows: Array) -> None:
        """As Session.observe."""
        was_set = set_mask(np.asarray(variable), rows.shape[1])
        self._was_set = np.concatenate([self._was_set, was_set[:, None]], axis=1)
        self._rows = np.concatenate([self._rows, np.asarray(rows, float)[:, None]], axis=1)
        self._begun = None

    def _session(self) -> tuple[AnySession, Array]:
        """The session of now, and what exogenous variables do to the target (E,)."""
        if self._begun is None:
            seen = see_through(self._task, self._was_set, self._rows, self._exogenous)
            session = self._begin(seen.task)
            for k in range(self._rows.shape[1]):
                session.observe(self._was_set[:, k], seen.rows[:, k])
            self._begun = session, seen.std
        return self._begun

    def decide(
        self,
        gumbel: Array | None = None,
        normal: Array | None = None,
        decision: str | None = None,
        optimism: float | None = None,
        allowed: Array | None = None,
    ) -> Decision:
        """As Session.decide; `outcome_std` has what exogenous variables do to the next outcome."""
        session, std = self._session()
        found = session.decide(gumbel, normal, decision, optimism, allowed)
        return replace(found, outcome_std=np.hypot(found.outcome_std, std))

    def predict(self, variable: Array, value: Array) -> Prediction:
        """As Session.predict; `std` as of `decide`."""
        session, std = self._session()
        found = session.predict(variable, value)
        return replace(found, std=np.hypot(found.std, std[:, None]))

    def near(self, variable: Array, value: Array) -> Array:
        """As Session.near."""
        return self._session()[0].near(variable, value)


class OneAtATime(Protocol):
    """A method on one system that is no session: a baseline of the arena, say."""

    def ask(self) -> tuple[int, float]: ...
    def tell(self, action: tuple[int, float], row: Array) -> None: ...
    def recommend(self) -> tuple[int, float]: ...


class Told:
    """A method that is told which variables of its single system are exogenous: it is handed rows
    without what they explain, by the slopes of the observations. What was set stays as it was set.

    Args:
        exogenous: (V,) bool.
        begin: the method on a task.
    """

    def __init__(self, task: Task, exogenous: Array, begin: Callable[[Task], OneAtATime]) -> None:
        self._task, self._exogenous = task, exogenous[None]
        nothing = np.zeros((1, 0, task.valid.shape[1]))
        self._method = begin(see_through(task, nothing.astype(bool), nothing, self._exogenous).task)

    def ask(self) -> tuple[int, float]:
        return self._method.ask()

    def tell(self, action: tuple[int, float], row: Array) -> None:
        was_set = np.arange(len(row)) == action[0]
        seen = see_through(self._task, was_set[None, None], row[None, None], self._exogenous)
        self._method.tell(action, np.where(was_set, row, seen.rows[0, 0]))

    def recommend(self) -> tuple[int, float]:
        return self._method.recommend()
