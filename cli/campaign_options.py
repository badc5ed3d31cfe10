"""Options and arguments that several campaign commands share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from acbo_cli.options import echo_json, spoken_warnings

folder_argument = click.argument("folder", type=click.Path(path_type=Path))


def campaign_warnings() -> AbstractContextManager[None]:
    """What the campaign warns of, on stderr, once each."""
    from acbo_ref.campaign.facts import CampaignWarning

    return spoken_warnings(CampaignWarning)


by_option = click.option("--by", metavar="PERSON", help="Who does this, for the journal.")
sheet_option = click.option("--sheet", metavar="NAME", help="Which sheet of an .xlsx file; default the first.")
yes_option = click.option("--yes", is_flag=True, help="Record numbers that are hard to believe, too.")


def show(value: dict[str, Any], output_format: str, text: Callable[[dict[str, Any]], str]) -> None:
    if output_format == "json":
        echo_json(value)
    else:
        click.echo(text(value))


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
            raise AcboError(f"{what} {item!r} is not NAME=VALUE")
        if name in found:
            raise AcboError(f"{what} {name!r} is given twice")
        found[name] = text
    return found


def domain(name: str, text: str) -> tuple[float | str, ...]:
    """LOW:HIGH[:log|:int|:step=SIZE|:periodic] as Campaign.create takes it."""
    from acbo_ref.errors import AcboError

    low, *rest = text.split(":")
    try:
        return float(low), float(rest[0]), *rest[1:]
    except (ValueError, IndexError) as error:
        raise AcboError(f"--domain {name}={text} is not LOW:HIGH", f"for example --domain {name}=0:5") from error
