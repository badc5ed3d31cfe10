"""Curves of the prior, hidden variables, and the processes of the arena."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from acbo_ref.arena.processes import PROCESSES
from acbo_ref.arena.suites import load_suite
from acbo_ref.config import PriorConfig
from acbo_ref.systems.batch import TERM_SHAPES, term_values
from acbo_ref.systems.curves import JOINT_SINES, MOST_TERMS, ChildTerm, Equations, curved, edge_terms
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
    """Two squares make 3 x y or -3 x y, in half domains."""
    edges = np.array([[False, False, True], [False, False, True], [False] * 3])
    center, half = np.array([1.0, -2.0, 0.0]), np.array([2.0, 4.0, 5.0])
    rng = np.random.default_rng(0)
    prior, seen = replace(CURVED, curve_size=(3.0, 3.0)), set()
    for _ in range(200):
        zero = np.zeros((3, 3))
        equations = Equations(np.zeros(3), np.ones(3), np.where(edges, 1.0, 0.0), zero, zero, zero)
        terms = curved(prior, equations, [], edges, 2, center, half, False, rng)
        if [t.shape for t in terms] != ["square"] * 2 or len(terms[0].frequencies) != 2:
            continue
        assert not equations.weights.any()
        values = []
        for x, y in ((0.3, 0.7), (-0.5, 0.2)):
            raw = {0: 1.0 + 2.0 * x, 1: -2.0 + 4.0 * y}
            argument = [t.phase + sum(f * raw[i] for i, f in t.frequencies.items()) for t in terms]
            values.append(sum(t.amplitude * a * a for t, a in zip(terms, argument, strict=True)) / (x * y))
        assert values[0] == pytest.approx(values[1])
        seen.add(round(values[0], 9))
    assert seen == {3.0, -3.0}


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


def drawn(prior, count, parents=1, target=True, noise=1.0, terms=(), center=10.0, half=2.0, tuned=False):
    """`count` times the terms of one child, the last variable, of some parents; with the weights
    that are left.
    """
    edges, size, rng = np.zeros((parents + 1, parents + 1), bool), parents + 1, np.random.default_rng(0)
    edges[:parents, parents] = True
    zero, noises = np.zeros((size, size)), np.full(size, noise)
    for _ in range(count):
        equations = Equations(np.zeros(size), noises, np.where(edges, 1.0, 0.0), zero, zero, zero)
        where = np.full(size, center), np.full(size, half)
        found = curved(prior, equations, list(terms), edges, parents if target else 0, *where, tuned, rng)
        yield found, equations.weights[:parents, parents]


def test_what_becomes_of_a_single_parent():
    """In the shares given there: 0.35 jointly, which is six sines, and of the others 0.15 a line,
    0.28 three sines, 0.25 a bump, 0.17 tanh and 0.15 a square. The domain is 8 to 12: places are
    within 0.8 of its half, and those of half the bumps and squares within 0.3 of it around 0.
    """
    prior = PriorConfig(curved=1.0, curve_size=(3.0, 3.0))
    kinds, found = [], {"bump": [], "tanh": [], "square": []}
    for terms, weights in drawn(prior, 2500, noise=1.5):
        kinds.append(f"{terms[0].shape} {len(terms)}" if terms else "line")
        assert weights.tolist() == [0.0 if terms else 1.0] and all(set(t.frequencies) == {0} for t in terms)
        if len(terms) == 1:
            term, frequency = terms[0], terms[0].frequencies[0]
            found[term.shape].append((term.amplitude / 4.5, -term.phase / frequency, frequency * 2.0))
    shares = {kind: kinds.count(kind) / 2500 for kind in kinds}
    expected = {"line": 0.15, "sine 3": 0.28, "bump 1": 0.25, "tanh 1": 0.17, "square 1": 0.15}
    assert shares.pop("sine 6") == pytest.approx(0.35, abs=0.03)
    assert shares == pytest.approx({kind: 0.65 * share for kind, share in expected.items()}, abs=0.02)
    sizes, places, steepness = ({k: np.array(v)[:, n] for k, v in found.items()} for n in range(3))
    assert all(np.allclose(abs(array), 1.0) for array in sizes.values())  # noise times what was asked for
    # half are turned so that their lowest point is inside, of the others again half
    negative = {kind: (array < 0).mean() for kind, array in sizes.items()}
    assert negative == pytest.approx({"bump": 0.75, "tanh": 0.5, "square": 0.25}, abs=0.06)
    for kind, array in places.items():
        around_zero = abs(array) <= 0.6 + 1e-9
        assert around_zero.mean() == pytest.approx(0.0 if kind == "tanh" else 0.5, abs=0.06)
        others = array[~around_zero]
        assert others.min() > 8.4 and others.max() < 11.6 and others.std() == pytest.approx(3.2 / 12**0.5, rel=0.08)
        if kind != "tanh":  # normal with standard deviation 0.6, cut there: so is a third
            near = array[around_zero]
            assert (abs(near) > 0.599).mean() == pytest.approx(0.317, abs=0.07) and abs(near.mean()) < 0.08
    assert np.allclose(steepness["square"], 1.0)
    bumps, cliffs = np.log(steepness["bump"]), steepness["tanh"] > 9.0
    gentle, steep = np.log(steepness["tanh"][~cliffs]), np.log(steepness["tanh"][cliffs])
    assert cliffs.mean() == pytest.approx(6 / 17, abs=0.08)
    for logs, width in ((bumps, (0.2, 1.0)), (gentle, (0.15, 1.0)), (steep, (0.02, 0.1))):
        low, high = -np.log(width[1]), -np.log(width[0])
        assert low <= logs.min() < low + 0.1 and high - 0.1 < logs.max() <= high
        assert logs.mean() == pytest.approx((low + high) / 2, abs=0.12)


def test_what_becomes_of_a_parent_in_a_tuned_model():
    """A line in 0.15, three sines in 0.05, a dip in 0.3, tanh in 0.1 and a U in 0.4, of the size
    that tuned models have; the lowest points of dips and of U lie within 0.3 half domains of where
    the parent stands by itself. Other children are as ever, of the size of curves.
    """
    prior = PriorConfig(curved=1.0, curve_size=(3.0, 3.0), tuned_size=(7.0, 7.0))
    kinds = []
    for terms, _ in drawn(prior, 800, tuned=True):
        kinds.append(f"{terms[0].shape} {len(terms)}" if terms else "line")
        if len(terms) == 1:
            term, frequency = terms[0], terms[0].frequencies[0]
            assert abs(term.amplitude) == pytest.approx(7.0)
            if term.shape != "tanh":
                assert (term.amplitude > 0) == (term.shape == "square") and abs(term.phase / frequency) <= 0.6 + 1e-9
    shares = {kind: kinds.count(kind) / 800 for kind in kinds}
    expected = {"line": 0.15, "sine 3": 0.05, "bump 1": 0.3, "tanh 1": 0.1, "square 1": 0.4}
    assert shares == pytest.approx(expected, abs=0.05)
    others = [t for t, _ in drawn(prior, 200, target=False, tuned=True)]
    assert {len(terms) for terms in others} == {0, 1, 3, 6}
    assert {round(abs(terms[0].amplitude), 9) for terms in others if len(terms) == 1} == {3.0}


def test_sines_of_a_process_by_their_distributions():
    """Amplitudes 3 sqrt(2 / n), any phase, and frequencies that are normal times 1 / (length half),
    with a length between 0.2 and 2.
    """
    prior = PriorConfig(curved=1.0, curve_size=(3.0, 3.0), curve_length=(0.2, 2.0))
    phases, scaled = [], {3: [], 6: []}
    for terms, _ in drawn(prior, 1500):
        if len(terms) in (3, 6):
            assert np.allclose([t.amplitude for t in terms], 3.0 * np.sqrt(2 / len(terms)))
            phases += [t.phase for t in terms]
            scaled[len(terms)].append([t.frequencies[0] * 2.0 for t in terms])
    assert 0 <= min(phases) < 0.02 and 6.26 < max(phases) <= 2 * np.pi
    assert np.mean(phases) == pytest.approx(np.pi, rel=0.03)
    for array in map(np.array, scaled.values()):
        assert abs(array.mean()) < 0.15
        # the logarithm of length has mean (log 0.2 + log 2) / 2, that of a squared normal -1.27
        assert np.log(array**2).mean() == pytest.approx(-np.log(0.4) - 1.27, abs=0.2)
        # one length for all sines of a draw: the squares of two of them are correlated
        assert np.corrcoef(np.log(array[:, 0] ** 2), np.log(array[:, 1] ** 2))[0, 1] > 0.1


def test_sizes_of_curves_are_spread_over_their_range():
    """A logarithm uniform from 0.5 to 2, in units of the noise, or of 1 where there is none; a
    range from 0 begins at 0.001.
    """
    for noise, unit in ((0.5, 0.5), (0.0, 1.0)):
        prior = PriorConfig(curved=1.0, curve_size=(0.5, 2.0))
        sizes = np.log([abs(t[0].amplitude) / unit for t, _ in drawn(prior, 1500, noise=noise) if len(t) == 1])
        assert sizes.min() == pytest.approx(-np.log(2), abs=0.03) and sizes.max() == pytest.approx(np.log(2), abs=0.03)
        assert sizes.mean() == pytest.approx(0.0, abs=0.05) and sizes.min() > -0.6932 and sizes.max() < 0.6932
    from_zero = PriorConfig(curved=1.0, curve_size=(0.0, 1.0))
    sizes = [abs(t[0].amplitude) for t, _ in drawn(from_zero, 1000) if len(t) == 1]
    assert 1e-3 < min(sizes) < 1.5e-3 and max(sizes) < 1.0


def test_what_becomes_of_several_parents():
    """Of six, four are taken jointly or two as a product, any of them, and the others keep their
    lines; each apart has a curve of its own as long as there is room for three more terms.
    """
    joint, products, apart = [], [], []
    for terms, weights in drawn(CURVED, 600, parents=6):
        used = set().union(*(t.frequencies for t in terms))
        assert weights.tolist() == [0.0 if i in used else 1.0 for i in range(6)]
        if terms and len(terms[0].frequencies) == 4:
            assert len(terms) == JOINT_SINES and all(set(t.frequencies) == used for t in terms)
            joint.append(used)
        elif terms and len(terms[0].frequencies) == 2:
            assert len(terms) == 2 and terms[0].amplitude == -terms[1].amplitude
            products.append(used)
        else:
            assert all(len(t.frequencies) == 1 for t in terms) and len(terms) <= MOST_TERMS
            apart.append(len(terms))
    assert [len(joint) / 600, len(products) / 600] == pytest.approx([0.35, 0.1], abs=0.06)
    for sets in (joint, products):
        assert set().union(*sets) == set(range(6)) and len(set(map(frozenset, sets))) > 10
    assert max(apart) == MOST_TERMS and np.mean(apart) > 4


def test_what_was_there_before_a_curve():
    """Sines of a parent that got a curve are gone, those of others stay as far as there is room,
    and so do those of other variables; a variable that is not the target is left alone half the
    time, and one without parents always.
    """
    others = [ChildTerm(2, 1.0, 0.0, {0: 1.0}), ChildTerm(2, 2.0, 0.0, {1: 1.0}), ChildTerm(0, 3.0, 0.0, {1: 1.0})]
    replaced = kept = 0
    for terms, weights in drawn(CURVED, 200, parents=2, terms=others):
        assert terms[0] == others[2]
        for i in range(2):
            stays = others[i] in terms
            assert stays == (weights[i] == 1.0)
            kept, replaced = kept + stays, replaced + (not stays)
        assert [t for t in terms if t in others] == terms[: sum(t in others for t in terms)]
    assert kept > 20 and replaced > 20
    many = [ChildTerm(1, 1.0, n, {9: 1.0}) for n in range(7)]
    counts = {len(terms) for terms, _ in drawn(CURVED, 200, terms=many)}
    assert counts == {7, 8}
    left_alone = [
        weights[0] == 1.0 and terms == many for terms, weights in drawn(CURVED, 1000, target=False, terms=many)
    ]
    assert np.mean(left_alone) == pytest.approx(0.5 + 0.5 * 0.65 * 0.15, abs=0.06)


def test_sines_of_single_edges_by_hand():
    zero, amplitude, frequency = (
        np.zeros((2, 2)),
        np.array([[0.0, 3.0], [0.0, 0.0]]),
        np.array([[0.0, 2.0], [7.0, 0.0]]),
    )
    found = edge_terms(Equations(np.zeros(2), np.ones(2), zero, amplitude, frequency, frequency / 4))
    assert found == [ChildTerm(1, 3.0, 0.5, {0: 2.0}, "sine")]


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
