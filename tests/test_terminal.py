"""What commands print for a person: at 80 columns, with a legend, progress, and a last line."""

from __future__ import annotations

import re
import shlex
import sys

import click
import pytest
from acbo_cli import terminal
from acbo_cli.campaign import campaign
from acbo_cli.main import cli, run

COMMANDS = {
    name: cli.get_command(click.Context(cli), name)
    for name in ("campaign", "train", "evaluate", "analyze", "verify", "info")
}


def columns(monkeypatch, count):
    monkeypatch.setenv("COLUMNS", str(count))


# ------------------------------------------------------------------------------------------ tables

HEADER = ["name", "big", "small", "least"]
ROWS = [["a", "1" * 10, "2" * 10, "3" * 10], ["b", "1", "2", "3"]]


@pytest.mark.parametrize(
    ("count", "shown", "missing"),
    [(80, HEADER, ""), (40, HEADER, ""), (39, ["name", "big", "least"], "at 40 columns also: small"),
      (20, ["name", "least"], "at 40 columns also:\nbig, small")],
)  # fmt: skip
def test_columns_are_left_out_by_importance_and_named(monkeypatch, count, shown, missing):
    columns(monkeypatch, count)
    (first, second), words = terminal.tables(HEADER, [ROWS, ROWS[1:]], ["least", "big", "small"])
    assert first.splitlines()[0].split() == second.splitlines()[0].split() == shown and words == missing
    if count >= 20:
        assert max(map(len, first.splitlines())) <= count


# ---------------------------------------------------------------------------------------- progress


def test_progress_tells_the_time_that_is_left(monkeypatch, capsys):
    columns(monkeypatch, 80)
    now = iter((0.0, 10.0, 20.0, 30.0))  # the first step only sets the clock going
    monkeypatch.setattr(terminal.time, "perf_counter", lambda: next(now))
    progress = terminal.Progress(4)
    for done in range(1, 5):
        progress(done, f"{done}/4", "seed: policy")
    first, second, third, last = capsys.readouterr().err.splitlines()
    assert first == "[#####...............] 1/4  seed: policy"
    assert second == "[##########..........] 2/4  20 s left  seed: policy"
    assert "10 s left" in third and last == "[####################] 4/4  seed: policy"


def test_progress_is_one_line_of_a_terminal_and_never_wraps(monkeypatch, capsys):
    columns(monkeypatch, 50)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = terminal.Progress(3)
    progress(1, "1/3", "score 0.9", "x" * 40, "y")
    progress.interrupt()
    progress.interrupt()
    progress(3, "3/3", "score 0.9")
    text = capsys.readouterr().err
    assert text.count("\n") == 2 and all(len(part.rstrip("\n")) == 49 for part in text.split("\r")[1:])
    assert "score 0.9  y" in text and "x" not in text


@pytest.mark.parametrize(("seconds", "words"), [(45.2, "45 s"), (720, "12 min"), (9000, "2.5 h")])
def test_durations(seconds, words):
    assert terminal.duration(seconds) == words


# --------------------------------------------------------------------------------- help and legends


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_examples_that_parse(name):
    command = COMMANDS[name]
    text = command.help.replace("\\\n", " ")
    found = re.findall(rf"^ *acbo {name} (.*)$|^ *acbo {name}$", text, re.M)
    assert found, f"acbo {name} --help has no example"
    for example in found if name != "campaign" else []:
        command.make_context(name, shlex.split(example))  # raises a usage error


