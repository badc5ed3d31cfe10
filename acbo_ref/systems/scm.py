"""One structural causal model with named variables, in the user's order; and what evaluation needs
of any system.

The equations are those of batch.py. An `SCM` simulates through a batch of one; `stack` puts several
of them side by side, each topologically sorted and padded.

Contract: this module does not sample models (prior.py) and does not read or write files (files.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.errors import AcboError, did_you_mean
from acbo_ref.systems.batch import (
    TERM_SHAPES,
    SCMBatch,
    expected_target,
    observational_moments,
    oracle,
    simulate,
    target_parents,
)


@dataclass(frozen=True)
class Variable:
    """One variable of an SCM: x = intercept + ... + noise_std * e; it can be set within [low, high]
    if manipulable. Nobody sees a hidden one: it stands in every row, but no method may look at it.
    """

    name: str
    intercept: float = 0.0
    noise_std: float = 1.0
    low: float = -5.0
    high: float = 5.0
    manipulable: bool = True
    hidden: bool = False


@dataclass(frozen=True)
class Term:
    """One term amplitude * f(sum_i frequencies[i] x_i + phase) in the equation of `variable`; f is
    of TERM_SHAPES (batch.py).
    """

    variable: str
    amplitude: float
    phase: float
    frequencies: Mapping[str, float]
    shape: str = "sine"


@dataclass(frozen=True)
class Intervention:
    """do(X_variable = value), and the expected target under it."""

    variable: int
    value: float
    expected: float


def mirrored(best: Intervention) -> Intervention:
    """An intervention on a negated target, told in the user's direction."""
    return replace(best, expected=-best.expected)


class System(Protocol):
    """What evaluation needs of an unknown system; `SCM` and `FunctionalSCM` both are one. Minimise
    the target.
    """

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
    def visible(self) -> Array: ...
    @property
    def parent_mask(self) -> Array: ...
    @property
    def exogenous(self) -> Array: ...
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


def topological_order(edges: Array, names: Sequence[str]) -> list[int]:
    """Kahn's algorithm, taking the first free variable in the given order (so a sorted list stays
    as it is).

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
        terms: nonlinear terms; their parents need no edge.
        saturate: clip every non-target variable to its domain.
        direction: "minimize" or "maximize".

    Raises:
        AcboError: duplicate or unknown names, low >= high, values that are not finite, a negative
            noise_std, a cycle, no manipulable variable.
    """

    name: str
    target: str
    variables: tuple[Variable, ...]
    edges: Mapping[tuple[str, str], float]
    terms: tuple[Term, ...] = ()
    saturate: bool = False
    direction: str = "minimize"
    order: list[int] = field(init=False, repr=False)  # a topological order of the variables' indices
    # The target's equation takes -e in place of e: the rows of a minimised model are those of its
    # own up to the sign.
    negates_noise: bool = field(init=False, repr=False, default=False)

    def __post_init__(self) -> None:
        variables = tuple(replace(v, manipulable=False) if v.name == self.target else v for v in self.variables)
        object.__setattr__(self, "variables", variables)
        check_model(self)
        object.__setattr__(self, "order", topological_order(self.adjacency, self.names))

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
    def adjacency(self) -> Array:
        """(V, V) bool: i is a direct cause of j, by a weight or in a sine term."""
        adjacency = self.weights != 0
        for term in self.terms:
            for parent, frequency in term.frequencies.items():
                adjacency[self.index(parent), self.index(term.variable)] |= frequency != 0 and term.amplitude != 0
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
    def visible(self) -> Array:
        return np.array([not v.hidden for v in self.variables])

    @cached_property
    def parent_mask(self) -> Array:
        """(V,) bool: the direct causes of the target."""
        return self.adjacency[:, self.target_index].copy()

    @cached_property
    def exogenous(self) -> Array:
        """(V,) bool: seen, and moved neither by what can be set nor by the target."""
        moved = self.manipulable | (np.arange(len(self.names)) == self.target_index)
        for j in self.order:
            moved[j] |= (moved & self.adjacency[:, j]).any()
        return np.asarray(self.visible & ~moved)

    @cached_property
    def _batch(self) -> SCMBatch[Array]:
        return stack([self])

    @cached_property
    def _position(self) -> Array:
        """_position[i] is where variable i stands in the topologically sorted batch."""
        return np.argsort(self.order)

    def simulate(self, noise: Array, variable: Array | int = -1, value: Array | float = 0.0) -> Array:
        """N rows, (N, V), from exogenous noise (N, V), each under its own do(X_variable = value);
        -1 = observe.
        """
        variable = np.broadcast_to(np.asarray(variable), noise.shape[:1])
        value = np.broadcast_to(np.asarray(value, dtype=float), noise.shape[:1])
        position = np.where(variable < 0, -1, self._position[variable])
        rows = simulate(self._batch, noise[None, :, self.order], position[None], value[None])[0]
        return rows[:, self._position]

    def expected_target(self, variable: Array, value: Array) -> Array:
        """E[target | do(X_variable = value)] for N interventions, (N,); variable -1 gives the
        observational mean.
        """
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
        """The best single-variable intervention by expected target, over all manipulable
        variables: the one with the lowest, or the highest where the target is to be maximised.
        """
        if self.direction == "maximize":
            return mirrored(self.minimised().oracle)
        return self._best(self._batch)

    @cached_property
    def parent_oracle(self) -> Intervention:
        """The best among the direct causes of the target; where none can be set, the best of
        all.
        """
        if self.direction == "maximize":
            return mirrored(self.minimised().parent_oracle)
        batch = self._batch
        levers = batch.manipulable & target_parents(batch)
        return self._best(batch._replace(manipulable=levers)) if levers.any() else self.oracle

    def _best(self, batch: SCMBatch[Array]) -> Intervention:
        variable, value, expected = oracle(batch)
        return Intervention(self.order[int(variable[0])], float(value[0]), float(expected[0]))

    def minimised(self) -> SCM:
        """The same model with the target negated if it was to be maximised; the one place where the
        sign flips.
        """
        if self.direction == "minimize":
            return self
        y = self.target
        variables = tuple(
            replace(v, intercept=-v.intercept, low=-v.high, high=-v.low) if v.name == y else v for v in self.variables
        )
        edges = {(i, j): -w if y in (i, j) else w for (i, j), w in self.edges.items()}
        terms = tuple(
            replace(
                s,
                amplitude=-s.amplitude if s.variable == y else s.amplitude,
                frequencies={i: -f if i == y else f for i, f in s.frequencies.items()},
            )
            for s in self.terms
        )
        model = SCM(self.name, y, variables, edges, terms, self.saturate, "minimize")
        object.__setattr__(model, "negates_noise", True)
        return model


