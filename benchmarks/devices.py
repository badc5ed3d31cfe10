"""What sharding costs: python benchmarks/devices.py

1. Formulas of docs/scaling.md for the shipped configs, and the device count from which a reduction
outlasts the arithmetic. 2. The bytes that XLA's own program reduces and gathers, beside the
formula. 3. The program on a mesh of one device against the same functions compiled without a mesh,
timed in turn.
"""

from __future__ import annotations

import os
import re
import time
from functools import partial

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")

import jax
import numpy as np
from flops import forward_flops, rollout_flops, update_flops

from acbo_fast.jax.backend import JaxBackend, traced_rollout, traced_update
from acbo_fast.jax.mesh import WHOLE
from acbo_ref.config import Config, load_config
from acbo_ref.grpo.update import ScheduledCoefficients, minibatch_order
from acbo_ref.policy.network import evidence_size, num_channels, parameter_shapes, reads_pairs
from conftest import batch_of, bench_config

REPEATS = 15
# (link, bytes a second and direction), (device, sustained flop/s of this program): round figures,
# to put formulas in proportion.
LINKS = {"1 Gbit/s Ethernet": 1.25e8, "10 Gbit/s Ethernet": 1.25e9, "PCIe 4 x16": 2.5e10, "NVLink": 4e11}
DEVICES = {"CPU core": 3e10, "GPU": 1e13}


def parameters(config: Config) -> int:
    return sum(int(np.prod(shape)) for shape in parameter_shapes(config.policy).values())


def reduced_bytes(config: Config) -> float:
    """Of one iteration: a gradient, a loss and its terms in every optimiser step, float32."""
    terms = 8
    return 4.0 * (parameters(config) + terms) * config.grpo.ppo_epochs * config.grpo.minibatches


def gathered_bytes(config: Config, num_variables: int) -> float:
    """Of one iteration: all trajectories, float32 and int32, masks as bytes."""
    o, k, v = config.observations_per_episode[1], config.interventions_per_episode, num_variables
    g, n, r = config.grpo.group_size, config.grpo.group_size + config.heads.probes, o + k
    learned = config.grpo.learned_decisions or k
    table, mask = r * v, r * r
    if reads_pairs(config.policy):
        table, mask = learned * v * v, 0
    channels = 4 * (table * num_channels(config.policy) + learned * v * evidence_size(config.policy))
    # variable, value, log-prob, reward; variable, value, mean, variance, weight; which were learned
    # from
    draws = 4 * learned * (4 * g + 5 * n + 1)
    done = 4 * 4 * k  # variable, applied value, outcome, its expectation
    # rows; valid, choosable, parents, their mask; target; which draw was carried out
    masks = mask + 4 * v + 4 + 4
    fixed_std = 4
    return float(config.batch_size * (channels + draws + done + masks) + fixed_std)


def crossover(config: Config, num_variables: int, link: float, device: float) -> float:
    """The number of devices from which a ring all-reduce takes longer than a minibatch's arithmetic
    (bandwidth alone).
    """
    minibatch = config.batch_size / config.grpo.minibatches
    return 3 * minibatch * forward_flops(config, num_variables) / device / (2 * 4 * parameters(config) / link)


def compiled_bytes(config: Config, num_variables: int) -> tuple[float, float]:
    """(all-reduce bytes of one optimiser step, all-gather bytes of a rollout) in the programs for
    two devices.
    """
    backend = JaxBackend(config, 2)
    state, data = backend.init_state(), batch_of(config)
    trajectories = backend.rollout(state, *data, 1.5)
    with backend.precision():
        place = backend.place
        order = place(minibatch_order(config, 0).astype(np.int32), WHOLE)
        update = (
            backend.compiled_update.lower(
                state, trajectories, order, ScheduledCoefficients(place(1e-3, WHOLE), place(1e-2, WHOLE))
            )
            .compile()
            .as_text()
        )
    reduced = sum(size(line.split(" all-reduce(")[0]) for line in update.splitlines() if " all-reduce(" in line)
    gathered = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(trajectories))
    return reduced, gathered


