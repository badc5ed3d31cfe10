"""Benchmark systems of the causal Bayesian optimisation literature, as `FunctionalSCM`s, with their
known optima.

    ToyGraph, CompleteGraph, Coral, SimplifiedCoral, PSA   Aglietti et al. 2020, "Causal Bayesian
                                                           Optimization"
    Epidemiology   Branchini et al. 2023, "Causal Entropy Optimization"; after Havercroft & Didelez
                   2012
    Graph4         "CBO with unknown graphs" (CBO-U)
    synthetic2     Aglietti et al. 2023, "Constrained Causal Bayesian Optimization", constraints
                   left out

A number counts only with its domain and its noise, so both stand here. e is standard normal; a
uniform variable on [a, b] is a + (b - a) Phi(e), so that one noise array drives every system. Only
single-variable interventions are played here: the optima are those of one variable, not of sets.
Coral's coefficients are a least-squares refit to the published 46 rows (no data are shipped); its
mechanisms but for L and N are deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.special import expit, ndtr

from acbo_ref.arrays import Array
from acbo_ref.systems.functional import FunctionalSCM
from acbo_ref.systems.scm import System, Variable

Values = Mapping[str, Array]


def _lever(name: str, low: float, high: float) -> Variable:
    return Variable(name, low=low, high=high)


def _fixed(name: str) -> Variable:
    """A variable that is seen and cannot be set."""
    return Variable(name, manipulable=False)


def toy_graph() -> FunctionalSCM:
    """X -> Z -> Y; do(Z) has local minima at -3.2, 3.1, 9.4, 15.7, so neither end of a domain is
    good.
    """
    return FunctionalSCM(
        "ToyGraph",
        "Y",
        (_lever("X", -5, 5), _lever("Z", -5, 20), _fixed("Y")),
        {"Z": ("X",), "Y": ("Z",)},
        {
            "X": lambda v, e: e,
            "Z": lambda v, e: np.exp(-v["X"]) + e,
            "Y": lambda v, e: np.cos(v["Z"]) - np.exp(-v["Z"] / 20) + e,
        },
    )


def complete_graph() -> FunctionalSCM:
    """Two hidden confounders U1, U2; levers B, D, E. do(B = -5) drives C, and so E, far outside
    their usual range.
    """
    return FunctionalSCM(
        "CompleteGraph",
        "Y",
        (
            _fixed("U1"), _fixed("U2"), _fixed("F"), _fixed("A"), _lever("B", -5, 4), _fixed("C"),
            _lever("D", -5, 5), _lever("E", -6, 3), _fixed("Y"),
        ),
        {"A": ("F", "U1"), "B": ("U2",), "C": ("B",), "D": ("C",), "E": ("A", "C"), "Y": ("D", "E", "U1", "U2")},
        {
            "U1": lambda v, e: e,
            "U2": lambda v, e: e,
            "F": lambda v, e: e,
            "A": lambda v, e: v["F"] ** 2 + v["U1"] + e,
            "B": lambda v, e: v["U2"] + e,
            "C": lambda v, e: np.exp(-v["B"]) + e,
            "D": lambda v, e: np.exp(-v["C"]) / 10 + e,
            "E": lambda v, e: np.cos(v["A"]) + v["C"] / 10 + e,
            "Y": lambda v, e: (
                np.cos(v["D"]) - v["D"] / 5 + np.sin(v["E"]) - v["E"] / 4 + v["U1"] + np.exp(-v["U2"]) + e
            ),
        },
        hidden=frozenset({"U1", "U2"}),
    )  # fmt: skip


def psa() -> FunctionalSCM:
    """Prostate-specific antigen under aspirin and statin: a small effect (0.65) in noise of 0.46.
    -0.15 bmi, sd 0.7 and 0.4.
    """
    return FunctionalSCM(
        "PSA",
        "PSA",
        (
            _fixed("age"),
            _fixed("bmi"),
            _lever("aspirin", 0, 1),
            _lever("statin", 0, 1),
            _fixed("cancer"),
            _fixed("PSA"),
        ),
        {
            "bmi": ("age",),
            "aspirin": ("age", "bmi"),
            "statin": ("age", "bmi"),
            "cancer": ("age", "bmi", "statin", "aspirin"),
            "PSA": ("age", "bmi", "statin", "aspirin", "cancer"),
        },
        {
            "age": lambda v, e: 55 + 20 * ndtr(e),
            "bmi": lambda v, e: 27 - 0.01 * v["age"] + 0.7 * e,
            "aspirin": lambda v, e: expit(-8 + 0.10 * v["age"] + 0.03 * v["bmi"]),
            "statin": lambda v, e: expit(-13 + 0.10 * v["age"] + 0.20 * v["bmi"]),
            "cancer": lambda v, e: expit(
                2.2 - 0.05 * v["age"] + 0.01 * v["bmi"] - 0.04 * v["statin"] + 0.02 * v["aspirin"]
            ),
            "PSA": lambda v, e: (
                6.8
                + 0.04 * v["age"]
                - 0.15 * v["bmi"]
                - 0.60 * v["statin"]
                + 0.55 * v["aspirin"]
                + v["cancer"]
                + 0.4 * e
            ),
        },
    )


def epidemiology() -> FunctionalSCM:
    """Highly oscillatory in both levers; U is a hidden confounder. Domains of the CEO code: T and R
    in [0, 4].
    """
    return FunctionalSCM(
        "Epidemiology",
        "Y",
        (_fixed("U"), _lever("T", 0, 4), _fixed("L"), _lever("R", 0, 4), _fixed("Y")),
        {"L": ("T", "U"), "R": ("L", "T"), "Y": ("T", "L", "R", "U")},
        {
            "U": lambda v, e: 2 * ndtr(e) - 1,
            "T": lambda v, e: 4 + 4 * ndtr(e),
            "L": lambda v, e: expit(0.5 * v["T"] + v["U"]),
            "R": lambda v, e: 4 + v["L"] * v["T"],
            "Y": lambda v, e: 0.5 + np.cos(4 * v["T"]) + np.sin(-v["L"] + 2 * v["R"]) + v["U"] + e,
        },
        hidden=frozenset({"U"}),
    )


def graph4() -> FunctionalSCM:
    """One lever T with two equal minima, at -pi/2 and 3 pi/2; X confounds T and the target. Noise
    0.3.
    """
    return FunctionalSCM(
        "Graph4",
        "Y",
        (_fixed("X"), _fixed("Z"), _lever("T", -2, 8), _fixed("Y")),
        {"Z": ("X",), "T": ("X",), "Y": ("Z", "T")},
        {
            "X": lambda v, e: 4 * ndtr(e) - 2,
            "Z": lambda v, e: 1.5 * np.tanh(v["X"]),
            "T": lambda v, e: np.cos(v["X"]) + np.exp(-v["X"]),
            "Y": lambda v, e: v["Z"] ** 2 + np.sin(v["T"]) + 0.3 * e,
        },
    )


def synthetic2() -> FunctionalSCM:
    """The best lever, A, acts at the end of its domain through C, which then leaves its usual
    range.
    """
    return FunctionalSCM(
        "synthetic2",
        "Y",
        (_lever("A", -5, 5), _fixed("B"), _fixed("C"), _lever("D", -1, 1), _lever("E", -1, 1), _fixed("Y")),
        {"C": ("A",), "D": ("B", "C"), "E": ("C",), "Y": ("D", "E")},
        {
            "A": lambda v, e: e,
            "B": lambda v, e: e,
            "C": lambda v, e: np.exp(-v["A"]) / 5 + e,
            "D": lambda v, e: np.cos(v["B"]) + v["C"] / 10 + e,
            "E": lambda v, e: np.exp(-v["C"]) / 10 + e,
            "Y": lambda v, e: np.cos(v["D"]) - v["D"] / 5 + np.sin(v["E"]) - v["E"] / 4 + e,
        },
    )


# Mixture of three normals for the nutrients N: weights, means, variances.
_N_WEIGHTS = np.array([0.34336, 0.61316, 0.04348])
_N_MEANS = np.array([2.03179, -0.64088, 4.31])
_N_VARIANCES = np.array([0.19713, 0.29052, 1e-6])


@cache
def _nutrient_quantiles() -> tuple[Array, Array]:
    """(probabilities, values) of the mixture's distribution function, to be inverted by
    interpolation.
    """
    values = np.unique(np.concatenate([np.linspace(-5.0, 6.0, 20_001), 4.31 + 1e-3 * np.linspace(-6, 6, 2_001)]))
    z = (values[:, None] - _N_MEANS) / np.sqrt(_N_VARIANCES)
    return (ndtr(z) * _N_WEIGHTS).sum(axis=1), values


def _nutrients(e: Array) -> Array:
    probabilities, values = _nutrient_quantiles()
    return np.asarray(np.interp(ndtr(e), probabilities, values))


def _light(e: Array) -> Array:
    return np.asarray(stats.gamma.ppf(ndtr(e), 1.65067, loc=306.0566, scale=1431.005))


def _coral(name: str, domains: Mapping[str, tuple[float, float]]) -> FunctionalSCM:
    variables = tuple(
        _lever(n, *domains[n]) if n in domains else _fixed(n)
        for n in ("L", "N", "TE", "C", "S", "T", "D", "P", "O", "CO", "Y")
    )
    return FunctionalSCM(
        name,
        "Y",
        variables,
        {
            "TE": ("L",),
            "C": ("N", "L", "TE"),
            "S": ("TE",),
            "T": ("S",),
            "D": ("S",),
            "P": ("S", "T", "D", "TE"),
            "O": ("S", "T", "D", "TE"),
            "CO": ("S", "T", "D", "TE"),
            "Y": ("L", "N", "P", "O", "C", "CO", "TE"),
        },
        {
            "L": lambda v, e: _light(e),
            "N": lambda v, e: _nutrients(e),
            "TE": lambda v, e: 23.908673 + 1.0323788e-4 * v["L"],
            "C": lambda v, e: 0.44689066 + 4.1323139e-4 * v["N"] - 6.3172176e-6 * v["L"] - 2.3982424e-3 * v["TE"],
            "S": lambda v, e: 37.123114 - 0.021976812 * v["TE"],
            "T": lambda v, e: -894.93042 + 88.89532 * v["S"],
            "D": lambda v, e: 25.184809 + 55.195154 * v["S"],
            "P": lambda v, e: (
                8.7426908 - 0.01225532 * v["S"] + 1.4770277e-3 * v["T"] - 1.6477855e-3 * v["D"] - 0.015164729 * v["TE"]
            ),
            "O": lambda v, e: (
                0.25451246 - 0.046900397 * v["S"] + 0.010638353 * v["T"] - 0.010085527 * v["D"] + 0.019646618 * v["TE"]
            ),
            "CO": lambda v, e: (
                -399.4899 + 5.7289311 * v["S"] - 1.61537 * v["T"] + 1.9640716 * v["D"] + 15.849747 * v["TE"]
            ),
            "Y": lambda v, e: (
                -491.96036 + 3.3946765e-5 * v["L"] + 0.12035776 * v["N"] + 68.746355 * v["P"] - 27.964363 * v["O"]
                + 5.2065414 * v["C"] - 0.08205171 * v["CO"] + 2.8926499 * v["TE"]
            ),
        },
        direction="maximize",
    )  # fmt: skip


def coral() -> FunctionalSCM:
    """Net coral calcification, to be maximised."""
    return _coral("Coral", {"N": (-2, 5), "O": (2, 4), "C": (0, 1), "T": (2450, 2500), "D": (1950, 1965)})


def simplified_coral() -> FunctionalSCM:
    """The same with the domains of the simplified task."""
    return _coral("SimplifiedCoral", {"N": (-2, 5), "O": (3, 4), "C": (0.3, 0.4), "T": (2300, 2400), "D": (2000, 2080)})


class Published(NamedTuple):
    """A published problem: how to make it, and its best single-variable intervention in the user's
    direction.

    The optimum is by exact formula, quadrature, or Monte Carlo with 2e5 draws and more, independent
    of this code (standard errors up to 0.01; 0.05 for the Corals' refit).
    """

    make: Callable[[], System]
    variable: str
    value: float
    expected: float


PUBLISHED = {
    "ToyGraph": Published(toy_graph, "Z", -3.20030, -2.17181),
    "CompleteGraph": Published(complete_graph, "B", -5.0, -1.2246),
    "PSA": Published(psa, "statin", 1.0, 5.345),
    "Epidemiology": Published(epidemiology, "T", 2.373, -1.409),
    "Graph4": Published(graph4, "T", -np.pi / 2, 0.165),
    "synthetic2": Published(synthetic2, "A", -4.98, -1.207),
    "Coral": Published(coral, "O", 2.0, 44.03),
    "SimplifiedCoral": Published(simplified_coral, "O", 3.0, 16.07),
}
