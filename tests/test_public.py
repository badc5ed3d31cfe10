"""`import acbo`: what users of the library have, and what the examples use."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from processor_time import least_seconds

import acbo
import acbo_ref

ROOT = Path(__file__).parent.parent


def test_it_is_the_public_names_of_the_reference():
    assert dir(acbo) == acbo.__all__ == dir(acbo_ref) and {"Campaign", "load_campaign", "evaluate"} <= set(dir(acbo))
    for name in acbo.__all__:
        assert getattr(acbo, name) is getattr(acbo_ref, name)
    with pytest.raises(AttributeError, match="module 'acbo' has no attribute 'Campain'"):
        _ = acbo.Campain


@pytest.mark.parametrize("package", ["acbo", "acbo_ref"])
def test_type_checkers_see_every_name(package):
    """What is loaded on first use is imported for them by its name; and both packages say that they
    have types.
    """
    tree = ast.parse((ROOT / package / "__init__.py").read_text())
    names = {alias.asname for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(acbo.__all__) - {"__version__"} <= names
    assert (ROOT / package / "py.typed").exists()


def test_importing_it_is_quick_and_brings_nothing_along():
    code = "import sys, acbo; dir(acbo); print([m for m in sys.modules if m.partition('.')[0] in %r])"
    heavy = ("numpy", "scipy", "jax", "numba", "matplotlib", "sklearn", "openpyxl", "pandas", "yaml", "click")
    done = subprocess.run([sys.executable, "-c", code % (heavy,)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    bare = least_seconds(3, [sys.executable, "-c", ""])
    assert least_seconds(3, [sys.executable, "-c", "import acbo"]) < bare + 0.1
