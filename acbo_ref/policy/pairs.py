"""Pairs: what the moments say of every ordered pair of variables; the pairwise network reads it.

Which variable causes which is in the statistics of pairs. Channels of the pair (i, j), with sd the
observational spread in half domains (or one standard unit where a variable does not vary), n the
number of observational rows, and slopes of u_j / sd_j on u_i:

    correlation         Fisher's z of r_ij, and asinh(z sqrt(n)): its size, and how sure it is
    partial             the same of the partial correlation of i and j given all others, from the
                        inverse of the correlation matrix with a ridge of 1 / n; and the coefficient
                        of i in the regression of j on all others
    unexplained         log of the diagonal of that inverse, of i and of j: -log(1 - R^2)
    spread              log sd_i, log sd_j
    observational       slope of j on i over the observational rows, and of i on j
    curvature           how j bends with i: correlation of u_j with what is left of u_i^2 after its
                        line in u_i, as asinh(r sqrt(n)), i on j likewise; the same of what the
                        regression on all others leaves of u_j; and its second difference, asinh
    place               centre of i and of j: where they stand in their domains
    roles               is i the target, is j, can i be set, can j, is i = j
    rows                log(1 + n)
    varies              does i vary in the observational rows, does j

    interventional      slope of j on i over the rows in which i was set, and of i on j likewise;
                        and each in units of its error
    bend                curvature of j on i over the own rows of i, a parabola through where they
                        stand by themselves; of i on j likewise; each in units of its error; and
                        log of the spread of j, in sd_j, around the parabola
    free                slope of j on i over all rows in which j was not set, and their correlation,
                        as asinh(z sqrt(their number))
    effort              log(1 + 10 sum du^2) + log(1 + number) over the own rows of i, and of j
    noise               log of the spread of j, in sd_j, around its slope on i in the own rows of i
    direct              direct effect of i where j is the target (evidence.py), else 0
    all rows            log(1 + the number of all rows)

Large numbers pass through asinh or log, what describes two variables is 0 for i = j, and each
channel is shifted and scaled to about unit size over the prior (SHIFT, SCALE): else the first
LayerNorm would drown the small ones, which are those that tell direction. Fisher 1921; partial
correlations from the precision matrix, Lauritzen 1996 (sec. 5.1); slopes under intervention, Wright
1921 and Pearl 2009 (ch. 5).

Contract: pure functions of arrays; data, not parameters, so no gradient passes through here.
Letters: E episodes, V variables, P channels of a pair.
"""

from __future__ import annotations

from typing import Generic, NamedTuple

import numpy as np

from acbo_ref.arrays import A, Array
from acbo_ref.policy.evidence import DIRECT_EFFECT, ordered_effect
from acbo_ref.policy.inputs import HALF_WIDTH
from acbo_ref.policy.moments import Moments, SquareSums, Sums, about_the_mean, centred, spreads

# (shift, scale) of each channel: means and inverse spreads over the prior, rounded. First those of
# the observational rows alone, then those that later rows change.
_OBSERVED = (
    (0.0, 0.6), (0.0, 0.5), (0.0, 3.0), (0.0, 1.0), (0.0, 3.0),  # correlation, partial
    (1.6, 1.0), (1.6, 1.0), (-1.4, 1.0), (-1.4, 1.0),  # unexplained, spread
    (0.0, 0.6), (0.0, 0.6),  # observational
    (0.0, 1.4), (0.0, 1.4), (0.0, 1.4), (0.0, 1.4), (0.0, 0.6), (0.0, 0.6),  # curvature
    (0.0, 2.0), (0.0, 2.0),  # place
    (0.0, 1.0), (0.0, 1.0), (0.9, 1.0), (0.9, 1.0), (0.0, 1.0),  # roles
    (3.0, 0.8), (1.0, 1.0), (1.0, 1.0),  # rows, varies
)  # fmt: skip
_LATER = (
    (0.0, 1.2), (0.0, 1.2), (0.0, 1.0), (0.0, 1.0), (0.0, 0.6), (0.0, 0.5),  # interventional, free
    (0.0, 1.5), (0.0, 1.5), (0.0, 2.5), (0.0, 2.5), (0.0, 3.0),  # bend
    (0.0, 0.5), (0.0, 0.5), (0.0, 3.0), (0.0, 3.0), (3.5, 1.0),  # effort, noise, direct, all rows
)  # fmt: skip
OBSERVED_CHANNELS = len(_OBSERVED)
PAIR_CHANNELS = OBSERVED_CHANNELS + len(_LATER)
SHIFT, SCALE = np.array((*_OBSERVED, *_LATER)).T.copy()
# Correlations are shrunk by this before Fisher's z, which is infinite at 1.
CORRELATION_SHRINKAGE = 0.999
# Ridge penalties of slopes, in squared half domains: of own rows, and of others.
OWN_PENALTY, SLOPE_PENALTY = 0.02, 1e-4
# Spreads below this many half domains look equal.
LEAST_SPREAD = 1e-3
# A variable that moves by less than so many half domains says nothing of curvature: its fourth
# power must have a place in float32.
LEAST_BEND_SPREAD = 1e-6
# The spread around a slope in own rows starts from this many rows of one spread.
NOISE_ROWS = 1.0


