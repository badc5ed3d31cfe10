"""SCMs: simulation, total effects, oracle, against hand-derived numbers and an independent
simulation.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from acbo_ref import SCM, AcboError, FunctionalSCM, Term, Variable
from acbo_ref.config import PriorConfig
from acbo_ref.systems.batch import (
    MONTE_CARLO_DRAWS,
    SEARCH_DRAWS,
    SEARCH_KEEP,
    antithetic_noise,
    expected_target,
    is_linear,
    observational_moments,
    oracle,
    simulate,
    target_parents,
    total_effects,
)
from acbo_ref.systems.prior import sample_scm
from acbo_ref.systems.scm import stack


def diamond(**changes):
    """A -> B (2), A -> C (-1), B -> Y (3), C -> Y (0.5), listed out of order on purpose."""
    given = {
        "name": "diamond",
        "target": "Y",
        "variables": (
            Variable("Y", 1.0, 0.5, -7.0, 9.0),
            Variable("C", 0.0, 1.0, -2.0, 4.0),
            Variable("A", 2.0, 1.0),
            Variable("B", -1.0, 2.0, -1.0, 3.0),
        ),
        "edges": {("A", "B"): 2.0, ("A", "C"): -1.0, ("B", "Y"): 3.0, ("C", "Y"): 0.5},
    }
    return SCM(**(given | changes))


def naive_rows(scm, noise, variable, value):
    """Row by row and variable by variable, from the equation in the module's docstring."""
    rows = np.zeros_like(noise)
    for n in range(len(noise)):
        for j in scm.order:
            v = scm.variables[j]
            x = v.intercept + v.noise_std * noise[n, j]
            for (parent, child), weight in scm.edges.items():
                if child == v.name:
                    x += weight * rows[n, scm.index(parent)]
            for s in scm.terms:
                if s.variable == v.name:
                    angle = sum(f * rows[n, scm.index(p)] for p, f in s.frequencies.items()) + s.phase
                    x += s.amplitude * np.sin(angle)
            if scm.saturate and j != scm.target_index:
                x = min(max(x, v.low), v.high)
            rows[n, j] = value[n] if variable[n] == j else x
    return rows


def test_total_effects_by_hand():
    scm = diamond()
    effects = total_effects(stack([scm]))[0]
    # A: 2 * 3 + (-1) * 0.5 = 5.5;  B: 3;  C: 0.5;  the target itself: 0
    by_name = dict(zip((scm.names[i] for i in scm.order), effects, strict=True))
    assert by_name == pytest.approx({"A": 5.5, "B": 3.0, "C": 0.5, "Y": 0.0})


def test_expectations_and_oracle_by_hand():
    scm = diamond()
    # means: A 2, B -1 + 4 = 3, C -2, Y 1 + 9 - 1 = 9
    mean, std = scm.observational_moments
    assert mean == pytest.approx(9.0)
    # noise reaches Y by its path sums: A 5.5 * 1, B 3 * 2, C 0.5 * 1, Y 0.5
    assert std == pytest.approx(np.sqrt(5.5**2 + 6.0**2 + 0.5**2 + 0.5**2))
    names = ["A", "B", "C"]
    found = scm.expected_target(np.array([scm.index(n) for n in names]), np.array([0.0, 1.0, 4.0]))
    # do(A=0): B -1, C 0, Y 1 - 3 = -2;  do(B=1): C -2, Y 1 + 3 - 1 = 3;  do(C=4): B 3, Y 1 + 9 + 2
    # = 12
    assert found == pytest.approx([-2.0, 3.0, 12.0])
    # best: A at -5 gives 9 + 5.5 * (-5 - 2) = -29.5
    assert scm.names[scm.oracle.variable] == "A" and scm.oracle.value == -5.0
    assert scm.oracle.expected == pytest.approx(-29.5)


