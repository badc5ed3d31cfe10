"""Print the tables of benchmarks/README.md from a results.json written by `pytest --benchmark`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(path: Path) -> None:
    document = json.loads(path.read_text())
    rows = [(b["name"].split("[")[0][5:], b["extra_info"], b["stats"]["median"]) for b in document["benchmarks"]]
    machine = document["machine_info"]
    print(
        f"Machine: {machine['cpu'].get('brand_raw', machine['processor'])}, {machine['cpu'].get('count')} cores, ",
        end="",
    )
    print(f"Python {machine['python_version']}, {document['datetime'][:10]}\n")
    print("| backend | D | V | E | rollout s | update s | iteration s | episodes/s | update GFLOP/s | share of peak |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    cells: dict[tuple[Any, ...], dict[str, Any]] = {}
    decisions = []
    for name, info, median in rows:
        if name == "decide":
            decisions.append((info["backend"], info["D"], info["V"], median))
        else:
            cells.setdefault((info["backend"], info["D"], info["V"], info["E"]), {})[name] = (median, info)
    for key, cell in sorted(cells.items(), key=lambda item: (item[0][0], item[0][1:])):
        seconds = {name: f"{cell[name][0]:.3g}" if name in cell else "" for name in ("rollout", "update", "iteration")}
        rate = f"{cell['iteration'][1]['episodes'] / cell['iteration'][0]:.3g}" if "iteration" in cell else ""
        speed = share = ""
        if "update" in cell:
            median, info = cell["update"]
            speed, share = f"{info['flops'] / median / 1e9:.0f}", f"{info['flops'] / median / info['peak']:.0%}"
        print("| " + " | ".join([*map(str, key), *seconds.values(), rate, speed, share]) + " |")
    print("\n| backend | D | V | one decision, ms |\n|---|---|---|---|")
    for backend, d, v, median in sorted(decisions):
        print(f"| {backend} | {d} | {v} | {1e3 * median:.2f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("results.json"))
