"""Which experiment is next, and which are to be done side by side.

Side by side, the first is the policy's own choice and each other one is the best action in a draw
from what the policy thinks possible (parallel Thompson sampling: Kandasamy et al. 2018, algorithm
3). An action is drawn as often as it is likely to be the best; so a batch spreads over what may
still be it, on one variable or several, and gathers where little doubt is left.

A draw is one standard normal number a variable, times the standard error of the expectation:
expectations of one variable move together, those of different variables apart.

Contract: functions of facts and of a session; writes nothing. Draws follow from the policy and from
how many experiments were proposed.
"""

from __future__ import annotations

import numpy as np

from acbo_ref.campaign.bounds import Caution, checked_caution
from acbo_ref.campaign.caution import bounded_proposal
from acbo_ref.campaign.facts import Facts, Proposal, warn
from acbo_ref.campaign.predictions import CampaignSession, choosable, proposal
from acbo_ref.randomness import Role, generator


def next_proposal(facts: Facts, session: CampaignSession, caution: Caution) -> Proposal:
    """The next experiment, about a variable without a pending proposal.

    Raises:
        AcboError: every variable has one, or no experiment lies within the bounds.
    """
    if checked_caution(caution).bounds_nothing and not facts.prices_differ:
        found = proposal(facts, session)
    else:
        found = bounded_proposal(facts, session, choosable(facts, session), caution)
    _say_if_nothing_is_as_good(facts, session, found, "" if caution.bounds_nothing else " within the bounds")
    return found


def _say_if_nothing_is_as_good(facts: Facts, session: CampaignSession, found: Proposal, bounds: str) -> None:
    """A warning where the proposal is not even hoped to be better than doing nothing, and the
    outcomes on the way count.
    """
    costs = facts.cost * facts.observations[:, facts.target_index]
    if len(costs) < 2 or session.only_final:
        return
    variable = np.array([facts.variables.index(found.variable)])
    cost, error, _ = session.predict(variable, np.array([found.value]))
    if cost[0] - session.optimism * error[0] >= costs.mean():
        usual = facts.cost * float(costs.mean())
        warn(
            f"no experiment{bounds} is hoped to be better than doing nothing ({facts.target} {usual:.4g}), not even this "
            "one; `recommend` says what is known"
        )


def proposal_beside(facts: Facts, session: CampaignSession, caution: Caution) -> Proposal:
    """The next experiment beside those pending, about any variable.

    Raises:
        AcboError: no experiment lies within the bounds.
    """
    if not facts.pending:
        return next_proposal(facts, session, caution)
    rng = generator(int(facts.policy_sha256[:16], 16), Role.BATCH, len(facts.proposals))
    levers = np.array([d is not None for d in facts.domains]) & session.reads
    draw = rng.standard_normal(len(levers))
    return bounded_proposal(facts, session, levers, checked_caution(caution), draw)
