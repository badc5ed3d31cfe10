"""Moments and pairs: sums against direct computation, channels by hand, and the invariants of the
pairwise trunk for every backend installed, as properties.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acbo_fast import available, backend_maker, backend_pieces
from acbo_ref.backend import ReferenceBackend
from acbo_ref.config import PolicyConfig
from acbo_ref.policy import heads, layers, network, pair_trunk
from acbo_ref.policy.acquisition import ACQUISITION_FEATURES
from acbo_ref.policy.evidence import EVIDENCE_CHANNELS, evidence_channels
from acbo_ref.policy.inputs import Task
from acbo_ref.policy.moments import add_rows, centred, no_rows, spreads
from acbo_ref.policy.pairs import NOISE_ROWS, OWN_PENALTY, PAIR_CHANNELS, SCALE, SHIFT, background, pair_channels
from acbo_ref.policy.reading import PairReading
from acbo_ref.policy.session import Session
from acbo_ref.verify.data import perturbed_state, small_config

# Rounding only: float64 sums in another order.
CLOSE = {"rtol": 1e-10, "atol": 1e-12}
seeds = st.integers(0, 2**16)


def rows_of(seed, rows=11, width=4):
    """Two systems: deviations (2, N, V), which variables were set (any number of them), and which
    rows count.
    """
    rng = np.random.default_rng(seed)
    du = rng.standard_normal((2, rows, width))
    was_set = rng.random((2, rows, width)) < rng.choice([0.0, 0.3, 0.6], size=(2, rows, 1))
    return du, was_set, rng.random((2, rows)) < 0.8


def same_moments(a, b):
    for first, second in zip(a, b, strict=True):
        for name, array in first._asdict().items():
            np.testing.assert_allclose(array, getattr(second, name), err_msg=name, rtol=1e-12, atol=1e-12)


def test_moments_are_the_sums_they_say():
    du, was_set, counts = rows_of(0)
    moments = add_rows(no_rows(2, 4), du, was_set, counts)
    for e in range(2):
        free_rows = [n for n in range(11) if counts[e, n]]
        observed = [n for n in free_rows if not was_set[e, n].any()]
        for sums, chosen in ((moments.whole, free_rows), (moments.observed, observed)):
            x = du[e, chosen]
            assert sums.number[e] == len(chosen)
            np.testing.assert_allclose(sums.total[e], x.sum(axis=0), atol=1e-12)
            np.testing.assert_allclose(sums.cross[e], x.T @ x, atol=1e-12)
            np.testing.assert_allclose(spreads(sums)[e], x.std(axis=0), atol=1e-12)
            np.testing.assert_allclose(centred(sums)[e], (x - x.mean(0)).T @ (x - x.mean(0)), atol=1e-12)
        x = du[e, observed]
        np.testing.assert_allclose(moments.observed_squares.cross[e], (x**2).T @ x, atol=1e-12)
        np.testing.assert_allclose(moments.observed_squares.fourth[e], (x**4).sum(axis=0), atol=1e-12)
        for i in range(4):
            alone = [n for n in free_rows if was_set[e, n, i] and was_set[e, n].sum() == 1]
            others = [n for n in free_rows if not was_set[e, n, i]]
            for sums, chosen in ((moments.own, alone), (moments.free, others)):
                x = du[e, chosen]
                assert sums.number[e, i] == len(chosen)
                np.testing.assert_allclose(sums.total[e, i], x.sum(axis=0), atol=1e-12)
                np.testing.assert_allclose(sums.cross[e, i], (x[:, i : i + 1] * x).sum(axis=0), atol=1e-12)
                np.testing.assert_allclose(sums.square[e, i], (x**2).sum(axis=0), atol=1e-12)
            x = du[e, alone]
            np.testing.assert_allclose(
                moments.own_squares.cross[e, i], (x[:, i : i + 1] ** 2 * x).sum(axis=0), atol=1e-12
            )
            assert moments.own_squares.fourth[e, i] == pytest.approx((x[:, i] ** 4).sum())


@given(seed=seeds)
def test_rows_may_come_in_any_order_one_at_a_time_or_all_at_once(seed):
    du, was_set, counts = rows_of(seed)
    once = add_rows(no_rows(2, 4), du, was_set, counts)
    order = np.random.default_rng(seed).permutation(du.shape[1])
    same_moments(add_rows(no_rows(2, 4), du[:, order], was_set[:, order], counts[:, order]), once)
    one_by_one = no_rows(2, 4)
    for n in order:
        one_by_one = add_rows(one_by_one, du[:, n : n + 1], was_set[:, n : n + 1], counts[:, n : n + 1])
    same_moments(one_by_one, once)


def test_what_stands_still_elsewhere_than_its_mean_does_not_vary():
    du = np.full((1, 5, 2), 0.3)
    du[0, :, 1] = [0.3, 0.3, 0.3, 0.3, 0.4]
    found = spreads(add_rows(no_rows(1, 2), du, np.zeros(du.shape, bool), np.ones((1, 5), bool)).whole)
    one = add_rows(no_rows(1, 2), du[:, :1], np.zeros((1, 1, 2), bool), np.ones((1, 1), bool)).whole
    assert not spreads(one).any() and not centred(one).any()  # a single row does not scatter
    assert found[0, 0] == 0.0 and found[0, 1] == pytest.approx(np.std([0.3] * 4 + [0.4]))


def test_pairs_with_a_variable_that_stands_still():
    """X0 and X1 have a spread of a tenth and nothing to do with each other, X2 does not move; two
    stand beyond their domains. Then a single row, of which the ridge of 1 / n takes half.
    """
    du, valid = np.zeros((1, 4, 3)), np.ones((1, 3), bool)
    du[0, :, 0], du[0, :, 1] = [-0.1, 0.1, -0.1, 0.1], [-0.1, -0.1, 0.1, 0.1]
    centre, target, levers = np.array([[-1.5, 0.25, 3.0]]), np.array([1]), np.array([[True, False, True]])
    moments = add_rows(no_rows(1, 3), du, np.zeros(du.shape, bool), np.ones((1, 4), bool))
    known = background(moments.observed, moments.observed_squares, centre, target, levers, valid)
    assert known.unit[0] == pytest.approx([0.1, 0.1, 0.2])  # one standard unit is a fifth of a half domain
    raw = (known.channels / SCALE[: known.channels.shape[-1]] + SHIFT[: known.channels.shape[-1]])[0]
    assert raw[:, 0, 17] == pytest.approx([-1.0, 0.25, 1.0]) and raw[0, :, 18] == pytest.approx([-1.0, 0.25, 1.0])
    assert raw[:, 0, 25] == pytest.approx([1, 1, 0]) and raw[0, :, 26] == pytest.approx([1, 1, 0])
    assert raw[2, :, :5] == pytest.approx(0.0) and raw[:, 2, :5] == pytest.approx(0.0)
    evidence = evidence_channels(moments, known.centre, known.ordered, target, valid)
    free_z = pair_channels(moments, known, evidence, target, valid)[0, :, :, known.channels.shape[-1] + 5]
    assert free_z == pytest.approx(np.zeros((3, 3)))
    one = add_rows(no_rows(1, 3), du[:, :1] * 0, np.zeros((1, 1, 3), bool), np.ones((1, 1), bool))
    single = (
        background(one.observed, one.observed_squares, centre, target, levers, valid).channels[0, :, :, 5] / SCALE[5]
        + SHIFT[5]
    )
    assert single == pytest.approx(np.full((3, 3), np.log(0.5)))


def table(du, was_set, target=1, valid=None, manipulable=None):
    """Channels of the pairs of one system, (V, V, P)."""
    width = du.shape[1]
    valid = np.ones((1, width), bool) if valid is None else valid
    manipulable = valid & (np.arange(width) != target) if manipulable is None else manipulable
    moments = add_rows(no_rows(1, width), du[None], was_set[None], np.ones((1, len(du)), bool))
    centre, y = np.zeros((1, width)), np.array([target])
    known = background(moments.observed, moments.observed_squares, centre, y, manipulable, valid)
    evidence = evidence_channels(moments, centre, known.ordered, y, valid)
    return pair_channels(moments, known, evidence, y, valid)[0], evidence[0]


def test_channels_by_hand():
    """Three observational rows and two with X0 set, two variables, X1 the target."""
    observed = np.array([[-0.1, -0.2], [0.0, 0.1], [0.1, 0.1]])
    own = np.array([[1.0, 0.5], [-0.5, -0.3]])
    du, was_set = np.concatenate([observed, own]), np.array([[0, 0]] * 3 + [[1, 0]] * 2, bool)
    scaled, evidence = table(du, was_set)
    assert scaled.shape == (2, 2, PAIR_CHANNELS)
    found = scaled / SCALE + SHIFT
    sd = observed.std(axis=0)
    r = np.corrcoef(observed.T)[0, 1]
    z = np.arctanh(0.999 * r)
    # partial correlation of two is -P_01 / sqrt(P_00 P_11), with P = (R + I / 3)^-1
    precision = np.linalg.inv(np.array([[4 / 3, r], [r, 4 / 3]]))
    partial = np.arctanh(-0.999 * precision[0, 1] / precision[0, 0])
    of_two = [z, np.arcsinh(z * np.sqrt(3)), partial, np.arcsinh(partial * np.sqrt(3))]
    assert found[0, 1, :5] == pytest.approx([*of_two, np.arcsinh(-precision[0, 1] / precision[1, 1])])
    assert found[0, 1, 5:9] == pytest.approx([*[np.log(precision[0, 0])] * 2, *np.log(sd + 1e-3)])
    scatter = 3 * np.cov(observed.T, bias=True)
    slopes = [scatter[0, 1] / (scatter[0, 0] + 1e-4) / sd[1], scatter[0, 1] / (scatter[1, 1] + 1e-4) / sd[0]]
    assert found[0, 1, 9:11] == pytest.approx(np.arcsinh(slopes))
    # centres, is-target of i and of j, can be set, i = j, log(1 + 3), both vary
    assert found[0, 1, 17:27].tolist() == pytest.approx([0, 0, 0, 1, 1, 0, 0, np.log(4), 1, 1])
    squares, cross = 1.0 + 0.25, 0.5 + 0.15
    assert found[0, 1, 27] == pytest.approx(np.arcsinh(cross / (squares + OWN_PENALTY) / sd[1]))
    residual = (0.25 + 0.09 - cross**2 / (squares + OWN_PENALTY)) / sd[1] ** 2
    noise = np.sqrt((residual + NOISE_ROWS) / (2 + NOISE_ROWS))  # in spreads; starts from one row of one spread
    assert found[0, 1, 29] == pytest.approx(np.arcsinh(cross / sd[1] / noise / np.sqrt(squares + OWN_PENALTY)))
    assert found[1, 0, [28, 30]] == pytest.approx(found[0, 1, [27, 29]])
    assert found[0, 1, [28, 30]].tolist() == pytest.approx([0, 0], abs=1e-12)  # X1 was never set
    # X1 was not set in any row: its slope on X0, and their correlation, are over all five
    cross, (x, y) = du[:, 0] @ du[:, 1], (du**2).sum(axis=0)
    assert found[0, 1, 31] == pytest.approx(np.arcsinh(cross / (x + 1e-4) / sd[1]))
    assert found[0, 1, 32] == pytest.approx(np.arcsinh(np.arctanh(0.999 * cross / np.sqrt(x * y)) * np.sqrt(5)))
    assert found[0, 1, 38:40] == pytest.approx([np.log1p(10 * squares) + np.log(3), 0.0])
    assert found[0, 1, 40] == pytest.approx(np.log(noise))
    assert found[1, 0, 40] == pytest.approx(0.0, abs=1e-12)  # no rows: one spread
    assert found[0, 1, 41] == pytest.approx(evidence[0, 4]) and found[1, 0, 41] == 0.0
    assert found[0, 1, 42] == pytest.approx(np.log(6))
    of_two = [*range(5), 9, 10, *range(11, 17), *range(27, 37)]
    assert not found[0, 0, of_two].any()  # a variable and itself


def test_what_stands_still_does_not_bend():
    """Neither with what varies on one side more than on the other, nor that with it."""
    du = np.zeros((4, 3))
    du[:, 0], du[:, 1] = [-0.1, -0.1, -0.1, 0.3], [-0.1, 0.2, -0.2, 0.1]
    channels = table(du, np.zeros(du.shape, bool))[0][:, :, 11:17]
    assert (channels[2] == 0).all() and (channels[:, 2] == 0).all()
    assert channels[0, 1, 0] != 0


def test_curvature_of_observational_rows_by_hand():
    """Against plain regressions of the standardised columns: what is left of z_i^2 after a constant
    and its line, against u_j alone, and against what the ridge regression on all others leaves.
    """
    du = np.random.default_rng(3).standard_normal((7, 3)) * [0.1, 0.3, 0.2]
    du[:, 2] += 4.0 * du[:, 0] ** 2
    du -= du.mean(axis=0)
    scaled, _ = table(du, np.zeros((7, 3), bool))
    found = (scaled / SCALE + SHIFT)[..., 11:17]
    n, z = 7, du / du.std(axis=0)
    precision = np.linalg.inv(z.T @ z / n + np.eye(3) / n)
    left = z @ precision / np.diagonal(precision)  # z_j minus its regression on the others
    for i, j in ((0, 1), (0, 2), (2, 1)):
        line = np.stack([np.ones(n), z[:, i]], axis=1)
        q = z[:, i] ** 2 - line @ np.linalg.lstsq(line, z[:, i] ** 2, rcond=None)[0]
        power = (q**2).mean() + 1 / n
        alone = (q * z[:, j]).mean() / np.sqrt(power)
        # the regression's ridge leaves some line in z_i, so z_i^2 itself counts
        adjusted = (z[:, i] ** 2 * left[:, j]).mean()
        expected = [
            np.arcsinh(alone * np.sqrt(n)),
            np.arcsinh(adjusted * np.sqrt(np.diagonal(precision)[j] / power * n)),
            np.arcsinh(adjusted / power / du[:, i].std() ** 2),
        ]
        assert found[i, j, ::2] == pytest.approx(expected)
        assert found[j, i, 1::2] == pytest.approx(expected)
    assert found[0, 2, 0] > 0.8  # X2 bends up with X0


def test_curvature_where_no_row_stands_at_the_mean_of_all():
    """The sums need not be of deviations from the rows' own mean, as after an import."""
    du = np.random.default_rng(4).standard_normal((1, 9, 3))
    nothing, all_count, valid = np.zeros((1, 9, 3), bool), np.ones((1, 9), bool), np.ones((1, 3), bool)
    zero, y = np.zeros((1, 3)), np.array([1])
    tables = []
    for rows in (du - du.mean(axis=1, keepdims=True), du + np.array([0.5, -2.0, 1.0])):
        m = add_rows(no_rows(1, 3), rows, nothing, all_count)
        tables.append(background(m.observed, m.observed_squares, zero, y, valid, valid).channels)
    np.testing.assert_allclose(tables[0], tables[1], rtol=1e-9, atol=1e-9)


