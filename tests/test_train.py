"""The training loop: reproducible, resumable at any moment, and honest about trouble."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from acbo_fast import available, backend_maker
from acbo_ref import AcboError, Trainer
from acbo_ref.backend import ReferenceBackend
from acbo_ref.errors import RunError
from acbo_ref.grpo.noise import draw_noise
from acbo_ref.training.advice import WINDOW, diagnosis
from acbo_ref.training.checkpoint import load_checkpoint
from acbo_ref.training.measure import episode_gains, scored_head
from acbo_ref.training.run_folder import read_metrics
from acbo_ref.verify.data import ROWS, iteration_data, small_config

STAGES = [
    {"name": "a", "until_episode": 30, "variables": [3, 4], "graphs": ["chain"]},
    {"name": "b", "variables": [3, 5], "graphs": ["fork", "erdos_renyi"]},
]


def config(**changes):
    """20 iterations over two stages with everything that has state switched on."""
    given = {
        "total_episodes": 120,
        "checkpoint_every": 18,
        "keep_best_n": 2,
        "curriculum": {"stages": STAGES, "window": 12},
        "exploration": {"adaptive": True, "switch_score": 0.1},
        "grpo": {"ppo_epochs": 2},
    }
    return small_config(**(given | changes))


def without_seconds(records):
    return [{k: v for k, v in r.items() if k != "seconds"} for r in records]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of 20 iterations."""
    folder = tmp_path_factory.mktemp("whole")
    trainer = Trainer(config(), output=folder)
    result = trainer.train()
    return folder, trainer, result


def test_a_run_leaves_what_it_promises(whole):
    folder, _, result = whole
    assert (result.episodes, result.iterations, result.stopped) == (120, 20, "finished")
    assert result.checkpoint == str(folder / "latest.npz") and result.seconds > 0
    records = read_metrics(folder / "metrics.jsonl")
    assert [r["iteration"] for r in records] == list(range(1, 21))
    assert {r["stage"] for r in records} == {"a", "b"}
    assert [r["episodes"] for r in records if r["next_stage"]] == [30]
    assert {r["fixed_std"] for r in records} <= {1.0, 2.0}
    numbered = sorted(p.name for p in folder.glob("episode_*.npz"))
    assert len(numbered) == 2  # keep_best_n
    kept = load_checkpoint(folder).progress["best"]
    assert sorted(name for *_, name in kept) == numbered
    # by stage, then by recent score: those of an easy stage say nothing about a hard one
    scores = {
        f"episode_{r['episodes']:08d}.npz": (r["stage_number"], r["recent_score"])
        for r in records
        if r["episodes"] % 18 == 0
    }
    assert sorted(scores, key=scores.get, reverse=True)[:2] == [name for *_, name in kept]
    assert not list(folder.glob(".*"))


def test_every_metric_is_finite_json(whole):
    for line in (whole[0] / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line, parse_constant=lambda c: pytest.fail(f"{c} in metrics"))
        assert {
            "score",
            "target_mean",
            "range_utilization",
            "gradient_norm",
            "approx_kl",
            "frac_reward_zero_std",
        } <= set(record)
        assert set(record["seconds"]) == {"rollout", "update", "measure"}


def state_equal(a, b):
    return all(
        (getattr(a, g)[k] == v).all()
        for g in ("params", "first_moment", "second_moment")
        for k, v in getattr(b, g).items()
    )


@pytest.mark.parametrize("iterations", [1, 4, 7, 13])
def test_resuming_is_bit_for_bit(whole, tmp_path, iterations):
    folder, trainer, _ = whole
    first = Trainer(config(), output=tmp_path)

    def stop(record):
        first.stop_requested = record["iteration"] == iterations

    assert first.train(stop).stopped == "interrupted"
    second = Trainer.resume(tmp_path)
    assert second.iteration == iterations
    second.train()
    assert state_equal(second.state, trainer.state)
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert without_seconds(records) == without_seconds(read_metrics(folder / "metrics.jsonl"))
    assert second.checkpoint().progress == trainer.checkpoint().progress


