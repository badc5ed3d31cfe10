"""Twin of acbo_ref/grpo/optim.py: parameters and moments as one flat array each, so that a step is
one pass over them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from acbo_fast.numba.kernels import kernel
from acbo_ref.arrays import Array, Params
from acbo_ref.config import PolicyConfig
from acbo_ref.grpo.optim import ADAM_EPSILON, BETA1, BETA2
from acbo_ref.policy.network import parameter_shapes


def views(config: PolicyConfig, flat: Array) -> Params:
    """{name: view of flat} in the order of acbo_ref.policy.network.parameter_shapes."""
    found, start = {}, 0
    for name, shape in parameter_shapes(config).items():
        size = math.prod(shape)
        found[name] = flat[start : start + size].reshape(shape)
        start += size
    return found


def num_parameters(config: PolicyConfig) -> int:
    return sum(math.prod(shape) for shape in parameter_shapes(config).values())


@dataclass(eq=False)
class FlatState:
    """See acbo_ref.grpo.optim.OptimiserState; an update changes it in place."""

    config: PolicyConfig
    flat: Array
    first_moment: Array
    second_moment: Array
    step: int

    @property
    def params(self) -> Params:
        """Views of `flat`."""
        return views(self.config, self.flat)


@kernel
def add(total: Array, part: Array) -> None:
    """total += part, elementwise."""
    for i in range(total.size):
        total[i] += part[i]


@kernel
def _sum_of_squares(x: Array, out: Array) -> None:
    total = 0.0
    for i in range(x.size):
        total += np.float64(x[i]) * np.float64(x[i])
    out[0] = total


def global_norm(x: Array) -> float:
    """sqrt of the sum of squares, summed in float64."""
    out = np.empty(1)
    _sum_of_squares(x, out)
    return math.sqrt(float(out[0]))


@kernel
def _adam(
    flat: Array,
    grads: Array,
    first: Array,
    second: Array,
    factor: float,
    rate: float,
    correction1: float,
    correction2: float,
) -> None:
    """Adam with the gradient times factor; see acbo_ref.grpo.optim.adam_step."""
    kind = flat.dtype.type
    b1, rest1, b2, rest2 = kind(BETA1), kind(1.0 - BETA1), kind(BETA2), kind(1.0 - BETA2)
    f, lr, c1, c2, epsilon = kind(factor), kind(rate), kind(correction1), kind(correction2), kind(ADAM_EPSILON)
    for i in range(flat.size):
        g = grads[i] * f
        m, v = b1 * first[i] + rest1 * g, b2 * second[i] + rest2 * (g * g)
        first[i], second[i] = m, v
        flat[i] -= lr * ((m / c1) / (np.sqrt(v / c2) + epsilon))


def guarded_step(
    state: FlatState, grads: Array, loss: float, learning_rate: float, clip: float | None
) -> tuple[float, bool]:
    """One clipped step, in place, unless loss or gradient are not finite. Returns (norm before
    clipping, skipped?).
    """
    norm = global_norm(grads)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        return norm, True
    state.step += 1
    factor = 1.0 if clip is None or norm <= clip else clip / norm
    _adam(
        state.flat, grads, state.first_moment, state.second_moment, factor, learning_rate,
        1.0 - BETA1**state.step, 1.0 - BETA2**state.step,
    )  # fmt: skip
    return norm, False
