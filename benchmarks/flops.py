"""Model floating-point operations, by formula: what the mathematics needs, not what a program
happens to do.

A product of (m, k) and (k, n) counts 2 m k n; a backward pass costs twice the forward one (two
products for each); softmax, GELU, LayerNorm, Adam and the simulator are not counted. Work that
nothing reads is not counted either: in the last block only the K decision rows need queries and the
feed-forward part.

Letters: E episodes, O observational rows, K decisions, R = O + K, V variables, D width, L blocks, N
labelled draws.
"""

from __future__ import annotations

from acbo_ref.config import Config
from acbo_ref.policy.network import num_channels


def forward_flops(config: Config, num_variables: int) -> float:
    """One forward pass over one episode."""
    d, num_layers, v = config.policy.hidden_dim, config.policy.num_layers, num_variables
    o, k = config.observations_per_episode[1], config.interventions_per_episode
    r = o + k
    total = 2.0 * r * v * num_channels(config.policy) * d  # embedding
    for i in range(num_layers):
        last, over_rows = i == num_layers - 1, i % 2 == 1
        queries = k if last else r
        reads = r if over_rows else queries  # rows whose keys and values are needed
        total += 2.0 * v * d * d * (queries * (1 + 1 + 8) + reads * 2)  # q, out, feed-forward; k and v
        total += 2 * 2.0 * queries * v * d * (r if over_rows else v)  # scores, and weights times values
    draws = config.grpo.group_size + config.heads.probes
    heads = 3 * 2.0 * k * v * d * (d // 2) + k * draws * 2.0 * (d // 2) * 8
    return total + heads


def update_flops(config: Config, num_variables: int) -> float:
    """All epochs over a batch: forward and backward."""
    return 3.0 * config.grpo.ppo_epochs * config.batch_size * forward_flops(config, num_variables)


def rollout_flops(config: Config, num_variables: int) -> float:
    """Decoding a batch of episodes: each row once."""
    return config.batch_size * forward_flops(config, num_variables)
