"""`acbo analyze`"""

from __future__ import annotations

from pathlib import Path

import click
from acbo_cli.options import format_option


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), help="The report; default report.html in the first folder.")
@format_option
def analyze(folders: tuple[Path, ...], output: Path | None, output_format: str) -> None:
    """Turn training runs and evaluations into one self-contained report.html, several side by side.

    FOLDERS are run folders of `acbo train` and folders written by `acbo evaluate --output`. With --format text or json a
    summary is printed on stdout as well.
    """
    from acbo_cli.analysis import load_folder, summary, summary_text
    from acbo_cli.options import echo_json
    from acbo_cli.report import write_report

    loaded = [load_folder(folder) for folder in folders]
    path = output or folders[0] / "report.html"
    if path.is_dir():
        path = path / "report.html"
    write_report(loaded, path)
    click.echo(f"written: {path}", err=True)
    if output_format == "json":
        echo_json(summary(loaded))
    else:
        click.echo(summary_text(loaded))
