"""`acbo campaign`: the commands that record nothing. Data go to stdout, words to stderr."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
from acbo_cli.campaign_options import (
    campaign_warnings,
    folder_argument,
    goes_on,
    load,
    method_option,
    pairs,
    show,
    show_words,
)
from acbo_cli.campaign_text import BELIEFS, HISTORY, beliefs_text, history_csv, history_text, status_text
from acbo_cli.options import echo_json, format_option
from acbo_cli.terminal import ends, legend_option


@click.command()
@folder_argument
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "csv", "json"]),
    default="text",
    show_default=True,
    help="What to print on stdout.",
)
@legend_option(HISTORY)
def history(folder: Path, output_format: str) -> None:
    """Show every experiment.

    What was set, expected and measured, what became of it, numbers that are hard to believe or
    outside their range, and notes.

    \b
    acbo campaign history reactor
    acbo campaign history reactor --format csv > history.csv
    """
    from acbo_ref.campaign.words import counted

    with campaign_warnings():
        opened = load(folder)
        found, status = opened.history(), opened.status()
    if output_format == "json":
        echo_json(found)
    elif output_format == "csv":
        click.echo(history_csv(found), nl=False)
    else:
        click.echo(history_text(found))
    goes_on(counted(len(found), "experiment"), folder, status)


@click.command()
@folder_argument
@click.argument("file", type=click.Path(path_type=Path))
def export(folder: Path, file: Path) -> None:
    """Write all that is recorded to a new CSV file.

    `import` makes the same campaign of it where nothing is recorded yet: begin one with the same
    --target, --domain and --fixed, and without --data.

    \b
    acbo campaign export reactor all.csv
    """
    from acbo_ref.campaign.words import counted

    with campaign_warnings():
        count = load(folder).export_csv(file)
    ends(f"written: {file}, {counted(count, 'row')}", instead="acbo campaign import reads it into another campaign")


@click.command()
@folder_argument
@method_option("the campaign's own")
@format_option
def recommend(folder: Path, method: str | None, output_format: str) -> None:
    """Say what to settle on now.

    The verdict first, then the setting, within the campaign's bounds, and how much better than
    doing nothing it is. With --method: what that would settle on, and what the policy expects of
    it. Records nothing.

    \b
    acbo campaign recommend reactor
    acbo campaign recommend reactor --method gp
    """
    with campaign_warnings():
        opened = load(folder)
        found, status = opened.recommend(method), opened.status()
    show_words(found, output_format)
    if status["remaining"] == 0:
        ends("the budget is spent", "campaign", "report", folder)
    else:
        goes_on("the recommendation now", folder, status)


@click.command()
@folder_argument
@click.argument("action", metavar="NAME=VALUE")
@format_option
def predict(folder: Path, action: str, output_format: str) -> None:
    """Say what to expect of one setting. Records nothing.

    \b
    acbo campaign predict reactor temp=55
    """
    ((name, value),) = pairs((action,), "action").items()
    with campaign_warnings():
        opened = load(folder)
        found, status = opened.predict(name, value), opened.status()
    show_words(found, output_format)
    goes_on("a prediction, not recorded", folder, status)


@click.command()
@folder_argument
@click.argument("variable")
@format_option
def suggest(folder: Path, variable: str, output_format: str) -> None:
    """Say the best value of one variable. Records nothing.

    Within the campaign's bounds if any value is, and with what to expect of it.

    \b
    acbo campaign suggest reactor temp
    """
    with campaign_warnings():
        opened = load(folder)
        found, status = opened.suggest(variable), opened.status()
    show_words(found, output_format)
    goes_on("a suggestion, not recorded", folder, status)


@click.command()
@folder_argument
@click.argument("names", metavar="[VARIABLE]...", nargs=-1)
@legend_option(BELIEFS)
@format_option
def beliefs(folder: Path, names: tuple[str, ...], output_format: str) -> None:
    """Show what the policy thinks of every variable.

    Or of those named: the probability that it is a direct cause of the target, its best value
    whatever the bounds, and what that would give.

    \b
    acbo campaign beliefs reactor
    acbo campaign beliefs reactor temp dose
    """
    from acbo_ref.campaign.tables import known_name
    from acbo_ref.errors import AcboError, did_you_mean

    with campaign_warnings():
        opened = load(folder)
        found = {belief.variable: asdict(belief) for belief in opened.beliefs()}
        status = opened.status()
    names = tuple(known_name(name, found) for name in names)
    for name in names:
        if name not in found:
            raise AcboError(f"nothing is believed of {name!r}", did_you_mean(name, found))
    shown = [found[name] for name in names or found]
    if output_format == "json":
        echo_json(shown)
    else:
        click.echo(beliefs_text(shown))
    likely = max(shown, key=lambda belief: belief["parent_probability"])
    words = f"{likely['variable']} with probability {likely['parent_probability']:.2f}"
    goes_on(f"most likely a direct cause: {words}", folder, status)


@click.command()
@folder_argument
@format_option
def status(folder: Path, output_format: str) -> None:
    """Show where the campaign stands.

    What is pending, left of the budget, bounded, hard to believe, and how good predictions were.

    \b
    acbo campaign status reactor
    """
    from acbo_ref.campaign.words import counted

    with campaign_warnings():
        found = load(folder).status()
    show(found, output_format, status_text)
    goes_on(f"{counted(found['interventions'], 'experiment')} so far", folder, found)


@click.command()
@folder_argument
@click.option("--output", type=click.Path(path_type=Path), help="The page to write; default FOLDER/report.html.")
@format_option
def report(folder: Path, output: Path | None, output_format: str) -> None:
    """Write a page to read, mail or print.

    What to do, a picture of every lever, and what it rests on, in one file that needs no network.

    \b
    acbo campaign report reactor
    acbo campaign report reactor --output reactor.html
    """
    with campaign_warnings():
        path = load(folder).report(output)
    show({"report": str(path)}, output_format, lambda value: value["report"])
    ends(f"written: {path}", instead="open it in a browser; it needs no network")
