"""Twin of acbo_ref/grpo/optim.py: Adam and clipping by global norm, as traced functions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from acbo_fast.jax.policy.layers import Params
from acbo_ref.grpo.optim import ADAM_EPSILON, BETA1, BETA2, OptimiserState


def global_norm(grads: Params) -> Array:
    """sqrt of the sum of squares of all arrays together."""
    return jnp.sqrt(sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(grads)))


def adam_step(state: OptimiserState[Array], grads: Params, learning_rate: Array) -> OptimiserState[Array]:
    """One step of Adam; see acbo_ref.grpo.optim.adam_step."""
    step = state.step + 1
    t = step.astype(learning_rate.dtype)
    first = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, state.first_moment, grads)
    second = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g**2, state.second_moment, grads)
    # -expm1(t log b) is 1 - b^t without the cancellation that float32 would suffer at the first
    # steps
    correction1, correction2 = (-jnp.expm1(t * jnp.log(jnp.asarray(b, t.dtype))) for b in (BETA1, BETA2))
    params = jax.tree.map(
        lambda p, m, v: p - learning_rate * (m / correction1) / (jnp.sqrt(v / correction2) + ADAM_EPSILON),
        state.params,
        first,
        second,
    )
    return OptimiserState(params, first, second, step)


def guarded_step(
    state: OptimiserState[Array], grads: Params, loss: Array, learning_rate: Array, largest: float | None
) -> tuple[OptimiserState[Array], Array, Array]:
    """(state, gradient norm, skipped): clip and step, or change nothing where loss or norm is not
    finite.
    """
    norm = global_norm(grads)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    factor = 1.0 if largest is None else jnp.where(norm > largest, largest / norm, 1)
    stepped = adam_step(state, jax.tree.map(lambda g: g * factor, grads), learning_rate)
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), stepped, state), norm, ~finite
