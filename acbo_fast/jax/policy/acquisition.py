"""Twin of acbo_ref/policy/acquisition.py: what is predicted on a grid, and the lowest of it. The
features are the reference's own function, on JAX's arrays.

Letters: E episodes, V variables, G values of a grid.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from acbo_fast.jax.policy import local
from acbo_fast.jax.policy.layers import Params
from acbo_ref.policy.acquisition import OnGrid
from acbo_ref.policy.heads import OutcomeState
from acbo_ref.policy.local import Tried


def predict_on_grid(params: Params, state: OutcomeState[Array], tried: Tried[Array], grid: Array) -> OnGrid[Array]:
    """Means and errors (E, V, G) at the values of a grid (G,)."""
    num_episodes, width, _ = state.hidden.shape
    variable = jnp.tile(jnp.repeat(jnp.arange(width), grid.size), (num_episodes, 1))
    predicted = local.predict(params, state, tried, variable, jnp.tile(grid, (num_episodes, width)))
    shape = (num_episodes, width, grid.size)
    return OnGrid(predicted.mean.reshape(shape), jnp.exp(predicted.log_error).reshape(shape))


def lowest_predicted(
    predicted: OnGrid[Array], optimism: Array | float, allowed: Array, grid: Array
) -> tuple[Array, Array]:
    """(variable, standard value), (E,) each, of the lowest mean - optimism * error; optimism a
    number or (E,).
    """
    errors = jnp.reshape(jnp.asarray(optimism, predicted.mean.dtype), (-1, 1, 1))
    bound = jnp.where(allowed, predicted.mean - errors * predicted.error, jnp.inf)
    best = bound.reshape(len(bound), -1).argmin(1)
    return best // grid.size, grid[best % grid.size]
