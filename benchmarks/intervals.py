"""How often a campaign's 90 % intervals cover: the next measured outcome, and the true expectation,
suite by suite.

    python benchmarks/intervals.py [CHECKPOINT]

The policy plays 20 interventions on every system of a suite as `acbo evaluate` does; intervals are
those of `acbo campaign` (the outcome head's, times the factor fixed when a campaign is created).
"""

from __future__ import annotations

import sys

import numpy as np

from acbo_ref.arena.play import batch_task, draw_episodes
from acbo_ref.arena.suites import load_suite
from acbo_ref.backend import ReferenceBackend
from acbo_ref.campaign.calibration import QUANTILE, calibrate
from acbo_ref.training.checkpoint import load_checkpoint, shipped_policy

SUITES = ("simple", "standardised", "cold", "nonlinear", "real")
STEPS = 20


def main(path: str) -> None:
    checkpoint = load_checkpoint(path)
    outcome_factor, expectation_factor = calibrate(checkpoint)
    print(f"factors: outcome {outcome_factor:.3f}, expectation {expectation_factor:.3f}")
    print("suite          outcomes covered   of step 1   of the last 3   expectations covered")
    for name in SUITES:
        suite = load_suite(name, 0)
        episodes = draw_episodes(suite, 0, suite.observations, STEPS)
        task = batch_task(episodes.systems, episodes.observations)
        backend = ReferenceBackend(checkpoint.config)
        session = backend.session(backend.from_host(checkpoint.state), task, STEPS)
        outcome, expectation = np.zeros((2, STEPS, len(episodes.systems)), bool)
        for k in range(STEPS):
            decision = session.decide()
            rows = np.zeros(task.valid.shape)
            for s, system in enumerate(episodes.systems):
                action = int(decision.variable[s]), float(decision.value[s])
                row = system.simulate(episodes.noise[s][k : k + 1], *action)[0]
                rows[s, : len(row)] = row
                truth = system.expected_target(np.array([action[0]]), np.array([action[1]]))[0]
                margin = QUANTILE * decision.outcome_error[s] * expectation_factor
                expectation[k, s] = abs(truth - decision.outcome_mean[s]) <= margin
            measured = np.take_along_axis(rows, task.target[:, None], axis=1)[:, 0]
            margins = QUANTILE * decision.outcome_std * outcome_factor
            outcome[k] = np.abs(measured - decision.outcome_mean) <= margins
            session.observe(decision.variable, rows)
        shares = (outcome.mean(), outcome[0].mean(), outcome[-3:].mean(), expectation.mean())
        print(f"{name:14s} {shares[0]:12.3f} {shares[1]:15.3f} {shares[2]:12.3f} {shares[3]:18.3f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(shipped_policy()))
