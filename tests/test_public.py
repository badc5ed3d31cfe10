"""`import acbo`: what users of the library have, and what the examples use."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from processor_time import least_seconds

import acbo
import acbo_ref

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
# Its purpose is to show the functions of the reference, step by step.
OWN = {"evaluate", "train"}  # acbo/running.py
FROM_INSIDE = {"one_iteration.py", "grpo_from_scratch.ipynb"}


def test_it_is_the_public_names_of_the_reference():
    assert dir(acbo) == acbo.__all__ == sorted({*dir(acbo_ref), *OWN})
    assert {"Campaign", "load_campaign", "evaluate", "train"} <= set(dir(acbo))
    for name in set(acbo.__all__) - OWN:
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
    assert set((acbo if package == "acbo" else acbo_ref).__all__) - {"__version__"} <= names
    assert (ROOT / package / "py.typed").exists()


def test_importing_it_is_quick_and_brings_nothing_along():
    code = "import sys, acbo; dir(acbo); print([m for m in sys.modules if m.partition('.')[0] in %r])"
    heavy = ("numpy", "scipy", "jax", "numba", "matplotlib", "sklearn", "openpyxl", "pandas", "yaml", "click")
    done = subprocess.run([sys.executable, "-c", code % (heavy,)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    bare = least_seconds(3, [sys.executable, "-c", ""])
    assert least_seconds(3, [sys.executable, "-c", "import acbo"]) < bare + 0.1


def test_what_a_campaign_says_prints_as_sentences(campaign):
    """In a terminal, and in a notebook, where a name may not become an element."""
    proposal, best = campaign.ask(), campaign.recommend()
    assert str(proposal).startswith(f"e1: set {proposal.variable} to ") and "why: " in str(proposal)
    assert str(best).splitlines()[0] == best.verdict and "doing nothing" in str(best)
    answer = campaign.predict("a", 2.5)
    assert str(answer).startswith("a = 2.5\n  expected ")
    for said in (proposal, best, answer):
        shown = said._repr_html_()
        assert shown.startswith("<p><strong>") and all(line.strip() in shown for line in str(said).splitlines())
    odd = replace(proposal, variable="<b>&", reason="<script>")._repr_html_()
    assert "&lt;b&gt;&amp;" in odd and "&lt;script&gt;" in odd and "<script>" not in odd


def test_the_curve_of_a_lever(campaign):
    curve = campaign.curve("a", 5)
    assert curve.values.tolist() == [0.0, 2.5, 5.0, 7.5, 10.0]
    there = campaign.predict("a", 2.5)
    names = ("predicted", "low", "high", "measured_low", "measured_high")
    assert [getattr(curve, name)[1] for name in names] == pytest.approx([getattr(there, name) for name in names])
    with pytest.raises(acbo.AcboError, match="'c' cannot be set"):
        campaign.curve("c")


def code_of(file):
    """The Python of an example: a script's, or that of a notebook's cells."""
    if file.suffix == ".py":
        return file.read_text()
    cells = json.loads(file.read_text())["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


@pytest.mark.parametrize(
    "file", sorted([*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.ipynb")]), ids=lambda file: file.name
)
def test_examples_use_public_names_only(file):
    allowed = {"acbo", "acbo_ref"} if file.name in FROM_INSIDE else {"acbo"}
    for node in ast.walk(ast.parse(code_of(file))):
        modules = [node.module] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            top = str(module).partition(".")[0]
            assert not top.startswith("acbo") or top in allowed, f"{file.name} imports {module}"
        names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
        names += [node.attr] if isinstance(node, ast.Attribute) else []
        for name in names:
            assert not name.startswith("_") or name.startswith("__"), f"{file.name} uses {name}"
