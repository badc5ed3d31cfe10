"""The trunk `simple_permutation_invariant`: a transformer over the (row, variable) table of an
episode, as published: it reads raw rows and nothing else.

    x = Linear C->D (channels)
    L pre-norm blocks:   x += attention(norm1(x)),   x += mlp(norm2(x))
        block 0, 2, ... attends over variables within each row; block 1, 3, ... over rows for each
        variable
    h = final norm (x at the K decision rows), which the heads read (heads.py)

Variables and observational rows carry no position, so permuting variables permutes the outputs and
permuting observational rows changes nothing (Lee et al. 2019, "Set Transformer"; alternation as in
Kossen et al. 2021).

Contract: a whole episode at once; decoder.py gives the same numbers one row at a time. No sampling
and no loss here.
Letters: E episodes, R rows, V variables, K decisions (the last K rows), C channels, D width, H
heads, L blocks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from acbo_ref.arrays import Array, Params
from acbo_ref.config import PolicyConfig
from acbo_ref.policy.layers import (
    AttentionCache,
    LayerNormCache,
    MLPCache,
    attention_backward,
    attention_forward,
    layer_norm_backward,
    layer_norm_forward,
    linear_backward,
    linear_forward,
    mlp_backward,
    mlp_forward,
)


class BlockCache(NamedTuple):
    """What `block_backward` needs."""

    norm1: LayerNormCache
    attention: AttentionCache
    norm2: LayerNormCache
    mlp: MLPCache


class RowTrunkCache(NamedTuple):
    """What `trunk_backward` needs."""

    embed: Array
    blocks: list[BlockCache]
    norm: LayerNormCache
    shape: tuple[int, ...]


def _swap_rows(x: Array, over_rows: bool) -> Array:
    """Bring the attended axis next to the features: (E, R, V, D) stays, or becomes (E, V, R, D)."""
    return x.swapaxes(1, 2) if over_rows else x


def block_forward(params: Params, index: int, x: Array, mask: Array, num_heads: int) -> tuple[Array, BlockCache]:
    """One pre-norm block on x (E, R, V, D); mask (E, 1, 1, N, N) along variables (even index) or
    rows (odd index).
    """
    name, over_rows = f"blocks.{index}", index % 2 == 1
    normed, norm1_cache = layer_norm_forward(params, name + ".norm1", x)
    attended, attention_cache = attention_forward(
        params, name + ".attention", _swap_rows(normed, over_rows), mask, num_heads
    )
    x = x + _swap_rows(attended, over_rows)
    normed, norm2_cache = layer_norm_forward(params, name + ".norm2", x)
    fed, mlp_cache = mlp_forward(params, name + ".mlp.up", name + ".mlp.down", normed)
    return x + fed, BlockCache(norm1_cache, attention_cache, norm2_cache, mlp_cache)


def block_backward(params: Params, index: int, d_x: Array, cache: BlockCache, grads: Params) -> Array:
    """d_x of `block_forward`: each residual branch adds its gradient to the one that skips it."""
    name, over_rows = f"blocks.{index}", index % 2 == 1
    d_normed = mlp_backward(params, name + ".mlp.up", name + ".mlp.down", d_x, cache.mlp, grads)
    d_x = d_x + layer_norm_backward(params, name + ".norm2", d_normed, cache.norm2, grads)
    d_normed = attention_backward(params, name + ".attention", _swap_rows(d_x, over_rows), cache.attention, grads)
    return d_x + layer_norm_backward(params, name + ".norm1", _swap_rows(d_normed, over_rows), cache.norm1, grads)


def variable_mask(valid: Array) -> Array:
    """(E, 1, 1, V, V) bool: every variable reads the valid ones, and itself, so that padding has a
    softmax too.
    """
    return np.asarray((valid[:, None, :] | np.eye(valid.shape[1], dtype=bool))[:, None, None])


def trunk_forward(
    params: Params, config: PolicyConfig, channels: Array, valid: Array, row_mask: Array, num_decisions: int
) -> tuple[Array, RowTrunkCache]:
    """h (E, K, V, D) of the last K = `num_decisions` of the rows, channels (E, R, V, C); valid
    (E, V), row_mask (E, R, R) bool.
    """
    x, embed_cache = linear_forward(params, "embed", channels)
    masks = (variable_mask(valid), row_mask[:, None, None])
    block_caches = []
    for i in range(config.num_layers):
        x, block_cache = block_forward(params, i, x, masks[i % 2], config.num_heads)
        block_caches.append(block_cache)
    h, norm_cache = layer_norm_forward(params, "final_norm", x[:, -num_decisions:])
    return h, RowTrunkCache(embed_cache, block_caches, norm_cache, x.shape)


def trunk_backward(params: Params, config: PolicyConfig, d_h: Array, cache: RowTrunkCache, grads: Params) -> None:
    """Adds the gradient of every parameter of `trunk_forward` to `grads`."""
    d_x = np.zeros(cache.shape, d_h.dtype)
    d_x[:, -d_h.shape[1] :] = layer_norm_backward(params, "final_norm", d_h, cache.norm, grads)
    for i in reversed(range(config.num_layers)):
        d_x = block_backward(params, i, d_x, cache.blocks[i], grads)
    linear_backward(params, "embed", d_x, cache.embed, grads)
