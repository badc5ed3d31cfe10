"""What `acbo campaign` prints: beliefs, histories, where a campaign stands."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

from acbo_cli.terminal import table, tables

# A status names at most this many records of each kind of oddity.
MOST_ODD = 5


BELIEFS = {
    "variable": "as the data name it",
    "direct cause": "the probability that it acts on the target other than through what was measured",
    "best value": "of its domain, whatever the bounds; nothing where it cannot be set",
    "expected": "the target under that value",
    "90 % interval": "of that expectation, not of a single outcome",
}
HISTORY = {
    "id": "e1 was proposed, x1 was imported, o1 is a past row",
    "set": "the variable that was set, and to what",
    "expected": "the target when it was proposed; in brackets where a single outcome lies with 90 %",
    "measured": "the target",
    "state": "pending until it is told or abandoned",
}


def beliefs_text(found: list[dict[str, Any]]) -> str:
    rows = [
        [
            b["variable"],
            f"{b['parent_probability']:.2f}",
            *(
                ["", "", ""]
                if b["value"] is None
                else [f"{b['value']:.6g}", f"{b['predicted']:.4g}", f"[{b['low']:.4g}, {b['high']:.4g}]"]
            ),
        ]
        for b in found
    ]
    (text,), missing = tables(list(BELIEFS), [rows], list(BELIEFS)[1:], words=True)
    return f"{text}\n{missing}" if missing else text


def history_text(found: list[dict[str, Any]]) -> str:
    """A line each, and below it what is odd and what was noted."""
    if not found:
        return "no experiments yet"
    rows = []
    for h in found:
        done = ", ".join(f"{name} = {value:.6g}" for name, value in h["set"].items())
        expected = "" if h["predicted"] is None else f"{h['predicted']:.4g} [{h['low']:.4g}, {h['high']:.4g}]"
        measured = "" if h["measured"] is None else f"{h['measured']:.5g}"
        rows.append([h["id"], done, expected, measured, h["state"]])
    (text,), missing = tables(list(HISTORY), [rows], ["set", "measured", "state", "expected"], words=True)
    first, rule, *lines = text.splitlines()
    shown = [first, rule]
    for h, line in zip(found, lines, strict=True):
        shown += [
            line,
            *(f"    hard to believe: {text}" for text in h["doubts"]),
            *(f"    out of bounds: {text}" for text in h["outside"]),
            *(f"    note: {text}" for text in h["notes"]),
        ]
    shown += [missing] if missing else []
    return "\n".join(shown)


def history_csv(found: list[dict[str, Any]]) -> str:
    """The history as a table for a spreadsheet."""
    columns = [
        "id",
        "state",
        "variable",
        "value",
        "predicted",
        "low",
        "high",
        "measured",
        "time",
        "by",
        "doubts",
        "outside",
        "notes",
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for h in found:
        shown = {**h, "variable": "+".join(h["set"])} | {c: "; ".join(h[c]) for c in ("doubts", "outside", "notes")}
        writer.writerow(["" if shown[c] is None else shown[c] for c in columns])
    return text.getvalue()


def _bounds(s: dict[str, Any]) -> str:
    from acbo_ref.campaign.bounds import Caution

    caution = Caution(**s["bounds"])
    return "" if caution.bounds_nothing else f"{caution}"


def _ranges(s: dict[str, Any]) -> str:
    from acbo_ref.campaign.bounds import open_ends, range_words

    return ", ".join(f"{name} {range_words(open_ends(low, high))}" for name, (low, high) in s["warn_outside"].items())


def recorded_text(row: dict[str, float | None], given: Iterable[str]) -> str:
    """What was recorded of the variables that were given."""
    from acbo_ref.campaign.tables import known_name

    names = {known_name(name, row) for name in given}
    return ", ".join(f"{name} {_value(value)}" for name, value in row.items() if name in names and value is not None)


def corrected_text(before: dict[str, float | None], after: dict[str, float | None]) -> str:
    """What differs between a row as it was and as it is."""
    changed = [name for name in after if after[name] != before[name]]
    words = [f"{name} {_value(before[name])} -> {_value(after[name])}" for name in changed]
    return ", ".join(words) or "counts again"


def _value(value: float | None) -> str:
    return "not known" if value is None else f"{value:.10g}"


def progress_text(s: dict[str, Any]) -> str:
    """Where the campaign stands, in a few lines; `status` says the rest."""
    from acbo_ref.campaign.words import counted

    budget = "no limit" if s["budget"] is None else f"{s['remaining']} of {counted(s['budget'], 'proposal')} left"
    lines = [
        f"{s['direction']} {s['target']}: {counted(s['observations'], 'past row')}, "
        f"{counted(s['interventions'], 'experiment')}, {budget}"
    ]
    pending = ", ".join(f"{p['id']} ({p['variable']} = {p['value']:.10g})" for p in s["pending"])
    if pending:
        lines.append(f"pending: {pending}")
    return "\n".join([*lines, *([s["watch"]["words"]] if s["watch"]["told"] else [])])


def status_text(s: dict[str, Any]) -> str:
    first, *progress = progress_text(s).splitlines()
    rows = []
    for name, d in s["variables"].items():
        ends = "" if d is None else ", ".join([f"{d[0]:.10g} to {d[1]:.10g}", *s["scales"].get(name, [])])
        cost = f"{s['costs'][name]:.6g}" if name in s["costs"] else ""
        kind = "target" if name == s["target"] else "exogenous" if name in s["exogenous"] else "fixed"
        rows.append([name, ends or kind, cost])
    shown = 3 if len(set(s["costs"].values())) > 1 else 2
    lines = [first, *([] if s["pending"] else ["pending: none"]), *progress]
    if s["objective"] != "cumulative":
        lines.append("objective: what is settled on in the end")
    if s["method"] != "policy":
        lines.append(f"chosen by: {s['method']}")
    lines += [f"{name}: {words}" for name, words in (("bounds", _bounds(s)), ("warn outside", _ranges(s))) if words]
    if s["abandoned"]:
        lines.append(f"abandoned: {', '.join(s['abandoned'])}")
    for title, found in (("hard to believe", s["doubtful"]), ("out of bounds", s["outside"])):
        lines += [f"{title}: {id}: {'; '.join(words)}" for id, words in list(found.items())[:MOST_ODD]]
        lines += [f"{title}: {len(found) - MOST_ODD} more"] if len(found) > MOST_ODD else []
    if s["torn_line"]:
        lines.append("the journal's last line is torn and is ignored")
    return "\n".join(
        [*lines, "", table(["variable", "domain", "cost"][:shown], [row[:shown] for row in rows], words=True)]
    )
