"""Group Relative Policy Optimization on interventions, with every gradient by hand.

In each state (episode e, decision k) G candidates (variable, value) are drawn and judged on the
same exogenous noise, so their rewards differ by what was done and by nothing else; what each is
rewarded for is in credit.py. Following Shao et al. 2024 ("DeepSeekMath", eq. 3 without its
Kullback-Leibler term, and section 4.1.2 for the advantage), with the clipped objective of Schulman
et al. 2017 (eq. 7):

    A = (r - mean_g r) / (std_g r + 1e-4)
    ratio = exp(log pi(a) - log pi_old(a))
    loss = - mean min(ratio A, clip(ratio, 1 - eps_low, 1 + eps_high) A)     clipped objective
           - c_entropy mean H(variable choice)
           + c_parent  mean BCE(parent logits, true parents)
           + c_outcome mean NLL(outcome head, mean and spread of the judged outcomes)
           + c_edge    mean BCE(edge logits, true edges)                     pairwise trunk

In the outcome term every label has a weight, error^(2 beta) with the error predicted when the
episode was played (`label_weights`): else the gradient of the mean, z / error, comes nearly all
from states in which little is left to learn (Seitzer et al. 2022, "On the Pitfalls of
Heteroscedastic Uncertainty Estimation", eq. 4).

Means are taken within an episode first and then over episodes, so every episode weighs the same
whatever its padding. There is no Kullback-Leibler penalty: the reference policy of language models
has no counterpart here.

Contract: functions of arrays; no sampling, no network, no optimiser.
Letters: E episodes, K decisions, G candidates, P probes, N = G + P judged actions, V variables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from acbo_ref.arrays import A, Array, Params
from acbo_ref.policy.heads import OutcomePrediction, OutcomeState, PolicyOutputs
from acbo_ref.policy.layers import log_softmax, one_hot, sigmoid, softplus
from acbo_ref.policy.local import PredictCache, Tried, predict_backward, predict_forward

ADVANTAGE_EPSILON = 1e-4
_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


Number = TypeVar("Number")  # a float, or a traced number of an accelerated backend


class LossWeights(NamedTuple):
    """Coefficients of the loss, and the clip range."""

    clip_low: float
    clip_high: float
    entropy: float
    parent: float
    outcome: float
    edge: float


def loss_terms(weights: LossWeights) -> dict[str, float]:
    """{term: coefficient}: the loss is the sum of these terms, each times its coefficient. Every
    backend reads this table.
    """
    return {
        "clipped_objective": -1.0,
        "entropy": -weights.entropy,
        "parent_loss": weights.parent,
        "outcome_loss": weights.outcome,
        "edge_loss": weights.edge,
    }


def total_loss(terms: Mapping[str, Number], weights: LossWeights) -> Number:
    """The loss from its terms: NumPy's numbers, or traced ones."""
    parts: list[Any] = [coefficient * terms[name] for name, coefficient in loss_terms(weights).items()]  # type: ignore[operator]
    return parts[0] + parts[1] + parts[2] + parts[3] + parts[4]


class LossBatch(NamedTuple, Generic[A]):
    """What the loss needs besides the network's outputs.

    Args:
        variable, value, old_log_prob, advantage: (E, K, G), of the candidates.
        judged_variable, judged_value: (E, K, N), the candidates followed by the probes, values
            standard.
        judged_outcome, judged_variance: (E, K, N), mean and variance of the outcome, standard
            units.
        judged_weight: (E, K, N), see label_weights.
        parents, parent_mask: (E, V) bool: truth, and the variables that count (valid and not the
            target).
        causes, edge_mask: (E, V, V, 2) and (E, V, V) bool: is i a direct cause of j, and a cause at
            all, and the pairs that count (see `edge_mask`).
        tried: own outcomes before each decision, (E, K, R) each, see local.Tried.
        fixed_std: of the value, standard units.
    """

    variable: A
    value: A
    old_log_prob: A
    advantage: A
    judged_variable: A
    judged_value: A
    judged_outcome: A
    judged_variance: A
    judged_weight: A
    parents: A
    parent_mask: A
    causes: A
    edge_mask: A
    tried: Tried[A]
    fixed_std: A | float


class LogProbCache(NamedTuple):
    """log p (E, K, V), one-hot choice (E, K, G, V), z and log-std (E, K, G)."""

    log_p: Array
    chosen: Array
    z: Array
    log_std: Array


class EntropyCache(NamedTuple):
    """p and log p (..., V), H (...)."""

    p: Array
    log_p: Array
    entropy: Array


class OutcomeLossCache(NamedTuple):
    """z, variance / noise^2, 1 / error, and the labels' weights, (...) each."""

    z: Array
    spread: Array
    inverse_error: Array
    weight: Array


