"""Many structural causal models as arrays: simulation, total effects, expectations and the best
intervention.

An SCM assigns every variable in topological order (additive noise, Pearl 2009, ch. 1.4):

    x_j = b_j + sum_i W_ij x_i + sum_m a_jm f_jm(omega_jm . x + phi_jm) + s_j e_j,     e_j ~ N(0, 1)

where f is a sine, tanh (saturation; a threshold where it is steep), a bump exp(-z^2) or a square
(two of which make a product: 4 x y = (x + y)^2 - (x - y)^2). A few sines of random frequency are a
draw from a Gaussian process (Rahimi & Recht 2007, alg. 1).

`do(X_i = v)` replaces the equation of X_i by the constant v. With `saturate`, every variable but
the target is clipped to its domain after its equation, as a physical quantity cannot leave its
range.

Contract: functions of arrays; no names, no files, no random numbers but the fixed Monte-Carlo
draws.
Letters: E models, V variables, N rows, M terms a variable, S Monte-Carlo draws.
"""

from __future__ import annotations

from typing import Generic, NamedTuple

import numpy as np

from acbo_ref.arrays import A, Array
from acbo_ref.randomness import Role, generator

# Draws behind an expectation that has no closed form; its standard error is std / sqrt(4096), about
# 1.6 % of the target's standard deviation at worst (antithetic pairs make the linear part exact).
MONTE_CARLO_DRAWS = 4096
# Draws of the coarse search for the oracle, and how many of its best points are re-evaluated with
# all draws.
SEARCH_DRAWS = 512
SEARCH_KEEP = 16
GRID_POINTS = 101


# What a term may be of its argument, by number.
TERM_SHAPES = ("sine", "tanh", "bump", "square")


