"""What a candidate is rewarded for, and whom it is compared with: `grpo.credit`.

    immediate    its own outcome; a state's candidates are the group
    settle       also what would be settled on after its row (`answered_for`); the same group
    episode      the rest of its episode (`outcome_to_go`); the group is G episodes of one system on
                 the same noise, as completions of one prompt are in language models (Shao et al.
                 2024, "DeepSeekMath", section 4.1)

Contract: functions of arrays of any kind; every backend calls these.
Letters: E episodes, K decisions, G candidates or episodes of a group.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from acbo_ref.arrays import A
from acbo_ref.config import RewardConfig
from acbo_ref.policy.inputs import HALF_WIDTH


def reward(outcome: A, is_parent: A, info_gain: A, weights: RewardConfig) -> A:
    """r = w_target * (-standard outcome / 5) + w_parent * 1[parent] + w_info_gain * information
    gain.

    The one place where "lower is better" becomes "more reward"; every backend calls it. Arguments
    broadcast to (E, K, G).
    """
    terms = (weights.target * (-outcome / HALF_WIDTH), weights.parent * is_parent, weights.info_gain * info_gain)  # type: ignore[operator]
    total: A = terms[0] + terms[1] + terms[2]
    return total


def answered_for(outcome: A, settled: A, left: A, objective: str) -> A:
    """The outcome that a candidate answers for under credit "settle", standard units, (E, G):

        cumulative    (outcome + n settled) / (1 + n)      final    settled

    with `settled` (E, G) the true expected outcome of the action that the outcome head would settle
    on after the candidate's row, and n = left (E, 1) experiments left. With none left the first is
    the outcome itself. Dividing by 1 + n is the same for the whole group.
    """
    mean: A = (outcome + left * settled) / (1.0 + left)  # type: ignore[operator]
    return settled if objective == "final" else mean


def outcome_to_go(outcome: A, settled: A, budget: A, objective: str, xp: Any = np) -> A:
    """The outcome that each decision (E, K) answers for under credit "episode", standard units:

        cumulative    mean of the outcomes from this decision to the last within the budget
        final         that of the action settled on after the last row within the budget

    A decision beyond the budget answers for itself alone: its outcome, or what would be settled on
    after its row.

    Args:
        outcome: (E, K) expected, of what was done; settled: (E, K), of what would be settled on
            after its row.
        budget: (E,) int.
        xp: numpy, or jax.numpy for its arrays.
    """
    step = xp.arange(outcome.shape[1])  # type: ignore[attr-defined]
    inside = step < budget[:, None]  # type: ignore[index]
    if objective == "final":
        last = xp.minimum(budget, outcome.shape[1])[:, None] - 1  # type: ignore[attr-defined]
        at_last = xp.take_along_axis(settled, last, 1)
        found: A = xp.where(inside, at_last, settled)
        return found
    counted = xp.where(inside, outcome, 0)
    rest = xp.cumsum(counted[:, ::-1], 1)[:, ::-1] / xp.maximum(inside[:, ::-1].cumsum(1)[:, ::-1], 1)
    found = xp.where(inside, rest, outcome)
    return found


def by_group(rewards: A, episodes: int) -> A:
    """Rewards (E, K, 1) of credit "episode" as (E / G, K, G): those of the G episodes of a system
    side by side. With episodes = 1, the candidates of a state are the group, and nothing changes.
    """
    if episodes == 1:
        return rewards
    steps = rewards.shape[1]  # type: ignore[attr-defined]
    grouped: A = rewards.reshape(-1, episodes, steps).swapaxes(1, 2)  # type: ignore[attr-defined]
    return grouped


def by_episode(advantage: A, episodes: int) -> A:
    """Undoes `by_group`."""
    if episodes == 1:
        return advantage
    steps = advantage.shape[1]  # type: ignore[attr-defined]
    flat: A = advantage.swapaxes(1, 2).reshape(-1, steps, 1)  # type: ignore[attr-defined]
    return flat
