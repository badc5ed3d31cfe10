"""Files changed at random, and files made to harm: read or refused, never worse. See
hostile_files.py.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from acbo_ref.files import read_yaml

SCRIPT = Path(__file__).with_name("hostile_files.py")
KINDS = ["checkpoint", "scm", "scm_yaml", "config", "table", "workbook", "journal", "export"]


def hostile(kind, count, folder, timeout):
    return subprocess.run(
        [sys.executable, SCRIPT, str(count), kind], cwd=folder, capture_output=True, text=True, timeout=timeout
    )


@pytest.mark.parametrize("kind", KINDS)
def test_some_hostile_files_of_each_kind(kind, tmp_path):
    done = hostile(kind, 150, tmp_path, 120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{kind}: 150 files" in done.stdout and "0 wrong" in done.stdout
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_thousand_hostile_files_of_each_kind(kind, tmp_path):
    done = hostile(kind, 2000, tmp_path, 900)
    assert done.returncode == 0, done.stdout + done.stderr


def test_yaml_is_plain_data_and_nothing_is_lost():
    assert read_yaml("a: {b: [1, 2.5, null, x]}\nc: 'd'") == {"a": {"b": [1, 2.5, None, "x"]}, "c": "d"}
    for text, message in [
        ("a: &x [1]\nb: *x", "aliases are not read"),
        ("a: &x [*x]", "aliases are not read"),
        ("a: 1\nb: {c: 1, c: 2}", "'c' is given twice"),
        ("[" * 20_000, "nested too deeply"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: \x07", "special characters"),
        ("a: b: c", "mapping values"),
    ]:
        with pytest.raises(ValueError, match=message):
            read_yaml(text)
