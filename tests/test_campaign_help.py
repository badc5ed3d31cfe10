"""What a stranger reads: `acbo campaign --help`, and the help of each command."""

from __future__ import annotations

import re
import shlex
import warnings
from pathlib import Path

import click
import numpy as np
import pytest
from acbo_cli.campaign import ORDER, campaign
from acbo_cli.main import run

from acbo_ref.campaign.facts import CampaignWarning


def lines_of(command):
    """Its help at the width of a terminal."""
    return command.get_help(click.Context(command, info_name=command.name, max_content_width=80)).splitlines()


def examples(command):
    """The examples of a command's help, a line each."""
    text = (command.help or "").replace("\\\n", " ")
    return re.findall(r"^ *acbo campaign (.*)$", text, re.M)


def test_commands_stand_in_the_order_of_use(capsys):
    assert sorted(ORDER) == sorted(campaign.commands)
    assert run(["campaign", "--help"]) == 0
    listed = re.findall(r"^  (\w+)  +(.*)$", capsys.readouterr().out.split("Commands:")[1], re.M)
    assert tuple(name for name, _ in listed) == ORDER
    for name, words in listed:
        assert words.endswith(".") and not words.endswith("..."), (name, words)  # not cut off


@pytest.mark.parametrize("name", ORDER)
def test_every_command_has_an_example_that_parses(name):
    command = campaign.commands[name]
    found = [example for example in examples(command) if example.split()[0] == name]
    assert found, f"{name} --help has no example"
    assert max(map(len, lines_of(command))) <= 100
    for example in found:
        words = shlex.split(example, comments=True)[1:]
        words = words[: words.index(">")] if ">" in words else words
        command.make_context(name, words)  # raises a usage error


@pytest.mark.parametrize("name", ORDER)
def test_every_option_says_what_it_is(name):
    for parameter in campaign.commands[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.help and parameter.help.rstrip().endswith((".", "]")), (name, parameter.name)


GUIDE = (Path(__file__).parent.parent / "docs" / "campaign.md").read_text()


def test_the_guides_commands_parse():
    """Every `acbo campaign` line of the guide: names of commands and options, and their values."""
    text = GUIDE.replace("\\\n", " ")
    lines = re.findall(r"^acbo campaign (.*)$", text, re.M) + re.findall(r"`acbo campaign (\w+ reactor[^`]*)`", text)
    seen = set()
    for line in lines:
        name, *words = shlex.split(line.replace(" ...", ""), comments=True)
        if name == "new" and "--target" not in words:  # `...` stands for the rest
            words += ["--target", "yield"]
        campaign.commands[name].make_context(name, words)  # raises a usage error
        seen.add(name)
    assert seen == set(ORDER)


def test_the_guides_commands_run(tmp_path, monkeypatch, capsys):
    """Every line of the guide, in order, on a plant with a pressure and a pH. Where it begins a
    campaign with an ellipsis, the table, the target and the domains stand in its place.
    """
    pytest.importorskip("sklearn")  # a method that it names
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    names = ["temp", "dose", "age", "pressure", "ph", "yield"]
    table = rng.normal([50.0, 2.5, 40.0, 6.0, 7.0, 0.0], 1.0, (12, 6))
    table[:, 5] = 6.0 + 2.0 * (table[:, 1] - 2.5) + 0.1 * table[:, 5]  # the dose does it, so e1 sets the dose
    Path("past.csv").write_text("\n".join([",".join(names), *(",".join(f"{x:.3f}" for x in row) for row in table)]))
    fixed = "--domain temp=20:80 --domain dose=0:5 --fixed age --fixed pressure --fixed ph"
    begun = {"reactor": f"--data past.csv --target yield --maximize {fixed}", "plant": "--target yield --maximize",
             "house": "--target energy --minimize"}  # fmt: skip
    Path("more.csv").write_text(f"{','.join(names)},intervention\n60,2,40,6,7,52,temp\n")
    text = GUIDE.replace("\\\n", " ")
    lines = re.findall(r"^acbo campaign (.*?)(?:\s{2,}#.*)?$", text, re.M)
    assert len(lines) > 25
    for n, line in enumerate(lines):
        command, folder, *words = shlex.split(line)
        if "..." in words:
            words[words.index("...") : words.index("...") + 1] = begun[folder].split()
            folder = f"{folder}{n}"
        elif command == "new":
            words += ["--fixed", "pressure", "--fixed", "ph"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CampaignWarning)
            assert run(["campaign", command, folder, *words]) == 0, (line, capsys.readouterr().err)
    assert Path("reactor/report.html").exists() and Path("again/journal.jsonl").exists()


def test_the_guides_python_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = ["temp,dose,age,yield", *(",".join(f"{x:.3f}" for x in rng.normal([50, 2.5, 40, 5], 1)) for _ in range(12))]
    Path("past.csv").write_text("\n".join(rows))
    (block,) = re.findall(r"```python\n(.*?)```", GUIDE, re.S)
    exec(compile(block, "campaign.md", "exec"), {})  # noqa: S102
    assert "set " in capsys.readouterr().out and Path("reactor/report.html").exists()
