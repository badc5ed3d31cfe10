"""What `acbo analyze` knows about folders: reading them, comparing methods, and a diagnosis with advice."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from acbo_cli.options import table

from acbo_ref.arena import results_from_dict
from acbo_ref.documents import read_yaml
from acbo_ref.errors import AcboError
from acbo_ref.metrics import MethodResults, score_difference
from acbo_ref.suites import SUITES, Suite, load_suite
from acbo_ref.train import read_metrics

# Methods whose score is a bound, not a result.
BOUNDS = ("oracle", "parent_oracle")
_LOOK_BACK = 20


@dataclass(eq=False)
class Folder:
    """A training run (`records`, `config`), an evaluation (`report`, `results`), or both in one folder."""

    name: str
    records: list[dict[str, Any]]
    config: dict[str, Any]
    report: dict[str, Any] | None
    results: dict[tuple[str, str], MethodResults]

    def suite(self, name: str) -> Suite | None:
        """The systems of an evaluated suite, built again; None for files, which may have moved."""
        if self.report is None or name not in SUITES:
            return None
        settings = self.report["settings"]
        return load_suite(name, settings["seed"], settings["quick"])


def load_folder(path: Path) -> Folder:
    """Read a run or evaluation folder.

    Raises:
        AcboError: it is neither, or its files are damaged.
    """
    records = read_metrics(path / "metrics.jsonl")
    has_summary = (path / "summary.json").exists()
    if not records and not has_summary:
        raise AcboError(
            f"{path} holds neither a training run nor an evaluation",
            "give run folders of acbo train, or folders written by acbo evaluate --output",
        )
    try:
        config = read_yaml((path / "config.yaml").read_text()) if (path / "config.yaml").exists() else {}
        report = json.loads((path / "summary.json").read_text()) if has_summary else None
        results = {}
        for suite in report["suites"] if report is not None else []:
            for method in suite["methods"]:
                cell = path / "cells" / f"{suite['name']}--{method}.json"
                results[suite["name"], method] = results_from_dict(json.loads(cell.read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AcboError(f"{path}: cannot be read ({error})", "run the evaluation or training again") from error
    return Folder(path.resolve().name, records, config or {}, report, results)


def compared_with(methods: list[str]) -> str | None:
    """The method that others are compared with: regress, or the first that is not a policy's and not a bound."""
    if "regress" in methods:
        return "regress"
    others = [m for m in methods if m not in BOUNDS and m not in ("policy", "policy_sampled", "surrogate", "random")]
    return others[0] if others else None


