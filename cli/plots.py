"""The figures of a report, as SVG text. Needs matplotlib (extra `plot`)."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from acbo_ref.arena.analysis import BOUNDS, Folder
from acbo_ref.arena.metrics import MethodResults, per_step
from acbo_ref.arena.play import RENAMED_METHODS
from acbo_ref.errors import AcboError
from acbo_ref.systems.functional import FunctionalSCM
from acbo_ref.systems.scm import SCM, System

try:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
except ImportError as error:
    raise AcboError("reports need matplotlib: pip install 'acbo[plot]'") from error

# Okabe & Ito's palette, which colour-blind readers can tell apart; one colour a method in every
# figure.
COLOURS = {
    "policy": "#0072B2", "policy_head": "#56B4E9", "policy_head_sampled": "#56B4E9", "outcome_head": "#009E73",
    "policy_final": "#332288",
    "regress": "#D55E00", "paths": "#882255", "thompson": "#CC79A7",
    "gp": "#E69F00", "optuna": "#8C6D31", "endpoints": "#7F7F7F", "random": "#B8B8B8", "oracle": "#000000",
    "parent_oracle": "#555555",
}  # fmt: skip
COLOURS |= {old: COLOURS[new] for old, new in RENAMED_METHODS.items()}
RUN_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLE: dict[Any, Any] = {
    "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
    "svg.fonttype": "path", "svg.hashsalt": "acbo", "figure.constrained_layout.use": True, "legend.frameon": False,
}  # fmt: skip


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def training_curves(folders: list[Folder]) -> str:
    """Score, target, entropy, range utilisation, gradient norm and losses over episodes; dashed: a
    new stage.
    """
    panels = (
        ("recent_score", "score (recent episodes)"), ("target_standard", "target, standard units"),
        ("entropy", "entropy of the choice, nats"), ("range_utilization", "range utilisation"),
        ("gradient_norm", "gradient norm"), ("outcome_loss", "outcome loss, nats"),
    )  # fmt: skip
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 3, figsize=(11, 5.6))
        for axis, (key, label) in zip(axes.flat, panels, strict=True):
            for n, folder in enumerate(folders):
                colour = RUN_COLOURS[n % len(RUN_COLOURS)]
                points = [(r["episodes"], r[key]) for r in folder.records if r.get(key) is not None]
                if points:
                    axis.plot(*zip(*points, strict=True), color=colour, lw=1.4, label=folder.name)
                if key == "recent_score":
                    raw = [(r["episodes"], r["score"]) for r in folder.records if r["score"] is not None]
                    if raw:
                        axis.plot(*zip(*raw, strict=True), color=colour, lw=0.6, alpha=0.35)
                if key == "range_utilization":
                    own = [(r["episodes"], r["mean_range_utilization"]) for r in folder.records]
                    axis.plot(*zip(*own, strict=True), color=colour, lw=1.2, ls=":")
                for r in folder.records:
                    if r["next_stage"]:
                        axis.axvline(r["episodes"], color=colour, ls="--", lw=0.8, alpha=0.6)
            axis.set_title(label, fontsize=10, loc="left")
            if key in ("gradient_norm", "outcome_loss") and any(f.records for f in folders):
                low = min((r[key] for f in folders for r in f.records if r.get(key) is not None), default=0)
                axis.set_yscale("log" if low > 0 else "linear")
            axis.set_xlabel("episodes")
        if len(folders) > 1:
            axes.flat[0].legend(fontsize=8)
        return _svg(figure)


def per_step_curves(results: dict[str, MethodResults]) -> str:
    """Score and regret of each intervention with 95 % bands, every method."""
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8))
        for method, result in results.items():
            score, regret = per_step(result)
            steps = np.arange(1, score.shape[1] + 1)
            for axis, band in ((left, score), (right, regret)):
                bound = method in BOUNDS
                axis.plot(
                    steps,
                    band[0],
                    color=COLOURS[method],
                    lw=1.0 if bound else 1.8,
                    ls=":" if bound else "-",
                    label=method,
                )
                if not bound:
                    axis.fill_between(steps, band[1], band[2], color=COLOURS[method], alpha=0.13, lw=0)
        left.set_title("score of each intervention (1 = oracle, 0 = doing nothing)", fontsize=10, loc="left")
        right.set_title("regret of each intervention, sd of the observed target", fontsize=10, loc="left")
        left.set_ylim(max(-0.6, left.get_ylim()[0]), 1.05)
        for axis in (left, right):
            axis.set_xlabel("intervention")
            axis.xaxis.get_major_locator().set_params(integer=True)
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=9)
        return _svg(figure)


def structure_roc(results: dict[str, MethodResults]) -> str:
    """ROC of the parent head after the last row, pooled over each suite's non-target variables."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(5.2, 4.4))
        axis.plot([0, 1], [0, 1], color="#999", lw=0.8, ls=":")
        for n, (suite, r) in enumerate(results.items()):
            score, truth = np.concatenate(r.parent_probability), np.concatenate(r.parents)
            if truth.all() or not truth.any():
                continue
            order = np.argsort(-score, kind="stable")
            ends = np.append(np.flatnonzero(np.diff(score[order])), truth.size - 1)  # ties move together
            hits = np.append(0.0, np.cumsum(truth[order])[ends] / truth.sum())
            false = np.append(0.0, np.cumsum(~truth[order])[ends] / (~truth).sum())
            axis.plot(false, hits, lw=1.4, color=plt.cm.viridis(n / max(1, len(results) - 1)), label=suite)
        axis.set(
            xlabel="share of non-parents called parents", ylabel="share of parents found", xlim=(0, 1), ylim=(0, 1.01)
        )
        axis.legend(fontsize=8, loc="lower right")
        return _svg(figure)


