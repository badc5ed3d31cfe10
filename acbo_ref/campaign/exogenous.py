"""Exogenous variables of a campaign: which fixed variables may be some, and whether the experiments
agree with what was said. What is done with them is in policy/exogenous.py.

Contract: functions of facts and rows; writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtr

from acbo_ref.arrays import Array
from acbo_ref.campaign.facts import Facts, column_means, warn
from acbo_ref.policy.exogenous import explained_by

# A fixed variable that explains this share of the target's variance, and would seldom do so by
# chance, is worth a question, a few of them at once.
ASKED_SHARE, ASKED_CHANCE, MOST_ASKED = 0.3, 0.01, 3
# How probable the correlation of changes may be by chance, each time that it is looked at, for each
# lever and exogenous variable; and how many changes of a setting there must be.
FALSE_ALARM = 1e-3
LEAST_CHANGES = 3


def correlation(x: Array, y: Array) -> tuple[float, float]:
    """The squared correlation of two columns, and the probability that it is as large where they
    are independent and Gaussian (Student's t); 0 and 1 where it says nothing.
    """
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0, 1.0
    share = min(float(np.corrcoef(x, y)[0, 1]) ** 2, 1.0)
    t = np.sqrt(share * (len(x) - 2) / max(1.0 - share, np.finfo(float).eps))
    return share, float(2.0 * stdtr(len(x) - 2, -t))


def may_be_exogenous(rows: Array, fixed: Sequence[int], said: Array, target: int) -> list[tuple[int, float]]:
    """The fixed variables that go with much of the target over observations (N, V), nan where
    missing, once what is exogenous for sure, `said` (V,) bool, is taken off: by number, with the
    share of its variance that each explains.
    """
    left = rows - explained_by(rows, np.zeros(rows.shape, bool), said)
    found = []
    for j in fixed:
        known = left[~np.isnan(left[:, [j, target]]).any(axis=1)][:, [j, target]]
        share, chance = correlation(known[:, 0], known[:, 1])
        found += [(j, share)] if share >= ASKED_SHARE and chance < ASKED_CHANCE else []
    return sorted(found, key=lambda pair: -pair[1])


def ask_about_exogenous(
    rows: Array, names: Sequence[str], fixed: Sequence[str], said: Sequence[str], target: str
) -> None:
    """A warning that asks whether some of these fixed variables are exogenous, as others were
    `said` to be; rows (N, V).
    """
    places = [names.index(name) for name in fixed]
    found = may_be_exogenous(rows, places, np.isin(names, said), names.index(target))
    if found:
        shares = " and ".join(f"{names[j]!r} ({share:.0%} of its ups and downs)" for j, share in found[:MOST_ASKED])
        warn(
            f"{target!r} goes along with {shares}. Is there one that nothing you set can change, as the weather or a raw "
            "material? Then begin again, in another folder, with --exogenous NAME: its share is taken off. Not for "
            "something that a lever changes on the way: that would hide what the lever does"
        )


def moved(facts: Facts) -> list[str]:
    """A sentence, without its full stop, for each exogenous variable that went along with a lever:
    from row to row, in the order in which they were recorded, its change with the change of how far
    from its usual value the lever was set. So weather that drifts by itself is no evidence.
    """
    coordinates = facts.coordinates
    records = [record for record in facts.records.values() if record.is_read]
    if not facts.exogenous or not records:
        return []
    rows = np.array([coordinates.rows(np.array(record.row)) for record in records])
    observed = coordinates.rows(facts.observations)
    words = []
    for i, lever in enumerate(facts.variables):
        was_set = np.array([record.was_set == (i,) for record in records])
        if facts.domains[i] is None or not was_set.any():
            continue
        usual = column_means(observed[:, [i]])[0] if not np.isnan(observed[:, i]).all() else rows[was_set, i][0]
        change = np.diff(np.where(was_set, rows[:, i] - usual, 0.0))
        for name in facts.exogenous:
            step = np.diff(rows[:, facts.variables.index(name)])
            known = ~np.isnan(step)
            if np.count_nonzero(change[known]) >= LEAST_CHANGES:
                _, chance = correlation(change[known], step[known])
                if chance < FALSE_ALARM:
                    words.append(
                        f"{name} is said to be exogenous and went along when {lever} was set (p = {chance:.1g}): does "
                        f"{lever} change it? Then begin anew with it as fixed"
                    )
    return words
