"""Matrix products at full speed: which kernels OpenBLAS is told to take, before NumPy loads it.

The OpenBLAS that NumPy ships takes AMD processors with AVX-512 for ones without it, and runs at
half their speed. From Python the same is `OPENBLAS_CORETYPE=SkylakeX python ...`; a user's own
setting is left alone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# What the kernels named SkylakeX need.
_NEEDED = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}


def core_type(processor: str) -> str | None:
    """The value for OPENBLAS_CORETYPE from the text of /proc/cpuinfo, or None for what OpenBLAS
    finds by itself: other makers' processors it knows.
    """
    fields = dict(line.split(":", 1) for line in processor.splitlines() if ":" in line)
    found = {name.strip(): value.split() for name, value in fields.items()}
    amd = found.get("vendor_id") == ["AuthenticAMD"]
    return "SkylakeX" if amd and set(found.get("flags", [])) >= _NEEDED else None


def choose_kernels(cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Set OPENBLAS_CORETYPE for this process and its children, if NumPy is not loaded yet and
    nobody has set it.
    """
    if "numpy" in sys.modules or "OPENBLAS_CORETYPE" in os.environ:
        return
    try:
        chosen = core_type(cpuinfo.read_text())
    except OSError:  # not Linux
        return
    if chosen is not None:
        os.environ["OPENBLAS_CORETYPE"] = chosen