def test_a_parabola_through_own_rows_by_hand():
    """X0 at -1, 1/2 and 1, where the target is 0.3 u + 0.5 u^2 exactly, and a spread of 0.2."""
    observed = np.array([[-0.1, -0.2], [0.1, 0.2]])
    u = np.array([-1.0, 0.5, 1.0])
    own = np.stack([u, 0.3 * u + 0.5 * u**2], axis=1)
    was_set = np.array([[0, 0]] * 2 + [[1, 0]] * 3, bool)
    scaled, _ = table(np.concatenate([observed, own]), was_set)
    found = (scaled / SCALE + SHIFT)[..., 33:38]
    design = np.stack([u, u**2], axis=1)
    gram = design.T @ design + OWN_PENALTY * np.eye(2)
    slope, bend = np.linalg.solve(gram, design.T @ own[:, 1])
    assert bend == pytest.approx(0.5, abs=0.01)
    left = (own[:, 1] ** 2).sum() - slope * (u * own[:, 1]).sum() - bend * (u**2 * own[:, 1]).sum()
    noise = (left / 0.2**2 + NOISE_ROWS) / (3 + NOISE_ROWS)
    error = np.sqrt(noise * np.linalg.inv(gram)[1, 1])
    assert found[0, 1] == pytest.approx(
        [np.arcsinh(bend / 0.2), 0.0, np.arcsinh(bend / 0.2 / error), 0.0, 0.5 * np.log(noise)]
    )
    assert found[1, 0, [1, 3]] == pytest.approx(found[0, 1, [0, 2]]) and found[1, 0, 4] == pytest.approx(0.0)


