"""What a stranger reads: `acbo campaign --help`, and the help of each command."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from acbo_cli.campaign import ORDER, campaign
from acbo_cli.main import run


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
