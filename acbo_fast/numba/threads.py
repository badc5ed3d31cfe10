"""Threads: a batch is cut into parts of whole episodes, and each thread takes the next part, with an arena of its own.

How a batch is cut depends on its shape alone, and what the parts give is added in their order, so no result depends on the
number of threads. BLAS is held to one thread meanwhile: two levels of threads on the same cores wait for each other (a
training iteration took 50 times as long). Both kernels and products run without Python's lock.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numba
from threadpoolctl import ThreadpoolController

Result = TypeVar("Result")

# Tokens below which a part is not worth a thread: Python's own work for it, about a millisecond, is not shared.
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


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Products run on the calling thread alone."""
    with _controller().limit(limits=1):
        yield


@functools.cache
def _pool(num_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num_threads, thread_name_prefix="acbo")


def run(function: Callable[[int], Result], items: Sequence[Any]) -> list[Result]:
    """[function(0), function(1), ...] for as many calls as there are items, on numba.get_num_threads() threads."""
    num_threads = min(len(items), numba.get_num_threads())
    if num_threads <= 1:
        return [function(i) for i in range(len(items))]
    return list(_pool(num_threads).map(function, range(len(items))))
