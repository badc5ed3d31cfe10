"""The comparison: every method on every suite, a cell at a time; resumable, on all cores, and
written down (store.py).

Contract: the report is a function of the settings but for `decision_seconds`, whatever the number
of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import count
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

from acbo_ref.arena.baselines import BASELINES
from acbo_ref.arena.metrics import MethodResults, summarise
from acbo_ref.arena.play import RENAMED_METHODS, checked_method, is_policy
from acbo_ref.arena.store import FILES, Cell, Report, Store
from acbo_ref.arena.suites import SUITES, files_suite, observations_of
from acbo_ref.arena.workers import Workers, carry_out, check_executor, open_workers
from acbo_ref.backend import AnyBackend, ReferenceBackend
from acbo_ref.config import Config
from acbo_ref.errors import AcboError, RunError, did_you_mean
from acbo_ref.files import Document
from acbo_ref.training.checkpoint import Checkpoint, load_checkpoint

FORMAT = "acbo-evaluation/1"
DEFAULT_METHODS = ("policy", "policy_head_sampled", "random", "endpoints", "regress", "paths", "thompson", "oracle")

# A finished cell; no results if it was given up.
_Finished = tuple[Cell, MethodResults | None]


@dataclass(frozen=True)
class EvaluationSettings:
    """What is compared, on what, and where the work is done.

    Args:
        suites: names, default all of them unless `scm_files` are given.
        scm_files: these form the suite "files".
        methods: names, default DEFAULT_METHODS (without the policy's if there is no checkpoint).
        observations: rows O before the first intervention; default the suite's own (20, and 3 for
            "cold").
        interventions: K.
        seed: of systems and noise.
        quick: fewer systems a suite.
        make_backend: builds the backend that runs the policy.
        output: folder to keep results in; a second call with the same settings goes on where the
            first stopped.
        workers: processes for the baselines, on this machine.
        executor: "local", or "dask" for the workers of a Dask scheduler.
        scheduler: its address; None starts one here with `workers` processes.
        on_cell: called with (suite, method, steps done, steps) after each step: a cell that is
            played, and later its decisions timed. What was kept from before is no step.
    """

    suites: Sequence[str] = ()
    scm_files: Sequence[str | Path] = ()
    methods: Sequence[str] = ()
    observations: int | None = None
    interventions: int = 20
    seed: int = 0
    quick: bool = False
    make_backend: Callable[[Config], AnyBackend] = ReferenceBackend
    output: str | Path | None = None
    workers: int = 1
    executor: str = "local"
    scheduler: str | None = None
    on_cell: Callable[[str, str, int, int], None] | None = None


def evaluate(
    checkpoint: Checkpoint | str | Path | None = None, settings: EvaluationSettings | None = None, **changes: Any
) -> Report:
    """Compare methods on suites.

    Args:
        checkpoint: the policy; may be None if no method needs it.
        settings: see EvaluationSettings.
        changes: fields of the settings, as keywords.
    Returns:
        the report: {"format", "settings", "suites": [{"name", "scms", "clusters", "observations",
        "methods": {method: metrics}}]}.
    Raises:
        AcboError: unknown names, unreadable files, numbers out of range, a folder of other
            settings, no Dask.
        RunError: cells whose worker died, and died again when they ran alone; all others are
            finished and kept.
    """
    known = [f.name for f in fields(EvaluationSettings)]
    for name in changes:
        if name not in known:
            raise AcboError(f"evaluate has no setting {name!r}", did_you_mean(name, known))
    settings = replace(settings or EvaluationSettings(), **changes)
    loaded = load_checkpoint(checkpoint) if isinstance(checkpoint, (str, Path)) else checkpoint
    settings = checked(settings, loaded is not None)
    backend = settings.make_backend(loaded.config) if loaded is not None else None
    asked = {
        "checkpoint_sha256": loaded.sha256 if loaded is not None else None,
        "decision": loaded.config.decision if loaded is not None else None,
        "backend": backend.name if backend is not None else None,
        "observations": settings.observations,
        "interventions": settings.interventions,
        "seed": settings.seed,
        "quick": settings.quick,
        "methods": list(settings.methods),
        "suites": list(settings.suites),
    }
    cells = _cells(settings)
    store = None
    if settings.output is not None:
        code = None if backend is None else type(backend)
        store = Store(Path(settings.output), asked, settings.scm_files, code)
    results = _all_results(settings, cells, store, backend, loaded)
    report = {"format": FORMAT, "settings": asked, "suites": _summaries(settings, results)}
    if store is not None:
        store.finish(report, cells, results)
    return report


def checked(settings: EvaluationSettings, has_policy: bool) -> EvaluationSettings:
    """The settings with suites and methods filled in, old names of methods replaced.

    Raises:
        AcboError: unknown names, unreadable files, numbers out of range, no Dask.
    """
    observations, interventions = settings.observations, settings.interventions
    if (observations is not None and observations < 0) or interventions < 1:
        raise AcboError(
            f"observations {observations} and interventions {interventions}", "observations >= 0, interventions >= 1"
        )
    if not 0 <= settings.seed < 2**63:
        raise AcboError(f"seed is {settings.seed}", "0 <= seed < 2**63")
    check_executor(settings.executor, settings.scheduler)
    default = [m for m in DEFAULT_METHODS if has_policy or not is_policy(m)]
    methods = list(dict.fromkeys(RENAMED_METHODS.get(m, m) for m in settings.methods)) or default
    for method in methods:
        if is_policy(checked_method(method)) and not has_policy:
            raise AcboError(f"method {method!r} needs a checkpoint", "give --checkpoint, or other --methods")
    suites = list(dict.fromkeys(settings.suites)) or ([] if settings.scm_files else list(SUITES))
    for name in suites:
        if name not in SUITES:
            raise AcboError(f"no suite named {name!r}", did_you_mean(name, SUITES))
    if settings.scm_files:
        files_suite(settings.scm_files)  # an unreadable file is reported before any work
        suites.append(FILES)
    return replace(settings, suites=suites, methods=methods)


def _cells(settings: EvaluationSettings) -> list[Cell]:
    return [
        Cell(
            suite, method, settings.seed, settings.quick, observations_of(suite, settings.observations),
            settings.interventions, tuple(map(str, settings.scm_files)),
        )
        for suite in settings.suites
        for method in settings.methods
    ]  # fmt: skip


def _summaries(settings: EvaluationSettings, results: dict[tuple[str, str], MethodResults]) -> list[Document]:
    return [
        {
            "name": suite,
            "scms": len(results[suite, settings.methods[0]].variable),
            "clusters": len(set(results[suite, settings.methods[0]].clusters)),
            "observations": observations_of(suite, settings.observations),
            "methods": {method: summarise(results[suite, method]) for method in settings.methods},
        }
        for suite in settings.suites
    ]


def _all_results(
    settings: EvaluationSettings,
    cells: Sequence[Cell],
    store: Store | None,
    backend: AnyBackend | None,
    loaded: Checkpoint | None,
) -> dict[tuple[str, str], MethodResults]:
    """Results of every cell. Once all are there and no worker runs, decisions are timed, a cell
    after another: timings taken beside other work say nothing.

    Raises:
        RunError: some were given up.
    """
    apart = settings.workers > 1 or settings.executor != "local"
    open_helpers = partial(open_workers, settings.executor, settings.workers, settings.scheduler) if apart else None
    results: dict[tuple[str, str], MethodResults] = {}
    given_up: list[str] = []
    for cell in cells:
        kept = store.load(cell) if store is not None else None
        if kept is not None:
            results[cell.suite, cell.method] = kept
    missing = [cell for cell in cells if (cell.suite, cell.method) not in results]
    steps = 2 * len(missing) + sum(not result.seconds for result in results.values())
    done = count(1)

    def step(cell: Cell, words: str = "") -> None:
        if settings.on_cell is not None:
            settings.on_cell(cell.suite, cell.method + words, next(done), steps)

    for cell, result in _run(missing, store, backend, loaded, open_helpers):
        if result is None:
            given_up.append(f"{cell.suite}--{cell.method}")
        else:
            results[cell.suite, cell.method] = result
        step(cell)
    if given_up:
        raise RunError(
            f"not finished, because their workers died twice: {', '.join(sorted(given_up))}",
            "workers often die for want of memory: try fewer at a time. "
            + ("The same command tries these again" if store is not None else "With --output all others would be kept"),
        )
    state = backend.from_host(loaded.state) if backend is not None and loaded is not None else None
    for cell in cells:
        result = results[cell.suite, cell.method]
        if not result.seconds:
            result.seconds = cell.time(result, backend, state)
            if store is not None:
                store.save(cell, result)
            step(cell, ", timed alone")
    return results


def _run(
    missing: Sequence[Cell],
    store: Store | None,
    backend: AnyBackend | None,
    loaded: Checkpoint | None,
    open_helpers: Callable[[], AbstractContextManager[Workers]] | None,
) -> Iterator[_Finished]:
    """Finished cells as they come: the policy's here and the baselines' by the helpers."""
    apart = [c for c in missing if c.method in BASELINES] if open_helpers is not None else []

    def keep(cell: Cell, result: MethodResults | None) -> _Finished:
        if store is not None and result is not None:
            store.save(cell, result)
        return cell, result

    def here() -> Iterator[_Finished]:
        state = backend.from_host(loaded.state) if backend is not None and loaded is not None else None
        for cell in missing:
            if cell not in apart:
                yield keep(cell, cell.run(backend, state))

    if not apart or open_helpers is None:
        yield from here()
        return
    # the longest first: many variables, slow methods
    apart.sort(key=lambda c: (c.method not in ("gp", "optuna"), c.suite != "wide"))
    finished: Queue[_Finished | BaseException] = Queue()

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
