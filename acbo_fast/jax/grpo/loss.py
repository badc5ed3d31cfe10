"""Twin of acbo_ref/grpo/loss.py: the loss as a traced function; its gradient is JAX's."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array

from acbo_fast.jax.policy.layers import Params
from acbo_fast.jax.policy.local import predict
from acbo_ref.grpo.loss import ADVANTAGE_EPSILON, LossBatch, LossWeights, total_loss
from acbo_ref.policy.heads import OutcomePrediction, OutcomeState, PolicyOutputs
from acbo_ref.policy.local import Tried


def advantages(rewards: Array, scale: str) -> Array:
    """See acbo_ref.grpo.loss.advantages."""
    equal = rewards.max(-1, keepdims=True) == rewards.min(-1, keepdims=True)
    centred = jnp.where(equal, 0, rewards - rewards.mean(-1, keepdims=True))
    if scale == "none":
        return centred
    spread = rewards.std() if scale == "batch" else jnp.sqrt(jnp.square(centred).mean(-1, keepdims=True))
    return centred / (spread + ADVANTAGE_EPSILON)


def parent_entropy(parent_logits: Array, parent_mask: Array) -> Array:
    """Entropy of independent Bernoullis, nats, summed over the variables that count."""
    p = jax.nn.sigmoid(parent_logits)
    return ((jax.nn.softplus(parent_logits) - parent_logits * p) * parent_mask).sum(-1)


def _at(per_variable: Array, variable: Array) -> Array:
    """(..., V) at variable (..., G) -> (..., G)."""
    return jnp.take_along_axis(per_variable, variable, axis=-1)


def log_prob(
    logits: Array, means: Array, log_stds: Array | None, variable: Array, value: Array, fixed_std: Array | float
) -> Array:
    """log pi(variable, value), (..., G)."""
    log_choice = _at(jax.nn.log_softmax(logits), variable)
    mean = _at(means, variable)
    log_std = jnp.log(fixed_std) if log_stds is None else _at(log_stds, variable)
    z = (value - mean) / jnp.exp(log_std)
    return log_choice - 0.5 * z**2 - log_std - 0.5 * math.log(2 * math.pi)


def entropy(logits: Array) -> Array:
    """Of the variable choice, nats; a masked variable has probability 0 and adds nothing."""
    log_p = jax.nn.log_softmax(logits)
    p = jnp.exp(log_p)
    return -(p * jnp.where(p > 0, log_p, 0)).sum(-1)


def parent_loss(parent_logits: Array, parents: Array, parent_mask: Array) -> Array:
    """Binary cross-entropy over the variables that count, (E, K)."""
    losses = jax.nn.softplus(parent_logits) - parent_logits * parents[:, None]
    return jnp.where(parent_mask[:, None], losses, 0).sum(-1) / parent_mask.sum(-1)[:, None]


def edge_loss(edge_logits: Array, causes: Array, mask: Array) -> Array:
    """Binary cross-entropy over both answers about the pairs that count, (E, K)."""
    losses = (jax.nn.softplus(edge_logits) - edge_logits * causes[:, None]).mean(-1)
    return jnp.where(mask[:, None], losses, 0).sum((-1, -2)) / jnp.maximum(mask.sum((-1, -2)), 1)[:, None]


def outcome_loss(predicted: OutcomePrediction[Array], outcome: Array, variance: Array, weight: Array) -> Array:
    """Two Gaussian negative log-likelihoods; see acbo_ref.grpo.loss.outcome_loss_forward."""
    z = (outcome - predicted.mean) / jnp.exp(predicted.log_error)
    of_mean = weight * (0.5 * jnp.square(z) + predicted.log_error + 0.5 * math.log(2 * math.pi))
    return of_mean + 0.5 * variance / jnp.square(jnp.exp(predicted.log_noise)) + predicted.log_noise


def clipped_objective(ratio: Array, advantage: Array, clip_low: float, clip_high: float) -> Array:
    """min(ratio A, clip(ratio) A)."""
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip_low, 1 + clip_high) * advantage)


def _states(array: Array) -> Array:
    """(E, K, ...) -> (E K, ...)"""
    return array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])


def loss(
    params: Params, outputs: PolicyOutputs[Array], batch: LossBatch[Array], weights: LossWeights
) -> tuple[Array, dict[str, Array]]:
    """The loss and its terms; see acbo_ref.grpo.loss.loss_forward. The entropy's weight may be a
    traced number.
    """
    said = outputs.logits, outputs.means, outputs.log_stds
    log_ratio = log_prob(*said, batch.variable, batch.value, batch.fixed_std) - batch.old_log_prob
    ratio = jnp.exp(log_ratio)
    state = OutcomeState(*(_states(array) for array in outputs.outcome))
    tried = Tried(*(_states(array) for array in batch.tried))
    predicted = predict(params, state, tried, _states(batch.judged_variable), _states(batch.judged_value))
    labels = (_states(a) for a in (batch.judged_outcome, batch.judged_variance, batch.judged_weight))
    low, high = weights.clip_low, weights.clip_high
    of_edges = jnp.zeros_like(ratio[..., 0])
    if outputs.edge_logits is not None:
        of_edges = edge_loss(outputs.edge_logits, batch.causes, batch.edge_mask)
    terms = {
        "clipped_objective": clipped_objective(ratio, batch.advantage, low, high).mean(),
        "entropy": entropy(outputs.logits).mean(),
        "parent_loss": parent_loss(outputs.parent_logits, batch.parents, batch.parent_mask).mean(),
        "outcome_loss": outcome_loss(predicted, *labels).mean(),
        "edge_loss": of_edges.mean(),
        "approx_kl": (ratio - 1 - log_ratio).mean(),
        "clip_ratio_low": ((ratio < 1 - low) & (batch.advantage < 0)).mean(dtype=ratio.dtype),
        "clip_ratio_high": ((ratio > 1 + high) & (batch.advantage > 0)).mean(dtype=ratio.dtype),
    }
    return total_loss(terms, weights), terms
