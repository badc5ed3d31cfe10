"""What a policy must beat, behind one interface: `ask` for an action, `tell` its row, `recommend`
at the end.

Every method sees what the policy sees: the observational rows, the domains, which variables can be
set, and the row of each of its own interventions. One intervention is one query of the system.
Lower is better.

Contract: a method's randomness comes from the generator it is given.
"""

from __future__ import annotations

import numpy as np

from acbo_ref.arena.gaussian_processes import GaussianProcess, GaussianProcessOfAll
from acbo_ref.arena.method import NOTHING, Action, import_extra, levers, target_spread, varies
from acbo_ref.arrays import Array
from acbo_ref.policy.evidence import PATH_EFFECT
from acbo_ref.policy.inputs import Task
from acbo_ref.policy.reading import PairReading
from acbo_ref.systems.scm import Intervention


class Random:
    """A uniform variable and a uniform value; recommends the action whose one row had the lowest
    target.
    """

    def __init__(self, task: Task, rng: np.random.Generator) -> None:
        self._task, self._rng = task, rng
        self._best: tuple[float, Action] | None = None

    def ask(self) -> Action:
        i = int(self._rng.choice(levers(self._task)))
        return i, float(self._rng.uniform(self._task.low[0, i], self._task.high[0, i]))

    def tell(self, action: Action, row: Array) -> None:
        outcome = float(row[self._task.target[0]])
        if self._best is None or outcome < self._best[0]:
            self._best = outcome, action

    def recommend(self) -> Action:
        return self.ask() if self._best is None else self._best[1]


class Endpoints:
    """UCB1 (Auer, Cesa-Bianchi & Fischer 2002, fig. 1) over both ends of every domain as arms.

    Every arm once, then the arm of largest mean + sqrt(2 ln t / n), in standard deviations of the
    observed target.
    """

    def __init__(self, task: Task, rng: np.random.Generator) -> None:
        self._task = task
        arms = [(int(i), float(end[i])) for i in levers(task) for end in (task.low[0], task.high[0])]
        self._arms = [arms[k] for k in rng.permutation(len(arms))]
        self._scale = target_spread(task)
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
        self._sum[k] += -float(row[self._task.target[0]]) / self._scale

    def recommend(self) -> Action:
        tried = self._count > 0
        if not tried.any():
            return self._arms[0]
        mean = np.where(tried, self._sum / np.maximum(self._count, 1), -np.inf)
        return self._arms[int(mean.argmax())]


class Regress:
    """Least squares, then the steepest end: the ten lines to beat.

    For each manipulable variable fit target ~ a + b * variable on the observational rows and the
    rows in which that variable was set; play the end of the domain that the steepest slope (per
    half domain) recommends.
    """

    def __init__(self, task: Task, rng: np.random.Generator) -> None:
        self._task = task
        y = task.observations[0, :, task.target[0]]
        # in random order, so that a tie is not decided by a variable's position
        self._data = {int(i): (list(task.observations[0, :, i]), list(y)) for i in rng.permutation(levers(task))}

    def ask(self) -> Action:
        task = self._task
        first = next(iter(self._data))
        best = -1.0, (first, float(task.low[0, first]))
        for i, (values, targets) in self._data.items():
            x, y = np.array(values), np.array(targets)
            centred = x - x.mean() if varies(x) else np.zeros(0)
            slope = centred @ y / (centred @ centred) if centred.size else 0.0
            effect = abs(slope) * (task.high[0, i] - task.low[0, i]) / 2
            if effect > best[0]:
                best = effect, (i, float(task.low[0, i] if slope > 0 else task.high[0, i]))
        return best[1]

    def tell(self, action: Action, row: Array) -> None:
        x, y = self._data[action[0]]
        x.append(action[1])
        y.append(float(row[self._task.target[0]]))

    def recommend(self) -> Action:
        return self.ask()


class Paths:
    """Path coefficients, then the steepest end: what an untrained pairwise policy head does,
    but for ties.

    As `Regress`, with the path effect of evidence.py in place of the marginal one: the effect on
    every variable times that variable's coefficient (Wright 1921). Classical; better than `Regress`
    where observational rows are few.
    """

    def __init__(self, task: Task, rng: np.random.Generator) -> None:
        self._task = task
        self._order = rng.permutation(levers(task))  # a tie is not decided by a variable's position
        self._reading = PairReading(task, float)
        self._evidence = self._reading.start().evidence

    def ask(self) -> Action:
        effects = self._evidence[0, :, PATH_EFFECT]
        best = int(self._order[np.abs(effects[self._order]).argmax()])
        return best, float(self._task.low[0, best] if effects[best] > 0 else self._task.high[0, best])

    def tell(self, action: Action, row: Array) -> None:
        self._evidence = self._reading.append(np.array([action[0]]), row[None]).evidence

    def recommend(self) -> Action:
        return self.ask()


