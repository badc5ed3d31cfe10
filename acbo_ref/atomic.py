"""Writing files so that a reader, or a crash, sees the old content or the new and never a part.

Contract: temporary file in the same folder, flush, fsync, rename, fsync of the folder (POSIX rename is atomic).
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from acbo_ref.errors import RunError


def write_atomically(path: str | Path, data: bytes, replace: bool = True) -> None:
    """Replace the file at `path` by `data`; its folder is created if need be.

    Raises:
        FileExistsError: the file is there and `replace` is false: of several processes one creates it.
        RunError: the disk is full or the place cannot be written; the old file, if any, is untouched.
    """
    path = Path(path)
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp gives 0600
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
            os.unlink(temporary)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        if isinstance(error, FileExistsError) and not replace:
            raise
        raise RunError(
            f"cannot write {path}: {error.strerror or error}", "free space or choose another --output; nothing was lost"
        ) from error
