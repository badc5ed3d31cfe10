"""Twin of acbo_ref/policy/local.py as traced functions; gradients are JAX's.

Own outcomes have a fixed number of places, of which those that do not count are empty.
Letters: N states, M actions asked about, R own outcomes, V variables.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from acbo_fast.jax.policy.evidence import slope_features, solve
from acbo_fast.jax.policy.heads import outcome
from acbo_fast.jax.policy.inputs import deviations
from acbo_fast.jax.policy.layers import Params
from acbo_ref.policy.evidence import DIRECT_EFFECT, EFFECTS
from acbo_ref.policy.heads import OutcomePrediction, OutcomeState
from acbo_ref.policy.inputs import HALF_WIDTH, OUTCOME_BOUND, Units
from acbo_ref.policy.local import LEAST_LEFT, LEAST_RATIO, OwnRows, Tried


def no_own_rows(num_states: int, places: int, width: int, dtype: Any) -> OwnRows[Array]:
    """Before the first experiment, with empty places for later ones."""
    shape = (num_states, places)
    tried = Tried(jnp.zeros(shape, int), jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros(shape, bool))
    return OwnRows(tried, jnp.zeros((*shape, width), dtype))


def own_row_added(
    own: OwnRows[Array],
    place: Array,
    units: Units[Array],
    valid: Array,
    is_target: Array,
    variable: Array,
    rows: Array,
) -> OwnRows[Array]:
    """With raw rows (N, V), in which `variable` (N,) was set, at number `place`; dropped if there
    is no such place.
    """
    if not own.tried.variable.shape[1]:
        return own
    each = jnp.arange(len(rows))
    standard = jnp.where(valid, (rows - units.location) / units.scale, 0)
    measured = jnp.clip(jnp.where(is_target, standard, 0).sum(1), -OUTCOME_BOUND, OUTCOME_BOUND)
    row = Tried(variable, standard[each, variable], measured, jnp.ones(len(rows), bool))
    was_set = jnp.arange(rows.shape[1]) == variable[:, None]
    du = jnp.where(was_set | is_target, 0, deviations(units, valid, rows[:, None])[:, 0])
    tried = Tried(*(old.at[:, place].set(new, mode="drop") for old, new in zip(own.tried, row, strict=True)))
    return OwnRows(tried, own.others.at[:, place].set(du, mode="drop"))


def own_outcomes(own: OwnRows[Array], cause_logits: Array, evidence: Array) -> Tried[Array]:
    """See acbo_ref.policy.local.own_outcomes."""
    direct = slope_features(evidence)[..., EFFECTS.index(DIRECT_EFFECT)]
    at = jnp.take_along_axis(cause_logits, own.tried.variable[..., None], axis=1)
    moved = (jax.nn.sigmoid(-at) * own.others * direct[:, None]).sum(-1)
    return own.tried._replace(outcome=own.tried.outcome - jnp.clip(moved, -OUTCOME_BOUND, OUTCOME_BOUND))


def _correlation(p_variable: Array, p_value: Array, p_log_length: Array, q_variable: Array, q_value: Array) -> Array:
    """k (N, P, Q)."""
    gap = (p_value[:, :, None] - q_value[:, None]) / HALF_WIDTH
    distance = jnp.square(gap * jnp.exp(-p_log_length)[:, :, None])
    return jnp.where(p_variable[:, :, None] == q_variable[:, None], jnp.exp(-0.5 * distance), 0)


def local(
    asked: OutcomePrediction[Array],
    known: OutcomePrediction[Array],
    variable: Array,
    value: Array,
    asked_log_length: Array,
    known_log_length: Array,
    tried: Tried[Array],
) -> OutcomePrediction[Array]:
    """Predictions (N, M) after the own outcomes; see acbo_ref.policy.local.local_forward."""
    counts = tried.counts
    own = _correlation(tried.variable, tried.value, known_log_length, tried.variable, tried.value)
    of_asked = _correlation(variable, value, asked_log_length, tried.variable, tried.value)
    of_asked = jnp.where(counts[:, None], of_asked, 0)
    own = jnp.where(counts[:, :, None] & counts[:, None], own, 0)
    ratio = jnp.exp(2 * (known.log_scatter - known.log_error))
    each = jnp.arange(counts.shape[1])
    matrix = own.at[:, each, each].set(1 + jnp.where(counts, jnp.maximum(ratio, LEAST_RATIO), 0))
    residual = jnp.where(counts, (tried.outcome - known.mean) * jnp.exp(-known.log_error), 0)
    both = solve(matrix, jnp.concatenate([of_asked.swapaxes(1, 2), residual[..., None]], -1))
    weight, solved = both[..., :-1].swapaxes(1, 2), both[..., -1]
    left = jnp.maximum(1 - (of_asked * weight).sum(-1), LEAST_LEFT)
    mean = asked.mean + jnp.exp(asked.log_error) * (of_asked * solved[:, None]).sum(-1)
    return asked._replace(mean=mean, log_error=asked.log_error + 0.5 * jnp.log(left))


def predict(
    params: Params, state: OutcomeState[Array], tried: Tried[Array], variable: Array, value: Array
) -> OutcomePrediction[Array]:
    """What is expected of actions (N, M); see acbo_ref.policy.local.predict_forward."""
    number = variable.shape[1]
    variables = jnp.concatenate([variable, tried.variable], 1)
    values = jnp.concatenate([value, tried.value], 1)
    hidden = jnp.take_along_axis(state.hidden, variables[..., None], axis=1)
    at = OutcomeState(hidden, *(jnp.take_along_axis(array, variables, axis=1) for array in state[1:]))
    predicted = outcome(params, at, values)
    if not tried.variable.shape[1]:
        return predicted
    asked = OutcomePrediction(*(array[:, :number] for array in predicted))
    known = OutcomePrediction(*(array[:, number:] for array in predicted))
    lengths = at.log_length[:, :number], at.log_length[:, number:]
    return local(asked, known, variable, value, *lengths, tried)
