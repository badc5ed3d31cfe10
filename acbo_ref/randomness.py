"""Randomness is data: every random number is a pure function of (seed, role, index).

Contract: no generator state outlives a function call, so a resumed run needs none, and every
backend receives the same numbers as arrays. The bit generator is Philox, a counter-based generator
made for this (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): its 128-bit key
holds the seed in one half and (role, index) in the other, so two streams never share a key.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

_INDEX_BITS = 48


class Role(IntEnum):
    """What a stream of random numbers is for. Values are part of the reproducibility contract:
    never renumber.
    """

    PARAMETERS = 1
    SYSTEMS = 2
    EXOGENOUS_NOISE = 3
    VARIABLE_CHOICE = 4
    VALUE_CHOICE = 5
    PROBES = 6
    MINIBATCHES = 7
    MONTE_CARLO = 8
    SUITE_SYSTEMS = 9
    SUITE_NOISE = 10
    BASELINE = 11
    BOOTSTRAP = 12
    VERIFY = 13
    SCORING_NOISE = 14
    CALIBRATION = 15
    COMMITTED = 16
    LEARNED = 17
    OPTIMISM = 18
    BATCH = 19
    BUDGET = 20


def generator(seed: int, role: Role, index: int = 0) -> np.random.Generator:
    """The generator for `role` number `index` (an iteration, an SCM, ...) of the run with `seed`.

    Args:
        seed: 0 <= seed < 2**64.
        role: what the numbers are for.
        index: 0 <= index < 2**48.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must lie in [0, 2**64), got {seed}")
    if not 0 <= index < 2**_INDEX_BITS:
        raise ValueError(f"index must lie in [0, 2**{_INDEX_BITS}), got {index}")
    key = np.array([seed, (int(role) << _INDEX_BITS) | index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))
