"""The heads: from the state h of every variable, and z of every pair, to what the policy says.

    policy head    h and, over pairs, what the outcome head predicts of each variable's best value
                   (acquisition.py) -> variable logit, value mean / 5 [, log-std]
    parent head    h -> logit of P(the variable is a parent of the target)
    edge head      z_ij -> logits of P(i is a direct cause of j) and of P(i is a cause of j at all),
                   of the pairwise trunk only
    outcome head   (h, v) -> of the target under do(X_i = v), standard units: its expectation, the
                   log of that estimate's standard error (what is not known), the log of the
                   spread of single outcomes around it (noise), and that of own outcomes from which
                   other variables' share is taken off (scatter); local.py puts own outcomes to it

The edge head is there to teach the trunk: a table has V - 1 answers about the target and V (V - 1)
about all its pairs, and which variable causes which is what has to be read from the rows (Lorch et
al. 2022, "Amortized Inference for Causal Structure Learning"). Its second answer also says what in
a row is not the action's doing (local.py).

Contract: functions of h and z, not of how they were made (network.py). No sampling, no loss here.
Letters: E episodes, V variables, K decisions, N tables, H size of h, D width, F evidence channels
or features, Q acquisition features.
"""

from __future__ import annotations

import math
from typing import Generic, NamedTuple

import numpy as np

from acbo_ref.arrays import A, Array, Params
from acbo_ref.config import PolicyConfig
from acbo_ref.policy.evidence import centre_feature, slope_features, spread_feature
from acbo_ref.policy.inputs import HALF_WIDTH
from acbo_ref.policy.layers import (
    MASKED,
    GeluCache,
    LayerNormCache,
    MLPCache,
    accumulate,
    gelu_backward,
    gelu_forward,
    layer_norm_backward,
    layer_norm_forward,
    linear_backward,
    linear_forward,
    mlp_backward,
    mlp_forward,
    soft_bound_backward,
    soft_bound_forward,
)

# Standard deviations stay within exp(+-3), a factor of 20, of their start. This keeps the
# likelihood finite. It does not tame outcomes far outside: their loss grows as (y / 20)^2 / 2,
# which matters with 2 or 3 observational rows, whose spread can be far too small. The clipped
# gradient norm bounds their effect.
LOG_STD_BOUND = 3.0
# Value means stay within +-6, one standard unit beyond the ends of the domain. That is near enough
# for some draws of a group to fall inside and differ, and far enough for the ends themselves to be
# played exactly.
VALUE_MEAN_BOUND = 6.0
VALUE_FEATURES = 8
# Lengths over which mistakes are alike: half a half domain, and a factor of 4 to either side.
LENGTH_START, LOG_LENGTH_BOUND = math.log(0.5), math.log(4.0)


class OutcomeState(NamedTuple, Generic[A]):
    """What the outcome head knows of a variable before it is asked about a value.

    Args:
        hidden: (..., H/2), the part of its hidden layer that does not depend on the value.
        slope: (...), the slope that it takes from the evidence.
        centre, spread: (...), where the variable stands by itself, and how much it varies there, in
            half domains. They are data; their gradient is 0.
        log_length: (...), the logarithm of the length, in half domains, over which mistakes about
            this variable are alike (local.py).
    """

    hidden: A
    slope: A
    centre: A
    spread: A
    log_length: A


class PolicyOutputs(NamedTuple, Generic[A]):
    """What the heads say at K decisions; also used for the gradients with respect to each of these.

    Args:
        logits, means, parent_logits: (E, K, V). Logits of variables that cannot be chosen are
            MASKED.
        log_stds: (E, K, V), or None with a fixed standard deviation.
        outcome: the outcome head's state of each variable, leading axes (E, K, V).
        edge_logits: (E, K, V, V, 2), entry i, j of i as a direct cause of j, and as a cause at
            all; None where there is no edge head, and in decisions, which read them apart.
    """

    logits: A
    means: A
    log_stds: A | None
    parent_logits: A
    outcome: OutcomeState[A]
    edge_logits: A | None = None


