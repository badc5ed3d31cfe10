"""SCM files: round trips, and an error with file, place and fix for everything else."""

from __future__ import annotations

import json

import pytest
from test_scm import diamond

from acbo_ref import AcboError, Sine, load_scm, save_scm
from acbo_ref.systems.files import scm_to_dict


@pytest.mark.parametrize("suffix", [".json", ".yaml", ".yml"])
def test_round_trip(tmp_path, suffix):
    scm = diamond(saturate=True, sines=(Sine("Y", 1.5, 0.3, {"A": 0.7}),), direction="maximize")
    path = tmp_path / f"scm{suffix}"
    save_scm(scm, path)
    again = load_scm(path)
    assert scm_to_dict(again) == scm_to_dict(scm)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # no temporary file is left


def test_a_minimal_file(tmp_path):
    path = tmp_path / "m.json"
    variables = [{"name": "x", "low": 0, "high": 1}, {"name": "y", "low": -1, "high": 1}]
    document = {
        "format": "acbo-scm/1",
        "target": "y",
        "variables": variables,
        "edges": [{"from": "x", "to": "y", "weight": 2}],
    }
    path.write_text(json.dumps(document))
    scm = load_scm(path)
    assert (scm.oracle.value, scm.oracle.expected) == (0.0, 0.0) and scm.manipulable.tolist() == [True, False]


def broken(change):
    """A valid document with one thing changed."""
    document = scm_to_dict(diamond())
    change(document)
    return document


CASES = [
    (lambda d: d.update(format="acbo-scm/2"), "format is 'acbo-scm/2'", "acbo-scm/1"),
    (lambda d: d.pop("target"), "has no 'target'", "required"),
    (lambda d: d.update(targt="Y"), "unknown key 'targt'", "did you mean 'target'"),
    (lambda d: d["variables"][1].update(lo=1), "variable 2 has unknown key 'lo'", "did you mean 'low'"),
    (lambda d: d["variables"][1].update(low="1"), "low of variable 'C' is '1'", "number"),
    (lambda d: d["variables"][1].update(low=None), "low of variable 'C' is None", "number"),
    (lambda d: d["variables"][1].update(low=True), "low of variable 'C' is True", "number"),
    (lambda d: d["variables"][1].update(low=9), "low 9.0 >= high 4.0", "below"),
    (lambda d: d["variables"][1].update(low=10**400), "too large", ""),
    (lambda d: d["variables"][1].update(noise_std=float("nan")), "noise_std of 'C' is nan", "finite"),
    (lambda d: d["variables"][0].update(manipulable=True), "target 'Y' is marked manipulable", "false"),
    (lambda d: d["variables"][1].update(manipulable="yes"), "manipulable of variable 'C' is 'yes'", "true or false"),
    (lambda d: d["variables"].append(dict(d["variables"][1])), "'C' is used twice", "own name"),
    (lambda d: d["variables"][1].pop("name"), "variable 2 has no 'name'", ""),
    (lambda d: d.update(variables={}), "variables is not a list", ""),
    (lambda d: d["edges"][0].update({"from": "Q"}), "unknown variable 'Q'", ""),
    (lambda d: d["edges"].append(dict(d["edges"][0])), "edge 'A' -> 'B' is given twice", "once"),
    (lambda d: d["edges"].append({"from": "Y", "to": "A", "weight": 1}), "cycle", "remove"),
    (lambda d: d["edges"][0].pop("weight"), "edge 1 has no 'weight'", ""),
    (lambda d: d.update(direction="down"), "direction is 'down'", "minimize"),
    (lambda d: d.update(saturate=1), "saturate is 1", "true or false"),
    (
        lambda d: d.update(sines=[{"variable": "Y", "amplitude": 1, "phase": 0, "frequencies": 3}]),
        "frequencies",
        "mapping",
    ),
]


@pytest.mark.parametrize(("change", "message", "hint"), CASES, ids=[c[1] for c in CASES])
def test_errors_name_file_place_and_fix(tmp_path, change, message, hint):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(broken(change)))
    with pytest.raises(AcboError) as caught:
        load_scm(path)
    assert str(path) in caught.value.message and message in caught.value.message
    assert hint in caught.value.hint + caught.value.message


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\x00", "[" * 100_000, '{"a": 1} x'])
@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_what_is_not_a_document(tmp_path, text, suffix):
    path = tmp_path / f"bad{suffix}"
    path.write_text(text)
    with pytest.raises(AcboError, match="bad"):
        load_scm(path)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(AcboError, match="cannot read"):
        load_scm(tmp_path / "none.json")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AcboError, match="cannot read"):
        load_scm(tmp_path / "b.json")


def test_yaml_runs_no_code(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text(f"!!python/object/apply:pathlib.Path.touch [{tmp_path / 'touched'}]")
    with pytest.raises(AcboError, match="not valid YAML"):
        load_scm(path)
    assert not (tmp_path / "touched").exists()
