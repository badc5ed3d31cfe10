"""The figures of a report, one a question, as SVG that stands inside a page. Needs matplotlib
(extra `plot`).

Contract: text is text, and no figure has a colour of its own: each of COLOURS is a variable of the
page's style, so that one figure serves light and dark. The same data give the same text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from acbo_ref.arena.analysis import BOUNDS, Folder
from acbo_ref.arena.metrics import MethodResults, per_step
from acbo_ref.arena.play import RENAMED_METHODS, untold
from acbo_ref.errors import AcboError
from acbo_ref.policy.inputs import HALF_WIDTH
from acbo_ref.systems.functional import FunctionalSCM
from acbo_ref.systems.scm import SCM, System
from acbo_ref.version import install

try:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
except ImportError as error:
    raise AcboError(f"reports need matplotlib: {install('plot')}") from error

# A name and its colours on a light and on a dark page; from Okabe & Ito's palette, which
# colour-blind readers can tell apart. One colour a method in every figure.
COLOURS = {
    "policy": ("#0072b2", "#5ab4f0"), "policy_head": ("#56b4e9", "#a5dcff"), "outcome_head": ("#009e73", "#35c99b"),
    "policy_final": ("#332288", "#9d8cf0"), "regress": ("#d55e00", "#ff8a3d"), "paths": ("#882255", "#e07bb0"),
    "thompson": ("#cc79a7", "#e3a3c6"),
    "gp": ("#e69f00", "#f0b732"), "gp_all": ("#a67300", "#ffd479"), "optuna": ("#8c6d31", "#c9a45c"),
    "endpoints": ("#7f7f7f", "#a0a0a0"), "random": ("#b8b8b8", "#6f6f6f"), "parent_oracle": ("#555555", "#bbbbbb"),
}  # fmt: skip
# Those of the page itself, and what is drawn in their place until the figure stands in it.
INK, MUTED, LINE = "#010101", "#020202", "#030303"
_PAGE = {INK: "ink", MUTED: "muted", LINE: "line"}
RUNS = ("policy", "regress", "outcome_head", "thompson", "gp", "paths")
STYLE: dict[Any, Any] = {
    "font.size": 9, "font.family": "sans-serif", "figure.constrained_layout.use": True,
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
    "text.color": INK, "axes.labelcolor": MUTED, "xtick.color": MUTED, "ytick.color": MUTED, "axes.edgecolor": MUTED,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": LINE, "grid.linewidth": 0.6, "svg.fonttype": "none", "svg.hashsalt": "acbo",
}  # fmt: skip
DASHED = "--"
# Points of a curve, or marks, that a figure has at most: more cannot be told apart.
MOST_POINTS, MOST_MARKS = 300, 400


def colour_of(method: str) -> str:
    """The name of a method's colour."""
    name = untold(RENAMED_METHODS.get(method, method)).removesuffix("_sampled")
    return name if name in COLOURS else "ink"


def is_told(method: str) -> bool:
    """Whether it is told what is exogenous; it has the colour of who is not, and is dashed."""
    return method != untold(method)


def palette() -> str:
    """The colours as variables of a page, for light and dark."""
    light, dark = ("; ".join(f"--{name}: {pair[n]}" for name, pair in COLOURS.items()) for n in (0, 1))
    return f":root {{ {light}; }} @media screen and (prefers-color-scheme: dark) {{ :root {{ {dark}; }} }}"


@contextmanager
def _figure(width: float = 4.6, height: float = 3.0) -> Iterator[tuple[Any, list[str]]]:
    """An axis to draw on, and a list that holds the SVG afterwards."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(width, height))
        drawn: list[str] = []
        yield axis, drawn
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        plt.close(figure)
        drawn.append(_inside_a_page(buffer.getvalue()))


def _inside_a_page(text: str) -> str:
    """The SVG without what a page does not need, with the page's colours."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.S)
    used = set(re.findall(r"#([\w-]+)[\")]", text))
    text = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", text)
    text = re.sub(r'<svg[^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1">', text, count=1)
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"-?\d+\.\d{2,}", _rounded, tag[0]), text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", text)
    for name, (colour, _) in COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    for colour, name in _PAGE.items():
        text = text.replace(colour, f"var(--{name})")
    return re.sub(r"\s+", " ", text).replace("> <", "><").strip()


def _rounded(number: re.Match[str]) -> str:
    """A coordinate to a tenth of a unit; what is small, as an opacity, to a hundredth."""
    value = float(number[0])
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.2f}"


