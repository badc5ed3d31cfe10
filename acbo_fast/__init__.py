"""acbo_fast: accelerated backends, and the registry that finds them. No mathematics is shared with `acbo_ref`.

Contract: importing this package imports no accelerator; a backend's library is imported when the backend is made, and
its absence is explained in one line.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from acbo_ref.errors import AcboError, did_you_mean

if TYPE_CHECKING:
    from acbo_ref.backend import Backend
    from acbo_ref.config import Config

# name: (module, class, library it needs, extra that installs it), fastest first as measured on `production` on a CPU
# (benchmarks/README.md).
_BACKENDS: dict[str, tuple[str, str, str, str]] = {
    "numba": ("acbo_fast.numba.backend", "NumbaBackend", "numba", "numba"),
    "jax": ("acbo_fast.jax.backend", "JaxBackend", "jax", "jax"),
    "ref": ("acbo_ref.backend", "ReferenceBackend", "numpy", ""),
}

BACKEND_NAMES = tuple(_BACKENDS)


def unavailable(name: str) -> str | None:
    """Why a known backend cannot be used here, in one line; None if it can."""
    _, _, library, extra = _BACKENDS[name]
    if find_spec(library) is None:
        return f"needs {library}: pip install 'acbo[{extra}]'"
    return None


def available() -> list[str]:
    """Names of the backends that can be used here, fastest first for the shipped configs on a CPU."""
    return [name for name in _BACKENDS if unavailable(name) is None]


def default_backend() -> str:
    """The fastest one installed."""
    return available()[0]


def backend_maker(name: str) -> Callable[[Config], Backend]:
    """What builds the backend `name` for a Config.

    Raises:
        AcboError: unknown, or its library is not installed.
    """
    if name not in _BACKENDS:
        raise AcboError(f"no backend named {name!r}", did_you_mean(name, _BACKENDS))
    reason = unavailable(name)
    if reason is not None:
        raise AcboError(f"backend {name!r} {reason} (available here: {', '.join(available())})")
    module, attribute, _, _ = _BACKENDS[name]
    maker: Callable[[Config], Backend] = getattr(import_module(module), attribute)
    return maker
