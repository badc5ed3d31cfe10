"""What a campaign says, as sentences: in a terminal, in a notebook.

Contract: knows nothing of campaigns; what is printed decides its own words.
"""

from __future__ import annotations

import html


class Words:
    """Something whose `str` is a few lines, the first of which says the most; a notebook shows the
    same.
    """

    def _repr_html_(self) -> str:
        first, *rest = str(self).splitlines()
        below = "".join(f"<br>{html.escape(line.strip())}" for line in rest)
        return f"<p><strong>{html.escape(first)}</strong>{below}</p>"


def counted(count: int, noun: str) -> str:
    """For example "1 experiment", "2 experiments", "0 past rows"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
