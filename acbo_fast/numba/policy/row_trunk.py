"""Twin of acbo_ref/policy/row_trunk.py: the transformer over rows on preallocated arrays.

What is done for speed, and changes no number but for rounding: a residual addition, the bias before
it and the LayerNorm after it are one pass over the tokens; queries, and keys with values, are two
products, so that the last block computes queries and its feed-forward part for the K decision rows
only; attention reads tokens where they lie.

A backward pass finds what the forward pass kept in the workspace, so it must follow it.
Letters: E episodes, R rows, V variables, K decisions, D width, H heads, T tokens.
"""

from __future__ import annotations

import numpy as np

from acbo_fast.numba.policy import layers
from acbo_fast.numba.policy.layers import product, weight_gradient
from acbo_fast.numba.workspace import Workspace
from acbo_ref.arrays import Array, Params
from acbo_ref.config import PolicyConfig


def variable_mask(valid: Array) -> Array:
    """(E, V, V) bool: every variable reads the valid ones, and itself."""
    return valid[:, None, :] | np.eye(valid.shape[1], dtype=bool)


class RowTrunk:
    """The blocks, for one workspace; `params` and `grads` are passed to each call."""

    def __init__(self, workspace: Workspace, config: PolicyConfig) -> None:
        self._array, self._config = workspace, config

    def embed(self, params: Params, channels: Array) -> tuple[Array, Array, str]:
        """(x, branch, name of the branch's bias): x is 0, the first residual addition makes it the
        embedding.
        """
        shape = (*channels.shape[:3], self._config.hidden_dim)
        x, branch = self._array("x", *shape), self._array("branch", *shape)
        x.fill(0)
        return x, product(channels, params["embed.weight"], branch), "embed.bias"

    def norm(self, params: Params, name: str, x: Array, branch: Array, bias: str, out: Array) -> Array:
        """x += branch + its bias, then LayerNorm of x into out."""
        x_hat, inverse = self._array(name + ".hat", *x.shape), self._array(name + ".inverse", x.size // x.shape[-1])
        layers.residual_norm_forward(
            layers.tokens(x), layers.tokens(branch), params[bias], params[name + ".scale"], params[name + ".bias"],
            layers.tokens(x_hat), inverse, layers.tokens(out),
        )  # fmt: skip
        return out

    def block(
        self,
        params: Params,
        index: int,
        x: Array,
        branch: Array,
        bias: str,
        mask: Array,
        num_queries: int,
        cache: Array | None = None,
        start: int = 0,
    ) -> tuple[Array, Array, str]:
        """Block `index` on x (E, N, V, D), to which branch + bias is still to be added; and so for
        what it returns.

        Args:
            mask: (E, V, V) for an even block, (E, N, M) for an odd one.
            num_queries: how many of the last rows are needed from here on.
            cache: (E, M, V, 2 D) keys and values of the rows so far; the new ones go to rows start
                to start + N.
        """
        name, over_rows = f"blocks.{index}", index % 2 == 1
        num_episodes, num_rows, num_variables, width = x.shape
        if num_queries < num_rows and not over_rows:
            x, branch = self._last(x, num_queries, "x.last"), self._last(branch, num_queries, "branch.last")
            num_rows = num_queries
        normed = self.norm(params, name + ".norm1", x, branch, bias, self._array(name + ".normed1", *x.shape))
        weight, qkv_bias = params[name + ".attention.qkv.weight"], params[name + ".attention.qkv.bias"]
        kv = self._array(name + ".kv", num_episodes, num_rows, num_variables, 2 * width)
        product(normed, weight[:, width:], kv)
        layers.add_bias(layers.tokens(kv), qkv_bias[width:])
        if num_queries < num_rows:
            normed = self._last(normed, num_queries, name + ".normed1.last")
            x = self._last(x, num_queries, "x.last")
        q = self._array(name + ".q", *x.shape)
        product(normed, weight[:, :width], q)
        layers.add_bias(layers.tokens(q), qkv_bias[:width])
        attended = self._array(name + ".attended", *x.shape)
        num_keys = num_rows if over_rows else num_variables
        if cache is not None and over_rows:
            cache[:, start : start + num_rows] = kv
            kv, num_keys = cache, start + num_rows
        groups = [self._groups(a, over_rows) for a in (q, kv, attended)]
        num_a, num_q, num_b, num_heads, _ = groups[0].shape
        weights = self._array(name + ".weights", num_a, num_b, num_heads, num_q, num_keys)
        layers.attend_forward(groups[0], groups[1], num_keys, mask, groups[2], weights)
        branch = self._array("branch", *x.shape)
        product(attended, params[name + ".attention.out.weight"], branch)
        normed = self._array(name + ".normed2", *x.shape)
        self.norm(params, name + ".norm2", x, branch, name + ".attention.out.bias", normed)
        hidden = self._array(name + ".hidden", *x.shape[:3], 4 * width)
        activated = self._array(name + ".activated", *x.shape[:3], 4 * width)
        product(normed, params[name + ".mlp.up.weight"], hidden)
        layers.gelu_forward(layers.tokens(hidden), params[name + ".mlp.up.bias"], layers.tokens(activated))
        return x, product(activated, params[name + ".mlp.down.weight"], branch), name + ".mlp.down.bias"

    def _groups(self, x: Array, over_rows: bool) -> Array:
        """(E, N, V, D) or (E, N, V, 2 D) as groups (A, N, B, H, d) or (A, N, B, 2, H, d) that
        attend along their second axis.
        """
        config = self._config
        dim = config.hidden_dim // config.num_heads
        heads = (config.num_heads, dim) if x.shape[3] == config.hidden_dim else (2, config.num_heads, dim)
        return x.reshape(*(x.shape[:3] if over_rows else (-1, x.shape[2], 1)), *heads)

    def _last(self, x: Array, num_rows: int, name: str) -> Array:
        """A copy of the last rows of x (E, N, V, J)."""
        out = self._array(name, len(x), num_rows, *x.shape[2:])
        np.copyto(out, x[:, -num_rows:])
        return out

    # ------------------------------------------------------------------------------------- and back

    def norm_backward(self, params: Params, name: str, d_out: Array, d_x: Array, bias: str, grads: Params) -> None:
        """d_x += through the LayerNorm; the gradients of its parameters and of the bias of the
        branch before it.
        """
        layers.residual_norm_backward(
            layers.tokens(d_out), layers.tokens(self._array.kept(name + ".hat", *d_x.shape)),
            self._array.kept(name + ".inverse", d_x.size // d_x.shape[-1]), params[name + ".scale"], layers.tokens(d_x),
            grads[name + ".scale"], grads[name + ".bias"], grads[bias],
        )  # fmt: skip

    def block_backward(
        self, params: Params, index: int, d_x: Array, mask: Array, num_rows: int, bias: str, grads: Params
    ) -> Array:
        """d_x (E, N, V, D) of the block's input from that of its output (E, N', V, D), N' <= N =
        num_rows.
        """
        name, over_rows = f"blocks.{index}", index % 2 == 1
        num_episodes, num_queries, num_variables, width = d_x.shape
        hidden = self._array.kept(name + ".hidden", *d_x.shape[:3], 4 * width)
        activated = self._array.kept(name + ".activated", *d_x.shape[:3], 4 * width)
        d_hidden, d_normed = self._array("d_hidden", *hidden.shape), self._array("d_normed.query", *d_x.shape)
        weight_gradient(activated, d_x, grads[name + ".mlp.down.weight"])
        product(d_x, params[name + ".mlp.down.weight"].T, d_hidden)
        layers.gelu_backward(layers.tokens(hidden), layers.tokens(d_hidden), grads[name + ".mlp.up.bias"])
        weight_gradient(self._array.kept(name + ".normed2", *d_x.shape), d_hidden, grads[name + ".mlp.up.weight"])
        product(d_hidden, params[name + ".mlp.up.weight"].T, d_normed)
        self.norm_backward(params, name + ".norm2", d_normed, d_x, name + ".attention.out.bias", grads)
        attended, d_attended = self._array.kept(name + ".attended", *d_x.shape), self._array("d_attended", *d_x.shape)
        weight_gradient(attended, d_x, grads[name + ".attention.out.weight"])
        product(d_x, params[name + ".attention.out.weight"].T, d_attended)
        if not over_rows:  # rows that nobody needs were dropped before the block's first norm
            num_rows, dropped = num_queries, num_rows - num_queries
        else:
            dropped = 0
        kv_shape = (num_episodes, num_rows, num_variables, 2 * width)
        q, kv = self._array.kept(name + ".q", *d_x.shape), self._array.kept(name + ".kv", *kv_shape)
        d_q, d_kv = self._array("d_q", *d_x.shape), self._array("d_kv", *kv_shape)
        g = [self._groups(a, over_rows) for a in (q, kv, d_attended, d_q, d_kv)]
        num_a, num_q, num_b, num_heads, _ = g[0].shape
        num_keys = g[1].shape[1]
        weights = self._array.kept(name + ".weights", num_a, num_b, num_heads, num_q, num_keys)
        layers.attend_backward(g[0], g[1], mask, weights, g[2], g[3], g[4], self._array("d_scores", num_keys))
        weight, whole = params[name + ".attention.qkv.weight"], (num_episodes, num_rows, num_variables, width)
        d_weight, d_bias = grads[name + ".attention.qkv.weight"], grads[name + ".attention.qkv.bias"]
        normed = self._array.kept(name + ".normed1", *whole)
        few = num_queries < num_rows
        normed_q = self._array.kept(name + ".normed1.last", *d_x.shape) if few else normed
        for part, normed_part, d_part in ((slice(width), normed_q, d_q), (slice(width, None), normed, d_kv)):
            columns = d_part.shape[-1]
            layers.column_sums(layers.tokens(d_part), d_bias[part])
            gradient = self._array("d_weight", width, columns)  # BLAS wants it in one piece
            weight_gradient(normed_part, d_part, gradient)
            np.copyto(d_weight[:, part], gradient)
        d_normed_all = self._array("d_normed", *whole)
        product(d_kv, weight[:, width:].T, d_normed_all)
        product(d_q, weight[:, :width].T, d_normed)
        d_normed_all[:, -num_queries:] += d_normed
        if few:
            d_x = self._spread(d_x, num_rows)
        self.norm_backward(params, name + ".norm1", d_normed_all, d_x, bias, grads)
        return self._spread(d_x, num_rows + dropped) if dropped else d_x

    def _spread(self, d_x: Array, num_rows: int) -> Array:
        """d_x of the last rows as that of all: 0 for the others."""
        out = self._array.zeros("d_x.all", len(d_x), num_rows, *d_x.shape[2:])
        out[:, -d_x.shape[1] :] = d_x
        return out

    def forward(self, params: Params, channels: Array, valid: Array, row_mask: Array, num_decisions: int) -> Array:
        """h (E, K, V, D) of the last K rows; see acbo_ref.policy.row_trunk.trunk_forward."""
        last = self._config.num_layers - 1
        masks = (variable_mask(valid), row_mask)
        x, branch, bias = self.embed(params, channels)
        num_rows = x.shape[1]
        for i in range(self._config.num_layers):
            mask, num_queries = masks[i % 2], num_decisions if i == last else num_rows
            if i == last and i % 2 == 1 and num_queries < num_rows:
                mask = np.ascontiguousarray(mask[:, -num_queries:])
            x, branch, bias = self.block(params, i, x, branch, bias, mask, num_queries)
        return self.norm(params, "final_norm", x, branch, bias, self._array("h", *x.shape))

    def backward(
        self, params: Params, channels: Array, valid: Array, row_mask: Array, d_h: Array, grads: Params
    ) -> None:
        """The gradient of every parameter of `forward`, written to `grads`."""
        config, num_rows = self._config, channels.shape[1]
        d_x = self._array.zeros("d_x", *d_h.shape)
        self.norm_backward(params, "final_norm", d_h, d_x, f"blocks.{config.num_layers - 1}.mlp.down.bias", grads)
        masks = (variable_mask(valid), row_mask)
        for i in reversed(range(config.num_layers)):
            mask = masks[i % 2]
            if i % 2 == 1 and d_x.shape[1] < num_rows:
                mask = np.ascontiguousarray(mask[:, -d_x.shape[1] :])
            bias = f"blocks.{i - 1}.mlp.down.bias" if i else "embed.bias"
            d_x = self.block_backward(params, i, d_x, mask, num_rows, bias, grads)
        weight_gradient(channels, d_x, grads["embed.weight"])
