"""Adam, clipping by global norm, and the schedules.

Contract: pure functions; a step that would use a non-finite gradient changes nothing and says so.
"""

from __future__ import annotations

from typing import Any, Generic, NamedTuple

import numpy as np

from acbo_ref.arrays import A, Array, Params
from acbo_ref.config import GRPOConfig

BETA1, BETA2, ADAM_EPSILON = 0.9, 0.999, 1e-8


class OptimiserState(NamedTuple, Generic[A]):
    """Parameters with Adam's moments, by name, and the number of steps taken so far."""

    params: dict[str, A]
    first_moment: dict[str, A]
    second_moment: dict[str, A]
    step: Any  # int; a traced number where steps are compiled


def init_state(params: Params) -> OptimiserState[Array]:
    """State before the first step: moments zero."""
    zeros = {name: np.zeros_like(value) for name, value in params.items()}
    return OptimiserState(params, zeros, {name: value.copy() for name, value in zeros.items()}, 0)


def global_norm(grads: Params) -> float:
    """sqrt of the sum of squares of all gradients together, summed in float64."""
    return float(np.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for g in grads.values())))


def clip_by_global_norm(grads: Params, norm: float, largest: float | None) -> Params:
    """g * min(1, largest / norm) (Pascanu et al. 2013); None: unchanged."""
    if largest is None or norm <= largest:
        return grads
    return {name: g * np.asarray(largest / norm, g.dtype) for name, g in grads.items()}


def adam_step(state: OptimiserState[Array], grads: Params, learning_rate: float) -> OptimiserState[Array]:
    """One step of Adam (Kingma & Ba 2015, algorithm 1).

    m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p = p - lr (m / (1 - b1^t)) / (sqrt(v / (1 -
    b2^t)) + eps)
    """
    step = state.step + 1
    correction1, correction2 = 1.0 - BETA1**step, 1.0 - BETA2**step
    params: Params = {}
    first: Params = {}
    second: Params = {}
    for name in state.params:
        g = grads[name]
        first[name] = BETA1 * state.first_moment[name] + (1.0 - BETA1) * g
        second[name] = BETA2 * state.second_moment[name] + (1.0 - BETA2) * (g * g)
        update = (first[name] / correction1) / (np.sqrt(second[name] / correction2) + ADAM_EPSILON)
        params[name] = (state.params[name] - learning_rate * update).astype(g.dtype)
    return OptimiserState(params, first, second, step)


def learning_rate(config: GRPOConfig, iteration: int, num_iterations: int) -> float:
    """The learning rate of iteration 0 .. num_iterations - 1.

    cosine: lr (f + (1 - f) (1 + cos(pi t / (T - 1))) / 2), from lr at the first iteration to f * lr
    at the last (Loshchilov & Hutter 2017, eq. 5).
    """
    if config.learning_rate_schedule == "constant":
        return config.learning_rate
    progress = min(1.0, iteration / max(1, num_iterations - 1))
    final = config.learning_rate_final
    return config.learning_rate * (final + (1.0 - final) * 0.5 * (1.0 + float(np.cos(np.pi * progress))))


def entropy_coefficient(config: GRPOConfig, iteration: int, num_iterations: int) -> float:
    """The entropy coefficient of an iteration: linear from start to final value."""
    if config.entropy_coefficient_final is None:
        return config.entropy_coefficient
    progress = min(1.0, iteration / max(1, num_iterations - 1))
    return config.entropy_coefficient + progress * (config.entropy_coefficient_final - config.entropy_coefficient)


def parameter_change(before: Params, after: Params) -> float:
    """Global norm of after - before."""
    difference = {name: after[name] - before[name] for name in before}
    return global_norm(difference)
