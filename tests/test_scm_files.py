"""SCM files: round trips, and an error with file, place and fix for everything else."""

from __future__ import annotations

import json

import pytest
from test_scm import diamond

from acbo_ref import AcboError, Term, load_scm, save_scm
from acbo_ref.systems.files import scm_from_dict, scm_to_dict


@pytest.mark.parametrize("suffix", [".json", ".yaml", ".yml"])
def test_round_trip(tmp_path, suffix):
    scm = diamond(saturate=True, terms=(Term("Y", 1.5, 0.3, {"A": 0.7}),), direction="maximize")
    path = tmp_path / f"scm{suffix}"
    save_scm(scm, path)
    again = load_scm(path)
    assert scm_to_dict(again) == scm_to_dict(scm)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # no temporary file is left


def test_a_minimal_file(tmp_path):
    path = tmp_path / "m.json"
    variables = [{"name": "x", "low": 0, "high": 1}, {"name": "y", "low": -1, "high": 1}]
    document = {
        "format": "acbo-scm/2",
        "target": "y",
        "variables": variables,
        "edges": [{"from": "x", "to": "y", "weight": 2}],
    }
    path.write_text(json.dumps(document))
    scm = load_scm(path)
    assert (scm.oracle.value, scm.oracle.expected) == (0.0, 0.0) and scm.manipulable.tolist() == [True, False]


def test_a_variable_that_cannot_be_set_stays_so():
    document = whole_document()
    document["variables"].append({"name": "z", "low": 0.0, "high": 1.0, "manipulable": False})
    assert scm_from_dict(document).manipulable.tolist() == [True, False, False]


def broken(change):
    """A valid document with one thing changed."""
    document = scm_to_dict(diamond())
    change(document)
    return document


