"""Advice on a training run: what is conspicuous in its last iterations, and what to try.

One list serves both the warnings during training and the diagnosis of `acbo analyze`, so thresholds
and words stand once.

Contract: a function of records and of the configuration; changes nothing but the list of what was
said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from acbo_ref.files import Document
from acbo_ref.training.run_folder import Record

# Iterations that advice looks back on, and the least number between two warnings of a kind.
WINDOW = 20
# How far the recent score may fall below the best of its stage, and how many times its median the
# gradient norm may be, before advice says so.
FALLEN = 0.2
EXPLODING = 100.0


class Finding(NamedTuple):
    """Something conspicuous, and what to try."""

    kind: str
    finding: str
    advice: str


class _Recent:
    """Means over the last iterations."""

    def __init__(self, records: Sequence[Record], config: Document) -> None:
        self.records, self.config = records, config
        self.score = records[-1]["recent_score"]

    def mean(self, key: str) -> float:
        """Mean of a metric where it is known; NaN where it never is."""
        values = [r[key] for r in self.records[-WINDOW:] if r.get(key) is not None]
        return float(np.mean(values)) if values else float("nan")

    def scores_below(self, score: float) -> bool:
        return (self.score or 0.0) < score


def _skipped(recent: _Recent) -> str | None:
    skipped = sum(r["skipped_steps"] or 0 for r in recent.records)
    if not skipped:
        return None
    return f"{skipped:.0f} optimiser steps were skipped because the loss or the gradient was not finite."


def _low_score(recent: _Recent) -> str | None:
    if recent.score is None or recent.score >= 0.3:
        return None
    return f"The recent score is {recent.score:.2f}: little better than doing nothing."


def _fallen(recent: _Recent) -> str | None:
    """By the median: one system with a huge gain moves a single score, which is a ratio of sums."""
    best = recent.records[-1].get("best_score")
    scores = [r["recent_score"] for r in recent.records[-WINDOW:] if r.get("recent_score") is not None]
    if best is None or not scores or float(np.median(scores)) >= best - FALLEN:
        return None
    return f"The recent score has fallen from {best:.2f} to {float(np.median(scores)):.2f}."


def _exploding(recent: _Recent) -> str | None:
    norms = [r["gradient_norm"] for r in recent.records[-WINDOW:] if r.get("gradient_norm") is not None]
    if len(norms) < WINDOW or not norms[-1] > EXPLODING * float(np.median(norms)):
        return None
    return f"The gradient norm is {norms[-1]:.3g}, {norms[-1] / float(np.median(norms)):.0f} times its median."


def _narrow(recent: _Recent) -> str | None:
    share = recent.mean("mean_range_utilization")
    return f"Without exploration, interventions use {share:.0%} of the domain." if share < 0.3 else None


def _collapsed(recent: _Recent) -> str | None:
    entropy = recent.mean("entropy")
    if not (entropy < 0.02 and recent.scores_below(0.9)):
        return None
    return f"The variable choice has collapsed (entropy {entropy:.3f} nats) below a score of 0.9."


def _no_improvement(recent: _Recent) -> str | None:
    long_enough = (recent.config.get("interventions_per_episode") or 6) >= 6
    worse = recent.mean("last3_target") >= recent.mean("first3_target")
    if not (long_enough and worse and recent.scores_below(0.8)):
        return None
    return "Episodes do not improve: the last three interventions are no better than the first three."


def _large_updates(recent: _Recent) -> str | None:
    kl = recent.mean("approx_kl")
    return f"Updates are large (approximate KL {kl:.2f})." if kl > 0.1 else None


def _clipped(recent: _Recent) -> str | None:
    clip, norm = (recent.config.get("grpo") or {}).get("gradient_clip"), recent.mean("gradient_norm")
    if clip is None or not norm > 10 * clip:
        return None
    return f"Gradients are clipped to under a tenth (mean norm {norm:.1f}, clip {clip:g})."


def _equal_rewards(recent: _Recent) -> str | None:
    share = recent.mean("frac_reward_zero_std")
    return f"{share:.0%} of the groups have equal rewards and teach nothing." if share > 0.3 else None


# kind, what to look for, what to try
_KINDS: tuple[tuple[str, Callable[[_Recent], str | None], str], ...] = (
    ("score", _low_score,
     "Train longer, raise grpo.learning_rate, or begin with smaller systems (curriculum.stages)."),
    ("fallen", _fallen,
     "Go back to the best numbered checkpoint (--resume) and lower grpo.learning_rate."),
    ("exploding", _exploding, "Lower grpo.learning_rate, and keep grpo.gradient_clip on."),
    ("non_finite", _skipped,
     "Reduce grpo.group_size or grpo.learning_rate, and keep grpo.gradient_clip on."),
    ("range", _narrow,
     "It may be converging early: raise policy.fixed_std to 2.0 and grpo.entropy_coefficient to 0.02."),
    ("entropy", _collapsed,
     "Raise grpo.entropy_coefficient, or anneal it with grpo.entropy_coefficient_final."),
    ("improvement", _no_improvement,
     "Try grpo.ppo_epochs 6 and grpo.learning_rate 3e-4, and check the reward weights."),
    ("updates", _large_updates, "Lower grpo.learning_rate or grpo.ppo_epochs."),
    ("clipping", _clipped, "This is usual with raw systems, by the outcome loss: lower heads.outcome_weight."),
    ("equal_rewards", _equal_rewards, "Raise policy.fixed_std or grpo.group_size."),
)  # fmt: skip
# Warnings during training: these kinds once there are WINDOW iterations, and steps skipped in the
# newest one at once.
_WARNED = ("fallen", "exploding", "range", "improvement")


def diagnosis(records: Sequence[Record], config: Document) -> list[Finding]:
    """Everything conspicuous in the last iterations of a run; skipped steps are those of the whole
    run.

    Args:
        records: lines of metrics.jsonl, at least one.
        config: as plain data, or an empty mapping.
    """
    recent = _Recent(records, config)
    found = [(kind, look(recent), advice) for kind, look, advice in _KINDS]
    return [Finding(kind, finding, advice) for kind, finding, advice in found if finding is not None]


def warnings(records: Sequence[Record], config: Document) -> list[Finding]:
    """What to say during training, from the last WINDOW iterations."""
    found = [f for f in diagnosis(records[-1:], config) if f.kind == "non_finite"]
    if len(records) >= WINDOW:
        found += [f for f in diagnosis(records[-WINDOW:], config) if f.kind in _WARNED]
    return found


def due_warnings(records: Sequence[Record], config: Document, iteration: int, warned: dict[str, int]) -> list[str]:
    """The texts of `warnings` that were not said in the last WINDOW iterations; `warned`, the
    iteration in which each kind was said last, is brought up to date.
    """
    due = iteration - WINDOW
    fresh = [f for f in warnings(records, config) if warned.get(f.kind, due) <= due]
    warned |= dict.fromkeys((f.kind for f in fresh), iteration)
    return [f"{f.finding} {f.advice}" for f in fresh]
