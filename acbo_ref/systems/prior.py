"""The prior: random SCMs on random graphs.

Contract: a function of the generator it is given and nothing else. Every model has a target with at
least one manipulable ancestor, so that there is something to learn. Variables are named X0, X1, ...
in the order they are listed in.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.config import PriorConfig
from acbo_ref.systems.batch import antithetic_noise
from acbo_ref.systems.curves import Equations, curved, edge_terms
from acbo_ref.systems.graphs import ancestors, sample_graph
from acbo_ref.systems.scm import SCM, Term, Variable

# Draws behind the variances to which a nonlinear model is rescaled; they are then known to 4 %.
SCALING_DRAWS = 1024
# Shares of the disturbances that a lever follows, and of those that nobody measures.
FOLLOWED, UNMEASURED = 0.5, 0.25
# A spread of less than this share of the largest output is rounding.
ROUNDING = 1e-12


def sample_scm(
    prior: PriorConfig, kind: str, num_variables: int, rng: np.random.Generator, name: str = "random"
) -> SCM:
    """One model of the prior on a random graph of family `kind`.

    Weights are +-U(weight), noise and intercepts uniform in their ranges ("raw"); with `varied`
    below 1 the other models take the ranges' defaults. In a share `nonlinear` of models every edge
    gains a sine term and half of the edges lose their linear one; a share `saturate` clips to the
    domain. A share `standardised` is then rescaled to unit variance of every variable, x_j -> x_j /
    sd_j, as measured data usually is after scaling (`_standardised`):
    raw models are recognised by variances that grow along the order ("varsortability", Reisach et
    al. 2021) and these are not. Variables are listed in random order, so that a position tells
    nothing.
    """
    tuned = prior.tuned > 0 and rng.random() < prior.tuned
    if prior.varied < 1 and rng.random() >= prior.varied:
        tuned = False
        plain = type(prior)()
        ranges = ("weight", "noise_std", "intercept", "domain_center", "domain_half_width")
        prior = replace(prior, **{name: getattr(plain, name) for name in ranges})
    edges = sample_graph(kind, num_variables, rng, prior.edge_probability)
    equations, standardised, saturate = _sample_equations(prior, edges, rng)
    target = _choose_target(edges, prior.target, rng)
    manipulable = rng.random(num_variables) < prior.manipulable
    manipulable[target] = False
    causes = ancestors(edges, target)
    if not (manipulable & causes).any():
        manipulable[rng.choice(np.flatnonzero(causes))] = True
    hidden = np.zeros(num_variables, bool)
    if prior.disturbed > 0 and rng.random() < prior.disturbed:
        _disturb(prior, equations, edges, target, manipulable, hidden, rng)
        causes = ancestors(edges, target)
    center = rng.uniform(*prior.domain_center, size=num_variables)
    half_width = rng.uniform(*prior.domain_half_width, size=num_variables)
    if standardised:
        clips = saturate & (np.arange(num_variables) != target)
        equations = _standardised(equations, center - half_width, center + half_width, clips)
    terms = edge_terms(equations)
    if tuned or (prior.curved > 0 and rng.random() < prior.curved):
        terms = curved(prior, equations, terms, edges, target, center, half_width, tuned, rng)
    if prior.hidden > 0:
        hidden |= _hidden(prior, edges, target, manipulable & causes & ~hidden, rng)
    manipulable &= ~hidden
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
            bool(hidden[i]),
        )
        for i in np.argsort(place)
    )
    weights = equations.weights
    edge_list = {(names[i], names[j]): float(weights[i, j]) for i, j in np.argwhere(weights != 0)}
    named = tuple(
        Term(names[t.child], t.amplitude, t.phase, {names[i]: f for i, f in t.frequencies.items()}, t.shape)
        for t in terms
    )
    return SCM(name, names[target], variables, edge_list, named, saturate)


def _disturb(
    prior: PriorConfig, equations: Equations, edges: Array, target: int, manipulable: Array, hidden: Array,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """One variable becomes a disturbance, in place: a root that nobody can set and that makes a
    share of the target's variance. A share FOLLOWED of them also moves a lever, as operators do
    who react to what they see; a share UNMEASURED is hidden. A lever that acts on the target stays.

    The share is exact where all is linear.
    """

    def levers_without(i: int) -> Array:
        """The levers that are causes of the target once i is a root; i is none."""
        cut = edges.copy()
        cut[:, i] = False
        cut[i, target] = False
        found = manipulable & ancestors(cut, target)
        found[i] = False
        return np.asarray(found)

    possible = [i for i in range(target) if levers_without(i).any()]
    if not possible:
        return
    root = int(rng.choice(possible))
    followers = np.flatnonzero(levers_without(root))
    for each in (edges, equations.weights, equations.amplitude):
        each[:, root] = 0
        each[root, target] = 0
    followers = followers[followers > root]
    equations.noise_std[root] = equations.noise_std[root] or 1.0
    if len(followers) and rng.random() < FOLLOWED:
        lever = int(rng.choice(followers))
        edges[root, lever] = True
        size = rng.uniform(*PriorConfig().weight) * (equations.noise_std[lever] or 1.0) / equations.noise_std[root]
        equations.weights[root, lever] = rng.choice([-1.0, 1.0]) * size
        equations.amplitude[root, lever] = 0
    paths = np.linalg.inv(np.eye(len(edges)) - equations.weights)[:, target] * equations.noise_std
    through, others = paths[root], np.sqrt((paths**2).sum() - paths[root] ** 2)
    share = rng.uniform(*prior.disturbance)
    wanted = rng.choice([-1.0, 1.0]) * np.sqrt(share / (1 - share)) * (others or 1.0)
    edges[root, target] = True
    equations.weights[root, target] = (wanted - through) / equations.noise_std[root]
    manipulable[root] = False
    hidden[root] = rng.random() < UNMEASURED


def _hidden(prior: PriorConfig, edges: Array, target: int, levers: Array, rng: np.random.Generator) -> Array:
    """(V,) bool: hidden variables, a share of the roots with more than one effect (confounders that
    nobody measures). One lever with an effect on the target stays in sight.
    """
    drawn = rng.random(len(edges)) < prior.hidden
    hidden = drawn & ~edges.any(axis=0) & (edges.sum(axis=1) > 1)
    hidden[target] = False
    if levers.any() and not (levers & ~hidden).any():
        hidden[np.flatnonzero(levers)[0]] = False
    return np.asarray(hidden)


def _sample_equations(prior: PriorConfig, edges: Array, rng: np.random.Generator) -> tuple[Equations, bool, bool]:
    """The equations on a graph; whether they are to be standardised, and whether the model
    saturates.
    """
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
    equations = Equations(intercept, noise_std, weights, amplitude, frequency, phase)
    return equations, bool(standardised), bool(saturate)


def _standardised(equations: Equations, low: Array, high: Array, clips: Array) -> Equations:
    """The equations with every output scaled to unit variance: x_j -> x_j / sd_j.

    Variable by variable in topological order, since a sine, or a clip, makes the scale of a
    variable depend on where its parents lie. The output is what the equation gives before its own
    clip; it reads its parents clipped. Exact where everything is linear and nothing is clipped,
    else from SCALING_DRAWS draws; 1 where nothing varies (no noise anywhere above).

    Args:
        low, high: (V,) domains, in the units of the scaled model.
        clips: (V,) bool, which variables are clipped to them.
    """
    weights, amplitude, frequency, phase = equations[2:]
    n = len(weights)
    if not amplitude.any() and not clips.any():
        paths = np.linalg.inv(np.eye(n) - weights)
        std = np.sqrt(((equations.noise_std[:, None] * paths) ** 2).sum(axis=0))
        std = np.where(std > 0, std, 1.0)
    else:
        std, noise = np.ones(n), antithetic_noise(SCALING_DRAWS, n)
        rows = np.zeros((SCALING_DRAWS, n))  # in the units of the scaled model
        for j in range(n):
            past = rows[:, :j] * std[:j]
            waves = amplitude[:j, j] * np.sin(frequency[:j, j] * past + phase[:j, j])
            output = equations.intercept[j] + equations.noise_std[j] * noise[:, j] + past @ weights[:j, j]
            output = output + waves.sum(axis=1)
            spread = output.std()
            if spread > ROUNDING * np.abs(output).max():  # a constant's is rounding, not always 0
                std[j] = spread
            rows[:, j] = np.clip(output / std[j], low[j], high[j]) if clips[j] else output / std[j]
    return Equations(
        equations.intercept / std, equations.noise_std / std, weights * std[:, None] / std, amplitude / std,
        frequency * std[:, None], phase,
    )  # fmt: skip


def _choose_target(edges: Array, rule: str, rng: np.random.Generator) -> int:
    """The last variable that has parents ("last"), or a uniform one among those that have
    ("any").
    """
    effects = np.flatnonzero(edges.any(axis=0))
    return int(effects[-1] if rule == "last" else rng.choice(effects))
