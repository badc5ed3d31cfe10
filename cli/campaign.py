"""`acbo campaign`: spend real experiments. Data go to stdout, words to stderr."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from shlex import quote

import click
from acbo_cli.campaign_new import new
from acbo_cli.campaign_options import (
    bound_options,
    by_option,
    campaign_warnings,
    caution_from,
    folder_argument,
    goes_on,
    load,
    method_option,
    pairs,
    sheet_option,
    show,
    show_words,
    yes_option,
)
from acbo_cli.campaign_read import beliefs, export, history, predict, recommend, report, status, suggest
from acbo_cli.campaign_text import corrected_text, progress_text, recorded_text
from acbo_cli.options import echo_json, format_option


class _InOrderOfUse(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(ORDER)


@click.group(cls=_InOrderOfUse, context_settings={"help_option_names": ["-h", "--help"]})
def campaign() -> None:
    """Spend real experiments: the policy proposes one, you do it and tell what came out.

    \b
    acbo campaign new reactor --data past.csv --target yield --maximize \\
        --domain-from-data
    acbo campaign ask reactor
    acbo campaign tell reactor e1 yield=6.1 age=40
    acbo campaign recommend reactor

    FOLDER (here `reactor`) holds one campaign. Every command has its own --help, with examples.
    """


@campaign.command()
@folder_argument
@click.option("--another", is_flag=True, help="One more beside those pending, about another variable.")
@click.option(
    "--batch", type=int, metavar="N", help="N experiments side by side: those pending, and new ones about any variable."
)
@method_option("the campaign's own")
@bound_options
@by_option
@format_option
def ask(
    folder: Path,
    another: bool,
    batch: int | None,
    method: str | None,
    never_below: float | str | None,
    never_above: float | str | None,
    risk: float | None,
    step: float | str | None,
    by: str | None,
    output_format: str,
) -> None:
    """Propose the experiment to do next.

    A proposal is pending until it is told or abandoned, and is repeated until then.

    The campaign's bounds hold for a new proposal; an option here replaces one of them for this
    once, and `none` lifts it. With --batch proposals spread over what may still be the best.

    \b
    acbo campaign ask reactor
    acbo campaign ask reactor --batch 4 --never-below 40
    acbo campaign ask reactor --step none
    acbo campaign ask reactor --method regress
    """
    from acbo_ref.campaign.words import counted
    from acbo_ref.errors import AcboError

    if batch is not None and another:
        raise AcboError("--another and --batch exclude each other", "--batch counts those pending as well")
    bounds = {"never_below": never_below, "never_above": never_above, "risk": risk, "step": step}
    with campaign_warnings():
        opened = load(folder)
        caution = caution_from(bounds, lambda: opened.caution)
        if risk is not None and caution is not None and not caution.limits_target:
            raise AcboError("--risk is the risk of what?", "--never-below VALUE or --never-above VALUE")
        if batch is None:
            proposal = opened.ask(another, by, caution, method)
        else:
            proposals = opened.ask_batch(batch, by, caution, method)
        status = opened.status()
    if batch is None:
        show_words(proposal, output_format)
    elif output_format == "json":
        echo_json([asdict(proposal) for proposal in proposals])
    else:
        click.echo("\n".join(map(str, proposals)))
    waiting = counted(len(status["pending"]), "proposal")
    goes_on(f"{waiting} pending: do what is proposed, and measure", folder, status)


@campaign.command()
@folder_argument
@click.argument("id")
@click.argument("values", nargs=-1, metavar="[NAME=VALUE | FILE.csv]...")
@click.option("--row", "rows", multiple=True, metavar="FILE.csv|NAME=VALUE", help="The same as an option, repeatable.")
@yes_option
@by_option
@format_option
def tell(
    folder: Path, id: str, values: tuple[str, ...], rows: tuple[str, ...], yes: bool, by: str | None, output_format: str
) -> None:
    """Record what came out of proposal ID.

    Give NAME=VALUE for every variable that was measured, or a CSV or .xlsx file with a header and
    one row. The target is needed; the variable that was set may be left out.

    \b
    acbo campaign tell reactor e1 yield=6.1 temp=51 age=40
    acbo campaign tell reactor e1 row.csv
    """
    from acbo_ref.campaign.workbooks import read_table
    from acbo_ref.errors import AcboError

    rows = values + rows
    if not rows:
        raise AcboError("what was measured?", f"acbo campaign tell {quote(str(folder))} {quote(id)} NAME=VALUE ...")
    if len(rows) == 1 and "=" not in rows[0]:
        if not Path(rows[0]).exists():
            named = quote(f"{load(folder).status()['target']}={_number_or_word(rows[0])}")
            raise AcboError(f"no file {rows[0]!r}", f"a row is NAME=VALUE for each variable, {named}; or FILE.csv")
        given = read_table(rows[0])
        if len(given.rows) != 1:
            raise AcboError(f"{rows[0]} has {len(given.rows)} rows", "a proposal has one")
        row: dict[str, object] = dict(zip(given.names, given.rows[0], strict=True))
    else:
        row = dict(pairs(rows, "value"))
    with campaign_warnings():
        opened = load(folder)
        opened.tell(id, row, yes, by)
        status, recorded = opened.status(), opened.row(id)
    show(status, output_format, progress_text)
    goes_on(f"recorded {id}: {recorded_text(recorded, row)}", folder, status)


def _number_or_word(text: str) -> str:
    """The text if it is a number, else what stands for one."""
    try:
        float(text)
    except ValueError:
        return "VALUE"
    return text


@campaign.command()
@folder_argument
@click.argument("id")
@click.argument("values", nargs=-1, required=True, metavar="NAME=VALUE...")
@yes_option
@by_option
@format_option
def correct(folder: Path, id: str, values: tuple[str, ...], yes: bool, by: str | None, output_format: str) -> None:
    """Put right what was recorded as ID.

    The journal keeps both numbers. NAME= alone says that the value is not known after all. ID is
    that of a proposal (e1), of a past row (o1) or of an experiment that was imported (x1).

    \b
    acbo campaign correct reactor e1 yield=4.3
    acbo campaign correct reactor e1 yield=4.3 age=
    """
    with campaign_warnings():
        opened, changes = load(folder), pairs(values, "value")
        before = opened.row(id)
        opened.correct(id, changes, yes, by)
        status, after = opened.status(), opened.row(id)
    show(status, output_format, progress_text)
    goes_on(f"corrected {id}: {corrected_text(before, after)}", folder, status)


@campaign.command()
@folder_argument
@click.argument("id")
@by_option
@format_option
def abandon(folder: Path, id: str, by: str | None, output_format: str) -> None:
    """Say that ID will not be done, or counts no more.

    A proposal that is abandoned costs no budget; a row that is abandoned is not read any more. The
    journal keeps both. `tell` takes the first back, `correct` the second.

    \b
    acbo campaign abandon reactor e2 --by Ada
    """
    with campaign_warnings():
        opened = load(folder)
        opened.abandon(id, by)
        status = opened.status()
    show(status, output_format, progress_text)
    goes_on(f"abandoned {id}", folder, status)


@campaign.command()
@folder_argument
@click.argument("id")
@click.argument("text")
@by_option
def note(folder: Path, id: str, text: str, by: str | None) -> None:
    """Keep a remark about ID.

    \b
    acbo campaign note reactor e1 "valve was stuck" --by Ada
    """
    with campaign_warnings():
        opened = load(folder)
        opened.note(id, text, by)
        status = opened.status()
    goes_on(f"noted about {id}", folder, status)


@campaign.command("import")
@folder_argument
@click.argument("data", type=click.Path(path_type=Path))
@sheet_option
@yes_option
@by_option
@format_option
def import_rows(folder: Path, data: Path, sheet: str | None, yes: bool, by: str | None, output_format: str) -> None:
    """Record rows of a CSV or .xlsx file.

    They are rows that nobody proposed, and cost no budget. Column `intervention` names the variable
    that was set, several as temp+dose; it is empty where nothing was set. All rows are recorded, or
    none. What `export` wrote comes back whole where nothing is recorded yet.

    Every variable needs a column; a cell is empty where a value is not known. A file with one
    experiment, in which temp was set to 71:

    \b
    temp,dose,age,yield,intervention
    71,2.6,,6.6,temp

    \b
    acbo campaign import reactor march.xlsx --sheet runs
    """
    from acbo_ref.campaign.words import counted

    with campaign_warnings():
        opened = load(folder)
        before = opened.status()
        opened.import_rows(data, yes, by, sheet)
        status = opened.status()
    counts = [status[kind] - before[kind] for kind in ("observations", "interventions")]
    rows, done = counted(counts[0], "past row"), counted(counts[1], "experiment")
    show(status, output_format, progress_text)
    goes_on(f"recorded {rows} and {done}", folder, status)


@campaign.command()
@folder_argument
@click.option("--policy", type=click.Path(path_type=Path), help="Checkpoint or run folder; default the one that ships.")
@by_option
@format_option
def upgrade(folder: Path, policy: Path | None, by: str | None, output_format: str) -> None:
    """Go on with another policy.

    What was measured stays valid, and the journal records the change.

    \b
    acbo campaign upgrade reactor
    acbo campaign upgrade reactor --policy runs/mine
    """
    from acbo_ref.campaign.campaign import upgrade_campaign

    with campaign_warnings():
        status = upgrade_campaign(folder, policy, by).status()
    show(status, output_format, progress_text)
    goes_on(f"policy {status['policy_sha256'][:16]} from now on", folder, status)


# Listed by `--help` in the order of use.
ORDER = (
    "new", "ask", "tell", "correct", "abandon", "note", "history", "export", "import", "recommend", "predict", "suggest",
    "beliefs", "status", "report", "upgrade",
)  # fmt: skip
for command in (new, history, export, recommend, predict, suggest, beliefs, status, report):
    campaign.add_command(command)
