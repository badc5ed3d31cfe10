"""Twin of acbo_ref/policy/session.py: deciding step by step.

Letters: E episodes, V variables, N actions.
"""

from __future__ import annotations

import numpy as np

from acbo_fast.numba.policy.acquisition import GridPredictor
from acbo_fast.numba.policy.decoder import open_decoder
from acbo_fast.numba.policy.network import Network
from acbo_fast.numba.policy.reading import open_reading
from acbo_fast.numba.threads import one_blas_thread
from acbo_ref.arrays import Array, Params
from acbo_ref.config import Config
from acbo_ref.policy.acquisition import (
    DECISION_GRID,
    GRID_STEP,
    acquisition_features,
    hopeful,
    lowest_predicted,
    optimism_now,
)
from acbo_ref.policy.decoder import Thought
from acbo_ref.policy.extrapolation import is_near, reach, seen_at_first, seen_with, within
from acbo_ref.policy.heads import OutcomeState
from acbo_ref.policy.inputs import Task, set_mask, to_domain, to_standard
from acbo_ref.policy.local import Tried, no_own_rows, own_outcomes, own_row_added
from acbo_ref.policy.session import Decision, Prediction, raw_prediction


class Session:
    """Twin of acbo_ref.policy.session.Session. It keeps the parameters it was opened with, in
    `params`.
    """

    def __init__(
        self, params: Params, config: Config, task: Task, capacity: int, network: Network, budget: int | None = None
    ) -> None:
        self._budget = capacity if budget is None else budget
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
        self._predictor = GridPredictor(network, params, num_episodes, width, DECISION_GRID)

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

    def _outcome(self) -> tuple[OutcomeState[Array], Tried[Array]]:
        """The outcome head's state, and the own outcomes, as the network sees them now."""
        with one_blas_thread:
            state = self._network.heads.state(self._params, self._thought.h, self._view.evidence)
        if self._thought.cause_logits is None:
            return state, self._own.tried
        return state, own_outcomes(self._own, self._thought.cause_logits, self._view.evidence)

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
        state, tried = self._outcome()
        near = allowed[:, :, None] & within(self._seen, DECISION_GRID)
        on_grid = self._predictor.on_grid(state, tried)
        left = np.full(len(allowed), max(self._budget - self._observed - 1, 0))
        usual = optimism_now(config.optimism, left)
        good = hopeful(on_grid, near, task.observation_mask.sum(axis=1) > 1)
        acquisition = np.zeros((*allowed.shape, 0), on_grid.mean.dtype)
        if self._thought.cause_logits is not None:
            acquisition = acquisition_features(on_grid, usual, good, DECISION_GRID, left)
        h = self._thought.h[:, None]
        with one_blas_thread:
            all_logits, all_means, log_stds = self._network.heads.policy(self._params, h, allowed, acquisition[:, None])
            parents = self._network.heads.parents(self._params, self._thought.h)
        logits, means = all_logits[:, 0], all_means[:, 0]
        each = np.arange(len(logits))
        if (decision or config.decision) == "outcome_head":
            errors, among = (usual, good) if optimism is None else (np.asarray(optimism), near)
            variable, standard = lowest_predicted(on_grid, errors, among, DECISION_GRID)
        else:
            variable = (logits if gumbel is None else logits + gumbel).argmax(axis=1)
            standard = means[each, variable]
            if normal is not None:
                std: Array | float = config.policy.fixed_std
                if not config.policy.use_fixed_std:
                    std = np.exp(log_stds[:, 0][each, variable])
                standard = standard + std * normal
        low, high = reach(self._seen, GRID_STEP)
        standard = np.clip(standard, low[each, variable], high[each, variable])
        predicted = self._predict(state, tried, variable[:, None], standard[:, None])
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return Decision(
            variable=variable,
            value=to_domain(task, self._reading.units, variable, standard),
            probability=shifted / shifted.sum(axis=1, keepdims=True),
            parent_probability=0.5 * (1 + np.tanh(0.5 * parents)) * (task.valid & ~task.is_target),
            outcome_mean=predicted.mean[:, 0],
            outcome_error=predicted.error[:, 0],
            outcome_std=predicted.std[:, 0],
        )

    def near(self, variable: Array, value: Array) -> Array:
        """See acbo_ref.policy.session.Session.near."""
        return is_near(self._seen, variable, to_standard(self._reading.units, variable, value), GRID_STEP)

    def predict(self, variable: Array, value: Array) -> Prediction:
        """See acbo_ref.policy.session.Session.predict."""
        return self._predict(*self._outcome(), variable, to_standard(self._reading.units, variable, value))

    def _predict(self, state: OutcomeState[Array], tried: Tried[Array], variable: Array, standard: Array) -> Prediction:
        standard = np.ascontiguousarray(standard, self._thought.h.dtype)
        found = self._predictor.predict(state, tried, np.ascontiguousarray(variable, np.int64), standard)
        return raw_prediction(self._task, self._reading.units, *np.moveaxis(found, -1, 0))
