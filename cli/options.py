"""Options and printing that several commands share."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def format_option(function: F) -> F:
    return click.option(
        "--format", "output_format", type=click.Choice(["text", "json"]), default="text", show_default=True,
        help="What to print on stdout.",
    )(function)  # fmt: skip


def backend_option(default: str) -> Callable[[F], F]:
    return click.option("--backend", help=f"numba, jax or ref; default {default}.")


def make_backend(name: str | None, announce: bool = True) -> tuple[str, Callable[..., Any]]:
    """The backend's name and maker; says which was chosen and why when it was not asked for."""
    from acbo_fast import available, backend_maker, default_backend

    if name is not None:
        return name, backend_maker(name)
    chosen = default_backend()
    if announce:
        other = "; --backend jax for a GPU or a wide network" if "jax" in available()[1:] else ""
        click.echo(f"backend: {chosen} (the fastest of those installed: {', '.join(available())}{other})", err=True)
    return chosen, backend_maker(chosen)


def echo_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=1, allow_nan=False))


def interval(value: Mapping[str, float | None], digits: int = 3) -> str:
    """mean [low, high]"""
    if value["mean"] is None:
        return "-"
    return f"{value['mean']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


@contextmanager
def spoken_warnings(category: type[Warning]) -> Iterator[None]:
    """Warnings of a category go to stderr as words, once each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", category)
        try:
            yield
        finally:
            for message in dict.fromkeys(str(w.message) for w in caught):
                click.echo(f"warning: {message}", err=True)
