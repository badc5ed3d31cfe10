"""Metrics of an evaluation, by exact definition, each with a 95 % bootstrap interval over systems.

    gain         baseline - E[target | do(action)], baseline = observational mean, in standard
                 deviations of the observed target
    score        sum of gains / sum of the oracle's gains, both over systems and interventions;
                 score_first at step 1, score_first3 and score_last3 over three steps
    simple_regret            oracle's gain - gain of the recommended action, mean over systems
    avg_target               raw outcome, mean over interventions, then systems
    parent_accuracy          share of interventions on direct causes of the target
    optimal_variable_accuracy   share on the oracle's variable
    range_utilization        (max - min) of standard values over the whole suite / 10
    episode_range_utilization   the same for each episode and variable that was set, averaged
    improvement_rate         share of episodes whose last-3 mean outcome is lower than the first-3
    regret_reduction         1 - regret(last 3) / regret(first 3), both summed over the suite; 1 if
                             the first is below 1 % of the oracle's gain
    structure_f1, structure_auroc   of the parent head after the last row, over all non-target
                                    variables

Contract: no metric looks at the luckiest row. Results are floats or None (not applicable), never
NaN.
Letters: S systems, K interventions, B bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import rankdata

from acbo_ref.arrays import Array
from acbo_ref.files import Document
from acbo_ref.randomness import Role, generator

Interval = dict[str, float | None]
BOOTSTRAP_RESAMPLES = 1000
NEGLIGIBLE_REGRET = 0.01


@dataclass(eq=False)
class MethodResults:
    """What one method did on one suite of S systems with K interventions each; lower targets are
    better here.

    Shapes: variable (S, K) and value (S, K) raw; standard (S, K); outcome (S, K) measured, raw, in
    the user's direction; cost (S, K) the same with lower = better; expected (S, K) E[target |
    do(action)]; recommended (S,) the expected target of the recommendation; baseline, spread, best
    (S,): observational mean and standard deviation, the oracle's expected target; is_parent,
    is_optimal (S, K) bool; parent_probability and parents: one array a system over its non-target
    variables, empty lists if the method has no opinion; seconds: of single decisions.
    """

    variable: Array
    value: Array
    standard: Array
    outcome: Array
    cost: Array
    expected: Array
    recommended: Array
    baseline: Array
    spread: Array
    best: Array
    is_parent: Array
    is_optimal: Array
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


def _ratio(numerator: Array, denominator: Array) -> Array:
    """(B, S) sums over systems, then the ratio (B,); nan where nothing could be gained."""
    bottom = denominator.sum(axis=-1)
    return np.where(bottom > 0, numerator.sum(axis=-1) / np.where(bottom > 0, bottom, 1.0), np.nan)


def _score(results: MethodResults, steps: slice) -> Callable[[Array], Array]:
    gain = results.gain[:, steps].mean(axis=1)
    oracle_gain = results.oracle_gain
    return lambda index: _ratio(gain[index], oracle_gain[index])


def score_difference(a: MethodResults, b: MethodResults, steps: slice = slice(None)) -> Interval:
    """Score of a minus score of b over the same systems, with a paired bootstrap interval: both see
    the same resamples.
    """
    first, second = _score(a, steps), _score(b, steps)
    return bootstrap(lambda index: first(index) - second(index), len(a.variable))


def per_step(results: MethodResults) -> tuple[Array, Array]:
    """Score and mean regret of each step with 95 % bands, (3, K) each: value, low, high over
    resampled systems.

    The regret is that of what is done at the step, in standard deviations of the observed target.
    """
    gain, best = results.gain, results.oracle_gain
    count = len(gain)
    index = generator(0, Role.BOOTSTRAP).integers(count, size=(BOOTSTRAP_RESAMPLES, count))
    weight = np.stack([np.bincount(row, minlength=count) for row in index]).astype(float)  # (B, S) how often drawn
    total = (weight @ best)[:, None]
    scores = (weight @ gain) / np.where(total > 0, total, np.nan)
    regrets = (total - weight @ gain) / count
    value = gain.sum(axis=0) / best.sum() if best.sum() > 0 else np.full(gain.shape[1], np.nan)

    def band(values: Array, middle: Array) -> Array:
        low, high = np.nanquantile(values, [0.025, 0.975], axis=0)
        return np.stack([middle, low, high])

    return band(scores, value), band(regrets, (best[:, None] - gain).mean(axis=0))


def _mean(per_system: Array) -> Callable[[Array], Array]:
    return lambda index: per_system[index].mean(axis=-1)


def _regret_reduction(results: MethodResults) -> Callable[[Array], Array]:
    regret = results.oracle_gain[:, None] - results.gain
    first, last, best = regret[:, :3].mean(axis=1), regret[:, -3:].mean(axis=1), results.oracle_gain

    def metric(index: Array) -> Array:
        first_sum, last_sum, best_sum = (a[index].sum(axis=-1) for a in (first, last, best))
        negligible = first_sum < NEGLIGIBLE_REGRET * best_sum
        return np.where(negligible, 1.0, 1.0 - last_sum / np.where(first_sum != 0, first_sum, 1.0))

    return metric


def _range_utilization(results: MethodResults) -> Callable[[Array], Array]:
    high, low = results.standard.max(axis=1), results.standard.min(axis=1)
    return lambda index: (high[index].max(axis=-1) - low[index].min(axis=-1)) / 10.0


def _episode_range(results: MethodResults) -> Array:
    """(S,): width of the values used, for each variable that was set, averaged within the
    episode.
    """
    shares = np.zeros(len(results.variable))
    for s, (variables, values) in enumerate(zip(results.variable, results.standard, strict=True)):
        widths = [np.ptp(values[variables == i]) / 10.0 for i in np.unique(variables)]
        shares[s] = np.mean(widths)
    return shares


def _structure_f1(results: MethodResults) -> Callable[[Array], Array]:
    """2 TP / (2 TP + FP + FN) at probability 0.5."""
    says = [p > 0.5 for p in results.parent_probability]
    counts = np.array([[(a & b).sum(), (a != b).sum()] for a, b in zip(says, results.parents, strict=True)], float)
    return lambda index: _ratio(2 * counts[index, 0], 2 * counts[index, 0] + counts[index, 1])


def auroc(score: Array, truth: Array) -> float:
    """Area under the ROC curve by the rank-sum formula (Hanley & McNeil 1982), ties at half; nan
    with one class only.
    """
    positives = int(truth.sum())
    negatives = truth.size - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    ranks = rankdata(score)
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _structure_auroc(results: MethodResults) -> Callable[[Array], Array]:
    def metric(index: Array) -> Array:
        rows = np.atleast_2d(index)
        values = [
            auroc(
                np.concatenate([results.parent_probability[s] for s in row]),
                np.concatenate([results.parents[s] for s in row]),
            )
            for row in rows
        ]
        return np.array(values) if index.ndim == 2 else np.asarray(values[0])

    return metric


def bootstrap(metric: Callable[[Array], Array], num_systems: int) -> Interval:
    """Value over all systems, with the 2.5 % and 97.5 % points of the metric over resampled
    systems.

    `metric` maps indices (S,) or (B, S) to () or (B,). All methods and metrics share the same
    resamples, so intervals of differences can be paired.
    """
    mean = float(metric(np.arange(num_systems)))
    if not np.isfinite(mean):
        return {"mean": None, "low": None, "high": None}
    index = generator(0, Role.BOOTSTRAP).integers(num_systems, size=(BOOTSTRAP_RESAMPLES, num_systems))
    values = metric(index)
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, [0.025, 0.975])
    return {"mean": mean, "low": float(low), "high": float(high)}


def summarise(results: MethodResults) -> Document:
    """Every metric of a method on a suite."""
    thirds = min(3, results.variable.shape[1])
    first3, last3 = results.cost[:, :thirds].mean(axis=1), results.cost[:, -thirds:].mean(axis=1)
    metrics: dict[str, Callable[[Array], Array]] = {
        "score": _score(results, slice(None)),
        "score_first": _score(results, slice(0, 1)),
        "score_first3": _score(results, slice(0, 3)),
        "score_last3": _score(results, slice(-3, None)),
        "simple_regret": _mean(results.oracle_gain - (results.baseline - results.recommended) / results.spread),
        "avg_target": _mean(results.outcome.mean(axis=1)),
        "parent_accuracy": _mean(results.is_parent.mean(axis=1)),
        "optimal_variable_accuracy": _mean(results.is_optimal.mean(axis=1)),
        "range_utilization": _range_utilization(results),
        "episode_range_utilization": _mean(_episode_range(results)),
        "improvement_rate": _mean((last3 < first3).astype(float)),
        "regret_reduction": _regret_reduction(results),
    }
    if results.parent_probability:
        metrics["structure_f1"] = _structure_f1(results)
        metrics["structure_auroc"] = _structure_auroc(results)
    num_systems = len(results.variable)
    nothing: Interval = {"mean": None, "low": None, "high": None}
    summary: Document = {"structure_f1": dict(nothing), "structure_auroc": dict(nothing)}
    summary |= {name: bootstrap(metric, num_systems) for name, metric in metrics.items()}
    summary["decision_seconds"] = {
        "median": float(np.median(results.seconds)),
        "p99": float(np.quantile(results.seconds, 0.99)),
    }
    return summary
