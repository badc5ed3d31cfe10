"""Twin of acbo_ref/systems/batch.py: simulation of one row of one model, to be inlined, and of a
batch; float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from acbo_fast.numba.kernels import kernel, scalar
from acbo_ref.arrays import Array
from acbo_ref.systems.batch import SCMBatch


def contiguous(batch: SCMBatch[Array]) -> SCMBatch[Array]:
    """In the order of memory and the dtypes that kernels are compiled for."""
    kinds = {"f": np.float64, "i": np.int64, "b": np.bool_}
    return SCMBatch(*(np.ascontiguousarray(array, kinds[array.dtype.kind]) for array in batch))


@scalar
def term_value(shape: int, argument: float) -> float:
    """See acbo_ref.systems.batch.term_values."""
    if shape == 0:
        return np.sin(argument)
    if shape == 1:
        return np.tanh(argument)
    return np.exp(-argument * argument) if shape == 2 else argument * argument


@scalar
def simulate_row(m: Any, e: int, noise: Any, variable: int, value: float, row: Any) -> None:
    """One row (V,) of model e under do(X_variable = value), -1 for none, from its exogenous noise
    (V,).
    """
    for j in range(row.shape[0]):
        if j == variable:
            row[j] = value
            continue
        x = m.intercept[e, j] + m.noise_std[e, j] * noise[j]
        for i in range(j):
            x += row[i] * m.weights[e, i, j]
        for s in range(m.amplitude.shape[2]):
            if m.amplitude[e, j, s] != 0.0:
                angle = m.phase[e, j, s]
                for i in range(j):
                    angle += row[i] * m.frequency[e, j, s, i]
                x += m.amplitude[e, j, s] * term_value(m.shape[e, j, s], angle)
        if m.saturate[e] and j != m.target[e]:
            x = min(max(x, m.low[e, j]), m.high[e, j])
        row[j] = x


@kernel
def simulate_observations(m: SCMBatch[Array], noise: Array, rows: Array) -> None:
    """rows (E, O, V), written, without interventions."""
    for e in range(noise.shape[0]):
        for n in range(noise.shape[1]):
            simulate_row(m, e, noise[e, n], -1, 0.0, rows[e, n])