def _thinned(points: Any, most: int) -> Any:
    """At most so many of them, the last one included."""
    step = -(-len(points) // most)
    return points[::-1][::step][::-1] if step > 1 else points


# -------------------------------------------------------------------------------------- training

# Question, key, label, whether it is drawn on a logarithmic scale.
TRAINING = (
    ("Does it learn?", "recent_score", "score, recent episodes", False),
    ("How low does it drive the target?", "target_standard", "target, standard units", False),
    ("Does it still explore?", "entropy", "entropy of the choice, nats", False),
    ("How much of the domains does it use?", "range_utilization", "range utilisation", False),
    ("Are its steps steady?", "gradient_norm", "gradient norm", True),
    ("Does it predict outcomes?", "outcome_loss", "outcome loss, nats", True),
)
# A second curve of the same question, thin or dotted.
_BESIDE = {"recent_score": ("score", "-"), "range_utilization": ("mean_range_utilization", ":")}


def training_curve(folders: list[Folder], key: str, label: str, logarithmic: bool) -> str:
    """A metric over episodes, every run in its colour; dashed: a new stage."""
    with _figure() as (axis, drawn):
        lowest = []
        for n, folder in enumerate(folders):
            colour = COLOURS[RUNS[n % len(RUNS)]][0]
            for name, style in (_BESIDE.get(key, ("", "")), (key, "-")):
                points = [(r["episodes"], r[name]) for r in folder.records if r.get(name) is not None]
                if points:
                    main = name == key
                    axis.plot(*zip(*_thinned(points, MOST_POINTS), strict=True), color=colour, ls=style,
                              lw=1.6 if main else 0.8, alpha=1.0 if main or style == ":" else 0.45)  # fmt: skip
                    lowest.append(min(value for _, value in points))
            for r in folder.records:
                if r["next_stage"]:
                    axis.axvline(r["episodes"], color=colour, ls="--", lw=0.8, alpha=0.6)
        if logarithmic and lowest and min(lowest) > 0:
            axis.set_yscale("log")
        axis.set(xlabel="episodes", ylabel=label)
    return drawn[0]


# ------------------------------------------------------------------------------------ evaluation


def per_step_curves(results: dict[str, MethodResults], regret: bool) -> str:
    """Score, or regret, of each intervention with 95 % bands, every method."""
    with _figure() as (axis, drawn):
        for method, result in results.items():
            band = per_step(result)[1 if regret else 0]
            steps = np.arange(1, band.shape[1] + 1)
            bound, colour = method in BOUNDS, COLOURS.get(colour_of(method), (INK,))[0]
            axis.plot(
                steps,
                band[0],
                color=colour,
                lw=1.0 if bound else 1.8,
                ls=":" if bound else DASHED if is_told(method) else "-",
            )
            if not bound:
                axis.fill_between(steps, band[1], band[2], color=colour, alpha=0.13, lw=0)
        if not regret:
            axis.set_ylim(max(-0.6, axis.get_ylim()[0]), 1.05)
        axis.set(xlabel="intervention", ylabel="regret, spreads of the target" if regret else "score")
        axis.xaxis.get_major_locator().set_params(integer=True)
    return drawn[0]


def structure_roc(results: dict[str, MethodResults]) -> str:
    """ROC of the parent head after the last row, pooled over each suite's non-target variables."""
    with _figure(4.6, 3.6) as (axis, drawn):
        axis.plot([0, 1], [0, 1], color=MUTED, lw=0.8, ls=":")
        for n, (suite, r) in enumerate(results.items()):
            score, truth = np.concatenate(r.parent_probability), np.concatenate(r.parents)
            if truth.all() or not truth.any():
                continue
            order = np.argsort(-score, kind="stable")
            ends = np.append(np.flatnonzero(np.diff(score[order])), truth.size - 1)  # ties move together
            ends = np.array(_thinned(ends, MOST_POINTS))
            hits = np.append(0.0, np.cumsum(truth[order])[ends] / truth.sum())
            false = np.append(0.0, np.cumsum(~truth[order])[ends] / (~truth).sum())
            style = ("-", "--", ":")[n // len(RUNS) % 3]
            axis.plot(false, hits, lw=1.5, ls=style, color=COLOURS[RUNS[n % len(RUNS)]][0], label=suite)
        axis.set(
            xlabel="share of non-parents called parents", ylabel="share of parents found", xlim=(0, 1), ylim=(0, 1.01)
        )
        if axis.get_legend_handles_labels()[1]:
            axis.legend(fontsize=8, loc="lower right", frameon=False, ncols=1 + len(results) // 7)
    return drawn[0]


def value_outcome(r: MethodResults) -> str:
    """What was set to which value, and what it gave: interventions of one method on one suite."""
    with _figure(4.6, 3.6) as (axis, drawn):
        cost = (r.cost - r.baseline[:, None]) / r.spread[:, None]
        for flag, colour, label in ((True, "policy", "on a direct cause"), (False, "regress", "on another variable")):
            chosen = r.is_parent == flag
            x, y = (_thinned(of[chosen], MOST_MARKS // 2) for of in (r.standard, cost))
            axis.plot(x, y, ls="", marker="o", ms=3, alpha=0.5, mew=0, color=COLOURS[colour][0], label=label)
        axis.axhline(0, color=MUTED, lw=0.8, ls=":")
        axis.set(
            xlabel="value set, standard units (the domain is -5 .. 5)", ylabel="target, spreads from doing nothing"
        )
        axis.legend(fontsize=8, frameon=False)
    return drawn[0]


# ------------------------------------------------------------------------------------ an episode


def _edges(system: System) -> list[tuple[int, int]]:
    if isinstance(system, SCM):
        return [(int(i), int(j)) for i, j in np.argwhere(system.adjacency)]
    assert isinstance(system, FunctionalSCM)
    names = system.names
    return [
        (names.index(p), names.index(c))
        for c, parents in system.parents.items()
        for p in parents
        if c in names and p in names
    ]


def _positions(system: System, edges: list[tuple[int, int]]) -> dict[int, tuple[float, float]]:
    """Layers by the longest path from a root, left to right; variables of a layer spread
    vertically.
    """
    count = len(system.names)
    depth = [0] * count
    for _ in range(count):
        for i, j in edges:
            depth[j] = max(depth[j], depth[i] + 1)
    places = {}
    for layer in set(depth):
        members = [i for i in range(count) if depth[i] == layer]
        for n, i in enumerate(members):
            places[i] = (float(layer), (n + 0.5) / len(members) + 0.06 * (layer % 2))
    return places


def graph(system: System) -> str:
    """The causal graph: the target, its direct causes, and the variable that the oracle sets."""
    edges = _edges(system)
    places = _positions(system, edges)
    names, target, parents = system.names, system.target_index, system.parent_mask
    with _figure(4.6, 3.6) as (axis, drawn):
        arrow = {"arrowstyle": "-|>", "lw": 1.0, "shrinkA": 15, "shrinkB": 15}
        for i, j in edges:
            arrowprops = arrow | {"color": INK if j == target else MUTED}
            axis.annotate("", xy=places[j], xytext=places[i], arrowprops=arrowprops)
        for i, (x, y) in places.items():
            colour = COLOURS["regress"][0] if i == target else COLOURS["policy"][0] if parents[i] else LINE
            best = i == system.oracle.variable
            axis.scatter(x, y, s=560, facecolor="none", edgecolor=colour, lw=3.2 if best else 1.6, zorder=3,
                         ls="--" if best else "-")  # fmt: skip
            axis.text(x, y, names[i][:9], ha="center", va="center", fontsize=7.5, zorder=4)
        axis.margins(0.18)
        axis.axis("off")
    return drawn[0]


def choices(system: System, r: MethodResults, index: int) -> str:
    """Which variable was set at each step, and to what: the height of a bar is its value."""
    names = system.names
    with _figure(4.6, 3.6) as (axis, drawn):
        steps = np.arange(1, r.variable.shape[1] + 1)
        used = [int(i) for i in np.unique(r.variable[index])]
        rows = np.array([used.index(int(i)) for i in r.variable[index]])
        heights = r.standard[index] / HALF_WIDTH * 0.42
        axis.vlines(steps, rows, rows + heights, color=COLOURS["policy"][0], lw=4)
        axis.hlines(range(len(used)), 0.5, steps[-1] + 0.5, color=MUTED, lw=0.8)
        axis.set_yticks(range(len(used)), [names[i][:14] for i in used])
        axis.set_ylim(-0.6, len(used) - 0.4)
        axis.grid(False)
        axis.set_xlabel("intervention")
        axis.xaxis.get_major_locator().set_params(integer=True)
    return drawn[0]


def outcomes(r: MethodResults, index: int) -> str:
    """The measured target at each step, in its own unit."""
    with _figure(4.6, 3.6) as (axis, drawn):
        steps = np.arange(1, r.variable.shape[1] + 1)
        axis.plot(steps, r.outcome[index], color=COLOURS["regress"][0], lw=1.4, marker="o", ms=3)
        axis.set(xlabel="intervention", ylabel="measured target")
        axis.xaxis.get_major_locator().set_params(integer=True)
    return drawn[0]