def test_resuming_from_an_older_checkpoint_drops_the_later_lines(whole, tmp_path):
    folder, trainer, _ = whole
    name = sorted(p.name for p in folder.glob("episode_*.npz"))[0]
    resumed = Trainer.resume(folder / name, output=tmp_path)
    resumed.train()
    assert state_equal(resumed.state, trainer.state)
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [r["iteration"] for r in records] == list(range(1, 21))


def test_a_torn_last_line_is_ignored(whole, tmp_path):
    path = tmp_path / "metrics.jsonl"
    content = (whole[0] / "metrics.jsonl").read_text()
    path.write_text(content + content.splitlines()[-1][:40])
    assert len(read_metrics(path)) == 20
    assert read_metrics(tmp_path / "none.jsonl") == []


SCRIPT = """
import sys
from acbo_ref import Trainer
from acbo_ref.verify.data import small_config
sys.path.insert(0, sys.argv[2])
from test_train import config
folder = sys.argv[1]
import pathlib
if (pathlib.Path(folder) / "latest.npz").exists():
    trainer = Trainer.resume(folder)
else:  # also where it was killed before the first checkpoint
    trainer = Trainer(config(), output=folder)
trainer.train()
"""


def test_killed_at_any_moment_it_goes_on_as_if_nothing_had_happened(whole, tmp_path):
    folder, trainer, _ = whole
    rng = np.random.default_rng(0)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), os.path.dirname(__file__)]
    kills = 0
    for _ in range(4):
        process = subprocess.Popen(command)
        lines_before = len(read_metrics(tmp_path / "metrics.jsonl"))
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if len(read_metrics(tmp_path / "metrics.jsonl")) > lines_before:
                break
            time.sleep(0.01)
        time.sleep(float(rng.uniform(0.0, 0.3)))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills >= 2
    subprocess.run(command, check=True, timeout=120)
    assert [r["iteration"] for r in read_metrics(tmp_path / "metrics.jsonl")] == list(range(1, 21))
    assert without_seconds(read_metrics(tmp_path / "metrics.jsonl")) == without_seconds(
        read_metrics(folder / "metrics.jsonl")
    )
    assert state_equal(load_checkpoint(tmp_path).state, trainer.state)


@pytest.mark.parametrize("backend", available())
def test_two_fresh_processes_give_identical_metrics(tmp_path, backend):
    script = (
        "import sys; from acbo_ref import Trainer; from acbo_fast import backend_maker;"
        "from acbo_ref.verify.data import small_config; c = small_config(total_episodes=18);"
        "Trainer(c, backend_maker(sys.argv[2])(c), output=sys.argv[1]).train()"
    )
    runs = []
    for n in range(2):
        environment = os.environ | {"PYTHONHASHSEED": str(n)}
        folder = tmp_path / str(n)
        subprocess.run([sys.executable, "-c", script, str(folder), backend], check=True, env=environment, timeout=200)
        runs.append(without_seconds(read_metrics(folder / "metrics.jsonl")))
    assert runs[0] == runs[1] and len(runs[0]) == 3


def test_resume_refuses_what_it_cannot_do(whole, tmp_path):
    for override in ("policy.hidden_dim=16", "seed=8", "batch_size=12"):
        with pytest.raises(AcboError, match="cannot change " + override.split("=")[0].split(".")[0]):
            Trainer.resume(whole[0], overrides=[override])
    with pytest.raises(AcboError, match="stage does not exist"):
        Trainer.resume(whole[0], overrides=["curriculum.stages=[{name: a}]"])
    with pytest.raises(AcboError, match="no checkpoint"):
        Trainer.resume(tmp_path)
    with pytest.raises(AcboError, match="already holds a run"):
        Trainer(config(), output=whole[0])
    older = min(whole[0].glob("episode_*.npz"))
    before = (whole[0] / "metrics.jsonl").read_bytes()
    with pytest.raises(AcboError, match="would lose what came after"):
        Trainer.resume(older)
    Trainer(config(total_episodes=6), output=tmp_path / "other").train()
    with pytest.raises(AcboError, match="already holds a run"):
        Trainer.resume(whole[0], output=tmp_path / "other")
    assert (whole[0] / "metrics.jsonl").read_bytes() == before


