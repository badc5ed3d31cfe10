"""Moments: what the pairwise network knows of the rows so far, as sums that a row is added to.

For linear models with Gaussian noise the first and second moments of each regime are sufficient.
They are sums, so their order cannot matter, adding a row costs V^2, and neither memory nor time
grows with the number of rows. With du the deviation of a row from the observational mean, in half
domains (inputs.deviations), the regimes are

    observed    rows in which nothing was set
    own[i]      rows in which i was set, and nothing else: what a change of i does
    free[i]     rows in which i was not set: there, i follows its own equation
    whole       all rows; nobody sets the target, so its own equation holds in all of them

A row may have any set of variables that were set: a mask, not one index. Where lines bend shows in
moments of third and fourth order, kept for `observed` and `own` (SquareSums).

Contract: pure functions of arrays in float64; adding rows one at a time, all at once, or in another
order gives the same sums but for rounding.
Letters: E episodes, N rows, V variables.
"""

from __future__ import annotations

from typing import Any, Generic, NamedTuple

import numpy as np

from acbo_ref.arrays import A, Array
from acbo_ref.policy.inputs import ROUNDING_UNITS


class Sums(NamedTuple, Generic[A]):
    """Of a set of rows: number (E,), total (E, V) = sum du_j, cross (E, V, V) = sum du_i du_j."""

    number: A
    total: A
    cross: A


class RegimeSums(NamedTuple, Generic[A]):
    """Of V sets of rows, one for each variable i: number (E, V), and (E, V, V) each: total[i, j] =
    sum du_j, cross[i, j] = sum du_i du_j, square[i, j] = sum du_j^2."""

    number: A
    total: A
    cross: A
    square: A


class SquareSums(NamedTuple, Generic[A]):
    """What squares add, of the same rows: cross (E, V, V) = sum du_i^2 du_j, over all rows of the
    set or over those of i; fourth (E, V) = sum du_i^4.
    """

    cross: A
    fourth: A


class Moments(NamedTuple, Generic[A]):
    """The sums of each regime, and of squares in two of them; see above."""

    observed: Sums[A]
    own: RegimeSums[A]
    free: RegimeSums[A]
    whole: Sums[A]
    observed_squares: SquareSums[A]
    own_squares: SquareSums[A]


def no_rows(num_episodes: int, width: int) -> Moments[Array]:
    """The moments before any row."""
    count, total, cross = (
        np.zeros(num_episodes),
        np.zeros((num_episodes, width)),
        np.zeros((num_episodes, width, width)),
    )
    sums, regimes, squares = Sums(count, total, cross), RegimeSums(total, cross, cross, cross), SquareSums(cross, total)
    return Moments(sums, regimes, regimes, sums, squares, squares)


def add_rows(moments: Moments[Array], du: Array, was_set: Array, counts: Array) -> Moments[Array]:
    """The moments with N more rows in each system.

    Args:
        du: (E, N, V) deviations from the observational mean, in half domains.
        was_set: (E, N, V) bool, which variables were set in a row: none, one, or any number.
        counts: (E, N) bool, the rows that count.
    """
    weight = counts[:, :, None].astype(float)
    number = was_set.sum(axis=2, keepdims=True)
    observed = (weight * (number == 0))[..., 0]
    own = weight * (was_set & (number == 1))
    return Moments(
        observed=_add(moments.observed, du, observed),
        own=_add_regimes(moments.own, du, own),
        free=_add_regimes(moments.free, du, weight * ~was_set),
        whole=_add(moments.whole, du, weight[..., 0]),
        observed_squares=_add_squares(moments.observed_squares, du, observed[:, :, None]),
        own_squares=_add_squares(moments.own_squares, du, own),
    )


def _add(sums: Sums[Array], du: Array, weight: Array) -> Sums[Array]:
    """With rows of weight (E, N), 0 or 1."""
    weighted = weight[:, :, None] * du
    return Sums(
        number=sums.number + weight.sum(axis=1),
        total=sums.total + weighted.sum(axis=1),
        cross=sums.cross + weighted.swapaxes(1, 2) @ du,
    )


def _add_regimes(sums: RegimeSums[Array], du: Array, weight: Array) -> RegimeSums[Array]:
    """With rows of weight (E, N, V), 0 or 1: does row n belong to the set of variable i?"""
    transposed = weight.swapaxes(1, 2)
    return RegimeSums(
        number=sums.number + weight.sum(axis=1),
        total=sums.total + transposed @ du,
        cross=sums.cross + (weight * du).swapaxes(1, 2) @ du,
        square=sums.square + transposed @ (du * du),
    )


def _add_squares(sums: SquareSums[Array], du: Array, weight: Array) -> SquareSums[Array]:
    """With rows of weight (E, N, V), does row n belong to the set of i; or (E, N, 1), the same for
    all i.
    """
    square = weight * du * du
    return SquareSums(
        cross=sums.cross + square.swapaxes(1, 2) @ du,
        fourth=sums.fourth + (square * du * du).sum(axis=1),
    )


def centred(sums: Sums[Array]) -> Array:
    """(E, V, V) scatter about the rows' own mean."""
    count = np.maximum(sums.number, 1.0)[:, None, None]
    return np.asarray(sums.cross - sums.total[:, :, None] * sums.total[:, None, :] / count)


def about_the_mean(sums: Sums[A], squares: SquareSums[A], number: A) -> tuple[A, A]:
    """Third and fourth moments about the rows' own mean: (E, V, V) the mean of (du_i - m_i)^2
    (du_j - m_j), and (E, V) that of (du_i - m_i)^4. The same code for every kind of array.

    Args:
        number: (E,) of rows, at least 1.
    """
    s: Any = sums
    q: Any = squares
    count, one = number[:, None, None], number[:, None]  # type: ignore[index]
    mean = s.total / one
    m_i, m_j = mean[:, :, None], mean[:, None, :]
    square, cube = s.cross.diagonal(0, 1, 2), q.cross.diagonal(0, 1, 2)
    third = q.cross - 2 * m_i * s.cross - m_j * square[:, :, None] + 2 * count * m_i**2 * m_j
    fourth = q.fourth - 4 * mean * cube + 6 * mean**2 * square - 3 * one * mean**4
    return third / count, fourth / one


def spreads(sums: Sums[Array]) -> Array:
    """(E, V) standard deviations (ddof 0), half domains.

    What is left of sum du^2 after the mean is taken off counts as 0 where it is rounding of that
    sum: a variable that stands elsewhere than its observational mean, but still, does not vary.
    """
    count = np.maximum(sums.number, 1.0)[:, None]
    squares = np.diagonal(sums.cross, axis1=1, axis2=2)
    scatter = squares - sums.total**2 / count
    rounding = ROUNDING_UNITS * np.finfo(scatter.dtype).eps * squares
    return np.asarray(np.sqrt(np.where(scatter > rounding, scatter, 0.0) / count))
