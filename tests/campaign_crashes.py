"""Kill a campaign's process at random moments, between and inside its writes, and check that
nothing is lost.

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
from pathlib import Path
from typing import Any

import numpy as np

from acbo_ref.backend import ReferenceBackend
from acbo_ref.campaign import facts, journal
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


def create(folder: Path, policy: Path) -> Campaign:
    rows = np.random.default_rng(0).standard_normal((5, 4)) + np.array([5.0, 0.0, 0.0, 3.0])
    return Campaign.create(folder, VARIABLES, "y", observations=rows, policy=policy)


def measured(variable: str, value: float) -> dict[str, float | None]:
    """The plant: what an experiment gives, the same whenever it is done."""
    return {"c": None if value > 5 else 0.3, "y": 2.0 - value + (variable == "a")}


def experiment(folder: Path) -> None:
    """Go on to the last experiment, from wherever the journal stands: every other row is corrected
    and remarked on, every third proposal abandoned, and two are always asked for at once.
    """
    while True:
        campaign = load_campaign(folder)
        states = {line["id"]: line for line in campaign.history()}
        even = [line for id, line in states.items() if int(id[1:]) % 2 == 0 and line["measured"] is not None]
        if any(line["state"] == "told" for line in even):
            campaign.correct(next(line["id"] for line in even if line["state"] == "told"), {"c": 0.7}, by="Ada")
        elif any(not line["notes"] for line in even):
            campaign.note(next(line["id"] for line in even if not line["notes"]), "c was read again")
        elif campaign.status()["interventions"] == EXPERIMENTS:
            return
        else:
            proposal = campaign.ask_batch(2)[0]
            if int(proposal.id[1:]) % 3 == 0:
                campaign.abandon(proposal.id)
            else:
                campaign.tell(proposal.id, measured(proposal.variable, proposal.value))


def main(kills: int) -> int:
    warnings.simplefilter("ignore", CampaignWarning)  # torn lines are what this is about
    facts.now = lambda: "2026-01-01T00:00:00+00:00"  # journals are compared byte by byte
    root = Path(tempfile.mkdtemp())
    policy = small_policy(root / "policy.npz")
    create(root / "whole", policy)
    began = time.perf_counter()
    experiment(root / "whole")
    whole, typical = (root / "whole" / "journal.jsonl").read_bytes(), time.perf_counter() - began
    rng = np.random.default_rng(1)
    done = torn = campaigns = 0
    while done < kills:
        folder = root / f"killed-{campaigns}"
        create(folder, policy)
        campaigns += 1
        while True:
            child = os.fork()
            if child == 0:
                journal.open = lambda path, mode, buffering: SlowFile(path, mode)
                experiment(folder)
                os._exit(0)
            time.sleep(rng.uniform(0, 0.7 * typical))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            before = (folder / "journal.jsonl").read_bytes()
            if before[: before.rfind(b"\n") + 1] != whole[: before.rfind(b"\n") + 1]:
                print(f"{folder} differs from the uninterrupted campaign")
                return 1
            if not os.WIFSIGNALED(status):
                break
            done += 1
            torn += not before.endswith(b"\n")
        if (folder / "journal.jsonl").read_bytes() != whole:
            print(f"{folder} ended otherwise than the uninterrupted campaign")
            return 1
    print(f"{done} kills over {campaigns} campaigns, {torn} inside a write: nothing lost, all ended identically")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
