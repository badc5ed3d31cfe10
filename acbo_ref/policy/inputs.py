"""What the policy sees: standard units, input channels and the row mask.

An episode is one sequence of R = O + K rows,

    [ O observational rows ][ start row ][ intervention rows 1 .. K-1 ]

and decision k is read at row O + k.

Standard units map every variable affinely, so that the policy is indifferent to the user's units:

    manipulable variable     [low, high] -> [-5, 5]
    any other                (x - mean) / std over the observational rows
    target                   the same, divided by reach / 10 where least squares sees it reach
                             further than 10 spreads

Channels of a row and variable: standard value / 5, is-target, is-intervened, is-start.

Contract: pure functions of arrays. Nothing here draws random numbers or holds parameters.
Letters: E episodes, O observational rows, K decisions, R rows, V variables, C = 4 channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from acbo_ref.arrays import A, Array

CHANNELS = 4
# Half the width of a domain in standard units, and the number that standard values are divided by.
HALF_WIDTH = 5.0
RANGE = 2 * HALF_WIDTH
# A target that is expected to move further than so many of its spreads is measured in a larger
# unit, in which it moves so far.
REACH_BOUND = 10.0
# Outcomes count in rewards and losses as if they lay at most so many standard units away: the
# spread of two or three rows can be a hundred times too small, and a handful of such episodes would
# outweigh all others.
OUTCOME_BOUND = 30.0
# Deviations from the mean are read as if they were at most this many half domains: the squares of
# squares of what a typing error gives (1e99) must stay finite.
DEVIATION_BOUND = 1e6
# A location-scale map needs a positive scale: a column that does not vary gets scale 1. Its
# computed standard deviation is then rounding, a few units in the last place of its largest entry.
ROUNDING_UNITS = 16


@dataclass(frozen=True, eq=False)
class Task:
    """All that is known of E systems before the first intervention. Nothing in here tells how the
    target is caused.

    Args:
        observations: (E, O, V) observational rows, raw units; rows beyond an episode's own number
            are ignored.
        observation_mask: (E, O) bool, the rows that count.
        target: (E,) int.
        valid: (E, V) bool, false for padding.
        manipulable: (E, V) bool.
        low, high: (E, V) domains, raw units; read only where manipulable.
    """

    observations: Array
    observation_mask: Array
    target: Array
    valid: Array
    manipulable: Array
    low: Array
    high: Array

    @property
    def is_target(self) -> Array:
        """(E, V) bool"""
        width = self.valid.shape[1]
        return np.arange(width) == self.target[:, None]


class Units(NamedTuple, Generic[A]):
    """What raw values are measured in, (E, V) each: standard = (raw - location) / scale.

    Args:
        location, scale: of the map to standard units.
        mean: of the observational rows, raw units; the location where there are none.
        resolution: raw values that differ from the mean by no more than this differ by rounding.
    """

    location: A
    scale: A
    mean: A
    resolution: A


def standard_units(task: Task) -> Units[Array]:
    """The units of E systems, from their observational rows and domains.

    The spread of a variable that is not manipulable is its sample standard deviation (ddof 0) over
    the O rows; with fewer than two rows or a constant column it is 1, and with no rows the location
    is 0. The target's is multiplied by max(1, reach / REACH_BOUND).
    """
    weight = task.observation_mask[:, :, None].astype(task.observations.dtype)
    rows = np.where(
        task.valid[:, None] & task.observation_mask[:, :, None], task.observations, 0.0
    )  # whatever stands there
    count = np.maximum(weight.sum(axis=1), 1.0)
    mean = rows.sum(axis=1) / count
    deviation = (rows - mean[:, None]) * weight
    std = np.sqrt((deviation**2).sum(axis=1) / count)
    largest = np.abs(rows).max(axis=1, initial=0.0)
    rounding = np.maximum(ROUNDING_UNITS, count / 2) * np.finfo(std.dtype).eps  # a sum of n errs by n / 2 units
    std = np.where(std > rounding * largest, std, 1.0)
    low, high = (np.where(task.manipulable, end, 0.0) for end in (task.low, task.high))
    resolution = rounding * np.maximum(largest, np.maximum(np.abs(low), np.abs(high)))
    location = np.where(task.manipulable, (task.low + task.high) / 2, mean)
    scale = np.where(task.manipulable, (task.high - task.low) / RANGE, std)
    unit = np.maximum(1.0, _reach(task, deviation / std[:, None], mean, std) / REACH_BOUND)
    return Units(
        location=location,
        scale=np.where(task.is_target, scale * unit[:, None], scale),
        mean=np.where(np.asarray(task.observation_mask.any(axis=1))[:, None], mean, location),
        resolution=resolution,
    )


def deviations(units: Units[Array], valid: Array, rows: Array) -> Array:
    """Raw rows (E, N, V) as deviations from the observational mean, in half domains (5 standard
    units) and at most DEVIATION_BOUND; exactly 0 for padding and for what differs from the mean by
    rounding alone.
    """
    difference = rows - units.mean[:, None]
    differs = valid[:, None] & (np.abs(difference) > units.resolution[:, None])
    du = np.where(differs, difference, 0.0) / (HALF_WIDTH * units.scale)[:, None]
    return np.clip(du, -DEVIATION_BOUND, DEVIATION_BOUND)


def _reach(task: Task, z: Array, mean: Array, std: Array) -> Array:
    """(E,) how many spreads the target moves when the variable that does most is set to the end of
    its domain that does most, if what regression sees is cause: max_i |r_i| max(|low_i - mean_i|,
    |high_i - mean_i|) / std_i.

    The correlation r_i is the adjusted one, r^2 -> 1 - (1 - r^2) (n - 1) / (n - 2), none below 0
    (Ezekiel 1930), since of a few rows most are large by chance; with fewer than three rows it is
    0.

    Args:
        z: (E, O, V) rows less the mean, in spreads, zero where they do not count; mean, std: (E,
            V).
    """
    rows = task.observation_mask.sum(axis=1)[:, None]
    target = np.take_along_axis(z, task.target[:, None, None], axis=2)
    r = (z * target).sum(axis=1) / np.maximum(rows, 1)
    adjusted = np.where(rows > 2, 1.0 - (1.0 - r * r) * (rows - 1) / np.maximum(rows - 2, 1), 0.0)
    low, high = (np.where(task.manipulable, end, mean) for end in (task.low, task.high))
    furthest = np.maximum(np.abs(low - mean), np.abs(high - mean)) / std
    return np.asarray((np.sqrt(np.maximum(adjusted, 0.0)) * furthest).max(axis=1))


def to_domain(task: Task, units: Units[Array], variable: Array, standard: Array) -> Array:
    """Raw values (E,) of standard ones in [-5, 5] of the manipulable variables named by `variable`
    (E,).

    The ends are the domain's own to the last bit: location + 5 scale can miss them by rounding.
    """
    each = np.arange(len(variable))
    low, high = task.low[each, variable], task.high[each, variable]
    raw = np.clip(units.location[each, variable] + units.scale[each, variable] * standard, low, high)
    return np.asarray(np.where(standard <= -HALF_WIDTH, low, np.where(standard >= HALF_WIDTH, high, raw)))


def to_standard(units: Units[Array], variable: Array, value: Array) -> Array:
    """Standard values in [-5, 5] of raw ones (E, N) of the variables named by `variable` (E, N)."""
    at = np.arange(len(variable))[:, None], variable
    return np.asarray(np.clip((value - units.location[at]) / units.scale[at], -HALF_WIDTH, HALF_WIDTH))


def set_mask(variable: Array, width: int) -> Array:
    """(E, V) bool, which variables were set: from one index a row (E,), -1 for none, or from such a
    mask.
    """
    return variable if variable.ndim == 2 else np.arange(width) == variable[:, None]


def row_channels(standard: Array, is_target: Array, is_intervened: Array) -> Array:
    """Channels of measured rows: (E, N, V) standard values and (E, N, V) bool flags -> (E, N, V,
    C).
    """
    shape = standard.shape
    return np.stack(
        [
            standard / HALF_WIDTH,
            np.broadcast_to(is_target[:, None], shape).astype(standard.dtype),
            np.broadcast_to(is_intervened, shape).astype(standard.dtype),
            np.zeros(shape, standard.dtype),
        ],
        axis=-1,
    )


def observation_channels(task: Task, units: Units[Array]) -> Array:
    """(E, O, V, C) of the observational rows; padding is zeroed."""
    standard = (task.observations - units.location[:, None]) / units.scale[:, None]
    standard = np.where(task.valid[:, None] & task.observation_mask[:, :, None], standard, 0.0)
    return row_channels(standard, task.is_target, np.zeros(standard.shape, bool))


def start_channels(is_target: Array, dtype: DTypeLike = float) -> Array:
    """(E, V, C) of the start row, which stands for "nothing done yet": value 0, is-target, 0, 1."""
    channels = np.zeros((*is_target.shape, CHANNELS), dtype)
    channels[..., 1] = is_target
    channels[..., 3] = 1.0
    return channels


def attention_mask(observation_mask: Array, num_later: int) -> Array:
    """(E, R, R) bool, [e, r, s]: may row r read row s?

    Observational rows read all observational rows and nothing else; every later row reads the
    observational rows, the later rows before it, and itself. Every row reads itself, so that no
    softmax is empty, padding included.
    """
    num_episodes, num_obs = observation_mask.shape
    rows = num_obs + num_later
    later = np.arange(rows) >= num_obs
    causal = np.tril(np.ones((rows, rows), bool)) & later[:, None] & later[None, :]
    mask = np.broadcast_to(causal | np.eye(rows, dtype=bool), (num_episodes, rows, rows)).copy()
    mask[:, :, :num_obs] |= observation_mask[:, None, :]
    return mask
