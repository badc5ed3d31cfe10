"""Twin of acbo_ref/policy/session.py: deciding step by step.

Letters: E episodes, V variables, N actions.
"""

from __future__ import annotations

import numpy as np

from acbo_fast.numba.kernels import exp, kernel
from acbo_fast.numba.policy.decoder import open_decoder
from acbo_fast.numba.policy.heads import outcome_weights
from acbo_fast.numba.policy.local import predict, typed, workings
from acbo_fast.numba.policy.network import Network
from acbo_fast.numba.policy.reading import open_reading
from acbo_fast.numba.threads import one_blas_thread
from acbo_ref.arrays import Array, Params
from acbo_ref.config import Config
from acbo_ref.policy.decoder import Thought
from acbo_ref.policy.extrapolation import is_near, seen_at_first, seen_with, within
from acbo_ref.policy.heads import VALUE_FEATURES, OutcomeState, PolicyOutputs
from acbo_ref.policy.inputs import HALF_WIDTH, Task, set_mask, to_domain, to_standard
from acbo_ref.policy.local import Tried, no_own_rows, own_outcomes, own_row_added
from acbo_ref.policy.session import DECISION_GRID, GRID_STEP, Decision, Prediction, raw_prediction


@kernel
def lowest_bound(predicted: Array, allowed: Array, optimism: Array, grid: Array, variable: Array, value: Array) -> None:
    """The action of lowest mean - optimism * error, from predictions (E, V * grid, 3) at every grid
    value of every variable; allowed (E, V, grid); optimism (E,).
    """
    size = grid.size
    for e in range(variable.shape[0]):
        best, lowest = -1, np.inf
        for n in range(predicted.shape[1]):
            if allowed[e, n // size, n % size]:
                bound = predicted[e, n, 0] - predicted.dtype.type(optimism[e]) * exp(predicted[e, n, 1])
                if bound < lowest or best < 0:
                    best, lowest = n, bound
        variable[e], value[e] = best // size, grid[best % size]


class OutcomeDecider:
    """Deciding by the outcome head: see acbo_ref.policy.session.lowest_predicted."""

    def __init__(self, network: Network, params: Params, num_episodes: int, width: int, grid: Array) -> None:
        dtype = params["embed.weight"].dtype
        self._space, self._params, self._grid = network.workspace, params, grid.astype(dtype)
        # every grid value of every variable
        self._variable = np.tile(np.repeat(np.arange(width), grid.size), (num_episodes, 1))
        self._value = np.tile(self._grid, (num_episodes, width))

    def predict(self, outputs: PolicyOutputs[Array], tried: Tried[Array], variable: Array, value: Array) -> Array:
        """(mean, log_error, log_noise), (E, N, 3), of actions variable, value (E, N)."""
        half = outputs.outcome.hidden.shape[3]
        out = self._space("decide.outcomes", *value.shape, 3)
        predict(
            OutcomeState(*(array[:, 0] for array in outputs.outcome)), typed(tried, out.dtype), variable, value,
            outcome_weights(self._space, self._params), self._space("outcome.scratch", 2 * half + VALUE_FEATURES),
            workings(self._space, tried.counts.shape[1], half), out,
        )  # fmt: skip
        return out

    def __call__(
        self, outputs: PolicyOutputs[Array], tried: Tried[Array], allowed: Array, optimism: Array | float
    ) -> tuple[Array, Array]:
        """(variable, standard value), (E,) each; allowed (E, V, grid or 1)."""
        predicted = self.predict(outputs, tried, self._variable, self._value)
        variable, standard = np.empty(len(allowed), np.int64), np.empty(len(allowed), predicted.dtype)
        errors = np.ascontiguousarray(np.broadcast_to(np.asarray(optimism, float), len(allowed)))
        shape = (*allowed.shape[:2], self._grid.size)
        lowest_bound(
            predicted, np.ascontiguousarray(np.broadcast_to(allowed, shape)), errors, self._grid, variable, standard
        )
        return variable, standard


class Session:
    """Twin of acbo_ref.policy.session.Session. It keeps the parameters it was opened with, in
    `params`.
    """

    def __init__(self, params: Params, config: Config, task: Task, capacity: int, network: Network) -> None:
        self._network, self._params, self._config, self._task = network, params, config, task
        self._capacity, self._observed = capacity, 0
        dtype = params["embed.weight"].dtype
        num_episodes, _, width = task.observations.shape
        self._reading = open_reading(task, config.policy, dtype)
        self._view = self._reading.start()
        with one_blas_thread:
            self._decoder = open_decoder(network, params, task, self._reading, capacity + 1)
            self._keep(self._decoder.append(self._view.channels))
        self._own = no_own_rows(num_episodes, width)
        self._seen = seen_at_first(task, self._reading.units, config.extrapolation)
        self._decider = OutcomeDecider(network, params, num_episodes, width, DECISION_GRID)

    def observe(self, variable: Array, rows: Array) -> None:
        """Read the measured rows (E, V), raw units, in which `variable` was set."""
        if self._observed == self._capacity:
            raise ValueError(f"the session was opened for {self._capacity} interventions")
        self._view = self._reading.append(np.asarray(variable), np.asarray(rows, float))
        with one_blas_thread:
            self._keep(self._decoder.append(self._view.channels))
        was_set = set_mask(np.asarray(variable), rows.shape[1])
        self._seen = seen_with(self._seen, self._reading.units, was_set, rows)
        if self._thought.cause_logits is not None:
            self._own = own_row_added(self._own, self._task, self._reading.units, was_set, rows)
        self._observed += 1

    def _keep(self, thought: Thought[Array]) -> None:
        """A copy: the network's arrays are written anew by whoever uses it next."""
        logits = thought.cause_logits
        self._thought = Thought(thought.h.copy(), None if logits is None else logits.copy())

    def _heads(self, allowed: Array) -> tuple[PolicyOutputs[Array], Tried[Array]]:
        """What the heads say, and the own outcomes, as the network sees them now."""
        h, evidence = self._thought.h[:, None], self._view.evidence
        with one_blas_thread:
            outputs = self._network.heads.forward(self._params, h, allowed, evidence[:, None])
        if self._thought.cause_logits is None:
            return outputs, self._own.tried
        return outputs, own_outcomes(self._own, self._thought.cause_logits, evidence)

    def decide(
        self,
        gumbel: Array | None = None,
        normal: Array | None = None,
        decision: str | None = None,
        optimism: float | None = None,
        allowed: Array | None = None,
    ) -> Decision:
        """The next action of each system; see acbo_ref.policy.session.Session.decide."""
        task, config = self._task, self._config
        allowed = task.manipulable if allowed is None else task.manipulable & allowed
        outputs, tried = self._heads(allowed)
        logits, means = outputs.logits[:, 0], outputs.means[:, 0]
        each = np.arange(len(logits))
        if (decision or config.decision) == "outcome_head":
            near = allowed[:, :, None] & within(self._seen, DECISION_GRID)
            variable, standard = self._decider(outputs, tried, near, config.optimism if optimism is None else optimism)
        else:
            variable = (logits if gumbel is None else logits + gumbel).argmax(axis=1)
            standard = means[each, variable]
            if normal is not None:
                std: Array | float = config.policy.fixed_std
                if not config.policy.use_fixed_std:
                    assert outputs.log_stds is not None
                    std = np.exp(outputs.log_stds[:, 0][each, variable])
                standard = standard + std * normal
        standard = np.clip(standard, -HALF_WIDTH, HALF_WIDTH)
        predicted = self._predict(outputs, tried, variable[:, None], standard[:, None])
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return Decision(
            variable=variable,
            value=to_domain(task, self._reading.units, variable, standard),
            probability=shifted / shifted.sum(axis=1, keepdims=True),
            parent_probability=0.5 * (1 + np.tanh(0.5 * outputs.parent_logits[:, 0])) * (task.valid & ~task.is_target),
            outcome_mean=predicted.mean[:, 0],
            outcome_error=predicted.error[:, 0],
            outcome_std=predicted.std[:, 0],
        )

    def near(self, variable: Array, value: Array) -> Array:
        """See acbo_ref.policy.session.Session.near."""
        return is_near(self._seen, variable, to_standard(self._reading.units, variable, value), GRID_STEP)

    def predict(self, variable: Array, value: Array) -> Prediction:
        """See acbo_ref.policy.session.Session.predict."""
        outputs, tried = self._heads(self._task.manipulable)
        return self._predict(outputs, tried, variable, to_standard(self._reading.units, variable, value))

    def _predict(
        self, outputs: PolicyOutputs[Array], tried: Tried[Array], variable: Array, standard: Array
    ) -> Prediction:
        standard = np.ascontiguousarray(standard, outputs.logits.dtype)
        found = self._decider.predict(outputs, tried, np.ascontiguousarray(variable, np.int64), standard)
        return raw_prediction(self._task, self._reading.units, *np.moveaxis(found, -1, 0))
