"""How a setting is declared and checked: its kind, its range, its meaning, and what to do with what
a user wrote.

A section of a configuration is a frozen dataclass whose fields are made by `setting`. `build` turns
a mapping into such a section, or raises an `AcboError` that names the key, the value, the allowed
range and, for an unknown key, the closest one. A section may list keys that had another name
before, in `RENAMED = {old: new}` (None: the key is gone), and a setting may list such values, in
`renamed={old: new}`; `modernise` translates them and reports each.

Contract: knows no particular setting; those are in config.py.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, TypeVar

from acbo_ref.errors import AcboError, did_you_mean
from acbo_ref.files import Document, read_yaml

Section = TypeVar("Section")


def setting(
    kind: str, default: object, help: str, low: float | None = None, high: float | None = None, **extra: object
) -> Any:  # what dataclasses.field returns
    """A field of a section.

    Args:
        kind: int, float, share, bool, choice, text, range, int_range, names, files, section, or
            sections (a list of them).
        default: a value, or a function that makes one.
        help: one line.
        low, high: the allowed range of a number.
        extra: null=True allows null; choices; renamed={old value: new}; section, the class of each
            item of `sections`.
    """
    metadata = {"kind": kind, "low": low, "high": high, "help": help, **extra}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def build(section: type[Section], document: object, prefix: str = "", base: str | Path = ".") -> Section:
    """An instance of a section's class from a mapping, nested sections included.

    Args:
        section: a dataclass of settings.
        document: plain Python, as read from YAML.
        prefix: key of the section, for messages.
        base: folder that relative file names refer to.
    Raises:
        AcboError: an unknown key, or a value that is not allowed.
    """
    if isinstance(document, section):
        return document
    given: object = {} if document is None else document
    if not isinstance(given, Mapping):
        raise AcboError(f"{prefix or 'the config'} is not a mapping of keys to values")
    known = {f.name: f for f in dataclasses.fields(section)}  # type: ignore[arg-type]  # a dataclass, see above
    values: dict[str, object] = {}
    for name, value in given.items():
        key = f"{prefix}.{name}" if prefix else str(name)
        if name not in known:
            raise AcboError(f"unknown key {key!r}", did_you_mean(str(name), known))
        values[name] = _checked(value, key, known[name], Path(base))
    return section(**values)


def _checked(value: object, key: str, declared: dataclasses.Field[object], base: Path) -> object:
    """One value of a known key, converted and checked."""
    meta = declared.metadata
    if meta["kind"] == "section":
        return build(_section_class(declared), value, key, base)
    if meta["kind"] == "sections":
        if not isinstance(value, (list, tuple)) or not value:
            raise AcboError(f"{key} is not a list of {key.rpartition('.')[2]}", "give at least one")
        return tuple(build(meta["section"], v, f"{key}[{n}]", base) for n, v in enumerate(value))
    if value is None and meta.get("null"):
        return None
    return _CHECKS[meta["kind"]](value, key, meta, base)


def _section_class(declared: dataclasses.Field[object]) -> type:
    factory: object = declared.default_factory
    assert isinstance(factory, type)
    return factory


# ----------------------------------------------------------------------------------- checks by kind

_Meta = Mapping[str, Any]


def shown_range(low: float | None, high: float | None) -> str:
    """[low, high], for messages."""
    return f"[{'-inf' if low is None else f'{low:g}'}, {'inf' if high is None else f'{high:g}'}]"


def _number(value: object, key: str, meta: _Meta) -> float:
    low, high = meta["low"], meta["high"]
    number = value
    if isinstance(number, str):  # YAML 1.1 reads 5e-4 as text
        try:
            number = float(number)
        except ValueError:
            number = None
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise AcboError(f"{key} is {value!r}, not a number", f"allowed: {shown_range(low, high)}")
    if isinstance(number, int) and abs(number) > 2**1000:
        raise AcboError(f"{key} is too large", f"allowed: {shown_range(low, high)}")
    if not (low is None or number >= low) or not (high is None or number <= high):  # also false for NaN
        raise AcboError(f"{key} is {value}, outside the allowed range {shown_range(low, high)}")
    return number


def _float(value: object, key: str, meta: _Meta, base: Path) -> float:
    return float(_number(value, key, meta))


def _int(value: object, key: str, meta: _Meta, base: Path) -> int:
    number = _number(value, key, {**meta, "low": None, "high": None})
    if not math.isfinite(number) or number != int(number):
        allowed = shown_range(meta["low"], meta["high"])
        raise AcboError(f"{key} is {value!r}, not a whole number", f"allowed: {allowed}")
    return int(_number(int(number), key, meta))


def _share(value: object, key: str, meta: _Meta, base: Path) -> float:
    """true and false read naturally where a share is meant."""
    return float(_number(float(value) if isinstance(value, bool) else value, key, meta))


def _bool(value: object, key: str, meta: _Meta, base: Path) -> bool:
    if not isinstance(value, bool):
        raise AcboError(f"{key} is {value!r}", "write true or false")
    return value


def _choice(value: object, key: str, meta: _Meta, base: Path) -> object:
    if value not in meta["choices"]:
        hint = did_you_mean(str(value), meta["choices"]) if isinstance(value, str) else ""
        raise AcboError(f"{key} is {value!r}, allowed: {', '.join(meta['choices'])}", hint)
    return value


def _text(value: object, key: str, meta: _Meta, base: Path) -> str:
    if not isinstance(value, str) or not value or "/" in value or len(value) > 100 or not value.isprintable():
        raise AcboError(f"{key} is {value!r}", "give a short text without '/'")
    return value


def _range(value: object, key: str, meta: _Meta, base: Path) -> tuple[float, float]:
    """[low, high]; one number stands for both ends."""
    pair = value if isinstance(value, (list, tuple)) else [value, value]
    if len(pair) != 2:
        raise AcboError(f"{key} is {value!r}", "give a number or [low, high]")
    convert = _int if meta["kind"] == "int_range" else _float
    first, second = (convert(v, key, meta, base) for v in pair)
    if first > second:
        raise AcboError(f"{key} is {value!r}: low is above high", "write [low, high]")
    return first, second


def _names(value: object, key: str, meta: _Meta, base: Path) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(v, str) for v in value):
        raise AcboError(f"{key} is {value!r}", "give a list of names")
    return tuple(value)


def _files(value: object, key: str, meta: _Meta, base: Path) -> dict[str, tuple[str, ...]]:
    """Named lists of files, relative ones to the folder `base`."""
    if not isinstance(value, Mapping):
        raise AcboError(f"{key} is {value!r}", "write {name: [file, ...]}")
    found = {}
    for name, paths in value.items():
        if not isinstance(paths, (list, tuple)) or not paths or not all(isinstance(p, str) for p in paths):
            raise AcboError(f"{key}.{name} is {paths!r}", "give a list of SCM files")
        found[str(name)] = tuple(str((base / p).absolute()) for p in paths)
    return found


_CHECKS: dict[str, Callable[[object, str, _Meta, Path], object]] = {
    "int": _int, "float": _float, "share": _share, "bool": _bool, "choice": _choice, "text": _text,
    "range": _range, "int_range": _range, "names": _names, "files": _files,
}  # fmt: skip


# ---------------------------------------------------------------------------- there, back, and help


def to_plain(value: object) -> Any:  # plain data is JSON's, which has no type of its own
    """Plain Python that `build` turns back into an equal section."""
    if dataclasses.is_dataclass(value):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {k: to_plain(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return [to_plain(v) for v in value]
    return value


def modernise(
    section: type, document: object, on_renamed: Callable[[str], None] | None = None, prefix: str = ""
) -> Any:  # plain data again
    """A copy of `document` in which keys and values that had another name before have today's.

    Args:
        on_renamed: called with a sentence about each of them.
    Raises:
        AcboError: old and new name of a key are both given.
    """
    if not isinstance(document, Mapping):
        return document
    say = on_renamed if on_renamed is not None else lambda message: None
    renamed: Mapping[str, str | None] = getattr(section, "RENAMED", {})
    known = {f.name: f for f in dataclasses.fields(section)}
    found: dict[str, object] = {}
    for written, value in document.items():
        name, key = renamed.get(written, written), f"{prefix}{written}"
        if name is None:
            say(f"{key} does nothing any more: remove it")
            continue
        if name != written:
            say(f"{key} is called {prefix}{name} now")
            if name in document:
                raise AcboError(f"{key} is the old name of {prefix}{name}, and both are given", f"keep {prefix}{name}")
        found[name] = value
        if name in known:
            found[name] = _modern_value(known[name], value, say, f"{prefix}{name}")
    return found


def _modern_value(declared: dataclasses.Field[object], value: object, say: Callable[[str], None], key: str) -> object:
    meta = declared.metadata
    if meta["kind"] == "section":
        return modernise(_section_class(declared), value, say, f"{key}.")
    if meta["kind"] == "sections" and isinstance(value, (list, tuple)):
        return [modernise(meta["section"], v, say, f"{key}[{n}].") for n, v in enumerate(value)]
    if isinstance(value, str) and value in meta.get("renamed", {}):
        say(f"{key}: {value} is called {meta['renamed'][value]} now")
        return meta["renamed"][value]
    return value


def read_overrides(overrides: Sequence[str]) -> dict[str, object]:
    """`section.key=value` texts as one nested document; values are read as YAML.

    Raises:
        AcboError: not KEY=VALUE.
    """
    document: dict[str, object] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise AcboError(f"--set {text!r} is not KEY=VALUE", "for example --set grpo.learning_rate=1e-3")
        try:
            nested: object = read_yaml(value)
        except ValueError as error:
            raise AcboError(f"--set {text!r}: the value is not valid YAML") from error
        for part in reversed(key.split(".")):
            nested = {part: nested}
        assert isinstance(nested, dict)
        document = merged(document, nested)
    return document


def merged(document: Document, changes: Document, prefix: str = "") -> Document:
    """A copy of `document` with `changes` laid over it, section by section; lists are replaced
    whole.

    Raises:
        AcboError: a change goes into something that is not a section.
    """
    result = dict(document)
    for key, value in changes.items():
        before = result.get(key)
        if isinstance(value, dict) and before is not None:
            if not isinstance(before, dict):
                raise AcboError(f"{prefix}{key} is not a section", "lists are set whole: KEY=[...]")
            value = merged(before, value, f"{prefix}{key}.")
        result[key] = value
    return result


def describe(section: type, prefix: str = "") -> list[tuple[str, str, str, str]]:
    """(key, default, allowed, help) of every setting."""
    rows = []
    for f in dataclasses.fields(section):
        key, meta = prefix + f.name, f.metadata
        if meta["kind"] == "section":
            rows += describe(_section_class(f), key + ".")
        elif meta["kind"] == "sections":
            assert callable(f.default_factory)
            rows.append((key, f"{len(f.default_factory())} of them", "list", meta["help"]))
            rows += describe(meta["section"], key + "[i].")
        else:
            default = f.default if f.default is not dataclasses.MISSING else {}
            allowed = ", ".join(meta.get("choices", ())) or (
                shown_range(meta["low"], meta["high"]) if meta["low"] is not None else meta["kind"]
            )
            rows.append((key, "null" if default is None else str(to_plain(default)), allowed, meta["help"]))
    return rows
