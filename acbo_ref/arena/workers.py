"""Where the cells of an arena run: a pool of processes on this machine, or Dask.

Both are a `concurrent.futures.Executor`. What differs is what a dead worker looks like. A pool of
processes is broken by it as a whole, and does not say whose fault it was; Dask says which tasks the
worker had. So a job is never blamed for a worker that died while others were running: it runs once
more, alone, and is given up if its worker dies again.

Contract: results come in any order, each job exactly once; None stands for one that was given up.
"""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import get_context
from typing import Any, Protocol, TypeVar

from acbo_ref.errors import AcboError, RunError, did_you_mean
from acbo_ref.version import install

EXECUTORS = ("local", "dask")
# Give up after this many repeated losses if nothing has finished.
MOST_LOSSES = 3
# How long to look for a scheduler.
CONNECT_SECONDS = 10
Job = TypeVar("Job", bound=Hashable)
Result = TypeVar("Result")


class Workers(Protocol):
    """An executor that survives the death of its workers.

    Attributes:
        width: how many jobs it should be given at a time.
        dead: the exceptions that a job has whose worker died.
        executor: takes jobs.
    """

    width: float
    dead: tuple[type[BaseException], ...]
    executor: Executor

    def renew(self) -> None:
        """Make it fit for work again; jobs still running may be lost."""

    def close(self) -> None:
        """Let go of everything, without waiting for running jobs."""


class LocalWorkers:
    """Processes on this machine, each with one thread of linear algebra."""

    dead: tuple[type[BaseException], ...] = (BrokenProcessPool,)

    def __init__(self, workers: int) -> None:
        self.width: float = workers
        self._closed = False
        self.executor: Executor
        self.renew()

    def renew(self) -> None:
        if self._closed:
            raise RunError("the workers were dismissed")
        # "spawn": a forked copy of a process with an accelerator's threads can hang.
        self.executor = ProcessPoolExecutor(int(self.width), mp_context=get_context("spawn"))

    def close(self) -> None:
        self._closed = True
        self.executor.shutdown(wait=False, cancel_futures=True)


class DaskWorkers:
    """The workers of a Dask scheduler, or of a cluster of processes started for the occasion.

    Args:
        scheduler: its address; None starts `workers` processes here.
    Raises:
        AcboError: the scheduler was not found, or has no workers.
    """

    def __init__(self, scheduler: str | None, workers: int) -> None:
        dask: Any = import_module("dask")
        distributed: Any = import_module("distributed")
        self.width = math.inf  # the scheduler holds the queue
        self.dead: tuple[type[BaseException], ...] = (distributed.KilledWorker,)
        self._cluster = None
        if scheduler is None:
            # a job whose worker died is told at once; trying it again is up to `carry_out`
            with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
                self._cluster = distributed.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    dashboard_address="localhost:0",
                    silence_logs=logging.CRITICAL,
                )
        try:
            self._client = distributed.Client(self._cluster or scheduler, timeout=CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            raise AcboError(
                f"no Dask scheduler at {scheduler}: {error}", "`dask scheduler` prints its address when it starts"
            ) from error
        try:
            self._client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError as error:
            self._client.close()
            raise AcboError(
                f"the Dask scheduler at {scheduler} has no workers",
                f"on each host: dask worker {scheduler} --nworkers auto --nthreads 1",
            ) from error
        self.executor: Executor = self._client.get_executor(pure=False)

    def renew(self) -> None:
        """The scheduler does."""

    def close(self) -> None:
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def check_executor(name: str, scheduler: str | None) -> None:
    """Raises:
    AcboError: no such executor, it is not installed, or a scheduler for one that has none.
    """
    if name not in EXECUTORS:
        raise AcboError(f"no executor named {name!r}", did_you_mean(name, EXECUTORS))
    if scheduler is not None and name != "dask":
        raise AcboError("a scheduler is for the executor 'dask'", "--executor dask --scheduler ADDRESS")
    if name == "dask" and find_spec("distributed") is None:
        raise AcboError("executor 'dask' needs distributed", install("dask"))


@contextmanager
def open_workers(name: str, workers: int, scheduler: str | None) -> Iterator[Workers]:
    """Workers of the kind `name`, one of EXECUTORS.

    Raises:
        AcboError: there are none.
    """
    check_executor(name, scheduler)
    with single_threaded_children():
        opened: Workers = LocalWorkers(workers) if name == "local" else DaskWorkers(scheduler, workers)
        try:
            yield opened
        finally:
            opened.close()


def carry_out(
    jobs: Sequence[Job], function: Callable[[Job], Result], workers: Workers
) -> Iterator[tuple[Job, Result | None]]:
    """function(job) of every job as they finish; None for a job whose worker died twice, the second
    time with no other job running.

    Raises:
        RunError: the workers are gone as a whole, or all jobs lost theirs, and the first
            MOST_LOSSES lose it again.
    """
    lost: list[Job] = []
    given_up: list[Job] = []
    yield from _carry_out(jobs, function, workers, workers.width, lost)
    for tried, job in enumerate(lost, start=1):
        yield from _carry_out([job], function, workers, 1, given_up)
        if tried == len(given_up) == MOST_LOSSES and len(lost) == len(jobs):
            raise RunError(
                "no worker survives its first job", "a script needs `if __name__ == '__main__':`; or is memory short?"
            )
    for job in given_up:
        yield job, None


def _carry_out(
    jobs: Sequence[Job], function: Callable[[Job], Result], workers: Workers, width: float, lost: list[Job]
) -> Iterator[tuple[Job, Result]]:
    """At most `width` at a time; those whose worker died are added to `lost`."""
    waiting, running = deque(jobs), dict[Future[Result], Job]()
    while waiting or running:
        while waiting and len(running) < width:
            job = waiting.popleft()
            try:
                running[workers.executor.submit(function, job)] = job
            except workers.dead:  # a worker died since the last look: what is running will say so
                waiting.appendleft(job)
                if running:
                    break
                workers.renew()
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        died = False
        for future in done:
            job = running.pop(future)
            try:
                result = future.result()
            except workers.dead:
                lost.append(job)
                died = True
            except CancelledError as error:
                raise RunError("the workers are gone", "finished cells are kept where --output was given") from error
            else:
                yield job, result
        if died and not running:
            workers.renew()


@contextmanager
def single_threaded_children() -> Iterator[None]:
    """Processes started inside read these variables before they load NumPy: one thread of linear
    algebra for each, or as many again as there are cores would compete in every one. What the user
    has set stays."""
    added = [name for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS") if name not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
