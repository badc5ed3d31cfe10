"""report.html: one file, readable without a network and without scripts."""

from __future__ import annotations

import html
import os
import platform
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from acbo_cli import plots
from acbo_cli.evaluate import LEGEND, method_label, milliseconds, systems_of
from acbo_cli.options import interval

from acbo_ref.arena.analysis import BOUNDS, Folder, best_methods, compared_with, diagnosis, differences
from acbo_ref.arena.metrics import verdict
from acbo_ref.arena.suites import SUITES
from acbo_ref.campaign.style import STYLE
from acbo_ref.files import write_atomically
from acbo_ref.training.checkpoint import versions

# Beside the style of a campaign's page.
_STYLE = """
nav ul { columns: 14rem; padding-left: 1.1rem; margin: .3rem 0; } nav ul ul { columns: auto; } a { color: var(--curve); }
h2 { border-bottom: 1px solid var(--line); } h3 { margin: 1.8rem 0 .2rem; } h4 { font-size: .95rem; margin: 0 0 .2rem; }
.figures { display: grid; gap: 1.2rem 1.6rem; margin: .8rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); }
table { font-size: .85rem; } th, td { padding: .25rem .5rem; }
td { white-space: nowrap; } td small { display: block; color: var(--muted); } th a { color: inherit; }
td.heat small { color: inherit; opacity: .85; } tr.best td { font-weight: 600; } tr.bound td { color: var(--muted); }
td.better { color: var(--good); } td.worse { color: var(--measured); }
svg text { fill: var(--muted); }
.swatch { display: inline-block; width: 1.2rem; height: .3rem; border-radius: 2px; }
pre { background: var(--card); padding: .6rem; overflow-x: auto; font-size: .8rem; }
"""
_HEAT = 10  # steps of the colours of a score from 0 to 1

_METRICS = (
    ("score_first", "first step"), ("score_last3", "last 3"), ("score_per_system", "by system"),
    ("simple_regret", "regret"), ("avg_target", "target"),
    ("parent_accuracy", "parents"), ("optimal_variable_accuracy", "best var"), ("improvement_rate", "improved"),
)  # fmt: skip
_ONE_PICTURE = ("standardised", "complex", "medium")  # suites from which one system is shown, if they are there


def figure(svg: str, question: str, note: str = "") -> str:
    """A figure with the question that it answers."""
    named = svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(question)}" ', 1)
    words = f'<figcaption class="note">{html.escape(note)}</figcaption>' if note else ""
    return f"<figure><h4>{html.escape(question)}</h4>{named}{words}</figure>"


def figures(*parts: str) -> str:
    return f'<div class="figures">{"".join(parts)}</div>'


def legend(names: dict[str, str]) -> str:
    """Names with the colours of their curves."""
    items = (
        f'<li><span class="swatch" style="background: var(--{colour})"></span>{html.escape(name)}</li>'
        for name, colour in names.items()
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def write_report(folders: list[Folder], path: Path) -> None:
    """One page about all folders."""
    evaluated = [(f"e{n}", f) for n, f in enumerate(folders) if f.report is not None]
    trained = [f for f in folders if f.records]
    body = [f"<h1>{html.escape(', '.join(f.name for f in folders))}</h1>", *_summary(trained, evaluated)]
    body.append(_contents(trained, evaluated))
    if trained:
        body += _training(trained)
    for anchor, folder in evaluated:
        body += _evaluation(anchor, folder)
    body += _appendix(folders)
    write_atomically(path, page("acbo report", "".join(body)).encode())


def page(title: str, body: str) -> str:
    """A whole HTML page. What many marks of the figures have in common stands once, as a class."""
    names: dict[str, str] = {}
    body = re.sub(r' style="([^"]*)"', lambda m: f' class="{names.setdefault(m[1], f"s{len(names)}")}"', body)
    body = re.sub(r' class="([^"]*)" class="([^"]*)"', r' class="\1 \2"', body)
    styles = "".join(f".{name}{{{style}}}" for style, name in names.items())
    heat = "".join(f"td.heat{n}{{background:rgba(30,130,210,{0.55 * n / _HEAT:.2f})}}" for n in range(_HEAT + 1))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}{plots.palette()}{_STYLE}{heat}"
        f"td.below0{{background:rgba(225,95,20,.3)}}{styles}</style></head><body>{body}</body></html>\n"
    )


# --------------------------------------------------------------------------------------- summary


def _summary(trained: list[Folder], evaluated: list[tuple[str, Folder]]) -> list[str]:
    """What was found, in a few lines and a table an evaluation."""
    parts = []
    for f in trained:
        r = f.records[-1]
        parts.append(
            f"<p><b>{html.escape(f.name)}</b> was trained for {r['episodes']} episodes; recent score "
            f"{_cell(r['recent_score'])}. {html.escape(diagnosis(f)[0].finding)}</p>"
        )
    for anchor, f in evaluated:
        assert f.report is not None
        s, suites = f.report["settings"], f.report["suites"]
        parts.append(
            f"<p><b>{html.escape(f.name)}</b> was evaluated on {len(suites)} suites, {s['interventions']} "
            f"interventions, seed {s['seed']}. {html.escape(standing(f))}</p>"
        )
        parts.append(_heat_table(anchor, f))
    return parts