class OutcomePrediction(NamedTuple, Generic[A]):
    """Of the target under do(X_i = v), standard units, (...) each; also used for gradients.

    `mean` estimates E[target | do] with standard error exp(log_error). Single outcomes scatter
    around the expectation with standard deviation exp(log_noise) (Kendall & Gal 2017: epistemic and
    aleatoric uncertainty). The next measured outcome always has variance exp(log_error)^2 +
    exp(log_noise)^2. The split between the two is exact for linear models and only approximate
    elsewhere (docs/derivations.md). `log_scatter` is the noise of own outcomes as local.py uses
    them.
    """

    mean: A
    log_error: A
    log_noise: A
    log_scatter: A


class PolicyCache(NamedTuple):
    """What `policy_backward` needs; `acquisition` is None over rows, `log_std` with a fixed
    standard deviation.
    """

    mlp: MLPCache
    acquisition: Array | None
    mean: Array
    log_std: Array | None
    choosable: Array
    size: int


class StateCache(NamedTuple):
    """What `state_backward` needs; all but `hidden` are None without evidence."""

    hidden: Array
    slopes: Array | None
    trust: Array | None
    length: Array | None
    length_bound: Array | None


class HeadsCache(NamedTuple):
    """What `heads_backward` needs."""

    policy: PolicyCache
    parent: MLPCache
    state: StateCache


class EdgeCache(NamedTuple):
    """What `edge_backward` needs."""

    norm: LayerNormCache
    out: Array


class OutcomeCache(NamedTuple):
    """What `outcome_backward` needs."""

    features: Array
    moved: Array
    gelu: GeluCache
    activated: Array
    log_stds: Array


def policy_forward(
    params: Params, config: PolicyConfig, h: Array, choosable: Array, acquisition: Array
) -> tuple[tuple[Array, Array, Array | None], PolicyCache]:
    """(logits, means, log_stds) of PolicyOutputs from h (E, K, V, H) and the acquisition features
    (E, K, V, Q), Q = 0 over rows; choosable (E, V).

        out = MLP([h, arsinh(acquisition)]) + W acquisition

    The last layer of the MLP starts at 0 over pairs: the first policy is that of W, which plays the
    outcome head's decision.
    """
    known = acquisition if acquisition.shape[-1] else None
    read = h if known is None else np.concatenate([h, np.arcsinh(known)], axis=-1)
    out, mlp_cache = mlp_forward(params, "policy_head.hidden", "policy_head.out", read)
    if known is not None:
        out = out + known @ params["policy_head.acquisition.weight"]
    means, mean_cache = soft_bound_forward(HALF_WIDTH * out[..., 1], VALUE_MEAN_BOUND)
    log_stds, log_std_cache = None, None
    if not config.use_fixed_std:
        bounded, log_std_cache = soft_bound_forward(out[..., 2], LOG_STD_BOUND)
        log_stds = math.log(config.fixed_std) + bounded
    logits = np.where(choosable[:, None], out[..., 0], MASKED)
    return (logits, means, log_stds), PolicyCache(mlp_cache, known, mean_cache, log_std_cache, choosable, h.shape[-1])


def policy_backward(params: Params, d: PolicyOutputs[Array], cache: PolicyCache, grads: Params) -> Array:
    """d_h of `policy_forward`; a masked logit is a constant and passes nothing back, and the
    acquisition features are data.
    """
    d_mean = HALF_WIDTH * soft_bound_backward(d.means, cache.mean)
    d_out = [np.where(cache.choosable[:, None], d.logits, 0.0), d_mean]
    if d.log_stds is not None:
        assert cache.log_std is not None
        d_out.append(soft_bound_backward(d.log_stds, cache.log_std))
    stacked = np.stack(d_out, axis=-1)
    if cache.acquisition is not None:
        accumulate(grads, "policy_head.acquisition.weight", _weight_gradient(cache.acquisition, stacked))
    d_in = mlp_backward(params, "policy_head.hidden", "policy_head.out", stacked, cache.mlp, grads)
    return d_in[..., : cache.size]


