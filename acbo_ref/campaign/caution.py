"""Experiments within bounds: what must not be measured, and how far to go at once.

    P(outcome beyond a limit) <= risk                  a chance constraint (Charnes & Cooper 1959)
    distance from what was tried <= step * domain      tried: all values measured, and between them

The probability is that of the calibrated interval of a single outcome, so it is as right as that.

Contract: functions of facts and of a session; writes nothing. Among the actions that are left the
choice is the policy's own, lowest expectation minus `optimism` errors; where experiments differ in
what they cost, it is the most gain for that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from acbo_ref.arrays import Array
from acbo_ref.campaign.bounds import Caution
from acbo_ref.campaign.facts import Facts, Proposal
from acbo_ref.campaign.predictions import CampaignSession, proposed
from acbo_ref.campaign.scales import Coordinates
from acbo_ref.errors import AcboError

GRID_POINTS = 41


@dataclass(frozen=True)
class Choice:
    """An action, what is expected of it, and the probability that its outcome passes a limit."""

    variable: int
    value: float
    cost: float
    std: float
    danger: float


def choose(
    facts: Facts, session: CampaignSession, allowed: Array, caution: Caution, draw: Array | None = None
) -> Choice:
    """The best action within bounds; allowed (V,) bool.

    Args:
        draw: (V,) standard errors that each variable's expectations lie off; None for the policy's
            own `optimism`.
    Raises:
        AcboError: there is none; says what is nearest to one.
    """
    variable, value = near_actions(facts, session, allowed, caution.step)
    cost, error, std = session.predict(variable, value)
    std = std * facts.outcome_factor
    danger = danger_of(facts, cost, std, caution)
    hoped = cost + (-session.optimism if draw is None else draw[variable]) * error
    merit = _merit(facts, session, variable, hoped)
    best = int(np.where(danger <= caution.risk, merit, -np.inf).argmax())
    if danger[best] > caution.risk:
        safest = int(danger.argmin())
        raise AcboError(
            f"with every experiment the risk of a {facts.target} {caution.passed} is more than {caution.risk:.3g}; the "
            f"safest is {facts.variables[variable[safest]]} = {value[safest]:.4g}, with {danger[safest]:.2g}",
            "allow a higher --risk, or import more rows in which nothing was set",
        )
    return Choice(int(variable[best]), float(value[best]), float(cost[best]), float(std[best]), float(danger[best]))


def bounded_proposal(
    facts: Facts, session: CampaignSession, allowed: Array, caution: Caution, draw: Array | None = None
) -> Proposal:
    """The next experiment within bounds; arguments as of `choose`."""
    choice = choose(facts, session, allowed, caution, draw)
    parents = session.decide().parent_probability[0]
    better = "highest" if facts.direction == "maximize" else "lowest"
    reason = f"the {better} {facts.target} hoped for"
    if facts.prices_differ:
        reason = f"the most gain in {facts.target} hoped for, for what it costs"
    if draw is not None:
        reason = f"drawn from what may be best, beside {', '.join(p.id for p in facts.pending)}"
    if not caution.bounds_nothing:
        reason += ", within the bounds"
    if caution.limits_target:
        reason += f"; the risk of an outcome {caution.passed} is {choice.danger:.1%}"
    return proposed(
        facts, choice.variable, choice.value, choice.cost, choice.std, float(parents[choice.variable]), reason,
        caution.bounds_nothing,
    )  # fmt: skip


def _merit(facts: Facts, session: CampaignSession, variable: Array, hoped: Array) -> Array:
    """(N,) what speaks for each action, whose cost is hoped to be that: the gain over what would be
    settled on now, by what the experiment costs (as expected improvement per second: Snoek et al.
    2012, sec. 3.2).
    """
    settled = float(session.decide(decision="outcome_head", optimism=0.0).outcome_mean[0])
    gain = settled - hoped
    return np.asarray(np.where(gain > 0, gain / np.array(facts.prices)[variable], gain))


def danger_of(facts: Facts, cost: Array, std: Array, caution: Caution) -> Array:
    """(N,) P(the measured target lies beyond a limit)."""
    target, danger = facts.cost * cost, np.zeros(len(cost))
    if caution.never_below is not None:
        danger = danger + ndtr((caution.never_below - target) / std)
    if caution.never_above is not None:
        danger = danger + ndtr((target - caution.never_above) / std)
    return np.asarray(danger)


def within_reach(facts: Facts, allowed: Array, step: float | None) -> tuple[Array, Array]:
    """Actions (variable, value), (N,) each: a grid of every allowed variable's domain, cut at what
    is too far from what was tried.
    """
    variables, values = [], []
    rows = np.array([record.row for record in facts.records.values() if record.is_read])
    for i in np.flatnonzero(allowed).tolist():
        grid = facts.coordinates.grid(i, GRID_POINTS)
        if step is not None:
            grid = _near(facts.coordinates, i, rows[~np.isnan(rows[:, i]), i] if len(rows) else np.zeros(0), step)
        variables.append(np.full(len(grid), i))
        values.append(grid)
    if not sum(map(len, variables)):
        raise AcboError("no setting is that near to what was tried", "allow a larger --step")
    return np.concatenate(variables), np.concatenate(values)


def near_actions(facts: Facts, session: CampaignSession, allowed: Array, step: float | None) -> tuple[Array, Array]:
    """The actions of `within_reach` that the policy would decide for: not too far from what was
    seen (policy/extrapolation.py). All of them if it would for none.
    """
    variable, value = within_reach(facts, allowed, step)
    near = session.near(variable, value)
    return (variable[near], value[near]) if near.any() else (variable, value)


def _near(coordinates: Coordinates, i: int, tried: Array, step: float) -> Array:
    """Values of variable i that are allowed, at most that share of its domain outside of all that
    was tried; none if all that lies further outside the domain.
    """
    low, high = coordinates.domain(i)
    there = coordinates.inside(i, tried) if len(tried) else np.array([(low + high) / 2])
    reach = step * (high - low)
    start, end = max(low, float(there.min()) - reach), min(high, float(there.max()) + reach)
    if start > end:
        return np.zeros(0)
    found = coordinates.outside(i, np.linspace(start, end, GRID_POINTS))
    if coordinates.scales[i].step is None:
        return found
    found = np.unique(found)
    back = coordinates.inside(i, found)  # a step may lie further off than what it is nearest to
    return found[(back >= start - 1e-9 * reach) & (back <= end + 1e-9 * reach)]
