"""Local evidence: what own experiments said counts where they were made.

The outcome head describes a system as a whole: of any action a mean m, its error e, and the scatter
s of own outcomes. What was measured is compared with it. The description's mistake at value u of
variable i is taken for a Gaussian process with standard deviation e and a correlation that falls
with the distance in the domain (Rasmussen & Williams 2006, eq. 2.25 and 2.26):

    correlation     k(p, q) = exp(-(u_p - u_q)^2 / 2 l_i^2) for the same variable i, else 0
    own outcomes    y_p = m_p + e_p f_p + s_p noise,          f ~ N(0, k)
    B = k + diag(max(s_p^2 / e_p^2, LEAST_RATIO)),    w_q = B^-1 k_q,    r_p = (y_p - m_p) / e_p
    mean_q = m_q + e_q w_q . r,     error_q = e_q sqrt(1 - k_q . w_q)

So whatever the network believes, n repetitions leave an error of at most s / sqrt(n) at that very
action, and far from what was tried its word is as good as before. With no own outcome nothing
changes.

Noise is seen through: an own outcome also moved because other variables did, of themselves. What
each of them moved it by, its direct effect times its deviation, is taken off, as far as it is not a
consequence of the action, which the edge head judges (`own_outcomes`).

Contract: own outcomes are data: no gradient passes into them, nor into what is taken off them.
Letters: N states, M actions asked about, R own outcomes, V variables, H size of the hidden layer.
"""

from __future__ import annotations

from typing import Generic, NamedTuple

import numpy as np

from acbo_ref.arrays import A, Array, Params
from acbo_ref.policy.evidence import DIRECT_EFFECT, EFFECTS, slope_features
from acbo_ref.policy.heads import OutcomeCache, OutcomePrediction, OutcomeState, outcome_backward, outcome_forward
from acbo_ref.policy.inputs import HALF_WIDTH, OUTCOME_BOUND, Task, Units, deviations
from acbo_ref.policy.layers import sigmoid

# One outcome makes an error this much smaller at most, as a square: it keeps B well conditioned.
LEAST_RATIO = 1e-3
# 1 - k . w is not taken for less than this: rounding could make it negative.
LEAST_LEFT = 1e-6
# So many of the newest own outcomes count locally. Older ones count through the moments alone.
MOST_TRIED = 256


class Tried(NamedTuple, Generic[A]):
    """Own outcomes, (N, R) each: the variable that was set, its standard value, the standard
    outcome, and whether it counts (bool).
    """

    variable: A
    value: A
    outcome: A
    counts: A


class OwnRows(NamedTuple, Generic[A]):
    """The rows of own experiments: `tried` (N, R) with the outcomes as measured, and `others` (N,
    R, V), the deviations of all other variables but the target, in half domains.
    """

    tried: Tried[A]
    others: A


def no_own_rows(num_states: int, width: int) -> OwnRows[Array]:
    """Before the first experiment."""
    nothing = np.zeros((num_states, 0))
    tried = Tried(nothing.astype(int), nothing, nothing, nothing.astype(bool))
    return OwnRows(tried, np.zeros((num_states, 0, width)))


def own_row_added(own: OwnRows[Array], task: Task, units: Units[Array], was_set: Array, rows: Array) -> OwnRows[Array]:
    """With one raw row (N, V) more of each system, of which the newest MOST_TRIED are kept.

    Args:
        was_set: (N, V) bool; a row in which not just one variable was set does not count.
    """
    each, target = np.arange(len(rows)), task.target
    variable, counts = was_set.argmax(axis=1), was_set.sum(axis=1) == 1
    standard = np.where(task.valid, (rows - units.location) / units.scale, 0.0)
    outcome = np.clip(standard[each, target], -OUTCOME_BOUND, OUTCOME_BOUND)
    row = Tried(variable, standard[each, variable], outcome, counts)
    tried = Tried(*(np.concatenate([old, new[:, None]], axis=1) for old, new in zip(own.tried, row, strict=True)))
    du = np.where(was_set | task.is_target, 0.0, deviations(units, task.valid, rows[:, None])[:, 0])
    others = np.concatenate([own.others, du[:, None]], axis=1)
    return OwnRows(Tried(*(array[:, -MOST_TRIED:] for array in tried)), others[:, -MOST_TRIED:])


