"""Set-up of the benchmarks: which run, backends, batches of a given size, and the machine's
matrix-product peak in this process; and the table at the end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
import table

from acbo_fast import available, backend_maker, backend_pieces
from acbo_ref.config import Config, config_from_dict
from acbo_ref.grpo.noise import draw_noise
from acbo_ref.training.curriculum import Curriculum
from acbo_ref.verify.data import small_config
from acbo_ref.verify.parity import network_checks, rollout_checks

PEAK_SIZE, PEAK_REPEATS = 2048, 9
# What runs without --benchmark-grid: three minutes on two cores. The two figures that a training
# run is made of at two widths, an iteration as a whole, and a single decision.
SUBSET = (
    ("rollout", "D32-V10-E32"), ("update", "D32-V10-E32"), ("update", "D64-V10-E32"), ("iteration", "D32-V10-E32"),
    ("decide", "D32-V10-E1"),
)  # fmt: skip
_measured: set[str] = set()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--benchmark-grid"):
        wanted = [any(f"test_{kind}[" in i.name and f"{size}]" in i.name for kind, size in SUBSET) for i in items]
        config.hook.pytest_deselected(items=[i for i, keep in zip(items, wanted, strict=True) if not keep])
        items[:] = [i for i, keep in zip(items, wanted, strict=True) if keep]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and report.passed:
        _measured.add(report.nodeid)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, object, object]:
    """Keep what was measured to its end; where that is nothing, nothing is written."""
    benchmarks = session.config._benchmarksession  # type: ignore[attr-defined]
    benchmarks.benchmarks[:] = [b for b in benchmarks.benchmarks if b.fullname in _measured]
    if not benchmarks.benchmarks:
        benchmarks.json = None
    return (yield)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table of what was measured, also after Ctrl-C; pytest-benchmark has written it by now."""
    session = config._benchmarksession  # type: ignore[attr-defined]
    if not session.benchmarks:
        return
    terminalreporter.section("benchmarks")
    terminalreporter.write_line(table.text(json.loads(config.option.benchmark_json.read_text())))
    terminalreporter.write_line(f"\nfigures and every timing: {config.option.benchmark_json}")


def bench_config(hidden_dim: int, num_variables: int, batch_size: int, **changes: Any) -> Config:
    """The benchmark's shapes: 20 observations, 30 interventions of which 5 are learned from, groups
    of 10, one pass over two minibatches; at another size.
    """
    stage = {"name": "bench", "variables": num_variables, "graphs": ["erdos_renyi"]}
    document: dict[str, Any] = {
        "name": "bench",
        "batch_size": batch_size,
        "policy": {"hidden_dim": hidden_dim},
        "grpo": {"ppo_epochs": 1, "minibatches": 2 if batch_size > 1 else 1, "learned_decisions": 5},
        "curriculum": {"stages": [stage]},
    }
    return config_from_dict(document | changes)


def batch_of(config: Config) -> tuple[Any, Any, Any]:
    """Systems, observation mask and noise of iteration 0."""
    systems, observation_mask, _ = Curriculum(config).sample(0)
    return systems, observation_mask, draw_noise(config, 0, observation_mask.shape[1], systems.intercept.shape[1])


@pytest.fixture(scope="session", params=available())
def backend_name(request: pytest.FixtureRequest) -> str:
    """Each installed backend, after it has agreed with the reference: a wrong one cannot be
    timed.
    """
    name: str = request.param
    if name != "ref":
        config = small_config(dtype="float64")
        maker = backend_maker(name)
        checks = [
            *network_checks(maker(config), backend_pieces(name), config, "bench", 1e-12, 1e-10),
            *rollout_checks(maker(config), backend_pieces(name), config, "bench"),
        ]
        failed = [check for check in checks if not check.okay]
        assert not failed, f"{name} disagrees with the reference, so it is not timed: {failed}"
    return name


@pytest.fixture(scope="session")
def peak() -> float:
    """FLOP/s of a 2048 x 2048 float32 matrix product in this process, the better of NumPy's and
    JAX's.
    """
    x = np.ones((PEAK_SIZE, PEAK_SIZE), np.float32)
    candidates = [lambda: x @ x]
    if "jax" in available():
        import jax

        y = jax.numpy.asarray(x)
        product = jax.jit(lambda a: a @ a)
        candidates.append(lambda: product(y).block_until_ready())
    rates = []
    for call in candidates:
        call()
        seconds = []
        for _ in range(PEAK_REPEATS):
            began = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - began)
        rates.append(2.0 * PEAK_SIZE**3 / float(np.median(seconds)))
    return max(rates)