def size(text: str) -> float:
    """Bytes of the shapes in a piece of HLO."""
    widths = {"f32": 4, "s32": 4, "f64": 8, "s64": 8, "pred": 1}
    found = re.findall(r"(f32|f64|s32|s64|pred)\[([\d,]*)\]", text)
    return float(sum(widths[kind] * np.prod([int(n) for n in shape.split(",") if n]) for kind, shape in found))


def overhead(config: Config) -> tuple[float, float]:
    """Median seconds of an iteration (on a mesh of one device, without a mesh), timed in turn."""
    meshed, plain = JaxBackend(config, 1), JaxBackend(config, 1)
    real = jax.lax.pmean, jax.lax.axis_index
    jax.lax.pmean, jax.lax.axis_index = lambda x, axis: x, lambda axis: 0  # what they are with one device
    plain._rollout = jax.jit(partial(traced_rollout, config))
    plain.compiled_update = jax.jit(partial(traced_update, config, 1), donate_argnums=0)
    data, order, seconds = batch_of(config), minibatch_order(config, 0), {"meshed": [], "plain": []}

    def iterate(backend, state):
        began = time.perf_counter()
        trajectories = backend.rollout(state, *data, 1.5)
        state, _ = backend.update(state, trajectories, order, ScheduledCoefficients(1e-3, 0.01))
        return time.perf_counter() - began, state

    states = {"meshed": meshed.init_state(), "plain": plain.init_state()}
    _, states["plain"] = iterate(plain, states["plain"])  # traced here, without the collectives
    jax.lax.pmean, jax.lax.axis_index = real
    _, states["meshed"] = iterate(meshed, states["meshed"])
    for _ in range(REPEATS):
        for name, backend in (("meshed", meshed), ("plain", plain)):
            spent, states[name] = iterate(backend, states[name])
            seconds[name].append(spent)
    return float(np.median(seconds["meshed"])), float(np.median(seconds["plain"]))


if __name__ == "__main__":
    print("| config | V | parameters | reduced, MB | gathered, MB | GFLOP |\n|---|---|---|---|---|---|")
    for name in ("quick_test", "production", "experiment"):
        for variables in (10, 1000):
            config = load_config(name)
            flops = (rollout_flops(config, variables) + update_flops(config, variables)) / 1e9
            print(
                f"| {name} | {variables} | {parameters(config)} | {reduced_bytes(config) / 1e6:.1f} "
                f"| {gathered_bytes(config, variables) / 1e6:.1f} | {flops:.0f} |"
            )
    print("\n| config, V = 10 | device | " + " | ".join(LINKS) + " |\n|---|---|" + "---|" * len(LINKS))
    for name in ("quick_test", "production", "experiment"):
        for device, speed in DEVICES.items():
            counts = [crossover(load_config(name), 10, link, speed) for link in LINKS.values()]
            print(f"| {name} | {device} | " + " | ".join(f"{count:.2g}" for count in counts) + " |")
    config = bench_config(64, 5, 8)
    reduced, gathered = compiled_bytes(config, 5)
    steps = config.grpo.ppo_epochs * config.grpo.minibatches
    print(
        f"\nbenchmark cell D=64, V=5, E=8: XLA reduces {reduced:.0f} bytes a step, by formula {reduced_bytes(config) / steps:.0f}"
    )
    print(f"trajectories have {gathered:.0f} bytes, by formula {gathered_bytes(config, 5):.0f}")
    for hidden_dim, episodes in ((64, 8), (64, 32), (256, 8)):
        meshed, plain = overhead(bench_config(hidden_dim, 5, episodes))
        print(
            f"D={hidden_dim}, E={episodes}: {meshed:.4f} s on a mesh of one, {plain:.4f} s without, {meshed / plain - 1:+.1%}"
        )
