"""The policy `simple_permutation_invariant`: a transformer over the (row, variable) table of an episode.

    x = Linear C->D (channels)
    L pre-norm blocks:   x += attention(norm1(x)),   x += mlp(norm2(x))
        block 0, 2, ... attends over variables within each row; block 1, 3, ... over rows for each variable
    h = final norm (x at the K decision rows)
    policy head    h -> variable logit, value mean / 5 [, log-std]
    parent head    h -> logit of P(the variable is a parent of the target)
    outcome head   (h, v) -> of the target under do(X_i = v), standard units: its expectation, the log of that estimate's
                   standard error (what is not known), and the log of the spread of single outcomes around it (noise)

Variables and observational rows carry no position, so permuting variables permutes the outputs and permuting
observational rows changes nothing (Lee et al. 2019, "Set Transformer"; alternation as in Kossen et al. 2021).

Contract: `forward`/`backward` do a whole episode at once; `Decoder` gives the same numbers one row at a time with cached
keys and values. No sampling and no loss here (rollout.py, grpo.py).

Letters: E episodes, R rows, V variables, K decisions (the last K rows), C channels, D width, H heads, L blocks, F features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from acbo_ref.config import PolicyConfig
from acbo_ref.evidence import (
    EVIDENCE_CHANNELS,
    RESIDUAL_FEATURES,
    RESIDUAL_START,
    SLOPE_START,
    centre_feature,
    residual_features,
    slope_features,
)
from acbo_ref.history import CHANNELS, HALF_WIDTH
from acbo_ref.layers import (
    MASKED,
    Array,
    Params,
    accumulate,
    attend_forward,
    attention_backward,
    attention_forward,
    gelu_backward,
    gelu_forward,
    layer_norm_backward,
    layer_norm_forward,
    linear_backward,
    linear_forward,
    merge_heads,
    mlp_backward,
    mlp_forward,
    project_qkv,
    soft_bound_backward,
    soft_bound_forward,
)
from acbo_ref.randomness import Role, generator

# Standard deviations stay within exp(+-3), a factor of 20, of their start. It keeps the likelihood finite; it does not tame
# outcomes far outside: their loss grows as (y / 20)^2 / 2, which matters with 2 or 3 observational rows, whose spread can be
# far too small. The clipped gradient norm is what bounds their effect.
LOG_STD_BOUND = 3.0
# Value means stay within +-6, one standard unit beyond the ends of the domain: near enough that some draws of a group still
# fall inside and differ, far enough that the ends themselves are played exactly.
VALUE_MEAN_BOUND = 6.0
# The last layer of a head starts so small that the first policy is close to uniform over variables and centred.
HEAD_INIT_SCALE = 0.01
VALUE_FEATURES = 6


@dataclass(frozen=True, eq=False)
class PolicyInputs:
    """What the network reads.

    Args:
        channels: (E, R, V, C).
        valid: (E, V) bool, false for padding.
        choosable: (E, V) bool, variables that can be intervened on.
        row_mask: (E, R, R) bool, see history.attention_mask.
    """

    channels: Array
    valid: Array
    choosable: Array
    row_mask: Array


@dataclass(eq=False)
class PolicyOutputs:
    """What the heads say at K decisions; also used for the gradients with respect to each of these.

    Shapes: logits, means, log_stds, parent_logits (E, K, V); outcome_hidden (E, K, V, D/2 + 2), the part of the outcome
    head's hidden layer that does not depend on the value, the slope that it takes from least squares, and the centre that
    this slope goes through (data: its gradient is 0). Logits of variables that cannot be chosen are MASKED. `log_stds` is None
    with a fixed standard deviation.
    """

    logits: Array
    means: Array
    log_stds: Array | None
    parent_logits: Array
    outcome_hidden: Array


def num_channels(config: PolicyConfig) -> int:
    """C: the channels of history.py, and those of evidence.py where the config wants them."""
    return CHANNELS + (EVIDENCE_CHANNELS if config.evidence == "regression" else 0)


def parameter_shapes(config: PolicyConfig) -> dict[str, tuple[int, ...]]:
    """{name: shape} of every parameter, in a fixed order."""
    width, half = config.hidden_dim, config.hidden_dim // 2
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, inputs: int, outputs: int) -> None:
        shapes[name + ".weight"] = (inputs, outputs)
        shapes[name + ".bias"] = (outputs,)

    def norm(name: str) -> None:
        shapes[name + ".scale"] = (width,)
        shapes[name + ".bias"] = (width,)

    linear("embed", num_channels(config), width)
    for i in range(config.num_layers):
        norm(f"blocks.{i}.norm1")
        linear(f"blocks.{i}.attention.qkv", width, 3 * width)
        linear(f"blocks.{i}.attention.out", width, width)
        norm(f"blocks.{i}.norm2")
        linear(f"blocks.{i}.mlp.up", width, 4 * width)
        linear(f"blocks.{i}.mlp.down", 4 * width, width)
    norm("final_norm")
    linear("policy_head.hidden", width, half)
    linear("policy_head.out", half, 2 if config.use_fixed_std else 3)
    if config.evidence == "regression":
        shapes["policy_head.residual.weight"] = (RESIDUAL_FEATURES, 2 if config.use_fixed_std else 3)
    linear("parent_head.hidden", width, half)
    linear("parent_head.out", half, 1)
    linear("outcome_head.hidden", width, half)
    if config.evidence == "regression":
        linear("outcome_head.trust", width, len(SLOPE_START))
    shapes["outcome_head.value.weight"] = (VALUE_FEATURES, half)
    linear("outcome_head.out", half, 3)
    return shapes


def init_params(config: PolicyConfig, seed: int, dtype: Any = np.float64) -> Params:
    """Weights N(0, 1/fan_in), scaled by 1/sqrt(2L) where they feed the residual stream and by HEAD_INIT_SCALE in the
    last layers of the heads; biases 0, norms 1; what evidence.py says of its own. Drawn in float64 in one order, so every
    backend starts equal."""
    rng = generator(seed, Role.PARAMETERS)
    params: Params = {}
    for name, shape in parameter_shapes(config).items():
        if name == "policy_head.residual.weight":
            value = np.zeros(shape)
            for column, (row, weight) in enumerate(RESIDUAL_START.values()):
                value[row, column] = weight
        elif name.startswith("outcome_head.trust."):
            value = np.array(SLOPE_START) if name.endswith(".bias") else np.zeros(shape)
        elif name.endswith(".weight"):
            scale = 1.0 / np.sqrt(shape[0])
            if name.endswith(("attention.out.weight", "mlp.down.weight")):
                scale /= np.sqrt(2.0 * config.num_layers)
            elif name.endswith("_head.out.weight"):
                scale *= HEAD_INIT_SCALE
            value = scale * rng.standard_normal(shape)
        else:
            value = np.ones(shape) if name.endswith(".scale") else np.zeros(shape)
        params[name] = value.astype(dtype)
    return params


# ------------------------------------------------------------------------------------------------------ trunk


def _swap_rows(x: Array, over_rows: bool) -> Array:
    """Bring the attended axis next to the features: (E, R, V, D) stays, or becomes (E, V, R, D)."""
    return x.swapaxes(1, 2) if over_rows else x


def block_forward(params: Params, index: int, x: Array, mask: Array, num_heads: int) -> tuple[Array, Any]:
    """One pre-norm block on x (E, R, V, D); mask (E, 1, 1, N, N) along variables (even index) or rows (odd index)."""
    name, over_rows = f"blocks.{index}", index % 2 == 1
    normed, norm1_cache = layer_norm_forward(params, name + ".norm1", x)
    attended, attention_cache = attention_forward(
        params, name + ".attention", _swap_rows(normed, over_rows), mask, num_heads
    )
    x = x + _swap_rows(attended, over_rows)
    normed, norm2_cache = layer_norm_forward(params, name + ".norm2", x)
    fed, mlp_cache = mlp_forward(params, name + ".mlp.up", name + ".mlp.down", normed)
    return x + fed, (norm1_cache, attention_cache, norm2_cache, mlp_cache)


def block_backward(params: Params, index: int, d_x: Array, cache: Any, grads: Params) -> Array:
    """d_x of `block_forward`: each residual branch adds its gradient to the one that skips it."""
    name, over_rows = f"blocks.{index}", index % 2 == 1
    norm1_cache, attention_cache, norm2_cache, mlp_cache = cache
    d_normed = mlp_backward(params, name + ".mlp.up", name + ".mlp.down", d_x, mlp_cache, grads)
    d_x = d_x + layer_norm_backward(params, name + ".norm2", d_normed, norm2_cache, grads)
    d_normed = attention_backward(params, name + ".attention", _swap_rows(d_x, over_rows), attention_cache, grads)
    return d_x + layer_norm_backward(params, name + ".norm1", _swap_rows(d_normed, over_rows), norm1_cache, grads)


def variable_mask(valid: Array) -> Array:
    """(E, 1, 1, V, V) bool: every variable reads the valid ones, and itself, so that padding has a softmax too."""
    return (valid[:, None, :] | np.eye(valid.shape[1], dtype=bool))[:, None, None]


# -------------------------------------------------------------------------------------------------- whole episode


def forward(
    params: Params, config: PolicyConfig, inputs: PolicyInputs, num_decisions: int
) -> tuple[PolicyOutputs, Any]:
    """All decisions of E episodes in one pass; the last `num_decisions` rows are the decision rows."""
    x, embed_cache = linear_forward(params, "embed", inputs.channels)
    masks = (variable_mask(inputs.valid), inputs.row_mask[:, None, None])
    block_caches = []
    for i in range(config.num_layers):
        x, cache = block_forward(params, i, x, masks[i % 2], config.num_heads)
        block_caches.append(cache)
    h, norm_cache = layer_norm_forward(params, "final_norm", x[:, -num_decisions:])
    outputs, head_caches = heads_forward(params, config, h, inputs.choosable, inputs.channels[:, -num_decisions:])
    return outputs, (embed_cache, block_caches, norm_cache, head_caches, x.shape)


def backward(params: Params, config: PolicyConfig, d_outputs: PolicyOutputs, cache: Any, grads: Params) -> None:
    """Adds the gradient of every parameter of `forward` to `grads`."""
    embed_cache, block_caches, norm_cache, head_caches, shape = cache
    d_h = heads_backward(params, d_outputs, head_caches, grads)
    d_x = np.zeros(shape, d_h.dtype)
    d_x[:, -d_h.shape[1] :] = layer_norm_backward(params, "final_norm", d_h, norm_cache, grads)
    for i in reversed(range(config.num_layers)):
        d_x = block_backward(params, i, d_x, block_caches[i], grads)
    linear_backward(params, "embed", d_x, embed_cache, grads)


# ------------------------------------------------------------------------------------------------------ heads


def heads_forward(
    params: Params, config: PolicyConfig, h: Array, choosable: Array, channels: Array
) -> tuple[PolicyOutputs, Any]:
    """Heads on h (E, K, V, D) of the decision rows, whose own channels are (E, K, V, C)."""
    policy, policy_cache = mlp_forward(params, "policy_head.hidden", "policy_head.out", h)
    features, slopes = None, None
    if config.evidence == "regression":
        features, slopes = residual_features(channels[..., CHANNELS:]), slope_features(channels[..., CHANNELS:])
        policy = policy + features @ params["policy_head.residual.weight"]
    value_mean, mean_cache = soft_bound_forward(HALF_WIDTH * policy[..., 1], VALUE_MEAN_BOUND)
    parent, parent_cache = mlp_forward(params, "parent_head.hidden", "parent_head.out", h)
    hidden, outcome_cache = linear_forward(params, "outcome_head.hidden", h)
    slope, trust_cache = np.zeros_like(hidden[..., :1]), None
    centre = np.zeros_like(slope)
    if slopes is not None:
        centre = centre_feature(channels[..., CHANNELS:])
        trust, trust_cache = linear_forward(params, "outcome_head.trust", h)
        slope = (trust * slopes).sum(axis=-1, keepdims=True)
    log_stds, bound_cache = None, None
    if not config.use_fixed_std:
        bounded, bound_cache = soft_bound_forward(policy[..., 2], LOG_STD_BOUND)
        log_stds = math.log(config.fixed_std) + bounded
    outputs = PolicyOutputs(
        logits=np.where(choosable[:, None], policy[..., 0], MASKED),
        means=value_mean,
        log_stds=log_stds,
        parent_logits=parent[..., 0],
        outcome_hidden=np.concatenate([hidden, slope, centre], axis=-1),
    )
    evidence_caches = (features, slopes, trust_cache)
    return outputs, (policy_cache, evidence_caches, parent_cache, outcome_cache, mean_cache, bound_cache, choosable)


def heads_backward(params: Params, d_outputs: PolicyOutputs, cache: Any, grads: Params) -> Array:
    """d_h of `heads_forward`; a masked logit is a constant and passes nothing back."""
    policy_cache, evidence_caches, parent_cache, outcome_cache, mean_cache, bound_cache, choosable = cache
    features, slopes, trust_cache = evidence_caches
    d_mean = HALF_WIDTH * soft_bound_backward(d_outputs.means, mean_cache)
    d_policy = [np.where(choosable[:, None], d_outputs.logits, 0.0), d_mean]
    if d_outputs.log_stds is not None:
        d_policy.append(soft_bound_backward(d_outputs.log_stds, bound_cache))
    d_out = np.stack(d_policy, axis=-1)
    d_hidden, d_slope = d_outputs.outcome_hidden[..., :-2], d_outputs.outcome_hidden[..., -2:-1]
    if features is not None:
        accumulate(grads, "policy_head.residual.weight", _weight_gradient(features, d_out))
    d_h = mlp_backward(params, "policy_head.hidden", "policy_head.out", d_out, policy_cache, grads)
    d_parent = d_outputs.parent_logits[..., None]
    d_h = d_h + mlp_backward(params, "parent_head.hidden", "parent_head.out", d_parent, parent_cache, grads)
    if slopes is not None:
        d_h = d_h + linear_backward(params, "outcome_head.trust", slopes * d_slope, trust_cache, grads)
    return d_h + linear_backward(params, "outcome_head.hidden", d_hidden, outcome_cache, grads)


def _weight_gradient(x: Array, d_y: Array) -> Array:
    """dW = x^T dy of y = x W, with all leading axes flattened into one."""
    return np.asarray(x.reshape(-1, x.shape[-1]).T @ d_y.reshape(-1, d_y.shape[-1]))


def value_features(value: Array) -> Array:
    """(..., F) smooth functions of u = value / 5: u, u^2, and two harmonics of the domain."""
    u = value / HALF_WIDTH
    return np.stack(
        [u, u * u, np.sin(np.pi * u), np.cos(np.pi * u), np.sin(2 * np.pi * u), np.cos(2 * np.pi * u)], axis=-1
    )


def outcome_forward(params: Params, hidden: Array, value: Array) -> tuple[Array, Array, Array, Any]:
    """(mean, log_error, log_noise, cache), (...,) each, of the target under do(X_i = value), standard units.

    `mean` estimates E[target | do], with standard error exp(log_error); single outcomes scatter around the expectation with
    standard deviation exp(log_noise) (Kendall & Gal 2017: epistemic and aleatoric uncertainty). The next measured outcome has
    variance exp(log_error)^2 + exp(log_noise)^2, always; the split between the two is exact for linear models and only
    approximate elsewhere (docs/derivations.md).

    Args:
        hidden: (..., D/2 + 2), `outcome_hidden` of the variable in question.
        value: (...,) standard units.
    """
    features = value_features(value)
    activated, gelu_cache = gelu_forward(hidden[..., :-2] + features @ params["outcome_head.value.weight"])
    out, out_cache = linear_forward(params, "outcome_head.out", activated)
    log_stds, bound_cache = soft_bound_forward(out[..., 1:], LOG_STD_BOUND)
    moved = features[..., 0] - hidden[..., -1]  # u - centre
    mean = HALF_WIDTH * out[..., 0] + hidden[..., -2] * moved
    return mean, log_stds[..., 0], log_stds[..., 1], (features, moved, gelu_cache, out_cache, bound_cache)


def outcome_backward(
    params: Params, d_mean: Array, d_log_error: Array, d_log_noise: Array, cache: Any, grads: Params
) -> Array:
    """d_hidden of `outcome_forward`; values are data and need no gradient."""
    features, moved, gelu_cache, out_cache, bound_cache = cache
    d_log_stds = soft_bound_backward(np.stack([d_log_error, d_log_noise], axis=-1), bound_cache)
    d_out = np.concatenate([HALF_WIDTH * d_mean[..., None], d_log_stds], axis=-1)
    d_hidden = gelu_backward(linear_backward(params, "outcome_head.out", d_out, out_cache, grads), gelu_cache)
    flat_features = features.reshape(-1, VALUE_FEATURES)
    accumulate(grads, "outcome_head.value.weight", flat_features.T @ d_hidden.reshape(-1, d_hidden.shape[-1]))
    d_slope = d_mean * moved
    return np.concatenate([d_hidden, d_slope[..., None], np.zeros_like(d_slope)[..., None]], axis=-1)


# ------------------------------------------------------------------------------------------------- one row at a time


class Decoder:
    """The same network, fed row by row: a new row costs one row, not the whole history.

    Rows only ever attend to rows before them (history.attention_mask), so keys and values of past rows never change and
    are kept. Equality with `forward` is a test.

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
        """Blocks on N new rows (E, N, V, C) that begin at row `start`; fills the caches and returns x (E, N, V, D)."""
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

    def peek(self, channels: Array) -> Array:
        """h (E, V, D) as if this row (E, V, C) were the next, without keeping it."""
        stop = self._length + 1
        x = self._run(channels[:, None], self._readable[:, None, None, None, :stop], self._length)
        return layer_norm_forward(self._params, "final_norm", x)[0][:, 0]

    def append(self, channels: Array) -> Array:
        """h (E, V, D) after reading this row (E, V, C), the start row or an intervention row, and keeping it."""
        h = self.peek(channels)
        self._length += 1
        return h
