"""Twin of acbo_ref/policy/layers.py: the layers as kernels on preallocated arrays, each forward
with its backward by hand.

Products go to BLAS through NumPy (`product`); kernels do what lies between them.

Letters: T tokens, D width, F features, H heads, d = D / H; A x B groups of N queries and M keys
that attend to each other.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from acbo_fast.numba.kernels import exp, kernel, scalar
from acbo_ref.arrays import Array
from acbo_ref.policy.layers import LAYER_NORM_EPSILON, MASKED

# c (for sigmoid, twice that of tanh) and a of GELU.
GELU_C, GELU_A = 2.0 * math.sqrt(2.0 / math.pi), 0.044715


def product(x: Array, weight: Array, out: Array) -> Array:
    """out (..., J) = x (..., I) weight (I, J), by BLAS."""
    np.dot(x.reshape(-1, x.shape[-1]), weight, out=out.reshape(-1, out.shape[-1]))
    return out


def weight_gradient(x: Array, d_y: Array, out: Array) -> None:
    """out (I, J) = x^T d_y, over all tokens."""
    np.dot(x.reshape(-1, x.shape[-1]).T, d_y.reshape(-1, d_y.shape[-1]), out=out)


@kernel
def add_bias(x: Array, bias: Array) -> None:
    """x (T, F) += bias (F,)."""
    for t in range(x.shape[0]):
        for f in range(x.shape[1]):
            x[t, f] += bias[f]


@kernel
def column_sums(x: Array, out: Array) -> None:
    """out (F,) = sum over the rows of x (T, F)."""
    out[:] = 0
    for t in range(x.shape[0]):
        for f in range(x.shape[1]):
            out[f] += x[t, f]


@kernel
def residual_norm_forward(
    x: Array, branch: Array, branch_bias: Array, scale: Array, bias: Array, x_hat: Array, inverse_std: Array, out: Array
) -> None:
    """x += branch + branch_bias, then LayerNorm of it: x_hat and 1 / std are kept, out = x_hat *
    scale + bias; (T, D).
    """
    tokens, width = x.shape
    one, size = x.dtype.type(1), x.dtype.type(width)
    epsilon = x.dtype.type(LAYER_NORM_EPSILON)
    for t in range(tokens):
        total = x.dtype.type(0)
        for c in range(width):
            value = x[t, c] + (branch[t, c] + branch_bias[c])
            x[t, c] = value
            total += value
        mean = total / size
        squares = x.dtype.type(0)
        for c in range(width):
            centred = x[t, c] - mean
            squares += centred * centred
        inverse = one / np.sqrt(squares / size + epsilon)
        inverse_std[t] = inverse
        for c in range(width):
            normalised = (x[t, c] - mean) * inverse
            x_hat[t, c] = normalised
            out[t, c] = normalised * scale[c] + bias[c]


@kernel
def residual_norm_backward(
    d_out: Array,
    x_hat: Array,
    inverse_std: Array,
    scale: Array,
    d_x: Array,
    d_scale: Array,
    d_bias: Array,
    d_branch_bias: Array,
) -> None:
    """d_x += what flows back through the LayerNorm; then d_x is also the gradient of the branch,
    and its column sum that of the branch's bias."""
    tokens, width = d_x.shape
    size, zero = d_x.dtype.type(width), d_x.dtype.type(0)
    d_scale[:] = zero
    d_bias[:] = zero
    d_branch_bias[:] = zero
    for t in range(tokens):
        mean_g, mean_gx = zero, zero
        for c in range(width):
            g = d_out[t, c] * scale[c]
            mean_g += g
            mean_gx += g * x_hat[t, c]
        mean_g /= size
        mean_gx /= size
        inverse = inverse_std[t]
        for c in range(width):
            d, normalised = d_out[t, c], x_hat[t, c]
            total = d_x[t, c] + (d * scale[c] - mean_g - normalised * mean_gx) * inverse
            d_x[t, c] = total
            d_scale[c] += d * normalised
            d_bias[c] += d
            d_branch_bias[c] += total


