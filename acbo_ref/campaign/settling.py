"""What to settle on, and whether it is better than doing nothing.

Bounds of the campaign hold for it, and a setting is passed over if what was measured nearest to it
left a warning range (ranges.py). If nothing is left, the safest setting is named and the verdict
says so.

Contract: functions of facts and of a session; writes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr, stdtrit

from acbo_ref.arrays import Array
from acbo_ref.campaign.calibration import QUANTILE
from acbo_ref.campaign.caution import danger_of, near_actions, within_reach
from acbo_ref.campaign.doubts import doubtful
from acbo_ref.campaign.exogenous import moved
from acbo_ref.campaign.facts import COVERAGE, Facts
from acbo_ref.campaign.monitor import watch
from acbo_ref.campaign.predictions import Answer, CampaignSession, answer, beliefs, interval
from acbo_ref.campaign.ranges import against
from acbo_ref.campaign.reach import FIRST_AN_EXPERIMENT, untested
from acbo_ref.campaign.words import Words
from acbo_ref.errors import AcboError

# How a verdict begins that is to set nothing.
NO_IMPROVEMENT = "no improvement likely"
# How many repetitions are counted at most, of those that would establish an improvement.
MOST_REPETITIONS = 100
# How many numbers that are hard to believe are named.
MOST_DOUBTS = 3


@dataclass(frozen=True)
class Recommendation(Words):
    """What to settle on now.

    Attributes:
        predicted, low, high: expectation of the target under this action and its 90 % interval.
        baseline: mean of the target over the observational rows: doing nothing. None without any.
        improvement, improvement_low, improvement_high: how much better than doing nothing, positive
            is better, 90 % interval.
        verdict: in words.
        untried: levers that were never set and could still give something better than this: their
            90 % interval reaches beyond `predicted`.
        alarm: what the monitor says if the policy does not describe the system, else None.
        more: repetitions of this setting that would establish the improvement if they come out as
            expected, at most 100; None where it is established, or they could not.
        keeps_bounds: whether it lies within the campaign's bounds and warning ranges.
        warnings: if it does not, why; whether nothing was measured that far out; exogenous
            variables that experiments moved; and numbers that it rests on and that are hard to
            believe.
        passed_over: a better setting that does not, and why; None if there is none.
    """

    variable: str
    value: float
    predicted: float
    low: float
    high: float
    parent_probability: float
    baseline: float | None
    improvement: float | None
    improvement_low: float | None
    improvement_high: float | None
    verdict: str
    untried: tuple[str, ...] = ()
    alarm: str | None = None
    more: int | None = None
    keeps_bounds: bool = True
    warnings: tuple[str, ...] = ()
    passed_over: str | None = None

    @property
    def is_likely(self) -> bool:
        """Whether to do it, for all that is known."""
        return self.keeps_bounds and (self.improvement is None or self.verdict.startswith("improvement likely"))

    @property
    def leaves_all(self) -> bool:
        """Whether the verdict is to set nothing."""
        return self.keeps_bounds and self.verdict.startswith(NO_IMPROVEMENT)

    @property
    def untried_words(self) -> list[str]:
        """What was never tried, a sentence each without its full stop."""
        others = [name for name in self.untried if name != self.variable]
        said = any(words.endswith(FIRST_AN_EXPERIMENT) for words in self.warnings)
        own = [f"{self.variable} was never set: {FIRST_AN_EXPERIMENT}"] if self.variable in self.untried else []
        return [
            *([] if said else own),
            *([f"never tried, and could still be better: {', '.join(others)}"] if others else []),
        ]

    def __str__(self) -> str:
        begin = "" if self.is_likely else "the most promising: " if self.keeps_bounds else "the safest: "
        lines = [
            f"leave it as it is: {self.verdict}" if self.leaves_all else self.verdict,
            f"  {begin}set {self.variable} to {self.value:.10g}",
            f"  expected {self.predicted:.4g} [{self.low:.4g}, {self.high:.4g}]",
        ]
        if self.improvement is not None:
            lines.append(
                f"  better than doing nothing ({self.baseline:.4g}) by {self.improvement:.4g} "
                f"[{self.improvement_low:.4g}, {self.improvement_high:.4g}]"
            )
        if self.more is not None:
            lines.append(f"  {more_words(self.more)}")
        lines += [f"  take care: {words}" for words in self.warnings]
        if self.passed_over:
            lines.append(f"  passed over: {self.passed_over}")
        lines += [f"  {words}" for words in self.untried_words]
        if self.alarm:
            lines.append(f"  {self.alarm}")
        return "\n".join(lines)


def more_words(more: int) -> str:
    """What repetitions would tell, as a sentence without its full stop."""
    times = "1 repetition" if more == 1 else f"{more} repetitions"
    return f"not known yet: about {times} of this setting would tell, if it is as good as expected"


@dataclass(frozen=True)
class Settled:
    """An action, the expected cost, its standard error and the standard deviation of an outcome,
    both as the policy has them; what speaks against it, and what it was preferred to.
    """

    variable: int
    value: float
    cost: float
    error: float
    std: float
    objections: tuple[str, ...] = ()
    passed_over: str | None = None


def settle(facts: Facts, session: CampaignSession, allowed: Array | None = None) -> Settled:
    """The action with the best expectation, within the campaign's bounds and warning ranges if any
    is. allowed (V,) bool: of these variables, default of all.
    """
    decision = session.decide(decision="outcome_head", optimism=0.0, allowed=None if allowed is None else allowed[None])
    best = Settled(
        int(decision.variable[0]), float(decision.value[0]), float(decision.outcome_mean[0]),
        float(decision.outcome_error[0]), float(decision.outcome_std[0]),
    )  # fmt: skip
    best = replace(best, objections=_objections(facts, best.variable, best.value, best.cost, best.std))
    if not best.objections:
        return best
    levers = np.array([d is not None for d in facts.domains]) & session.reads
    try:
        variable, value = near_actions(
            facts, session, levers if allowed is None else levers & allowed, facts.caution.step
        )
    except AcboError:  # nothing is near enough to what was tried
        return best
    cost, error, std = session.predict(variable, value)
    danger = danger_of(facts, cost, std * facts.outcome_factor, facts.caution)
    broken = np.zeros(len(value), bool)
    for i in set(variable.tolist()):
        broken[variable == i] = [words is not None for words in against(facts, i, value[variable == i])]
    kept = (danger <= facts.caution.risk) & ~broken
    n = int(np.where(kept, cost, np.inf).argmin()) if kept.any() else int((danger + broken).argmin())
    i, chosen = int(variable[n]), float(value[n])
    over = f"{facts.variables[best.variable]} = {best.value:.6g}, expected {facts.cost * best.cost:.4g}"
    return Settled(
        i, chosen, float(cost[n]), float(error[n]), float(std[n]),
        _objections(facts, i, chosen, float(cost[n]), float(std[n])),
        f"{over}: {'; '.join(best.objections)}" if kept.any() else None,
    )  # fmt: skip


def settled_at(facts: Facts, session: CampaignSession, variable: int, value: float) -> Settled:
    """An action that somebody else chose, as `settle` gives its own."""
    cost, error, std = (float(x[0]) for x in session.predict(np.array([variable]), np.array([value])))
    return Settled(variable, value, cost, error, std, _objections(facts, variable, value, cost, std))


def judged_answer(facts: Facts, session: CampaignSession, variable: str, value: float) -> Answer:
    """What is expected of an action that the user asks about, and what speaks against it.

    Raises:
        AcboError: the variable is not read, or numbers are too far apart.
    """
    found = answer(facts, session, variable, value)
    at = settled_at(facts, session, facts.variables.index(variable), value)
    return replace(found, warnings=(*at.objections, *untested(facts, at.variable, value)))


def recommendation(facts: Facts, session: CampaignSession, action: tuple[int, float] | None = None) -> Recommendation:
    """What to settle on now, and how much better than doing nothing it is; of an action that
    another method chose, if one is given.
    """
    at = settle(facts, session) if action is None else settled_at(facts, session, *action)
    error = at.error * facts.expectation_factor
    std = math.sqrt(max(at.std**2 - session.exogenous_std**2, 0.0)) * facts.outcome_factor  # seen through
    predicted, low, high = interval(facts, at.cost, error)
    seen = watch(facts)
    found = Recommendation(
        facts.variables[at.variable], at.value, predicted, low, high,
        float(session.decide().parent_probability[0, at.variable]), None, None, None, None,
        "no past rows in which nothing was set: what doing nothing gives is not known",
        _untried(facts, session, at.cost), seen.words if seen.alarm else None,
        keeps_bounds=not at.objections, passed_over=at.passed_over,
        warnings=(*at.objections, *untested(facts, at.variable, at.value), *moved(facts), *_doubts(facts)),
    )  # fmt: skip
    target = facts.cost * session.past_costs if facts.exogenous else facts.observations[:, facts.target_index]
    if len(target):
        found = _compared(facts, found, target, at.cost, error, std)
    if at.objections:
        who = "no setting keeps" if action is None else "this setting does not keep"
        found = replace(found, verdict=f"{who} the bounds", more=None)
    return found


def _compared(
    facts: Facts, found: Recommendation, target: Array, cost: float, error: float, std: float
) -> Recommendation:
    """With what doing nothing gives, the target's past values (O,); error and std are scaled."""
    baseline, count = float(target.mean()), len(target)
    better = facts.cost * baseline - cost
    degrees = count - 1 - len(facts.exogenous)
    if degrees > 0:  # Student's t: the spread is estimated from few rows, and slopes on what is exogenous
        spread = float(target.std()) * math.sqrt(count / degrees)
        nothing = float(stdtrit(degrees, (1 + COVERAGE) / 2)) * spread / math.sqrt(count)
    else:
        nothing = QUANTILE * std
    margin = math.hypot(QUANTILE * error, nothing)
    probability = float(ndtr(better / (margin / QUANTILE)))
    chance, more = "more than 0.99" if probability > 0.99 else f"{probability:.2f}", None
    if better - margin > 0:
        verdict = f"improvement likely (probability {chance})"
    elif probability > 0.75:
        verdict = f"improvement not established (probability of an improvement {chance})"
        more = _repetitions(better, nothing, error, std)
    else:
        verdict = f"{NO_IMPROVEMENT} (probability of an improvement {chance})"
    return replace(
        found, baseline=baseline, improvement=better, improvement_low=better - margin,
        improvement_high=better + margin, verdict=verdict, more=more,
    )  # fmt: skip


