"""Reading and writing files: written atomically, and YAML as plain data.

`write_atomically` lets a reader, or a crash, see the old content or the new and never a part of
either: a temporary file in the same folder, flush, fsync, rename, fsync of the folder (a POSIX
rename is atomic). `read_yaml` gives what `yaml.safe_load` gives, but refuses aliases (a few lines
of them can stand for terabytes, or for themselves) and a key given twice (one of the two values
would be lost silently).

Contract: knows nothing of what the files are for.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import yaml

from acbo_ref.errors import RunError


def write_atomically(path: str | Path, data: bytes, replace: bool = True) -> None:
    """Replace the file at `path` by `data`; its folder is created if need be.

    Raises:
        FileExistsError: the file is there and `replace` is false: of several processes one creates
            it.
        RunError: the disk is full or the place cannot be written; the old file, if any, is
            untouched.
    """
    path = Path(path)
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        name = str(path.parent / f".{path.name}.{secrets.token_hex(8)}.tmp")
        # 0666 less the umask, as `open` would give: nothing of the process is touched
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        temporary = name
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
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


# JSON and YAML as plain data: nested, and without a type of its own.
Document = dict[str, Any]


class _PlainLoader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem=f"alias *{event.anchor}: aliases are not read", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                if key_node.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"key {key_node.value!r} is given twice", problem_mark=key_node.start_mark
                    )
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def read_yaml(text: str) -> object:
    """Plain Python from YAML text.

    Raises:
        ValueError: not YAML, nested too deeply, with aliases, or with a key given twice.
    """
    try:
        loader = _PlainLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
