"""The examples run, and end where the documentation says they do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from acbo_ref.checkpoint import shipped_policy

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.skipif(not shipped_policy().exists(), reason="no policy ships yet")
def test_the_algae_campaign(tmp_path):
    pytest.importorskip("matplotlib")
    done = subprocess.run(
        [sys.executable, EXAMPLES / "campaign_algae.py", tmp_path / "algae"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "improvement likely" in done.stdout and done.stdout.count("measured") == 12
    assert (tmp_path / "algae" / "campaign" / "report.html").exists()
