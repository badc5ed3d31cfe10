"""Twin of acbo_ref/policy/inputs.py: the row mask; units are the reference's own.

Letters: E episodes, R rows.
"""

from __future__ import annotations

import numpy as np

from acbo_ref.arrays import Array


def attention_mask(observation_mask: Array, num_later: int) -> Array:
    """(E, R, R) bool; see acbo_ref.policy.inputs.attention_mask."""
    num_episodes, num_obs = observation_mask.shape
    rows = num_obs + num_later
    index = np.arange(rows)
    later = index >= num_obs
    mask = np.empty((num_episodes, rows, rows), bool)
    mask[:] = (index[:, None] >= index) & later[:, None] & later | (index[:, None] == index)
    mask[:, :, :num_obs] |= observation_mask[:, None]
    return mask
