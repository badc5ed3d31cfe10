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
taken for an effect of D; a slope differs between settings only where a lever follows D by itself.

Contract: no randomness; float64. The session wraps one of any backend.
Letters: E systems, N rows, O observational rows, K experiments, V variables, X exogenous ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.policy.inputs import Task, set_mask
from acbo_ref.policy.session import AnySession, Decision, Prediction


def exogenous_slopes(rows: Array, was_set: Array, exogenous: Array) -> Array:
    """The slopes c (X, V) of all variables on the exogenous ones: least squares within groups of
    rows in which the same was done. 0 where groups leave no row to spare, for what is exogenous
    itself, and of rows in which the variable itself was set.

    Args:
        rows: (N, V). was_set: (N, V) bool. exogenous: (V,) bool, X of them.
    """
    done = np.concatenate([was_set, np.where(was_set, rows, 0.0)], axis=1)
    _, group = np.unique(done, axis=0, return_inverse=True)
    group = group.reshape(-1)
    slopes = np.zeros((int(exogenous.sum()), rows.shape[1]))
    for j in np.flatnonzero(~exogenous):
        own = ~was_set[:, j]
        of = group[own]
        counts = np.bincount(of)
        if own.sum() - np.count_nonzero(counts) <= len(slopes):
            continue
        both = rows[own][:, [*np.flatnonzero(exogenous), j]]
        means = np.stack([np.bincount(of, x) for x in both.T], axis=1) / np.maximum(counts, 1)[:, None]
        within = both - means[of]
        slopes[:, j] = np.linalg.lstsq(within[:, :-1], within[:, -1], rcond=None)[0]
    return slopes


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
    without observations at their mean over all rows.

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
        counts, x, width = task.observation_mask[e], exogenous[e], rows.shape[2]
        observed = task.observations[e, counts]
        known = np.concatenate([observed, rows[e]])
        slopes = exogenous_slopes(known, np.concatenate([np.zeros((len(observed), width), bool), was_set[e]]), x)
        mean = (observed if len(observed) else known)[:, x].mean(axis=0) if len(known) else np.zeros(len(slopes))
        taken_off = known - (known[:, x] - mean) @ slopes
        taken_off[:, x] = 0.0
        observations[e, counts], others[e] = taken_off[: len(observed)], taken_off[len(observed) :]
        std[e] = ((observed[:, x] - mean) @ slopes[:, task.target[e]]).std() if len(observed) else 0.0
    return SeenThrough(replace(task, observations=observations, valid=task.valid & ~exogenous), others, std)


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
