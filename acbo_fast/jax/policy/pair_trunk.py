"""Twin of acbo_ref/policy/pair_trunk.py as traced functions.

Letters: N tables, V variables, P channels of a pair, D width.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from acbo_fast.jax.policy.layers import Params, gelu, keep_buffer, layer_norm, linear
from acbo_ref.config import PolicyConfig


def triangle(factors: Array, valid: Array) -> Array:
    """[out, in] (N, V, V, 2D) of the four factors (N, V, V, 4D); valid (N, V)."""
    a, b, c, d = jnp.split(factors, 4, axis=-1)
    mask = valid.astype(factors.dtype)
    scale = 1 / jnp.sqrt(mask.sum(1))[:, None, None, None]
    a, c = gelu(a) * mask[:, None, :, None], gelu(c) * mask[:, :, None, None]
    out = jnp.einsum("nikd,nkjd->nijd", a, b)
    common = jnp.einsum("nkid,nkjd->nijd", c, d)
    return jnp.concatenate([out, common], -1) * scale


def variable(x: Array, valid: Array) -> Array:
    """g (N, V, 3D): the means of row i and of column i of x, and x_ii."""
    mask = valid.astype(x.dtype)
    share = mask / mask.sum(1, keepdims=True)
    over_row, over_column = jnp.einsum("nj,nijd->nid", share, x), jnp.einsum("nj,njid->nid", share, x)
    each = jnp.arange(x.shape[1])
    return jnp.concatenate([over_row, over_column, x[:, each, each]], -1)


def block(params: Params, index: int, z: Array, valid: Array) -> Array:
    """One block on z (N, V, V, D); valid (N, V)."""
    name, width = f"blocks.{index}", z.shape[-1]
    x = keep_buffer(params, layer_norm(params, f"{name}.norm", z))
    through = layer_norm(params, f"{name}.triangle_norm", triangle(linear(params, f"{name}.factors", x), valid))
    known = variable(x, valid) @ params[f"{name}.variable.weight"]
    pair = jnp.concatenate([x, x.swapaxes(1, 2), through], -1)
    hidden = linear(params, f"{name}.mlp.up", pair)
    hidden = hidden + known[:, :, None, : 2 * width] + known[:, None, :, 2 * width :]
    return keep_buffer(params, z + linear(params, f"{name}.mlp.down", gelu(hidden)))


def trunk(params: Params, config: PolicyConfig, channels: Array, valid: Array, target: Array) -> tuple[Array, Array]:
    """h (N, V, 2D) and z (N, V, V, D) of N tables (N, V, V, P); valid (N, V) bool, target (N,)
    int."""
    z = linear(params, "embed", channels)
    for i in range(config.num_layers):
        z = block(params, i, z, valid)
    at = target[:, None, None]
    column = jnp.take_along_axis(z, at[..., None], axis=2)[:, :, 0]
    row = jnp.take_along_axis(z, at[..., None], axis=1)[:, 0]
    return layer_norm(params, "final_norm", jnp.concatenate([column, row], -1)), z