def test_edges_of_a_batch_by_hand():
    """Sorted: C causes A by a weight and B in a sine term, and B causes A; a weight of 0 is no
    edge.
    """
    variables = tuple(Variable(name) for name in "ABC")
    terms = (Term("B", 1.0, 0.0, {"C": 0.5}), Term("A", 0.0, 0.0, {"B": 0.5}))
    model = SCM("edges", "A", variables, {("C", "A"): 2.0, ("B", "A"): -1.0, ("C", "B"): 0.0}, terms)
    batch = stack([model], num_variables=4)
    assert [model.names[i] for i in model.order] == ["C", "B", "A"]
    assert batch.edges.dtype == bool and np.argwhere(batch.edges[0]).tolist() == [[0, 1], [0, 2], [1, 2]]
    assert target_parents(batch).tolist() == [[True, True, False, False]]


def test_oracle_respects_manipulable():
    variables = tuple(
        Variable(v.name, v.intercept, v.noise_std, v.low, v.high, v.name != "A") for v in diamond().variables
    )
    best = diamond(variables=variables).oracle
    # B at -1: 1 + 3 * (-1) - 1 = -3;  C at -2: 9
    assert (diamond().names[best.variable], best.value, best.expected) == ("B", -1.0, pytest.approx(-3.0))


@pytest.mark.parametrize("saturate", [False, True])
def test_simulation_equals_the_naive_one(saturate):
    terms = (
        Term("Y", 1.5, 0.3, {"A": 0.7, "C": -0.2}),
        Term("Y", 0.4, 1.0, {"B": 2.0}),
        Term("B", 1.0, 0.0, {"A": 1.0}),
    )
    scm = diamond(terms=terms, saturate=saturate)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((40, 4))
    variable, value = rng.integers(-1, 4, 40), rng.uniform(-3, 3, 40)
    variable[variable == scm.target_index] = -1
    np.testing.assert_allclose(
        scm.simulate(noise, variable, value), naive_rows(scm, noise, variable, value), rtol=1e-13, atol=1e-13
    )


def test_rows_are_as_precise_as_their_noise():
    batch, noise, nothing = stack([diamond()]), np.zeros((1, 2, 4), np.float32), -np.ones((1, 2), int)
    assert simulate(batch, noise, nothing, nothing).dtype == np.float32
    assert simulate(batch, noise.astype(float), nothing, nothing).dtype == np.float64


def test_the_oracle_looks_coarsely_then_finely(monkeypatch):
    """Two levers, a grid of 5 points: 10 points with few draws, then the 10 again with many."""
    asked = []

    def recording(model, variable, value, num_draws):
        asked.append((variable.tolist(), value.tolist(), num_draws))
        return expected_target(model, variable, value, num_draws)

    monkeypatch.setattr("acbo_ref.systems.batch.expected_target", recording)
    variables = (Variable("A", low=-1.0, high=3.0), Variable("B", low=0.0, high=4.0), Variable("Y"))
    model = SCM("sine", "Y", variables, {("A", "Y"): -1.0}, (Term("Y", 0.1, 0.0, {"B": 1.0}),))
    _, _, expected = oracle(stack([model]), num_draws=32, search_draws=8, grid_points=5)
    grid_a, grid_b = [-1.0, 0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0, 4.0]
    assert asked[:2] == [([[0] * 5], [grid_a], 8), ([[1] * 5], [grid_b], 8)]
    ((variable,), (value,), num_draws) = asked[2]
    assert sorted(zip(variable, value, strict=True)) == [(0, v) for v in grid_a] + [(1, v) for v in grid_b]
    assert num_draws == 32 and len(asked) == 3
    # A at 3; what is left of the sine term is its mean over B, the same 32 draws of it
    assert expected[0] == expected_target(stack([model]), np.array([[0]]), np.array([[3.0]]), 32)[0, 0]