def _repetitions(better: float, nothing: float, error: float, std: float) -> int | None:
    """How many more outcomes of this setting would bring the improvement's interval above 0, if
    they leave the expectation as it is: n of them leave it an error of 1 / sqrt(1 / error^2 + n /
    std^2). None if so many as are counted would not.
    """
    if not (error > 0 and std > 0):
        return None
    for n in range(1, MOST_REPETITIONS + 1):
        left = 1 / math.sqrt(1 / error**2 + n / std**2)
        if math.hypot(QUANTILE * left, nothing) < better:
            return n
    return None


def _untried(facts: Facts, session: CampaignSession, cost: float) -> tuple[str, ...]:
    """The levers that nobody set, and whose interval reaches below this cost."""
    tried = {facts.variables[i] for were_set, _ in facts.interventions for i in were_set}
    found = []
    for belief in beliefs(facts, session):
        if belief.variable not in tried and belief.low is not None and belief.high is not None:
            best = min(facts.cost * belief.low, facts.cost * belief.high)
            found += [belief.variable] if best < cost else []
    return tuple(found)


def _doubts(facts: Facts) -> list[str]:
    """Numbers that everything rests on and that are hard to believe."""
    found = [f"{id}: {'; '.join(words)}" for id, words in doubtful(facts).items()]
    more = [f"{len(found) - MOST_DOUBTS} more are in `status`"] if len(found) > MOST_DOUBTS else []
    return [f"hard to believe, and counted: {words}" for words in [*found[:MOST_DOUBTS], *more]]


