"""How far out a setting of a lever lies, beside all that was measured of it.

Seen is what rows that count have of the lever, whether it was set or not, and what it was set to in
proposals that were told: a set value may be measured a little off. Outside is beyond the lowest or
the highest of these, as the policy sees them: on a logarithm, or along a circle from its seam.

Contract: functions of facts.
"""

from __future__ import annotations

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.campaign.facts import Facts

# A setting no further out than this share of the domain counts as seen.
TOLERANCE = 0.01
FIRST_AN_EXPERIMENT = "do this as an experiment first"


def seen(facts: Facts, i: int) -> Array:
    """(N,) values of variable i that rows have, or that it was set to."""
    measured = [record.row[i] for record in facts.records.values() if record.is_read]
    was_set = [
        proposal.value
        for id, proposal in facts.proposals.items()
        if proposal.variable == facts.variables[i] and id in facts.records and facts.records[id].is_read
    ]
    values = np.array([*measured, *was_set], float)
    return values[~np.isnan(values)]


def beyond(facts: Facts, i: int, value: float) -> tuple[float, float, float] | None:
    """Of a setting outside of all that was seen of lever i: the end that it lies beyond, the lowest
    and the highest value seen. None if it lies within, or nothing was seen.
    """
    values = seen(facts, i)
    if not len(values):
        return None
    there, own = facts.coordinates.inside(i, values), float(facts.coordinates.inside(i, np.array([value]))[0])
    start, end = facts.coordinates.domain(i)
    slack = TOLERANCE * (end - start)
    low, high = float(values[there.argmin()]), float(values[there.argmax()])
    if own < there.min() - slack:
        return low, low, high
    return (high, low, high) if own > there.max() + slack else None


def untested(facts: Facts, i: int, value: float) -> list[str]:
    """The caution that an action needs if nothing was measured that far out."""
    found = beyond(facts, i, value)
    return [] if found is None else [f"nothing was measured beyond {found[0]:.6g}: {FIRST_AN_EXPERIMENT}"]


def outside_words(facts: Facts, i: int, value: float) -> str:
    """What is said of a proposal outside of all that was seen, else ""."""
    found = beyond(facts, i, value)
    return "" if found is None else f"outside what was measured so far ({found[1]:.6g} to {found[2]:.6g})"
