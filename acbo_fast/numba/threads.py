"""Threads: a batch is cut into parts of whole episodes, and each thread takes the next part, with
an arena of its own.

How a batch is cut depends on its shape alone, and what the parts give is added in their order, so
no result depends on the number of threads. BLAS is held to one thread meanwhile: two levels of
threads on the same cores wait for each other (a training iteration took 50 times as long). Both
kernels and products run without Python's lock.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import Any, TypeVar

import numba
import numpy as np
from threadpoolctl import ThreadpoolController

Result = TypeVar("Result")

# Tokens below which a part is not worth a thread: Python's own work for it, about a millisecond, is
# not shared.
TOKENS_A_PART = 500
MOST_PARTS = 16


def parts(num_episodes: int, tokens_an_episode: int) -> list[slice]:
    """Consecutive slices of the episodes, of nearly equal size."""
    wanted = num_episodes * tokens_an_episode // TOKENS_A_PART
    count = max(1, min(wanted, MOST_PARTS, num_episodes))
    edges = [round(i * num_episodes / count) for i in range(count + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


@functools.cache
def _controller() -> Any:
    return ThreadpoolController().select(user_api="blas")


class _OneBlasThread:
    """Products run on the calling thread alone, until the last of those who asked for it has
    left.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._limits = threading.Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._limits.enter_context(_controller().limit(limits=1))
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._limits.close()


one_blas_thread = _OneBlasThread()


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(numba.config.NUMBA_NUM_THREADS, thread_name_prefix="acbo")  # type: ignore[attr-defined]


def run(function: Callable[[int], Result], count: int) -> list[Result]:
    """[function(0), ..., function(count - 1)], on numba.get_num_threads() threads; all have ended
    when it returns or raises.
    """
    num_threads = min(count, numba.get_num_threads())
    if num_threads <= 1:
        return [function(i) for i in range(count)]
    settings, numbers, lock = np.geterr(), iter(range(count)), threading.Lock()

    def work() -> list[tuple[int, Result]]:
        done: list[tuple[int, Result]] = []
        with np.errstate(**settings):  # the caller's: NumPy keeps it by thread
            while True:
                with lock:
                    i = next(numbers, None)
                if i is None:
                    return done
                done.append((i, function(i)))

    futures = [_pool().submit(work) for _ in range(num_threads)]
    try:
        wait(futures)
    except BaseException:  # Ctrl-C: nobody may go on writing
        wait(futures)
        raise
    return [
        result for _, result in sorted((pair for future in futures for pair in future.result()), key=lambda p: p[0])
    ]
