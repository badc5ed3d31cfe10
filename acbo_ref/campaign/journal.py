"""An append-only journal: one JSON entry a line, and nothing that was written is ever lost or half
read.

    {"n": 3, "sha256": "9f86d081884c7d65", "entry": {...}}

`n` counts lines from 0 and the hash is of the entry's text, so that a lost, doubled or altered line
is noticed. Writers hold an exclusive advisory lock (flock) from reading to fsync, so processes
cannot interleave; readers hold a shared one and never write. A last line without its line feed is
what a crash in the middle of a write leaves: it is reported, ignored, and cut off by the next
writer. Any other line that cannot be read is damage, and an error.

Contract: knows nothing of what entries mean. POSIX (flock).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, NoReturn

from acbo_ref.errors import AcboError, RunError
from acbo_ref.files import Document, write_atomically

Entry = Document
MAX_BYTES = 256 * 2**20


def _line(n: int, entry: Entry) -> bytes:
    text = json.dumps(entry, sort_keys=True, allow_nan=False)
    return f'{{"n": {n}, "sha256": "{_digest(text)}", "entry": {text}}}\n'.encode()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")


def _parse(line: bytes, n: int) -> Entry:
    """The entry of one whole line.

    Raises:
        ValueError: not such a line, or not number n.
    """
    document = json.loads(line, parse_constant=_refuse)
    if not isinstance(document, dict) or set(document) != {"n", "sha256", "entry"}:
        raise ValueError("not a journal entry")
    if not isinstance(document["entry"], dict):
        raise ValueError("its entry is not an object")
    if document["sha256"] != _digest(json.dumps(document["entry"], sort_keys=True)):
        raise ValueError("its hash does not match its content")
    if document["n"] != n:
        raise ValueError(f"it is number {document['n']}: an entry is missing or doubled")
    entry: Entry = document["entry"]
    return entry


class Journal:
    """The journal at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    def create(path: Path, entries: Sequence[Entry]) -> None:
        """A new journal with its first entries, all or nothing.

        Raises:
            AcboError: there is one already.
            RunError: it cannot be written.
        """
        data = b"".join(_line(n, entry) for n, entry in enumerate(entries))
        try:
            write_atomically(path, data, replace=False)
        except FileExistsError as error:
            raise AcboError(f"{path.parent} has a journal already", "choose another folder") from error

    def read(self) -> tuple[list[Entry], bytes]:
        """All entries, and the torn last line if there is one (else empty). Never writes."""
        with self._open("rb", fcntl.LOCK_SH) as file:
            entries, _, torn = self._read(file)
            return entries, torn

    def update(self, decide: Callable[[list[Entry]], Entry | None]) -> None:
        """Read, call `decide` on the entries, and append the entry it returns, under one lock.

        Whatever `decide` raises leaves the journal as it was.

        Raises:
            RunError: the entry could not be written; the journal is as it was.
        """
        with self._open("r+b", fcntl.LOCK_EX) as file:
            entries, end, _ = self._read(file)
            entry = decide(entries)
            if entry is None:
                return
            try:
                file.seek(end)
                file.truncate()  # a torn line
                rest = memoryview(_line(len(entries), entry))
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError as error:
                with contextlib.suppress(OSError):  # if that fails too, the part that was written is a torn line
                    os.ftruncate(file.fileno(), end)
                raise RunError(
                    f"cannot write {self.path}: {error.strerror or error}",
                    "free space; nothing was recorded, try again",
                ) from error

    def _open(self, mode: str, lock: int) -> IO[bytes]:
        try:
            file = open(self.path, mode, buffering=0)  # noqa: SIM115 - the caller's `with` closes it
            fcntl.flock(file, lock)
            return file
        except FileNotFoundError as error:
            raise AcboError(f"no campaign at {self.path.parent}", "create one with `acbo campaign new`") from error
        except OSError as error:
            raise AcboError(
                f"cannot open and lock {self.path}: {error.strerror or error}", "its file system must have flock"
            ) from error

    def _read(self, file: IO[bytes]) -> tuple[list[Entry], int, bytes]:
        """(entries, byte at which they end, torn rest)."""
        if os.fstat(file.fileno()).st_size > MAX_BYTES:
            raise AcboError(f"{self.path} is larger than {MAX_BYTES // 2**20} MiB", "this is no campaign's journal")
        file.seek(0)
        data = file.read()
        lines = [line + b"\n" for line in data.split(b"\n")]
        lines[-1] = lines[-1][:-1]  # what follows the last line feed: nothing, or a torn line
        if not lines[-1]:
            lines.pop()
        entries: list[Entry] = []
        end = 0
        for n, line in enumerate(lines):
            if not line.endswith(b"\n"):  # only the last can be
                return entries, end, line
            try:
                entries.append(_parse(line, n))
            except (ValueError, RecursionError) as error:
                raise AcboError(
                    f"{self.path}, line {n + 1}: {error}", "the journal is damaged; restore it from a backup"
                ) from error
            end += len(line)
        return entries, end, b""