@pytest.mark.parametrize("count", [80, 120])
@pytest.mark.parametrize(
    "words", [[], *([name] for name in COMMANDS), *(["campaign", name] for name in campaign.commands)]
)
def test_help_fits_the_terminal(monkeypatch, capsys, count, words):
    columns(monkeypatch, count)
    assert run([*words, "--help"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= count


@pytest.mark.parametrize(
    ("words", "names"),
    [(["train"], ["score", "entropy"]), (["evaluate"], ["regret", "by system"]), (["analyze"], ["minus policy"]),
     (["verify"], ["allowed"]), (["campaign", "history"], ["measured"]), (["campaign", "beliefs"], ["direct cause"])],
)  # fmt: skip
def test_a_legend_on_demand(monkeypatch, capsys, words, names):
    """Without a folder or a run, and at the width of the terminal."""
    columns(monkeypatch, 80)
    assert run([*words, "--legend"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    for name in names:
        assert any(line.startswith(name) for line in lines), name


def test_the_legend_names_every_column():
    from acbo_cli import evaluate

    header = ["score [95 %]", *(name for name, _, _ in evaluate._COLUMNS), "ms/decision"]
    assert set(evaluate._IMPORTANCE) == set(header) and list(evaluate.LEGEND) == ["method", *header]


# --------------------------------------------------------------------------- tables and last lines


def test_an_evaluation_fits_80_columns_and_says_what_next(monkeypatch, capsys, tmp_path):
    few = ["evaluate", "--quick", "--suite", "seed", "--suite", "simple", "--interventions", "2", "--workers", "1"]
    few += ["--methods", "random,regress,parent_oracle", "--output", str(tmp_path / "an evaluation")]
    columns(monkeypatch, 80)
    assert run(few) == 0
    narrow = capsys.readouterr()
    assert max(map(len, [*narrow.out.splitlines(), *narrow.err.splitlines()[:-3]])) <= 80
    assert "range" not in narrow.out.split("\n\n")[1] and re.search(r"^at \d+ columns also: .*range", narrow.out, re.M)
    assert narrow.err.count(" left  ") == 10  # of 12 steps: not after the first, and not after the last
    found, last = narrow.err.splitlines()[-2:]
    assert found.startswith("highest score: regress on ")
    assert last == f"next: acbo analyze '{tmp_path / 'an evaluation'}'"
    columns(monkeypatch, 140)
    assert run(few) == 0
    wide = capsys.readouterr()
    assert "range" in wide.out.split("\n\n")[1] and "columns also" not in wide.out
    assert "left" not in wide.err  # all was kept: nothing to do


def test_every_campaign_command_says_what_next(campaign, capsys, tmp_path, monkeypatch):
    columns(monkeypatch, 80)
    folder = str(campaign.path)
    target = campaign.status()["target"]
    for words, command in (
        (["status", folder], f"ask {folder}"),
        (["ask", folder], f"tell {folder} e1 {target}=VALUE"),
        (["note", folder, "e1", "late"], f"tell {folder} e1 {target}=VALUE"),
        (["tell", folder, "e1", f"{target}=4"], f"ask {folder}"),
        (["correct", folder, "e1", f"{target}=4.1"], f"ask {folder}"),
        (["history", folder], f"ask {folder}"),
        (["beliefs", folder], f"ask {folder}"),
        (["recommend", folder], f"ask {folder}"),
        (["predict", folder, "a=2"], f"ask {folder}"),
        (["suggest", folder, "a"], f"ask {folder}"),
        (["abandon", folder, "e1"], f"ask {folder}"),
    ):
        assert run(["campaign", *words]) == 0
        said = capsys.readouterr()
        *found, last = said.err.splitlines()
        assert last == f"next: acbo campaign {command}", (words, said.err)  # whole, to be copied
        assert max(map(len, [*found, *said.out.splitlines()])) <= 80, words
    for words in (["report", folder], ["export", folder, str(tmp_path / "all.csv")]):
        assert run(["campaign", *words]) == 0
        assert capsys.readouterr().err.splitlines()[-1].startswith("next: ")


def test_words_that_end_a_command_fit_the_terminal_and_the_command_is_whole(capsys, monkeypatch):
    columns(monkeypatch, 40)
    terminal.ends("found " * 20 + "/a/folder/" + "x" * 50, "campaign", "ask", "a folder/" + "y" * 60)
    *found, last = capsys.readouterr().err.splitlines()
    assert last == f"next: acbo campaign ask 'a folder/{'y' * 60}'"
    assert max(map(len, found[:-1])) <= 40 and found[-1] == "/a/folder/" + "x" * 50
    terminal.ends("done", instead="words " * 20)
    assert max(map(len, capsys.readouterr().err.splitlines())) <= 40
