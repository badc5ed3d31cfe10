"""The report that other tools rely on, the suites, and doing nothing."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from test_baselines import NEEDS, task_of
from test_metrics import results
from test_scm import diamond, functional

from acbo_ref import SCM, AcboError, Trainer, Variable, evaluate, save_scm
from acbo_ref.arena.metrics import (
    summarise,
)  # fmt: skip
from acbo_ref.arena.play import METHODS, run_method
from acbo_ref.arena.suites import SUITES, Suite, load_suite
from acbo_ref.policy.session import Decision, or_nothing
from acbo_ref.verify.data import small_config


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
    assert b["policy"]["avg_target"] == b["outcome_head"]["avg_target"]
    assert a["policy_head_sampled"]["avg_target"] != a["policy"]["avg_target"]


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
