"""Deciding: what to do next in systems of which some rows are known.

Whoever asks a question opens a `Session`: the arena, a campaign, calibration.

Contract: no simulation; randomness comes in as arrays. Arithmetic of units is float64; the network
runs in its own dtype.
Letters: E episodes, V variables, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from acbo_ref.arrays import Array, Params
from acbo_ref.config import Config
from acbo_ref.policy.acquisition import (
    DECISION_GRID,
    GRID_STEP,
    OnGrid,
    acquisition_features,
    hopeful,
    lowest_predicted,
    optimism_now,
    predict_on_grid,
)
from acbo_ref.policy.decoder import open_decoder
from acbo_ref.policy.extrapolation import is_near, reach, seen_at_first, seen_with, within
from acbo_ref.policy.heads import OutcomeState, PolicyOutputs, heads_forward, state_forward
from acbo_ref.policy.inputs import Task, Units, set_mask, to_domain, to_standard
from acbo_ref.policy.layers import log_softmax, sigmoid
from acbo_ref.policy.local import Tried, no_own_rows, own_outcomes, own_row_added, predict_forward
from acbo_ref.policy.network import reads_pairs
from acbo_ref.policy.reading import open_reading

# A recommendation must be better than doing nothing by this many errors of its own, or it is to
# leave the system as it is.
SETTLE_ERRORS = 1.0


@dataclass(frozen=True, eq=False)
class Decision:
    """What to do next in each of E systems, and why.

    Args:
        variable: (E,), -1 for doing nothing (`or_nothing`).
        value: (E,) raw, inside the domain; 0 for doing nothing.
        probability: (E, V), of choosing each variable, by the policy head.
        parent_probability: (E, V).
        outcome_mean: (E,) raw, expectation of the target under this very action.
        outcome_error: (E,) raw, standard error of that estimate.
        outcome_std: (E,) raw, standard deviation of the next measured outcome, which has that error
            and the noise.
    """

    variable: Array
    value: Array
    probability: Array
    parent_probability: Array
    outcome_mean: Array
    outcome_error: Array
    outcome_std: Array


def or_nothing(decision: Decision, task: Task, optimism: float) -> Decision:
    """The decision, or in its place doing nothing (variable -1, value 0) where that is as good: the
    observational mean of the target is not above mean - optimism * error of the action.

    With `optimism` below 0 an action must be better with some certainty. Without two observational
    rows nobody knows what doing nothing gives, and the action stands.
    """
    each, counts = np.arange(len(task.target)), task.observation_mask
    number = counts.sum(axis=1)
    rows = np.where(counts, task.observations[each, :, task.target], 0.0)
    usual = rows.sum(axis=1) / np.maximum(number, 1)
    squares = np.where(counts, (rows - usual[:, None]) ** 2, 0.0).sum(axis=1)
    std = np.sqrt(squares / np.maximum(number - 1, 1))
    leave = (number > 1) & (decision.outcome_mean - optimism * decision.outcome_error >= usual)
    error = std / np.sqrt(np.maximum(number, 1))
    return replace(
        decision,
        variable=np.where(leave, -1, decision.variable),
        value=np.where(leave, 0.0, decision.value),
        outcome_mean=np.where(leave, usual, decision.outcome_mean),
        outcome_error=np.where(leave, error, decision.outcome_error),
        outcome_std=np.where(leave, np.hypot(error, std), decision.outcome_std),
    )


@dataclass(frozen=True, eq=False)
class Prediction:
    """Of the target under N actions in each of E systems, raw units, (E, N) each: its expectation,
    the standard error of that estimate, and the standard deviation of the next measured outcome.
    """

    mean: Array
    error: Array
    std: Array


def raw_prediction(task: Task, units: Units[Array], mean: Array, log_error: Array, log_noise: Array) -> Prediction:
    """What is predicted (E, N), in raw units."""
    each = np.arange(len(task.target))
    unit = units.scale[each, task.target][:, None]
    error, noise = np.exp(log_error), np.exp(log_noise)
    raw_mean = units.location[each, task.target][:, None] + unit * mean
    return Prediction(raw_mean, unit * error, unit * np.hypot(error, noise))


class AnySession(Protocol):
    """A session of any backend; see Session."""

    def observe(self, variable: Array, rows: Array) -> None: ...
    def decide(
        self,
        gumbel: Array | None = None,
        normal: Array | None = None,
        decision: str | None = None,
        optimism: float | None = None,
        allowed: Array | None = None,
    ) -> Decision: ...
    def predict(self, variable: Array, value: Array) -> Prediction: ...
    def near(self, variable: Array, value: Array) -> Array: ...


class Session:
    """E systems side by side, one row at a time: `decide`, do it, `observe` the row, and so on.

    Args:
        params, config: the policy.
        task: what is known before the first intervention.
        capacity: the largest number of interventions that will be observed.
        budget: how many there are in all, if not `capacity`: the policy head is told how many are
            left.
    """

    def __init__(self, params: Params, config: Config, task: Task, capacity: int, budget: int | None = None) -> None:
        self._params, self._config, self._task = params, config, task
        self._capacity, self._observed = capacity, 0
        self._budget = capacity if budget is None else budget
        self._reading = open_reading(task, config.policy, params["embed.weight"].dtype)
        self._decoder = open_decoder(params, config.policy, task, self._reading, capacity + 1)
        self._view = self._reading.start()
        self._thought = self._decoder.append(self._view.channels)
        self._own = no_own_rows(len(task.target), task.valid.shape[1])
        self._seen = seen_at_first(task, self._reading.units, config.extrapolation)

    def observe(self, variable: Array, rows: Array) -> None:
        """Read the measured rows (E, V), raw units, in which `variable` was set: one index a row
        (E,), or a mask (E, V) of any number of them.

        Raises:
            ValueError: more rows than the session's capacity.
        """
        if self._observed == self._capacity:
            raise ValueError(f"the session was opened for {self._capacity} interventions")
        self._view = self._reading.append(variable, rows)
        self._thought = self._decoder.append(self._view.channels)
        was_set = set_mask(variable, rows.shape[1])
        self._seen = seen_with(self._seen, self._reading.units, was_set, rows)
        if reads_pairs(self._config.policy):
            self._own = own_row_added(self._own, self._task, self._reading.units, was_set, rows)
        self._observed += 1

    def decide(
        self,
        gumbel: Array | None = None,
        normal: Array | None = None,
        decision: str | None = None,
        optimism: float | None = None,
        allowed: Array | None = None,
    ) -> Decision:
        """The next action of each system.

        Args:
            gumbel, normal: (E, V) and (E,) for a decision sampled from the policy head; None for
                the deterministic one.
            decision: "policy_head" or "outcome_head"; default the configured one.
            optimism: standard errors that the outcome head's decision subtracts, of whatever is
                near enough; default by the configured number and what is left, of what is hopeful
                (acquisition.py). 0 gives what it would settle on.
            allowed: (E, V) bool, the variables to choose from, some manipulable one in each system;
                None for all of those.
        """
        task = self._task
        allowed = task.manipulable if allowed is None else task.manipulable & allowed
        outcome, tried = self._outcome(), self._tried()
        near = allowed[:, :, None] & within(self._seen, DECISION_GRID)
        predicted_on = predict_on_grid(self._params, outcome, tried, DECISION_GRID)
        usual = optimism_now(self._config.optimism, self._left())
        good = hopeful(predicted_on, near, task.observation_mask.sum(axis=1) > 1)
        outputs = self._heads(allowed, predicted_on, usual, good)
        if (decision or self._config.decision) == "outcome_head":
            errors, among = (usual, good) if optimism is None else (np.asarray(optimism), near)
            variable, standard = lowest_predicted(predicted_on, errors, among, DECISION_GRID)
        else:
            variable, standard = self._by_policy_head(outputs, gumbel, normal)
        each, (low, high) = np.arange(len(variable)), reach(self._seen, GRID_STEP)
        standard = np.clip(standard, low[each, variable], high[each, variable])
        predicted = self._predict(outcome, tried, variable[:, None], standard[:, None])
        return Decision(
            variable=variable,
            value=to_domain(task, self._reading.units, variable, standard),
            probability=np.exp(log_softmax(outputs.logits[:, 0])),
            parent_probability=sigmoid(outputs.parent_logits[:, 0]) * (task.valid & ~task.is_target),
            outcome_mean=predicted.mean[:, 0],
            outcome_error=predicted.error[:, 0],
            outcome_std=predicted.std[:, 0],
        )

    def predict(self, variable: Array, value: Array) -> Prediction:
        """What the outcome head expects of N actions in each system.

        Args:
            variable, value: (E, N) manipulable variables, and raw values; one outside its domain is
                taken to its end.
        """
        standard = to_standard(self._reading.units, variable, value)
        return self._predict(self._outcome(), self._tried(), variable, standard)

    def near(self, variable: Array, value: Array) -> Array:
        """(E, N) bool: whether the outcome head would decide for such actions, or they lie too far
        from what was seen (extrapolation.py); arguments as of `predict`.
        """
        return is_near(self._seen, variable, to_standard(self._reading.units, variable, value), GRID_STEP)

    def _outcome(self) -> OutcomeState[Array]:
        return state_forward(self._params, self._thought.h, self._view.evidence)[0]

    def _left(self) -> Array:
        """(E,) experiments left after the next."""
        return np.full(len(self._task.target), max(self._budget - self._observed - 1, 0))

    def _heads(self, allowed: Array, predicted: OnGrid[Array], optimism: Array, good: Array) -> PolicyOutputs[Array]:
        """What the heads say, with some variables (E, V) and grid values of them (E, V, G)
        allowed; optimism (E,).
        """
        config, h, evidence = self._config, self._thought.h[:, None], self._view.evidence[:, None]
        acquisition = np.zeros((*allowed.shape, 0), h.dtype)
        if reads_pairs(config.policy):
            acquisition = acquisition_features(predicted, optimism, good, DECISION_GRID, self._left())
        return heads_forward(self._params, config.policy, h, allowed, evidence, acquisition[:, None])[0]

    def _tried(self) -> Tried[Array]:
        """The own outcomes, as the network sees them now."""
        if self._thought.cause_logits is None:
            return self._own.tried
        return own_outcomes(self._own, self._thought.cause_logits, self._view.evidence)

    def _predict(
        self, outcome: OutcomeState[Array], tried: Tried[Array], variable: Array, standard: Array
    ) -> Prediction:
        standard = standard.astype(outcome.slope.dtype)
        predicted, _ = predict_forward(self._params, outcome, tried, variable, standard)
        return raw_prediction(self._task, self._reading.units, *predicted[:3])

    def _by_policy_head(
        self, outputs: PolicyOutputs[Array], gumbel: Array | None, normal: Array | None
    ) -> tuple[Array, Array]:
        """(variable, standard value), (E,) each: the most probable variable at its mean, or a
        draw.
        """
        logits = outputs.logits[:, 0]
        variable = logits.argmax(axis=1) if gumbel is None else (logits + gumbel).argmax(axis=1)
        each = np.arange(len(variable))
        standard = outputs.means[each, 0, variable]
        if normal is not None:
            std: Array | float = self._config.policy.fixed_std
            if outputs.log_stds is not None:
                std = np.exp(outputs.log_stds[each, 0, variable])
            standard = standard + std * normal
        return variable, np.asarray(standard)
