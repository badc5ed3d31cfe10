"""Checkpoints: one .npz of plain arrays and a JSON header. Nothing is ever unpickled.

    header                       JSON as uint8: format, config, seed, iteration, progress, versions,
                                 sha256
    params/NAME                  parameters
    first_moment/NAME, second_moment/NAME       Adam's moments, absent in a weights-only file

Contract: written atomically (files.py). Reading either gives what was written or raises an
`AcboError` that names the
file and what is wrong: every member's name, dtype, shape and size is checked against the config in
the header before an array is read, and the SHA-256 of header and arrays after. So a hostile file
costs no more memory than an honest one.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import zipfile
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from acbo_ref.arrays import Array, Params
from acbo_ref.config import Config, config_from_dict
from acbo_ref.errors import AcboError
from acbo_ref.files import Document, write_atomically
from acbo_ref.grpo.optim import OptimiserState
from acbo_ref.policy.network import parameter_shapes
from acbo_ref.version import __version__

FORMAT = "acbo-checkpoint/4"
# Formats of policies that read rows with evidence, or had no edge head, no local evidence, no
# channels of curvature, or a policy head that read the evidence.
GONE = ("acbo-checkpoint/1", "acbo-checkpoint/2", "acbo-checkpoint/3")
MAX_HEADER_BYTES = 4 * 2**20
# An .npy member is its data and a short text header.
_NPY_SLACK = 4096
_GROUPS = ("params", "first_moment", "second_moment")


@dataclass(eq=False)
class Checkpoint:
    """A trained state and how it came about.

    Attributes:
        config: the resolved configuration.
        state: parameters and moments as NumPy arrays; `state.step` counts optimiser steps.
        iteration: iterations done.
        progress: plain data of the training loop (episodes, curriculum, best checkpoints, ...).
        versions: of Python, NumPy and acbo when it was written.
        sha256: of header and arrays; identifies the checkpoint.
    """

    config: Config
    state: OptimiserState[Array]
    iteration: int
    progress: Document = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    sha256: str = ""


def versions() -> dict[str, str]:
    """What wrote this file."""

    return {"acbo": __version__, "python": platform.python_version(), "numpy": np.__version__}


def _digest(header: Document, arrays: Params) -> str:
    """SHA-256 over the header (without the hash itself) and every array's name, dtype, shape and
    bytes, in order.
    """
    sha = hashlib.sha256()
    sha.update(json.dumps({k: v for k, v in header.items() if k != "sha256"}, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        sha.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def save_checkpoint(checkpoint: Checkpoint, path: str | Path, moments: bool = True) -> str:
    """Write atomically; returns the SHA-256. With `moments=False` a weights-only file, which cannot
    be resumed.
    """
    state = checkpoint.state
    groups = {"params": state.params}
    if moments:
        groups |= {"first_moment": state.first_moment, "second_moment": state.second_moment}
    arrays = {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}
    header: Document = {
        "format": FORMAT,
        "config": checkpoint.config.to_dict(),
        "seed": checkpoint.config.seed,
        "iteration": checkpoint.iteration,
        "step": state.step,
        "progress": checkpoint.progress,
        "versions": versions(),
    }
    header["sha256"] = _digest(header, arrays)
    buffer = io.BytesIO()
    text = json.dumps(header, sort_keys=True, allow_nan=False).encode()
    savez: Any = np.savez  # its keyword allow_pickle is new in NumPy 2; these arrays are numbers
    savez(buffer, header=np.frombuffer(text, np.uint8), **arrays)
    write_atomically(path, buffer.getvalue())
    return str(header["sha256"])


def checkpoint_path(path: str | Path) -> Path:
    """The file meant by FILE or by a run folder DIR (its latest.npz)."""
    path = Path(path)
    return path / "latest.npz" if path.is_dir() else path


def shipped_policy() -> Path:
    """The policy that comes with the package (docs/model_card.md)."""
    return Path(str(resources.files("acbo_ref") / "pretrained" / "foundation.npz"))


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read and check a checkpoint, from its file or from a run folder.

    Raises:
        AcboError: not there, not a checkpoint, damaged, or from a newer format.
    """
    path = checkpoint_path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive)
    except FileNotFoundError as error:
        raise AcboError(f"no checkpoint at {path}", "give a .npz file or a run folder that has latest.npz") from error
    except AcboError as error:
        raise AcboError(f"{path}: {error.message}", error.hint) from error
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError) as error:
        raise AcboError(
            f"{path}: not a readable checkpoint ({error})", "the file is damaged or is something else; use another one"
        ) from error
    except Exception as error:  # zlib.error, struct.error, UnicodeDecodeError of a member name ...: damage, all of them
        raise AcboError(f"{path}: damaged ({type(error).__name__}: {error})", "use another checkpoint") from error