def history(seed, width=4):
    """A system: deviations and single variables that were set; target 1."""
    rng = np.random.default_rng(seed)
    du, was_set = rng.standard_normal((12, width)) @ rng.standard_normal((width, width)), np.zeros((12, width), bool)
    was_set[np.arange(7, 12), rng.choice([0, 2, 3], size=5)] = True
    return du, was_set


@given(seed=seeds)
def test_permuting_variables_permutes_the_table(seed):
    du, was_set = history(seed)
    order = np.array([3, 1, 0, 2])  # keeps the target in place
    found, _ = table(du, was_set)
    other, _ = table(du[:, order], was_set[:, order])
    np.testing.assert_allclose(other, found[order][:, order], rtol=1e-8, atol=1e-10)


@given(seed=seeds)
def test_padding_changes_no_pair(seed):
    du, was_set = history(seed)
    found, _ = table(du, was_set)
    wide, _ = table(np.pad(du, ((0, 0), (0, 2))), np.pad(was_set, ((0, 0), (0, 2))), valid=np.arange(6)[None] < 4)
    np.testing.assert_allclose(wide[:4, :4], found, rtol=1e-9, atol=1e-12)
    assert not wide[4:].any() and not wide[:, 4:].any()


def task(observations, low=-2.0, high=2.0):
    """Two systems of four variables; targets 3 and 0."""
    return Task(
        observations=observations,
        observation_mask=np.array([[True] * 6, [True] * 4 + [False] * 2]),
        target=np.array([3, 0]),
        valid=np.ones((2, 4), bool),
        manipulable=np.array([[True, True, True, False], [False, True, True, True]]),
        low=np.full((2, 4), low),
        high=np.full((2, 4), high),
    )


