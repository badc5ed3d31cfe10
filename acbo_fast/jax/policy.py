"""Twin of acbo_ref/policy.py. Gradients are JAX's, but for three lines in `_linear`; so agreement with the reference checks
the hand derivation.

What is done for speed, and changes no number but for rounding:
* the last block computes queries and the feed-forward part for the K decision rows only, since nothing reads the others;
* keys and values of decoding live in arrays of fixed capacity, so nothing is recompiled as rows arrive.

Letters: E episodes, R rows, V variables, K decisions, D width, H heads, d = D / H.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from acbo_fast.jax.evidence import centre_feature, residual_features, slope_features
from acbo_ref.config import PolicyConfig
from acbo_ref.history import CHANNELS, HALF_WIDTH
from acbo_ref.layers import LAYER_NORM_EPSILON, MASKED
from acbo_ref.policy import LOG_STD_BOUND, VALUE_MEAN_BOUND

Params = dict[str, Array]
# Keys and values of every block over rows: (E, V, capacity, H, d) each.
Cache = dict[str, Array]
# Key under which `with_buffers` puts an int that is always 0.
NEVER = "never"


class Inputs(NamedTuple):
    """See acbo_ref.policy.PolicyInputs."""

    channels: Array
    valid: Array
    choosable: Array
    row_mask: Array


class Outputs(NamedTuple):
    """See acbo_ref.policy.PolicyOutputs."""

    logits: Array
    means: Array
    log_stds: Array | None
    parent_logits: Array
    outcome_hidden: Array


@jax.custom_vjp
def materialise(x: Array, never: Array) -> Array:
    """x itself, as a buffer of its own, in the forward and in the backward pass.

    XLA on a CPU otherwise repeats cheap producers inside every consumer: the whole residual stream inside each transposed
    copy of it. Its own optimization_barrier is dropped before fusion there; a loop whose number of turns is only known at
    run time is not. `never` is an int that is always 0.
    """
    return jax.lax.fori_loop(0, never, lambda _, y: -y, x)


def _materialise_forward(x: Array, never: Array) -> tuple[Array, Array]:
    return materialise(x, never), never


def _materialise_backward(never: Array, d_x: Array) -> tuple[Array, None]:
    return materialise(d_x, never), None


materialise.defvjp(_materialise_forward, _materialise_backward)


# A product with a bias whose operands are kept as buffers. Its derivative is written out for the order of the operands:
# autodiff's (d_y^T x)^T makes XLA transpose d_y and costs a third of the update at width 64.
@jax.custom_vjp
def _linear(x: Array, weight: Array, bias: Array, never: Array) -> Array:
    return materialise(x, never) @ weight + bias


def _linear_forward(x: Array, weight: Array, bias: Array, never: Array) -> tuple[Array, tuple[Array, ...]]:
    x = materialise(x, never)
    return x @ weight + bias, (x, weight, never)


def _linear_backward(saved: tuple[Array, ...], d_y: Array) -> tuple[Array, Array, Array, None]:
    x, weight, never = saved
    d_y = materialise(d_y, never)
    flat_x, flat_d = x.reshape(-1, x.shape[-1]), d_y.reshape(-1, d_y.shape[-1])
    return (flat_d @ weight.T).reshape(x.shape), flat_x.T @ flat_d, flat_d.sum(0), None


_linear.defvjp(_linear_forward, _linear_backward)


def linear(params: Params, name: str, x: Array) -> Array:
    weight, bias = params[f"{name}.weight"], params[f"{name}.bias"]
    if NEVER in params:
        return _linear(x, weight, bias, params[NEVER])
    return x @ weight + bias


def settle(params: Params, x: Array) -> Array:
    """`materialise`, where the caller asked for it by putting NEVER among the parameters (see `with_buffers`)."""
    return materialise(x, params[NEVER]) if NEVER in params else x


def with_buffers(params: Params, never: Array) -> Params:
    """Parameters that make `forward` keep its intermediate results in buffers of their own: for training passes."""
    return {**params, NEVER: never}


def layer_norm(params: Params, name: str, x: Array) -> Array:
    mean = x.mean(-1, keepdims=True)
    variance = jnp.square(x - mean).mean(-1, keepdims=True)
    normalised = (x - mean) * jax.lax.rsqrt(variance + LAYER_NORM_EPSILON)
    return normalised * params[f"{name}.scale"] + params[f"{name}.bias"]


def gelu(x: Array) -> Array:
    return jax.nn.gelu(x, approximate=True)


def mlp(params: Params, first: str, second: str, x: Array) -> Array:
    return linear(params, second, gelu(linear(params, first, x)))


def attend(q: Array, k: Array, v: Array, mask: Array) -> Array:
    """softmax(q k^T / sqrt(d)) v over (..., N, H, d) queries and (..., M, H, d) keys; mask (..., N, M)."""
    scores = jnp.einsum("...nhd,...mhd->...hnm", q, k) / math.sqrt(q.shape[-1])
    weights = jax.nn.softmax(jnp.where(mask[..., None, :, :], scores, MASKED), axis=-1)
    return jnp.einsum("...hnm,...mhd->...nhd", weights, v)


def _heads(x: Array, num_heads: int) -> Array:
    return x.reshape(*x.shape[:-1], num_heads, x.shape[-1] // num_heads)


def _merge(x: Array) -> Array:
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


def _variable_mask(valid: Array) -> Array:
    return valid[:, None, :] | jnp.eye(valid.shape[1], dtype=bool)


def variable_block(params: Params, name: str, x: Array, valid: Array, num_heads: int) -> Array:
    """A pre-norm block that attends over variables within each row; x (E, N, V, D)."""
    normed = layer_norm(params, f"{name}.norm1", x)
    q, k, v = (_heads(p, num_heads) for p in jnp.split(linear(params, f"{name}.attention.qkv", normed), 3, axis=-1))
    attended = _merge(attend(q, k, v, _variable_mask(valid)[:, None]))
    return _finish(params, name, x, attended)


def row_block(params: Params, name: str, x: Array, row_mask: Array, num_heads: int, num_queries: int) -> Array:
    """A pre-norm block that attends over rows for each variable; only the last `num_queries` rows are computed."""
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
    x = settle(params, x + linear(params, f"{name}.attention.out", attended))
    x = x + mlp(params, f"{name}.mlp.up", f"{name}.mlp.down", layer_norm(params, f"{name}.norm2", x))
    return settle(params, x)


def forward(params: Params, config: PolicyConfig, inputs: Inputs, num_decisions: int) -> Outputs:
    """All decisions of E episodes in one pass; see acbo_ref.policy.forward."""
    x = linear(params, "embed", inputs.channels)
    valid, row_mask = inputs.valid, inputs.row_mask
    last = config.num_layers - 1
    for i in range(config.num_layers):
        name = f"blocks.{i}"
        if i % 2 == 1:
            x = row_block(params, name, x, row_mask, config.num_heads, num_decisions if i == last else x.shape[1])
        else:
            x = variable_block(params, name, x[:, -num_decisions:] if i == last else x, valid, config.num_heads)
    return heads(
        params, config, layer_norm(params, "final_norm", x), inputs.choosable, inputs.channels[:, -num_decisions:]
    )


def heads(params: Params, config: PolicyConfig, h: Array, choosable: Array, channels: Array) -> Outputs:
    """The heads on h (E, K, V, D) of the decision rows, whose own channels are (E, K, V, C)."""
    policy = mlp(params, "policy_head.hidden", "policy_head.out", h)
    if config.evidence == "regression":
        policy = policy + residual_features(channels[..., CHANNELS:]) @ params["policy_head.residual.weight"]
    parent = mlp(params, "parent_head.hidden", "parent_head.out", h)
    hidden = linear(params, "outcome_head.hidden", h)
    slope, centre = jnp.zeros_like(hidden[..., :1]), jnp.zeros_like(hidden[..., :1])
    if config.evidence == "regression":
        trust = linear(params, "outcome_head.trust", h)
        slope = (trust * slope_features(channels[..., CHANNELS:])).sum(-1, keepdims=True)
        centre = centre_feature(channels[..., CHANNELS:])
    log_stds = None
    if not config.use_fixed_std:
        log_stds = math.log(config.fixed_std) + soft_bound(policy[..., 2])
    return Outputs(
        logits=jnp.where(choosable[:, None], policy[..., 0], MASKED),
        means=soft_bound(HALF_WIDTH * policy[..., 1], VALUE_MEAN_BOUND),
        log_stds=log_stds,
        parent_logits=parent[..., 0],
        outcome_hidden=jnp.concatenate([hidden, slope, centre], -1),
    )


def soft_bound(x: Array, bound: float = LOG_STD_BOUND) -> Array:
    return bound * jnp.tanh(x / bound)


def outcome(params: Params, hidden: Array, value: Array) -> tuple[Array, Array, Array]:
    """(mean, log_error, log_noise) of the target under do(X = value); see acbo_ref.policy.outcome_forward."""
    u = value / HALF_WIDTH
    angle = jnp.pi * u
    features = [u, u**2, jnp.sin(angle), jnp.cos(angle), jnp.sin(2 * angle), jnp.cos(2 * angle)]
    hidden, slope, centre = hidden[..., :-2], hidden[..., -2], hidden[..., -1]
    activated = gelu(hidden + jnp.stack(features, -1) @ params["outcome_head.value.weight"])
    out = linear(params, "outcome_head.out", activated)
    return HALF_WIDTH * out[..., 0] + slope * (u - centre), soft_bound(out[..., 1]), soft_bound(out[..., 2])


# ------------------------------------------------------------------------------------------------- one row at a time


def _new_heads(params: Params, name: str, x: Array, num_heads: int) -> tuple[Array, Array, Array]:
    """Queries, keys and values of N new rows (E, N, V, D) along the rows of each variable: (E, V, N, H, d) each."""
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
