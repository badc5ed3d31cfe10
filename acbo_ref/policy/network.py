"""The network: one of two trunks, and the heads on top.

    simple_permutation_invariant    a transformer over raw rows (row_trunk.py)
    pairwise                        triangle updates on the moments of pairs (pair_trunk.py)

Heads, loss, decisions, arena and campaign do not know which: a trunk gives the state h of every
variable at every decision.

Contract: all decisions of some episodes at once. No sampling and no loss here.
Letters: E episodes, R rows, V variables, K decisions, C and P channels, F evidence channels, D
width.
"""

from __future__ import annotations

from typing import Generic, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from acbo_ref.arrays import A, Array, Params
from acbo_ref.config import PolicyConfig
from acbo_ref.policy import pair_trunk, row_trunk
from acbo_ref.policy.acquisition import ACQUISITION_FEATURES, ACQUISITION_START
from acbo_ref.policy.evidence import EVIDENCE_CHANNELS, SLOPE_START
from acbo_ref.policy.heads import (
    VALUE_FEATURES,
    EdgeCache,
    HeadsCache,
    PolicyOutputs,
    edge_backward,
    edge_forward,
    heads_backward,
    heads_forward,
)
from acbo_ref.policy.inputs import CHANNELS
from acbo_ref.policy.pair_trunk import PairTrunkCache
from acbo_ref.policy.pairs import PAIR_CHANNELS
from acbo_ref.policy.row_trunk import RowTrunkCache
from acbo_ref.randomness import Role, generator

# The last layer of a head starts so small that the first policy is close to uniform over variables
# and centred.
HEAD_INIT_SCALE = 0.01


class PolicyInputs(NamedTuple, Generic[A]):
    """What the network reads.

    Args:
        channels: of rows (E, R, V, C), the last K of which are the decision rows; or of pairs
            (E, K, V, V, P).
        evidence: (E, K, V, F), and acquisition: (E, K, V, Q), see acquisition.py; F and Q are 0 for
            the trunk over rows.
        valid: (E, V) bool, false for padding.
        choosable: (E, V) bool, variables that can be intervened on.
        target: (E,) int.
        row_mask: (E, R, R) bool, see inputs.attention_mask; (E, 0, 0) for pairs.
    """

    channels: A
    evidence: A
    acquisition: A
    valid: A
    choosable: A
    target: A
    row_mask: A


class ForwardCache(NamedTuple):
    """What `backward` needs."""

    trunk: RowTrunkCache | PairTrunkCache
    heads: HeadsCache
    edges: EdgeCache | None


# --------------------------------------------------------------------------------------- parameters


def reads_pairs(config: PolicyConfig) -> bool:
    """Which of the two trunks."""
    return config.architecture == "pairwise"


def num_channels(config: PolicyConfig) -> int:
    """Channels of a row and variable, or of a pair."""
    return PAIR_CHANNELS if reads_pairs(config) else CHANNELS


def evidence_size(config: PolicyConfig) -> int:
    """F: the trunk over rows gets no evidence."""
    return EVIDENCE_CHANNELS if reads_pairs(config) else 0


def acquisition_size(config: PolicyConfig) -> int:
    """Q: the policy head of the trunk over rows reads h alone."""
    return ACQUISITION_FEATURES if reads_pairs(config) else 0


def state_size(config: PolicyConfig) -> int:
    """The size of h: D, or 2D for pairs (i with the target, and the target with i)."""
    return config.hidden_dim * (2 if reads_pairs(config) else 1)


