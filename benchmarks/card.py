"""The tables of docs/model_card.md from evaluation folders, one a training seed.

    acbo evaluate --output evaluations/42 --methods policy,random,regress,paths,thompson,gp,oracle
    acbo evaluate --output evaluations/42-curves --suite process --methods policy,regress,gp_all
    python benchmarks/card.py evaluations/42 [evaluations/43 ...] [--beside evaluations/untrained]
        [--recommended evaluations/42-curves] [--cbo evaluations/42-cbo]

The card names the suites and methods of each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from acbo_ref.arena.analysis import Folder, load_folder
from acbo_ref.arena.metrics import MethodResults, recommendation_difference, score_difference, verdict
from acbo_ref.arena.published import PUBLISHED

STEPS = {"all steps": slice(None), "first step": slice(0, 1), "last three": slice(-3, None)}


def interval(d: dict[str, float | None], sign: str = "+") -> str:
    if d["mean"] is None:
        return "-"
    mark = {"above": " **above**", "below": " below", "": ""}[verdict(d) if sign else ""]
    return f"{d['mean']:{sign}.3f} [{d['low']:{sign}.3f}, {d['high']:{sign}.3f}]{mark}"


def table(header: list[str], rows: list[list[str]]) -> None:
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def steps(folder: Folder, others: list[Folder]) -> None:
    """All steps / first step / last three of the policy, of least squares, and of the policies of
    other folders.
    """
    columns = [("policy", folder, "policy"), ("`regress`", folder, "regress"), ("`paths`", folder, "paths")]
    columns += [(f"policy of {other.name}", other, "policy") for other in others]
    rows = []
    for suite in folder.report["suites"]:
        name, cells = suite["name"], []
        for _, where, method in columns:
            found = next((s["methods"] for s in where.report["suites"] if s["name"] == name), {}).get(method)
            keys = ("score", "score_first", "score_last3")
            cells.append("-" if found is None else " / ".join(f"{found[key]['mean']:.3f}" for key in keys))
        rows.append([f"`{name}`", *cells])
    table(["all / first / last three", *(title for title, _, _ in columns)], rows)
    for other in others:
        rows = []
        for suite in folder.report["suites"]:
            name = suite["name"]
            if (name, "policy") in other.results:
                pair = folder.results[name, "policy"], other.results[name, "policy"]
                rows.append([f"`{name}`", *(interval(score_difference(*pair, part)) for part in STEPS.values())])
        table([f"policy minus that of {other.name}", *STEPS], rows)


def scores(folder: Folder) -> None:
    suites = [s["name"] for s in folder.report["suites"]]
    by_name = {s["name"]: s for s in folder.report["suites"]}
    methods = [m for m in folder.report["settings"]["methods"] if m not in ("oracle", "parent_oracle")]
    rows = []
    for name in suites:
        metrics = by_name[name]["methods"]
        rows.append([f"`{name}`", interval(metrics["policy"]["score"], ""),
                     *(f"{metrics[m]['score']['mean']:.3f}" for m in methods if m != "policy")])  # fmt: skip
    table(["score", "policy [95 %]", *(f"`{m}`" for m in methods if m != "policy")], rows)
    rows = []
    for name in suites:
        ours = folder.results[name, "policy"]
        cells = [interval(score_difference(ours, folder.results[name, "regress"], steps)) for steps in STEPS.values()]
        others = [m for m in ("paths", "thompson", "gp") if (name, m) in folder.results]
        cells += [interval(score_difference(ours, folder.results[name, m])) for m in others]
        rows.append([f"`{name}`", *cells])
    table(["policy minus", *(f"`regress`, {label}" for label in STEPS), *(f"`{m}`" for m in others)], rows)


def recommended(folder: Folder) -> None:
    """What the policy is ahead of each other method, suite by suite: in score, over the last three
    steps, and in what it recommends; and how often recommendations are worse than doing nothing.
    """
    methods = [m for m in folder.report["settings"]["methods"] if m not in ("oracle", "parent_oracle")]
    keys = ("score_first", "score_last3", "simple_regret")
    rows = []
    for suite in folder.report["suites"]:
        for m in methods:
            found = suite["methods"][m]
            cells = [interval(found["score"], ""), *(f"{found[key]['mean']:.3f}" for key in keys)]
            rows.append([f"`{suite['name']}`", f"`{m}`", *cells, f"{found['worse_than_nothing']['mean']:.1%}"])
    table(["suite", "method", "score [95 %]", "first step", "last three", "simple regret", "worse than nothing"], rows)
    rows = []
    for suite in folder.report["suites"]:
        ours = folder.results[suite["name"], "policy"]
        for m in methods:
            if m != "policy":
                pair = ours, folder.results[suite["name"], m]
                cells = [interval(score_difference(*pair, part)) for part in (slice(None), slice(-3, None))]
                rows.append([f"`{suite['name']}`", f"`{m}`", *cells, interval(recommendation_difference(*pair))])
    table(["suite", "policy minus", "score", "last three", "what is recommended"], rows)


def regrets(folder: Folder) -> None:
    """Mean simple regret of the recommendation on each problem of suite cbo, and which is lower,
    policy or gp.
    """
    methods = folder.report["settings"]["methods"]

    def regret(r: MethodResults) -> np.ndarray:
        return (r.recommended - r.best) / r.spread

    rows = []
    for n, problem in enumerate(PUBLISHED):
        values = {
            m: regret(folder.results["cbo", m])[n :: len(PUBLISHED)] for m in methods if ("cbo", m) in folder.results
        }
        rows.append([problem, *(f"{v.mean():.3f}" for v in values.values()), str(len(next(iter(values.values()))))])
    table(["simple regret", *(f"`{m}`" for m in values), "repetitions"], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--cbo", type=Path)
    parser.add_argument("--recommended", nargs="*", type=Path, default=[], help="folders to print recommendations of")
    parser.add_argument("--beside", nargs="*", type=Path, default=[], help="evaluations of other policies")
    arguments = parser.parse_args()
    others = [load_folder(path) for path in arguments.beside]
    for path in arguments.folders:
        print(f"### {path.name}\n")
        scores(load_folder(path))
        steps(load_folder(path), others)
    for path in arguments.recommended:
        recommended(load_folder(path))
    if arguments.cbo:
        regrets(load_folder(arguments.cbo))