class Background(NamedTuple, Generic[A]):
    """What the observational rows alone say, computed once.

    Args:
        centre, ordered: (E, V), see evidence.py.
        unit: (E, V) spread in half domains; one standard unit where a variable does not vary.
        channels: (E, V, V, OBSERVED_CHANNELS).
    """

    centre: A
    ordered: A
    unit: A
    channels: A


def background(
    observed: Sums[Array],
    squares: SquareSums[Array],
    centre: Array,
    target: Array,
    manipulable: Array,
    valid: Array,
) -> Background[Array]:
    """From the moments of the observational rows.

    Args:
        centre: (E, V) observational mean of u.
        target: (E,) int; manipulable, valid: (E, V) bool.
    """
    width = valid.shape[1]
    identity, is_target = np.eye(width), np.arange(width) == target[:, None]
    spread, scatter = spreads(observed), centred(observed)
    unit = np.where(spread > 0, spread, 1.0 / HALF_WIDTH)
    varies = (spread > 0) & valid
    count = np.maximum(observed.number, 1.0)[:, None, None]
    correlation = scatter / count / (unit[:, :, None] * unit[:, None, :])
    correlation = np.where(varies[:, :, None] & varies[:, None, :], correlation, 0.0)
    precision = np.linalg.inv(np.where(identity > 0, 1.0 + 1.0 / count, correlation))
    diagonal = np.diagonal(precision, axis1=1, axis2=2)
    partial = -precision / np.sqrt(diagonal[:, :, None] * diagonal[:, None, :])
    coefficient = -precision / diagonal[:, None, :]  # of i in the regression of j on all others
    slope = _slopes(scatter, np.diagonal(scatter, axis1=1, axis2=2)[:, :, None], SLOPE_PENALTY, unit)
    z, partial_z = _fisher(correlation), _fisher(partial)
    bends = _bends(observed, squares, unit, varies, precision / diagonal[:, None, :], diagonal)
    of_two = [
        z, np.arcsinh(z * np.sqrt(count)), partial_z, np.arcsinh(partial_z * np.sqrt(count)), np.arcsinh(coefficient)
    ]  # fmt: skip
    known = [
        *(channel * (1.0 - identity) for channel in of_two),
        *_both(np.log(diagonal)),
        *_both(np.log(spread + LEAST_SPREAD)),
        slope * (1.0 - identity),
        slope.swapaxes(1, 2) * (1.0 - identity),
        *(channel * (1.0 - identity) for channel in bends),
        *_both(np.clip(centre, -1.0, 1.0)),
        *_both(is_target.astype(float)),
        *_both(manipulable.astype(float)),
        np.broadcast_to(identity, slope.shape),
        np.broadcast_to(np.log1p(observed.number)[:, None, None], slope.shape),
        *_both(np.where(varies, 1.0, 0.0)),
    ]
    first = slice(OBSERVED_CHANNELS)
    channels = (np.stack(known, axis=-1) - SHIFT[first]) * SCALE[first] * _inside(valid)
    ordered = ordered_effect(observed, target, valid)
    return Background(np.asarray(centre), ordered, unit, channels)


def _bends(
    observed: Sums[Array], squares: SquareSums[Array], unit: Array, varies: Array, regression: Array, diagonal: Array
) -> list[Array]:
    """The six channels (E, V, V) of curvature in the observational rows. In standardised z, with
    q_i what is left of z_i^2 after its line in z_i:

        E[q_i z_j] = t_ij - t_ii E[z_i z_j],    t_ij = E[z_i^2 z_j]
        E[q_i e_j] = sum_k t_ik precision_kj / diagonal_j
        E[q_i^2]   = E[z_i^4] - 1 - t_ii^2

    where e_j is what the regression of j on all others leaves, of variance 1 / diagonal_j: no line
    in z_i is left in it, but for the ridge.

    Args:
        regression: (E, V, V) precision_kj / diagonal_j.
    """
    number = np.maximum(observed.number, 1.0)
    count = number[:, None, None]
    third, fourth = about_the_mean(observed, squares, number)
    varies = varies & (unit > LEAST_BEND_SPREAD)
    both = varies[:, :, None] & varies[:, None, :]
    third = np.where(both, third / (unit[:, :, None] ** 2 * unit[:, None, :]), 0.0)
    skewness = np.diagonal(third, axis1=1, axis2=2)
    left = np.where(varies, fourth / unit**4 - 1.0 - skewness**2, 0.0)
    left = np.maximum(left, 0.0)[:, :, None] + 1.0 / count
    correlation = np.where(both, centred(observed) / count / (unit[:, :, None] * unit[:, None, :]), 0.0)
    alone = (third - skewness[:, :, None] * correlation) / np.sqrt(left)
    adjusted = np.where(both, third @ regression, 0.0)
    sure = np.sqrt(count)
    channels = (
        np.arcsinh(alone * sure),
        np.arcsinh(adjusted * np.sqrt(diagonal[:, None, :] / left) * sure),
        np.arcsinh(adjusted / left / unit[:, :, None] ** 2),
    )
    return [c for channel in channels for c in (channel, channel.swapaxes(1, 2))]


