"""A simulated reactor to practise on: a campaign of ten experiments, from past rows to a report.

    python examples/reactor.py [FOLDER [EXPERIMENTS]]

`reactor.csv` beside this file has twenty days on which nothing was set on purpose: temperature
[deg C], dose [kg], stirring [1/min], the quality of the feed, which can only be measured, and the
yield [%]. In truth the yield is best near 75 deg C, more dose helps less and less, and stirring
does nothing; the campaign never looks inside. Writes FOLDER, a campaign, and FOLDER/report.html.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import acbo

SEED = 0
VARIABLES = {"temp": (20.0, 110.0), "dose": (0.0, 6.0), "stir": (100.0, 600.0), "feed": None, "yield": None}


def expected_yield(temp: float, dose: float, feed: float) -> float:
    """The yield without its noise."""
    return 76.0 - ((temp - 75.0) / 5.0) ** 2 - 10.0 * float(np.exp(-dose / 1.5)) + 20.0 * (feed - 1.0)


def day(rng: np.random.Generator, **settings: float) -> dict[str, float]:
    """What is measured on one day on which these were set."""
    row = {
        "temp": rng.normal(64.0, 1.5),
        "dose": rng.normal(2.0, 0.2),
        "stir": rng.normal(300.0, 20.0),
        "feed": rng.normal(1.0, 0.05),
    } | settings
    row["yield"] = expected_yield(row["temp"], row["dose"], row["feed"]) + rng.normal(0.0, 0.7)
    return {name: round(float(value), 2) for name, value in row.items()}


def main(folder: Path, experiments: int) -> None:
    rng = np.random.default_rng(SEED)
    campaign = acbo.Campaign.create(
        folder,
        VARIABLES,
        target="yield",
        direction="maximize",
        observations=acbo.read_table(Path(__file__).with_name("reactor.csv")),
        budget=experiments,
    )
    for _ in range(experiments):
        proposal = campaign.ask()
        row = day(rng, **{proposal.variable: proposal.value})
        campaign.tell(proposal.id, row)
        expected = f"{proposal.predicted:5.1f} [{proposal.low:5.1f}, {proposal.high:5.1f}]"
        print(f"{proposal.id:>4}: {proposal.variable} = {proposal.value:6.2f}", end="   ")
        print(f"expected {expected}   measured {row['yield']:5.1f}")
    print(f"\n{campaign.recommend()}\n\nreport: {campaign.report()}")


if __name__ == "__main__":
    main(
        Path(sys.argv[1]) if len(sys.argv) > 1 else Path("reactor"),
        int(sys.argv[2]) if len(sys.argv) > 2 else 10,
    )
