"""Numbers that are hard to believe: typing errors, mostly. They are refused unless they are
confirmed, and shown wherever the record is.

A number is doubted that lies further outside everything else that was measured than twice its whole
range, and as many ranges more as a variable that was set lies outside its own. The variables that
were set are checked against their domains, not here.

Contract: functions of facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.campaign.facts import Facts
from acbo_ref.campaign.tables import LARGEST
from acbo_ref.errors import AcboError

# Of fewer rows than the second number the range says too little.
DOUBTED_RANGES, DOUBTED_ROWS = 2.0, 10


def doubts(facts: Facts, rows: Iterable[tuple[str, Sequence[float], Sequence[int]]]) -> list[str]:
    """What is hard to believe in rows that are to be recorded, beside all that was measured so far.

    Args:
        rows: (where it comes from, values in the order of variables, the variables that were set).
    """
    measured = _measured(facts)
    known = ~np.isnan(measured)
    count = known.sum(axis=0)
    low = np.where(known, measured, LARGEST).min(axis=0, initial=LARGEST)
    high = np.where(known, measured, -LARGEST).max(axis=0, initial=-LARGEST)
    return [
        f"{where}: {facts.variables[i]} = {row[i]:g}, and all {count[i]} values so far lie between {low[i]:g} and "
        f"{high[i]:g}"
        for where, row, was_set in rows
        for i in _far(np.asarray(row, float), was_set, low, high, count)
    ]


def doubtful(facts: Facts) -> dict[str, list[str]]:
    """What is hard to believe of the records that count, by id, each beside all others: what `tell`
    would say if it were told now.
    """
    measured = _measured(facts)
    if len(measured) <= DOUBTED_ROWS:
        return {}
    known = ~np.isnan(measured)
    low, high = (
        _ends_of_others(np.where(known, measured, LARGEST)),
        -_ends_of_others(np.where(known, -measured, LARGEST)),
    )
    count = known.sum(axis=0) - known
    middle, extent = (low + high) / 2, np.where(low < high, high - low, 1.0)
    away = np.where(known & (low < high), np.abs(measured - middle) / extent - 0.5, 0.0)
    ids = [id for id, record in facts.records.items() if record.is_read]
    found: dict[str, list[str]] = {}
    for n in np.flatnonzero((away > DOUBTED_RANGES).any(axis=1)).tolist():
        was_set = facts.records[ids[n]].was_set
        for i in _far(measured[n], was_set, low[n], high[n], count[n]):
            words = f"{facts.variables[i]} = {measured[n, i]:g}, and all {count[n, i]} other values lie between "
            found.setdefault(ids[n], []).append(f"{words}{low[n, i]:g} and {high[n, i]:g}")
    return found


def believe(unlikely: list[str], yes: bool) -> None:
    """Raises an AcboError about the first of these doubts, unless they were confirmed."""
    if unlikely and not yes:
        more = f" (and {len(unlikely) - 1} more)" if len(unlikely) > 1 else ""
        raise AcboError(unlikely[0] + more, "if it is right all the same: --yes (Python: yes=True)")


def _measured(facts: Facts) -> Array:
    """(N, V), the rows that count."""
    return np.array([r.row for r in facts.records.values() if r.is_read]).reshape(-1, len(facts.variables))


def _ends_of_others(values: Array) -> Array:
    """(N, V): the lowest value of a column in all rows but one; values (N, V), N > 1."""
    two = np.partition(values, 1, axis=0)[:2]
    first = np.arange(len(values))[:, None] == values.argmin(axis=0)
    return np.where(first, two[1], two[0])


def _far(row: Array, was_set: Sequence[int], low: Array, high: Array, count: Array) -> list[int]:
    """The variables of a row (V,) that are hard to believe beside so many values within these
    ranges.
    """
    tells = (count >= DOUBTED_ROWS) & (low < high)
    middle, extent = (low + high) / 2, np.where(tells, high - low, 1.0)
    away = np.where(tells & ~np.isnan(row), np.abs(row - middle) / extent - 0.5, 0.0)
    moved = max((float(away[i]) for i in was_set), default=0.0)
    far = np.flatnonzero(away > DOUBTED_RANGES + max(moved, 0.0)).tolist()
    return [i for i in far if i not in was_set]
