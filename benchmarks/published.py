"""Our baselines on the problems for which other people's figures are known: prints the tables of
benchmarks/README.md.

    python benchmarks/published.py [--systems 64]

Needs the extras gp and optuna. The figures in column "published" were measured elsewhere on systems
of the same kind, not on these: agreement is to be expected within noise, here given as the standard
error over systems.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from acbo_ref.arena.play import run_method
from acbo_ref.arena.published import PUBLISHED
from acbo_ref.arena.suites import Suite, load_suite
from acbo_ref.config import PriorConfig
from acbo_ref.randomness import Role, generator
from acbo_ref.systems.graphs import GRAPHS
from acbo_ref.systems.prior import sample_scm
from acbo_ref.systems.scm import System

# Streams of random numbers of their own, beyond those of the suites.
FIRST_STREAM = 2**30

RECOMMENDED = {  # share of the optimum that the recommended action reaches after 10, 20 and 30 interventions
    "random": (0.51, 0.67, 0.73),
    "optuna": (0.47, 0.74, 0.90),
    "gp": (0.43, 0.83, 0.83),
    "endpoints": (0.95, 0.97, 0.97),
}
TOY_GRAPH = {"gp": -1.54, "optuna": -1.34, "random": -1.29, "endpoints": -0.91}
SCORES = {  # (all steps, first, last three)
    "raw, 3-5 variables": {"endpoints": (0.63, 0.04, 0.89), "regress": (0.979, 0.945, 0.981)},
    "standardised, 3-12 variables": {"endpoints": (0.29, -0.03, 0.60), "regress": (0.946, 0.677, 0.983)},
    "real, at most 16 variables": {"endpoints": (0.12, -0.02, 0.28), "regress": (0.849, 0.591, 0.949)},
    "real, 17-46 variables": {"endpoints": (0.01, 0.02, 0.00), "regress": (0.812, 0.501, 0.929)},
}


def random_suite(prior: PriorConfig, graphs: Sequence[str], sizes: tuple[int, int], count: int, stream: int) -> Suite:
    """Random models with streams of their own."""
    systems = []
    for n in range(count):
        rng = generator(0, Role.SUITE_SYSTEMS, stream + n)
        size = int(rng.integers(sizes[0], sizes[1] + 1))
        systems.append(sample_scm(prior, graphs[int(rng.integers(len(graphs)))], size, rng))
    return Suite("published", tuple(systems), stream)


def mean_and_error(x: np.ndarray) -> str:
    return f"{x.mean():.2f} ± {x.std(ddof=1) / np.sqrt(len(x)):.2f}"


def recommended(suite: Suite, method: str, steps: int) -> np.ndarray:
    """(S,) expected target of the recommendation after `steps` interventions."""
    return run_method(suite, method, 0, suite.observations, steps, None, None).recommended


def main(count: int) -> None:
    raw = PriorConfig(standardised=0.0, target="last")
    suite = random_suite(raw, ("erdos_renyi",), (5, 5), count, FIRST_STREAM)
    optimum = np.array([system.oracle.expected for system in suite.systems])
    print(
        "| recommendation, share of the optimum | after 10 | after 20 | after 30 | published |\n|---|---|---|---|---|"
    )
    for method, published in RECOMMENDED.items():
        ours = [mean_and_error(recommended(suite, method, steps) / optimum) for steps in (10, 20, 30)]
        print(f"| {method} | {' | '.join(ours)} | {', '.join(map(str, published))} |", flush=True)

    toy: list[System] = [PUBLISHED["ToyGraph"].make()] * count
    suite = Suite("toy", tuple(toy), FIRST_STREAM + 2**16)
    print(f"\n| ToyGraph (optimum {toy[0].oracle.expected:.2f}), after 30 | ours | published |\n|---|---|---|")
    for method, value in TOY_GRAPH.items():
        print(f"| {method} | {mean_and_error(recommended(suite, method, 30))} | {value} |", flush=True)

    graphs = tuple(GRAPHS)
    real = load_suite("real", 0).systems
    suites = [
        random_suite(PriorConfig(standardised=0.0), graphs, (3, 5), count, FIRST_STREAM + 2 * 2**16),
        random_suite(PriorConfig(standardised=1.0), graphs, (3, 12), count, FIRST_STREAM + 3 * 2**16),
        Suite("small", tuple(s for s in real if len(s.names) <= 16), FIRST_STREAM + 4 * 2**16),
        Suite("large", tuple(s for s in real if len(s.names) > 16), FIRST_STREAM + 5 * 2**16),
    ]
    print("\n| score: all steps (first, last three) | systems | method | ours | published |\n|---|---|---|---|---|")
    for (name, methods), suite in zip(SCORES.items(), suites, strict=True):
        for method, published in methods.items():
            results = run_method(suite, method, 0, suite.observations, 20, None, None)
            share = results.gain.sum(axis=0) / results.oracle_gain.sum()
            ours = f"{share.mean():.3f} ({share[0]:.3f}, {share[-3:].mean():.3f})"
            print(
                f"| {name} | {len(suite.systems)} | {method} | {ours} | {published[0]} ({published[1]}, {published[2]}) |",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", type=int, default=64, help="random systems a table")
    main(parser.parse_args().systems)
