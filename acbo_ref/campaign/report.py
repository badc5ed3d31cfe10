"""The page of a campaign: one file, readable without a network and without scripts.

What to do stands on top, then one picture a lever, then what it rests on: progress, predictions
against outcomes, beliefs, and every experiment. Numbers have the digits that the noise leaves
meaning.

Contract: a function of what the campaign says; writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from acbo_ref.campaign import pictures
from acbo_ref.campaign.bounds import range_words
from acbo_ref.campaign.calibration import QUANTILE
from acbo_ref.campaign.curves import Curve
from acbo_ref.campaign.facts import FINAL, POLICY, Facts
from acbo_ref.campaign.pictures import Points
from acbo_ref.campaign.predictions import Belief
from acbo_ref.campaign.settling import Recommendation, more_words
from acbo_ref.campaign.style import STYLE
from acbo_ref.campaign.svg import escaped, rounded, setting
from acbo_ref.campaign.words import counted
from acbo_ref.files import Document

# A chart shows at most so many past rows, evenly spaced.
MOST_PAST = 300


@dataclass(frozen=True, eq=False)
class Findings:
    """All that the page is about.

    Attributes:
        name: of the campaign's folder.
        history: of Campaign.history.
        curves: of every lever that the policy reads.
    """

    name: str
    facts: Facts
    history: list[Document]
    best: Recommendation
    beliefs: list[Belief]
    curves: list[Curve]

    @property
    def noise(self) -> float:
        """A typical standard deviation of a single outcome."""
        return float(np.median([curve.noise for curve in self.curves]))

    def target(self, value: float | None) -> str:
        """A measured target, for the page."""
        return rounded(value, self.noise)

    @property
    def axis(self) -> str:
        """The target, and which way is better."""
        better = "higher" if self.facts.direction == "maximize" else "lower"
        return f"{self.facts.with_unit(self.facts.target)}, {better} is better"

    @property
    def limits(self) -> list[tuple[float, str]]:
        """What the target must not pass, and how that is called."""
        ends = (("never below", self.facts.caution.never_below), ("never above", self.facts.caution.never_above))
        return [(limit, f"{word} {limit:.6g}") for word, limit in ends if limit is not None]

    def value(self, variable: str, value: float) -> str:
        """A value of a variable, for the page: to a thousandth of its domain."""
        i = self.facts.variables.index(variable)
        return setting(value, self.facts.domains[i], self.facts.scales[i].is_log)

    @property
    def told(self) -> list[Document]:
        """Experiments that count, in the order in which they were recorded."""
        order = {id: n for n, id in enumerate(self.facts.records)}
        counting = [h for h in self.history if h["measured"] is not None and h["state"] != "abandoned"]
        return sorted(counting, key=lambda h: order[h["id"]])


def report_page(found: Findings) -> str:
    """The whole page, HTML."""
    facts = found.facts
    title = f"{'Maximise' if facts.direction == 'maximize' else 'Minimise'} {facts.target}"
    body = [
        f"<header><h1>{escaped(title)}</h1></header><main>",
        _card(found),
        _levers(found),
        *_experiments(found),
        _beliefs(found),
        _history(found),
        "</main>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escaped(title)}: {escaped(found.name)}</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _card(found: Findings) -> str:
    """What to do, how sure that is, and what comes next."""
    best, facts = found.best, found.facts
    setting = f"{best.variable} = {found.value(best.variable, best.value)}"
    likely = best.is_likely and best.improvement is not None
    if not best.keeps_bounds:
        headline = f"{best.verdict[:1].upper()}{best.verdict[1:]}"
        begin = f"The safest is {setting}: {facts.target} should then be"
    elif likely or best.improvement is None:
        headline = f"Set {best.variable} to {found.value(best.variable, best.value)}"
        begin = f"{facts.target} should then be"
    elif best.leaves_all:
        headline = "Leave it as it is, for all that is known"
        begin = f"No setting is likely to be better than doing nothing. The best is {setting}: {facts.target} should then be"
    else:
        headline = "Not known yet whether anything is better than doing nothing"
        begin = f"The most promising is {setting}: {facts.target} should then be"
    noise = (best.high - best.low) / (2 * QUANTILE)
    expected, low, high, nothing, gain, least, most = (
        rounded(value, noise)
        for value in (
            best.predicted, best.low, best.high, best.baseline, best.improvement, best.improvement_low, best.improvement_high,
        )
    )  # fmt: skip
    words = f"{begin} {expected} (90 %: {low} to {high})"
    if best.improvement is not None:
        words += f"; when nothing is done it is {nothing}. Better by {gain} ({least} to {most})"
    left = (
        "no limit to experiments"
        if facts.remaining is None
        else f"{facts.remaining} of {counted(facts.budget or 0, 'experiment')} left"
    )
    rows, done = counted(len(facts.observations), "past row"), counted(len(facts.interventions), "experiment")
    known = f"{rows}, {done}; {left}"
    return (
        f'<section class="card{" good" if likely else ""}"><h2>{escaped(headline, 300)}</h2><p>{escaped(words, 1000)}.</p>'
        f"<dl><dt>How sure</dt><dd>{escaped(_sure(best), 500)}.</dd>"
        f"{_terms(facts)}{_cautions(best)}"
        f"<dt>Next</dt><dd>{_next(found)}</dd><dt>Known from</dt><dd>{escaped(known)}.</dd></dl></section>"
    )


def _sure(best: Recommendation) -> str:
    """The verdict, and how many experiments would tell."""
    parts = [best.verdict, *([] if best.more is None else [more_words(best.more)])]
    return ". ".join(part[:1].upper() + part[1:] for part in parts)


def _terms(facts: Facts) -> str:
    """What the campaign keeps to, and who chooses."""
    ranges = [
        f"{name} {range_words(ends)}"
        for name, ends in zip(facts.variables, facts.warning_ranges, strict=True)
        if ends is not None
    ]
    said = {
        "Bounds": "" if facts.caution.bounds_nothing else f"{facts.target}: {facts.caution}",
        "Warn outside": ", ".join(ranges),
        "Seen through": f"what {', '.join(facts.exogenous)} explains is taken off" if facts.exogenous else "",
        "Objective": "what is settled on in the end" if facts.objective == FINAL else "",
        "Chosen by": "" if facts.method == POLICY else f"{facts.method}; what to expect is the policy's word",
    }
    return "".join(f"<dt>{name}</dt><dd>{escaped(words, 500)}.</dd>" for name, words in said.items() if words)


def _cautions(best: Recommendation) -> str:
    """What speaks against taking the card's word for it."""
    parts = []
    for words in (*best.warnings, *([best.alarm] if best.alarm else [])):
        parts.append(f"<dt>Take care</dt><dd>{escaped(words[:1].upper() + words[1:], 500)}.</dd>")
    if best.passed_over:
        parts.append(f"<dt>Passed over</dt><dd>{escaped(best.passed_over, 500)}.</dd>")
    for words in best.untried_words:
        parts.append(f"<dt>Untried</dt><dd>{escaped(words[:1].upper() + words[1:], 500)}.</dd>")
    return "".join(parts)


