"""Metrics of an evaluation, by exact definition, each with a 95 % bootstrap interval over clusters
of systems.

    gain            baseline - E[target | do(action)], baseline = observational mean, in standard
                    deviations of the observed target
    score           sum of gains / sum of the oracle's gains, both over systems and interventions;
                    score_first at step 1, score_first3 and score_last3 over three steps
    score_per_system         mean over systems of a system's own score, those in which nothing can
                             be gained left out: no single system weighs more than another
    simple_regret            oracle's gain - gain of the recommended action, mean over systems
    leaves                   share of recommendations to leave the system as it is
    worse_than_nothing       share of recommendations under which the target is expected to be
                             worse than under doing nothing, by more than NEGLIGIBLE_LOSS spreads
    avg_target               raw outcome, mean over interventions, then systems
    parent_accuracy          share of interventions on direct causes of the target
    optimal_variable_accuracy   share on the oracle's variable
    episode_range_utilization   (max - min) of standard values / 10, of each variable that was set,
                                averaged within the episode, then over systems
    improvement_rate         share of episodes whose last-3 mean outcome is lower than the first-3
    regret_reduction         1 - regret(last 3) / regret(first 3), both summed over the suite. A
                             regret below 1 % of the oracle's gain is negligible: with a negligible
                             first regret it is 1 if the last is negligible too, else None
    structure_f1, structure_auroc   of the parent head after the last row, over all non-target
                                    variables

Systems that are repetitions of one problem, network or pattern form a cluster. The bootstrap draws
clusters with replacement, since repetitions of a problem say little about other problems (Cameron,
Gelbach & Miller 2008, section II.B).

Contract: no metric looks at the luckiest row. Results are floats or None (not applicable), never
NaN.
Letters: S systems, C clusters, K interventions, B bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.files import Document
from acbo_ref.policy.inputs import RANGE
from acbo_ref.randomness import Role, generator

Interval = dict[str, float | None]
# A metric of weighted systems: (B, S) how often each system counts -> (B,).
Metric = Callable[[Array], Array]
BOOTSTRAP_RESAMPLES = 1000
NEGLIGIBLE_REGRET = 0.01
# Spreads of the target; the expectation of a system without a closed form is known to 0.016 of one.
NEGLIGIBLE_LOSS = 0.05


@dataclass(eq=False)
class MethodResults:
    """What one method did on one suite of S systems with K interventions each; lower targets are
    better here.

    Args:
        variable, value: (S, K), value raw.
        standard: (S, K), the value in standard units.
        outcome: (S, K) measured, raw, in the user's direction; cost: the same with lower = better.
        expected: (S, K), E[target | do(action)].
        recommended: (S,), the expected target of the recommendation; leaves: (S,) bool, whether
            that is to do nothing.
        baseline, spread, best: (S,), observational mean and standard deviation, the oracle's
            expected target.
        is_parent, is_optimal: (S, K) bool.
        cluster: (S,) int, the same number for repetitions of one problem; empty: all apart.
        parent_probability, parents: one array a system over its non-target variables, empty lists
            if the method has no opinion.
        seconds: of single decisions.
    """

    variable: Array
    value: Array
    standard: Array
    outcome: Array
    cost: Array
    expected: Array
    recommended: Array
    leaves: Array
    baseline: Array
    spread: Array
    best: Array
    is_parent: Array
    is_optimal: Array
    cluster: Array = field(default_factory=lambda: np.zeros(0, int))
    parent_probability: list[Array] = field(default_factory=list)
    parents: list[Array] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def gain(self) -> Array:
        """(S, K)"""
        return np.asarray((self.baseline[:, None] - self.expected) / self.spread[:, None])

    @property
    def oracle_gain(self) -> Array:
        """(S,) of one step"""
        return np.asarray((self.baseline - self.best) / self.spread)

    @property
    def clusters(self) -> Array:
        """(S,) int, from 0 without gaps."""
        if len(self.cluster) != len(self.variable):
            return np.arange(len(self.variable))
        return np.unique(self.cluster, return_inverse=True)[1].reshape(-1)


# ---------------------------------------------------------------------------------- resampling


def resampled_weights(clusters: Array) -> Array:
    """(B, S) how often each system counts when clusters are drawn with replacement.

    All methods and metrics of a suite share the same draws, so intervals of differences are paired.
    """
    count = int(clusters.max()) + 1 if clusters.size else 0
    drawn = generator(0, Role.BOOTSTRAP).integers(count, size=(BOOTSTRAP_RESAMPLES, count))
    times = np.stack([np.bincount(row, minlength=count) for row in drawn]).astype(float)
    return np.asarray(times[:, clusters])


def bootstrap(metric: Metric, clusters: Array) -> Interval:
    """Value over all systems, with the 2.5 % and 97.5 % points of the metric over resampled
    clusters.
    """
    value = float(metric(np.ones((1, len(clusters))))[0])
    if not np.isfinite(value):
        return {"mean": None, "low": None, "high": None}
    values = metric(resampled_weights(clusters))
    low, high = np.quantile(values[np.isfinite(values)], [0.025, 0.975])
    return {"mean": value, "low": float(low), "high": float(high)}


# ------------------------------------------------------------------------------------- metrics


def _ratio(numerator: Array, denominator: Array) -> Metric:
    """Weighted sum over systems of one (S,) over that of another; nan where nothing could be
    gained.
    """

    def metric(weight: Array) -> Array:
        top, bottom = weight @ numerator, weight @ denominator
        return np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0), np.nan)

    return metric


def _mean(per_system: Array, counts: Array | None = None) -> Metric:
    """Mean over systems; over those that count, if not all do."""
    one = np.ones(len(per_system)) if counts is None else counts.astype(float)
    return _ratio(np.where(one > 0, per_system, 0.0), one)


def _score(results: MethodResults, steps: slice) -> Metric:
    return _ratio(results.gain[:, steps].mean(axis=1), results.oracle_gain)


def _score_per_system(results: MethodResults) -> Metric:
    best = results.oracle_gain
    can_gain = best > 0
    return _mean(results.gain.mean(axis=1) / np.where(can_gain, best, 1.0), can_gain)


def _regret_reduction(results: MethodResults) -> Metric:
    regret = results.oracle_gain[:, None] - results.gain
    first, last = regret[:, :3].mean(axis=1), regret[:, -3:].mean(axis=1)

    def metric(weight: Array) -> Array:
        negligible = NEGLIGIBLE_REGRET * (weight @ results.oracle_gain)
        begins, ends = weight @ first, weight @ last
        nothing_to_reduce = np.where(ends < negligible, 1.0, np.nan)
        return np.where(begins < negligible, nothing_to_reduce, 1.0 - ends / np.where(begins != 0, begins, 1.0))

    return metric


def _episode_range(results: MethodResults) -> Array:
    """(S,): width of the values used, for each variable that was set, averaged within the
    episode.
    """
    shares = np.zeros(len(results.variable))
    for s, (variables, values) in enumerate(zip(results.variable, results.standard, strict=True)):
        widths = [np.ptp(values[variables == i]) / RANGE for i in np.unique(variables)]
        shares[s] = np.mean(widths)
    return shares


def _structure_f1(results: MethodResults) -> Metric:
    """2 TP / (2 TP + FP + FN) at probability 0.5."""
    says = [p > 0.5 for p in results.parent_probability]
    counts = np.array([[(a & b).sum(), (a != b).sum()] for a, b in zip(says, results.parents, strict=True)], float)
    return _ratio(2 * counts[:, 0], 2 * counts[:, 0] + counts[:, 1])


def auroc(score: Array, truth: Array, weight: Array) -> Array:
    """Area under the ROC curve: share of (positive, negative) pairs in which the positive has the
    higher score, ties at half (Hanley & McNeil 1982); nan with one class only.

    Args:
        score: (N,); truth: (N,) bool.
        weight: (B, N) how often each counts.
    Returns:
        (B,)
    """
    _, level = np.unique(score, return_inverse=True)
    levels = np.zeros((len(score), int(level.max()) + 1 if len(score) else 0))
    levels[np.arange(len(score)), level.reshape(-1)] = 1.0
    positive, negative = (weight * truth) @ levels, (weight * ~truth) @ levels  # (B, levels)
    below = np.cumsum(negative, axis=1) - negative
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    won = (positive * (below + 0.5 * negative)).sum(axis=1)
    return np.where(pairs > 0, won / np.where(pairs > 0, pairs, 1.0), np.nan)


def _structure_auroc(results: MethodResults) -> Metric:
    owner = np.repeat(np.arange(len(results.parents)), [len(p) for p in results.parents])
    score, truth = np.concatenate(results.parent_probability), np.concatenate(results.parents).astype(bool)
    return lambda weight: auroc(score, truth, weight[:, owner])


def summarise(results: MethodResults) -> Document:
    """Every metric of a method on a suite."""
    thirds = min(3, results.variable.shape[1])
    first3, last3 = results.cost[:, :thirds].mean(axis=1), results.cost[:, -thirds:].mean(axis=1)
    recommended = (results.baseline - results.recommended) / results.spread
    metrics: dict[str, Metric] = {
        "score": _score(results, slice(None)),
        "score_per_system": _score_per_system(results),
        "score_first": _score(results, slice(0, 1)),
        "score_first3": _score(results, slice(0, 3)),
        "score_last3": _score(results, slice(-3, None)),
        "simple_regret": _mean(results.oracle_gain - recommended),
        "leaves": _mean(results.leaves.astype(float)),
        "worse_than_nothing": _mean((recommended < -NEGLIGIBLE_LOSS).astype(float)),
        "avg_target": _mean(results.outcome.mean(axis=1)),
        "parent_accuracy": _mean(results.is_parent.mean(axis=1)),
        "optimal_variable_accuracy": _mean(results.is_optimal.mean(axis=1)),
        "episode_range_utilization": _mean(_episode_range(results)),
        "improvement_rate": _mean((last3 < first3).astype(float)),
        "regret_reduction": _regret_reduction(results),
    }
    if results.parent_probability:
        metrics["structure_f1"] = _structure_f1(results)
        metrics["structure_auroc"] = _structure_auroc(results)
    nothing: Interval = {"mean": None, "low": None, "high": None}
    summary: Document = {"structure_f1": dict(nothing), "structure_auroc": dict(nothing)}
    summary |= {name: bootstrap(metric, results.clusters) for name, metric in metrics.items()}
    summary["decision_seconds"] = {
        "median": float(np.median(results.seconds)) if results.seconds else None,
        "p99": float(np.quantile(results.seconds, 0.99)) if results.seconds else None,
    }
    return summary


# --------------------------------------------------------------------------- comparing methods


def score_difference(a: MethodResults, b: MethodResults, steps: slice = slice(None)) -> Interval:
    """Score of a minus score of b over the same systems, with a paired bootstrap interval: both see
    the same resamples.
    """
    first, second = _score(a, steps), _score(b, steps)
    return bootstrap(lambda weight: first(weight) - second(weight), a.clusters)


def recommendation_difference(a: MethodResults, b: MethodResults) -> Interval:
    """The same of what is recommended in the end: share of what could be gained by which a's
    recommendations are better than b's.
    """
    better = _ratio((b.recommended - a.recommended) / a.spread, (a.baseline - a.best) / a.spread)
    return bootstrap(better, a.clusters)


def verdict(difference: Interval, digits: int = 3) -> str:
    """ "above" or "below" if the interval lies beyond zero as it is printed, else "": round first,
    then judge.
    """
    low, high = difference["low"], difference["high"]
    if low is None or high is None:
        return ""
    return "above" if round(low, digits) > 0 else "below" if round(high, digits) < 0 else ""


class Bands(NamedTuple):
    """Of each step, (3, K): value, and the ends of its 95 % band over resampled clusters."""

    score: Array
    regret: Array


def per_step(results: MethodResults) -> Bands:
    """Score and mean regret of each step.

    The regret is that of what is done at the step, in standard deviations of the observed target.
    """
    gain, best = results.gain, results.oracle_gain
    weight = resampled_weights(results.clusters)
    total, systems = (weight @ best)[:, None], weight.sum(axis=1)[:, None]
    scores = (weight @ gain) / np.where(total > 0, total, np.nan)
    regrets = (total - weight @ gain) / systems
    value = gain.sum(axis=0) / best.sum() if best.sum() > 0 else np.full(gain.shape[1], np.nan)

    def band(values: Array, middle: Array) -> Array:
        if np.isnan(values).all():  # nothing can be gained in any system
            return np.full((3, len(middle)), np.nan)
        low, high = np.nanquantile(values, [0.025, 0.975], axis=0)
        return np.stack([middle, low, high])

    return Bands(band(scores, value), band(regrets, (best[:, None] - gain).mean(axis=0)))
