"""Spreadsheet files: what is read, what is refused, and names with units."""

from __future__ import annotations

import json
import math
import re
import sys
from datetime import datetime

import pytest
from acbo_cli.main import run

from acbo_ref.campaign.campaign import Campaign, load_campaign
from acbo_ref.campaign.tables import Table, known_name, name_and_unit, select, text_columns, with_known_names
from acbo_ref.campaign.workbooks import read_table
from acbo_ref.errors import AcboError
from acbo_ref.version import install

openpyxl = pytest.importorskip("openpyxl")


@pytest.fixture
def save(tmp_path):
    """Writes sheets {title: rows} to a workbook."""

    def write(**sheets):
        book = openpyxl.Workbook()
        book.remove(book.active)
        for title, rows in sheets.items():
            sheet = book.create_sheet(title)
            for row in rows:
                sheet.append(row)
        path = tmp_path / "t.xlsx"
        book.save(path)
        return path

    return write


def test_a_sheet_is_read_like_a_file(save):
    path = save(
        data=[["when", "b", "a\n[C]"], [datetime(2026, 1, 2), 1, 2.5], [], [None, "", "3"], ["", "n/a", "#N/A"]]
    )
    read = read_table(path)
    assert read.names == ["when", "b", "a [C]"] and read.lines == [2, 4, 5] and text_columns(read) == ["when"]
    first, second, third = select(read, ["a", "b"])
    assert first == [2.5, 1.0] and second[0] == 3.0 and math.isnan(second[1]) and all(map(math.isnan, third))


def test_the_first_sheet_or_the_one_that_is_named(save):
    path = save(first=[["a"], [1]], second=[[], ["", "", "b"], [None, None, 2]])
    assert select(read_table(path), ["a"]) == [[1.0]]
    assert select(read_table(path, "second"), ["b"]) == [[2.0]]
    with pytest.raises(AcboError, match="no sheet 'secnd'") as error:
        read_table(path, "secnd")
    assert "did you mean 'second'" in error.value.hint


REFUSED = [
    ([], "is empty"),
    ([["a", "a"], [1, 2]], "'a' is there twice"),
    ([["a", None], [1, 2]], "'2' stands in a column that line 1 does not name"),
    ([["Log of March"], ["a", "b"], [1, 2]], "'b' stands in a column that line 1 does not name"),
    ([["a", "b"], [1, "=1+1"]], "line 2, column 'b': a formula whose value is not stored"),
    ([["a\x1fb".replace("\x1f", "\u202e")], [1]], "control characters"),
]


@pytest.mark.parametrize(("rows", "words"), REFUSED)
def test_sheets_that_are_refused(save, rows, words):
    with pytest.raises(AcboError, match=words):
        read_table(save(data=rows))


def test_cells_are_numbers_or_named_in_the_error(save):
    read = read_table(save(data=[["a", "b"], [1, 2], [3, "high"], [4, True]]))
    with pytest.raises(AcboError, match="line 3, column 'b': 'high' is not a number"):
        select(read, ["b"])
    with pytest.raises(AcboError, match="'TRUE' is not a number"):
        select(Table(read.names, read.rows[2:], read.lines[2:], read.where), ["b"])


def test_other_files_are_refused(tmp_path, save):
    for name, words in (
        ("t.xls", "not read"),
        ("t.ods", "not read"),
        ("none.xlsx", "no file"),
        ("none.csv", "no file"),
    ):
        with pytest.raises(AcboError, match=words):
            read_table(tmp_path / name)
    (tmp_path / "t.csv").write_text("a\n1\n")
    with pytest.raises(AcboError, match="has no sheets"):
        read_table(tmp_path / "t.csv", "first")
    (tmp_path / "not.xlsx").write_text("a,b\n1,2\n")
    with pytest.raises(AcboError, match=r"not an \.xlsx file"):
        read_table(tmp_path / "not.xlsx")
    (tmp_path / "folder.xlsx").mkdir()
    with pytest.raises(AcboError, match="cannot read"):
        read_table(tmp_path / "folder.xlsx")