def test_seed_chain_optima():
    variables = (Variable("X0"), Variable("X1"), Variable("Y"))
    edges = {("X0", "X1"): 1.5, ("X1", "Y"): -1.5}
    saturating = SCM("s", "Y", variables, edges, saturate=True).oracle
    # a saturating parent reaches 5 at most: -1.5 * 5; exact, since its value does not vary
    assert (saturating.variable, saturating.value) == (1, 5.0)
    assert saturating.expected == pytest.approx(-7.5, abs=1e-12)
    linear = SCM("l", "Y", variables, edges).oracle
    assert (linear.variable, linear.value, linear.expected) == (0, 5.0, pytest.approx(-11.25))


def test_nonlinear_expectation_matches_its_closed_form():
    # Y = 2 sin(3 X + 0.4) + e, X ~ N(0, 1): E[Y] = 2 sin(0.4) exp(-4.5), and under do(X = x) the
    # sine itself
    scm = SCM("sine", "Y", (Variable("X"), Variable("Y")), {}, (Term("Y", 2.0, 0.4, {"X": 3.0}),))
    standard_error = np.sqrt(3.0 / MONTE_CARLO_DRAWS)
    assert scm.observational_moments[0] == pytest.approx(2 * np.sin(0.4) * np.exp(-4.5), abs=4 * standard_error)
    found = scm.expected_target(np.array([0, 0]), np.array([0.3, -1.0]))
    assert found == pytest.approx(2 * np.sin(3 * np.array([0.3, -1.0]) + 0.4), abs=1e-12)  # antithetic noise is mean 0
    assert scm.oracle.expected == pytest.approx(-2.0, abs=0.02)  # a grid of 0.1 misses the minimum by 2 (1 - cos 0.15)


def test_batches_agree_with_single_models_whatever_the_padding():
    rng = np.random.default_rng(1)
    prior = PriorConfig(nonlinear=0.5, saturate=0.5, manipulable=0.7)
    scms = [sample_scm(prior, "erdos_renyi", n, rng) for n in (2, 5, 3, 6)]
    batch = stack(scms, 7, 9)
    noise = rng.standard_normal((4, 11, 7))
    nothing = -np.ones((4, 11), int)
    rows = simulate(batch, noise, nothing, np.zeros((4, 11)))
    means, stds = observational_moments(batch)
    variables, values, expected = oracle(batch)
    for e, scm in enumerate(scms):
        n = len(scm.names)
        alone = scm.simulate(noise[e][:, scm._position])[:, scm.order]
        np.testing.assert_allclose(rows[e, :, :n], alone, rtol=1e-13, atol=1e-13)
        assert not rows[e, :, n:].any()
        if is_linear(scm._batch)[0]:  # other models draw their expectations from noise of another width
            assert (means[e], stds[e]) == pytest.approx(scm.observational_moments)
            assert scm.order[variables[e]] == scm.oracle.variable
            assert (values[e], expected[e]) == pytest.approx((scm.oracle.value, scm.oracle.expected))


def test_variable_order_does_not_matter():
    scm = diamond()
    shuffled = diamond(variables=tuple(scm.variables[i] for i in (3, 0, 2, 1)))
    noise = np.random.default_rng(2).standard_normal((5, 4))
    rows = scm.simulate(noise, scm.index("B"), 1.5)
    other = shuffled.simulate(noise[:, [3, 0, 2, 1]], shuffled.index("B"), 1.5)
    np.testing.assert_allclose(other, rows[:, [3, 0, 2, 1]], rtol=1e-14)


def test_maximisation_is_minimisation_of_the_negative():
    terms = (Term("Y", 1.5, 0.3, {"A": 0.7}), Term("D", 1.0, 0.1, {"Y": 0.5}))
    scm = diamond(
        direction="maximize",
        variables=(*diamond().variables, Variable("D")),
        edges={**diamond().edges, ("Y", "D"): 0.3},
        terms=terms,
    )
    flipped = scm.minimised()
    noise = np.random.default_rng(3).standard_normal((6, 5))
    rows, other = scm.simulate(noise), flipped.simulate(noise)
    sign = np.where(np.arange(5) == scm.target_index, -1.0, 1.0)
    np.testing.assert_allclose(other, rows * sign, rtol=1e-12)
    assert flipped.direction == "minimize" and flipped.minimised() is flipped


