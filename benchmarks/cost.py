"""What a decision costs: python benchmarks/cost.py

From a measured row to the next decision of the shipped network (width 32, 4 blocks), against the
number of variables, and against the number of past rows. Medians of 15; writes
docs/images/cost.svg.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from acbo_fast import backend_maker
from acbo_ref.arena.play import batch_task
from acbo_ref.config import load_config
from acbo_ref.systems.prior import sample_scm

VARIABLES, ROWS, REPEATS = (5, 10, 20, 50, 100), (20, 200, 2_000, 20_000), 15
BACKENDS = ("ref", "numba", "jax")
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "cost.svg"


def milliseconds(backend: Any, num_variables: int, rows: int) -> tuple[float, float]:
    """Of opening a session, and of reading a row and deciding."""
    rng = np.random.default_rng(0)
    scm = sample_scm(backend.config.scm, "sparse", num_variables, rng)
    task = batch_task([scm], [scm.simulate(rng.standard_normal((rows, num_variables)))])
    state, lever = backend.init_state(), np.flatnonzero(scm.manipulable)[:1]
    opened, decided = [], []
    for n in range(REPEATS + 2):
        began = time.perf_counter()
        session = backend.session(state, task, 1)
        session.decide()
        middle = time.perf_counter()
        session.observe(lever, np.zeros((1, num_variables)))
        session.decide()
        if n > 1:  # compiled by then
            opened.append(middle - began)
            decided.append(time.perf_counter() - middle)
    return 1e3 * float(np.median(opened)), 1e3 * float(np.median(decided))


def main() -> None:
    backends = {name: backend_maker(name)(load_config("foundation")) for name in BACKENDS}
    tables: dict[str, dict[str, list[tuple[float, float]]]] = {"variables": {}, "rows": {}}
    for name, backend in backends.items():
        tables["variables"][name] = [milliseconds(backend, v, 20) for v in VARIABLES]
        tables["rows"][name] = [milliseconds(backend, 10, n) for n in ROWS]
    for title, values, of in (("variables, 20 rows", VARIABLES, "variables"), ("rows, 10 variables", ROWS, "rows")):
        print(f"\nmilliseconds to open, and to read a row and decide, against {title}\n")
        print("| backend | " + " | ".join(f"{v:,}" for v in values) + " |\n|" + " -- |" * (len(values) + 1))
        for name, cells in tables[of].items():
            print(f"| {name} | " + " | ".join(f"{a:.2f}, {b:.2f}" for a, b in cells) + " |")
    draw(tables)


def draw(tables: dict[str, dict[str, list[tuple[float, float]]]]) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "acbo"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
    for axis, values, of in zip(axes, (VARIABLES, ROWS), ("variables", "rows"), strict=True):
        for name, cells in tables[of].items():
            axis.loglog(values, [b for _, b in cells], marker="o", label=name)
        axis.set_xlabel("variables, at 20 rows" if of == "variables" else "past rows, at 10 variables")
        axis.set_xticks(values, [f"{v:,}" for v in values])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("ms to read a row and decide")
    axes[0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    main()
