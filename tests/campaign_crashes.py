"""Kill a campaign's process at random moments, between and inside its writes, and check that
nothing is lost: while it is begun, while experiments are asked for in batches, told, corrected,
abandoned and remarked on, while rows are imported, and while an export of it is read back.

    python tests/campaign_crashes.py KILLS

A process of its own (it forks), so that no other library's threads are around. Prints what it did;
exit code 1 on a difference.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from acbo_ref.backend import ReferenceBackend
from acbo_ref.campaign import facts, journal
from acbo_ref.campaign.bounds import Caution
from acbo_ref.campaign.campaign import Campaign, load_campaign
from acbo_ref.campaign.facts import CampaignWarning
from acbo_ref.training.checkpoint import Checkpoint, save_checkpoint
from acbo_ref.verify.data import small_config

EXPERIMENTS = 6
VARIABLES = {"a": (0.0, 10.0), "b": (-1.0, 1.0), "c": None, "y": None}


class SlowFile(io.FileIO):
    """Writes a few bytes at a time, so that a kill can fall between them."""

    def write(self, data: Any) -> int:
        time.sleep(2e-4)
        return super().write(bytes(data[:9]))


def small_policy(path: Path, **changes: Any) -> Path:
    config = small_config(**changes)
    save_checkpoint(Checkpoint(config, ReferenceBackend(config).init_state(), 0), path, moments=False)
    return path


def create(folder: Path, policy: Path, **more: Any) -> Campaign:
    rows = np.random.default_rng(0).standard_normal((5, 4)) + np.array([5.0, 0.0, 0.0, 3.0])
    return Campaign.create(folder, VARIABLES, "y", observations=rows, policy=policy, **more)


def measured(variable: str, value: float) -> dict[str, float | None]:
    """The plant: what an experiment gives, the same whenever it is done."""
    return {"c": None if value > 5 else 0.3, "y": 2.0 - value + (variable == "a")}


def bounded(folder: Path, policy: Path) -> Campaign:
    """A campaign with bounds, a warning range and prices."""
    ranges, bounds = {"c": (None, 0.5)}, Caution(never_below=-60.0)
    return create(folder, policy, caution=bounds, warn_outside=ranges, costs={"a": 2.0}, by="Ada")


def experiment(folder: Path) -> None:
    """Go on to the last experiment, from wherever the journal stands: every other row is corrected
    and remarked on, every third proposal abandoned, two are always asked for at once, and then
    rows are imported and all is written to a table.
    """
    more = folder.parent / "more.csv"
    while True:
        campaign = load_campaign(folder)
        states = {line["id"]: line for line in campaign.history() if line["id"].startswith("e")}
        even = [line for id, line in states.items() if int(id[1:]) % 2 == 0 and line["measured"] is not None]
        told = sum(line["measured"] is not None for line in states.values())
        if any(line["state"] == "told" for line in even):
            campaign.correct(next(line["id"] for line in even if line["state"] == "told"), {"c": 0.7}, by="Ada")
        elif any(not line["notes"] for line in even):
            campaign.note(next(line["id"] for line in even if not line["notes"]), "c was read again")
        elif told < EXPERIMENTS:
            proposal = campaign.ask_batch(2)[0]
            if int(proposal.id[1:]) % 3 == 0:
                campaign.abandon(proposal.id)
            else:
                campaign.tell(proposal.id, measured(proposal.variable, proposal.value), yes=True)
        elif campaign.status()["interventions"] == EXPERIMENTS:
            campaign.import_rows(more, yes=True)
        else:
            folder.with_suffix(".csv").unlink(missing_ok=True)
            campaign.export_csv(folder.with_suffix(".csv"))
            return


def restoration(folder: Path, policy: Path, table: Path) -> None:
    """Begin a campaign without rows and make it whole from a table, from wherever it stands."""
    if not (folder / "journal.jsonl").exists():
        Campaign.create(folder, VARIABLES, "y", policy=policy, by="Bo")
    campaign = load_campaign(folder)
    if campaign.status()["observations"] == 0:
        campaign.import_rows(table)
    campaign.ask_batch(3)


def journal_of(folder: Path) -> bytes:
    path = folder / "journal.jsonl"
    return path.read_bytes() if path.exists() else b""


def killed(
    folder: Path, work: Callable[[], None], whole: bytes, typical: float, rng: np.random.Generator
) -> tuple[int, int]:
    """(kills, kills inside a write) until the work is done, whose journal is to be `whole`.

    A child lives at most 0.7 of the `typical` seconds, and a tenth longer after every kill that
    found no new line: one step alone may take longer than that, and would be begun for ever.

    Raises:
        SystemExit: it differs.
    """
    done = torn = lines = 0
    longest = 0.7 * typical
    while True:
        child = os.fork()
        if child == 0:
            journal.open = lambda path, mode, buffering: SlowFile(path, mode)
            work()
            os._exit(0)
        time.sleep(rng.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        before = journal_of(folder)
        if before[: before.rfind(b"\n") + 1] != whole[: before.rfind(b"\n") + 1]:
            sys.exit(f"{folder} differs from the uninterrupted campaign")
        if not os.WIFSIGNALED(status):
            break
        if before.count(b"\n") == lines:
            longest *= 1.1
        lines = before.count(b"\n")
        done += 1
        torn += bool(before) and not before.endswith(b"\n")
    if journal_of(folder) != whole:
        sys.exit(f"{folder} ended otherwise than the uninterrupted campaign")
    return done, torn


def main(kills: int) -> int:
    warnings.simplefilter("ignore", CampaignWarning)  # torn lines are what this is about
    facts.now = lambda: "2026-01-01T00:00:00+00:00"  # journals are compared byte by byte
    root = Path(tempfile.mkdtemp())
    policy = small_policy(root / "policy.npz")
    (root / "more.csv").write_text("y,intervention,a,b,c\n1.5,a,3.0,0.1,0.9\n2.5,,5.0,0.2,0.3\n0.5,a+b,4.0,0.9,0.1\n")

    def begun(folder: Path) -> None:
        if not (folder / "journal.jsonl").exists():
            bounded(folder, policy)
        experiment(folder)

    began = time.perf_counter()
    begun(root / "whole")
    typical, table = time.perf_counter() - began, root / "whole.csv"
    began = time.perf_counter()
    restoration(root / "again", policy, table)
    short = time.perf_counter() - began
    wholes = journal_of(root / "whole"), journal_of(root / "again")
    rng = np.random.default_rng(1)
    done = torn = campaigns = restored = 0
    while done < kills:
        folder = root / f"killed-{campaigns}"
        more = killed(folder, partial(begun, folder), wholes[0], typical, rng)
        copy = root / f"restored-{campaigns}"
        again = killed(copy, partial(restoration, copy, policy, table), wholes[1], short, rng)
        if folder.with_suffix(".csv").read_bytes() != table.read_bytes():
            sys.exit(f"{folder} was exported otherwise than the uninterrupted campaign")
        campaigns, done, torn, restored = (
            campaigns + 1,
            done + more[0] + again[0],
            torn + more[1] + again[1],
            restored + again[0],
        )
    print(
        f"{done} kills over {campaigns} campaigns, {restored} of them while a copy was begun and read back, {torn} inside a "
        "write: nothing lost, all ended identically"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
