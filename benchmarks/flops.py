"""Model floating-point operations, by formula: what the mathematics needs, not what a program
happens to do.

A product of (m, k) and (k, n) counts 2 m k n; a backward pass costs twice the forward one (two
products for each); softmax, GELU, LayerNorm, Adam, moments and the simulator are not counted. Over
rows, work that nothing reads is not counted either: in the last block only the K decision rows need
queries and the feed-forward part.

Letters: E episodes, O observational rows, K decisions, K' of them learned from, R = O + K, V
variables, D width, L blocks, P channels of a pair, N labelled draws.
"""

from __future__ import annotations

from acbo_ref.config import Config
from acbo_ref.policy.network import num_channels, reads_pairs, state_size


def forward_flops(config: Config, num_variables: int, num_decisions: int | None = None) -> float:
    """One forward pass over one episode, of so many decisions; None for all K."""
    k = config.interventions_per_episode if num_decisions is None else num_decisions
    trunk = _pair_flops(config, num_variables) * k if reads_pairs(config.policy) else _row_flops(config, num_variables)
    state, draws = state_size(config.policy), config.grpo.group_size + config.heads.probes
    heads = 3 * 2.0 * k * num_variables * state * (state // 2) + k * draws * 2.0 * (state // 2) * 8
    return trunk + heads


def _pair_flops(config: Config, v: int) -> float:
    """The pairwise trunk on one table: 2 [V^2 P D + L (V^2 14 D^2 + V 12 D^2 + 2 V^3 D)]."""
    d, num_layers = config.policy.hidden_dim, config.policy.num_layers
    block = v * v * 14 * d * d + v * 12 * d * d + 2 * v**3 * d
    return 2.0 * (v * v * num_channels(config.policy) * d + num_layers * block)


def _row_flops(config: Config, v: int) -> float:
    """The trunk over rows on one episode."""
    d, num_layers = config.policy.hidden_dim, config.policy.num_layers
    o, k = config.observations_per_episode[1], config.interventions_per_episode
    r = o + k
    total = 2.0 * r * v * num_channels(config.policy) * d  # embedding
    for i in range(num_layers):
        last, over_rows = i == num_layers - 1, i % 2 == 1
        queries = k if last else r
        reads = r if over_rows else queries  # rows whose keys and values are needed
        total += 2.0 * v * d * d * (queries * (1 + 1 + 8) + reads * 2)  # q, out, feed-forward; k and v
        total += 2 * 2.0 * queries * v * d * (r if over_rows else v)  # scores, and weights times values
    return total


def decision_flops(config: Config, num_variables: int) -> float:
    """From a measured row to the next decision of one system: the network once."""
    return forward_flops(config, num_variables, 1)


def update_flops(config: Config, num_variables: int) -> float:
    """All epochs over a batch: forward and backward, of the learned decisions."""
    forward = forward_flops(config, num_variables, config.grpo.learned_decisions)
    return 3.0 * config.grpo.ppo_epochs * config.batch_size * forward


def rollout_flops(config: Config, num_variables: int) -> float:
    """Playing a batch of episodes: each decision, or row, once."""
    return config.batch_size * forward_flops(config, num_variables)