CASES = [
    (lambda d: d.update(format="acbo-scm/3"), "format is 'acbo-scm/3'", "acbo-scm/2"),
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
        lambda d: d.update(terms=[{"variable": "Y", "amplitude": 1, "phase": 0, "frequencies": 3}]),
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


# Where a document is changed, to what (GONE: the key is left out), and the exact error and hint.
GONE = object()
MESSAGES = [
    (("format",), "other/1", "format is 'other/1'", "this program reads 'acbo-scm/2' and 'acbo-scm/1'"),
    (("format",), GONE, "the file has no 'format'", "required: format, target, variables, edges"),
    (("edge",), 1, "the file has unknown key 'edge'", "did you mean 'edges'?"),
    (("target",), "", "target is ''", "give a non-empty text"),
    (("name",), "", "name is ''", "give a non-empty text"),
    (("direction",), "", "direction is ''", "give a non-empty text"),
    (("target",), 3, "target is 3", "give a non-empty text"),
    (("variables",), {}, "variables is not a list", ""),
    (("edges",), {}, "edges is not a list", ""),
    (("terms",), {}, "terms is not a list", ""),
    (("saturate",), 1, "saturate is 1", "write true or false"),
    (
        ("variables", 0),
        5,
        "variable 1 is not a mapping of keys to values",
        "expected keys: name, intercept, noise_std, low, high, manipulable, hidden",
    ),
    (("variables", 0, "name"), GONE, "variable 1 has no 'name'", "required: name, low, high"),
    (("variables", 0, "name"), "", "name of variable 1 is ''", "give a non-empty text"),
    (("variables", 0, "nois"), 1, "variable 1 has unknown key 'nois'", "did you mean 'noise_std'?"),
    (("variables", 0, "low"), "a", "low of variable 'x' is 'a'", "give a number"),
    (("variables", 0, "high"), "a", "high of variable 'x' is 'a'", "give a number"),
    (("variables", 0, "intercept"), "a", "intercept of variable 'x' is 'a'", "give a number"),
    (("variables", 0, "noise_std"), "a", "noise_std of variable 'x' is 'a'", "give a number"),
    (("variables", 0, "low"), True, "low of variable 'x' is True", "give a number"),
    (("variables", 0, "low"), 10**400, "low of variable 'x' is too large for a float", ""),
    (("variables", 0, "manipulable"), "yes", "manipulable of variable 'x' is 'yes'", "write true or false"),
    (
        ("variables", 1, "manipulable"),
        True,
        "the target 'y' is marked manipulable",
        "set its manipulable to false, or choose another target",
    ),
    (("edges", 0), "x", "edge 1 is not a mapping of keys to values", "expected keys: from, to, weight"),
    (("edges", 0, "from"), 0, "'from' of edge 1 is 0", "give a non-empty text"),
    (("edges", 0, "to"), GONE, "edge 1 has no 'to'", "required: from, to, weight"),
    (("edges", 0, "to"), "", "'to' of edge 1 is ''", "give a non-empty text"),
    (("edges", 0, "weight"), None, "weight of edge 'x' -> 'y' is None", "give a number"),
    (("edges", 0, "wieght"), 1, "edge 1 has unknown key 'wieght'", "did you mean 'weight'?"),
    (
        ("edges",),
        [{"from": "x", "to": "y", "weight": 1.0}, {"from": "x", "to": "y", "weight": 1.0}],
        "edge 'x' -> 'y' is given twice",
        "give each edge once",
    ),
    (
        ("terms", 0),
        [],
        "term 1 is not a mapping of keys to values",
        "expected keys: variable, amplitude, phase, frequencies, shape",
    ),
    (("terms", 0, "frequencies"), [], "frequencies of term 1 is not a mapping", "write {parent: frequency, ...}"),
    (("terms", 0, "frequencies"), {"x": "a"}, "frequency 'x' of term 1 is 'a'", "give a number"),
    (("terms", 0, "frequencies"), {"": 1.0}, "parent in term 1 is ''", "give a non-empty text"),
    (("terms", 0, "variable"), "", "variable of term 1 is ''", "give a non-empty text"),
    (("terms", 0, "amplitude"), "a", "amplitude of term 1 is 'a'", "give a number"),
    (("terms", 0, "phase"), "a", "phase of term 1 is 'a'", "give a number"),
    (("terms", 0, "shape"), 3, "shape of term 1 is 3", "give a non-empty text"),
    (("variables", 0, "hidden"), 1, "hidden of variable 'x' is 1", "write true or false"),
    (("terms", 0, "phase"), GONE, "term 1 has no 'phase'", "required: variable, amplitude, phase, frequencies"),
]


def whole_document():
    """Every key there is."""
    first = {"name": "x", "intercept": 0.0, "noise_std": 1.0, "low": -1.0, "high": 1.0, "manipulable": True}
    return {
        "format": "acbo-scm/2",
        "name": "n",
        "target": "y",
        "direction": "minimize",
        "variables": [first, {"name": "y", "low": -1.0, "high": 1.0}],
        "edges": [{"from": "x", "to": "y", "weight": 1.0}],
        "terms": [{"variable": "y", "amplitude": 1.0, "phase": 0.5, "frequencies": {"x": 2.0}}],
        "saturate": False,
    }


@pytest.mark.parametrize(("path", "value", "message", "hint"), MESSAGES)
def test_every_message_word_for_word(path, value, message, hint):
    document = whole_document()
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    if value is GONE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    with pytest.raises(AcboError) as caught:
        scm_from_dict(document)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_files_of_version_1_are_read():
    """Their terms are all sines, under that name."""
    document = whole_document()
    document["format"], document["sines"] = "acbo-scm/1", document.pop("terms")
    assert scm_from_dict(document).terms == (Term("y", 1.0, 0.5, {"x": 2.0}),)
    with pytest.raises(AcboError, match="unknown key 'terms'"):
        scm_from_dict(document | {"terms": []})


def test_shapes_and_hidden_variables_are_kept(tmp_path):
    document = whole_document()
    document["variables"].append({"name": "h", "low": -1.0, "high": 1.0, "hidden": True})
    document["terms"] = [
        {"variable": "y", "shape": shape, "amplitude": 1.0, "phase": 0.5, "frequencies": {"x": 2.0, "h": 1.0}}
        for shape in ("sine", "tanh", "bump", "square")
    ]
    scm = scm_from_dict(document)
    save_scm(scm, tmp_path / "m.json")
    again = load_scm(tmp_path / "m.json")
    assert again.terms == scm.terms and again.variables == scm.variables
    assert again.visible.tolist() == [True, True, False] and again.manipulable.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["terms"][0].update(shape="sinus"), "a term of 'y' has the shape 'sinus'"),
        (lambda d: d["variables"][1].update(hidden=True), "'y' is hidden"),
        (lambda d: d["variables"][0].update(hidden=True), "'x' is hidden"),
    ],
)
def test_what_cannot_be_hidden_or_no_shape(change, message):
    document = whole_document()
    change(document)
    with pytest.raises(AcboError, match=message):
        scm_from_dict(document)


