"""What the policy expects over the whole domain of a variable.

Contract: a function of facts and of a session; writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.campaign.calibration import QUANTILE
from acbo_ref.campaign.facts import Facts
from acbo_ref.campaign.predictions import CampaignSession, check_is_read
from acbo_ref.campaign.rules import checked_lever
from acbo_ref.campaign.settling import settle


@dataclass(frozen=True, eq=False)
class Curve:
    """The target expected if `variable` is set to each of `values`, in the user's units.

    Attributes:
        values, predicted, low, high: (N,) each; low to high: the 90 % interval of the expectation.
        measured_low, measured_high: (N,) the 90 % interval of a single outcome.
        is_log: whether the variable is on a logarithmic scale.
    """

    variable: str
    values: Array
    predicted: Array
    low: Array
    high: Array
    measured_low: Array
    measured_high: Array
    is_log: bool

    @property
    def noise(self) -> float:
        """A typical standard deviation of a single outcome."""
        return float(np.median(self.measured_high - self.measured_low)) / (2 * QUANTILE)


def best_value(facts: Facts, session: CampaignSession, variable: str) -> float:
    """The value of a variable at which the target is expected to be best, within the campaign's
    bounds if any is.

    Raises:
        AcboError: a variable that cannot be set or is not read.
    """
    checked_lever(facts, variable, "suggest")
    only = np.arange(len(facts.variables)) == check_is_read(facts, session, variable)
    return settle(facts, session, only).value


def curve(facts: Facts, session: CampaignSession, variable: str, points: int) -> Curve:
    """The curve of a variable over its domain, at so many values (fewer where not so many are
    allowed), evenly spaced on its scale.

    Raises:
        AcboError: a variable that cannot be set or is not read.
    """
    checked_lever(facts, variable, "curve")
    i = check_is_read(facts, session, variable)
    values = facts.coordinates.grid(i, points)
    cost, error, std = session.predict(np.full(len(values), i), values)
    target = facts.cost * cost
    expected, outcome = (
        QUANTILE * factor * deviation
        for factor, deviation in ((facts.expectation_factor, error), (facts.outcome_factor, std))
    )
    return Curve(
        variable, values, target, target - expected, target + expected, target - outcome, target + outcome,
        facts.scales[i].is_log,
    )  # fmt: skip
