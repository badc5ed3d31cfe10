"""A measured disturbance that makes nearly all of the target's variance:
python benchmarks/disturbance.py [SHARE [METHOD,METHOD...]]

The first 96 test systems of `medium`, and the same with one more variable D, measured, that nobody
can set and that makes SHARE (.95) of the target's variance. Who sees through it scores the same.
Methods with `_exogenous` behind their name are told that D is exogenous. Needs Numba for the
policy.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np

from acbo_fast import backend_maker
from acbo_ref.arena.metrics import summarise
from acbo_ref.arena.play import run_method
from acbo_ref.arena.suites import load_suite
from acbo_ref.systems.scm import SCM, Variable
from acbo_ref.training.checkpoint import load_checkpoint, shipped_policy

SYSTEMS, OBSERVATIONS, STEPS, SEED = 96, 20, 20, 0


def disturbed(system: SCM, share: float) -> SCM:
    """The system with a root D that makes this share of the target's variance."""
    spread = system.observational_moments[1]
    weight = float(np.sqrt(share / (1.0 - share)) * spread)
    edges = {**system.edges, ("D", system.target): weight}
    return replace(system, variables=(*system.variables, Variable("D", manipulable=False)), edges=edges)


if __name__ == "__main__":
    share = float(sys.argv[1]) if len(sys.argv) > 1 else 0.95
    methods = (
        sys.argv[2].split(",") if len(sys.argv) > 2 else ["policy", "policy_exogenous", "regress", "regress_exogenous"]
    )
    checkpoint = load_checkpoint(shipped_policy())
    backend = backend_maker("numba")(replace(checkpoint.config, dtype=None))
    state = backend.from_host(checkpoint.state)
    suite = load_suite("medium", SEED).first(SYSTEMS)
    print(f"| method | without | with D, {share:.0%} of the variance |\n| -- | -- | -- |")
    for method in methods:
        cells = []
        for systems in (suite.systems, tuple(disturbed(system, share) for system in suite.systems)):
            found = summarise(
                run_method(replace(suite, systems=systems), method, SEED, OBSERVATIONS, STEPS, backend, state)
            )
            cells.append(" / ".join(f"{found[m]['mean']:.3f}" for m in ("score", "score_first", "score_last3")))
        print(f"| {method} | {' | '.join(cells)} |", flush=True)
