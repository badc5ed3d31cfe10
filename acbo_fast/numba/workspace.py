"""Arrays that are made once and used again: after the first call with each shape, nothing is allocated.

Contract: `workspace(name, *shape)` gives the array of that name, whatever it held; two names never share memory, one name
with two shapes does.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Workspace:
    """See above; arrays have `dtype` unless asked for with another."""

    def __init__(self, dtype: Any) -> None:
        self._dtype = np.dtype(dtype)
        self._memory: dict[tuple[str, Any], Array] = {}
        self._views: dict[tuple[Any, ...], Array] = {}

    def __call__(self, name: str, *shape: int, dtype: Any = None) -> Array:
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

    def zeros(self, name: str, *shape: int) -> Array:
        """The array, set to 0."""
        array = self(name, *shape)
        array.fill(0)
        return array
