"""Experiments side by side: what a campaign recommends after one to three rounds of four, and how
good what it did was, for ways of choosing the four.

    python benchmarks/batch.py [SUITE] [OBSERVATIONS] [SYSTEMS]

Shares of the best single intervention's gain, summed over systems. `in turn` does the experiments
one after the other, which a batch cannot; `repeated` takes the policy's own choice four times;
`believed` chooses each as if those before had come out as predicted (kriging believer, Ginsbourger,
Le Riche & Carraro 2010; the other variables lie where lines through the past rows put them);
`distinct` takes the policy's choice among variables not yet taken; `drawn` is what
`acbo campaign ask --batch` does. Needs Numba.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np

from acbo_fast import backend_maker
from acbo_ref.arena.play import draw_episodes
from acbo_ref.arena.suites import load_suite
from acbo_ref.campaign.asking import next_proposal, proposal_beside
from acbo_ref.campaign.bounds import Caution
from acbo_ref.campaign.facts import Facts, Record
from acbo_ref.campaign.predictions import open_session
from acbo_ref.campaign.scales import PLAIN
from acbo_ref.campaign.settling import recommendation
from acbo_ref.errors import AcboError
from acbo_ref.training.checkpoint import load_checkpoint, shipped_policy

ROUNDS, SIZE = 3, 4
CHECKPOINT = load_checkpoint(shipped_policy())
BACKEND = backend_maker("numba")(replace(CHECKPOINT.config, dtype=None))
STATE = BACKEND.from_host(CHECKPOINT.state)


def session_of(facts):
    return open_session(facts, BACKEND, STATE)


def begin(system, observations) -> Facts:
    names = tuple(system.names)
    domains = zip(system.low, system.high, system.manipulable, strict=True)
    return Facts(
        system.target, "minimize", names, tuple((float(a), float(b)) if m else None for a, b, m in domains), None,
        CHECKPOINT.sha256, (1.0, 1.0), {}, {f"o{n}": Record((), row.tolist()) for n, row in enumerate(observations)},
        frozenset(), {}, (1.0,) * len(names), (PLAIN,) * len(names),
    )  # fmt: skip


def told(facts: Facts, proposal, row) -> Facts:
    record = Record((facts.variables.index(proposal.variable),), [float(x) for x in row])
    return replace(facts, records={**facts.records, proposal.id: record})


def believed(facts: Facts) -> Facts:
    session, past = session_of(facts), facts.observations
    for p in facts.pending:
        i = facts.variables.index(p.variable)
        row = [np.polyval(np.polyfit(past[:, i], column, 1), p.value) for column in past.T]
        row[i], row[facts.target_index] = p.value, session.predict(np.array([i]), np.array([p.value]))[0][0]
        facts = told(facts, p, row)
    return facts


def asked(facts: Facts, way: str) -> Facts:
    """With one more proposal."""
    if way == "drawn":
        p = proposal_beside(facts, session_of(facts), Caution())
    elif way == "believed":
        later = believed(facts)
        p = next_proposal(later, session_of(later), Caution())
    else:
        done = replace(facts, proposals={}) if way == "repeated" else facts
        p = replace(next_proposal(done, session_of(facts), Caution()), id=f"e{len(facts.proposals) + 1}")
    return replace(facts, proposals={**facts.proposals, p.id: p})


def play(system, observations, noise, way: str):
    """True expectations of what is recommended after each round, and of everything done."""
    facts, done, recommended = begin(system, observations), [], []
    for _ in range(ROUNDS):
        for _ in range(SIZE if way == "in turn" else 1):
            for _ in range(1 if way == "in turn" else SIZE):
                try:
                    facts = asked(facts, way)
                except AcboError:  # no variable is left
                    break
            for p in facts.pending:
                i = facts.variables.index(p.variable)
                facts = told(facts, p, system.simulate(noise[len(done) : len(done) + 1], i, p.value)[0])
                done.append((i, p.value))
        best = recommendation(facts, session_of(facts))
        recommended.append((facts.variables.index(best.variable), best.value))
    found = [system.expected_target(*map(np.array, zip(*actions, strict=True))) for actions in (recommended, done)]
    return [*found[0], found[1].mean()]


def main(name: str, observations: int, count: int) -> None:
    episodes = draw_episodes(load_suite(name, 7), 7, observations, ROUNDS * SIZE)
    print(
        f"{name}, {observations} past rows, {count} systems\n           recommended after 1, 2, 3 rounds   of what was done"
    )
    for way in ("in turn", "repeated", "believed", "distinct", "drawn"):
        gains, best = np.zeros(ROUNDS + 1), 0.0
        for s in range(count):
            system = episodes.systems[s]
            nothing = system.expected_target(np.array([-1]), np.zeros(1))[0]
            gains += nothing - np.array(play(system, episodes.observations[s], episodes.noise[s], way))
            best += nothing - system.oracle.expected
        shares = gains / best
        print(f"{way:10s} {shares[0]:9.3f} {shares[1]:9.3f} {shares[2]:9.3f} {shares[3]:17.3f}", flush=True)


if __name__ == "__main__":
    given = sys.argv[1:]
    main(
        given[0] if given else "standardised",
        int(given[1]) if len(given) > 1 else 8,
        int(given[2]) if len(given) > 2 else 100,
    )
