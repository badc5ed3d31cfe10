"""The network `simple_permutation_invariant`: a transformer over the (row, variable) table of an
episode.

    x = Linear C->D (channels)
    L pre-norm blocks:   x += attention(norm1(x)),   x += mlp(norm2(x))
        block 0, 2, ... attends over variables within each row; block 1, 3, ... over rows for each
        variable
    h = final norm (x at the K decision rows), which the heads read (heads.py)

Variables and observational rows carry no position, so permuting variables permutes the outputs and
permuting observational rows changes nothing (Lee et al. 2019, "Set Transformer"; alternation as in
Kossen et al. 2021).

Contract: a whole episode at once; decoder.py gives the same numbers one row at a time. No sampling
and no loss here.
Letters: E episodes, R rows, V variables, K decisions (the last K rows), C channels, D width, H
heads, L blocks.
"""

from __future__ import annotations

from typing import Generic, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from acbo_ref.arrays import A, Array, Params
from acbo_ref.config import PolicyConfig
from acbo_ref.policy.evidence import EVIDENCE_CHANNELS, RESIDUAL_FEATURES, RESIDUAL_START, SLOPE_START
from acbo_ref.policy.heads import VALUE_FEATURES, HeadsCache, PolicyOutputs, heads_backward, heads_forward
from acbo_ref.policy.inputs import CHANNELS
from acbo_ref.policy.layers import (
    AttentionCache,
    LayerNormCache,
    MLPCache,
    attention_backward,
    attention_forward,
    layer_norm_backward,
    layer_norm_forward,
    linear_backward,
    linear_forward,
    mlp_backward,
    mlp_forward,
)
from acbo_ref.randomness import Role, generator

# The last layer of a head starts so small that the first policy is close to uniform over variables
# and centred.
HEAD_INIT_SCALE = 0.01


class PolicyInputs(NamedTuple, Generic[A]):
    """What the network reads.

    Args:
        channels: (E, R, V, C).
        valid: (E, V) bool, false for padding.
        choosable: (E, V) bool, variables that can be intervened on.
        row_mask: (E, R, R) bool, see inputs.attention_mask.
    """

    channels: A
    valid: A
    choosable: A
    row_mask: A


class BlockCache(NamedTuple):
    """What `block_backward` needs."""

    norm1: LayerNormCache
    attention: AttentionCache
    norm2: LayerNormCache
    mlp: MLPCache


class ForwardCache(NamedTuple):
    """What `backward` needs."""

    embed: Array
    blocks: list[BlockCache]
    norm: LayerNormCache
    heads: HeadsCache
    shape: tuple[int, ...]


# --------------------------------------------------------------------------------------- parameters


def num_channels(config: PolicyConfig) -> int:
    """C: the channels of inputs.py, and those of evidence.py where the config wants them."""
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
    columns = 2 if config.use_fixed_std else 3
    linear("policy_head.hidden", width, half)
    linear("policy_head.out", half, columns)
    if config.evidence == "regression":
        shapes["policy_head.residual.weight"] = (RESIDUAL_FEATURES, columns)
    linear("parent_head.hidden", width, half)
    linear("parent_head.out", half, 1)
    linear("outcome_head.hidden", width, half)
    if config.evidence == "regression":
        linear("outcome_head.trust", width, len(SLOPE_START))
    shapes["outcome_head.value.weight"] = (VALUE_FEATURES, half)
    linear("outcome_head.out", half, 3)
    return shapes


def init_params(config: PolicyConfig, seed: int, dtype: DTypeLike = np.float64) -> Params:
    """Parameters before training.

    Weights are N(0, 1/fan_in), scaled by 1/sqrt(2L) where they feed the residual stream and by
    HEAD_INIT_SCALE in the last layers of the heads. Biases are 0, norms 1; evidence.py says how its
    own begin. Everything is drawn in float64 in one order, so every backend starts equal.
    """
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


