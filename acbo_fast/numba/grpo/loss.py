"""Twin of acbo_ref/grpo/loss.py: the loss and its gradient with respect to the network's outputs,
in one pass over the decisions.

Letters: E episodes, K decisions, G candidates, N = G + P judged actions, V variables.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from acbo_fast.numba.kernels import exp, kernel, scalar, sigmoid
from acbo_fast.numba.policy.heads import (
    OutcomeWeights,
    outcome_head,
    outcome_head_backward,
    outcome_weights,
    value_features,
)
from acbo_fast.numba.policy.layers import log_softmax, softplus
from acbo_fast.numba.policy.local import Workings, finish, local_gradient, prepare, weigh, workings
from acbo_fast.numba.workspace import Workspace
from acbo_ref.arrays import Array, Params
from acbo_ref.grpo.loss import ADVANTAGE_EPSILON, LossBatch, LossWeights, loss_terms, total_loss
from acbo_ref.policy.heads import VALUE_FEATURES, OutcomeState, PolicyOutputs
from acbo_ref.policy.local import LEAST_LEFT, Tried

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


# The terms of the loss and the diagnostics, in the columns of `terms`.
TERMS = (
    "clipped_objective",
    "entropy",
    "parent_loss",
    "outcome_loss",
    "edge_loss",
    "approx_kl",
    "clip_ratio_low",
    "clip_ratio_high",
)


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
def clipped_objective(ratio: Any, advantage: Any, clip_low: Any, clip_high: Any) -> Any:
    """(min(ratio A, clip(ratio) A), is the unclipped branch the minimum?)"""
    one = type(ratio)(1)
    unclipped = ratio * advantage
    clipped = min(max(ratio, one - clip_low), one + clip_high) * advantage
    return (unclipped, True) if unclipped <= clipped else (clipped, False)


@scalar
def outcome_loss(mean: Any, log_error: Any, log_noise: Any, outcome: Any, variance: Any, weight: Any) -> Any:
    """(loss, d_mean, d_log_error, d_log_noise): see acbo_ref.grpo.loss.outcome_loss_forward."""
    kind = type(mean)
    one, half = kind(1), kind(0.5)
    inverse = exp(-log_error)
    z = (outcome - mean) * inverse
    spread = variance * exp(-(log_noise + log_noise))
    loss = weight * (half * z * z + log_error + kind(_HALF_LOG_TWO_PI)) + half * spread + log_noise
    return loss, -weight * z * inverse, weight * (one - z * z), one - spread


@kernel
def _advantages(rewards: Array, group_scale: bool, divisor: float, out: Array) -> None:
    """Group-relative advantages (E, K, G): over (group standard deviation + epsilon), or over
    `divisor`.
    """
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
    """Group-relative advantages of rewards (E, K, G) into out; see
    acbo_ref.grpo.loss.advantages.
    """
    divisor = float(rewards.std()) + ADVANTAGE_EPSILON if scale == "batch" else 1.0
    _advantages(rewards, scale == "group", divisor, out)
    return out


@kernel
def _candidates(
    outputs: PolicyOutputs[Array],
    batch: LossBatch[Array],
    e: int,
    k: int,
    learned_std: bool,
    scales: Array,
    weights: LossWeights,
    d: PolicyOutputs[Array],
    log_p: Array,
    terms: Array,
) -> Any:
    """The clipped objective of one decision's candidates: terms and gradients; returns the sum of
    their d log-prob.
    """
    assert outputs.log_stds is not None and d.log_stds is not None  # always arrays here
    kind = outputs.logits.dtype.type
    one, whole = kind(1), kind(0)
    clip_low, clip_high = kind(weights.clip_low), kind(weights.clip_high)
    for g in range(batch.variable.shape[2]):
        i, advantage = batch.variable[e, k, g], batch.advantage[e, k, g]
        log_std = outputs.log_stds[e, k, i] if learned_std else kind(np.log(batch.fixed_std))
        density, z = normal_log_density(batch.value[e, k, g], outputs.means[e, k, i], log_std)
        log_ratio = log_p[i] + density - batch.old_log_prob[e, k, g]
        ratio = exp(log_ratio)
        objective, is_unclipped = clipped_objective(ratio, advantage, clip_low, clip_high)
        d_log_prob = kind(scales[0]) * advantage * kind(is_unclipped) * ratio
        d.logits[e, k, i] += d_log_prob
        whole += d_log_prob
        d.means[e, k, i] += d_log_prob * z * exp(-log_std)
        d.log_stds[e, k, i] += d_log_prob * (z * z - one)
        terms[0] += objective
        terms[5] += ratio - one - log_ratio
        terms[6] += ratio < one - clip_low and advantage < 0
        terms[7] += ratio > one + clip_high and advantage > 0
    return whole


@kernel
def _choice_and_parents(
    outputs: PolicyOutputs[Array],
    batch: LossBatch[Array],
    e: int,
    k: int,
    scales: Array,
    whole: Any,
    d: PolicyOutputs[Array],
    log_p: Array,
    terms: Array,
) -> None:
    """Entropy of the choice, what the log-softmax passes to all logits (`whole`), and the parents'
    cross-entropy.
    """
    kind = outputs.logits.dtype.type
    zero, num_parents = kind(0), kind(0)
    h = entropy(log_p)
    terms[1] += h
    for i in range(log_p.size):
        num_parents += kind(batch.parent_mask[e, i])
        probability = exp(log_p[i])
        logarithm = log_p[i] if probability > 0 else zero
        d.logits[e, k, i] -= probability * (kind(scales[1]) * (logarithm + h) + whole)
    for i in range(log_p.size):
        d.parent_logits[e, k, i] = zero
        if batch.parent_mask[e, i]:
            x, truth = outputs.parent_logits[e, k, i], kind(batch.parents[e, i])
            terms[2] += (softplus(x) - x * truth) / num_parents
            d.parent_logits[e, k, i] = kind(scales[2]) * (sigmoid(x) - truth) / num_parents


@kernel
def _judged(
    state: OutcomeState[Array],
    batch: LossBatch[Array],
    e: int,
    k: int,
    n: int,
    scales: Array,
    head: OutcomeWeights,
    d_head: OutcomeWeights,
    d: OutcomeState[Array],
    scratch: Array,
    w: Workings,
    tried: Tried[Array],
    terms: Array,
) -> None:
    """The outcome loss of one decision's judged actions, through the outcome head and own outcomes,
    and back. state, tried and d have decisions as states, this one is number n.
    """
    kind = state.slope.dtype.type
    share = kind(scales[3])
    half = head.value.shape[1]
    before, after, features = scratch[:half], scratch[half : 2 * half], scratch[2 * half :]
    size = prepare(state, tried, n, head, w)
    w.d_residual[:size] = 0.0
    w.d_matrix[:size, :size] = 0.0
    for a in range(batch.judged_variable.shape[2]):
        i, value = batch.judged_variable[e, k, a], batch.judged_value[e, k, a]
        value_features(value, state.centre[n, i], state.spread[n, i], features)
        mean, log_error, log_noise, log_scatter = outcome_head(
            state.hidden[n, i], state.slope[n, i], state.centre[n, i], features, head, before, after
        )
        shift, left, error, posterior = 0.0, 1.0, exp(log_error), log_error
        if size:
            shift, left = weigh(state, tried, n, i, value, size, w)
            mean += error * kind(shift)
            posterior += kind(0.5 * np.log(max(left, LEAST_LEFT)))
        loss, d_mean, d_error, d_noise = outcome_loss(
            mean, posterior, log_noise, batch.judged_outcome[e, k, a], batch.judged_variance[e, k, a],
            batch.judged_weight[e, k, a],
        )  # fmt: skip
        terms[3] += loss
        d_mean, d_error = d_mean * share, d_error * share
        if size:
            d_asked, d_length = local_gradient(
                np.float64(d_mean), np.float64(d_error), np.float64(error), shift, left, size, w
            )
            d_error = kind(d_asked)
            d.log_length[n, i] += kind(d_length)
        d.slope[n, i] += d_mean * (features[0] - state.centre[n, i])
        outcome_head_backward(
            d_mean, d_error, share * d_noise, kind(0), log_error, log_noise, log_scatter, features, before, after, head,
            d.hidden[n, i], d_head,
        )  # fmt: skip
    finish(state, tried, n, size, head, w, d, d_head)


@kernel
def edge_losses(edge_logits: Array, causes: Array, mask: Array, share: float, d_edge_logits: Array) -> Any:
    """The sum over decisions of edge_loss_forward's means, and `share` times their gradient,
    written; logits (E, K, V, V, 2), causes (E, V, V, 2), mask (E, V, V).
    """
    kind = edge_logits.dtype.type
    total = 0.0
    for e in range(edge_logits.shape[0]):
        number = 0
        for i in range(mask.shape[1]):
            for j in range(mask.shape[1]):
                number += mask[e, i, j]
        each = 1.0 / max(2 * number, 1)
        for k in range(edge_logits.shape[1]):
            for i in range(mask.shape[1]):
                for j in range(mask.shape[1]):
                    for answer in range(2):
                        d_edge_logits[e, k, i, j, answer] = kind(0)
                        if mask[e, i, j]:
                            x, truth = edge_logits[e, k, i, j, answer], kind(causes[e, i, j, answer])
                            total += each * (softplus(x) - x * truth)
                            d_edge_logits[e, k, i, j, answer] = kind(share * each) * (sigmoid(x) - truth)
    return total


@kernel
def _loss(
    outputs: PolicyOutputs[Array],
    batch: LossBatch[Array],
    learned_std: bool,
    scales: Array,
    weights: LossWeights,
    head: OutcomeWeights,
    d: PolicyOutputs[Array],
    d_head: OutcomeWeights,
    state: OutcomeState[Array],
    d_state: OutcomeState[Array],
    tried: Tried[Array],
    log_p: Array,
    scratch: Array,
    w: Workings,
    terms: Array,
) -> None:
    """Terms summed over these episodes, terms (8,), and the gradients of the minibatch's loss that
    these episodes give; edges apart.

    Args:
        scales: (5,) float64, d loss / d of each single summand of the terms.
        state, d_state: views of the outcome head's state in outputs and d, with decisions as
            states; tried: likewise.
        log_p: (V,) scratch; scratch: (2 H/2 + 6,).
    """
    assert d.log_stds is not None
    zero = outputs.logits.dtype.type(0)
    terms[:] = 0.0
    d_head.value[:] = zero
    d_head.out[:] = zero
    d_head.bias[:] = zero
    d.logits[:] = zero
    d.means[:] = zero
    d.log_stds[:] = zero
    d.outcome.hidden[:] = zero
    d.outcome.slope[:] = zero
    d.outcome.log_length[:] = zero
    for e in range(outputs.logits.shape[0]):
        for k in range(outputs.logits.shape[1]):
            log_softmax(outputs.logits[e, k], log_p)
            whole = _candidates(outputs, batch, e, k, learned_std, scales, weights, d, log_p, terms)
            _choice_and_parents(outputs, batch, e, k, scales, whole, d, log_p, terms)
            n = e * outputs.logits.shape[1] + k
            _judged(state, batch, e, k, n, scales, head, d_head, d_state, scratch, w, tried, terms)


def loss_and_gradient(
    space: Workspace, params: Params, outputs: PolicyOutputs[Array], batch: LossBatch[Array], total_episodes: int,
    learned_std: bool, weights: LossWeights, grads: Params,
) -> tuple[Array, PolicyOutputs[Array]]:  # fmt: skip
    """Sums of the terms over these episodes (see `mean_terms`), and the gradients of the outputs of
    the loss of the minibatch of `total_episodes` that they are of; those of the outcome head's own
    parameters are written to grads."""
    half = outputs.outcome.hidden.shape[3]

    def like(name: str, array: Array) -> Array:
        return space("d." + name, *array.shape)

    assert outputs.log_stds is not None  # always an array here
    d = PolicyOutputs(
        logits=like("logits", outputs.logits),
        means=like("means", outputs.means),
        log_stds=like("log_stds", outputs.log_stds),
        parent_logits=like("parent_logits", outputs.parent_logits),
        outcome=OutcomeState(*(like(n, a) for n, a in zip(OutcomeState._fields, outputs.outcome, strict=True))),
    )
    head = outcome_weights(space, params)
    weight, value, bias = "outcome_head.out.weight", "outcome_head.value.weight", "outcome_head.out.bias"
    d_head = OutcomeWeights(grads[value], space("d.outcome.transposed", *head.out.shape), grads[bias])
    terms, tried = space("terms", len(TERMS), dtype=np.float64), Tried(*map(_states, batch.tried))
    counts, coefficients = _counts(total_episodes, batch), loss_terms(weights)
    scales = np.array([coefficients[name] / count for name, count in zip(coefficients, counts, strict=False)])
    _loss(
        outputs._replace(edge_logits=None), batch, learned_std, scales, weights, head, d, d_head,
        OutcomeState(*map(_states, outputs.outcome)), OutcomeState(*map(_states, d.outcome)), tried,
        space("log_p", outputs.logits.shape[2]), space("outcome.scratch", 2 * half + VALUE_FEATURES),
        workings(space, tried.counts.shape[1], half), terms,
    )  # fmt: skip
    np.copyto(grads[weight], d_head.out.T)
    if outputs.edge_logits is None:
        return terms, d
    d_edges = like("edge_logits", outputs.edge_logits)
    terms[TERMS.index("edge_loss")] = edge_losses(
        outputs.edge_logits, batch.causes, batch.edge_mask, scales[4], d_edges
    )
    return terms, d._replace(edge_logits=d_edges)


def _states(array: Array) -> Array:
    """(E, K, ...) -> (E K, ...), a view."""
    return array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])


def _counts(num_episodes: int, batch: LossBatch[Array]) -> tuple[int, ...]:
    """How many numbers each of TERMS is the mean of."""
    decisions = num_episodes * batch.variable.shape[1]
    candidates, judged = decisions * batch.variable.shape[2], decisions * batch.judged_variable.shape[2]
    return candidates, decisions, decisions, judged, decisions, candidates, candidates, candidates


def mean_terms(
    sums: Array, num_episodes: int, batch: LossBatch[Array], weights: LossWeights
) -> tuple[float, dict[str, float]]:
    """(loss, terms) of a minibatch from the sums over its episodes."""
    counts = _counts(num_episodes, batch)
    found = {name: float(total) / count for name, total, count in zip(TERMS, sums, counts, strict=True)}
    return total_loss(found, weights), found


@kernel
def parent_entropies(parent_logits: Array, parent_mask: Array, out: Array) -> None:
    """Entropy of the parent posterior, nats: (E, V) -> (E,)."""
    for e in range(parent_logits.shape[0]):
        total = parent_logits.dtype.type(0)
        for i in range(parent_logits.shape[1]):
            if parent_mask[e, i]:
                x = parent_logits[e, i]
                total += softplus(x) - x * sigmoid(x)
        out[e] = total
