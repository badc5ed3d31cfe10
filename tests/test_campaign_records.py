"""Campaigns: what was recorded can be put right, left out and remarked on, and is never erased."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from acbo_cli.main import run
from campaign_crashes import VARIABLES, create, measured

from acbo_ref.campaign import facts
from acbo_ref.campaign.campaign import Campaign, load_campaign
from acbo_ref.campaign.doubts import doubtful, doubts
from acbo_ref.errors import AcboError


def entries(campaign):
    return [json.loads(line)["entry"] for line in (campaign.path / "journal.jsonl").read_text().splitlines()]


def done(campaign, **more):
    proposal = campaign.ask()
    campaign.tell(proposal.id, {**measured(proposal.variable, proposal.value), **more})
    return proposal


def test_a_corrected_row_is_as_if_it_had_been_told_so(tmp_path, policy, campaign):
    done(campaign, y=430.0)
    campaign.correct("e1", {"y": 4.3})
    right = create(tmp_path / "right", policy)
    done(right, y=4.3)
    assert campaign.recommend() == right.recommend() and campaign.ask() == right.ask()
    (line,) = campaign.history()[:1]
    assert line["measured"] == 4.3 and line["state"] == "corrected"
    assert [e["row"][3] for e in entries(campaign) if "row" in e] == [430.0, 4.3]  # both are kept


def test_every_kind_of_row_can_be_corrected(campaign):
    campaign.tell_external({"a": 7.0, "b": 0.5}, {"y": 1.0, "c": 0.0})
    campaign.tell_external({}, {"y": 1.0, "a": 4.0, "b": 0.0, "c": 0.0})
    campaign.correct("x1", {"a": 8.0, "c": None})
    campaign.correct("o6", {"y": "2.5"})
    campaign.correct("o1", {"y": 9.0})
    found = campaign._read()
    assert found.interventions == [((0, 1), pytest.approx([8.0, 0.5, np.nan, 1.0], nan_ok=True))]
    assert found.observations[-1].tolist() == [4.0, 0.0, 0.0, 2.5] and found.observations[0, 3] == 9.0


REFUSED = [
    ("e1", {"y": None}, "missing"),
    ("e1", {"z": 1.0}, "no variable named 'z'"),
    ("e1", {"a": 99.0, "b": 99.0}, "was to be set to"),
    ("e1", {}, "recorded like that already"),
    ("e2", {"y": 1.0}, "not told yet"),
    ("e9", {"y": 1.0}, "nothing is recorded as 'e9'"),
    ("o1", {"y": "four"}, "not a number"),
    ("x1", {"a": 11.0}, "outside its domain"),
    ("x1", {"a": None}, "missing"),
]


@pytest.mark.parametrize(("id", "changes", "words"), REFUSED)
def test_a_correction_is_checked_as_the_row_was(campaign, id, changes, words):
    done(campaign)
    campaign.tell_external({"a": 7.0}, {"y": 1.0})
    campaign.ask()
    before = entries(campaign)
    with pytest.raises(AcboError, match=words):
        campaign.correct(id, changes)
    assert entries(campaign) == before


def test_an_abandoned_proposal_costs_nothing_and_can_be_told_after_all(tmp_path, policy):
    rows = np.random.default_rng(0).standard_normal((5, 4)) + np.array([5.0, 0.0, 0.0, 3.0])
    campaign = Campaign.create(tmp_path / "c", VARIABLES, "y", observations=rows, budget=1, policy=policy)
    first = campaign.ask()
    campaign.abandon(first.id)
    assert campaign.status()["remaining"] == 1 and campaign.status()["abandoned"] == ["e1"]
    second = campaign.ask()
    assert second.id == "e2" and campaign.status()["remaining"] == 0
    assert [line["state"] for line in campaign.history()] == ["abandoned", "pending"]
    with pytest.raises(AcboError, match="abandoned already"):
        campaign.abandon("e1")
    campaign.tell("e1", measured(first.variable, first.value))
    assert campaign.status()["abandoned"] == [] and campaign.status()["remaining"] == 0
    with pytest.raises(AcboError, match="budget"):
        campaign.ask(another=True)


def test_an_abandoned_row_counts_no_more_until_it_is_corrected(campaign):
    before = campaign.recommend()
    done(campaign)
    after = campaign.recommend()
    campaign.abandon("e1")
    assert campaign.recommend() == before and campaign.history()[0]["state"] == "abandoned"
    with pytest.raises(AcboError, match="abandoned already"):
        campaign.abandon("e1")
    with pytest.raises(AcboError, match="told already"):
        campaign.tell("e1", {"y": 1.0})
    campaign.correct("e1", {})
    assert campaign.recommend() == after
    campaign.abandon("o2")
    assert campaign.status()["observations"] == 4 and campaign.recommend() != after
    with pytest.raises(AcboError, match="nothing is recorded"):
        campaign.abandon("o99")


def test_notes_persons_and_times(campaign, monkeypatch):
    monkeypatch.setattr(facts, "now", lambda: "2026-01-02T03:04:05+00:00")
    proposal = campaign.ask(by="Ada")
    campaign.tell(proposal.id, measured(proposal.variable, proposal.value), by="Bo")
    campaign.note("e1", "valve stuck", by="Ada")
    campaign.note("e1", "  and noisy ")
    line = campaign.history()[0]
    assert line["notes"] == ["valve stuck", "and noisy"]
    assert line["by"] == "Bo" and line["time"] == "2026-01-02T03:04:05+00:00"
    assert [e.get("by") for e in entries(campaign)[-4:]] == ["Ada", "Bo", "Ada", None]
    assert all("time" in e for e in entries(campaign))
    for text in ("", " ", "two\nlines", "x" * 1001, 7):
        with pytest.raises(AcboError, match="one line"):
            campaign.note("e1", text)
    with pytest.raises(AcboError, match="person"):
        campaign.abandon("e1", by="\x07")
    with pytest.raises(AcboError, match="nothing is recorded"):
        campaign.note("e5", "what?")


def many(tmp_path, policy):
    rows = np.random.default_rng(1).standard_normal((20, 4)) + np.array([5.0, 0.0, 0.0, 43.0])
    return Campaign.create(tmp_path / "many", VARIABLES, "y", observations=rows, policy=policy)


def test_what_is_hard_to_believe_is_recorded_only_if_confirmed(tmp_path, policy):
    campaign = many(tmp_path, policy)
    proposal = campaign.ask()
    before = entries(campaign)
    with pytest.raises(AcboError, match="y = 430, and all 20 values so far lie between 4") as error:
        campaign.tell(proposal.id, {"y": 430.0})
    assert "--yes" in error.value.hint and entries(campaign) == before
    with pytest.raises(AcboError, match="c = 99"):
        campaign.tell(proposal.id, {"y": 43.0, "c": 99.0})
    campaign.tell(proposal.id, {"y": 430.0}, yes=True)
    with pytest.raises(AcboError, match="y = -400"):
        campaign.correct("o1", {"y": -4000.0})
    campaign.correct("e1", {"y": 43.0})
    with pytest.raises(AcboError, match="y = 430, and all 21"):  # the wrong number is not what it is compared with
        campaign.tell(campaign.ask().id, {"y": 430.0})


def test_a_lever_that_was_moved_far_may_move_the_target_far(tmp_path, policy):
    """Set to 10 where 5 +- 2 was seen: what it carries along is believed up to as many ranges
    more.
    """
    campaign = many(tmp_path, policy)
    y = campaign._read().observations[:, 3]
    extent, a = y.max() - y.min(), campaign._read().observations[:, 0]
    moved = abs(10.0 - (a.max() + a.min()) / 2) / (a.max() - a.min()) - 0.5
    assert moved > 0.5
    just, beyond = ((y.max() + y.min()) / 2 + extent * (2.5 + moved + side) for side in (-0.01, 0.01))
    campaign.tell_external({"a": 10.0}, {"y": just})
    with pytest.raises(AcboError, match="y ="):
        many(tmp_path / "other", policy).tell_external({"a": 10.0}, {"y": beyond})


def test_a_file_is_not_imported_twice_by_mistake(campaign, tmp_path):
    file = tmp_path / "more.csv"
    file.write_text("y,intervention,a,b,c\n1.5,a,3.0,0.1,\n2.5,,5.0,0.2,0.3\n")
    campaign.import_rows(file)
    with pytest.raises(AcboError, match="recorded before"):
        campaign.import_rows(file)
    assert campaign.import_rows(file, yes=True) == 2 and campaign.status()["interventions"] == 2
    file.write_text("y,intervention,a,b,c\n1.5,a,3.0,0.1,\n2.6,,5.0,0.2,0.3\n")
    with pytest.raises(AcboError, match="1 of these 2 rows were recorded before"):
        campaign.import_rows(file)


def test_a_number_that_is_hard_to_believe_stays_marked(tmp_path, policy, capsys):
    """As `tell` would say it now, beside all others: a wrong number may be found later."""
    campaign = create(tmp_path / "c", policy)
    campaign.tell(campaign.ask().id, {"y": 430.0, "c": 0.5})  # with five past rows nothing is doubted
    assert campaign.history()[0]["doubts"] == []
    for n in range(6):
        campaign.tell_external({}, {"a": 4.0 + n, "b": 0.1, "c": 0.2, "y": 2.0 + n / 10}, yes=True)
    (line,) = campaign.history()
    assert len(line["doubts"]) == 1 and line["doubts"][0].startswith("y = 430, and all 11 other values lie between ")
    assert campaign.status()["doubtful"] == {"e1": line["doubts"]}
    folder = str(campaign.path)
    assert run(["campaign", "history", folder]) == run(["campaign", "history", folder, "--format", "csv"]) == 0
    text = capsys.readouterr().out
    assert text.count("y = 430, and all 11") == 2 and "hard to believe: y = 430" in text
    assert run(["campaign", "status", folder]) == 0
    assert "hard to believe: e1: y = 430" in capsys.readouterr().out
    assert "hard to believe: y = 430" in campaign.report().read_text()
    assert "take care: hard to believe, and counted: e1: y = 430" in str(campaign.recommend())
    assert campaign.recommend().keeps_bounds
    campaign.correct("e1", {"y": 4.3})
    assert campaign.status()["doubtful"] == {} and campaign.history()[0]["doubts"] == []
    campaign.correct("o3", {"y": 900.0}, yes=True)
    campaign.correct("o4", {"y": -900.0}, yes=True)
    assert campaign.status()["doubtful"] == {}  # each makes the other one likely
    campaign.abandon("o4")
    assert list(campaign.status()["doubtful"]) == ["o3"]
    campaign.abandon("o3")
    assert campaign.status()["doubtful"] == {}  # it counts no more


def test_what_is_doubtful_is_what_each_row_would_be_told(tmp_path, policy):
    campaign = many(tmp_path, policy)
    rng = np.random.default_rng(2)
    for n in range(40):
        row = rng.standard_normal(4) * [2, 0.5, 1, 1] + [5, 0, 0, 43]
        row[2:] += {7: [30, 0], 12: [0, -500], 20: [0, 90], 33: [-8, 0]}.get(n, [0, 0])
        row[:2] = np.clip(row[:2], [0, -1], [10, 1])
        campaign.tell_external({"a": row[0]} if n % 2 else {}, row, yes=True)
    found, expected = campaign._read(), {}
    for id, record in found.records.items():
        others = replace(found, records={other: r for other, r in found.records.items() if other != id})
        if said := doubts(others, [(id, record.row, record.was_set)]):
            expected[id] = [words.removeprefix(f"{id}: ").replace("values so far", "other values") for words in said]
    assert doubtful(found) == expected and len(expected) == 2, expected


def test_a_campaign_begins_with_observations(tmp_path, capsys):
    """An export has experiments in it: they are not to become observations."""
    file = tmp_path / "all.csv"
    file.write_text("a,y,intervention\n0.1,1.0,\n0.5,2.0,a\n")
    words = ["--data", str(file), "--target", "y", "--minimize", "--domain", "a=0:1"]
    assert run(["campaign", "new", str(tmp_path / "c"), *words]) == 2
    error = capsys.readouterr().err
    assert "has experiments in it" in error and "campaign import" in error and not (tmp_path / "c").exists()


@pytest.mark.filterwarnings("ignore::acbo_ref.campaign.facts.CampaignWarning")
def test_a_variable_with_a_plus_in_its_name(tmp_path, policy):
    domains = {"a+b": (0.0, 1.0), "y": None}
    campaign = Campaign.create(tmp_path / "c", domains, "y", observations=np.eye(2), policy=policy)
    file = tmp_path / "rows.csv"
    file.write_text("a+b,y,intervention\n0.5,1.0,a+b\n")
    campaign.import_rows(file)
    assert campaign.history()[-1]["set"] == {"a+b": 0.5}


def test_the_same_by_the_command_line(campaign, capsys, tmp_path):
    folder = str(campaign.path)

    def said(*arguments):
        code = run(["campaign", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    assert said("history", folder)[1] == "no experiments yet\n"
    assert said("ask", folder, "--by", "Ada")[0] == 0
    assert said("tell", folder, "e1", "y=430", "c=0.1", "--by", "Ada")[0] == 0
    code, out, err = said("correct", folder, "e1", "y=4.3", "c=")
    assert code == 0 and "corrected e1" in err
    assert said("note", folder, "e1", "read 430 for 4.3")[0] == 0
    assert said("ask", folder)[0] == 0
    code, out, err = said("abandon", folder, "e2")
    assert code == 0 and "abandoned e2\n" in err and "abandoned: e2" in said("status", folder)[1]
    code, out, err = said("history", folder)
    assert "4.3" in out and "corrected" in out and "note: read 430 for 4.3" in out and "abandoned" in out
    assert max(map(len, out.splitlines())) <= 80
    code, out, err = said("history", folder, "--format", "csv")
    rows = list(csv.DictReader(out.splitlines()))
    assert [r["id"] for r in rows] == ["e1", "e2"] and rows[0]["by"] == "Ada" and rows[0]["measured"] == "4.3"
    assert [h["id"] for h in json.loads(said("history", folder, "--format", "json")[1])] == ["e1", "e2"]
    file = str(tmp_path / "all.csv")
    assert said("export", folder, file)[0] == 0
    for command, words in (
        (["correct", folder, "e7", "y=1"], "nothing is recorded as 'e7'"),
        (["correct", folder, "e1", "y"], "NAME=VALUE"),
        (["correct", folder, "e1"], "NAME=VALUE"),
        (["abandon", folder, "e2"], "abandoned already"),
        (["note", folder, "e2", ""], "one line"),
        (["export", folder, file], "there already"),
        (["history", folder + "/none"], "campaign new"),
    ):
        before = entries(campaign)
        code, out, err = said(*command)
        assert code == 2 and words in err and entries(campaign) == before
    assert load_campaign(folder).history()[0]["state"] == "corrected"


def test_a_table_as_a_laboratory_has_it(tmp_path, policy, capsys):
    """Semicolons, decimal commas, a byte-order mark, a date and a remark."""
    lines = [f"2026-01-{n + 1:02};{40 + n / 4:.2f};{(n % 5) / 10:.1f};shift {n};{3 + n % 3:.1f}" for n in range(12)]
    data = tmp_path / "past.csv"
    data.write_text("\ufeffday;temp;dose;remark;yield\n" + "\n".join(lines).replace(".", ",") + "\n")
    command = ["campaign", "new", str(tmp_path / "c"), "--data", str(data), "--target", "yield", "--maximize"]
    assert run([*command, "--domain", "temp=20:80", "--domain", "dose=0:1", "--policy", str(policy)]) == 0
    assert "left out, since there are no numbers in it: day, remark" in capsys.readouterr().err
    campaign = load_campaign(tmp_path / "c")
    assert campaign._read().observations[1].tolist() == [40.25, 0.1, 4.0]
    more = tmp_path / "more.csv"
    more.write_text("day;temp;dose;yield\n2026-02-01;41,5;0,2;3,5\n")
    assert run(["campaign", "import", str(tmp_path / "c"), str(more)]) == 0
    assert "column 'day' is left out" in capsys.readouterr().err
    assert campaign._read().observations[-1].tolist() == [41.5, 0.2, 3.5]


def test_questions_are_answered_and_not_recorded(campaign, capsys):
    done(campaign)
    before, folder = entries(campaign), str(campaign.path)
    asked = campaign.ask()
    said = campaign.predict(asked.variable, asked.value)
    assert (said.predicted, said.measured_low, said.measured_high) == pytest.approx(
        (asked.predicted, asked.low, asked.high), rel=1e-9
    )
    assert said.measured_low < said.low < said.predicted < said.high < said.measured_high
    best = {b.variable: b for b in campaign.beliefs()}["a"]
    again = campaign.predict("a", best.value)
    assert (again.predicted, again.low, again.high) == pytest.approx((best.predicted, best.low, best.high), rel=1e-9)
    assert again.baseline == pytest.approx(campaign._read().observations[:, 3].mean())
    for name, value, words in (
        ("c", 1.0, "cannot be set"),
        ("a", 11.0, "outside its domain"),
        ("a", None, "missing"),
        ("q", 1.0, "no variable named 'q'"),
    ):
        with pytest.raises(AcboError, match=words):
            campaign.predict(name, value)
    assert run(["campaign", "predict", folder, "a=2.5"]) == 0
    assert "a = 2.5" in capsys.readouterr().out
    assert run(["campaign", "predict", folder, "a=2.5", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == 2.5
    assert run(["campaign", "predict", folder, "a=25"]) == 2
    capsys.readouterr()
    assert run(["campaign", "beliefs", folder]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["a", "b", "c"]
    assert run(["campaign", "beliefs", folder, "b", "--format", "json"]) == 0
    assert [b["variable"] for b in json.loads(capsys.readouterr().out)] == ["b"]
    assert run(["campaign", "beliefs", folder, "y"]) == 2
    assert entries(campaign)[: len(before)] == before and len(entries(campaign)) == len(before) + 1  # the ask


def test_the_report_tells_all_of_it(campaign, tmp_path):
    done(campaign)
    campaign.tell_external({"a": 7.0, "b": 0.5}, {"y": 1.0, "c": 0.0})
    campaign.note("x1", "both <valves> open")
    done(campaign)
    campaign.abandon("e2")
    campaign.ask()
    campaign.report(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "a = 7, b = 0.5" in page and "both &lt;valves&gt; open" in page
    assert all(word in page for word in ("abandoned", "pending", "nobody asked for it", "1 of 1 outcome", "e3"))
