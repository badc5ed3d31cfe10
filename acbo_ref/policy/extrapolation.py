"""How far from what was seen an experiment may lie.

A line through past rows holds as far as they reach, perhaps a little further, and domains can be
ten times as wide. So both heads decide among values that lie at most `extrapolation` spreads of the
variable beyond where it stands by itself or what it was set to before. Each trial moves the
frontier. The spread of n rows is known only so well: its upper 95 % confidence limit counts,
sd sqrt((n - 1) / chi2_0.05(n - 1)), which is 1.4 sd with 20 rows and 4.4 sd with three.

Contract: pure functions; nothing is limited where a variable was never seen to vary.
Letters: E episodes, V variables, G values of a grid.
"""

from __future__ import annotations

from typing import Any, Generic, NamedTuple

import numpy as np
from scipy.special import chdtri

from acbo_ref.arrays import A, Array
from acbo_ref.policy.inputs import HALF_WIDTH, Task, Units

CONFIDENCE = 0.95
# What lies so little further, in standard units, is near as well: a step from one value of a grid
# reaches the next, however that was rounded.
SLACK = 1e-4


class Seen(NamedTuple, Generic[A]):
    """What was seen of each variable, (E, V) each, standard values: the lowest and the highest
    place where it stood by itself or was put, and how far beyond these an experiment may lie.
    """

    low: A
    high: A
    room: A


def seen_at_first(task: Task, units: Units[Array], extrapolation: float | None) -> Seen[Array]:
    """Before the first experiment; extrapolation in spreads, None for no limit."""
    count = task.observation_mask.sum(axis=1)[:, None]
    rows = np.where(task.observation_mask[:, :, None], task.observations - units.mean[:, None], 0.0)
    degrees = np.maximum(count - 1, 1)
    spread = np.sqrt((rows**2).sum(axis=1) / chdtri(degrees, CONFIDENCE))
    standard = np.clip((units.mean - units.location) / units.scale, -HALF_WIDTH, HALF_WIDTH)
    limited = (count > 1) & (spread > units.resolution) & (extrapolation is not None)
    room = np.where(limited, (extrapolation or 0.0) * spread / units.scale, np.inf)
    return Seen(standard, standard, room)


def seen_with(seen: Seen[A], units: Units[A], was_set: A, rows: A, xp: Any = np) -> Seen[A]:
    """After raw rows (E, V) in which the variables `was_set` (E, V) were set; xp: numpy, or
    jax.numpy for its arrays.
    """
    standard = xp.clip((rows - units.location) / units.scale, -HALF_WIDTH, HALF_WIDTH)  # type: ignore[operator]
    return Seen(
        xp.where(was_set, xp.minimum(seen.low, standard), seen.low),
        xp.where(was_set, xp.maximum(seen.high, standard), seen.high),
        seen.room,
    )


def is_near(seen: Seen[Array], variable: Array, standard: Array, least: float) -> Array:
    """(E, N) bool: which actions variable, standard value (E, N) lie near enough, or at most
    `least` standard units away.
    """
    each = np.arange(len(variable))[:, None]
    low, high = (array[each, variable] for array in reach(seen, least))
    return np.asarray((standard >= low) & (standard <= high))


def reach(seen: Seen[A], least: float, xp: Any = np) -> tuple[A, A]:
    """(E, V) the lowest and the highest standard value of the domain that lies near enough, or
    `least` away from what was seen; xp as of `seen_with`.
    """
    room = xp.maximum(seen.room, least) + SLACK
    return xp.maximum(seen.low - room, -HALF_WIDTH), xp.minimum(seen.high + room, HALF_WIDTH)


def within(seen: Seen[A], grid: A, xp: Any = np) -> A:
    """(E, V, G) bool: which values of an even grid of standard values lie near enough; of every
    variable the nearest one to what was seen does. xp as of `seen_with`.
    """
    low, high = reach(seen, grid[1] - grid[0], xp)  # type: ignore[index]
    found: A = (grid >= low[:, :, None]) & (grid <= high[:, :, None])  # type: ignore[index]
    return found
