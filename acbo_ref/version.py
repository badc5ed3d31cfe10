"""The version, in one place: checkpoints and evaluations record it. And where the package stands:
from which commit it runs, and how an extra is installed beside it.

Contract: best effort. Without git, a clone or a `pip`, there is still an answer and no error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

__version__ = "0.1.0"


def clone() -> Path | None:
    """The folder of the clone that this code runs from; None if it was installed."""
    folder = Path(__file__).resolve().parent.parent
    return folder if (folder / ".git").exists() and (folder / "pyproject.toml").exists() else None


@lru_cache(maxsize=1)
def commit() -> str | None:
    """The commit of the clone, with "-dirty" if files were changed since; None without a clone or
    git.
    """
    folder = clone()
    if folder is None:
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def install(extra: str) -> str:
    """The command that installs an extra where this Python looks for it.

    In a clone that is the clone with the extra; elsewhere the extra's own libraries, since the
    package need not be on an index.
    """
    folder = clone()
    if folder is None:
        wanted = " ".join(f"'{name}'" for name in _libraries(extra))
    else:
        wanted = f"'{'.' if folder == Path.cwd() else folder}[{extra}]'"
    return f"{_pip()} install {wanted}"


def _libraries(extra: str) -> list[str]:
    """What an extra asks for, without its markers; its own name if the package is not installed."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        lines = [line.partition(";") for line in requires("acbo") or []]
    except PackageNotFoundError:
        lines = []
    found = [name.strip() for name, _, marker in lines if f"extra == '{extra}'" in marker.replace('"', "'")]
    return found or [f"acbo[{extra}]"]


def _pip() -> str:
    """`pip` if that is this Python's, else this Python with `-m pip`."""
    python = Path(sys.executable)
    first = shutil.which("pip")
    if first is not None and Path(first).parent == python.parent:
        return "pip"
    return f"{os.path.relpath(python) if python.is_relative_to(Path.cwd()) else python} -m pip"
