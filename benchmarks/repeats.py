"""Steps spent on levers that can give next to nothing:
python benchmarks/repeats.py [METHOD [SUITE...]]

Share of all steps that are the fourth or a later trial of a lever whose best setting gains less
than a tenth of what the best lever could. Test seed 0. Needs Numba for the policy.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np

from acbo_fast import backend_maker
from acbo_ref.arena.play import run_method
from acbo_ref.arena.suites import SUITES, load_suite, observations_of
from acbo_ref.training.checkpoint import load_checkpoint, shipped_policy

STEPS, SEED, GRID, TRIALS, SMALL = 20, 0, 21, 3, 0.1


def futile(system) -> np.ndarray:
    """(V,) bool: levers that cannot give a tenth of the best gain, where anything can be gained."""
    system = system.minimised()
    usual, best = system.observational_moments[0], np.full(len(system.names), np.inf)
    for i in np.flatnonzero(system.manipulable):
        values = np.linspace(system.low[i], system.high[i], GRID)
        best[i] = system.expected_target(np.full(GRID, i), values).min()
    return np.asarray(usual - best < SMALL * (usual - system.oracle.expected))


if __name__ == "__main__":
    method = sys.argv[1] if len(sys.argv) > 1 else "policy"
    checkpoint = load_checkpoint(shipped_policy())
    backend = backend_maker("numba")(replace(checkpoint.config, dtype=None))
    state = backend.from_host(checkpoint.state)
    print(f"| suite | steps of {method} on a fourth or later trial of a futile lever |\n| -- | -- |")
    for name in sys.argv[2:] or [n for n in SUITES if n not in ("null", "wide")]:
        suite, wasted = load_suite(name, SEED), []
        played = run_method(suite, method, SEED, observations_of(name), STEPS, backend, state)
        for s, system in enumerate(suite.systems):
            chosen, bad = played.variable[s], futile(system)
            for k, i in enumerate(chosen):
                wasted.append(i >= 0 and bad[i] and (chosen[:k] == i).sum() >= TRIALS)
        print(f"| {name} | {np.mean(wasted):.2%} |", flush=True)
