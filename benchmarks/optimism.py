"""What `optimism` does: python benchmarks/optimism.py [CHECKPOINT]

All / first / last three steps of the shipped policy's outcome head on the validation systems
(evaluation seed 1000), for several numbers of standard errors that it subtracts; and of its policy
head.
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
SUITES = ("simple", "medium", "complex", "standardised", "cold", "nonlinear", "curved", "process")
OPTIMISM = (0.0, 0.75, 1.0, 1.5, 2.0)


def main() -> None:
    checkpoint = load_checkpoint(sys.argv[1] if len(sys.argv) > 1 else shipped_policy())
    print("| optimism | " + " | ".join(SUITES) + " |\n|" + " -- |" * (len(SUITES) + 1))
    for method, optimism in [*(("outcome_head", o) for o in OPTIMISM), ("policy_head", 0.0)]:
        config = replace(checkpoint.config, optimism=optimism)
        backend, cells = backend_maker("numba")(config), []
        for name in SUITES:
            suite, rows = load_suite(name, VALIDATION_SEED), observations_of(name)
            state = backend.from_host(checkpoint.state)
            found = summarise(run_method(suite, method, VALIDATION_SEED, rows, STEPS, backend, state))
            keys = ("score", "score_first", "score_last3")
            cells.append(" / ".join(f"{found[key]['mean']:.3f}" for key in keys))
        label = f"{optimism:g}" if method == "outcome_head" else "policy head"
        print(f"| {label} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
