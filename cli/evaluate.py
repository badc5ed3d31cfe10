"""`acbo evaluate`"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from textwrap import fill
from typing import Any

import click
from acbo_cli.options import backend_option, echo_json, format_option, interval, make_backend
from acbo_cli.terminal import Progress, ends, legend_option, tables, width

# Columns beside method and score, as they stand: name, metric, meaning.
_COLUMNS = (
    ("first step", "score_first", "the score of the first intervention alone"),
    ("last 3", "score_last3", "the score of the last three interventions"),
    ("regret", "simple_regret", "what the recommended intervention gains less than the oracle's, in spreads of the "
     "target, mean over systems"),
    ("by system", "score_per_system", "mean of the systems' own scores: none weighs more than another"),
    ("target", "avg_target", "the measured target, in its own unit, mean over interventions"),
    ("parents", "parent_accuracy", "share of interventions on direct causes of the target"),
    ("best var", "optimal_variable_accuracy", "share of interventions on the variable that the oracle sets"),
    ("range", "episode_range_utilization", "how much of a variable's domain was used, mean over those that were set"),
)  # fmt: skip
# From the most important on: what is left out last where the terminal is narrow.
_IMPORTANCE = (
    "score [95 %]", "regret", "first step", "last 3", "ms/decision", "by system", "best var", "parents", "range", "target",
)  # fmt: skip
LEGEND = {
    "method": "who chooses; in brackets the head of the policy that decides. The oracle knows the system, parent_oracle "
    "its graph: they are bounds",
    "score [95 %]": "expected drop of the target below doing nothing, as a share of the best single intervention's, over "
    "all systems and interventions: 1 is the oracle, 0 doing nothing. In brackets the 95 % interval, bootstrapped over "
    "clusters of systems (repetitions of one problem are one cluster)",
    **{name: meaning for name, _, meaning in _COLUMNS},
    "ms/decision": "milliseconds from a measured row to the next decision, median",
}


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
    "regress, paths, thompson, gp, gp_all, optuna, nothing, oracle, parent_oracle. With _exogenous behind its name "
    "(policy_exogenous) a method is told what nothing that is set can move.",
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
@legend_option(LEGEND)
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
    """Compare a policy with baselines on systems it has never seen.

    Every intervention is one query, for every method; all see the same systems and the same noise.

    \b
    acbo evaluate --quick
    acbo evaluate --checkpoint runs/production --output evaluations/production
    acbo evaluate --scm plant.json --methods policy,regress,oracle --format json
    """
    from acbo_ref.arena.compare import EvaluationSettings
    from acbo_ref.arena.compare import evaluate as run
    from acbo_ref.arena.play import RENAMED_METHODS, is_policy
    from acbo_ref.training.checkpoint import shipped_policy

    if scheduler is not None and workers is not None:
        raise click.UsageError("--workers is for processes started here; --scheduler has workers of its own")
    chosen = [m.strip() for m in methods.split(",") if m.strip()] if methods is not None else []
    for method in chosen:
        if method in RENAMED_METHODS:
            click.echo(f"warning: method {method} is called {RENAMED_METHODS[method]} now", err=True)
    shipped = False
    if checkpoint is None and (not chosen or any(map(is_policy, chosen))):
        checkpoint, shipped = shipped_policy(), True
    _, maker = make_backend(backend or "ref")
    progress: list[Progress] = []  # one, once it is known how much there is to do

    def step(suite: str, method: str, done: int, total: int) -> None:
        if not progress:
            progress.append(Progress(total))
        progress[0](done, f"{done}/{total}", f"{suite}: {method}")

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
        on_cell=step,
    )
    try:
        report = run(checkpoint, settings)
    finally:
        for shown in progress:
            shown.interrupt()
    if shipped:
        click.echo("policy: the one that ships (docs/model_card.md)", err=True)
    if output is not None:
        click.echo(f"written: {output / 'results.csv'}, {output / 'summary.json'}", err=True)
    if output_format == "json":
        echo_json(report)
    else:
        click.echo(as_text(report))
    if output is not None:
        ends(found(report), "analyze", output)
    else:
        ends(found(report), instead="--output FOLDER keeps it for acbo analyze")


def method_label(method: str, decision: str | None) -> str:
    """The method as tables name it: for the policy, with the head that decides."""
    return f"policy ({decision})" if method == "policy" and decision is not None else method


def as_text(report: dict[str, Any]) -> str:
    """The tables of a report, one a suite, as wide as the terminal."""
    settings = report["settings"]
    titles, parts = [], []
    for suite in report["suites"]:
        rows = []
        for method, metrics in suite["methods"].items():
            cells = [_number(metrics[key]["mean"]) for _, key, _ in _COLUMNS]
            label = method_label(method, settings.get("decision"))
            rows.append([label, interval(metrics["score"]), *cells, milliseconds(metrics)])
        titles.append(f"{suite['name']} ({systems_of(suite)}, {suite['observations']} observational rows)")
        parts.append(rows)
    header = ["method", "score [95 %]", *(name for name, _, _ in _COLUMNS), "ms/decision"]
    shown, missing = tables(header, parts, _IMPORTANCE)
    about = fill(
        f"{settings['interventions']} interventions, one query each. score: 1 = oracle, 0 = doing nothing, with its "
        "95 % interval. --legend says what every column means.",
        width(),
    )
    texts = [f"{title}\n{text}" for title, text in zip(titles, shown, strict=True)]
    return "\n\n".join([about, *texts, *([missing] if missing else [])])


def found(report: dict[str, Any]) -> str:
    """What a comparison found, in a few words: on how many suites which method scores highest."""
    from acbo_ref.arena.analysis import best_methods

    first = Counter(method for suite in report["suites"] for method in best_methods(suite))
    words = ", ".join(f"{method} on {count}" for method, count in first.most_common())
    return f"highest score: {words or 'none'}, of {len(report['suites'])} suites"


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
