"""The folder of an evaluation, and its unit, the cell: one method on one suite.

    settings.json                 what was asked for; another question needs another folder
    cells/SUITE--METHOD.json      one finished cell each: killing the program loses the running ones
                                  at most. It names the version and a digest of the code that made
                                  it; a cell of other code is run again
    results.csv                   tidy: one row for each suite, system, method and step
    summary.json                  what `acbo evaluate --format json` prints, format
                                  "acbo-evaluation/1"

Contract: what is read back is exactly what was written.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import inspect
import io
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from acbo_ref.arena.metrics import MethodResults
from acbo_ref.arena.play import is_policy, run_method, time_decisions
from acbo_ref.arena.suites import Suite, files_suite, load_suite
from acbo_ref.backend import AnyBackend
from acbo_ref.errors import AcboError
from acbo_ref.files import Document, write_atomically
from acbo_ref.version import __version__

FILES = "files"
Report = Document  # see compare.evaluate


@dataclasses.dataclass(frozen=True)
class Cell:
    """One method on one suite; everything a worker process needs to know."""

    suite: str
    method: str
    seed: int
    quick: bool
    observations: int
    interventions: int
    scm_files: tuple[str, ...] = ()

    def load(self) -> Suite:
        return files_suite(self.scm_files) if self.suite == FILES else load_suite(self.suite, self.seed, self.quick)

    def run(self, backend: AnyBackend | None = None, state: object = None) -> MethodResults:
        return run_method(self.load(), self.method, self.seed, self.observations, self.interventions, backend, state)

    def time(self, results: MethodResults, backend: AnyBackend | None = None, state: object = None) -> list[float]:
        """Seconds of single decisions; nothing else should run meanwhile."""
        return time_decisions(
            self.load(), self.method, results, self.seed, self.observations, self.interventions, backend, state
        )


_PACKAGE = Path(__file__).parent.parent
# What the results of a baseline depend on; those of a policy's method depend on its backend as
# well.
_SOURCES = (
    "systems", "arena/networks", "arena/baselines.py", "arena/gaussian_processes.py", "arena/method.py",
    "arena/play.py", "arena/processes.py", "arena/published.py", "arena/suites.py", "policy/inputs.py", "randomness.py",
)  # fmt: skip
_POLICY_SOURCES = ("policy", "backend.py")


def source_digest(places: Sequence[Path]) -> str:
    """sha256 of names and contents of the Python and JSON files at or below these places."""
    digest = hashlib.sha256()
    for place in places:
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            if path.suffix in (".py", ".json"):
                digest.update(f"{path.relative_to(place.parent).as_posix()}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@lru_cache(maxsize=8)
def _code(backend: type | None) -> str:
    """Digest of the code behind a cell; `backend` for methods of the policy."""
    places = [_PACKAGE / name for name in _SOURCES]
    if backend is not None:
        places += [_PACKAGE / name for name in _POLICY_SOURCES] + [Path(inspect.getfile(backend)).parent]
    return source_digest(places)


class Store:
    """The files of an evaluation folder.

    Raises:
        AcboError: the folder holds an evaluation with other settings.
    """

    def __init__(
        self, folder: Path, settings: Document, scm_files: Sequence[str | Path], backend: type | None = None
    ) -> None:
        self._folder, self._backend = folder, backend
        digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in scm_files]
        text = json.dumps(settings | {"scm_files": digests}, indent=1)
        path = folder / "settings.json"
        if path.exists():
            before, now = json.loads(path.read_text()), json.loads(text)
            asked = [key for key in now if key in before and key not in ("methods", "suites")]
            changed = [key for key in asked if before[key] != now[key]]
            if changed:
                raise AcboError(
                    f"{folder} holds an evaluation with other settings: {', '.join(changed)}", "choose another --output"
                )
        write_atomically(path, text.encode())

    def _path(self, cell: Cell) -> Path:
        return cell_path(self._folder, cell.suite, cell.method)

    def load(self, cell: Cell) -> MethodResults | None:
        """A finished cell; None if it is not there, was damaged or was made by other code."""
        try:
            document = json.loads(self._path(cell).read_text())
            return results_from_dict(document) if document["made_by"] == self._made_by(cell) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, cell: Cell, results: MethodResults) -> None:
        document = {"made_by": self._made_by(cell), **results_to_dict(results)}
        write_atomically(self._path(cell), json.dumps(document).encode())

    def _made_by(self, cell: Cell) -> Document:
        return {"acbo": __version__, "code_sha256": _code(self._backend if is_policy(cell.method) else None)}

    def finish(self, report: Report, cells: Sequence[Cell], results: dict[tuple[str, str], MethodResults]) -> None:
        """Write results.csv and summary.json."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        systems = {cell.suite: cell.load().systems for cell in cells}
        for cell in cells:
            names = [(s.name, s.names) for s in systems[cell.suite]]
            writer.writerows(_csv_rows(cell, names, results[cell.suite, cell.method]))
        write_atomically(self._folder / "results.csv", text.getvalue().encode())
        summary = json.dumps(report, indent=1, allow_nan=False) + "\n"
        write_atomically(self._folder / "summary.json", summary.encode())