def functional(direction="minimize"):
    """The diamond as functions, with A hidden."""
    return FunctionalSCM(
        "functional",
        "Y",
        (
            Variable("A"),
            Variable("B", low=-1.0, high=3.0),
            Variable("C", low=-2.0, high=4.0),
            Variable("Y"),
            Variable("Z"),
        ),
        {"B": ("A",), "C": ("A",), "Y": ("B", "C"), "Z": ("Y",)},
        {
            "A": lambda v, e: 2 + e,
            "B": lambda v, e: -1 + 2 * v["A"] + 2 * e,
            "C": lambda v, e: -v["A"] + e,
            "Y": lambda v, e: 1 + 3 * v["B"] + 0.5 * v["C"] + 0.5 * e,
            "Z": lambda v, e: v["Y"] + e,
        },
        hidden=frozenset({"A"}),
        direction=direction,
    )


def test_functional_scm_agrees_with_the_linear_one():
    system, scm = functional(), diamond()
    assert system.names == ("B", "C", "Y", "Z") and system.noise_dim == 5
    noise = np.random.default_rng(4).standard_normal((7, 5))
    rows = system.simulate(noise, 0, 1.25)  # do(B = 1.25)
    columns = [scm.index(n) for n in ("A", "B", "C", "Y")]
    expected_noise = np.zeros((7, 4))
    expected_noise[:, columns] = noise[:, :4]
    expected = scm.simulate(expected_noise, scm.index("B"), 1.25)
    np.testing.assert_allclose(rows[:, :3], expected[:, columns[1:]], rtol=1e-13)
    assert system.parent_mask.tolist() == [True, True, False, False]
    # antithetic draws make linear expectations exact: B at -1 gives 1 - 3 - 1 = -3
    assert system.oracle.variable == 0 and system.oracle.value == -1.0
    assert system.oracle.expected == pytest.approx(-3.0, abs=1e-9)
    assert system.observational_moments[0] == pytest.approx(9.0, abs=1e-9)
    with pytest.raises(ValueError, match="shorter"):
        system.expected_target(np.array([0, 1]), np.array([1.0]))


def test_functional_scm_flips_and_its_children_see_the_true_target():
    up, down = functional("maximize"), functional("maximize").minimised()
    noise = np.random.default_rng(5).standard_normal((7, 5))
    np.testing.assert_allclose(down.simulate(noise), up.simulate(noise) * [1, 1, -1, 1], rtol=1e-13)
    # C at 4 gives 1 + 9 + 2 = 12, B at 3 only 1 + 9 - 1 = 9; negated
    assert (down.oracle.variable, down.oracle.value, down.oracle.expected) == (1, 4.0, pytest.approx(-12.0))


