"""Evaluation suites: named sets of unknown systems, a function of (suite, seed) and nothing else.

Their models come from streams of random numbers that training never uses (Role.SUITE_SYSTEMS).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path

import numpy as np

from acbo_ref.arena.processes import PROCESSES
from acbo_ref.arena.published import PUBLISHED
from acbo_ref.config import PriorConfig
from acbo_ref.errors import AcboError, did_you_mean
from acbo_ref.randomness import Role, generator
from acbo_ref.systems.batch import oracle
from acbo_ref.systems.files import load_scm
from acbo_ref.systems.prior import sample_scm
from acbo_ref.systems.scm import SCM, System, Variable, stack

# Systems in a suite of random models, and in its quick version. Paired differences of .01 need that
# many to be seen.
FULL_SIZE, QUICK_SIZE = 256, 16
DEFAULT_OBSERVATIONS = 20
# Streams of two suites must not meet: suite number * this + model number.
_STRIDE = 2**20


@dataclass(frozen=True)
class SuiteSpec:
    """One suite: what it holds, in a line, and how system `index` of it is made from a generator.

    `cluster` names what system `index` is a repetition of; most are of none but themselves.
    `full` and `quick` are its numbers of systems, `observations` the rows before the first
    intervention.
    """

    name: str
    number: int
    description: str
    sample: Callable[[np.random.Generator, int], System]
    full: int = FULL_SIZE
    quick: int = QUICK_SIZE
    observations: int = DEFAULT_OBSERVATIONS
    cluster: Callable[[System, int], str] = lambda system, index: str(index)


def _shuffled(scm: SCM, rng: np.random.Generator) -> SCM:
    """The same model with its variables listed in random order: a position must tell nothing."""
    return replace(scm, variables=tuple(scm.variables[i] for i in rng.permutation(len(scm.variables))))


def _seed_chain(saturate: bool) -> Callable[[np.random.Generator, int], SCM]:
    def sample(rng: np.random.Generator, index: int) -> SCM:
        first, second = 1.5 * rng.choice([-1.0, 1.0], size=2)
        variables = tuple(Variable(name) for name in ("X0", "X1", "Y"))
        edges = {("X0", "X1"): float(first), ("X1", "Y"): float(second)}
        return _shuffled(SCM(f"chain-{index}", "Y", variables, edges, saturate=saturate), rng)

    return sample


def _signs(system: System, index: int) -> str:
    """Chains with the same signs differ in nothing but the order of their variables."""
    assert isinstance(system, SCM)
    return "".join("+" if system.edges[edge] > 0 else "-" for edge in (("X0", "X1"), ("X1", "Y")))


def _random(
    prior: PriorConfig, graphs: Sequence[str], *variables: tuple[int, int]
) -> Callable[[np.random.Generator, int], SCM]:
    """Models of random size in a range; of several ranges in turn."""

    def sample(rng: np.random.Generator, index: int) -> SCM:
        low, high = variables[index % len(variables)]
        size = int(rng.integers(low, high + 1))
        kind = graphs[int(rng.integers(len(graphs)))]
        return sample_scm(prior, kind, size, rng, name=f"{kind}-{size}-{index}")

    return sample


def network_files() -> list[str]:
    """Names of the shipped real networks (networks/ATTRIBUTION.md), in order."""
    return sorted(
        p.name for p in (resources.files("acbo_ref") / "arena" / "networks").iterdir() if p.name.endswith(".json")
    )


def _real(rng: np.random.Generator, index: int) -> SCM:
    with resources.as_file(resources.files("acbo_ref") / "arena" / "networks" / network_files()[index]) as path:
        return _shuffled(load_scm(path), rng)


@cache
def _published(name: str) -> System:
    return PUBLISHED[name].make()


def _cbo(rng: np.random.Generator, index: int) -> System:
    return _published(list(PUBLISHED)[index % len(PUBLISHED)])


def _process(rng: np.random.Generator, index: int) -> System:
    return PROCESSES[index % len(PROCESSES)](rng)


def _is_inside(model: SCM) -> bool:
    """Whether the best action lies inside a domain, by a coarse search."""
    batch = stack([model])
    variable, value, _ = oracle(batch, _COARSE_DRAWS, _COARSE_DRAWS, _COARSE_GRID)
    low, high = batch.low[0, variable[0]], batch.high[0, variable[0]]
    return bool(low + 0.05 * (high - low) < value[0] < high - 0.05 * (high - low))


_COARSE_DRAWS, _COARSE_GRID = 64, 21


def _curved(rng: np.random.Generator, index: int) -> SCM:
    """Of every two systems one has its best action inside a domain."""
    while True:
        model = _random(_CURVED, _ALL_GRAPHS, (3, 8))(rng, index)
        if index % 2 or _is_inside(model):
            return model


def _null(rng: np.random.Generator, index: int) -> SCM:
    """A model in which nothing that can be set moves the target: its causes are out of reach, and
    2 to 4 levers follow what happens, as operators do."""
    model = _random(_MIXED, _ALL_GRAPHS, (3, 6))(rng, index)
    variables = [replace(v, manipulable=False) for v in model.variables]
    edges = dict(model.edges)
    for n in range(int(rng.integers(2, 5))):
        variables.append(Variable(f"L{n}"))
        followed = rng.permutation(len(model.names))[: int(rng.integers(0, 3))]
        edges |= {(model.names[i], f"L{n}"): float(rng.choice([-1, 1]) * rng.uniform(0.3, 1.5)) for i in followed}
    return _shuffled(replace(model, variables=tuple(variables), edges=edges), rng)


_CURVED = PriorConfig(standardised=0.5, curved=1.0, weight=(0.1, 1.0))
_RAW, _STANDARDISED = PriorConfig(standardised=0.0), PriorConfig(standardised=1.0)
_MIXED, _NONLINEAR = PriorConfig(standardised=0.5), PriorConfig(standardised=0.5, nonlinear=1.0)
_ALL_GRAPHS = ("chain", "fork", "collider", "tree", "layered", "erdos_renyi", "scale_free")
SUITES: dict[str, SuiteSpec] = {
    spec.name: spec
    for spec in (
        SuiteSpec("seed", 1, "chain of 3, weights +-1.5, unit noise, saturating at [-5, 5]", _seed_chain(True),
                  cluster=_signs),
        SuiteSpec("seed-linear", 2, "the same without saturation: the root is the best lever", _seed_chain(False),
                  cluster=_signs),
        SuiteSpec("simple", 3, "raw chains and forks of 3-4 variables", _random(_RAW, ("chain", "fork"), (3, 4))),
        SuiteSpec("medium", 4, "raw chains, forks, colliders, trees and Erdos-Renyi graphs of 5-7 variables",
                  _random(_RAW, ("chain", "fork", "collider", "tree", "erdos_renyi"), (5, 7))),
        SuiteSpec("complex", 5, "raw Erdos-Renyi and scale-free graphs of 8-10 variables",
                  _random(_RAW, ("erdos_renyi", "scale_free"), (8, 10))),
        SuiteSpec("standardised", 6, "unit-variance models of 3-12 variables on all graph families",
                  _random(_STANDARDISED, _ALL_GRAPHS, (3, 12))),
        SuiteSpec("cold", 7, "raw and unit-variance models of 3-8 variables, with 3 observational rows only",
                  _random(_MIXED, _ALL_GRAPHS, (3, 8)), observations=3),
        SuiteSpec("nonlinear", 8, "models of 3-8 variables with sine mechanisms, raw and unit-variance",
                  _random(_NONLINEAR, _ALL_GRAPHS, (3, 8)), full=32, quick=8),
        SuiteSpec("wide", 9, "unit-variance trees, layered and scale-free graphs of 20, 50 and 100 variables",
                  _random(_STANDARDISED, ("tree", "layered", "scale_free"), (20, 20), (50, 50), (100, 100)), full=18, quick=3),
        SuiteSpec("real", 10, "networks fitted to real data (bnRep), 4-35 variables", _real, full=26, quick=13,
                  cluster=lambda system, index: network_files()[index].split("--")[0]),
        SuiteSpec("cbo", 11, "eight published problems of causal Bayesian optimisation, in turn", _cbo, full=32, quick=8,
                  cluster=lambda system, index: system.name),
        SuiteSpec("curved", 12, "models of 3-8 variables with curves; every second has its best action inside a domain",
                  _curved),
        SuiteSpec("process", 13, "sixteen kinds of processes, eight of each with constants of their own", _process, full=128,
                  cluster=lambda system, index: system.name),
        SuiteSpec("null", 14, "models in which no lever does anything, and some follow what happens", _null),
    )
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Suite:
    """A suite with its systems; system i draws its noise from stream `first_stream + i`."""

    name: str
    systems: tuple[System, ...]
    first_stream: int
    observations: int = DEFAULT_OBSERVATIONS
    clusters: tuple[str, ...] = ()  # what each system is a repetition of; empty: all apart

    def first(self, number: int) -> Suite:
        """The suite of its first systems only."""
        return replace(self, systems=self.systems[:number], clusters=self.clusters[:number])


@lru_cache(maxsize=8)
def load_suite(name: str, seed: int, quick: bool = False) -> Suite:
    """The systems of a named suite; kept, since the oracle of a system without a closed form takes
    a while to find.

    Raises:
        AcboError: no such suite.
    """
    if name not in SUITES:
        raise AcboError(f"no suite named {name!r}", did_you_mean(name, SUITES))
    spec = SUITES[name]
    first = spec.number * _STRIDE
    systems = [
        spec.sample(generator(seed, Role.SUITE_SYSTEMS, first + i), i)
        for i in range(spec.quick if quick else spec.full)
    ]
    clusters = tuple(spec.cluster(system, i) for i, system in enumerate(systems))
    return Suite(name, tuple(systems), first, spec.observations, clusters)


def files_suite(paths: Sequence[str | Path]) -> Suite:
    """SCM files as a suite named `files`."""
    return Suite("files", tuple(load_scm(path) for path in paths), 0)


def observations_of(suite: str, observations: int | None = None) -> int:
    """Rows before the first intervention on a suite: those asked for, or the suite's own."""
    if observations is not None:
        return observations
    return SUITES[suite].observations if suite in SUITES else DEFAULT_OBSERVATIONS