class Thompson:
    """Thompson sampling with Bayesian linear regression of the target on each variable alone.

    Conjugate normal-inverse-gamma model (Gelman et al. 2013, sec. 14.2) y = a + b u + noise, u in
    [-1, 1] over the domain and y in standard deviations of the observed target, on the
    observational rows and the rows in which the variable was set. A draw of (a, b) for each
    variable; the end with the lowest drawn outcome is played. Recommends by posterior means.
    """

    # Weak prior: precision of (a, b), and shape and scale of the noise variance, in standard units.
    _PRECISION, _SHAPE, _SCALE = 0.1, 1.0, 0.5

    def __init__(self, task: Task, rng: np.random.Generator) -> None:
        self._task, self._rng = task, rng
        observed = task.observations[0, :, task.target[0]]
        self._location = float(observed.mean()) if len(observed) else 0.0
        self._spread = target_spread(task)
        # Sufficient statistics of each lever: X^T X (2, 2), X^T y (2,), y^T y, n
        self._data: dict[int, tuple[Array, Array, float, int]] = {
            int(i): (np.zeros((2, 2)), np.zeros(2), 0.0, 0) for i in levers(task)
        }
        for row in task.observations[0]:
            for i in self._data:
                self._add(i, float(row[i]), float(row[task.target[0]]))

    def _add(self, i: int, value: float, target: float) -> None:
        low, high = self._task.low[0, i], self._task.high[0, i]
        x = np.array([1.0, 2.0 * (value - low) / (high - low) - 1.0])
        y = (target - self._location) / self._spread
        xx, xy, yy, n = self._data[i]
        self._data[i] = (xx + np.outer(x, x), xy + x * y, yy + y * y, n + 1)

    def _posterior(self, i: int) -> tuple[Array, Array, float, float]:
        """Mean and covariance factor of (a, b), shape and scale of the noise variance."""
        xx, xy, yy, n = self._data[i]
        covariance = np.linalg.inv(xx + self._PRECISION * np.eye(2))
        mean = covariance @ xy
        scale = self._SCALE + 0.5 * max(0.0, float(yy - mean @ xy))
        return mean, covariance, self._SHAPE + n / 2, scale

    def _play(self, drawn: bool) -> Action:
        best: tuple[float, Action] | None = None
        for i in self._data:
            coefficients, covariance, shape, scale = self._posterior(i)
            if drawn:
                variance = scale / self._rng.gamma(shape)
                factor = np.linalg.cholesky(covariance * variance)
                coefficients = coefficients + factor @ self._rng.standard_normal(2)
            for end, value in ((-1.0, self._task.low[0, i]), (1.0, self._task.high[0, i])):
                outcome = float(coefficients[0] + coefficients[1] * end)
                if best is None or outcome < best[0]:
                    best = outcome, (i, float(value))
        assert best is not None
        return best[1]

    def ask(self) -> Action:
        return self._play(drawn=True)

    def tell(self, action: Action, row: Array) -> None:
        self._add(action[0], action[1], float(row[self._task.target[0]]))

    def recommend(self) -> Action:
        return self._play(drawn=False)


class Nothing:
    """Leaves the system as it is."""

    def __init__(self, task: Task, rng: np.random.Generator) -> None:
        pass

    def ask(self) -> Action:
        return NOTHING

    def tell(self, action: Action, row: Array) -> None:
        pass

    def recommend(self) -> Action:
        return NOTHING


class Optuna:
    """Tree-structured Parzen estimator (Bergstra et al. 2011) by ask and tell over a conditional
    space; needs optuna.

    First which variable, then its value. It cannot use observational rows. Recommends its best
    trial.
    """

    def __init__(self, task: Task, rng: np.random.Generator) -> None:
        optuna = import_extra("optuna", "optuna", "optuna")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=int(rng.integers(2**31)))
        self._task, self._trial = task, None
        self._study = optuna.create_study(direction="minimize", sampler=sampler)
        self._fallback = Random(task, rng)

    def ask(self) -> Action:
        task, trial = self._task, self._study.ask()
        self._trial = trial
        i = int(trial.suggest_categorical("variable", [int(i) for i in levers(task)]))
        return i, float(trial.suggest_float(f"value_{i}", float(task.low[0, i]), float(task.high[0, i])))

    def tell(self, action: Action, row: Array) -> None:
        self._study.tell(self._trial, float(row[self._task.target[0]]))

    def recommend(self) -> Action:
        if not self._study.trials:
            return self._fallback.ask()
        params = self._study.best_trial.params
        return int(params["variable"]), float(params[f"value_{params['variable']}"])


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


# Methods that need nothing but the task. The oracles are added by the runner, which knows the
# system.
BASELINES: dict[str, type] = {
    "random": Random,
    "endpoints": Endpoints,
    "regress": Regress,
    "paths": Paths,
    "thompson": Thompson,
    "gp": GaussianProcess,
    "gp_all": GaussianProcessOfAll,
    "nothing": Nothing,
    "optuna": Optuna,
}