ROWS = np.random.default_rng(0).standard_normal((2, 6, 4))


def test_a_peek_leaves_no_trace():
    one, two = PairReading(task(ROWS), float), PairReading(task(ROWS), float)
    rows, variable = np.random.default_rng(1).standard_normal((2, 2, 4)), np.array([[0, 1], [2, 2]])
    one.peek(variable[1], 100 * rows[1])
    for a, b in zip(one.append(variable[0], rows[0]), two.append(variable[0], rows[0]), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("backend", available())
@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e7])
def test_the_users_units_do_not_matter(backend, unit):
    """Rows, domains and experiments in other units and from another zero: the same decision."""
    config = small_config(dtype="float64", decision="outcome_head")
    made = backend_maker(backend)(config)
    state = made.from_host(perturbed_state(ReferenceBackend(config)))
    shift = 3.0 * unit

    def decided(scale, zero):
        session = made.session(state, task(ROWS * scale + zero, -2.0 * scale + zero, 2.0 * scale + zero), 2)
        session.observe(np.array([0, 1]), ROWS[:, 0] * 0.3 * scale + zero)
        return session.decide()

    plain, other = decided(1.0, 0.0), decided(unit, shift)
    np.testing.assert_array_equal(other.variable, plain.variable)
    np.testing.assert_allclose(other.value, plain.value * unit + shift, rtol=1e-7)
    np.testing.assert_allclose(other.outcome_mean, plain.outcome_mean * unit + shift, rtol=1e-7)
    np.testing.assert_allclose(other.outcome_std, plain.outcome_std * unit, rtol=1e-6)


