"""The prior: graphs, and random models on them."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acbo_ref.config import PriorConfig
from acbo_ref.systems.batch import (
    MONTE_CARLO_DRAWS,
    antithetic_noise,
    expected_target,
    select,
    simulate,
    total_effects,
)
from acbo_ref.systems.graphs import GRAPHS, ancestors, sample_graph
from acbo_ref.systems.prior import SCALING_DRAWS, _hidden, sample_scm
from acbo_ref.systems.scm import stack


@given(kind=st.sampled_from(sorted(GRAPHS)), n=st.integers(2, 12), seed=st.integers(0, 2**32 - 1))
def test_graphs_point_forward_and_have_an_edge(kind, n, seed):
    edges = sample_graph(kind, n, np.random.default_rng(seed))
    assert edges.shape == (n, n) and edges.any() and not np.tril(edges).any()


# Of 60 graphs of each family: systems of a seed are part of the reproducibility contract.
GRAPH_DIGESTS = {
    "chain": "4d3ee7968a279127",
    "fork": "65aa3a22f33b6191",
    "collider": "ec8cb50727585376",
    "tree": "2daf0aecb9e7438b",
    "layered": "f2d7480d82299c34",
    "erdos_renyi": "8eaef8567d58f655",
    "scale_free": "4aec3b60b1e82fcb",
    "sparse": "694681c8d14e8b09",
}


@pytest.mark.parametrize("kind", sorted(GRAPHS))
def test_a_seed_gives_the_graphs_it_always_gave(kind):
    digest = hashlib.sha256()
    for seed in range(20):
        for n in (2, 5, 11):
            digest.update(np.packbits(sample_graph(kind, n, np.random.default_rng(seed), 0.4)).tobytes())
    assert digest.hexdigest()[:16] == GRAPH_DIGESTS[kind]


def test_sparse_graphs_have_at_most_three_parents_and_many_roots():
    edges = sample_graph("sparse", 400, np.random.default_rng(0))
    parents = edges.sum(axis=0)
    assert set(parents.tolist()) == {0, 1, 2, 3}
    # a quarter are roots; a standard deviation is sqrt(400 * 3 / 16) = 8.7
    assert abs((parents == 0).sum() - 100) < 4 * 8.7


def test_graph_families_by_hand():
    rng = np.random.default_rng(0)
    assert np.argwhere(sample_graph("chain", 4, rng)).tolist() == [[0, 1], [1, 2], [2, 3]]
    assert np.argwhere(sample_graph("fork", 4, rng)).tolist() == [[0, 1], [0, 2], [0, 3]]
    assert np.argwhere(sample_graph("collider", 4, rng)).tolist() == [[0, 3], [1, 3], [2, 3]]
    assert (sample_graph("tree", 9, rng).sum(axis=0) == [0, *[1] * 8]).all()
    assert sample_graph("scale_free", 9, rng).sum() == 1 + 2 * 7
    alone = [np.argwhere(sample_graph("erdos_renyi", 5, rng, 0.0)).tolist() for _ in range(40)]
    assert {tuple(edges[0]) for edges in alone} == {(0, 4), (1, 4), (2, 4), (3, 4)}  # never without any edge
    assert all(len(edges) == 1 for edges in alone)
    share = sample_graph("erdos_renyi", 100, rng).sum() / (100 * 99 / 2)  # one half unless told otherwise
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / 4950)
    edges = np.zeros((5, 5), bool)
    edges[[0, 1, 3], [1, 4, 4]] = True
    assert ancestors(edges, 4).tolist() == [True, True, False, True, False]
    assert ancestors(sample_graph("chain", 5, rng), 4).tolist() == [True] * 4 + [False]


@given(
    kind=st.sampled_from(sorted(GRAPHS)),
    n=st.integers(2, 9),
    seed=st.integers(0, 2**32 - 1),
    manipulable=st.sampled_from([0.0, 0.5, 1.0]),
    target=st.sampled_from(["any", "last"]),
)
def test_sampled_models_can_be_improved(kind, n, seed, manipulable, target):
    prior = PriorConfig(manipulable=manipulable, target=target)
    scm = sample_scm(prior, kind, n, np.random.default_rng(seed))
    levers = total_effects(scm._batch)[0][scm._position] * scm.manipulable
    assert levers.any() and scm.oracle.expected < scm.observational_moments[0]
    assert not scm.manipulable[scm.target_index]


def test_a_disturbance_makes_its_share_of_the_variance_and_leaves_a_lever():
    prior = PriorConfig(disturbed=1.0, disturbance=(0.9, 0.9))
    unmeasured, followed, found = 0, 0, 0
    for seed in range(200):
        scm = sample_scm(prior, "sparse", 6, np.random.default_rng(seed))
        assert scm.oracle.expected < scm.observational_moments[0]
        roots = [v for v in scm.variables if not v.manipulable and v.name != scm.target]
        if not roots:  # the target has one cause, which stays a lever
            continue
        (root,) = roots
        without = replace(scm, edges={edge: w for edge, w in scm.edges.items() if edge[0] != root.name})
        share = 1 - (without.observational_moments[1] / scm.observational_moments[1]) ** 2
        assert share == pytest.approx(0.9, abs=1e-9)
        assert (root.name, scm.target) in scm.edges and all(child != root.name for _, child in scm.edges)
        found += 1
        unmeasured += root.hidden
        followed += sum(parent == root.name for parent, _ in scm.edges) == 2
    assert found > 100
    assert unmeasured / found == pytest.approx(0.25, abs=0.13) and 0.2 < followed / found < 0.6


def test_what_is_hidden_by_hand():
    """0 -> 2, 0 -> 3, 1 -> 3, 2 -> 3: of the roots only 0 has two effects; it stays in sight where
    it is the only lever.
    """
    edges = np.zeros((4, 4), bool)
    edges[[0, 0, 1, 2], [2, 3, 3, 3]] = True

    def hidden(levers):
        return _hidden(PriorConfig(hidden=1.0), edges, 3, np.array(levers), np.random.default_rng(0)).tolist()

    assert hidden([True, True, True, False]) == hidden([False, False, True, False]) == [True, False, False, False]
    assert hidden([False] * 4) == [True, False, False, False]
    assert hidden([True, False, False, False]) == [False] * 4
    edges[1, 2] = True
    rng, half, none = np.random.default_rng(0), PriorConfig(hidden=0.5), np.zeros(4, bool)
    found = [tuple(_hidden(half, edges, 3, none, rng)[:2].tolist()) for _ in range(200)]
    shares = [found.count(pair) / 200 for pair in ((True, True), (True, False), (False, True), (False, False))]
    assert shares == pytest.approx([0.25] * 4, abs=0.13)  # four standard errors of 200 draws


def test_the_only_lever_is_not_hidden():
    prior = PriorConfig(manipulable=0.0, hidden=1.0)
    found = [sample_scm(prior, "erdos_renyi", 4, np.random.default_rng(seed)) for seed in range(60)]
    assert any(not scm.visible.all() for scm in found)
    for scm in found:
        (lever,) = np.flatnonzero(scm.manipulable)
        assert total_effects(scm._batch)[0][scm._position[lever]] != 0


def test_what_a_prior_has_not_draws_nothing():
    """The names along a chain are what a seed always gave: without curves and without hidden
    variables no number is drawn for them.
    """

    def names(seed):
        scm = sample_scm(PriorConfig(), "chain", 5, np.random.default_rng(seed))
        return "".join(scm.names[i][1:] for i in scm.order)

    assert [names(seed) for seed in range(4)] == ["13402", "23041", "12403", "32104"]


def test_standardised_models_have_unit_variance():
    rng = np.random.default_rng(6)
    prior = PriorConfig(standardised=1.0, noise_std=(0.5, 2.0))
    scm = sample_scm(prior, "erdos_renyi", 7, rng)
    rows = scm.simulate(rng.standard_normal((200_000, 7)))
    # the standard error of a variance of 2e5 normal draws is sqrt(2 / 2e5) = 0.003
    np.testing.assert_allclose(rows.var(axis=0), 1.0, atol=5 * np.sqrt(2 / 200_000))


@pytest.mark.parametrize("kind", ["chain", "collider", "erdos_renyi"])
def test_linear_models_are_standardised_exactly(kind):
    """x = s e P with P = (I - W)^-1, so the variance of x_j is sum_i s_i^2 P_ij^2; ratios of
    intercept and noise stay, and without noise nothing is scaled.
    """
    raw, silent = {"standardised": 0.0}, {"noise_std": (0.0, 0.0)}
    ranges = {"standardised": 1.0, "noise_std": (0.5, 2.0), "intercept": (1.0, 2.0)}

    def models(**changes):
        return (
            sample_scm(PriorConfig(**(ranges | changes)), kind, 5, np.random.default_rng(seed)) for seed in range(6)
        )

    for scm, before in zip(models(), models(**raw), strict=True):
        noise = np.array([v.noise_std for v in scm.variables])
        paths = np.linalg.inv(np.eye(5) - scm.weights)
        assert (noise[:, None] ** 2 * paths**2).sum(axis=0) == pytest.approx(np.ones(5), rel=1e-12)
        for after, plain in zip(scm.variables, before.variables, strict=True):
            assert after.intercept / after.noise_std == pytest.approx(plain.intercept / plain.noise_std)
            assert (after.low, after.high) == (plain.low, plain.high)
        scale = noise / np.array([v.noise_std for v in before.variables])
        np.testing.assert_allclose(scm.weights, before.weights / scale[:, None] * scale, rtol=1e-12)
    for scm, before in zip(models(**silent), models(**(silent | raw)), strict=True):
        assert scm.edges == before.edges and scm.variables == before.variables


def test_standardised_nonlinear_models_have_unit_variance_too():
    rng = np.random.default_rng(8)
    prior = PriorConfig(standardised=1.0, nonlinear=1.0)
    scm = sample_scm(prior, "layered", 7, rng)
    assert scm.terms
    variances = scm.simulate(rng.standard_normal((100_000, 7))).var(axis=0)
    # rescaled by 1,024 draws: their variance is known to sqrt(2 / 1024) = 4 % where it is normal
    np.testing.assert_allclose(variances, 1.0, atol=5 * 0.044)


def test_the_target_is_the_last_variable_or_any_that_has_parents():
    """Of the three in a chain of four that have some, each is the target of about a third."""
    for rule, places in (("last", {3}), ("any", {1, 2, 3})):
        scms = [sample_scm(PriorConfig(target=rule), "chain", 4, np.random.default_rng(seed)) for seed in range(30)]
        assert {scm.order.index(scm.target_index) for scm in scms} == places


def test_listed_order_tells_nothing_of_the_causal_order():
    """Over many chains, the first variable listed is the root no more often than any other."""
    rng = np.random.default_rng(9)
    places = [sample_scm(PriorConfig(), "chain", 4, rng).order[0] for _ in range(400)]
    assert abs(np.bincount(places, minlength=4) - 100).max() < 5 * np.sqrt(400 * 0.25 * 0.75)


def test_expected_target_is_the_mean_of_simulations():
    rng = np.random.default_rng(7)
    scms = [sample_scm(PriorConfig(saturate=share), "scale_free", 6, rng) for share in (0.0, 1.0)]
    batch = stack(scms)
    for e in range(2):
        lever = int(np.flatnonzero(batch.manipulable[e])[0])
        found = expected_target(batch, np.full((2, 1), lever), np.full((2, 1), 2.0))[e, 0]
        one = select(batch, np.array([e]))
        noise = rng.standard_normal((1, 100_000, 6))
        rows = simulate(one, noise, np.full((1, 100_000), lever), np.full((1, 100_000), 2.0))
        sample = rows[0, :, batch.target[e]]
        error = sample.std() * (1 / np.sqrt(100_000) + 1 / np.sqrt(MONTE_CARLO_DRAWS))
        assert found == pytest.approx(sample.mean(), abs=4 * error + 1e-9)


@pytest.mark.parametrize("varied", [1.0, 0.0])
def test_every_number_of_a_model_lies_in_its_range(varied):
    """Raw models with sine terms, saturated, on complete graphs; with `varied` 0 in the defaults'
    ranges, but for terms, which that does not touch.
    """
    prior = PriorConfig(
        standardised=0.0, nonlinear=1.0, saturate=1.0, varied=varied, edge_probability=1.0, target="last",
        weight=(2.5, 3.0), noise_std=(3.0, 4.0), intercept=(5.0, 6.0), domain_center=(7.0, 8.0),
        domain_half_width=(0.5, 1.0), sine_amplitude=(10.0, 11.0), sine_frequency=(4.0, 5.0), manipulable=0.5,
    )  # fmt: skip
    ranges = prior if varied else PriorConfig()
    found = {name: [] for name in ("weight", "noise_std", "intercept", "domain_center", "domain_half_width")}
    phases, ratios, levers, linear, both_signs = [], [], 0, 0, 0
    for seed in range(8):
        scm = sample_scm(prior, "erdos_renyi", 5, np.random.default_rng(seed))
        assert scm.name == "random" and scm.saturate and scm.direction == "minimize"
        assert sorted(scm.names) == ["X0", "X1", "X2", "X3", "X4"] and scm.names == tuple(sorted(scm.names))
        assert scm.target_index == scm.order[-1] and len(scm.terms) == 10 and 0 < len(scm.edges) < 10
        for v in scm.variables:
            found["noise_std"].append(v.noise_std)
            found["intercept"].append(v.intercept)
            found["domain_center"].append((v.low + v.high) / 2)
            found["domain_half_width"].append((v.high - v.low) / 2)
        found["weight"] += [abs(w) for w in scm.edges.values()]
        for sine in scm.terms:
            ((parent, frequency),) = sine.frequencies.items()
            assert 4.0 <= frequency <= 5.0
            phases.append(sine.phase)
            assert ranges.weight[0] * 10.0 <= sine.amplitude <= ranges.weight[1] * 11.0
            if (parent, sine.variable) in scm.edges:
                ratios.append(sine.amplitude / abs(scm.edges[parent, sine.variable]))
        linear += len(scm.edges)
        both_signs += min(scm.edges.values()) < 0 < max(scm.edges.values())
        levers += scm.manipulable.sum()
    for name, values in found.items():
        low, high = getattr(ranges, name)
        assert low - 1e-12 <= min(values) and max(values) <= high + 1e-12, name
        if high > low:
            assert len(set(values)) > 10, name
    assert 0.0 <= min(phases) < 0.5 and 2 * np.pi - 0.5 < max(phases) < 2 * np.pi
    assert min(ratios) >= 10.0 and max(ratios) <= 11.0 and len(set(ratios)) > 20 and both_signs > 4
    assert 8 < levers < 24  # of 32 that are no target, each with probability one half
    assert 25 < linear < 55  # of 80 edges half lose their linear term


def test_a_share_of_models_keeps_to_the_defaults():
    """`varied` 0: only defaults; 0.3: about three in ten follow the ranges; 1, the default: all."""
    ranges = {"weight": (0.1, 0.2), "domain_half_width": (2.0, 3.0), "domain_center": (1.0, 1.5)}

    def widths(varied, count):
        prior = PriorConfig(standardised=0.0, varied=varied, **ranges)
        scms = [sample_scm(prior, "chain", 3, np.random.default_rng(k)) for k in range(count)]
        return np.array([scm.variables[0].high - scm.variables[0].low for scm in scms])

    assert (widths(0.0, 20) == 10.0).all() and (widths(1.0, 20) < 6.5).all()
    assert 0.2 < (widths(0.3, 300) < 6.5).mean() < 0.4


@pytest.mark.parametrize("saturate", [0.0, 1.0])
def test_a_standardised_nonlinear_model_has_unit_variance_also_with_intercepts(saturate):
    """A sine's slope depends on where its argument lies, so intercepts of 2 to 4 count; outputs are
    measured before their own clip, with clipped parents, on 4000 fresh draws (error 2 %, and 4 % of
    the scaling's own).
    """
    prior = PriorConfig(standardised=1.0, nonlinear=1.0, saturate=saturate, intercept=(2.0, 4.0))
    deviations = []
    for seed in range(12):
        scm = sample_scm(prior, "layered", 6, np.random.default_rng(seed))
        rng = np.random.default_rng(100 + seed)
        e = rng.standard_normal((4000, 6))
        rows = scm.simulate(e)
        for j, variable in enumerate(scm.variables):
            output = variable.intercept + variable.noise_std * e[:, j]
            for (parent, child), weight in scm.edges.items():
                output = output + weight * rows[:, scm.index(parent)] * (child == variable.name)
            for term in scm.terms:
                if term.variable == variable.name:
                    ((parent, frequency),) = term.frequencies.items()
                    output = output + term.amplitude * np.sin(frequency * rows[:, scm.index(parent)] + term.phase)
            deviations.append(output.std())
    assert np.abs(np.array(deviations) - 1).max() < 0.15
    assert abs(np.mean(deviations) - 1) < 0.01


@pytest.mark.parametrize("nonlinear", [0.0, 1.0])
def test_outputs_have_unit_variance_over_the_draws_that_scaled_them(nonlinear):
    """Chains with narrow domains, in which the order of the draws is known: before their own clip,
    with clipped parents, exactly. The target is not clipped. Without noise nothing is scaled.
    """
    ranges = {
        "nonlinear": nonlinear, "saturate": 1.0, "intercept": (0.2, 0.4), "noise_std": (0.5, 2.0),
        "domain_center": (0.3, 0.5), "domain_half_width": (0.5, 1.0),
    }  # fmt: skip
    for seed in range(5):
        scm = sample_scm(PriorConfig(standardised=1.0, **ranges), "chain", 5, np.random.default_rng(seed))
        e = np.zeros((SCALING_DRAWS, 5))
        e[:, scm.order] = antithetic_noise(SCALING_DRAWS, 5)
        rows = scm.simulate(e)
        inside = (rows >= scm.low) & (rows <= scm.high)
        assert np.delete(inside, scm.target_index, axis=1).all() and not inside[:, scm.target_index].all()
        outputs = np.array([v.intercept for v in scm.variables]) + np.array([v.noise_std for v in scm.variables]) * e
        for (parent, child), weight in scm.edges.items():
            outputs[:, scm.index(child)] += weight * rows[:, scm.index(parent)]
        for sine in scm.terms:
            ((parent, frequency),) = sine.frequencies.items()
            wave = sine.amplitude * np.sin(frequency * rows[:, scm.index(parent)] + sine.phase)
            outputs[:, scm.index(sine.variable)] += wave
        assert outputs.std(axis=0) == pytest.approx(np.ones(5), rel=1e-12)
        for intercept in ((0.0, 0.0), (0.2, 0.4), (1e6, 2e6)):
            still = ranges | {"intercept": intercept, "noise_std": (0.0, 0.0)}
            silent, plain = (
                sample_scm(PriorConfig(standardised=share, **still), "chain", 5, np.random.default_rng(seed))
                for share in (1.0, 0.0)
            )
            assert (silent.variables, silent.edges, silent.terms) == (plain.variables, plain.edges, plain.terms)
