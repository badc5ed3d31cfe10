"""Twin of acbo_ref/policy/local.py: the outcome head after own outcomes, forward and backward by
hand. The small matrices are float64.

Letters: N states, M actions asked about, R own outcomes, V variables, H/2 size of the hidden layer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from acbo_fast.numba.kernels import exp, kernel, scalar
from acbo_fast.numba.policy.heads import OutcomeWeights, outcome_head, outcome_head_backward, value_features
from acbo_fast.numba.workspace import Workspace
from acbo_ref.arrays import Array
from acbo_ref.policy.heads import VALUE_FEATURES, OutcomeState
from acbo_ref.policy.inputs import HALF_WIDTH
from acbo_ref.policy.local import LEAST_LEFT, LEAST_RATIO, Tried


class Workings(NamedTuple):
    """What one state's own outcomes are worked out in.

    Args:
        place: (R,) int64, those that count.
        before, after, features: (R, H/2), (R, H/2) and (R, 8), of the outcome head at their
            actions.
        mean, log_error, log_noise, log_scatter, residual, solved: (R,), see the reference.
        own, distance, inverse: (R, R), k, squared distances in lengths, and B^-1.
        k, gap, weight: (R,), of the action asked about: k, squared distances, and w.
        d_residual, d_matrix: (R,) and (R, R).
    """

    place: Array
    before: Array
    after: Array
    features: Array
    mean: Array
    log_error: Array
    log_noise: Array
    log_scatter: Array
    residual: Array
    solved: Array
    own: Array
    distance: Array
    inverse: Array
    k: Array
    gap: Array
    weight: Array
    d_residual: Array
    d_matrix: Array


def workings(space: Workspace, places: int, half: int) -> Workings:
    """Arrays for `places` own outcomes; half is H/2."""
    vectors = (
        "mean",
        "log_error",
        "log_noise",
        "log_scatter",
        "residual",
        "solved",
        "k",
        "gap",
        "weight",
        "d_residual",
    )
    squares = ("own", "distance", "inverse", "d_matrix")
    arrays = {name: space("local." + name, places, dtype=np.float64) for name in vectors}
    arrays |= {name: space("local." + name, places, places, dtype=np.float64) for name in squares}
    # in one array: a loop over two that lie close together is not vectorised, and then rounds
    # otherwise; how far apart these are must not depend on where memory was free
    arrays |= dict(zip(("before", "after"), space("local.hidden", 2, places, half), strict=True))
    return Workings(
        place=space("local.place", places, dtype=np.int64),
        features=space("local.features", places, VALUE_FEATURES),
        **arrays,
    )


def typed(tried: Tried[Array], dtype: Any) -> Tried[Array]:
    """As kernels take it."""
    kinds = (np.int64, dtype, dtype, bool)
    return Tried(*(np.ascontiguousarray(array, kind) for array, kind in zip(tried, kinds, strict=True)))


@scalar
def invert(matrix: Any, size: int) -> None:
    """The first (size, size) of a positive definite matrix, in place: Gauss-Jordan, no pivoting."""
    for p in range(size):
        pivot = 1.0 / matrix[p, p]
        matrix[p, p] = 1.0
        for j in range(size):
            matrix[p, j] *= pivot
        for i in range(size):
            if i != p:
                share = matrix[i, p]
                matrix[i, p] = 0.0
                for j in range(size):
                    matrix[i, j] -= share * matrix[p, j]


@scalar
def prepare(state: OutcomeState[Array], tried: Tried[Array], n: int, head: OutcomeWeights, w: Workings) -> int:
    """Works out state n's own outcomes; returns how many count."""
    size = 0
    for r in range(tried.counts.shape[1]):
        if not tried.counts[n, r]:
            continue
        i = tried.variable[n, r]
        w.place[size] = r
        value_features(tried.value[n, r], state.centre[n, i], state.spread[n, i], w.features[size])
        mean, log_error, log_noise, log_scatter = outcome_head(
            state.hidden[n, i], state.slope[n, i], state.centre[n, i], w.features[size], head,
            w.before[size], w.after[size],
        )  # fmt: skip
        w.mean[size], w.log_error[size], w.log_noise[size], w.log_scatter[size] = (
            mean,
            log_error,
            log_noise,
            log_scatter,
        )
        w.residual[size] = (np.float64(tried.outcome[n, r]) - np.float64(mean)) * np.exp(-np.float64(log_error))
        size += 1
    for p in range(size):
        i = tried.variable[n, w.place[p]]
        inverse_length = np.exp(-np.float64(state.log_length[n, i]))
        for q in range(size):
            gap = np.float64(tried.value[n, w.place[p]] - tried.value[n, w.place[q]]) / HALF_WIDTH * inverse_length
            w.distance[p, q] = gap * gap
            w.own[p, q] = np.exp(-0.5 * gap * gap) if tried.variable[n, w.place[q]] == i else 0.0
            w.inverse[p, q] = w.own[p, q]
        w.inverse[p, p] += max(np.exp(2.0 * (w.log_scatter[p] - w.log_error[p])), LEAST_RATIO)
    invert(w.inverse, size)
    for p in range(size):
        w.solved[p] = 0.0
        for q in range(size):
            w.solved[p] += w.inverse[p, q] * w.residual[q]
    return size


