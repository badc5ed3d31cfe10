"""Twin of acbo_ref/policy/extrapolation.py: what was seen before the first experiment, from arrays
on the device. All else is the reference's own code, on JAX's arrays.

Letters: E episodes, O observational rows, V variables.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.special import chdtri

from acbo_ref.policy.extrapolation import CONFIDENCE, Seen
from acbo_ref.policy.inputs import HALF_WIDTH, Units


def seen_at_first(
    observed: Array, observation_mask: Array, units: Units[Array], extrapolation: float | None
) -> Seen[Array]:
    """Before the first experiment; observed (E, O, V) raw rows, of which those of the mask (E, O)
    count.
    """
    count = observation_mask.sum(1)[:, None]
    rows = jnp.where(observation_mask[:, :, None], observed - units.mean[:, None], 0)
    # by degrees of freedom, from 1
    quantiles = jnp.asarray(chdtri(np.arange(1, max(observed.shape[1], 1) + 1), CONFIDENCE), observed.dtype)
    spread = jnp.sqrt(jnp.square(rows).sum(1) / quantiles[jnp.maximum(count - 1, 1) - 1])
    standard = jnp.clip((units.mean - units.location) / units.scale, -HALF_WIDTH, HALF_WIDTH)
    limited = (count > 1) & (spread > units.resolution) & (extrapolation is not None)
    room = jnp.where(limited, (extrapolation or 0.0) * spread / units.scale, jnp.inf)
    return Seen(standard, standard, room)
