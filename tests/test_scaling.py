"""Training over several devices and processes: the parameters of one, resumed by another number,
and the end when a peer is lost.

Devices are pieces of the CPU (XLA's host platform), processes talk over loopback. Each is a process
of its own, since JAX chooses its devices once.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from acbo_cli.main import run

from acbo_ref.training.checkpoint import load_checkpoint

pytest.importorskip("jax")

SMALL = """
dtype: float64
batch_size: 16
total_episodes: 80
interventions_per_episode: 3
observations_per_episode: [2, 5]
checkpoint_every: 16
policy: {hidden_dim: 16, num_layers: 2, num_heads: 2}
grpo: {group_size: 4, ppo_epochs: 2, minibatches: 2, learning_rate: 1e-2, learning_rate_schedule: constant, scale_rewards: batch}
heads: {probes: 2, commit_by_outcome_head: 0.5}
scm: {nonlinear: 0.5}
curriculum: {stages: [{name: only, variables: [3, 4], graphs: [erdos_renyi]}]}
"""
# Parameters after five iterations: the order of summation alone, in float64.
CLOSE = {"rtol": 0, "atol": 1e-9}


@dataclass
class Process:
    """An `acbo` command running apart, with its stderr in a file."""

    running: subprocess.Popen
    log: Path

    def wait(self, seconds: float) -> int:
        return self.running.wait(seconds)

    def said(self) -> str:
        return self.log.read_text()


@pytest.fixture
def acbo(tmp_path):
    """acbo(*arguments, devices=1) starts a process; those left are killed."""
    (tmp_path / "small.yaml").write_text(SMALL)
    started: list[Process] = []

    def start(*arguments: str, devices: int = 1) -> Process:
        log = tmp_path / f"log-{len(started)}"
        flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"} if devices > 1 else {}
        with open(log, "wb") as file:
            running = subprocess.Popen(
                [sys.executable, "-m", "acbo_cli.main", *arguments],
                cwd=tmp_path, env={**os.environ, **flags}, stdout=file, stderr=file,
            )  # fmt: skip
        started.append(Process(running, log))
        return started[-1]

    yield start
    for process in started:
        if process.running.poll() is None:
            process.running.kill()
            process.running.wait()


def pair(start, *arguments: str) -> list[Process]:
    """The same command as two processes of one run."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    several = ("--coordinator", address, "--num-processes", "2", "--process-id")
    return [start(*arguments, *several, str(i)) for i in range(2)]


def parameters(folder: Path) -> dict[str, np.ndarray]:
    return load_checkpoint(folder).state.params


def assert_close(one: Path, other: Path) -> None:
    first, second = parameters(one), parameters(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_allclose(value, second[name], err_msg=name, **CLOSE)


TRAIN = ("train", "--config", "small.yaml", "--backend", "jax", "--output")


def test_devices_and_processes_change_nothing(acbo, tmp_path):
    """Eight devices, and two processes that are resumed as one after three iterations, end where
    one device does.
    """
    one = acbo(*TRAIN, "one")
    assert one.wait(300) == 0, one.said()
    eight = acbo(*TRAIN, "eight", "--devices", "all", devices=8)
    assert eight.wait(300) == 0, eight.said()
    assert_close(tmp_path / "one", tmp_path / "eight")

    processes = pair(acbo, *TRAIN, "two", "--episodes", "48")
    for number, process in enumerate(processes):
        assert process.wait(300) == 0, process.said()
        assert f"process {number} of 2" in process.said()
    assert "writes nothing" in processes[1].said() and "checkpoint" not in processes[1].said()
    assert load_checkpoint(tmp_path / "two").iteration == 3
    alone = acbo("train", "--resume", "two", "--episodes", "80")
    assert alone.wait(300) == 0, alone.said()
    assert_close(tmp_path / "one", tmp_path / "two")
    lines = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 2, 3, 4, 5]