@settings(max_examples=5)
@given(seed=seeds)
def test_the_order_of_rows_changes_nothing(seed):
    """Observational rows in another order, and experiments in another order."""
    config = small_config(dtype="float64")
    params = perturbed_state(ReferenceBackend(config)).params
    rng = np.random.default_rng(seed)
    rows, variable = rng.standard_normal((5, 2, 4)), rng.choice([1, 2], size=(5, 2))
    masked = task(ROWS)
    shuffled = replace(masked, observations=ROWS[:, [3, 1, 0, 2, 4, 5]])
    found = []
    for known, order in ((masked, np.arange(5)), (shuffled, rng.permutation(5))):
        session = Session(params, config, known, 5)
        for k in order:
            session.observe(variable[k], rows[k])
        found.append(session.decide())
    np.testing.assert_allclose(found[0].probability, found[1].probability, **CLOSE)
    np.testing.assert_allclose(found[0].outcome_mean, found[1].outcome_mean, **CLOSE)


def test_pairs_with_padding_are_zero():
    """In both places, whatever stands in the padded column, before and after a row."""
    known = Task(
        observations=np.random.default_rng(0).standard_normal((1, 6, 3)), observation_mask=np.ones((1, 6), bool),
        target=np.array([0]), valid=np.array([[True, True, False]]), manipulable=np.array([[False, True, False]]),
        low=np.array([[0.0, -5.0, 0.0]]), high=np.array([[0.0, 5.0, 0.0]]),
    )  # fmt: skip
    reading = PairReading(known, float)
    for view in (reading.start(), reading.append(np.array([1]), np.array([[1.0, 3.0, 9.0]]))):
        assert view.channels[0, :2, :2].any(axis=-1).all()
        assert not view.channels[0, 2].any() and not view.channels[0, :, 2].any() and not view.evidence[0, 2].any()


