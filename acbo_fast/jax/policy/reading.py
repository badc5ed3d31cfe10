"""Twin of acbo_ref/policy/reading.py: rows as the network reads them, as functions of what was
read.

Letters: E episodes, O observational rows, V variables, C and P channels, F evidence channels.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from acbo_fast.jax.policy.evidence import evidence_channels
from acbo_fast.jax.policy.inputs import deviations, row_channels, start_channels
from acbo_fast.jax.policy.moments import add_rows, no_rows
from acbo_fast.jax.policy.pairs import background, pair_channels
from acbo_ref.config import PolicyConfig
from acbo_ref.policy.inputs import HALF_WIDTH, Units
from acbo_ref.policy.moments import Moments
from acbo_ref.policy.network import reads_pairs
from acbo_ref.policy.pairs import Background
from acbo_ref.policy.reading import View


class Known(NamedTuple):
    """What does not change while rows are read: target (E,), valid and manipulable (E, V), units,
    and, for pairs, what the observational rows alone say.
    """

    target: Array
    valid: Array
    manipulable: Array
    units: Units[Array]
    background: Background[Array] | None


def observation_row_channels(known: Known, observed: Array, observation_mask: Array) -> Array:
    """(E, O, V, C) of the observational rows (E, O, V), raw units."""
    counts = known.valid[:, None] & observation_mask[:, :, None]
    standard = jnp.where(counts, (observed - known.units.location[:, None]) / known.units.scale[:, None], 0)
    return row_channels(standard, _is_target(known), jnp.zeros_like(standard, bool))


def open_reading(
    network: PolicyConfig, known: Known, observed: Array, observation_mask: Array
) -> tuple[Known, Moments[Array] | None, View[Array]]:
    """What is known after the observational rows (E, O, V), raw units; the moments, None for the
    trunk over rows; and the view at the first decision.
    """
    if not reads_pairs(network):
        return known, None, _row_view(start_channels(_is_target(known), observed.dtype))
    du = deviations(known.units, known.valid, jnp.where(observation_mask[:, :, None], observed, 0))
    num_episodes, width = known.valid.shape
    start = no_rows(num_episodes, width, observed.dtype)
    moments = add_rows(start, du, jnp.zeros(observed.shape, bool), observation_mask)
    centre = (known.units.mean - known.units.location) / (HALF_WIDTH * known.units.scale)
    sums, squares = moments.observed, moments.observed_squares
    alone = background(sums, squares, centre, known.target, known.manipulable, known.valid)
    known = known._replace(background=alone)
    return known, moments, _pair_view(known, moments)


def append(
    known: Known, moments: Moments[Array] | None, variable: Array, rows: Array
) -> tuple[Moments[Array] | None, View[Array]]:
    """Moments and view after raw rows (E, V) in which `variable` (E,) was set."""
    was_set = jnp.arange(rows.shape[1]) == variable[:, None]
    if moments is None:
        standard = jnp.where(known.valid, (rows - known.units.location) / known.units.scale, 0)
        return None, _row_view(row_channels(standard, _is_target(known), was_set))
    du = deviations(known.units, known.valid, rows[:, None])
    moments = add_rows(moments, du, was_set[:, None], jnp.ones((len(rows), 1), bool))
    return moments, _pair_view(known, moments)


def _is_target(known: Known) -> Array:
    return jnp.arange(known.valid.shape[1]) == known.target[:, None]


def _row_view(channels: Array) -> View[Array]:
    return View(channels, jnp.zeros((*channels.shape[:2], 0), channels.dtype))


def _pair_view(known: Known, moments: Moments[Array]) -> View[Array]:
    alone = known.background
    assert alone is not None
    evidence = evidence_channels(moments, alone.centre, alone.ordered, known.target, known.valid)
    return View(pair_channels(moments, alone, evidence, known.target, known.valid), evidence)