def parent_forward(params: Params, h: Array) -> tuple[Array, MLPCache]:
    """Parent logits (...) from h (..., H)."""
    out, cache = mlp_forward(params, "parent_head.hidden", "parent_head.out", h)
    return out[..., 0], cache


def state_forward(params: Params, h: Array, evidence: Array) -> tuple[OutcomeState[Array], StateCache]:
    """What the outcome head knows of every variable, from h (..., H) and evidence (..., F), F = 0
    for none.
    """
    hidden, hidden_cache = linear_forward(params, "outcome_head.hidden", h)
    slope, centre = np.zeros_like(hidden[..., 0]), np.zeros_like(hidden[..., 0])
    spread, log_length = np.full_like(slope, 1.0 / HALF_WIDTH), np.full_like(slope, LENGTH_START)
    if not evidence.shape[-1]:
        return OutcomeState(hidden, slope, centre, spread, log_length), StateCache(hidden_cache, *[None] * 4)
    slopes, centre, spread = slope_features(evidence), centre_feature(evidence), spread_feature(evidence)
    trust, trust_cache = linear_forward(params, "outcome_head.trust", h)
    slope = (trust * slopes).sum(axis=-1)
    length, length_cache = linear_forward(params, "outcome_head.length", h)
    bounded, length_bound = soft_bound_forward(length[..., 0], LOG_LENGTH_BOUND)
    state = OutcomeState(hidden, slope, centre, spread, LENGTH_START + bounded)
    return state, StateCache(hidden_cache, slopes, trust_cache, length_cache, length_bound)


def state_backward(params: Params, d: OutcomeState[Array], cache: StateCache, grads: Params) -> Array:
    """d_h of `state_forward`."""
    d_h = linear_backward(params, "outcome_head.hidden", d.hidden, cache.hidden, grads)
    if cache.slopes is not None:
        assert cache.trust is not None and cache.length is not None and cache.length_bound is not None
        d_trust = cache.slopes * d.slope[..., None]
        d_h = d_h + linear_backward(params, "outcome_head.trust", d_trust, cache.trust, grads)
        d_length = soft_bound_backward(d.log_length, cache.length_bound)
        d_h = d_h + linear_backward(params, "outcome_head.length", d_length[..., None], cache.length, grads)
    return d_h


def heads_forward(
    params: Params, config: PolicyConfig, h: Array, choosable: Array, evidence: Array, acquisition: Array
) -> tuple[PolicyOutputs[Array], HeadsCache]:
    """All heads but the edge head on h (E, K, V, H) of K decisions, with their evidence (E, K, V,
    F) and acquisition features (E, K, V, Q), F = Q = 0 over rows; choosable (E, V).
    """
    (logits, means, log_stds), policy_cache = policy_forward(params, config, h, choosable, acquisition)
    parent_logits, parent_cache = parent_forward(params, h)
    outcome, state_cache = state_forward(params, h, evidence)
    outputs = PolicyOutputs(logits, means, log_stds, parent_logits, outcome)
    return outputs, HeadsCache(policy_cache, parent_cache, state_cache)


def heads_backward(
    params: Params, config: PolicyConfig, d_outputs: PolicyOutputs[Array], cache: HeadsCache, grads: Params
) -> Array:
    """d_h of `heads_forward`. Where `config.policy_into_trunk` is false, the policy head passes
    nothing on.
    """
    d_h = policy_backward(params, d_outputs, cache.policy, grads)
    if not config.policy_into_trunk:
        d_h = np.zeros_like(d_h)
    d_parent = d_outputs.parent_logits[..., None]
    d_h = d_h + mlp_backward(params, "parent_head.hidden", "parent_head.out", d_parent, cache.parent, grads)
    return d_h + state_backward(params, d_outputs.outcome, cache.state, grads)


