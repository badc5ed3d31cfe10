"""The monitor of a campaign's predictions, and intervals that learn from their misses."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from acbo_ref.campaign.facts import COVERAGE, WIDENING, Facts, Judged, Outcome, Proposal, Record
from acbo_ref.campaign.monitor import ALARM_LEVEL, FAR, FAR_SHARE, evidence, evidence_above, evidence_against, watch
from acbo_ref.campaign.scales import scale_of


def facts(outcomes, direction="minimize"):
    """A campaign with proposals of 0 in [-1, 1], and what was measured."""
    names = [f"e{n + 1}" for n in range(len(outcomes))]
    return Facts(
        target="y", direction=direction, variables=("x", "y"), domains=((-1.0, 1.0), None), budget=None,
        policy_sha256="", calibrated_factors=(2.0, 3.0),
        proposals={id: Proposal(id, "x", 0.5, 0.0, -1.0, 1.0, 0.5, "") for id in names},
        records={id: Record((0,), [0.5, y]) for id, y in zip(names, outcomes, strict=True) if y is not None},
        abandoned=frozenset(), notes={}, prices=(1.0, 1.0), scales=(scale_of([], "x"), scale_of([], "y")),
    )  # fmt: skip


def test_the_e_value_by_hand():
    """1 of 1 against 1 / 2 is 1; 3 of 3, (1 / 4) / (1 / 8); no miss in 2, (1 / 3) / 0.81."""
    assert evidence_against(0.5, 1, 1) == pytest.approx(1.0)
    assert evidence_against(0.5, 3, 3) == pytest.approx(2.0)
    assert evidence_against(0.1, 0, 2) == pytest.approx(1 / 3 / 0.81)


def test_the_e_value_of_a_larger_share_by_hand():
    """1 of 1 against at most 1 / 2: the mean of q / (1 / 2) over q from 1 / 2 to 1 is 3 / 2; no
    event speaks against it.
    """
    assert evidence_above(0.5, 1, 1) == pytest.approx(1.5)
    assert evidence_above(0.1, 0, 5) < 1.0
    q = np.linspace(0.1, 1.0, 200_001)
    expected = np.mean((q / 0.1) ** 3 * ((1 - q) / 0.9) ** 4)
    assert evidence_above(0.1, 3, 7) == pytest.approx(expected, rel=1e-4)


def test_the_mean_of_three_by_hand():
    seen = [Outcome(False, True, 0.4), Outcome(True, False, 1.5), Outcome(True, True, 2.5)]
    each = evidence_above(0.1, 2, 3), evidence_above(FAR_SHARE, 1, 3), evidence_against(0.5, 2, 3)
    assert evidence(seen) == pytest.approx(np.mean(each)) and FAR == 2.0


def test_what_is_seen_by_hand():
    seen = watch(facts([0.5, -0.5, 2.0, None, -3.0]))
    assert (seen.told, seen.missed, seen.worse, seen.alarm) == (4, 2, 2, False)
    assert "2 of 4 outcomes" in seen.words
    turned = watch(facts([0.5, -0.5, 2.0, None, -3.0], "maximize"))
    assert (turned.missed, turned.worse) == (2, 2)
    one_sided = watch(facts([0.1] * 12))
    assert one_sided.worse == 12 and one_sided.alarm and "does not describe" in one_sided.words
    assert watch(facts([])).told == 0


def test_an_alarm_stays_once_it_was_raised():
    """The largest e-value counts."""
    bad = [5.0, -5.0] * 4
    assert watch(facts(bad)).alarm and watch(facts(bad + [0.1, -0.1] * 30)).alarm


@pytest.mark.parametrize("length", [5, 20, 50])
def test_false_alarms_are_as_rare_as_promised(length):
    """5,000 campaigns whose predictions are right; every one is looked at after each outcome."""
    rng = np.random.default_rng(length)
    count, fired = 5000, 0
    z = rng.random((count, length))
    shares = 1 - COVERAGE, FAR_SHARE, 0.5
    seen = [np.cumsum(x, axis=1) for x in (z < shares[0], z < shares[1], rng.random((count, length)) < 0.5)]
    tests = evidence_above, evidence_above, evidence_against
    known = [
        [[test(share, k, n) for k in range(n + 1)] for n in range(1, length + 1)]
        for test, share in zip(tests, shares, strict=True)
    ]
    for c in range(count):
        most = max(np.mean([table[n][x[c, n]] for table, x in zip(known, seen, strict=True)]) for n in range(length))
        fired += most >= 1 / ALARM_LEVEL
    assert fired / count < ALARM_LEVEL


def test_a_thousand_misses_are_a_number():
    assert np.isfinite(evidence([Outcome(True, True, 9.0)] * 1000))


def test_learning_to_be_wide_hides_nothing():
    """Outcomes three half widths off, on both sides: the intervals learn, and few miss at last. The
    tests take the intervals as they were.
    """
    off = facts([3.0, -3.0] * 10)
    assert off.widening > 100.0  # had every proposal been made at once
    proposals = {id: replace(p, low=-4.0, high=4.0) for id, p in off.proposals.items()}
    found = watch(replace(off, proposals=proposals, judged=dict.fromkeys(proposals, Judged(1.0, 4.0))))
    assert found.missed == 0 and found.alarm and "20 of 20 outcomes lay outside its own" in found.words


def test_a_journal_knows_how_wide_intervals_were(tmp_path, policy):
    """Of a proposal what was learnt when it was asked for, not when it was told."""
    from campaign_crashes import create

    campaign = create(tmp_path / "c", policy)
    first = campaign.ask()
    campaign.tell(first.id, {"y": 1e3}, yes=True)
    second, third = campaign.ask(), campaign.ask(another=True)
    for proposal in (third, second):
        campaign.tell(proposal.id, {"y": proposal.predicted}, yes=True)
    found = campaign._read()
    after_a_miss = math.exp(WIDENING * COVERAGE)
    assert [found.judged[id].widening for id in ("e1", "e2", "e3")] == pytest.approx([1.0, after_a_miss, after_a_miss])
    assert found.judged["e2"].half == pytest.approx((second.high - second.low) / 2 / after_a_miss)
    assert [outcome.missed for outcome in found.outcomes] == [True, False, False]
    assert found.outcomes[0].ratio == pytest.approx((1e3 - first.predicted) / ((first.high - first.low) / 2))


def test_intervals_learn_from_their_misses_by_hand():
    assert facts([]).widening == 1.0
    assert facts([0.0]).widening == pytest.approx(math.exp(-0.1 * WIDENING))
    found = facts([0.0, 3.0, None])
    assert found.widening == pytest.approx(math.exp(0.8 * WIDENING))
    assert found.outcome_factor == pytest.approx(2 * found.widening)
    assert found.expectation_factor == pytest.approx(3 * found.widening)
    gone = replace(found, records={**found.records, "e2": replace(found.records["e2"], is_read=False)})
    assert gone.widening == facts([0.0]).widening


@pytest.mark.parametrize("spread", [0.3, 4.0])
def test_one_in_ten_misses_whatever_the_system_does(spread):
    """Intervals far too narrow, or too wide, at first: their half width is the widening."""
    rng = np.random.default_rng(0)
    log_width, misses = 0.0, []
    for _ in range(2000):
        missed = abs(spread * rng.standard_normal()) > math.exp(log_width)
        log_width += WIDENING * (missed - (1 - COVERAGE))
        misses.append(missed)
    assert np.mean(misses) == pytest.approx(1 - COVERAGE, abs=0.01)
