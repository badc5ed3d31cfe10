"""How often a campaign's 90 % intervals cover: the next measured outcome, and the true expectation,
suite by suite; and how often its monitor raises an alarm.

    python benchmarks/intervals.py [CHECKPOINT]

The policy plays 20 interventions on every system of a suite; intervals are those of `acbo campaign`
(the outcome head's, times the factor fixed when a campaign is created, times what the campaign's
own hits and misses make of it).
"""

from __future__ import annotations

import sys

import numpy as np

from acbo_fast import backend_maker
from acbo_ref.arena.play import batch_task, draw_episodes
from acbo_ref.arena.suites import load_suite
from acbo_ref.campaign.calibration import QUANTILE, calibrate
from acbo_ref.campaign.facts import COVERAGE, WIDENING
from acbo_ref.campaign.monitor import ALARM_LEVEL, evidence_against
from acbo_ref.training.checkpoint import load_checkpoint, shipped_policy

SUITES = ("simple", "standardised", "cold", "nonlinear", "real", "curved", "process", "null")
STEPS = 20


def main(path: str) -> None:
    checkpoint = load_checkpoint(path)
    outcome_factor, expectation_factor = calibrate(checkpoint)
    print(f"factors: outcome {outcome_factor:.3f}, expectation {expectation_factor:.3f}")
    print("| suite | outcomes, fixed factor | outcomes | first step | last three | expectations | alarms |")
    print("|" + " -- |" * 7)
    for name in SUITES:
        suite = load_suite(name, 0)
        episodes = draw_episodes(suite, 0, suite.observations, STEPS)
        task, count = batch_task(episodes.systems, episodes.observations), len(episodes.systems)
        backend = backend_maker("numba")(checkpoint.config)
        session = backend.session(backend.from_host(checkpoint.state), task, STEPS)
        plain, outcome, expectation = np.zeros((3, STEPS, count), bool)
        missed, worse, log_width, alarm = np.zeros(count), np.zeros(count), np.zeros(count), np.zeros(count, bool)
        for k in range(STEPS):
            decision = session.decide()
            rows, truth = np.zeros(task.valid.shape), np.zeros(count)
            for s, system in enumerate(episodes.systems):
                action = int(decision.variable[s]), float(decision.value[s])
                row = system.simulate(episodes.noise[s][k : k + 1], *action)[0]
                rows[s, : len(row)] = row
                truth[s] = system.expected_target(np.array([action[0]]), np.array([action[1]]))[0]
            measured = np.take_along_axis(rows, task.target[:, None], axis=1)[:, 0]
            margin, width = QUANTILE * decision.outcome_std * outcome_factor, np.exp(log_width)
            off = np.abs(measured - decision.outcome_mean)
            plain[k], outcome[k] = off <= margin, off <= margin * width
            sure = QUANTILE * decision.outcome_error * expectation_factor * width
            expectation[k] = np.abs(truth - decision.outcome_mean) <= sure
            missed += ~outcome[k]
            worse += measured > decision.outcome_mean
            log_width += WIDENING * (~outcome[k] - (1.0 - COVERAGE))
            for s in range(count):
                tests = evidence_against(1 - COVERAGE, missed[s], k + 1), evidence_against(0.5, worse[s], k + 1)
                alarm[s] |= max(tests) >= 2.0 / ALARM_LEVEL
            session.observe(decision.variable, rows)
        shares = (
            plain.mean(),
            outcome.mean(),
            outcome[0].mean(),
            outcome[-3:].mean(),
            expectation.mean(),
            alarm.mean(),
        )
        print(f"| `{name}` | " + " | ".join(f"{share:.3f}" for share in shares) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(shipped_policy()))
