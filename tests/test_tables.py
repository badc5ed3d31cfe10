"""Tables of measurements: what is read, what is missing, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from acbo_ref.campaign.tables import number, observation_rows, read_csv, row_values, select, text_columns
from acbo_ref.errors import AcboError


@pytest.mark.parametrize("text", ["", " ", "NA", "NaN", "null", "None", "n/a", None, float("nan")])
def test_what_counts_as_missing(text):
    assert math.isnan(number(text, "x"))


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("1,5", "decimal comma"),
        ("high", "not a number"),
        ("inf", "infinite"),
        (-math.inf, "infinite"),
        (10**400, "infinite"),
        (1e101, "too large"),
        ("2024_01", "not a number"),
    ],
)
def test_what_is_no_number(value, word):
    with pytest.raises(AcboError, match=f"line 3, column 'x'.*{word}"):
        number(value, "line 3, column 'x'")


def table(path, text):
    file = path / "t.csv"
    file.write_text(text)
    return file


def test_columns_are_found_by_name_in_any_order(tmp_path):
    found = select(read_csv(table(tmp_path, "\ufeffb,a\n1,2\n\n3,\n")), ["a", "b"])
    assert found[0] == [2.0, 1.0] and found[1][1] == 3.0 and math.isnan(found[1][0])


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "is empty"),
        ("a,a\n1,2\n", "'a' is there twice"),
        ("a,\n1,2\n", "no name"),
        ("a;b\n1,5;2.5\n", r"decimal commas \(1,5\) and decimal points \(2.5\)"),
        ("a,b\n1,5,2\n", "line 2: 3 cells"),
        ("a,b\n1\n", "line 2: 1 cells"),
        ('a,b\n"1,2\n', "not a CSV"),
        ("a\x00b,c\n1,2\n", "control characters|not a CSV"),
    ],
)
def test_files_that_are_refused(tmp_path, text, word):
    with pytest.raises(AcboError, match=word):
        read_csv(table(tmp_path, text))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_what_separates_cells_is_found_out(tmp_path, separator):
    text = 'a,"b, c; d",e\n1,2.5,\n-3,,4e-2\n'
    if separator != ",":
        rows = [["a", '"b, c; d"', "e"], ["1", " 2,5", ""], ["-3", "", "4e-2"]]
        text = "\n".join(separator.join(row) for row in rows)
    read = read_csv(table(tmp_path, text))
    assert read.names == ["a", "b, c; d", "e"]
    found = select(read, read.names)
    assert found[0][:2] == [1.0, 2.5] and found[1][::2] == [-3.0, 0.04]


def test_decimal_commas_of_every_kind(tmp_path):
    read = read_csv(table(tmp_path, "a;b\n-1,5;,25\n2;+3,0e-2\n"))
    assert select(read, ["a", "b"]) == [[-1.5, 0.25], [2.0, 0.03]]


def test_columns_without_numbers_are_known(tmp_path):
    text = "date,a,batch,empty,mixed\n2026-01-02,1,A,,1\n2026-01-03,,B,NA,x\n"
    assert text_columns(read_csv(table(tmp_path, text))) == ["date", "batch"]


def test_an_error_names_the_files_own_line(tmp_path):
    read = read_csv(table(tmp_path, "a,b\n1,2\n\n\n3,x\n"))
    with pytest.raises(AcboError, match="line 5, column 'b'"):
        select(read, ["a", "b"])


def test_other_files_are_refused(tmp_path):
    with pytest.raises(AcboError, match="no file"):
        read_csv(tmp_path / "none.csv")
    with pytest.raises(AcboError, match="cannot read"):
        read_csv(tmp_path)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(AcboError, match="not a CSV"):
        read_csv(tmp_path / "binary.csv")
    with pytest.raises(AcboError, match="columns, at most"):
        read_csv(table(tmp_path, ",".join(f"x{i}" for i in range(10_001)) + "\n"))


def test_rows_by_name_and_in_order():
    assert row_values({"b": 2, "a": "1"}, ["a", "b"]) == [1.0, 2.0]
    assert row_values(np.array([1.0, 2.0]), ["a", "b"]) == [1.0, 2.0]
    assert math.isnan(row_values({"a": 1}, ["a", "b"])[1])
    with pytest.raises(AcboError, match="'bb'") as error:
        row_values({"bb": 2}, ["a", "b"])
    assert "did you mean 'b'" in error.value.hint
    with pytest.raises(AcboError, match="3 values, the campaign 2"):
        row_values([1, 2, 3], ["a", "b"])


def test_data_frames_are_read_by_column():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"b": [1.0, 2.0], "other": ["x", "y"], "a": [3, None]})
    found = observation_rows(frame, ["a", "b"])
    assert found[0] == [3.0, 1.0] and math.isnan(found[1][0])
    assert row_values(frame[["a", "b"]].iloc[0], ["a", "b"]) == [3.0, 1.0]
    with pytest.raises(AcboError, match="no column 'c'"):
        observation_rows(frame, ["c"])
    nullable = pandas.DataFrame({"a": pandas.array([1, None], dtype="Int64")})
    assert math.isnan(observation_rows(nullable, ["a"])[1][0])
