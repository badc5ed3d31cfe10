"""The command line: contracts, exit codes, errors with hints, and what a new user would type."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from acbo_cli.main import run
from processor_time import least_seconds

from acbo_ref.training.checkpoint import load_checkpoint
from acbo_ref.training.run_folder import read_metrics

TINY = [
    "--set", "policy={hidden_dim: 8, num_layers: 2, num_heads: 2}", "--set", "batch_size=4", "--set", "grpo.group_size=3",
    "--set", "interventions_per_episode=3", "--set", "heads.probes=1", "--backend", "ref",
]  # fmt: skip


@pytest.fixture
def cli(capsys):
    def call(*args):
        capsys.readouterr()
        code = run([str(a) for a in args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert run(["train", "--config", "quick_test", "--episodes", "8", "--output", str(folder), *TINY]) == 0
    return folder


def test_training_prints_one_json_object(cli, tmp_path):
    code, out, err = cli(
        "train",
        "--config",
        "quick_test",
        "--episodes",
        8,
        "--seed",
        5,
        "--output",
        tmp_path / "r",
        "--format",
        "json",
        *TINY,
    )
    assert code == 0
    result = json.loads(out)
    assert (result["episodes"], result["iterations"]) == (8, 2)
    assert result["checkpoint"] == str(tmp_path / "r" / "latest.npz") and {"seconds", "score"} <= set(result)
    assert "score" in err and (tmp_path / "r" / "config.yaml").exists()
    assert "seed: 5" in (tmp_path / "r" / "config.yaml").read_text()


def test_resuming_from_the_command_line(cli, trained, tmp_path):
    code, out, _ = cli(
        "train", "--resume", trained, "--output", tmp_path, "--episodes", 16, "--format", "json", "--backend", "ref"
    )
    assert code == 0 and json.loads(out)["iterations"] == 4
    assert [r["iteration"] for r in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]


def test_resuming_keeps_the_backend_and_warns_of_another(cli, trained, tmp_path):
    code, _, err = cli("train", "--resume", trained, "--output", tmp_path / "a", "--episodes", 12)
    assert code == 0 and "warning" not in err
    from acbo_fast import available

    if "jax" in available():
        code, _, err = cli(
            "train", "--resume", trained, "--output", tmp_path / "b", "--episodes", 12, "--backend", "jax"
        )
        assert code == 0 and "not bit for bit" in err


def test_resuming_under_another_config(cli, trained, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text((trained / "config.yaml").read_text().replace("learning_rate: 0.002", "learning_rate: 0.001"))
    args = ["train", "--config", mine, "--resume", trained, "--output", tmp_path / "r", "--episodes", 12]
    assert cli(*args)[0] == 0
    assert "learning_rate: 0.001" in (tmp_path / "r" / "config.yaml").read_text()


def test_a_default_folder_with_other_files_is_passed_over(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "quick_test").mkdir(parents=True)
    (tmp_path / "runs" / "quick_test" / "config.yaml").write_text("seed: 3\n")
    code, out, _ = cli("train", "--config", "quick_test", "--episodes", 4, *TINY)
    assert code == 0 and "checkpoint: runs/quick_test-2/latest.npz" in out
    assert (tmp_path / "runs" / "quick_test" / "config.yaml").read_text() == "seed: 3\n"
    code, _, err = cli("train", "--config", "quick_test", "--episodes", 4, "--output", "runs/quick_test", *TINY)
    assert code == 2 and "another run, or not a run's" in err and "--output" in err


def test_a_second_run_does_not_touch_the_first(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/quick_test", "runs/quick_test-2"):
        code, out, _ = cli("train", "--config", "quick_test", "--episodes", 4, *TINY)
        assert code == 0 and f"checkpoint: {folder}/latest.npz" in out
    code, _, err = cli("train", "--config", "quick_test", "--episodes", 4, "--output", "runs/quick_test", *TINY)
    assert code == 2 and "already holds a run" in err and "--resume" in err


def test_evaluation_as_a_table_and_as_json(cli, trained, tmp_path):
    args = ["evaluate", "--checkpoint", trained, "--quick", "--suite", "seed", "--interventions", 2, "--backend", "ref"]
    code, out, _ = cli(*args)
    assert (
        code == 0
        and "seed (16 systems in 4 clusters, 20 observational rows)" in out
        and "regress" in out
        and "first step" in out
    )
    code, out, err = cli(*args, "--format", "json", "--methods", "policy,oracle", "--output", tmp_path)
    assert code == 0
    report = json.loads(out)
    assert list(report["suites"][0]["methods"]) == ["policy", "oracle"]
    assert json.loads((tmp_path / "summary.json").read_text()) == report and "summary.json" in err


def test_info_is_something_to_paste(cli):
    code, out, _ = cli("info")
    assert code == 0 and "numpy:" in out and "ref: available" in out and "production" in out
    code, out, _ = cli("info", "--format", "json")
    assert code == 0 and json.loads(out)["backends"]["ref"] == "available"
    code, out, _ = cli("info", "--keys")
    assert code == 0 and "grpo.group_size" in out
    code, out, _ = cli("info", "--keys", "--format", "json")
    assert {"key", "default", "allowed", "help"} == set(json.loads(out)[0])


def layers_and_terms():
    """The quick checks of `acbo verify`; test_gradients.py has the rest."""
    from acbo_ref.verify import gradients

    return [*gradients.layer_checks(), *gradients.term_checks()]


@pytest.fixture
def few_checks(monkeypatch):
    """`acbo verify` of the layers and terms alone."""
    from acbo_ref.verify import gradients

    few = layers_and_terms()
    monkeypatch.setattr(gradients, "verify_reference", lambda: few)
    return few


def test_verify_says_what_it_found(cli, few_checks):
    code, out, err = cli("verify")
    assert code == 0 and out.strip().endswith("overall okay") and "FAILED" not in out
    assert re.fullmatch(r"all \d+ checks passed\nnext: acbo \w.*\n", err)


def test_verify_prints_groups_and_with_v_every_check(cli, few_checks, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    groups = len({check.group for check in few_checks})
    _, out, _ = cli("verify")
    assert len(out.splitlines()) == 2 + groups + 3 and "layer norm                   3 " in out
    for option in ("-v", "--verbose"):
        _, out, _ = cli("verify", option)
        assert len(out.splitlines()) == 2 + groups + len(few_checks) + 3
        assert "layer norm\n  x " in out and max(map(len, out.splitlines())) <= 80


def test_verify_fails_when_a_gradient_is_wrong(cli, monkeypatch):
    from acbo_ref.policy import layers
    from acbo_ref.verify import gradients

    plain = layers.gelu_backward
    monkeypatch.setattr(layers, "gelu_backward", lambda d, cache: 1.01 * plain(d, cache))
    monkeypatch.setattr(gradients, "verify_reference", layers_and_terms)
    code, out, err = cli("verify")
    assert code == 1 and "FAILED" in out and out.strip().splitlines()[-1].startswith("overall FAILED")
    assert (
        "layer gelu\n  x " in out and "checks failed\nnext: acbo verify --verbose" in err
    )  # the check, not only its group
    code, out, _ = cli("verify", "--format", "json")
    report = json.loads(out)
    assert code == 1 and report["okay"] is False and any(not c["okay"] for c in report["checks"])


MISTAKES = [
    (["trian"], "no command named 'trian'", "did you mean 'train'"),
    (["train"], "give --config, or --resume", "acbo train --help"),
    (["train", "--config", "quick_test", "--resume", "x"], "no checkpoint at x", ""),
    (["train", "--config", "produktion"], "no config named 'produktion'", "did you mean 'production'"),
    (["train", "--config", "none.yaml"], "cannot read config none.yaml", "shipped configs"),
    (["train", "--config", "quick_test", "--backend", "jxa"], "no backend named 'jxa'", ""),
    (["train", "--config", "quick_test", "--set", "grpo.group=3"], "unknown key 'grpo.group'", "group_size"),
    (["train", "--config", "quick_test", "--episodes", "many"], "--episodes", "--help"),
    (["train", "--config", "quick_test", "--episodes", "0"], "total_episodes is 0, outside", ""),
    (["train", "--resume", "nowhere"], "no checkpoint at nowhere", "latest.npz"),
    (["train", "--format", "xml"], "xml", "--help"),
    (["evaluate", "--checkpoint", "nowhere"], "no checkpoint at nowhere", ""),
    (["evaluate", "--suite", "simpel"], "no suite named 'simpel'", "did you mean 'simple'"),
    (["evaluate", "--methods", "regres"], "no method named 'regres'", "did you mean 'regress'"),
    (["evaluate", "--scm", "none.json"], "cannot read SCM file none.json", ""),
    (["evaluate", "--interventions", "0"], "interventions 0", ""),
    (["verify", "--backend", "cuda"], "no backend named 'cuda'", ""),
    (["info", "--kesy"], "--kesy", "acbo info --help"),
]


@pytest.mark.parametrize(("args", "message", "hint"), MISTAKES, ids=[" ".join(m[0]) for m in MISTAKES])
def test_mistakes_exit_with_2_and_say_what_to_do(cli, args, message, hint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = cli(*args)
    assert code == 2 and out == "" and "Traceback" not in err
    assert err.startswith(("error: ", "backend: ")) and message in err and hint in err
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(cli):
    from acbo_ref import AcboError

    with pytest.raises(AcboError):
        cli("--debug", "train", "--config", "produktion")


def test_help_for_every_command(cli):
    code, out, _ = cli("--help")
    assert code == 0 and all(name in out for name in ("train", "evaluate", "verify", "info"))
    listed = re.findall(r"^  (\w+)  +", out.split("Commands:")[1], re.M)
    assert listed == ["campaign", "train", "evaluate", "analyze", "verify", "info"]  # in the order of use
    for name in listed:
        code, out, _ = cli(name, "--help")
        assert code == 0 and "Usage" in out
    assert cli("--version")[1].startswith("acbo ")
    assert cli()[0] == 2


def test_the_version_names_the_commit_of_a_clone(cli, monkeypatch):
    from acbo_ref import __version__, version

    monkeypatch.setattr(version, "commit", lambda: "abc1234")
    assert cli("--version")[1] == f"acbo {__version__} (commit abc1234)\n"
    assert cli("info")[1].splitlines()[:2] == [f"acbo: {__version__}", "commit: abc1234"]
    monkeypatch.setattr(version, "commit", lambda: None)
    assert cli("--version")[1] == f"acbo {__version__}\n" and "commit" not in cli("info")[1]
    assert json.loads(cli("info", "--format", "json")[1])["commit"] is None


@pytest.mark.parametrize(
    ("shell", "words"), [("bash", "complete -o"), ("zsh", "#compdef acbo"), ("fish", "complete --")]
)
def test_shells_complete(shell, words):
    """The script that a shell reads, and what it is told of a word that was begun."""

    def ask(complete, **more):
        environment = {**os.environ, "_ACBO_COMPLETE": f"{shell}_{complete}", **more}
        done = subprocess.run([sys.executable, "-m", "acbo_cli.main"], capture_output=True, text=True, env=environment)
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    assert words in ask("source") and "_ACBO_COMPLETE" in ask("source")
    if shell != "fish":
        assert "evaluate" in ask("complete", COMP_WORDS="acbo ev", COMP_CWORD="1")
        assert "recommend" in ask("complete", COMP_WORDS="acbo campaign re", COMP_CWORD="2")


def test_ctrl_c_finishes_the_iteration_and_saves(tmp_path):
    command = [
        sys.executable,
        "-m",
        "acbo_cli.main",
        "train",
        "--config",
        "quick_test",
        "--output",
        str(tmp_path),
        *TINY,
    ]
    process = subprocess.Popen([*command, "--episodes", "400000"], stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while len(read_metrics(tmp_path / "metrics.jsonl")) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and b"finishing this iteration" in err and b"latest.npz" in out
    from acbo_ref import load_checkpoint

    assert load_checkpoint(tmp_path).iteration == len(read_metrics(tmp_path / "metrics.jsonl"))


# ----------------------------------------------------------------------------------------- start-up


def test_a_run_begins_with_the_network_of_another(cli, trained, tmp_path):
    """With a step of nearly nothing, its parameters are those it began with; the optimiser and the
    count of episodes are new.
    """
    begin = ["train", "--config", "quick_test", "--episodes", 4, "--start-from", trained, *TINY]
    code, _, err = cli(*begin, "--output", tmp_path / "r", "--set", "grpo.learning_rate=1e-9")
    assert code == 0, err
    before, after = load_checkpoint(trained), load_checkpoint(tmp_path / "r")
    assert after.progress["episodes"] == 4 < before.progress["episodes"]
    assert after.state.step < before.state.step
    for name, value in before.state.params.items():
        np.testing.assert_allclose(after.state.params[name], value, atol=1e-6)
    other = cli(*begin, "--output", tmp_path / "x", "--set", "policy.hidden_dim=12")
    assert other[0] == 2 and "another network" in other[2]
    for also in (["--resume", trained], ["--start-from", tmp_path / "nowhere"]):
        code, _, err = cli(*begin, "--output", tmp_path / "x", *also)
        assert code == 2 and err.startswith("error:"), err
    assert not (tmp_path / "x").exists()


def test_start_up_is_quick():
    assert least_seconds(3, [sys.executable, "-c", "import acbo_ref"]) < 0.5
    assert least_seconds(3, [sys.executable, "-m", "acbo_cli.main", "--help"]) < 0.5


def test_the_reference_loads_no_accelerator():
    script = (
        "import sys, pkgutil, importlib, acbo_ref;"
        "[importlib.import_module('acbo_ref.' + m.name) for m in pkgutil.iter_modules(acbo_ref.__path__)];"
        "bad = {'jax', 'numba', 'matplotlib', 'acbo_fast'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_nothing_unpickles_evaluates_or_phones_home():
    """A grep that says no: the words do not occur in the packages."""
    root = Path(__file__).parent.parent
    words = (
        "pickle.load",
        "allow_pickle=True",
        "yaml.load(",
        " eval(",
        " exec(",
        "import socket",
        "urllib",
        "requests",
    )
    for folder in ("acbo_ref", "acbo_fast", "cli"):
        for path in (root / folder).rglob("*.py"):
            text = path.read_text()
            assert not [w for w in words if w in text], path


def test_no_module_opens_a_socket(tmp_path):
    """Training, evaluating and info with sockets forbidden."""
    folder = str(tmp_path / "r")
    script = (
        "import socket\n"
        "def forbidden(*a, **k): raise RuntimeError('network')\n"
        "socket.socket.connect = forbidden; socket.getaddrinfo = forbidden\n"
        "from acbo_cli.main import run\n"
        f"assert run(['train', '--config', 'quick_test', '--episodes', '4', '--output', {folder!r}, *{TINY!r}]) == 0\n"
        f"assert run(['evaluate', '--checkpoint', {folder!r}, '--quick', '--suite', 'seed']) == 0\n"
        "assert run(['info']) == 0\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, env=os.environ)


CPU = "processor\t: 0\nvendor_id\t: {}\nflags\t\t: fpu sse2 avx2 {}\n\nprocessor\t: 1\n"
AVX512 = "avx512f avx512dq avx512cd avx512bw avx512vl"


def test_blas_kernels_are_chosen_by_the_processors_flags_and_by_nothing_else():
    from acbo_cli.blas import core_type

    assert core_type(CPU.format("AuthenticAMD", AVX512)) == "SkylakeX"
    assert core_type(CPU.format("AuthenticAMD", "")) is None
    assert core_type(CPU.format("AuthenticAMD", "avx512f avx512cd")) is None
    assert core_type(CPU.format("GenuineIntel", AVX512)) is None  # OpenBLAS knows those
    assert core_type("") is None and core_type("Features : fp asimd\n") is None


@pytest.mark.parametrize(
    ("before", "after"),
    [("", "SkylakeX"), ("os.environ['OPENBLAS_CORETYPE'] = 'Haswell'", "Haswell"), ("import numpy", "")],
)
def test_blas_kernels_are_chosen_before_numpy_and_never_against_the_user(tmp_path, before, after):
    (tmp_path / "cpuinfo").write_text(CPU.format("AuthenticAMD", AVX512))
    code = f"""
import os
{before}
from pathlib import Path
from acbo_cli.blas import choose_kernels
choose_kernels(Path({str(tmp_path / "cpuinfo")!r}))
print(os.environ.get("OPENBLAS_CORETYPE", ""))
"""
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == after, done.stderr
