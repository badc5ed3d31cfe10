"""Metrics and their intervals, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from acbo_ref.arena.metrics import (
    MethodResults,
    _mean,
    _ratio,
    _score,
    auroc,
    bootstrap,
    per_step,
    resampled_weights,
    summarise,
    verdict,
)  # fmt: skip
from acbo_ref.systems.batch import gain_unit


def results(**changes):
    """Two systems, four interventions: baselines 0 and 10, spreads 1 and 2, oracles -4 and 2, so
    gains of 4 each.
    """
    expected = np.array([[0.0, -2.0, -4.0, -4.0], [10.0, 10.0, 6.0, 2.0]])
    given = {
        "variable": np.array([[0, 0, 1, 1], [2, 2, 2, 2]]),
        "value": np.zeros((2, 4)),
        "standard": np.array([[-5.0, 5.0, 0.0, 2.0], [1.0, 1.0, 1.0, 1.0]]),
        "outcome": np.array([[1.0, 1, 1, 1], [3.0, 3, 3, 3]]),
        "cost": np.array([[5.0, 4, 3, 2], [1.0, 1, 1, 1]]),
        "expected": expected,
        "recommended": np.array([-3.0, 2.0]),
        "leaves": np.zeros(2, bool),
        "baseline": np.array([0.0, 10.0]),
        "spread": np.array([1.0, 2.0]),
        "best": np.array([-4.0, 2.0]),
        "is_parent": np.array([[True, True, False, False], [True] * 4]),
        "is_optimal": np.array([[False] * 4, [False, False, False, True]]),
        "parent_probability": [np.array([0.9, 0.2]), np.array([0.6, 0.7])],
        "parents": [np.array([True, False]), np.array([False, True])],
        "seconds": [0.1, 0.3, 0.2],
    }
    return MethodResults(**(given | changes))


def test_metrics_by_hand():
    summary = summarise(results())
    mean = {k: v["mean"] for k, v in summary.items() if k != "decision_seconds"}
    # gains: (0, 2, 4, 4) and (0, 0, 2, 4), sums 10 and 6; the oracle's 4 a step, 4 steps, 2 systems
    assert mean["score"] == pytest.approx(16 / 32)
    assert mean["score_first"] == 0.0
    assert mean["score_first3"] == pytest.approx((6 + 2) / 24)
    assert mean["score_last3"] == pytest.approx((10 + 6) / 24)
    # recommended gains 3 and 4: regrets 1 and 0
    assert mean["simple_regret"] == pytest.approx(0.5)
    assert mean["avg_target"] == 2.0
    assert mean["parent_accuracy"] == pytest.approx(0.75)
    assert mean["optimal_variable_accuracy"] == pytest.approx(1 / 8)
    # system 1: variable 0 used -5..5 (1.0), variable 1 0..2 (0.2); system 2: one value (0)
    assert mean["episode_range_utilization"] == pytest.approx((0.6 + 0.0) / 2)
    # costs: last 3 mean 3 below first 3 mean 4; equal is no improvement
    assert mean["improvement_rate"] == 0.5
    # regrets first 3: (4, 2, 0) and (4, 4, 2) -> 16 / 3; last 3: (2, 0, 0) and (4, 2, 0) -> 8 / 3
    assert mean["regret_reduction"] == pytest.approx(0.5)
    # says (1, 0) and (1, 1) for truths (1, 0) and (0, 1): TP 2, FP 1, FN 0
    assert mean["structure_f1"] == pytest.approx(4 / 5)
    # positives 0.9, 0.7 against negatives 0.2, 0.6: all four pairs in order
    assert mean["structure_auroc"] == 1.0
    assert summary["decision_seconds"] == {"median": 0.2, "p99": pytest.approx(0.298)}
    for name, value in summary.items():
        if name != "decision_seconds":
            assert value["low"] <= value["mean"] <= value["high"]


def test_regret_reduction_where_nothing_was_left_to_learn():
    best = np.repeat(np.array([[-4.0], [2.0]]), 4, axis=1)
    summary = summarise(results(expected=best + 0.01))
    assert summary["regret_reduction"]["mean"] == 1.0 and summary["score"]["mean"] > 0.99
    # perfect at first and useless at the end is no reduction at all
    lost = best.copy()
    lost[:, 3] = [0.0, 10.0]
    assert summarise(results(expected=lost))["regret_reduction"]["mean"] is None


def test_regret_reduction_of_a_method_that_gets_worse_is_negative():
    """Regrets (2, 2, 2, 4) of system 1, none of system 2: first three 6 / 3, last three 8 / 3."""
    expected = np.array([[-2.0, -2.0, -2.0, 0.0], [2.0] * 4])
    assert summarise(results(expected=expected))["regret_reduction"]["mean"] == pytest.approx(1 - 8 / 6)


def test_the_mean_of_systems_weighs_each_the_same():
    """Scores of single systems: 10 / 16 and 6 / 16; with ten times the gains to be had in the first
    and the same gains: 1 / 16 and 6 / 16.
    """
    assert summarise(results())["score_per_system"]["mean"] == pytest.approx((10 / 16 + 6 / 16) / 2)
    large = summarise(results(best=np.array([-40.0, 2.0])))
    assert large["score_per_system"]["mean"] == pytest.approx((1 / 16 + 6 / 16) / 2)
    assert large["score"]["mean"] == pytest.approx(16 / 176)
    small = summarise(results(best=np.array([-0.5, 9.0])))  # gains of half a spread are gains too
    assert small["score_per_system"]["mean"] == pytest.approx((5 + 3) / 2)
    # a system in which nothing can be gained has no score of its own
    nothing = summarise(results(best=np.array([-4.0, 10.0])))
    assert nothing["score_per_system"]["mean"] == pytest.approx(10 / 16)


def repeated(cluster, count=12):
    """A method's results on `count` repetitions of the two systems above, in that order."""
    both = results(parent_probability=[], parents=[])
    fields = {
        f: getattr(both, f) for f in both.__dataclass_fields__ if f not in ("parent_probability", "parents", "seconds")
    }
    tiled = {f: np.concatenate([v] * count) for f, v in fields.items() if f != "cluster"}
    return MethodResults(**tiled, cluster=np.array(cluster), seconds=[0.1])