def value_outcome(r: MethodResults) -> str:
    """What was set to which value, and what it gave: each intervention of one method on one
    suite.
    """
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(5.2, 4.4))
        cost = (r.cost - r.baseline[:, None]) / r.spread[:, None]
        for flag, colour, label in ((True, "#0072B2", "on a parent"), (False, "#D55E00", "on another variable")):
            chosen = r.is_parent == flag
            axis.scatter(r.standard[chosen], cost[chosen], s=9, alpha=0.45, color=colour, lw=0, label=label)
        axis.axhline(0, color="#666", lw=0.8, ls=":")
        axis.set(
            xlabel="value set, standard units (the domain is -5 .. 5)", ylabel="measured target, sd from doing nothing"
        )
        axis.legend(fontsize=8)
        return _svg(figure)


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


def episode(system: System, r: MethodResults, index: int) -> str:
    """The graph with its target and the target's parents, and beside it what was done at each step
    and what it gave.
    """
    edges = _edges(system)
    places = _positions(system, edges)
    names, target, parents = system.names, system.target_index, system.parent_mask
    with plt.rc_context(STYLE):
        figure, (graph, time) = plt.subplots(1, 2, figsize=(11, 4.2), width_ratios=(1, 1.35))
        arrow = {"arrowstyle": "-|>", "lw": 1.0, "shrinkA": 14, "shrinkB": 14}
        for i, j in edges:
            graph.annotate(
                "", xy=places[j], xytext=places[i],
                arrowprops=arrow | {"color": "#222" if j == target else "#aaa"},
            )  # fmt: skip
        for i, (x, y) in places.items():
            colour = "#D55E00" if i == target else "#0072B2" if parents[i] else "#dddddd"
            graph.scatter(
                x, y, s=520, color=colour, zorder=3, edgecolor="#333", lw=1.4 if i == system.oracle.variable else 0
            )
            graph.text(x, y, names[i][:9], ha="center", va="center", fontsize=7.5, zorder=4,
                       color="white" if i == target or parents[i] else "#222")  # fmt: skip
        graph.set_title("target orange, its parents blue; ringed: the oracle's lever", fontsize=9, loc="left")
        graph.margins(0.18)
        graph.axis("off")
        steps = np.arange(1, r.variable.shape[1] + 1)
        used = [int(i) for i in np.unique(r.variable[index])]
        rows = [used.index(int(i)) for i in r.variable[index]]
        marks = time.scatter(
            steps, rows, c=r.standard[index], cmap="coolwarm", vmin=-5, vmax=5, s=60, edgecolor="#333", lw=0.5
        )
        time.set_yticks(range(len(used)), [names[i][:14] for i in used])
        time.set_ylim(-0.7, len(used) - 0.3)
        time.set_xlabel("intervention")
        time.xaxis.get_major_locator().set_params(integer=True)
        figure.colorbar(marks, ax=time, label="value, standard units", pad=0.11)
        beside = time.twinx()
        beside.grid(False)
        beside.spines["right"].set_visible(True)
        beside.plot(steps, r.outcome[index], color="#555", lw=1.1)
        beside.set_ylabel("measured target, raw")
        return _svg(figure)
