"""Tables of measurements as people have them: CSV files, data frames, arrays, and rows by name.

Files are separated by commas, semicolons or tabs, whichever the header line has most of; without
commas between cells a number may have a decimal comma. An empty cell, NA, NaN or null is a missing
value. Everything else must be a number of at most 1e100; the error names the line and the column.

A name may end in a unit, `temp [C]` or `temp (C)`. It is the same name without it: a column
`temp [C]` is found as `temp`, and the other way round. `temp [C]` and `temp [F]` differ.

Contract: reads, checks and returns plain lists of floats (nan where missing). Columns are found by
name, in any order.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from acbo_ref.errors import AcboError, did_you_mean
from acbo_ref.files import write_atomically

MISSING = ("", "na", "nan", "n/a", "#n/a", "null", "none")
MAX_BYTES, MAX_COLUMNS = 256 * 2**20, 10_000
LARGEST = 1e100  # squares and products of measurements must stay finite


@dataclass(frozen=True)
class Table:
    """Named columns and rows of cells; `lines` are the rows' line numbers in the file `where`.
    `units` are those that columns lost when they were named without them (`with_known_names`).
    """

    names: list[str]
    rows: list[list[object]]
    lines: list[int]
    where: str
    units: Mapping[str, str] = field(default_factory=dict)


_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d+)?")
_DECIMAL_POINT = re.compile(r"[-+]?\d*\.\d+([eE][-+]?\d+)?")


def number(value: object, where: str) -> float:
    """A finite float, or nan for a missing value.

    Raises:
        AcboError: text, an infinity, or a decimal comma.
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType"):  # pandas' own
        return math.nan
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in MISSING:
            return math.nan
        if _DECIMAL_COMMA.fullmatch(text):
            raise AcboError(f"{where}: {text!r} has a decimal comma", "write decimal points")
    try:
        if isinstance(value, str) and "_" in value:
            raise ValueError  # float("1_000") is 1000.0, and an identifier is not
        result = float(value)  # type: ignore[arg-type]  # whatever has a float: TypeError says that it has none
    except (TypeError, ValueError) as error:
        raise AcboError(
            f"{where}: {str(value)[:40]!r} is not a number", "a number is needed there, or nothing where it is missing"
        ) from error
    except OverflowError:
        result = math.inf
    if math.isinf(result):
        raise AcboError(f"{where}: infinite", "leave the cell empty if the value is not known")
    if abs(result) > LARGEST:
        raise AcboError(f"{where}: {result:g} is too large", "give it in another unit")
    return result


