"""Errors a person can act on.

Contract: every failure the user can cause, and every run that cannot go on, is raised as an
`AcboError` with a one-sentence message and, where there is one, a hint that says what to do.
The command line prints both and exits with `exit_code`; nothing else in the project prints errors.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AcboError(Exception):
    """A mistake in what the user gave: files, options, values (exit code 2)."""

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class RunError(AcboError):
    """A run that started well and cannot go on, e.g. because the loss stays non-finite (exit code
    1).
    """

    exit_code = 1


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint that names the closest known word, or else all of them."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + ", ".join(known)
