"""What makes the first decision hard to learn: python benchmarks/first_step.py [SEED [WORD]]

Trains the pairwise network on first decisions alone (one intervention an episode, 102,400 episodes,
two minutes a row on one core) under wider and wider priors, and scores its first action on the
validation systems of `standardised` (evaluation seed 1000), without exploration. Then under the
widest prior with labels of all edges, at several weights. WORD picks the rows that contain it.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from acbo_fast import backend_maker
from acbo_ref.arena.metrics import summarise
from acbo_ref.arena.play import run_method
from acbo_ref.arena.suites import load_suite
from acbo_ref.config import load_config
from acbo_ref.training.trainer import Trainer

VALIDATION_SEED = 1000
FAMILIES = "[chain, fork, collider, tree, layered, erdos_renyi, scale_free]"
BASE = [
    "total_episodes=102400", "batch_size=256", "grpo.minibatches=4", "grpo.learned_decisions=null",
    "heads.edge_weight=0", "interventions_per_episode=1", "observations_per_episode=20", "observations_spacing=uniform",
    "scm.standardised=1.0", "scm.nonlinear=0", "scm.saturate=0", "scm.varied=0", "scm.manipulable=1.0",
    f"curriculum.stages=[{{name: all, variables: [3, 12], graphs: {FAMILIES}}}]", "curriculum.size_buckets=2",
]  # fmt: skip
RAW, ROWS, VARIED = "scm.standardised=0.5", "observations_per_episode=[2, 200]", "scm.varied=0.5"
WIDEST = [RAW, ROWS, VARIED, "observations_spacing=logarithmic"]
VARIANTS = {
    "the suite's own prior": [],
    "and raw systems, half of all": [RAW],
    "and 2 to 200 rows": [RAW, ROWS, "observations_spacing=logarithmic"],
    "raw and varied systems, 20 rows": [RAW, VARIED],
    "the first, labels weigh the same": ["heads.label_weight=0"],
    "all three, no labels of edges": WIDEST,
    **{f"all three, labels of edges at weight {w}": [*WIDEST, f"heads.edge_weight={w}"] for w in (1, 3, 10)},
}


def first_score(config_overrides: list[str], seed: int) -> float:
    """Gain of the first action on all systems of the suite, as a share of the oracle's."""
    config = load_config("foundation", [*BASE, *config_overrides, f"seed={seed}"])
    trainer = Trainer(config, backend_maker("numba")(config))
    trainer.train()
    greedy = replace(config, optimism=0.0)
    backend, suite = backend_maker("numba")(greedy), load_suite("standardised", VALIDATION_SEED)
    state = backend.from_host(trainer.checkpoint().state)
    played = run_method(suite, "outcome_head", VALIDATION_SEED, 20, 1, backend, state)
    return float(summarise(played)["score_first"]["mean"])


if __name__ == "__main__":
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 42
    word = sys.argv[2] if len(sys.argv) > 2 else ""
    print("| training systems | first step |\n| -- | -- |")
    for name, overrides in VARIANTS.items():
        if word not in name:
            continue
        print(f"| {name} | {first_score(overrides, seed):.3f} |", flush=True)
