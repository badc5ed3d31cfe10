"""Does the policy describe this system? Its predictions are watched as the outcomes come in.

Of a policy that describes the system, the 90 % interval of a proposal misses one outcome in ten,
hardly any lies twice as far off, and outcomes lie above the prediction as often as below, whatever
came out before. Against each of the three stands a test that may be looked at after every
experiment: the likelihood of what was seen under an unknown share, averaged over all shares, over
its likelihood under the share that should be (Robbins 1970; an e-value, Grunwald, de Heide & Koolen
2024); for misses, averaged over all larger shares, since wide intervals are no fault of the model.
The mean of the three is an e-value too: if the shares are as they should be, it ever reaches
1 / level with a probability of at most `level` (Ville 1939). That is for experiments one after
another: those of a batch share the errors of one prediction, and what is corrected or told late
changes what was seen before.

Intervals learn from their misses: each widens all later ones, each hit narrows them a little, so
that one in ten misses in the long run whatever the system does (quantile tracking, Angelopoulos,
Candes & Tibshirani 2023, sec. 2.1; after Gibbs & Candes 2021; `Facts.widening`). The tests are
about the policy, so they take the intervals without what was learnt.

Contract: functions of facts; writes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import betainc, betaln

from acbo_ref.campaign.facts import COVERAGE, Facts, Outcome
from acbo_ref.campaign.words import counted

# The probability that the monitor ever speaks of a system that is described well.
ALARM_LEVEL = 0.02
# An outcome is far off beyond so many half widths of its interval, and at most this share should
# be: on validation systems of the prior .001 to .004 are, and .010 where there are three past rows.
FAR, FAR_SHARE = 2.0, 0.01
LARGEST_LOG = 200.0


@dataclass(frozen=True)
class Watch:
    """What became of the predictions.

    Attributes:
        told: proposals with an outcome. missed: outcomes outside of their 90 % interval. worse: on
            the bad side of the prediction.
        evidence: the largest mean of the three e-values so far; `alarm` from 1 / ALARM_LEVEL on.
        words: one sentence.
    """

    told: int
    missed: int
    worse: int
    evidence: float
    alarm: bool
    words: str


def evidence_against(share: float, count: int, total: int) -> float:
    """The e-value of `count` events in `total` against the probability `share` of one; at most
    e^LARGEST_LOG.
    """
    log_average = float(betaln(1 + count, 1 + total - count) - betaln(1, 1))
    log_value = log_average - count * math.log(share) - (total - count) * math.log1p(-share)
    return math.exp(min(log_value, LARGEST_LOG))


def evidence_above(share: float, count: int, total: int) -> float:
    """The same against a probability of at most `share`: averaged over the larger ones."""
    larger = 1.0 - float(betainc(1 + count, 1 + total - count, share))
    return evidence_against(share, count, total) * larger / (1.0 - share)


def evidence(outcomes: Sequence[Outcome]) -> float:
    """The mean of the three e-values of these outcomes: of misses, those far off, and sides."""
    total = len(outcomes)
    missed, far = (sum(outcome.ratio > least for outcome in outcomes) for least in (1.0, FAR))
    worse = sum(outcome.worse for outcome in outcomes)
    each = (
        evidence_above(1.0 - COVERAGE, missed, total),
        evidence_above(FAR_SHARE, far, total),
        evidence_against(0.5, worse, total),
    )
    return sum(each) / len(each)


def watch(facts: Facts) -> Watch:
    """The tests on what was told so far. The largest e-value counts: one may look at any time."""
    seen = facts.outcomes
    most = max((evidence(seen[:total]) for total in range(1, len(seen) + 1)), default=1.0)
    missed, worse = (sum(getattr(outcome, event) for outcome in seen) for event in ("missed", "worse"))
    alarm = most >= 1.0 / ALARM_LEVEL
    words = f"{missed} of {counted(len(seen), 'outcome')} lay outside the 90 % interval"
    if alarm:
        own, far = (sum(outcome.ratio > least for outcome in seen) for least in (1.0, FAR))
        words = (
            f"the model does not describe this system: {own} of {counted(len(seen), 'outcome')} lay outside its own "
        )
        words += f"90 % interval, {far} of them twice as far off, and {worse} were worse than predicted"
        words += "; the methods gp_all and gp decide without it"
    return Watch(len(seen), missed, worse, most, alarm, words)