@kernel
def layer_norm_forward(x: Array, scale: Array, bias: Array, x_hat: Array, inverse_std: Array, out: Array) -> None:
    """out = x_hat * scale + bias; x_hat and 1 / std are kept; (T, D)."""
    one, size, zero = x.dtype.type(1), x.dtype.type(x.shape[1]), x.dtype.type(0)
    epsilon = x.dtype.type(LAYER_NORM_EPSILON)
    for t in range(x.shape[0]):
        total, squares = zero, zero
        for c in range(x.shape[1]):
            total += x[t, c]
        mean = total / size
        for c in range(x.shape[1]):
            squares += (x[t, c] - mean) * (x[t, c] - mean)
        inverse = one / np.sqrt(squares / size + epsilon)
        inverse_std[t] = inverse
        for c in range(x.shape[1]):
            normalised = (x[t, c] - mean) * inverse
            x_hat[t, c] = normalised
            out[t, c] = normalised * scale[c] + bias[c]


@kernel
def layer_norm_backward(
    d_out: Array, x_hat: Array, inverse_std: Array, scale: Array, d_x: Array, d_scale: Array, d_bias: Array
) -> None:
    """d_x, d_scale and d_bias, written, of `layer_norm_forward`."""
    size, zero = d_x.dtype.type(d_x.shape[1]), d_x.dtype.type(0)
    d_scale[:] = zero
    d_bias[:] = zero
    for t in range(d_x.shape[0]):
        mean_g, mean_gx = zero, zero
        for c in range(d_x.shape[1]):
            g = d_out[t, c] * scale[c]
            mean_g += g
            mean_gx += g * x_hat[t, c]
        mean_g /= size
        mean_gx /= size
        for c in range(d_x.shape[1]):
            d, normalised = d_out[t, c], x_hat[t, c]
            d_x[t, c] = (d * scale[c] - mean_g - normalised * mean_gx) * inverse_std[t]
            d_scale[c] += d * normalised
            d_bias[c] += d


@scalar
def gelu(x: Any, one: Any, a: Any, c: Any) -> Any:
    """x sigmoid(c (x + a x^3)); one, a, c in x's dtype: see GELU."""
    return x / (one + exp(-c * x * (one + a * (x * x))))


@kernel
def gelu_forward(hidden: Array, bias: Array, out: Array) -> None:
    """hidden (T, F) += bias, which is kept, and out = GELU(hidden)."""
    one, a, c = hidden.dtype.type(1), hidden.dtype.type(GELU_A), hidden.dtype.type(GELU_C)
    for t in range(hidden.shape[0]):
        for f in range(hidden.shape[1]):
            x = hidden[t, f] + bias[f]
            hidden[t, f] = x
            out[t, f] = gelu(x, one, a, c)


@scalar
def gelu_slope(x: Any, one: Any, a: Any, c: Any) -> Any:
    """s + x s (1 - s) c (1 + 3 a x^2), with s = sigmoid(c (x + a x^3)); one, a, c in x's dtype."""
    s = one / (one + exp(-c * x * (one + a * (x * x))))
    return s + x * s * (one - s) * c * (one + (a + a + a) * (x * x))


@kernel
def gelu_backward(hidden: Array, d_out: Array, d_bias: Array) -> None:
    """d_out (T, F) becomes the gradient of hidden, its column sum that of the bias."""
    one, a, c = hidden.dtype.type(1), hidden.dtype.type(GELU_A), hidden.dtype.type(GELU_C)
    d_bias[:] = 0
    for t in range(hidden.shape[0]):
        for f in range(hidden.shape[1]):
            d = d_out[t, f] * gelu_slope(hidden[t, f], one, a, c)
            d_out[t, f] = d
            d_bias[f] += d