def standing(folder: Folder) -> str:
    """On how many suites each method is apart from the one compared with, by paired differences."""
    assert folder.report is not None
    suites = folder.report["suites"]
    base = compared_with(list(suites[0]["methods"])) if suites else None
    if base is None:
        return ""
    verdicts: dict[str, Counter[str]] = {}
    for suite in suites:
        for method, difference in differences(folder, suite).items():
            verdicts.setdefault(method, Counter())[verdict(difference)] += 1
    words = [f"above {method} on {n['below']} and below it on {n['above']}" for method, n in verdicts.items()]
    return f"Of {len(suites)}, {base} is {', '.join(words)} (paired 95 % intervals)." if words else ""


def _heat_table(anchor: str, folder: Folder) -> str:
    """Suites by methods: the score, and below it the paired difference to the method compared
    with.
    """
    assert folder.report is not None
    suites = folder.report["suites"]
    methods = list(suites[0]["methods"]) if suites else []
    base = compared_with(methods)
    head = "".join(f'<th class="number">{html.escape(m)}</th>' for m in methods)
    rows = []
    for suite in suites:
        apart, cells = differences(folder, suite), []
        for method in methods:
            score = suite["methods"][method]["score"]["mean"]
            step = "" if score is None else "below0" if score < 0 else f"heat{round(_HEAT * min(1.0, score))}"
            small = f"{'▲ ▼'[_SIGN[verdict(apart[method])]]} {_signed(apart[method])}" if method in apart else "&nbsp;"
            cells.append(f'<td class="heat number {step}">{_cell(score)}<small>{small}</small></td>')
        name = suite["name"]
        rows.append(f'<tr><th><a href="#{anchor}-{name}">{html.escape(name)}</a></th>{"".join(cells)}</tr>')
    caption = (
        f"Score, and below it its paired difference to {base}'s with the 95 % interval. ▲ and ▼: the interval lies above or "
        "below zero. A suite's name leads to its section."
    )
    return (
        f'<p class="note">{html.escape(caption)}</p><div class="scroll"><table><thead><tr><th>suite</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


_SIGN = {"above": 0, "": 1, "below": 2}


def _signed(difference: Mapping[str, float | None]) -> str:
    if difference["mean"] is None:
        return "-"
    return f"{difference['mean']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]"


def _contents(trained: list[Folder], evaluated: list[tuple[str, Folder]]) -> str:
    items = ['<li><a href="#training">Training</a></li>'] if trained else []
    for anchor, f in evaluated:
        assert f.report is not None
        inner = "".join(
            f'<li><a href="#{anchor}-{s["name"]}">{html.escape(s["name"])}</a></li>' for s in f.report["suites"]
        )
        items.append(f'<li><a href="#{anchor}">Evaluation of {html.escape(f.name)}</a><ul>{inner}</ul></li>')
        if any("policy" in s["methods"] for s in f.report["suites"]):
            items.append(f'<li><a href="#{anchor}-policy">The policy at work</a></li>')
    items.append('<li><a href="#columns">What the columns mean</a></li><li><a href="#settings">Settings</a></li>')
    return f'<nav aria-label="Contents"><h2>Contents</h2><ul>{"".join(items)}</ul></nav>'


# -------------------------------------------------------------------------------------- training


def _training(folders: list[Folder]) -> list[str]:
    parts = ['<h2 id="training">Training</h2>']
    if len(folders) > 1:
        parts.append(legend({f.name: plots.RUNS[n % len(plots.RUNS)] for n, f in enumerate(folders)}))
    parts.append(
        '<p class="note">Thin: score of each iteration. Dotted: range utilisation without exploration noise. Dashed: '
        "a new stage begins; scores of different stages are about different systems.</p>"
    )
    parts.append(
        figures(
            *(
                figure(plots.training_curve(folders, key, label, logarithmic), question)
                for question, key, label, logarithmic in plots.TRAINING
            )
        )
    )
    for f in folders:
        items = "".join(f"<li>{html.escape(d.finding)} <i>{html.escape(d.advice)}</i></li>" for d in diagnosis(f))
        parts.append(f"<h3>Diagnosis of {html.escape(f.name)}</h3><ul>{items}</ul>")
    return parts


# ------------------------------------------------------------------------------------ evaluation


def _cell(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _table(folder: Folder, suite: dict[str, Any]) -> str:
    best, apart, base = best_methods(suite), differences(folder, suite), compared_with(list(suite["methods"]))
    decision = (folder.report or {}).get("settings", {}).get("decision")
    header = ["score [95 %]", f"minus {base} [95 %]", *(label for _, label in _METRICS), "ms/decision"]
    rows = []
    for method, metrics in suite["methods"].items():
        kind = "best" if method in best else "bound" if method in BOUNDS else ""
        difference, css = "", ""
        if method in apart:
            difference = interval(apart[method])
            css = {"above": "better", "below": "worse", "": ""}[verdict(apart[method])]
        cells = [
            f"<th>{html.escape(method_label(method, decision))}</th>",
            f'<td class="number">{interval(metrics["score"])}</td>',
            f'<td class="number {css}">{difference}</td>',
        ]
        cells += [f'<td class="number">{_cell(metrics.get(key, {}).get("mean"))}</td>' for key, _ in _METRICS]
        cells.append(f'<td class="number">{milliseconds(metrics)}</td>')
        rows.append(f'<tr class="{kind}">{"".join(cells)}</tr>')
    head = "".join(f'<th class="number">{html.escape(h)}</th>' for h in header)
    return (
        f'<div class="scroll"><table><thead><tr><th>method</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _evaluation(anchor: str, folder: Folder) -> list[str]:
    assert folder.report is not None
    comparisons = sum(len(differences(folder, suite)) for suite in folder.report["suites"])
    parts = [
        f'<h2 id="{anchor}">Evaluation of {html.escape(folder.name)}</h2>',
        '<p class="note">Score: expected drop of the target below doing nothing, as a share of the best single '
        "intervention’s, summed over systems and interventions. One intervention is one query, for every method; same "
        "systems, observations and noise. Intervals: 95 %, bootstrapped over clusters of systems; repetitions of one "
        "problem are one cluster. Bold: the highest score. Green or orange: the paired interval of the difference, as "
        "printed, lies above or below zero.</p>",
        f'<p class="note">This page makes {comparisons} comparisons at 95 % each, not corrected for their number: were '
        f"no method different from another, about {comparisons * 0.05:.0f} would be coloured by chance.</p>",
    ]
    policies = {}
    for suite in folder.report["suites"]:
        name = suite["name"]
        about = SUITES[name].description if name in SUITES else "SCM files"
        results = {m: folder.results[name, m] for m in suite["methods"]}
        parts.append(f'<h3 id="{anchor}-{name}">{html.escape(name)}</h3>')
        parts.append(
            f'<p class="note">{html.escape(about)}. {systems_of(suite)}, {suite["observations"]} observational rows.</p>'
        )
        parts.append(_table(folder, suite))
        parts.append(legend({m + " (dashed)" * plots.is_told(m): plots.colour_of(m) for m in results}))
        parts.append(
            figures(
                figure(plots.per_step_curves(results, regret=False), "How good is each intervention?"),
                figure(plots.per_step_curves(results, regret=True), "How far is it from the best one?"),
            )
        )
        if "policy" in results:
            policies[name] = results["policy"]
    if policies:
        parts += _policy_pictures(anchor, folder, policies)
    return parts


def _policy_pictures(anchor: str, folder: Folder, policies: dict[str, Any]) -> list[str]:
    parts = [f'<h2 id="{anchor}-policy">The policy at work</h2>']
    name = next((n for n in _ONE_PICTURE if n in policies), next(iter(policies)))
    suite, results = folder.suite(name), policies[name]
    if suite is not None:
        # the system whose score is the median one: neither the best nor the worst picture
        share = results.gain.mean(axis=1) / np.where(results.oracle_gain > 0, results.oracle_gain, np.inf)
        index = int(np.argsort(share)[len(share) // 2])
        system = suite.systems[index]
        parts.append(
            f"<h3>One episode: {html.escape(system.name)} of {html.escape(name)}</h3>"
            f'<p class="note">The system with the median score, {share[index]:.2f}.</p>'
        )
        parts.append(
            figures(
                figure(
                    plots.graph(system), "Which system was it?",
                    "Orange: the target. Blue: its direct causes. Dashed: the variable that the oracle sets.",
                ),
                figure(
                    plots.choices(system, results, index), "What did it set?",
                    "The longer a bar, the nearer to the upper or lower end of the domain.",
                ),
                figure(plots.outcomes(results, index), "What came out?", "The measured target, in its own unit."),
            )
        )  # fmt: skip
    with_opinion = {n: r for n, r in policies.items() if r.parent_probability}
    parts.append("<h3>All systems</h3>")
    parts.append(
        figures(
            figure(plots.value_outcome(results), f"Which values give what, on {name}?", "Some of all interventions."),
            figure(
                plots.structure_roc(with_opinion), "Does it know the direct causes?", "After the last row, by suite."
            ),
        )
    )
    return parts


def _appendix(folders: list[Folder]) -> list[str]:
    facts = {**versions(), "platform": platform.platform(), "cores": os.cpu_count()}
    columns = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in LEGEND.items())
    parts = [f'<h2 id="columns">What the columns mean</h2><dl>{columns}</dl>', '<h2 id="settings">Settings</h2>']
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
