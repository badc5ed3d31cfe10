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
    place               centre of i and of j: where they stand in their domains
    roles               is i the target, is j, can i be set, can j, is i = j
    rows                log(1 + n)
    varies              does i vary in the observational rows, does j

    interventional      slope of j on i over the rows in which i was set, and of i on j likewise;
                        and each in units of its error
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
from acbo_ref.policy.moments import Moments, Sums, centred, spreads

# (shift, scale) of each channel: means and inverse spreads over the prior, rounded. First those of
# the observational rows alone, then those that later rows change.
_OBSERVED = (
    (0.0, 0.6), (0.0, 0.5), (0.0, 3.0), (0.0, 1.0), (0.0, 3.0),  # correlation, partial
    (1.6, 1.0), (1.6, 1.0), (-1.4, 1.0), (-1.4, 1.0),  # unexplained, spread
    (0.0, 0.6), (0.0, 0.6), (0.0, 2.0), (0.0, 2.0),  # observational, place
    (0.0, 1.0), (0.0, 1.0), (0.9, 1.0), (0.9, 1.0), (0.0, 1.0),  # roles
    (3.0, 0.8), (1.0, 1.0), (1.0, 1.0),  # rows, varies
)  # fmt: skip
_LATER = (
    (0.0, 1.2), (0.0, 1.2), (0.0, 1.0), (0.0, 1.0), (0.0, 0.6), (0.0, 0.5),  # interventional, free
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
    observed: Sums[Array], centre: Array, target: Array, manipulable: Array, valid: Array
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
    of_two = [
        z, np.arcsinh(z * np.sqrt(count)), partial_z, np.arcsinh(partial_z * np.sqrt(count)), np.arcsinh(coefficient)
    ]  # fmt: skip
    known = [
        *(channel * (1.0 - identity) for channel in of_two),
        *_both(np.log(diagonal)),
        *_both(np.log(spread + LEAST_SPREAD)),
        slope * (1.0 - identity),
        slope.swapaxes(1, 2) * (1.0 - identity),
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
        *_both(effort),
        0.5 * np.log(noise),
        np.where(is_target[:, None, :], evidence[:, :, None, DIRECT_EFFECT], 0.0),
        np.broadcast_to(np.log1p(moments.whole.number)[:, None, None], slope.shape),
    ]
    rest = slice(OBSERVED_CHANNELS, None)
    later = (np.stack(channels, axis=-1) - SHIFT[rest]) * SCALE[rest] * _inside(valid)
    return np.concatenate([known.channels, later], axis=-1)


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