def test_what_may_be_left_out_has_its_default():
    document = whole_document()
    for key in ("name", "direction", "terms", "saturate"):
        del document[key]
    scm = scm_from_dict(document)
    assert (scm.name, scm.direction, scm.terms, scm.saturate) == ("unnamed", "minimize", (), False)


def test_the_largest_model_and_one_variable_more(monkeypatch):
    monkeypatch.setattr("acbo_ref.systems.files.MAX_VARIABLES", 2)
    document = whole_document()
    assert len(scm_from_dict(document).names) == 2
    document["variables"].append({"name": "z", "low": 0.0, "high": 1.0})
    with pytest.raises(AcboError) as caught:
        scm_from_dict(document)
    assert caught.value.message == "3 variables, at most 2 are read"
    assert caught.value.hint == "leave out what is no lever or target"


@pytest.mark.parametrize(
    ("suffix", "limit", "hint"),
    [
        (".json", "MAX_FILE_BYTES", "is this really an SCM file?"),
        (".yaml", "MAX_YAML_BYTES", "larger models are read from JSON"),
    ],
)
def test_files_of_exactly_the_largest_size_are_read(tmp_path, monkeypatch, suffix, limit, hint):
    path = tmp_path / f"model{suffix}"
    save_scm(scm_from_dict(whole_document()), path)
    size = path.stat().st_size
    monkeypatch.setattr(f"acbo_ref.systems.files.{limit}", size)
    assert load_scm(path).name == "n"
    monkeypatch.setattr(f"acbo_ref.systems.files.{limit}", size - 1)
    with pytest.raises(AcboError) as caught:
        load_scm(path)
    assert (caught.value.message, caught.value.hint) == (f"{path}: {size} bytes are too many", hint)


def test_files_are_utf8_and_keep_the_order_of_keys(tmp_path):
    document = whole_document()
    document["name"] = "Größe"
    for suffix in (".json", ".yaml", ".yml"):
        path = tmp_path / f"model{suffix}"
        save_scm(scm_from_dict(document), path)
        text = path.read_bytes().decode("utf-8")
        assert "Größe" in text and text.endswith("\n") and text.index("format") < text.index("name")
        assert load_scm(path).name == "Größe"
    assert (tmp_path / "model.json").read_text(encoding="utf-8").startswith('{\n "format"')
    for name in ("model.yaml", "model.yml"):
        assert (tmp_path / name).read_text(encoding="utf-8").startswith("format: acbo-scm/2\nname: Größe\n")
    missing = tmp_path / "none.json"
    with pytest.raises(AcboError) as caught:
        load_scm(missing)
    assert (
        caught.value.message.startswith(f"cannot read SCM file {missing}: ") and caught.value.hint == "check the path"
    )
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(AcboError) as caught:
        load_scm(tmp_path / "broken.json")
    assert caught.value.message.startswith(f"{tmp_path / 'broken.json'}: not valid JSON: ")