def wait_for_iterations(processes: list[Process], folder: Path, count: int) -> None:
    metrics, deadline = folder / "metrics.jsonl", time.monotonic() + 300
    while not metrics.exists() or metrics.read_text().count("\n") < count:
        assert time.monotonic() < deadline and all(p.running.poll() is None for p in processes)
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_lost_peer_ends_the_run_with_a_message(acbo, tmp_path, victim):
    processes = pair(acbo, *TRAIN, "run", "--episodes", "16000")
    wait_for_iterations(processes, tmp_path / "run", 2)
    processes[victim].running.send_signal(signal.SIGKILL)
    survivor = processes[1 - victim]
    assert survivor.wait(60) in (1, -signal.SIGABRT)
    time.sleep(0.5)  # what is said in its place is said by a child
    assert "a peer was lost" in survivor.said() and "last checkpoint: run/latest.npz" in survivor.said()
    assert "--resume" in survivor.said()

    done = load_checkpoint(tmp_path / "run").iteration
    assert done >= 1
    more = str(16 * (done + 2))
    alone = acbo("train", "--resume", "run", "--episodes", more)
    assert alone.wait(300) == 0, alone.said()
    reference = acbo(*TRAIN, "reference", "--episodes", more)
    assert reference.wait(300) == 0, reference.said()
    assert_close(tmp_path / "run", tmp_path / "reference")


@pytest.mark.slow
def test_a_run_of_one_process_goes_on_as_two(acbo, tmp_path):
    for folder, episodes in (("one", "80"), ("two", "48")):
        alone = acbo(*TRAIN, folder, "--episodes", episodes)
        assert alone.wait(300) == 0, alone.said()
    for process in pair(acbo, "train", "--resume", "two", "--episodes", "80"):
        assert process.wait(300) == 0, process.said()
    assert_close(tmp_path / "one", tmp_path / "two")
    lines = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 2, 3, 4, 5]


@pytest.mark.slow
def test_ctrl_c_in_one_process_ends_all(acbo, tmp_path):
    processes = pair(acbo, *TRAIN, "run", "--episodes", "16000")
    wait_for_iterations(processes, tmp_path / "run", 2)
    processes[1].running.send_signal(signal.SIGINT)
    for process in processes:
        assert process.wait(60) == 130, process.said()
    assert "interrupted after" in processes[0].said()
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert load_checkpoint(tmp_path / "run").iteration == len(lines)


def test_a_process_that_cannot_begin_stops_the_others(acbo, tmp_path):
    """Only process 0 sees that the folder holds a run already."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "latest.npz").write_bytes(b"another run")
    first, second = pair(acbo, *TRAIN, "run")
    assert first.wait(120) == 2 and second.wait(120) == 2
    assert "run already holds a run" in first.said()
    assert "error: another process could not begin" in second.said() and "lost" not in second.said()
    assert (tmp_path / "run" / "latest.npz").read_bytes() == b"another run"


def test_processes_with_different_settings_refuse_each_other(acbo, tmp_path):
    first, second = pair(acbo, *TRAIN, "run", "--set", "seed=1")
    second.running.kill()
    second.running.wait()
    arguments = list(second.running.args[3:])
    arguments[arguments.index("seed=1")] = "seed=2"
    second = acbo(*arguments)
    for process in (first, second):
        assert process.wait(120) == 2, process.said()
        assert "error: process 1 differs from process 0 in: config, overrides" in process.said()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--devices", "two"], "--devices is 'two'; it takes a number from 1, or all"),
        (["--devices", "0"], "it takes a number from 1, or all"),
        (["--devices", "²"], "it takes a number from 1, or all"),
        (["--devices", "99"], "99 devices were asked for, and JAX sees"),
        (["--devices", "2", "--backend", "ref"], "are for --backend jax, not 'ref'"),
        (["--coordinator", "here", "--num-processes", "2", "--process-id", "0"], "it takes HOST:PORT, or auto"),
        (["--coordinator", "here:99999", "--num-processes", "2", "--process-id", "0"], "it takes HOST:PORT, or auto"),
        (["--coordinator", "here:1234"], "needs --num-processes and --process-id"),
        (["--coordinator", "here:1", "--num-processes", "2", "--process-id", "2"], "they count from 0"),
        (["--process-id", "0"], "need --coordinator"),
    ],
)  # fmt: skip
def test_wrong_options(options, message, tmp_path, capsys):
    (tmp_path / "small.yaml").write_text(SMALL)
    assert run(["train", "--config", str(tmp_path / "small.yaml"), "--output", str(tmp_path / "run"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_batch_that_cannot_be_dealt_out_evenly(acbo, tmp_path):
    process = acbo(*TRAIN, "run", "--devices", "3", devices=3)
    assert process.wait(120) == 2
    assert "batch_size 16 in 2 minibatches cannot be dealt out evenly over 3 devices" in process.said()
    assert "a batch_size that is a multiple of 6 can" in process.said() and not (tmp_path / "run").exists()
