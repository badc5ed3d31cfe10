"""Reading and writing SCM files, format `acbo-scm/1`, as JSON or YAML.

    {"format": "acbo-scm/1", "name", "target", "direction",
     "variables": [{"name", "intercept", "noise_std", "low", "high", "manipulable"}],
     "edges": [{"from", "to", "weight"}],
     "saturate": false,                                                          (optional)
     "sines": [{"variable", "amplitude", "phase", "frequencies": {"parent": 1.0}}]}  (optional)

Contract: a file either gives an `SCM` or an `AcboError` that names file, place and fix. Nothing is executed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from acbo_ref.atomic import write_atomically
from acbo_ref.documents import read_yaml
from acbo_ref.errors import AcboError, did_you_mean
from acbo_ref.scm import SCM, Sine, Variable

FORMAT = "acbo-scm/1"
# A model of 1,000 variables with all edges is about 60 MB; a file beyond this is not an SCM. Models are dense matrices. YAML
# takes seconds a megabyte to read.
MAX_FILE_BYTES, MAX_YAML_BYTES, MAX_VARIABLES = 64 * 2**20, 2**20, 2_000

_TOP = ("format", "name", "target", "direction", "variables", "edges", "saturate", "sines")
_VARIABLE = ("name", "intercept", "noise_std", "low", "high", "manipulable")
_EDGE = ("from", "to", "weight")
_SINE = ("variable", "amplitude", "phase", "frequencies")


def load_scm(path: str | Path) -> SCM:
    """Read one SCM file (JSON, or YAML by suffix .yaml/.yml).

    Raises:
        AcboError: the file is missing, too large, not JSON/YAML, or not a model.
    """
    path = Path(path)
    is_yaml = path.suffix in (".yaml", ".yml")
    try:
        if path.stat().st_size > (MAX_YAML_BYTES if is_yaml else MAX_FILE_BYTES):
            hint = "larger models are read from JSON" if is_yaml else "is this really an SCM file?"
            raise AcboError(f"{path}: {path.stat().st_size} bytes are too many", hint)
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AcboError(f"cannot read SCM file {path}: {error}", "check the path") from error
    try:
        document = read_yaml(text) if is_yaml else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AcboError(f"{path}: not valid {'YAML' if is_yaml else 'JSON'}: {error}") from error
    try:
        return scm_from_dict(document)
    except AcboError as error:
        raise AcboError(f"{path}: {error.message}", error.hint) from error


def save_scm(scm: SCM, path: str | Path) -> None:
    """Write one SCM file atomically (YAML by suffix .yaml/.yml, else JSON)."""
    path = Path(path)
    document = scm_to_dict(scm)
    if path.suffix in (".yaml", ".yml"):
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    else:
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode("utf-8"))


def scm_to_dict(scm: SCM) -> dict[str, Any]:
    """The file's content as plain Python."""
    document: dict[str, Any] = {
        "format": FORMAT,
        "name": scm.name,
        "target": scm.target,
        "direction": scm.direction,
        "variables": [{key: getattr(v, key) for key in _VARIABLE} for v in scm.variables],
        "edges": [{"from": i, "to": j, "weight": float(w)} for (i, j), w in scm.edges.items()],
    }
    if scm.saturate:
        document["saturate"] = True
    if scm.sines:
        document["sines"] = [
            {"variable": s.variable, "amplitude": s.amplitude, "phase": s.phase, "frequencies": dict(s.frequencies)}
            for s in scm.sines
        ]
    return document


def scm_from_dict(document: Any) -> SCM:
    """Check plain Python read from a file and build the model.

    Raises:
        AcboError: naming the place and the fix.
    """
    _keys(document, "the file", _TOP, required=("format", "target", "variables", "edges"))
    if document["format"] != FORMAT:
        raise AcboError(f"format is {document['format']!r}", f"this program reads {FORMAT!r}")
    target = _text(document["target"], "target")
    variables = []
    entries = _list(document["variables"], "variables")
    if len(entries) > MAX_VARIABLES:
        raise AcboError(
            f"{len(entries)} variables, at most {MAX_VARIABLES} are read", "leave out what is no lever or target"
        )
    for n, entry in enumerate(entries):
        place = f"variable {n + 1}"
        _keys(entry, place, _VARIABLE, required=("name", "low", "high"))
        name = _text(entry["name"], f"name of {place}")
        numbers = {key: _number(entry[key], f"{key} of variable {name!r}") for key in _VARIABLE[1:5] if key in entry}
        manipulable = _flag(entry.get("manipulable", name != target), f"manipulable of variable {name!r}")
        if manipulable and name == target:
            raise AcboError(
                f"the target {name!r} is marked manipulable", "set its manipulable to false, or choose another target"
            )
        variables.append(Variable(name, manipulable=manipulable, **numbers))
    edges: dict[tuple[str, str], float] = {}
    for n, entry in enumerate(_list(document["edges"], "edges")):
        place = f"edge {n + 1}"
        _keys(entry, place, _EDGE, required=_EDGE)
        pair = (_text(entry["from"], f"'from' of {place}"), _text(entry["to"], f"'to' of {place}"))
        if pair in edges:
            raise AcboError(f"edge {pair[0]!r} -> {pair[1]!r} is given twice", "give each edge once")
        edges[pair] = _number(entry["weight"], f"weight of edge {pair[0]!r} -> {pair[1]!r}")
    sines = []
    for n, entry in enumerate(_list(document.get("sines", []), "sines")):
        place = f"sine term {n + 1}"
        _keys(entry, place, _SINE, required=_SINE)
        if not isinstance(entry["frequencies"], Mapping):
            raise AcboError(f"frequencies of {place} is not a mapping", "write {parent: frequency, ...}")
        frequencies = {
            _text(k, f"parent in {place}"): _number(v, f"frequency {k!r} of {place}")
            for k, v in entry["frequencies"].items()
        }
        sines.append(
            Sine(
                _text(entry["variable"], f"variable of {place}"),
                _number(entry["amplitude"], f"amplitude of {place}"),
                _number(entry["phase"], f"phase of {place}"),
                frequencies,
            )
        )
    return SCM(
        name=_text(document.get("name", "unnamed"), "name"),
        target=target,
        variables=tuple(variables),
        edges=edges,
        sines=tuple(sines),
        saturate=_flag(document.get("saturate", False), "saturate"),
        direction=_text(document.get("direction", "minimize"), "direction"),
    )


def _keys(entry: Any, place: str, known: tuple[str, ...], required: tuple[str, ...]) -> None:
    if not isinstance(entry, Mapping):
        raise AcboError(f"{place} is not a mapping of keys to values", f"expected keys: {', '.join(known)}")
    for key in entry:
        if key not in known:
            raise AcboError(f"{place} has unknown key {key!r}", did_you_mean(str(key), known))
    for key in required:
        if key not in entry:
            raise AcboError(f"{place} has no {key!r}", f"required: {', '.join(required)}")


def _list(value: Any, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise AcboError(f"{place} is not a list")
    return value


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise AcboError(f"{place} is {value!r}", "give a non-empty text")
    return value


def _flag(value: Any, place: str) -> bool:
    if not isinstance(value, bool):
        raise AcboError(f"{place} is {value!r}", "write true or false")
    return value


def _number(value: Any, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise AcboError(f"{place} is {value!r}", "give a number")
    try:
        return float(value)
    except OverflowError:
        raise AcboError(f"{place} is too large for a float") from None
