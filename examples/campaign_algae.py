"""A campaign from a CSV file to a recommendation, on the network of a real dataset.

    python examples/campaign_algae.py [FOLDER]

The plant is a Bayesian network fitted to measurements of algal blooms (bnRep `algal2`, see
acbo_ref/arena/networks/ATTRIBUTION.md); chlorophyll a (`ChiA`) is to be kept low. It stands in for
the laboratory: the campaign never looks inside. Writes FOLDER/observations.csv, FOLDER/campaign/
and FOLDER/campaign/report.html.
"""

from __future__ import annotations

import csv
import sys
from importlib import resources
from pathlib import Path

import numpy as np

import acbo

SEED, OBSERVATIONS, BUDGET = 0, 20, 12


def main(folder: Path) -> None:
    with resources.as_file(resources.files("acbo_ref") / "arena" / "networks" / "bnrep_algal2--ChiA.json") as path:
        plant = acbo.load_scm(path)
    rng = np.random.default_rng(SEED)

    # What a practitioner starts from: a table of past measurements, nothing set.
    folder.mkdir(parents=True, exist_ok=True)
    past = plant.simulate(rng.standard_normal((OBSERVATIONS, plant.noise_dim)))
    with (folder / "observations.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(plant.names)
        writer.writerows(np.round(past, 4).tolist())

    domains = {
        name: (float(plant.low[i]), float(plant.high[i])) if plant.manipulable[i] else None
        for i, name in enumerate(plant.names)
    }
    campaign = acbo.Campaign.create(
        folder / "campaign",
        domains,
        "ChiA",
        observations=acbo.read_table(folder / "observations.csv"),
        budget=BUDGET,
    )
    for _ in range(BUDGET):
        proposal = campaign.ask()
        index = plant.names.index(proposal.variable)
        row = plant.simulate(rng.standard_normal((1, plant.noise_dim)), index, proposal.value)[0]
        campaign.tell(proposal.id, dict(zip(plant.names, row, strict=True)))
        print(
            f"{proposal.id:>3}  {proposal.variable:>9} = {proposal.value:8.2f}   expected {proposal.predicted:7.2f} "
            f"[{proposal.low:7.2f}, {proposal.high:7.2f}]   measured {row[plant.target_index]:7.2f}"
        )
    best = campaign.recommend()
    print(
        f"\nrecommended: {best.variable} = {best.value:.2f}, expected {best.predicted:.2f} [{best.low:.2f}, {best.high:.2f}]"
    )
    print(f"better than doing nothing ({best.baseline:.2f}) by {best.improvement:.2f} ", end="")
    print(f"[{best.improvement_low:.2f}, {best.improvement_high:.2f}]: {best.verdict}")

    truth = plant.expected_target(np.array([plant.names.index(best.variable)]), np.array([best.value]))[0]
    oracle = plant.oracle
    print(f"\nwhat the laboratory would not know: its true expectation is {truth:.2f};", end=" ")
    print(f"the best there is, {plant.names[oracle.variable]} = {oracle.value:.2f}, gives {oracle.expected:.2f}")
    print(f"report: {campaign.report()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("algae"))
