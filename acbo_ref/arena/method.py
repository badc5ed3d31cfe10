"""What a method of the arena is: `ask` for an action, `tell` its row, `recommend` at the end."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.errors import AcboError
from acbo_ref.policy.exogenous import see_through
from acbo_ref.policy.inputs import Task
from acbo_ref.version import install

Action = tuple[int, float]
# Doing nothing is an action: an observation.
NOTHING: Action = (-1, 0.0)


def levers(task: Task) -> Array:
    """Indices of the variables of a single system that can be set."""
    return np.flatnonzero(task.manipulable[0])


def target_spread(task: Task) -> float:
    """Standard deviation of a single system's observed target; 1 if it does not vary."""
    observed = task.observations[0, :, task.target[0]]
    return float(observed.std()) if varies(observed) else 1.0


def varies(x: Array) -> bool:
    """Whether numbers differ by more than rounding."""
    return len(x) > 1 and bool(np.ptp(x) > 1e-12 * np.abs(x).max())


class Method(Protocol):
    """A sequential decision maker for one system."""

    def ask(self) -> Action:
        """The next intervention: variable index and raw value inside its domain."""

    def tell(self, action: Action, row: Array) -> None:
        """The row (V,) that the intervention gave."""

    def recommend(self) -> Action:
        """The action it would settle on now."""


def import_extra(module: str, method: str, extra: str) -> Any:
    """An optional library, or an error that says in one line how to get it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise AcboError(f"method {method!r} needs {module}: {install(extra)}") from error


class Told:
    """A method that is told which variables of its single system are exogenous: it is handed rows
    without what they explain, by the slopes of the observations. What was set stays as it was set.

    Args:
        exogenous: (V,) bool.
        begin: the method on a task.
    """

    def __init__(self, task: Task, exogenous: Array, begin: Callable[[Task], Method]) -> None:
        self._task, self._exogenous = task, exogenous[None]
        nothing = np.zeros((1, 0, task.valid.shape[1]))
        self._method = begin(see_through(task, nothing.astype(bool), nothing, self._exogenous).task)

    def ask(self) -> Action:
        return self._method.ask()

    def tell(self, action: Action, row: Array) -> None:
        was_set = np.arange(len(row)) == action[0]
        seen = see_through(self._task, was_set[None, None], row[None, None], self._exogenous)
        self._method.tell(action, np.where(was_set, row, seen.rows[0, 0]))

    def recommend(self) -> Action:
        return self._method.recommend()
