"""The prior: random SCMs on random graphs.

Contract: a function of the generator it is given and nothing else. Every model has a target with at
least one manipulable ancestor, so that there is something to learn. Variables are named X0, X1, ...
in the order they are listed in.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.config import PriorConfig
from acbo_ref.systems.batch import antithetic_noise
from acbo_ref.systems.graphs import ancestors, sample_graph
from acbo_ref.systems.scm import SCM, Sine, Variable

# Draws behind the variances to which a nonlinear model is rescaled; they are then known to 4 %.
SCALING_DRAWS = 1024


def sample_scm(
    prior: PriorConfig, kind: str, num_variables: int, rng: np.random.Generator, name: str = "random"
) -> SCM:
    """One model of the prior on a random graph of family `kind`.

    Weights are +-U(weight), noise and intercepts uniform in their ranges ("raw"); with `varied`
    below 1 the other models take the ranges' defaults. In a share `nonlinear` of models every edge
    gains a sine term and half of the edges lose their linear one; a share `saturate` clips to the
    domain. A share `standardised` is then rescaled to unit variance of every variable, x_j -> x_j /
    sd_j, as measured data usually is after scaling (exact for linear models, else by simulation):
    raw models are recognised by variances that grow along the order ("varsortability", Reisach et
    al. 2021) and these are not. Variables are listed in random order, so that a position tells
    nothing.
    """
    if prior.varied < 1 and rng.random() >= prior.varied:
        plain = type(prior)()
        ranges = ("weight", "noise_std", "intercept", "domain_center", "domain_half_width")
        prior = replace(prior, **{name: getattr(plain, name) for name in ranges})
    edges = sample_graph(kind, num_variables, rng, prior.edge_probability)
    equations, saturate = _sample_equations(prior, edges, rng)
    target = _choose_target(edges, prior.target, rng)
    manipulable = rng.random(num_variables) < prior.manipulable
    manipulable[target] = False
    causes = ancestors(edges, target)
    if not (manipulable & causes).any():
        manipulable[rng.choice(np.flatnonzero(causes))] = True
    center = rng.uniform(*prior.domain_center, size=num_variables)
    half_width = rng.uniform(*prior.domain_half_width, size=num_variables)
    place = rng.permutation(num_variables)
    names = [f"X{p}" for p in place]
    variables = tuple(
        Variable(
            names[i],
            float(equations.intercept[i]),
            float(equations.noise_std[i]),
            float(center[i] - half_width[i]),
            float(center[i] + half_width[i]),
            bool(manipulable[i]),
        )
        for i in np.argsort(place)
    )
    weights, amplitude, frequency, phase = equations[2:]
    edge_list = {(names[i], names[j]): float(weights[i, j]) for i, j in np.argwhere(weights != 0)}
    sines = tuple(
        Sine(names[j], float(amplitude[i, j]), float(phase[i, j]), {names[i]: float(frequency[i, j])})
        for i, j in np.argwhere(amplitude != 0)
    )
    return SCM(name, names[target], variables, edge_list, sines, saturate)


class _Equations(NamedTuple):
    """Of V variables in topological order: intercept, noise_std (V,); the others (V, V), of the
    edge from i to j.
    """

    intercept: Array
    noise_std: Array
    weights: Array
    amplitude: Array
    frequency: Array
    phase: Array


def _sample_equations(prior: PriorConfig, edges: Array, rng: np.random.Generator) -> tuple[_Equations, bool]:
    """The equations on a graph, and whether the model saturates."""
    num_variables = len(edges)
    sign = rng.choice([-1.0, 1.0], size=edges.shape)
    weights = np.where(edges, sign * rng.uniform(*prior.weight, size=edges.shape), 0.0)
    noise_std = rng.uniform(*prior.noise_std, size=num_variables)
    intercept = rng.uniform(*prior.intercept, size=num_variables)
    standardised, nonlinear, saturate = rng.random(3) < (prior.standardised, prior.nonlinear, prior.saturate)
    amplitude = np.zeros((num_variables, num_variables))
    frequency, phase = amplitude.copy(), amplitude.copy()
    if nonlinear:
        amplitude = np.where(edges, rng.uniform(*prior.sine_amplitude, size=edges.shape) * np.abs(weights), 0.0)
        frequency = rng.uniform(*prior.sine_frequency, size=edges.shape)
        phase = rng.uniform(0, 2 * np.pi, size=edges.shape)
        weights = np.where(rng.random(edges.shape) < 0.5, weights, 0.0)
    if standardised:
        std = _standard_deviations(weights, noise_std, amplitude, frequency, phase)
        weights, amplitude, frequency = weights * std[:, None] / std, amplitude / std, frequency * std[:, None]
        noise_std, intercept = noise_std / std, intercept / std
    return _Equations(intercept, noise_std, weights, amplitude, frequency, phase), bool(saturate)


def _standard_deviations(weights: Array, noise_std: Array, amplitude: Array, frequency: Array, phase: Array) -> Array:
    """(V,) of every variable of a model in topological order; 1 where nothing varies (no noise
    anywhere above).
    """
    n = len(weights)
    if not amplitude.any():
        paths = np.linalg.inv(np.eye(n) - weights)
        std = np.sqrt(((noise_std[:, None] * paths) ** 2).sum(axis=0))
    else:
        rows = antithetic_noise(SCALING_DRAWS, n) * noise_std
        for j in range(n):
            past = rows[:, :j]
            waves = amplitude[:j, j] * np.sin(frequency[:j, j] * past + phase[:j, j])
            rows[:, j] += past @ weights[:j, j] + waves.sum(axis=1)
        std = rows.std(axis=0)
    return np.where(std > 0, std, 1.0)


def _choose_target(edges: Array, rule: str, rng: np.random.Generator) -> int:
    """The last variable that has parents ("last"), or a uniform one among those that have
    ("any").
    """
    effects = np.flatnonzero(edges.any(axis=0))
    return int(effects[-1] if rule == "last" else rng.choice(effects))
