"""Very wide systems: the pairwise network reads the most promising variables only.

Its work grows with V^2 and V^3, and it was trained on some tens of variables. A system of more than
MOST_VARIABLES keeps the target and those whose correlation with it is largest, each for all rows;
nothing is said of the others and none of them is proposed. That is crude: a lever whose effect is
hidden by confounding is lost.

Contract: wraps a session of any backend; no randomness.
Letters: E systems, V variables, M kept ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.config import PolicyConfig
from acbo_ref.policy.inputs import Task, set_mask, standard_units
from acbo_ref.policy.network import reads_pairs
from acbo_ref.policy.session import AnySession, Decision, Prediction

MOST_VARIABLES = 64


def promising(task: Task, most: int, keep: Array | None = None) -> Array:
    """(E, M) int, ascending: the target, what must be kept (E, V), and then the variables whose
    observational correlation with the target is largest, levers before others where it is equal.
    The best lever is always among them: there must be something to propose.
    """
    units = standard_units(task)
    counts = task.valid[:, None] & task.observation_mask[:, :, None]
    z = np.where(counts, task.observations - units.mean[:, None], 0.0)
    spread = np.sqrt((z * z).sum(axis=1))
    z = z / np.where(spread > 0, spread, 1.0)[:, None]
    target = np.take_along_axis(z, task.target[:, None, None], axis=2)
    score = np.abs((z * target).sum(axis=1)) + 1e-9 * task.manipulable
    score = np.where(task.valid, score, -1.0)
    levers = np.where(task.manipulable, score, -np.inf)
    best_lever = np.arange(levers.shape[1]) == levers.argmax(axis=1)[:, None]
    score = np.where(task.is_target | best_lever | (False if keep is None else keep), np.inf, score)
    return np.sort(np.argsort(-score, axis=1, kind="stable")[:, :most], axis=1)


def open_session(
    config: PolicyConfig, task: Task, begin: Callable[[Task], AnySession], keep: Array | None = None
) -> AnySession:
    """The session that `begin` opens, on all variables or on the most promising of too many.

    Args:
        keep: (E, V) bool, variables that must stay: those that were set already.
    """
    if not _too_many(config, task):
        return begin(task)
    return ScreenedSession(task, begin, promising(task, MOST_VARIABLES, keep))


def variables_read(config: PolicyConfig, task: Task, keep: Array | None = None) -> Array:
    """(E, V) bool: which variables such a session speaks of."""
    if not _too_many(config, task):
        return task.valid
    read = np.zeros(task.valid.shape, bool)
    np.put_along_axis(read, promising(task, MOST_VARIABLES, keep), True, axis=1)
    return read & task.valid


def _too_many(config: PolicyConfig, task: Task) -> bool:
    return reads_pairs(config) and int(task.valid.sum(axis=1).max(initial=0)) > MOST_VARIABLES


class ScreenedSession:
    """A session on some of the variables, index (E, M), that speaks of all."""

    def __init__(self, task: Task, begin: Callable[[Task], AnySession], index: Array) -> None:
        self._index, self._each, self._width = index, np.arange(len(index))[:, None], task.valid.shape[1]
        self._levers = self._of(task.manipulable)
        self._session = begin(
            Task(
                observations=np.take_along_axis(task.observations, index[:, None], axis=2),
                observation_mask=task.observation_mask,
                target=(index == task.target[:, None]).argmax(axis=1),
                **{name: self._of(getattr(task, name)) for name in ("valid", "manipulable", "low", "high")},
            )
        )

    def _of(self, per_variable: Array) -> Array:
        return np.asarray(per_variable[self._each, self._index])

    def _back(self, kept: Array) -> Array:
        """(E, M) -> (E, V), 0 for what was left out."""
        out = np.zeros((len(kept), self._width), np.asarray(kept).dtype)
        out[self._each, self._index] = kept
        return out

    def observe(self, variable: Array, rows: Array) -> None:
        """As Session.observe; what was set must be among those kept."""
        was_set = set_mask(np.asarray(variable), self._width)
        kept = self._of(was_set)
        if (kept.sum(axis=1) != was_set.sum(axis=1)).any():
            raise ValueError("a variable was set that the session does not read")
        self._session.observe(kept, self._of(np.asarray(rows, float)))

    def decide(
        self,
        gumbel: Array | None = None,
        normal: Array | None = None,
        decision: str | None = None,
        optimism: float | None = None,
        allowed: Array | None = None,
    ) -> Decision:
        """As Session.decide, among the variables kept.

        Raises:
            ValueError: `allowed` has none of them in some system.
        """
        if allowed is not None and not (self._of(allowed) & self._levers).any(axis=1).all():
            raise ValueError("no variable that is allowed is one that the session reads")
        found = self._session.decide(
            gumbel=None if gumbel is None else self._of(gumbel),
            normal=normal,
            decision=decision,
            optimism=optimism,
            allowed=None if allowed is None else self._of(allowed),
        )
        return replace(
            found,
            variable=self._index[np.arange(len(self._index)), found.variable],
            probability=self._back(found.probability),
            parent_probability=self._back(found.parent_probability),
        )

    def predict(self, variable: Array, value: Array) -> Prediction:
        """As Session.predict.

        Raises:
            ValueError: one of the variables is not among those kept.
        """
        return self._session.predict(self._place(variable), value)

    def near(self, variable: Array, value: Array) -> Array:
        """As Session.near; raises as `predict`."""
        return self._session.near(self._place(variable), value)

    def _place(self, variable: Array) -> Array:
        """(E, N) where the variables stand among those kept."""
        same = self._index[:, None] == variable[:, :, None]  # (E, N, M)
        if not same.any(axis=2).all():
            raise ValueError("a variable was asked about that the session does not read")
        return same.argmax(axis=2)
