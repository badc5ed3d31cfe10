"""What a policy must beat, behind one interface: `ask` for an action, `tell` its row, `recommend`
at the end.

Every method sees what the policy sees: the observational rows, the domains, which variables can be
set, and the row of each of its own interventions. One intervention is one query of the system.
Lower is better.

Contract: a method's randomness comes from the generator it is given.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from scipy.special import ndtr

from acbo_ref.arrays import Array
from acbo_ref.errors import AcboError
from acbo_ref.policy.evidence import PATH_EFFECT
from acbo_ref.policy.inputs import Task
from acbo_ref.policy.reading import PairReading
from acbo_ref.systems.scm import Intervention

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


class GaussianProcess:
    """One Gaussian process a variable, expected improvement (Jones et al. 1998, eq. 15); needs
    scikit-learn.

    Each process models the target under do(X_i = v) from the rows in which X_i was set, around the
    observational mean, with a Matern-5/2 kernel and noise (Snoek et al. 2012), all hyperparameters
    by marginal likelihood within bounds once there are five rows. Improvement is counted from the
    lowest posterior mean among the actions tried; a variable not tried yet has its prior.
    Recommends the tried action of lowest posterior mean.
    """

    _GRID = 101
    _MIN_ROWS = 5

    def __init__(self, task: Task, rng: np.random.Generator) -> None:
        import_extra("sklearn", "gp", "gp")
        self._task, self._rng = task, rng
        observed = task.observations[0, :, task.target[0]]
        self._location = float(observed.mean()) if len(observed) else 0.0
        self._spread = target_spread(task)
        self._rows: dict[int, tuple[list[float], list[float]]] = {int(i): ([], []) for i in levers(task)}
        self._grid = np.linspace(-1.0, 1.0, self._GRID)
        prior = (np.zeros(self._GRID), np.ones(self._GRID))
        self._posterior = dict.fromkeys(self._rows, prior)
        self._best: tuple[float, Action] | None = None

    def ask(self) -> Action:
        incumbent = 0.0 if self._best is None else self._best[0]
        choices: list[tuple[float, float, Action]] = []
        for i, (mean, std) in self._posterior.items():
            z = (incumbent - mean) / std
            improvement = std * (z * ndtr(z) + np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi))
            best = self._rng.choice(np.flatnonzero(improvement >= improvement.max() * (1 - 1e-9)))
            value = self._raw(i, self._grid[best])
            choices.append((float(improvement[best]), self._rng.random(), (i, value)))
        return max(choices)[2]

    def _raw(self, i: int, u: float) -> float:
        low, high = self._task.low[0, i], self._task.high[0, i]
        return float(np.clip(low + (u + 1.0) / 2.0 * (high - low), low, high))

    def tell(self, action: Action, row: Array) -> None:
        i, value = action
        low, high = self._task.low[0, i], self._task.high[0, i]
        u, y = self._rows[i]
        u.append(2.0 * (value - low) / (high - low) - 1.0)
        y.append((float(row[self._task.target[0]]) - self._location) / self._spread)
        self._posterior[i] = self._fit(np.array(u), np.array(y))
        tried = [
            (float(np.interp(point, self._grid, self._posterior[j][0])), (j, self._raw(j, point)))
            for j, (points, _) in self._rows.items()
            for point in points
        ]
        self._best = min(tried)

    def _fit(self, u: Array, y: Array) -> tuple[Array, Array]:
        """Posterior mean and standard deviation of the noise-free target on the grid, standard
        units.
        """

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        kernel = ConstantKernel(1.0, (0.05, 20.0)) * Matern(0.3, (0.05, 2.0), nu=2.5) + WhiteKernel(0.5, (0.01, 4.0))
        optimizer = "fmin_l_bfgs_b" if len(u) >= self._MIN_ROWS else None
        model = GaussianProcessRegressor(kernel, optimizer=optimizer)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a hyperparameter at its bound is a legitimate optimum
            model.fit(u[:, None], y)
        mean, std = model.predict(self._grid[:, None], return_std=True)
        noise = model.kernel_.k2.noise_level  # predictions include it; improvement is about the mean function
        return mean, np.sqrt(np.maximum(std**2 - noise, 1e-12))

    def recommend(self) -> Action:
        return self.ask() if self._best is None else self._best[1]


class GaussianProcessOfAll:
    """One Gaussian process of the target over the values of all variables that can be set, with a
    length scale each; expected improvement (Jones et al. 1998, eq. 15); needs scikit-learn.

    It learns from every row, observed or not. A candidate sets one variable and leaves the others
    at their observational means, or sets none. Matern-5/2 and noise, hyperparameters by marginal
    likelihood; one length for all beyond MOST_LENGTHS variables. Improvement is counted from the
    lowest posterior mean among what was tried, and it recommends the candidate of lowest mean. The
    strongest baseline where the best value lies inside a domain.
    """

    _GRID = 41
    _MOST_LENGTHS = 16
    _LEAST_ROWS = 5

    def __init__(self, task: Task, rng: np.random.Generator) -> None:
        import_extra("sklearn", "gp_all", "gp")
        self._task, self._rng, self._levers = task, rng, levers(task)
        observed = task.observations[0]
        outcome = observed[:, task.target[0]]
        self._location = float(outcome.mean()) if len(observed) else 0.0
        self._spread = target_spread(task)
        self._inputs = [self._unit(row) for row in observed]
        self._outcomes = [(float(y) - self._location) / self._spread for y in outcome]
        usual = np.mean(self._inputs, axis=0) if self._inputs else np.zeros(len(self._levers))
        grid = np.linspace(-1.0, 1.0, self._GRID)
        candidates = np.tile(usual, (1 + len(self._levers) * self._GRID, 1))
        self._actions: list[Action] = [NOTHING]
        for n, i in enumerate(self._levers):
            start = 1 + n * self._GRID
            candidates[start : start + self._GRID, n] = grid
            low, high = task.low[0, i], task.high[0, i]
            self._actions += [(int(i), float(v)) for v in np.linspace(low, high, self._GRID)]
        self._candidates = candidates
        self._tried = {0}
        self._fit()

    def _unit(self, row: Array) -> Array:
        """(levers,) values of a raw row in half domains from the centre, at most 2."""
        low, high = self._task.low[0, self._levers], self._task.high[0, self._levers]
        return np.asarray(np.clip(2.0 * (row[self._levers] - low) / (high - low) - 1.0, -2.0, 2.0))

    def _fit(self) -> None:
        """Posterior mean and standard deviation of the noise-free target at the candidates."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        if not self._outcomes:
            self._mean, self._std = np.zeros(len(self._candidates)), np.ones(len(self._candidates))
            return
        lengths: Any = 1.0 if len(self._levers) > self._MOST_LENGTHS else np.ones(len(self._levers))
        kernel = ConstantKernel(1.0, (0.05, 100.0)) * Matern(lengths, (0.1, 20.0), nu=2.5) + WhiteKernel(
            0.5, (0.01, 4.0)
        )
        optimizer = "fmin_l_bfgs_b" if len(self._outcomes) >= self._LEAST_ROWS else None
        model = GaussianProcessRegressor(kernel, optimizer=optimizer)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a hyperparameter at its bound is a legitimate optimum
            model.fit(np.array(self._inputs), np.array(self._outcomes))
        mean, std = model.predict(self._candidates, return_std=True)
        self._mean, self._std = mean, np.sqrt(np.maximum(std**2 - model.kernel_.k2.noise_level, 1e-12))

    def ask(self) -> Action:
        incumbent = min(self._mean[k] for k in self._tried)
        z = (incumbent - self._mean) / self._std
        improvement = self._std * (z * ndtr(z) + np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi))
        best = int(self._rng.choice(np.flatnonzero(improvement >= improvement.max() * (1 - 1e-9))))
        self._tried.add(best)
        return self._actions[best]

    def tell(self, action: Action, row: Array) -> None:
        self._inputs.append(self._unit(row))
        self._outcomes.append((float(row[self._task.target[0]]) - self._location) / self._spread)
        self._fit()

    def recommend(self) -> Action:
        return self._actions[int(self._mean.argmin())]


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


def import_extra(module: str, method: str, extra: str) -> Any:
    """An optional library, or an error that says in one line how to get it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise AcboError(f"method {method!r} needs {module}: pip install 'acbo[{extra}]'") from error


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
