"""Twin of acbo_ref/policy/network.py: one of two trunks and the heads, on preallocated arrays.

A backward pass finds what the forward pass kept in the workspace, so it must follow it.
Letters: E episodes, V variables, K decisions.
"""

from __future__ import annotations

import numpy as np

from acbo_fast.numba.policy.heads import Heads
from acbo_fast.numba.policy.pair_trunk import PairTrunk
from acbo_fast.numba.policy.row_trunk import RowTrunk
from acbo_fast.numba.workspace import Workspace
from acbo_ref.arrays import Array, Params
from acbo_ref.config import PolicyConfig
from acbo_ref.policy.heads import PolicyOutputs
from acbo_ref.policy.network import PolicyInputs, reads_pairs, state_size


class Network:
    """Forward and backward of whole episodes (training), and of single decisions."""

    def __init__(self, workspace: Workspace, config: PolicyConfig) -> None:
        self.config, self.workspace = config, workspace
        self.rows, self.pairs = RowTrunk(workspace, config), PairTrunk(workspace, config)
        self.heads = Heads(workspace, config)

    def forward(self, params: Params, inputs: PolicyInputs[Array], num_decisions: int) -> PolicyOutputs[Array]:
        """All decisions of E episodes in one pass; see acbo_ref.policy.network.forward."""
        if reads_pairs(self.config):
            h = self.pairs.forward(params, *self._tables(inputs, num_decisions))
            h = h.reshape(-1, num_decisions, *h.shape[1:])
            edge_logits = self.pairs.edge_logits(params, (*inputs.channels.shape[:4], 2))
            outputs = self.heads.forward(params, h, inputs.choosable, inputs.evidence, inputs.acquisition)
            return outputs._replace(edge_logits=edge_logits)
        h = self.rows.forward(params, inputs.channels, inputs.valid, inputs.row_mask, num_decisions)
        return self.heads.forward(params, h, inputs.choosable, inputs.evidence, inputs.acquisition)

    def backward(
        self,
        params: Params,
        inputs: PolicyInputs[Array],
        outputs: PolicyOutputs[Array],
        d: PolicyOutputs[Array],
        grads: Params,
    ) -> None:
        """The gradient of every parameter of `forward`, written to `grads`, from those of its
        outputs.
        """
        shape, pairs = d.logits.shape, reads_pairs(self.config)
        size = state_size(self.config)
        h = self.workspace.kept("h", *shape, size) if not pairs else self.pairs.kept_h(shape).reshape(*shape, size)
        d_h = self.heads.backward(params, h, inputs.choosable, outputs, d, grads)
        if not d_h.any() and (d.edge_logits is None or not d.edge_logits.any()):
            heads = ("policy_head.", "parent_head.", "outcome_head.")
            for name, gradient in grads.items():
                if not name.startswith(heads):
                    gradient.fill(0)  # nothing reaches the trunk or the edge head
        elif pairs:
            assert d.edge_logits is not None
            self.pairs.backward(params, *self._tables(inputs, shape[1]), d_h, d.edge_logits, grads)
        else:
            self.rows.backward(params, inputs.channels, inputs.valid, inputs.row_mask, d_h, grads)

    def _tables(self, inputs: PolicyInputs[Array], num_decisions: int) -> tuple[Array, Array, Array]:
        """Channels, valid and target of one table a decision."""
        channels = inputs.channels.reshape(-1, *inputs.channels.shape[2:])
        valid, target = (np.repeat(array, num_decisions, axis=0) for array in (inputs.valid, inputs.target))
        return channels, valid, target
