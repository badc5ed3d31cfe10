"""Twin of acbo_ref/policy/reading.py: rows as the network reads them, in arrays of fixed
capacity.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from acbo_fast.jax.policy.evidence import Columns, Past, evidence_channels
from acbo_fast.jax.policy.inputs import row_channels, start_channels
from acbo_ref.config import PolicyConfig
from acbo_ref.policy.evidence import EVIDENCE_CHANNELS


def open_past(standard: Array, observation_mask: Array, capacity: int) -> Past:
    """The observational rows (E, O, V), zero where they do not count, and room for `capacity`
    more.
    """
    room = ((0, 0), (0, capacity))
    nothing = jnp.full((standard.shape[0], standard.shape[1] + capacity), -1)
    return Past(jnp.pad(standard, (*room, (0, 0))), nothing, jnp.pad(observation_mask, room))


def append(past: Past, position: Any, variable: Array, standard: Array) -> Past:
    """The past with one more row (E, V), in which `variable` (E,) was set, at `position`."""
    return Past(
        past.standard.at[:, position].set(standard),
        past.variable.at[:, position].set(variable.astype(past.variable.dtype)),
        past.seen.at[:, position].set(True),
    )


def observation_row_channels(network: PolicyConfig, standard: Array, columns: Columns) -> Array:
    """(E, O, V, C) of observational rows, standard units, zero where they do not count; they carry
    no evidence.
    """
    channels = row_channels(standard, columns.is_target, jnp.zeros_like(standard, bool))
    if network.evidence == "none":
        return channels
    return jnp.pad(channels, ((0, 0), (0, 0), (0, 0), (0, EVIDENCE_CHANNELS)))


def start_row_channels(network: PolicyConfig, past: Past, columns: Columns) -> Array:
    """(E, V, C) of the start row."""
    return _with_evidence(network, start_channels(columns.is_target, past.standard.dtype), past, columns)


def newest_row_channels(network: PolicyConfig, past: Past, position: Any, columns: Columns) -> Array:
    """(E, V, C) of the intervention row at `position`, the last that counts."""
    intervened = past.variable[:, position, None] == jnp.arange(columns.valid.shape[1])
    channels = row_channels(past.standard[:, position], columns.is_target, intervened)
    return _with_evidence(network, channels, past, columns)


def _with_evidence(network: PolicyConfig, channels: Array, past: Past, columns: Columns) -> Array:
    if network.evidence == "none":
        return channels
    return jnp.concatenate([channels, evidence_channels(past, columns)], -1)
