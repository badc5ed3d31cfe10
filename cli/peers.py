"""Several processes that train as one: who of them writes, how they agree, and what is said when
one is lost.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import click
from acbo_cli.main import fail

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
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
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
        same: what has to be equal in all processes, by name.
    Attributes:
        index, count: of this process, and how many there are. Process 0 alone writes.
    """

    def __init__(
        self,
        coordinator: str,
        num_processes: int | None,
        process_id: int | None,
        folder: Path,
        same: dict[str, str],
    ) -> None:
        from acbo_fast.jax import mesh

        self._checkpoint = folder / "latest.npz"
        self._exit_message = mesh.ExitMessage(
            lambda: "error: this process was killed, or a peer was lost; {}\nhint: {}\n".format(*self._way_back())
        )
        click.echo(f"looking for the other processes by {coordinator} (five minutes at most)", err=True)
        try:
            mesh.join(coordinator, num_processes, process_id)
            self.any_process = mesh.any_process
            self.index, self.count = mesh.place_in_run()
            mesh.compare(same)
        except BaseException:
            self._exit_message.cancel()
            raise
        click.echo(f"process {self.index} of {self.count}{', which writes nothing' if self.index else ''}", err=True)

    def _way_back(self) -> tuple[str, str]:
        """What there is to continue from, and how."""
        if self._checkpoint.exists():
            return f"last checkpoint: {self._checkpoint}", (
                "start all processes again with --resume in place of --config and --output; their number may change"
            )
        return f"there is no checkpoint at {self._checkpoint} yet", "start all processes again"

    def run(self, begin: Callable[[], T], work: Callable[[T], int]) -> int:
        """work(begin()). All processes begin, or none does. Later, if a peer is lost or this
        process fails, it ends at once with a message: the others must not wait for it."""
        from acbo_fast.jax import mesh
        from acbo_ref.errors import AcboError

        try:
            with mesh.peers_may_be_lost():
                begun = self._together(begin)
            try:
                with mesh.peers_may_be_lost():
                    return work(begun)
            except mesh.PeerLost as error:
                found, hint = self._way_back()
                self._leave(fail(f"{error}; {found}", hint, error.exit_code))
            except AcboError as error:
                self._leave(fail(error.message, error.hint, error.exit_code))
            except KeyboardInterrupt:
                self._leave(fail("interrupted", "", 130))
            except Exception as error:
                traceback.print_exc()
                self._leave(fail(f"internal error: {type(error).__name__}: {error}", "report the traceback", 1))
        finally:
            self._exit_message.cancel()

    def _together(self, begin: Callable[[], T]) -> T:
        """begin() in all processes; if it fails in one, all raise."""
        from acbo_ref.errors import AcboError

        failure: Exception | None = None
        try:
            begun = begin()
        except Exception as error:
            failure = error
        if self.any_process(failure is not None):
            raise failure or AcboError("another process could not begin", "it says why")
        return begun

    def _leave(self, code: int) -> NoReturn:
        self._exit_message.cancel()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # without waiting for the others, as JAX would
