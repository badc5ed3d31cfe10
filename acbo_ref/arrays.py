"""The types of arrays. Shapes stand in docstrings, in the letters of each module's head.

`Array` is NumPy's. Records that every backend shares (`SCMBatch`, `Trajectories`, ...) are generic
in the kind of array they hold: `SCMBatch[Array]` here, and the same with JAX's arrays there.
"""

from __future__ import annotations

from typing import Any, TypeVar

from numpy.typing import NDArray

Array = NDArray[Any]
A = TypeVar("A")
Params = dict[str, Array]