def test_a_new_run_does_not_touch_what_it_finds(tmp_path):
    """Files that are not a run's, and a config.yaml that the user wrote, are refused and stay."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("keep me")
    with pytest.raises(AcboError, match=r"is not empty: it holds notes.txt"):
        Trainer(config(), output=mine)
    (mine / "notes.txt").rename(mine / "episode_00000018.npz")  # a checkpoint that was put there
    with pytest.raises(AcboError, match="is not empty"):
        Trainer(config(), output=mine)
    (mine / "episode_00000018.npz").rename(mine / "notes.txt")
    own = tmp_path / "own"
    own.mkdir()
    (own / "config.yaml").write_text("seed: 3\n")
    with pytest.raises(AcboError, match="another run, or not a run's"):
        Trainer(config(), output=own)
    assert (mine / "notes.txt").read_text() == "keep me" and (own / "config.yaml").read_text() == "seed: 3\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "own"]
    # what a run that died before its first checkpoint leaves is no obstacle to the same run
    dead = tmp_path / "dead"
    Trainer(config(), output=dead)
    (dead / "metrics.jsonl").write_text('{"iteration": 1}\n')
    (dead / ".hidden").write_text("")
    (dead / "episode_00000018.npz").write_text("killed before latest.npz was written")
    Trainer(config(), output=dead)
    assert not (dead / "metrics.jsonl").exists()
    with pytest.raises(AcboError, match="another run"):
        Trainer(config(seed=8), output=dead)


def test_the_checkpoint_that_a_run_goes_on_from_stays(tmp_path):
    first = Trainer(config(total_episodes=12, checkpoint_every=1000), output=tmp_path)
    first.train()
    assert not list(tmp_path.glob("episode_*"))
    Trainer.resume(tmp_path, overrides=["total_episodes=18"]).train()
    assert load_checkpoint(tmp_path / "episode_00000012.npz").iteration == 2
    assert load_checkpoint(tmp_path / "latest.npz").iteration == 3


@pytest.mark.parametrize("share", [0.29, 0.01, 0.5, 0.0, 1.0])
def test_who_acts_is_drawn_and_their_number_is_exact(share):
    c = config(heads={"commit_by_outcome_head": share, "probes": 2}, batch_size=10)
    drawn = np.array([draw_noise(c, i, 2, 3).by_outcome_head for i in range(100)])
    assert drawn.sum() == round(1000 * share)
    if 0 < share < 1:
        assert len({row.tobytes() for row in drawn}) > 5  # not the same places every time
        assert (drawn.any(axis=0)).all() or share < 0.1


def test_each_head_has_its_own_score():
    """The recent score is that of the head that decides, and of the other if it never acts."""
    both = config(decision="outcome_head", heads={"commit_by_outcome_head": 0.5, "probes": 2}, total_episodes=12)
    records = []
    trainer = Trainer(both)
    trainer.train(records.append)
    for r in records:
        assert r["scored_head"] == "outcome_head" and r["score"] == r["score_outcome_head"] != r["score_policy_head"]
    gains = np.sum(trainer.curriculum.state.recent, axis=0)
    assert len(trainer.curriculum.state.recent) == 6 and records[-1]["recent_score"] == gains[0] / gains[1]
    alone = config(decision="outcome_head", heads={"commit_by_outcome_head": 0.0}, total_episodes=6)
    Trainer(alone).train(records.append)
    assert records[-1]["scored_head"] == "policy_head" and records[-1]["score_outcome_head"] is None
    every = config(decision="policy_head", heads={"commit_by_outcome_head": 1.0, "probes": 2}, total_episodes=6)
    assert scored_head(every) == "outcome_head" and scored_head(config(decision="policy_head")) == "policy_head"


def test_advice_says_when_a_run_falls_or_explodes():
    record = {"recent_score": 0.5, "best_score": 0.9, "skipped_steps": 0.0, "gradient_norm": 1.0}
    assert "fallen" in {f.kind for f in diagnosis([record], {})}
    assert "fallen" not in {f.kind for f in diagnosis([{**record, "best_score": 0.6}], {})}
    once = [{**record, "recent_score": 0.9}] * 11 + [{**record, "recent_score": -5.0}] * 9
    assert "fallen" not in {f.kind for f in diagnosis(once, {})}
    norms = [{**record, "gradient_norm": n} for n in [1.0] * (WINDOW - 1) + [101.0]]
    assert "exploding" in {f.kind for f in diagnosis(norms, {})}
    assert "exploding" not in {f.kind for f in diagnosis(norms[1:], {})}


def test_resume_keeps_the_dtype_and_asks_for_the_same_pools(tmp_path):
    from test_scm import diamond

    first = Trainer(config(total_episodes=12, dtype="float32"), output=tmp_path)
    first.curriculum.scm_pool["custom"] = [diamond()]
    first.train()
    again = Trainer.resume(tmp_path, overrides=["total_episodes=18", "dtype="])
    assert again.backend.dtype == "float32" and again.state.params["embed.weight"].dtype == np.float32
    with pytest.raises(AcboError, match=r"had the pools \['custom'\]"):
        again.train()
    again.curriculum.scm_pool["custom"] = [diamond()]
    assert again.train().episodes == 18


def test_resume_with_more_episodes(whole, tmp_path):
    more = Trainer.resume(whole[0], output=tmp_path, overrides=["total_episodes=132"])
    assert more.train().episodes == 132


def test_early_stopping_by_score_and_by_patience():
    one = [{"name": "a", "variables": [3, 3], "graphs": ["chain"]}]
    by_score = Trainer(config(curriculum={"stages": one, "window": 6}, early_stopping={"score": -9.0}))
    assert "reached" in by_score.train().stopped and by_score.iteration == 1
    early = Trainer(config(curriculum={"stages": one, "window": 12}, early_stopping={"score": -9.0}))
    assert early.train().iterations == 2  # not before the window is full
    still = config(
        curriculum={"stages": one, "window": 6},
        early_stopping={"patience": 24},
        grpo={"learning_rate": 1e-9, "ppo_epochs": 1},
        total_episodes=6000,
    )
    trainer = Trainer(still)
    best = []
    result = trainer.train(lambda r: best.append(r["recent_score"]))
    assert "no better score" in result.stopped
    since = len(best) - 1 - int(np.argmax(best))
    assert since == 4  # 24 episodes of 6


class _Poisoned(ReferenceBackend):
    """Rollouts whose rewards are not finite in the iterations given."""

    bad: tuple[int, ...] = ()
    calls = 0

    def rollout(self, *args):
        t = super().rollout(*args)
        if self.calls in self.bad:
            t.rewards[:] = np.nan
        self.calls += 1
        return t


def test_training_survives_a_bad_iteration_and_says_so():
    backend = _Poisoned(config())
    backend.bad = (2, 3)
    records = []
    Trainer(config(), backend).train(records.append)
    assert [r["skipped_steps"] for r in records[:5]] == [0, 0, 4, 4, 0]
    assert "skipped" in records[2]["warnings"][0] and records[2]["loss"] is None
    assert len(records) == 20


def test_training_stops_when_it_stays_bad_and_names_the_last_good_checkpoint(tmp_path):
    backend = _Poisoned(config())
    backend.bad = tuple(range(4, 20))
    with pytest.raises(RunError) as caught:
        Trainer(config(), backend, tmp_path).train()
    assert str(tmp_path / "latest.npz") in caught.value.message and "group_size" in caught.value.hint
    assert all(np.isfinite(v).all() for v in load_checkpoint(tmp_path).state.params.values())


def test_a_system_that_overflows_counts_as_nothing():
    """Weights of 1000 along a chain of 40: numbers beyond 1e100; the run goes on and its
    checkpoints are JSON.
    """
    wild = config(
        total_episodes=12,
        scm={"weight": [1000.0, 1000.0], "standardised": 0.0, "nonlinear": 0.0, "saturate": 0.0},
        curriculum={"stages": [{"name": "a", "variables": [120, 120], "graphs": ["chain"]}]},
        policy={"num_layers": 2},
    )
    trainer = Trainer(wild)
    records = []
    trainer.train(records.append)
    assert len(records) == 2 and np.isfinite(trainer.checkpoint().progress["curriculum"]["recent"]).all()


def test_noise_free_models_train():
    silent = config(total_episodes=12, scm={"noise_std": 0.0, "standardised": 0.5, "intercept": [-1.0, 1.0]})
    records = []
    Trainer(silent).train(records.append)
    assert all(r["skipped_steps"] == 0 and abs(r["score"]) < 10 for r in records)


def test_warnings_come_with_advice():
    """A policy that never moves off the centre, whatever its exploration: too little range, no
    improvement.
    """
    quiet = config(
        total_episodes=6 * (2 * WINDOW + 1),
        interventions_per_episode=6,
        grpo={"learning_rate": 1e-9, "ppo_epochs": 1, "learned_decisions": None},
        exploration={"adaptive": False},
        policy=ROWS,  # with evidence it starts at the ends of the domain
    )
    warned = [(r["iteration"], w) for r in _records(quiet) for w in r["warnings"]]
    ranges = [i for i, w in warned if "fixed_std to 2.0" in w and "entropy_coefficient to 0.02" in w]
    assert ranges == [WINDOW, 2 * WINDOW]
    assert all("ppo_epochs 6" in w for _, w in warned if "do not improve" in w)


def _records(settings):
    records = []
    Trainer(settings).train(records.append)
    return records


def test_a_full_disk_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    trainer = Trainer(config(), output=tmp_path)

    def full(handle):
        raise OSError(28, "No space left on device")

    def after_three(record):
        if record["iteration"] == 3:
            monkeypatch.setattr("acbo_ref.training.run_folder.os.fsync", full)

    with pytest.raises(RunError) as caught:
        trainer.train(after_three)
    assert "No space left" in caught.value.message and "--resume" in caught.value.hint
    monkeypatch.undo()
    assert Trainer.resume(tmp_path).train().episodes == 120


def test_custom_pools_train(tmp_path):
    from test_scm import diamond

    trainer = Trainer(config(total_episodes=12))
    trainer.curriculum.scm_pool["custom"] = [diamond()]
    assert trainer.train().episodes == 12


def test_the_score_of_the_oracle_is_one():
    problems, _, _ = iteration_data(small_config(scm={"nonlinear": 0.0, "saturate": 0.0}))
    from acbo_ref.systems.batch import oracle

    variable, value, _ = oracle(problems)
    gains, oracle_gains = episode_gains(problems, np.repeat(variable[:, None], 3, 1), np.repeat(value[:, None], 3, 1))
    np.testing.assert_allclose(gains, oracle_gains)


@pytest.mark.slow
@pytest.mark.parametrize("backend", available())
def test_it_learns(backend):
    """quick_test's settings with a third of its episodes: far above random, which scores 0."""
    from acbo_ref import evaluate, load_config

    settings = load_config("quick_test", ["total_episodes=960"])
    trainer = Trainer(settings, backend_maker(backend)(settings))
    trainer.train()
    report = evaluate(trainer.checkpoint(), suites=["simple"], methods=["policy"])
    assert report["suites"][0]["methods"]["policy"]["score"]["low"] > 0.6
