"""What the kernels are made of: the decorator, and scalar functions that LLVM can vectorise.

A kernel runs on one thread and without Python's lock; threads take whole episodes (threads.py). Two
things are done for speed. (1) `FASTMATH` lets sums be reordered and a product and a sum be one
instruction, which is what a vectorised dot product needs; NaN and infinity keep their meaning. The
conformance suite holds with it, with the tolerances of acbo_ref/verify.py. (2) `exp` is written
out, since libm's cannot be vectorised: 0.5 ns an element against 5 ns.

Numba promotes float32 with a Python float or int to float64, hence the constants of each dtype.
Inner loops run over `range(n)`, never `range(start, stop)`: of that the compiler cannot see that
its index is not negative, which would count from the end, and does not vectorise it.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

from acbo_ref.errors import RunError
from acbo_ref.files import write_atomically

FASTMATH = {"reassoc", "contract", "nsz"}


def _stamp() -> bytes:
    """Changes with every source file that kernels are made of: this folder, and the rooms that it
    mirrors.
    """
    here = Path(__file__).parent
    rooms = [here, *(here.parents[1] / "acbo_ref" / room for room in ("systems", "policy", "grpo"))]
    sources = [path for room in rooms for path in sorted(room.rglob("*.py"))]
    if not all(any(path.is_relative_to(room) for path in sources) for room in rooms):
        raise RuntimeError(f"a room that kernels are made of is missing: {', '.join(map(str, rooms))}")
    return repr([(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in sources]).encode()


@functools.cache
def forget_stale_kernels(folder: Path) -> None:
    """Delete the kernels kept in a folder if any source file has changed since they were made.

    Numba looks at a kernel's own file only; but a kernel also holds functions and constants of
    other files.
    """
    stamp, kept = _stamp(), folder / "kernels.stamp"
    with contextlib.suppress(OSError, RunError):
        if not kept.is_file() or kept.read_bytes() != stamp:
            for old in [*folder.glob("*.nbi"), *folder.glob("*.nbc")]:
                old.unlink(missing_ok=True)
            write_atomically(kept, stamp)


def _compiled(function: Callable[..., Any], **settings: Any) -> Any:
    dispatcher = njit(cache=True, error_model="numpy", **settings)(function)
    forget_stale_kernels(Path(dispatcher.stats.cache_path))
    return dispatcher


def scalar(function: Callable[..., Any]) -> Any:
    """A function to be inlined into kernels; with the rules of IEEE 754 to the letter."""
    return _compiled(function)


def kernel(function: Callable[..., None]) -> Any:
    """A kernel on arrays: compiled once for each dtype, kept on disk."""
    return _compiled(function, nogil=True, fastmath=FASTMATH)


# ---------------------------------------------------------------------------------------------- exp


def _from_bits32(context: Any, bits: Any) -> Any:
    """The float32 with these bits (int32)."""
    return types.float32(types.int32), lambda c, builder, s, args: builder.bitcast(args[0], ir.FloatType())


def _from_bits64(context: Any, bits: Any) -> Any:
    """The float64 with these bits (int64)."""
    return types.float64(types.int64), lambda c, builder, s, args: builder.bitcast(args[0], ir.DoubleType())


_as_float32: Any = intrinsic(_from_bits32)
_as_float64: Any = intrinsic(_from_bits64)

# exp(x) = 2^n exp(r) with n the integer nearest to x / ln 2, and |r| <= ln 2 / 2, taken off in two
# parts, the first of which has so few digits that n times it is exact (Cody & Waite 1980, ch. 6).
# exp(r) is its Taylor series, up to the first term that is below half a unit in the last place:
# degree 7 for float32 (0.35^8 / 8! = 5e-9), 13 for float64 (4e-18).
_F4, _F8 = np.float32, np.float64
_LOG2_E4, _LOG2_E8 = _F4(1 / math.log(2)), _F8(1 / math.log(2))
_LN2_HIGH4, _LN2_HIGH8 = _F4(0.693359375), _F8(0.693145751953125)
_LN2_LOW4, _LN2_LOW8 = _F4(-2.121944400546905827679e-4), _F8(1.42860682030941723212e-6)
_HALF4, _HALF8, _ZERO4, _ZERO8 = _F4(0.5), _F8(0.5), _F4(0), _F8(0)
# Outside these, 2^n would not be a normal number: the result is 0 below and infinite above.
_LOWEST4, _HIGHEST4, _LOWEST8, _HIGHEST8 = _F4(-87.0), _F4(88.3), _F8(-708.0), _F8(709.4)
_INF4, _INF8 = _F4(np.inf), _F8(np.inf)
_A0, _A1, _A2, _A3, _A4, _A5, _A6, _A7 = (_F4(1 / math.factorial(i)) for i in range(8))
_B0, _B1, _B2, _B3, _B4, _B5, _B6, _B7, _B8, _B9, _B10, _B11, _B12, _B13 = (
    _F8(1 / math.factorial(i)) for i in range(14)
)
_BIAS4, _SHIFT4, _BIAS8, _SHIFT8 = np.int32(127), np.int32(23), np.int64(1023), np.int64(52)


def exp(x: Any) -> Any:
    """e^x of a float32 or float64 scalar inside a kernel, within 2 units in the last place; 0 below
    e^-87 (float64: e^-708), infinite above e^88.3 (e^709.4)."""
    raise NotImplementedError("only inside compiled code")


@overload(exp, jit_options={"fastmath": False})  # reordered, the two parts of ln 2 would be one again
def _exp(x: Any) -> Any:
    def exp32(x: Any) -> Any:
        y = min(max(x, _LOWEST4), _HIGHEST4)
        n = np.int32(y * _LOG2_E4 + (_HALF4 if y >= _ZERO4 else -_HALF4))
        m = np.float32(n)
        r = (y - m * _LN2_HIGH4) - m * _LN2_LOW4
        p = _A0 + r * (_A1 + r * (_A2 + r * (_A3 + r * (_A4 + r * (_A5 + r * (_A6 + r * _A7))))))
        p = p * _as_float32((n + _BIAS4) << _SHIFT4)
        p = _ZERO4 if x < _LOWEST4 else p
        p = _INF4 if x > _HIGHEST4 else p
        return p if x == x else x  # NaN stays NaN

    def exp64(x: Any) -> Any:
        y = min(max(x, _LOWEST8), _HIGHEST8)
        n = np.int32(y * _LOG2_E8 + (_HALF8 if y >= _ZERO8 else -_HALF8))
        m = np.float64(n)
        r = (y - m * _LN2_HIGH8) - m * _LN2_LOW8
        p = _B8 + r * (_B9 + r * (_B10 + r * (_B11 + r * (_B12 + r * _B13))))
        p = _B0 + r * (_B1 + r * (_B2 + r * (_B3 + r * (_B4 + r * (_B5 + r * (_B6 + r * (_B7 + r * p)))))))
        p = p * _as_float64((np.int64(n) + _BIAS8) << _SHIFT8)
        p = _ZERO8 if x < _LOWEST8 else p
        p = _INF8 if x > _HIGHEST8 else p
        return p if x == x else x

    return exp32 if x == types.float32 else exp64


# ---------------------------------------------------------------------------------- other functions


@scalar
def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x); e^-x may be infinite."""
    one = type(x)(1)
    return one / (one + exp(-x))