def check_model(scm: SCM) -> None:
    """Raise an AcboError that names variable and fix for anything that is not a model; cycles are
    found later.
    """
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
        if v.hidden and (v.manipulable or v.name == scm.target):
            raise AcboError(f"{where}: {v.name!r} is hidden", "the target and what can be set are seen")
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
    for term in scm.terms:
        for end in (term.variable, *term.frequencies):
            if end not in names:
                raise AcboError(
                    f"{where}: term of {term.variable!r} names unknown variable {end!r}", did_you_mean(end, names)
                )
        if not np.isfinite([term.amplitude, term.phase, *term.frequencies.values()]).all():
            raise AcboError(f"{where}: a term of {term.variable!r} is not finite", "give finite numbers")
        if term.shape not in TERM_SHAPES:
            raise AcboError(
                f"{where}: a term of {term.variable!r} has the shape {term.shape!r}",
                did_you_mean(term.shape, TERM_SHAPES),
            )


def stack(scms: Sequence[SCM], num_variables: int | None = None, num_terms: int | None = None) -> SCMBatch[Array]:
    """Sort each model topologically, pad all to `num_variables` and put them side by side.

    Args:
        scms: E models, each to be taken as it is (call `minimised` first where it matters).
        num_variables: V, default the largest model's.
        num_terms: M, terms a variable, default the largest model's.
    """
    count = len(scms)
    width = max(len(s.names) for s in scms) if num_variables is None else num_variables
    terms = [max((sum(t.variable == n for t in s.terms) for n in s.names), default=0) for s in scms]
    depth = max(terms) if num_terms is None else num_terms
    zeros = np.zeros
    batch = SCMBatch(
        weights=zeros((count, width, width)),
        intercept=zeros((count, width)),
        noise_std=zeros((count, width)),
        low=np.full((count, width), -1.0),
        high=np.full((count, width), 1.0),
        valid=zeros((count, width), bool),
        manipulable=zeros((count, width), bool),
        edges=zeros((count, width, width), bool),
        target=zeros(count, int),
        saturate=np.array([s.saturate for s in scms], bool),
        amplitude=zeros((count, width, depth)),
        phase=zeros((count, width, depth)),
        frequency=zeros((count, width, depth, width)),
        shape=zeros((count, width, depth), int),
    )
    for e, scm in enumerate(scms):
        n, order = len(scm.names), scm.order
        batch.weights[e, :n, :n] = scm.weights[np.ix_(order, order)]
        batch.edges[e, :n, :n] = scm.adjacency[np.ix_(order, order)]
        for key in ("intercept", "noise_std", "low", "high", "manipulable"):
            getattr(batch, key)[e, :n] = [getattr(scm.variables[i], key) for i in order]
        if scm.negates_noise:
            batch.noise_std[e, order.index(scm.target_index)] *= -1.0
        batch.valid[e, :n] = [not scm.variables[i].hidden for i in order]
        batch.target[e] = order.index(scm.target_index)
        used = dict.fromkeys(scm.names, 0)
        for term in scm.terms:
            j, m = order.index(scm.index(term.variable)), used[term.variable]
            used[term.variable] += 1
            batch.amplitude[e, j, m], batch.phase[e, j, m] = term.amplitude, term.phase
            batch.shape[e, j, m] = TERM_SHAPES.index(term.shape)
            for parent, frequency in term.frequencies.items():
                batch.frequency[e, j, m, order.index(scm.index(parent))] = frequency
    return batch
