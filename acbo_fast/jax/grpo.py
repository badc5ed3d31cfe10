"""Twin of acbo_ref/grpo.py: the loss as a traced function; its gradient is JAX's."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from acbo_fast.jax.policy import Outputs, Params, outcome
from acbo_ref.grpo import ADVANTAGE_EPSILON


class Batch(NamedTuple):
    """See acbo_ref.grpo.LossBatch."""

    variable: Array
    value: Array
    old_log_prob: Array
    advantage: Array
    draw_variable: Array
    draw_value: Array
    draw_outcome: Array
    draw_variance: Array
    parents: Array
    parent_mask: Array


def advantages(rewards: Array, scale: str) -> Array:
    """See acbo_ref.grpo.advantages."""
    equal = rewards.max(-1, keepdims=True) == rewards.min(-1, keepdims=True)
    centred = jnp.where(equal, 0, rewards - rewards.mean(-1, keepdims=True))
    if scale == "none":
        return centred
    spread = rewards.std() if scale == "batch" else jnp.sqrt(jnp.square(centred).mean(-1, keepdims=True))
    return centred / (spread + ADVANTAGE_EPSILON)


def parent_entropy(logits: Array, mask: Array) -> Array:
    """Entropy of independent Bernoullis, nats, summed over the variables that count."""
    p = jax.nn.sigmoid(logits)
    return ((jax.nn.softplus(logits) - logits * p) * mask).sum(-1)


def gather(per_variable: Array, variable: Array) -> Array:
    """(..., V) at variable (..., G) -> (..., G)."""
    return jnp.take_along_axis(per_variable, variable, axis=-1)


def log_prob(outputs: Outputs, variable: Array, value: Array, fixed_std: Array) -> Array:
    """log pi(variable, value), (..., G)."""
    log_choice = gather(jax.nn.log_softmax(outputs.logits), variable)
    mean = gather(outputs.means, variable)
    log_std = jnp.log(fixed_std) if outputs.log_stds is None else gather(outputs.log_stds, variable)
    z = (value - mean) / jnp.exp(log_std)
    return log_choice - 0.5 * z**2 - log_std - 0.5 * math.log(2 * math.pi)


def entropy(logits: Array) -> Array:
    """Of the variable choice, nats; a masked variable has probability 0 and adds nothing."""
    log_p = jax.nn.log_softmax(logits)
    p = jnp.exp(log_p)
    return -(p * jnp.where(p > 0, log_p, 0)).sum(-1)


def parent_loss(logits: Array, parents: Array, mask: Array) -> Array:
    """Binary cross-entropy over the variables that count, (E, K)."""
    losses = jax.nn.softplus(logits) - logits * parents[:, None]
    return jnp.where(mask[:, None], losses, 0).sum(-1) / mask.sum(-1)[:, None]


def outcome_loss(mean: Array, log_error: Array, log_noise: Array, observed: Array, variance: Array) -> Array:
    """Gaussian negative log-likelihoods of the judged outcome and of the spread; see acbo_ref.grpo.outcome_loss_forward."""
    of_mean = 0.5 * jnp.square((observed - mean) / jnp.exp(log_error)) + log_error + 0.5 * math.log(2 * math.pi)
    return of_mean + 0.5 * variance / jnp.square(jnp.exp(log_noise)) + log_noise


def surrogate(ratio: Array, advantage: Array, clip_low: float, clip_high: float) -> Array:
    """The clipped objective."""
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip_low, 1 + clip_high) * advantage)


def loss(
    params: Params,
    outputs: Outputs,
    batch: Batch,
    fixed_std: Array,
    entropy_coefficient: Array,
    clip_low: float,
    clip_high: float,
    parent_weight: float,
    outcome_weight: float,
) -> tuple[Array, dict[str, Array]]:
    """The loss and its terms; see acbo_ref.grpo.loss_forward."""
    log_ratio = log_prob(outputs, batch.variable, batch.value, fixed_std) - batch.old_log_prob
    ratio = jnp.exp(log_ratio)
    hidden = jnp.take_along_axis(outputs.outcome_hidden, batch.draw_variable[..., None], axis=2)
    terms = {
        "surrogate": -surrogate(ratio, batch.advantage, clip_low, clip_high).mean(),
        "entropy": entropy(outputs.logits).mean(),
        "parent_loss": parent_loss(outputs.parent_logits, batch.parents, batch.parent_mask).mean(),
        "outcome_loss": outcome_loss(
            *outcome(params, hidden, batch.draw_value), batch.draw_outcome, batch.draw_variance
        ).mean(),
        "approx_kl": (ratio - 1 - log_ratio).mean(),
        "clip_ratio_low": ((ratio < 1 - clip_low) & (batch.advantage < 0)).mean(dtype=ratio.dtype),
        "clip_ratio_high": ((ratio > 1 + clip_high) & (batch.advantage > 0)).mean(dtype=ratio.dtype),
    }
    total = (
        terms["surrogate"]
        - entropy_coefficient * terms["entropy"]
        + parent_weight * terms["parent_loss"]
        + outcome_weight * terms["outcome_loss"]
    )
    return total, terms
