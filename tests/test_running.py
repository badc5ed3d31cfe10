"""`acbo.evaluate` and `acbo.train`: own systems compared and trained on in a call."""

from __future__ import annotations

import inspect

import pytest

import acbo
import acbo_ref
from acbo_fast import available
from acbo_ref.arena.compare import EvaluationSettings
from acbo_ref.training.checkpoint import shipped_policy
from acbo_ref.verify.data import small_config


def plant(name="plant", weight=-1.5):
    variables = (acbo.Variable("heat"), acbo.Variable("flow"), acbo.Variable("y"))
    return acbo.SCM(name, target="y", variables=variables, edges={("heat", "flow"): 0.8, ("flow", "y"): weight})


@pytest.mark.skipif(not shipped_policy().exists(), reason="no policy ships yet")
def test_own_systems_are_compared(tmp_path):
    """By the shipped policy unless another is given; as by files, and resumable."""
    systems, short = [plant(), plant("other", 2.0)], {"interventions": 2, "methods": ["policy", "regress", "oracle"]}
    report = acbo.evaluate(systems=systems, **short)
    (suite,) = report["suites"]
    assert suite["name"] == "files" and suite["scms"] == 2 and suite["observations"] == 20
    assert suite["methods"]["oracle"]["score"]["mean"] == pytest.approx(1.0)
    assert suite["methods"]["policy"]["score"]["mean"] > 0.5
    for n, system in enumerate(systems):
        acbo.save_scm(system, tmp_path / f"{n}.json")
    files = [tmp_path / "0.json", tmp_path / "1.json"]
    by_files = acbo_ref.evaluate(shipped_policy(), scm_files=files, output=tmp_path / "out", **short)
    cells = sorted((tmp_path / "out" / "cells").iterdir())
    before = [path.stat().st_mtime_ns for path in cells]
    again = acbo.evaluate(systems=systems, output=tmp_path / "out", **short)
    assert again == by_files and [path.stat().st_mtime_ns for path in cells] == before
    scores = [{m: v["score"] for m, v in r["suites"][0]["methods"].items()} for r in (report, again)]
    assert scores[0] == scores[1]
    settings = EvaluationSettings(interventions=2, methods=["regress"])
    alone = acbo.evaluate(None, settings, systems=systems)["suites"][0]["methods"]
    assert alone["regress"]["score"] == scores[0]["regress"]
    with pytest.raises(acbo.AcboError, match="other settings"):
        acbo.evaluate(systems=systems, output=tmp_path / "out", **short | {"interventions": 3})


def test_methods_without_a_policy_need_none(monkeypatch):
    monkeypatch.setattr("acbo_ref.training.checkpoint.shipped_policy", lambda: pytest.fail("not needed"))
    report = acbo.evaluate(systems=[plant()], methods=["regress"], interventions=2, suites=["seed"], quick=True)
    assert [suite["name"] for suite in report["suites"]] == ["seed", "files"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"systems": []}, "not a list of systems"),
        ({"systems": plant()}, "not a list of systems"),
        ({"systems": ["plant.json"]}, "system 1 is str"),
        ({"systems": [plant(), plant()]}, "two systems are named 'plant'"),
        ({"systems": [plant()], "methods": ["regres"]}, "no method named 'regres'"),
        ({"systems": [plant()], "backend": "nump"}, "no backend named 'nump'"),
        ({"sytems": [plant()], "methods": ["regress"]}, "no setting 'sytems'"),
    ],
)
def test_mistakes_are_explained(given, words):
    with pytest.raises(acbo.AcboError, match=words):
        acbo.evaluate(**{"methods": ["regress"], "interventions": 1} | given)


def test_training_in_a_call(tmp_path):
    records = []
    result = acbo.train(
        small_config(), tmp_path / "run", "ref", overrides=["total_episodes=12"], systems={"plants": [plant()]},
        on_iteration=records.append,
    )  # fmt: skip
    assert result.stopped == "finished" and result.episodes == 12 and len(records) == result.iterations
    assert acbo.load_checkpoint(result.checkpoint).progress["pools"] == ["plants"]
    report = acbo.evaluate(result.checkpoint, systems=[plant()], methods=["policy"], interventions=2)
    assert "policy" in report["suites"][0]["methods"]
    trained = acbo.load_checkpoint(tmp_path / "run").config
    assert trained.total_episodes == 12
    with pytest.raises(acbo.AcboError):
        acbo.train(small_config(seed=9), tmp_path / "run", "ref")
    nothing = acbo.train(small_config(total_episodes=6), backend="ref")
    assert nothing.checkpoint is None and nothing.episodes == 6
    with pytest.raises(acbo.AcboError, match="no backend named"):
        acbo.train("quick_test", backend="torch")


def test_training_takes_the_fastest_backend(monkeypatch):
    found = []
    monkeypatch.setattr("acbo_fast.backend_maker", lambda name: found.append(name) or acbo.ReferenceBackend)
    acbo.train(small_config(total_episodes=6))
    assert found == available()[:1]


@pytest.mark.parametrize("function", [acbo.evaluate, acbo.train], ids=["evaluate", "train"])
def test_docstrings_say_what_goes_in_and_out(function):
    text = inspect.getdoc(function)
    assert all(f"{part}:" in text for part in ("Args", "Returns", "Raises")) and "unit" in text
    for name in inspect.signature(function).parameters:
        assert f"{name}:" in text, name
