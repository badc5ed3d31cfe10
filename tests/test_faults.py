"""What goes wrong around a run: kills, full disks, folders that vanish or cannot be written,
clocks. See training_crashes.py.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_train import config, without_seconds

from acbo_ref import Trainer
from acbo_ref.errors import RunError
from acbo_ref.training.checkpoint import load_checkpoint
from acbo_ref.training.run_folder import read_metrics

SCRIPT = Path(__file__).with_name("training_crashes.py")
# Runs a command line in a process in which any use of the network is an error.
NO_NETWORK = """
import socket, sys
def refuse(*a, **k):
    raise AssertionError("the network was used")
class Socket(socket.socket):
    connect = connect_ex = bind = sendto = refuse
socket.socket, socket.create_connection, socket.getaddrinfo = Socket, refuse, refuse
from acbo_cli.main import main
sys.argv = ["acbo", *sys.argv[1:]]
main()
"""


def fault(kind, count, timeout):
    done = subprocess.run([sys.executable, SCRIPT, kind, str(count)], capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_training_killed_at_random_moments():
    assert "nothing lost, all ended identically" in fault("kills", 12, 120)


def test_training_on_a_disk_that_is_full():
    assert "all went on and ended identically" in fault("disk", 6, 120)


@pytest.mark.slow
def test_training_killed_at_a_hundred_random_moments():
    assert re.match(r"1\d\d kills", fault("kills", 100, 600))


@pytest.mark.slow
def test_training_on_a_hundred_small_disks():
    assert "100 runs" in fault("disk", 100, 900)


def test_a_folder_removed_while_training_costs_the_record_and_not_the_policy(tmp_path):
    whole = Trainer(config(), output=tmp_path / "whole")
    whole.train()
    trainer = Trainer(config(), output=tmp_path / "run")
    with pytest.raises(RunError, match="removed while training; the present state is saved") as caught:
        trainer.train(lambda record: shutil.rmtree(tmp_path / "run") if record["iteration"] == 4 else None)
    assert "--resume" in caught.value.hint
    resumed = Trainer.resume(tmp_path / "run")
    assert resumed.iteration == 5
    resumed.train()
    a, b = load_checkpoint(tmp_path / "run").state, load_checkpoint(tmp_path / "whole").state
    assert all((a.params[name] == b.params[name]).all() for name in b.params)


@pytest.mark.parametrize("place", ["/proc/acbo", "/dev/null/run"])
def test_a_place_that_cannot_be_written_is_an_error_at_the_start(place):
    """Also for root, whom permissions do not stop."""
    with pytest.raises(RunError, match="cannot write") as caught:
        Trainer(config(), output=place).train()
    assert caught.value.hint


def test_a_clock_that_goes_backwards_changes_nothing(tmp_path, monkeypatch):
    Trainer(config(), output=tmp_path / "a").train()
    now = iter(range(10**9, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    Trainer(config(), output=tmp_path / "b").train()
    a, b = (without_seconds(read_metrics(tmp_path / name / "metrics.jsonl")) for name in "ab")
    assert a == b


def test_nothing_uses_the_network(tmp_path):
    """Train, resume, evaluate with every method, analyse, and a whole campaign, with sockets that
    refuse.
    """
    table = tmp_path / "past.csv"
    table.write_text("a,b,y\n" + "\n".join(f"{i / 7},{(i * 3) % 5},{i % 4}" for i in range(9)))
    run, plant = str(tmp_path / "run"), str(tmp_path / "plant")
    small = ["--set", "policy.hidden_dim=8", "--set", "policy.num_heads=2", "--set", "batch_size=8"]
    commands = [
        ["info"],
        ["train", "--config", "quick_test", "--episodes", "16", *small, "--output", run, "--backend", "ref"],
        ["train", "--resume", run, "--episodes", "24"],
        ["evaluate", "--checkpoint", run, "--suite", "seed", "--quick", "--interventions", "3", "--output", str(tmp_path / "e"),
         "--methods", "policy,random,regress,gp,optuna,oracle"],
        ["analyze", run, str(tmp_path / "e"), "--output", str(tmp_path / "report.html")],
        ["campaign", "new", plant, "--data", str(table), "--target", "y", "--minimize", "--domain", "a=0:2", "--domain", "b=0:4"],
        ["campaign", "ask", plant],
        ["campaign", "tell", plant, "e1", "--row", "y=0.5"],
        ["campaign", "recommend", plant],
        ["campaign", "status", plant],
        ["campaign", "report", plant, "--output", str(tmp_path / "plant.html")],
    ]  # fmt: skip
    for command in commands:
        done = subprocess.run([sys.executable, "-c", NO_NETWORK, *command], capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
