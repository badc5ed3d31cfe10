"""Metrics by hand, baselines, and the report that other tools rely on."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from test_scm import diamond, functional

from acbo_ref import SCM, AcboError, Trainer, Variable, evaluate, save_scm
from acbo_ref.arena.baselines import BASELINES, Endpoints, Random, Regress
from acbo_ref.arena.method import target_spread
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
from acbo_ref.arena.play import METHODS, run_method
from acbo_ref.arena.suites import SUITES, Suite, load_suite
from acbo_ref.policy.inputs import Task
from acbo_ref.policy.session import Decision, or_nothing
from acbo_ref.systems.batch import gain_unit
from acbo_ref.verify.data import small_config


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


def test_suites_name_what_is_repeated():
    cbo, real, seeds = (load_suite(name, 0) for name in ("cbo", "real", "seed"))
    assert len(set(cbo.clusters)) == 8 and len(cbo.clusters) == 32
    assert cbo.clusters == tuple(s.name for s in cbo.systems)
    assert 8 <= len(set(real.clusters)) < 26
    assert set(seeds.clusters) == {"++", "+-", "-+", "--"}
    assert len(set(load_suite("medium", 0).clusters)) == len(load_suite("medium", 0).systems)


def test_methods_without_an_opinion_on_structure_say_so():
    summary = summarise(results(parent_probability=[], parents=[]))
    assert summary["structure_f1"] == {"mean": None, "low": None, "high": None}
    only_parents = summarise(results(parents=[np.array([True, True])] * 2))
    assert only_parents["structure_auroc"]["mean"] is None


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


# ---------------------------------------------------------------------------------------- baselines


def task_of(rows, target, manipulable, low, high):
    """The task of a single system."""
    return Task(
        observations=rows[None], observation_mask=np.ones((1, len(rows)), bool), target=np.array([target]),
        valid=np.ones((1, rows.shape[1]), bool), manipulable=manipulable[None], low=low[None], high=high[None],
    )  # fmt: skip


def problem(num_obs=30, seed=0, **changes):
    scm = diamond(**changes)
    rows = scm.simulate(np.random.default_rng(seed).standard_normal((num_obs, 4)))
    return scm, task_of(rows, scm.target_index, scm.manipulable, scm.low, scm.high)


def test_regress_takes_the_steepest_slope_per_half_domain():
    x = np.arange(6.0)
    rows = np.stack([2 * x, x, -3 * (x % 2)], axis=1)  # target first
    p = task_of(rows, 0, np.array([False, True, True]), np.array([0, -1.0, 0]), np.array([0, 1.0, 1.0]))
    # slope on column 1 is 2 and its half domain 1; on column 2 the effect is smaller
    assert Regress(p, np.random.default_rng(0)).ask() == (1, -1.0)
    method = Regress(p, np.random.default_rng(0))
    for _ in range(30):  # interventions show that column 1 does nothing
        method.tell((1, -1.0), np.array([5.0, -1.0, 0.0]))
        method.tell((1, 1.0), np.array([5.0, 1.0, 0.0]))
    assert method.ask() == (2, 1.0)


def test_regress_finds_the_oracle_of_a_linear_system_with_many_rows():
    scm, p = problem(5000)
    assert Regress(p, np.random.default_rng(0)).ask() == (scm.oracle.variable, scm.oracle.value)


def test_a_constant_column_is_no_lever():
    rows = np.stack([np.arange(6.0), np.full(6, 0.1), np.arange(6.0)], axis=1)  # the mean of 0.1s is not 0.1
    p = task_of(rows, 0, np.array([False, True, True]), np.full(3, -1.0), np.ones(3))
    assert Regress(p, np.random.default_rng(0)).ask() == (2, -1.0)
    flat = task_of(np.full((6, 3), 0.1), 0, np.array([False, True, True]), np.full(3, -1.0), np.ones(3))
    assert target_spread(flat) == 1.0


def test_without_data_no_position_is_favoured():
    p = task_of(np.zeros((0, 5)), 4, np.array([True] * 4 + [False]), np.full(5, -1.0), np.ones(5))
    first = [Regress(p, np.random.default_rng(seed)).ask()[0] for seed in range(200)]
    assert min(np.bincount(first, minlength=4)) > 20  # 50 each: 5 standard errors are 31


def test_thompson_settles_on_the_oracle_and_explores_before():
    scm, p = problem(3, seed=5)
    rng = np.random.default_rng(1)
    method = BASELINES["thompson"](p, np.random.default_rng(0))
    asked = []
    for _ in range(60):
        action = method.ask()
        asked.append(action)
        method.tell(action, scm.simulate(rng.standard_normal((1, 4)), *action)[0])
    assert method.recommend() == (scm.oracle.variable, scm.oracle.value)
    assert len(set(asked)) > 1 and asked[-10:].count(method.recommend()) >= 8


def test_thompsons_posterior_is_the_conjugate_one():
    """Against the textbook's formulas on a design small enough to write out: two rows at u = -1 and
    u = 1.
    """
    rows = np.array([[-1.0, 2.0], [1.0, 6.0]])
    p = task_of(rows, 1, np.array([True, False]), np.array([-1.0, 0.0]), np.array([1.0, 1.0]))
    mean, covariance, shape, scale = BASELINES["thompson"](p, np.random.default_rng(0))._posterior(0)
    # y in standard units (mean 4, std 2) is -1, 1; X'X = diag(2, 2), prior precision 0.1: mean =
    # (0, 2 / 2.1)
    assert mean == pytest.approx([0.0, 2 / 2.1]) and covariance == pytest.approx(np.eye(2) / 2.1)
    # shape 1 + 2 / 2, scale 0.5 + (y'y - mean' X'y) / 2 = 0.5 + (2 - 4 / 2.1) / 2
    assert (shape, scale) == (2.0, pytest.approx(0.5 + (2 - 4 / 2.1) / 2))


def test_the_gaussian_process_finds_an_interior_optimum():
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    p = task_of(rng.standard_normal((10, 2)), 1, np.array([True, False]), np.array([-5.0, 0]), np.array([5.0, 1]))
    method = BASELINES["gp"](p, np.random.default_rng(1))
    for _ in range(25):
        i, value = method.ask()
        method.tell((i, value), np.array([value, 0.3 * (value - 1.5) ** 2 + 0.2 * rng.standard_normal()]))
    assert abs(method.recommend()[1] - 1.5) < 0.7


def test_optional_methods_explain_what_they_need(monkeypatch):
    import acbo_ref.arena.method as method_module

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(method_module, "import_module", absent)
    _, p = problem()
    for method, library, extra in (
        ("gp", "sklearn", "gp"),
        ("gp_all", "sklearn", "gp"),
        ("optuna", "optuna", "optuna"),
    ):
        with pytest.raises(AcboError) as caught:
            BASELINES[method](p, np.random.default_rng(0))
        assert caught.value.message == f"method '{method}' needs {library}: pip install 'acbo[{extra}]'"


def test_the_parent_oracle_is_the_best_parent():
    scm = diamond()
    # parents B and C: B at -1 gives 1 - 3 - 1 = -3 (A would give -29.5)
    assert scm.names[scm.parent_oracle.variable] == "B" and scm.parent_oracle.expected == pytest.approx(-3.0)
    assert functional().parent_oracle.expected == pytest.approx(-3.0, abs=1e-9)
    variables = tuple(Variable(v.name, v.intercept, v.noise_std, v.low, v.high, v.name == "A") for v in scm.variables)
    assert diamond(variables=variables).parent_oracle.variable == scm.index("A")  # no parent can be set


def test_regress_without_data_still_asks():
    _, p = problem(0)
    variable, value = Regress(p, np.random.default_rng(0)).ask()
    assert p.manipulable[0, variable] and p.low[0, variable] <= value <= p.high[0, variable]


def test_endpoints_tries_every_arm_once_then_settles():
    scm, p = problem()
    method, rng = Endpoints(p, np.random.default_rng(0)), np.random.default_rng(1)
    asked = []
    for _ in range(60):
        action = method.ask()
        asked.append(action)
        method.tell(action, scm.simulate(rng.standard_normal((1, 4)), *action)[0])
    assert len(set(asked[:6])) == 6 and set(asked) == set(asked[:6])
    assert method.recommend() == (scm.oracle.variable, scm.oracle.value)


def test_random_recommends_its_best_row():
    _, p = problem()
    method = Random(p, np.random.default_rng(0))
    row = np.zeros(4)
    for action, outcome in (((1, 0.5), 3.0), ((2, 1.0), -1.0), ((3, 0.0), 2.0)):
        row = row.copy()
        row[p.target] = outcome
        method.tell(action, row)
    assert method.recommend() == (2, 1.0)


NEEDS = {"gp": "sklearn", "gp_all": "sklearn", "optuna": "optuna"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the optional libraries' own making
@pytest.mark.parametrize("name", sorted(BASELINES))
@pytest.mark.parametrize("num_obs", [0, 1, 20])
def test_every_baseline_stays_inside(name, num_obs):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    scm, p = problem(num_obs)
    method = BASELINES[name](p, np.random.default_rng(2))
    rng = np.random.default_rng(3)
    for _ in range(15):
        i, value = method.ask()
        assert p.manipulable[0, i] and p.low[0, i] <= value <= p.high[0, i]
        method.tell((i, value), scm.simulate(rng.standard_normal((1, 4)), i, value)[0])
    i, value = method.recommend()
    assert p.manipulable[0, i] and p.low[0, i] <= value <= p.high[0, i]


# --------------------------------------------------------------------------------------- the report


@pytest.fixture(scope="module")
def checkpoint():
    trainer = Trainer(small_config(total_episodes=30))
    trainer.train()
    return trainer.checkpoint()


SMALL_SUITES = ["seed", "seed-linear", "simple", "medium", "complex", "standardised"]
QUICK_METHODS = tuple(m for m in METHODS if m not in NEEDS)


@pytest.fixture(scope="module")
def report(checkpoint):
    return evaluate(checkpoint, suites=SMALL_SUITES, quick=True, interventions=4, methods=QUICK_METHODS)


def test_the_report_has_the_promised_shape(report):
    assert report["format"] == "acbo-evaluation/1"
    assert [s["name"] for s in report["suites"]] == SMALL_SUITES
    text = json.dumps(report, allow_nan=False)
    assert json.loads(text) == report
    promised = {
        "score", "score_first", "score_last3", "simple_regret", "avg_target", "parent_accuracy",
        "score_per_system", "optimal_variable_accuracy", "episode_range_utilization", "improvement_rate",
        "regret_reduction", "structure_f1", "decision_seconds",
    }  # fmt: skip
    for suite in report["suites"]:
        assert suite["scms"] == 16 and list(suite["methods"]) == list(QUICK_METHODS)
        for metrics in suite["methods"].values():
            assert promised <= set(metrics)
            for name, value in metrics.items():
                assert set(value) == ({"median", "p99"} if name == "decision_seconds" else {"mean", "low", "high"})


def test_the_oracle_scores_one_and_random_about_zero(report):
    for suite in report["suites"]:
        oracle, random = suite["methods"]["oracle"], suite["methods"]["random"]
        assert oracle["score"]["mean"] == pytest.approx(1.0) and abs(oracle["simple_regret"]["mean"]) < 1e-9
        assert oracle["optimal_variable_accuracy"]["mean"] == 1.0
        assert abs(random["score"]["mean"]) < 0.25


def test_evaluation_is_reproducible_but_for_the_clock(checkpoint):
    def run(**changes):
        given = {"suites": ["simple"], "quick": True, "interventions": 3, "methods": ["policy_head_sampled", "random"]}
        methods = evaluate(checkpoint, **(given | changes))["suites"][0]["methods"]
        return {m: {k: v for k, v in metrics.items() if k != "decision_seconds"} for m, metrics in methods.items()}

    assert run() == run()
    assert run() != run(seed=1)
    # a method's result does not depend on which others run, nor on the order
    assert run(methods=["random"])["random"] == run()["random"]


def test_all_methods_meet_the_same_noise(checkpoint):
    """The oracle's action played by the oracle gives the same rows whoever else is evaluated; two
    oracles agree.
    """
    suite = load_suite("simple", 3, quick=True)
    a, b = (run_method(suite, "oracle", 3, n, 5, None, None) for n in (20, 20))
    assert (a.outcome == b.outcome).all()
    assert not np.allclose(a.outcome[:, 0], a.outcome[:, 1])


def test_a_system_to_be_maximised_scores_the_same(checkpoint):
    quiet = tuple(dataclasses.replace(v, noise_std=0.0) if v.name == "Y" else v for v in diamond().variables)
    scm = diamond(variables=quiet)
    up = SCM(
        "up", "Y",
        tuple(Variable(v.name, -v.intercept, v.noise_std, -v.high, -v.low) if v.name == "Y" else v for v in scm.variables),
        {(i, j): -w if "Y" in (i, j) else w for (i, j), w in scm.edges.items()},
        direction="maximize",
    )  # fmt: skip
    # -Y of the one is Y of the other, so both are the same system to be minimised
    results = [run_method(Suite("s", (s,), 0), "regress", 0, 20, 6, None, None) for s in (scm, up)]
    np.testing.assert_allclose(results[1].expected, results[0].expected, rtol=1e-12)
    np.testing.assert_allclose(results[1].outcome, -results[0].outcome, rtol=1e-12)
    assert summarise(results[1])["score"] == summarise(results[0])["score"]


def test_functional_systems_can_be_evaluated(checkpoint):
    from acbo_ref.backend import ReferenceBackend

    suite = Suite("f", (functional(), functional("maximize")), 0)
    backend = ReferenceBackend(checkpoint.config)
    for method in QUICK_METHODS:
        r = run_method(suite, method, 0, 10, 3, backend, backend.from_host(checkpoint.state))
        assert np.isfinite(r.expected).all() and (r.gain <= r.oracle_gain[:, None] + 1e-9).all()


def test_files_form_a_suite(checkpoint, tmp_path):
    save_scm(diamond(), tmp_path / "d.json")
    report = evaluate(checkpoint, scm_files=[tmp_path / "d.json"], methods=["regress", "oracle"], interventions=3)
    assert [s["name"] for s in report["suites"]] == ["files"] and report["suites"][0]["scms"] == 1


def test_few_observations_and_one_intervention(checkpoint):
    pytest.importorskip("sklearn")  # of method gp
    for observations in (0, 1, 3):
        report = evaluate(
            checkpoint, suites=["seed"], quick=True, observations=observations, interventions=1, methods=METHODS
        )
        json.dumps(report, allow_nan=False)


def test_mistakes_are_explained(checkpoint):
    with pytest.raises(AcboError) as caught:
        evaluate(checkpoint, suites=["simpel"])
    assert "did you mean 'simple'" in caught.value.hint
    with pytest.raises(AcboError) as caught:
        evaluate(checkpoint, methods=["regres"])
    assert "did you mean 'regress'" in caught.value.hint
    with pytest.raises(AcboError, match="needs a checkpoint"):
        evaluate(methods=["policy"])
    with pytest.raises(AcboError, match="interventions 0"):
        evaluate(interventions=0)
    with pytest.raises(AcboError, match="observations -1"):
        evaluate(observations=-1)
    with pytest.raises(AcboError, match="seed is -1"):
        evaluate(seed=-1)


def test_a_sampled_policy_is_sampled_whatever_decides(checkpoint):
    from dataclasses import replace

    by_outcome_head = replace(checkpoint, config=replace(checkpoint.config, decision="outcome_head"))
    given = {
        "suites": ["simple"],
        "quick": True,
        "interventions": 4,
        "methods": ["policy", "policy_head_sampled", "outcome_head"],
    }
    a, b = (evaluate(c, **given)["suites"][0]["methods"] for c in (checkpoint, by_outcome_head))
    assert a["policy_head_sampled"]["avg_target"] == b["policy_head_sampled"]["avg_target"]
    assert b["policy"]["avg_target"] == b["outcome_head"]["avg_target"] != a["policy"]["avg_target"]


def test_nothing_to_gain_is_no_score():
    """A lever that can only do harm: the oracle itself loses, and a ratio of losses would reward
    the worse.
    """
    scm = SCM("harm", "y", (Variable("x", low=2.0, high=5.0), Variable("y")), {("x", "y"): 1.0})
    summary = summarise(run_method(Suite("s", (scm,), 0), "random", 0, 20, 4, None, None))
    assert summary["score"] == {"mean": None, "low": None, "high": None}


def test_a_target_that_does_not_vary_has_gains_in_its_own_units():
    variables = (Variable("x", noise_std=0.0), Variable("y", noise_std=0.0))
    scm = SCM("silent", "y", variables, {("x", "y"): 1.0}, saturate=True)
    r = run_method(Suite("s", (scm,), 0), "oracle", 0, 20, 2, None, None)
    assert r.spread.tolist() == [1.0] and r.gain.tolist() == [[5.0, 5.0]]


def test_without_a_checkpoint_the_baselines_run():
    report = evaluate(suites=["seed"], quick=True, interventions=2)
    assert list(report["suites"][0]["methods"]) == ["random", "endpoints", "regress", "paths", "thompson", "oracle"]


def test_suites_are_as_described():
    for name, spec in SUITES.items():
        suite = load_suite(name, 0)
        assert len(suite.systems) == spec.full and len(load_suite(name, 0, quick=True).systems) == spec.quick
        assert suite.observations == (3 if name == "cold" else 20) and spec.description
        if name not in ("cbo", "process"):
            assert len({s.name for s in suite.systems}) == spec.full
    numbers = [spec.number for spec in SUITES.values()]
    assert len(set(numbers)) == len(numbers)
    seeds = load_suite("seed", 0).systems
    assert {abs(w) for s in seeds for w in s.edges.values()} == {1.5}
    assert {s.oracle.value for s in seeds} == {-5.0, 5.0} and all(
        s.oracle.expected == pytest.approx(-7.5) for s in seeds
    )
    # neither the prior of training nor another seed gives the same systems
    assert load_suite("simple", 1).systems[0].edges != load_suite("simple", 0).systems[0].edges


def test_wide_and_nonlinear_systems_are_what_they_say():
    assert [len(s.names) for s in load_suite("wide", 0, quick=True).systems] == [20, 50, 100]
    assert all(s.terms for s in load_suite("nonlinear", 0, quick=True).systems)


def test_the_real_networks_are_shipped_with_their_attribution():
    systems = load_suite("real", 0).systems
    assert all(s.name.startswith("bnrep_") for s in systems) and max(len(s.names) for s in systems) == 35
    assert all(s.oracle.expected < s.observational_moments[0] for s in systems)
    from importlib import resources

    text = (resources.files("acbo_ref") / "arena" / "networks" / "ATTRIBUTION.md").read_text()
    assert "bnRep" in text and "MIT" in text


def test_cold_means_three_rows_unless_told_otherwise(checkpoint):
    given = {"suites": ["cold", "simple"], "quick": True, "interventions": 2, "methods": ["regress"]}
    assert [s["observations"] for s in evaluate(checkpoint, **given)["suites"]] == [3, 20]
    assert [s["observations"] for s in evaluate(checkpoint, **given, observations=5)["suites"]] == [5, 5]


def test_the_published_problems_can_be_evaluated(checkpoint):
    report = evaluate(checkpoint, suites=["cbo"], quick=True, interventions=3, methods=["policy", "regress", "oracle"])
    methods = report["suites"][0]["methods"]
    assert methods["oracle"]["score"]["mean"] == pytest.approx(1.0)
    json.dumps(report, allow_nan=False)


# ------------------------------------------------------------------------------------ doing nothing


def one_decision(mean, error, task):
    """A decision about X0 that expects this of the target."""
    each = np.ones(1)
    return Decision(
        variable=np.array([0]), value=np.array([3.0]), probability=each, parent_probability=each,
        outcome_mean=np.array([mean]), outcome_error=np.array([error]), outcome_std=np.array([2.0]),
    )  # fmt: skip


def test_doing_nothing_by_hand():
    """Four rows with a mean of 2 and a standard deviation of 2."""
    rows = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 3.0], [0.0, 4.0]])
    task = task_of(rows, 1, np.array([True, False]), np.full(2, -5.0), np.full(2, 5.0))
    std = rows[:, 1].std(ddof=1)
    for mean, error, optimism, nothing in (
        (1.9, 0.1, 0.0, False), (2.0, 0.1, 0.0, True), (2.5, 1.0, 0.75, False), (2.8, 1.0, 0.75, True),
        (1.0, 1.0, -1.5, True), (1.0, 0.5, -1.5, False),
    ):  # fmt: skip
        found = or_nothing(one_decision(mean, error, task), task, optimism)
        assert found.variable[0] == (-1 if nothing else 0)
        if nothing:
            assert found.value[0] == 0.0 and found.outcome_mean[0] == 2.0
            assert found.outcome_error[0] == pytest.approx(std / 2)
            assert found.outcome_std[0] == pytest.approx(np.hypot(std, std / 2))
        else:
            assert (found.value[0], found.outcome_mean[0]) == (3.0, mean)
    alone = task_of(rows[:1], 1, np.array([True, False]), np.full(2, -5.0), np.full(2, 5.0))
    assert or_nothing(one_decision(9.0, 0.1, alone), alone, 0.0).variable[0] == 0  # nobody knows


def test_the_baseline_that_does_nothing_gains_nothing():
    results = run_method(load_suite("simple", 0, quick=True), "nothing", 0, 5, 3, None, None)
    assert (results.variable == -1).all() and not results.gain.any() and results.leaves.all()
    assert not results.is_parent.any() and not results.standard.any()


def test_a_process_of_all_levers_finds_a_peak_inside():
    """Yield peaks at 0.3 of a half domain; the second lever does nothing."""
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)

    def cost(x):
        return 4 * (x - 1.5) ** 2 / 25

    rows = 0.5 * rng.standard_normal((10, 3))
    rows[:, 2] = cost(rows[:, 0]) + 0.1 * rng.standard_normal(10)
    task = task_of(rows, 2, np.array([True, True, False]), np.full(3, -5.0), np.full(3, 5.0))
    method = BASELINES["gp_all"](task, np.random.default_rng(1))
    for _ in range(15):
        i, value = method.ask()
        row = 0.5 * rng.standard_normal(3)
        if i >= 0:
            assert -5 <= value <= 5
            row[i] = value
        row[2] = cost(row[0]) + 0.1 * rng.standard_normal()
        method.tell((i, value), row)
    i, value = method.recommend()
    assert i == 0 and abs(value - 1.5) < 1.0
