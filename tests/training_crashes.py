"""Training under faults: killed at random moments, and on a disk that is full after so many bytes.

    python tests/training_crashes.py kills N      SIGKILL at N random moments; each run goes on
                                                  until it has ended
    python tests/training_crashes.py disk N       N runs whose files cannot grow beyond a random
                                                  size (RLIMIT_FSIZE)

After each fault the last good checkpoint must load and the record of iterations must hold it; in
the end parameters and metrics must be those of an uninterrupted run, bit for bit. A process of its
own (it forks). Exit code 1 on a difference.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from test_train import config, without_seconds

from acbo_ref import Trainer
from acbo_ref.errors import RunError
from acbo_ref.training.checkpoint import load_checkpoint
from acbo_ref.training.run_folder import read_metrics


def train(folder: Path) -> None:
    """Go on to the end, from wherever the folder stands."""
    (Trainer.resume(folder) if (folder / "latest.npz").exists() else Trainer(config(), output=folder)).train()


def in_a_child(action: Callable[[], int], wait: float | None = None) -> int:
    """Its exit code; -9 if it was killed after `wait` seconds."""
    child = os.fork()
    if child == 0:
        os._exit(action())
    if wait is not None:
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def check(folder: Path) -> None:
    """What a fault may leave: a checkpoint that loads, with its iterations on record, or none
    yet.
    """
    if (folder / "latest.npz").exists():
        iterations = [r["iteration"] for r in read_metrics(folder / "metrics.jsonl")]
        assert iterations[: load_checkpoint(folder).iteration] == list(range(1, load_checkpoint(folder).iteration + 1))


def finished_alike(folder: Path, whole: Path) -> None:
    a, b = load_checkpoint(folder).state, load_checkpoint(whole).state
    assert all((a.params[k] == b.params[k]).all() and (a.first_moment[k] == b.first_moment[k]).all() for k in b.params)
    records = (without_seconds(read_metrics(f / "metrics.jsonl")) for f in (folder, whole))
    assert next(records) == next(records)


def kills(count: int, root: Path, whole: Path, typical: float) -> str:
    rng, done, runs = np.random.default_rng(2), 0, 0
    while done < count:
        folder, runs, longest = root / f"killed-{runs}", runs + 1, 0.6 * typical
        while True:
            code = in_a_child(lambda folder=folder: train(folder) or 0, rng.uniform(0, longest))
            longest *= 1.02  # a machine that is slower now may not reach the next checkpoint
            check(folder)
            if code == 0:
                break
            assert code == -signal.SIGKILL, code
            done += 1
        finished_alike(folder, whole)
    return f"{done} kills over {runs} runs: nothing lost, all ended identically"


def disk(count: int, root: Path, whole: Path, typical: float) -> str:
    """Files may grow to a random size; a write beyond it fails as on a full disk (with EFBIG for
    ENOSPC).
    """
    rng, failed = np.random.default_rng(3), 0
    largest = max(path.stat().st_size for path in whole.iterdir())

    def limited(folder: Path, size: int) -> int:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        try:
            train(folder)
        except RunError as error:
            return 3 if "File too large" in error.message and error.hint else 4
        return 0

    for n in range(count):
        folder, size = root / f"full-{n}", int(rng.integers(0, largest + 1))
        code = in_a_child(lambda folder=folder, size=size: limited(folder, size))
        assert code in (0, 3), f"exit code {code} with files of at most {size} bytes"
        failed += code == 3
        check(folder)
        assert not list(folder.glob(".*.tmp")), "a temporary file is left"
        assert in_a_child(lambda folder=folder: train(folder) or 0) == 0 or code == 0
        finished_alike(folder, whole)
    return f"{count} runs on a small disk, {failed} of them stopped with a message: all went on and ended identically"


def main(arguments: list[Any]) -> int:
    root = Path(tempfile.mkdtemp())
    began = time.perf_counter()
    train(root / "whole")
    typical = time.perf_counter() - began
    print({"kills": kills, "disk": disk}[arguments[0]](int(arguments[1]), root, root / "whole", typical))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
