"""The arena: every method on every suite, a cell at a time; resumable, on all cores, and written down.

A folder of an evaluation holds
    settings.json                 what was asked for; another question needs another folder
    cells/SUITE--METHOD.json      one finished cell each: killing the program loses the running ones at most
    results.csv                   tidy: one row for each suite, system, method and step
    summary.json                  what `acbo evaluate --format json` prints, format "acbo-evaluation/1"

Contract: the summary is a function of the settings but for `decision_seconds`, whatever the number of workers.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acbo_ref.atomic import write_atomically
from acbo_ref.backend import Backend, ReferenceBackend
from acbo_ref.baselines import BASELINES
from acbo_ref.checkpoint import Checkpoint, load_checkpoint
from acbo_ref.config import Config
from acbo_ref.errors import AcboError, RunError, did_you_mean
from acbo_ref.evaluation import METHODS, POLICY_METHODS, run_method
from acbo_ref.executors import Workers, carry_out, check_executor, open_workers
from acbo_ref.metrics import MethodResults, summarise
from acbo_ref.suites import SUITES, Suite, files_suite, load_suite

Array = NDArray[Any]
FORMAT = "acbo-evaluation/1"
DEFAULT_METHODS = ("policy", "policy_sampled", "random", "endpoints", "regress", "paths", "thompson", "oracle")
DEFAULT_INTERVENTIONS = 20
FILES = "files"


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

    def run(self, backend: Backend | None = None, state: Any = None) -> MethodResults:
        return run_method(self.load(), self.method, self.seed, self.observations, self.interventions, backend, state)


def evaluate(
    checkpoint: Checkpoint | str | Path | None = None,
    suites: Sequence[str] = (),
    scm_files: Sequence[str | Path] = (),
    methods: Sequence[str] = (),
    observations: int | None = None,
    interventions: int = DEFAULT_INTERVENTIONS,
    seed: int = 0,
    quick: bool = False,
    make_backend: Callable[[Config], Backend] = ReferenceBackend,
    output: str | Path | None = None,
    workers: int = 1,
    on_cell: Callable[[str, str, int, int], None] | None = None,
    executor: str = "local",
    scheduler: str | None = None,
) -> dict[str, Any]:
    """Compare methods on suites.

    Args:
        checkpoint: the policy; may be None if no method needs it.
        suites: names, default all of them unless `scm_files` are given.
        scm_files: these form the suite "files".
        methods: names, default DEFAULT_METHODS (without the policy's if there is no checkpoint).
        observations: rows O before the first intervention; default the suite's own (20, and 3 for "cold").
        interventions: K.
        seed: of systems and noise.
        quick: fewer systems a suite.
        make_backend: builds the backend that runs the policy.
        output: folder to keep results in; a second call with the same settings goes on where the first stopped.
        workers: processes for the baselines, on this machine.
        on_cell: called with (suite, method, cells done, cells) after each.
        executor: "local", or "dask" for the workers of a Dask scheduler.
        scheduler: its address; None starts one here with `workers` processes.
    Returns:
        the report, see the README.
    Raises:
        AcboError: unknown names, unreadable files, numbers out of range, a folder of other settings, no Dask.
        RunError: cells whose worker died, and died again when they ran alone; all others are finished and kept.
    """
    if (observations is not None and observations < 0) or interventions < 1:
        raise AcboError(
            f"observations {observations} and interventions {interventions}", "observations >= 0, interventions >= 1"
        )
    if not 0 <= seed < 2**63:
        raise AcboError(f"seed is {seed}", "0 <= seed < 2**63")
    check_executor(executor, scheduler)
    loaded = load_checkpoint(checkpoint) if isinstance(checkpoint, (str, Path)) else checkpoint
    chosen = list(dict.fromkeys(methods)) or [
        m for m in DEFAULT_METHODS if loaded is not None or m not in POLICY_METHODS
    ]
    for method in chosen:
        if method not in METHODS:
            raise AcboError(f"no method named {method!r}", did_you_mean(method, METHODS))
        if method in POLICY_METHODS and loaded is None:
            raise AcboError(f"method {method!r} needs a checkpoint", "give --checkpoint, or other --methods")
    names = list(dict.fromkeys(suites)) or ([] if scm_files else list(SUITES))
    for name in names:
        if name not in SUITES:
            raise AcboError(f"no suite named {name!r}", did_you_mean(name, SUITES))
    if scm_files:
        files_suite(scm_files)  # an unreadable file is told before any work
        names.append(FILES)
    backend = make_backend(loaded.config) if loaded is not None else None
    settings: dict[str, Any] = {
        "checkpoint_sha256": loaded.sha256 if loaded is not None else None,
        "backend": backend.name if backend is not None else None,
        "observations": observations,
        "interventions": interventions,
        "seed": seed,
        "quick": quick,
        "methods": chosen,
        "suites": names,
    }
    cells = [
        Cell(name, method, seed, quick, _rows(name, observations), interventions, tuple(map(str, scm_files)))
        for name in names
        for method in chosen
    ]
    store = _Store(Path(output), settings, scm_files) if output is not None else None
    results: dict[tuple[str, str], MethodResults] = {}
    given_up: list[str] = []
    apart = workers > 1 or executor != "local"
    open_helpers = partial(open_workers, executor, workers, scheduler) if apart else None
    for n, (cell, result) in enumerate(_run(cells, store, backend, loaded, open_helpers)):
        if result is None:
            given_up.append(f"{cell.suite}--{cell.method}")
        else:
            results[cell.suite, cell.method] = result
        if on_cell is not None:
            on_cell(cell.suite, cell.method, n + 1, len(cells))
    if given_up:
        raise RunError(
            f"not finished, because their workers died twice: {', '.join(sorted(given_up))}",
            "workers often die for want of memory: try fewer at a time. "
            + ("The same command tries these again" if store is not None else "With --output all others would be kept"),
        )
    report = []
    for name in names:
        first = results[name, chosen[0]]
        report.append(
            {
                "name": name,
                "scms": len(first.variable),
                "observations": _rows(name, observations),
                "methods": {method: summarise(results[name, method]) for method in chosen},
            }
        )
    document = {"format": FORMAT, "settings": settings, "suites": report}
    if store is not None:
        store.finish(document, cells, results)
    return document


def _rows(suite: str, observations: int | None) -> int:
    if observations is not None:
        return observations
    return SUITES[suite].observations if suite in SUITES else Suite("", (), 0).observations


def _run(
    cells: Sequence[Cell],
    store: _Store | None,
    backend: Backend | None,
    loaded: Checkpoint | None,
    open_helpers: Callable[[], AbstractContextManager[Workers]] | None,
) -> Iterator[tuple[Cell, MethodResults | None]]:
    """Results of all cells as they come: stored ones first, the policy's here, the baselines' at the same time by the helpers;
    None for a cell that was given up."""
    missing = []
    for cell in cells:
        kept = store.load(cell) if store is not None else None
        if kept is not None:
            yield cell, kept
        else:
            missing.append(cell)
    apart = [c for c in missing if c.method in BASELINES] if open_helpers is not None else []

    def keep(cell: Cell, result: MethodResults | None) -> tuple[Cell, MethodResults | None]:
        if store is not None and result is not None:
            store.save(cell, result)
        return cell, result

    def here() -> Iterator[tuple[Cell, MethodResults | None]]:
        state = backend.from_host(loaded.state) if backend is not None and loaded is not None else None
        for cell in missing:
            if cell not in apart:
                yield keep(cell, cell.run(backend, state))

    if not apart:
        yield from here()
        return
    assert open_helpers is not None
    # the longest first: many variables, slow methods
    apart.sort(key=lambda c: (c.method not in ("gp", "optuna"), c.suite != "wide"))
    finished: Queue[tuple[Cell, MethodResults | None] | BaseException] = Queue()

    def manage() -> None:
        try:
            for cell, result in carry_out(apart, Cell.run, helpers):
                finished.put(keep(cell, result))
        except BaseException as error:
            finished.put(error)

    with open_helpers() as helpers:
        Thread(target=manage, daemon=True).start()
        yield from here()
        for _ in apart:
            item = finished.get()
            if isinstance(item, BaseException):
                raise item
            yield item


# ---------------------------------------------------------------------------------------------------- the folder


class _Store:
    """The files of an evaluation folder."""

    def __init__(self, folder: Path, settings: dict[str, Any], scm_files: Sequence[str | Path]) -> None:
        self._folder = folder
        digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in scm_files]
        text = json.dumps(settings | {"scm_files": digests}, indent=1)
        path = folder / "settings.json"
        if path.exists():
            before, now = json.loads(path.read_text()), json.loads(text)
            changed = [key for key in now if before.get(key) != now[key] and key not in ("methods", "suites")]
            if changed:
                raise AcboError(
                    f"{folder} holds an evaluation with other settings: {', '.join(changed)}", "choose another --output"
                )
        write_atomically(path, text.encode())

    def _path(self, cell: Cell) -> Path:
        return self._folder / "cells" / f"{cell.suite}--{cell.method}.json"

    def load(self, cell: Cell) -> MethodResults | None:
        """A finished cell; None if it is not there or was damaged."""
        try:
            return results_from_dict(json.loads(self._path(cell).read_text()))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, cell: Cell, results: MethodResults) -> None:
        write_atomically(self._path(cell), json.dumps(results_to_dict(results)).encode())

    def finish(
        self, document: dict[str, Any], cells: Sequence[Cell], results: dict[tuple[str, str], MethodResults]
    ) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        systems = {cell.suite: cell.load().systems for cell in cells}
        for cell in cells:
            writer.writerows(
                _csv_rows(cell, [(s.name, s.names) for s in systems[cell.suite]], results[cell.suite, cell.method])
            )
        write_atomically(self._folder / "results.csv", text.getvalue().encode())
        summary = json.dumps(document, indent=1, allow_nan=False) + "\n"
        write_atomically(self._folder / "summary.json", summary.encode())


CSV_COLUMNS = (
    "suite", "system", "name", "method", "step", "variable", "value", "outcome", "expected", "gain", "oracle_gain",
    "is_parent", "is_optimal",
)  # fmt: skip


def _csv_rows(cell: Cell, names: Sequence[tuple[str, Sequence[str]]], r: MethodResults) -> Iterator[list[Any]]:
    """`system` is the number in the suite, `step` counts from 1; gains in standard deviations of the observed target."""
    gain, oracle_gain = r.gain, r.oracle_gain
    for s, (name, variables) in enumerate(names):
        for k in range(r.variable.shape[1]):
            yield [
                cell.suite, s, name, cell.method, k + 1, variables[r.variable[s, k]], repr(float(r.value[s, k])),
                repr(float(r.outcome[s, k])), repr(float(r.expected[s, k])), repr(float(gain[s, k])),
                repr(float(oracle_gain[s])), int(r.is_parent[s, k]), int(r.is_optimal[s, k]),
            ]  # fmt: skip


_LISTS_OF_ARRAYS = ("parent_probability", "parents")
_DTYPES = {"variable": int, "is_parent": bool, "is_optimal": bool, "parents": bool}


def results_to_dict(results: MethodResults) -> dict[str, Any]:
    """Plain lists, exact: JSON keeps every digit of a float64."""
    document = {}
    for f in dataclasses.fields(results):
        value = getattr(results, f.name)
        if isinstance(value, np.ndarray):
            document[f.name] = value.tolist()
        else:
            document[f.name] = [v.tolist() if isinstance(v, np.ndarray) else v for v in value]
    return document


def results_from_dict(document: dict[str, Any]) -> MethodResults:
    """The inverse of `results_to_dict`."""
    values: dict[str, Any] = {}
    for f in dataclasses.fields(MethodResults):
        value, dtype = document[f.name], _DTYPES.get(f.name, float)
        if f.name in _LISTS_OF_ARRAYS:
            values[f.name] = [np.array(v, dtype) for v in value]
        else:
            values[f.name] = value if f.name == "seconds" else np.array(value, dtype)
    return MethodResults(**values)
