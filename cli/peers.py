"""Several processes that train as one: who of them writes, how they agree, and what is said when one is lost."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import click

T = TypeVar("T")


def check(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Raises:
    click.UsageError: options that do not go together.
    """
    context = click.get_current_context()
    if coordinator is None and (num_processes is not None or process_id is not None):
        raise click.UsageError("--num-processes and --process-id need --coordinator", context)
    if coordinator is None or coordinator == "auto":
        return
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise click.UsageError(f"--coordinator is {coordinator!r}; it takes HOST:PORT, or auto", context)
    if num_processes is None or process_id is None:
        raise click.UsageError("--coordinator HOST:PORT needs --num-processes and --process-id", context)
    if process_id >= num_processes:
        raise click.UsageError(f"--process-id {process_id} of {num_processes} processes; they count from 0", context)


class Peers:
    """This process as one of a run over several.

    Args:
        coordinator, num_processes, process_id: see acbo_fast.jax.mesh.join.
        folder: of the run, to name its last checkpoint.
        same: what has to be equal in all processes.
    Attributes:
        index, count: of this process, and how many there are. Process 0 alone writes.
    """

    def __init__(
        self, coordinator: str, num_processes: int | None, process_id: int | None, folder: Path, same: str
    ) -> None:
        from acbo_fast.jax import mesh

        self._checkpoint = folder / "latest.npz"
        self._last_words = mesh.LastWords(
            f"error: this process was killed, or a peer was lost; last checkpoint: {self._checkpoint}\nhint: {self.hint}\n"
        )
        try:
            mesh.join(coordinator, num_processes, process_id)
            self.any_process = mesh.any_process
            self.index, self.count = mesh.place_in_run()
            mesh.compare(same)
        except BaseException:
            self._last_words.settle()
            raise

    hint = "start all processes again with --resume in place of --config and --output; their number may change"

    def run(self, work: Callable[[], T]) -> T:
        """Do it. If a peer is lost or this process fails, it ends at once with a message: the others must not wait for it."""
        from acbo_fast.jax import mesh
        from acbo_ref.errors import RunError

        try:
            with mesh.peers_may_be_lost():
                result = work()
        except mesh.PeerLost as error:
            self._leave(f"error: {error}; last checkpoint: {self._checkpoint}\nhint: {self.hint}", 1)
        except RunError as error:
            self._leave(f"error: {error}\nhint: {error.hint}", error.exit_code)
        except KeyboardInterrupt:
            self._leave("error: interrupted", 130)
        finally:
            self._last_words.settle()
        return result

    def _leave(self, message: str, code: int) -> NoReturn:
        click.echo(message, err=True)
        self._last_words.settle()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # without waiting for the others, as JAX would