# ------------------------------------------------------------------------------------------- trunk


def test_triangles_by_hand():
    """Of width 1 with a, b, c, d in this order, a and c before GELU: what i does to k times what k
    does to j, and what k does to both, over three of four variables that are no padding, by sqrt 3.
    """
    rng = np.random.default_rng(0)
    factors, valid = rng.standard_normal((1, 4, 4, 4)), np.array([[True, True, True, False]])
    through = pair_trunk.triangle_forward(factors, valid)[0]
    a, c = (layers.gelu_forward(factors[0, :, :, n])[0] for n in (0, 2))
    b, d = factors[0, :, :, 1], factors[0, :, :, 3]
    for i in range(3):
        for j in range(3):
            paths = sum(a[i, k] * b[k, j] for k in range(3)) / np.sqrt(3)
            common = sum(c[k, i] * d[k, j] for k in range(3)) / np.sqrt(3)
            assert through[0, i, j] == pytest.approx([paths, common])


def test_what_is_known_of_a_variable_by_hand():
    """The means of its row and of its column over what is no padding, and its own entry."""
    x = np.array([[1.0, 2.0, 90.0], [3.0, 4.0, 90.0], [90.0, 90.0, 90.0]])[None, :, :, None]
    known = pair_trunk.variable_forward(x, np.array([[True, True, False]]))
    assert known[0, :2].tolist() == [[1.5, 2.0, 1.0], [3.5, 3.0, 4.0]]


