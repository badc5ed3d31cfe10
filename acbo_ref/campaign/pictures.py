"""The pictures of a campaign's report.

Contract: pure functions of what campaigns say to elements of a page; each picture says in words
what it shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.campaign.curves import Curve
from acbo_ref.campaign.predictions import Belief
from acbo_ref.campaign.svg import WIDTH, Chart, Range, escaped, rounded, setting, spanned
from acbo_ref.campaign.words import counted
from acbo_ref.files import Document

MOST_BELIEFS = 14
# In the picture of the causes: the width of a character, and what must be left beside names.
NODE_CHARACTER, NOT_NAMES = 8, 100


@dataclass(frozen=True, eq=False)
class Points:
    """What was measured, as a lever's chart shows it: (value of the lever, target), (N, 2) each.

    Attributes:
        past: nothing was set. alone: only this lever was. together: this lever and others were.
        best: the best outcome of all experiments, if this lever was set in it.
    """

    past: Array
    alone: Array
    together: Array
    best: Array

    def all(self) -> Array:
        return np.concatenate([self.past, self.alone, self.together])


def target_range(curves: Sequence[Curve], measured: Sequence[float], baseline: float | None) -> Range:
    """The targets that all charts of levers show: what was measured, and what is expected unless it
    is far from that.
    """
    known = [*measured, *([] if baseline is None else [baseline])]
    expected = np.concatenate([np.concatenate([c.low, c.high]) for c in curves]) if curves else np.zeros(0)
    if len(known) > 1:
        low, high = spanned(known, margin=1.0)
        expected = np.clip(expected, low, high)
    return spanned(known, expected)


def lever(
    n: int,
    curve: Curve,
    points: Points,
    y: Range,
    target: str,
    axes: tuple[str, str],
    baseline: float | None,
    recommended: float | None,
    limits: Sequence[tuple[float, str]] = (),
) -> str:
    """One lever: what was measured at its values, what is expected, doing nothing, bounds of the
    target and their names, its domain. `axes` are the words at the two.
    """
    domain = float(curve.values[0]), float(curve.values[-1])
    noise = curve.noise
    low, high = (setting(end, domain, curve.is_log) for end in domain)
    description = (
        f"{target} against {curve.variable}, whose domain is {low} to {high}. "
        f"Expected: {rounded(curve.predicted[0], noise)} at {low}, {rounded(curve.predicted[-1], noise)} at {high}. "
        f"{counted(len(points.alone), 'experiment')} set it alone, {len(points.together)} together with others."
    )
    if recommended is not None:
        description += f" Most promising: {setting(recommended, domain, curve.is_log)}."
    if len(points.best):
        description += f" The best outcome so far, {rounded(points.best[0, 1], noise)}, is among them."
    description += "".join(f" Bound: {words}." for _, words in limits)
    chart = Chart(
        f"lever{n}", f"{curve.variable} and {target}", description, _lever_range(curve, points), y, *axes,
        is_log=curve.is_log,
    )  # fmt: skip
    chart.shade(*domain, "domain")
    chart.area(curve.values, curve.measured_low, curve.measured_high, "outcome")
    chart.area(curve.values, curve.low, curve.high, "band")
    chart.line(curve.values, curve.predicted, "curve")
    if baseline is not None:
        chart.across(baseline, "nothing", "doing nothing")
    for limit, words in limits:
        chart.across(limit, "limit", words, at_left=True)
    chart.dots(points.past, "past", 2.5)
    chart.dots(points.together, "together", 4)
    chart.dots(points.alone, "alone", 4)
    chart.dots(points.best, "best", 8)
    if recommended is not None:
        chart.arrow(recommended, "recommended")
    return chart.svg()


def _lever_range(curve: Curve, points: Points) -> Range:
    """The values of a lever that its chart shows: the domain, and what was measured unless it is
    further from it than that is wide.
    """
    place = np.log if curve.is_log else np.asarray
    domain, tried = place(curve.values[[0, -1]]), place(points.all()[:, 0])
    width = domain[1] - domain[0]
    low, high = spanned(domain, tried[(tried >= domain[0] - width) & (tried <= domain[1] + width)])
    return (float(np.exp(low)), float(np.exp(high))) if curve.is_log else (low, high)


def progress(
    told: Sequence[Document],
    target: str,
    axis: str,
    best_of: Sequence[float],
    baseline: float | None,
    noise: float,
    limits: Sequence[tuple[float, str]] = (),
) -> str:
    """The outcomes in their order, the best of them so far, and bounds with their names."""
    x = np.arange(1.0, len(told) + 1)
    measured = [h["measured"] for h in told]
    description = (
        f"{counted(len(told), 'experiment')} in order. The best {target} was {rounded(best_of[0], noise)} after the first, "
        f"and is {rounded(best_of[-1], noise)} now."
    )
    if baseline is not None:
        description += f" Doing nothing gave {rounded(baseline, noise)} on average."
    y = spanned(measured, [] if baseline is None else [baseline])
    names = _every(told)
    chart = Chart(
        "progress", f"The best {target} so far", description, (0.5, len(told) + 0.5), y, "experiment", axis, names
    )
    if baseline is not None:
        chart.across(baseline, "nothing", "doing nothing")
    for limit, words in limits:
        chart.across(limit, "limit", words, at_left=True)
    edges = np.repeat(np.append(x, len(told) + 0.5), 2)[1:-1]
    chart.line(edges, np.repeat(best_of, 2), "curve")
    chart.dots(np.column_stack([x, measured]), "alone", 4)
    return chart.svg()


def outcomes(told: Sequence[Document], target: str, inside: int, noise: float) -> str:
    """What was predicted before each experiment, and what came out."""
    description = (
        f"{counted(len(told), 'experiment')}, each with a 90 % interval; {inside} of {counted(len(told), 'outcome')} within. "
        f"The last: expected "
        f"{rounded(told[-1]['predicted'], noise)}, measured {rounded(told[-1]['measured'], noise)}."
    )
    y = spanned(*([h[key] for h in told] for key in ("low", "high", "measured")))
    names = _every(told)
    chart = Chart(
        "outcomes", "Predictions and outcomes", description, (0.5, len(told) + 0.5), y, "experiment", target, names
    )
    half = min(0.3, 0.03 * len(told))
    for n, h in enumerate(told, start=1):
        chart.area([n - half, n + half], [h["low"]] * 2, [h["high"]] * 2, "band")
        chart.line([n - half, n + half], [h["predicted"]] * 2, "curve")
    chart.dots(np.array([(n, h["measured"]) for n, h in enumerate(told, start=1)], float), "alone", 4)
    return chart.svg()


def causes(beliefs: Sequence[Belief], target: str) -> str:
    """The variables, and how likely each is a direct cause of the target: the thicker the arrow."""
    shown = sorted(beliefs, key=lambda b: -b.parent_probability)[:MOST_BELIEFS]
    step = 26
    height = max(2, len(shown)) * step + 16
    words = ", ".join(f"{b.variable} {b.parent_probability:.2f}" for b in shown)
    parts = []
    longest, most = max((len(b.variable) for b in shown), default=1), int((WIDTH - NOT_NAMES) / NODE_CHARACTER)
    of_target = min(len(target), max(13, most - longest))
    of_names = min(longest, most - of_target)
    start = NODE_CHARACTER * of_names
    end = WIDTH - 8 - NODE_CHARACTER * of_target, 8 + len(shown) * step / 2
    middle = (start + 38 + end[0]) / 2
    for n, belief in enumerate(shown):
        y, p = 8 + (n + 0.5) * step, belief.parent_probability
        css = "cause" if p >= 0.5 else "perhaps"
        parts.append(
            f'<path class="{css}" d="M{start + 38} {y:.1f}C{middle} {y:.1f} {middle} {end[1]:.1f} {end[0]} {end[1]:.1f}" '
            f'stroke-width="{0.6 + 5 * p:.1f}"/>'
            f'<text class="node" x="{start}" y="{y + 4:.1f}" text-anchor="end">{escaped(belief.variable, of_names)}</text>'
            f'<text class="tick" x="{start + 6}" y="{y + 4:.1f}">{p:.2f}</text>'
        )
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="causes-t causes-d">'
        f'<title id="causes-t">Direct causes of {escaped(target)}</title>'
        f'<desc id="causes-d">Probability that each is a direct cause: {escaped(words, 2000)}.</desc>{"".join(parts)}'
        f'<text class="node" x="{end[0] + 8}" y="{end[1] + 4:.1f}">{escaped(target, of_target)}</text></svg>'
    )


def key(css: str) -> str:
    """The mark of a legend, hidden from those to whom the words beside it are read."""
    marks = {
        "curve": '<path class="curve" d="M1 8H21"/>',
        "nothing": '<path class="nothing" d="M1 8H21"/>',
        "limit": '<path class="limit" d="M1 8H21"/>',
        "recommended": '<path class="recommended" d="M5 3h12l-6 10z"/>',
        "band": '<path class="outcome" d="M1 1h20v14h-20z"/><path class="band" d="M1 4h20v8h-20z"/>',
        "domain": '<rect class="domain" x="1" y="1" width="20" height="14"/>',
    }
    radius = {"past": 2.5, "best": 6.5}.get(css, 4)
    mark = marks.get(css, f'<circle class="{css}" cx="11" cy="8" r="{radius}"/>')
    return f'<svg class="key" viewBox="0 0 22 16" aria-hidden="true">{mark}</svg>'


def _every(told: Sequence[Document]) -> list[tuple[float, str]]:
    """Ids at the places of experiments, as many as have room."""
    longest = max(len(h["id"]) for h in told)
    step = -(-len(told) * (longest + 1) // 40)
    return [(n, h["id"]) for n, h in enumerate(told, start=1) if (n - 1) % step == 0]
