"""Options and arguments that several campaign commands share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from acbo_cli.options import F, echo_json, spoken_warnings

folder_argument = click.argument("folder", type=click.Path(path_type=Path))


def campaign_warnings() -> AbstractContextManager[None]:
    """What the campaign warns of, on stderr, once each."""
    from acbo_ref.campaign.facts import CampaignWarning

    return spoken_warnings(CampaignWarning)


by_option = click.option("--by", metavar="PERSON", help="Who does this, for the journal.")
sheet_option = click.option("--sheet", metavar="NAME", help="Which sheet of an .xlsx file; default the first.")
yes_option = click.option("--yes", is_flag=True, help="Record numbers that are hard to believe, too.")


def method_option(function: F) -> F:
    return click.option(
        "--method",
        metavar="NAME",
        help="Who chooses: policy (the default), random, endpoints, regress, paths, thompson, gp, gp_all.",
    )(function)


def chosen_method(name: str | None) -> Any:
    """The class of a method of the arena, None for the policy."""
    from acbo_ref.arena.baselines import BASELINES
    from acbo_ref.errors import AcboError, did_you_mean

    if name in (None, "policy"):
        return None
    # Optuna takes outcomes of its own trials only, and could not be told what others did
    known = [method for method in BASELINES if method not in ("optuna", "nothing")]
    if name not in known:
        raise AcboError(f"no method {name!r} can run a campaign", did_you_mean(str(name), ["policy", *known]))
    return BASELINES[str(name)]


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