def test_the_oracle_of_functions_searches_in_steps_of_a_400th_of_the_domain(monkeypatch):
    """The minimum 0.3325 = 133 / 400 is a point of the grid; 401 points are looked at with few
    draws, the best 16 of them with all.
    """
    looks = []
    plain = FunctionalSCM.expected_target

    def recording(self, variable, value, num_draws=MONTE_CARLO_DRAWS):
        looks.append((len(value), num_draws))
        return plain(self, variable, value, num_draws)

    monkeypatch.setattr(FunctionalSCM, "expected_target", recording)
    system = FunctionalSCM(
        "bowl", "Y", (Variable("X", low=0.0, high=1.0), Variable("Y")), {"Y": ("X",)},
        {"X": lambda v, e: e, "Y": lambda v, e: (v["X"] - 0.3325) ** 2},
    )  # fmt: skip
    assert system.oracle.value == pytest.approx(0.3325, abs=1e-12)
    assert system.oracle.expected == pytest.approx(0.0, abs=1e-20)
    assert looks == [(401, SEARCH_DRAWS), (SEARCH_KEEP, MONTE_CARLO_DRAWS)]


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"target": "Q"}, "target 'Q' is not a variable", "known: Y, C, A, B"),
        ({"edges": {("Q", "Y"): 1.0}}, "edge 'Q' -> 'Y' names unknown variable 'Q'", "known: Y, C, A, B"),
        ({"edges": {("A", "Q"): 1.0}}, "edge 'A' -> 'Q' names unknown variable 'Q'", "known: Y, C, A, B"),
        ({"edges": {("A", "Y"): float("nan")}}, "weight of edge 'A' -> 'Y' is nan", "give a finite number"),
        ({"direction": "up"}, "direction is 'up'", "use 'minimize' or 'maximize'"),
        (
            {"variables": (Variable("Y"), Variable("A"), Variable("A"))},
            "variable name 'A' is used twice",
            "give every variable its own name",
        ),
        (
            {"variables": (Variable("Y"), Variable("A", low=2.0, high=2.0)), "edges": {}},
            "domain of 'A' has low 2.0 >= high 2.0",
            "low must be below high",
        ),
        (
            {"variables": (Variable("Y"), Variable("A", noise_std=-1.0)), "edges": {}},
            "noise_std of 'A' is -1.0",
            "a standard deviation is >= 0",
        ),
        (
            {"variables": (Variable("Y"), Variable("A", intercept=np.inf)), "edges": {}},
            "intercept of 'A' is inf",
            "give a finite number",
        ),
        (
            {"variables": (Variable("Y"), Variable("A", manipulable=False)), "edges": {}},
            "no variable is manipulable",
            "mark at least one variable that can be set",
        ),
        (
            {"terms": (Term("Q", 1.0, 0.0, {"A": 1.0}),)},
            "term of 'Q' names unknown variable 'Q'",
            "known: Y, C, A, B",
        ),
        ({"terms": (Term("Y", np.nan, 0.0, {"A": 1.0}),)}, "a term of 'Y' is not finite", "give finite numbers"),
        ({"terms": (Term("Y", 1.0, np.inf, {"A": 1.0}),)}, "a term of 'Y' is not finite", "give finite numbers"),
        ({"terms": (Term("Y", 1.0, 0.0, {"A": np.nan}),)}, "a term of 'Y' is not finite", "give finite numbers"),
        (
            {"terms": (Term("Y", 1.0, 0.0, {"A": 1.0}, "sin"),)},
            "a term of 'Y' has the shape 'sin'",
            "did you mean 'sine'?",
        ),
        (
            {"variables": (Variable("Y"), Variable("A", hidden=True)), "edges": {}},
            "'A' is hidden",
            "the target and what can be set are seen",
        ),
    ],
)
def test_what_is_not_a_model_is_refused(changes, message, hint):
    with pytest.raises(AcboError) as caught:
        diamond(**changes)
    assert (caught.value.message, caught.value.hint) == (f"SCM 'diamond': {message}", hint)


def test_a_cycle_is_named_by_its_arrows():
    """It may be entered anywhere, but every arrow is an edge."""
    edges = {("A", "B"): 1.0, ("B", "Y"): 1.0, ("Y", "A"): 1.0}
    with pytest.raises(AcboError, match="the edges form a cycle: ") as caught:
        diamond(edges=edges)
    nodes = caught.value.message.split(": ")[-1].split(" -> ")
    assert nodes[0] == nodes[-1] and set(nodes) == {"A", "B", "Y"} and len(nodes) == 4
    assert all(pair in edges for pair in itertools.pairwise(nodes))