def _next(found: Findings) -> str:
    facts, folder = found.facts, escaped(found.name)
    if facts.pending:
        first = facts.pending[0]
        more = f" Pending besides: {', '.join(p.id for p in facts.pending[1:])}." if len(facts.pending) > 1 else ""
        do = escaped(f"Do {first.id}: set {first.variable} to {found.value(first.variable, first.value)}", 300)
        return f"{do}. Then <code>acbo campaign tell {folder} {escaped(first.id)} …</code>{more}"
    if facts.remaining == 0:
        return "The budget is spent. Settle on this, or repeat it once to be surer."
    return f"<code>acbo campaign ask {folder}</code> proposes an experiment."


def _levers(found: Findings) -> str:
    facts, best = found.facts, found.best
    expected = {b.variable: b.predicted for b in found.beliefs}
    curves = sorted(
        found.curves, key=lambda c: (c.variable != best.variable, facts.cost * (expected[c.variable] or 0.0))
    )
    measured = [record.row[facts.target_index] for record in facts.records.values() if record.is_read]
    y = pictures.target_range(curves, measured, best.baseline)
    parts = []
    for n, curve in enumerate(curves):
        recommended = best.value if curve.variable == best.variable else None
        points = _points(found, curve.variable)
        axes = facts.with_unit(curve.variable), found.axis
        shown = pictures.lever(n, curve, points, y, facts.target, axes, best.baseline, recommended, found.limits)
        parts.append(f"<figure><h3>{escaped(curve.variable)}</h3>{shown}</figure>")
    marks = [
        ("alone", "measured, this lever set alone"), ("together", "set together with others"), ("past", "past rows"),
        ("best", "best outcome so far"), ("curve", "expected"), ("band", "90 %: dark of the expectation, light of one outcome"),
        ("nothing", "doing nothing"), *([("limit", "bound")] if found.limits else []), ("domain", "the domain"),
        ("recommended", "most promising"),
    ]  # fmt: skip
    legend = "".join(f"<li>{pictures.key(css)}{words}</li>" for css, words in marks)
    thinned = len(facts.observations) > MOST_PAST
    note = f'<p class="note">Of the past rows {MOST_PAST} are shown, evenly spaced.</p>' if thinned else ""
    return (
        f'<section><h2>The levers</h2><p class="note">All at the same scale of {escaped(facts.target)}, the most '
        f'promising first. Past rows differ in more than this lever.</p><ul class="legend">{legend}</ul>{note}'
        f'<div class="grid-of">{"".join(parts)}</div></section>'
    )


