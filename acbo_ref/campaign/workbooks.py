"""Tables in spreadsheet files (.xlsx), and tables in whatever kind of file a path names.

A sheet's first row that is not empty names the columns; the rows below it are read as those of a
CSV file are, cells as numbers, text or dates. A formula counts as the value that the spreadsheet
program stored with it. Macros, links and pictures are not looked at.

A workbook is a zip archive of XML, so a few kilobytes can stand for gigabytes: sizes and the number
of XML elements are bounded before anything is parsed, and document type definitions are refused.

Contract: needs openpyxl, which is imported on use; reads, and gives a `tables.Table`.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from importlib import import_module
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from acbo_ref.campaign.tables import MAX_COLUMNS, Table, check_names, read_csv
from acbo_ref.errors import AcboError, did_you_mean
from acbo_ref.version import install

WORKBOOKS, OTHER_SPREADSHEETS = (".xlsx", ".xlsm"), (".xls", ".xlsb", ".ods", ".numbers")
# Of the file, and of its parts unpacked, in bytes.
MAX_BYTES, MAX_UNPACKED = 64 * 2**20, 128 * 2**20
MAX_PARTS, MAX_ROWS = 10_000, 1_100_000
# Tags and attributes in all (a cell has about four tags: a million cells); and within one row, one
# string, or a part that has neither.
MAX_TAGS, MAX_ATTRIBUTES, MAX_TOGETHER = 4_200_000, 12_000_000, 400_000
# Cells of a sheet, gaps that its rows leave included.
MAX_CELLS = 4_000_000

_IS_XML = re.compile(rb"[\xef\xbb\xbf\xff\xfe\x00\s]*<")
_ENCODING = re.compile(rb"<\?xml[^>]*encoding\s*=\s*[\"'](?!utf-?8[\"']|utf-?16[\"'])", re.IGNORECASE)
_DEFINITION = re.compile(rb"<\x00?!\x00?[DE]")
_REPEATED = re.compile(rb"<(?:[\w.-]+:)?(?:row|si)\b")


def read_table(path: str | Path, sheet: str | None = None) -> Table:
    """The table in a CSV file or in a workbook, by the file's name.

    Args:
        sheet: of a workbook; default the first.
    Raises:
        AcboError: as `read_csv` and `read_workbook`.
    """
    suffix = Path(path).suffix.lower()
    if suffix in WORKBOOKS:
        return read_workbook(path, sheet)
    if suffix in OTHER_SPREADSHEETS:
        raise AcboError(f"{path}: {suffix} files are not read", "save it as .xlsx or as CSV")
    if sheet is not None:
        raise AcboError(f"{path} has no sheets", "--sheet is for .xlsx files")
    return read_csv(path)


def read_workbook(path: str | Path, sheet: str | None = None) -> Table:
    """A sheet of an .xlsx file; `lines` of the table are the sheet's row numbers.

    Raises:
        AcboError: openpyxl is not installed; not readable or larger than is read; no such sheet;
            no, a doubled or a missing column name; a cell outside the named columns; or a formula
            without a stored value.
    """
    openpyxl = _openpyxl()
    path = Path(path)
    _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and extensions that openpyxl does not know
            book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
            chosen, where = _sheet(book, path, sheet)
            table, columns = _table(_rows(chosen, where), where)
            if any(cell is None for row in table.rows for cell in row):
                formulas = openpyxl.load_workbook(path, read_only=True, data_only=False, keep_links=False)
                _check_formulas(_rows(formulas[chosen.title], where), table, columns)
                formulas.close()
            book.close()
            return table
    except AcboError:
        raise
    except Exception as error:  # of damaged files openpyxl raises whatever its code comes to
        raise AcboError(
            f"{path} is not a workbook that can be read ({type(error).__name__})", "save it anew as .xlsx, or as CSV"
        ) from error


def _openpyxl() -> Any:
    try:
        return import_module("openpyxl")
    except ImportError as error:
        raise AcboError(f"reading .xlsx files needs openpyxl: {install('xlsx')}", "or save the sheet as CSV") from error


# ----------------------------------------------------------------------------------- the archive


def _check_archive(path: Path) -> None:
    """Whether the file is a zip archive whose unpacked parts are within bounds.

    Raises:
        AcboError: it is not.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise AcboError(f"{path} is larger than {MAX_BYTES // 2**20} MiB", "save the sheet as CSV")
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            if len(parts) > MAX_PARTS or sum(part.file_size for part in parts) > MAX_UNPACKED:
                raise AcboError(f"{path} unpacks to more than is read", "save the sheet as CSV")
            _check_parts(archive, parts, path)
    except FileNotFoundError as error:
        raise AcboError(f"no file {path}") from error
    except OSError as error:
        raise AcboError(f"cannot read {path}: {error.strerror or error}") from error
    except AcboError:
        raise
    except Exception as error:  # BadZipFile, zlib.error, NotImplementedError, RuntimeError of a password, ...
        raise AcboError(f"{path} is not an .xlsx file ({error})", "save it as .xlsx without a password") from error


