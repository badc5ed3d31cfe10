"""Small charts as SVG that stands inside a page: real text, colours by the page's style.

Every mark has a class and no colour of its own, so one picture serves light, dark and paper. All
charts have the same size in the units of the page's text, so that their labels are readable where
the page is narrow.

Contract: pure functions of numbers and words to text; knows nothing of campaigns.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import numpy as np

from acbo_ref.arrays import Array

WIDTH, HEIGHT = 360, 250
TOP, RIGHT, BOTTOM = 26, 12, 40
CHARACTER = 6.6  # width of one, at most, of the labels
Range = tuple[float, float]
Numbers = Sequence[float] | Array


def escaped(text: str, longest: int = 200) -> str:
    """Text for a page, cut where it is longer than that."""
    return html.escape(text if len(text) <= longest else text[: longest - 1] + "…")


def rounded(value: float | None, noise: float) -> str:
    """A number with as many digits as its noise leaves meaning: one unit of the last is at most a
    third of the noise. A noise of 0, or one that is no number, leaves four significant digits.
    """
    if value is None or not math.isfinite(value):
        return "–"
    if not (math.isfinite(noise) and noise > 0):
        return f"{value:.4g}"
    digits = -math.floor(math.log10(noise / 3))
    if digits > 12 or abs(value) >= 1e7 or 0 < abs(value) < 1e-4:
        return f"{value:.4g}"
    text = f"{round(value, digits):.{max(0, digits)}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def setting(value: float, domain: Range | None, is_log: bool = False) -> str:
    """A value of a variable, to about a thousandth of its domain; four significant digits on a
    logarithmic scale or without a domain.
    """
    text = f"{value:.4g}" if domain is None or is_log else rounded(value, (domain[1] - domain[0]) / 300)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def spanned(*parts: Numbers, margin: float = 0.05) -> Range:
    """The range of all finite numbers, a little wider."""
    finite = np.concatenate([np.asarray(part, float).ravel() for part in parts])
    finite = finite[np.isfinite(finite)]
    if len(finite) == 0:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    extra = margin * (high - low) or 0.5 * abs(low) or 0.5
    return low - extra, high + extra


def log_ticks(span: Range, most: int) -> list[tuple[float, str]]:
    """Powers of ten within a range of positive numbers, with 2 and 5 times these where there is
    room; and what they are called.
    """
    low, high = (math.floor(math.log10(end)) for end in span)
    every = max(1, -(-(high - low) // most))
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [f * 10.0**n for n in range(low, high + 1, every) for f in factors]
        found = [value for value in found if span[0] <= value <= span[1]]
        if len(found) <= most:
            break
    return [(value, f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e").replace("-", "−")) for value in found]


def ticks(span: Range, most: int) -> list[float]:
    """Round numbers within a range, at most so many: steps of 1, 2 or 5 times a power of ten."""
    low, high = span
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step *= next(factor for factor in (1, 2, 5, 10, 20) if (high - low) / (factor * step) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def labels(at: Sequence[float]) -> list[str]:
    """The numbers of an axis, all with the digits that their distance needs."""
    if len(at) < 2:
        return [f"{value:.4g}".replace("-", "−") for value in at]
    step = at[1] - at[0]
    largest = max(abs(value) for value in at)
    if largest >= 1e6 or largest < 1e-3:
        places = max(0, math.floor(math.log10(largest)) - math.floor(math.log10(step) + 1e-9))
        return [f"{value:.{places}e}".replace("e-0", "e-").replace("e+0", "e").replace("-", "−") for value in at]
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{value:.{places}f}".replace("-", "−") for value in at]


class Chart:
    """One chart: `x` and `y` are the ranges that it shows; marks outside are cut off at its edge.

    Args:
        name: begins the ids of its parts, so it is its own in a page.
        title, description: for those who cannot see it.
        y_name, x_name: written at the axes.
        x_labels: words at numbers, in place of the axis's numbers.
        is_log: whether x is on a logarithmic scale.
    """

    def __init__(
        self,
        name: str,
        title: str,
        description: str,
        x: Range,
        y: Range,
        x_name: str,
        y_name: str,
        x_labels: Sequence[tuple[float, str]] | None = None,
        is_log: bool = False,
    ) -> None:
        self._name, self._title, self._description = name, title, description
        self._x, self._y, self._names = x, y, (x_name, y_name)
        self._y_ticks = ticks(y, 5)
        self._y_labels = labels(self._y_ticks)
        self._left = 12 + CHARACTER * max(map(len, self._y_labels), default=1)
        self._x_labels = log_ticks(x, 6) if is_log else x_labels
        self._is_log = is_log
        self._back: list[str] = []  # below the grid
        self._marks: list[str] = []  # inside the frame, cut off at it
        self._words: list[str] = []

    def _at(self, x: float, y: float) -> tuple[float, float]:
        """A place in the picture; what is far outside is put just outside."""
        (x0, x1), (y0, y1) = self._x, self._y
        if self._is_log:
            x0, x1, x = math.log(x0), math.log(x1), math.log(max(x, 1e-300))
        across, up = ((v - a) / (b - a) for v, a, b in ((x, x0, x1), (y, y0, y1)))
        across, up = (min(max(v, -2.0), 3.0) for v in (across, up))
        return (
            self._left + across * (WIDTH - RIGHT - self._left),
            HEIGHT - BOTTOM - up * (HEIGHT - BOTTOM - TOP),
        )

    def shade(self, low: float, high: float, css: str) -> None:
        """A part of the axis, below the grid."""
        (a, top), (b, bottom) = self._at(low, self._y[1]), self._at(high, self._y[0])
        self._back.append(
            f'<rect class="{css}" x="{a:.1f}" y="{top:.1f}" width="{b - a:.1f}" height="{bottom - top:.1f}"/>'
        )

    def area(self, x: Numbers, low: Numbers, high: Numbers, css: str) -> None:
        """What lies between two curves."""
        there = [self._at(a, b) for a, b in zip(x, high, strict=True)]
        back = [self._at(a, b) for a, b in zip(x, low, strict=True)][::-1]
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in there + back)
        self._marks.append(f'<polygon class="{css}" points="{points}"/>')

    def line(self, x: Numbers, y: Numbers, css: str) -> None:
        """A curve through points."""
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in (self._at(*xy) for xy in zip(x, y, strict=True)))
        self._marks.append(f'<polyline class="{css}" points="{points}"/>')

    def across(self, y: float, css: str, word: str = "", at_left: bool = False) -> None:
        """A level line through the whole chart, with a word at its right end or its left one; left
        out if the chart does not show that height.
        """
        if not self._y[0] <= y <= self._y[1]:
            return
        self.line(self._x, (y, y), css)
        if word:
            a, b = self._at(self._x[0 if at_left else 1], y)
            above = b - 5 if b > TOP + 16 else b + 14
            anchor = "start" if at_left else "end"
            place = f'x="{a + (2 if at_left else -2):.1f}" y="{above:.1f}" text-anchor="{anchor}"'
            self._words.append(f'<text class="{css} halo" {place}>{escaped(word)}</text>')

    def dots(self, points: Array, css: str, radius: float) -> None:
        """Points (N, 2); those that the chart does not show are left out."""
        for a, b in points.tolist():
            if self._x[0] <= a <= self._x[1] and self._y[0] <= b <= self._y[1]:
                left, top = self._at(a, b)
                self._marks.append(f'<circle class="{css}" cx="{left:.1f}" cy="{top:.1f}" r="{radius}"/>')

    def arrow(self, x: float, css: str) -> None:
        """A mark at the top that points down at a place of the axis."""
        left, top = self._at(x, self._y[1])
        self._marks.append(f'<path class="{css}" d="M{left - 6:.1f} {top:.1f}h12l-6 10z"/>')

    def svg(self) -> str:
        """The picture, as an element of a page."""
        left, right, top, bottom = self._left, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM
        parts = []
        for value, label in zip(self._y_ticks, self._y_labels, strict=True):
            y = self._at(self._x[0], value)[1]
            parts.append(f'<path class="grid" d="M{left:.1f} {y:.1f}H{right}"/>')
            parts.append(f'<text class="tick" x="{left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
        places = self._x_labels
        if places is None:
            at = ticks(self._x, 6)
            places = list(zip(at, labels(at), strict=True))
        for value, label in places:
            x = self._at(value, self._y[0])[0]
            room = CHARACTER * len(label) / 2
            x_text = min(max(x, room + 1), WIDTH - 1 - room)
            parts.append(f'<path class="grid" d="M{x:.1f} {bottom}v4"/>')
            parts.append(
                f'<text class="tick" x="{x_text:.1f}" y="{bottom + 16}" text-anchor="middle">{escaped(label)}</text>'
            )
        x_name, y_name = (escaped(name, 44) for name in self._names)
        t, d, c = (f"{self._name}-{part}" for part in "tdc")
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{t} {d}">'
            f'<title id="{t}">{escaped(self._title)}</title><desc id="{d}">{escaped(self._description, 2000)}</desc>'
            f'<clipPath id="{c}"><rect x="{left:.1f}" y="{top}" width="{right - left:.1f}" height="{bottom - top}"/></clipPath>'
            f'{"".join(self._back)}{"".join(parts)}<g clip-path="url(#{c})">{"".join(self._marks)}</g>'
            f'{"".join(self._words)}<path class="frame" d="M{left:.1f} {top}V{bottom}H{right}"/>'
            f'<text class="axis" x="{(left + right) / 2:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{x_name}</text>'
            f'<text class="axis" x="2" y="14">{y_name}</text></svg>'
        )