def edge_forward(params: Params, z: Array) -> tuple[Array, EdgeCache]:
    """Edge logits (N, V, V, 2) of the tables z (N, V, V, D): a norm and one linear layer."""
    normed, norm_cache = layer_norm_forward(params, "edge_head.norm", z)
    logits, out_cache = linear_forward(params, "edge_head.out", normed)
    return logits, EdgeCache(norm_cache, out_cache)


def edge_backward(params: Params, d_logits: Array, cache: EdgeCache, grads: Params) -> Array:
    """d_z of `edge_forward`."""
    d_normed = linear_backward(params, "edge_head.out", d_logits, cache.out, grads)
    return layer_norm_backward(params, "edge_head.norm", d_normed, cache.norm, grads)


def _weight_gradient(x: Array, d_y: Array) -> Array:
    """dW = x^T dy of y = x W, with all leading axes flattened into one."""
    return np.asarray(x.reshape(-1, x.shape[-1]).T @ d_y.reshape(-1, d_y.shape[-1]))


def value_features(value: Array, centre: Array, spread: Array) -> Array:
    """(..., F) smooth functions of u = value / 5: u, u^2, two harmonics of the domain, and how far
    outside what was seen that is, asinh(d) and log(1 + d^2) / 2 of d = (u - centre) / spread. A
    line through rows holds as far as they reach; how much further is for the head to learn.
    """
    u = value / HALF_WIDTH
    d = (u - centre) / spread
    harmonics = [np.sin(np.pi * u), np.cos(np.pi * u), np.sin(2 * np.pi * u), np.cos(2 * np.pi * u)]
    return np.stack([u, u * u, *harmonics, np.arcsinh(d), 0.5 * np.log1p(d * d)], axis=-1)


def outcome_forward(
    params: Params, state: OutcomeState[Array], value: Array
) -> tuple[OutcomePrediction[Array], OutcomeCache]:
    """What the target becomes under do(X_i = value); see OutcomePrediction.

        out = Linear(GELU(hidden + W features(u, centre, spread)))
        mean = 5 out_0 + slope (u - centre)
        log error, log noise, log scatter = 3 tanh(out_1, out_2, out_3 / 3)

    Args:
        state: of the variable in question, leading axes (...).
        value: (...) standard units, u = value / 5.
    """
    features = value_features(value, state.centre, state.spread)
    activated, gelu_cache = gelu_forward(state.hidden + features @ params["outcome_head.value.weight"])
    out, out_cache = linear_forward(params, "outcome_head.out", activated)
    log_stds, bound_cache = soft_bound_forward(out[..., 1:], LOG_STD_BOUND)
    moved = features[..., 0] - state.centre
    mean = HALF_WIDTH * out[..., 0] + state.slope * moved
    prediction = OutcomePrediction(mean, log_stds[..., 0], log_stds[..., 1], log_stds[..., 2])
    return prediction, OutcomeCache(features, moved, gelu_cache, out_cache, bound_cache)


def outcome_backward(
    params: Params, d_prediction: OutcomePrediction[Array], cache: OutcomeCache, grads: Params
) -> OutcomeState[Array]:
    """d_state of `outcome_forward`, which does not read the length; values are data and need no
    gradient.
    """
    d_log_stds = np.stack(d_prediction[1:], axis=-1)
    d_log_stds = soft_bound_backward(d_log_stds, cache.log_stds)
    d_out = np.concatenate([HALF_WIDTH * d_prediction.mean[..., None], d_log_stds], axis=-1)
    d_hidden = gelu_backward(linear_backward(params, "outcome_head.out", d_out, cache.activated, grads), cache.gelu)
    accumulate(grads, "outcome_head.value.weight", _weight_gradient(cache.features, d_hidden))
    d_slope = d_prediction.mean * cache.moved
    nothing = np.zeros_like(d_slope)
    return OutcomeState(d_hidden, d_slope, nothing, nothing, nothing)
