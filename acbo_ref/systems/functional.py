"""A system whose equations are Python functions, for evaluation on published problems and
simulators.

Contract: simulates and searches by Monte Carlo; it has no arrays to train on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.errors import AcboError
from acbo_ref.systems.batch import GRID_POINTS, MONTE_CARLO_DRAWS, SEARCH_DRAWS, SEARCH_KEEP, antithetic_noise
from acbo_ref.systems.scm import Intervention, Variable, mirrored

Mechanism = Callable[[Mapping[str, Array], Array], Array]


@dataclass(frozen=True, eq=False)
class FunctionalSCM:
    """A system whose equations are Python functions, for evaluation.

    Args:
        name: how reports call it.
        target: name of the target.
        variables: in topological order; intercept and noise_std are not used.
        parents: {variable: its direct causes}, each earlier in `variables`.
        mechanisms: {variable: f(values, e)}; `values` maps every earlier variable to (N,), `e` is
            its standard normal noise (N,), to be transformed into whatever the model needs; returns
            (N,).
        hidden: variables that no row shows; they keep their place among the noise but are never set
            or seen.
        direction: "minimize" or "maximize".
    """

    name: str
    target: str
    variables: tuple[Variable, ...]
    parents: Mapping[str, tuple[str, ...]]
    mechanisms: Mapping[str, Mechanism]
    hidden: frozenset[str] = frozenset()
    direction: str = "minimize"

    def __post_init__(self) -> None:
        variables = tuple(replace(v, manipulable=False) if v.name == self.target else v for v in self.variables)
        object.__setattr__(self, "variables", variables)
        seen: set[str] = set()
        for v in variables:
            if v.name not in self.mechanisms:
                raise AcboError(f"SCM {self.name!r}: variable {v.name!r} has no mechanism", "add it to `mechanisms`")
            for parent in self.parents.get(v.name, ()):
                if parent not in seen:
                    raise AcboError(
                        f"SCM {self.name!r}: {v.name!r} depends on {parent!r}, which does not come before it",
                        "list the variables in topological order",
                    )
            seen.add(v.name)
        if self.target not in seen or self.target in self.hidden:
            raise AcboError(f"SCM {self.name!r}: target {self.target!r} is not a visible variable")
        if not self.manipulable.any():
            raise AcboError(f"SCM {self.name!r}: no variable is manipulable")

    @cached_property
    def _visible(self) -> tuple[Variable, ...]:
        return tuple(v for v in self.variables if v.name not in self.hidden)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(v.name for v in self._visible)

    @property
    def noise_dim(self) -> int:
        return len(self.variables)

    @cached_property
    def target_index(self) -> int:
        return self.names.index(self.target)

    @cached_property
    def low(self) -> Array:
        return np.array([v.low for v in self._visible])

    @cached_property
    def high(self) -> Array:
        return np.array([v.high for v in self._visible])

    @cached_property
    def manipulable(self) -> Array:
        return np.array([v.manipulable for v in self._visible])

    @cached_property
    def visible(self) -> Array:
        return np.ones(len(self.names), bool)

    @cached_property
    def parent_mask(self) -> Array:
        return np.array([n in self.parents.get(self.target, ()) for n in self.names])

    @cached_property
    def exogenous(self) -> Array:
        """See `SCM.exogenous`."""
        moved: set[str] = set()
        for v in self.variables:
            if v.manipulable or v.name == self.target or moved.intersection(self.parents.get(v.name, ())):
                moved.add(v.name)
        return np.array([n not in moved for n in self.names])

    def simulate(self, noise: Array, variable: Array | int = -1, value: Array | float = 0.0) -> Array:
        """N rows of the visible variables, (N, V), from noise (N, noise_dim); see
        `SCM.simulate`.
        """
        variable = np.broadcast_to(np.asarray(variable), noise.shape[:1])
        value = np.broadcast_to(np.asarray(value, dtype=float), noise.shape[:1])
        values: dict[str, Array] = {}
        for j, v in enumerate(self.variables):
            x = np.broadcast_to(self.mechanisms[v.name](values, noise[:, j]), noise.shape[:1])
            is_set = variable == (self.names.index(v.name) if v.name in self.names else -2)
            values[v.name] = np.where(is_set, value, x)
        return np.stack([values[name] for name in self.names], axis=1)

    def expected_target(self, variable: Array, value: Array, num_draws: int = MONTE_CARLO_DRAWS) -> Array:
        """E[target | do(X_variable = value)], (N,), by common Monte-Carlo draws; -1 gives the
        observational mean.
        """
        noise = antithetic_noise(num_draws, self.noise_dim)
        pairs = zip(np.asarray(variable), np.asarray(value, dtype=float), strict=True)
        return np.array([self.simulate(noise, int(i), float(v))[:, self.target_index].mean() for i, v in pairs])

    @cached_property
    def observational_moments(self) -> tuple[float, float]:
        target = self.simulate(antithetic_noise(MONTE_CARLO_DRAWS, self.noise_dim))[:, self.target_index]
        return float(target.mean()), float(target.std())

    @cached_property
    def oracle(self) -> Intervention:
        """The best single-variable intervention, on a grid four times finer than that of `oracle`
        above.
        """
        if self.direction == "maximize":
            return mirrored(self.minimised().oracle)
        return self._best(self.manipulable)

    @cached_property
    def parent_oracle(self) -> Intervention:
        """The best among the direct causes of the target; where none can be set, the best of
        all.
        """
        if self.direction == "maximize":
            return mirrored(self.minimised().parent_oracle)
        levers = self.manipulable & self.parent_mask
        return self._best(levers) if levers.any() else self.oracle

    def _best(self, candidates: Array) -> Intervention:
        levers = np.flatnonzero(candidates)
        points = 4 * (GRID_POINTS - 1) + 1
        variable = np.repeat(levers, points)
        value = np.concatenate([np.linspace(self.low[i], self.high[i], points) for i in levers])
        keep = np.argsort(self.expected_target(variable, value, SEARCH_DRAWS))[:SEARCH_KEEP]
        expected = self.expected_target(variable[keep], value[keep])
        best = int(expected.argmin())
        return Intervention(int(variable[keep][best]), float(value[keep][best]), float(expected[best]))

    def minimised(self) -> FunctionalSCM:
        """The same system with the target negated if it was to be maximised."""
        return self if self.direction == "minimize" else self._negated

    @cached_property
    def _negated(self) -> FunctionalSCM:
        y = self.target

        def negated(name: str, mechanism: Mechanism) -> Mechanism:
            def flipped(values: Mapping[str, Array], e: Array) -> Array:
                x = mechanism({**values, y: -values[y]} if y in values else values, e)
                return -x if name == y else x

            return flipped

        mechanisms = {name: negated(name, mechanism) for name, mechanism in self.mechanisms.items()}
        return replace(self, mechanisms=mechanisms, direction="minimize")
