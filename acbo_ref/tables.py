"""Tables of measurements as people have them: CSV files, data frames, arrays, and rows by name.

An empty cell, NA, NaN or null is a missing value. Everything else must be a finite number; the error names the line and
the column.

Contract: reads, checks and returns plain lists of floats (nan where missing). Columns are found by name, in any order.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from acbo_ref.errors import AcboError, did_you_mean

MISSING = ("", "na", "nan", "n/a", "null", "none")
MAX_BYTES, MAX_COLUMNS = 256 * 2**20, 10_000
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")


def number(value: Any, where: str) -> float:
    """A finite float, or nan for a missing value.

    Raises:
        AcboError: text, an infinity, or a decimal comma.
    """
    if value is None:
        return math.nan
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in MISSING:
            return math.nan
        if _DECIMAL_COMMA.fullmatch(text):
            raise AcboError(f"{where}: {text!r} has a decimal comma", "write decimal points")
    try:
        result = float(value)
    except (TypeError, ValueError) as error:
        raise AcboError(f"{where}: {str(value)[:40]!r} is not a number", "leave text columns out") from error
    if math.isinf(result):
        raise AcboError(f"{where}: infinite", "leave the cell empty if the value is not known")
    return result


def read_csv(path: str | Path) -> tuple[list[str], list[list[str]]]:
    """(column names, rows of cells) of a comma-separated file with a header line.

    Raises:
        AcboError: not readable, no header, a doubled or empty name, or a line with another number of cells.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise AcboError(f"{path} is larger than {MAX_BYTES // 2**20} MiB")
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [cells for cells in csv.reader(file, strict=True) if cells]
    except FileNotFoundError as error:
        raise AcboError(f"no file {path}") from error
    except OSError as error:
        raise AcboError(f"cannot read {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise AcboError(f"{path} is not a CSV file ({error})", "save it as comma-separated UTF-8 text") from error
    if not lines:
        raise AcboError(f"{path} is empty", "its first line must name the columns")
    names = [name.strip() for name in lines[0]]
    if len(names) > MAX_COLUMNS:
        raise AcboError(f"{path} has {len(names)} columns, at most {MAX_COLUMNS} are read")
    if len(names) == 1 and ";" in names[0]:
        raise AcboError(f"{path} is separated by semicolons", "separate by commas, and write decimal points")
    check_names(names, str(path))
    for n, cells in enumerate(lines[1:], 2):
        if len(cells) != len(names):
            hint = "a decimal comma? write decimal points" if len(cells) > len(names) else ""
            raise AcboError(f"{path}, line {n}: {len(cells)} cells, the header has {len(names)}", hint)
    return names, lines[1:]


def check_names(names: Sequence[str], where: str) -> None:
    """Column names must be there, and different."""
    for name in names:
        if not name:
            raise AcboError(f"{where}: a column has no name")
        if not name.isprintable() or len(name) > 200:
            raise AcboError(f"{where}: a column's name has control characters or more than 200 characters")
        if list(names).count(name) > 1:
            raise AcboError(f"{where}: column {name!r} is there twice", "rename or remove one of them")


def select(names: Sequence[str], rows: Sequence[Sequence[Any]], wanted: Sequence[str], where: str) -> list[list[float]]:
    """The wanted columns of a table, in the wanted order, as numbers.

    Raises:
        AcboError: a wanted column is not there, or a cell is not a number.
    """
    position = {name: i for i, name in enumerate(names)}
    for name in wanted:
        if name not in position:
            raise AcboError(f"{where} has no column {name!r}", did_you_mean(name, names))
    return [
        [number(row[position[name]], f"{where}, line {n}, column {name!r}") for name in wanted]
        for n, row in enumerate(rows, 2)
    ]


def row_values(row: Any, variables: Sequence[str]) -> list[float]:
    """One measured row: by name (mapping, pandas Series), or a sequence in the campaign's order of variables.

    Raises:
        AcboError: a name that is not a variable, a wrong length, or a value that is not a number.
    """
    if hasattr(row, "to_dict"):
        row = row.to_dict()
    if isinstance(row, Mapping):
        for name in row:
            if name not in variables:
                raise AcboError(f"the row has no variable's name: {name!r}", did_you_mean(str(name), variables))
        return [number(row.get(name), f"row, {name!r}") for name in variables]
    values = list(np.asarray(row, dtype=object).reshape(-1))
    if len(values) != len(variables):
        raise AcboError(f"the row has {len(values)} values, the campaign {len(variables)} variables")
    return [number(value, f"row, {name!r}") for name, value in zip(variables, values, strict=True)]


def observation_rows(observations: Any, variables: Sequence[str]) -> list[list[float]]:
    """Observational rows from a pandas DataFrame (columns by name), an (O, V) array, or a sequence of rows."""
    if observations is None:
        return []
    if hasattr(observations, "columns") and hasattr(observations, "to_numpy"):
        names = [str(c) for c in observations.columns]
        check_names(names, "the data frame")
        return select(names, observations.to_numpy(dtype=object).tolist(), variables, "the data frame")
    return [row_values(row, variables) for row in observations]
