"""Twin of acbo_ref/policy/row_trunk.py as traced functions.

What is done for speed, and changes no number but for rounding: the last block computes queries and
the feed-forward part for the K decision rows only, since nothing reads the others.

Letters: E episodes, R rows, V variables, K decisions, D width, H heads, d = D / H.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from acbo_fast.jax.policy.layers import Params, _heads, _merge, attend, keep_buffer, layer_norm, linear, mlp
from acbo_ref.config import PolicyConfig


def variable_mask(valid: Array) -> Array:
    """(E, V, V) bool: every variable reads the valid ones, and itself."""
    return valid[:, None, :] | jnp.eye(valid.shape[1], dtype=bool)


def variable_block(params: Params, name: str, x: Array, valid: Array, num_heads: int) -> Array:
    """A pre-norm block that attends over variables within each row; x (E, N, V, D)."""
    normed = layer_norm(params, f"{name}.norm1", x)
    q, k, v = (_heads(p, num_heads) for p in jnp.split(linear(params, f"{name}.attention.qkv", normed), 3, axis=-1))
    attended = _merge(attend(q, k, v, variable_mask(valid)[:, None]))
    return _finish(params, name, x, attended)


def row_block(params: Params, name: str, x: Array, row_mask: Array, num_heads: int, num_queries: int) -> Array:
    """A pre-norm block that attends over rows for each variable; only the last `num_queries` rows
    are computed.
    """
    normed = layer_norm(params, f"{name}.norm1", x)
    weight, bias = params[f"{name}.attention.qkv.weight"], params[f"{name}.attention.qkv.bias"]
    width = x.shape[-1]
    if num_queries == x.shape[1]:
        q, k, v = jnp.split(normed @ weight + bias, 3, axis=-1)
    else:
        q = normed[:, -num_queries:] @ weight[:, :width] + bias[:width]
        k, v = jnp.split(normed @ weight[:, width:] + bias[width:], 2, axis=-1)
    q, k, v = (_heads(p, num_heads).swapaxes(1, 2) for p in (q, k, v))
    attended = _merge(attend(q, k, v, row_mask[:, None, -num_queries:])).swapaxes(1, 2)
    return _finish(params, name, x[:, -num_queries:], attended)


def _finish(params: Params, name: str, x: Array, attended: Array) -> Array:
    x = keep_buffer(params, x + linear(params, f"{name}.attention.out", attended))
    x = x + mlp(params, f"{name}.mlp.up", f"{name}.mlp.down", layer_norm(params, f"{name}.norm2", x))
    return keep_buffer(params, x)


def trunk(
    params: Params, config: PolicyConfig, channels: Array, valid: Array, row_mask: Array, num_decisions: int
) -> Array:
    """h (E, K, V, D) of the last K rows; see acbo_ref.policy.row_trunk.trunk_forward."""
    x = linear(params, "embed", channels)
    last = config.num_layers - 1
    for i in range(config.num_layers):
        name = f"blocks.{i}"
        if i % 2 == 1:
            x = row_block(params, name, x, row_mask, config.num_heads, num_decisions if i == last else x.shape[1])
        else:
            x = variable_block(params, name, x[:, -num_decisions:] if i == last else x, valid, config.num_heads)
    return layer_norm(params, "final_norm", x)