class LossCache(NamedTuple):
    """What `loss_backward` needs."""

    ratio: Array
    is_unclipped: Array
    log_prob: LogProbCache
    entropy: EntropyCache
    parent: Array
    edges: Array | None
    outcome: PredictCache
    nll: OutcomeLossCache


# ------------------------------------------------------------------------------ advantages


def parent_entropy(parent_logits: Array, parent_mask: Array) -> Array:
    """Entropy in nats of the parent posterior, independent Bernoullis: sum_i H(sigmoid(logit_i));
    (..., V) -> (...).

    H = softplus(x) - x sigmoid(x), which needs no logarithm of a small probability.
    """
    probability = sigmoid(parent_logits)
    return np.asarray(((softplus(parent_logits) - parent_logits * probability) * parent_mask).sum(axis=-1))


def advantages(rewards: Array, scale: str) -> Array:
    """Group-relative advantages of rewards (E, K, G).

    The mean is the group's. The divisor is the two-pass standard deviation (ddof 0) of the group,
    of the whole batch, or 1 for scale "none". A group whose rewards are all equal gets exactly 0,
    also where its mean is not exact.
    """
    centred = rewards - rewards.mean(axis=-1, keepdims=True)
    centred = np.where(zero_std_groups(rewards)[..., None], 0.0, centred)
    if scale == "none":
        return np.asarray(centred)
    if scale == "batch":
        std = np.sqrt(((rewards - rewards.mean()) ** 2).mean())
    else:
        std = np.sqrt((centred**2).mean(axis=-1, keepdims=True))
    return np.asarray(centred / (std + ADVANTAGE_EPSILON))


def zero_std_groups(rewards: Array) -> Array:
    """(E, K) bool: groups whose rewards are all equal; they teach nothing."""
    return np.asarray(rewards.max(axis=-1) == rewards.min(axis=-1))


def log_prob_forward(
    outputs: PolicyOutputs[Array], variable: Array, value: Array, fixed_std: Array | float
) -> tuple[Array, LogProbCache]:
    """log pi(variable, value) = log softmax(logits)[variable] + log Normal(value; mean_variable,
    std_variable).

    Args:
        outputs: logits and means (E, K, V).
        variable, value: (E, K, G); the value is the draw before it is clipped to the domain.
        fixed_std: used where the policy has no log_stds of its own.
    Returns:
        (E, K, G)
    """
    log_p = log_softmax(outputs.logits)
    chosen = one_hot(variable, log_p.shape[-1], log_p.dtype)  # (E, K, G, V)
    mean = (chosen * outputs.means[..., None, :]).sum(axis=-1)
    if outputs.log_stds is None:
        log_std = np.full_like(mean, np.log(fixed_std))
    else:
        log_std = (chosen * outputs.log_stds[..., None, :]).sum(axis=-1)
    # Taken by index: a product with the masked entries (about -1e30) would round the chosen one
    # away.
    log_choice = np.take_along_axis(log_p, variable, axis=-1)
    z = (value - mean) * np.exp(-log_std)
    return log_choice - 0.5 * z * z - log_std - _HALF_LOG_TWO_PI, LogProbCache(log_p, chosen, z, log_std)


def log_prob_backward(d_log_prob: Array, cache: LogProbCache) -> tuple[Array, Array, Array]:
    """(d_logits, d_means, d_log_stds), each (E, K, V).

    d log softmax[a] / d logit_j = 1[j = a] - p_j;  d log N / d mean = z / std;  d log N / d log std
    = z^2 - 1.
    """
    log_p, chosen, z, log_std = cache
    scattered = (d_log_prob[..., None, :] @ chosen)[..., 0, :]
    d_logits = scattered - np.exp(log_p) * d_log_prob.sum(axis=-1, keepdims=True)
    d_means = ((d_log_prob * z * np.exp(-log_std))[..., None, :] @ chosen)[..., 0, :]
    d_log_stds = ((d_log_prob * (z * z - 1.0))[..., None, :] @ chosen)[..., 0, :]
    return d_logits, d_means, d_log_stds


def clipped_objective_forward(ratio: Array, advantage: Array, clip_low: float, clip_high: float) -> tuple[Array, Array]:
    """min(ratio A, clip(ratio) A) of each candidate, and the cache: where the unclipped branch is
    the minimum.

    At a tie the unclipped branch counts; inside the clip range the two are the same number.
    """
    unclipped = ratio * advantage
    clipped = np.clip(ratio, 1.0 - clip_low, 1.0 + clip_high) * advantage
    return np.minimum(unclipped, clipped), unclipped <= clipped


