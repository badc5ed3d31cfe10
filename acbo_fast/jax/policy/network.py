"""Twin of acbo_ref/policy/network.py. Gradients are JAX's, so agreement with the reference checks
the hand derivation.

Letters: E episodes, K decisions, V variables.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from acbo_fast.jax.policy import pair_trunk, row_trunk
from acbo_fast.jax.policy.heads import edge, heads
from acbo_fast.jax.policy.layers import Params
from acbo_ref.config import PolicyConfig
from acbo_ref.policy.heads import PolicyOutputs
from acbo_ref.policy.network import PolicyInputs, reads_pairs


def forward(
    params: Params, config: PolicyConfig, inputs: PolicyInputs[Array], num_decisions: int
) -> PolicyOutputs[Array]:
    """All decisions of E episodes in one pass; see acbo_ref.policy.network.forward."""
    edge_logits = None
    if reads_pairs(config):
        tables = inputs.channels.reshape(-1, *inputs.channels.shape[2:])
        valid, target = (jnp.repeat(array, num_decisions, axis=0) for array in (inputs.valid, inputs.target))
        h, z = pair_trunk.trunk(params, config, tables, valid, target)
        h = h.reshape(-1, num_decisions, *h.shape[1:])
        edge_logits = edge(params, z).reshape(-1, num_decisions, *z.shape[1:3], 2)
    else:
        h = row_trunk.trunk(params, config, inputs.channels, inputs.valid, inputs.row_mask, num_decisions)
    outputs = heads(params, config, h, inputs.choosable, inputs.evidence, inputs.acquisition)
    return outputs._replace(edge_logits=edge_logits)
