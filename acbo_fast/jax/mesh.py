"""Devices: episodes are dealt out over all of them, and everything else is the same on each.

A *mesh* of one axis, "episodes", holds the devices of this process, or of all processes of a run.
Arrays of episodes are cut along it; parameters, moments and whole trajectories are replicated.
Randomness is data, so the number of devices changes nothing but the order of summation in the
gradient's mean.

    rollout   each device plays its own episodes; the trajectories are then gathered on every device
    update    each device takes its share of every minibatch; gradients are averaged over the mesh,
              and every device makes the same step

A process sees the devices of its own machine. `join` makes several processes one run: after it,
`jax.devices()` are those of all.

Contract: no mathematics; the functions that run on the mesh are in backend.py.
"""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from acbo_ref.config import Config
from acbo_ref.errors import AcboError, RunError

EPISODES = "episodes"
CUT, WHOLE = PartitionSpec(EPISODES), PartitionSpec()
# A silent peer counts as lost after so many seconds. One whose process ended is noticed at once, by
# its closed connections.
HEARTBEAT_SECONDS = 30


def episode_mesh(devices: int | None) -> Mesh:
    """The first `devices` devices of every process, None for all of them.

    Raises:
        AcboError: there are not so many.
    """
    here = jax.local_device_count()
    wanted = here if devices is None else devices
    if not 1 <= wanted <= here:
        hint = "--devices all takes all there are"
        if jax.default_backend() == "cpu":
            hint += "; XLA_FLAGS=--xla_force_host_platform_device_count=N makes N of a CPU, to try it out"
        raise AcboError(f"{wanted} devices were asked for, and JAX sees {here} here", hint)
    chosen = [d for p in range(jax.process_count()) for d in jax.local_devices(process_index=p)[:wanted]]
    return Mesh(np.array(chosen), (EPISODES,))


def check_divides(config: Config, devices: int) -> None:
    """Raises:
    AcboError: batch or minibatches cannot be dealt out evenly.
    """
    minibatch, rest = divmod(config.batch_size, config.grpo.minibatches)
    if rest or minibatch % devices:
        raise AcboError(
            f"batch_size {config.batch_size} in {config.grpo.minibatches} minibatches cannot be dealt out evenly "
            f"over {devices} devices",
            f"a batch_size that is a multiple of {devices * config.grpo.minibatches} can, or take fewer devices or other "
            "grpo.minibatches",
        )


def place(mesh: Mesh, array: Any, spec: PartitionSpec) -> jax.Array:
    """An array that every process has, on the mesh: each device gets a copy of its own part."""
    array = np.asarray(array)
    return jax.make_array_from_callback(
        array.shape, NamedSharding(mesh, spec), lambda index: np.array(array[index]), dtype=array.dtype
    )


# -------------------------------------------------------------------------------- several processes


def join(coordinator: str, num_processes: int | None, process_id: int | None) -> None:
    """Make this process one of a run over several; before anything else of JAX.

    Args:
        coordinator: HOST:PORT of process 0, or "auto" for what JAX finds of a cluster (Slurm, Open
            MPI, Kubernetes, TPU).
        num_processes, process_id: None with "auto".
    Raises:
        AcboError: the others were not found.
    """
    auto = coordinator == "auto"
    try:
        jax.distributed.initialize(
            None if auto else coordinator,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        hint = "every process needs the same --coordinator and --num-processes, and process 0 runs on the coordinator's host"
        if auto:
            hint = (
                "JAX found no cluster here that it knows: give --coordinator HOST:PORT --num-processes N --process-id I"
            )
        raise AcboError(f"no connection to the other processes: {str(error).splitlines()[0]}", hint) from error
    counts = [len(jax.local_devices(process_index=p)) for p in range(jax.process_count())]
    if len(set(counts)) > 1:
        raise AcboError(f"the processes have {counts} devices", "all need the same number")
    try:
        multihost_utils.sync_global_devices("joined")
    except (RuntimeError, ValueError) as error:
        raise AcboError(
            f"the processes found each other, but cannot exchange arrays: {str(error).splitlines()[0]}",
            "on CPUs each host's own name must resolve to an address that the others reach (not 127.0.1.1)",
        ) from error


def compare(parts: dict[str, str]) -> None:
    """Stop all processes if these texts are not the same in all of them.

    Raises:
        AcboError: they are not; names the processes and the parts.
    """
    digests = [np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8) for text in parts.values()]
    everyone = np.asarray(multihost_utils.process_allgather(np.stack(digests).astype(np.int32)))
    different = (everyone != everyone[0]).any(axis=-1)  # (processes, parts)
    if different.any():
        processes = ", ".join(map(str, np.flatnonzero(different.any(axis=1))))
        names = ", ".join(name for name, differs in zip(parts, different.any(axis=0), strict=True) if differs)
        raise AcboError(
            f"process {processes} differs from process 0 in: {names}",
            "give all processes the same command, files and versions, but for --process-id",
        )


def any_process(flag: bool) -> bool:
    """Whether it is true in any process; all must call it."""
    return bool(np.asarray(multihost_utils.process_allgather(np.int32(flag))).any())


def place_in_run() -> tuple[int, int]:
    """(number of this process, how many there are)"""
    return jax.process_index(), jax.process_count()


class PeerLost(RunError):
    """Another process of the run has ended, or cannot be reached."""


# How errors of a broken or silent connection begin, JaxRuntimeError or ValueError; others (out of
# memory) are not of that kind.
_CONNECTION = ("UNKNOWN:", "INTERNAL:", "UNAVAILABLE:", "DEADLINE_EXCEEDED:", "ABORTED:", "CANCELLED:")


@contextmanager
def peers_may_be_lost() -> Iterator[None]:
    """Turns JAX's error of a broken connection into one that says what happened.

    Raises:
        PeerLost: a collective operation failed.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        text = str(error)
        if jax.process_count() == 1 or not text.startswith(_CONNECTION):
            raise
        raise PeerLost(
            f"a peer was lost, or this process's own device failed ({text.splitlines()[0][:120]})"
        ) from error


class ExitMessage:
    """A message on stderr for the case that this process cannot print one: it is killed, or JAX
    ends it when a peer is lost.

    A forked child waits for the end of the pipe that this process holds, and then prints `text()`;
    `cancel` tells it not to. Make it before JAX starts its threads.
    """

    def __init__(self, text: Callable[[], str]) -> None:
        reading, self._writing = os.pipe()
        if os.fork() == 0:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            os.close(self._writing)
            if not os.read(reading, 1):
                os.write(2, text().encode())
            os._exit(0)
        os.close(reading)

    def cancel(self) -> None:
        os.write(self._writing, b".")
