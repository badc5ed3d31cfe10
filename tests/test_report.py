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
    assert "<script" not in page and "src=" not in page and "url(http" not in page
    links = set(re.findall(r"href=\"([^\"]*)\"", page))
    assert links and all(link.startswith("#") and f'id="{link[1:]}"' in page for link in links)
    assert not re.search(r"\b(nan|NaN|None)\b", re.sub(r"<pre>.*?</pre>", "", page, flags=re.S))
    for words in (
        "Training",
        "Diagnosis of first",
        "Diagnosis of second",
        "One episode",
        "Does it know the direct causes?",
        "simple",
    ):
        assert words in page
    assert page.count("<figure>") == page.count('<svg role="img" aria-label="') == 6 + 2 * 3 + 5
    assert page.count("<table>") == page.count('<div class="scroll">') == 1 + 3  # none is cut off
    out, err = capsys.readouterr()
    assert "first, simple" in out and "minus policy" in out and "recent score" in out
    assert err == f"written: {folders / 'first' / 'report.html'}\nnext: open it in a browser; it needs no network\n"


def test_the_summary_stands_on_top_with_differences_to_the_policy(folders, tmp_path):
    assert run(["analyze", str(folders / "first"), "--output", str(tmp_path / "x.html")]) == 0
    page = (tmp_path / "x.html").read_text()
    above = page[: page.index("<h2>Contents")]
    assert "Of 3, policy is above random on " in above and above.count("<tr>") == 1 + 3
    first = re.findall(r'<a href="#e0-simple">simple</a></th>(.*?)</tr>', above)[0]
    scores = re.findall(r'<td class="heat number (\w*)">(-?[\d.]+)<small>(.*?)</small>', first)
    assert len(scores) == 5 and scores[3][:2] == ("heat10", "1.000")  # the oracle
    from acbo_ref.arena.analysis import differences, load_folder

    folder = load_folder(folders / "first")
    apart = differences(folder, folder.report["suites"][0])
    assert f"{apart['random']['mean']:+.3f} [" in scores[1][2] and scores[0][2] == scores[3][2] == "&nbsp;"
    policy, random = (float(scores[n][1]) for n in (0, 1))
    assert apart["random"]["mean"] == pytest.approx(random - policy, abs=2e-3)


def test_the_page_serves_light_and_dark_and_is_small(folders, tmp_path):
    """Every colour of a figure is a variable that both schemes define."""
    assert run(["analyze", str(folders / "first"), str(folders / "second"), "--output", str(tmp_path / "x.html")]) == 0
    page = (tmp_path / "x.html").read_text()
    style, body = page.split("</style>")
    assert not re.search(r"#[0-9a-f]{6}\b", body)
    figures = style[style.index("td.below0") :]
    assert not re.search(r"#[0-9a-f]{6}\b", figures)
    used = set(re.findall(r"var\(--([\w-]+)\)", page))
    light, dark = (
        set(re.findall(r"--([\w-]+): ", part))
        for part in (
            "".join(re.findall(r":root \{(.*?)\}", style)),
            "".join(re.findall(r"dark\) \{ :root \{(.*?)\}", style)),
        )
    )
    assert used <= light and used <= dark
    assert len(page) < 150_000


def test_figures_keep_their_numbers():
    from acbo_cli.plots import _inside_a_page

    drawn = '<?xml?><svg width="9pt" viewBox="0 0 9 9"><g id="a"><text x="12.3456" style="opacity: 0.125">1.04</text></g></svg>'
    assert (
        _inside_a_page(drawn) == '<svg viewBox="0 0 9 9"><g><text x="12.3" style="opacity: 0.12">1.04</text></g></svg>'
    )


def test_the_summary_as_json(folders, capsys):
    assert run(["analyze", str(folders / "first"), "--format", "json", "--output", str(folders / "x.html")]) == 0
    report = json.loads(capsys.readouterr().out)
    suite = report["folders"][0]["evaluation"][0]
    assert suite["suite"] == "simple" and suite["compared_with"] == "policy"
    assert set(suite["differences"]) == {"regress", "random"}
    assert suite["best"] and set(suite["best"]) <= {"policy", "regress"}  # level, or nearly: it has hardly been trained
    assert report["folders"][0]["training"]["diagnosis"] and (folders / "x.html").exists()


def test_an_evaluation_of_files_alone(folders):
    assert run(["analyze", str(folders / "files")]) == 0
    page = (folders / "files" / "report.html").read_text()
    assert "SCM files" in page and "minus regress" in page  # there is no policy


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
