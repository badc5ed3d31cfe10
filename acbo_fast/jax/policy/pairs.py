"""Twin of acbo_ref/policy/pairs.py as traced functions."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from acbo_fast.jax.policy.evidence import ordered_effect, solve
from acbo_fast.jax.policy.moments import centred, spreads
from acbo_ref.policy.evidence import DIRECT_EFFECT
from acbo_ref.policy.inputs import HALF_WIDTH
from acbo_ref.policy.moments import Moments, SquareSums, Sums, about_the_mean
from acbo_ref.policy.pairs import (
    CORRELATION_SHRINKAGE,
    LEAST_BEND_SPREAD,
    LEAST_SPREAD,
    NOISE_ROWS,
    OBSERVED_CHANNELS,
    OWN_PENALTY,
    SCALE,
    SHIFT,
    SLOPE_PENALTY,
    Background,
)


def background(
    observed: Sums[Array],
    squares: SquareSums[Array],
    centre: Array,
    target: Array,
    manipulable: Array,
    valid: Array,
) -> Background[Array]:
    """See acbo_ref.policy.pairs.background."""
    width, dtype = valid.shape[1], observed.cross.dtype
    identity, is_target = jnp.eye(width, dtype=dtype), jnp.arange(width) == target[:, None]
    spread, scatter = spreads(observed), centred(observed)
    unit, varies = jnp.where(spread > 0, spread, 1 / HALF_WIDTH), (spread > 0) & valid
    count = jnp.maximum(observed.number, 1)[:, None, None]
    correlation = scatter / count / (unit[:, :, None] * unit[:, None, :])
    correlation = jnp.where(varies[:, :, None] & varies[:, None, :], correlation, 0)
    ridge = jnp.where(identity > 0, 1 + 1 / count, correlation)
    precision = solve(ridge, jnp.broadcast_to(identity, ridge.shape))
    diagonal = jnp.diagonal(precision, axis1=1, axis2=2)
    partial = -precision / jnp.sqrt(diagonal[:, :, None] * diagonal[:, None, :])
    slope = _slopes(scatter, jnp.diagonal(scatter, axis1=1, axis2=2)[..., None], SLOPE_PENALTY, unit)
    bends = _bends(observed, squares, unit, varies, precision / diagonal[:, None, :], diagonal)
    z, partial_z, sure = _fisher(correlation), _fisher(partial), jnp.sqrt(count)
    of_two = [z, jnp.arcsinh(z * sure), partial_z, jnp.arcsinh(partial_z * sure)]
    of_two.append(jnp.arcsinh(-precision / diagonal[:, None, :]))
    other = 1 - identity
    known = [
        *(channel * other for channel in of_two), *_both(jnp.log(diagonal)), *_both(jnp.log(spread + LEAST_SPREAD)),
        slope * other, slope.swapaxes(1, 2) * other, *(channel * other for channel in bends),
        *_both(jnp.clip(centre, -1, 1)), *_both(is_target),
        *_both(manipulable), identity, jnp.log1p(observed.number)[:, None, None], *_both(varies),
    ]  # fmt: skip
    channels = _stack(known, slice(OBSERVED_CHANNELS), z, valid)
    return Background(centre, ordered_effect(observed, target, valid), unit, channels)


def _bends(
    observed: Sums[Array], squares: SquareSums[Array], unit: Array, varies: Array, regression: Array, diagonal: Array
) -> list[Array]:
    """See acbo_ref.policy.pairs._bends."""
    number = jnp.maximum(observed.number, 1)
    count = number[:, None, None]
    third, fourth = about_the_mean(observed, squares, number)
    varies = varies & (unit > LEAST_BEND_SPREAD)
    both = varies[:, :, None] & varies[:, None, :]
    third = jnp.where(both, third / (unit[:, :, None] ** 2 * unit[:, None, :]), 0)
    skewness = jnp.diagonal(third, axis1=1, axis2=2)
    left = jnp.where(varies, fourth / unit**4 - 1 - skewness**2, 0)
    left = jnp.maximum(left, 0)[:, :, None] + 1 / count
    correlation = jnp.where(both, centred(observed) / count / (unit[:, :, None] * unit[:, None, :]), 0)
    alone = (third - skewness[:, :, None] * correlation) / jnp.sqrt(left)
    adjusted, sure = jnp.where(both, third @ regression, 0), jnp.sqrt(count)
    channels = (
        jnp.arcsinh(alone * sure),
        jnp.arcsinh(adjusted * jnp.sqrt(diagonal[:, None, :] / left) * sure),
        jnp.arcsinh(adjusted / left / unit[:, :, None] ** 2),
    )
    return [c for channel in channels for c in (channel, channel.swapaxes(1, 2))]


def pair_channels(
    moments: Moments[Array], known: Background[Array], evidence: Array, target: Array, valid: Array
) -> Array:
    """(E, V, V, P); see acbo_ref.policy.pairs.pair_channels."""
    own, free = moments.own, moments.free
    width, unit = valid.shape[1], known.unit[:, None, :]
    other, is_target = 1 - jnp.eye(width, dtype=unit.dtype), jnp.arange(width) == target[:, None]
    own_squares = jnp.diagonal(own.cross, axis1=1, axis2=2)
    penalised = (own_squares + OWN_PENALTY)[..., None]
    slope = _slopes(own.cross, own_squares[..., None], OWN_PENALTY, known.unit) * other
    residual = own.square - jnp.square(own.cross) / penalised
    noise = (jnp.maximum(residual, 0) / jnp.square(unit) + NOISE_ROWS) / (own.number + NOISE_ROWS)[..., None]
    in_errors = jnp.arcsinh(own.cross / unit / jnp.sqrt(noise * penalised)) * other
    bend, bend_in_errors, noise_left = _parabolas(moments, known.unit)
    bend, bend_in_errors = jnp.arcsinh(bend) * other, jnp.arcsinh(bend_in_errors) * other
    cross, square = free.cross.swapaxes(1, 2), free.square.swapaxes(1, 2)
    free_slope = _slopes(cross, square, SLOPE_PENALTY, known.unit) * other
    squares = square * jnp.diagonal(free.cross, axis1=1, axis2=2)[:, None, :]
    correlation = jnp.where(squares > 0, cross / jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)
    free_z = jnp.arcsinh(_fisher(correlation) * jnp.sqrt(free.number)[:, None, :]) * other
    channels = [
        slope, slope.swapaxes(1, 2), in_errors, in_errors.swapaxes(1, 2), free_slope, free_z,
        bend, bend.swapaxes(1, 2), bend_in_errors, bend_in_errors.swapaxes(1, 2), 0.5 * jnp.log(noise_left),
        *_both(jnp.log1p(10 * own_squares) + jnp.log1p(own.number)), 0.5 * jnp.log(noise),
        jnp.where(is_target[:, None, :], evidence[:, :, None, DIRECT_EFFECT], 0),
        jnp.log1p(moments.whole.number)[:, None, None],
    ]  # fmt: skip
    later = _stack(channels, slice(OBSERVED_CHANNELS, None), slope, valid)
    return jnp.concatenate([known.channels, later], -1)


def _parabolas(moments: Moments[Array], unit: Array) -> tuple[Array, Array, Array]:
    """See acbo_ref.policy.pairs._parabolas."""
    own, squares = moments.own, moments.own_squares
    second = jnp.diagonal(own.cross, axis1=1, axis2=2)[..., None] + OWN_PENALTY
    third = jnp.diagonal(squares.cross, axis1=1, axis2=2)[..., None] / second
    left = jnp.maximum(squares.fourth[..., None] + OWN_PENALTY - third**2 * second, OWN_PENALTY)
    bend = (squares.cross - third * own.cross) / left
    slope = own.cross / second - third * bend
    residual = jnp.maximum(own.square - slope * own.cross - bend * squares.cross, 0)
    noise = (residual / unit[:, None] ** 2 + NOISE_ROWS) / (own.number + NOISE_ROWS)[..., None]
    bend = bend / unit[:, None]
    return bend, bend / jnp.sqrt(noise / left), noise


def _fisher(correlation: Array) -> Array:
    return jnp.arctanh(CORRELATION_SHRINKAGE * jnp.clip(correlation, -1, 1))


def _slopes(cross: Array, squares: Array, penalty: float, unit: Array) -> Array:
    return jnp.arcsinh(cross / (squares + penalty) / unit[:, None, :])


def _both(x: Array) -> tuple[Array, Array]:
    """x (E, V) of i, and of j, for every pair."""
    return x[:, :, None], x[:, None, :]


def _stack(channels: list[Array], part: slice, like: Array, valid: Array) -> Array:
    """Channels that broadcast to (E, V, V), as the last axis, shifted and scaled; 0 in padding."""
    stacked = jnp.stack([jnp.broadcast_to(c, like.shape).astype(like.dtype) for c in channels], -1)
    shift, scale = (jnp.asarray(constants[part], like.dtype) for constants in (SHIFT, SCALE))
    return (stacked - shift) * scale * (valid[:, :, None] & valid[:, None, :])[..., None]
