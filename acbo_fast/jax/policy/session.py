"""Twin of acbo_ref/policy/session.py: deciding step by step, each step one compiled function.

Rows are padded to fixed sizes, so nothing is recompiled as they arrive. Rows are read by the
reference's own Reading, in float64 on the host, and float32 meets only its views: the user's units
may be far from 1, and there may be 50,000 rows.

Letters: E systems, V variables, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from acbo_fast.jax.policy import local
from acbo_fast.jax.policy.acquisition import lowest_predicted, predict_on_grid
from acbo_fast.jax.policy.decoder import Cache, read_observations, read_view
from acbo_fast.jax.policy.heads import outcome_state, parents, policy_head
from acbo_fast.jax.policy.layers import Params, at_variable
from acbo_ref.config import Config, PolicyConfig
from acbo_ref.policy.acquisition import (
    DECISION_GRID,
    GRID_STEP,
    acquisition_features,
    hopeful,
    optimism_now,
)
from acbo_ref.policy.decoder import Thought
from acbo_ref.policy.extrapolation import is_near, reach, seen_at_first, seen_with, within
from acbo_ref.policy.heads import OutcomePrediction
from acbo_ref.policy.inputs import Task, set_mask, to_domain, to_standard
from acbo_ref.policy.local import MOST_TRIED, OwnRows, Tried, no_own_rows, own_row_added
from acbo_ref.policy.network import reads_pairs
from acbo_ref.policy.reading import RowReading, open_reading
from acbo_ref.policy.session import Decision, Prediction, raw_prediction

# Decisions outside of training are compiled for these sizes: rows and capacity are rounded up to a
# multiple.
ROW_BUCKET = 64


class DeviceTask(NamedTuple):
    """A task on the device: what deciding needs besides the caches."""

    observation_mask: Array
    target: Array
    valid: Array


class StandardDecision(NamedTuple):
    """See acbo_ref.policy.session.Decision; value, outcome_mean, outcome_error and outcome_std in
    standard units.
    """

    variable: Array
    value: Array
    probability: Array
    parent_probability: Array
    outcome_mean: Array
    outcome_error: Array
    outcome_std: Array


@partial(jax.jit, static_argnames=("network", "capacity"))
def open_cache(params: Params, network: PolicyConfig, observations: Array, task: DeviceTask, capacity: int) -> Cache:
    """Caches after the channels (E, O, V, C) of the observational rows, padded to a fixed
    number.
    """
    return read_observations(params, network, observations, task.observation_mask, task.valid, capacity + 1)


@partial(jax.jit, static_argnames=("network",), donate_argnames=("cache",))
def read(
    params: Params, network: PolicyConfig, task: DeviceTask, cache: Cache, step: Array, channels: Array
) -> tuple[Thought[Array], Cache]:
    """What the trunk gives at decision number `step`, from 0, and the caches."""
    return read_view(params, network, cache, step, channels, task.observation_mask, task.valid, task.target)


def _others(task: DeviceTask) -> Array:
    """(E, V) bool: neither the target nor padding."""
    return task.valid & (jnp.arange(task.valid.shape[1]) != task.target[:, None])


def own_so_far(own: OwnRows[Array], thought: Thought[Array], evidence: Array) -> Tried[Array]:
    """The own outcomes, as the network sees them now."""
    if thought.cause_logits is None:
        return own.tried
    return local.own_outcomes(own, thought.cause_logits, evidence)


@partial(jax.jit, static_argnames=("network", "by_outcome_head", "as_usual"))
def decide(
    params: Params,
    network: PolicyConfig,
    task: DeviceTask,
    evidence: Array,
    thought: Thought[Array],
    own: OwnRows[Array],
    gumbel: Array,
    normal: Array,
    grid: Array,
    optimism: Array,
    allowed: Array,
    near: Array,
    ends: tuple[Array, Array],
    left: Array,
    usual: Array,
    by_outcome_head: bool,
    as_usual: bool,
) -> StandardDecision:
    """The next action of each system; zero gumbel and normal make it deterministic.

    near (E, V, G) bool: the values of the grid that are near enough to what was seen; ends: (E, V)
    each, of the range of these; left (E,): experiments left, and usual (E,): the optimism that goes
    with them, which decides in place of `optimism` if `as_usual`.
    """
    tried, state = own_so_far(own, thought, evidence), outcome_state(params, thought.h, evidence)
    predicted_on = predict_on_grid(params, state, tried, grid)
    near = allowed[:, :, None] & near
    good = hopeful(predicted_on, near, task.observation_mask.sum(1) > 1, jnp)
    acquisition = jnp.zeros((*allowed.shape, 0), evidence.dtype)
    if reads_pairs(network):
        acquisition = acquisition_features(predicted_on, usual, good, DECISION_GRID, left, jnp)
    all_logits, means, log_stds = policy_head(params, network, thought.h[:, None], allowed, acquisition[:, None])
    logits = all_logits[:, 0]
    if by_outcome_head:
        how = (usual, good) if as_usual else (optimism, near)
        variable, standard = lowest_predicted(predicted_on, *how, grid)
    else:
        variable = (logits + gumbel).argmax(1)
        std: Any = network.fixed_std
        if log_stds is not None:
            std = jnp.exp(at_variable(log_stds[:, 0], variable[:, None])[:, 0])
        standard = at_variable(means[:, 0], variable[:, None])[:, 0] + std * normal
    standard = jnp.clip(standard, *(at_variable(end, variable[:, None])[:, 0] for end in ends))
    found = local.predict(params, state, tried, variable[:, None], standard[:, None])
    predicted = OutcomePrediction(*(array[:, 0] for array in found))
    error, noise = jnp.exp(predicted.log_error), jnp.exp(predicted.log_noise)
    return StandardDecision(
        variable=variable,
        value=standard,
        probability=jax.nn.softmax(logits),
        parent_probability=jax.nn.sigmoid(parents(params, thought.h)) * _others(task),
        outcome_mean=predicted.mean,
        outcome_error=error,
        outcome_std=jnp.hypot(error, noise),
    )


@jax.jit
def predict(
    params: Params, evidence: Array, thought: Thought[Array], own: OwnRows[Array], variable: Array, standard: Array
) -> OutcomePrediction[Array]:
    """What is expected of the actions variable, standard value (E, N)."""
    state = outcome_state(params, thought.h, evidence)
    return local.predict(params, state, own_so_far(own, thought, evidence), variable, standard)


class Session:
    """See acbo_ref.policy.session.Session.

    Args:
        dtype, precision: of the backend, and the context to compute in.
    """

    def __init__(
        self,
        params: Params,
        config: Config,
        task: Task,
        capacity: int,
        dtype: str,
        precision: Callable[[], AbstractContextManager[None]],
        budget: int | None = None,
    ) -> None:
        self._budget = capacity if budget is None else budget
        self._params, self._config, self._dtype, self._precision = params, config, dtype, precision
        self._task, self._capacity, self._step = task, capacity, 0
        self._reading = open_reading(task, config.policy, dtype)
        count, num_obs, width = task.observations.shape
        extra = -num_obs % ROW_BUCKET or (ROW_BUCKET if num_obs == 0 else 0)
        mask = np.pad(task.observation_mask, ((0, 0), (0, extra)))
        rounded = -(-max(capacity, 1) // ROW_BUCKET) * ROW_BUCKET
        self._view = self._reading.start()
        self._own = no_own_rows(count, width)
        self._seen = seen_at_first(task, self._reading.units, config.extrapolation)
        # empty over rows, where own outcomes do not count locally
        self._places = min(rounded, MOST_TRIED) if reads_pairs(config.policy) else 0
        with precision():
            self._device_task = DeviceTask(*map(jnp.asarray, (mask, np.asarray(task.target, np.int32), task.valid)))
            self._grid = jnp.asarray(DECISION_GRID, dtype)
            self._no_gumbel, self._no_normal = jnp.zeros((count, width), dtype), jnp.zeros(count, dtype)
            self._cache: Cache = {}
            if isinstance(self._reading, RowReading):
                observations = np.pad(self._reading.observations(), ((0, 0), (0, extra), (0, 0), (0, 0)))
                self._cache = open_cache(params, config.policy, observations, self._device_task, rounded)
            self._read()

    def _read(self) -> None:
        """What the trunk gives of the newest view."""
        with self._precision():
            self._thought, self._cache = read(
                self._params,
                self._config.policy,
                self._device_task,
                self._cache,
                np.int32(self._step),
                self._view.channels,
            )

    def observe(self, variable: NDArray[Any], rows: NDArray[Any]) -> None:
        """Read the measured rows (E, V), raw units, in which `variable` was set."""
        if self._step == self._capacity:
            raise ValueError(f"the session was opened for {self._capacity} interventions")
        self._view = self._reading.append(variable, rows)
        was_set = set_mask(variable, rows.shape[1])
        self._seen = seen_with(self._seen, self._reading.units, was_set, rows)
        if self._places:
            self._own = own_row_added(self._own, self._task, self._reading.units, was_set, rows)
        self._step += 1
        self._read()

    def _own_rows(self) -> OwnRows[NDArray[Any]]:
        """The own outcomes, padded to a fixed number of places."""

        def padded(array: NDArray[Any]) -> NDArray[Any]:
            dtype = self._dtype if array.dtype.kind == "f" else array.dtype
            room = [(0, 0), (0, self._places - array.shape[1]), *[(0, 0)] * (array.ndim - 2)]
            return np.pad(array, room).astype(dtype)

        tried, others = self._own
        return OwnRows(Tried(*map(padded, tried)), padded(others))

    def decide(
        self,
        gumbel: NDArray[Any] | None = None,
        normal: NDArray[Any] | None = None,
        decision: str | None = None,
        optimism: float | None = None,
        allowed: NDArray[Any] | None = None,
    ) -> Decision:
        """The next action of each system; see acbo_ref.policy.session.Session.decide."""
        dtype, config, manipulable = self._dtype, self._config, self._task.manipulable
        left = np.full(len(manipulable), max(self._budget - self._step - 1, 0))
        with self._precision():
            decided = decide(
                self._params,
                config.policy,
                self._device_task,
                self._view.evidence,
                self._thought,
                self._own_rows(),
                self._no_gumbel if gumbel is None else np.asarray(gumbel, dtype),
                self._no_normal if normal is None else np.asarray(normal, dtype),
                self._grid,
                np.asarray(optimism or 0.0, dtype),
                manipulable if allowed is None else manipulable & allowed,
                within(self._seen, DECISION_GRID),
                tuple(end.astype(dtype) for end in reach(self._seen, GRID_STEP)),
                left.astype(dtype),
                optimism_now(config.optimism, left).astype(dtype),
                (decision or config.decision) == "outcome_head",
                optimism is None,
            )
            d = StandardDecision(*jax.device_get(tuple(decided)))
        each, task, units = np.arange(len(d.variable)), self._task, self._reading.units
        location, scale = units.location[each, task.target], units.scale[each, task.target]
        return Decision(
            variable=np.asarray(d.variable),
            value=to_domain(task, units, np.asarray(d.variable), np.asarray(d.value, float)),
            probability=np.asarray(d.probability),
            parent_probability=np.asarray(d.parent_probability),
            outcome_mean=location + scale * np.asarray(d.outcome_mean),
            outcome_error=scale * np.asarray(d.outcome_error),
            outcome_std=scale * np.asarray(d.outcome_std),
        )

    def near(self, variable: NDArray[Any], value: NDArray[Any]) -> NDArray[Any]:
        """See acbo_ref.policy.session.Session.near."""
        return is_near(self._seen, variable, to_standard(self._reading.units, variable, value), GRID_STEP)

    def predict(self, variable: NDArray[Any], value: NDArray[Any]) -> Prediction:
        """See acbo_ref.policy.session.Session.predict."""
        standard = to_standard(self._reading.units, variable, value)
        with self._precision():
            found = predict(
                self._params,
                self._view.evidence,
                self._thought,
                self._own_rows(),
                np.asarray(variable),
                np.asarray(standard, self._dtype),
            )
            predicted = [np.asarray(a, float) for a in jax.device_get(tuple(found))]
        return raw_prediction(self._task, self._reading.units, *predicted[:3])
