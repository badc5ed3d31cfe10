"""What `acbo campaign` says of what it did, and what it says to somebody who typed it otherwise."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import pytest
from acbo_cli.campaign import campaign as commands
from acbo_cli.main import run

from acbo_ref.campaign.campaign import load_campaign

BREAD = "oven temp [C],rise,room humidity,loaf quality\n202,33,41,5.1\n205,35,44,5.6\n210,38,,6.1\n208,31,39,5.0\n"


@pytest.fixture
def begin(tmp_path, policy, capsys):
    """Begins a campaign with names of several words, and gives what was said."""
    (tmp_path / "bread.csv").write_text(BREAD)

    def begun(name="bakery", domains=("oven temp=200:240", "rise=25:45"), more=()):
        options = [word for domain in domains for word in ("--domain", domain)]
        where = ["campaign", "new", str(tmp_path / name), "--data", str(tmp_path / "bread.csv")]
        what = ["--target", "loaf quality", "--maximize", "--policy", str(policy)]
        assert run([*where, *what, *options, *(more or ("--fixed", "room humidity"))]) == 0
        return capsys.readouterr()

    return begun


@pytest.fixture
def bakery(begin, tmp_path, capsys):
    begin()
    assert run(["campaign", "ask", str(tmp_path / "bakery")]) == 0
    capsys.readouterr()
    return str(tmp_path / "bakery")


def said(capsys, *words):
    """The lines on stdout and on stderr of a command that works."""
    assert run(["campaign", *words]) == 0
    found = capsys.readouterr()
    return found.out.splitlines(), found.err.splitlines()


def hint(capsys, *words):
    """What a command that is refused says below its error."""
    assert run(["campaign", *words]) == 2
    error, found = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ") and found.startswith("hint: ")
    return found


# ---------------------------------------------------------------------------------- what was done


def test_what_was_recorded_is_said_and_the_domains_are_not(bakery, capsys, tmp_path):
    out, err = said(capsys, "tell", bakery, "e1", "loaf quality=4.6", "room humidity=44")
    assert "recorded e1: room humidity 44, loaf quality 4.6" in err
    assert len(out) == 2 and "1 experiment" in out[0] and "domain" not in "\n".join(out)
    out, err = said(capsys, "correct", bakery, "e1", "loaf quality=6.4", "room humidity=")
    assert "corrected e1: room humidity 44 -> not known, loaf quality 4.6 -> 6.4" in err
    assert len(out) <= 2 and "domain" not in "\n".join(out)
    row = load_campaign(bakery).row("e1")
    assert row["loaf quality"] == 6.4 and row["room humidity"] is None
    _, err = said(capsys, "correct", bakery, "o1", "oven temp=203")  # without its unit
    assert "corrected o1: oven temp 202 -> 203" in err
    said(capsys, "abandon", bakery, "e1")
    _, err = said(capsys, "correct", bakery, "e1", "loaf quality=6.4")
    assert "corrected e1: counts again" in err
    out, _ = said(capsys, "status", bakery)
    assert "200 to 240" in "\n".join(out)


def test_a_row_of_a_file_is_said_and_json_is_the_status(bakery, capsys, tmp_path):
    (tmp_path / "row.csv").write_text("loaf quality,room humidity\n5.25,\n")
    assert run(["campaign", "tell", bakery, "e1", str(tmp_path / "row.csv"), "--format", "json"]) == 0
    found = capsys.readouterr()
    assert "recorded e1: loaf quality 5.25" in found.err.splitlines()
    assert json.loads(found.out) == load_campaign(bakery).status()


def test_past_rows_outside_a_given_domain_are_counted(begin):
    found = begin(domains=("oven temp=204:209", "rise=30:45"))
    assert found.err.count("outside its domain") == 1
    assert "warning: 2 of 4 past rows of oven temp lie outside its domain (204 to 209)" in found.err
    assert "outside its domain" not in begin("circle", ("oven temp=0:180:periodic", "rise=30:45")).err
    assert "outside its domain" not in begin("data", (), ("--domain-from-data",)).err  # the tails are left out
    assert "1 of 4 past rows of rise lies outside" in begin("one", ("oven temp=200:240", "rise=32:45")).err


def test_a_recommendation_to_leave_all_as_it_is_begins_with_that(campaign):
    best = campaign.recommend()
    words = "(probability of an improvement 0.67)"
    leave = replace(best, verdict=f"no improvement likely {words}")
    assert str(leave).splitlines()[0] == f"leave it as it is: no improvement likely {words}"
    assert leave.leaves_all and not leave.is_likely and "the most promising: set " in str(leave)
    for verdict in (f"improvement not established {words}", f"improvement likely {words}"):
        assert str(replace(best, verdict=verdict)).splitlines()[0] == verdict
    outside = replace(leave, keeps_bounds=False, verdict="no setting keeps the bounds")
    assert not outside.leaves_all and str(outside).startswith("no setting keeps the bounds")


# ------------------------------------------------------------------------------------------- hints


def test_a_file_without_a_column_is_told_which_are_needed(bakery, capsys, tmp_path):
    (tmp_path / "more.csv").write_text("oven temp,loaf quality\n205,5\n")
    assert run(["campaign", "import", bakery, str(tmp_path / "more.csv")]) == 2
    error, found = capsys.readouterr().err.splitlines()
    assert "has no column 'rise', 'room humidity'" in error
    assert "needed are the columns oven temp, rise, room humidity, loaf quality" in found and "may be empty" in found


def test_the_example_file_of_import_is_one(folder_of_the_example, tmp_path, capsys):
    lines = [line.strip() for line in (commands.commands["import"].help or "").splitlines()]
    place = next(n for n, line in enumerate(lines) if line.endswith(",intervention"))
    (tmp_path / "example.csv").write_text("\n".join(lines[place : place + 2]))
    _, err = said(capsys, "import", folder_of_the_example, str(tmp_path / "example.csv"))
    assert "recorded 0 past rows and 1 experiment" in err


@pytest.fixture
def folder_of_the_example(tmp_path, policy, capsys):
    command = "new {} --target yield --maximize --domain temp=20:80 --domain dose=0:5 --fixed age --policy {}"
    folder = str(tmp_path / "reactor")
    said(capsys, *shlex.split(command.format(folder, policy)))
    return folder


def test_a_number_without_its_name_is_told_the_targets(bakery, capsys):
    found = hint(capsys, "tell", bakery, "e1", "7.2")
    assert "'loaf quality=7.2'" in found and "FILE.csv" in found


def test_a_word_for_a_number_is_told_that_a_number_is_needed(bakery, capsys, tmp_path):
    assert "a number is needed there" in hint(capsys, "tell", bakery, "e1", "loaf quality=high")
    (tmp_path / "more.csv").write_text(BREAD.replace("6.1", "high"))
    assert "a number is needed there" in hint(capsys, "import", bakery, str(tmp_path / "more.csv"))


@pytest.mark.parametrize(
    "words",
    [
        ["tell", "{0}", "e1", "loaf", "quality=7.2"],
        ["new", "{0}x", "--target", "y", "--minimize", "--domain", "oven", "temp=1:2"],
        ["new", "{0}x", "--target", "y", "--minimize", "--domain", "oven"],
        ["predict", "{0}", "oven"],
    ],
)
def test_a_name_with_spaces_is_told_to_be_quoted(bakery, capsys, words):
    assert "needs quotes" in hint(capsys, *(word.format(bakery) for word in words))


def test_names_in_examples_are_quoted(bakery, capsys, tmp_path):
    new = ["new", str(tmp_path / "x"), "--target", "y", "--minimize"]
    assert "--domain 'oven temp=0:5'" in hint(capsys, *new, "--domain", "oven temp=20")
    assert "--warn-outside 'a b=0:8'" in hint(capsys, *new, "--domain", "z=0:1", "--warn-outside", "a b=3")
    _, err = said(capsys, "status", bakery)
    assert shlex.split(err[-1])[-1] == "loaf quality=VALUE"