@scalar
def weigh(state: Any, tried: Any, n: int, i: int, value: Any, size: int, w: Any) -> Any:
    """k, gap and weight of an action with the own outcomes; returns (k . B^-1 r, 1 - k . w before
    its floor).
    """
    inverse_length = np.exp(-np.float64(state.log_length[n, i]))
    shift, left = 0.0, 1.0
    for p in range(size):
        w.k[p], w.gap[p] = 0.0, 0.0
        if tried.variable[n, w.place[p]] == i:
            gap = np.float64(value - tried.value[n, w.place[p]]) / HALF_WIDTH * inverse_length
            w.gap[p] = gap * gap
            w.k[p] = np.exp(-0.5 * gap * gap)
            shift += w.k[p] * w.solved[p]
    for p in range(size):
        w.weight[p] = 0.0
    for q in range(size):
        if w.k[q] != 0.0:
            for p in range(size):
                w.weight[p] += w.inverse[p, q] * w.k[q]
    for p in range(size):
        left -= w.k[p] * w.weight[p]
    return shift, left


@kernel
def predict(
    state: OutcomeState[Array],
    tried: Tried[Array],
    variable: Array,
    values: Array,
    head: OutcomeWeights,
    scratch: Array,
    w: Workings,
    out: Array,
) -> None:
    """(mean, log_error, log_noise) into out (N, M, 3) of M actions in each of N states.

    state, leading axes (N, V); variable (N, M); values (N, M) standard; scratch (2 H/2 + 8,).
    """
    half = state.hidden.shape[2]
    before, after, features = scratch[:half], scratch[half : 2 * half], scratch[2 * half :]
    kind = out.dtype.type
    for n in range(variable.shape[0]):
        size = prepare(state, tried, n, head, w)
        for m in range(variable.shape[1]):
            i = variable[n, m]
            value_features(values[n, m], state.centre[n, i], state.spread[n, i], features)
            mean, log_error, log_noise, _ = outcome_head(
                state.hidden[n, i], state.slope[n, i], state.centre[n, i], features, head, before, after
            )
            if size:
                shift, left = weigh(state, tried, n, i, values[n, m], size, w)
                mean += exp(log_error) * kind(shift)
                log_error += kind(0.5 * np.log(max(left, LEAST_LEFT)))
            out[n, m, 0], out[n, m, 1], out[n, m, 2] = mean, log_error, log_noise


@scalar
def local_gradient(
    d_mean: float, d_log_error: float, error: float, shift: float, left: float, size: int, w: Workings
) -> Any:
    """What one action's prediction passes on: adds to w.d_residual and w.d_matrix (without the part
    of the solved residuals, see `finish`); returns (d_log_error of the head, d_log_length).
    """
    moved = d_mean * error
    per_left = d_log_error / left if left > LEAST_LEFT else 0.0
    d_length = 0.0
    for p in range(size):
        d_length += (moved * w.solved[p] - per_left * w.weight[p]) * w.k[p] * w.gap[p]
        w.d_residual[p] += moved * w.weight[p]
        share = 0.5 * per_left * w.weight[p]
        for q in range(size):
            w.d_matrix[p, q] += share * w.weight[q]
    return d_log_error + moved * shift, d_length


@scalar
def finish(
    state: OutcomeState[Array],
    tried: Tried[Array],
    n: int,
    size: int,
    head: OutcomeWeights,
    w: Workings,
    d: OutcomeState[Array],
    d_head: OutcomeWeights,
) -> None:
    """The gradients of the outcome head at the own actions, and of the lengths, added to d and
    d_head; see acbo_ref.policy.local.local_backward.
    """
    kind = state.slope.dtype.type
    for p in range(size):
        i = tried.variable[n, w.place[p]]
        d_length = 0.0
        for q in range(size):
            w.d_matrix[p, q] -= w.d_residual[p] * w.solved[q]
            d_length += w.d_matrix[p, q] * w.own[p, q] * w.distance[p, q]
        d.log_length[n, i] += kind(d_length)
        ratio = np.exp(2.0 * (w.log_scatter[p] - w.log_error[p]))
        d_ratio = 2.0 * ratio * w.d_matrix[p, p] if ratio > LEAST_RATIO else 0.0
        d_mean = kind(-w.d_residual[p] * np.exp(-w.log_error[p]))
        d_log_error = kind(-w.d_residual[p] * w.residual[p] - d_ratio)
        d.slope[n, i] += d_mean * (w.features[p, 0] - state.centre[n, i])
        outcome_head_backward(
            d_mean, d_log_error, kind(0), kind(d_ratio), kind(w.log_error[p]), kind(w.log_noise[p]),
            kind(w.log_scatter[p]), w.features[p], w.before[p], w.after[p], head, d.hidden[n, i], d_head,
        )  # fmt: skip
