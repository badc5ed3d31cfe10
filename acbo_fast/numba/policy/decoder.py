"""Twin of acbo_ref/policy/decoder.py: the network one row at a time, with cached keys and values
over rows; over pairs there is nothing to cache.
"""

from __future__ import annotations

import numpy as np

from acbo_fast.numba.policy.network import Network
from acbo_fast.numba.policy.reading import PairReading
from acbo_fast.numba.policy.row_trunk import variable_mask
from acbo_ref.arrays import Array, Params
from acbo_ref.policy.decoder import Thought
from acbo_ref.policy.inputs import Task
from acbo_ref.policy.reading import RowReading


class RowDecoder:
    """Twin of acbo_ref.policy.decoder.RowDecoder: rows one by one, with cached keys and values,
    room for `capacity` later rows.
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
        trunk, params = self._network.rows, self._params
        x, branch, bias = trunk.embed(params, channels)
        for i in range(self._network.config.num_layers):
            mask = row_mask if i % 2 else self._variable_mask
            x, branch, bias = trunk.block(params, i, x, branch, bias, mask, x.shape[1], self._caches.get(i), start)
        return x, branch, bias

    def peek(self, channels: Array) -> Thought[Array]:
        """With h (E, V, D), as if this row (E, V, C) were the next, without keeping it."""
        x, branch, bias = self._run(channels[:, None], self._readable, self._length)
        network = self._network
        h = network.workspace("h", *x.shape)
        return Thought(network.rows.norm(self._params, "final_norm", x, branch, bias, h)[:, 0], None)

    def append(self, channels: Array) -> Thought[Array]:
        """As `peek`, and keeps the row."""
        thought = self.peek(channels)
        self._length += 1
        return thought


class PairDecoder:
    """See acbo_ref.policy.decoder.PairDecoder."""

    def __init__(self, network: Network, params: Params, task: Task) -> None:
        self._network, self._params, self._task = network, params, task

    def peek(self, channels: Array) -> Thought[Array]:
        """With h (E, V, 2D) of the tables (E, V, V, P)."""
        pairs = self._network.pairs
        h = pairs.forward(self._params, channels, self._task.valid, self._task.target)
        return Thought(h, pairs.edge_logits(self._params, (*channels.shape[:3], 2))[..., 1])

    def append(self, channels: Array) -> Thought[Array]:
        """As `peek`: nothing is kept."""
        return self.peek(channels)


def open_decoder(
    network: Network, params: Params, task: Task, reading: PairReading | RowReading, capacity: int
) -> RowDecoder | PairDecoder:
    """The decoder of a network, after the observational rows; `capacity` later rows at most, the
    start row among them.
    """
    if not isinstance(reading, RowReading):
        return PairDecoder(network, params, task)
    return RowDecoder(network, params, reading.observations(), task.observation_mask, task.valid, capacity)
