"""Curves of the prior: what ordinary processes do besides straight lines.

A curved model has, at its target and at every second of its other children, in place of some lines

    draws of a Gaussian process     of one parent or of several jointly, as a few sines of normal
                                    frequency (Rahimi & Recht 2007, alg. 1)
    peaks and dips                  bumps, half of them near where the parent stands by itself
    saturation and cliffs           tanh, gentle or steep
    U-shapes                        squares
    products                        of two parents, as a difference of two squares

In a tuned model the target stands near its best, as whoever runs a process leaves it: most of its
parents act through a dip or a U whose lowest point is near where the parent stands by itself. The
ends of a wide domain are then far worse than doing nothing.

Contract: a function of the generator; lengths are in half domains of the parent, sizes in noise
standard deviations of the child.
Letters: V variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.config import PriorConfig

# Sines that make a draw of a Gaussian process, of one parent and of several.
ONE_PARENT_SINES, JOINT_SINES = 3, 6
# Terms of a variable's equation at most; parents beyond stay linear. Parents of a joint draw.
MOST_TERMS, MOST_JOINT = 8, 4
# How a curved child treats its parents: each apart, all jointly, two of them as a product.
STYLES, STYLE_SHARES = ("apart", "jointly", "product"), (0.55, 0.35, 0.1)
# What becomes of a parent's line if each is treated apart.
KINDS, KIND_SHARES = ("line", "process", "bump", "tanh", "cliff", "square"), (0.15, 0.28, 0.25, 0.11, 0.06, 0.15)
# The same of the target's parents in a tuned model.
TUNED_SHARES = (0.15, 0.05, 0.3, 0.05, 0.05, 0.4)
# Share of bumps and squares that have a lowest point inside; of the others half have it, too.
INWARD = 0.5
# Widths in half domains.
BUMP_WIDTH, TANH_WIDTH, CLIFF_WIDTH = (0.2, 1.0), (0.15, 1.0), (0.02, 0.1)


class Equations(NamedTuple):
    """Of V variables in topological order: intercept, noise_std (V,); the others (V, V), of the
    edge from i to j.
    """

    intercept: Array
    noise_std: Array
    weights: Array
    amplitude: Array
    frequency: Array
    phase: Array


class ChildTerm(NamedTuple):
    """A term in the equation of variable number `child`; see scm.Term."""

    child: int
    amplitude: float
    phase: float
    frequencies: Mapping[int, float]
    shape: str = "sine"


def edge_terms(equations: Equations) -> list[ChildTerm]:
    """The sine terms of single edges."""
    amplitude, frequency, phase = equations[3:]
    return [
        ChildTerm(int(j), float(amplitude[i, j]), float(phase[i, j]), {int(i): float(frequency[i, j])})
        for i, j in np.argwhere(amplitude != 0)
    ]


class _Child:
    """Draws the curved equation of one variable."""

    def __init__(self, prior: PriorConfig, size: float, center: Array, half: Array, rng: np.random.Generator) -> None:
        self._prior, self._size, self._center, self._half, self._rng = prior, size, center, half, rng

    def _log_uniform(self, low: float, high: float) -> float:
        return float(np.exp(self._rng.uniform(np.log(low), np.log(high))))

    def _signed(self) -> float:
        return float(self._rng.choice([-1.0, 1.0])) * self._size

    def process(self, parents: Array, count: int) -> list[tuple[float, float, dict[int, float], str]]:
        """A draw of a Gaussian process of the parents."""
        length = self._log_uniform(*self._prior.curve_length)
        amplitude = self._size * float(np.sqrt(2.0 / count))
        return [
            (
                amplitude,
                float(self._rng.uniform(0, 2 * np.pi)),
                {int(i): float(self._rng.standard_normal() / (length * self._half[i])) for i in parents},
                "sine",
            )
            for _ in range(count)
        ]

    def one(self, i: int, kind: str, tuned: bool) -> list[tuple[float, float, dict[int, float], str]]:
        """A curve of one parent; in a tuned model a bump or a square has its lowest point, near
        where the parent stands by itself.
        """
        if kind == "process":
            return self.process(np.array([i]), ONE_PARENT_SINES)
        low, high = {"bump": BUMP_WIDTH, "tanh": TANH_WIDTH, "cliff": CLIFF_WIDTH, "square": (1.0, 1.0)}[kind]
        place = self._center[i] + self._half[i] * self._rng.uniform(-0.8, 0.8)
        if kind in ("bump", "square") and (self._rng.random() < 0.5 or tuned):  # near where it stands by itself
            place = float(np.clip(self._rng.standard_normal(), -1, 1) * 0.3 * self._half[i])
        frequency = 1.0 / (self._log_uniform(low, high) * self._half[i])
        shape = "tanh" if kind == "cliff" else kind
        size = self._signed()
        if self._rng.random() < INWARD or tuned:  # a lowest point between the ends
            size = {"bump": -abs(size), "square": abs(size)}.get(kind, size)
        return [(size, float(-frequency * place), {int(i): float(frequency)}, shape)]

    def product(self, i: int, j: int) -> list[tuple[float, float, dict[int, float], str]]:
        """4 x y = (x + y)^2 - (x - y)^2, of both in half domains."""
        quarter = 0.25 * self._signed()
        a, b = 1.0 / float(self._half[i]), 1.0 / float(self._half[j])
        shift = [-a * float(self._center[i]), -b * float(self._center[j])]
        return [
            (sign * quarter, shift[0] + sign * shift[1], {int(i): a, int(j): sign * b}, "square")
            for sign in (1.0, -1.0)
        ]


def curved(
    prior: PriorConfig,
    equations: Equations,
    terms: list[ChildTerm],
    edges: Array,
    target: int,
    center: Array,
    half_width: Array,
    tuned: bool,
    rng: np.random.Generator,
) -> list[ChildTerm]:
    """The terms of the model with curves; lines that they replace are taken out of
    `equations.weights`, in place.

    Args:
        terms: those there are, of which a curved child loses its own.
        edges: (V, V) bool. center, half_width: (V,), of the domains.
    """
    result = []
    for child in range(len(edges)):
        own = [term for term in terms if term.child == child]
        parents = rng.permutation(np.flatnonzero(edges[:, child]))
        if not len(parents) or (child != target and rng.random() < 0.5):
            result += own
            continue
        tuned_child = tuned and child == target
        low, high = prior.tuned_size if tuned_child else prior.curve_size
        size = float(np.exp(rng.uniform(np.log(max(low, 1e-3)), np.log(high))))
        size *= float(equations.noise_std[child]) or 1.0
        drawn = _Child(prior, size, center, half_width, rng)
        style = "apart" if tuned_child else str(rng.choice(STYLES, p=STYLE_SHARES))
        found, used = [], []
        if style == "jointly":
            used = list(parents[:MOST_JOINT])
            found = drawn.process(parents[:MOST_JOINT], JOINT_SINES)
        elif style == "product" and len(parents) > 1:
            used = list(parents[:2])
            found = drawn.product(int(parents[0]), int(parents[1]))
        else:
            for i in parents:
                kind = str(rng.choice(KINDS, p=TUNED_SHARES if tuned_child else KIND_SHARES))
                if kind != "line" and len(found) + ONE_PARENT_SINES <= MOST_TERMS:
                    used.append(i)
                    found += drawn.one(int(i), kind, tuned_child)
        equations.weights[used, child] = 0.0
        result += [term for term in own if not set(term.frequencies) & {int(i) for i in used}][
            : MOST_TERMS - len(found)
        ]
        result += [ChildTerm(child, *term) for term in found]
    return result
