"""Twin of acbo_ref/policy/evidence.py: the regressions of the rows read so far, as traced
functions.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from acbo_fast.jax.policy.moments import centred, spreads
from acbo_ref.policy.evidence import (
    CENTRE,
    EFFECTS,
    EQUAL_SPREADS,
    INTERVENTIONAL_PENALTY,
    JOINT_PENALTY,
    MARGINAL_PENALTY,
    SPREAD,
    VARIANCE_ROWS,
)
from acbo_ref.policy.inputs import HALF_WIDTH, OUTCOME_BOUND
from acbo_ref.policy.moments import Moments, Sums


def slope_features(evidence: Array) -> Array:
    """(..., F) -> (..., 5); see acbo_ref.policy.evidence.slope_features."""
    return OUTCOME_BOUND * jnp.tanh(jnp.sinh(_effects(evidence)) / OUTCOME_BOUND)


def spread_feature(evidence: Array) -> Array:
    """(..., F) -> (...); see acbo_ref.policy.evidence.spread_feature."""
    spread = jnp.sinh(evidence[..., SPREAD])
    return jnp.where(spread > 0, spread, 1) / HALF_WIDTH


def centre_feature(evidence: Array) -> Array:
    """(..., F) -> (...); see acbo_ref.policy.evidence.centre_feature."""
    return jnp.sinh(evidence[..., CENTRE])


def _effects(evidence: Array) -> Array:
    return jnp.stack([evidence[..., i] for i in EFFECTS], -1)


def _diagonal(x: Array) -> Array:
    return jnp.diagonal(x, axis1=1, axis2=2)


def _column(x: Array, target: Array) -> Array:
    """(E, V, V) -> (E, V), the column of the target."""
    return jnp.take_along_axis(x, target[:, None, None], axis=2)[..., 0]


def evidence_channels(moments: Moments[Array], centre: Array, ordered: Array, target: Array, valid: Array) -> Array:
    """(E, V, F); see acbo_ref.policy.evidence.evidence_channels."""
    observed, own = moments.observed, moments.own
    used = valid & (jnp.arange(valid.shape[1]) != target[:, None])

    count = jnp.maximum(observed.number[:, None] + own.number, 1)
    total = observed.total[:, None] + own.total
    cross = observed.cross + own.cross - _diagonal(total)[..., None] * total / count[..., None]
    square = _diagonal(observed.cross)[:, None] + own.square - jnp.square(total) / count[..., None]
    scatter = _diagonal(square)
    precision = scatter + MARGINAL_PENALTY
    slopes = cross / precision[..., None]
    marginal = HALF_WIDTH * _column(slopes, target)
    residual = HALF_WIDTH**2 * _column(square, target) - marginal * (
        2 * HALF_WIDTH * _column(cross, target) - marginal * scatter
    )
    variance = (jnp.maximum(residual, 0) + VARIANCE_ROWS) / (count + VARIANCE_ROWS)

    own_precision = _diagonal(own.cross) + INTERVENTIONAL_PENALTY
    interventional = HALF_WIDTH * _column(own.cross, target) / own_precision
    direct = HALF_WIDTH * _joint_regression(moments.whole, target, used)
    path = jnp.einsum("eik,ek->ei", slopes, jnp.where(used, direct, 0))
    errors = jnp.sqrt(variance / precision), jax.lax.rsqrt(own_precision)
    spread = HALF_WIDTH * spreads(observed)
    known = [marginal, errors[0], interventional, errors[1], direct, path, ordered, spread, jnp.clip(centre, -1, 1)]
    return jnp.where(used[..., None], jnp.arcsinh(jnp.stack(known, -1)), 0)


def _scaled(sums: Sums[Array], target: Array, varies: Array, spread: Array) -> tuple[Array, Array, Array]:
    """Normal equations of variables in spreads of their own: matrix (E, V, V), right side (E, V),
    and the scales, inf for what does not vary.
    """
    scale, scatter = jnp.where(varies, spread, jnp.inf), centred(sums)
    matrix = scatter / scale[:, :, None] / scale[:, None, :]
    identity = jnp.eye(scatter.shape[1], dtype=scatter.dtype)
    return matrix + JOINT_PENALTY * identity, _column(scatter, target) / scale, scale


def _joint_regression(whole: Sums[Array], target: Array, used: Array) -> Array:
    """(E, V); see acbo_ref.policy.evidence."""
    spread = spreads(whole)
    matrix, right, scale = _scaled(whole, target, used & (spread > 0), spread)
    return solve(matrix, right[..., None])[..., 0] / scale


def solve(matrix: Array, right: Array) -> Array:
    """matrix^-1 right, (E, V, R), by Gauss-Jordan elimination without pivoting, which positive
    definite (E, V, V) allow.
    """

    def eliminate(k: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        matrix, right = state
        row, other = matrix[:, k], right[:, k]
        share = (matrix[:, :, k] / row[:, k, None]).at[:, k].set(0)
        return matrix - share[:, :, None] * row[:, None], right - share[:, :, None] * other[:, None]

    matrix, right = jax.lax.fori_loop(0, matrix.shape[1], eliminate, (matrix, right))
    return right / _diagonal(matrix)[..., None]


def ordered_effect(observed: Sums[Array], target: Array, valid: Array) -> Array:
    """(E, V); see acbo_ref.policy.evidence.

    The reference solves V systems. Their variables are nested, each set a beginning of the order by
    spread: eliminating in this order, variable i meets its own system when all smaller ones are
    gone, and its coefficient is right_i / matrix_ii.
    """
    spread = spreads(observed)
    varies = valid & (jnp.arange(valid.shape[1]) != target[:, None]) & (spread > 0)
    matrix, right, scale = _scaled(observed, target, varies, spread)
    smaller = (spread[:, None, :] < spread[:, :, None] * (1 - EQUAL_SPREADS)) & varies[:, None]  # (E, i, j)
    number_smaller = jnp.where(varies, smaller.sum(2), 0)
    order = jnp.argsort(scale, axis=1)

    def eliminate(k: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        matrix, right, coefficient = state
        coefficient = jnp.where(number_smaller == k, right / _diagonal(matrix), coefficient)
        pivot = order[:, k, None]
        row = jnp.take_along_axis(matrix, pivot[..., None], axis=1)[:, 0]
        share = row / jnp.take_along_axis(row, pivot, axis=1)  # the matrix is symmetric
        right = right - share * jnp.take_along_axis(right, pivot, axis=1)
        return matrix - share[:, :, None] * row[:, None], right, coefficient

    state = (matrix, right, jnp.zeros_like(right))
    _, _, coefficient = jax.lax.fori_loop(0, valid.shape[1], eliminate, state)
    return HALF_WIDTH * coefficient / scale