# ------------------------------------------------------------------------------------------- blocks


def _swap_rows(x: Array, over_rows: bool) -> Array:
    """Bring the attended axis next to the features: (E, R, V, D) stays, or becomes (E, V, R, D)."""
    return x.swapaxes(1, 2) if over_rows else x


def block_forward(params: Params, index: int, x: Array, mask: Array, num_heads: int) -> tuple[Array, BlockCache]:
    """One pre-norm block on x (E, R, V, D); mask (E, 1, 1, N, N) along variables (even index) or
    rows (odd index).
    """
    name, over_rows = f"blocks.{index}", index % 2 == 1
    normed, norm1_cache = layer_norm_forward(params, name + ".norm1", x)
    attended, attention_cache = attention_forward(
        params, name + ".attention", _swap_rows(normed, over_rows), mask, num_heads
    )
    x = x + _swap_rows(attended, over_rows)
    normed, norm2_cache = layer_norm_forward(params, name + ".norm2", x)
    fed, mlp_cache = mlp_forward(params, name + ".mlp.up", name + ".mlp.down", normed)
    return x + fed, BlockCache(norm1_cache, attention_cache, norm2_cache, mlp_cache)


def block_backward(params: Params, index: int, d_x: Array, cache: BlockCache, grads: Params) -> Array:
    """d_x of `block_forward`: each residual branch adds its gradient to the one that skips it."""
    name, over_rows = f"blocks.{index}", index % 2 == 1
    d_normed = mlp_backward(params, name + ".mlp.up", name + ".mlp.down", d_x, cache.mlp, grads)
    d_x = d_x + layer_norm_backward(params, name + ".norm2", d_normed, cache.norm2, grads)
    d_normed = attention_backward(params, name + ".attention", _swap_rows(d_x, over_rows), cache.attention, grads)
    return d_x + layer_norm_backward(params, name + ".norm1", _swap_rows(d_normed, over_rows), cache.norm1, grads)


def variable_mask(valid: Array) -> Array:
    """(E, 1, 1, V, V) bool: every variable reads the valid ones, and itself, so that padding has a
    softmax too.
    """
    return np.asarray((valid[:, None, :] | np.eye(valid.shape[1], dtype=bool))[:, None, None])


# ----------------------------------------------------------------------------------- whole episodes


def forward(
    params: Params, config: PolicyConfig, inputs: PolicyInputs[Array], num_decisions: int
) -> tuple[PolicyOutputs[Array], ForwardCache]:
    """All decisions of E episodes in one pass; the last `num_decisions` rows are the decision
    rows.
    """
    x, embed_cache = linear_forward(params, "embed", inputs.channels)
    masks = (variable_mask(inputs.valid), inputs.row_mask[:, None, None])
    block_caches = []
    for i in range(config.num_layers):
        x, block_cache = block_forward(params, i, x, masks[i % 2], config.num_heads)
        block_caches.append(block_cache)
    h, norm_cache = layer_norm_forward(params, "final_norm", x[:, -num_decisions:])
    outputs, heads_cache = heads_forward(params, config, h, inputs.choosable, inputs.channels[:, -num_decisions:])
    return outputs, ForwardCache(embed_cache, block_caches, norm_cache, heads_cache, x.shape)


def backward(
    params: Params, config: PolicyConfig, d_outputs: PolicyOutputs[Array], cache: ForwardCache, grads: Params
) -> None:
    """Adds the gradient of every parameter of `forward` to `grads`."""
    d_h = heads_backward(params, d_outputs, cache.heads, grads)
    d_x = np.zeros(cache.shape, d_h.dtype)
    d_x[:, -d_h.shape[1] :] = layer_norm_backward(params, "final_norm", d_h, cache.norm, grads)
    for i in reversed(range(config.num_layers)):
        d_x = block_backward(params, i, d_x, cache.blocks[i], grads)
    linear_backward(params, "embed", d_x, cache.embed, grads)