def test_a_block_of_pairs_by_its_formula():
    """As the head of pair_trunk.py has it, pair by pair, with a padded variable; and the trunk is
    an embedding, its blocks in their order, and what stands between a variable and the target.
    """
    width, config = 4, PolicyConfig("pairwise", hidden_dim=4, num_layers=2)
    rng = np.random.default_rng(0)
    params = {name: rng.standard_normal(shape) for name, shape in network.parameter_shapes(config).items()}
    z, valid = rng.standard_normal((1, 4, 4, width)), np.array([[True, True, True, False]])

    def norm(name, x):
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
        return x * params[name + ".scale"] + params[name + ".bias"]

    def linear(name, x):
        return x @ params[name + ".weight"] + params[name + ".bias"]

    def gelu(x):
        return layers.gelu_forward(x)[0]

    def block(index, z):
        name, every = f"blocks.{index}.", range(3)
        x = {(i, j): norm(name + "norm", z[0, i, j]) for i in every for j in every}
        factors = {ij: np.split(linear(name + "factors", at), 4) for ij, at in x.items()}
        a, b, c, d = ({ij: four[n] for ij, four in factors.items()} for n in range(4))
        known = [
            np.concatenate([sum(x[i, j] for j in every) / 3, sum(x[j, i] for j in every) / 3, x[i, i]]) for i in every
        ]
        row, column = np.split(params[name + "variable.weight"], 2, axis=1)
        out = np.zeros((1, 3, 3, width))
        for i, j in x:
            paths = sum(gelu(a[i, k]) * b[k, j] for k in every) / np.sqrt(3)
            common = sum(gelu(c[k, i]) * d[k, j] for k in every) / np.sqrt(3)
            through = norm(name + "triangle_norm", np.concatenate([paths, common]))
            hidden = linear(name + "mlp.up", np.concatenate([x[i, j], x[j, i], through]))
            hidden = hidden + known[i] @ row + known[j] @ column
            out[0, i, j] = z[0, i, j] + linear(name + "mlp.down", gelu(hidden))
        return out

    for index in range(2):
        found, _ = pair_trunk.block_forward(params, index, z, valid)
        np.testing.assert_allclose(found[:, :3, :3], block(index, z), atol=1e-12)
    channels, target = rng.standard_normal((1, 4, 4, PAIR_CHANNELS)), 1
    h, table, _ = pair_trunk.trunk_forward(params, config, channels, valid, np.array([target]))
    expected = block(1, block(0, linear("embed", channels)))
    np.testing.assert_allclose(table[:, :3, :3], expected, atol=1e-12)
    for i in range(3):
        between = np.concatenate([expected[0, i, target], expected[0, target, i]])
        np.testing.assert_allclose(h[0, i], norm("final_norm", between), atol=1e-12)
    edges, _ = heads.edge_forward(params, table)
    by_hand = linear("edge_head.out", norm("edge_head.norm", expected[0, 2, 0]))
    np.testing.assert_allclose(edges[0, 2, 0], by_hand, atol=1e-12)


E, K, V = 2, 3, 5
CONFIG = small_config(dtype="float64")
PARAMS = perturbed_state(ReferenceBackend(CONFIG)).params
NAMES = ("logits", "means", "parent_logits", "hidden", "slope")


def output(outputs, name):
    """One of NAMES."""
    return np.asarray(getattr(outputs.outcome if name in ("hidden", "slope") else outputs, name))


