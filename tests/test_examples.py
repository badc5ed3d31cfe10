"""The examples run, and end where the documentation says they do."""

from __future__ import annotations

import csv
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from acbo_ref.training.checkpoint import shipped_policy

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.skipif(not shipped_policy().exists(), reason="no policy ships yet")
def test_the_algae_campaign(tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLES / "campaign_algae.py", tmp_path / "algae"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "improvement likely" in done.stdout and done.stdout.count("measured") == 12
    assert (tmp_path / "algae" / "campaign" / "report.html").exists()


def test_the_reactor(tmp_path):
    """Ten experiments find the peak inside the domain, near 75 degrees, and what it gains."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / "reactor.py", tmp_path / "reactor"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("measured") == 10 and (tmp_path / "reactor" / "report.html").exists()
    recommended = float(re.findall(r"set temp to ([\d.]+)", done.stdout)[0])
    assert 70.0 < recommended < 80.0 and "better than doing nothing" in done.stdout


def test_the_reactors_rows_are_of_its_simulator():
    simulator = runpy.run_path(str(EXAMPLES / "reactor.py"))
    rng = np.random.default_rng(20)
    rows = list(csv.DictReader((EXAMPLES / "reactor.csv").read_text().splitlines()))
    assert [{name: float(cell) for name, cell in row.items()} for row in rows] == [simulator["day"](rng) for _ in rows]
    assert len(rows) == 20


RUN_NOTEBOOK = """
import sys, nbformat, nbclient
book = nbformat.read(sys.argv[1], as_version=4)
nbformat.validate(book)
nbclient.NotebookClient(book, timeout=120, resources={"metadata": {"path": sys.argv[2]}}).execute()
nbformat.write(book, sys.argv[2] + "/done.ipynb")
"""


def run_notebook(name: str, folder: Path) -> str:
    """The notebook with its outputs. In the repository it has none."""
    for needed in ("nbclient", "ipykernel"):
        pytest.importorskip(needed)
    book = json.loads((EXAMPLES / name).read_text())
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in book["cells"])
    done = subprocess.run(
        [sys.executable, "-c", RUN_NOTEBOOK, EXAMPLES / name, folder], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return (folder / "done.ipynb").read_text()


def test_the_notebook_of_a_campaign_runs_from_top_to_bottom(tmp_path):
    """A whole campaign, with a note, a batch, an abandoned experiment, a correction, an export and
    its import.
    """
    shown = run_notebook("campaign.ipynb", tmp_path)
    assert "improvement likely" in shown
    assert all(
        words in shown for words in ("if it is right all the same", "abandoned", "corrected", "srcdoc", "the first one")
    )


def test_the_notebook_of_grpo_runs_from_top_to_bottom(tmp_path):
    """Its own cells assert that the gradient is right, that it learns, and that the reference's
    functions give the same weights.
    """
    shown = run_notebook("grpo_from_scratch.ipynb", tmp_path)
    assert "by differences" in shown and "after 60 iterations the weights agree" in shown


def test_one_iteration():
    code = (EXAMPLES / "one_iteration.py").read_text()
    assert code.count("\n") <= 250
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    hand, numeric = (float(n) for n in re.findall(r"(?:by hand|by differences) ([-+.\de]+)", done.stdout))
    assert hand == pytest.approx(numeric, rel=1e-5)
    assert "better candidates +" in done.stdout and "worse ones -" in done.stdout
