"""Every block of the tutorials runs, in order, and prints what the page says; and the numbers
worked in docs/derivations.md are right.

In a tutorial a block of YAML or Python whose first line is a comment with the name of a file is
written to that file. Other blocks of Python are programs of their own, and Bash is Bash. A block
`text` has lines of what the block before it prints; numbers are not compared, since the last digits
differ between machines.
"""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
PACKAGES = {
    "acbo": "acbo",
    "acbo_ref": "acbo_ref",
    "acbo_fast": "acbo_fast",
    "acbo_cli": "cli",
    "acbo_configs": "configs",
}


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of the fences that name a language."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.M | re.S)


def plain(text: str) -> str:
    """Without numbers, and with single spaces."""
    return " ".join(re.sub(r"-?\d+(\.\d+)?", "#", text).split())


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs(page, tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    environment = dict(os.environ, PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if page.stem == "add_a_backend":  # it writes into the package: a clone of its own
        for package, folder in PACKAGES.items():
            shutil.copytree(ROOT / folder, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
        environment["PYTHONPATH"] = str(tmp_path)
    printed, ran, shown = "", 0, 0
    for language, text in blocks(page):
        name = re.match(r"# ([\w/]+\.(?:py|yaml))\n", text)
        if name is not None:
            (tmp_path / name[1]).write_text(text)
            continue
        if language == "text":
            lines = [line for line in text.splitlines() if line.strip()]
            assert [line for line in lines if plain(line) not in plain(printed)] == [], printed
            shown += 1
            continue
        command = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[language]
        done = subprocess.run(
            [*command, text], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        printed, ran = done.stdout + "\n" + done.stderr, ran + 1
    assert ran >= 2 and shown >= 2


def test_every_section_of_the_derivations_has_a_number_and_it_is_right():
    """The sessions of a page share their names, as if they were typed one after the other."""
    sections = re.split(r"^(?=#{2,3} )", (DOCS / "derivations.md").read_text(), flags=re.M)
    names: dict[str, object] = {}
    without = []
    for section in sections:
        title, _, body = section.partition("\n")
        sessions = re.findall(r"^```pycon\n(.*?)^```$", section, re.M | re.S)
        if not sessions and body.strip() and title.startswith("##"):
            without.append(title)
        for session in sessions:
            test = doctest.DocTestParser().get_doctest(session, names, title, "docs/derivations.md", 0)
            assert test.examples
            said: list[str] = []
            runner = doctest.DocTestRunner(verbose=False)
            runner.run(test, out=said.append, clear_globs=False)
            names = test.globs
            assert runner.failures == 0, "".join(said)
    assert without == []
