"""`acbo train`"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import signal
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from acbo_cli.options import backend_option, echo_json, format_option, make_backend, spoken_warnings
from acbo_cli.peers import Peers, check
from acbo_cli.terminal import Progress, duration, ends, legend_option

if TYPE_CHECKING:
    from acbo_ref.arrays import Params
    from acbo_ref.backend import AnyBackend
    from acbo_ref.config import Config
    from acbo_ref.training.checkpoint import Checkpoint
    from acbo_ref.training.trainer import Trainer

# When a backend compiles, for those that do.
COMPILES = {"jax": "on the first iteration of each stage", "numba": "on the very first iteration, for half a minute"}

LEGEND = {
    "160/960": "episodes that are done, of all of them",
    "4 min left": "at the speed since the first iteration",
    "score": "of the last episodes: expected gain over that of the best intervention; 1 is the oracle, 0 doing nothing",
    "stage": "of the curriculum: which systems are trained on",
    "target": "what was measured, in standard units; lower is better",
    "entropy": "of the choice, in nats: how much is explored",
    "gradient": "its norm before it is clipped",
    "metrics.jsonl": "holds more of each iteration; every key is explained in docs/metrics.md",
}


@click.command()
@click.option(
    "--config",
    "config_source",
    help="A shipped config by name (quick_test, production, foundation, experiment) or a YAML file.",
)
@backend_option("the fastest one installed, or the resumed run's own")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Run folder; default runs/<config name>, numbered if taken."
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    help="Continue a run: its folder or a checkpoint; with --config, under that config.",
)
@click.option(
    "--start-from",
    type=click.Path(path_type=Path),
    help="Begin a new run with the network of a checkpoint (`shipped`: the one that comes with acbo), under --config.",
)
@click.option("--episodes", type=int, help="Shortcut for --set total_episodes=N.")
@click.option("--seed", type=int, help="Shortcut for --set seed=N.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override any key, e.g. grpo.learning_rate=1e-3."
)
@click.option(
    "--devices",
    help="Devices of each process to train on, a number or all; default 1, or all with --coordinator. JAX only.",
)
@click.option(
    "--coordinator", help="HOST:PORT of process 0, or auto on a cluster that JAX knows: one of several processes."
)
@click.option("--num-processes", type=click.IntRange(1), help="How many processes there are.")
@click.option(
    "--process-id", type=click.IntRange(0), help="Which of them this is; 0 runs on the coordinator's host and writes."
)
@legend_option(LEGEND)
@format_option
def train(
    config_source: str | None,
    backend: str | None,
    output: Path | None,
    resume: Path | None,
    start_from: Path | None,
    episodes: int | None,
    seed: int | None,
    overrides: tuple[str, ...],
    devices: str | None,
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    output_format: str,
) -> int:
    """Train a policy.

    Writes config.yaml, metrics.jsonl and checkpoints to the run folder. Ctrl-C finishes the
    iteration and saves.

    \b
    acbo train --config quick_test
    acbo train --config production --backend jax
    acbo train --config my.yaml --set grpo.learning_rate=1e-3 --episodes 2000
    acbo train --resume runs/production
    """
    from acbo_ref.config import RenamedKeyWarning, load_config
    from acbo_ref.training.checkpoint import load_checkpoint

    if config_source is None and resume is None:
        raise click.UsageError("give --config, or --resume", click.get_current_context())
    if start_from is not None and resume is not None:
        raise click.UsageError("--start-from begins a new run, --resume goes on with one: give one of them")
    if episodes is not None:
        overrides += (f"total_episodes={episodes}",)
    if seed is not None:
        overrides += (f"seed={seed}",)
    check(coordinator, num_processes, process_id)
    used = device_count(devices, coordinator is not None)
    if devices is not None or coordinator is not None:
        if backend not in (None, "jax"):
            raise click.UsageError(f"--devices and --coordinator are for --backend jax, not {backend!r}")
        backend = "jax"
    before = load_checkpoint(resume) if resume is not None else None
    with spoken_warnings(RenamedKeyWarning):
        config = load_config(config_source, () if before else overrides) if config_source is not None else None
    name, maker = make_backend(backend or (before.progress["backend"] if before else None))
    if used != 1:
        maker = partial(maker, devices=used)
    peers = None
    if coordinator is not None:
        peers = _join(coordinator, num_processes, process_id, output, resume, config, before, overrides, used)
    writes = peers is None or peers.index == 0
    parameters = None if config is None else starting_parameters(start_from, config)
    begin = partial(_begin, name, maker, config, before, resume, output, overrides, writes, parameters)
    if peers is None:
        return _train(begin(), name, output_format, lambda stop: stop)
    agree = peers.any_process
    return peers.run(begin, lambda trainer: _train(trainer, name, output_format, agree, quiet=not writes))


def _join(
    coordinator: str,
    num_processes: int | None,
    process_id: int | None,
    output: Path | None,
    resume: Path | None,
    config: Config | None,
    before: Checkpoint | None,
    overrides: tuple[str, ...],
    devices: int | None,
) -> Peers:
    """This process as one of a run over several; what has to be the same in all of them is
    compared.
    """
    from acbo_ref.training.checkpoint import versions

    folder = output or (resume.parent if resume is not None and resume.is_file() else resume)
    if folder is None:
        raise click.UsageError("--coordinator needs --output: all processes name the same run")
    used = config if config is not None or before is None else before.config
    same = {
        "config": json.dumps(config and config.to_dict()),
        "overrides": json.dumps(overrides),
        "checkpoint": before.sha256 if before else "",
        "models of the pools": pool_digest(used),
        "--devices": str(devices),
        "versions": json.dumps(versions() | {name: version(name) for name in ("jax", "jaxlib")}),
    }
    return Peers(coordinator, num_processes, process_id, folder, same)


def _begin(
    name: str,
    maker: Callable[..., AnyBackend],
    config: Config | None,
    before: Checkpoint | None,
    resume: Path | None,
    output: Path | None,
    overrides: tuple[str, ...],
    writes: bool,
    parameters: Params | None,
) -> Trainer:
    """A new run, or the one that goes on."""
    from acbo_ref.training.trainer import Trainer

    if before is None:
        assert config is not None
        folder = (output or _free_folder(Path("runs") / config.name, config)) if writes else None
        return Trainer(config, maker(config), folder, parameters=parameters)
    assert resume is not None
    if name != before.progress["backend"] and writes:
        click.echo(
            f"warning: the run was on {before.progress['backend']!r}; on {name!r} it continues to rounding, "
            "not bit for bit",
            err=True,
        )
    return Trainer.resume(resume, maker, output, overrides, config, writes)


def starting_parameters(source: Path | None, config: Config) -> Params | None:
    """The parameters of --start-from.

    Raises:
        AcboError: it is of another architecture than the config's.
    """
    from acbo_ref.errors import AcboError
    from acbo_ref.policy.network import parameter_shapes
    from acbo_ref.training.checkpoint import load_checkpoint, shipped_policy

    if source is None:
        return None
    start = load_checkpoint(shipped_policy() if str(source) == "shipped" else source)
    if parameter_shapes(start.config.policy) != parameter_shapes(config.policy):
        raise AcboError(
            f"{source} is another network than the config's", f"its policy section: {start.config.to_dict()['policy']}"
        )
    return start.state.params


def pool_digest(config: Config | None) -> str:
    """Of the files that curriculum.pools names; one that cannot be read is reported when it is
    loaded.
    """
    digest = hashlib.sha256()
    assert config is not None
    for path in (Path(path) for paths in config.curriculum.pools.values() for path in paths):
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


def device_count(devices: str | None, several: bool) -> int | None:
    """--devices as a number, None for all; without it 1, or all where several processes train."""
    if devices is None:
        return None if several else 1
    if devices == "all":
        return None
    if not devices.isdecimal() or int(devices) < 1:
        raise click.UsageError(f"--devices is {devices!r}; it takes a number from 1, or all")
    return int(devices)


def _train(
    trainer: Trainer, backend: str, output_format: str, agree: Callable[[bool], bool], quiet: bool = False
) -> int:
    """Train with progress and a way to stop, which every process of a run has to agree on in the
    same iteration.
    """
    reporter = _Reporter(trainer.config.num_iterations, trainer.config.total_episodes)
    folder = trainer.output
    if not quiet:
        click.echo(
            f"training {trainer.config.name!r} to {trainer.config.total_episodes} episodes in {trainer.output}",
            err=True,
        )
    if backend in COMPILES and trainer.iteration < trainer.config.num_iterations and not quiet:
        click.echo(f"compiling {COMPILES[backend]}; kept on disk for the next run", err=True)

    def each(record: dict[str, Any]) -> None:
        if not quiet:
            reporter(record)
        trainer.stop_requested = agree(asked)

    asked = False

    def stop(signum: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        click.echo("\nfinishing this iteration, then saving; press Ctrl-C again to stop at once", err=True)

    previous = signal.signal(signal.SIGINT, stop)
    try:
        result = trainer.train(each)
    finally:
        signal.signal(signal.SIGINT, previous)
        reporter.close()
    if quiet:
        return 130 if result.stopped == "interrupted" else 0
    click.echo(f"{result.stopped} after {result.episodes} episodes in {duration(result.seconds)}", err=True)
    score = "-" if result.score is None else f"{result.score:.3f}"
    if output_format == "json":
        echo_json(dataclasses.asdict(result))
    else:
        click.echo(f"checkpoint: {result.checkpoint}\nrecent training score: {score} (0 = doing nothing, 1 = oracle)")
    if result.stopped == "interrupted":
        ends(f"saved after {result.episodes} episodes", "train", "--resume", folder)
    else:
        ends(f"trained, recent score {score}", "evaluate", "--checkpoint", folder, "--quick")
    return 130 if result.stopped == "interrupted" else 0


def _free_folder(path: Path, config: Config) -> Path:
    """The path itself, or the first of path-2, path-3, ... in which a run may begin."""
    from acbo_ref.errors import AcboError
    from acbo_ref.training.run_folder import RunFolder

    candidate, n = path, 1
    while True:
        try:
            RunFolder(candidate).check_free(config)
            return candidate
        except AcboError:
            n += 1
            candidate = path.with_name(f"{path.name}-{n}")


class _Reporter:
    """Progress of a run, and what is worth a line of its own.

    The words of a line are those of LEGEND.
    """

    def __init__(self, num_iterations: int, total_episodes: int) -> None:
        self._progress, self._total = Progress(num_iterations), total_episodes
        self.close = self._progress.interrupt

    def __call__(self, record: dict[str, Any]) -> None:
        for warning in record["warnings"]:
            self._say(f"warning: {warning}")
        if record["next_stage"]:
            self._say(
                f"stage {record['stage']!r} done after {record['episodes']} episodes; now {record['next_stage']!r}"
            )

        def number(key: str, digits: int = 2) -> str:
            return "-" if record.get(key) is None else f"{record[key]:.{digits}f}"

        self._progress(
            record["iteration"],
            f"{record['episodes']}/{self._total}",
            f"score {number('recent_score', 3)}",
            record["stage"],
            f"target {number('target_standard')}",
            f"entropy {number('entropy')}",
            f"gradient {number('gradient_norm')}",
        )

    def _say(self, text: str) -> None:
        self._progress.interrupt()
        click.echo(text, err=True)
