"""What is measured of a batch of training episodes: statistics of what was played, and the true
gains.

Contract: pure functions of trajectories and systems.
Letters: E episodes, K interventions, N judged actions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from acbo_ref.arrays import Array
from acbo_ref.config import Config
from acbo_ref.files import Document
from acbo_ref.grpo.loss import zero_std_groups
from acbo_ref.grpo.rollout import Trajectories
from acbo_ref.policy.inputs import HALF_WIDTH, RANGE
from acbo_ref.systems.batch import SCMBatch, expected_target, gain_unit, observational_moments, oracle, select

# Draws and grid for the training score of models without a closed form; evaluation uses far more.
TRAINING_DRAWS = 64
TRAINING_GRID = 21


# So many episodes of a batch are scored: the oracle of a system without a closed form takes
# milliseconds.
MEASURED_EPISODES = 32


class Episodes(NamedTuple):
    """What was done in E episodes, (E, K) each: the variable that was set and its raw value."""

    variable: Array
    applied: Array


def episode_statistics(trajectories: Trajectories[Any], normal: Array | None) -> tuple[Episodes, dict[str, float]]:
    """What was done in a batch of episodes, and numbers about it.

    Targets are in standard units here, so that systems can be averaged; `target_mean` is raw.

    Args:
        trajectories: of any backend.
        normal: (E, K), the noise of candidate 0's values, which `mean_range_utilization` subtracts
            again; None with a learned standard deviation.
    """
    t = trajectories
    rewards, mean = np.asarray(t.rewards, float), np.asarray(t.value, float)[:, :, 0]
    committed = np.asarray(t.committed)[:, None, None]

    def carried_out(judged: ArrayLike) -> Array:
        return np.take_along_axis(np.asarray(judged), committed, axis=2)[:, :, 0]

    variable, value = np.asarray(t.done), carried_out(t.judged_value).astype(float)
    if normal is not None:
        mean = mean - float(t.fixed_std) * np.take_along_axis(normal, np.asarray(t.learned), axis=1)
    mean = np.clip(mean, -HALF_WIDTH, HALF_WIDTH)
    target = np.asarray(t.expected, float)
    parents = np.take_along_axis(np.asarray(t.parents), variable, axis=1)
    return Episodes(variable, np.asarray(t.applied, float)), {
        "reward_mean": float(rewards.mean()),
        "target_mean": float(np.asarray(t.outcome, float).mean()),
        "target_standard": float(target.mean()),
        "first3_target": float(target[:, :3].mean()),
        "last3_target": float(target[:, -3:].mean()),
        "parent_accuracy": float(parents.mean()),
        "range_utilization": float(np.ptp(value) / RANGE),
        "mean_range_utilization": float(np.ptp(mean) / RANGE),
        "frac_reward_zero_std": float(zero_std_groups(rewards).mean()),
    }


def episode_gains(systems: SCMBatch[Array], variable: Array, value: Array) -> tuple[Array, Array]:
    """True gains of E episodes, and the oracle's, (E,) each, in standard deviations of the observed
    target.

    A gain is the expected drop of the target below the observational mean, summed over the
    episode's interventions. A system whose numbers are not finite counts as 0 of 0.
    """
    mean, std = observational_moments(systems, TRAINING_DRAWS)
    expected = expected_target(systems, variable, value, TRAINING_DRAWS)
    _, _, best = oracle(systems, TRAINING_DRAWS, TRAINING_DRAWS, TRAINING_GRID)
    spread = gain_unit(mean, std, best)
    gains, oracle_gains = (mean[:, None] - expected).sum(axis=1) / spread, variable.shape[1] * (mean - best) / spread
    finite = np.isfinite(gains) & np.isfinite(oracle_gains)
    return np.where(finite, gains, 0.0), np.where(finite, oracle_gains, 0.0)


def scored_head(config: Config) -> str:
    """The head whose episodes decide about stages, checkpoints and early stopping: the one that
    decides in use, if it acts in any training episode, else the other.
    """
    share = config.heads.commit_by_outcome_head
    if config.decision == "outcome_head":
        return "outcome_head" if share > 0 else "policy_head"
    return "policy_head" if share < 1 else "outcome_head"


def head_scores(
    config: Config,
    systems: SCMBatch[Array],
    episodes: Episodes,
    by_outcome_head: Array,
    rehearsed: Array,
    iteration: int,
) -> tuple[Document, tuple[Array, Array]]:
    """Scores of a batch by the head that acted, as a record has them, and gains and oracle's gains
    of the episodes that count for the curriculum: of the scored head, not rehearsed.

    Args:
        by_outcome_head, rehearsed: (E,) bool.
        iteration: picks which MEASURED_EPISODES of the batch are scored. Others each time, since a
            place in the batch goes with a model of a pool.
    """
    count = min(config.batch_size, MEASURED_EPISODES)
    some = (np.arange(count) + iteration * count) % config.batch_size
    gains, oracle_gains = episode_gains(select(systems, some), episodes.variable[some], episodes.applied[some])
    head = scored_head(config)
    acted = {"policy_head": ~by_outcome_head[some], "outcome_head": by_outcome_head[some]}
    scores = {name: _score(gains[mine], oracle_gains[mine]) for name, mine in acted.items()}
    counts = ~rehearsed[some] & acted[head]
    record = {"score": scores[head], **{f"score_{name}": s for name, s in scores.items()}, "scored_head": head}
    return record, (gains[counts], oracle_gains[counts])


def _score(gains: Array, oracle_gains: Array) -> float | None:
    """Sum of gains over sum of the oracle's; 0 where nothing could be gained, None without
    episodes.
    """
    if not len(gains):
        return None
    return float(gains.sum() / oracle_gains.sum()) if oracle_gains.sum() > 0 else 0.0
