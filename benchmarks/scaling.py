"""How the cost of the JAX backend grows with variables and interventions: python
benchmarks/scaling.py
"""

from __future__ import annotations

import time

import numpy as np

from acbo_fast import backend_maker
from acbo_ref.grpo.update import ScheduledCoefficients, minibatch_order
from conftest import batch_of, bench_config

REPEATS = 7


def measure(hidden_dim: int, num_variables: int, interventions: int) -> tuple[float, float]:
    """Median seconds of a rollout and of an update of 32 episodes, one pass."""
    changes = {"interventions_per_episode": interventions, "grpo": {"ppo_epochs": 1}}
    config = bench_config(hidden_dim, num_variables, 32, **changes)
    backend, data = backend_maker("jax")(config), batch_of(config)
    state, order = backend.init_state(), minibatch_order(config, 0)
    rollouts, updates = [], []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        trajectories = backend.rollout(state, *data, 1.5)
        rollouts.append(time.perf_counter() - began)
        began = time.perf_counter()
        state, _ = backend.update(state, trajectories, order, ScheduledCoefficients(1e-3, 0.01))
        updates.append(time.perf_counter() - began)
    return float(np.median(rollouts[1:])), float(np.median(updates[1:]))  # the first compiles


if __name__ == "__main__":
    print("| D | V | K | rollout s | update s |\n|---|---|---|---|---|")
    for width in (64, 256):
        for variables, steps in ((5, 30), (10, 30), (5, 60)):
            rollout, update = measure(width, variables, steps)
            print(f"| {width} | {variables} | {steps} | {rollout:.3f} | {update:.3f} |")
