"""Arrays that are made once and used again: after the first call with each shape, nothing is
allocated.

Contract: `workspace(name, *shape)` gives an array to write to, whatever it held; two names never
share memory, one name with two shapes does. `workspace.kept(name, *shape)` gives what was written
there, and refuses a name or shape that nobody asked for before: a backward pass reads what the
forward pass kept, and a misspelt name is an error.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from acbo_ref.arrays import Array


class Workspace:
    """See above; arrays have `dtype` unless asked for with another."""

    def __init__(self, dtype: DTypeLike) -> None:
        self._dtype = np.dtype(dtype)
        self._memory: dict[tuple[str, Any], Array] = {}
        self._views: dict[tuple[Any, ...], Array] = {}

    def __call__(self, name: str, *shape: int, dtype: DTypeLike | None = None) -> Array:
        key = (name, shape, dtype)
        view = self._views.get(key)
        return self._make(key) if view is None else view

    def _make(self, key: tuple[Any, ...]) -> Array:
        name, shape, dtype = key
        size, owner = math.prod(shape), (name, dtype)
        if owner not in self._memory or self._memory[owner].size < size:
            self._memory[owner] = np.empty(size, self._dtype if dtype is None else dtype)
            self._views = {k: v for k, v in self._views.items() if (k[0], k[2]) != owner}
        view = self._memory[owner][:size].reshape(shape)
        self._views[key] = view
        return view

    def kept(self, name: str, *shape: int, dtype: DTypeLike | None = None) -> Array:
        """The array that an earlier call with this name and shape gave.

        Raises:
            KeyError: there was none.
        """
        view = self._views.get((name, shape, dtype))
        if view is None:
            raise KeyError(f"nothing was kept as {name!r} of shape {shape}")
        return view

    def zeros(self, name: str, *shape: int) -> Array:
        """The array, set to 0."""
        array = self(name, *shape)
        array.fill(0)
        return array
