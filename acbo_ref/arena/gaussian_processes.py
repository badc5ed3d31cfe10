"""Gaussian processes with expected improvement, the baselines that follow curves.

Contract: a method's randomness comes from the generator it is given. scikit-learn is imported when
one is made.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.special import ndtr

from acbo_ref.arena.method import NOTHING, Action, import_extra, levers, target_spread
from acbo_ref.arrays import Array
from acbo_ref.policy.inputs import Task


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