def _member(archive: zipfile.ZipFile, name: str, largest: int) -> bytes:
    info = archive.getinfo(name + ".npy")
    if info.compress_type != zipfile.ZIP_STORED:  # so the file's own size bounds what is read
        raise AcboError(f"member {name!r} is compressed", "the file was not written by acbo")
    if info.file_size > largest:
        raise AcboError(
            f"member {name!r} claims {info.file_size} bytes, at most {largest} expected", "the file is damaged"
        )
    with archive.open(info) as file:
        data = file.read(largest + 1)
    if len(data) > largest:
        raise AcboError(f"member {name!r} is larger than it claims", "the file is damaged")
    return data


def _array(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: str) -> Array:
    """One array of a known shape and dtype; the .npy header is compared before any data are
    read.
    """
    expected = np.dtype(dtype)
    nbytes = int(np.prod(shape, dtype=np.int64)) * expected.itemsize
    data = io.BytesIO(_member(archive, name, nbytes + _NPY_SLACK))
    version = np.lib.format.read_magic(data)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    found_shape, fortran, found_dtype = read_header(data)
    if found_shape != shape or found_dtype != expected or fortran:
        raise AcboError(
            f"array {name!r} is {found_dtype} {found_shape}, the config asks for {expected} {shape}",
            "the file is damaged, or was made for another policy",
        )
    content = data.read()
    if len(content) != nbytes:
        raise AcboError(f"array {name!r} has {len(content)} bytes, expected {nbytes}", "the file is truncated")
    return np.frombuffer(content, expected).reshape(shape).copy()


def _read(archive: zipfile.ZipFile) -> Checkpoint:
    names = archive.namelist()
    if "header.npy" not in names:
        raise AcboError("no header: not an acbo checkpoint")
    raw = io.BytesIO(_member(archive, "header", MAX_HEADER_BYTES))
    header = json.loads(bytes(np.lib.format.read_array(raw, allow_pickle=False)))
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else None
        if found in GONE:
            hint = (
                "train it again (acbo train --config foundation); a campaign goes on with `acbo campaign upgrade DIR`"
            )
            raise AcboError("this policy is of an architecture that is gone", hint)
        raise AcboError(f"format is {found!r}", f"this version reads {FORMAT!r}")
    config = config_from_dict(header["config"])
    shapes = parameter_shapes(config.policy)
    groups = _GROUPS if any(name.startswith("first_moment/") for name in names) else _GROUPS[:1]
    expected = {f"{group}/{name}": shape for group in groups for name, shape in shapes.items()}
    extra = set(names) - {f"{name}.npy" for name in expected} - {"header.npy"}
    if extra or len(names) != len(set(names)):
        raise AcboError(f"unexpected members: {', '.join(sorted(extra)[:3]) or 'duplicates'}", "the file is damaged")
    for name in expected:
        if f"{name}.npy" not in names:
            raise AcboError(f"array {name!r} is missing", "the file is damaged, or was made for another policy")
    # All arrays of a checkpoint have one dtype; take it from the first and hold the others to it.
    first = io.BytesIO(_member(archive, "params/embed.weight", 8 * int(np.prod(shapes["embed.weight"])) + _NPY_SLACK))
    dtype = np.lib.format.read_array(first, allow_pickle=False).dtype.str
    if dtype not in ("<f4", "<f8"):
        raise AcboError(f"arrays are {dtype}", "expected float32 or float64")
    arrays = {name: _array(archive, name, shape, dtype) for name, shape in expected.items()}
    if _digest(header, arrays) != header.get("sha256"):
        raise AcboError("the SHA-256 does not match the content", "the file was changed or damaged; use another one")
    parts = {group: {name: arrays[f"{group}/{name}"] for name in shapes} for group in groups}
    zeros = {name: np.zeros_like(value) for name, value in parts["params"].items()}
    state = OptimiserState(
        parts["params"],
        parts.get("first_moment", zeros),
        parts.get("second_moment", {name: value.copy() for name, value in zeros.items()}),
        int(header["step"]),
    )
    return Checkpoint(config, state, int(header["iteration"]), header["progress"], header["versions"], header["sha256"])
