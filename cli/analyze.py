"""`acbo analyze`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from acbo_cli.evaluate import LEGEND as EVALUATION
from acbo_cli.options import echo_json, format_option, interval
from acbo_cli.terminal import ends, legend_option, table

if TYPE_CHECKING:
    from acbo_ref.arena.analysis import Folder

LEGEND = {
    "*": "the highest score",
    "score [95 %]": EVALUATION["score [95 %]"],
    "minus policy [95 %]": "score of the method minus the policy's, over the same systems, with the 95 % interval of the "
    "paired difference; without a policy minus that of the method named",
}


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), help="The report; default report.html in the first folder.")
@legend_option(LEGEND)
@format_option
def analyze(folders: tuple[Path, ...], output: Path | None, output_format: str) -> None:
    """Turn training runs and evaluations into one page, report.html.

    FOLDERS are run folders of `acbo train` and folders written by `acbo evaluate --output`; several
    stand side by side. A summary is printed on stdout as well.

    \b
    acbo analyze runs/first
    acbo analyze runs/first runs/second evaluations/first
    acbo analyze evaluations/first --output report.html
    """
    from acbo_cli.report import write_report

    from acbo_ref.arena.analysis import load_folder, summary

    loaded = [load_folder(folder) for folder in folders]
    path = output or folders[0] / "report.html"
    if path.is_dir():
        path = path / "report.html"
    write_report(loaded, path)
    if output_format == "json":
        echo_json(summary(loaded))
    else:
        click.echo(summary_text(loaded))
    ends(f"written: {path}", instead="open it in a browser; it needs no network")


def summary_text(folders: list[Folder]) -> str:
    """The report for a terminal."""
    from acbo_ref.arena.analysis import best_methods, compared_with, diagnosis, differences

    parts = []
    for f in folders:
        if f.records:
            r = f.records[-1]
            lines = [f"{f.name}: {r['episodes']} episodes, stage {r['stage']}, recent score {r['recent_score']:.3f}"]
            for d in diagnosis(f):
                lines.append(f"  {d.finding}" + (f"\n    -> {d.advice}" if d.advice else ""))
            parts.append("\n".join(lines))
        for s in f.report["suites"] if f.report is not None else []:
            apart, best = differences(f, s), best_methods(s)
            rows = [
                [("* " if m in best else "  ") + m, interval(v["score"]), interval(apart[m]) if m in apart else ""]
                for m, v in s["methods"].items()
            ]
            base = compared_with(list(s["methods"]))
            parts.append(f"{f.name}, {s['name']}\n" + table(["  method", "score [95 %]", f"minus {base} [95 %]"], rows))
    return "\n\n".join(parts)
