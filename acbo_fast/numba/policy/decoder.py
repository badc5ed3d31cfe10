"""Twin of acbo_ref/policy/decoder.py: the network one row at a time, with cached keys and
values.
"""

from __future__ import annotations

import numpy as np

from acbo_fast.numba.policy.network import Network, variable_mask
from acbo_ref.arrays import Array, Params


class Decoder:
    """Twin of acbo_ref.policy.decoder.Decoder: rows one by one, with cached keys and values, room
    for `capacity` later rows.
    """

    def __init__(
        self,
        network: Network,
        params: Params,
        observations: Array,
        observation_mask: Array,
        valid: Array,
        capacity: int,
    ) -> None:
        config = network.config
        num_episodes, num_obs, width, _ = observations.shape
        self._network, self._params = network, params
        self.row_shape = (num_episodes, width, observations.shape[3])  # of one row
        self._variable_mask = variable_mask(valid)
        rows, dtype = num_obs + capacity, observations.dtype
        self._caches = {
            i: np.zeros((num_episodes, rows, width, 2 * config.hidden_dim), dtype)
            for i in range(1, config.num_layers, 2)
        }
        self._readable = np.ones((num_episodes, 1, rows), bool)
        self._readable[:, 0, :num_obs] = observation_mask
        self._length = num_obs
        if num_obs:
            mask = np.zeros((num_episodes, num_obs, rows), bool)
            mask[:, :, :num_obs] = observation_mask[:, None] | np.eye(num_obs, dtype=bool)
            self._run(observations, mask, 0)

    def _run(self, channels: Array, row_mask: Array, start: int) -> tuple[Array, Array, str]:
        trunk, params = self._network._trunk, self._params
        x, branch, bias = trunk.embed(params, channels)
        for i in range(self._network.config.num_layers):
            mask = row_mask if i % 2 else self._variable_mask
            x, branch, bias = trunk.block(params, i, x, branch, bias, mask, x.shape[1], self._caches.get(i), start)
        return x, branch, bias

    def append(self, channels: Array, keep: bool = True) -> Array:
        """h (E, 1, V, D) after reading this row (E, V, C); without `keep` the next row replaces
        it.
        """
        x, branch, bias = self._run(channels[:, None], self._readable, self._length)
        self._length += keep
        network = self._network
        h = network.workspace("h", *x.shape)
        return network._trunk.norm(self._params, "final_norm", x, branch, bias, h)
