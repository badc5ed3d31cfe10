"""Does the policy describe this system? Its predictions are watched as the outcomes come in.

Of a policy that describes the system, the 90 % interval of a proposal misses one outcome in ten,
and outcomes lie above the prediction as often as below. Against each of the two stands a test that
may be looked at after every experiment: the likelihood of what was seen under an unknown share,
averaged over all shares, over its likelihood under the share that should be (Robbins 1970; an
e-value, Grunwald, de Heide & Koolen 2024). Whatever is true, if the share is as it should be, this
number ever reaches 1 / level with a probability of at most `level` (Ville 1939).

Intervals learn from their misses: each widens all later ones, each hit narrows them a little, so
that one in ten misses in the long run whatever the system does (quantile tracking, Angelopoulos,
Candes & Tibshirani 2023, sec. 2.1; after Gibbs & Candes 2021; `Facts.widening`).

Contract: functions of facts; writes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import betaln

from acbo_ref.campaign.facts import COVERAGE, Facts
from acbo_ref.campaign.words import counted

# The probability that one of the two tests ever speaks of a system that is described well.
ALARM_LEVEL = 0.02


@dataclass(frozen=True)
class Watch:
    """What became of the predictions.

    Attributes:
        told: proposals with an outcome. missed: outcomes outside of their 90 % interval. worse: on
            the bad side of the prediction.
        evidence: the larger e-value of the two tests; `alarm` if it reaches 2 / ALARM_LEVEL.
        words: one sentence.
    """

    told: int
    missed: int
    worse: int
    evidence: float
    alarm: bool
    words: str


def evidence_against(share: float, count: int, total: int) -> float:
    """The e-value of `count` events in `total` against the probability `share` of one."""
    log_average = float(betaln(1 + count, 1 + total - count) - betaln(1, 1))
    return math.exp(log_average - count * math.log(share) - (total - count) * math.log1p(-share))


def watch(facts: Facts) -> Watch:
    """The tests on what was told so far. The largest e-value counts: one may look at any time."""
    seen = facts.outcomes
    evidence = 1.0
    for total in range(1, len(seen) + 1):
        missed, worse = (sum(event) for event in zip(*seen[:total], strict=True))
        tests = evidence_against(1.0 - COVERAGE, missed, total), evidence_against(0.5, worse, total)
        evidence = max(evidence, *tests)
    missed, worse = (sum(event) for event in zip(*seen, strict=True)) if seen else (0, 0)
    alarm = evidence >= 2.0 / ALARM_LEVEL
    words = f"{missed} of {counted(len(seen), 'outcome')} lay outside the 90 % interval"
    if alarm:
        words = f"the model does not describe this system: {words}, {worse} were worse than predicted"
        words += "; the methods gp_all and gp decide without it"
    return Watch(len(seen), missed, worse, evidence, alarm, words)
