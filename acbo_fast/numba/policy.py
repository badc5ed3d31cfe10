"""Twin of acbo_ref/policy.py: forward and backward of the network on preallocated arrays.

What is done for speed, and changes no number but for rounding: a residual addition, the bias before it and the LayerNorm
after it are one pass over the tokens; queries, and keys with values, are two products, so that the last block computes queries
and its feed-forward part for the K decision rows only; attention reads tokens where they lie.

A backward pass finds what the forward pass kept in the workspace, so it must follow it.
Letters: E episodes, R rows, V variables, K decisions, D width, H heads, T tokens.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from acbo_fast.numba import layers
from acbo_fast.numba.evidence import head_features, tanh
from acbo_fast.numba.kernels import kernel, scalar
from acbo_fast.numba.layers import product, weight_gradient
from acbo_fast.numba.workspace import Workspace
from acbo_ref.config import PolicyConfig
from acbo_ref.evidence import EFFECTS, RESIDUAL_FEATURES
from acbo_ref.history import CHANNELS, HALF_WIDTH
from acbo_ref.layers import MASKED
from acbo_ref.policy import LOG_STD_BOUND, VALUE_FEATURES, VALUE_MEAN_BOUND, PolicyInputs

Array = NDArray[Any]
Params = dict[str, Array]


class Outputs(NamedTuple):
    """What the heads say at K decisions, and gradients with respect to it: see acbo_ref.policy.PolicyOutputs.

    The outcome head's part is in three arrays here: hidden (E, K, V, D/2), slope and centre (E, K, V).
    """

    logits: Array
    means: Array
    log_stds: Array
    parent_logits: Array
    hidden: Array
    slope: Array
    centre: Array


def variable_mask(valid: Array) -> Array:
    """(E, V, V) bool: every variable reads the valid ones, and itself."""
    return valid[:, None, :] | np.eye(valid.shape[1], dtype=bool)


# ------------------------------------------------------------------------------------------------------------ trunk


class Trunk:
    """The blocks, for one workspace; `params` and `grads` are passed to each call."""

    def __init__(self, workspace: Workspace, config: PolicyConfig) -> None:
        self._array, self._config = workspace, config

    def embed(self, params: Params, channels: Array) -> tuple[Array, Array, str]:
        """(x, branch, name of the branch's bias): x is 0, the first residual addition makes it the embedding."""
        shape = (*channels.shape[:3], self._config.hidden_dim)
        x, branch = self._array("x", *shape), self._array("branch", *shape)
        x.fill(0)
        return x, product(channels, params["embed.weight"], branch), "embed.bias"

    def norm(self, params: Params, name: str, x: Array, branch: Array, bias: str, out: Array) -> Array:
        """x += branch + its bias, then LayerNorm of x into out."""
        x_hat, inverse = self._array(name + ".hat", *x.shape), self._array(name + ".inverse", x.size // x.shape[-1])
        layers.residual_norm_forward(
            _tokens(x), _tokens(branch), params[bias], params[name + ".scale"], params[name + ".bias"],
            _tokens(x_hat), inverse, _tokens(out),
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
        """Block `index` on x (E, N, V, D), to which branch + bias is still to be added; and so for what it returns.

        Args:
            mask: (E, V, V) for an even block, (E, N, M) for an odd one.
            num_queries: how many of the last rows are needed from here on.
            cache: (E, M, V, 2 D) keys and values of the rows so far; the new ones go to rows start to start + N.
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
        layers.add_bias(_tokens(kv), qkv_bias[width:])
        if num_queries < num_rows:
            normed = self._last(normed, num_queries, name + ".normed1.last")
            x = self._last(x, num_queries, "x.last")
        q = self._array(name + ".q", *x.shape)
        product(normed, weight[:, :width], q)
        layers.add_bias(_tokens(q), qkv_bias[:width])
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
        layers.gelu_forward(_tokens(hidden), params[name + ".mlp.up.bias"], _tokens(activated))
        return x, product(activated, params[name + ".mlp.down.weight"], branch), name + ".mlp.down.bias"

    def _groups(self, x: Array, over_rows: bool) -> Array:
        """(E, N, V, D) or (E, N, V, 2 D) as groups (A, N, B, H, d) or (A, N, B, 2, H, d) that attend along their second axis."""
        config = self._config
        dim = config.hidden_dim // config.num_heads
        heads = (config.num_heads, dim) if x.shape[3] == config.hidden_dim else (2, config.num_heads, dim)
        return x.reshape(*(x.shape[:3] if over_rows else (-1, x.shape[2], 1)), *heads)

    def _last(self, x: Array, num_rows: int, name: str) -> Array:
        """A copy of the last rows of x (E, N, V, J)."""
        out = self._array(name, len(x), num_rows, *x.shape[2:])
        np.copyto(out, x[:, -num_rows:])
        return out

    # ------------------------------------------------------------------------------------------ and back

    def norm_backward(self, params: Params, name: str, d_out: Array, d_x: Array, bias: str, grads: Params) -> None:
        """d_x += through the LayerNorm; the gradients of its parameters and of the bias of the branch before it."""
        layers.residual_norm_backward(
            _tokens(d_out), _tokens(self._array(name + ".hat", *d_x.shape)),
            self._array(name + ".inverse", d_x.size // d_x.shape[-1]), params[name + ".scale"], _tokens(d_x),
            grads[name + ".scale"], grads[name + ".bias"], grads[bias],
        )  # fmt: skip

    def block_backward(
        self, params: Params, index: int, d_x: Array, mask: Array, num_rows: int, bias: str, grads: Params
    ) -> Array:
        """d_x (E, N, V, D) of the block's input from that of its output (E, N', V, D), N' <= N = num_rows."""
        name, over_rows = f"blocks.{index}", index % 2 == 1
        num_episodes, num_queries, num_variables, width = d_x.shape
        hidden = self._array(name + ".hidden", *d_x.shape[:3], 4 * width)
        activated = self._array(name + ".activated", *d_x.shape[:3], 4 * width)
        d_hidden, d_normed = self._array("d_hidden", *hidden.shape), self._array("d_normed.query", *d_x.shape)
        weight_gradient(activated, d_x, grads[name + ".mlp.down.weight"])
        product(d_x, params[name + ".mlp.down.weight"].T, d_hidden)
        layers.gelu_backward(_tokens(hidden), _tokens(d_hidden), grads[name + ".mlp.up.bias"])
        weight_gradient(self._array(name + ".normed2", *d_x.shape), d_hidden, grads[name + ".mlp.up.weight"])
        product(d_hidden, params[name + ".mlp.up.weight"].T, d_normed)
        self.norm_backward(params, name + ".norm2", d_normed, d_x, name + ".attention.out.bias", grads)
        attended, d_attended = self._array(name + ".attended", *d_x.shape), self._array("d_attended", *d_x.shape)
        weight_gradient(attended, d_x, grads[name + ".attention.out.weight"])
        product(d_x, params[name + ".attention.out.weight"].T, d_attended)
        if not over_rows:  # rows that nobody needs were dropped before the block's first norm
            num_rows, dropped = num_queries, num_rows - num_queries
        else:
            dropped = 0
        kv_shape = (num_episodes, num_rows, num_variables, 2 * width)
        q, kv = self._array(name + ".q", *d_x.shape), self._array(name + ".kv", *kv_shape)
        d_q, d_kv = self._array("d_q", *d_x.shape), self._array("d_kv", *kv_shape)
        g = [self._groups(a, over_rows) for a in (q, kv, d_attended, d_q, d_kv)]
        num_a, num_q, num_b, num_heads, _ = g[0].shape
        num_keys = g[1].shape[1]
        weights = self._array(name + ".weights", num_a, num_b, num_heads, num_q, num_keys)
        layers.attend_backward(g[0], g[1], mask, weights, g[2], g[3], g[4], self._array("d_scores", num_keys))
        weight, whole = params[name + ".attention.qkv.weight"], (num_episodes, num_rows, num_variables, width)
        d_weight, d_bias = grads[name + ".attention.qkv.weight"], grads[name + ".attention.qkv.bias"]
        normed = self._array(name + ".normed1", *whole)
        few = num_queries < num_rows
        normed_q = self._array(name + ".normed1.last", *d_x.shape) if few else normed
        for part, normed_part, d_part in ((slice(width), normed_q, d_q), (slice(width, None), normed, d_kv)):
            columns = d_part.shape[-1]
            layers.column_sums(_tokens(d_part), d_bias[part])
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


def _tokens(x: Array) -> Array:
    """(..., J) as (T, J)."""
    return x.reshape(-1, x.shape[-1])


# ------------------------------------------------------------------------------------------------------------ heads


@kernel
def _finish_heads(
    policy: Array,
    policy_bias: Array,
    residual: Array,
    choosable: Array,
    parent: Array,
    parent_bias: Array,
    trust: Array,
    trust_bias: Array,
    slopes: Array,
    log_fixed_std: float,
    logits: Array,
    means: Array,
    log_stds: Array,
    parent_logits: Array,
    slope: Array,
) -> None:
    """Biases, residuals, masks and bounds. policy, residual (T, 2 or 3); choosable (E, V); trust, slopes (T, 5)."""
    num_episodes, steps, width = logits.shape
    kind = policy.dtype.type
    half, bound, log_bound, masked = kind(HALF_WIDTH), kind(VALUE_MEAN_BOUND), kind(LOG_STD_BOUND), kind(MASKED)
    for e in range(num_episodes):
        for k in range(steps):
            for i in range(width):
                t = (e * steps + k) * width + i
                logits[e, k, i] = policy[t, 0] + policy_bias[0] + residual[t, 0] if choosable[e, i] else masked
                means[e, k, i] = bound * tanh(half * (policy[t, 1] + policy_bias[1] + residual[t, 1]) / bound)
                if policy.shape[1] == 3:
                    raw = policy[t, 2] + policy_bias[2] + residual[t, 2]
                    log_stds[e, k, i] = kind(log_fixed_std) + log_bound * tanh(raw / log_bound)
                parent_logits[e, k, i] = parent[t, 0] + parent_bias[0]
                total = kind(0)
                for f in range(slopes.shape[1]):
                    total += (trust[t, f] + trust_bias[f]) * slopes[t, f]
                slope[e, k, i] = total


@kernel
def _begin_backward(
    outputs_means: Array,
    outputs_log_stds: Array,
    choosable: Array,
    slopes: Array,
    log_fixed_std: float,
    d_logits: Array,
    d_means: Array,
    d_log_stds: Array,
    d_slope: Array,
    d_policy: Array,
    d_trust: Array,
) -> None:
    """d_policy (T, 2 or 3) and d_trust (T, 5) from the gradients of the outputs."""
    num_episodes, steps, width = d_logits.shape
    kind = d_policy.dtype.type
    one, half, bound, log_bound = kind(1), kind(HALF_WIDTH), kind(VALUE_MEAN_BOUND), kind(LOG_STD_BOUND)
    for e in range(num_episodes):
        for k in range(steps):
            for i in range(width):
                t = (e * steps + k) * width + i
                d_policy[t, 0] = d_logits[e, k, i] if choosable[e, i] else kind(0)
                bent = outputs_means[e, k, i] / bound
                d_policy[t, 1] = half * d_means[e, k, i] * (one - bent * bent)
                if d_policy.shape[1] == 3:
                    bent = (outputs_log_stds[e, k, i] - kind(log_fixed_std)) / log_bound
                    d_policy[t, 2] = d_log_stds[e, k, i] * (one - bent * bent)
                for f in range(slopes.shape[1]):
                    d_trust[t, f] = slopes[t, f] * d_slope[e, k, i]


class Heads:
    """The heads, for one workspace."""

    def __init__(self, workspace: Workspace, config: PolicyConfig) -> None:
        self._space, self._config = workspace, config
        self._knows, self._log_fixed_std = config.evidence == "regression", math.log(config.fixed_std)
        self._columns = 2 if config.use_fixed_std else 3

    def _array(self, name: str, *shape: int) -> Array:
        return self._space("heads." + name, *shape)

    def forward(self, params: Params, h: Array, choosable: Array, channels: Array) -> Outputs:
        """The heads on h (E, K, V, D) of the decision rows, whose own channels are (E, K, V, C)."""
        shape, width = h.shape[:3], h.shape[3]
        tokens, half = math.prod(shape), width // 2
        hidden = self._array("outcome", *shape, half)
        raw = {}
        for name, columns in (("policy_head", self._columns), ("parent_head", 1)):
            before, after = self._array(name + ".hidden", tokens, half), self._array(name + ".activated", tokens, half)
            product(h, params[name + ".hidden.weight"], before)
            layers.gelu_forward(before, params[name + ".hidden.bias"], after)
            raw[name] = product(after, params[name + ".out.weight"], self._array(name, tokens, columns))
        product(h, params["outcome_head.hidden.weight"], hidden)
        layers.add_bias(_tokens(hidden), params["outcome_head.hidden.bias"])
        residual = self._array("residual", tokens, self._columns)
        trust, trust_bias = self._array("trust", tokens, 0), self._array("trust.bias", 0)
        slopes, centre = self._array("slopes", tokens, 0), self._array("out.centre", *shape)
        if self._knows:
            features = self._array("features", tokens, RESIDUAL_FEATURES)
            slopes, trust = (self._array(name, tokens, len(EFFECTS)) for name in ("slopes", "trust"))
            trust_bias = params["outcome_head.trust.bias"]
            head_features(_tokens(channels), CHANNELS, features, slopes, centre.reshape(-1))
            product(features, params["policy_head.residual.weight"], residual)
            product(h, params["outcome_head.trust.weight"], trust)
        else:
            residual.fill(0)
            centre.fill(0)
        outputs = Outputs(
            logits=self._array("out.logits", *shape),
            means=self._array("out.means", *shape),
            log_stds=self._array("out.log_stds", *shape),
            parent_logits=self._array("out.parent_logits", *shape),
            hidden=hidden,
            slope=self._array("out.slope", *shape),
            centre=centre,
        )
        _finish_heads(
            raw["policy_head"], params["policy_head.out.bias"], residual, choosable, raw["parent_head"],
            params["parent_head.out.bias"], trust, trust_bias, slopes, self._log_fixed_std, outputs.logits, outputs.means,
            outputs.log_stds, outputs.parent_logits, outputs.slope,
        )  # fmt: skip
        return outputs

    def backward(
        self, params: Params, h: Array, choosable: Array, outputs: Outputs, d: Outputs, grads: Params
    ) -> Array:
        """d_h of `forward`, whose outputs and kept arrays are still there; `d` the gradients of its outputs."""
        shape, width = h.shape[:3], h.shape[3]
        tokens, half = math.prod(shape), width // 2
        number = len(EFFECTS) if self._knows else 0
        d_policy, d_trust = self._array("d_policy", tokens, self._columns), self._array("d_trust", tokens, number)
        slopes = self._array("slopes", tokens, number)
        _begin_backward(
            outputs.means, outputs.log_stds, choosable, slopes, self._log_fixed_std, d.logits, d.means,
            d.log_stds, d.slope, d_policy, d_trust,
        )  # fmt: skip
        d_h, d_part = self._array("d_h", *h.shape), self._array("d_h.part", *h.shape)
        d_hidden = _tokens(d.hidden)
        self._linear_backward(params, "outcome_head.hidden", h, d_hidden, d_h, grads)
        if self._knows:
            self._linear_backward(params, "outcome_head.trust", h, d_trust, d_part, grads)
            d_h += d_part
            features = self._array("features", tokens, RESIDUAL_FEATURES)
            weight_gradient(features, d_policy, grads["policy_head.residual.weight"])
        for name, d_out in (("policy_head", d_policy), ("parent_head", d.parent_logits.reshape(tokens, 1))):
            before, after = self._array(name + ".hidden", tokens, half), self._array(name + ".activated", tokens, half)
            d_activated = self._array("d_activated", tokens, half)
            self._linear_backward(params, name + ".out", after, d_out, d_activated, grads)
            layers.gelu_backward(before, d_activated, grads[name + ".hidden.bias"])
            weight_gradient(h, d_activated, grads[name + ".hidden.weight"])
            product(d_activated, params[name + ".hidden.weight"].T, d_part)
            d_h += d_part
        return d_h

    def _linear_backward(self, params: Params, name: str, x: Array, d_y: Array, d_x: Array, grads: Params) -> None:
        weight_gradient(x, d_y, grads[name + ".weight"])
        layers.column_sums(d_y, grads[name + ".bias"])
        product(d_y, params[name + ".weight"].T, d_x)


# --------------------------------------------------------------------------------------------------- whole episode


class Network:
    """Forward and backward of whole episodes (training), and of single rows (deciding)."""

    def __init__(self, workspace: Workspace, config: PolicyConfig) -> None:
        self.config, self.workspace = config, workspace
        self._trunk, self.heads = Trunk(workspace, config), Heads(workspace, config)

    def forward(self, params: Params, inputs: PolicyInputs, num_decisions: int) -> Outputs:
        """All decisions of E episodes in one pass; see acbo_ref.policy.forward."""
        trunk, last = self._trunk, self.config.num_layers - 1
        masks = (variable_mask(inputs.valid), inputs.row_mask)
        x, branch, bias = trunk.embed(params, inputs.channels)
        num_rows = x.shape[1]
        for i in range(self.config.num_layers):
            mask, num_queries = masks[i % 2], num_decisions if i == last else num_rows
            if i == last and i % 2 == 1 and num_queries < num_rows:
                mask = np.ascontiguousarray(mask[:, -num_queries:])
            x, branch, bias = trunk.block(params, i, x, branch, bias, mask, num_queries)
        h = trunk.norm(params, "final_norm", x, branch, bias, self.workspace("h", *x.shape))
        channels = self.workspace("decision.channels", *x.shape[:3], inputs.channels.shape[3])
        np.copyto(channels, inputs.channels[:, -num_decisions:])
        return self.heads.forward(params, h, inputs.choosable, channels)

    def backward(self, params: Params, inputs: PolicyInputs, outputs: Outputs, d: Outputs, grads: Params) -> None:
        """The gradient of every parameter of `forward`, written to `grads`, from those of its outputs."""
        trunk, config, num_rows = self._trunk, self.config, inputs.channels.shape[1]
        shape = d.hidden.shape
        h = self.workspace("h", *shape[:3], config.hidden_dim)
        d_h = self.heads.backward(params, h, inputs.choosable, outputs, d, grads)
        d_x = self.workspace.zeros("d_x", *h.shape)
        trunk.norm_backward(params, "final_norm", d_h, d_x, f"blocks.{config.num_layers - 1}.mlp.down.bias", grads)
        masks = (variable_mask(inputs.valid), inputs.row_mask)
        for i in reversed(range(config.num_layers)):
            mask = masks[i % 2]
            if i % 2 == 1 and d_x.shape[1] < num_rows:
                mask = np.ascontiguousarray(mask[:, -d_x.shape[1] :])
            bias = f"blocks.{i - 1}.mlp.down.bias" if i else "embed.bias"
            d_x = trunk.block_backward(params, i, d_x, mask, num_rows, bias, grads)
        weight_gradient(inputs.channels, d_x, grads["embed.weight"])


# ---------------------------------------------------------------------------------------------------- outcome head


@scalar
def value_features(value: Any, out: Any) -> None:
    """u, u^2 and two harmonics of the domain, of a standard value, into out (6,)."""
    kind = type(value)
    u = value / kind(HALF_WIDTH)
    angle = kind(np.pi) * u
    out[0], out[1] = u, u * u
    out[2], out[3] = np.sin(angle), np.cos(angle)
    out[4], out[5] = np.sin(angle + angle), np.cos(angle + angle)


@scalar
def outcome_head(
    hidden: Any,
    slope: Any,
    centre: Any,
    features: Any,
    value_weight: Any,
    out_weight: Any,
    out_bias: Any,
    before: Any,
    after: Any,
) -> Any:
    """(mean, log_error, log_noise) of the target under one action, and its hidden layer before and after GELU.

    hidden, before, after (D/2,); features (6,); value_weight (6, D/2); out_weight (3, D/2), transposed; out_bias (3,).
    """
    kind = type(slope)
    one, a, c, zero = kind(1), kind(layers.GELU_A), kind(layers.GELU_C), kind(0)
    size = hidden.shape[0]
    for j in range(size):
        before[j] = hidden[j]
    for f in range(VALUE_FEATURES):
        for j in range(size):
            before[j] += features[f] * value_weight[f, j]
    first, second, third = zero, zero, zero
    for j in range(size):
        x = before[j]
        activated = layers.gelu(x, one, a, c)
        after[j] = activated
        first += activated * out_weight[0, j]
        second += activated * out_weight[1, j]
        third += activated * out_weight[2, j]
    bound = kind(LOG_STD_BOUND)
    mean = kind(HALF_WIDTH) * (first + out_bias[0]) + slope * (features[0] - centre)
    return mean, bound * tanh((second + out_bias[1]) / bound), bound * tanh((third + out_bias[2]) / bound)


@kernel
def outcomes(
    hidden: Array,
    slope: Array,
    centre: Array,
    variable: Array,
    values: Array,
    value_weight: Array,
    out_weight: Array,
    out_bias: Array,
    scratch: Array,
    out: Array,
) -> None:
    """(mean, log_error, log_noise) into out (E, N, 3) of N actions in each of E systems.

    hidden (E, V, D/2); slope, centre (E, V); variable (E, N); values (E, N) standard; scratch (2 D/2 + 6,).
    """
    half = hidden.shape[2]
    before, after, features = scratch[:half], scratch[half : 2 * half], scratch[2 * half :]
    for e in range(hidden.shape[0]):
        for n in range(values.shape[1]):
            i = variable[e, n]
            value_features(values[e, n], features)
            mean, log_error, log_noise = outcome_head(
                hidden[e, i], slope[e, i], centre[e, i], features, value_weight, out_weight, out_bias, before, after
            )
            out[e, n, 0], out[e, n, 1], out[e, n, 2] = mean, log_error, log_noise


# ----------------------------------------------------------------------------------------------- one row at a time


class Decoder:
    """Twin of acbo_ref.policy.Decoder: rows one by one, with cached keys and values, room for `capacity` later rows."""

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
        trunk, params = self._network._trunk, self._params
        x, branch, bias = trunk.embed(params, channels)
        for i in range(self._network.config.num_layers):
            mask = row_mask if i % 2 else self._variable_mask
            x, branch, bias = trunk.block(params, i, x, branch, bias, mask, x.shape[1], self._caches.get(i), start)
        return x, branch, bias

    def append(self, channels: Array, keep: bool = True) -> Array:
        """h (E, 1, V, D) after reading this row (E, V, C); without `keep` the next row replaces it."""
        x, branch, bias = self._run(channels[:, None], self._readable, self._length)
        self._length += keep
        network = self._network
        h = network.workspace("h", *x.shape)
        return network._trunk.norm(self._params, "final_norm", x, branch, bias, h)