def test_repetitions_are_not_systems():
    """Twelve repetitions of two problems say no more about other problems than two do."""
    two = summarise(results())["score"]
    together = summarise(repeated([0, 1] * 12))["score"]
    apart = summarise(repeated(list(range(24))))["score"]
    assert together == pytest.approx(two)
    assert apart["mean"] == pytest.approx(two["mean"])
    assert apart["high"] - apart["low"] < 0.6 * (two["high"] - two["low"])


def test_weights_of_a_resample_by_hand():
    """Each resample draws as many clusters as there are; members of one always come together."""
    weight = resampled_weights(np.array([0, 1, 0, 2]))
    assert weight.shape == (1000, 4) and (weight[:, 0] == weight[:, 2]).all()
    assert (weight[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert weight[:, 1].mean() == pytest.approx(1.0, abs=0.1)  # sd of the mean sqrt(2 / 3 / 1000) = 0.026


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says():
    """Coverage of the interval over 40 clusters of 3 that share a draw; 300 trials.

    The truth is 0. The percentile bootstrap over 40 clusters covers a little less than 95 %: 92-95
    % is what theory leads one to expect, and a binomial of 300 has a standard deviation of 1.3 %.
    An interval over systems, which takes the three of a cluster for independent, covers about 75 %.
    """
    rng = np.random.default_rng(5)
    cluster = np.repeat(np.arange(40), 3)
    shares, weights = {"clusters": 0, "systems": 0}, {}
    for key, groups in (("clusters", cluster), ("systems", np.arange(120))):
        weights[key] = resampled_weights(groups)
    for _ in range(300):
        values = np.repeat(rng.standard_normal(40), 3) + 0.1 * rng.standard_normal(120)
        for key, weight in weights.items():
            low, high = np.quantile(_mean(values)(weight), [0.025, 0.975])
            shares[key] += int(low <= 0.0 <= high)
    assert 0.90 < shares["clusters"] / 300 < 0.98
    assert shares["systems"] / 300 < 0.85


def test_a_verdict_is_about_the_printed_interval():
    assert verdict({"mean": 0.01, "low": 0.0004, "high": 0.02}) == ""  # prints as 0.000
    assert verdict({"mean": 0.01, "low": 0.0006, "high": 0.02}) == "above"  # prints as 0.001
    assert verdict({"mean": -0.01, "low": -0.02, "high": -0.0004}) == ""
    assert verdict({"mean": -0.01, "low": -0.02, "high": -0.001}) == "below"
    assert verdict({"mean": None, "low": None, "high": None}) == ""


def test_auroc_by_hand():
    # pairs (positive, negative): 0.8 > 0.5, 0.8 > 0.1, 0.5 = 0.5 (half), 0.5 > 0.1
    score, truth = np.array([0.8, 0.5, 0.5, 0.1]), np.array([True, True, False, False])
    # the second weighting counts the tied positive three times, and the lowest negative not at all:
    # pairs 0.8 > 0.5 once, 0.5 = 0.5 three times
    weight = np.array([[1.0, 1, 1, 1], [1.0, 3, 1, 0]])
    assert auroc(score, truth, weight) == pytest.approx([3.5 / 4, 2.5 / 4])
    assert np.isnan(auroc(np.array([0.1, 0.2]), np.array([True, True]), np.ones((1, 2))))


def test_a_weighted_auroc_is_that_of_repeated_rows():
    rng = np.random.default_rng(0)
    score, truth, times = rng.integers(0, 5, 12).astype(float), rng.random(12) < 0.5, rng.integers(0, 4, 12)
    rows = np.repeat(np.arange(12), times)
    pairs = score[rows][truth[rows]][:, None] - score[rows][~truth[rows]][None]
    by_pairs = (pairs > 0).mean() + 0.5 * (pairs == 0).mean()
    assert auroc(score, truth, times[None].astype(float))[0] == pytest.approx(by_pairs)


def test_auroc_with_one_positive():
    assert auroc(np.array([0.9, 0.2, 0.3]), np.array([True, False, False]), np.ones((1, 3))) == 1.0
    assert auroc(np.array([0.9, 0.2]), np.array([True, False]), np.ones((1, 2))) == 1.0
    assert np.isnan(auroc(np.array([0.9, 0.2]), np.array([False, False]), np.ones((1, 2))))
    assert np.isnan(auroc(np.zeros(0), np.zeros(0, bool), np.ones((3, 0)))).tolist() == [True] * 3


def test_bands_of_steps_are_the_bootstrap_of_each_step():
    r = results()
    score, regret = per_step(r)
    for k in range(4):
        one = bootstrap(_score(r, slice(k, k + 1)), r.clusters)
        assert score[:, k] == pytest.approx([one["mean"], one["low"], one["high"]])
        one = bootstrap(_mean(r.oracle_gain - r.gain[:, k]), r.clusters)
        assert regret[:, k] == pytest.approx([one["mean"], one["low"], one["high"]])
    assert regret[:, 0].tolist() == [4.0, 4.0, 4.0] and regret[:, 2].tolist() == [1.0, 0.0, 2.0]
    small = results(best=np.array([-0.25, 9.5]))  # gains below 1 are gains too
    assert per_step(small)[0][0] == pytest.approx(small.gain.sum(axis=0) / 0.5)


@pytest.mark.filterwarnings("ignore:All-NaN slice")
def test_bands_where_nothing_can_be_gained():
    r = results(best=np.array([0.0, 10.0]))
    score, regret = per_step(r)
    assert np.isnan(score[0]).all() and regret[0] == pytest.approx(-r.gain.mean(axis=0))


def test_shares_of_small_sums():
    half = _ratio(np.array([0.1, 0.1]), np.array([0.2, 0.2]))
    assert half(np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 0.0]])) == pytest.approx([0.5, 0.5, np.nan], nan_ok=True)


