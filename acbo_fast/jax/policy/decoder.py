"""Twin of acbo_ref/policy/decoder.py: keys and values live in arrays of fixed capacity, so nothing
is recompiled as rows arrive. The trunk over pairs has no cache: an empty dict.

Letters: E episodes, V variables, D width, H heads, d = D / H.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from acbo_fast.jax.policy import pair_trunk
from acbo_fast.jax.policy.heads import edge
from acbo_fast.jax.policy.layers import Params, _heads, _merge, attend, layer_norm, linear
from acbo_fast.jax.policy.row_trunk import _finish, variable_block
from acbo_ref.config import PolicyConfig
from acbo_ref.policy.decoder import Thought
from acbo_ref.policy.network import reads_pairs

# Keys and values of every block over rows: (E, V, capacity, H, d) each.
Cache = dict[str, Array]


def _new_heads(params: Params, name: str, x: Array, num_heads: int) -> tuple[Array, Array, Array]:
    """Queries, keys and values of N new rows (E, N, V, D) along the rows of each variable: (E, V,
    N, H, d) each.
    """
    qkv = linear(params, f"{name}.attention.qkv", layer_norm(params, f"{name}.norm1", x))
    q, k, v = (_heads(part, num_heads).swapaxes(1, 2) for part in jnp.split(qkv, 3, axis=-1))
    return q, k, v


def read_observations(
    params: Params, config: PolicyConfig, channels: Array, observation_mask: Array, valid: Array, capacity: int
) -> Cache:
    """Caches after the observational rows (E, O, V, C), with room for `capacity` later rows."""
    num_obs = channels.shape[1]
    own_row = jnp.eye(num_obs, dtype=bool)
    row_mask = observation_mask[:, None, :] | own_row
    x = linear(params, "embed", channels)
    cache: Cache = {}
    for i in range(config.num_layers):
        name = f"blocks.{i}"
        if i % 2 == 0:
            x = variable_block(params, name, x, valid, config.num_heads)
            continue
        q, k, v = _new_heads(params, name, x, config.num_heads)
        room = ((0, 0), (0, 0), (0, capacity), (0, 0), (0, 0))
        cache[f"{i}.k"], cache[f"{i}.v"] = jnp.pad(k, room), jnp.pad(v, room)
        attended = _merge(attend(q, k, v, row_mask[:, None])).swapaxes(1, 2)
        x = _finish(params, name, x, attended)
    return cache


def read_row(
    params: Params, config: PolicyConfig, cache: Cache, position: Any, readable: Array, valid: Array, channels: Array
) -> tuple[Array, Cache]:
    """h (E, V, D) of a new row (E, V, C) put at `position` (traced), and the caches with it.

    Args:
        readable: (E, O + capacity) bool, rows that exist up to and with this one.
    """
    x = linear(params, "embed", channels)[:, None]
    cache = dict(cache)
    for i in range(config.num_layers):
        name = f"blocks.{i}"
        if i % 2 == 0:
            x = variable_block(params, name, x, valid, config.num_heads)
            continue
        q, k, v = _new_heads(params, name, x, config.num_heads)
        for key, new in ((f"{i}.k", k), (f"{i}.v", v)):
            cache[key] = jax.lax.dynamic_update_slice_in_dim(cache[key], new, position, axis=2)
        attended = _merge(attend(q, cache[f"{i}.k"], cache[f"{i}.v"], readable[:, None, None, :])).swapaxes(1, 2)
        x = _finish(params, name, x, attended)
    return layer_norm(params, "final_norm", x)[:, 0], cache


def read_view(
    params: Params,
    config: PolicyConfig,
    cache: Cache,
    step: Any,
    channels: Array,
    observation_mask: Array,
    valid: Array,
    target: Array,
) -> tuple[Thought[Array], Cache]:
    """What the trunk gives at decision number `step` (traced, from 0), from the channels of its
    view, and the caches with them.
    """
    if reads_pairs(config):
        h, z = pair_trunk.trunk(params, config, channels, valid, target)
        return Thought(h, edge(params, z)[..., 1]), cache
    num_obs, rows = observation_mask.shape[1], cache["1.k"].shape[2]
    row_index, position = jnp.arange(rows), num_obs + step
    seen = jnp.pad(observation_mask, ((0, 0), (0, rows - num_obs)))
    readable = seen | ((row_index >= num_obs) & (row_index <= position))
    h, cache = read_row(params, config, cache, position, readable, valid, channels)
    return Thought(h, None), cache
