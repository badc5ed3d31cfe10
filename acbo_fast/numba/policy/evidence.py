"""Twin of acbo_ref/policy/evidence.py: the regressions of the rows read so far.

The spreads, the ordered effects and the centres are those of the observational rows, so they are
computed once, when an episode opens. Arithmetic is float64, whatever the network's dtype. Letters:
E episodes, N rows, V variables, F channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from acbo_fast.numba.kernels import exp, kernel, scalar
from acbo_ref.arrays import Array
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

_EFFECTS = np.array(EFFECTS)
# A column whose standard deviation is below this does not vary.
_NO_SPREAD = 1e-6


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
def moments(standard: Any, seen: Any, num_rows: int, means: Any, gram: Any) -> int:
    """How many of the first rows of standard (N, V) count; means (V,) of u over them and, in the
    lower half of gram (V, V), the sums of products of deviations from these."""
    width, count = standard.shape[1], 0
    for i in range(width):
        means[i] = 0.0
        for j in range(width):
            gram[i, j] = 0.0
    for n in range(num_rows):
        if seen[n]:
            count += 1
            for i in range(width):
                means[i] += standard[n, i] / HALF_WIDTH
    for i in range(width):
        means[i] /= max(count, 1)
    for n in range(num_rows):
        if seen[n]:
            for i in range(width):
                di = standard[n, i] / HALF_WIDTH - means[i]
                for j in range(i + 1):
                    gram[i, j] += di * (standard[n, j] / HALF_WIDTH - means[j])
    return count


@kernel
def open_evidence(
    standard: Array,
    seen: Array,
    target: Array,
    valid: Array,
    spread: Array,
    ordered: Array,
    centre: Array,
    gram: Array,
    matrix: Array,
    right: Array,
    used: Array,
) -> None:
    """`spread` (in half domains), `ordered` effects and `centre`, (E, V) each, from observational
    rows.

    Args:
        standard: (E, O, V) standard units; seen: (E, O) bool, the rows that count.
        gram, matrix: (V, V) scratch; right: (V,) scratch; used: (V,) int scratch.
    """
    width = standard.shape[2]
    for e in range(standard.shape[0]):
        y = target[e]
        rows = max(moments(standard[e], seen[e], standard.shape[1], centre[e], gram), 1)
        for i in range(width):
            for j in range(i):
                gram[j, i] = gram[i, j]
            spread[e, i] = np.sqrt(gram[i, i] / rows)
        for i in range(width):
            ordered[e, i] = 0.0
            if i == y or not valid[e, i] or spread[e, i] <= _NO_SPREAD:
                continue
            size = 0
            for j in range(width):
                counts = j != y and valid[e, j] and spread[e, j] > _NO_SPREAD
                if counts and j != i and spread[e, j] < spread[e, i] * (1.0 - EQUAL_SPREADS):
                    used[size] = j
                    size += 1
            used[size] = i  # last, so that its coefficient is the first to be solved for
            size += 1
            for p in range(size):
                j = used[p]
                right[p] = HALF_WIDTH * gram[j, y] / spread[e, j]
                for q in range(p + 1):
                    k = used[q]
                    matrix[p, q] = gram[j, k] / (spread[e, j] * spread[e, k])
                matrix[p, p] += JOINT_PENALTY
            solve_in_place(matrix, right, size)
            ordered[e, i] = right[size - 1] / spread[e, i]


@kernel
def _direct_effects(
    standard: Array,
    seen: Array,
    num_rows: int,
    y: int,
    valid: Array,
    means: Array,
    scales: Array,
    gram: Array,
    direct: Array,
) -> None:
    """direct (V,), written: the joint ridge regression over all rows (N, V), each column scaled to
    unit variance.
    """
    width = standard.shape[1]
    rows = max(moments(standard, seen, num_rows, means, gram), 1)
    for i in range(width):
        scales[i] = np.sqrt(gram[i, i] / rows)
    size = 0
    for i in range(width):
        if i != y and valid[i] and scales[i] > _NO_SPREAD:
            direct[size] = HALF_WIDTH * (gram[i, y] if i > y else gram[y, i]) / scales[i]
            other = 0
            for j in range(i):
                if j != y and valid[j] and scales[j] > _NO_SPREAD:
                    gram[size, other] = gram[i, j] / (scales[i] * scales[j])
                    other += 1
            gram[size, size] = gram[i, i] / (scales[i] * scales[i]) + JOINT_PENALTY
            size += 1
    solve_in_place(gram, direct, size)
    for i in range(width - 1, -1, -1):  # back to the places of the variables, from the last
        if i != y and valid[i] and scales[i] > _NO_SPREAD:
            size -= 1
            direct[i] = direct[size] / scales[i]
        else:
            direct[i] = 0.0


@kernel
def _own_effects(
    standard: Array,
    variable: Array,
    seen: Array,
    num_rows: int,
    y: int,
    i: int,
    direct: Array,
    slopes: Array,
    out: Array,
) -> None:
    """Of variable i, written to out (F,): marginal and interventional effect with their errors, and
    the path effect.
    """
    # means over the observational rows and those in which i was set, and over the observational
    # rows alone
    number, mean_u, mean_y, num_obs, obs_u, obs_y = 0, 0.0, 0.0, 0, 0.0, 0.0
    for n in range(num_rows):
        if seen[n] and (variable[n] < 0 or variable[n] == i):
            number += 1
            mean_u += standard[n, i] / HALF_WIDTH
            mean_y += standard[n, y]
            if variable[n] < 0:
                num_obs += 1
                obs_u += standard[n, i] / HALF_WIDTH
                obs_y += standard[n, y]
    mean_u, mean_y = mean_u / max(number, 1), mean_y / max(number, 1)
    obs_u, obs_y = obs_u / max(num_obs, 1), obs_y / max(num_obs, 1)
    precision, marginal, own, interventional = MARGINAL_PENALTY, 0.0, INTERVENTIONAL_PENALTY, 0.0
    for k in range(slopes.size):
        slopes[k] = 0.0
    for n in range(num_rows):
        if seen[n] and (variable[n] < 0 or variable[n] == i):
            du = standard[n, i] / HALF_WIDTH - mean_u
            precision += du * du
            marginal += du * (standard[n, y] - mean_y)
            for k in range(slopes.size):
                slopes[k] += du * (standard[n, k] / HALF_WIDTH)
            if variable[n] == i:
                du = standard[n, i] / HALF_WIDTH - obs_u
                own += du * du
                interventional += du * (standard[n, y] - obs_y)
    marginal /= precision
    residual, path = 0.0, 0.0
    for n in range(num_rows):
        if seen[n] and (variable[n] < 0 or variable[n] == i):
            left = standard[n, y] - mean_y - marginal * (standard[n, i] / HALF_WIDTH - mean_u)
            residual += left * left
    variance = (residual + VARIANCE_ROWS) / (max(number, 1) + VARIANCE_ROWS)
    for k in range(slopes.size):
        path += slopes[k] / precision * direct[k]
    out[0] = np.arcsinh(marginal)
    out[1] = np.arcsinh(np.sqrt(variance / precision))
    out[2] = np.arcsinh(interventional / own)
    out[3] = np.arcsinh(1.0 / np.sqrt(own))
    out[5] = np.arcsinh(path)


@kernel
def evidence_channels(
    standard: Array,
    variable: Array,
    seen: Array,
    num_rows: int,
    target: Array,
    valid: Array,
    spread: Array,
    ordered: Array,
    centre: Array,
    gram: Array,
    direct: Array,
    scratch: Array,
    out: Array,
) -> None:
    """The channels after these rows, out (E, V, F); zero for the target and for padding.

    Args:
        standard: (E, N, V) standard units, of which `num_rows` exist; variable: (E, N) what was set
            in each, -1 for nothing; seen: (E, N) bool, the rows that count.
        spread, ordered, centre: of `open_evidence`; gram (V, V), direct (V,) and scratch (3, V) are
            scratch.
    """
    width = standard.shape[2]
    means, scales, slopes = scratch[0], scratch[1], scratch[2]
    for e in range(standard.shape[0]):
        _direct_effects(standard[e], seen[e], num_rows, target[e], valid[e], means, scales, gram, direct)
        for i in range(width):
            for f in range(out.shape[2]):
                out[e, i, f] = 0
            if i == target[e] or not valid[e, i]:
                continue
            _own_effects(standard[e], variable[e], seen[e], num_rows, target[e], i, direct, slopes, out[e, i])
            out[e, i, 4] = np.arcsinh(direct[i])
            out[e, i, 6] = np.arcsinh(ordered[e, i])
            out[e, i, 7] = np.arcsinh(HALF_WIDTH * spread[e, i])
            out[e, i, 8] = np.arcsinh(min(max(centre[e, i], -1.0), 1.0))


@kernel
def head_features(channels: Array, first: int, residual: Array, slopes: Array, centre: Array) -> None:
    """What the heads take straight from the evidence: residual (T, RESIDUAL_FEATURES) and slope (T,
    5) features, centre (T,).

    channels (T, C); the evidence begins at channel `first`. See
    acbo_ref.policy.evidence.residual_features and those after it.
    """
    number = channels.shape[1] - first
    bound, steepness = channels.dtype.type(OUTCOME_BOUND), channels.dtype.type(DIRECTION_SLOPE)
    for t in range(channels.shape[0]):
        for f in range(number):
            residual[t, f] = channels[t, first + f]
        centre[t] = np.sinh(channels[t, first + CENTRE])
        for k in range(_EFFECTS.size):
            effect = channels[t, first + _EFFECTS[k]]
            residual[t, number + k] = abs(effect)
            residual[t, number + _EFFECTS.size + k] = np.tanh(steepness * effect)
            slopes[t, k] = bound * np.tanh(np.sinh(effect) / bound)
