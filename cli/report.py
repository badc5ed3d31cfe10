"""report.html: one file, readable without a network and without scripts."""

from __future__ import annotations

import base64
import html
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from acbo_cli import plots
from acbo_cli.evaluate import method_label, milliseconds, systems_of
from acbo_cli.options import interval

from acbo_ref.arena.analysis import BOUNDS, Folder, best_methods, compared_with, diagnosis, differences
from acbo_ref.arena.metrics import verdict
from acbo_ref.arena.suites import SUITES
from acbo_ref.files import write_atomically
from acbo_ref.training.checkpoint import versions

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 0 auto; max-width: 1080px; padding: 1rem; }
h1 { font-size: 1.7rem; margin: .5rem 0; } h2 { font-size: 1.3rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .3rem; }
img { max-width: 100%; height: auto; display: block; margin: .4rem 0; }
@media (max-width: 700px) { img.broad { max-width: none; width: 760px; } }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #eee; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
tr.best td { font-weight: 600; } tr.bound td { color: #777; }
td.words { text-align: left; white-space: normal; min-width: 13rem; } td.better { color: #00684a; } td.worse { color: #a33c00; }
.note { color: #555; font-size: .9rem; margin: .3rem 0; } .side { display: flex; flex-wrap: wrap; gap: 1rem; }
.side > * { flex: 1 1 320px; min-width: 0; } pre { background: #f6f6f6; padding: .6rem; overflow-x: auto; font-size: .8rem; }
"""

_METRICS = (
    ("score_first", "first step"), ("score_last3", "last 3"), ("score_per_system", "by system"),
    ("simple_regret", "regret"), ("avg_target", "target"),
    ("parent_accuracy", "parents"), ("optimal_variable_accuracy", "best variable"), ("improvement_rate", "improved"),
)  # fmt: skip


def figure(svg: str, alt: str, broad: bool = True) -> str:
    """A figure; a broad one keeps a readable width on a phone and scrolls sideways."""
    data = base64.b64encode(svg.encode()).decode()
    image = f'<img class="{"broad" if broad else ""}" alt="{html.escape(alt)}" src="data:image/svg+xml;base64,{data}">'
    return f'<div class="wide">{image}</div>'


def write_report(folders: list[Folder], path: Path) -> None:
    """One page about all folders."""
    body = [f"<h1>{html.escape(', '.join(f.name for f in folders))}</h1>", _contents(folders)]
    trained = [f for f in folders if f.records]
    if trained:
        body += _training(trained)
    for folder in folders:
        if folder.report is not None:
            body += _evaluation(folder)
    body += _appendix(folders)
    write_atomically(path, page("acbo report", "".join(body)).encode())


def page(title: str, body: str) -> str:
    """A whole HTML page, with the style that all pages share."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def _contents(folders: list[Folder]) -> str:
    words = []
    for f in folders:
        if f.records:
            r = f.records[-1]
            words.append(
                f"<b>{html.escape(f.name)}</b> trained for {r['episodes']} episodes; recent score {r['recent_score']:.3f}."
            )
        if f.report is not None:
            s = f.report["settings"]
            words.append(
                f"<b>{html.escape(f.name)}</b> evaluated on {len(f.report['suites'])} suites, "
                f"{s['interventions']} interventions, seed {s['seed']}."
            )
    return "<p>" + " ".join(words) + "</p>"


def _training(folders: list[Folder]) -> list[str]:
    parts = ["<h2>Training</h2>", figure(plots.training_curves(folders), "training curves over episodes")]
    parts.append(
        '<p class="note">Faint: score of each iteration. Dotted: range utilisation without exploration noise. Dashed: '
        "a new stage begins; scores of different stages are about different systems.</p>"
    )
    for f in folders:
        items = "".join(f"<li>{html.escape(d.finding)} <i>{html.escape(d.advice)}</i></li>" for d in diagnosis(f))
        parts.append(f"<h3>Diagnosis of {html.escape(f.name)}</h3><ul>{items}</ul>")
    return parts


def _cell(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _table(folder: Folder, suite: dict[str, Any]) -> str:
    best, apart, base = best_methods(suite), differences(folder, suite), compared_with(list(suite["methods"]))
    decision = (folder.report or {}).get("settings", {}).get("decision")
    header = ["method", "score [95 %]", f"minus {base} [95 %]", *(label for _, label in _METRICS), "ms / decision"]
    rows = []
    for method, metrics in suite["methods"].items():
        kind = "best" if method in best else "bound" if method in BOUNDS else ""
        difference, css = "", ""
        if method in apart:
            difference = interval(apart[method])
            css = {"above": "better", "below": "worse", "": ""}[verdict(apart[method])]
        cells = [
            f"<td>{html.escape(method_label(method, decision))}</td>",
            f"<td>{interval(metrics['score'])}</td>",
            f'<td class="{css}">{difference}</td>',
        ]
        cells += [f"<td>{_cell(metrics.get(key, {}).get('mean'))}</td>" for key, _ in _METRICS]
        cells.append(f"<td>{milliseconds(metrics)}</td>")
        rows.append(f'<tr class="{kind}">{"".join(cells)}</tr>')
    head = "".join(f"<th>{html.escape(h)}</th>" for h in header)
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _evaluation(folder: Folder) -> list[str]:
    assert folder.report is not None
    comparisons = sum(len(differences(folder, suite)) for suite in folder.report["suites"])
    parts = [
        f"<h2>Evaluation of {html.escape(folder.name)}</h2>",
        '<p class="note">Score: expected drop of the target below doing nothing, as a share of the best single '
        "intervention’s, summed over systems and interventions. One intervention is one query, for every method; same "
        "systems, observations and noise. By system: mean of the systems’ own scores. Intervals: 95 %, bootstrapped "
        "over clusters of systems; repetitions of one problem are one cluster. Bold: the highest score. Green or "
        "orange: the paired interval of the difference, as printed, lies above or below zero. Regret: of the "
        "recommended intervention, in standard deviations of the observed target.</p>",
        f'<p class="note">This page makes {comparisons} comparisons at 95 % each, not corrected for their number: were '
        f"no method different from another, about {comparisons * 0.05:.0f} would be coloured by chance.</p>",
    ]
    policies = {}
    for suite in folder.report["suites"]:
        name = suite["name"]
        about = SUITES[name].description if name in SUITES else "SCM files"
        results = {m: folder.results[name, m] for m in suite["methods"]}
        parts.append(f"<h3>{html.escape(name)}</h3>")
        parts.append(
            f'<p class="note">{html.escape(about)}. {systems_of(suite)}, {suite["observations"]} observational rows.</p>'
        )
        parts.append(_table(folder, suite))
        parts.append(figure(plots.per_step_curves(results), f"score and regret of each intervention on {name}"))
        if "policy" in results:
            policies[name] = results["policy"]
    if policies:
        parts += _policy_pictures(folder, policies)
    return parts


def _policy_pictures(folder: Folder, policies: dict[str, Any]) -> list[str]:
    parts = ["<h2>The policy at work</h2>"]
    name = next((n for n in ("standardised", "complex", "medium") if n in policies), next(iter(policies)))
    suite = folder.suite(name)
    if suite is not None:
        # the system whose score is the median one: neither the best nor the worst picture
        r = policies[name]
        share = r.gain.mean(axis=1) / np.where(r.oracle_gain > 0, r.oracle_gain, np.inf)
        index = int(np.argsort(share)[len(share) // 2])
        system = suite.systems[index]
        parts.append(
            f"<h3>One episode: {html.escape(system.name)} of {html.escape(name)}</h3>"
            f'<p class="note">The system with the median score, {share[index]:.2f}.</p>'
        )
        parts.append(
            figure(plots.episode(system, r, index), "causal graph, interventions over time, and measured target")
        )
    parts.append(f'<div class="side"><div><h3>Values and outcomes, {html.escape(name)}</h3>')
    parts.append(
        figure(plots.value_outcome(policies[name]), "value set against measured target", broad=False) + "</div>"
    )
    with_opinion = {n: r for n, r in policies.items() if r.parent_probability}
    parts.append("<div><h3>Which variables are parents?</h3>")
    parts.append(
        figure(plots.structure_roc(with_opinion), "receiver operating characteristic of the parent head", broad=False)
        + "</div></div>"
    )
    return parts


def _appendix(folders: list[Folder]) -> list[str]:
    facts = {**versions(), "platform": platform.platform(), "cores": os.cpu_count()}
    parts = ["<h2>Settings</h2>"]
    for f in folders:
        if f.config:
            text = yaml.safe_dump(f.config, sort_keys=False)
            parts.append(
                f"<details><summary>Config of {html.escape(f.name)}</summary><pre>{html.escape(text)}</pre></details>"
            )
        if f.report is not None:
            text = yaml.safe_dump(f.report["settings"], sort_keys=False)
            parts.append(
                f"<details><summary>Evaluation of {html.escape(f.name)}</summary><pre>{html.escape(text)}</pre></details>"
            )
    words = ", ".join(f"{key} {value}" for key, value in facts.items())
    parts.append(f'<p class="note">Report written with {html.escape(words)}.</p>')
    return parts
