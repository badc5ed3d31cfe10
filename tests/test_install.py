"""Where the package stands: its commit, and how an extra is installed beside it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from acbo_ref import version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def own_pip(monkeypatch, tmp_path):
    """A `pip` of this Python, found first."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setattr(shutil, "which", lambda name: str(tmp_path / "bin" / name))


def test_in_a_clone_the_clone_is_installed_with_the_extra(own_pip, monkeypatch, tmp_path):
    monkeypatch.setattr(version, "clone", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    assert version.install("jax") == "pip install '.[jax]'"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert version.install("jax") == f"pip install '{tmp_path}[jax]'"


@pytest.mark.parametrize("extra", sorted(set(PROJECT["optional-dependencies"]) - {"all"}))
def test_elsewhere_the_extras_own_libraries_are(own_pip, monkeypatch, extra):
    """The package need not be on an index; what an extra asks for is."""
    monkeypatch.setattr(version, "clone", lambda: None)
    wanted = " ".join(f"'{name}'" for name in PROJECT["optional-dependencies"][extra])
    assert version.install(extra) == f"pip install {wanted}"


def test_the_command_is_for_this_python(monkeypatch, tmp_path):
    """In an environment that is not activated `pip` would be another one's."""
    monkeypatch.setattr(version, "clone", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    for first in ("/usr/bin/pip", None):
        monkeypatch.setattr(shutil, "which", lambda name, first=first: first)
        assert version.install("jax") == ".venv/bin/python -m pip install '.[jax]'"


def test_no_message_and_no_document_asks_an_index_for_acbo():
    """Only version.py may, where nothing is known of what an extra asks for."""
    files = [p for folder in ("acbo", "acbo_ref", "acbo_fast", "cli") for p in (ROOT / folder).rglob("*.py")]
    files += [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    found = [p.name for p in files if re.search(r"pip install '?acbo", p.read_text())]
    assert found == []


def git(folder, *words):
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_the_commit_of_a_clone(monkeypatch, tmp_path):
    monkeypatch.setattr(version, "clone", lambda: tmp_path)
    version.commit.cache_clear()
    assert version.commit() is None  # not a repository: no error
    (tmp_path / "file").write_text("1")
    git(tmp_path, "init")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "one")
    git(tmp_path, "tag", "v1")
    version.commit.cache_clear()
    first = version.commit()
    assert re.fullmatch(r"[0-9a-f]{7,}", first)
    (tmp_path / "file").write_text("2")
    version.commit.cache_clear()
    assert version.commit() == f"{first}-dirty"
    monkeypatch.setenv("PATH", "")
    version.commit.cache_clear()
    assert version.commit() is None
    version.commit.cache_clear()


def test_an_installed_package_has_no_clone(monkeypatch, tmp_path):
    monkeypatch.setattr(version, "__file__", str(tmp_path / "acbo_ref" / "version.py"))
    assert version.clone() is None
    for name in (".git", "pyproject.toml"):
        assert version.clone() is None
        (tmp_path / name).touch()
    assert version.clone() == tmp_path