def antithetic_noise(num_draws: int, num_variables: int) -> Array:
    """Standard normal draws e, then -e, (num_draws, num_variables); the same at every call. Of an
    odd number the last -e is left out.
    """
    half = generator(0, Role.MONTE_CARLO).standard_normal(((num_draws + 1) // 2, num_variables))
    return np.concatenate([half, -half])[:num_draws]


class SCMBatch(NamedTuple, Generic[A]):
    """E models as arrays. Variables are topologically sorted; positions beyond a model's size are
    padding.

    Shapes: weights (E, V, V); intercept, noise_std, low, high, valid, manipulable (E, V); edges
    (E, V, V) bool; target, saturate (E,); amplitude, phase (E, V, M); frequency (E, V, M, V); shape
    (E, V, M) int, numbers of TERM_SHAPES. edges[e, i, j]: i is a direct cause of j, by a weight or
    in a term. A hidden variable takes part in the simulation, but is not valid: nobody sees it.
    """

    weights: A
    intercept: A
    noise_std: A
    low: A
    high: A
    valid: A
    manipulable: A
    edges: A
    target: A
    saturate: A
    amplitude: A
    phase: A
    frequency: A
    shape: A


def select(batch: SCMBatch[Array], index: Array | slice) -> SCMBatch[Array]:
    """The models at `index`, as a batch; views, if it is a slice."""
    return SCMBatch(*(array[index] for array in batch))


def target_parents(batch: SCMBatch[A]) -> A:
    """(E, V) bool: the direct causes of the target."""
    each = np.arange(batch.target.shape[0])  # type: ignore[attr-defined]
    parents: A = batch.edges[each, :, batch.target]  # type: ignore[index]
    return parents


def causes(edges: Array) -> Array:
    """(E, V, V, 2) bool from edges (E, V, V): is i a direct cause of j, and is it a cause at all?

    The graph has no cycle, so paths of up to 2^n edges are those of n doublings.
    """
    reach = edges.astype(np.float32)
    for _ in range(max(edges.shape[1] - 1, 1).bit_length()):
        reach = np.minimum(reach + reach @ reach, 1.0)
    return np.stack([edges, reach > 0.5], axis=-1)


def is_linear(batch: SCMBatch[Array]) -> Array:
    """(E,) bool: models whose expectations have a closed form."""
    return np.asarray(~batch.saturate & ~(batch.amplitude != 0).any(axis=(1, 2)))


def term_values(shape: Array, argument: Array) -> Array:
    """f of the terms of these shapes, see TERM_SHAPES."""
    squared = argument * argument
    curved = np.where(shape == 2, np.exp(-squared), squared)
    return np.where(shape == 0, np.sin(argument), np.where(shape == 1, np.tanh(argument), curved))


def simulate(batch: SCMBatch[Array], noise: Array, variable: Array, value: Array) -> Array:
    """Rows of all variables, each row of each model under its own intervention.

    Args:
        batch: E models of V variables.
        noise: (E, N, V) exogenous noise e, standard normal; rows with equal noise are
            counterfactuals of each other.
        variable: (E, N) int, the position intervened on, -1 for none.
        value: (E, N), the value it is set to (not clipped here).
    Returns:
        (E, N, V) in raw units; padding is 0.
    """
    rows = np.zeros(noise.shape[:2] + batch.intercept.shape[1:], dtype=noise.dtype)
    for j in range(batch.intercept.shape[1]):
        past = rows[:, :, :j]
        x = batch.intercept[:, None, j] + batch.noise_std[:, None, j] * noise[:, :, j]
        x = x + np.einsum("eni,ei->en", past, batch.weights[:, :j, j])
        used = (batch.amplitude[:, j] != 0).any(axis=0)  # most of a wide batch's terms are padding
        if used.any():
            angle = np.einsum("eni,emi->enm", past, batch.frequency[:, j, used, :j]) + batch.phase[:, None, j, used]
            x = x + np.einsum(
                "enm,em->en", term_values(batch.shape[:, None, j, used], angle), batch.amplitude[:, j, used]
            )
        clipped = np.clip(x, batch.low[:, None, j], batch.high[:, None, j])
        x = np.where((batch.saturate & (batch.target != j))[:, None], clipped, x)
        rows[:, :, j] = np.where(variable == j, value, x)
    return rows


def total_effects(batch: SCMBatch[Array]) -> Array:
    """(E, V): d E[target | do(X_i = v)] / dv of the linear part, sum over directed paths of
    products of weights.

    Row i of (I - W)^-1 = I + W + W^2 + ... collects the paths that start in i (Bollen 1987);
    cutting the edges into i changes none of them, as the graph has no cycle. The target's own entry
    is 0: it cannot be set.
    """
    num_models, width = batch.intercept.shape
    each = np.arange(num_models)
    unit = (np.arange(width) == batch.target[:, None]).astype(float)  # column of the identity for the target
    effects = np.linalg.solve(np.eye(width) - batch.weights, unit[:, :, None])[:, :, 0]
    effects[each, batch.target] = 0.0
    return effects


def _linear_moments(batch: SCMBatch[Array]) -> tuple[Array, Array]:
    """Observational mean of every variable, (E, V), and standard deviation of the target, (E,), of
    linear models.
    """
    each = np.arange(len(batch.target))
    paths = np.linalg.inv(np.eye(batch.intercept.shape[1]) - batch.weights)  # x = (b + s e) (I - W)^-1
    mean = np.einsum("ei,eij->ej", batch.intercept, paths)
    to_target = paths[each, :, batch.target]
    return mean, np.sqrt(((batch.noise_std * to_target) ** 2).sum(axis=1))


def _split(batch: SCMBatch[Array]) -> tuple[Array, Array]:
    linear = is_linear(batch)
    return np.flatnonzero(linear), np.flatnonzero(~linear)


def observational_moments(batch: SCMBatch[Array], num_draws: int = MONTE_CARLO_DRAWS) -> tuple[Array, Array]:
    """Mean and standard deviation of the target when nothing is done, (E,) each; exact for linear
    models.
    """
    mean, std = np.zeros(len(batch.target)), np.zeros(len(batch.target))
    exact, sampled = _split(batch)
    if exact.size:
        part = select(batch, exact)
        means, std[exact] = _linear_moments(part)
        mean[exact] = means[np.arange(exact.size), part.target]
    if sampled.size:
        target = _sampled_target(select(batch, sampled), -np.ones((sampled.size, 1), int), None, num_draws)
        mean[sampled], std[sampled] = target[:, 0].mean(axis=-1), target[:, 0].std(axis=-1)
    return mean, std


def _sampled_target(batch: SCMBatch[Array], variable: Array, value: Array | None, num_draws: int) -> Array:
    """Targets on common noise, (E, N, S), for N interventions a model."""
    (count, width), num_actions = batch.intercept.shape, variable.shape[1]
    value = np.zeros(variable.shape) if value is None else value
    noise = np.broadcast_to(antithetic_noise(num_draws, width), (count, num_actions, num_draws, width))
    rows = simulate(
        batch,
        noise.reshape(count, -1, width),
        np.repeat(variable, num_draws, axis=1),
        np.repeat(value, num_draws, axis=1),
    )
    target = rows[np.arange(count), :, batch.target]
    return target.reshape(count, num_actions, num_draws)


def expected_target(batch: SCMBatch[Array], variable: Array, value: Array, num_draws: int = MONTE_CARLO_DRAWS) -> Array:
    """E[target | do(X_variable = value)], (E, N); variable -1 gives the observational mean.

    Linear models: E[Y] + T_i (v - E[X_i]), exact. Others: the mean over `num_draws` common
    antithetic noise draws.
    """
    result = np.zeros(variable.shape)
    exact, sampled = _split(batch)
    if exact.size:
        part, chosen = select(batch, exact), variable[exact]
        means, _ = _linear_moments(part)
        each = np.arange(exact.size)
        effect = np.take_along_axis(total_effects(part), np.maximum(chosen, 0), axis=1)
        shift = effect * (value[exact] - np.take_along_axis(means, np.maximum(chosen, 0), axis=1))
        result[exact] = means[each, part.target][:, None] + np.where(chosen < 0, 0.0, shift)
    for e in sampled:
        one = np.array([e])
        result[e] = _sampled_target(select(batch, one), variable[one], value[one], num_draws)[0].mean(axis=-1)
    return result


def oracle(
    batch: SCMBatch[Array],
    num_draws: int = MONTE_CARLO_DRAWS,
    search_draws: int = SEARCH_DRAWS,
    grid_points: int = GRID_POINTS,
) -> tuple[Array, Array, Array]:
    """The best single-variable intervention by expected target: variable (E,), value (E,), expected
    target (E,).

    Linear models: the domain end of steepest descent, exact. Others: a grid over every manipulable
    variable with `search_draws`, then the best SEARCH_KEEP of its points again with `num_draws`,
    all on common noise.
    """
    num_models = len(batch.target)
    variable, value, expected = np.zeros(num_models, int), np.zeros(num_models), np.zeros(num_models)
    exact, sampled = _split(batch)
    if exact.size:
        variable[exact], value[exact], expected[exact] = _best_end(select(batch, exact))
    for e in sampled:
        model = select(batch, np.array([e]))
        variable[e], value[e], expected[e] = _best_on_grid(model, num_draws, search_draws, grid_points)
    return variable, value, expected


def _best_end(batch: SCMBatch[Array]) -> tuple[Array, Array, Array]:
    """(variable, value, expected target), (E,) each, of linear models: an end of a domain."""
    width = batch.intercept.shape[1]
    variable = np.tile(np.arange(width), (len(batch.target), 2))
    value = np.concatenate([batch.low, batch.high], axis=1)
    outcome = expected_target(batch, variable, value)
    outcome = np.where(np.tile(batch.manipulable, (1, 2)), outcome, np.inf)
    best = outcome.argmin(axis=1)[:, None]
    found = [np.take_along_axis(array, best, axis=1)[:, 0] for array in (variable, value, outcome)]
    return found[0], found[1], found[2]


def _best_on_grid(
    model: SCMBatch[Array], num_draws: int, search_draws: int, grid_points: int
) -> tuple[int, float, float]:
    """(variable, value, expected target) of a batch of one, by a coarse and a fine look at the same
    noise.
    """
    levers = np.flatnonzero(model.manipulable[0])
    grid = np.linspace(model.low[0, levers], model.high[0, levers], grid_points, axis=1)  # (levers, points)
    coarse = np.stack(
        [
            expected_target(model, np.full((1, grid_points), i), g[None], search_draws)[0]
            for i, g in zip(levers, grid, strict=True)
        ]
    )
    keep = np.argsort(coarse, axis=None)[:SEARCH_KEEP]
    kept_variable, kept_value = levers[keep // grid_points], grid.reshape(-1)[keep]
    outcome = expected_target(model, kept_variable[None], kept_value[None], num_draws)[0]
    best = int(outcome.argmin())
    return int(kept_variable[best]), float(kept_value[best]), float(outcome[best])


def gain_unit(baseline: Array, std: Array, best: Array) -> Array:
    """(S,) the unit of gains: the observed target's standard deviation, or 1 where it is nothing
    but rounding.
    """
    size = np.maximum(np.abs(baseline), np.abs(baseline - best))
    return np.where(std > 1e-9 * size, std, 1.0)