def own_outcomes(own: OwnRows[Array], cause_logits: Array, evidence: Array) -> Tried[Array]:
    """The own outcomes without what other variables did to them of themselves:

        y_p - sum_j (1 - P(i_p is a cause of j)) direct_j du_pj

    Args:
        cause_logits: (N, V, V), entry i, j of i as a cause of j at all.
        evidence: (N, V, F), with the direct effects.
    """
    direct = slope_features(evidence)[..., EFFECTS.index(DIRECT_EFFECT)]
    each = np.arange(len(direct))[:, None]
    not_caused = sigmoid(-cause_logits[each, own.tried.variable])  # (N, R, V)
    moved = (not_caused * own.others * direct[:, None]).sum(axis=-1)
    bounded = np.clip(moved, -OUTCOME_BOUND, OUTCOME_BOUND)
    return own.tried._replace(outcome=own.tried.outcome - bounded)


# ---------------------------------------------------------------------------------------- posterior


class LocalCache(NamedTuple):
    """What `local_backward` needs: k of own outcomes (N, R, R) and of asked actions with them (N,
    M, R), squared distances in lengths for both, w (N, M, R), r and B^-1 r (N, R), 1 - k . w (N,
    M), and s^2 / e^2 (N, R), 0 where it is below its floor; bool: where 1 - k . w is above its own,
    and which own outcomes count.
    """

    own: Array
    asked: Array
    own_distance: Array
    asked_distance: Array
    weight: Array
    residual: Array
    solved: Array
    left: Array
    ratio: Array
    is_left: Array
    counts: Array


def _correlation(
    p_variable: Array, p_value: Array, p_log_length: Array, q_variable: Array, q_value: Array
) -> tuple[Array, Array]:
    """k (N, P, Q) and the squared distance in lengths of p."""
    gap = (p_value[:, :, None] - q_value[:, None, :]) / HALF_WIDTH
    distance = (gap * np.exp(-p_log_length)[:, :, None]) ** 2
    same = p_variable[:, :, None] == q_variable[:, None, :]
    return np.where(same, np.exp(-0.5 * distance), 0.0), distance


def local_forward(
    asked: OutcomePrediction[Array],
    known: OutcomePrediction[Array],
    variable: Array,
    value: Array,
    asked_log_length: Array,
    known_log_length: Array,
    tried: Tried[Array],
) -> tuple[OutcomePrediction[Array], LocalCache]:
    """Predictions (N, M) after the own outcomes.

    Args:
        asked: what the outcome head says of the M actions variable, value; known: what it says of
            the R own ones.
        asked_log_length, known_log_length: (N, M) and (N, R), of their variables.
    """
    counts, dtype = tried.counts, asked.mean.dtype
    own, own_distance = _correlation(tried.variable, tried.value, known_log_length, tried.variable, tried.value)
    own = np.where(counts[:, :, None] & counts[:, None, :], own, 0.0).astype(dtype)
    of_asked, asked_distance = _correlation(variable, value, asked_log_length, tried.variable, tried.value)
    of_asked = np.where(counts[:, None, :], of_asked, 0.0).astype(dtype)
    ratio = np.exp(2.0 * (known.log_scatter - known.log_error))
    each = np.arange(counts.shape[1])
    matrix = own.copy()
    matrix[:, each, each] = 1.0 + np.where(counts, np.maximum(ratio, LEAST_RATIO), 0.0)
    inverse = np.linalg.inv(matrix)
    residual = np.where(counts, (tried.outcome - known.mean) * np.exp(-known.log_error), 0.0).astype(dtype)
    weight, solved = of_asked @ inverse, (inverse @ residual[..., None])[..., 0]
    left = 1.0 - (of_asked * weight).sum(axis=-1)
    is_left = left > LEAST_LEFT
    left = np.maximum(left, LEAST_LEFT)
    mean = asked.mean + np.exp(asked.log_error) * (of_asked @ solved[..., None])[..., 0]
    ratio = np.where(counts & (ratio > LEAST_RATIO), ratio, 0.0)
    cache = LocalCache(
        own, of_asked, own_distance, asked_distance, weight, residual, solved, left, ratio, is_left, counts
    )
    return asked._replace(mean=mean, log_error=asked.log_error + 0.5 * np.log(left)), cache