def read_csv(path: str | Path) -> Table:
    """A file with a header line, its cells separated by commas, semicolons or tabs.

    Raises:
        AcboError: not readable, no header, a doubled or empty name, a line with another number of
            cells, or decimal commas beside decimal points.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise AcboError(f"{path} is larger than {MAX_BYTES // 2**20} MiB")
        with path.open(newline="", encoding="utf-8-sig") as file:
            separator = _separator(file.readline())
            file.seek(0)
            reader = csv.reader(file, strict=True, delimiter=separator)
            lines = [(reader.line_num, cells) for cells in reader if cells]
    except FileNotFoundError as error:
        raise AcboError(f"no file {path}") from error
    except OSError as error:
        raise AcboError(f"cannot read {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise AcboError(f"{path} is not a CSV file ({error})", "save it as UTF-8 text, separated by commas") from error
    if not lines:
        raise AcboError(f"{path} is empty", "its first line must name the columns")
    names = [name.strip() for name in lines[0][1]]
    if len(names) > MAX_COLUMNS:
        raise AcboError(f"{path} has {len(names)} columns, at most {MAX_COLUMNS} are read")
    check_names(names, str(path))
    for n, cells in lines[1:]:
        if len(cells) != len(names):
            hint = "a decimal comma? write decimal points, or separate by semicolons" if len(cells) > len(names) else ""
            raise AcboError(f"{path}, line {n}: {len(cells)} cells, the header has {len(names)}", hint)
    rows = [cells for _, cells in lines[1:]]
    if separator != ",":
        rows = _without_decimal_commas(rows, str(path))
    return Table(names, [list[object](cells) for cells in rows], [n for n, _ in lines[1:]], str(path))


def _separator(header: str) -> str:
    """What separates the cells of a header line: the most frequent of three, outside quotes."""
    plain = re.sub(r'"[^"]*"', "", header)
    return max((",", ";", "\t"), key=plain.count)


def _without_decimal_commas(rows: list[list[str]], where: str) -> list[list[str]]:
    """1,5 as 1.5 in every cell.

    Raises:
        AcboError: some cells have decimal points: 1,234 could be either.
    """
    with_comma = [cell for row in rows for cell in row if _DECIMAL_COMMA.fullmatch(cell.strip())]
    if not with_comma:
        return rows
    with_point = next((cell for row in rows for cell in row if _DECIMAL_POINT.fullmatch(cell.strip())), None)
    if with_point is not None:
        raise AcboError(
            f"{where} has decimal commas ({with_comma[0].strip()}) and decimal points ({with_point.strip()})",
            "write one of them throughout",
        )
    return [
        [cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell.strip()) else cell for cell in row] for row in rows
    ]


def text_columns(table: Table) -> list[str]:
    """The columns in which something is written and nothing is a number: dates, names, remarks."""
    return [name for i, name in enumerate(table.names) if _is_text([row[i] for row in table.rows])]


def _is_text(cells: Sequence[object]) -> bool:
    readable = [_is_number(cell) for cell in cells if str(cell).strip().lower() not in MISSING]
    return bool(readable) and not any(readable)


def _is_number(cell: object) -> bool:
    try:
        number(cell, "")
    except AcboError:
        return False
    return True


_UNIT = re.compile(r"(.*\S)\s*(?:\[([^][()]+)\]|\(([^][()]+)\))")


def name_and_unit(name: str) -> tuple[str, str | None]:
    """`temp [C]` and `temp (C)` as ("temp", "C"); a name without a unit has None."""
    found = _UNIT.fullmatch(name)
    return (name, None) if found is None else (found[1], (found[2] or found[3]).strip())


def known_name(name: str, known: Collection[str]) -> str:
    """The one of the known names that is meant by `name`: itself, or the only one that differs by
    having a unit or having none; else `name`, unchanged.
    """
    if name in known:
        return name
    bare, unit = name_and_unit(name)
    same = [k for k in known if name_and_unit(k)[0] == bare and (unit is None or name_and_unit(k)[1] in (None, unit))]
    return same[0] if len(same) == 1 else name


def with_known_names(table: Table, known: Collection[str]) -> Table:
    """The table with the known names in place of those that differ by a unit, where no other column
    has that name.
    """
    found = [known_name(name, known) for name in table.names]
    taken = [*table.names, *found]
    names = [k if k == n or taken.count(k) == 1 else n for n, k in zip(table.names, found, strict=True)]
    lost = {k: unit for n, k in zip(table.names, names, strict=True) if k != n and (unit := name_and_unit(n)[1])}
    units = {name: unit for name, unit in lost.items() if name_and_unit(name)[1] is None}
    return replace(table, names=names, units={**table.units, **units})


def write_csv(path: str | Path, header: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """A new comma-separated file, whole or not at all.

    Raises:
        AcboError: there is a file of this name.
        RunError: it cannot be written.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *lines])
    try:
        write_atomically(Path(path), text.getvalue().encode(), replace=False)
    except FileExistsError as error:
        raise AcboError(f"{path} is there already", "give another name") from error


def set_variables(text: str, variables: Sequence[str]) -> list[str]:
    """The variables that a cell of the column `intervention` names: none, one, or several as
    a+b.
    """
    if not text.strip():
        return []
    whole = known_name(text.strip(), variables)
    if whole in variables:
        return [whole]
    return [known_name(name.strip(), variables) for name in text.split("+") if name.strip()]


