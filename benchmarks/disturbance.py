"""A measured disturbance that makes nearly all of the target's variance:
python benchmarks/disturbance.py [--suite medium] [--seed 0] [--share 0.95] [--methods A,B]

The first 96 systems of a suite, and the same with one more variable D, measured, that nobody can
set and that makes SHARE of the target's variance. Who sees through it scores the same. In the last
column an operator follows D with a lever that acts on the target, by -1 a unit. Methods with
`_exogenous` behind their name are told that D is exogenous. Needs Numba for the policy.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from acbo_fast import backend_maker
from acbo_ref.arena.metrics import summarise
from acbo_ref.arena.play import run_method
from acbo_ref.arena.suites import load_suite, observations_of
from acbo_ref.systems.scm import SCM, Variable
from acbo_ref.training.checkpoint import load_checkpoint, shipped_policy

SYSTEMS, STEPS = 96, 20
METHODS = "policy,policy_exogenous,regress,regress_exogenous"


def disturbed(system: SCM, share: float) -> SCM:
    """The system with a root D that makes this share of the target's variance."""
    spread = system.observational_moments[1]
    weight = float(np.sqrt(share / (1.0 - share)) * spread)
    edges = {**system.edges, ("D", system.target): weight}
    return replace(system, variables=(*system.variables, Variable("D", manipulable=False)), edges=edges)


def followed(system: SCM) -> SCM:
    """The same with a lever that follows D: a parent of the target, or where none can be set, the
    first that can.
    """
    levers = [v.name for v in system.variables if v.manipulable]
    parents = [parent for parent, child in system.edges if child == system.target and parent in levers]
    return replace(system, edges={**system.edges, ("D", (parents or levers)[0]): -1.0})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="medium")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=0.95)
    parser.add_argument("--methods", default=METHODS)
    given = parser.parse_args()
    checkpoint = load_checkpoint(shipped_policy())
    backend = backend_maker("numba")(replace(checkpoint.config, dtype=None))
    state = backend.from_host(checkpoint.state)
    suite = load_suite(given.suite, given.seed).first(SYSTEMS)
    plain = tuple(system for system in suite.systems if isinstance(system, SCM))
    hidden = tuple(disturbed(system, given.share) for system in plain)
    print(f"| `{given.suite}` | without | with D, {given.share:.0%} of the variance | and a lever that follows it |")
    print("| -- | -- | -- | -- |")
    for method in given.methods.split(","):
        cells = []
        for systems in (plain, hidden, tuple(map(followed, hidden))):
            results = run_method(
                replace(suite, systems=systems), method, given.seed, observations_of(given.suite), STEPS, backend, state
            )
            found = summarise(results)
            cells.append(" / ".join(f"{found[m]['mean']:.3f}" for m in ("score", "score_first", "score_last3")))
        print(f"| `{method}` | {' | '.join(cells)} |", flush=True)