def test_a_variable_that_causes_itself_is_a_cycle():
    with pytest.raises(AcboError) as caught:
        SCM("loop", "Y", (Variable("X"), Variable("Y")), {("X", "Y"): 1.0, ("Y", "Y"): 0.5})
    assert caught.value.message == "the edges form a cycle: Y -> Y"
    assert caught.value.hint == "remove one of these edges"


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"target": "A"}, "SCM 'functional': target 'A' is not a visible variable", ""),
        ({"target": "Q"}, "SCM 'functional': target 'Q' is not a visible variable", ""),
        ({"mechanisms": {}}, "SCM 'functional': variable 'A' has no mechanism", "add it to `mechanisms`"),
        (
            {"parents": {"B": ("Y",)}},
            "SCM 'functional': 'B' depends on 'Y', which does not come before it",
            "list the variables in topological order",
        ),
        ({"variables": (Variable("Y"),), "parents": {}}, "SCM 'functional': no variable is manipulable", ""),
    ],
)
def test_functional_scm_checks_itself(changes, message, hint):
    base = functional()
    fields = {k: getattr(base, k) for k in ("name", "target", "variables", "parents", "mechanisms", "hidden")}
    with pytest.raises(AcboError) as caught:
        FunctionalSCM(**(fields | changes))
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_no_intervention_is_minus_one_and_its_value_is_ignored():
    for model in (diamond(), diamond(saturate=True)):
        mean, _ = model.observational_moments
        assert model.expected_target(np.array([-1]), np.array([99.0]))[0] == pytest.approx(mean, abs=1e-12)
        noise = np.random.default_rng(0).standard_normal((3, 4))
        np.testing.assert_array_equal(model.simulate(noise), model.simulate(noise, -1, 99.0))
        mixed = model.simulate(noise, np.array([-1, 2, -1]), np.array([99, 3, 99]))  # integers are values too
        np.testing.assert_array_equal(mixed[[0, 2]], model.simulate(noise)[[0, 2]])
        assert mixed[1, 2] == 3.0


def test_moments_of_sampled_models_are_each_ones_own():
    """Models without a closed form, in one batch: mean and spread over its own draws."""
    models = [
        diamond(saturate=True),
        diamond(saturate=True, variables=(*diamond().variables[:2], Variable("A", 4.0, 3.0), diamond().variables[3])),
    ]
    together = observational_moments(stack(models))
    for n, model in enumerate(models):
        alone = observational_moments(stack([model]))
        assert [together[0][n], together[1][n]] == pytest.approx([alone[0][0], alone[1][0]], rel=1e-12)
    assert abs(together[0][0] - together[0][1]) > 0.5 and abs(together[1][0] - together[1][1]) > 0.1


def test_turning_a_model_over_keeps_the_rest_of_it():
    model = diamond(saturate=True, direction="maximize", terms=(Term("Y", 2.0, 0.3, {"A": 1.0}),))
    turned = model.minimised()
    assert (turned.name, turned.saturate, turned.direction, turned.target) == ("diamond", True, "minimize", "Y")
    noise = np.random.default_rng(0).standard_normal((5, 4))
    rows, other = model.simulate(noise), turned.simulate(noise)
    y = model.target_index
    assert (turned.variables[y].low, turned.variables[y].high) == (-model.variables[y].high, -model.variables[y].low)
    np.testing.assert_allclose(other[:, y], -rows[:, y], rtol=1e-12)
    np.testing.assert_array_equal(np.delete(other, y, axis=1), np.delete(rows, y, axis=1))


def test_a_batch_of_oracles_is_each_ones_own():
    models = [diamond(), diamond(saturate=True), diamond(edges={("A", "B"): -2.0, ("B", "Y"): 1.0, ("C", "Y"): 0.5})]
    variable, value, best = oracle(stack(models))
    for n, model in enumerate(models):
        alone = oracle(stack([model]))
        assert (variable[n], value[n]) == (alone[0][0], alone[1][0]) and best[n] == pytest.approx(alone[2][0])


