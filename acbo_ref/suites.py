"""Evaluation suites: named sets of unknown systems, a function of (suite, seed) and nothing else.

Their models come from streams of random numbers that training never uses (Role.SUITE_PROBLEMS).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acbo_ref.config import PriorConfig
from acbo_ref.errors import AcboError, did_you_mean
from acbo_ref.graphs import sample_scm
from acbo_ref.randomness import Role, generator
from acbo_ref.scm import SCM, System, Variable
from acbo_ref.scm_files import load_scm

# Models in a suite, and in its quick version.
FULL_SIZE, QUICK_SIZE = 64, 16
# Streams of two suites must not meet: suite number * this + model number.
_STRIDE = 2**20


@dataclass(frozen=True)
class SuiteSpec:
    """One suite: what it holds, in a line, and how model `index` of it is made from a generator."""

    name: str
    number: int
    description: str
    sample: Callable[[np.random.Generator, int], System]


def _seed_chain(saturate: bool) -> Callable[[np.random.Generator, int], SCM]:
    def sample(rng: np.random.Generator, index: int) -> SCM:
        first, second = 1.5 * rng.choice([-1.0, 1.0], size=2)
        edges = {("X0", "X1"): float(first), ("X1", "Y"): float(second)}
        order = rng.permutation(3)  # a position must tell nothing
        variables = tuple(Variable(("X0", "X1", "Y")[i]) for i in order)
        return SCM(f"chain-{index}", "Y", variables, edges, saturate=saturate)

    return sample


def _random(
    prior: PriorConfig, graphs: Sequence[str], variables: tuple[int, int]
) -> Callable[[np.random.Generator, int], SCM]:
    def sample(rng: np.random.Generator, index: int) -> SCM:
        size = int(rng.integers(variables[0], variables[1] + 1))
        kind = graphs[int(rng.integers(len(graphs)))]
        return sample_scm(prior, kind, size, rng, name=f"{kind}-{size}-{index}")

    return sample


_RAW, _STANDARDISED = PriorConfig(standardised=0.0), PriorConfig(standardised=1.0)
_ALL_GRAPHS = ("chain", "fork", "collider", "tree", "layered", "erdos_renyi", "scale_free")

SUITES: dict[str, SuiteSpec] = {
    spec.name: spec
    for spec in (
        SuiteSpec("seed", 1, "chain of 3, weights +-1.5, unit noise, saturating at [-5, 5]", _seed_chain(True)),
        SuiteSpec("seed-linear", 2, "the same without saturation: the root is the best lever", _seed_chain(False)),
        SuiteSpec("simple", 3, "raw chains and forks of 3-4 variables", _random(_RAW, ("chain", "fork"), (3, 4))),
        SuiteSpec("medium", 4, "raw chains, forks, colliders, trees and Erdos-Renyi graphs of 5-7 variables",
                  _random(_RAW, ("chain", "fork", "collider", "tree", "erdos_renyi"), (5, 7))),
        SuiteSpec("complex", 5, "raw Erdos-Renyi and scale-free graphs of 8-10 variables",
                  _random(_RAW, ("erdos_renyi", "scale_free"), (8, 10))),
        SuiteSpec("standardised", 6, "unit-variance models of 3-12 variables on all graph families",
                  _random(_STANDARDISED, _ALL_GRAPHS, (3, 12))),
    )
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Suite:
    """A suite with its systems; system i draws its noise from stream `first_stream + i`."""

    name: str
    systems: tuple[System, ...]
    first_stream: int


def load_suite(name: str, seed: int, quick: bool = False) -> Suite:
    """The systems of a named suite.

    Raises:
        AcboError: no such suite.
    """
    if name not in SUITES:
        raise AcboError(f"no suite named {name!r}", did_you_mean(name, SUITES))
    spec = SUITES[name]
    first = spec.number * _STRIDE
    systems = [
        spec.sample(generator(seed, Role.SUITE_PROBLEMS, first + i), i)
        for i in range(QUICK_SIZE if quick else FULL_SIZE)
    ]
    return Suite(name, tuple(systems), first)


def files_suite(paths: Sequence[str | Path]) -> Suite:
    """SCM files as a suite named `files`."""
    return Suite("files", tuple(load_scm(path) for path in paths), 0)
