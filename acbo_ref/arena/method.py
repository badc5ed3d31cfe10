"""What a method of the arena is: `ask` for an action, `tell` its row, `recommend` at the end."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.errors import AcboError
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
