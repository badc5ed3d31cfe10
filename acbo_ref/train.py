"""The training loop: collect, update, measure, advance, save. Written once, for every backend.

A run folder holds
    config.yaml       the resolved configuration
    metrics.jsonl     one line an iteration
    latest.npz        the newest checkpoint; the best `keep_best_n` by recent score as episode_NNNNNNNN.npz

Contract: parameters and metrics (but for their "seconds") are a function of the config alone. `resume` continues as if
nothing had happened: metrics are on disk before the checkpoint that counts them, and lines beyond a checkpoint are
dropped when it is resumed, so a kill at any moment leaves each iteration once.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from acbo_ref import grpo, optim
from acbo_ref.atomic import write_atomically
from acbo_ref.backend import Backend, Hyper, ReferenceBackend
from acbo_ref.checkpoint import Checkpoint, checkpoint_path, load_checkpoint, save_checkpoint
from acbo_ref.config import Config, apply_overrides, config_from_dict
from acbo_ref.curriculum import Curriculum, CurriculumState
from acbo_ref.errors import AcboError, RunError
from acbo_ref.metrics import gain_unit
from acbo_ref.randomness import Role, generator
from acbo_ref.rollout import draw_noise
from acbo_ref.scm import SCMBatch, expected_target, observational_moments, oracle

Array = NDArray[Any]
Record = dict[str, Any]

# Episodes of a batch whose true score is computed: the oracle of a system without a closed form takes milliseconds.
MEASURED_EPISODES = 32
# Draws and grid for the training score of models without a closed form; evaluation uses far more.
TRAINING_DRAWS = 64
TRAINING_GRID = 21
# Iterations that a warning looks back on, and the least between two of a kind.
WARNING_WINDOW = 20
# Iterations in a row with skipped optimiser steps after which training gives up.
MAX_BAD_ITERATIONS = 3


@dataclass(frozen=True)
class TrainResult:
    """What a finished (or stopped) run reports."""

    episodes: int
    iterations: int
    seconds: float
    score: float | None
    checkpoint: str | None
    stopped: str


@dataclass
class _Progress:
    """State of the loop besides the network: plain data, saved in every checkpoint."""

    backend: str
    dtype: str
    episodes: int = 0
    best: list[list[Any]] = field(default_factory=list)  # [stage number, score, file name], best first
    best_score: float | None = None
    best_episode: int = 0
    bad_iterations: int = 0


class Trainer:
    """Trains a policy.

    Args:
        config: see config.Config.
        backend: default the reference.
        output: run folder; None writes nothing.

    Attributes:
        curriculum: add models with `curriculum.scm_pool["name"] = [scm, ...]` before `train`.
        state: the backend's training state.
        iteration: iterations done.
        stop_requested: set it to end after the running iteration, with a checkpoint.

    Raises:
        AcboError: the output folder already holds a run.
    """

    def __init__(self, config: Config, backend: Backend | None = None, output: str | Path | None = None) -> None:
        self.config = config
        self.backend: Backend = backend if backend is not None else ReferenceBackend(config)
        self.output = Path(output) if output is not None else None
        if self.output is not None:
            _refuse_another_run(self.output)
            self._write_config()  # so that a place that cannot be written says so first
            # Metrics without a checkpoint are of a run that died before its first: nothing to continue, so begin again.
            (self.output / "metrics.jsonl").unlink(missing_ok=True)
        self.curriculum = Curriculum(config)
        self.state = self.backend.init_state()
        self.iteration = 0
        self.stop_requested = False
        self._progress = _Progress(self.backend.name, self.backend.dtype)
        self._pools: list[str] | None = None  # names that the resumed run had; it must have them again
        self._records: list[Record] = []  # the last WARNING_WINDOW, for warnings
        self._warned: dict[str, int] = {}

    @classmethod
    def resume(
        cls,
        path: str | Path,
        make_backend: Callable[[Config], Backend] = ReferenceBackend,
        output: str | Path | None = None,
        overrides: Sequence[str] = (),
        config: Config | None = None,
        writes: bool = True,
    ) -> Trainer:
        """Continue from a checkpoint file or run folder, in the same folder unless `output` names another.

        Args:
            path: FILE, or DIR for its latest.npz.
            make_backend: gets the config with the dtype of the run; another backend than before continues to rounding,
                the same one bit for bit. Pools added from Python must be added again before `train`.
            output: another run folder, which gets the metrics so far.
            overrides: KEY=VALUE, as for load_config.
            config: in place of the checkpoint's own.
            writes: False to leave the run folder to another process of the same run.
        Raises:
            AcboError: no usable checkpoint; a change of the policy section, the seed or the batch size; an older
                checkpoint in its own folder, whose later results would be lost; an output that holds another run.
        """
        source = checkpoint_path(path)
        checkpoint = load_checkpoint(source)
        saved = dict(checkpoint.progress)
        document = (checkpoint.config if config is None else config).to_dict()
        config = config_from_dict(apply_overrides(document, overrides))
        for name in ("policy", "seed", "batch_size"):
            if getattr(config, name) != getattr(checkpoint.config, name):
                raise AcboError(f"--resume cannot change {name}", "start a new run for that")
        config = replace(config, dtype=config.dtype or saved["dtype"])
        folder = source.parent if output is None else Path(output)
        same_folder = folder.resolve() == source.parent.resolve()
        if not same_folder:
            _refuse_another_run(folder)
        elif source.name != "latest.npz" and (folder / "latest.npz").exists():
            raise AcboError(
                f"{source} is not the latest checkpoint of {folder}; continuing there would lose what came after",
                "give another --output, or resume the folder itself",
            )
        if checkpoint.state.step and not any(v.any() for v in checkpoint.state.second_moment.values()):
            raise AcboError(
                f"{source} has weights only, no optimiser state", "resume from a checkpoint of a run folder"
            )
        trainer = cls.__new__(cls)
        trainer.config = config
        trainer.backend = make_backend(config)
        trainer.output = folder if writes else None
        trainer.curriculum = Curriculum(config)
        trainer.state = trainer.backend.from_host(checkpoint.state)
        trainer.iteration = checkpoint.iteration
        trainer.stop_requested = False
        trainer.curriculum.state = CurriculumState(**saved.pop("curriculum"))
        if trainer.curriculum.state.stage >= len(config.curriculum.stages):
            raise AcboError("the checkpoint's stage does not exist in this curriculum", "keep the stages when resuming")
        trainer._warned = saved.pop("warned")
        trainer._pools = saved.pop("pools")
        trainer._progress = _Progress(**saved | {"backend": trainer.backend.name, "dtype": trainer.backend.dtype})
        if not same_folder:
            trainer._progress.best = []  # those files stay where they are
        trainer._records = trainer._take_over_metrics(source.parent) if writes else []
        return trainer

    # ------------------------------------------------------------------------------------------------- the loop

    def train(self, on_iteration: Callable[[Record], None] | None = None) -> TrainResult:
        """Run to the end of the config, an early stop, or `stop_requested`.

        Args:
            on_iteration: called with each record after it is on disk.
        Raises:
            RunError: the loss stays non-finite, or nothing can be written; the last good checkpoint is named.
        """
        began = time.perf_counter()
        if self._pools is not None and self._pools != sorted(self.curriculum.scm_pool):
            raise AcboError(
                f"the run had the pools {self._pools}, now there are {sorted(self.curriculum.scm_pool)}",
                "add the same models to curriculum.scm_pool before train()",
            )
        self._write_config()
        stopped = "finished"
        while self.iteration < self.config.num_iterations:
            # Numbers that overflow are counted and reported (skipped_steps); NumPy need not say it line by line as well.
            with np.errstate(over="ignore", invalid="ignore"):
                record = self._iterate()
            self._append_metrics(record)
            every = self.config.checkpoint_every
            crossed = self._progress.episodes // every > (self._progress.episodes - self.config.batch_size) // every
            if crossed:
                self._save(record, numbered=True)
            if on_iteration is not None:
                on_iteration(record)
            if self._progress.bad_iterations >= MAX_BAD_ITERATIONS:
                raise RunError(
                    f"loss or gradient was not finite in {MAX_BAD_ITERATIONS} iterations in a row; "
                    f"last good checkpoint: {self._latest() or 'none'}",
                    "reduce grpo.group_size or grpo.learning_rate, and keep grpo.gradient_clip on",
                )
            if reason := self._should_stop(record):
                stopped = reason
                break
        self._save(self._records[-1] if self._records else None, numbered=False)
        return TrainResult(
            episodes=self._progress.episodes,
            iterations=self.iteration,
            seconds=time.perf_counter() - began,
            score=self._records[-1]["recent_score"] if self._records else None,
            checkpoint=self._latest(),
            stopped=stopped,
        )

    def _iterate(self) -> Record:
        """One iteration: sample systems, roll out, update, measure."""
        config, i = self.config, self.iteration
        stage = self.curriculum.stage.name
        problems, observation_mask, rehearsed = self.curriculum.sample(i)
        noise = draw_noise(config, i, observation_mask.shape[1], problems.shape[1])
        fixed_std = self._fixed_std()
        hyper = Hyper(
            optim.learning_rate(config.grpo, i, config.num_iterations),
            optim.entropy_coefficient(config.grpo, i, config.num_iterations),
        )
        began = time.perf_counter()
        trajectories = self.backend.rollout(self.state, problems, observation_mask, noise, fixed_std)
        seen = episode_statistics(trajectories, noise.normal[:, :, 0] if config.policy.use_fixed_std else None)
        rolled_out = time.perf_counter()
        self.state, diagnostics = self.backend.update(self.state, trajectories, minibatch_order(config, i), hyper)
        updated = time.perf_counter()
        some = np.arange(min(config.batch_size, MEASURED_EPISODES))  # episodes of a batch are exchangeable
        gains, oracle_gains = episode_gains(
            problems.select(some), seen.pop("variable")[some], seen.pop("applied")[some]
        )
        self.iteration += 1
        self._progress.episodes += config.batch_size
        self._progress.bad_iterations = self._progress.bad_iterations + 1 if diagnostics["skipped_steps"] else 0
        self.curriculum.record(gains[~rehearsed[some]], oracle_gains[~rehearsed[some]])
        recent = self.curriculum.recent_score()
        stage_number = self.curriculum.state.stage
        new_stage = self.curriculum.advance(self._progress.episodes)
        record: Record = {
            "iteration": self.iteration,
            "episodes": self._progress.episodes,
            "stage": stage,
            "next_stage": self.curriculum.stage.name if new_stage else None,
            "stage_number": stage_number,
            "score": float(gains.sum() / oracle_gains.sum()) if oracle_gains.sum() > 0 else 0.0,
            "recent_score": recent,
            **seen,
            **diagnostics,
            "learning_rate": hyper.learning_rate,
            "entropy_coefficient": hyper.entropy_coefficient,
            "fixed_std": fixed_std,
        }
        record = {key: _finite(value) for key, value in record.items()}
        self._records = [*self._records, record][-WARNING_WINDOW:]
        record["warnings"] = self._warnings(record)
        record["seconds"] = {
            "rollout": rolled_out - began,
            "update": updated - rolled_out,
            "measure": time.perf_counter() - updated,
        }
        if new_stage:  # another stage, another scale: what was best before says nothing
            self._progress.best_score, self._progress.best_episode = None, self._progress.episodes
        elif recent is not None and (self._progress.best_score is None or recent > self._progress.best_score):
            self._progress.best_score, self._progress.best_episode = recent, self._progress.episodes
        return record

    def _fixed_std(self) -> float:
        exploration, score = self.config.exploration, self.curriculum.recent_score()
        if not exploration.adaptive:
            return self.config.policy.fixed_std
        return exploration.high if score is None or score < exploration.switch_score else exploration.low

    def _should_stop(self, record: Record) -> str | None:
        early, last_stage = self.config.early_stopping, len(self.curriculum.stages) - 1
        if self.stop_requested:
            return "interrupted"
        if self.curriculum.state.stage == last_stage:
            score = self.curriculum.recent_score() if self.curriculum.window_is_full() else None
            if early.score is not None and score is not None and score >= early.score:
                return f"score {score:.3f} reached {early.score}"
            since = self._progress.episodes - self._progress.best_episode
            if early.patience is not None and since >= early.patience:
                return f"no better score for {since} episodes"
        return None

    def _warnings(self, record: Record) -> list[str]:
        """Advice, from the last WARNING_WINDOW iterations; each kind at most once in so many."""
        found: dict[str, str] = {}
        if record.get("skipped_steps"):
            found["non_finite"] = (
                f"{record['skipped_steps']:.0f} optimiser steps skipped: loss or gradient not finite; reduce "
                "grpo.group_size or grpo.learning_rate, keep grpo.gradient_clip on"
            )
        if len(self._records) == WARNING_WINDOW:
            mean = {
                key: sum(r[key] or 0.0 for r in self._records) / WARNING_WINDOW
                for key in ("mean_range_utilization", "first3_target", "last3_target", "score")
            }
            if mean["mean_range_utilization"] < 0.3:
                found["range"] = (
                    f"without exploration, interventions use {mean['mean_range_utilization']:.0%} of the domain; "
                    "raise policy.fixed_std to 2.0 and grpo.entropy_coefficient to 0.02: the policy may be converging early"
                )
            long_enough = self.config.interventions_per_episode >= 6
            if long_enough and mean["last3_target"] >= mean["first3_target"] and mean["score"] < 0.8:
                found["improvement"] = (
                    "no improvement within episodes (last 3 interventions against first 3); try grpo.ppo_epochs 6, "
                    "grpo.learning_rate 3e-4, and check the reward weights"
                )
        fresh = {
            k: v for k, v in found.items() if self.iteration - self._warned.get(k, -WARNING_WINDOW) >= WARNING_WINDOW
        }
        self._warned |= dict.fromkeys(fresh, self.iteration)
        return list(fresh.values())

    # -------------------------------------------------------------------------------------------------- the files

    def checkpoint(self) -> Checkpoint:
        """The present state as a Checkpoint."""
        progress = {
            **asdict(self._progress),
            "curriculum": asdict(self.curriculum.state),
            "warned": self._warned,
            "pools": sorted(self.curriculum.scm_pool),
        }
        return Checkpoint(self.config, self.backend.to_host(self.state), self.iteration, progress)

    def _latest(self) -> str | None:
        if self.output is None or not (self.output / "latest.npz").exists():
            return None
        return str(self.output / "latest.npz")

    def _save(self, record: Record | None, numbered: bool) -> None:
        if self.output is None or record is None:
            return
        dropped: list[str] = []
        if numbered:
            name = f"episode_{self._progress.episodes:08d}.npz"
            score = record["recent_score"] if record["recent_score"] is not None else -1.0
            ranked = [entry for entry in self._progress.best if entry[2] != name]
            ranked.append([record["stage_number"], score, name])
            # A later stage beats an earlier one: scores of different stages are about different systems.
            ranked.sort(key=lambda entry: (-entry[0], -entry[1], entry[2]))
            keep = self.config.keep_best_n
            self._progress.best, dropped = ranked[:keep], [entry[2] for entry in ranked[keep:]]
            if name not in dropped:
                save_checkpoint(self.checkpoint(), self.output / name)
        save_checkpoint(self.checkpoint(), self.output / "latest.npz")
        for old in dropped:
            (self.output / old).unlink(missing_ok=True)

    def _write_config(self) -> None:
        if self.output is not None:
            text = yaml.safe_dump(self.config.to_dict(), sort_keys=False)
            write_atomically(self.output / "config.yaml", text.encode())

    def _append_metrics(self, record: Record) -> None:
        """One line, on disk before anything that counts on it is."""
        if self.output is None:
            return
        try:
            with open(self.output / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(record, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except FileNotFoundError as error:  # the folder itself is gone, the state is not
            self._write_config()
            save_checkpoint(self.checkpoint(), self.output / "latest.npz")
            raise RunError(
                f"{self.output} was removed while training; the present state is saved there again, the metrics so far are lost",
                "continue with --resume",
            ) from error
        except OSError as error:
            raise RunError(
                f"cannot write {self.output / 'metrics.jsonl'}: {error.strerror}; "
                f"last good checkpoint: {self._latest() or 'none'}",
                "free space, then continue with --resume",
            ) from error

    def _take_over_metrics(self, source: Path) -> list[Record]:
        """Keep the lines that the checkpoint knows of (whole ones, each iteration once) and return the last few."""
        assert self.output is not None
        records = [r for r in read_metrics(source / "metrics.jsonl") if r["iteration"] <= self.iteration]
        lines = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
        write_atomically(self.output / "metrics.jsonl", lines.encode())
        return records[-WARNING_WINDOW:]


def _refuse_another_run(folder: Path) -> None:
    if (folder / "latest.npz").exists():
        raise AcboError(f"{folder} already holds a run", "continue it with --resume, or choose another --output")


def read_metrics(path: str | Path) -> list[Record]:
    """Whole lines of a metrics file; a torn last line is ignored, a missing file is empty."""
    path = Path(path)
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not isinstance(record, dict) or "iteration" not in record:
            break
        records.append(record)
    return records


def _finite(value: Any) -> Any:
    """None in place of a number that JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ------------------------------------------------------------------------------------------------- measurements


