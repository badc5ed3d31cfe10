"""The examples run, and end where the documentation says they do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

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


def test_one_iteration():
    code = (EXAMPLES / "one_iteration.py").read_text()
    assert code.count("\n") <= 250
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    hand, numeric = (float(n) for n in re.findall(r"(?:by hand|by differences) ([-+.\de]+)", done.stdout))
    assert hand == pytest.approx(numeric, rel=1e-5)
    assert "better candidates +" in done.stdout and "worse ones -" in done.stdout
