"""A campaign that is written to a table and read back is the same campaign."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from acbo_cli.main import run
from campaign_crashes import VARIABLES, create, measured

from acbo_ref.campaign import facts
from acbo_ref.campaign.campaign import Campaign, load_campaign
from acbo_ref.campaign.exchange import JOURNAL
from acbo_ref.campaign.facts import CampaignWarning
from acbo_ref.errors import AcboError

pytestmark = pytest.mark.filterwarnings("ignore:0 past rows")


@pytest.fixture
def busy(campaign, monkeypatch):
    """Everything that can happen to a record, by two persons at many times."""
    clock = iter(range(1, 1000))
    monkeypatch.setattr(facts, "now", lambda: f"2026-01-02T03:{next(clock) // 60:02}:{next(clock) % 60:02}+00:00")
    first, second, third = campaign.ask_batch(3, by="Ada")
    campaign.tell(third.id, measured(third.variable, third.value), by="Bo")  # in another order than asked
    campaign.tell(first.id, {**measured(first.variable, first.value), "c": None}, by="Ada")
    campaign.correct(first.id, {"y": 1e-17})
    campaign.abandon(second.id)
    campaign.note(second.id, "no time; the valve, too")
    campaign.note(first.id, 'read "430" for 4.3', by="Bo")
    campaign.note(first.id, "read again")
    campaign.tell_external({"a": 1 / 3, "b": 0.1 + 0.2}, {"y": 2.0}, by="Bo")
    campaign.abandon("o3")
    campaign.note("o3", "-5 % of the scale")
    fourth = campaign.ask()
    campaign.tell(fourth.id, {"y": fourth.high + 9.0})  # a miss: the intervals learn
    campaign.abandon(fourth.id)
    campaign.ask_batch(2)
    return campaign


def same(one, other):
    """All that a user can see of it, and all that is replayed."""
    a, b = one._read(), other._read()
    np.testing.assert_equal([r.row for r in a.records.values()], [r.row for r in b.records.values()])
    for name in ("proposals", "abandoned", "notes", "widening"):
        assert getattr(a, name) == getattr(b, name), name
    assert list(a.records) == list(b.records)
    assert json.dumps(one.history()) == json.dumps(other.history())
    assert one.status() == other.status()
    assert one.recommend() == other.recommend() and one.beliefs() == other.beliefs()


def test_an_export_is_read_back_to_the_same_campaign(busy, tmp_path, policy):
    file = tmp_path / "all.csv"
    assert busy.export_csv(file) == 12  # o1 to o5, e3, e1, x1, e4, and without a row e2, e5, e6
    again = Campaign.create(tmp_path / "again", VARIABLES, "y", policy=policy)
    assert again.import_rows(file) == 12
    same(busy, again)
    assert busy._read().widening != 1.0
    twice = tmp_path / "twice.csv"
    again.export_csv(twice)
    assert twice.read_bytes() == file.read_bytes()
    assert load_campaign(again.path).ask() == busy.ask()  # pending
    for each in (busy, again):
        each.tell("e5", {"y": 1.0, "c": 0.0})
    assert again.ask_batch(3) == busy.ask_batch(3)
    with pytest.raises(AcboError, match="there already"):
        busy.export_csv(file)


def test_a_spreadsheet_may_stand_between(busy, tmp_path, policy):
    """Semicolons and decimal commas, other columns first, a column of remarks."""
    file, changed = tmp_path / "all.csv", tmp_path / "changed.csv"
    busy.export_csv(file)
    rows = list(csv.reader(io.StringIO(file.read_text())))
    text = io.StringIO()
    numeric = {*VARIABLES, *JOURNAL[5:10], *JOURNAL[-2:]}
    writer = csv.writer(text, delimiter=";")
    for n, row in enumerate(rows):
        cells = [
            cell.replace(".", ",") if n and name in numeric else cell for name, cell in zip(rows[0], row, strict=True)
        ]
        writer.writerow(["my remarks" if n == 0 else "fine", *reversed(cells)])
    changed.write_text("\ufeff" + text.getvalue())
    again = Campaign.create(tmp_path / "again", VARIABLES, "y", policy=policy)
    with pytest.warns(CampaignWarning, match="'my remarks' is left out"):
        again.import_rows(changed)
    same(busy, again)


def test_rows_that_a_person_adds_to_an_export_are_new(busy, tmp_path, policy):
    file = tmp_path / "all.csv"
    busy.export_csv(file)
    empty = "," * (len(JOURNAL) - 1)
    file.write_text(file.read_text() + f"5.0,0.5,0.0,3.0,b,{empty}\n")
    again = Campaign.create(tmp_path / "again", VARIABLES, "y", policy=policy)
    assert again.import_rows(file) == 13
    assert again.history()[-1]["id"] == "x2" and again.history()[-1]["set"] == {"b": 0.5}


def test_into_a_campaign_with_rows_it_comes_as_rows_nobody_asked_for(busy, tmp_path, policy):
    """With notes, times and persons; nothing pending, nothing abandoned; and not twice."""
    file = tmp_path / "all.csv"
    busy.export_csv(file)
    other = Campaign.create(tmp_path / "other", VARIABLES, "y", observations=np.eye(4) + 3, policy=policy)
    with pytest.warns(CampaignWarning) as said:
        assert other.import_rows(file) == 7
    words = " ".join(str(w.message) for w in said)
    assert "left out: 5 rows, pending or abandoned" in words and "nobody asked for" in words
    assert other.status()["interventions"] == 3 and other.status()["pending"] == []
    lines = {h["id"]: h for h in other.history()}
    assert list(lines) == ["x1", "x2", "x3"]
    by_note = next(h for h in lines.values() if h["notes"])
    before = next(h for h in busy.history() if h["id"] == "e1")
    assert by_note["notes"] == before["notes"] and (by_note["time"], by_note["by"]) == (before["time"], "Ada")
    entries = (other.path / "journal.jsonl").read_bytes()
    with pytest.warns(CampaignWarning), pytest.raises(AcboError, match="these very rows were recorded before"):
        other.import_rows(file)
    with pytest.warns(CampaignWarning), pytest.raises(AcboError, match="these very rows were recorded before"):
        busy.import_rows(file)
    assert (other.path / "journal.jsonl").read_bytes() == entries


REFUSED = [
    (("e1", "journal state", "done"), "'done' is not a state"),
    (("e1", "journal time", "yesterday"), "'yesterday' is not a time"),
    (("e1", "journal by", "\x07"), "one line"),
    (("e1", "journal notes", "\x07"), "one line"),
    (("e1", "journal low", ""), "lacks a number"),
    (("e1", "journal low", "x"), "not a number"),
    (("e1", "journal id", "e3"), "e3 appears twice"),
    (("e1", "journal id", "e9"), "e1 is not among them"),
    (("e1", "intervention", "a+b"), "needs one variable"),
    (("e1", "intervention", "q"), "needs one variable"),
    (("e1", "y", ""), "target 'y' is missing"),
    (("e1", "journal state", "pending"), "has an outcome"),
    (("x1", "journal state", "pending"), "only a proposal can be pending"),
    (("x1", "a", "70"), "outside its domain"),
]


@pytest.mark.parametrize(("change", "words"), REFUSED)
def test_what_makes_no_sense_is_refused_and_nothing_is_recorded(busy, tmp_path, policy, change, words):
    file = tmp_path / "all.csv"
    busy.export_csv(file)
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    id, name, value = change
    (row,) = (row for row in rows if row["journal id"] == id)
    row[name] = value
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    file.write_text(text.getvalue())
    again = Campaign.create(tmp_path / "again", VARIABLES, "y", policy=policy)
    before = (again.path / "journal.jsonl").read_bytes()
    with pytest.raises(AcboError, match=words):
        again.import_rows(file)
    assert (again.path / "journal.jsonl").read_bytes() == before


def test_an_export_is_read_whole_or_as_rows_alone(busy, tmp_path, policy):
    file = tmp_path / "all.csv"
    busy.export_csv(file)
    rows = list(csv.reader(io.StringIO(file.read_text())))
    again = Campaign.create(tmp_path / "again", VARIABLES, "y", policy=policy)
    file.write_text("\n".join(",".join(row[:8]) for row in rows[:4]))
    with pytest.raises(AcboError, match="no column 'journal by'") as error:
        again.import_rows(file)
    assert "or none" in error.value.hint
    file.write_text("\n".join(",".join(row[:5]) for row in rows[:4]))
    assert again.import_rows(file) == 3 and again.status()["observations"] == 3


def test_a_variable_that_is_named_like_a_column_of_an_export(tmp_path, policy):
    variables = {"journal id": (0, 1), "y": None}
    campaign = Campaign.create(tmp_path / "c", variables, "y", policy=policy)
    with pytest.raises(AcboError, match="a variable is named 'journal id'"):
        campaign.export_csv(tmp_path / "all.csv")
    plain = Campaign.create(tmp_path / "d", {"time": (0, 1), "id": None, "y": None}, "y", policy=policy)
    plain.tell(plain.ask().id, {"y": 1.0, "id": 7.0})
    plain.export_csv(tmp_path / "all.csv")
    again = Campaign.create(tmp_path / "again", {"time": (0, 1), "id": None, "y": None}, "y", policy=policy)
    again.import_rows(tmp_path / "all.csv")
    same(plain, again)


def test_damaged_entries_of_an_import_are_errors(tmp_path, campaign):
    from acbo_ref.campaign.journal import Journal

    first = json.loads((campaign.path / "journal.jsonl").read_text().splitlines()[0])["entry"]
    for entry in ({"entries": 3}, {}, {"entries": [{"kind": "imported", "entries": []}]}, {"entries": ["told"]}):
        path = tmp_path / "made.jsonl"
        Journal.create(path, [first, {"kind": "imported", **entry}])
        (campaign.path / "journal.jsonl").write_bytes(path.read_bytes())
        with pytest.raises(AcboError, match="not a campaign's journal"):
            load_campaign(campaign.path)
        path.unlink()


def test_by_the_command_line(tmp_path, policy, capsys):
    campaign, file = create(tmp_path / "c", policy), str(tmp_path / "all.csv")
    campaign.tell(campaign.ask().id, {"y": 1.0, "c": 0.0})
    campaign.ask()
    assert run(["campaign", "export", str(campaign.path), file]) == 0
    assert "7 rows" in capsys.readouterr().err
    new = ["campaign", "new", str(tmp_path / "again"), "--target", "y", "--minimize", "--policy", str(policy)]
    new += ["--domain", "a=0:10", "--domain", "b=-1:1", "--fixed", "c"]
    assert run([*new, "--data", file]) == 2
    assert "begin without --data" in capsys.readouterr().err
    assert run(new) == 0 and run(["campaign", "import", str(tmp_path / "again"), file]) == 0
    assert "recorded 5 past rows and 1 experiment" in capsys.readouterr().err
    same(campaign, load_campaign(tmp_path / "again"))
