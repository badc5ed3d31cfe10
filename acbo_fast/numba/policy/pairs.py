"""Twin of acbo_ref/policy/pairs.py: the table of pairs, float64 in and the network's dtype out.
What the observational rows alone say is the reference's own, once an episode.

Letters: E episodes, V variables, P channels of a pair.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from acbo_fast.numba.kernels import kernel, scalar
from acbo_ref.arrays import Array
from acbo_ref.policy.evidence import DIRECT_EFFECT
from acbo_ref.policy.moments import Moments
from acbo_ref.policy.pairs import (
    CORRELATION_SHRINKAGE,
    NOISE_ROWS,
    OBSERVED_CHANNELS,
    OWN_PENALTY,
    SCALE,
    SHIFT,
    SLOPE_PENALTY,
    Background,
)

_SHIFT, _SCALE = SHIFT[OBSERVED_CHANNELS:].copy(), SCALE[OBSERVED_CHANNELS:].copy()


@scalar
def _noise(own: Any, e: int, i: int, j: int, unit: float) -> float:
    """Variance of u_j, in squared spreads, around its slope on i in the own rows of i."""
    residual = own.square[e, i, j] - own.cross[e, i, j] ** 2 / (own.cross[e, i, i] + OWN_PENALTY)
    return (max(residual, 0.0) / (unit * unit) + NOISE_ROWS) / (own.number[e, i] + NOISE_ROWS)


@scalar
def _in_errors(own: Any, e: int, i: int, j: int, unit: float, noise: float) -> float:
    """asinh of the slope of j on i in units of its error."""
    return np.arcsinh(own.cross[e, i, j] / unit / np.sqrt(noise * (own.cross[e, i, i] + OWN_PENALTY)))


@scalar
def _parabola(moments: Any, e: int, i: int, j: int, unit: float) -> tuple[float, float, float]:
    """Curvature of j on i in the own rows of i, in spreads of j and in its errors, and the variance
    around the parabola; see acbo_ref.policy.pairs._parabolas.
    """
    own, squares = moments.own, moments.own_squares
    cross, square_cross = own.cross[e, i, j], squares.cross[e, i, j]
    second = own.cross[e, i, i] + OWN_PENALTY
    third = squares.cross[e, i, i] / second
    left = max(squares.fourth[e, i] + OWN_PENALTY - third * third * second, OWN_PENALTY)
    bend = (square_cross - third * cross) / left
    slope = cross / second - third * bend
    residual = max(own.square[e, i, j] - slope * cross - bend * square_cross, 0.0)
    noise = (residual / (unit * unit) + NOISE_ROWS) / (own.number[e, i] + NOISE_ROWS)
    bend /= unit
    return bend, bend / np.sqrt(noise / left), noise


@kernel
def pair_channels(
    moments: Moments[Array], known: Background[Array], evidence: Array, target: Array, valid: Array, out: Array
) -> None:
    """out (E, V, V, P); see acbo_ref.policy.pairs.pair_channels."""
    own, free = moments.own, moments.free
    width = valid.shape[1]
    for e in range(valid.shape[0]):
        rows = np.log1p(moments.whole.number[e])
        for i in range(width):
            for j in range(width):
                pair = out[e, i, j]
                for p in range(OBSERVED_CHANNELS):
                    pair[p] = known.channels[e, i, j, p]
                for p in range(OBSERVED_CHANNELS, pair.size):
                    pair[p] = 0
                if not (valid[e, i] and valid[e, j]):
                    continue
                later, unit_i, unit_j = pair[OBSERVED_CHANNELS:], known.unit[e, i], known.unit[e, j]
                own_i, own_j = own.cross[e, i, i], own.cross[e, j, j]
                noise = _noise(own, e, i, j, unit_j)
                bend, bend_in_errors, noise_left = _parabola(moments, e, i, j, unit_j)
                if i != j:
                    later[0] = np.arcsinh(own.cross[e, i, j] / (own_i + OWN_PENALTY) / unit_j)
                    later[1] = np.arcsinh(own.cross[e, j, i] / (own_j + OWN_PENALTY) / unit_i)
                    later[2] = _in_errors(own, e, i, j, unit_j, noise)
                    later[3] = _in_errors(own, e, j, i, unit_i, _noise(own, e, j, i, unit_i))
                    cross, square = free.cross[e, j, i], free.square[e, j, i]
                    later[4] = np.arcsinh(cross / (square + SLOPE_PENALTY) / unit_j)
                    squares = square * free.cross[e, j, j]
                    if squares > 0:
                        correlation = min(max(cross / np.sqrt(squares), -1.0), 1.0)
                        later[5] = np.arcsinh(
                            np.arctanh(CORRELATION_SHRINKAGE * correlation) * np.sqrt(free.number[e, j])
                        )
                    later[6], later[8] = np.arcsinh(bend), np.arcsinh(bend_in_errors)
                    bend, bend_in_errors, _ = _parabola(moments, e, j, i, unit_i)
                    later[7], later[9] = np.arcsinh(bend), np.arcsinh(bend_in_errors)
                later[10] = 0.5 * np.log(noise_left)
                later[11] = np.log1p(10.0 * own_i) + np.log1p(own.number[e, i])
                later[12] = np.log1p(10.0 * own_j) + np.log1p(own.number[e, j])
                later[13] = 0.5 * np.log(noise)
                if j == target[e]:
                    later[14] = evidence[e, i, DIRECT_EFFECT]
                later[15] = rows
                for p in range(later.size):
                    later[p] = (later[p] - _SHIFT[p]) * _SCALE[p]