def minibatch_order(config: Config, iteration: int) -> Array:
    """(ppo_epochs, E): a permutation of the episodes for each pass."""
    rng = generator(config.seed, Role.MINIBATCHES, iteration)
    return np.stack([rng.permutation(config.batch_size) for _ in range(config.grpo.ppo_epochs)])


def episode_statistics(trajectories: Any, normal: Array | None) -> Record:
    """Numbers of a batch of episodes, as played.

    Targets are in standard units here, so that systems can be averaged; `target_mean` is raw. `normal` (E, K) is the noise
    of candidate 0's values, to be taken off again for `mean_range_utilization`; None with a learned standard deviation.
    """
    rewards = np.asarray(trajectories.rewards, float)
    committed = np.asarray(trajectories.committed)[:, None, None]

    def done(draws: Any) -> Array:
        return np.take_along_axis(np.asarray(draws), committed, axis=2)[:, :, 0]

    variable, value = done(trajectories.draw_variable), done(trajectories.draw_value).astype(float)
    mean = np.clip(np.asarray(trajectories.value, float)[:, :, 0], -5.0, 5.0)
    if normal is not None:
        mean = np.asarray(trajectories.value, float)[:, :, 0] - float(trajectories.fixed_std) * normal
        mean = np.clip(mean, -5.0, 5.0)
    target = done(trajectories.draw_outcome).astype(float)
    outcome = np.asarray(trajectories.outcome, float)
    parents = np.take_along_axis(np.asarray(trajectories.parents), variable, axis=1)
    return {
        "variable": variable,
        "applied": np.asarray(trajectories.applied, float),
        "reward_mean": float(rewards.mean()),
        "target_mean": float(outcome.mean()),
        "target_standard": float(target.mean()),
        "first3_target": float(target[:, :3].mean()),
        "last3_target": float(target[:, -3:].mean()),
        "parent_accuracy": float(parents.mean()),
        "range_utilization": float((value.max() - value.min()) / 10.0),
        "mean_range_utilization": float((mean.max() - mean.min()) / 10.0),
        "frac_reward_zero_std": float(grpo.zero_std_groups(rewards).mean()),
    }


def episode_gains(problems: SCMBatch, variable: Array, value: Array) -> tuple[Array, Array]:
    """Expected drop of the target below the observational mean, summed over an episode's interventions (E,), and the
    same for the oracle, both in standard deviations of the observed target. A system whose numbers are not finite counts
    as 0 of 0."""
    mean, std = observational_moments(problems, TRAINING_DRAWS)
    expected = expected_target(problems, variable, value, TRAINING_DRAWS)
    _, _, best = oracle(problems, TRAINING_DRAWS, TRAINING_DRAWS, TRAINING_GRID)
    spread = gain_unit(mean, std, best)
    gains, oracle_gains = (mean[:, None] - expected).sum(axis=1) / spread, variable.shape[1] * (mean - best) / spread
    finite = np.isfinite(gains) & np.isfinite(oracle_gains)
    return np.where(finite, gains, 0.0), np.where(finite, oracle_gains, 0.0)