def _points(found: Findings, variable: str) -> Points:
    facts, told = found.facts, found.told
    i, t = facts.variables.index(variable), facts.target_index
    past = facts.observations[:, [i, t]]
    past = past[np.linspace(0, len(past) - 1, min(len(past), MOST_PAST)).astype(int)] if len(past) else past
    set_here = [(were_set, row) for were_set, row in facts.interventions if i in were_set]
    best = min(told, key=lambda h: facts.cost * h["measured"]) if told else None
    ringed = [] if best is None or variable not in best["set"] else [(best["set"][variable], best["measured"])]

    def pairs(rows: Sequence[tuple[float, float]]) -> np.ndarray:
        return np.array(rows, float).reshape(-1, 2)

    return Points(
        past[~np.isnan(past).any(axis=1)],
        pairs([(row[i], row[t]) for were_set, row in set_here if len(were_set) == 1]),
        pairs([(row[i], row[t]) for were_set, row in set_here if len(were_set) > 1]),
        pairs(ringed),
    )


def _experiments(found: Findings) -> list[str]:
    facts, told = found.facts, found.told
    if not told:
        return []
    better = max if facts.direction == "maximize" else min
    best_of = list(accumulate((h["measured"] for h in told), better))
    shown = pictures.progress(told, facts.target, found.axis, best_of, found.best.baseline, found.noise, found.limits)
    parts = [
        f"<figure><h3>The best so far</h3>{shown}"
        '<figcaption class="note">Line: the best outcome so far. One outcome has noise in it, so the best of many '
        "looks better than it is.</figcaption></figure>"
    ]
    predicted = [h for h in told if h["predicted"] is not None]
    if predicted:
        inside = sum(h["low"] <= h["measured"] <= h["high"] for h in predicted)
        alarm = found.best.alarm
        word = alarm or "as many as 90 % intervals let expect"
        parts.append(
            "<figure><h3>Predictions and outcomes</h3>"
            f"{pictures.outcomes(predicted, facts.with_unit(facts.target), inside, found.noise)}"
            '<figcaption class="note">Bars: the 90 % intervals predicted before each experiment. '
            f"{inside} of {counted(len(predicted), 'outcome')} within, {word}.</figcaption></figure>"
        )
    return [f'<section><h2>The experiments</h2><div class="grid-of">{"".join(parts)}</div></section>']


