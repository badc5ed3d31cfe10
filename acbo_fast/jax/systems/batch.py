"""Twin of acbo_ref/systems/batch.py: simulation of a batch of models, as a traced function."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from acbo_ref.errors import AcboError
from acbo_ref.systems.batch import SCMBatch

# Relative width below which a domain has too few numbers of its dtype in it: a thousand.
_RESOLUTION = 1000.0


def to_arrays(batch: SCMBatch[NDArray[Any]], dtype: str) -> SCMBatch[NDArray[Any]]:
    """The same as host arrays, the floating ones cast.

    Raises:
        AcboError: a lever's domain is too narrow, so far from 0, for this dtype.
    """
    size = np.maximum(np.abs(batch.low), np.abs(batch.high))
    narrow = batch.manipulable & (batch.high - batch.low < _RESOLUTION * np.finfo(dtype).eps * size)
    if narrow.any():
        low, high = batch.low[narrow][0], batch.high[narrow][0]
        raise AcboError(
            f"the domain {low:.9g} to {high:.9g} is too narrow for {dtype}",
            "set dtype: float64, or shift the variable towards 0",
        )
    return SCMBatch(*(a.astype(dtype) if a.dtype.kind == "f" else a for a in batch))


def causes(edges: Array) -> Array:
    """See acbo_ref.systems.batch.causes."""
    reach = edges.astype(jnp.float32)
    for _ in range(max(edges.shape[1] - 1, 1).bit_length()):
        reach = jnp.minimum(reach + reach @ reach, 1)
    return jnp.stack([edges, reach > 0.5], -1)


def term_values(shape: Array, argument: Array) -> Array:
    """See acbo_ref.systems.batch.term_values."""
    squared = jnp.square(argument)
    curved = jnp.where(shape == 2, jnp.exp(-squared), squared)
    return jnp.where(shape == 0, jnp.sin(argument), jnp.where(shape == 1, jnp.tanh(argument), curved))


def simulate(batch: SCMBatch[Array], noise: Array, variable: Array, value: Array) -> Array:
    """Rows (E, N, V) from noise (E, N, V), each under its own do(X_variable = value); see
    acbo_ref.systems.batch.simulate.

    Equations are solved in order by a loop over variables; later columns of `rows` are still 0 and
    their weights too.
    """
    num_variables = noise.shape[-1]
    clips = batch.saturate[:, None] & (jnp.arange(num_variables) != batch.target[:, None])  # (E, V)
    base = batch.intercept[:, None] + batch.noise_std[:, None] * noise

    def solve(j: Array, rows: Array) -> Array:
        x = base[:, :, j] + jnp.einsum("eni,ei->en", rows, batch.weights[:, :, j])
        if batch.amplitude.shape[2]:
            angle = jnp.einsum("eni,emi->enm", rows, batch.frequency[:, j]) + batch.phase[:, None, j]
            x = x + jnp.einsum("enm,em->en", term_values(batch.shape[:, None, j], angle), batch.amplitude[:, j])
        x = jnp.where(clips[:, None, j], jnp.clip(x, batch.low[:, None, j], batch.high[:, None, j]), x)
        return rows.at[:, :, j].set(jnp.where(variable == j, value, x))

    return jax.lax.fori_loop(0, num_variables, solve, jnp.zeros_like(noise))
