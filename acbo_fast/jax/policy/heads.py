"""Twin of acbo_ref/policy/heads.py as traced functions.

Letters: E episodes, V variables, K decisions, H size of h, F evidence channels.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array

from acbo_fast.jax.policy.evidence import centre_feature, slope_features, spread_feature
from acbo_fast.jax.policy.layers import Params, gelu, layer_norm, linear, mlp, soft_bound
from acbo_ref.config import PolicyConfig
from acbo_ref.policy.heads import (
    LENGTH_START,
    LOG_LENGTH_BOUND,
    LOG_STD_BOUND,
    VALUE_MEAN_BOUND,
    OutcomePrediction,
    OutcomeState,
    PolicyOutputs,
)
from acbo_ref.policy.inputs import HALF_WIDTH
from acbo_ref.policy.layers import MASKED


def policy_head(
    params: Params, config: PolicyConfig, h: Array, choosable: Array, acquisition: Array
) -> tuple[Array, Array, Array | None]:
    """(logits, means, log_stds) from h (E, K, V, H) and acquisition features (E, K, V, Q); see
    acbo_ref.policy.heads.policy_forward.
    """
    if not config.policy_into_trunk:
        h = jax.lax.stop_gradient(h)
    out = mlp(params, "policy_head.hidden", "policy_head.out", jnp.concatenate([h, jnp.arcsinh(acquisition)], -1))
    if acquisition.shape[-1]:
        out = out + acquisition @ params["policy_head.acquisition.weight"]
    log_stds = None
    if not config.use_fixed_std:
        log_stds = math.log(config.fixed_std) + soft_bound(out[..., 2], LOG_STD_BOUND)
    logits = jnp.where(choosable[:, None], out[..., 0], MASKED)
    return logits, soft_bound(HALF_WIDTH * out[..., 1], VALUE_MEAN_BOUND), log_stds


def parents(params: Params, h: Array) -> Array:
    """Parent logits (...) from h (..., H)."""
    return mlp(params, "parent_head.hidden", "parent_head.out", h)[..., 0]


def outcome_state(params: Params, h: Array, evidence: Array) -> OutcomeState[Array]:
    """What the outcome head knows of every variable, from h (..., H) and evidence (..., F)."""
    hidden = linear(params, "outcome_head.hidden", h)
    slope, centre = jnp.zeros_like(hidden[..., 0]), jnp.zeros_like(hidden[..., 0])
    spread, log_length = jnp.full_like(slope, 1 / HALF_WIDTH), jnp.full_like(slope, LENGTH_START)
    if evidence.shape[-1]:
        trust = linear(params, "outcome_head.trust", h)
        slope = (trust * slope_features(evidence)).sum(-1)
        centre, spread = centre_feature(evidence), spread_feature(evidence)
        log_length += soft_bound(linear(params, "outcome_head.length", h)[..., 0], LOG_LENGTH_BOUND)
    return OutcomeState(hidden, slope, centre, spread, log_length)


def heads(
    params: Params, config: PolicyConfig, h: Array, choosable: Array, evidence: Array, acquisition: Array
) -> PolicyOutputs[Array]:
    """All heads but the edge head on h (E, K, V, H) of K decisions; see
    acbo_ref.policy.heads.heads_forward.
    """
    logits, means, log_stds = policy_head(params, config, h, choosable, acquisition)
    return PolicyOutputs(logits, means, log_stds, parents(params, h), outcome_state(params, h, evidence))


def edge(params: Params, z: Array) -> Array:
    """Edge logits (N, V, V, 2) of the tables z (N, V, V, D)."""
    return linear(params, "edge_head.out", layer_norm(params, "edge_head.norm", z))


def value_features(value: Array, centre: Array, spread: Array) -> Array:
    """(..., F) functions of u = value / 5; see acbo_ref.policy.heads.value_features."""
    u = value / HALF_WIDTH
    d, angle = (u - centre) / spread, jnp.pi * u
    harmonics = [jnp.sin(angle), jnp.cos(angle), jnp.sin(2 * angle), jnp.cos(2 * angle)]
    return jnp.stack([u, u**2, *harmonics, jnp.arcsinh(d), 0.5 * jnp.log1p(d**2)], -1)


def outcome(params: Params, state: OutcomeState[Array], value: Array) -> OutcomePrediction[Array]:
    """Of the target under do(X = value); see acbo_ref.policy.heads.outcome_forward."""
    features = value_features(value, state.centre, state.spread)
    activated = gelu(state.hidden + features @ params["outcome_head.value.weight"])
    out = linear(params, "outcome_head.out", activated)
    return OutcomePrediction(
        mean=HALF_WIDTH * out[..., 0] + state.slope * (features[..., 0] - state.centre),
        log_error=soft_bound(out[..., 1], LOG_STD_BOUND),
        log_noise=soft_bound(out[..., 2], LOG_STD_BOUND),
        log_scatter=soft_bound(out[..., 3], LOG_STD_BOUND),
    )
