"""The page of a campaign: one file, readable without a network and without scripts."""

from __future__ import annotations

import html
from pathlib import Path

from acbo_cli import plots
from acbo_cli.report import figure, page

from acbo_ref.campaign.campaign import Campaign
from acbo_ref.files import write_atomically


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _table(header: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    words = ' class="words"'  # sentences, which wrap
    body = "".join(
        "<tr>"
        + "".join(f"<td{words if ' ' in cell and len(cell) > 25 else ''}>{html.escape(cell)}</td>" for cell in row)
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def write_campaign_report(campaign: Campaign, path: Path) -> None:
    """History, predictions against outcomes, beliefs and the recommendation."""
    status, history, beliefs, best = campaign.status(), campaign.history(), campaign.beliefs(), campaign.recommend()
    target = html.escape(status["target"])
    told = [
        h for h in history if h["measured"] is not None and h["predicted"] is not None and h["state"] != "abandoned"
    ]
    inside = sum(h["low"] <= h["measured"] <= h["high"] for h in told)
    parts = [
        f"<h1>Campaign: {status['direction']} {target}</h1>",
        f"<p>{status['observations']} observations, {status['interventions']} experiments.</p>",
        "<h2>Recommendation</h2>",
        f"<p>Set <b>{html.escape(best.variable)}</b> to <b>{best.value:.10g}</b>: {target} {best.predicted:.4g} "
        f"[{best.low:.4g}, {best.high:.4g}] expected.",
    ]
    if best.improvement is not None:
        parts.append(
            f" Better than doing nothing ({_number(best.baseline)}) by {_number(best.improvement)} "
            f"[{_number(best.improvement_low)}, {_number(best.improvement_high)}]."
        )
    parts.append(f" {html.escape(best.verdict).capitalize()}.</p>")
    if told:
        parts += [
            "<h2>Predictions and outcomes</h2>",
            figure(
                plots.campaign_outcomes(told, status["target"]), "predicted interval and measured target by experiment"
            ),
            f'<p class="note">Bars: 90 % intervals predicted before each experiment. {inside} of {len(told)} outcomes lie '
            "within.</p>",
        ]
    parts += [
        "<h2>Beliefs</h2>",
        figure(plots.campaign_beliefs(beliefs, status["target"]), "best expectation of each variable", broad=False),
        _table(
            ["variable", "direct cause", "best value", f"expected {status['target']}", "90 % interval"],
            [
                [b.variable, f"{b.parent_probability:.2f}", _number(b.value), _number(b.predicted),
                 "-" if b.low is None else f"{_number(b.low)} to {_number(b.high)}"]
                for b in beliefs
            ],
        ),
        "<h2>History</h2>",
        _table(
            ["experiment", "set", "expected", "90 % interval", "measured", "state", "why", "notes"],
            [
                [h["id"], ", ".join(f"{name} = {value:.10g}" for name, value in h["set"].items()), _number(h["predicted"]),
                 "-" if h["low"] is None else f"{_number(h['low'])} to {_number(h['high'])}", _number(h["measured"]),
                 h["state"], h["reason"] or "nobody asked for it", "; ".join(h["notes"])]
                for h in history
            ],
        ),
    ]  # fmt: skip
    write_atomically(path, page(f"Campaign: {status['target']}", "".join(parts)).encode())
