"""What the channels of curvature are worth: python benchmarks/bends.py [SEED [EPISODES]]

Trains the pairwise network twice under the prior of `foundation`, on 3 to 10 variables, once with
these channels held at 0; the systems, their noise and all else are the same. Prints the mean
difference of the outcome head's loss by quarter of the run with its standard error over iterations,
then all / first / last three / simple regret on validation systems (evaluation seed 1000). Some ten
minutes on two cores. Needs Numba.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from acbo_fast import backend_maker
from acbo_fast.numba.policy import reading
from acbo_ref.arena.metrics import summarise
from acbo_ref.arena.play import run_method
from acbo_ref.arena.suites import load_suite, observations_of
from acbo_ref.config import load_config
from acbo_ref.policy.pairs import OBSERVED_CHANNELS
from acbo_ref.training.trainer import Trainer

VALIDATION_SEED = 1000
SUITES = {"process": 48, "curved": 128, "standardised": 96, "medium": 96, "nonlinear": 96}
METRICS = ("score", "score_first", "score_last3", "simple_regret")
# Where they stand in the table: of the observational rows, and of own rows.
BENDS = [*range(11, 17), *range(OBSERVED_CHANNELS + 6, OBSERVED_CHANNELS + 11)]
PAIR_CHANNELS_KERNEL = reading.pair_channels
FAMILIES = "[chain, fork, collider, tree, layered, erdos_renyi, scale_free, sparse]"
STAGE = f"curriculum.stages=[{{name: all, variables: [3, 10], graphs: {FAMILIES}}}]"


def without_bends(*arguments: Any) -> None:
    """The table of pairs, with these channels at 0."""
    PAIR_CHANNELS_KERNEL(*arguments)
    arguments[-1][..., BENDS] = 0.0


def trained(seed: int, episodes: int) -> tuple[np.ndarray, Any]:
    """Losses of the outcome head, and the trainer."""
    config = load_config(
        "foundation", [f"seed={seed}", f"total_episodes={episodes}", STAGE, "curriculum.size_buckets=2"]
    )
    trainer, losses = Trainer(config, backend_maker("numba")(config)), []
    trainer.train(lambda record: losses.append(record["outcome_loss"]))
    return np.array(losses), trainer


def line(trainer: Any, name: str, number: int) -> str:
    """The scores on the first systems of a suite."""
    backend, few = trainer.backend, load_suite(name, VALIDATION_SEED).first(number)
    state = backend.from_host(trainer.checkpoint().state)
    found = summarise(run_method(few, "outcome_head", VALIDATION_SEED, observations_of(name), 20, backend, state))
    return " / ".join(f"{found[metric]['mean']:.3f}" for metric in METRICS)


if __name__ == "__main__":
    seed, episodes = (int(sys.argv[n]) if len(sys.argv) > n else default for n, default in ((1, 42), (2, 12_800)))
    with_bends, first = trained(seed, episodes)
    lines = {name: [line(first, name, number)] for name, number in SUITES.items()}
    reading.pair_channels = without_bends
    without, second = trained(seed, episodes)
    for quarter in np.array_split(with_bends - without, 4):
        print(f"outcome loss {quarter.mean():+.3f} +- {quarter.std() / np.sqrt(len(quarter)):.3f}")
    print("| suite | with | without |\n| -- | -- | -- |")
    for name, number in SUITES.items():
        print(f"| {name} | {lines[name][0]} | {line(second, name, number)} |")
