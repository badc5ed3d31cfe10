"""Twin of acbo_ref/scm.py: simulation of a batch of models, as a traced function."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from acbo_ref.errors import AcboError
from acbo_ref.scm import SCMBatch


class Problems(NamedTuple):
    """The arrays of acbo_ref.scm.SCMBatch, on the device."""

    weights: Array
    intercept: Array
    noise_std: Array
    low: Array
    high: Array
    valid: Array
    manipulable: Array
    parents: Array
    target: Array
    saturate: Array
    amplitude: Array
    phase: Array
    frequency: Array


# Relative width below which a domain has too few numbers of its dtype in it: a thousand.
_RESOLUTION = 1000.0


def to_arrays(batch: SCMBatch, dtype: str) -> Problems:
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
    arrays = (getattr(batch, name) for name in Problems._fields)
    return Problems(*(a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays))


def simulate(problems: Problems, noise: Array, variable: Array, value: Array) -> Array:
    """Rows (E, N, V) from noise (E, N, V), each under its own do(X_variable = value); see acbo_ref.scm.simulate.

    Equations are solved in order by a loop over variables; later columns of `rows` are still 0 and their weights too.
    """
    num_variables = noise.shape[-1]
    clips = problems.saturate[:, None] & (jnp.arange(num_variables) != problems.target[:, None])  # (E, V)
    base = problems.intercept[:, None] + problems.noise_std[:, None] * noise

    def solve(j: Array, rows: Array) -> Array:
        x = base[:, :, j] + jnp.einsum("eni,ei->en", rows, problems.weights[:, :, j])
        if problems.amplitude.shape[2]:
            angle = jnp.einsum("eni,emi->enm", rows, problems.frequency[:, j]) + problems.phase[:, None, j]
            x = x + jnp.einsum("enm,em->en", jnp.sin(angle), problems.amplitude[:, j])
        x = jnp.where(clips[:, None, j], jnp.clip(x, problems.low[:, None, j], problems.high[:, None, j]), x)
        return rows.at[:, :, j].set(jnp.where(variable == j, value, x))

    return jax.lax.fori_loop(0, num_variables, solve, jnp.zeros_like(noise))
