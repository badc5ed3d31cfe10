"""Twin of acbo_ref/policy/pair_trunk.py: blocks on the table of pairs, on preallocated arrays.

What is done for speed, and changes no number but for rounding: the parts of the first layer of a
block's feed-forward network that read x_ij, x_ji and the triangles are products of their own, so
that no concatenation is made and the mirrored part is read in place; a residual addition, the bias
before it and the LayerNorm after it are one pass.

A backward pass finds what the forward pass kept in the workspace, so it must follow it.
Letters: N tables, V variables, P channels of a pair, D width, T = N V V pairs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from acbo_fast.numba.kernels import kernel, scalar
from acbo_fast.numba.policy import layers
from acbo_fast.numba.policy.layers import GELU_A, GELU_C, gelu, gelu_slope, product, weight_gradient
from acbo_fast.numba.workspace import Workspace
from acbo_ref.arrays import Array, Params
from acbo_ref.config import PolicyConfig


@scalar
def number_of(valid: Any) -> int:
    """How many of these variables (V,) are not padding."""
    count = 0
    for i in range(valid.size):
        count += valid[i]
    return count


@kernel
def products_over_third(x: Array, y: Array, out: Array) -> None:
    """out_ij = sum_k x_ik y_kj, elementwise in the channels; (N, V, V, C) each. Four k at a time,
    so that a channel of `out` is loaded and stored once for four products.
    """
    num_tables, width, _, size = x.shape
    zero = x.dtype.type(0)
    for n in range(num_tables):
        for i in range(width):
            row = out[n, i]
            for j in range(width):
                for c in range(size):
                    row[j, c] = zero
            for four in range(width // 4):
                k = 4 * four
                x0, x1, x2, x3 = x[n, i, k], x[n, i, k + 1], x[n, i, k + 2], x[n, i, k + 3]
                y0, y1, y2, y3 = y[n, k], y[n, k + 1], y[n, k + 2], y[n, k + 3]
                for j in range(width):
                    for c in range(size):
                        row[j, c] += x0[c] * y0[j, c] + x1[c] * y1[j, c] + x2[c] * y2[j, c] + x3[c] * y3[j, c]
            for rest in range(width % 4):
                k = width - 1 - rest
                x0, y0 = x[n, i, k], y[n, k]
                for j in range(width):
                    for c in range(size):
                        row[j, c] += x0[c] * y0[j, c]


@kernel
def triangle_forward(factors: Array, bias: Array, valid: Array, gated: Array, plain: Array) -> None:
    """The two sides of the products: gated_ik = [a_ik, c_ki] after GELU, mask and scale, and
    plain_kj = [b_kj, d_kj], (N, V, V, 2D) each, of the factors (N, V, V, 4D), to which their bias
    is added.
    """
    num_tables, width = valid.shape
    size = gated.shape[3] // 2
    kind = gated.dtype.type
    one, a, c = kind(1), kind(GELU_A), kind(GELU_C)
    for n in range(num_tables):
        scale = 1.0 / math.sqrt(number_of(valid[n]))
        for i in range(width):
            of_first = kind(scale * valid[n, i])
            for j in range(width):
                f, p, g, mirrored = factors[n, i, j], plain[n, i, j], gated[n, i, j], gated[n, j, i]
                of_second = kind(scale * valid[n, j])
                for q in range(f.size):
                    f[q] += bias[q]
                for q in range(size):
                    g[q] = gelu(f[q], one, a, c) * of_second
                for q in range(size):
                    mirrored[size + q] = gelu(f[2 * size + q], one, a, c) * of_first
                for q in range(size):
                    p[q] = f[size + q]
                for q in range(size):
                    p[size + q] = f[3 * size + q]


@kernel
def triangle_backward(d_gated: Array, d_plain: Array, factors: Array, valid: Array, d_factors: Array) -> None:
    """d_factors (N, V, V, 4D), written, of `triangle_forward`."""
    num_tables, width = valid.shape
    size = d_gated.shape[3] // 2
    kind = d_gated.dtype.type
    one, a, c = kind(1), kind(GELU_A), kind(GELU_C)
    for n in range(num_tables):
        scale = 1.0 / math.sqrt(number_of(valid[n]))
        for i in range(width):
            of_first = kind(scale * valid[n, i])
            for j in range(width):
                d, raw, p = d_factors[n, i, j], factors[n, i, j], d_plain[n, i, j]
                g, mirrored = d_gated[n, i, j], d_gated[n, j, i]
                of_second = kind(scale * valid[n, j])
                for q in range(size):
                    d[q] = g[q] * of_second * gelu_slope(raw[q], one, a, c)
                for q in range(size):
                    d[2 * size + q] = mirrored[size + q] * of_first * gelu_slope(raw[2 * size + q], one, a, c)
                for q in range(size):
                    d[size + q] = p[q]
                for q in range(size):
                    d[3 * size + q] = p[size + q]


@kernel
def variable_forward(x: Array, valid: Array, out: Array) -> None:
    """out (N, V, 3D): the means of row i and of column i of x (N, V, V, D), and x_ii."""
    num_tables, width, size = x.shape[0], x.shape[1], x.shape[3]
    kind = x.dtype.type
    for n in range(num_tables):
        share = kind(1.0 / number_of(valid[n]))
        for i in range(width):
            row, column, own = out[n, i, :size], out[n, i, size : 2 * size], out[n, i, 2 * size :]
            for p in range(size):
                row[p], column[p], own[p] = kind(0), kind(0), x[n, i, i, p]
            for j in range(width):
                if valid[n, j]:
                    for p in range(size):
                        row[p] += x[n, i, j, p] * share
                    for p in range(size):
                        column[p] += x[n, j, i, p] * share


@kernel
def variable_backward(d_g: Array, valid: Array, d_x: Array) -> None:
    """d_x (N, V, V, D) += of `variable_forward`, from d_g (N, V, 3D)."""
    num_tables, width, size = d_x.shape[0], d_x.shape[1], d_x.shape[3]
    kind = d_x.dtype.type
    for n in range(num_tables):
        share = kind(1.0 / number_of(valid[n]))
        for i in range(width):
            row, own = d_g[n, i, :size], d_g[n, i, 2 * size :]
            for j in range(width):
                column, d = d_g[n, j, size : 2 * size], d_x[n, i, j]
                to_row, to_column = share * kind(valid[n, j]), share * kind(valid[n, i])
                for p in range(size):
                    d[p] += row[p] * to_row + column[p] * to_column
            for p in range(size):
                d_x[n, i, i, p] += own[p]


@kernel
def hidden_forward(mirrored: Array, through: Array, of_variable: Array, bias: Array, hidden: Array, out: Array) -> None:
    """hidden_ij += mirrored_ji + through_ij + what is known of i and of j + bias, kept; out =
    GELU(hidden). All (N, V, V, 2D) but of_variable (N, V, 4D).
    """
    num_tables, width, size = hidden.shape[0], hidden.shape[1], hidden.shape[3]
    kind = hidden.dtype.type
    one, a, c = kind(1), kind(GELU_A), kind(GELU_C)
    for n in range(num_tables):
        for i in range(width):
            row = of_variable[n, i, :size]
            for j in range(width):
                column = of_variable[n, j, size:]
                h, m, t, o = hidden[n, i, j], mirrored[n, j, i], through[n, i, j], out[n, i, j]
                for p in range(size):
                    total = h[p] + m[p] + t[p] + row[p] + column[p] + bias[p]
                    h[p] = total
                    o[p] = gelu(total, one, a, c)


@kernel
def hidden_backward(d_hidden: Array, mirrored: Array, d_of_variable: Array) -> None:
    """mirrored_ji = d_hidden_ij, and d_of_variable (N, V, 4D) its sums over j and over i."""
    num_tables, width, size = d_hidden.shape[0], d_hidden.shape[1], d_hidden.shape[3]
    d_of_variable[:] = d_hidden.dtype.type(0)
    for n in range(num_tables):
        for i in range(width):
            row = d_of_variable[n, i, :size]
            for j in range(width):
                column, d, m = d_of_variable[n, j, size:], d_hidden[n, i, j], mirrored[n, j, i]
                for p in range(size):
                    m[p] = d[p]
                    row[p] += d[p]
                    column[p] += d[p]


@kernel
def take_target(z: Array, branch: Array, bias: Array, target: Array, out: Array) -> None:
    """out (N, V, 2D) = [z_i,target, z_target,i] of z + branch + bias (N, V, V, D)."""
    size = z.shape[3]
    for n in range(z.shape[0]):
        y = target[n]
        for i in range(z.shape[1]):
            for p in range(size):
                out[n, i, p] = z[n, i, y, p] + (branch[n, i, y, p] + bias[p])
                out[n, i, size + p] = z[n, y, i, p] + (branch[n, y, i, p] + bias[p])


@kernel
def give_target(d_h: Array, target: Array, d_z: Array) -> None:
    """d_z (N, V, V, D) += of `take_target`."""
    size = d_z.shape[3]
    for n in range(d_z.shape[0]):
        y = target[n]
        for i in range(d_z.shape[1]):
            for p in range(size):
                d_z[n, i, y, p] += d_h[n, i, p]
                d_z[n, y, i, p] += d_h[n, i, size + p]


class PairTrunk:
    """The blocks, for one workspace; `params` and `grads` are passed to each call."""

    def __init__(self, workspace: Workspace, config: PolicyConfig) -> None:
        self._array, self._config = workspace, config
        self._last: tuple[Array, Array, str]

    def kept_h(self, shape: tuple[int, ...]) -> Array:
        """h (N, V, 2D) of the forward pass; shape (E, K, V)."""
        return self._array.kept("pairs.h", shape[0] * shape[1], shape[2], 2 * self._config.hidden_dim)

    def forward(self, params: Params, channels: Array, valid: Array, target: Array) -> Array:
        """h (N, V, 2D); see acbo_ref.policy.pair_trunk.trunk_forward."""
        num_tables, width = valid.shape
        shape = (num_tables, width, width, self._config.hidden_dim)
        z, branch = self._array.zeros("pairs.z", *shape), self._array("pairs.branch", *shape)
        product(channels, params["embed.weight"], branch)
        bias = "embed.bias"
        for i in range(self._config.num_layers):
            bias = self._block(params, i, z, branch, bias, valid)
        h, raw = (self._array("pairs." + name, num_tables, width, 2 * shape[3]) for name in ("h", "h.raw"))
        take_target(z, branch, params[bias], np.asarray(target, np.int64), raw)
        self._last = z, branch, bias
        self._norm(params, "final_norm", raw, h)
        return h

    def edge_logits(self, params: Params, shape: tuple[int, ...]) -> Array:
        """Edge logits, shape (E, K, V, V, 2), of the tables that `forward` has just read: the edge
        head. It takes the last residual addition with its norm, so z is changed.
        """
        z, branch, bias = self._last
        normed, hat = self._array("pairs.edge_normed", *z.shape), self._array("edge_head.hat", *z.shape)
        layers.residual_norm_forward(
            layers.tokens(z), layers.tokens(branch), params[bias], params["edge_head.norm.scale"],
            params["edge_head.norm.bias"], layers.tokens(hat), self._array("edge_head.inverse", z.size // z.shape[3]),
            layers.tokens(normed),
        )  # fmt: skip
        logits = product(normed, params["edge_head.out.weight"], self._array("pairs.edge_logits", *z.shape[:3], 2))
        layers.add_bias(layers.tokens(logits), params["edge_head.out.bias"])
        return logits.reshape(shape)

    def _edges_backward(self, params: Params, d_logits: Array, d_z: Array, grads: Params) -> None:
        """d_z (N, V, V, D), written, of `edge_logits`."""
        name, d_normed = "edge_head", self._array("pairs.d_edge_normed", *d_z.shape)
        d_logits = d_logits.reshape(*d_z.shape[:3], 2)
        weight_gradient(self._array.kept("pairs.edge_normed", *d_z.shape), d_logits, grads[name + ".out.weight"])
        layers.column_sums(layers.tokens(d_logits), grads[name + ".out.bias"])
        product(d_logits, params[name + ".out.weight"].T, d_normed)
        layers.layer_norm_backward(
            layers.tokens(d_normed), layers.tokens(self._array.kept(name + ".hat", *d_z.shape)),
            self._array.kept(name + ".inverse", d_z.size // d_z.shape[3]), params[name + ".norm.scale"],
            layers.tokens(d_z), grads[name + ".norm.scale"], grads[name + ".norm.bias"],
        )  # fmt: skip

    def _norm(self, params: Params, name: str, x: Array, out: Array) -> None:
        """LayerNorm of x into out, with what its backward pass needs."""
        hat, inverse = self._array(name + ".hat", *x.shape), self._array(name + ".inverse", x.size // x.shape[-1])
        layers.layer_norm_forward(
            layers.tokens(x), params[name + ".scale"], params[name + ".bias"], layers.tokens(hat), inverse,
            layers.tokens(out),
        )  # fmt: skip

    def _block(self, params: Params, index: int, z: Array, branch: Array, bias: str, valid: Array) -> str:
        """Block `index` on z, to which branch + bias is still to be added, and so for what it
        leaves; returns the name of that bias.
        """
        name, make = f"blocks.{index}", self._array
        (num_tables, width), size = valid.shape, z.shape[3]
        x, x_hat = make(name + ".x", *z.shape), make(name + ".norm.hat", *z.shape)
        inverse = make(name + ".norm.inverse", z.size // size)
        layers.residual_norm_forward(
            layers.tokens(z), layers.tokens(branch), params[bias], params[name + ".norm.scale"],
            params[name + ".norm.bias"], layers.tokens(x_hat), inverse, layers.tokens(x),
        )  # fmt: skip
        table = z.shape[:3]
        factors = product(x, params[name + ".factors.weight"], make(name + ".factors", *table, 4 * size))
        gated, plain, raw, through = (
            make(key, *table, 2 * size) for key in (name + ".gated", name + ".plain", "pairs.raw", name + ".through")
        )
        triangle_forward(factors, params[name + ".factors.bias"], valid, gated, plain)
        products_over_third(gated, plain, raw)
        self._norm(params, name + ".triangle_norm", raw, through)
        known, of_variable = (
            make(name + ".known", num_tables, width, 3 * size),
            make("pairs.v", num_tables, width, 4 * size),
        )
        variable_forward(x, valid, known)
        product(known, params[name + ".variable.weight"], of_variable)
        up = params[name + ".mlp.up.weight"]
        hidden, mirrored, third = (
            make(key, *table, 2 * size) for key in (name + ".hidden", "pairs.mirrored", "pairs.third")
        )
        product(x, up[:size], hidden)
        product(x, up[size : 2 * size], mirrored)
        product(through, up[2 * size :], third)
        activated = make(name + ".activated", *table, 2 * size)
        hidden_forward(mirrored, third, of_variable, params[name + ".mlp.up.bias"], hidden, activated)
        product(activated, params[name + ".mlp.down.weight"], branch)
        return name + ".mlp.down.bias"

    def backward(
        self,
        params: Params,
        channels: Array,
        valid: Array,
        target: Array,
        d_h: Array,
        d_edge_logits: Array,
        grads: Params,
    ) -> None:
        """The gradient of every parameter of `forward` and `edge_logits`, written to `grads`."""
        num_tables, width = valid.shape
        size, last = self._config.hidden_dim, self._config.num_layers - 1
        d_raw = self._array("pairs.d_h", num_tables, width, 2 * size)
        self._norm_backward(params, "final_norm", d_h.reshape(d_raw.shape), d_raw, grads)
        d_z = self._array("pairs.d_z", num_tables, width, width, size)
        self._edges_backward(params, d_edge_logits, d_z, grads)
        give_target(d_raw, np.asarray(target, np.int64), d_z)
        layers.column_sums(layers.tokens(d_z), grads[f"blocks.{last}.mlp.down.bias"])
        for i in reversed(range(self._config.num_layers)):
            self._block_backward(params, i, d_z, valid, f"blocks.{i - 1}.mlp.down.bias" if i else "embed.bias", grads)
        weight_gradient(channels, d_z, grads["embed.weight"])

    def _norm_backward(self, params: Params, name: str, d_out: Array, d_x: Array, grads: Params) -> None:
        """d_x, written, of `_norm`."""
        inverse = self._array.kept(name + ".inverse", d_x.size // d_x.shape[-1])
        layers.layer_norm_backward(
            layers.tokens(d_out), layers.tokens(self._array.kept(name + ".hat", *d_x.shape)), inverse,
            params[name + ".scale"], layers.tokens(d_x), grads[name + ".scale"], grads[name + ".bias"],
        )  # fmt: skip

    def _block_backward(self, params: Params, index: int, d_z: Array, valid: Array, bias: str, grads: Params) -> None:
        """d_z of the block's input, in place of that of its output."""
        name, make, kept = f"blocks.{index}", self._array, self._array.kept
        (num_tables, width), size, table = valid.shape, d_z.shape[3], d_z.shape[:3]
        x, through = kept(name + ".x", *d_z.shape), kept(name + ".through", *table, 2 * size)
        d_hidden, mirrored = make("pairs.d_hidden", *table, 2 * size), make("pairs.mirrored", *table, 2 * size)
        weight_gradient(kept(name + ".activated", *table, 2 * size), d_z, grads[name + ".mlp.down.weight"])
        product(d_z, params[name + ".mlp.down.weight"].T, d_hidden)
        hidden = kept(name + ".hidden", *table, 2 * size)
        layers.gelu_backward(layers.tokens(hidden), layers.tokens(d_hidden), grads[name + ".mlp.up.bias"])
        d_of_variable = make("pairs.d_v", num_tables, width, 4 * size)
        hidden_backward(d_hidden, mirrored, d_of_variable)
        up, d_up = params[name + ".mlp.up.weight"], grads[name + ".mlp.up.weight"]
        d_x, d_part = make("pairs.d_x", *d_z.shape), make("pairs.d_part", *d_z.shape)
        weight_gradient(x, d_hidden, d_up[:size])
        product(d_hidden, up[:size].T, d_x)
        weight_gradient(x, mirrored, d_up[size : 2 * size])
        product(mirrored, up[size : 2 * size].T, d_part)
        d_x += d_part
        weight_gradient(through, d_hidden, d_up[2 * size :])
        d_normed, d_through = make("pairs.d_normed", *table, 2 * size), make("pairs.d_through", *table, 2 * size)
        product(d_hidden, up[2 * size :].T, d_normed)
        weight_gradient(
            kept(name + ".known", num_tables, width, 3 * size), d_of_variable, grads[name + ".variable.weight"]
        )
        d_known = make("pairs.d_known", num_tables, width, 3 * size)
        product(d_of_variable, params[name + ".variable.weight"].T, d_known)
        variable_backward(d_known, valid, d_x)
        self._norm_backward(params, name + ".triangle_norm", d_normed, d_through, grads)
        d_factors = self._triangle_backward(name, d_through, valid)
        weight_gradient(x, d_factors, grads[name + ".factors.weight"])
        layers.column_sums(layers.tokens(d_factors), grads[name + ".factors.bias"])
        product(d_factors, params[name + ".factors.weight"].T, d_part)
        d_x += d_part
        inverse = kept(name + ".norm.inverse", d_z.size // size)
        layers.residual_norm_backward(
            layers.tokens(d_x), layers.tokens(kept(name + ".norm.hat", *d_z.shape)), inverse,
            params[name + ".norm.scale"], layers.tokens(d_z), grads[name + ".norm.scale"], grads[name + ".norm.bias"],
            grads[bias],
        )  # fmt: skip

    def _triangle_backward(self, name: str, d_through: Array, valid: Array) -> Array:
        """d_factors from the gradient of the products over a third variable: for out = G F, dG = dO
        F^T and dF = G^T dO, in every channel.
        """
        make, shape = self._array, d_through.shape
        d_gated, d_plain, turned = (make("pairs." + key, *shape) for key in ("d_gated", "d_plain", "turned"))
        np.copyto(turned, self._array.kept(name + ".plain", *shape).swapaxes(1, 2))
        products_over_third(d_through, turned, d_gated)
        np.copyto(turned, self._array.kept(name + ".gated", *shape).swapaxes(1, 2))
        products_over_third(turned, d_through, d_plain)
        factors = self._array.kept(name + ".factors", *shape[:3], 2 * shape[3])
        d_factors = make("pairs.d_factors", *factors.shape)
        triangle_backward(d_gated, d_plain, factors, valid, d_factors)
        return d_factors
