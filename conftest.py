"""Options that the project adds to pytest: --slow runs the tests marked slow, --benchmark runs
benchmarks/ instead of tests/.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# Tests run side by side, one a core: threads of BLAS would only be in each other's way. Set before
# NumPy is loaded; benchmarks keep all cores.
if "--benchmark" not in sys.argv:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Where a benchmark run writes until it has finished: one that is interrupted, or fails, leaves
# benchmarks/results.json as it was.
_PARTIAL, _FINISHED = "results.partial.json", "results.json"
_EXIT = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")
    parser.addoption("--benchmark", action="store_true", help="run benchmarks/ and write benchmarks/results.json")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--benchmark"):
        config.args[:] = [str(config.rootpath / "benchmarks")]
        if config.option.benchmark_json is None:
            config.option.benchmark_json = str(config.rootpath / "benchmarks" / _PARTIAL)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[_EXIT] = int(exitstatus)


def pytest_unconfigure(config: pytest.Config) -> None:
    if config.getoption("--benchmark"):
        partial: Path = config.rootpath / "benchmarks" / _PARTIAL
        if partial.exists() and config.stash.get(_EXIT, 1) == 0:
            partial.replace(partial.with_name(_FINISHED))
        partial.unlink(missing_ok=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        skip = pytest.mark.skip(reason="slow: run with --slow")
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(skip)
