"""What a policy must beat, behind one interface: `ask` for an action, `tell` its row, `recommend` at the end.

Every method sees what the policy sees: the observational rows, the domains, which variables can be set, and the row of
each of its own interventions. One intervention is one query of the system. Lower is better.

Contract: a method's randomness comes from the generator it is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from acbo_ref.scm import Intervention

Array = NDArray[Any]
Action = tuple[int, float]


@dataclass(frozen=True, eq=False)
class Problem:
    """All that is known before the first intervention: observations (O, V) raw; manipulable, low, high (V,)."""

    observations: Array
    target: int
    manipulable: Array
    low: Array
    high: Array

    @property
    def levers(self) -> Array:
        """Indices of the variables that can be set."""
        return np.flatnonzero(self.manipulable)


class Method(Protocol):
    """A sequential decision maker for one system."""

    def ask(self) -> Action:
        """The next intervention: variable index and raw value inside its domain."""

    def tell(self, action: Action, row: Array) -> None:
        """The row (V,) that the intervention gave."""

    def recommend(self) -> Action:
        """The action it would settle on now."""


class Random:
    """A uniform variable and a uniform value; recommends the action whose one row had the lowest target."""

    def __init__(self, problem: Problem, rng: np.random.Generator) -> None:
        self._problem, self._rng = problem, rng
        self._best: tuple[float, Action] | None = None

    def ask(self) -> Action:
        i = int(self._rng.choice(self._problem.levers))
        return i, float(self._rng.uniform(self._problem.low[i], self._problem.high[i]))

    def tell(self, action: Action, row: Array) -> None:
        outcome = float(row[self._problem.target])
        if self._best is None or outcome < self._best[0]:
            self._best = outcome, action

    def recommend(self) -> Action:
        return self.ask() if self._best is None else self._best[1]


class Endpoints:
    """UCB1 (Auer, Cesa-Bianchi & Fischer 2002, fig. 1) over both ends of every domain as arms.

    Every arm once, then the arm of largest mean + sqrt(2 ln t / n), in standard deviations of the observed target.
    """

    def __init__(self, problem: Problem, rng: np.random.Generator) -> None:
        self._problem = problem
        arms = [(int(i), float(end[i])) for i in problem.levers for end in (problem.low, problem.high)]
        self._arms = [arms[k] for k in rng.permutation(len(arms))]
        observed = problem.observations[:, problem.target]
        spread = float(observed.std()) if len(observed) > 1 else 0.0
        self._scale = spread if spread > 0 else 1.0
        self._count = np.zeros(len(arms))
        self._sum = np.zeros(len(arms))

    def ask(self) -> Action:
        untried = np.flatnonzero(self._count == 0)
        if untried.size:
            return self._arms[int(untried[0])]
        bonus = np.sqrt(2.0 * np.log(self._count.sum()) / self._count)
        return self._arms[int((self._sum / self._count + bonus).argmax())]

    def tell(self, action: Action, row: Array) -> None:
        k = self._arms.index(action)
        self._count[k] += 1
        self._sum[k] += -float(row[self._problem.target]) / self._scale

    def recommend(self) -> Action:
        tried = self._count > 0
        if not tried.any():
            return self._arms[0]
        mean = np.where(tried, self._sum / np.maximum(self._count, 1), -np.inf)
        return self._arms[int(mean.argmax())]


class Regress:
    """Least squares, then the steepest end: the ten lines to beat.

    For each manipulable variable fit target ~ a + b * variable on the observational rows and the rows in which that
    variable was set; play the end of the domain that the steepest slope (per half domain) recommends.
    """

    def __init__(self, problem: Problem, rng: np.random.Generator) -> None:
        self._problem = problem
        y = problem.observations[:, problem.target]
        self._data = {int(i): (list(problem.observations[:, i]), list(y)) for i in problem.levers}

    def ask(self) -> Action:
        problem, best = (
            self._problem,
            (-1.0, (int(self._problem.levers[0]), float(self._problem.low[self._problem.levers[0]]))),
        )
        for i, (x, y) in self._data.items():
            if len(x) < 2:
                continue
            centred = np.array(x) - np.mean(x)
            variance = centred @ centred
            slope = centred @ np.array(y) / variance if variance > 0 else 0.0
            effect = abs(slope) * (problem.high[i] - problem.low[i]) / 2
            if effect > best[0]:
                best = effect, (i, float(problem.low[i] if slope > 0 else problem.high[i]))
        return best[1]

    def tell(self, action: Action, row: Array) -> None:
        x, y = self._data[action[0]]
        x.append(action[1])
        y.append(float(row[self._problem.target]))

    def recommend(self) -> Action:
        return self.ask()


class Constant:
    """Always the same action: the oracle's."""

    def __init__(self, best: Intervention) -> None:
        self._action = (best.variable, best.value)

    def ask(self) -> Action:
        return self._action

    def tell(self, action: Action, row: Array) -> None:
        pass

    def recommend(self) -> Action:
        return self._action


# Methods that need nothing but the problem. "oracle" is added by the runner, which knows the system.
BASELINES: dict[str, type] = {"random": Random, "endpoints": Endpoints, "regress": Regress}
