"""Reading and writing SCM files, format `acbo-scm/2`, as JSON or YAML.

    {"format": "acbo-scm/2", "name", "target", "direction",
     "variables": [{"name", "intercept", "noise_std", "low", "high", "manipulable", "hidden"}],
     "edges": [{"from", "to", "weight"}],
     "saturate": false,                                                          (optional)
     "terms": [{"variable", "shape", "amplitude", "phase", "frequencies": {"parent": 1.0}}]}
                                                                                 (optional)

A shape is "sine" (the default), "tanh", "bump" or "square" (systems/batch.py). Version 1, which had
"sines" in place of terms, is still read.

Contract: a file either gives an `SCM` or an `AcboError` that names file, place and fix. Nothing is
executed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import yaml

from acbo_ref.errors import AcboError, did_you_mean
from acbo_ref.files import Document, read_yaml, write_atomically
from acbo_ref.systems.scm import SCM, Term, Variable

FORMAT, FIRST_FORMAT = "acbo-scm/2", "acbo-scm/1"
# A model of 1,000 variables with all edges is about 60 MB; a file beyond this is not an SCM. Models
# are dense matrices. YAML takes seconds a megabyte to read.
MAX_FILE_BYTES, MAX_YAML_BYTES, MAX_VARIABLES = 64 * 2**20, 2**20, 2_000
_TOP = ("format", "name", "target", "direction", "variables", "edges", "saturate", "terms")
_VARIABLE = ("name", "intercept", "noise_std", "low", "high", "manipulable")
_EDGE = ("from", "to", "weight")
_TERM = ("variable", "amplitude", "phase", "frequencies", "shape")


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


def scm_to_dict(scm: SCM) -> Document:
    """The file's content as plain Python."""
    document: Document = {
        "format": FORMAT,
        "name": scm.name,
        "target": scm.target,
        "direction": scm.direction,
        "variables": [
            {key: getattr(v, key) for key in _VARIABLE} | ({"hidden": True} if v.hidden else {}) for v in scm.variables
        ],
        "edges": [{"from": i, "to": j, "weight": float(w)} for (i, j), w in scm.edges.items()],
    }
    if scm.saturate:
        document["saturate"] = True
    if scm.terms:
        document["terms"] = [
            {key: getattr(term, key) for key in _TERM} | {"frequencies": dict(term.frequencies)} for term in scm.terms
        ]
    return document


def scm_from_dict(document: object) -> SCM:
    """Check plain Python read from a file and build the model.

    Raises:
        AcboError: naming the place and the fix.
    """
    first = isinstance(document, Mapping) and document.get("format") == FIRST_FORMAT
    terms_key = "sines" if first else "terms"
    known = tuple(terms_key if key == "terms" else key for key in _TOP)
    top = _keys(document, "the file", known, required=("format", "target", "variables", "edges"))
    if not first and top["format"] != FORMAT:
        raise AcboError(f"format is {top['format']!r}", f"this program reads {FORMAT!r} and {FIRST_FORMAT!r}")
    target = _text(top["target"], "target")
    entries = _list(top["variables"], "variables")
    if len(entries) > MAX_VARIABLES:
        raise AcboError(
            f"{len(entries)} variables, at most {MAX_VARIABLES} are read", "leave out what is no lever or target"
        )
    edges: dict[tuple[str, str], float] = {}
    for n, entry in enumerate(_list(top["edges"], "edges")):
        pair, weight = _edge(entry, f"edge {n + 1}")
        if pair in edges:
            raise AcboError(f"edge {pair[0]!r} -> {pair[1]!r} is given twice", "give each edge once")
        edges[pair] = weight
    return SCM(
        name=_text(top.get("name", "unnamed"), "name"),
        target=target,
        variables=tuple(_variable(entry, f"variable {n + 1}", target) for n, entry in enumerate(entries)),
        edges=edges,
        terms=tuple(_term(e, f"term {n + 1}") for n, e in enumerate(_list(top.get(terms_key, []), terms_key))),
        saturate=_flag(top.get("saturate", False), "saturate"),
        direction=_text(top.get("direction", "minimize"), "direction"),
    )


def _variable(entry: object, place: str, target: str) -> Variable:
    given = _keys(entry, place, (*_VARIABLE, "hidden"), required=("name", "low", "high"))
    name = _text(given["name"], f"name of {place}")
    numbers = {key: _number(given[key], f"{key} of variable {name!r}") for key in _VARIABLE[1:5] if key in given}
    hidden = _flag(given.get("hidden", False), f"hidden of variable {name!r}")
    manipulable = _flag(given.get("manipulable", name != target and not hidden), f"manipulable of variable {name!r}")
    if manipulable and name == target:
        raise AcboError(
            f"the target {name!r} is marked manipulable", "set its manipulable to false, or choose another target"
        )
    return Variable(name, manipulable=manipulable, hidden=hidden, **numbers)


def _edge(entry: object, place: str) -> tuple[tuple[str, str], float]:
    given = _keys(entry, place, _EDGE, required=_EDGE)
    pair = (_text(given["from"], f"'from' of {place}"), _text(given["to"], f"'to' of {place}"))
    return pair, _number(given["weight"], f"weight of edge {pair[0]!r} -> {pair[1]!r}")


def _term(entry: object, place: str) -> Term:
    given = _keys(entry, place, _TERM, required=_TERM[:4])
    if not isinstance(given["frequencies"], Mapping):
        raise AcboError(f"frequencies of {place} is not a mapping", "write {parent: frequency, ...}")
    frequencies = {
        _text(k, f"parent in {place}"): _number(v, f"frequency {k!r} of {place}")
        for k, v in given["frequencies"].items()
    }
    return Term(
        _text(given["variable"], f"variable of {place}"),
        _number(given["amplitude"], f"amplitude of {place}"),
        _number(given["phase"], f"phase of {place}"),
        frequencies,
        _text(given.get("shape", "sine"), f"shape of {place}"),
    )


def _keys(entry: object, place: str, known: tuple[str, ...], required: tuple[str, ...]) -> Document:
    if not isinstance(entry, Mapping):
        raise AcboError(f"{place} is not a mapping of keys to values", f"expected keys: {', '.join(known)}")
    for key in entry:
        if key not in known:
            raise AcboError(f"{place} has unknown key {key!r}", did_you_mean(str(key), known))
    for key in required:
        if key not in entry:
            raise AcboError(f"{place} has no {key!r}", f"required: {', '.join(required)}")
    return dict(entry)


def _list(value: object, place: str) -> list[object]:
    if not isinstance(value, list):
        raise AcboError(f"{place} is not a list")
    return value


def _text(value: object, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise AcboError(f"{place} is {value!r}", "give a non-empty text")
    return value


def _flag(value: object, place: str) -> bool:
    if not isinstance(value, bool):
        raise AcboError(f"{place} is {value!r}", "write true or false")
    return value


def _number(value: object, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise AcboError(f"{place} is {value!r}", "give a number")
    try:
        return float(value)
    except OverflowError:
        raise AcboError(f"{place} is too large for a float") from None
