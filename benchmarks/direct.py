"""Should the more direct cause be preferred among equals? python benchmarks/direct.py [CHECKPOINT]

Decides as the shipped policy does, but among all actions whose bound lies within a share of the
best one's error of the best bound it takes the variable that is most probably a direct cause.
Prints, for several shares, score (all / first / last three steps) and how many of the actions set
direct causes, on validation systems (evaluation seed 1000).
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np

from acbo_fast import backend_maker
from acbo_ref.arena.metrics import summarise
from acbo_ref.arena.play import run_method
from acbo_ref.arena.suites import load_suite
from acbo_ref.training.checkpoint import load_checkpoint, shipped_policy

SEED, SYSTEMS, SHARES = 1000, 64, (0.0, 0.1, 0.3, 1.0)


class Preferring:
    """A backend whose sessions decide so."""

    def __init__(self, backend, optimism, share):
        self._backend, self._optimism, self._share = backend, optimism, share

    def __getattr__(self, name):
        return getattr(self._backend, name)

    def session(self, state, task, capacity):
        session, width = self._backend.session(state, task, capacity), task.valid.shape[1]
        plain, optimism, share = session.decide, self._optimism, self._share

        def decide(**settings):
            best = plain(**settings)
            parent, bound = best.parent_probability, best.outcome_mean - optimism * best.outcome_error
            limit, most = bound + share * best.outcome_error, parent[np.arange(len(bound)), best.variable].copy()
            found = replace(best, variable=best.variable.copy(), value=best.value.copy())
            for i in range(width):
                able = task.manipulable[:, i]
                only = np.where(able[:, None], np.arange(width) == i, task.manipulable)
                one = plain(**{**settings, "allowed": only})
                near = able & (one.outcome_mean - optimism * one.outcome_error <= limit) & (parent[:, i] > most)
                most = np.where(near, parent[:, i], most)
                found.variable[near], found.value[near] = i, one.value[near]
            return found

        session.decide = decide
        return session


if __name__ == "__main__":
    checkpoint = load_checkpoint(sys.argv[1] if len(sys.argv) > 1 else shipped_policy())
    backend = backend_maker("numba")(checkpoint.config)
    state = backend.from_host(checkpoint.state)
    print(
        "| suite | share of the error | score | first | last three | direct causes |\n| -- | -- | -- | -- | -- | -- |"
    )
    for name in ("seed", "standardised", "complex"):
        suite = load_suite(name, SEED)
        suite = suite.first(SYSTEMS)
        for share in SHARES:
            made = Preferring(backend, checkpoint.config.optimism, share)
            found = summarise(run_method(suite, "outcome_head", SEED, 20, 20, made, state))
            keys = ("score", "score_first", "score_last3", "parent_accuracy")
            print(f"| `{name}` | {share:g} | " + " | ".join(f"{found[k]['mean']:.3f}" for k in keys) + " |", flush=True)
