"""`acbo evaluate`"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click
from acbo_cli.options import backend_option, echo_json, format_option, make_backend, table


@click.command()
@click.option(
    "--checkpoint", type=click.Path(path_type=Path), help="A checkpoint or run folder; default the policy that ships."
)
@click.option("--quick", is_flag=True, help="Use fewer systems: at most 16 per suite.")
@click.option("--suite", "suites", multiple=True, help="Suite name, repeatable; default all.")
@click.option(
    "--scm",
    "scm_files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="SCM file, repeatable; together the suite 'files'.",
)
@click.option(
    "--methods",
    help="Comma-separated: policy, policy_final, outcome_head, policy_head, policy_head_sampled, random, endpoints, "
    "regress, paths, thompson, gp, optuna, oracle, parent_oracle.",
)
@click.option(
    "--observations", type=int, help="Observational rows before the first intervention; default 20 (suite cold: 3)."
)
@click.option("--interventions", type=int, default=20, show_default=True, help="Interventions an episode.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed for systems and noise.")
@backend_option("ref: small networks decide fastest without compilation")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Folder for results.csv and summary.json; interrupted, the same command goes on.",
)
@click.option(
    "--workers", type=click.IntRange(1, 256), help="Processes for the baselines; default the number of cores."
)
@click.option(
    "--executor",
    type=click.Choice(["local", "dask"]),
    default="local",
    show_default=True,
    help="Who runs the baselines: processes here, or the workers of a Dask scheduler.",
)
@click.option("--scheduler", metavar="ADDRESS", help="Of a Dask scheduler; without it one is started here.")
@format_option
def evaluate(
    checkpoint: Path | None,
    quick: bool,
    suites: tuple[str, ...],
    scm_files: tuple[Path, ...],
    methods: str | None,
    observations: int | None,
    interventions: int,
    seed: int,
    backend: str | None,
    output: Path | None,
    workers: int | None,
    executor: str,
    scheduler: str | None,
    output_format: str,
) -> None:
    """Compare a policy with baselines on systems it has never seen; every intervention is one
    query.
    """
    from acbo_ref.arena.compare import EvaluationSettings
    from acbo_ref.arena.compare import evaluate as run
    from acbo_ref.arena.play import POLICY_METHODS, RENAMED_METHODS
    from acbo_ref.training.checkpoint import shipped_policy

    if scheduler is not None and workers is not None:
        raise click.UsageError("--workers is for processes started here; --scheduler has workers of its own")
    chosen = [m.strip() for m in methods.split(",") if m.strip()] if methods is not None else []
    for method in chosen:
        if method in RENAMED_METHODS:
            click.echo(f"warning: method {method} is called {RENAMED_METHODS[method]} now", err=True)
    shipped = False
    if checkpoint is None and (not chosen or set(chosen) & {*POLICY_METHODS, *RENAMED_METHODS}):
        checkpoint, shipped = shipped_policy(), True
    _, maker = make_backend(backend or "ref")
    settings = EvaluationSettings(
        suites=suites,
        scm_files=scm_files,
        methods=chosen,
        observations=observations,
        interventions=interventions,
        seed=seed,
        quick=quick,
        make_backend=maker,
        output=output,
        workers=workers if workers is not None else os.cpu_count() or 1,
        executor=executor,
        scheduler=scheduler,
        on_cell=_progress,
    )
    report = run(checkpoint, settings)
    if shipped:
        click.echo("policy: the one that ships (docs/model_card.md)", err=True)
    if output is not None:
        click.echo(f"written: {output / 'results.csv'}, {output / 'summary.json'}", err=True)
    if output_format == "json":
        echo_json(report)
    else:
        click.echo(as_text(report))


def _progress(suite: str, method: str, done: int, total: int) -> None:
    """One line on stderr, rewritten on a terminal."""
    live = sys.stderr.isatty()
    bar = "#" * (20 * done // total) + "." * (20 - 20 * done // total)
    text = f"[{bar}] {done}/{total} {suite}: {method}"
    click.echo("\r" + text.ljust(70) if live else text, nl=not live or done == total, err=True)


def method_label(method: str, decision: str | None) -> str:
    """The method as tables name it: for the policy, with the head that decides."""
    return f"policy ({decision})" if method == "policy" and decision is not None else method


_COLUMNS = (
    ("first step", "score_first"),
    ("last 3", "score_last3"),
    ("regret", "simple_regret"),
    ("by system", "score_per_system"),
    ("target", "avg_target"),
    ("parents", "parent_accuracy"),
    ("best var", "optimal_variable_accuracy"),
    ("range", "episode_range_utilization"),
)


def as_text(report: dict[str, Any]) -> str:
    """The tables of a report, one a suite."""
    settings = report["settings"]
    parts = [
        f"{settings['interventions']} interventions, one query each. score: 1 = oracle, 0 = doing nothing;\n"
        "by system: mean of the systems' own scores. Intervals: 95 %, bootstrapped over clusters of systems\n"
        "(repetitions of one problem are one cluster)."
    ]
    for suite in report["suites"]:
        rows = []
        for method, metrics in suite["methods"].items():
            score = metrics["score"]
            interval = f"{_number(score['mean'])} [{_number(score['low'])}, {_number(score['high'])}]"
            cells = [_number(metrics[key]["mean"]) for _, key in _COLUMNS]
            rows.append([method_label(method, settings.get("decision")), interval, *cells, milliseconds(metrics)])
        header = ["method", "score [95 %]", *(name for name, _ in _COLUMNS), "ms/decision"]
        title = f"{suite['name']} ({systems_of(suite)}, {suite['observations']} observational rows)"
        parts.append(f"{title}\n" + table(header, rows))
    return "\n\n".join(parts)


def systems_of(suite: dict[str, Any]) -> str:
    """How many systems, and of how many problems if some are repetitions."""
    count, clusters = suite["scms"], suite.get("clusters", suite["scms"])
    return f"{count} systems" if clusters == count else f"{count} systems in {clusters} clusters"


def milliseconds(metrics: dict[str, Any]) -> str:
    """The median time of a decision."""
    seconds = metrics["decision_seconds"]["median"]
    return "-" if seconds is None else f"{1000 * seconds:.2g}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
