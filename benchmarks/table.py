"""The tables of benchmarks/README.md, from what `pytest --benchmark` wrote.

python benchmarks/table.py [.benchmarks/latest.json]

Each figure stands beside its share of the machine's peak (a float32 product in the same process)
and how many times as fast as the reference it is.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

LATEST = Path(__file__).parent.parent / ".benchmarks" / "latest.json"
_KINDS = ("rollout", "update", "iteration", "decide")
_HEADER = ("figure", "size", "backend", "seconds", "ep/s", "GFLOP/s", "peak", "x ref")


def rows(benchmarks: list[dict[str, Any]]) -> list[list[str]]:
    """A row each figure, the backends of one beside each other, the fastest first.

    A size is that of the names that -k takes: width, variables, episodes.

    Args:
        benchmarks: the documents of pytest-benchmark: name, extra_info, stats.
    """
    found = {}
    for b in benchmarks:
        kind, info = b["name"].split("[")[0].removeprefix("test_"), b["extra_info"]
        found[kind, info["D"], info["V"], info["E"], info["backend"]] = (b["stats"]["median"], info)
    shown = []
    for key in sorted(found, key=lambda k: (_KINDS.index(k[0]), k[1:4], found[k][0])):
        seconds, info = found[key]
        reference = found.get((*key[:4], "ref"))
        shown.append(
            [
                key[0],
                "D{}-V{}-E{}".format(*key[1:4]),
                key[4],
                f"{seconds:.3g}",
                f"{info['episodes'] / seconds:.3g}" if info["episodes"] else "",
                f"{info['flops'] / seconds / 1e9:.3g}",
                f"{info['flops'] / seconds / info['peak']:.0%}",
                f"{reference[0] / seconds:.2g}" if reference else "",
            ]
        )
    return shown


def text(document: dict[str, Any]) -> str:
    """Machine and table, in Markdown that can be read as it is."""
    machine, cells = document["machine_info"], [list(_HEADER), *rows(document["benchmarks"])]
    widths = [max(len(row[i]) for row in cells) for i in range(len(_HEADER))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in cells]
    lines.insert(1, "| " + " | ".join("-" * w for w in widths) + " |")
    cpu = machine["cpu"]
    return (
        f"Machine: {cpu.get('brand_raw', machine['processor'])}, {cpu.get('count')} cores, "
        f"Python {machine['python_version']}, {document['datetime'][:10]}\n\n" + "\n".join(lines)
    )


if __name__ == "__main__":
    print(text(json.loads((Path(sys.argv[1]) if len(sys.argv) > 1 else LATEST).read_text())))
