"""Twin of acbo_ref/policy/layers.py as traced functions. Gradients are JAX's, but for three lines
in `_linear`.

Letters: N and M tokens, D width, H heads, d = D / H.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array

from acbo_ref.policy.layers import LAYER_NORM_EPSILON, MASKED

Params = dict[str, Array]
# Key under which `with_buffers` puts an int that is always 0.
NEVER = "never"


@jax.custom_vjp
def materialise(x: Array, never: Array) -> Array:
    """x itself, as a buffer of its own, in the forward and in the backward pass.

    XLA on a CPU otherwise repeats cheap producers inside every consumer: the whole residual stream
    inside each transposed copy of it. Its own optimization_barrier is dropped before fusion there;
    a loop whose number of turns is only known at run time is not. `never` is an int that is always
    0.
    """
    return jax.lax.fori_loop(0, never, lambda _, y: -y, x)


def _materialise_forward(x: Array, never: Array) -> tuple[Array, Array]:
    return materialise(x, never), never


def _materialise_backward(never: Array, d_x: Array) -> tuple[Array, None]:
    return materialise(d_x, never), None


materialise.defvjp(_materialise_forward, _materialise_backward)


# A product with a bias whose operands are kept as buffers. Its derivative is written out for the
# order of the operands: autodiff's (d_y^T x)^T makes XLA transpose d_y and costs a third of the
# update at width 64.
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


def keep_buffer(params: Params, x: Array) -> Array:
    """`materialise`, where the caller asked for it by putting NEVER among the parameters (see
    `with_buffers`).
    """
    return materialise(x, params[NEVER]) if NEVER in params else x


def with_buffers(params: Params, never: Array) -> Params:
    """Parameters that make `forward` keep its intermediate results in buffers of their own: for
    training passes.
    """
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
    """softmax(q k^T / sqrt(d)) v over (..., N, H, d) queries and (..., M, H, d) keys; mask (..., N,
    M).
    """
    scores = jnp.einsum("...nhd,...mhd->...hnm", q, k) / math.sqrt(q.shape[-1])
    weights = jax.nn.softmax(jnp.where(mask[..., None, :, :], scores, MASKED), axis=-1)
    return jnp.einsum("...hnm,...mhd->...nhd", weights, v)


def _heads(x: Array, num_heads: int) -> Array:
    return x.reshape(*x.shape[:-1], num_heads, x.shape[-1] // num_heads)


def _merge(x: Array) -> Array:
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


def soft_bound(x: Array, bound: float) -> Array:
    return bound * jnp.tanh(x / bound)


def at_variable(per_variable: Array, variable: Array) -> Array:
    """(E, V) at variable (E, N) -> (E, N)."""
    return jnp.take_along_axis(per_variable, variable, axis=1)