def _check_parts(archive: zipfile.ZipFile, parts: list[zipfile.ZipInfo], path: Path) -> None:
    """Whether the XML in all parts has no more tags than can be read within seconds."""
    tags = attributes = rows = sheets = largest = 0
    for part in parts:
        data = archive.read(part)
        if _IS_XML.match(data) is None:
            continue  # a picture
        if _DEFINITION.search(data) or _ENCODING.match(data):
            raise AcboError(f"{path}: {part.filename[:80]!r} is XML of a kind that no workbook has")
        count = data.count(b"<")
        tags, attributes, rows = tags + count, attributes + data.count(b"="), rows + len(_REPEATED.findall(data))
        sheets, largest = sheets + data.count(b"sheetId"), max(largest, count)
        # every sheet is opened once, so one part that many sheets name counts as often
        if max(tags, sheets * largest) > MAX_TAGS or attributes > MAX_ATTRIBUTES or rows > MAX_ROWS:
            raise AcboError(f"{path} has more cells than are read", "save the sheet as CSV")
        begins = chain([0], (found.start() for found in _REPEATED.finditer(data)), [len(data)])
        if any(max(data.count(b"<", *piece), data.count(b"=", *piece)) > MAX_TOGETHER for piece in pairwise(begins)):
            raise AcboError(f"{path}: a row in {part.filename[:80]!r} is longer than is read", "save the sheet as CSV")


# ------------------------------------------------------------------------------------- the sheet


def _sheet(book: Any, path: Path, name: str | None) -> tuple[Any, str]:
    """The sheet of that name or the first, and what messages call it."""
    sheets = {str(sheet.title): sheet for sheet in book.worksheets}
    if not sheets:
        raise AcboError(f"{path} has no sheet of cells")
    if name is not None and name not in sheets:
        raise AcboError(f"{path} has no sheet {name!r}", did_you_mean(name, sheets))
    title = name if name is not None else next(iter(sheets))
    return sheets[title], str(path) if len(sheets) == 1 else f"{path}, sheet {title!r}"


def _rows(sheet: Any, where: str) -> list[tuple[int, tuple[object, ...]]]:
    """(row number, cells) of every row that is not empty, whatever size the sheet declares."""
    sheet.reset_dimensions()
    rows: list[tuple[int, tuple[object, ...]]] = []
    read = 0
    for n, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
        read += 1 + len(cells)
        if read > MAX_CELLS:
            raise AcboError(f"{where} has more than {MAX_CELLS} cells", "save the columns that matter as CSV")
        if any(cell is not None for cell in cells):
            rows.append((n, cells))
    return rows


def _table(rows: list[tuple[int, tuple[object, ...]]], where: str) -> tuple[Table, list[int]]:
    """The table below the first row, and the columns in which it stands."""
    if not rows:
        raise AcboError(f"{where} is empty", "its first row must name the columns")
    first, header = rows[0]
    columns = [i for i, cell in enumerate(header) if cell is not None and str(cell).strip()]
    if len(columns) > MAX_COLUMNS:
        raise AcboError(f"{where} has {len(columns)} columns, at most {MAX_COLUMNS} are read")
    named = set(columns)
    for n, cells in rows[1:]:
        for i, cell in enumerate(cells):
            if cell is not None and i not in named:
                raise AcboError(
                    f"{where}, line {n}: {str(cell)[:40]!r} stands in a column that line {first} does not name",
                    "the first row that is not empty must name the columns, with no title above it",
                )
    names = [" ".join(str(header[i]).split()) for i in columns]
    check_names(names, where)
    return Table(
        names, [[_cell(cells, i) for i in columns] for _, cells in rows[1:]], [n for n, _ in rows[1:]], where
    ), columns


def _cell(cells: tuple[object, ...], i: int) -> object:
    """A cell as CSV has it: truth values are words."""
    value = cells[i] if i < len(cells) else None
    return str(value).upper() if isinstance(value, bool) else value


def _check_formulas(rows: list[tuple[int, tuple[object, ...]]], table: Table, columns: list[int]) -> None:
    """Whether cells that are empty as values are empty as formulas, too.

    Raises:
        AcboError: one is a formula that was never calculated.
    """
    written = dict(rows)
    for n, row in zip(table.lines, table.rows, strict=True):
        for name, i, cell in zip(table.names, columns, row, strict=True):
            if cell is None and _cell(written.get(n, ()), i) is not None:
                raise AcboError(
                    f"{table.where}, line {n}, column {name!r}: a formula whose value is not stored",
                    "open the file in a spreadsheet program and save it, or save it as CSV",
                )