def test_sizes_are_bounded(save, monkeypatch):
    path = save(data=[["a", "b"], *([n, n] for n in range(100))])
    for limit, words in (
        ("MAX_BYTES", "larger than"),
        ("MAX_UNPACKED", "unpacks to more"),
        ("MAX_TAGS", "more cells"),
        ("MAX_ROWS", "more cells"),
        ("MAX_TOGETHER", "a row in .* is longer"),
        ("MAX_CELLS", "more than 10 cells"),
        ("MAX_COLUMNS", "2 columns, at most 1"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"acbo_ref.campaign.workbooks.{limit}", 1 if limit == "MAX_COLUMNS" else 10)
            with pytest.raises(AcboError, match=words):
                read_table(path)
    assert len(read_table(path).rows) == 100


def test_without_openpyxl_one_line_says_how_to_get_it(save, monkeypatch, capsys):
    path = save(data=[["a"], [1]])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    assert run(["campaign", "new", "x", "--data", str(path), "--target", "a", "--minimize"]) == 2
    assert f"error: reading .xlsx files needs openpyxl: {install('xlsx')}" in capsys.readouterr().err


# --------------------------------------------------------------------------------- names with units


def test_names_and_units():
    assert name_and_unit("temp [°C]") == ("temp", "°C") and name_and_unit("a(b) (m/s)") == ("a(b)", "m/s")
    assert name_and_unit("temp") == ("temp", None) and name_and_unit("[C]") == ("[C]", None)
    known = ["temp [C]", "flow", "p [bar]", "p [psi]"]
    for given, meant in (
        ("temp", "temp [C]"),
        ("temp (C)", "temp [C]"),
        ("flow [l/h]", "flow"),
        ("temp [F]", "temp [F]"),  # another unit is another thing
        ("p", "p"),  # which of two?
        ("p [psi]", "p [psi]"),
    ):
        assert known_name(given, known) == meant


def test_a_column_takes_a_known_name_unless_another_has_it():
    def named(names, known):
        return with_known_names(Table(names, [], [], "t"), known).names

    assert named(["temp [C]", "y"], ["temp", "y"]) == ["temp", "y"]
    assert named(["temp [C]", "temp"], ["temp"]) == ["temp [C]", "temp"]
    assert named(["temp [C]", "temp (K)"], ["temp"]) == ["temp [C]", "temp (K)"]


ROWS = [[50, 2.5, 5.1], [52, 2.7, 5.4], [47, 2.2, 4.2], [55, 2.0, 5.9], [49, 2.4, 4.9]]


@pytest.mark.parametrize("given", ["temp", "temp [C]"])
def test_a_campaign_by_either_name_from_a_workbook(save, tmp_path, policy, capsys, given):
    """The name is the one in --domain; every command then knows both."""
    data = save(log=[["no"]], data=[["temp [C]", "dose", "yield (g)"], *ROWS])
    folder = str(tmp_path / "r")
    new = ["campaign", "new", folder, "--data", str(data), "--sheet", "data", "--target", "yield", "--maximize"]
    assert run([*new, "--domain", f"{given}=20:80", "--domain-from-data", "--policy", str(policy)]) == 0
    assert list(load_campaign(folder).status()["variables"]) == [given, "dose", "yield"]
    capsys.readouterr()
    for name in ("temp", "temp [C]"):
        assert run(["campaign", "predict", folder, f"{name}=60", "--format", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["variable"] == given
        assert run(["campaign", "beliefs", folder, name]) == 0
        assert given in capsys.readouterr().out
    more = save(data=[["dose", "temp [C]", "intervention", "yield [g]"], [2, 70, "temp", 7.0], [2.4, 50, None, 5.0]])
    assert run(["campaign", "import", folder, str(more)]) == 0
    assert run(["campaign", "tell", folder, json_id(folder, capsys), "temp [C]=", "dose [g/l]=", "yield=6"]) == 0
    assert run(["campaign", "correct", folder, "x1", "temp (C)=71"]) == 0
    campaign = load_campaign(folder)
    assert campaign._read().records["x1"].row == [71.0, 2.0, 7.0]
    campaign.tell_external({"temp": 30}, {"temp [C]": 30, "dose": 2, "yield": 3.0})
    with pytest.raises(AcboError, match="is given twice"):
        campaign.tell_external({}, {"temp [C]": 30, "temp": 31, "yield": 3.0})
    with pytest.raises(AcboError, match=r"temp \[F"):
        campaign.tell_external(
            {}, {"temp [F]": 30, "yield": 3.0} if given == "temp [C]" else {"temp [F": 1, "yield": 3}
        )


def json_id(folder, capsys):
    capsys.readouterr()
    assert run(["campaign", "ask", folder, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)["id"]


def test_the_name_is_kept_whole_where_nothing_else_is_said(save, tmp_path, policy):
    data = save(data=[["temp [C]", "dose", "yield (g)"], *ROWS])
    new = ["campaign", "new", str(tmp_path / "r"), "--data", str(data), "--target", "yield (g)", "--maximize"]
    assert run([*new, "--domain-from-data", "--policy", str(policy)]) == 0
    assert list(load_campaign(tmp_path / "r").status()["variables"]) == ["temp [C]", "dose", "yield (g)"]


def test_units_that_names_lost_are_on_the_axes_of_the_report(save, tmp_path, policy):
    data = save(data=[["temp [C]", "dose", "yield (g)"], *ROWS])
    new = ["campaign", "new", str(tmp_path / "r"), "--data", str(data), "--target", "yield", "--maximize"]
    assert run([*new, "--domain", "temp=20:80", "--domain-from-data", "--policy", str(policy)]) == 0
    campaign = load_campaign(tmp_path / "r")
    assert campaign._read().units == {"temp": "C", "yield": "g"}
    axes = set(re.findall('<text class="axis"[^>]*>(.*?)</text>', campaign.report().read_text()))
    assert axes == {"temp [C]", "dose", "yield [g], higher is better"}
    table = with_known_names(Table(["temp [C]", "dose [g]"], [], [], ""), ["temp", "dose [g]"])
    assert table.units == {"temp": "C"}  # the other has it in its name


def test_observations_with_units_in_a_data_frame(tmp_path, policy):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS, columns=["temp [C]", "dose", "yield"])
    variables = {"temp": (20, 80), "dose": (0, 5), "yield": None}
    campaign = Campaign.create(tmp_path / "c", variables, "yield", "maximize", frame, policy=policy)
    assert campaign._read().observations.tolist() == ROWS
    assert campaign._read().units == {"temp": "C"}
