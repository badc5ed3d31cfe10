"""Twin of acbo_ref/policy/inputs.py: standard units, channels and the row mask, as traced
functions.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from acbo_ref.policy.inputs import CHANNELS, DEVIATION_BOUND, HALF_WIDTH, RANGE, REACH_BOUND, ROUNDING_UNITS, Units


def standard_units(
    observations: Array, observation_mask: Array, is_target: Array, manipulable: Array, low: Array, high: Array
) -> Units[Array]:
    """See acbo_ref.policy.inputs.standard_units."""
    present = observation_mask[:, :, None]
    count = jnp.maximum(present.sum(1), 1)
    mean = jnp.where(present, observations, 0).sum(1) / count
    deviation = jnp.where(present, observations - mean[:, None], 0)
    std = jnp.sqrt(jnp.square(deviation).sum(1) / count)
    largest = jnp.where(present, abs(observations), 0).max(1, initial=0)
    rounding = jnp.maximum(ROUNDING_UNITS, count / 2) * jnp.finfo(std.dtype).eps
    std = jnp.where(std > rounding * largest, std, 1)
    furthest_end = jnp.where(manipulable, jnp.maximum(abs(low), abs(high)), 0)
    resolution = rounding * jnp.maximum(largest, furthest_end)
    z = deviation / std[:, None]
    r = (z * jnp.where(is_target[:, None], z, 0).sum(2, keepdims=True)).sum(1) / count
    adjusted = jnp.where(count > 2, 1 - (1 - jnp.square(r)) * (count - 1) / jnp.maximum(count - 2, 1), 0)
    furthest = jnp.where(manipulable, jnp.maximum(abs(low - mean), abs(high - mean)) / std, 0)
    reach = (jnp.sqrt(jnp.maximum(adjusted, 0)) * furthest).max(1, keepdims=True)
    unit = jnp.where(is_target, jnp.maximum(1, reach / REACH_BOUND), 1)
    location = jnp.where(manipulable, (low + high) / 2, mean)
    return Units(
        location=location,
        scale=jnp.where(manipulable, (high - low) / RANGE, std) * unit,
        mean=jnp.where(observation_mask.any(1)[:, None], mean, location),
        resolution=resolution,
    )


def deviations(units: Units[Array], valid: Array, rows: Array) -> Array:
    """Raw rows (E, N, V) in half domains from the mean; see acbo_ref.policy.inputs.deviations."""
    difference = rows - units.mean[:, None]
    differs = valid[:, None] & (abs(difference) > units.resolution[:, None])
    du = jnp.where(differs, difference, 0) / (HALF_WIDTH * units.scale)[:, None]
    return jnp.clip(du, -DEVIATION_BOUND, DEVIATION_BOUND)


def row_channels(standard: Array, is_target: Array, is_intervened: Array) -> Array:
    """(E, ..., V) standard values and flags -> (E, ..., V, C)."""
    flags = is_target.reshape(is_target.shape[0], *[1] * (standard.ndim - 2), is_target.shape[1])
    columns = [standard / HALF_WIDTH, flags, is_intervened, jnp.zeros_like(standard)]
    return jnp.stack([jnp.broadcast_to(c, standard.shape).astype(standard.dtype) for c in columns], -1)


def start_channels(is_target: Array, dtype: jnp.dtype) -> Array:
    """(E, V, C) of the start row."""
    columns = [jnp.zeros_like(is_target), is_target, jnp.zeros_like(is_target), jnp.ones_like(is_target)]
    assert len(columns) == CHANNELS
    return jnp.stack(columns, -1).astype(dtype)


def attention_mask(observation_mask: Array, num_later: int) -> Array:
    """(E, R, R) bool; see acbo_ref.policy.inputs.attention_mask."""
    num_obs = observation_mask.shape[1]
    row = jnp.arange(num_obs + num_later)
    reader, read = row[:, None], row[None, :]
    later = (read >= num_obs) & (read <= reader)
    seen = jnp.pad(observation_mask, ((0, 0), (0, num_later)))
    return later | (reader == read) | seen[:, None, :]
