"""Twin of acbo_ref/policy/inputs.py: standard units and the row mask.

Letters: E episodes, O observational rows, V variables.
"""

from __future__ import annotations

import numpy as np

from acbo_fast.numba.kernels import kernel, scalar
from acbo_ref.arrays import Array
from acbo_ref.policy.inputs import HALF_WIDTH, REACH_BOUND, ROUNDING_UNITS


@kernel
def standard_units(
    rows: Array, seen: Array, target: Array, manipulable: Array, low: Array, high: Array, location: Array, scale: Array
) -> None:
    """location and scale (E, V), written, from observational rows (E, O, V)."""
    for e in range(rows.shape[0]):
        y, count = target[e], 0
        for n in range(rows.shape[1]):
            count += seen[e, n]
        total = max(count, 1)
        mean_y, std_y = _mean_and_std(rows[e, :, y], seen[e], total)
        reach = 0.0
        for i in range(rows.shape[2]):
            mean, std = _mean_and_std(rows[e, :, i], seen[e], total)
            if not manipulable[e, i]:
                location[e, i], scale[e, i] = mean, std
                continue
            location[e, i] = (low[e, i] + high[e, i]) / 2
            scale[e, i] = (high[e, i] - low[e, i]) / (2 * HALF_WIDTH)
            if count > 2:
                r = 0.0
                for n in range(rows.shape[1]):
                    if seen[e, n]:
                        r += (rows[e, n, i] - mean) / std * ((rows[e, n, y] - mean_y) / std_y)
                r /= count
                adjusted = max(1.0 - (1.0 - r * r) * (count - 1) / (count - 2), 0.0)
                reach = max(reach, np.sqrt(adjusted) * max(abs(low[e, i] - mean), abs(high[e, i] - mean)) / std)
        scale[e, y] *= max(1.0, reach / REACH_BOUND)


@scalar
def _mean_and_std(column: Array, seen: Array, total: int) -> tuple[float, float]:
    """Of the rows (O,) that count, of which there are `total`; the spread 1 for a column that does
    not vary.
    """
    mean, variance, largest = 0.0, 0.0, 0.0
    for n in range(column.size):
        if seen[n]:
            mean += column[n]
            largest = max(largest, abs(column[n]))
    mean /= total
    for n in range(column.size):
        if seen[n]:
            variance += (column[n] - mean) ** 2
    std = np.sqrt(variance / total)
    return mean, std if std > max(ROUNDING_UNITS, total / 2) * 2.220446049250313e-16 * largest else 1.0


def attention_mask(observation_mask: Array, num_later: int) -> Array:
    """(E, R, R) bool; see acbo_ref.policy.inputs.attention_mask."""
    num_episodes, num_obs = observation_mask.shape
    rows = num_obs + num_later
    index = np.arange(rows)
    later = index >= num_obs
    mask = np.empty((num_episodes, rows, rows), bool)
    mask[:] = (index[:, None] >= index) & later[:, None] & later | (index[:, None] == index)
    mask[:, :, :num_obs] |= observation_mask[:, None]
    return mask
