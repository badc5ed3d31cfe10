"""Twin of acbo_ref/grpo.py: the loss and its gradient with respect to the network's outputs, in one pass over the decisions.

Letters: E episodes, K decisions, G candidates, N = G + P labelled draws, V variables.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from acbo_fast.numba.kernels import exp, kernel, scalar, sigmoid
from acbo_fast.numba.layers import GELU_A, GELU_C, gelu_slope
from acbo_fast.numba.policy import Outputs, Params, outcome_head, value_features
from acbo_fast.numba.workspace import Workspace
from acbo_ref.grpo import ADVANTAGE_EPSILON, LossWeights
from acbo_ref.history import HALF_WIDTH
from acbo_ref.policy import LOG_STD_BOUND, VALUE_FEATURES

Array = NDArray[Any]

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
# The terms of the loss and the diagnostics, in the columns of `terms`.
TERMS = ("surrogate", "entropy", "parent_loss", "outcome_loss", "approx_kl", "clip_ratio_low", "clip_ratio_high")


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


# ------------------------------------------------------------------------------------------------ of one decision


@scalar
def log_softmax(logits: Any, out: Any) -> None:
    """log p (V,) into out; a masked logit gives about -1e30."""
    largest = logits[0]
    for i in range(1, logits.shape[0]):
        largest = max(largest, logits[i])
    total = type(largest)(0)
    for i in range(logits.shape[0]):
        total += exp(logits[i] - largest)
    shift = largest + np.log(total)
    for i in range(logits.shape[0]):
        out[i] = (logits[i] - largest) - (shift - largest)


@scalar
def entropy(log_p: Any) -> Any:
    """- sum p log p, nats."""
    total = type(log_p[0])(0)
    for i in range(log_p.shape[0]):
        p = exp(log_p[i])
        if p > 0:
            total -= p * log_p[i]
    return total


@scalar
def normal_log_density(value: Any, mean: Any, log_std: Any) -> Any:
    """(log Normal(value; mean, std), z)"""
    kind = type(mean)
    z = (value - mean) * exp(-log_std)
    return -kind(0.5) * z * z - log_std - kind(_HALF_LOG_TWO_PI), z


@scalar
def softplus(x: Any) -> Any:
    """log(1 + e^x) without overflow."""
    return max(x, type(x)(0)) + np.log1p(exp(-abs(x)))


@scalar
def surrogate(ratio: Any, advantage: Any, clip_low: Any, clip_high: Any) -> Any:
    """(min(ratio A, clip(ratio) A), is the unclipped branch the minimum?)"""
    one = type(ratio)(1)
    unclipped = ratio * advantage
    clipped = min(max(ratio, one - clip_low), one + clip_high) * advantage
    return (unclipped, True) if unclipped <= clipped else (clipped, False)


@scalar
def outcome_loss(mean: Any, log_error: Any, log_noise: Any, outcome: Any, variance: Any) -> Any:
    """(loss, d_mean, d_log_error, d_log_noise): see acbo_ref.grpo.outcome_loss_forward."""
    kind = type(mean)
    one, half = kind(1), kind(0.5)
    inverse = exp(-log_error)
    z = (outcome - mean) * inverse
    spread = variance * exp(-(log_noise + log_noise))
    loss = half * (z * z + spread) + log_error + log_noise + kind(_HALF_LOG_TWO_PI)
    return loss, -z * inverse, one - z * z, one - spread


# ------------------------------------------------------------------------------------------------ of all decisions


@kernel
def _advantages(rewards: Array, group_scale: bool, divisor: float, out: Array) -> None:
    """Group-relative advantages (E, K, G): over (group standard deviation + epsilon), or over `divisor`."""
    kind = rewards.dtype.type
    size = rewards.shape[2]
    for e in range(rewards.shape[0]):
        for k in range(rewards.shape[1]):
            group = rewards[e, k]
            low, high, total = group[0], group[0], kind(0)
            for g in range(size):
                low, high = min(low, group[g]), max(high, group[g])
                total += group[g]
            mean, squares = total / kind(size), kind(0)
            for g in range(size):
                squares += (group[g] - mean) * (group[g] - mean)
            scale = np.sqrt(squares / kind(size)) + kind(ADVANTAGE_EPSILON) if group_scale else kind(divisor)
            for g in range(size):
                out[e, k, g] = kind(0) if low == high and total == total else (group[g] - mean) / scale


def advantages(rewards: Array, scale: str, out: Array) -> Array:
    """Group-relative advantages of rewards (E, K, G) into out; see acbo_ref.grpo.advantages."""
    divisor = float(rewards.std()) + ADVANTAGE_EPSILON if scale == "batch" else 1.0
    _advantages(rewards, scale == "group", divisor, out)
    return out


@kernel
def _loss(
    outputs: Outputs,
    batch: Batch,
    total_episodes: int,
    learned_std: bool,
    log_fixed_std: float,
    weights: tuple[float, float, float, float, float],
    value_weight: Array,
    out_weight: Array,
    out_bias: Array,
    d: Outputs,
    d_value_weight: Array,
    d_out_weight: Array,
    d_out_bias: Array,
    log_p: Array,
    scratch: Array,
    terms: Array,
) -> None:
    """Terms summed over these episodes, terms (7,), and the gradients of the loss of a minibatch of `total_episodes`.

    Args:
        weights: clip_low, clip_high and the coefficients of entropy, parents and outcomes.
        out_weight, d_out_weight: (3, D/2), transposed; d_value_weight (6, D/2), d_out_bias (3,).
        log_p: (V,) scratch; scratch: (2 D/2 + 6,).
    """
    num_episodes, steps, width = outputs.logits.shape
    group, draws, half = batch.variable.shape[2], batch.draw_variable.shape[2], outputs.hidden.shape[3]
    kind = outputs.logits.dtype.type
    one, zero = kind(1), kind(0)
    clip_low, clip_high = kind(weights[0]), kind(weights[1])
    per_candidate = kind(1.0 / (total_episodes * steps * group))
    per_decision = 1.0 / (total_episodes * steps)
    entropy_share, parent_share = kind(weights[2] * per_decision), kind(weights[3] * per_decision)
    outcome_share = kind(weights[4] / (total_episodes * steps * draws))
    log_bound, a, c = kind(LOG_STD_BOUND), kind(GELU_A), kind(GELU_C)
    before, after, features = scratch[:half], scratch[half : 2 * half], scratch[2 * half :]
    p = log_p
    terms[:] = 0.0
    d_value_weight[:] = zero
    d_out_weight[:] = zero
    d_out_bias[:] = zero
    d.logits[:] = zero
    d.means[:] = zero
    d.log_stds[:] = zero
    d.hidden[:] = zero
    d.slope[:] = zero
    for e in range(num_episodes):
        num_parents = zero
        for i in range(width):
            num_parents += kind(batch.parent_mask[e, i])
        for k in range(steps):
            # candidates: the clipped surrogate
            log_softmax(outputs.logits[e, k], p)
            whole = zero
            for g in range(group):
                i, advantage = batch.variable[e, k, g], batch.advantage[e, k, g]
                log_std = outputs.log_stds[e, k, i] if learned_std else kind(log_fixed_std)
                density, z = normal_log_density(batch.value[e, k, g], outputs.means[e, k, i], log_std)
                log_ratio = p[i] + density - batch.old_log_prob[e, k, g]
                ratio = exp(log_ratio)
                objective, is_unclipped = surrogate(ratio, advantage, clip_low, clip_high)
                d_log_prob = -per_candidate * advantage * kind(is_unclipped) * ratio
                d.logits[e, k, i] += d_log_prob
                whole += d_log_prob
                d.means[e, k, i] += d_log_prob * z * exp(-log_std)
                d.log_stds[e, k, i] += d_log_prob * (z * z - one)
                terms[0] -= objective
                terms[4] += ratio - one - log_ratio
                terms[5] += ratio < one - clip_low and advantage < 0
                terms[6] += ratio > one + clip_high and advantage > 0
            # entropy of the choice, and what the log-softmax passes to all logits
            h = entropy(p)
            terms[1] += h
            for i in range(width):
                probability = exp(p[i])
                logarithm = p[i] if probability > 0 else zero
                d.logits[e, k, i] += probability * (entropy_share * (logarithm + h) - whole)
            # parents
            for i in range(width):
                d.parent_logits[e, k, i] = zero
                if batch.parent_mask[e, i]:
                    x, truth = outputs.parent_logits[e, k, i], kind(batch.parents[e, i])
                    terms[2] += (softplus(x) - x * truth) / num_parents
                    d.parent_logits[e, k, i] = parent_share * (sigmoid(x) - truth) / num_parents
            # outcomes, through the outcome head
            for n in range(draws):
                i = batch.draw_variable[e, k, n]
                value_features(batch.draw_value[e, k, n], features)
                mean, log_error, log_noise = outcome_head(
                    outputs.hidden[e, k, i],
                    outputs.slope[e, k, i],
                    outputs.centre[e, k, i],
                    features,
                    value_weight,
                    out_weight,
                    out_bias,
                    before,
                    after,
                )
                loss, d_mean, d_error, d_noise = outcome_loss(
                    mean, log_error, log_noise, batch.draw_outcome[e, k, n], batch.draw_variance[e, k, n]
                )
                terms[3] += loss
                d_mean *= outcome_share
                d.slope[e, k, i] += d_mean * (features[0] - outputs.centre[e, k, i])
                bent_error, bent_noise = log_error / log_bound, log_noise / log_bound
                d0 = kind(HALF_WIDTH) * d_mean
                d1 = outcome_share * d_error * (one - bent_error * bent_error)
                d2 = outcome_share * d_noise * (one - bent_noise * bent_noise)
                d_out_bias[0] += d0
                d_out_bias[1] += d1
                d_out_bias[2] += d2
                for j in range(half):
                    d_out_weight[0, j] += d0 * after[j]
                    d_out_weight[1, j] += d1 * after[j]
                    d_out_weight[2, j] += d2 * after[j]
                    back = d0 * out_weight[0, j] + d1 * out_weight[1, j] + d2 * out_weight[2, j]
                    back *= gelu_slope(before[j], one, a, c)
                    before[j] = back
                    d.hidden[e, k, i, j] += back
                for f in range(VALUE_FEATURES):
                    for j in range(half):
                        d_value_weight[f, j] += features[f] * before[j]


def loss_and_gradient(
    space: Workspace, params: Params, outputs: Outputs, batch: Batch, total_episodes: int, fixed_std: float,
    learned_std: bool, weights: LossWeights, grads: Params,
) -> tuple[Array, Outputs]:  # fmt: skip
    """Sums of the terms over these episodes (see `mean_terms`), and the gradients of the outputs of the loss of the minibatch of
    `total_episodes` that they are of; those of the outcome head's own parameters are written to grads."""
    half = outputs.hidden.shape[3]
    d = Outputs(*(space("d." + name, *array.shape) for name, array in zip(Outputs._fields, outputs, strict=True)))
    out_weight, d_out_weight = space("outcome.transposed", 3, half), space("d.outcome.transposed", 3, half)
    np.copyto(out_weight, params["outcome_head.out.weight"].T)
    terms = space("terms", len(TERMS), dtype=np.float64)
    _loss(
        outputs, batch, total_episodes, learned_std, math.log(fixed_std),
        (weights.clip_low, weights.clip_high, weights.entropy, weights.parent, weights.outcome),
        params["outcome_head.value.weight"], out_weight, params["outcome_head.out.bias"], d,
        grads["outcome_head.value.weight"], d_out_weight, grads["outcome_head.out.bias"],
        space("log_p", outputs.logits.shape[2]), space("outcome.scratch", 2 * half + VALUE_FEATURES), terms,
    )  # fmt: skip
    np.copyto(grads["outcome_head.out.weight"], d_out_weight.T)
    return terms, d


def mean_terms(sums: Array, num_episodes: int, batch: Batch, weights: LossWeights) -> tuple[float, dict[str, float]]:
    """(loss, terms) of a minibatch from the sums over its episodes."""
    decisions = num_episodes * batch.variable.shape[1]
    group, draws = batch.variable.shape[2], batch.draw_variable.shape[2]
    counts = (decisions * group, decisions, decisions, decisions * draws, *(3 * [decisions * group]))
    found = {name: float(s) / n for name, s, n in zip(TERMS, sums, counts, strict=True)}
    loss = (
        found["surrogate"]
        - weights.entropy * found["entropy"]
        + weights.parent * found["parent_loss"]
        + weights.outcome * found["outcome_loss"]
    )
    return loss, found
