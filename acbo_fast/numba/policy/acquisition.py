"""Twin of acbo_ref/policy/acquisition.py: what is predicted, of single actions and on a grid. What
is made of it is the reference's own code.

Letters: E episodes, V variables, G values of a grid, N actions.
"""

from __future__ import annotations

import numpy as np

from acbo_fast.numba.policy.heads import outcome_weights
from acbo_fast.numba.policy.local import predict, typed, workings
from acbo_fast.numba.policy.network import Network
from acbo_ref.arrays import Array, Params
from acbo_ref.policy.acquisition import OnGrid
from acbo_ref.policy.heads import VALUE_FEATURES, OutcomeState
from acbo_ref.policy.local import Tried


class GridPredictor:
    """What the outcome head predicts: of single actions, and at the values of a grid (see
    acbo_ref.policy.acquisition).
    """

    def __init__(self, network: Network, params: Params, num_episodes: int, width: int, grid: Array) -> None:
        self._space, self._params = network.workspace, params
        self._shape = (num_episodes, width, grid.size)
        # every grid value of every variable
        self._variable = np.tile(np.repeat(np.arange(width), grid.size), (num_episodes, 1))
        self._value = np.tile(grid.astype(params["embed.weight"].dtype), (num_episodes, width))

    def predict(self, state: OutcomeState[Array], tried: Tried[Array], variable: Array, value: Array) -> Array:
        """(mean, log_error, log_noise), (E, N, 3), of actions variable, value (E, N)."""
        half = state.hidden.shape[2]
        out = self._space("decide.outcomes", *value.shape, 3)
        predict(
            state, typed(tried, out.dtype), variable, value,
            outcome_weights(self._space, self._params), self._space("outcome.scratch", 2 * half + VALUE_FEATURES),
            workings(self._space, tried.counts.shape[1], half), out,
        )  # fmt: skip
        return out

    def on_grid(self, state: OutcomeState[Array], tried: Tried[Array]) -> OnGrid[Array]:
        """Means and errors (E, V, G)."""
        found = self.predict(state, tried, self._variable, self._value)
        mean, log_error = (found[..., n].reshape(self._shape) for n in range(2))
        return OnGrid(mean.copy(), np.exp(log_error))