def local_backward(
    d: OutcomePrediction[Array], asked: OutcomePrediction[Array], known: OutcomePrediction[Array], cache: LocalCache
) -> tuple[OutcomePrediction[Array], OutcomePrediction[Array], Array, Array]:
    """d_asked, d_known, d_asked_log_length and d_known_log_length of `local_forward`.

    With b = B^-1 r and q = 1 - k . w: mean = m + e k . b and log error = log e + log(q) / 2, so

        d k = e b d_mean - w d_log_error / q
        d r = sum e w d_mean,       d B = - d_r b^T + sum w w^T d_log_error / 2 q
    and d k / d log l = k distance,  d (s^2 / e^2) = 2 s^2 / e^2 (d log s - d log e),
    d r = - d m / e - r d log e.
    """
    moved = d.mean * np.exp(asked.log_error)
    per_left = np.where(cache.is_left, d.log_error / cache.left, 0.0)
    d_k = moved[..., None] * cache.solved[:, None] - per_left[..., None] * cache.weight
    d_residual = (moved[:, None] @ cache.weight)[:, 0]
    d_matrix = (cache.weight * (0.5 * per_left)[..., None]).swapaxes(1, 2) @ cache.weight
    d_matrix = d_matrix - d_residual[:, :, None] * cache.solved[:, None]
    d_ratio = 2.0 * cache.ratio * np.diagonal(d_matrix, axis1=1, axis2=2)
    shift = (cache.asked @ cache.solved[..., None])[..., 0]
    d_asked = d._replace(log_error=d.log_error + moved * shift)
    d_known = OutcomePrediction(
        mean=np.where(cache.counts, -d_residual * np.exp(-known.log_error), 0.0),
        log_error=-d_residual * cache.residual - d_ratio,
        log_noise=np.zeros_like(d_ratio),
        log_scatter=d_ratio,
    )
    d_asked_log_length = (d_k * cache.asked * cache.asked_distance).sum(axis=2)
    d_known_log_length = (d_matrix * cache.own * cache.own_distance).sum(axis=2)
    return d_asked, d_known, d_asked_log_length, d_known_log_length


# ---------------------------------------------------------------------------------- with the head


class PredictCache(NamedTuple):
    """What `predict_backward` needs: the variables (N, M + R) asked about and tried, of how many,
    what the head said of each, and the caches.
    """

    variables: Array
    width: int
    asked: OutcomePrediction[Array]
    known: OutcomePrediction[Array]
    outcome: OutcomeCache
    local: LocalCache


def predict_forward(
    params: Params, state: OutcomeState[Array], tried: Tried[Array], variable: Array, value: Array
) -> tuple[OutcomePrediction[Array], PredictCache]:
    """What is expected of actions variable, standard value (N, M), from the outcome head and own
    outcomes.

    Args:
        state: the outcome head's state of each variable, leading axes (N, V).
    """
    number = variable.shape[1]
    variables = np.concatenate([variable, tried.variable], axis=1)
    values = np.concatenate([value, tried.value.astype(value.dtype)], axis=1)
    each = np.arange(len(variables))[:, None]
    at = OutcomeState(*(array[each, variables] for array in state))
    predicted, outcome_cache = outcome_forward(params, at, values)
    asked = OutcomePrediction(*(array[:, :number] for array in predicted))
    known = OutcomePrediction(*(array[:, number:] for array in predicted))
    lengths = at.log_length[:, :number], at.log_length[:, number:]
    result, local_cache = local_forward(asked, known, variable, value, *lengths, tried)
    return result, PredictCache(variables, state.slope.shape[1], asked, known, outcome_cache, local_cache)


def predict_backward(
    params: Params, d: OutcomePrediction[Array], cache: PredictCache, grads: Params
) -> OutcomeState[Array]:
    """d_state of `predict_forward`; the outcome head's own gradients go to `grads`."""
    d_asked, d_known, *d_lengths = local_backward(d, cache.asked, cache.known, cache.local)
    both = OutcomePrediction(*(np.concatenate(pair, axis=1) for pair in zip(d_asked, d_known, strict=True)))
    d_at = outcome_backward(params, both, cache.outcome, grads)
    each = np.arange(len(cache.variables))[:, None]

    def back(array: Array) -> Array:
        """The sum of what is about each variable: (N, M + R, ...) -> (N, V, ...)."""
        out = np.zeros((len(array), cache.width, *array.shape[2:]), array.dtype)
        np.add.at(out, (each, cache.variables), array)
        return out

    slope = back(d_at.slope)
    nothing = np.zeros_like(slope)
    return OutcomeState(back(d_at.hidden), slope, nothing, nothing, back(np.concatenate(d_lengths, axis=1)))