def _objections(facts: Facts, i: int, value: float, cost: float, std: float) -> tuple[str, ...]:
    """What speaks against an action: bounds that it does not keep, a measurement nearby."""
    found, caution = [], facts.caution
    danger = float(danger_of(facts, np.array([cost]), np.array([std * facts.outcome_factor]), caution)[0])
    if danger > caution.risk:
        found.append(
            f"the risk of a {facts.target} {caution.passed} is {danger:.2g}, and at most {caution.risk:.3g} is allowed"
        )
    if caution.step is not None and not _is_near(facts, i, value):
        found.append(f"it is more than {caution.step:.3g} of its domain away from what was tried")
    words = against(facts, i, np.array([value]))[0]
    return (*found, *([] if words is None else [words]))


def _is_near(facts: Facts, i: int, value: float) -> bool:
    """Whether a value lies within the campaign's step of what was tried."""
    only = np.arange(len(facts.variables)) == i
    try:
        _, values = within_reach(facts, only, facts.caution.step)
    except AcboError:
        return False
    there, own = facts.coordinates.inside(i, values), float(facts.coordinates.inside(i, np.array([value]))[0])
    slack = 1e-9 * max(1.0, float(np.abs(there).max()))
    return bool(there.min() - slack <= own <= there.max() + slack)
