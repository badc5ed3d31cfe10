"""Twin of acbo_ref/policy/evidence.py: the regressions of the rows read so far, as traced
functions.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from acbo_ref.config import PolicyConfig
from acbo_ref.policy.evidence import (
    CENTRE,
    DIRECTION_SLOPE,
    EFFECTS,
    EQUAL_SPREADS,
    INTERVENTIONAL_PENALTY,
    JOINT_PENALTY,
    MARGINAL_PENALTY,
    VARIANCE_ROWS,
)
from acbo_ref.policy.inputs import HALF_WIDTH, OUTCOME_BOUND


class Past(NamedTuple):
    """Rows read so far, in arrays of fixed capacity N: standard (E, N, V), which variable was set
    (E, N), -1 for none, and which rows count (E, N)."""

    standard: Array
    variable: Array
    seen: Array


class Columns(NamedTuple):
    """What is known of the variables, (E, V) each: is_target, valid, and what the observational
    rows alone say, so that it is computed once: spread (in half domains), ordered effect and
    centre."""

    is_target: Array
    valid: Array
    spread: Array
    ordered: Array
    centre: Array


def _centred(x: Array, weight: Array) -> Array:
    total = jnp.maximum(weight.sum(1), 1)
    return x - ((weight * x).sum(1) / total)[:, None]


def open_columns(network: PolicyConfig, standard: Array, seen: Array, is_target: Array, valid: Array) -> Columns:
    """From the observational rows (E, O, V), standard units, of which those in seen (E, O)
    count.
    """
    if network.evidence == "none":
        nothing = jnp.zeros(valid.shape, standard.dtype)
        return Columns(is_target, valid, nothing, nothing, nothing)
    weight = seen[..., None].astype(standard.dtype)
    count = jnp.maximum(weight.sum(1), 1)
    u = standard / HALF_WIDTH
    y = jnp.where(is_target[:, None], standard, 0).sum(2, keepdims=True)
    du, dy = weight * _centred(u, weight), weight * _centred(y, weight)
    spread = jnp.sqrt(jnp.square(du).sum(1) / count)
    ordered = _ordered_regression(du, dy[..., 0], spread, valid & ~is_target)
    centre = jnp.clip((weight * u).sum(1) / count, -1, 1)
    return Columns(is_target, valid, spread, ordered, centre)


def residual_features(evidence: Array) -> Array:
    """(..., F) -> (..., RESIDUAL_FEATURES); see acbo_ref.policy.evidence.residual_features."""
    effects = _effects(evidence)
    return jnp.concatenate([evidence, jnp.abs(effects), jnp.tanh(DIRECTION_SLOPE * effects)], -1)


def slope_features(evidence: Array) -> Array:
    """(..., F) -> (..., 5); see acbo_ref.policy.evidence.slope_features."""
    return OUTCOME_BOUND * jnp.tanh(jnp.sinh(_effects(evidence)) / OUTCOME_BOUND)


def centre_feature(evidence: Array) -> Array:
    """(..., F) -> (...); see acbo_ref.policy.evidence.centre_feature."""
    return jnp.sinh(evidence[..., CENTRE])


def _effects(evidence: Array) -> Array:
    return jnp.stack([evidence[..., i] for i in EFFECTS], -1)


def evidence_channels(past: Past, columns: Columns) -> Array:
    """(E, V, F); see acbo_ref.policy.evidence.evidence_channels."""
    standard, dtype = past.standard, past.standard.dtype
    width = standard.shape[2]
    u = standard / HALF_WIDTH
    y = jnp.where(columns.is_target[:, None], standard, 0).sum(2, keepdims=True)
    observed = (past.seen & (past.variable < 0))[..., None].astype(dtype)
    own = (past.seen[..., None] & (past.variable[..., None] == jnp.arange(width))).astype(dtype)

    weight = observed + own
    du, dy = _centred(u, weight), _centred(y, weight)
    precision = (weight * jnp.square(du)).sum(1) + MARGINAL_PENALTY
    marginal = (weight * du * dy).sum(1) / precision
    # The second u could stay as it is, since the weighted du sum to 0. In float32 they do not
    # quite, and a lever that never moves would get a slope that is rounding.
    others = _centred(u, past.seen[..., None].astype(dtype))
    slopes = jnp.einsum("eni,enk->eik", weight * du, others) / precision[..., None]
    residual = (weight * jnp.square(dy - marginal[:, None] * du)).sum(1)
    variance = (residual + VARIANCE_ROWS) / (jnp.maximum(weight.sum(1), 1) + VARIANCE_ROWS)

    du, dy = _centred(u, observed), _centred(y, observed)
    own_precision = (own * jnp.square(du)).sum(1) + INTERVENTIONAL_PENALTY
    interventional = (own * du * dy).sum(1) / own_precision

    columns_used = columns.valid & ~columns.is_target
    seen = past.seen[..., None].astype(dtype)
    rows = jnp.maximum(seen.sum(1), 1)
    du, dy = seen * _centred(u, seen), seen * _centred(y, seen)
    spread = jnp.sqrt(jnp.square(du).sum(1) / rows)
    spread = jnp.where(columns_used & (spread > 1e-6), spread, jnp.inf)
    scaled = du / spread[:, None]
    gram = jnp.einsum("env,enw->evw", scaled, scaled) + JOINT_PENALTY * jnp.eye(width, dtype=dtype)
    right = jnp.einsum("env,en->ev", scaled, dy[..., 0])
    direct = _solve(gram, right) / spread

    errors = jnp.sqrt(variance / precision), jax.lax.rsqrt(own_precision)
    path = jnp.einsum("eik,ek->ei", slopes, jnp.where(columns_used, direct, 0))
    spread = HALF_WIDTH * columns.spread
    channels = [marginal, errors[0], interventional, errors[1], direct, path, columns.ordered, spread, columns.centre]
    return jnp.where(columns_used[..., None], jnp.arcsinh(jnp.stack(channels, -1)), 0)


def _solve(matrix: Array, right: Array) -> Array:
    """matrix^-1 right, (E, V), by Gauss-Jordan elimination without pivoting, which positive
    definite (E, V, V) allow.
    """

    def eliminate(k: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        matrix, right = state
        row = matrix[:, k]
        share = (matrix[:, :, k] / row[:, k, None]).at[:, k].set(0)
        return matrix - share[:, :, None] * row[:, None], right - share * right[:, k, None]

    matrix, right = jax.lax.fori_loop(0, matrix.shape[1], eliminate, (matrix, right))
    return right / jnp.diagonal(matrix, axis1=1, axis2=2)


def _ordered_regression(du: Array, dy: Array, spread: Array, counts: Array) -> Array:
    """(E, V); see acbo_ref.policy.evidence.

    The reference solves V systems. Their variables are nested, each set a beginning of the order by
    spread: eliminating in this order, variable i meets its own system when all smaller ones are
    gone, and its coefficient is right_i / matrix_ii.
    """
    varies = counts & (spread > 1e-6)
    scale = jnp.where(varies, spread, jnp.inf)
    scaled = du / scale[:, None]
    matrix = jnp.einsum("env,enw->evw", scaled, scaled) + JOINT_PENALTY * jnp.eye(du.shape[2], dtype=du.dtype)
    right = jnp.einsum("env,en->ev", scaled, dy)
    smaller = (spread[:, None, :] < spread[:, :, None] * (1 - EQUAL_SPREADS)) & varies[:, None]  # (E, i, j)
    number_smaller = jnp.where(varies, smaller.sum(2), 0)
    order = jnp.argsort(scale, axis=1)

    def eliminate(k: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        matrix, right, coefficient = state
        coefficient = jnp.where(number_smaller == k, right / jnp.diagonal(matrix, axis1=1, axis2=2), coefficient)
        pivot = order[:, k, None]
        row = jnp.take_along_axis(matrix, pivot[..., None], axis=1)[:, 0]
        share = row / jnp.take_along_axis(row, pivot, axis=1)  # the matrix is symmetric
        right = right - share * jnp.take_along_axis(right, pivot, axis=1)
        return matrix - share[:, :, None] * row[:, None], right, coefficient

    state = (matrix, right, jnp.zeros_like(right))
    _, _, coefficient = jax.lax.fori_loop(0, du.shape[2], eliminate, state)
    return coefficient / scale