def clipped_objective_backward(d_objective: Array, advantage: Array, is_unclipped: Array) -> Array:
    """d_ratio = A where the unclipped branch is active, else 0: the clipped branch is constant in
    the ratio.
    """
    return d_objective * advantage * is_unclipped


def entropy_forward(logits: Array) -> tuple[Array, EntropyCache]:
    """H = - sum_i p_i log p_i of the variable choice, nats; (..., V) -> (...)."""
    log_p = log_softmax(logits)
    p = np.exp(log_p)
    entropy = -(p * np.where(p > 0, log_p, 0.0)).sum(axis=-1)
    return entropy, EntropyCache(p, log_p, entropy)


def entropy_backward(d_entropy: Array, cache: EntropyCache) -> Array:
    """dH / dlogit_i = - p_i (log p_i + H)."""
    p, log_p, entropy = cache
    return np.asarray(-d_entropy[..., None] * p * (np.where(p > 0, log_p, 0.0) + entropy[..., None]))


def parent_loss_forward(parent_logits: Array, parents: Array, parent_mask: Array) -> tuple[Array, Array]:
    """Binary cross-entropy softplus(x) - x y, averaged over the variables that count; (E, K, V) ->
    (E, K).

    The cache is d loss / d logit = (sigmoid(x) - y) / count.
    """
    return _cross_entropy(parent_logits, parents, parent_mask, (-1,))


def _cross_entropy(logits: Array, truth: Array, mask: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """softplus(x) - x y averaged over what counts along the axes, and its slope; logits (E, K,
    ...), truth and mask (E, ...). 0 where nothing counts.
    """
    counts, is_true = (array[:, None].astype(logits.dtype) for array in (mask, truth))
    number = np.maximum(counts.sum(axis=axes, keepdims=True), 1.0)
    losses = (softplus(logits) - logits * is_true) * counts / number
    return losses.sum(axis=axes), (sigmoid(logits) - is_true) * counts / number


def edge_mask(valid: A) -> A:
    """(E, V, V) bool from valid (E, V): pairs of two variables, neither of them padding."""
    mask: A = valid[:, :, None] & valid[:, None, :] & (np.eye(valid.shape[1]) == 0)  # type: ignore[attr-defined, index]
    return mask


def edge_loss_forward(edge_logits: Array, causes: Array, mask: Array) -> tuple[Array, Array]:
    """Binary cross-entropy averaged over both answers about the pairs that count, as
    `parent_loss_forward`; (E, K, V, V, 2) -> (E, K), and the cache d loss / d logit. 0 where no
    pair counts.
    """
    both = np.broadcast_to(mask[..., None], causes.shape)
    return _cross_entropy(edge_logits, causes, both, (-3, -2, -1))


def outcome_loss_forward(
    predicted: OutcomePrediction[Array], outcome: Array, variance: Array, weight: Array
) -> tuple[Array, OutcomeLossCache]:
    """Two Gaussian negative log-likelihoods, (...): of the judged outcome, and of the spread of the
    draws around it.

        weight (0.5 z^2 + log error + 0.5 log 2 pi),      z = (outcome - mean) / error
        0.5 variance / noise^2 + log noise

    With an even number of antithetic draws, none clipped, `outcome` is the exact expectation of a
    linear model. The first term then asks for the expectation itself and for how well it is known,
    however loud the noise; the second alone is about the noise.
    """
    inverse_error = np.exp(-predicted.log_error)
    z = (outcome - predicted.mean) * inverse_error
    spread = variance * np.exp(-2.0 * predicted.log_noise)
    of_mean = weight * (0.5 * z * z + predicted.log_error + _HALF_LOG_TWO_PI)
    return of_mean + 0.5 * spread + predicted.log_noise, OutcomeLossCache(z, spread, inverse_error, weight)


def outcome_loss_backward(d_nll: Array, cache: OutcomeLossCache) -> OutcomePrediction[Array]:
    """d_mean = - weight z / error, d_log_error = weight (1 - z^2), d_log_noise = 1 - variance /
    noise^2; the scatter has no term of its own.
    """
    z, spread, inverse_error, weight = cache
    weighted = d_nll * weight
    d_noise = d_nll * (1.0 - spread)
    return OutcomePrediction(-weighted * z * inverse_error, weighted * (1.0 - z * z), d_noise, np.zeros_like(d_noise))


def label_weights(log_error: A, power: float, exp: Callable[[Any], A]) -> A:
    """error^(2 power) of predictions at the time; `exp` is the one of the arrays' kind. With power
    1 the gradient of the mean is that of a squared error, with 1/2 that in units of the error.
    """
    return exp(2.0 * power * log_error)  # type: ignore[operator]


def _states(array: Array) -> Array:
    """(E, K, ...) -> (E K, ...): every decision a state of its own."""
    return array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])


