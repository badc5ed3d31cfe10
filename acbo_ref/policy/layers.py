"""The layers of the network, each a forward and, beside it, its backward pass written by hand.

Contract: `f_forward(...) -> (out, cache)` and `f_backward(d_out, cache, ...) -> gradients`, where
`d_x` is the gradient of the loss with respect to `x`. Parameters live in one flat dict,
`params["blocks.0.norm1.scale"]`; a backward pass adds its parameters' gradients to `grads` under
the same names and returns the gradient of its input. Written to be read; speed belongs in
`acbo_fast`. Derivations: docs/derivations.md.

Letters: N tokens along the attended axis, D width, H heads, d = D / H.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from acbo_ref.arrays import Array, Params

LAYER_NORM_EPSILON = 1e-5
# Stands for minus infinity in masked scores: exp gives exactly 0 and, unlike inf, no difference of
# two is NaN.
MASKED = -1e30
_GELU_C = math.sqrt(2.0 / math.pi)  # a Python float: a NumPy scalar would promote float32 arrays
_GELU_A = 0.044715


class LayerNormCache(NamedTuple):
    """x_hat (..., D) and 1 / std (..., 1)."""

    x_hat: Array
    inverse_std: Array


class GeluCache(NamedTuple):
    """x and the tanh of the forward pass, (...) each."""

    x: Array
    tanh: Array


class AttendCache(NamedTuple):
    """q, k, v (..., N, d) and the attention weights (..., N, M)."""

    q: Array
    k: Array
    v: Array
    weights: Array


class AttentionCache(NamedTuple):
    """Of the three projections, the attention, and the output projection."""

    qkv: Array
    attend: AttendCache
    out: Array


class MLPCache(NamedTuple):
    """Of the first layer, the GELU, and the second layer."""

    first: Array
    gelu: GeluCache
    second: Array


def accumulate(grads: Params, name: str, gradient: Array) -> None:
    """grads[name] += gradient; a parameter used twice gets the sum of its gradients."""
    grads[name] = grads[name] + gradient if name in grads else gradient


# ------------------------------------------------------------------------------------------- linear


def linear_forward(params: Params, name: str, x: Array) -> tuple[Array, Array]:
    """y = x W + b; x (..., I), W (I, J), b (J,) -> y (..., J). The cache is x."""
    return x @ params[name + ".weight"] + params[name + ".bias"], x


def linear_backward(params: Params, name: str, d_y: Array, x: Array, grads: Params) -> Array:
    """dW = x^T dy, db = sum dy, dx = dy W^T, with all leading axes flattened into one."""
    flat_x, flat_d = x.reshape(-1, x.shape[-1]), d_y.reshape(-1, d_y.shape[-1])
    accumulate(grads, name + ".weight", flat_x.T @ flat_d)
    accumulate(grads, name + ".bias", flat_d.sum(axis=0))
    return np.asarray(d_y @ params[name + ".weight"].T)


# --------------------------------------------------------------------------------------- layer norm


def layer_norm_forward(params: Params, name: str, x: Array) -> tuple[Array, LayerNormCache]:
    """y = xhat * scale + bias, xhat = (x - mean) / sqrt(var + eps) over the last axis (Ba et al.
    2016, eq. 4).
    """
    centred = x - x.mean(axis=-1, keepdims=True)
    inverse_std = 1.0 / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + LAYER_NORM_EPSILON)
    x_hat = centred * inverse_std
    return x_hat * params[name + ".scale"] + params[name + ".bias"], LayerNormCache(x_hat, inverse_std)


def layer_norm_backward(params: Params, name: str, d_y: Array, cache: LayerNormCache, grads: Params) -> Array:
    """dx = (g - mean(g) - xhat * mean(g * xhat)) / std with g = dy * scale: the two means are what
    flows back through the mean and through the variance."""
    x_hat, inverse_std = cache
    leading = tuple(range(d_y.ndim - 1))
    accumulate(grads, name + ".scale", (d_y * x_hat).sum(axis=leading))
    accumulate(grads, name + ".bias", d_y.sum(axis=leading))
    g = d_y * params[name + ".scale"]
    through_mean = g.mean(axis=-1, keepdims=True)
    through_variance = x_hat * (g * x_hat).mean(axis=-1, keepdims=True)
    return np.asarray((g - through_mean - through_variance) * inverse_std)


# ------------------------------------------------------------------------------------ GELU and tanh


def gelu_forward(x: Array) -> tuple[Array, GeluCache]:
    """GELU in its tanh form, 0.5 x (1 + tanh(c (x + a x^3))), c = sqrt(2/pi), a = 0.044715
    (Hendrycks & Gimpel 2016).
    """
    tanh = np.tanh(_GELU_C * x * (1.0 + _GELU_A * (x * x)))
    return 0.5 * x * (1.0 + tanh), GeluCache(x, tanh)


def gelu_backward(d_y: Array, cache: GeluCache) -> Array:
    """dy/dx = 0.5 (1 + t) + 0.5 x (1 - t^2) c (1 + 3 a x^2) with t the tanh of the forward pass."""
    x, tanh = cache
    slope = 0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * _GELU_C * (1.0 + 3.0 * _GELU_A * (x * x))
    return np.asarray(d_y * slope)


def soft_bound_forward(x: Array, bound: float) -> tuple[Array, Array]:
    """bound * tanh(x / bound): the identity near 0, never beyond +-bound. The cache is the tanh."""
    tanh = np.tanh(x / bound)
    return bound * tanh, tanh


def soft_bound_backward(d_y: Array, tanh: Array) -> Array:
    """dx = dy (1 - tanh^2)."""
    return np.asarray(d_y * (1.0 - tanh * tanh))


# ---------------------------------------------------------------------------------------- attention


def split_heads(x: Array, num_heads: int) -> Array:
    """(..., N, D) -> (..., H, N, d)"""
    return x.reshape(*x.shape[:-1], num_heads, x.shape[-1] // num_heads).swapaxes(-2, -3)


def merge_heads(x: Array) -> Array:
    """(..., H, N, d) -> (..., N, D), the inverse of `split_heads`."""
    x = x.swapaxes(-2, -3)
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


def attend_forward(q: Array, k: Array, v: Array, mask: Array) -> tuple[Array, AttendCache]:
    """out = softmax(q k^T / sqrt(d), where the mask allows) v (Vaswani et al. 2017, eq. 1).

    Args:
        q: (..., N, d); k, v: (..., M, d).
        mask: bool, broadcasts to (..., N, M); at least one True in each row.
    """
    scores = np.where(mask, (q @ k.swapaxes(-1, -2)) / math.sqrt(q.shape[-1]), MASKED)
    scores = scores - scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores)
    weights = weights / weights.sum(axis=-1, keepdims=True)
    return weights @ v, AttendCache(q, k, v, weights)


def attend_backward(d_out: Array, cache: AttendCache) -> tuple[Array, Array, Array]:
    """(d_q, d_k, d_v). With P the attention weights: dV = P^T dO, dP = dO V^T and, through the
    softmax, dS = P * (dP - sum(dP * P)); masked entries have P = 0 and so get no gradient."""
    q, k, v, weights = cache
    d_v = weights.swapaxes(-1, -2) @ d_out
    d_weights = d_out @ v.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (d_weights * weights).sum(axis=-1, keepdims=True))
    d_scores = d_scores / math.sqrt(q.shape[-1])
    return d_scores @ k, d_scores.swapaxes(-1, -2) @ q, d_v


def project_qkv(params: Params, name: str, x: Array, num_heads: int) -> tuple[Array, Array, Array, Array]:
    """Queries, keys and values of every head from one Linear D -> 3D: three (..., H, N, d), and the
    linear's cache.
    """
    qkv, cache = linear_forward(params, name + ".qkv", x)
    q, k, v = (split_heads(part, num_heads) for part in np.split(qkv, 3, axis=-1))
    return q, k, v, cache


def attention_forward(params: Params, name: str, x: Array, mask: Array, num_heads: int) -> tuple[Array, AttentionCache]:
    """Multi-head self-attention along the axis before the last.

    Args:
        x: (..., N, D).
        mask: bool, broadcasts to (..., H, N, N).
    """
    q, k, v, qkv_cache = project_qkv(params, name, x, num_heads)
    heads, attend_cache = attend_forward(q, k, v, mask)
    out, out_cache = linear_forward(params, name + ".out", merge_heads(heads))
    return out, AttentionCache(qkv_cache, attend_cache, out_cache)


def attention_backward(params: Params, name: str, d_out: Array, cache: AttentionCache, grads: Params) -> Array:
    """d_x, through the output projection, the attention and the three projections."""
    num_heads = cache.attend.q.shape[-3]
    d_heads = split_heads(linear_backward(params, name + ".out", d_out, cache.out, grads), num_heads)
    d_qkv = np.concatenate([merge_heads(d) for d in attend_backward(d_heads, cache.attend)], axis=-1)
    return linear_backward(params, name + ".qkv", d_qkv, cache.qkv, grads)


# ------------------------------------------------------------------------------- two-layer networks


def mlp_forward(params: Params, first: str, second: str, x: Array) -> tuple[Array, MLPCache]:
    """Linear, GELU, Linear: the feed-forward part of a block, and every head."""
    hidden, first_cache = linear_forward(params, first, x)
    activated, gelu_cache = gelu_forward(hidden)
    out, second_cache = linear_forward(params, second, activated)
    return out, MLPCache(first_cache, gelu_cache, second_cache)


def mlp_backward(params: Params, first: str, second: str, d_out: Array, cache: MLPCache, grads: Params) -> Array:
    """d_x of `mlp_forward`."""
    d_activated = linear_backward(params, second, d_out, cache.second, grads)
    d_hidden = gelu_backward(d_activated, cache.gelu)
    return linear_backward(params, first, d_hidden, cache.first, grads)


# ---------------------------------------------------------------------------------- small functions


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0 / (1.0 + e), e / (1.0 + e))


def softplus(x: Array) -> Array:
    """log(1 + exp(x)) without overflow."""
    return np.asarray(np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))))


def log_softmax(logits: Array) -> Array:
    """log p over the last axis; a MASKED logit gives about -1e30, whose exp is exactly 0."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def one_hot(index: Array, size: int, dtype: DTypeLike) -> Array:
    """(..., size), 1 at `index`. Gathering and scattering by products with it keeps the backward
    pass a transpose.
    """
    return (np.arange(size) == index[..., None]).astype(dtype)
