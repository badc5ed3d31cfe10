"""A check: one comparison with its tolerance, and how errors are measured.

Contract: a wrong number gives a check that fails, never an exception.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from acbo_ref.arrays import Array
from acbo_ref.policy.heads import PolicyOutputs
from acbo_ref.policy.layers import MASKED

# A reference with a number beyond this is refused: relative to it, an error of 1 would look like
# rounding.
LARGEST_REFERENCE = 1e6


@dataclass(frozen=True)
class Check:
    """One comparison: what, the worst relative error found, and the error allowed."""

    group: str
    name: str
    error: float
    tolerance: float

    @property
    def okay(self) -> bool:
        return bool(self.error <= self.tolerance)  # False for NaN


def relative_error(value: ArrayLike, reference: ArrayLike) -> float:
    """max |value - reference| / max |reference|, of arrays of any kind.

    0 where both are 0; inf for another shape, for what is not finite, and for a reference beyond
    LARGEST_REFERENCE.
    """
    value, reference = np.asarray(value, float), np.asarray(reference, float)
    if value.shape != reference.shape or not np.isfinite(value).all():
        return float("inf")
    if value.size == 0:
        return 0.0
    scale = float(np.abs(reference).max())
    difference = float(np.abs(value - reference).max())
    if not scale <= LARGEST_REFERENCE:
        return float("inf")
    if difference == 0.0:
        return 0.0
    return difference / scale if scale > 0 else float("inf")


def scalar_error(value: float | None, reference: float) -> float:
    """|value - reference| / max(1, |reference|), for numbers that may be differences of larger
    ones; inf if either is not finite.
    """
    if value is None or not np.isfinite([value, reference]).all():
        return float("inf")
    return abs(value - reference) / max(1.0, abs(reference))


def output_errors(found: PolicyOutputs[Any], expected: PolicyOutputs[Array]) -> Iterator[tuple[str, float]]:
    """(name, relative error) of everything that the heads say.

    Logits are compared where a variable can be chosen; elsewhere they must be MASKED, the name
    "masked logits" says so.
    """
    choosable = expected.logits > MASKED / 2
    logits = np.asarray(found.logits, float)
    if logits.shape == choosable.shape:
        masked = (logits == np.float64(np.float32(MASKED))) | (logits == MASKED)
        yield "logits", relative_error(np.where(choosable, logits, 0.0), np.where(choosable, expected.logits, 0.0))
        yield "masked logits", 0.0 if (masked == ~choosable).all() else float("inf")
    else:
        yield "logits", float("inf")
    yield "means", relative_error(found.means, expected.means)
    if expected.log_stds is not None:
        given = found.log_stds
        yield "log_stds", float("inf") if given is None else relative_error(given, expected.log_stds)
    yield "parent_logits", relative_error(found.parent_logits, expected.parent_logits)
    if expected.edge_logits is not None:
        given = found.edge_logits
        yield "edge_logits", float("inf") if given is None else relative_error(given, expected.edge_logits)
    for name in expected.outcome._fields:
        yield f"outcome {name}", relative_error(getattr(found.outcome, name), getattr(expected.outcome, name))