def parameter_shapes(config: PolicyConfig) -> dict[str, tuple[int, ...]]:
    """{name: shape} of every parameter, in a fixed order."""
    width, state = config.hidden_dim, state_size(config)
    half = state // 2
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, inputs: int, outputs: int) -> None:
        shapes[name + ".weight"] = (inputs, outputs)
        shapes[name + ".bias"] = (outputs,)

    def norm(name: str, size: int) -> None:
        shapes[name + ".scale"] = (size,)
        shapes[name + ".bias"] = (size,)

    linear("embed", num_channels(config), width)
    for i in range(config.num_layers):
        if reads_pairs(config):
            norm(f"blocks.{i}.norm", width)
            linear(f"blocks.{i}.factors", width, 4 * width)
            norm(f"blocks.{i}.triangle_norm", 2 * width)
            shapes[f"blocks.{i}.variable.weight"] = (3 * width, 4 * width)
            linear(f"blocks.{i}.mlp.up", 4 * width, 2 * width)
            linear(f"blocks.{i}.mlp.down", 2 * width, width)
            continue
        norm(f"blocks.{i}.norm1", width)
        linear(f"blocks.{i}.attention.qkv", width, 3 * width)
        linear(f"blocks.{i}.attention.out", width, width)
        norm(f"blocks.{i}.norm2", width)
        linear(f"blocks.{i}.mlp.up", width, 4 * width)
        linear(f"blocks.{i}.mlp.down", 4 * width, width)
    norm("final_norm", state)
    columns = 2 if config.use_fixed_std else 3
    linear("policy_head.hidden", state + acquisition_size(config), half)
    linear("policy_head.out", half, columns)
    if reads_pairs(config):
        shapes["policy_head.acquisition.weight"] = (ACQUISITION_FEATURES, columns)
    linear("parent_head.hidden", state, half)
    linear("parent_head.out", half, 1)
    if reads_pairs(config):
        norm("edge_head.norm", width)
        linear("edge_head.out", width, 2)
    linear("outcome_head.hidden", state, half)
    if reads_pairs(config):
        linear("outcome_head.trust", state, len(SLOPE_START))
        linear("outcome_head.length", state, 1)
    shapes["outcome_head.value.weight"] = (VALUE_FEATURES, half)
    linear("outcome_head.out", half, 4)
    return shapes


def init_params(config: PolicyConfig, seed: int, dtype: DTypeLike = np.float64) -> Params:
    """Parameters before training.

    Weights are N(0, 1/fan_in), scaled by 1/sqrt(2L) where they feed the residual stream and by
    HEAD_INIT_SCALE in the last layers of the heads. Biases are 0, norms 1; evidence.py and
    acquisition.py say how their own begin. Everything is drawn in float64 in one order, so every
    backend starts equal.
    """
    rng = generator(seed, Role.PARAMETERS)
    params: Params = {}
    for name, shape in parameter_shapes(config).items():
        if name == "policy_head.acquisition.weight":
            value = np.zeros(shape)
            for column, (row, weight) in enumerate(ACQUISITION_START.values()):
                value[row, column] = weight
        elif name == "policy_head.out.weight" and reads_pairs(config):
            value = np.zeros(shape)
        elif name.startswith("outcome_head.trust."):
            value = np.array(SLOPE_START) if name.endswith(".bias") else np.zeros(shape)
        elif name == "outcome_head.length.weight":
            value = np.zeros(shape)
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


# ----------------------------------------------------------------------------------- whole episodes


def forward(
    params: Params, config: PolicyConfig, inputs: PolicyInputs[Array], num_decisions: int
) -> tuple[PolicyOutputs[Array], ForwardCache]:
    """All decisions of E episodes in one pass."""
    trunk_cache: RowTrunkCache | PairTrunkCache
    edge_logits, edge_cache = None, None
    if reads_pairs(config):
        tables = inputs.channels.reshape(-1, *inputs.channels.shape[2:])
        valid, target = (np.repeat(array, num_decisions, axis=0) for array in (inputs.valid, inputs.target))
        h, z, trunk_cache = pair_trunk.trunk_forward(params, config, tables, valid, target)
        h = h.reshape(-1, num_decisions, *h.shape[1:])
        edge_logits, edge_cache = edge_forward(params, z)
        edge_logits = edge_logits.reshape(-1, num_decisions, *edge_logits.shape[1:])
    else:
        h, trunk_cache = row_trunk.trunk_forward(
            params, config, inputs.channels, inputs.valid, inputs.row_mask, num_decisions
        )
    outputs, heads_cache = heads_forward(params, config, h, inputs.choosable, inputs.evidence, inputs.acquisition)
    return outputs._replace(edge_logits=edge_logits), ForwardCache(trunk_cache, heads_cache, edge_cache)


def backward(
    params: Params, config: PolicyConfig, d_outputs: PolicyOutputs[Array], cache: ForwardCache, grads: Params
) -> None:
    """Adds the gradient of every parameter of `forward` to `grads`."""
    d_h = heads_backward(params, config, d_outputs, cache.heads, grads)
    if isinstance(cache.trunk, PairTrunkCache):
        assert cache.edges is not None and d_outputs.edge_logits is not None
        d_edges = d_outputs.edge_logits
        d_z = edge_backward(params, d_edges.reshape(-1, *d_edges.shape[2:]), cache.edges, grads)
        pair_trunk.trunk_backward(params, config, d_h.reshape(-1, *d_h.shape[2:]), d_z, cache.trunk, grads)
    else:
        row_trunk.trunk_backward(params, config, d_h, cache.trunk, grads)
