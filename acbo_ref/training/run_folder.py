"""The folder of a run: its configuration, its metrics, and which checkpoints are kept.

    config.yaml       the resolved configuration
    metrics.jsonl     one line an iteration
    latest.npz        the newest checkpoint; the best `keep_best_n` by recent score as
                      episode_NNNNNNNN.npz

Contract: metrics are on disk before the checkpoint that counts them, and lines beyond a checkpoint
are dropped when it is resumed, so a kill at any moment leaves each iteration once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import yaml

from acbo_ref.config import Config
from acbo_ref.errors import AcboError, RunError
from acbo_ref.files import Document, write_atomically
from acbo_ref.training.checkpoint import Checkpoint, save_checkpoint

Record = Document  # one line of metrics.jsonl

LATEST = "latest.npz"
# What a run leaves that died before its first latest.npz: the numbered file is written before it.
_LEFT_BY_THE_DEAD = ("config.yaml", "metrics.jsonl", "episode_*.npz")
# A numbered checkpoint in the ranking: stage number, recent score, file name.
Ranked = tuple[int, float, str]


class RunFolder:
    """The files of one run.

    Args:
        path: the folder, made when it is first written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def refuse_another_run(self) -> None:
        """Raises:
        AcboError: the folder already holds a run, or files that are not a run's.
        """
        if (self.path / LATEST).exists():
            raise AcboError(f"{self.path} already holds a run", "continue it with --resume, or choose another --output")
        visible = self.path.iterdir() if self.path.is_dir() else iter(())
        left = _LEFT_BY_THE_DEAD if (self.path / "config.yaml").exists() else ()
        others = sorted(p.name for p in visible if not any(p.match(pattern) for pattern in (".*", *left)))
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            raise AcboError(f"{self.path} is not empty: it holds {others[0]}{more}", "choose another --output")

    def check_free(self, config: Config) -> None:
        """Metrics without a checkpoint are of a run that died before its first: there is nothing to
        continue, and the same run may begin again.

        Raises:
            AcboError: the folder already holds a run, one of another config that died, or files
                that are not a run's.
        """
        self.refuse_another_run()
        left = self.path / "config.yaml"
        if left.exists() and left.read_bytes() != _config_text(config):
            raise AcboError(
                f"{left} is of another run, or not a run's", "choose another --output, or move that file away"
            )

    def begin(self, config: Config) -> None:
        """A new run.

        Raises:
            AcboError: the folder is not free, see `check_free`.
            RunError: it cannot be written to.
        """
        self.check_free(config)
        self.write_config(config)
        (self.path / "metrics.jsonl").unlink(missing_ok=True)

    def write_config(self, config: Config) -> None:
        write_atomically(self.path / "config.yaml", _config_text(config))

    def take_over_metrics(self, source: Path, iteration: int) -> list[Record]:
        """Keep the lines of `source` up to `iteration`, whole ones, each iteration once; returns
        them.
        """
        records = [r for r in read_metrics(source / "metrics.jsonl") if r["iteration"] <= iteration]
        lines = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
        write_atomically(self.path / "metrics.jsonl", lines.encode())
        return records

    @property
    def latest(self) -> str | None:
        """The newest checkpoint's path, None before there is one."""
        return str(self.path / LATEST) if (self.path / LATEST).exists() else None

    def append_metrics(self, record: Record, present: Callable[[], Checkpoint]) -> None:
        """One line, on disk before anything that counts on it is.

        Args:
            present: gives the present state, which is saved if the folder has disappeared.
        Raises:
            RunError: it cannot be written, or the folder was removed.
        """
        try:
            with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(record, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except FileNotFoundError as error:  # the folder itself is gone, the state is not
            checkpoint = present()
            self.write_config(checkpoint.config)
            save_checkpoint(checkpoint, self.path / LATEST)
            raise RunError(
                f"{self.path} was removed while training; the present state is saved there again, "
                "the metrics so far are lost",
                "continue with --resume",
            ) from error
        except OSError as error:
            raise RunError(
                f"cannot write {self.path / 'metrics.jsonl'}: {error.strerror}; "
                f"last good checkpoint: {self.latest or 'none'}",
                "free space, then continue with --resume",
            ) from error

    def save(self, checkpoint: Checkpoint, name: str | None = None, dropped: tuple[str, ...] = ()) -> None:
        """Write latest.npz, before it also the numbered file `name`, and remove those that are
        dropped.
        """
        if name is not None:
            save_checkpoint(checkpoint, self.path / name)
        save_checkpoint(checkpoint, self.path / LATEST)
        for old in dropped:
            (self.path / old).unlink(missing_ok=True)


def _config_text(config: Config) -> bytes:
    return yaml.safe_dump(config.to_dict(), sort_keys=False).encode()


def rank(best: list[Ranked], new: Ranked, keep: int) -> tuple[list[Ranked], tuple[str, ...]]:
    """The ranking with one more checkpoint, best first, and the names of those that fall out of it.

    A later stage beats an earlier one: scores of different stages are about different systems.
    """
    ranked = sorted([entry for entry in best if entry[2] != new[2]] + [new], key=lambda e: (-e[0], -e[1], e[2]))
    return ranked[:keep], tuple(entry[2] for entry in ranked[keep:])


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
