"""The regressions that the policy is handed: against hand-derived numbers, other software, and
their own invariants.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acbo_ref.policy.evidence import (
    EVIDENCE_CHANNELS,
    INTERVENTIONAL_PENALTY,
    JOINT_PENALTY,
    MARGINAL_PENALTY,
    evidence_channels,
    ordered_effect,
)
from acbo_ref.policy.moments import add_rows, no_rows

MARGINAL, MARGINAL_ERROR, INTERVENTIONAL, INTERVENTIONAL_ERROR, DIRECT, PATH, ORDERED, SPREAD, CENTRE = range(
    EVIDENCE_CHANNELS
)


def history(seed, rows=9, width=4, interventions=4):
    """One system: standard rows, which variable was set, target 1."""
    rng = np.random.default_rng(seed)
    standard = rng.standard_normal((1, rows, width))
    variable = np.full((1, rows), -1)
    variable[0, rows - interventions :] = rng.choice([0, 2, 3], size=interventions)
    return standard, variable


def channels(standard, variable, seen=None, valid=None):
    seen = np.ones(variable.shape, bool) if seen is None else seen
    valid = np.ones((1, standard.shape[2]), bool) if valid is None else valid
    observed = (seen & (variable < 0))[:, :, None]
    mean = np.where(observed, standard, 0.0).sum(axis=1) / np.maximum(observed.sum(axis=1), 1)
    difference = standard - mean[:, None]
    differs = np.abs(difference) > 1e-14 * np.abs(mean)[:, None]  # as inputs.deviations does
    du = np.where(differs & seen[:, :, None] & valid[:, None], difference, 0.0) / 5
    was_set = variable[:, :, None] == np.arange(standard.shape[2])
    moments = add_rows(no_rows(1, standard.shape[2]), du, was_set, seen)
    target = np.array([1])
    ordered = ordered_effect(moments.observed, target, valid)
    return np.sinh(evidence_channels(moments, mean / 5, ordered, target, valid))[0]


def test_by_hand():
    # two observational rows and one with X0 set to 5 (u = 1): X0 at u = 0, 0.2, 1; y = 0, 1, 3
    standard = np.array([[[0.0, 0.0], [1.0, 1.0], [5.0, 3.0]]])
    found = channels(standard, np.array([[-1, -1, 0]]))
    u, y = np.array([0.0, 0.2, 1.0]), np.array([0.0, 1.0, 3.0])
    du, dy = u - 0.4, y - 4 / 3
    slope = du @ dy / (du @ du + MARGINAL_PENALTY)
    assert found[0, MARGINAL] == pytest.approx(slope)
    residual = (dy - slope * du) @ (dy - slope * du)
    assert found[0, MARGINAL_ERROR] == pytest.approx(np.sqrt((residual + 1) / 4 / (du @ du + MARGINAL_PENALTY)))
    # from the observational mean (0.1, 0.5) to (1, 3)
    assert found[0, INTERVENTIONAL] == pytest.approx(0.9 * 2.5 / (0.81 + INTERVENTIONAL_PENALTY))
    assert found[0, INTERVENTIONAL_ERROR] == pytest.approx(1 / np.sqrt(0.81 + INTERVENTIONAL_PENALTY))
    # alone, the joint regression is one of z = du / sd with penalty 1
    sd = np.sqrt(du @ du / 3)
    assert found[0, DIRECT] == pytest.approx((du @ dy / sd) / (3 + JOINT_PENALTY) / sd)
    assert found[0, PATH] == pytest.approx(found[0, DIRECT] * (du @ du) / (du @ du + MARGINAL_PENALTY))
    # of the two observational rows, u = 0 and 0.2, y = 0 and 1: sd 0.1, z = -1 and 1, X^T y = 1
    assert found[0, ORDERED] == pytest.approx(1 / (2 + JOINT_PENALTY) / 0.1)
    assert found[0, SPREAD] == pytest.approx(0.5)  # of 0 and 1
    assert found[0, CENTRE] == pytest.approx(0.1)  # of 0 and 0.2
    assert not found[1].any()  # the target
    # observations beyond the domain: the nearest end
    assert channels(standard + np.array([8.0, 0.0]), np.array([[-1, -1, 0]]))[0, CENTRE] == pytest.approx(1.0)


def test_one_row_by_hand():
    """It has no slope, and a residual variance of (0 + 1) / (1 + 1)."""
    found = channels(np.array([[[-6.0, 2.0]]]), np.array([[-1]]))
    assert found[0, MARGINAL] == 0.0
    assert found[0, MARGINAL_ERROR] == pytest.approx(np.sqrt(0.5 / MARGINAL_PENALTY))
    assert found[0, CENTRE] == pytest.approx(-1.0)  # -6 is below the domain


def test_own_rows_count_about_their_own_mean():
    """One observational row at u = 0, y = 0, and X0 set to u = 1 twice, with y = 1 and 3: about the
    means 2/3 and 4/3 the sums of squares and products are 2/3 and 4/3.
    """
    found = channels(np.array([[[0.0, 0.0], [5.0, 1.0], [5.0, 3.0]]]), np.array([[-1, 0, 0]]))
    slope = (4 / 3) / (2 / 3 + MARGINAL_PENALTY)
    assert found[0, MARGINAL] == pytest.approx(slope)
    residual = 14 / 3 - 2 * slope * 4 / 3 + slope**2 * 2 / 3  # sum y^2 - (sum y)^2 / 3 = 10 - 16 / 3
    variance = (residual + 1) / 4
    assert found[0, MARGINAL_ERROR] == pytest.approx(np.sqrt(variance / (2 / 3 + MARGINAL_PENALTY)))


def test_nothing_known_is_nothing():
    found = channels(np.zeros((1, 0, 3)), np.zeros((1, 0), int))
    assert np.isfinite(found).all()
    assert not found[[0, 2]][:, [MARGINAL, INTERVENTIONAL, DIRECT, PATH, ORDERED, SPREAD, CENTRE]].any()
    assert found[0, INTERVENTIONAL_ERROR] == pytest.approx(INTERVENTIONAL_PENALTY**-0.5)


def test_the_marginal_effect_is_least_squares_on_the_right_rows():
    standard, variable = history(0, rows=40, interventions=20)
    found = channels(standard, variable)
    for i in (0, 2, 3):
        rows = (variable[0] == -1) | (variable[0] == i)
        slope = np.polyfit(standard[0, rows, i] / 5, standard[0, rows, 1], 1)[0]
        assert found[i, MARGINAL] == pytest.approx(slope, rel=5e-3)  # but for the small penalty


def test_the_direct_effect_is_ridge_regression():
    linear_model = pytest.importorskip("sklearn.linear_model")
    standard, variable = history(1, rows=30, interventions=10)
    others = standard[0][:, [0, 2, 3]] / 5
    spread = others.std(axis=0)
    fit = linear_model.Ridge(alpha=JOINT_PENALTY).fit(others / spread, standard[0, :, 1])
    assert channels(standard, variable)[[0, 2, 3], DIRECT] == pytest.approx(fit.coef_ / spread, rel=1e-9)


def test_a_direct_effect_separates_a_parent_from_its_cause():
    """X0 -> X2 -> Y: given X2, X0 tells nothing more of Y; marginally it does."""
    rng = np.random.default_rng(0)
    x0 = rng.standard_normal(4000)
    x2 = x0 + rng.standard_normal(4000)
    y = x2 + rng.standard_normal(4000)
    found = channels(np.stack([x0, y, x2], axis=1)[None], np.full((1, 4000), -1))
    assert found[:, MARGINAL] == pytest.approx([5, 0, 5], abs=0.3)
    assert found[:, DIRECT] == pytest.approx([0, 0, 5], abs=0.3)
    assert found[:, PATH] == pytest.approx([5, 0, 5], abs=0.3)


def test_the_ordered_effect_is_the_nested_regression_of_what_varies_less():
    rng = np.random.default_rng(5)
    standard = rng.standard_normal((1, 30, 5)) @ rng.standard_normal((5, 5)) * np.array([3.0, 1.0, 0.5, 2.0, 1.0])
    found = channels(standard, np.full((1, 30), -1))
    u, y = standard[0] / 5, standard[0, :, 1] - standard[0, :, 1].mean()
    order = [i for i in np.argsort(u.std(axis=0)) if i != 1]
    for k, i in enumerate(order):
        columns = u[:, order[: k + 1]]
        spread = columns.std(axis=0)
        scaled = (columns - columns.mean(axis=0)) / spread
        coefficients = np.linalg.solve(scaled.T @ scaled + JOINT_PENALTY * np.eye(k + 1), scaled.T @ y) / spread
        assert found[i, ORDERED] == pytest.approx(coefficients[-1], rel=1e-9)


def test_equal_spreads_are_not_put_in_an_order():
    """Saturated variables can have the very same values; which is listed first must not matter."""
    standard, variable = history(6, rows=4, interventions=0)
    standard[0, :, 0] = [5, 5, -5, 5]
    standard[0, :, 2] = [5, -5, 5, 5]
    found, order = channels(standard, variable), np.array([2, 1, 0, 3])
    np.testing.assert_allclose(channels(standard[:, :, order], variable), found[order], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("larger", [0.0, 1e-7])
def test_of_two_with_equal_spreads_each_is_regressed_alone(larger):
    """Deviations of 0.5, 0.5, -1.5, 0.5 and of 0.5, -1.5, 0.5, 0.5 (standard deviation root 3/4),
    with y = -2, -1, 0, 3: each by itself, with the penalty of a fifth row; with the other one in
    its regression it would be something else.
    """
    u = np.array([[0.5, 0.5, -1.5, 0.5], [0.5, -1.5, 0.5, 0.5]]) * np.array([[1.0], [1.0 + larger]])
    y = np.array([-2.0, -1.0, 0.0, 3.0])
    found = channels(np.stack([5 * u[0], y, 5 * u[1]], axis=1)[None], np.full((1, 4), -1))
    spread = np.sqrt(0.75)
    for i, column in ((0, u[0]), (2, u[1])):
        assert found[i, ORDERED] == pytest.approx(column @ y / spread / (4 + JOINT_PENALTY) / spread, rel=1e-6)


def test_the_ordered_effect_sees_through_a_confounder_in_a_raw_model():
    """X0 -> X2, X0 -> Y, raw: the marginal effect of X2 on Y is all confounding, the ordered one is
    none.
    """
    rng = np.random.default_rng(0)
    x0 = rng.standard_normal(4000)
    x2, y = 2 * x0 + rng.standard_normal(4000), x0 + rng.standard_normal(4000)
    found = channels(np.stack([x0, y, x2], axis=1)[None], np.full((1, 4000), -1))
    assert found[2, MARGINAL] == pytest.approx(2.0, abs=0.2) and abs(found[2, ORDERED]) < 0.2
    assert found[0, ORDERED] == pytest.approx(5.0, abs=0.3)


def test_over_the_same_rows_the_path_effect_is_the_marginal_one():
    """Omitted-variable formula: slope of y on x = sum_k (slope of x_k on x) times (coefficient of
    x_k), for least squares on the same rows with no other parents of y: here all observational, and
    the penalties are what is left."""
    rng = np.random.default_rng(2)
    standard = rng.standard_normal((1, 20_000, 4)) @ rng.standard_normal((4, 4))
    found = channels(standard, np.full((1, 20_000), -1))
    np.testing.assert_allclose(found[:, PATH], found[:, MARGINAL], rtol=1e-3, atol=1e-3)


@given(seed=st.integers(0, 2**16))
def test_invariants(seed):
    standard, variable = history(seed)
    found = channels(standard, variable)
    rng = np.random.default_rng(seed)
    # the order of rows and of variables
    rows = rng.permutation(9)
    np.testing.assert_allclose(channels(standard[:, rows], variable[:, rows]), found, rtol=1e-9, atol=1e-12)
    order = np.array([3, 1, 0, 2])  # keeps the target in place
    renamed = np.where(variable < 0, -1, np.argsort(order)[variable])
    np.testing.assert_allclose(channels(standard[:, :, order], renamed), found[order], rtol=1e-9, atol=1e-12)
    # rows that do not count, and padding
    longer = np.concatenate([standard, 1e3 * rng.standard_normal((1, 3, 4))], axis=1)
    seen = np.arange(12)[None] < 9
    extended = np.concatenate([variable, rng.integers(-1, 4, (1, 3))], axis=1)
    np.testing.assert_allclose(channels(longer, extended, seen), found, rtol=1e-9, atol=1e-12)
    wide = np.concatenate([standard, np.zeros((1, 9, 2))], axis=2)
    padded = channels(wide, variable, valid=np.arange(6)[None] < 4)
    np.testing.assert_allclose(padded[:4], found, rtol=1e-9, atol=1e-12)
    assert not padded[4:].any()


def test_turning_a_variable_over_turns_its_effects_over():
    standard, variable = history(3)
    flipped = standard * np.array([-1.0, 1, 1, 1])
    a, b = channels(standard, variable), channels(flipped, variable)
    signs = np.ones((4, EVIDENCE_CHANNELS))
    signs[0, [MARGINAL, INTERVENTIONAL, DIRECT, PATH, ORDERED, CENTRE]] = -1
    np.testing.assert_allclose(b, a * signs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e8])
def test_columns_that_are_constant_tiny_or_huge_stay_finite(scale):
    standard, variable = history(4)
    standard[:, :, 0] = scale
    standard[:, :, 2] *= scale
    standard[:, :, 3] = standard[:, :, 2]  # a duplicate
    found = channels(standard, variable)
    assert np.isfinite(found).all()
    assert found[0, MARGINAL] == pytest.approx(0.0, abs=1e-3) and found[0, DIRECT] == 0.0
