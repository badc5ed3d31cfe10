"""How often a campaign's 90 % intervals cover: the next measured outcome, and the true expectation,
suite by suite; and how often its monitor raises an alarm.

    python benchmarks/intervals.py [CHECKPOINT]
    python benchmarks/intervals.py broken [CHECKPOINT]

The policy plays 20 interventions on every system of a suite; intervals are those of `acbo campaign`
(the outcome head's, times the factor fixed when a campaign is created, times what the campaign's
own hits and misses make of it).

`broken`: the same on the first 128 systems of `medium`, with experiments that break what the policy
takes for granted. D is the standard deviation of the target when nothing is set. Truth is then
that of the whole system, so only outcomes and alarms are printed.
"""

from __future__ import annotations

import sys

import numpy as np

from acbo_fast import backend_maker
from acbo_ref.arena.play import batch_task, draw_episodes
from acbo_ref.arena.suites import Suite, load_suite
from acbo_ref.arrays import Array
from acbo_ref.campaign.calibration import QUANTILE, calibrate
from acbo_ref.campaign.facts import COVERAGE, WIDENING, Outcome
from acbo_ref.campaign.monitor import ALARM_LEVEL, evidence
from acbo_ref.training.checkpoint import Checkpoint, load_checkpoint, shipped_policy

# What becomes of the measured target at step k; `usual` is its mean when nothing is set.
BROKEN = {
    "nothing broken": lambda measured, usual, std, k, e: measured,
    "drifts by D / 4 a step": lambda measured, usual, std, k, e: measured + 0.25 * std * (k + 1),
    "was worse by 2 D all along": lambda measured, usual, std, k, e: measured + 2.0 * std,
    "breaks down at step 10, by 3 D": lambda measured, usual, std, k, e: measured + 3.0 * std * (k >= 10),
    "levers do the opposite": lambda measured, usual, std, k, e: 2.0 * usual - measured,
    "does now one, now the opposite": lambda measured, usual, std, k, e: measured if k % 2 else 2.0 * usual - measured,
    "noise of 3 D more": lambda measured, usual, std, k, e: measured + 3.0 * std * e,
}
BROKEN_SYSTEMS = 128
SUITES = ("simple", "standardised", "cold", "nonlinear", "real", "curved", "process", "null")
STEPS = 20


def watched(
    suite: Suite, checkpoint: Checkpoint, factors: tuple[float, float], broken: str = "nothing broken"
) -> Array:
    """Shares (6,) over a suite's systems and steps: outcomes within their interval by the fixed
    factor, by the campaign's own; of these the first step and the last three; expectations; alarms.
    """
    outcome_factor, expectation_factor = factors
    episodes = draw_episodes(suite, 0, suite.observations, STEPS)
    task, count = batch_task(episodes.systems, episodes.observations), len(episodes.systems)
    backend = backend_maker("numba")(checkpoint.config)
    session = backend.session(backend.from_host(checkpoint.state), task, STEPS)
    rng, moments = np.random.default_rng(0), [system.observational_moments for system in episodes.systems]
    plain, outcome, expectation = np.zeros((3, STEPS, count), bool)
    log_width, alarm = np.zeros(count), np.zeros(count, bool)
    seen: list[list[Outcome]] = [[] for _ in range(count)]
    for k in range(STEPS):
        decision = session.decide()
        rows, truth = np.zeros(task.valid.shape), np.zeros(count)
        for s, system in enumerate(episodes.systems):
            action = int(decision.variable[s]), float(decision.value[s])
            row = system.simulate(episodes.noise[s][k : k + 1], *action)[0]
            y = system.target_index
            row[y] = BROKEN[broken](row[y], *moments[s], k, rng.standard_normal())
            rows[s, : len(row)] = row
            truth[s] = system.expected_target(np.array([action[0]]), np.array([action[1]]))[0]
        measured = np.take_along_axis(rows, task.target[:, None], axis=1)[:, 0]
        margin, width = QUANTILE * decision.outcome_std * outcome_factor, np.exp(log_width)
        off = np.abs(measured - decision.outcome_mean)
        plain[k], outcome[k] = off <= margin, off <= margin * width
        sure = QUANTILE * decision.outcome_error * expectation_factor * width
        expectation[k] = np.abs(truth - decision.outcome_mean) <= sure
        log_width += WIDENING * (~outcome[k] - (1.0 - COVERAGE))
        for s in range(count):
            is_worse = bool(measured[s] > decision.outcome_mean[s])
            seen[s].append(Outcome(not outcome[k, s], is_worse, float(off[s] / margin[s])))
            alarm[s] |= evidence(seen[s]) >= 1.0 / ALARM_LEVEL
        session.observe(decision.variable, rows)
    each = plain.mean(), outcome.mean(), outcome[0].mean(), outcome[-3:].mean(), expectation.mean(), alarm.mean()
    return np.array(each)


def main(path: str, broken: bool) -> None:
    checkpoint = load_checkpoint(path)
    factors = calibrate(checkpoint)
    print(f"factors: outcome {factors[0]:.3f}, expectation {factors[1]:.3f}")
    if broken:
        print("| `medium`, but | outcomes, fixed factor | outcomes | first step | last three | alarms |")
        print("|" + " -- |" * 6)
        for kind in BROKEN:
            shares = np.delete(watched(load_suite("medium", 0).first(BROKEN_SYSTEMS), checkpoint, factors, kind), 4)
            print(f"| {kind} | " + " | ".join(f"{share:.3f}" for share in shares) + " |", flush=True)
        return
    print("| suite | outcomes, fixed factor | outcomes | first step | last three | expectations | alarms |")
    print("|" + " -- |" * 7)
    for name in SUITES:
        shares = watched(load_suite(name, 0), checkpoint, factors)
        print(f"| `{name}` | " + " | ".join(f"{share:.3f}" for share in shares) + " |", flush=True)


if __name__ == "__main__":
    asked = sys.argv[1:]
    is_broken = asked[:1] == ["broken"]
    rest = asked[1:] if is_broken else asked
    main(rest[0] if rest else str(shipped_policy()), is_broken)
