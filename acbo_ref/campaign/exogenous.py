"""Exogenous variables of a campaign: which fixed variables may be some, and whether the experiments
agree with what was said. What is done with them is in policy/exogenous.py.

Contract: functions of facts and rows; writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtr

from acbo_ref.arrays import Array
from acbo_ref.campaign.facts import Facts, warn

# A fixed variable that explains this share of the target's variance, and would seldom do so by
# chance, is worth a question, a few of them at once.
ASKED_SHARE, ASKED_CHANCE, MOST_ASKED = 0.3, 0.01, 3
# The probability that experiments which move nothing are ever said to move an exogenous variable,
# for each of them and each lever.
FALSE_ALARM = 1e-3
# A lever tells whether it moves anything once it was set so often.
LEAST_SET = 3


def correlation(x: Array, y: Array) -> tuple[float, float]:
    """The squared correlation of two columns, and the probability that it is as large where they
    are independent and Gaussian (Student's t); 0 and 1 where it says nothing.
    """
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0, 1.0
    share = min(float(np.corrcoef(x, y)[0, 1]) ** 2, 1.0)
    t = np.sqrt(share * (len(x) - 2) / max(1.0 - share, np.finfo(float).eps))
    return share, float(2.0 * stdtr(len(x) - 2, -t))


def may_be_exogenous(rows: Array, fixed: Sequence[int], target: int) -> list[tuple[int, float]]:
    """The fixed variables that explain much of the target over rows (N, V), nan where missing: by
    number, with the share of its variance that each explains.
    """
    found = []
    for j in fixed:
        known = rows[~np.isnan(rows[:, [j, target]]).any(axis=1)][:, [j, target]]
        share, chance = correlation(known[:, 0], known[:, 1])
        found += [(j, share)] if share >= ASKED_SHARE and chance < ASKED_CHANCE else []
    return sorted(found, key=lambda pair: -pair[1])


def ask_about_exogenous(rows: Array, names: Sequence[str], fixed: Sequence[str], target: str) -> None:
    """A warning that asks whether some of these fixed variables are exogenous; rows (N, V)."""
    found = may_be_exogenous(rows, [names.index(name) for name in fixed], names.index(target))
    if found:
        shares = ", ".join(f"{names[j]!r} ({share:.0%})" for j, share in found[:MOST_ASKED])
        warn(
            f"of the variance of {target!r} goes with variables that cannot be set: {shares}; if nothing that is set moves "
            "one of them (weather or raw material, no result), begin with --exogenous NAME to see through it"
        )


def moved(facts: Facts) -> list[str]:
    """A sentence, without its full stop, for each exogenous variable that experiments moved after
    all: over observations and experiments on one lever it goes with how far from its usual value
    the lever was set.
    """
    coordinates = facts.coordinates
    observed = coordinates.rows(facts.observations)
    words = []
    for name in facts.exogenous:
        j = facts.variables.index(name)
        for i, lever in enumerate(facts.variables):
            rows = [coordinates.rows(np.array(row)) for was_set, row in facts.interventions if was_set == (i,)]
            if len(rows) < LEAST_SET or len(observed) < LEAST_SET:
                continue
            values = np.concatenate([observed[:, j], [row[j] for row in rows]])
            usual = np.nanmean(observed[:, i]) if not np.isnan(observed[:, i]).all() else rows[0][i]
            change = np.concatenate([np.zeros(len(observed)), [row[i] - usual for row in rows]])
            known = ~np.isnan(values)
            _, chance = correlation(change[known], values[known])
            if chance < FALSE_ALARM:
                words.append(f"{name} is said to be exogenous and went along when {lever} was set (p = {chance:.1g})")
    return words
