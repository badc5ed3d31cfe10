"""Twin of acbo_ref/policy/moments.py: sums that rows are added to in place, float64.

Letters: E episodes, N rows, V variables.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from acbo_fast.numba.kernels import kernel, scalar
from acbo_ref.arrays import Array
from acbo_ref.policy.moments import Moments, RegimeSums, SquareSums, Sums


def no_rows(num_episodes: int, width: int) -> Moments[Array]:
    """The moments before any row, each sum an array of its own."""

    def zeros(axes: int) -> Array:
        return np.zeros((num_episodes, *(width,) * axes))

    def sums() -> Sums[Array]:
        return Sums(zeros(0), zeros(1), zeros(2))

    def regimes() -> RegimeSums[Array]:
        return RegimeSums(zeros(1), zeros(2), zeros(2), zeros(2))

    def squares() -> SquareSums[Array]:
        return SquareSums(zeros(2), zeros(1))

    return Moments(sums(), regimes(), regimes(), sums(), squares(), squares())


def copy(moments: Moments[Array], out: Moments[Array]) -> None:
    """out = moments."""
    for source, target in zip(moments, out, strict=True):
        for array, place in zip(source, target, strict=True):
            np.copyto(place, array)


@kernel
def add_rows(moments: Moments[Array], du: Array, was_set: Array, counts: Array) -> None:
    """Adds N rows to each system's sums; see acbo_ref.policy.moments.add_rows."""
    width = du.shape[2]
    for e in range(du.shape[0]):
        for n in range(du.shape[1]):
            if not counts[e, n]:
                continue
            row, number = du[e, n], 0
            for i in range(width):
                number += was_set[e, n, i]
            _add(moments.whole, e, row)
            if number == 0:
                _add(moments.observed, e, row)
                for i in range(width):
                    _add_squares(moments.observed_squares, e, i, row)
            for i in range(width):
                if not was_set[e, n, i]:
                    _add_regime(moments.free, e, i, row)
                elif number == 1:
                    _add_regime(moments.own, e, i, row)
                    _add_squares(moments.own_squares, e, i, row)


@scalar
def _add(sums: Any, e: int, row: Any) -> None:
    sums.number[e] += 1.0
    for i in range(row.size):
        sums.total[e, i] += row[i]
        for j in range(row.size):
            sums.cross[e, i, j] += row[i] * row[j]


@scalar
def _add_regime(sums: Any, e: int, i: int, row: Any) -> None:
    sums.number[e, i] += 1.0
    for j in range(row.size):
        sums.total[e, i, j] += row[j]
        sums.cross[e, i, j] += row[i] * row[j]
        sums.square[e, i, j] += row[j] * row[j]


@scalar
def _add_squares(squares: Any, e: int, i: int, row: Any) -> None:
    square = row[i] * row[i]
    squares.fourth[e, i] += square * square
    for j in range(row.size):
        squares.cross[e, i, j] += square * row[j]