class _Forward:
    """forward(inputs) of one backend, compiled at most once a shape."""

    def __init__(self, name):
        self._backend = backend_maker(name)(CONFIG)

    def __call__(self, inputs):
        if self._backend.name == "ref":
            return network.forward(PARAMS, CONFIG.policy, inputs, K)[0]
        return backend_pieces(self._backend.name)["forward"](self._backend, PARAMS, inputs, K)


FORWARDS = {name: _Forward(name) for name in available()}


@pytest.fixture(params=available())
def forward(request):
    return FORWARDS[request.param]


def random_inputs(seed):
    rng = np.random.default_rng(seed)
    choosable = rng.random((E, V)) < 0.7
    choosable[:, 0] = True
    return network.PolicyInputs(
        channels=rng.standard_normal((E, K, V, V, PAIR_CHANNELS)),
        evidence=rng.standard_normal((E, K, V, EVIDENCE_CHANNELS)),
        acquisition=rng.standard_normal((E, K, V, ACQUISITION_FEATURES)),
        valid=np.ones((E, V), bool),
        choosable=choosable,
        target=np.array([V - 1, 1]),
        row_mask=np.zeros((E, 0, 0), bool),
    )


@given(seed=seeds)
def test_permuting_variables_permutes_the_outputs(forward, seed):
    inputs = random_inputs(seed)
    order = np.random.default_rng(seed).permutation(V)
    permuted = inputs._replace(
        channels=inputs.channels[:, :, order][:, :, :, order],
        evidence=inputs.evidence[:, :, order],
        acquisition=inputs.acquisition[:, :, order],
        choosable=inputs.choosable[:, order],
        target=np.argsort(order)[inputs.target],
    )
    a, b = forward(inputs), forward(permuted)
    for name in NAMES:
        np.testing.assert_allclose(output(a, name)[:, :, order], output(b, name), err_msg=name, **CLOSE)


@given(seed=seeds)
def test_padding_changes_nothing(forward, seed):
    """Also when what stands in the padding is not zero."""
    inputs = random_inputs(seed)
    wide = 100 * np.random.default_rng(seed + 1).standard_normal((E, K, V + 2, V + 2, PAIR_CHANNELS))
    wide[:, :, :V, :V] = inputs.channels
    padded = inputs._replace(
        channels=wide,
        evidence=np.pad(inputs.evidence, ((0, 0), (0, 0), (0, 2), (0, 0))),
        acquisition=np.pad(inputs.acquisition, ((0, 0), (0, 0), (0, 2), (0, 0))),
        valid=np.pad(inputs.valid, ((0, 0), (0, 2))),
        choosable=np.pad(inputs.choosable, ((0, 0), (0, 2))),
    )
    a, b = forward(padded), forward(inputs)
    for name in NAMES:
        np.testing.assert_allclose(output(a, name)[:, :, :V], output(b, name), err_msg=name, **CLOSE)


@given(seed=seeds)
def test_tables_do_not_touch_each_other(forward, seed):
    """Another decision, and another episode, changes nothing but itself."""
    inputs = random_inputs(seed)
    channels = inputs.channels.copy()
    channels[1, 2] = np.random.default_rng(seed + 1).standard_normal(channels[1, 2].shape)
    a, b = forward(inputs), forward(inputs._replace(channels=channels))
    changed = np.zeros((E, K), bool)
    changed[1, 2] = True
    for name in NAMES:
        np.testing.assert_allclose(output(a, name)[~changed], output(b, name)[~changed], **CLOSE)
        if name != "slope":
            assert not np.allclose(output(a, name)[changed], output(b, name)[changed])


def test_every_pair_has_a_say(forward):
    """One channel of one pair changes what is said of every variable: paths lead everywhere."""
    inputs, before = random_inputs(3), None
    for shift in (0.0, 0.5):
        inputs.channels[0, 1, 2, 3, 0] += shift
        after = np.asarray(forward(inputs).parent_logits)
        if before is not None:
            assert (np.abs(after[0, 1] - before[0, 1]) > 1e-9).all() and (after[1] == before[1]).all()
        before = after