def test_models_can_be_padded_further_than_they_need():
    terms = (Term("Y", 2.0, 0.3, {"A": 1.0}), Term("Y", 3.0, 0.1, {"B": 0.5}), Term("B", 1.0, 0.0, {"A": 2.0}))
    models = [diamond(terms=terms), diamond()]
    plain, padded = stack(models), stack(models, num_variables=6, num_terms=4)
    assert plain.intercept.shape == (2, 4) and plain.amplitude.shape == (2, 4, 2)
    assert (
        padded.intercept.shape == (2, 6)
        and padded.amplitude.shape == (2, 6, 4)
        and padded.frequency.shape == (2, 6, 4, 6)
    )
    y = models[0].order.index(models[0].target_index)
    assert plain.amplitude[0, y].tolist() == [2.0, 3.0] and not plain.amplitude[1].any()
    assert padded.low[0, 4:].tolist() == [-1.0, -1.0] and padded.high[0, 4:].tolist() == [1.0, 1.0]
    assert not padded.valid[:, 4:].any()
    noise = np.random.default_rng(1).standard_normal((2, 5, 4))
    nothing = -np.ones((2, 5), int)
    rows = simulate(plain, noise, nothing, np.zeros((2, 5)))
    wide = simulate(padded, np.pad(noise, ((0, 0), (0, 0), (0, 2))), nothing, np.zeros((2, 5)))
    np.testing.assert_array_equal(wide[:, :, :4], rows)


def test_terms_of_a_variable_stand_in_the_order_given():
    terms = [Term("Y", a, a / 10, {"A": a / 5}) for a in (2.0, 3.0, 4.0)]
    model = diamond(terms=(*terms[:2], Term("B", 1.0, 0.0, {"A": 2.0}), terms[2]))
    batch = stack([model], num_terms=4)
    y, a = model.order.index(model.target_index), model.order.index(model.index("A"))
    assert batch.amplitude[0, y].tolist() == [2.0, 3.0, 4.0, 0.0] and batch.phase[0, y].tolist() == [0.2, 0.3, 0.4, 0.0]
    assert batch.frequency[0, y, :, a].tolist() == [0.4, 0.6, 0.8, 0.0]


def test_a_model_without_sine_terms_has_no_room_for_them():
    assert stack([diamond()]).amplitude.shape == (1, 4, 0)


def test_a_minimised_model_has_the_same_rows_up_to_the_sign():
    scm = diamond(direction="maximize", saturate=True)
    e = np.random.default_rng(0).standard_normal((50, scm.noise_dim))
    rows, negated = scm.simulate(e), scm.minimised().simulate(e)
    sign = np.where(np.arange(len(scm.names)) == scm.target_index, -1.0, 1.0)
    assert negated == pytest.approx(sign * rows, abs=1e-12)


def test_the_oracle_of_a_target_to_be_maximised_is_the_highest():
    for scm in (diamond(direction="maximize"), dataclasses.replace(functional(), direction="maximize")):
        best = scm.oracle
        levers = np.flatnonzero(scm.manipulable)
        ends = [(i, v) for i in levers for v in (scm.low[i], scm.high[i], (scm.low[i] + scm.high[i]) / 2)]
        expected = scm.expected_target(np.array([i for i, _ in ends]), np.array([v for _, v in ends]))
        assert best.expected >= expected.max() - 1e-9
        again = scm.expected_target(np.array([best.variable]), np.array([best.value]))[0]
        assert best.expected == pytest.approx(again, abs=1e-9)


def test_an_odd_number_of_antithetic_draws():
    five, four = antithetic_noise(5, 3), antithetic_noise(4, 3)
    assert antithetic_noise(2, 1)[0, 0] == pytest.approx(0.33320332)  # expectations are the same on every day
    assert five.shape == (5, 3) and (five[3:] == -five[:2]).all() and (four[2:] == -four[:2]).all()
