"""The trunk `pairwise`: blocks on the table of ordered pairs of variables.

    z = Linear P->D (pair channels)                       (V, V, D), one table a decision
    L pre-norm blocks, x = norm(z):
        a, b, c, d = split(Linear D->4D (x)), a and c through GELU
        out_ij = sum_k a_ik b_kj / sqrt(V)      what i does to k, times what k does to j: paths
        in_ij  = sum_k c_ki d_kj / sqrt(V)      what a common k does to both: confounders
        g_i    = [mean_j x_ij, mean_j x_ji, x_ii]               what is known of i itself
        z_ij  += Linear 2D->D (GELU(Linear 4D->2D [x_ij, x_ji, norm(out_ij, in_ij)]
                                    + row part of W g_i + column part of W g_j))
    h_i = final norm [z_i,target, z_target,i], which the heads read; the edge head reads all of z
    (heads.py)

The sums over a third variable are the triangle multiplicative updates of Jumper et al. 2021
(supplement 1.6.5); their product form is that of path coefficients (Wright 1921). There is no
order of rows and none of variables: permuting variables permutes h.

Contract: padding is left out of every sum and mean, so it changes nothing; no sampling, no loss.
Letters: N tables, V variables, P channels of a pair, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from acbo_ref.arrays import Array, Params
from acbo_ref.config import PolicyConfig
from acbo_ref.policy.layers import (
    GeluCache,
    LayerNormCache,
    accumulate,
    gelu_backward,
    gelu_forward,
    layer_norm_backward,
    layer_norm_forward,
    linear_backward,
    linear_forward,
)


class TriangleCache(NamedTuple):
    """The four factors (N, D, V, V), a and c masked, and the caches of their GELUs."""

    a: Array
    b: Array
    c: Array
    d: Array
    gelu_a: GeluCache
    gelu_c: GeluCache


class PairBlockCache(NamedTuple):
    """What `block_backward` needs."""

    norm: LayerNormCache
    factors: Array
    triangle: TriangleCache
    triangle_norm: LayerNormCache
    known: Array
    up: Array
    gelu: GeluCache
    down: Array


class PairTrunkCache(NamedTuple):
    """What `trunk_backward` needs."""

    embed: Array
    blocks: list[PairBlockCache]
    norm: LayerNormCache
    valid: Array
    target: Array


def triangle_forward(factors: Array, valid: Array) -> tuple[Array, TriangleCache]:
    """[out, in] (N, V, V, 2D) of the four factors (N, V, V, 4D); valid (N, V)."""
    a, b, c, d = np.split(np.moveaxis(factors, -1, 1), 4, axis=1)  # (N, D, V, V) each
    scale, mask = _scale_and_mask(valid, factors)
    a, gelu_a = gelu_forward(a)
    c, gelu_c = gelu_forward(c)
    a, c = a * mask[:, None, None, :], c * mask[:, None, :, None]
    through = np.concatenate([a @ b, c.swapaxes(2, 3) @ d], axis=1) * scale
    return np.moveaxis(through, 1, -1), TriangleCache(a, b, c, d, gelu_a, gelu_c)


def triangle_backward(d_through: Array, cache: TriangleCache, valid: Array) -> Array:
    """d_factors (N, V, V, 4D). For out = A B: dA = dO B^T, dB = A^T dO; for in = C^T D: dC = D
    dI^T, dD = C dI."""
    scale, mask = _scale_and_mask(valid, d_through)
    d_out, d_in = np.split(np.moveaxis(d_through, -1, 1) * scale, 2, axis=1)
    d_a = (d_out @ cache.b.swapaxes(2, 3)) * mask[:, None, None, :]
    d_c = (cache.d @ d_in.swapaxes(2, 3)) * mask[:, None, :, None]
    d_b, d_d = cache.a.swapaxes(2, 3) @ d_out, cache.c @ d_in
    parts = [gelu_backward(d_a, cache.gelu_a), d_b, gelu_backward(d_c, cache.gelu_c), d_d]
    return np.moveaxis(np.concatenate(parts, axis=1), 1, -1)


def _scale_and_mask(valid: Array, like: Array) -> tuple[Array, Array]:
    """1 / sqrt(number of variables) (N, 1, 1, 1), and valid (N, V) as numbers."""
    mask = valid.astype(like.dtype)
    return 1.0 / np.sqrt(mask.sum(axis=1))[:, None, None, None], mask


def variable_forward(x: Array, valid: Array) -> Array:
    """g (N, V, 3D): the means of row i and of column i of x (N, V, V, D), and x_ii."""
    mask = valid.astype(x.dtype)
    share = mask / mask.sum(axis=1, keepdims=True)
    over_row = (share[:, None, None, :] @ x)[:, :, 0]
    over_column = (share[:, None, None, :] @ x.swapaxes(1, 2))[:, :, 0]
    return np.concatenate([over_row, over_column, np.diagonal(x, axis1=1, axis2=2).swapaxes(1, 2)], axis=-1)


def variable_backward(d_g: Array, valid: Array) -> Array:
    """d_x (N, V, V, D) of `variable_forward`."""
    mask = valid.astype(d_g.dtype)
    share = mask / mask.sum(axis=1, keepdims=True)
    d_row, d_column, d_self = np.split(d_g, 3, axis=-1)
    d_x = d_row[:, :, None] * share[:, None, :, None] + d_column[:, None, :] * share[:, :, None, None]
    each = np.arange(valid.shape[1])
    d_x[:, each, each] += d_self
    return np.asarray(d_x)


def block_forward(params: Params, index: int, z: Array, valid: Array) -> tuple[Array, PairBlockCache]:
    """One block on z (N, V, V, D); valid (N, V)."""
    name, width = f"blocks.{index}", z.shape[-1]
    x, norm_cache = layer_norm_forward(params, name + ".norm", z)
    factors, factors_cache = linear_forward(params, name + ".factors", x)
    through, triangle_cache = triangle_forward(factors, valid)
    through, triangle_norm_cache = layer_norm_forward(params, name + ".triangle_norm", through)
    known = variable_forward(x, valid)
    of_variable = known @ params[name + ".variable.weight"]
    pair = np.concatenate([x, x.swapaxes(1, 2), through], axis=-1)
    hidden, up_cache = linear_forward(params, name + ".mlp.up", pair)
    hidden = hidden + of_variable[:, :, None, : 2 * width] + of_variable[:, None, :, 2 * width :]
    activated, gelu_cache = gelu_forward(hidden)
    fed, down_cache = linear_forward(params, name + ".mlp.down", activated)
    cache = PairBlockCache(
        norm_cache, factors_cache, triangle_cache, triangle_norm_cache, known, up_cache, gelu_cache, down_cache
    )
    return z + fed, cache


def block_backward(params: Params, index: int, d_z: Array, cache: PairBlockCache, valid: Array, grads: Params) -> Array:
    """d_z of `block_forward`: what reaches x by itself, mirrored, through the triangles and through
    what is known of i and of j, and then z through the norm."""
    name, width = f"blocks.{index}", d_z.shape[-1]
    d_activated = linear_backward(params, name + ".mlp.down", d_z, cache.down, grads)
    d_hidden = gelu_backward(d_activated, cache.gelu)
    d_pair = linear_backward(params, name + ".mlp.up", d_hidden, cache.up, grads)
    d_of_variable = np.concatenate([d_hidden.sum(axis=2), d_hidden.sum(axis=1)], axis=-1)
    flat = cache.known.reshape(-1, 3 * width), d_of_variable.reshape(-1, 4 * width)
    accumulate(grads, name + ".variable.weight", flat[0].T @ flat[1])
    d_x = d_pair[..., :width] + d_pair[..., width : 2 * width].swapaxes(1, 2)
    d_x = d_x + variable_backward(d_of_variable @ params[name + ".variable.weight"].T, valid)
    d_through = layer_norm_backward(
        params, name + ".triangle_norm", d_pair[..., 2 * width :], cache.triangle_norm, grads
    )
    d_factors = triangle_backward(d_through, cache.triangle, valid)
    d_x = d_x + linear_backward(params, name + ".factors", d_factors, cache.factors, grads)
    return d_z + layer_norm_backward(params, name + ".norm", d_x, cache.norm, grads)


def trunk_forward(
    params: Params, config: PolicyConfig, channels: Array, valid: Array, target: Array
) -> tuple[Array, Array, PairTrunkCache]:
    """h (N, V, 2D) and z (N, V, V, D) of N tables (N, V, V, P); valid (N, V) bool, target (N,)
    int."""
    z, embed_cache = linear_forward(params, "embed", channels)
    block_caches = []
    for i in range(config.num_layers):
        z, block_cache = block_forward(params, i, z, valid)
        block_caches.append(block_cache)
    each = np.arange(len(z))
    h = np.concatenate([z[each, :, target], z[each, target]], axis=-1)
    h, norm_cache = layer_norm_forward(params, "final_norm", h)
    return h, z, PairTrunkCache(embed_cache, block_caches, norm_cache, valid, target)


def trunk_backward(
    params: Params, config: PolicyConfig, d_h: Array, d_z: Array, cache: PairTrunkCache, grads: Params
) -> None:
    """Adds the gradient of every parameter of `trunk_forward` to `grads`."""
    d_h = layer_norm_backward(params, "final_norm", d_h, cache.norm, grads)
    size, each = d_z.shape[-1], np.arange(len(d_z))
    d_z = d_z.copy()
    d_z[each, :, cache.target] += d_h[..., :size]
    d_z[each, cache.target] += d_h[..., size:]
    for i in reversed(range(config.num_layers)):
        d_z = block_backward(params, i, d_z, cache.blocks[i], cache.valid, grads)
    linear_backward(params, "embed", d_z, cache.embed, grads)