def check_names(names: Sequence[str], where: str) -> None:
    """Column names must be there, and different."""
    for name in names:
        if not isinstance(name, str):
            raise AcboError(f"{where}: {name!r} is not a name", "names are text")
        if not name:
            raise AcboError(f"{where}: a column has no name")
        if not name.isprintable() or len(name) > 200:
            raise AcboError(f"{where}: a column's name has control characters or more than 200 characters")
        if list(names).count(name) > 1:
            raise AcboError(f"{where}: column {name!r} is there twice", "rename or remove one of them")


def select(table: Table, wanted: Sequence[str]) -> list[list[float]]:
    """The wanted columns of a table, in the wanted order, as numbers.

    Raises:
        AcboError: a wanted column is not there, or a cell is not a number.
    """
    position = {name: i for i, name in enumerate(with_known_names(table, wanted).names)}
    missing = [name for name in wanted if name not in position]
    if missing:
        raise AcboError(
            f"{table.where} has no column {', '.join(map(repr, missing))}",
            f"needed are the columns {', '.join(wanted)}; a cell may be empty where a value is not known",
        )
    return [
        [number(row[position[name]], f"{table.where}, line {n}, column {name!r}") for name in wanted]
        for n, row in zip(table.lines, table.rows, strict=True)
    ]


def by_known_names(values: Mapping[Any, object], known: Collection[str]) -> dict[Any, object]:
    """Values by name, with the known names in place of those that differ by a unit.

    Raises:
        AcboError: one variable is named twice.
    """
    found: dict[Any, object] = {}
    for given, value in values.items():
        name = known_name(given, known) if isinstance(given, str) else given
        if name in found:
            raise AcboError(f"{name!r} is given twice")
        found[name] = value
    return found


def row_values(row: Any, variables: Sequence[str]) -> list[float]:
    """One measured row: by name (mapping, pandas Series), or a sequence in the campaign's order of
    variables.

    Raises:
        AcboError: a name that is not a variable, a wrong length, or a value that is not a number.
    """
    if hasattr(row, "to_dict"):
        row = row.to_dict()
    if isinstance(row, Mapping):
        row = by_known_names(row, variables)
        for name in row:
            if name not in variables:
                raise AcboError(f"the row has no variable's name: {name!r}", did_you_mean(str(name), variables))
        return [number(row.get(name), f"row, {name!r}") for name in variables]
    values = list(np.asarray(row, dtype=object).reshape(-1))
    if len(values) != len(variables):
        raise AcboError(f"the row has {len(values)} values, the campaign {len(variables)} variables")
    return [number(value, f"row, {name!r}") for name, value in zip(variables, values, strict=True)]


def observation_rows(observations: Any, variables: Sequence[str]) -> list[list[float]]:
    """Observational rows from a Table or a pandas DataFrame (columns by name), an (O, V) array, or
    a sequence of rows.
    """
    if observations is None:
        return []
    table = _as_table(observations)
    return select(table, variables) if table is not None else [row_values(row, variables) for row in observations]


def observed_units(observations: Any, variables: Sequence[str]) -> dict[str, str]:
    """The units that the header of observations has and the names of the variables have not."""
    table = None if observations is None else _as_table(observations)
    units = {} if table is None else with_known_names(table, variables).units
    return {name: units[name] for name in variables if name in units}


def _as_table(observations: Any) -> Table | None:
    """A Table or a pandas DataFrame as a table; None of anything else."""
    if isinstance(observations, Table):
        return observations
    if not (hasattr(observations, "columns") and hasattr(observations, "to_numpy")):
        return None
    names = [str(c) for c in observations.columns]
    check_names(names, "the data frame")
    rows = observations.to_numpy(dtype=object).tolist()
    return Table(names, rows, list(range(1, len(rows) + 1)), "the data frame")