@kernel
def attend_forward(q: Array, kv: Array, num_keys: int, mask: Array, out: Array, weights: Array) -> None:
    """out (A, N, B, H, d) = softmax(q k^T / sqrt(d), where the mask allows) v.

    Args:
        num_keys: how many of the M keys exist.
        mask: (A', N, M) bool with A a multiple of A'; group a reads mask[a // (A / A')].
        weights: (A, B, H, N, M), kept for the backward pass.
    """
    num_a, num_queries, num_b, num_heads, dim = q.shape
    repeats = num_a // mask.shape[0]
    zero, one, masked = q.dtype.type(0), q.dtype.type(1), q.dtype.type(MASKED)
    factor = q.dtype.type(1.0 / math.sqrt(dim))
    for group in range(num_a * num_b):
        a, b = group // num_b, group % num_b
        for h in range(num_heads):
            for n in range(num_queries):
                w, readable = weights[a, b, h, n], mask[a // repeats, n]
                largest = masked
                for m in range(num_keys):
                    score = masked
                    if readable[m]:
                        score = zero
                        for c in range(dim):
                            score += q[a, n, b, h, c] * kv[a, m, b, 0, h, c]
                        score *= factor
                    w[m] = score
                    largest = max(largest, score)
                total = zero
                for m in range(num_keys):
                    weight = exp(w[m] - largest)
                    w[m] = weight
                    total += weight
                inverse = one / total
                for c in range(dim):
                    out[a, n, b, h, c] = zero
                for m in range(num_keys):
                    if readable[m]:
                        weight = w[m] * inverse
                        w[m] = weight
                        for c in range(dim):
                            out[a, n, b, h, c] += weight * kv[a, m, b, 1, h, c]


@kernel
def attend_backward(
    q: Array, kv: Array, mask: Array, weights: Array, d_out: Array, d_q: Array, d_kv: Array, d_scores: Array
) -> None:
    """d_q and d_kv, written, of `attend_forward`; d_scores (M,) is scratch. As
    acbo_ref.policy.layers.attend_backward.
    """
    num_a, num_queries, num_b, num_heads, dim = q.shape
    num_keys = weights.shape[4]
    repeats = num_a // mask.shape[0]
    zero, factor = q.dtype.type(0), q.dtype.type(1.0 / math.sqrt(dim))
    for group in range(num_a * num_b):
        a, b = group // num_b, group % num_b
        for m in range(num_keys):
            d_kv[a, m, b] = zero
        for h in range(num_heads):
            for n in range(num_queries):
                w, readable = weights[a, b, h, n], mask[a // repeats, n]
                total = zero
                for m in range(num_keys):
                    d_weight = zero
                    if readable[m]:
                        weight = w[m]
                        for c in range(dim):
                            d_weight += d_out[a, n, b, h, c] * kv[a, m, b, 1, h, c]
                        for c in range(dim):
                            d_kv[a, m, b, 1, h, c] += weight * d_out[a, n, b, h, c]
                        total += d_weight * weight
                    d_scores[m] = d_weight
                for c in range(dim):
                    d_q[a, n, b, h, c] = zero
                for m in range(num_keys):
                    if readable[m]:
                        d_score = w[m] * (d_scores[m] - total) * factor
                        for c in range(dim):
                            d_q[a, n, b, h, c] += d_score * kv[a, m, b, 0, h, c]
                        for c in range(dim):
                            d_kv[a, m, b, 0, h, c] += d_score * q[a, n, b, h, c]


@scalar
def log_softmax(logits: Any, out: Any) -> None:
    """log p (V,) into out; a masked logit gives about -1e30."""
    largest = logits[0]
    for i in range(1, logits.shape[0]):
        largest = max(largest, logits[i])
    total = type(largest)(0)
    for i in range(logits.shape[0]):
        total += exp(logits[i] - largest)
    shift = np.log(total)
    for i in range(logits.shape[0]):
        out[i] = (logits[i] - largest) - shift


@scalar
def softplus(x: Any) -> Any:
    """log(1 + e^x) without overflow."""
    return max(x, type(x)(0)) + np.log1p(exp(-abs(x)))


def tokens(x: Array) -> Array:
    """(..., J) as (T, J)."""
    return x.reshape(-1, x.shape[-1])
