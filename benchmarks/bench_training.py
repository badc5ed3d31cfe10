"""Rollout, update, a whole iteration and a single decision, for each backend, over width, variables
and batch size.

    pytest --benchmark                                        the table of benchmarks/README.md
    pytest --benchmark-grid                                   every size: half an hour on 2 cores
    pytest --benchmark-grid -k "jax and D32 and iteration"
    python benchmarks/table.py                                the table again
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flops import decision_flops, rollout_flops, update_flops

from acbo_fast import backend_maker
from acbo_ref.arena.play import batch_task
from acbo_ref.grpo.update import ScheduledCoefficients, minibatch_order
from acbo_ref.systems.prior import sample_scm
from acbo_ref.training.trainer import Trainer
from conftest import batch_of, bench_config

WIDTHS, VARIABLES, BATCHES = (32, 64), (5, 10, 20, 50), (8, 32)
GRID = [(d, v, e) for d in WIDTHS for v in VARIABLES for e in BATCHES]
HYPER = ScheduledCoefficients(learning_rate=5e-4, entropy_coefficient=0.01)
# Above this many operations one timed round must do.
ONE_ROUND_FLOPS = 2e11


def rounds(flops: float) -> int:
    return 1 if flops > ONE_ROUND_FLOPS else 5


@pytest.fixture(params=GRID, ids=lambda g: f"D{g[0]}-V{g[1]}-E{g[2]}")
def cell(request: pytest.FixtureRequest) -> Any:
    return request.param


def note(benchmark: Any, backend: str, cell: Any, flops: float, peak: float, episodes: int) -> None:
    d, v, e = cell
    benchmark.extra_info.update(backend=backend, D=d, V=v, E=e, flops=flops, peak=peak, episodes=episodes)


def test_rollout(benchmark: Any, backend_name: str, cell: Any, peak: float) -> None:
    config = bench_config(*cell)
    backend, data = backend_maker(backend_name)(config), batch_of(config)
    state, flops = backend.init_state(), rollout_flops(config, cell[1])
    note(benchmark, backend_name, cell, flops, peak, cell[2])
    benchmark.pedantic(backend.rollout, (state, *data, 1.5), rounds=rounds(flops), warmup_rounds=1)


def test_update(benchmark: Any, backend_name: str, cell: Any, peak: float) -> None:
    config = bench_config(*cell)
    backend, data = backend_maker(backend_name)(config), batch_of(config)
    kept = {"state": backend.init_state()}
    trajectories, order = backend.rollout(kept["state"], *data, 1.5), minibatch_order(config, 0)
    flops = update_flops(config, cell[1])
    note(benchmark, backend_name, cell, flops, peak, cell[2])

    def update() -> None:
        kept["state"], _ = backend.update(kept["state"], trajectories, order, HYPER)

    benchmark.pedantic(update, rounds=rounds(flops), warmup_rounds=1)


def test_iteration(benchmark: Any, backend_name: str, cell: Any, peak: float) -> None:
    """Everything an iteration of training does: sampling systems, rollout, update, measuring."""
    config = bench_config(*cell, total_episodes=10**6)
    trainer = Trainer(config, backend_maker(backend_name)(config))
    flops = rollout_flops(config, cell[1]) + update_flops(config, cell[1])
    note(benchmark, backend_name, cell, flops, peak, cell[2])
    benchmark.pedantic(trainer._iterate, rounds=rounds(flops), warmup_rounds=1)


@pytest.mark.parametrize("size", [(d, v) for d in WIDTHS for v in VARIABLES], ids=lambda s: f"D{s[0]}-V{s[1]}-E1")
def test_decide(benchmark: Any, backend_name: str, size: tuple[int, int], peak: float) -> None:
    """From a measured row to the next decision, with 50 rows of history: 20 observational, 30 of
    interventions.
    """
    hidden_dim, num_variables = size
    config = bench_config(hidden_dim, num_variables, 1)
    rng = np.random.default_rng(0)
    scm = sample_scm(config.scm, "erdos_renyi", num_variables, rng)
    backend = backend_maker(backend_name)(config)
    task = batch_task([scm], [scm.simulate(rng.standard_normal((20, num_variables)))])
    lever = np.array([int(np.flatnonzero(scm.manipulable)[0])])

    def after_29() -> tuple[tuple[Any], dict[str, Any]]:
        session = backend.session(backend.init_state(), task, 30)
        for _ in range(29):
            session.observe(lever, np.zeros((1, num_variables)))
        session.decide()  # waits for what was dispatched so far
        return (session,), {}

    def step(session: Any) -> None:
        session.observe(lever, np.zeros((1, num_variables)))
        session.decide()

    flops = decision_flops(config, num_variables)
    note(benchmark, backend_name, (hidden_dim, num_variables, 1), flops, peak, 0)
    benchmark.pedantic(step, setup=after_29, rounds=20, warmup_rounds=2)
