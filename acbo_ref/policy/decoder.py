"""The network one row at a time: with cached keys and values over rows; over pairs there is nothing
to cache, since a table holds all rows.

Contract: gives the numbers of `network.forward`; equality is a test and part of `acbo verify`.
Letters: E episodes, O observational rows, V variables, C channels, D width.
"""

from __future__ import annotations

from typing import Generic, NamedTuple

import numpy as np

from acbo_ref.arrays import A, Array, Params
from acbo_ref.config import PolicyConfig
from acbo_ref.policy import pair_trunk
from acbo_ref.policy.heads import edge_forward
from acbo_ref.policy.inputs import Task
from acbo_ref.policy.layers import (
    attend_forward,
    layer_norm_forward,
    linear_forward,
    merge_heads,
    mlp_forward,
    project_qkv,
)
from acbo_ref.policy.reading import Reading, RowReading
from acbo_ref.policy.row_trunk import block_forward, variable_mask


class Thought(NamedTuple, Generic[A]):
    """What a trunk gives at one decision: h (E, V, H), and the logits (E, V, V) of i being a cause
    of j, None for the trunk over rows.
    """

    h: A
    cause_logits: A | None


class RowDecoder:
    """The same network, fed row by row: a new row costs one row, not the whole history.

    Rows only ever attend to rows before them (inputs.attention_mask), so keys and values of past
    rows never change and are kept. Equality with `forward` is a test.

    Args:
        params, config: the network.
        observations: (E, O, V, C) channels of the observational rows.
        observation_mask: (E, O) bool.
        valid: (E, V) bool.
        capacity: how many later rows will come at most.
    """

    def __init__(
        self,
        params: Params,
        config: PolicyConfig,
        observations: Array,
        observation_mask: Array,
        valid: Array,
        capacity: int,
    ) -> None:
        self._params, self._config = params, config
        self._variable_mask = variable_mask(valid)
        num_episodes, num_obs, width, _ = observations.shape
        head_dim = config.hidden_dim // config.num_heads
        shape = (num_episodes, width, config.num_heads, num_obs + capacity, head_dim)
        self._keys = {i: np.zeros(shape, observations.dtype) for i in range(1, config.num_layers, 2)}
        self._values = {i: np.zeros(shape, observations.dtype) for i in range(1, config.num_layers, 2)}
        self._length = num_obs
        later = np.ones((num_episodes, capacity), bool)
        self._readable = np.concatenate([observation_mask, later], axis=1)  # (E, O + capacity)
        if num_obs:
            own_row = np.eye(num_obs, dtype=bool)
            self._run(observations, (observation_mask[:, None] | own_row)[:, None, None], start=0)

    def _run(self, channels: Array, row_mask: Array, start: int) -> Array:
        """Blocks on N new rows (E, N, V, C) that begin at row `start`; fills the caches and returns
        x (E, N, V, D).
        """
        params, config, stop = self._params, self._config, start + channels.shape[1]
        x, _ = linear_forward(params, "embed", channels)
        for i in range(config.num_layers):
            if i % 2 == 0:
                x, _ = block_forward(params, i, x, self._variable_mask, config.num_heads)
                continue
            name = f"blocks.{i}"
            normed, _ = layer_norm_forward(params, name + ".norm1", x)
            q, k, v, _ = project_qkv(params, name + ".attention", normed.swapaxes(1, 2), config.num_heads)
            self._keys[i][..., start:stop, :], self._values[i][..., start:stop, :] = k, v
            heads, _ = attend_forward(q, self._keys[i][..., :stop, :], self._values[i][..., :stop, :], row_mask)
            attended, _ = linear_forward(params, name + ".attention.out", merge_heads(heads))
            x = x + attended.swapaxes(1, 2)
            normed, _ = layer_norm_forward(params, name + ".norm2", x)
            x = x + mlp_forward(params, name + ".mlp.up", name + ".mlp.down", normed)[0]
        return x

    def peek(self, channels: Array) -> Thought[Array]:
        """With h (E, V, D), as if this row (E, V, C) were the next, without keeping it."""
        stop = self._length + 1
        x = self._run(channels[:, None], self._readable[:, None, None, None, :stop], self._length)
        return Thought(layer_norm_forward(self._params, "final_norm", x)[0][:, 0], None)

    def append(self, channels: Array) -> Thought[Array]:
        """After reading this row (E, V, C), the start row or an intervention row, and keeping
        it.
        """
        thought = self.peek(channels)
        self._length += 1
        return thought


class PairDecoder:
    """The pairwise trunk on one table of each system; see RowDecoder."""

    def __init__(self, params: Params, config: PolicyConfig, task: Task) -> None:
        self._params, self._config, self._task = params, config, task

    def peek(self, channels: Array) -> Thought[Array]:
        """With h (E, V, 2D) of the tables (E, V, V, P)."""
        task = self._task
        h, z, _ = pair_trunk.trunk_forward(self._params, self._config, channels, task.valid, task.target)
        return Thought(h, edge_forward(self._params, z)[0][..., 1])

    def append(self, channels: Array) -> Thought[Array]:
        """As `peek`: nothing is kept."""
        return self.peek(channels)


Decoder = RowDecoder | PairDecoder


def open_decoder(params: Params, config: PolicyConfig, task: Task, reading: Reading, capacity: int) -> Decoder:
    """The decoder of a network, after the observational rows; `capacity` later rows at most, the
    start row among them.
    """
    if not isinstance(reading, RowReading):
        return PairDecoder(params, config, task)
    return RowDecoder(params, config, reading.observations(), task.observation_mask, task.valid, capacity)
