"""`acbo analyze`: one self-contained page, and a summary for terminals."""

from __future__ import annotations

import json
import re

import pytest
from acbo_cli.main import run
from test_scm import diamond

from acbo_ref import Trainer, evaluate, save_scm
from acbo_ref.verify.data import small_config

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two runs over two stages, the first evaluated in its own folder; and an evaluation of files
    alone.
    """
    root = tmp_path_factory.mktemp("report")
    stages = [
        {"name": "a", "until_episode": 12, "variables": [3, 4], "graphs": ["chain"]},
        {"name": "b", "variables": [3, 5], "graphs": ["fork"]},
    ]
    for n, seed in (("first", 1), ("second", 2)):
        config = small_config(seed=seed, total_episodes=36, curriculum={"stages": stages})
        trainer = Trainer(config, output=root / n)
        trainer.train()
    given = {"quick": True, "interventions": 4, "methods": ["policy", "random", "regress", "oracle", "parent_oracle"]}
    evaluate(root / "first", suites=["simple", "standardised", "cbo"], output=root / "first", **given)
    save_scm(diamond(), root / "d.json")
    evaluate(scm_files=[root / "d.json"], methods=["random", "regress"], interventions=3, output=root / "files")
    return root


def test_the_page_needs_nothing_else(folders, capsys):
    assert run(["analyze", str(folders / "first"), str(folders / "second")]) == 0
    page = (folders / "first" / "report.html").read_text()
    assert page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")
    assert "<script" not in page and not re.search(r"(src|href)=\"(?!data:)", page)
    assert not re.search(r"\b(nan|NaN|None)\b", re.sub(r"base64,[^\"]*|<pre>.*?</pre>", "", page, flags=re.S))
    for words in (
        "Training",
        "Diagnosis of first",
        "Diagnosis of second",
        "One episode",
        "Which variables are parents?",
        "simple",
    ):
        assert words in page
    assert page.count("<img ") == 1 + 3 + 3 and page.count('alt=""') == 0
    out = capsys.readouterr().out
    assert "first, simple" in out and "minus regress" in out and "recent score" in out


def test_the_summary_as_json(folders, capsys):
    assert run(["analyze", str(folders / "first"), "--format", "json", "--output", str(folders / "x.html")]) == 0
    report = json.loads(capsys.readouterr().out)
    suite = report["folders"][0]["evaluation"][0]
    assert suite["suite"] == "simple" and suite["compared_with"] == "regress"
    assert set(suite["differences"]) == {"policy", "random"}
    assert suite["best"] and set(suite["best"]) <= {"policy", "regress"}  # level, or nearly: it has hardly been trained
    assert report["folders"][0]["training"]["diagnosis"] and (folders / "x.html").exists()


def test_an_evaluation_of_files_alone(folders):
    assert run(["analyze", str(folders / "files")]) == 0
    assert "SCM files" in (folders / "files" / "report.html").read_text()


def test_the_same_folders_give_the_same_page(folders, tmp_path):
    pages = []
    for n in range(2):
        assert run(["analyze", str(folders / "first"), "--output", str(tmp_path / f"{n}.html")]) == 0
        pages.append((tmp_path / f"{n}.html").read_bytes())
    assert pages[0] == pages[1]


def test_mistakes(folders, tmp_path, capsys):
    assert run(["analyze"]) == 2
    assert run(["analyze", str(tmp_path / "none")]) == 2
    assert "neither a training run nor an evaluation" in capsys.readouterr().err
    (tmp_path / "summary.json").write_text("{")
    assert run(["analyze", str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_names_are_escaped(folders, tmp_path):
    odd = tmp_path / "<b>odd & co"
    odd.mkdir()
    for name in ("metrics.jsonl", "config.yaml"):
        (odd / name).write_bytes((folders / "second" / name).read_bytes())
    assert run(["analyze", str(odd)]) == 0
    assert "&lt;b&gt;odd &amp; co" in (odd / "report.html").read_text()


def test_diagnosis_finds_what_is_wrong():
    from acbo_ref.arena.analysis import Folder, diagnosis

    record = {
        "recent_score": 0.1, "skipped_steps": 2.0, "mean_range_utilization": 0.1, "entropy": 0.001, "last3_target": 1.0,
        "first3_target": 0.0, "approx_kl": 0.5, "gradient_norm": 50.0, "frac_reward_zero_std": 0.5,
    }  # fmt: skip
    found = diagnosis(Folder("x", [record] * 20, {"grpo": {"gradient_clip": 1.0}}, None, {}))
    assert len(found) == 8 and all(f.advice for f in found)
    good = record | {
        "recent_score": 0.95, "skipped_steps": 0.0, "mean_range_utilization": 0.9, "entropy": 0.3, "last3_target": -1.0,
        "approx_kl": 0.01, "gradient_norm": 1.0, "frac_reward_zero_std": 0.0,
    }  # fmt: skip
    assert diagnosis(Folder("x", [good] * 20, {"grpo": {"gradient_clip": 1.0}}, None, {})) == [
        ("none", "Nothing conspicuous in the last iterations.", "")
    ]
