"""Twin of acbo_ref/policy/moments.py as traced functions."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from acbo_ref.policy.inputs import ROUNDING_UNITS
from acbo_ref.policy.moments import Moments, RegimeSums, SquareSums, Sums


def no_rows(num_episodes: int, width: int, dtype: Any) -> Moments[Array]:
    """The moments before any row."""
    count, total, cross = (jnp.zeros((num_episodes, *(width,) * n), dtype) for n in range(3))
    sums, regimes, squares = Sums(count, total, cross), RegimeSums(total, cross, cross, cross), SquareSums(cross, total)
    return Moments(sums, regimes, regimes, sums, squares, squares)


def add_rows(moments: Moments[Array], du: Array, was_set: Array, counts: Array) -> Moments[Array]:
    """See acbo_ref.policy.moments.add_rows."""
    weight = counts[..., None].astype(du.dtype)
    number = was_set.sum(2, keepdims=True)
    observed, own = weight * (number == 0), weight * (was_set & (number == 1))
    return Moments(
        observed=_add(moments.observed, du, observed[..., 0]),
        own=_add_regimes(moments.own, du, own),
        free=_add_regimes(moments.free, du, weight * ~was_set),
        whole=_add(moments.whole, du, weight[..., 0]),
        observed_squares=_add_squares(moments.observed_squares, du, observed),
        own_squares=_add_squares(moments.own_squares, du, own),
    )


def _add(sums: Sums[Array], du: Array, weight: Array) -> Sums[Array]:
    return Sums(
        sums.number + weight.sum(1),
        sums.total + jnp.einsum("en,env->ev", weight, du),
        sums.cross + jnp.einsum("en,env,enw->evw", weight, du, du),
    )


def _add_regimes(sums: RegimeSums[Array], du: Array, weight: Array) -> RegimeSums[Array]:
    return RegimeSums(
        sums.number + weight.sum(1),
        sums.total + jnp.einsum("eni,enj->eij", weight, du),
        sums.cross + jnp.einsum("eni,enj->eij", weight * du, du),
        sums.square + jnp.einsum("eni,enj->eij", weight, jnp.square(du)),
    )


def _add_squares(sums: SquareSums[Array], du: Array, weight: Array) -> SquareSums[Array]:
    square = weight * jnp.square(du)
    return SquareSums(
        sums.cross + jnp.einsum("eni,enj->eij", square, du), sums.fourth + (square * jnp.square(du)).sum(1)
    )


def centred(sums: Sums[Array]) -> Array:
    """(E, V, V) scatter about the rows' own mean."""
    count = jnp.maximum(sums.number, 1)[:, None, None]
    return sums.cross - sums.total[:, :, None] * sums.total[:, None, :] / count


def spreads(sums: Sums[Array]) -> Array:
    """(E, V) standard deviations; see acbo_ref.policy.moments.spreads."""
    count = jnp.maximum(sums.number, 1)[:, None]
    squares = jnp.diagonal(sums.cross, axis1=1, axis2=2)
    scatter = squares - jnp.square(sums.total) / count
    rounding = ROUNDING_UNITS * jnp.finfo(scatter.dtype).eps * squares
    return jnp.sqrt(jnp.where(scatter > rounding, scatter, 0) / count)