def _beliefs(found: Findings) -> str:
    target = escaped(found.facts.target)
    rows = [
        [b.variable, f"{b.parent_probability:.2f}", *(
            ["–"] * 3 if b.value is None else
            [found.value(b.variable, b.value), *_expected(b)]
        )]
        for b in sorted(found.beliefs, key=lambda b: -b.parent_probability)
    ]  # fmt: skip
    table = _table(
        "Every variable: how likely it is a direct cause, and its best value",
        ["variable", "direct cause", "best value", f"expected {found.facts.target}", "90 % interval"],
        [(row, "") for row in rows],
        numbers=range(1, 5),
    )
    return (
        f'<section><h2>What is believed</h2><div class="beside"><figure><h3>Direct causes of {target}</h3>'
        f"{pictures.causes(found.beliefs, found.facts.target)}"
        '<figcaption class="note">The thicker the line, the likelier. Grey: less likely than not.</figcaption></figure>'
        f"<div>{table}</div></div></section>"
    )


def _expected(belief: Belief) -> tuple[str, str]:
    """The expectation at the best value, and its interval."""
    noise = ((belief.high or 0.0) - (belief.low or 0.0)) / (2 * QUANTILE)
    return rounded(belief.predicted, noise), f"{rounded(belief.low, noise)} to {rounded(belief.high, noise)}"


def _history(found: Findings) -> str:
    rows = []
    for h in found.history:
        done = ", ".join(f"{name} = {found.value(name, value)}" for name, value in h["set"].items())
        when = ", ".join(word for word in ((h["time"] or "")[:10], h["by"]) if word)
        interval = "–" if h["low"] is None else f"{found.target(h['low'])} to {found.target(h['high'])}"
        cells = [
            h["id"], done, found.target(h["predicted"]), interval, found.target(h["measured"]), h["state"],
            when or "–", h["reason"] or "nobody asked for it", "; ".join(_remarks(h)) or "–",
        ]  # fmt: skip
        rows.append((cells, h["state"]))
    if not rows:
        return "<section><h2>History</h2><p>No experiments yet.</p></section>"
    table = _table(
        "Every experiment, with what was expected of it before",
        ["experiment", "set", "expected", "90 % interval", "measured", "state", "when", "why", "notes"],
        rows,
        numbers=range(2, 5),
    )
    return f"<section><h2>History</h2>{table}</section>"


def _remarks(line: Document) -> list[str]:
    """What is odd about an experiment, and what was noted."""
    return [*(f"hard to believe: {words}" for words in line["doubts"]), *line["outside"], *line["notes"]]


def _table(caption: str, header: list[str], rows: list[tuple[list[str], str]], numbers: range) -> str:
    """A table that scrolls sideways where it is wider than the page; rows are cells and a class."""

    def css(i: int, cell: str = "") -> str:
        name = "number" if i in numbers else "words" if len(cell) > 24 else "short"
        return f' class="{name}"'

    head = "".join(f'<th scope="col"{css(i)}>{escaped(cell)}</th>' for i, cell in enumerate(header))
    body = "".join(
        f'<tr class="{state}"><th scope="row">{escaped(cells[0])}</th>'
        + "".join(f"<td{css(i, cell)}>{escaped(cell, 2000)}</td>" for i, cell in enumerate(cells) if i)
        + "</tr>"
        for cells, state in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escaped(caption)}"><table><caption>{escaped(caption)}'
        f"</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