def cell_path(folder: Path, suite: str, method: str) -> Path:
    """Where a finished cell is kept."""
    return folder / "cells" / f"{suite}--{method}.json"


CSV_COLUMNS = (
    "suite", "system", "name", "method", "step", "variable", "value", "outcome", "expected", "gain", "oracle_gain",
    "is_parent", "is_optimal",
)  # fmt: skip


def _csv_rows(cell: Cell, names: Sequence[tuple[str, Sequence[str]]], r: MethodResults) -> Iterator[list[str | int]]:
    """`system` is the number in the suite, `step` counts from 1, `variable` is empty where nothing
    was done; gains in standard deviations of the observed target.
    """
    gain, oracle_gain = r.gain, r.oracle_gain
    for s, (name, variables) in enumerate(names):
        for k in range(r.variable.shape[1]):
            yield [
                cell.suite, s, name, cell.method, k + 1,
                variables[r.variable[s, k]] if r.variable[s, k] >= 0 else "", repr(float(r.value[s, k])),
                repr(float(r.outcome[s, k])), repr(float(r.expected[s, k])), repr(float(gain[s, k])),
                repr(float(oracle_gain[s])), int(r.is_parent[s, k]), int(r.is_optimal[s, k]),
            ]  # fmt: skip


_LISTS_OF_ARRAYS = ("parent_probability", "parents")
_DTYPES: dict[str, type] = {
    "variable": int, "cluster": int, "leaves": bool, "is_parent": bool, "is_optimal": bool, "parents": bool,
}  # fmt: skip


def results_to_dict(results: MethodResults) -> Document:
    """Plain lists, exact: JSON keeps every digit of a float64."""
    document: Document = {}
    for f in dataclasses.fields(results):
        value = getattr(results, f.name)
        if isinstance(value, np.ndarray):
            document[f.name] = value.tolist()
        else:
            document[f.name] = [v.tolist() if isinstance(v, np.ndarray) else v for v in value]
    return document


def results_from_dict(document: Document) -> MethodResults:
    """The inverse of `results_to_dict`."""
    values: Document = {}
    for f in dataclasses.fields(MethodResults):
        value, dtype = document.get(f.name, []), _DTYPES.get(f.name, float)
        if f.name not in document and f.name != "cluster":  # which cells of an earlier day lack
            raise KeyError(f.name)
        if f.name in _LISTS_OF_ARRAYS:
            values[f.name] = [np.array(v, dtype) for v in value]
        else:
            values[f.name] = value if f.name == "seconds" else np.array(value, dtype)
    return MethodResults(**values)
