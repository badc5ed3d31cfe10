"""acbo_fast: accelerated backends, and the registry that finds them.

A backend supplies the rooms `systems`, `policy` and `grpo` of `acbo_ref` again, at the same paths
and under the same names (tests/test_house.py says where it differs, and why). From `acbo_ref` it
takes records, constants, configuration and initial parameters, and for deciding the map to standard
units; the mathematics is its own, so that agreement means something. Two exceptions are the tables
of what is summed: the loss from its terms, and the reward from its.

Contract: importing this package imports no accelerator; a backend's library is imported when the
backend is made, and its absence is explained in one line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from acbo_ref.errors import AcboError, did_you_mean
from acbo_ref.version import install

if TYPE_CHECKING:
    from acbo_ref.backend import AnyBackend
    from acbo_ref.config import Config

# name: (module, class, library it needs, extra that installs it), fastest first as measured on
# `production` on a CPU (benchmarks/README.md).
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
        return f"needs {library}: {install(extra)}"
    return None


def available() -> list[str]:
    """Names of the backends that can be used here, fastest first for the shipped configs on a
    CPU.
    """
    return [name for name in _BACKENDS if unavailable(name) is None]


def default_backend() -> str:
    """The fastest one installed."""
    return available()[0]


def backend_maker(name: str) -> Callable[[Config], AnyBackend]:
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
    maker: Callable[[Config], AnyBackend] = getattr(import_module(module), attribute)
    return maker


def backend_pieces(name: str) -> Mapping[str, Callable[..., Any]]:
    """The backend's single functions by name, for acbo_ref.verify.parity; the reference has none.

    Raises:
        AcboError: as `backend_maker`.
    """
    backend_maker(name)
    if name == "ref":
        return {}
    pieces: Mapping[str, Callable[..., Any]] = import_module(f"acbo_fast.{name}.pieces").PIECES
    return pieces