def differences(folder: Folder, suite: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Paired difference in score of each method to the one compared with, over the same systems."""
    base = compared_with(list(suite["methods"]))
    if base is None:
        return {}
    return {
        method: score_difference(folder.results[suite["name"], method], folder.results[suite["name"], base])
        for method in suite["methods"]
        if method != base and method not in BOUNDS
    }


def best_methods(suite: dict[str, Any]) -> set[str]:
    """The methods, bounds left out, whose score is the highest."""
    scores = {
        m: v["score"]["mean"] for m, v in suite["methods"].items() if m not in BOUNDS and v["score"]["mean"] is not None
    }
    top = max(scores.values(), default=0.0)
    return {m for m, score in scores.items() if score == top}


def diagnosis(folder: Folder) -> list[tuple[str, str]]:
    """(finding, advice) about a training run, from its last iterations."""
    records = folder.records
    if not records:
        return []
    last = records[-_LOOK_BACK:]

    def mean(key: str) -> float:
        values = [r[key] for r in last if r.get(key) is not None]
        return float(np.mean(values)) if values else float("nan")

    found: list[tuple[str, str]] = []
    score = records[-1]["recent_score"]
    if score is not None and score < 0.3:
        found.append((f"The recent score is {score:.2f}: little better than doing nothing.",
                      "Train longer, raise grpo.learning_rate, or begin with smaller systems (curriculum.stages)."))  # fmt: skip
    skipped = sum(r["skipped_steps"] for r in records)
    if skipped:
        found.append((f"{skipped:.0f} optimiser steps were skipped because loss or gradient was not finite.",
                      "Reduce grpo.group_size or grpo.learning_rate, and keep grpo.gradient_clip on."))  # fmt: skip
    if mean("mean_range_utilization") < 0.3:
        found.append((f"Without exploration, interventions use {mean('mean_range_utilization'):.0%} of the domain.",
                      "Converging early? Raise policy.fixed_std to 2.0 and grpo.entropy_coefficient to 0.02."))  # fmt: skip
    if mean("entropy") < 0.02 and (score or 0.0) < 0.9:
        found.append((f"The variable choice has collapsed (entropy {mean('entropy'):.3f} nats) below a score of 0.9.",
                      "Raise grpo.entropy_coefficient, or anneal it with grpo.entropy_coefficient_final."))  # fmt: skip
    if mean("last3_target") >= mean("first3_target") and (score or 0.0) < 0.8:
        found.append(("Episodes do not improve: the last three interventions are no better than the first three.",
                      "Try grpo.ppo_epochs 6 and grpo.learning_rate 3e-4, and check the reward weights."))  # fmt: skip
    if mean("approx_kl") > 0.1:
        found.append((f"Updates are large (approximate KL {mean('approx_kl'):.2f}).",
                      "Lower grpo.learning_rate or grpo.ppo_epochs."))  # fmt: skip
    clip = (folder.config.get("grpo") or {}).get("gradient_clip")
    if clip is not None and mean("gradient_norm") > 10 * clip:
        found.append((f"Gradients are clipped to under a tenth (mean norm {mean('gradient_norm'):.1f}, clip {clip:g}).",
                      "Usual with raw systems, by the outcome loss: lower surrogate.outcome_weight."))  # fmt: skip
    if mean("frac_reward_zero_std") > 0.3:
        found.append((f"{mean('frac_reward_zero_std'):.0%} of the groups have equal rewards and teach nothing.",
                      "Raise policy.fixed_std or grpo.group_size."))  # fmt: skip
    if not found:
        found.append(("Nothing conspicuous in the last iterations.", ""))
    return found


def summary(folders: list[Folder]) -> dict[str, Any]:
    """The report's numbers as one JSON object."""
    return {
        "format": "acbo-analysis/1",
        "folders": [
            {
                "name": f.name,
                "training": None
                if not f.records
                else {
                    "episodes": f.records[-1]["episodes"],
                    "iterations": f.records[-1]["iteration"],
                    "recent_score": f.records[-1]["recent_score"],
                    "diagnosis": [{"finding": a, "advice": b} for a, b in diagnosis(f)],
                },
                "evaluation": None
                if f.report is None
                else [
                    {
                        "suite": s["name"],
                        "best": sorted(best_methods(s)),
                        "compared_with": compared_with(list(s["methods"])),
                        "differences": differences(f, s),
                    }
                    for s in f.report["suites"]
                ],
            }
            for f in folders
        ],
    }


def interval(value: dict[str, float | None], digits: int = 3) -> str:
    """mean [low, high]"""
    if value["mean"] is None:
        return "-"
    return f"{value['mean']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def summary_text(folders: list[Folder]) -> str:
    """The report for a terminal."""
    parts = []
    for f in folders:
        if f.records:
            r = f.records[-1]
            lines = [f"{f.name}: {r['episodes']} episodes, stage {r['stage']}, recent score {r['recent_score']:.3f}"]
            lines += [f"  {finding}" + (f"\n    -> {advice}" if advice else "") for finding, advice in diagnosis(f)]
            parts.append("\n".join(lines))
        for s in f.report["suites"] if f.report is not None else []:
            apart, best = differences(f, s), best_methods(s)
            rows = [
                [("* " if m in best else "  ") + m, interval(v["score"]), interval(apart[m]) if m in apart else ""]
                for m, v in s["methods"].items()
            ]
            base = compared_with(list(s["methods"]))
            parts.append(f"{f.name}, {s['name']}\n" + table(["  method", "score [95 %]", f"minus {base} [95 %]"], rows))
    return "\n\n".join(parts)
