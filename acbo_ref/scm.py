"""Structural causal models: their equations, interventions on them, and the best intervention (the oracle).

An SCM assigns every variable in topological order (additive noise, Pearl 2009, ch. 1.4):

    x_j = b_j + sum_i W_ij x_i + sum_m a_jm sin(omega_jm . x + phi_jm) + s_j e_j,      e_j ~ N(0, 1)

`do(X_i = v)` replaces the equation of X_i by the constant v. With `saturate`, every variable but the
target is clipped to its domain after its equation, as a physical quantity cannot leave its range.

Two representations, one piece of mathematics:
* `SCM`: one model with named variables in the user's order, for files, pools and evaluation;
* `SCMBatch`: E models as arrays, topologically sorted and padded to V variables, for training.
`SCM` simulates through a batch of one. `FunctionalSCM` takes Python functions instead of coefficients.

This module does not sample models (graphs.py) and does not read or write files (scm_files.py).

Letters: E models, V variables, N rows, M sine terms a variable, S Monte-Carlo draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from acbo_ref.errors import AcboError, did_you_mean
from acbo_ref.randomness import Role, generator

Array = NDArray[Any]

# Draws behind an expectation that has no closed form; its standard error is std / sqrt(4096), about 1.6 % of the
# target's standard deviation at worst (antithetic pairs make the linear part exact).
MONTE_CARLO_DRAWS = 4096
# Draws of the coarse search for the oracle, and how many of its best points are re-evaluated with all draws.
SEARCH_DRAWS = 512
SEARCH_KEEP = 16
GRID_POINTS = 101


def antithetic_noise(num_draws: int, num_variables: int) -> Array:
    """Standard normal draws e and -e in equal number, (num_draws, num_variables); the same at every call."""
    half = generator(0, Role.MONTE_CARLO).standard_normal((num_draws // 2, num_variables))
    return np.concatenate([half, -half])


@dataclass(frozen=True)
class Variable:
    """One variable of an SCM: x = intercept + ... + noise_std * e; it can be set within [low, high] if manipulable."""

    name: str
    intercept: float = 0.0
    noise_std: float = 1.0
    low: float = -5.0
    high: float = 5.0
    manipulable: bool = True


@dataclass(frozen=True)
class Sine:
    """One term amplitude * sin(sum_i frequencies[i] x_i + phase) in the equation of `variable`."""

    variable: str
    amplitude: float
    phase: float
    frequencies: Mapping[str, float]


@dataclass(frozen=True)
class Intervention:
    """do(X_variable = value), and the expected target under it."""

    variable: int
    value: float
    expected: float


class System(Protocol):
    """What evaluation needs of an unknown system; `SCM` and `FunctionalSCM` both are one. Minimise the target."""

    @property
    def name(self) -> str: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def target_index(self) -> int: ...
    @property
    def low(self) -> Array: ...
    @property
    def high(self) -> Array: ...
    @property
    def manipulable(self) -> Array: ...
    @property
    def parent_mask(self) -> Array: ...
    @property
    def noise_dim(self) -> int: ...
    @property
    def direction(self) -> str: ...
    def simulate(self, noise: Array, variable: Array | int = -1, value: Array | float = 0.0) -> Array: ...
    def expected_target(self, variable: Array, value: Array) -> Array: ...
    @property
    def observational_moments(self) -> tuple[float, float]: ...
    @property
    def oracle(self) -> Intervention: ...
    @property
    def parent_oracle(self) -> Intervention: ...
    def minimised(self) -> System: ...


# ---------------------------------------------------------------------------------------------- one model


def topological_order(edges: Array, names: Sequence[str]) -> list[int]:
    """Kahn's algorithm, taking the first free variable in the given order (so a sorted list stays as it is).

    Args:
        edges: (V, V) bool, edges[i, j] means i -> j.
        names: for the error message.
    Raises:
        AcboError: if there is a cycle; the message prints it.
    """
    remaining = list(range(len(names)))
    order: list[int] = []
    while remaining:
        free = [j for j in remaining if not edges[remaining, j].any()]
        if not free:
            cycle = [remaining[0]]
            while cycle[-1] not in cycle[:-1]:  # walk to a parent until a variable comes back
                cycle.append(next(i for i in remaining if edges[i, cycle[-1]]))
            cycle = cycle[cycle.index(cycle[-1]) :][::-1]
            raise AcboError(
                "the edges form a cycle: " + " -> ".join(names[i] for i in cycle), "remove one of these edges"
            )
        order.append(free[0])
        remaining.remove(free[0])
    return order


@dataclass(frozen=True, eq=False)
class SCM:
    """A structural causal model with named variables.

    Args:
        name: how reports call it.
        target: name of the variable to be driven down (or up, with direction "maximize").
        variables: in any order; the target must not be manipulable, and is made so here.
        edges: {(parent, child): weight}.
        sines: nonlinear terms; their parents need no edge.
        saturate: clip every non-target variable to its domain.
        direction: "minimize" or "maximize".

    Raises:
        AcboError: duplicate or unknown names, low >= high, values that are not finite, a negative noise_std, a cycle,
            no manipulable variable.
    """

    name: str
    target: str
    variables: tuple[Variable, ...]
    edges: Mapping[tuple[str, str], float]
    sines: tuple[Sine, ...] = ()
    saturate: bool = False
    direction: str = "minimize"
    order: list[int] = field(init=False, repr=False)  # a topological order of the variables' indices

    def __post_init__(self) -> None:
        variables = tuple(replace(v, manipulable=False) if v.name == self.target else v for v in self.variables)
        object.__setattr__(self, "variables", variables)
        check_model(self)
        object.__setattr__(self, "order", topological_order(self._adjacency, self.names))

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(v.name for v in self.variables)

    def index(self, name: str) -> int:
        return self.names.index(name)

    @cached_property
    def target_index(self) -> int:
        return self.index(self.target)

    @cached_property
    def weights(self) -> Array:
        """(V, V): weights[i, j] is the coefficient of x_i in the equation of x_j."""
        weights = np.zeros((len(self.names), len(self.names)))
        for (parent, child), weight in self.edges.items():
            weights[self.index(parent), self.index(child)] = weight
        return weights

    @cached_property
    def _adjacency(self) -> Array:
        adjacency = self.weights != 0
        for sine in self.sines:
            for parent, frequency in sine.frequencies.items():
                adjacency[self.index(parent), self.index(sine.variable)] |= frequency != 0 and sine.amplitude != 0
        return adjacency

    @property
    def noise_dim(self) -> int:
        return len(self.names)

    @cached_property
    def low(self) -> Array:
        return np.array([v.low for v in self.variables])

    @cached_property
    def high(self) -> Array:
        return np.array([v.high for v in self.variables])

    @cached_property
    def manipulable(self) -> Array:
        return np.array([v.manipulable for v in self.variables])

    @cached_property
    def parent_mask(self) -> Array:
        """(V,) bool: the direct causes of the target."""
        return self._adjacency[:, self.target_index].copy()

    @cached_property
    def _batch(self) -> SCMBatch:
        return stack([self])

    @cached_property
    def _position(self) -> Array:
        """_position[i] is where variable i stands in the topologically sorted batch."""
        return np.argsort(self.order)

    def simulate(self, noise: Array, variable: Array | int = -1, value: Array | float = 0.0) -> Array:
        """N rows, (N, V), from exogenous noise (N, V), each under its own do(X_variable = value); -1 = observe."""
        variable = np.broadcast_to(np.asarray(variable), noise.shape[:1])
        value = np.broadcast_to(np.asarray(value, dtype=float), noise.shape[:1])
        position = np.where(variable < 0, -1, self._position[variable])
        rows = simulate(self._batch, noise[None, :, self.order], position[None], value[None])[0]
        return rows[:, self._position]

    def expected_target(self, variable: Array, value: Array) -> Array:
        """E[target | do(X_variable = value)] for N interventions, (N,); variable -1 gives the observational mean."""
        variable = np.asarray(variable)
        position = np.where(variable < 0, -1, self._position[variable])
        return expected_target(self._batch, position[None], np.asarray(value, dtype=float)[None])[0]

    @cached_property
    def observational_moments(self) -> tuple[float, float]:
        """Mean and standard deviation of the target when nothing is done."""
        mean, std = observational_moments(self._batch)
        return float(mean[0]), float(std[0])

    @cached_property
    def oracle(self) -> Intervention:
        """The best single-variable intervention by expected target, over all manipulable variables."""
        return self._best(self._batch)

    @cached_property
    def parent_oracle(self) -> Intervention:
        """The best among the direct causes of the target; where none can be set, the best of all."""
        batch = self._batch
        levers = batch.manipulable & batch.parents
        return self._best(replace(batch, manipulable=levers)) if levers.any() else self.oracle

    def _best(self, batch: SCMBatch) -> Intervention:
        variable, value, expected = oracle(batch)
        return Intervention(self.order[int(variable[0])], float(value[0]), float(expected[0]))

    def minimised(self) -> SCM:
        """The same model with the target negated if it was to be maximised; the one place where the sign flips."""
        if self.direction == "minimize":
            return self
        y = self.target
        variables = tuple(
            replace(v, intercept=-v.intercept, low=-v.high, high=-v.low) if v.name == y else v for v in self.variables
        )
        edges = {(i, j): -w if y in (i, j) else w for (i, j), w in self.edges.items()}
        sines = tuple(
            Sine(
                s.variable,
                -s.amplitude if s.variable == y else s.amplitude,
                s.phase,
                {i: -f if i == y else f for i, f in s.frequencies.items()},
            )
            for s in self.sines
        )
        # The target's noise e stays e: by symmetry of N(0, 1) the model is the same in distribution. To have the very
        # same rows up to the sign, its noise_std would have to be negative, so `simulate` callers see fresh noise.
        return SCM(self.name, y, variables, edges, sines, self.saturate, "minimize")


def check_model(scm: SCM) -> None:
    """Raise an AcboError that names variable and fix for anything that is not a model; cycles are found later."""
    names = [v.name for v in scm.variables]
    where = f"SCM {scm.name!r}"
    for name in names:
        if names.count(name) > 1:
            raise AcboError(f"{where}: variable name {name!r} is used twice", "give every variable its own name")
    if scm.target not in names:
        raise AcboError(f"{where}: target {scm.target!r} is not a variable", did_you_mean(scm.target, names))
    if scm.direction not in ("minimize", "maximize"):
        raise AcboError(f"{where}: direction is {scm.direction!r}", "use 'minimize' or 'maximize'")
    for v in scm.variables:
        for key in ("intercept", "noise_std", "low", "high"):
            if not np.isfinite(getattr(v, key)):
                raise AcboError(f"{where}: {key} of {v.name!r} is {getattr(v, key)}", "give a finite number")
        if v.noise_std < 0:
            raise AcboError(f"{where}: noise_std of {v.name!r} is {v.noise_std}", "a standard deviation is >= 0")
        if v.low >= v.high:
            raise AcboError(f"{where}: domain of {v.name!r} has low {v.low} >= high {v.high}", "low must be below high")
    if not any(v.manipulable for v in scm.variables):
        raise AcboError(f"{where}: no variable is manipulable", "mark at least one variable that can be set")
    for (parent, child), weight in scm.edges.items():
        for end in (parent, child):
            if end not in names:
                raise AcboError(
                    f"{where}: edge {parent!r} -> {child!r} names unknown variable {end!r}", did_you_mean(end, names)
                )
        if not np.isfinite(weight):
            raise AcboError(f"{where}: weight of edge {parent!r} -> {child!r} is {weight}", "give a finite number")
    for sine in scm.sines:
        for end in (sine.variable, *sine.frequencies):
            if end not in names:
                raise AcboError(
                    f"{where}: sine term of {sine.variable!r} names unknown variable {end!r}", did_you_mean(end, names)
                )
        if not np.isfinite([sine.amplitude, sine.phase, *sine.frequencies.values()]).all():
            raise AcboError(f"{where}: a sine term of {sine.variable!r} is not finite", "give finite numbers")


# ------------------------------------------------------------------------------------------ many models at once


@dataclass(frozen=True, eq=False)
class SCMBatch:
    """E models as arrays. Variables are topologically sorted; positions beyond a model's size are padding.

    Shapes: weights (E, V, V); intercept, noise_std, low, high, valid, manipulable, parents (E, V); target, saturate (E,);
    amplitude, phase (E, V, M); frequency (E, V, M, V). `parents` marks the direct causes of the target.
    """

    weights: Array
    intercept: Array
    noise_std: Array
    low: Array
    high: Array
    valid: Array
    manipulable: Array
    parents: Array
    target: Array
    saturate: Array
    amplitude: Array
    phase: Array
    frequency: Array

    @property
    def shape(self) -> tuple[int, int]:
        """(E, V)"""
        return self.intercept.shape

    @property
    def linear(self) -> Array:
        """(E,) bool: models whose expectations have a closed form."""
        return ~self.saturate & ~(self.amplitude != 0).any(axis=(1, 2))

    def select(self, index: Array | slice) -> SCMBatch:
        """The models at `index`, as a batch; views, if it is a slice."""
        return SCMBatch(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})


def stack(scms: Sequence[SCM], num_variables: int | None = None, num_sines: int | None = None) -> SCMBatch:
    """Sort each model topologically, pad all to `num_variables` and put them side by side.

    Args:
        scms: E models, each to be taken as it is (call `minimised` first where it matters).
        num_variables: V, default the largest model's.
        num_sines: M, sine terms a variable, default the largest model's.
    """
    count = len(scms)
    width = max(len(s.names) for s in scms) if num_variables is None else num_variables
    terms = [max((sum(t.variable == n for t in s.sines) for n in s.names), default=0) for s in scms]
    depth = max(terms) if num_sines is None else num_sines
    zeros = np.zeros
    batch = SCMBatch(
        weights=zeros((count, width, width)),
        intercept=zeros((count, width)),
        noise_std=zeros((count, width)),
        low=np.full((count, width), -1.0),
        high=np.full((count, width), 1.0),
        valid=zeros((count, width), bool),
        manipulable=zeros((count, width), bool),
        parents=zeros((count, width), bool),
        target=zeros(count, int),
        saturate=np.array([s.saturate for s in scms], bool),
        amplitude=zeros((count, width, depth)),
        phase=zeros((count, width, depth)),
        frequency=zeros((count, width, depth, width)),
    )
    for e, scm in enumerate(scms):
        n, order = len(scm.names), scm.order
        batch.weights[e, :n, :n] = scm.weights[np.ix_(order, order)]
        for key in ("intercept", "noise_std", "low", "high", "manipulable"):
            getattr(batch, key)[e, :n] = [getattr(scm.variables[i], key) for i in order]
        batch.valid[e, :n] = True
        batch.parents[e, :n] = scm.parent_mask[order]
        batch.target[e] = order.index(scm.target_index)
        used = dict.fromkeys(scm.names, 0)
        for sine in scm.sines:
            j, m = order.index(scm.index(sine.variable)), used[sine.variable]
            used[sine.variable] += 1
            batch.amplitude[e, j, m], batch.phase[e, j, m] = sine.amplitude, sine.phase
            for parent, frequency in sine.frequencies.items():
                batch.frequency[e, j, m, order.index(scm.index(parent))] = frequency
    return batch


def simulate(batch: SCMBatch, noise: Array, variable: Array, value: Array) -> Array:
    """Rows of all variables, each row of each model under its own intervention.

    Args:
        batch: E models of V variables.
        noise: (E, N, V) exogenous noise e, standard normal; rows with equal noise are counterfactuals of each other.
        variable: (E, N) int, the position intervened on, -1 for none.
        value: (E, N), the value it is set to (not clipped here).
    Returns:
        (E, N, V) in raw units; padding is 0.
    """
    rows = np.zeros(noise.shape[:2] + batch.intercept.shape[1:], dtype=noise.dtype)
    for j in range(batch.intercept.shape[1]):
        past = rows[:, :, :j]
        x = batch.intercept[:, None, j] + batch.noise_std[:, None, j] * noise[:, :, j]
        x = x + np.einsum("eni,ei->en", past, batch.weights[:, :j, j])
        if batch.amplitude.shape[2]:
            angle = np.einsum("eni,emi->enm", past, batch.frequency[:, j, :, :j]) + batch.phase[:, None, j]
            x = x + np.einsum("enm,em->en", np.sin(angle), batch.amplitude[:, j])
        clipped = np.clip(x, batch.low[:, None, j], batch.high[:, None, j])
        x = np.where((batch.saturate & (batch.target != j))[:, None], clipped, x)
        rows[:, :, j] = np.where(variable == j, value, x)
    return rows


def total_effects(batch: SCMBatch) -> Array:
    """(E, V): d E[target | do(X_i = v)] / dv of the linear part, sum over directed paths of products of weights.

    Row i of (I - W)^-1 = I + W + W^2 + ... collects the paths that start in i (Bollen 1987); cutting the edges into i
    changes none of them, as the graph has no cycle. The target's own entry is 0: it cannot be set.
    """
    num_models, width = batch.shape
    each = np.arange(num_models)
    unit = (np.arange(width) == batch.target[:, None]).astype(float)  # column of the identity for the target
    effects = np.linalg.solve(np.eye(width) - batch.weights, unit[:, :, None])[:, :, 0]
    effects[each, batch.target] = 0.0
    return effects


def _linear_moments(batch: SCMBatch) -> tuple[Array, Array]:
    """Observational mean of every variable, (E, V), and standard deviation of the target, (E,), of linear models."""
    each = np.arange(batch.shape[0])
    paths = np.linalg.inv(np.eye(batch.shape[1]) - batch.weights)  # x = (b + s e) (I - W)^-1
    mean = np.einsum("ei,eij->ej", batch.intercept, paths)
    to_target = paths[each, :, batch.target]
    return mean, np.sqrt(((batch.noise_std * to_target) ** 2).sum(axis=1))


def _split(batch: SCMBatch) -> tuple[Array, Array]:
    linear = batch.linear
    return np.flatnonzero(linear), np.flatnonzero(~linear)


def observational_moments(batch: SCMBatch, num_draws: int = MONTE_CARLO_DRAWS) -> tuple[Array, Array]:
    """Mean and standard deviation of the target when nothing is done, (E,) each; exact for linear models."""
    mean, std = np.zeros(batch.shape[0]), np.zeros(batch.shape[0])
    exact, sampled = _split(batch)
    if exact.size:
        part = batch.select(exact)
        means, std[exact] = _linear_moments(part)
        mean[exact] = means[np.arange(exact.size), part.target]
    if sampled.size:
        target = _sampled_target(batch.select(sampled), -np.ones((sampled.size, 1), int), None, num_draws)
        mean[sampled], std[sampled] = target[:, 0].mean(axis=-1), target[:, 0].std(axis=-1)
    return mean, std


def _sampled_target(batch: SCMBatch, variable: Array, value: Array | None, num_draws: int) -> Array:
    """Targets on common noise, (E, N, S), for N interventions a model."""
    (count, width), num_actions = batch.shape, variable.shape[1]
    value = np.zeros(variable.shape) if value is None else value
    noise = np.broadcast_to(antithetic_noise(num_draws, width), (count, num_actions, num_draws, width))
    rows = simulate(
        batch,
        noise.reshape(count, -1, width),
        np.repeat(variable, num_draws, axis=1),
        np.repeat(value, num_draws, axis=1),
    )
    target = rows[np.arange(count), :, batch.target]
    return target.reshape(count, num_actions, num_draws)


def expected_target(batch: SCMBatch, variable: Array, value: Array, num_draws: int = MONTE_CARLO_DRAWS) -> Array:
    """E[target | do(X_variable = value)], (E, N); variable -1 gives the observational mean.

    Linear models: E[Y] + T_i (v - E[X_i]), exact. Others: the mean over `num_draws` common antithetic noise draws.
    """
    result = np.zeros(variable.shape)
    exact, sampled = _split(batch)
    if exact.size:
        part, chosen = batch.select(exact), variable[exact]
        means, _ = _linear_moments(part)
        each = np.arange(exact.size)
        effect = np.take_along_axis(total_effects(part), np.maximum(chosen, 0), axis=1)
        shift = effect * (value[exact] - np.take_along_axis(means, np.maximum(chosen, 0), axis=1))
        result[exact] = means[each, part.target][:, None] + np.where(chosen < 0, 0.0, shift)
    for e in sampled:
        one = np.array([e])
        result[e] = _sampled_target(batch.select(one), variable[one], value[one], num_draws)[0].mean(axis=-1)
    return result


def oracle(
    batch: SCMBatch,
    num_draws: int = MONTE_CARLO_DRAWS,
    search_draws: int = SEARCH_DRAWS,
    grid_points: int = GRID_POINTS,
) -> tuple[Array, Array, Array]:
    """The best single-variable intervention by expected target: variable (E,), value (E,), expected target (E,).

    Linear models: the domain end of steepest descent, exact. Others: a grid over every manipulable variable with
    `search_draws`, then the best SEARCH_KEEP of its points again with `num_draws`, all on common noise.
    """
    num_models, width = batch.shape
    variable, value, expected = np.zeros(num_models, int), np.zeros(num_models), np.zeros(num_models)
    exact, sampled = _split(batch)
    if exact.size:
        part = batch.select(exact)
        candidate_variable = np.tile(np.arange(width), (exact.size, 2))
        candidate_value = np.concatenate([part.low, part.high], axis=1)
        outcome = expected_target(part, candidate_variable, candidate_value)
        outcome = np.where(np.tile(part.manipulable, (1, 2)), outcome, np.inf)
        best = outcome.argmin(axis=1)[:, None]
        for out, source in ((variable, candidate_variable), (value, candidate_value), (expected, outcome)):
            out[exact] = np.take_along_axis(source, best, axis=1)[:, 0]
    for e in sampled:
        model = batch.select(np.array([e]))
        levers = np.flatnonzero(model.manipulable[0])
        grid = np.linspace(model.low[0, levers], model.high[0, levers], grid_points, axis=1)  # (levers, points)
        coarse = np.stack(
            [
                expected_target(model, np.full((1, grid_points), i), g[None], search_draws)[0]
                for i, g in zip(levers, grid, strict=True)
            ]
        )
        keep = np.argsort(coarse, axis=None)[:SEARCH_KEEP]
        kept_variable, kept_value = levers[keep // grid_points], grid.reshape(-1)[keep]
        outcome = expected_target(model, kept_variable[None], kept_value[None], num_draws)[0]
        best_point = int(outcome.argmin())
        variable[e], value[e], expected[e] = kept_variable[best_point], kept_value[best_point], outcome[best_point]
    return variable, value, expected


# ------------------------------------------------------------------------------------- mechanisms as functions

Mechanism = Callable[[Mapping[str, Array], Array], Array]


@dataclass(frozen=True, eq=False)
class FunctionalSCM:
    """A system whose equations are Python functions, for evaluation.

    Args:
        name: how reports call it.
        target: name of the target.
        variables: in topological order; intercept and noise_std are not used.
        parents: {variable: its direct causes}, each earlier in `variables`.
        mechanisms: {variable: f(values, e)}; `values` maps every earlier variable to (N,), `e` is its standard normal
            noise (N,), to be transformed into whatever the model needs; returns (N,).
        hidden: variables that no row shows; they keep their place among the noise but are never set or seen.
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
    def parent_mask(self) -> Array:
        return np.array([n in self.parents.get(self.target, ()) for n in self.names])

    def simulate(self, noise: Array, variable: Array | int = -1, value: Array | float = 0.0) -> Array:
        """N rows of the visible variables, (N, V), from noise (N, noise_dim); see `SCM.simulate`."""
        variable = np.broadcast_to(np.asarray(variable), noise.shape[:1])
        value = np.broadcast_to(np.asarray(value, dtype=float), noise.shape[:1])
        values: dict[str, Array] = {}
        for j, v in enumerate(self.variables):
            x = np.broadcast_to(self.mechanisms[v.name](values, noise[:, j]), noise.shape[:1])
            is_set = variable == (self.names.index(v.name) if v.name in self.names else -2)
            values[v.name] = np.where(is_set, value, x)
        return np.stack([values[name] for name in self.names], axis=1)

    def expected_target(self, variable: Array, value: Array, num_draws: int = MONTE_CARLO_DRAWS) -> Array:
        """E[target | do(X_variable = value)], (N,), by common Monte-Carlo draws; -1 gives the observational mean."""
        noise = antithetic_noise(num_draws, self.noise_dim)
        pairs = zip(np.asarray(variable), np.asarray(value, dtype=float), strict=True)
        return np.array([self.simulate(noise, int(i), float(v))[:, self.target_index].mean() for i, v in pairs])

    @cached_property
    def observational_moments(self) -> tuple[float, float]:
        target = self.simulate(antithetic_noise(MONTE_CARLO_DRAWS, self.noise_dim))[:, self.target_index]
        return float(target.mean()), float(target.std())

    @cached_property
    def oracle(self) -> Intervention:
        """The best single-variable intervention, on a grid four times finer than that of `oracle` above."""
        return self._best(self.manipulable)

    @cached_property
    def parent_oracle(self) -> Intervention:
        """The best among the direct causes of the target; where none can be set, the best of all."""
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
