"""The training loop: collect, update, measure, advance, save. Written once, for every backend.

Contract: parameters and metrics (but for their "seconds") are a function of the config alone.
`resume` continues as if nothing had happened (run_folder.py).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from acbo_ref.arrays import Array, Params
from acbo_ref.backend import AnyBackend, ReferenceBackend
from acbo_ref.config import Config, with_overrides
from acbo_ref.errors import AcboError, RunError
from acbo_ref.grpo.noise import draw_noise
from acbo_ref.grpo.optim import entropy_coefficient, init_state, learning_rate
from acbo_ref.grpo.update import ScheduledCoefficients, minibatch_order
from acbo_ref.training import advice
from acbo_ref.training.checkpoint import Checkpoint, checkpoint_path, load_checkpoint
from acbo_ref.training.curriculum import Curriculum, CurriculumState, Sample
from acbo_ref.training.measure import Episodes, episode_statistics, head_scores
from acbo_ref.training.run_folder import LATEST, Ranked, Record, RunFolder, rank

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
    best: list[Ranked] = field(default_factory=list)  # best first
    best_score: float | None = None
    best_episode: int = 0
    bad_iterations: int = 0


class Trainer:
    """Trains a policy.

    Args:
        config: see config.Config.
        backend: default the reference.
        output: run folder; None writes nothing.
        start: a checkpoint to continue from, into a folder that may hold its run; see `resume`.
        parameters: to begin a new run with, in place of those drawn from the seed.

    Attributes:
        curriculum: add models with `curriculum.scm_pool["name"] = [scm, ...]` before `train`.
        state: the backend's training state.
        iteration: iterations done.
        stop_requested: set it to end after the running iteration, with a checkpoint.

    Raises:
        AcboError: the output folder is not free, see `RunFolder.check_free`.
    """

    def __init__(
        self,
        config: Config,
        backend: AnyBackend | None = None,
        output: str | Path | None = None,
        start: Checkpoint | None = None,
        parameters: Params | None = None,
    ) -> None:
        self.config = config
        self.backend: AnyBackend = backend if backend is not None else ReferenceBackend(config)
        self.output = Path(output) if output is not None else None
        self.curriculum = Curriculum(config)
        self.iteration = 0
        self.stop_requested = False
        self._folder = RunFolder(self.output) if self.output is not None else None
        self._progress = _Progress(self.backend.name, self.backend.dtype)
        self._pools: list[str] | None = None  # names that the resumed run had; it must have them again
        self._records: list[Record] = []  # the last ones, for advice
        self._warned: dict[str, int] = {}
        if start is not None:
            self.state = self.backend.from_host(start.state)
            self._restore(start)
            return
        if self._folder is not None:
            self._folder.begin(config)
        self.state = self.backend.init_state()
        if parameters is not None:
            self.state = self.backend.from_host(init_state(parameters))

    def _restore(self, start: Checkpoint) -> None:
        """Take over the loop's own state from a checkpoint.

        Raises:
            AcboError: its stage does not exist in this curriculum.
        """
        saved = dict(start.progress)
        self.iteration = start.iteration
        self.curriculum.state = CurriculumState(**saved.pop("curriculum"))
        if self.curriculum.state.stage >= len(self.config.curriculum.stages):
            raise AcboError("the checkpoint's stage does not exist in this curriculum", "keep the stages when resuming")
        self._warned, self._pools = saved.pop("warned"), saved.pop("pools")
        self._progress = _Progress(**saved | {"backend": self.backend.name, "dtype": self.backend.dtype})
        self._progress.best = [(stage, score, name) for stage, score, name in self._progress.best]

    @classmethod
    def resume(
        cls,
        path: str | Path,
        make_backend: Callable[[Config], AnyBackend] = ReferenceBackend,
        output: str | Path | None = None,
        overrides: Sequence[str] = (),
        config: Config | None = None,
        writes: bool = True,
    ) -> Trainer:
        """Continue from a checkpoint file or run folder, in the same folder unless `output` names
        another.

        Args:
            path: FILE, or DIR for its latest.npz.
            make_backend: gets the config with the dtype of the run. The same backend as before
                continues bit for bit, another one to rounding. Pools added from Python must be
                added again before `train`.
            output: another run folder, which gets the metrics so far.
            overrides: KEY=VALUE, as for load_config.
            config: in place of the checkpoint's own.
            writes: False to leave the run folder to another process of the same run.
        Raises:
            AcboError: no usable checkpoint; a change of the policy section, the seed or the batch
                size; an older checkpoint in its own folder, whose later results would be lost; an
                output that holds another run.
        """
        source = checkpoint_path(path)
        start = load_checkpoint(source)
        config = _resumed_config(start, with_overrides(start.config if config is None else config, overrides))
        folder = RunFolder(source.parent if output is None else Path(output))
        same_folder = folder.path.resolve() == source.parent.resolve()
        _check_resumable(source, start, folder, same_folder)
        trainer = cls(config, make_backend(config), folder.path if writes else None, start)
        if not same_folder:
            trainer._progress.best = []  # those files stay where they are
        if writes:
            trainer._records = folder.take_over_metrics(source.parent, trainer.iteration)[-advice.WINDOW :]
            if same_folder:  # what comes after may be worse: the start stays, ranked as the numbered ones
                trainer._save(numbered=True)
        return trainer

    # ------------------------------------------------------------------------------------- the loop

    def train(self, on_iteration: Callable[[Record], None] | None = None) -> TrainResult:
        """Run to the end of the config, an early stop, or `stop_requested`.

        Args:
            on_iteration: called with each record after it is on disk.
        Raises:
            RunError: the loss stays non-finite, or nothing can be written; the last good checkpoint
                is named.
        """
        began = time.perf_counter()
        if self._pools is not None and self._pools != sorted(self.curriculum.scm_pool):
            raise AcboError(
                f"the run had the pools {self._pools}, now there are {sorted(self.curriculum.scm_pool)}",
                "add the same models to curriculum.scm_pool before train()",
            )
        if self._folder is not None:
            self._folder.write_config(self.config)
        stopped = "finished"
        while self.iteration < self.config.num_iterations:
            # Numbers that overflow are counted and reported (skipped_steps); NumPy need not say so
            # line by line as well.
            with np.errstate(over="ignore", invalid="ignore"):
                record = self._iterate()
            if self._folder is not None:
                self._folder.append_metrics(record, self.checkpoint)
            every = self.config.checkpoint_every
            if self._progress.episodes // every > (self._progress.episodes - self.config.batch_size) // every:
                self._save(numbered=True)
            if on_iteration is not None:
                on_iteration(record)
            if self._progress.bad_iterations >= MAX_BAD_ITERATIONS:
                raise RunError(
                    f"loss or gradient was not finite in {MAX_BAD_ITERATIONS} iterations in a row; "
                    f"last good checkpoint: {self._latest or 'none'}",
                    "reduce grpo.group_size or grpo.learning_rate, and keep grpo.gradient_clip on",
                )
            since = self._progress.episodes - self._progress.best_episode
            reason = "interrupted" if self.stop_requested else early_stop(self.config, self.curriculum, since)
            if reason is not None:
                stopped = reason
                break
        self._save(numbered=False)
        return TrainResult(
            episodes=self._progress.episodes,
            iterations=self.iteration,
            seconds=time.perf_counter() - began,
            score=self._records[-1]["recent_score"] if self._records else None,
            checkpoint=self._latest,
            stopped=stopped,
        )

    def _iterate(self) -> Record:
        """One iteration: sample systems, roll out, update, measure."""
        config, i = self.config, self.iteration
        stage = self.curriculum.stage.name
        sample = self.curriculum.sample(i)
        noise = draw_noise(config, i, sample.observation_mask.shape[1], sample.systems.intercept.shape[1])
        fixed_std = explored_std(config, self.curriculum.recent_score())
        scheduled = ScheduledCoefficients(
            learning_rate(config.grpo, i, config.num_iterations),
            entropy_coefficient(config.grpo, i, config.num_iterations),
        )
        began = time.perf_counter()
        trajectories = self.backend.rollout(self.state, sample.systems, sample.observation_mask, noise, fixed_std)
        normal = noise.normal[:, :, 0] if config.policy.use_fixed_std else None
        episodes, statistics = episode_statistics(trajectories, normal)
        rolled_out = time.perf_counter()
        self.state, diagnostics = self.backend.update(self.state, trajectories, minibatch_order(config, i), scheduled)
        updated = time.perf_counter()
        self.iteration += 1
        self._progress.episodes += config.batch_size
        self._progress.bad_iterations = self._progress.bad_iterations + 1 if diagnostics["skipped_steps"] else 0
        measured = {**self._measure(sample, episodes, noise.by_outcome_head), **statistics, **diagnostics}
        record: Record = {
            "iteration": self.iteration,
            "episodes": self._progress.episodes,
            "stage": stage,
            **measured,
            **scheduled._asdict(),
            "fixed_std": fixed_std,
        }
        record = {key: _finite(value) for key, value in record.items()}
        self._records = [*self._records, record][-advice.WINDOW :]
        record["warnings"] = advice.due_warnings(self._records, config.to_dict(), self.iteration, self._warned)
        record["seconds"] = {
            "rollout": rolled_out - began,
            "update": updated - rolled_out,
            "measure": time.perf_counter() - updated,
        }
        return record

    def _measure(self, sample: Sample, episodes: Episodes, by_outcome_head: Array) -> Record:
        """Scores of the batch by the head that acted, and of the recent episodes of the head that
        is judged; the curriculum advances, and the best score so far is noted.
        """
        scores, counted = head_scores(
            self.config, sample.systems, episodes, by_outcome_head, sample.rehearsed, self.iteration
        )
        self.curriculum.record(*counted)
        recent, stage_number = self.curriculum.recent_score(), self.curriculum.state.stage
        progress = self._progress
        advanced = self.curriculum.advance(progress.episodes)
        if advanced:  # another stage, another scale: what was best before says nothing
            progress.best_score, progress.best_episode = None, progress.episodes
        elif (
            recent is not None
            and self.curriculum.window_is_full()  # the first few episodes score high by luck
            and (progress.best_score is None or recent > progress.best_score)
        ):
            progress.best_score, progress.best_episode = recent, progress.episodes
        return {
            "next_stage": self.curriculum.stage.name if advanced else None,
            "stage_number": stage_number,
            **scores,
            "recent_score": recent,
            "best_score": progress.best_score,
        }

    # ------------------------------------------------------------------------------------ the files

    def checkpoint(self) -> Checkpoint:
        """The present state as a Checkpoint."""
        progress = {
            **asdict(self._progress),
            "curriculum": asdict(self.curriculum.state),
            "warned": self._warned,
            "pools": sorted(self.curriculum.scm_pool),
        }
        return Checkpoint(self.config, self.backend.to_host(self.state), self.iteration, progress)

    @property
    def _latest(self) -> str | None:
        return self._folder.latest if self._folder is not None else None

    def _save(self, numbered: bool) -> None:
        if self._folder is None or not self._records:
            return
        record, progress, name = self._records[-1], self._progress, None
        dropped: tuple[str, ...] = ()
        if numbered:
            name = f"episode_{progress.episodes:08d}.npz"
            score = record["recent_score"] if record["recent_score"] is not None else -1.0
            progress.best, dropped = rank(progress.best, (record["stage_number"], score, name), self.config.keep_best_n)
            name = None if name in dropped else name
        self._folder.save(self.checkpoint(), name, dropped)


def _resumed_config(start: Checkpoint, config: Config) -> Config:
    """The config that a run goes on with, in the dtype it had.

    Raises:
        AcboError: it differs in what cannot change.
    """
    for name in ("policy", "seed", "batch_size"):
        if getattr(config, name) != getattr(start.config, name):
            raise AcboError(f"--resume cannot change {name}", "start a new run for that")
    return replace(config, dtype=config.dtype or start.progress["dtype"])


def _check_resumable(source: Path, start: Checkpoint, folder: RunFolder, same_folder: bool) -> None:
    """Raises:
    AcboError: something would be lost, or the checkpoint has weights only.
    """
    if not same_folder:
        folder.refuse_another_run()
    elif source.name != LATEST and folder.latest is not None:
        raise AcboError(
            f"{source} is not the latest checkpoint of {folder.path}; continuing there would lose what came after",
            "give another --output, or resume the folder itself",
        )
    if start.state.step and not any(v.any() for v in start.state.second_moment.values()):
        raise AcboError(f"{source} has weights only, no optimiser state", "resume from a checkpoint of a run folder")


def explored_std(config: Config, score: float | None) -> float:
    """Standard deviation of the value draw, which follows the recent score if exploration is
    adaptive.
    """
    exploration = config.exploration
    if not exploration.adaptive:
        return config.policy.fixed_std
    return exploration.high if score is None or score < exploration.switch_score else exploration.low


def early_stop(config: Config, curriculum: Curriculum, since: int) -> str | None:
    """Why training ends before the end of the config, in the last stage; None to go on.

    Args:
        since: episodes since the best recent score.
    """
    early = config.early_stopping
    if curriculum.state.stage < len(curriculum.stages) - 1:
        return None
    score = curriculum.recent_score() if curriculum.window_is_full() else None
    if early.score is not None and score is not None and score >= early.score:
        return f"score {score:.3f} reached {early.score}"
    if early.patience is not None and since >= early.patience:
        return f"no better score for {since} episodes"
    return None


def _finite(value: object) -> object:
    """None in place of a number that JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
