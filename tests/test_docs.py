"""Documents that say what the code does are held to it."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from pathlib import Path

import click
import pytest
from acbo_cli import evaluate as printed
from acbo_cli.campaign_text import history_csv
from acbo_cli.main import cli, run

from acbo_ref.arena.compare import evaluate
from acbo_ref.campaign.exchange import JOURNAL
from acbo_ref.training.trainer import Trainer
from acbo_ref.verify.data import small_config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_readmes_python_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})  # noqa: S102
    assert capsys.readouterr().out.startswith("64 ")


def test_the_readmes_commands_parse(tmp_path, monkeypatch, capsys):
    """Every acbo command line of the README does what it says, in its order, beside the examples
    that ship; where it names a file of the user's own, at worst that is not there.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    lines = re.findall(r"^acbo +(.*?)(?:\s{2,}#.*)?$", README, re.M)
    assert len(lines) >= 8
    small = ["--episodes", "4", "--set", "batch_size=4", "--set", "policy.hidden_dim=8", "--set", "grpo.minibatches=1"]
    for line in lines:
        words = line.split()
        if words[0] in ("verify", "info"):
            continue  # run in test_cli.py
        if words[0] == "train" and "--config" in words:
            words += small if "--devices" in words else [*small, "--backend", "ref"]
        if words[0] == "evaluate":
            words += ["--quick", "--interventions", "2"]
            if not {"--suite", "--scm"} & set(words):
                words += ["--suite", "seed"]  # all would take a minute each
        code = run(words)
        error = capsys.readouterr().err
        expected = ("cannot read", "needs jax")
        assert code == 0 or any(words in error for words in expected), (line, error)
        assert code == 0 or words[0] != "campaign", (line, error)
    assert (tmp_path / "reactor" / "report.html").exists()


def test_commands_of_other_pages_parse():
    """Names of commands and options, and their values, of every line that begins with acbo."""
    seen, context = 0, click.Context(cli)
    for page in [*(ROOT / "docs").rglob("*.md"), ROOT / "benchmarks" / "README.md", ROOT / "CONTRIBUTING.md"]:
        for line in re.findall(r"^acbo (?!campaign)(.*)$", page.read_text().replace("\\\n", " "), re.M):
            name, *words = shlex.split(line, comments=True)
            command = cli.get_command(context, name)
            assert command is not None, line
            command.make_context(name, words)  # raises a usage error
            seen += 1
    assert seen > 8


@pytest.mark.parametrize(
    "document",
    ["README.md", "CONTRIBUTING.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))],
)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / document).read_text()):
        assert (ROOT / document).parent.joinpath(target).exists(), target


def test_the_list_of_keys_is_current(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    run(["info", "--keys"])
    assert capsys.readouterr().out == (ROOT / "docs" / "configuration.txt").read_text(), (
        "COLUMNS=100 acbo info --keys > docs/configuration.txt"
    )


def test_every_metric_has_its_line():
    records = []
    Trainer(small_config(total_episodes=6)).train(records.append)
    glossary = (ROOT / "docs" / "metrics.md").read_text()
    assert [key for key in records[0] if f"`{key}`" not in glossary] == []
    json.dumps(records)


def test_every_column_is_in_the_glossary(tmp_path):
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    report = evaluate(suites=["simple"], methods=["regress"], quick=True, interventions=2, output=tmp_path)
    columns = [*report["suites"][0]["methods"]["regress"]]
    columns += (tmp_path / "results.csv").read_text().splitlines()[0].split(",")
    columns += history_csv([]).strip().split(",")
    columns += JOURNAL
    columns += [name for name, _, _ in printed._COLUMNS]
    assert [name for name in columns if f"`{name}`" not in glossary and f"| {name} |" not in glossary] == []


def test_the_figure_of_the_rooms_is_drawn_by_its_script():
    drawn = runpy.run_path(str(ROOT / "docs" / "draw_rooms.py"))["draw"]()
    assert (ROOT / "docs" / "images" / "rooms.svg").read_text() == drawn, "python docs/draw_rooms.py"
    for room in ("systems", "policy", "grpo", "training", "arena", "campaign", "verify"):
        assert f">{room}</text>" in drawn


def test_the_readmes_map_leads_to_files():
    table = README.split("Where is what?")[1].split("Every backward pass")[0]
    files = re.findall(r"`((?:acbo_ref|acbo_fast|tests)/[\w/]+\.py)`", table)
    assert len(files) >= 8
    for file in files:
        assert (ROOT / file).exists(), file
