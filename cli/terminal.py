"""What commands print for a person: tables and progress that fit the terminal, legends, and the
lines that end each command.

Contract: tables go to stdout; progress and words go to stderr. Nothing is wider than the terminal
but a table whose first columns already are. Where there is no terminal the width is that of the
variable COLUMNS, or 80.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from shlex import join
from textwrap import fill

import click
from acbo_cli.options import F

Rows = Sequence[Sequence[str]]


def width() -> int:
    """Characters of a line."""
    return shutil.get_terminal_size().columns


# ------------------------------------------------------------------------------------------ tables


def table(header: Sequence[str], rows: Rows, words: bool = False) -> str:
    """Columns aligned: the first to the left, the others to the right, or all to the left for
    `words`.
    """
    widths = _widths(header, rows)
    lines = []
    for row in [header, ["-" * w for w in widths], *rows]:
        cells = [row[0].ljust(widths[0])] + [
            cell.ljust(w) if words else cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def tables(
    header: Sequence[str], parts: Sequence[Rows], importance: Sequence[str], words: bool = False
) -> tuple[list[str], str]:
    """Tables with the same columns, as many of these as fit the terminal.

    Args:
        header: names of the columns.
        parts: the rows of each table.
        importance: columns from the most important one on, without the first of `header`, which is
            always there. A column is shown if all that are more important fit beside it.
    Returns:
        the tables, and a line that names the columns left out; "" if there are none.
    """
    widths = _widths(header, [row for rows in parts for row in rows])
    places = {name: i for i, name in enumerate(header)}
    assert set(importance) == set(header[1:]), "every column has its importance"
    shown, used = [0], widths[0]
    for name in importance:
        used += 2 + widths[places[name]]
        if used > width() and len(shown) > 1:  # two columns, whatever their width
            break
        shown.append(places[name])
    shown.sort()
    texts = [table([header[i] for i in shown], [[row[i] for i in shown] for row in rows], words) for rows in parts]
    missing = [name for name in importance if places[name] not in shown]
    needed = sum(widths) + 2 * (len(widths) - 1)
    return texts, fill(f"at {needed} columns also: {', '.join(missing)}", width()) if missing else ""


def _widths(header: Sequence[str], rows: Rows) -> list[int]:
    return [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]


# ----------------------------------------------------------------------------------------- legends


def legend_option(meanings: Mapping[str, str]) -> Callable[[F], F]:
    """--legend: say what every column means, and do nothing else."""

    def show(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
        if asked and not context.resilient_parsing:
            click.echo(definitions(meanings))
            context.exit()

    return click.option(
        "--legend", is_flag=True, is_eager=True, expose_value=False, callback=show, help="Say what every column means."
    )


def definitions(meanings: Mapping[str, str]) -> str:
    """Names with their meanings beside them, wrapped."""
    formatter = click.HelpFormatter(width=min(width(), 100))
    formatter.write_dl(list(meanings.items()))
    return formatter.getvalue().rstrip("\n")


# --------------------------------------------------------------------------------- the last lines


def ends(found: str, *command: object, instead: str = "") -> None:
    """The lines that end a command: what was found or done, and what to do next. The latter is a
    line of its own, however long the command is: it is there to be copied.

    Args:
        found: what was found.
        command: the words of the acbo command to go on with, quoted as a shell needs them.
        instead: words in place of a command.
    """
    click.echo(_filled(found), err=True)
    click.echo(_filled(f"next: {instead}") if instead else f"next: {join(['acbo', *map(str, command)])}", err=True)


def _filled(words: str) -> str:
    """Wrapped between words; a word that is longer than a line, such as a path, stays whole."""
    return fill(words, width(), break_long_words=False, break_on_hyphens=False)


# ---------------------------------------------------------------------------------------- progress


def duration(seconds: float) -> str:
    """About so long: 45 s, 12 min, 2.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class Progress:
    """Progress with the time that is left on stderr: one line rewritten on a terminal, about twenty
    plain lines elsewhere.

    The first step sets the clock going, since it may have waited for a compiler, or for nothing.

    Args:
        total: number of steps.
    """

    def __init__(self, total: int) -> None:
        self._total, self._every = total, max(1, total // 20)
        self._live = sys.stderr.isatty()
        self._began: tuple[int, float] | None = None
        self._open = False

    def __call__(self, done: int, count: str, *words: str) -> None:
        """Step number `done` is done.

        Args:
            count: how far that is, as people count.
            words: more, the most important first; what does not fit the terminal is left out.
        """
        if self._began is None:
            self._began = done, time.perf_counter()
        last = done == self._total
        if self._live:
            click.echo("\r" + self._line(done, count, words).ljust(width() - 1), nl=last, err=True)
            self._open = not last
        elif last or done % self._every == 0:
            click.echo(self._line(done, count, words), err=True)

    def _line(self, done: int, count: str, words: Sequence[str]) -> str:
        filled = 20 * done // self._total
        line = f"[{'#' * filled}{'.' * (20 - filled)}] {count}"
        for word in [self._left(done), *words]:
            if word and len(line) + 2 + len(word) < width():
                line += f"  {word}"
        return line[: width() - 1]

    def _left(self, done: int) -> str:
        assert self._began is not None
        first, began = self._began
        if done == self._total or done == first:
            return ""
        spent = time.perf_counter() - began
        return f"{duration(spent / (done - first) * (self._total - done))} left"

    def interrupt(self) -> None:
        """End a line that is being rewritten: another message comes, or no more steps."""
        if self._open:
            click.echo("", err=True)
            self._open = False
