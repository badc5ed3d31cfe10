"""What `acbo analyze` knows about folders: reading them, comparing methods, and a diagnosis with
advice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from acbo_ref.arena.metrics import MethodResults, score_difference
from acbo_ref.arena.play import is_policy
from acbo_ref.arena.store import Report, cell_path, results_from_dict
from acbo_ref.arena.suites import SUITES, Suite, load_suite
from acbo_ref.errors import AcboError
from acbo_ref.files import Document, read_yaml
from acbo_ref.training import advice
from acbo_ref.training.advice import Finding
from acbo_ref.training.run_folder import Record, read_metrics

# Methods whose score is a bound, not a result.
BOUNDS = ("oracle", "parent_oracle")


@dataclass(eq=False)
class Folder:
    """A training run (`records`, `config`), an evaluation (`report`, `results`), or both in one
    folder.
    """

    name: str
    records: list[Record]
    config: Document
    report: Report | None
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
        config = read_yaml((path / "config.yaml").read_text()) if (path / "config.yaml").exists() else None
        report = json.loads((path / "summary.json").read_text()) if has_summary else None
        results = {}
        for suite in report["suites"] if report is not None else []:
            for method in suite["methods"]:
                cell = cell_path(path, suite["name"], method)
                results[suite["name"], method] = results_from_dict(json.loads(cell.read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AcboError(f"{path}: cannot be read ({error})", "run the evaluation or training again") from error
    return Folder(path.resolve().name, records, config if isinstance(config, dict) else {}, report, results)


def compared_with(methods: list[str]) -> str | None:
    """The method that others are compared with: the policy; without it regress, or the first that
    is not a policy's and not a bound.
    """
    for method in ("policy", "regress"):
        if method in methods:
            return method
    others = [m for m in methods if m not in (*BOUNDS, "random") and not is_policy(m)]
    return others[0] if others else None


def differences(folder: Folder, suite: Document) -> dict[str, dict[str, float | None]]:
    """Paired difference in score of each method to the one compared with, over the same systems:
    its own score minus that one's.
    """
    base = compared_with(list(suite["methods"]))
    if base is None:
        return {}
    return {
        method: score_difference(folder.results[suite["name"], method], folder.results[suite["name"], base])
        for method in suite["methods"]
        if method != base and method not in BOUNDS
    }


def best_methods(suite: Document) -> set[str]:
    """The methods, bounds left out, whose score is the highest."""
    scores = {
        m: v["score"]["mean"] for m, v in suite["methods"].items() if m not in BOUNDS and v["score"]["mean"] is not None
    }
    top = max(scores.values(), default=0.0)
    return {m for m, score in scores.items() if score == top}


def diagnosis(folder: Folder) -> list[Finding]:
    """What is conspicuous in a training run, from its last iterations; empty for a folder without
    one.
    """
    if not folder.records:
        return []
    return advice.diagnosis(folder.records, folder.config) or [
        Finding("none", "Nothing conspicuous in the last iterations.", "")
    ]


def summary(folders: list[Folder]) -> Document:
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
                    "diagnosis": [{"finding": d.finding, "advice": d.advice} for d in diagnosis(f)],
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
