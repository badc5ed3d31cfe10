"""Domains in the user's terms: on a logarithm, in steps, around a circle.

The policy reads coordinates in which its domains are plain intervals: the logarithm of a variable
on a logarithmic scale, and the distance from a seam of one that goes around a circle. Everything
else is in the user's units. What is proposed is a value that is allowed: the nearest step.

Contract: pure functions of numbers; knows no campaign.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.errors import AcboError

KINDS = "log, int, step=SIZE, periodic"
MOST_STEPS = 1e9


@dataclass(frozen=True)
class Scale:
    """How the values of a variable lie.

    Attributes:
        is_log: equal ratios count as equal distances; values are above 0.
        step: values that may be set lie so far apart, from the low end on; None for all values.
        is_periodic: the domain's two ends are one value.
    """

    is_log: bool = False
    step: float | None = None
    is_periodic: bool = False

    @property
    def kinds(self) -> list[str]:
        """As `scale_of` reads them."""
        step = [] if self.step is None else ["int" if self.step == 1 else "step=" + repr(self.step).removesuffix(".0")]
        return ["log"] * self.is_log + step + ["periodic"] * self.is_periodic


PLAIN = Scale()


def scale_of(kinds: Sequence[object], name: str) -> Scale:
    """The scale that some of "log", "int", "step=5" and "periodic" make.

    Raises:
        AcboError: another word, or two that exclude each other.
    """
    is_log = is_periodic = False
    step: float | None = None
    for kind in kinds:
        word, _, size = str(kind).partition("=")
        if kind == "log":
            is_log = True
        elif kind == "periodic":
            is_periodic = True
        elif step is None and kind == "int":
            step = 1.0
        elif step is None and word == "step" and _positive(size) is not None:
            step = _positive(size)
        else:
            raise AcboError(
                f"the domain of {name!r} cannot be {str(kind)[:40]!r}", f"known: {KINDS}, one of int and step"
            )
    if is_log and is_periodic:
        raise AcboError(f"the domain of {name!r} cannot be both log and periodic", "leave one out")
    return Scale(is_log, step, is_periodic)


def _positive(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < math.inf else None


def check_scale(scale: Scale, low: float, high: float, name: str) -> None:
    """Whether a domain can be on this scale.

    Raises:
        AcboError: it cannot.
    """
    if not low < high:
        raise AcboError(f"{name!r} has a scale and no domain")
    if scale.is_log and low <= 0:
        raise AcboError(f"the domain of {name!r} begins at {low:g} and cannot be log", "a low end above 0, or no log")
    if scale.step is not None and not 1 <= (high - low) / scale.step <= MOST_STEPS:
        raise AcboError(f"the domain of {name!r} has no two steps of {scale.step:g}, or more than can be told apart")
    if scale.step == 1 and (low != round(low) or high != round(high)):
        raise AcboError(f"the domain of {name!r} is {low:g} to {high:g} and cannot be int", "whole numbers as its ends")


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Between the user's units and what the policy reads.

    Attributes:
        domains: of each variable, None where it cannot be set.
        scales: of each variable.
        seams: of each variable, where a circle is cut open; of no meaning for others.
    """

    domains: Sequence[tuple[float, float] | None]
    scales: Sequence[Scale]
    seams: Sequence[float]

    def domain(self, i: int) -> tuple[float, float]:
        """The domain of a variable that can be set, as the policy reads it."""
        low, high = self.domains[i]  # type: ignore[misc]
        if self.scales[i].is_log:
            return math.log(low), math.log(high)
        return (0.0, high - low) if self.scales[i].is_periodic else (low, high)

    def inside(self, i: int, values: Array) -> Array:
        """Values of variable i as the policy reads them."""
        if self.scales[i].is_log:
            return np.log(values)
        if self.scales[i].is_periodic:
            low, high = self.domains[i]  # type: ignore[misc]
            return np.mod(values - self.seams[i], high - low)
        return values

    def rows(self, rows: Array) -> Array:
        """Rows (N, V), or one (V,), as the policy reads them."""
        rows = np.asarray(rows, float)
        if all(scale == PLAIN for scale in self.scales):
            return rows
        return np.stack([self.inside(i, rows[..., i]) for i in range(rows.shape[-1])], axis=-1)

    def outside(self, i: int, values: Array) -> Array:
        """What the policy said of variable i in the user's units, at the nearest values allowed."""
        scale = self.scales[i]
        if scale == PLAIN:
            return values
        low, high = self.domains[i]  # type: ignore[misc]
        if scale.is_log:
            values = np.array([float(f"{value:.12g}") for value in np.exp(values)])  # 8, and not 7.999999999999998
        elif scale.is_periodic:
            values = low + np.mod(values + self.seams[i] - low, high - low)
        if scale.step is not None:
            steps = math.floor((high - low) / scale.step + 1e-9)
            count = np.round((values - low) / scale.step)
            if scale.is_periodic:
                count = np.mod(count, math.ceil((high - low) / scale.step - 1e-9))
            values = low + scale.step * np.clip(count, 0, steps)
        return np.clip(values, low, high)

    def grid(self, i: int, points: int) -> Array:
        """Ascending values of variable i that are allowed, evenly spaced to the policy."""
        if self.scales[i] == PLAIN:
            return np.linspace(*self.domain(i), points)
        return np.unique(self.outside(i, np.linspace(*self.domain(i), points)))

    def distance(self, i: int, one: float, other: float) -> float:
        """Between two values of variable i, as a share of its domain."""
        low, high = self.domain(i)
        if self.scales[i].is_log and min(one, other) <= 0:
            return math.inf
        a, b = (float(self.inside(i, np.array(value))) for value in (one, other))
        apart = abs(a - b)
        return (min(apart, high - low - apart) if self.scales[i].is_periodic else apart) / (high - low)

    def within(self, i: int, value: float) -> float:
        """A value of variable i, taken around the circle into the domain if it has one."""
        low, high = self.domains[i]  # type: ignore[misc]
        return low + (value - low) % (high - low) if self.scales[i].is_periodic and not low <= value <= high else value