def test_the_unit_of_gains_by_hand():
    """The target's spread, unless it is less than 1e-9 of the target's size or of what there is to
    gain.
    """
    baseline, best = np.array([1e3, 1e3, 0.0, 0.0, 1e3, 0.0]), np.array([999.0, 999.0, -1e3, -1e3, 1e3, 0.0])
    std = np.array([2e-6, 5e-7, 2e-6, 5e-7, 1.5e-6, 0.0])
    assert gain_unit(baseline, std, best).tolist() == [2e-6, 1.0, 2e-6, 1.0, 1.5e-6, 1.0]


def test_intervals_resample_systems():
    """Of two systems one alone is drawn a quarter of the time, and its own figures are the end of
    the interval.
    """
    summary = summarise(results(parent_probability=[np.array([0.9, 0.2]), np.array([0.95, 0.3])]))
    assert summary["episode_range_utilization"] == {"mean": 0.3, "low": 0.0, "high": 0.6}  # the second never moves
    # the first has its parent before the other variable, the second behind; of the four pairs of
    # both, two are in order
    assert summary["structure_auroc"] == {"mean": 0.5, "low": 0.0, "high": 1.0}
    improving = summarise(results(cost=np.array([[10.0, 9, 8, 7], [1.0, 1, 1, 0.5]])))
    assert improving["improvement_rate"]["mean"] == 1.0


def test_the_interval_narrows_with_more_systems():
    rng = np.random.default_rng(0)

    def width(count):
        expected = rng.normal(-2, 1, (count, 4))
        summary = summarise(
            MethodResults(
                np.zeros((count, 4), int), np.zeros((count, 4)), np.zeros((count, 4)), expected, expected, expected,
                expected[:, 0], np.zeros(count, bool), np.zeros(count), np.ones(count), np.full(count, -4.0),
                np.ones((count, 4), bool), np.ones((count, 4), bool), [], [], [1.0],
            )
        )["score"]  # fmt: skip
        return summary["high"] - summary["low"]

    assert width(400) == pytest.approx(width(25) / 4, rel=0.5)


def test_leaves_and_worse_than_nothing_by_hand():
    """Baselines 0 and 10, spreads 1 and 2: worse by 0.06 and by 0.04 spreads."""
    summary = summarise(results(recommended=np.array([0.06, 10.08]), leaves=np.array([False, True])))
    assert summary["leaves"]["mean"] == 0.5 and summary["worse_than_nothing"]["mean"] == 0.5
