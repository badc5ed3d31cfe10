"""Options that the project adds to pytest: --slow runs the tests marked slow, --benchmark runs
benchmarks/ instead of tests/, and --benchmark-grid all of them.
"""

from __future__ import annotations

import os
import sys

import pytest

# Tests run side by side, one a core: threads of BLAS would only be in each other's way. Set before
# NumPy is loaded; benchmarks keep all cores.
if not {"--benchmark", "--benchmark-grid"} & set(sys.argv):
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")
    parser.addoption("--benchmark", action="store_true", help="run benchmarks/: what benchmarks/README.md prints")
    parser.addoption(
        "--benchmark-grid", action="store_true", help="run benchmarks/ at every size (implies --benchmark)"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--benchmark") or config.getoption("--benchmark-grid"):
        config.args[:] = [str(config.rootpath / "benchmarks")]
        # Not tracked; --benchmark-json benchmarks/results.json keeps them in the repository.
        if config.option.benchmark_json is None:
            config.option.benchmark_json = config.rootpath / ".benchmarks" / "latest.json"
        config.option.benchmark_json.parent.mkdir(parents=True, exist_ok=True)
        # Of one that Ctrl-C ended before it began, which is no error.
        config.addinivalue_line("filterwarnings", "ignore::pytest_benchmark.logger.PytestBenchmarkWarning")
        config.option.benchmark_quiet = True  # benchmarks/conftest.py prints a shorter table


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        skip = pytest.mark.skip(reason="slow: run with --slow")
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(skip)