def pair_channels(
    moments: Moments[Array], known: Background[Array], evidence: Array, target: Array, valid: Array
) -> Array:
    """The table (E, V, V, P) after the rows of `moments`; zero where i or j is padding.

    Args:
        known: of the observational rows among them.
        evidence: (E, V, F) of the same rows, see evidence.evidence_channels.
    """
    own, free = moments.own, moments.free
    width, unit = valid.shape[1], known.unit[:, None, :]
    other, is_target = 1.0 - np.eye(width), np.arange(width) == target[:, None]
    own_squares = np.diagonal(own.cross, axis1=1, axis2=2)
    slope = _slopes(own.cross, own_squares[:, :, None], OWN_PENALTY, known.unit) * other
    residual = own.square - own.cross**2 / (own_squares + OWN_PENALTY)[:, :, None]
    noise = (np.maximum(residual, 0.0) / unit**2 + NOISE_ROWS) / (own.number + NOISE_ROWS)[:, :, None]
    in_errors = own.cross / unit / np.sqrt(noise * (own_squares + OWN_PENALTY)[:, :, None])
    in_errors = np.arcsinh(in_errors) * other
    bend, bend_in_errors, noise_left = _parabolas(moments, known.unit)
    bend, bend_in_errors = np.arcsinh(bend) * other, np.arcsinh(bend_in_errors) * other
    # free holds the rows in which j was not set as [j, i]
    cross, square = free.cross.swapaxes(1, 2), free.square.swapaxes(1, 2)
    free_slope = _slopes(cross, square, SLOPE_PENALTY, known.unit) * other
    squares = square * np.diagonal(free.cross, axis1=1, axis2=2)[:, None, :]
    correlation = np.where(squares > 0, cross / np.sqrt(np.where(squares > 0, squares, 1.0)), 0.0)
    free_z = np.arcsinh(_fisher(correlation) * np.sqrt(free.number)[:, None, :]) * other
    effort = np.log1p(10.0 * own_squares) + np.log1p(own.number)
    channels = [
        slope,
        slope.swapaxes(1, 2),
        in_errors,
        in_errors.swapaxes(1, 2),
        free_slope,
        free_z,
        bend,
        bend.swapaxes(1, 2),
        bend_in_errors,
        bend_in_errors.swapaxes(1, 2),
        0.5 * np.log(noise_left),
        *_both(effort),
        0.5 * np.log(noise),
        np.where(is_target[:, None, :], evidence[:, :, None, DIRECT_EFFECT], 0.0),
        np.broadcast_to(np.log1p(moments.whole.number)[:, None, None], slope.shape),
    ]
    rest = slice(OBSERVED_CHANNELS, None)
    later = (np.stack(channels, axis=-1) - SHIFT[rest]) * SCALE[rest] * _inside(valid)
    return np.concatenate([known.channels, later], axis=-1)


def _parabolas(moments: Moments[Array], unit: Array) -> tuple[Array, Array, Array]:
    """Of u_j = b u_i + c u_i^2 over the own rows of i, by ridge regression: c in sd_j, c in units
    of its error, and the variance of u_j around the parabola in squared sd_j; (E, V, V) each.
    """
    own, squares = moments.own, moments.own_squares
    second = np.diagonal(own.cross, axis1=1, axis2=2)[:, :, None] + OWN_PENALTY
    third = np.diagonal(squares.cross, axis1=1, axis2=2)[:, :, None] / second
    left = np.maximum(squares.fourth[:, :, None] + OWN_PENALTY - third**2 * second, OWN_PENALTY)
    bend = (squares.cross - third * own.cross) / left
    slope = own.cross / second - third * bend
    residual = np.maximum(own.square - slope * own.cross - bend * squares.cross, 0.0)
    noise = (residual / unit[:, None, :] ** 2 + NOISE_ROWS) / (own.number + NOISE_ROWS)[:, :, None]
    bend = bend / unit[:, None, :]
    return bend, bend / np.sqrt(noise / left), noise


def _fisher(correlation: Array) -> Array:
    """Fisher's z of a correlation, shrunk a little."""
    return np.asarray(np.arctanh(CORRELATION_SHRINKAGE * np.clip(correlation, -1.0, 1.0)))


def _slopes(cross: Array, squares: Array, penalty: float, unit: Array) -> Array:
    """(E, V, V) asinh of the slopes [i, j] of u_j / sd_j on u_i, by ridge regression."""
    return np.asarray(np.arcsinh(cross / (squares + penalty) / unit[:, None, :]))


def _both(x: Array) -> tuple[Array, Array]:
    """x (E, V) of i, and of j, for every pair: (E, V, V) each."""
    shape = (*x.shape, x.shape[1])
    return np.broadcast_to(x[:, :, None], shape), np.broadcast_to(x[:, None, :], shape)


def _inside(valid: Array) -> Array:
    """(E, V, V, 1) bool: neither is padding."""
    return np.asarray((valid[:, :, None] & valid[:, None, :])[..., None])
