"""`acbo campaign new`: from a table of past measurements to a campaign."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click
from acbo_cli.campaign_options import (
    bound_options,
    by_option,
    campaign_warnings,
    caution_from,
    domain,
    folder_argument,
    goes_on,
    method_option,
    pairs,
    sheet_option,
    show,
    warning_range,
)
from acbo_cli.campaign_text import status_text
from acbo_cli.options import format_option

if TYPE_CHECKING:
    from acbo_ref.campaign.tables import Table

Domain = tuple[float | str, ...]


@click.command()
@folder_argument
@click.option(
    "--data", type=click.Path(path_type=Path), help="CSV or .xlsx of past rows; its header names the variables."
)
@sheet_option
@click.option("--target", required=True, help="The variable to drive down or up.")
@click.option("--minimize/--maximize", "minimize", default=None, help="Drive the target down, or up; say which.")
@click.option(
    "--domain",
    "domains",
    multiple=True,
    metavar="NAME=LOW:HIGH[:KIND]",
    help="A variable that can be set, and how far; repeatable. KIND: log, int, step=SIZE, periodic.",
)
@click.option(
    "--fixed", multiple=True, metavar="NAME", help="A variable that is measured and cannot be set; repeatable."
)
@click.option(
    "--exogenous",
    multiple=True,
    metavar="NAME",
    help="As --fixed, and nothing that is set can move it (weather, raw material): what it explains is taken off; "
    "repeatable.",
)
@click.option(
    "--domain-from-data", is_flag=True, help="Domains that are not given are the 1st to 99th percentile of the data."
)
@click.option("--ignore", multiple=True, metavar="NAME", help="A column of the data to leave out; repeatable.")
@click.option(
    "--cost",
    "costs",
    multiple=True,
    metavar="NAME=VALUE",
    help="What an experiment on it costs, in any unit; 1 where nothing is said; repeatable.",
)
@bound_options
@click.option(
    "--warn-outside",
    "ranges",
    multiple=True,
    metavar="NAME=LOW:HIGH",
    help="Warn when this variable is measured outside, and do not recommend a setting whose nearest measurement was; "
    "one end may be left out; repeatable.",
)
@click.option(
    "--objective",
    type=click.Choice(["cumulative", "final"]),
    default="cumulative",
    show_default=True,
    help="What shall be as good as it can: all outcomes together, or only what is settled on in the end.",
)
@method_option("policy")
@click.option("--budget", type=int, help="How many experiments may be proposed; default no limit.")
@click.option("--policy", type=click.Path(path_type=Path), help="Checkpoint or run folder; default the one that ships.")
@by_option
@format_option
def new(
    folder: Path,
    data: Path | None,
    sheet: str | None,
    target: str,
    minimize: bool | None,
    domains: tuple[str, ...],
    fixed: tuple[str, ...],
    exogenous: tuple[str, ...],
    domain_from_data: bool,
    ignore: tuple[str, ...],
    costs: tuple[str, ...],
    never_below: float | str | None,
    never_above: float | str | None,
    risk: float | None,
    step: float | str | None,
    ranges: tuple[str, ...],
    objective: str,
    method: str | None,
    budget: int | None,
    policy: Path | None,
    by: str | None,
    output_format: str,
) -> None:
    """Begin a campaign in FOLDER.

    Every column of the data but the target needs --domain, --fixed or --ignore, unless
    --domain-from-data is given. Every row of the data is a measurement in which nothing was set on
    purpose. Without data name the variables by --domain and --fixed.

    \b
    acbo campaign new reactor --data past.xlsx --target yield --maximize \\
        --domain temp=20:80 --domain dose=0:5 --fixed age --budget 20

    --never-below, --never-above, --risk and --step hold for every `ask` and for `recommend`, and
    --method chooses in both.

    \b
    acbo campaign new safe --data past.csv --target yield --maximize \\
        --domain-from-data --never-below 40 --warn-outside pressure=:8
    """
    import numpy as np

    from acbo_ref.campaign.bounds import NO_BOUNDS
    from acbo_ref.campaign.campaign import Campaign
    from acbo_ref.campaign.exogenous import ask_about_exogenous
    from acbo_ref.campaign.rules import say_outside_domains
    from acbo_ref.campaign.tables import Table, select, with_known_names
    from acbo_ref.campaign.workbooks import read_table
    from acbo_ref.errors import AcboError

    fixed = tuple(dict.fromkeys((*fixed, *exogenous)))
    if minimize is None:
        raise AcboError(f"shall {target!r} be as low or as high as it can?", "say --minimize or --maximize")
    given = {name: domain(name, text) for name, text in pairs(domains, "--domain").items()}
    if data is not None:
        table = with_known_names(read_table(data, sheet), [*given, *fixed, *ignore, target])
    else:
        table = Table([*given, *fixed, target], [], [], "the campaign")
    _check_is_observed(table)
    _check_named(table, given, fixed, (*ignore, target))
    names = _columns(table, (*given, *fixed, target), ignore)
    rows = select(table, names)
    variables = _domains(names, rows, given, (*fixed, target), domain_from_data)
    bounds = {"never_below": never_below, "never_above": never_above, "risk": risk, "step": step}
    warn_outside = {name: warning_range(name, text) for name, text in pairs(ranges, "--warn-outside").items()}
    with campaign_warnings():
        made = Campaign.create(
            folder, variables, target, "minimize" if minimize else "maximize", table, budget, policy, by,
            pairs(costs, "--cost"), caution_from(bounds, lambda: NO_BOUNDS), warn_outside, method or "policy",
            objective, exogenous,
        )  # fmt: skip
        say_outside_domains(names, given, rows)
        not_set = [name for name in names if variables[name] is None and name not in (target, *exogenous)]
        ask_about_exogenous(np.array(rows, float).reshape(-1, len(names)), names, not_set, exogenous, target)
    status = made.status()
    show(status, output_format, status_text)
    goes_on(f"created {folder}", folder, status)


def _check_is_observed(table: Table) -> None:
    """Whether nothing was set in any row: a campaign begins with observations."""
    from acbo_ref.errors import AcboError

    if "intervention" in table.names:
        column = table.names.index("intervention")
        if any(str(row[column]).strip() for row in table.rows):
            hint = "begin without --data, then `acbo campaign import` reads both kinds of rows"
            raise AcboError(f"{table.where} has experiments in it (column 'intervention')", hint)


def _check_named(table: Table, given: Mapping[str, object], fixed: tuple[str, ...], others: tuple[str, ...]) -> None:
    """Whether what the options name is there, and nothing twice."""
    from acbo_ref.errors import AcboError, did_you_mean

    for name in (*given, *fixed, *others):
        if name not in table.names:
            raise AcboError(f"{table.where} has no column {name!r}", did_you_mean(name, table.names))
    both = set(given) & set(fixed)
    if both:
        raise AcboError(f"{min(both)!r} has both --domain and --fixed")


def _columns(table: Table, named: tuple[str, ...], ignore: tuple[str, ...]) -> list[str]:
    """The columns to read: those without a number in them are left out, and said."""
    from acbo_ref.campaign.tables import text_columns

    unread = [name for name in text_columns(table) if name not in (*named, *ignore)]
    if unread:
        click.echo(f"left out, since there are no numbers in it: {', '.join(unread)}", err=True)
    return [name for name in table.names if name not in (*ignore, *unread)]


def _domains(
    names: list[str], rows: list[list[float]], given: Mapping[str, Domain], not_set: tuple[str, ...], from_data: bool
) -> dict[str, Domain | None]:
    """The domain of every variable, None where it is not set."""
    import numpy as np

    from acbo_ref.campaign.rules import domain_from_data
    from acbo_ref.errors import AcboError

    open_ones = [name for name in names if not (from_data or name in given or name in not_set)]
    if open_ones:
        options = [f"--domain {short}=LOW:HIGH or --fixed {short}" for short in map(_short, open_ones)]
        raise AcboError(
            f"may {' and '.join(map(repr, open_ones))} be set, and how far?",
            f"{'; '.join(options)}; or --domain-from-data",
        )
    variables: dict[str, Domain | None] = {}
    for i, name in enumerate(names):
        if name in given:
            variables[name] = given[name]
        elif name in not_set:
            variables[name] = None
        else:
            low, high = variables[name] = domain_from_data(np.array([row[i] for row in rows]), name)
            click.echo(f"domain of {name}, from the data: {low:.10g} to {high:.10g}", err=True)
    return variables


def _short(name: str) -> str:
    """A name without its unit, as a shell takes it."""
    from acbo_ref.campaign.tables import name_and_unit

    return quote(name_and_unit(name)[0])
