"""Curves of the prior, hidden variables, and the processes of the arena."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from acbo_ref.arena.processes import PROCESSES
from acbo_ref.arena.suites import load_suite
from acbo_ref.config import PriorConfig
from acbo_ref.systems.batch import TERM_SHAPES, term_values
from acbo_ref.systems.curves import JOINT_SINES, MOST_TERMS, Equations, curved
from acbo_ref.systems.prior import sample_scm

CURVED = PriorConfig(curved=1.0)


def models(prior, count=30, size=6, kind="erdos_renyi"):
    rng = np.random.default_rng(0)
    return [sample_scm(prior, kind, size, rng) for _ in range(count)]


def test_shapes_by_hand():
    shape, argument = np.arange(4), np.full(4, 0.5)
    expected = [np.sin(0.5), np.tanh(0.5), np.exp(-0.25), 0.25]
    np.testing.assert_allclose(term_values(shape, argument), expected)
    assert TERM_SHAPES == ("sine", "tanh", "bump", "square")


def test_curved_models_are_finite_and_bend():
    found = models(CURVED)
    assert {t.shape for m in found for t in m.terms} == set(TERM_SHAPES)
    for model in found:
        assert any(t.variable == model.target for t in model.terms) or any(e[1] == model.target for e in model.edges)
        assert all(sum(t.variable == n for t in model.terms) <= MOST_TERMS for n in model.names)
        rows = model.simulate(np.random.default_rng(1).standard_normal((50, len(model.names))))
        assert np.isfinite(rows).all()
    assert sum(any(t.variable == m.target for t in m.terms) for m in found) > 20


def test_a_curve_takes_the_place_of_a_line():
    """No parent of a curved child has a line besides its curve, and the graph is as it was."""
    for model in models(CURVED):
        for term in model.terms:
            assert not any((parent, term.variable) in model.edges for parent in term.frequencies)
    plain, bent = (models(replace(CURVED, curved=c), 1)[0] for c in (0.0, 1.0))
    place = [bent.names.index(name) for name in plain.names]
    assert plain.adjacency.sum() == bent.adjacency[np.ix_(place, place)].sum()


def test_a_product_by_hand():
    """Two squares make a x y, in half domains."""
    edges = np.array([[False, False, True], [False, False, True], [False] * 3])
    center, half = np.array([1.0, -2.0, 0.0]), np.array([2.0, 4.0, 5.0])
    rng = np.random.default_rng(0)
    seen = 0
    for _ in range(200):
        zero = np.zeros((3, 3))
        equations = Equations(np.zeros(3), np.ones(3), np.where(edges, 1.0, 0.0), zero, zero, zero)
        terms = curved(CURVED, equations, [], edges, 2, center, half, False, rng)
        if [t.shape for t in terms] != ["square"] * 2 or len(terms[0].frequencies) != 2:
            continue
        seen += 1
        assert not equations.weights.any()
        values = []
        for x, y in ((0.3, 0.7), (-0.5, 0.2)):
            raw = {0: 1.0 + 2.0 * x, 1: -2.0 + 4.0 * y}
            argument = [t.phase + sum(f * raw[i] for i, f in t.frequencies.items()) for t in terms]
            values.append(sum(t.amplitude * a * a for t, a in zip(terms, argument, strict=True)) / (x * y))
        assert values[0] == pytest.approx(values[1])
    assert seen > 5


def test_in_a_tuned_model_both_ends_are_worse_than_doing_nothing():
    """More often than in other curved models; and only models with varied domains are tuned."""

    def share(tuned):
        worse = []
        for model in models(replace(CURVED, tuned=tuned, curve_size=(1.0, 30.0)), 40):
            usual = model.observational_moments[0]
            for i in np.flatnonzero(model.adjacency[:, model.target_index] & model.manipulable):
                ends = model.expected_target(np.array([i, i]), np.array([model.low[i], model.high[i]]))
                worse.append(bool((ends > usual).all()))
        return np.mean(worse)

    assert share(0.0) < 0.35 and share(1.0) > 0.55
    assert not any(model.terms for model in models(PriorConfig(tuned=1.0, varied=0.0), 10))


def test_a_draw_of_a_process_has_the_size_and_the_length_asked_for():
    """Joint draws of one parent, size 2 and length 0.7 half domains: variance 4, and a correlation
    of exp(-1/2) one length apart.
    """
    prior = PriorConfig(curved=1.0, curve_length=(0.7, 0.7), curve_size=(2.0, 2.0))
    edges = np.array([[False, True], [False, False]])
    zero, rng, draws = np.zeros((2, 2)), np.random.default_rng(0), []
    while len(draws) < 3000:
        equations = Equations(np.zeros(2), np.ones(2), np.where(edges, 1.0, 0.0), zero, zero, zero)
        terms = curved(prior, equations, [], edges, 1, np.zeros(2), np.full(2, 3.0), False, rng)
        if len(terms) == JOINT_SINES:
            x = np.array([0.4, 0.4 + 0.7 * 3.0])
            draws.append(sum(t.amplitude * np.sin(t.frequencies[0] * x + t.phase) for t in terms))
    draws = np.array(draws)
    assert draws.var(axis=0) == pytest.approx(4.0, rel=0.1)
    assert (draws[:, 0] * draws[:, 1]).mean() / 4.0 == pytest.approx(np.exp(-0.5), abs=0.06)


def test_hidden_variables_are_confounders_and_leave_a_lever():
    found = models(replace(CURVED, hidden=1.0), 60, 8)
    assert any(not m.visible.all() for m in found)
    for model in found:
        hidden = np.flatnonzero(~model.visible)
        assert not model.manipulable[hidden].any() and model.visible[model.target_index]
        assert not model.adjacency[:, hidden].any() and (model.adjacency[hidden].sum(axis=1) > 1).all()
        assert model.manipulable.any()


# ------------------------------------------------------------------------------- the arena's suites


@pytest.mark.parametrize("make", PROCESSES, ids=lambda make: make.__name__)
def test_a_process_is_what_it_says(make):
    process = make(np.random.default_rng(0))
    mean, std = process.observational_moments
    rows = process.simulate(np.random.default_rng(1).standard_normal((400, process.noise_dim)))
    assert np.isfinite(rows).all() and std > 0
    levers = np.flatnonzero(process.manipulable)
    assert len(levers) >= 3
    assert (rows[:, levers] >= process.low[levers]).all() and (rows[:, levers] <= process.high[levers]).all()
    best = process.oracle
    gain = (mean - best.expected) * (1 if process.direction == "minimize" else -1) / std
    assert gain > 0.02
    if make.__name__ != "tuned_line":
        assert gain > 0.2
    other = make(np.random.default_rng(5))
    assert other.observational_moments != process.observational_moments and other.names == process.names


def test_most_processes_have_their_best_inside():
    inside = []
    for make in PROCESSES:
        process = make(np.random.default_rng(2))
        i, value = process.oracle.variable, process.oracle.value
        inside.append(process.low[i] < value < process.high[i])
    assert len(PROCESSES) == 16 and sum(inside) >= 10


def test_suites_of_curves_and_of_nothing():
    curved_suite, null = load_suite("curved", 0, quick=True), load_suite("null", 0, quick=True)
    inside = [s.low[s.oracle.variable] < s.oracle.value < s.high[s.oracle.variable] for s in curved_suite.systems]
    assert sum(inside) >= len(inside) / 2
    for system in null.systems:
        mean, std = system.observational_moments
        assert abs(system.oracle.expected - mean) < 1e-9 * max(std, 1)  # nothing can be gained
        assert system.manipulable.sum() >= 2 and system.adjacency.any()
    following = [s.adjacency[:, np.flatnonzero(s.manipulable)].any() for s in null.systems]
    assert any(following) and load_suite("process", 0).clusters[0] == load_suite("process", 0).clusters[16]
