"""The arena: resumable, the same for any number of workers, and written down tidily."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from test_metrics import results
from test_scm import diamond

from acbo_ref import AcboError, Trainer, evaluate, save_scm
from acbo_ref.arena import compare, store
from acbo_ref.arena.analysis import load_folder
from acbo_ref.arena.metrics import per_step, recommendation_difference, score_difference, summarise
from acbo_ref.arena.store import Cell
from acbo_ref.arena.workers import EXECUTORS, carry_out, open_workers
from acbo_ref.errors import RunError
from acbo_ref.verify.data import small_config

GIVEN = {
    "suites": ["seed", "simple"],
    "methods": ["policy", "random", "regress", "oracle"],
    "quick": True,
    "interventions": 3,
}


@pytest.fixture(scope="module")
def checkpoint():
    trainer = Trainer(small_config(total_episodes=12))
    trainer.train()
    return trainer.checkpoint()


def without_clock(report):
    return json.loads(json.dumps(report), object_hook=lambda d: {k: v for k, v in d.items() if k != "decision_seconds"})


@pytest.fixture(scope="module")
def finished(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("arena")
    return folder, evaluate(checkpoint, output=folder, **GIVEN)


def test_workers_change_nothing(checkpoint, finished, tmp_path):
    parallel = evaluate(checkpoint, output=tmp_path, workers=2, **GIVEN)
    assert without_clock(parallel) == without_clock(finished[1])
    assert (tmp_path / "results.csv").read_bytes() == (finished[0] / "results.csv").read_bytes()
    assert without_clock(evaluate(checkpoint, **GIVEN)) == without_clock(finished[1])


def test_the_folder_holds_what_it_promises(finished):
    folder, report = finished
    assert json.loads((folder / "summary.json").read_text()) == report
    assert sorted(p.name for p in folder.iterdir()) == ["cells", "results.csv", "settings.json", "summary.json"]
    rows = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
    assert tuple(rows[0]) == store.CSV_COLUMNS and len(rows) == 2 * 16 * 4 * 3
    # the score follows from the table
    for suite in report["suites"]:
        for method, metrics in suite["methods"].items():
            own = [r for r in rows if (r["suite"], r["method"]) == (suite["name"], method)]
            score = sum(float(r["gain"]) for r in own) / sum(float(r["oracle_gain"]) for r in own)
            assert score == pytest.approx(metrics["score"]["mean"])
    assert {r["step"] for r in rows} == {"1", "2", "3"} and {r["variable"] for r in rows if r["suite"] == "seed"} <= {
        "X0",
        "X1",
    }


def test_an_interrupted_evaluation_goes_on(checkpoint, finished, tmp_path, monkeypatch):
    def stop(suite, method, done, total):
        assert total == 8
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(checkpoint, output=tmp_path, on_cell=stop, **GIVEN)
    kept = sorted(p.name for p in (tmp_path / "cells").iterdir())
    assert len(kept) == 3 and not (tmp_path / "summary.json").exists()
    (tmp_path / "cells" / kept[0]).write_text("{")  # a damaged cell is done again
    ran = []
    plain = store.Cell.run
    monkeypatch.setattr(store.Cell, "run", lambda self, *a: (ran.append((self.suite, self.method)), plain(self, *a))[1])
    report = evaluate(checkpoint, output=tmp_path, **GIVEN)
    assert len(ran) == 6 and without_clock(report) == without_clock(finished[1])


def test_a_cell_of_other_code_is_run_again(checkpoint, finished, tmp_path, monkeypatch):
    folder, ran = tmp_path / "arena", []
    shutil.copytree(finished[0], folder)
    plain = store.Cell.run
    monkeypatch.setattr(store.Cell, "run", lambda self, *a: (ran.append((self.suite, self.method)), plain(self, *a))[1])
    evaluate(checkpoint, output=folder, **GIVEN)
    assert ran == []
    cell = store.cell_path(folder, "seed", GIVEN["methods"][0])
    document = json.loads(cell.read_text())
    assert document["made_by"]["acbo"] == store.__version__
    del document["made_by"]  # as those of an earlier day
    cell.write_text(json.dumps(document))
    evaluate(checkpoint, output=folder, **GIVEN)
    assert ran == [("seed", GIVEN["methods"][0])]
    monkeypatch.setattr(store, "_code", lambda backend: "other")
    evaluate(checkpoint, output=folder, **GIVEN)
    assert len(ran) == 1 + 8


def test_the_digest_of_code_sees_every_change(tmp_path):
    folder = tmp_path / "package"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.py").write_text("x = 1\n")
    (folder / "inner" / "b.json").write_text("{}")
    seen = [store.source_digest([folder])]
    (folder / "notes.txt").write_text("no code")
    assert store.source_digest([folder]) == seen[0]
    for change in (
        lambda: (folder / "a.py").write_text("x = 2\n"),
        lambda: (folder / "inner" / "b.json").write_text("[]"),
        lambda: (folder / "a.py").rename(folder / "c.py"),
        lambda: (folder / "inner" / "b.json").unlink(),
    ):
        change()
        seen.append(store.source_digest([folder]))
    assert len(set(seen)) == 5


def test_decisions_are_timed_alone(checkpoint, finished, tmp_path, monkeypatch):
    """Every cell is finished and kept before the first is timed."""
    kept, plain = [], store.Cell.time

    def time(self, *arguments):
        kept.append(len(list((tmp_path / "cells").iterdir())))
        return plain(self, *arguments)

    monkeypatch.setattr(store.Cell, "time", time)
    report = evaluate(checkpoint, output=tmp_path, workers=2, **GIVEN)
    assert kept == [8] * 8
    assert all(m["decision_seconds"]["median"] > 0 for s in report["suites"] for m in s["methods"].values())
    assert load_folder(tmp_path).report == report


def test_a_folder_answers_one_question(checkpoint, finished, tmp_path):
    folder = tmp_path / "arena"
    shutil.copytree(finished[0], folder)
    for other in ({"seed": 1}, {"interventions": 4}, {"quick": False}):
        with pytest.raises(AcboError, match="other settings: " + next(iter(other))):
            evaluate(checkpoint, output=folder, **(GIVEN | other))
    more = evaluate(checkpoint, output=folder, **(GIVEN | {"methods": ["oracle", "parent_oracle"]}))
    assert list(more["suites"][0]["methods"]) == ["oracle", "parent_oracle"]


def test_changed_files_are_another_question(tmp_path):
    path, folder = tmp_path / "d.json", tmp_path / "out"
    given = {"scm_files": [path], "methods": ["regress"], "interventions": 2, "output": folder}
    save_scm(diamond(), path)
    evaluate(**given)
    save_scm(diamond(saturate=True), path)
    with pytest.raises(AcboError, match="scm_files"):
        evaluate(**given)


def test_names_are_checked_before_any_work(tmp_path):
    with pytest.raises(AcboError, match="no suite"):
        evaluate(suites=["seed", "simpel"], output=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_results_survive_json_exactly():
    before = results()
    after = store.results_from_dict(json.loads(json.dumps(store.results_to_dict(before))))
    assert summarise(after) == summarise(before)
    assert after.is_parent.dtype == bool and after.variable.dtype == int


def test_per_step_by_hand():
    score, regret = per_step(results())
    # gains (0, 2, 4, 4) and (0, 0, 2, 4) of 4 and 4
    assert score[0] == pytest.approx([0, 2 / 8, 6 / 8, 1]) and regret[0] == pytest.approx([4, 3, 1, 0])
    assert (score[1] <= score[0]).all() and (score[0] <= score[2]).all()
    nothing = per_step(results(best=np.array([0.0, 10.0]))).score  # can be gained
    assert nothing.shape == (3, 4) and np.isnan(nothing).all()


def test_a_paired_difference_knows_that_systems_are_shared():
    """Two methods that differ by 0.1 on every system: the interval is a point, though scores vary
    widely.
    """
    rng = np.random.default_rng(0)
    expected = rng.uniform(-4, 0, (2, 4))
    a, b = results(expected=expected), results(expected=expected + np.array([[0.4], [0.8]]))
    difference = score_difference(a, b)
    assert (difference["low"], difference["mean"], difference["high"]) == pytest.approx((0.1, 0.1, 0.1))


def test_recommendations_are_compared_in_shares_of_what_can_be_gained():
    """Gains of 4 and 4 can be had; the first recommends what is better by 1 and by 2: 3 of 8."""
    a = results(recommended=np.array([-3.0, -2.0]))
    b = results(recommended=np.array([-2.0, 2.0]))
    assert recommendation_difference(a, b)["mean"] == pytest.approx(3 / 8)
    assert recommendation_difference(b, a)["mean"] == pytest.approx(-3 / 8)


# --------------------------------------------------------------------------------- workers that die


def die_once(place):
    """A job that kills its worker the first time that it runs."""
    if not place.exists():
        place.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def work(job):
    """Jobs are ("work", n), ("die once", path) or ("die", n)."""
    kind, what = job
    if kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "fail":
        raise ValueError(what)
    return die_once(what) if kind == "die once" else what


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_job_whose_worker_dies_runs_once_more_and_is_then_given_up(executor, tmp_path):
    if executor == "dask":
        pytest.importorskip("distributed")
    jobs = [("work", 0), ("die", 0), *(("work", n) for n in range(1, 9)), ("die once", tmp_path / "died")]
    with open_workers(executor, 2, None) as workers:
        results = list(carry_out(jobs, work, workers))
    assert sorted(map(repr, (job for job, _ in results))) == sorted(map(repr, jobs)), "every job exactly once"
    assert dict(results) == {job: job[1] for job in jobs if job[0] == "work"} | {jobs[1]: None, jobs[-1]: "done"}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_error_in_a_job_is_raised_as_it_is(executor):
    if executor == "dask":
        pytest.importorskip("distributed")
    with open_workers(executor, 1, None) as workers, pytest.raises(ValueError, match="so it goes"):
        list(carry_out([("fail", "so it goes")], work, workers))


def die_in_the_first(cell):
    """Cell.run, but the first to come kills its worker."""
    if cell.method == "regress" and cell.suite == "simple":
        die_once(Path(os.environ["ACBO_TEST_DIED"]))
    return Cell.run(cell)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_executor_changes_nothing_also_when_a_worker_is_killed(
    executor, checkpoint, finished, tmp_path, monkeypatch
):
    """Two workers, one of which is killed in the middle of a cell: the report of one process."""
    if executor == "dask":
        pytest.importorskip("distributed")
    monkeypatch.setenv("ACBO_TEST_DIED", str(tmp_path / "died"))
    real = compare.carry_out
    monkeypatch.setattr(compare, "carry_out", lambda jobs, function, workers: real(jobs, die_in_the_first, workers))
    report = evaluate(checkpoint, output=tmp_path / "arena", executor=executor, workers=2, **GIVEN)
    assert (tmp_path / "died").exists()
    assert without_clock(report) == without_clock(finished[1])
    assert (tmp_path / "arena" / "results.csv").read_bytes() == (finished[0] / "results.csv").read_bytes()


def test_a_scheduler_that_runs_already(checkpoint, finished, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("acbo_ref.arena.workers.CONNECT_SECONDS", 3)
    with distributed.LocalCluster(
        n_workers=0, threads_per_worker=1, dashboard_address="localhost:0", silence_logs=logging.CRITICAL
    ) as cluster:
        given = {**GIVEN, "executor": "dask", "scheduler": cluster.scheduler_address}
        with pytest.raises(AcboError, match="has no workers"):
            evaluate(checkpoint, **given)
        cluster.scale(1)
        assert without_clock(evaluate(checkpoint, **given)) == without_clock(finished[1])
    with pytest.raises(AcboError, match="no Dask scheduler at"):
        evaluate(checkpoint, **given)


def test_that_no_worker_lives_is_told_before_all_was_tried_twice():
    with open_workers("local", 2, None) as workers, pytest.raises(RunError, match="no worker survives"):
        list(carry_out([("die", n) for n in range(6)], work, workers))


def test_cells_that_are_given_up_are_named(checkpoint, tmp_path, monkeypatch):
    """Everything else is finished and kept, and the same command tries them again."""
    real = compare.carry_out

    def give_up(jobs, function, workers):
        for job, result in real(jobs, function, workers):
            yield job, None if job.method == "regress" else result

    monkeypatch.setattr(compare, "carry_out", give_up)
    with pytest.raises(RunError, match="died twice: seed--regress, simple--regress") as caught:
        evaluate(checkpoint, output=tmp_path, workers=2, **GIVEN)
    assert "The same command tries these again" in caught.value.hint
    assert len(list((tmp_path / "cells").iterdir())) == 6 and not (tmp_path / "summary.json").exists()
    monkeypatch.undo()
    assert evaluate(checkpoint, output=tmp_path, **GIVEN)["suites"][0]["methods"]["regress"]


def test_executors_that_are_not_there(checkpoint, monkeypatch):
    with pytest.raises(AcboError, match="no executor named 'dusk'") as caught:
        evaluate(checkpoint, executor="dusk", **GIVEN)
    assert "did you mean 'dask'" in caught.value.hint
    with pytest.raises(AcboError, match="a scheduler is for the executor 'dask'"):
        evaluate(checkpoint, scheduler="tcp://127.0.0.1:1", **GIVEN)
    for executor in EXECUTORS:  # also where nothing is left to do
        with pytest.raises(AcboError, match=r"a scheduler is for|needs distributed"):
            monkeypatch.setattr("acbo_ref.arena.workers.find_spec", lambda name: None)
            evaluate(checkpoint, scheduler="tcp://127.0.0.1:1", executor=executor, methods=["policy"], suites=["seed"])
    monkeypatch.setattr("acbo_ref.arena.workers.find_spec", lambda name: None)
    with pytest.raises(AcboError, match="needs distributed") as caught:
        evaluate(checkpoint, executor="dask", **GIVEN)
    assert caught.value.hint == "pip install 'acbo[dask]'"
