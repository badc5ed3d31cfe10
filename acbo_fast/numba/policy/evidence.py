"""Twin of acbo_ref/policy/evidence.py: the regressions of the rows read so far, from their moments.

Arithmetic is float64, whatever the network's dtype.
Letters: E episodes, V variables, F channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from acbo_fast.numba.kernels import exp, kernel, scalar
from acbo_ref.arrays import Array
from acbo_ref.policy.evidence import (
    CENTRE,
    EFFECTS,
    INTERVENTIONAL_PENALTY,
    JOINT_PENALTY,
    MARGINAL_PENALTY,
    SPREAD,
    VARIANCE_ROWS,
)
from acbo_ref.policy.inputs import HALF_WIDTH, OUTCOME_BOUND, ROUNDING_UNITS
from acbo_ref.policy.moments import Moments, Sums

_EFFECTS = np.array(EFFECTS)
_ROUNDING = ROUNDING_UNITS * float(np.finfo(np.float64).eps)


@scalar
def tanh(x: Any) -> Any:
    """1 - 2 / (1 + e^2x): absolute error of rounding, as where it is used."""
    one = type(x)(1)
    return one - (one + one) / (one + exp(x + x))


@scalar
def solve_in_place(matrix: Any, right: Any, size: int) -> None:
    """matrix x = right for a symmetric positive definite matrix (its first `size` rows), by
    Cholesky: x replaces right.
    """
    for i in range(size):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= matrix[i, k] * matrix[j, k]
            matrix[i, j] = np.sqrt(total) if i == j else total / matrix[j, j]
    for i in range(size):
        total = right[i]
        for k in range(i):
            total -= matrix[i, k] * right[k]
        right[i] = total / matrix[i, i]
    for i in range(size - 1, -1, -1):
        total = right[i]
        for k in range(i + 1, size):
            total -= matrix[k, i] * right[k]
        right[i] = total / matrix[i, i]


@scalar
def spread_of(sums: Any, e: int, i: int) -> float:
    """Standard deviation of u_i in system e; see acbo_ref.policy.moments.spreads."""
    count, square = max(sums.number[e], 1.0), sums.cross[e, i, i]
    scatter = square - sums.total[e, i] ** 2 / count
    return np.sqrt(scatter / count) if scatter > _ROUNDING * square else 0.0


@scalar
def centred(sums: Any, e: int, i: int, j: int) -> float:
    """Scatter of u_i and u_j about their means in system e."""
    return sums.cross[e, i, j] - sums.total[e, i] * sums.total[e, j] / max(sums.number[e], 1.0)


@kernel
def _direct_effects(
    whole: Sums[Array], e: int, y: int, valid: Array, scales: Array, used: Array, gram: Array, direct: Array
) -> None:
    """direct (V,), written: the joint ridge regression over all rows of system e, each column
    scaled to unit variance.

    Args:
        valid: (V,) bool; scales (V,), used (V,) int, gram (V, V) scratch.
    """
    size = 0
    for i in range(valid.size):
        scales[i] = spread_of(whole, e, i)
        if i != y and valid[i] and scales[i] > 0:
            used[size] = i
            size += 1
    for p in range(size):
        i = used[p]
        direct[p] = HALF_WIDTH * centred(whole, e, i, y) / scales[i]
        for q in range(p + 1):
            gram[p, q] = centred(whole, e, i, used[q]) / (scales[i] * scales[used[q]])
        gram[p, p] += JOINT_PENALTY
    solve_in_place(gram, direct, size)
    for p in range(size):
        scales[used[p]] = direct[p] / scales[used[p]]
    for i in range(valid.size):
        direct[i] = 0.0
    for p in range(size):
        direct[used[p]] = scales[used[p]]


@kernel
def _own_effects(moments: Moments[Array], e: int, i: int, y: int, direct: Array, out: Array) -> None:
    """Of variable i in system e, written to out (F,): marginal and interventional effect with their
    errors, and the path effect.
    """
    observed, own = moments.observed, moments.own
    number = max(observed.number[e] + own.number[e, i], 1.0)
    total_i = observed.total[e, i] + own.total[e, i, i]
    precision = observed.cross[e, i, i] + own.square[e, i, i] - total_i**2 / number + MARGINAL_PENALTY
    path, cross = 0.0, 0.0
    for k in range(direct.size):
        total = observed.total[e, k] + own.total[e, i, k]
        joint = observed.cross[e, i, k] + own.cross[e, i, k] - total_i * total / number
        path += joint / precision * direct[k]
        if k == y:
            cross = joint
    marginal = HALF_WIDTH * cross / precision
    total = observed.total[e, y] + own.total[e, i, y]
    squares = HALF_WIDTH**2 * (observed.cross[e, y, y] + own.square[e, i, y] - total**2 / number)
    residual = squares - marginal * (2.0 * HALF_WIDTH * cross - marginal * (precision - MARGINAL_PENALTY))
    variance = (max(residual, 0.0) + VARIANCE_ROWS) / (number + VARIANCE_ROWS)
    own_precision = own.cross[e, i, i] + INTERVENTIONAL_PENALTY
    out[0] = np.arcsinh(marginal)
    out[1] = np.arcsinh(np.sqrt(variance / precision))
    out[2] = np.arcsinh(HALF_WIDTH * own.cross[e, i, y] / own_precision)
    out[3] = np.arcsinh(1.0 / np.sqrt(own_precision))
    out[5] = np.arcsinh(path)


@kernel
def evidence_channels(
    moments: Moments[Array],
    centre: Array,
    ordered: Array,
    target: Array,
    valid: Array,
    scratch: Array,
    used: Array,
    gram: Array,
    out: Array,
) -> None:
    """The channels after the rows of `moments`, out (E, V, F); zero for the target and for padding.

    Args:
        scratch: (2, V); used: (V,) int; gram: (V, V).
    """
    scales, direct = scratch[0], scratch[1]
    for e in range(valid.shape[0]):
        y = target[e]
        _direct_effects(moments.whole, e, y, valid[e], scales, used, gram, direct)
        for i in range(valid.shape[1]):
            for f in range(out.shape[2]):
                out[e, i, f] = 0
            if i == y or not valid[e, i]:
                continue
            _own_effects(moments, e, i, y, direct, out[e, i])
            out[e, i, 4] = np.arcsinh(direct[i])
            out[e, i, 6] = np.arcsinh(ordered[e, i])
            out[e, i, 7] = np.arcsinh(HALF_WIDTH * spread_of(moments.observed, e, i))
            out[e, i, 8] = np.arcsinh(min(max(centre[e, i], -1.0), 1.0))


@kernel
def head_features(evidence: Array, slopes: Array, centre: Array, spread: Array) -> None:
    """What the outcome head takes straight from the evidence: slope features (T, 5), centre and
    spread (T,).

    evidence (T, F). See acbo_ref.policy.evidence.slope_features and those after it.
    """
    bound, half = evidence.dtype.type(OUTCOME_BOUND), evidence.dtype.type(HALF_WIDTH)
    for t in range(evidence.shape[0]):
        centre[t] = np.sinh(evidence[t, CENTRE])
        varies = evidence[t, SPREAD] > 0
        spread[t] = (np.sinh(evidence[t, SPREAD]) if varies else evidence.dtype.type(1)) / half
        for k in range(_EFFECTS.size):
            slopes[t, k] = bound * np.tanh(np.sinh(evidence[t, _EFFECTS[k]]) / bound)
