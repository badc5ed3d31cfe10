"""Campaigns from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from acbo_cli.main import run
from processor_time import least_seconds

from acbo_ref.campaign.campaign import load_campaign
from acbo_ref.training.checkpoint import shipped_policy

OBSERVATIONS = "temp,dose,age,yield\n50,2.5,40,5.1\n52,2.7,35,5.4\n47,2.2,50,4.2\n55,,44,5.9\n49,2.4,38,4.9\n"


@pytest.fixture
def folder(tmp_path, policy, capsys):
    data = tmp_path / "obs.csv"
    data.write_text(OBSERVATIONS)
    path = tmp_path / "reactor"
    command = [
        "campaign",
        "new",
        str(path),
        "--data",
        str(data),
        "--target",
        "yield",
        "--maximize",
        "--domain",
        "temp=20:80",
    ]
    command += ["--domain", "dose=0:5", "--fixed", "age", "--budget", "3", "--policy", str(policy)]
    assert run(command) == 0
    capsys.readouterr()
    return path


def test_the_command_line_end_to_end(folder, capsys, tmp_path):
    assert run(["campaign", "ask", str(folder), "--format", "json"]) == 0
    proposal = json.loads(capsys.readouterr().out)
    assert run(["campaign", "tell", str(folder), proposal["id"], "--row", "yield=6.0", "--row", "age=41"]) == 0
    assert "recorded e1" in capsys.readouterr().err
    assert run(["campaign", "ask", str(folder)]) == 0
    assert capsys.readouterr().out.startswith("e2: set ")
    row = tmp_path / "row.csv"
    row.write_text("yield,age\n7.5,40\n")
    assert run(["campaign", "tell", str(folder), "e2", "--row", str(row)]) == 0
    more = tmp_path / "more.csv"
    more.write_text("temp,dose,age,yield,intervention\n70,2.6,40,6.6,temp\n")
    assert run(["campaign", "import", str(folder), str(more)]) == 0
    capsys.readouterr()
    for command in ("recommend", "status"):
        assert run(["campaign", command, str(folder), "--format", "json"]) == 0
        assert json.loads(capsys.readouterr().out)
        assert run(["campaign", command, str(folder)]) == 0
        assert "yield" in capsys.readouterr().out or command == "recommend"
    assert json.loads(json.dumps(load_campaign(folder).status()))["interventions"] == 3


def test_the_objective_is_said(tmp_path, policy, capsys):
    begun = ["--target", "y", "--minimize", "--domain", "x=0:1", "--policy", str(policy)]
    assert run(["campaign", "new", str(tmp_path / "c"), *begun, "--objective", "final"]) == 0
    assert "objective: what is settled on in the end" in capsys.readouterr().out
    assert run(["campaign", "new", str(tmp_path / "d"), *begun]) == 0
    assert "objective" not in capsys.readouterr().out
    assert run(["campaign", "new", str(tmp_path / "e"), *begun, "--objective", "last"]) == 2
    assert "'cumulative', 'final'" in capsys.readouterr().err


def test_the_report_is_one_page(folder, capsys):
    for _ in range(2):
        assert run(["campaign", "ask", str(folder)]) == 0
        assert run(["campaign", "report", str(folder)]) == 0
        run(["campaign", "tell", str(folder), f"e{_ + 1}", "--row", "yield=6"])
    capsys.readouterr()
    assert run(["campaign", "report", str(folder), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(folder / "report.html")}
    page = (folder / "report.html").read_text()
    assert page.startswith("<!doctype html>") and "<script" not in page and "How sure" in page
    assert all(name in page for name in ("temp", "dose", "age", "yield", "e1", "e2"))


BAD_COMMANDS = [
    (["new", "{0}/x", "--minimize", "--data", "{0}/obs.csv", "--target", "yeld"], "did you mean 'yield'"),
    (["new", "{0}/x", "--minimize", "--data", "{0}/none.csv", "--target", "yield"], "no file"),
    (["new", "{0}/x", "--minimize", "--data", "{0}/obs.csv", "--target", "yield"], "--domain-from-data"),
    (["new", "{0}/x", "--minimize", "--data", "{0}/obs.csv", "--target", "yield", "--domain", "temp=80"], "LOW:HIGH"),
    (
        ["new", "{0}/x", "--minimize", "--data", "{0}/obs.csv", "--target", "yield", "--domain", "tmp=0:80"],
        "did you mean 'temp'",
    ),
    (["new", "{0}/x", "--minimize", "--data", "{0}/obs.csv", "--target", "yield", "--domain", "temp"], "NAME=VALUE"),
    (
        [
            "new",
            "{0}/x",
            "--minimize",
            "--data",
            "{0}/obs.csv",
            "--target",
            "yield",
            "--domain-from-data",
            "--policy",
            "{0}/p",
        ],
        "checkpoint",
    ),
    (
        ["new", "{1}", "--minimize", "--data", "{0}/obs.csv", "--target", "yield", "--domain-from-data"],
        "holds a campaign already",
    ),
    (["ask", "{0}/nothing"], "campaign new"),
    (["tell", "{1}", "e7", "--row", "yield=3"], "no proposal 'e7'"),
    (["tell", "{1}", "e1"], "what was measured?"),
    (["new", "{0}/x", "--data", "{0}/obs.csv", "--target", "yield"], "--minimize or --maximize"),
    (["tell", "{1}", "e1", "--row", "yield"], "NAME=VALUE"),
    (["import", "{1}", "{0}/none.csv"], "no file"),
    (["aks", "{1}"], "aks"),
]


@pytest.mark.parametrize(("command", "words"), BAD_COMMANDS)
def test_mistakes_are_explained(folder, tmp_path, capsys, command, words):
    before = (folder / "journal.jsonl").read_bytes()
    assert run(["campaign", *(part.format(tmp_path, folder) for part in command)]) == 2
    assert words in capsys.readouterr().err
    assert (folder / "journal.jsonl").read_bytes() == before


def test_domains_from_the_data_are_said(tmp_path, policy, capsys):
    data = tmp_path / "obs.csv"
    data.write_text(OBSERVATIONS)
    command = ["campaign", "new", str(tmp_path / "r"), "--data", str(data), "--target", "yield", "--domain-from-data"]
    assert run([*command, "--maximize", "--fixed", "age", "--policy", str(policy)]) == 0
    assert "domain of temp, from the data: 47.08 to 54.88" in capsys.readouterr().err


@pytest.mark.skipif(not shipped_policy().exists(), reason="no policy ships yet")
def test_asking_from_the_shell_takes_less_than_a_second(tmp_path):
    data = tmp_path / "obs.csv"
    data.write_text(OBSERVATIONS)
    acbo = Path(sys.executable).with_name("acbo")
    begin = [
        acbo,
        "campaign",
        "new",
        tmp_path / "r",
        "--data",
        data,
        "--target",
        "yield",
        "--maximize",
        "--domain-from-data",
    ]
    subprocess.run(begin, check=True, capture_output=True)
    assert least_seconds(3, [acbo, "campaign", "ask", tmp_path / "r"]) < 1.0


def test_reading_commands_work_where_nothing_can_be_written(campaign):
    campaign.ask()
    os.chmod(campaign.path / "journal.jsonl", 0o444)
    os.chmod(campaign.path, 0o555)
    try:
        opened = load_campaign(campaign.path)
        assert opened.status()["pending"] and opened.recommend() and opened.beliefs() and opened.history()
    finally:
        os.chmod(campaign.path, 0o755)
