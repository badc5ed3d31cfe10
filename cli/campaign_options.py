"""Options and arguments that several campaign commands share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click
from acbo_cli.options import F, echo_json, spoken_warnings
from acbo_cli.terminal import ends

if TYPE_CHECKING:
    from acbo_ref.campaign.bounds import Caution

folder_argument = click.argument("folder", type=click.Path(path_type=Path))


def campaign_warnings() -> AbstractContextManager[None]:
    """What the campaign warns of, on stderr, once each."""
    from acbo_ref.campaign.facts import CampaignWarning

    return spoken_warnings(CampaignWarning)


by_option = click.option("--by", metavar="PERSON", help="Who does this, for the journal.")
sheet_option = click.option("--sheet", metavar="NAME", help="Sheet of an .xlsx file; default the first.")
yes_option = click.option("--yes", is_flag=True, help="Record numbers that are hard to believe, too.")


def method_option(default: str) -> Callable[[F], F]:
    return click.option(
        "--method",
        metavar="NAME",
        help=f"Who chooses: policy, random, endpoints, regress, paths, thompson, gp, gp_all; default {default}.",
    )


def _bound(ctx: click.Context, param: click.Parameter, value: str | None) -> float | str | None:
    """A number, or `none` to lift a bound."""
    if value is None or value.strip().lower() == LIFTED:
        return value and LIFTED
    try:
        return float(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not a number; {LIFTED} lifts a bound", ctx, param) from error


LIFTED = "none"
_BOUNDS = ("never_below", "never_above", "risk", "step")


def bound_options(function: F) -> F:
    """Bounds on what is proposed; see `caution_from`."""
    for option in (
        click.option("--step", callback=_bound, metavar="SHARE",
                     help="How far from what was tried a setting may be: a share of its domain (0.1 is a tenth)."),
        click.option("--risk", type=float, metavar="P",
                     help="How probable it may be that an outcome is beyond these; default 0.1."),
        click.option("--never-above", callback=_bound, metavar="VALUE", help="What the measured target must not rise above."),
        click.option("--never-below", callback=_bound, metavar="VALUE", help="What the measured target must not fall below."),
    ):  # fmt: skip
        function = option(function)
    return function


def caution_from(given: dict[str, Any], before: Callable[[], Caution]) -> Caution | None:
    """The bounds that options give, those of `before` where an option was not given; None if none
    was.
    """
    from acbo_ref.campaign.bounds import Caution

    changes = {name: None if given[name] == LIFTED else given[name] for name in _BOUNDS if given[name] is not None}
    return Caution(**asdict(before()) | changes) if changes else None


def load(folder: Path) -> Any:
    """The campaign in a folder."""
    from acbo_ref.campaign.campaign import load_campaign

    return load_campaign(folder)


def show(value: dict[str, Any], output_format: str, text: Callable[[dict[str, Any]], str]) -> None:
    if output_format == "json":
        echo_json(value)
    else:
        click.echo(text(value))


def goes_on(found: str, folder: Path, status: dict[str, Any]) -> None:
    """The line that ends a command: what was done, and what the campaign waits for."""
    if status["pending"]:
        measured = [f"{name}=VALUE" for name in (status["target"], *status["exogenous"])]
        ends(found, "campaign", "tell", folder, status["pending"][0]["id"], *measured)
    elif status["remaining"] == 0:
        ends(f"{found}; the budget is spent", "campaign", "recommend", folder)
    else:
        ends(found, "campaign", "ask", folder)


def show_words(found: Any, output_format: str) -> None:
    """A record of the campaign that knows its own words: these, or its fields as JSON."""
    show(asdict(found), output_format, lambda _: str(found))


def pairs(items: tuple[str, ...], what: str) -> dict[str, str]:
    """NAME=TEXT options as a dict."""
    from acbo_ref.errors import AcboError

    found: dict[str, str] = {}
    for item in items:
        name, separator, text = item.partition("=")
        if not separator or not name:
            raise AcboError(
                f"{what} {item!r} is not NAME=VALUE", "a name with spaces needs quotes: 'a long name=VALUE'"
            )
        if name in found:
            raise AcboError(f"{what} {name!r} is given twice")
        found[name] = text
    return found


def warning_range(name: str, text: str) -> tuple[float | None, float | None]:
    """LOW:HIGH as Campaign.create takes it; either end may be left out."""
    from acbo_ref.errors import AcboError

    low, separator, high = text.partition(":")
    try:
        if not separator:
            raise ValueError
        return (float(low) if low.strip() else None), (float(high) if high.strip() else None)
    except ValueError as error:
        raise AcboError(
            f"--warn-outside {name}={text} is not LOW:HIGH",
            f"for example --warn-outside {quote(f'{name}=0:8')}, or {quote(f'{name}=:8')}",
        ) from error


def domain(name: str, text: str) -> tuple[float | str, ...]:
    """LOW:HIGH[:log|:int|:step=SIZE|:periodic] as Campaign.create takes it."""
    from acbo_ref.errors import AcboError

    low, *rest = text.split(":")
    try:
        return float(low), float(rest[0]), *rest[1:]
    except (ValueError, IndexError) as error:
        raise AcboError(
            f"--domain {name}={text} is not LOW:HIGH", f"for example --domain {quote(f'{name}=0:5')}"
        ) from error
