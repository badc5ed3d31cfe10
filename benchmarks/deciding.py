"""How the outcome head should decide: python benchmarks/deciding.py [CHECKPOINT [SYSTEMS]]

All / first / last three steps of the shipped policy on the first validation systems of each suite
(evaluation seed 1000): for several numbers of standard errors that are subtracted (`optimism`), for
several distances beyond what was seen (`extrapolation`), and of its policy head.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from acbo_fast import backend_maker
from acbo_ref.arena.metrics import summarise
from acbo_ref.arena.play import run_method
from acbo_ref.arena.suites import load_suite, observations_of
from acbo_ref.training.checkpoint import load_checkpoint, shipped_policy

VALIDATION_SEED, STEPS = 1000, 20
SUITES = ("medium", "complex", "standardised", "cold", "nonlinear", "curved", "process")
VARIANTS: dict[str, dict[str, float | None]] = {
    **{f"optimism {o:g}": {"optimism": o} for o in (0.0, 0.5, 1.0, 1.5)},
    **{f"extrapolation {d}": {"extrapolation": d} for d in (3.0, 4.0, 5.0, 6.0, 8.0, None)},
    "policy head": {},
}


def main() -> None:
    checkpoint = load_checkpoint(sys.argv[1] if len(sys.argv) > 1 else shipped_policy())
    number = int(sys.argv[2]) if len(sys.argv) > 2 else 96
    print("| decision | " + " | ".join(SUITES) + " |\n|" + " -- |" * (len(SUITES) + 1))
    for label, changes in VARIANTS.items():
        backend, cells = backend_maker("numba")(replace(checkpoint.config, **changes)), []
        for name in SUITES:
            few, rows = load_suite(name, VALIDATION_SEED).first(number), observations_of(name)
            method = "policy_head" if label == "policy head" else "outcome_head"
            state = backend.from_host(checkpoint.state)
            found = summarise(run_method(few, method, VALIDATION_SEED, rows, STEPS, backend, state))
            keys = ("score", "score_first", "score_last3")
            cells.append(" / ".join(f"{found[key]['mean']:.3f}" for key in keys))
        print(f"| {label} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
