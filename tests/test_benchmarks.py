"""`pytest --benchmark`: which figures it takes, the table at the end, and Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from acbo_fast import available

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"


def figure(kind, backend, median, **more):
    info = {"backend": backend, "D": 32, "V": 10, "E": 32, "flops": 2e9, "peak": 1e11, "episodes": 32} | more
    return {"name": f"test_{kind}[{backend}-D32-V10-E32]", "extra_info": info, "stats": {"median": median}}


def test_each_figure_stands_beside_peak_and_reference():
    rows = runpy.run_path(str(BENCHMARKS / "table.py"))["rows"]
    found = rows(
        [figure("update", "ref", 1.0), figure("decide", "jax", 1e-3, episodes=0), figure("update", "jax", 0.1)]
    )
    assert found == [
        ["update", "D32-V10-E32", "jax", "0.1", "320", "20", "20%", "10"],
        ["update", "D32-V10-E32", "ref", "1", "32", "2", "2%", "1"],
        ["decide", "D32-V10-E32", "jax", "0.001", "", "2e+03", "2000%", ""],
    ]


def test_the_documents_table_is_that_of_the_results():
    text = runpy.run_path(str(BENCHMARKS / "table.py"))["text"](json.loads((BENCHMARKS / "results.json").read_text()))
    cells = lambda table: [re.split(r" *\| *", line) for line in table.splitlines() if line.startswith("|")]  # noqa: E731
    printed = (BENCHMARKS / "README.md").read_text()
    assert text.splitlines()[0] in printed
    for row in cells(text)[2:]:
        assert row in cells(printed), row
    assert max(map(len, text.splitlines())) <= 80


# Not a worker of this very run: benchmarks would not be taken side by side.
ALONE = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


def collected(*options):
    command = [sys.executable, "-m", "pytest", *options, "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=ALONE)
    assert done.returncode == 0, done.stdout + done.stderr
    return re.findall(r"::test_(\w+)\[(.*)\]", done.stdout)


def test_by_default_it_takes_the_figures_of_the_table():
    few, grid = collected("--benchmark"), collected("--benchmark-grid")
    assert len(few) == 5 * len(available()) and len(grid) == (3 * 16 + 8) * len(available())
    assert {kind for kind, _ in few} == {"rollout", "update", "iteration", "decide"} and set(few) < set(grid)


MEASURED = """
import pytest

def note(benchmark):
    info = {"backend": "ref", "D": 32, "V": 10, "E": 32, "flops": 1e6, "peak": 1e9, "episodes": 32}
    benchmark.extra_info.update(info)

@pytest.mark.parametrize("cell", ["D32-V10-E32"])
def test_rollout(benchmark, cell):
    note(benchmark)
    STOP_AT_ONCE
    benchmark.pedantic(lambda: None, rounds=2)

@pytest.mark.parametrize("cell", ["D32-V10-E32"])
def test_update(benchmark, cell):
    note(benchmark)
    calls = []
    def interrupted():
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
    benchmark.pedantic(interrupted, rounds=3)
"""


@pytest.mark.parametrize("at_once", [False, True])
def test_what_was_measured_before_ctrl_c_is_kept(tmp_path, at_once):
    (tmp_path / "benchmarks").mkdir()
    shutil.copy(ROOT / "conftest.py", tmp_path)
    for name in ("conftest.py", "table.py", "results.json"):
        shutil.copy(BENCHMARKS / name, tmp_path / "benchmarks")
    stop = "raise KeyboardInterrupt" if at_once else ""
    (tmp_path / "benchmarks" / "bench_x.py").write_text(MEASURED.replace("STOP_AT_ONCE", stop))
    (tmp_path / "pytest.ini").write_text("[pytest]\npython_files = bench_*.py\nfilterwarnings = error\n")
    environment = {**ALONE, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--benchmark"], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 2 and "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    latest = tmp_path / ".benchmarks" / "latest.json"
    if at_once:
        assert not latest.exists() and "| peak |" not in done.stdout
    else:
        assert [b["name"] for b in json.loads(latest.read_text())["benchmarks"]] == ["test_rollout[D32-V10-E32]"]
        assert re.search(r"^\| rollout \| D32-V10-E32 \| ref ", done.stdout, re.M) and "| update" not in done.stdout
    assert (tmp_path / "benchmarks" / "results.json").read_bytes() == (BENCHMARKS / "results.json").read_bytes()


def test_results_are_not_tracked():
    assert ".benchmarks/" in (ROOT / ".gitignore").read_text().splitlines()