def loss_forward(
    params: Params, outputs: PolicyOutputs[Array], batch: LossBatch[Array], weights: LossWeights
) -> tuple[float, dict[str, float], LossCache]:
    """The loss of a minibatch, its terms and diagnostics, and the cache for `loss_backward`.

    Returns:
        (loss, terms, cache); `terms` has those of `loss_terms`, and approx_kl, clip_ratio_low,
        clip_ratio_high (shares of candidates whose gradient is cut at each bound).
    """
    log_prob, log_prob_cache = log_prob_forward(outputs, batch.variable, batch.value, batch.fixed_std)
    log_ratio = log_prob - batch.old_log_prob
    ratio = np.exp(log_ratio)
    objective, is_unclipped = clipped_objective_forward(ratio, batch.advantage, weights.clip_low, weights.clip_high)
    entropy, entropy_cache = entropy_forward(outputs.logits)
    parent_loss, parent_cache = parent_loss_forward(outputs.parent_logits, batch.parents, batch.parent_mask)
    state = OutcomeState(*(_states(array) for array in outputs.outcome))
    tried = Tried(*(_states(array) for array in batch.tried))
    predicted, outcome_cache = predict_forward(
        params, state, tried, _states(batch.judged_variable), _states(batch.judged_value)
    )
    labels = (_states(a) for a in (batch.judged_outcome, batch.judged_variance, batch.judged_weight))
    nll, nll_cache = outcome_loss_forward(predicted, *labels)
    edge_loss, edge_cache = 0.0, None
    if outputs.edge_logits is not None:
        edge_losses, edge_cache = edge_loss_forward(outputs.edge_logits, batch.causes, batch.edge_mask)
        edge_loss = float(edge_losses.mean())
    terms = {
        "clipped_objective": float(objective.mean()),
        "entropy": float(entropy.mean()),
        "parent_loss": float(parent_loss.mean()),
        "outcome_loss": float(nll.mean()),
        "edge_loss": edge_loss,
        # Schulman's k3 estimator of KL(old || new): never negative, exact 0 at ratio 1.
        "approx_kl": float((ratio - 1.0 - log_ratio).mean()),
        "clip_ratio_low": float(((ratio < 1.0 - weights.clip_low) & (batch.advantage < 0)).mean()),
        "clip_ratio_high": float(((ratio > 1.0 + weights.clip_high) & (batch.advantage > 0)).mean()),
    }
    cache = LossCache(
        ratio, is_unclipped, log_prob_cache, entropy_cache, parent_cache, edge_cache, outcome_cache, nll_cache
    )
    return total_loss(terms, weights), terms, cache


def loss_backward(
    params: Params,
    outputs: PolicyOutputs[Array],
    batch: LossBatch[Array],
    weights: LossWeights,
    cache: LossCache,
    grads: Params,
) -> PolicyOutputs[Array]:
    """Gradient of the loss with respect to the network's outputs; the outcome head's own go to
    `grads`.
    """
    coefficient = loss_terms(weights)
    # (1) mean objective: d_ratio, then d log-prob = d_ratio * ratio
    d_objective = np.full_like(cache.ratio, coefficient["clipped_objective"] / cache.ratio.size)
    d_log_prob = clipped_objective_backward(d_objective, batch.advantage, cache.is_unclipped) * cache.ratio
    d_logits, d_means, d_log_stds = log_prob_backward(d_log_prob, cache.log_prob)
    # (2) mean entropy
    num_decisions = cache.entropy.entropy.size
    d_entropy = np.full_like(cache.entropy.entropy, coefficient["entropy"] / num_decisions)
    d_logits = d_logits + entropy_backward(d_entropy, cache.entropy)
    # (3) mean cross-entropy
    d_parent_logits = coefficient["parent_loss"] / num_decisions * cache.parent
    # (4) mean NLL, through the outcome head and back to the variable each action was about
    d_nll = np.full_like(cache.nll.z, coefficient["outcome_loss"] / batch.judged_value.size)
    d_state = predict_backward(params, outcome_loss_backward(d_nll, cache.nll), cache.outcome, grads)
    d_outcome = OutcomeState(*(d.reshape(a.shape) for d, a in zip(d_state, outputs.outcome, strict=True)))
    return PolicyOutputs(
        logits=d_logits,
        means=d_means,
        log_stds=None if outputs.log_stds is None else d_log_stds,
        parent_logits=d_parent_logits,
        outcome=d_outcome,
        edge_logits=None if cache.edges is None else coefficient["edge_loss"] / num_decisions * cache.edges,
    )
