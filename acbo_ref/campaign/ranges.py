"""What was measured and should not have been: a target beyond its bounds, another variable outside
its warning range; and which settings of a lever the latter speaks against.

The policy predicts the target alone. So a setting is passed over for what was measured nearest to
it on its lever, and not for what is expected there: of the rows in which every variable with a
range was measured, all count that stayed within, and those that left it if they set this lever.

Contract: functions of facts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.campaign.bounds import WarningRange, range_words
from acbo_ref.campaign.facts import Facts, Proposal, warn


def outside(facts: Facts, row: Sequence[float]) -> list[str]:
    """What a row measured beyond a bound of the target or outside a warning range, in words."""
    found = []
    for name, ends, value in zip(facts.variables, facts.warning_ranges, row, strict=True):
        if name == facts.target and _is_passed(facts, value):
            found.append(f"{name} = {value:.6g} (should never be {facts.caution.passed})")
        if ends is not None and _is_outside(ends, value):
            found.append(f"{name} = {value:.6g} (should be {range_words(ends)})")
    return found


def against(facts: Facts, i: int, values: Array) -> list[str | None]:
    """What speaks against each of these settings of lever i, (N,): the record nearest to it, if
    that left a warning range; else None.
    """
    ranged = [j for j, ends in enumerate(facts.warning_ranges) if ends is not None and j != i]
    broken: list[tuple[str, float]] = []
    kept: list[float] = []
    for id, record in facts.records.items() if ranged else ():
        if not record.is_read or math.isnan(record.row[i]):
            continue
        left = [j for j in ranged if _is_outside(facts.warning_ranges[j], record.row[j])]
        if left and i in record.was_set:
            broken.append((id, record.row[i]))
        elif not left and not any(math.isnan(record.row[j]) for j in ranged):
            kept.append(record.row[i])
    if not broken:
        return [None] * len(values)
    far = _distances(facts, i, values, np.array([value for _, value in broken]))
    near = _distances(facts, i, values, np.array(kept)).min(axis=1, initial=np.inf)
    found: list[str | None] = []
    for n in range(len(values)):
        k = int(far[n].argmin())
        words = f"{broken[k][0]} was measured nearest to it, with {', '.join(outside(facts, facts.records[broken[k][0]].row))}"
        found.append(words if far[n, k] <= near[n] else None)
    return found


def say_outside(facts: Facts, where: str, row: Sequence[float]) -> None:
    """Warns of what a row measured and should not have."""
    for words in outside(facts, row):
        warn(f"{where}: {words}")


def say_neighbours(facts: Facts, proposal: Proposal) -> None:
    """Warns if what was measured nearest to a proposal left a warning range."""
    for words in against(facts, facts.variables.index(proposal.variable), np.array([proposal.value])):
        if words is not None:
            warn(f"{proposal.id}: {words}")


def _is_passed(facts: Facts, target: float) -> bool:
    low, high = facts.caution.never_below, facts.caution.never_above
    return (low is not None and target < low) or (high is not None and target > high)


def _is_outside(ends: WarningRange | None, value: float) -> bool:
    low, high = ends or (-math.inf, math.inf)
    return value < low or value > high  # false of nan


def _distances(facts: Facts, i: int, ours: Array, others: Array) -> Array:
    """(N, M) between values of variable i, as the policy sees them."""
    low, high = facts.coordinates.domain(i)
    a, b = facts.coordinates.inside(i, ours), facts.coordinates.inside(i, others)
    apart = np.abs(a[:, None] - b[None])
    return np.minimum(apart, high - low - apart) if facts.scales[i].is_periodic else apart
