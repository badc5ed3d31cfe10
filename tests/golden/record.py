"""The golden run: numbers and files that must not change unless a commit says why.

    python tests/golden/record.py             # write golden.json again, and say what changed
    python tests/golden/record.py --files     # the small files too, when a format changes

`config.yaml` is a small configuration with everything switched on. `golden.json` holds five
iterations of it and the decisions of ten systems, in float64. `run/`, `evaluation/` and `campaign/`
are files as users have them; they must stay readable, and runs and campaigns must go on from them.
They were written when the policy head began to score what the outcome head predicts. `gone/` holds
runs and campaigns of before: their policies read rows with evidence, or pairs without an edge head
(`pairs_`), without local evidence (`edges_`), without curvature (`local_`), or had a policy head
that read the evidence (`bends_`). The runs are refused, and the campaigns go on once they are
upgraded. `page.html` is the report of a campaign in which everything
occurs, compared byte by byte: its clock stands still, and its numbers are those that are printed,
which no rounding of the last bit changes.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from unittest import mock

import numpy as np

from acbo_fast import backend_maker
from acbo_ref import (
    Campaign,
    Caution,
    Trainer,
    evaluate,
    load_campaign,
    load_checkpoint,
    load_config,
    load_scm,
    save_scm,
)
from acbo_ref.arena.play import batch_task
from acbo_ref.campaign import facts
from acbo_ref.config import RenamedKeyWarning
from acbo_ref.randomness import Role, generator
from acbo_ref.systems.prior import sample_scm
from acbo_ref.training import checkpoint as checkpoint_files

HERE = Path(__file__).parent
ITERATIONS, STEPS = 5, 3
KINDS = {"policy": "policy_head", "surrogate": "outcome_head"}  # as they were called, and are
METHODS = ("policy", "regress", "paths", "oracle")


def config():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RenamedKeyWarning)  # its keys are those of an earlier day
        return load_config(HERE / "config.yaml", [f"total_episodes={6 * ITERATIONS}"])


def numbers_of(params):
    """Sum and Euclidean norm of every parameter."""
    return {name: [float(value.sum()), float(np.linalg.norm(value))] for name, value in params.items()}


def iterations(backend):
    """Loss and gradient norm of each iteration, and what the parameters are at the end."""
    trainer = Trainer(config(), backend_maker(backend)(config()))
    records = []
    trainer.train(records.append)
    params = trainer.backend.to_host(trainer.state).params
    kept = ("loss", "gradient_norm", "score", "outcome_loss", "entropy")
    return {"records": [{key: r[key] for key in kept} for r in records], "parameters": numbers_of(params)}


def decisions(backend):
    """Three decisions in each of ten systems, by each way to decide, from the stored checkpoint."""
    checkpoint = load_checkpoint(HERE / "run")
    made = backend_maker(backend)(checkpoint.config)
    systems = [load_scm(path) for path in sorted((HERE / "systems").glob("*.json"))]
    rngs = [generator(5, Role.VERIFY, i) for i in range(len(systems))]
    observations = [s.simulate(rng.standard_normal((5, s.noise_dim))) for s, rng in zip(systems, rngs, strict=True)]
    noise = [rng.standard_normal((STEPS, s.noise_dim)) for s, rng in zip(systems, rngs, strict=True)]
    task = batch_task(systems, observations)
    found = {}
    for kind, decision_by in KINDS.items():
        session = made.session(made.from_host(checkpoint.state), task, STEPS)
        found[kind] = []
        for k in range(STEPS):
            decision = session.decide(decision=decision_by)
            rows = np.zeros(task.valid.shape)
            for e, s in enumerate(systems):
                i, value = int(decision.variable[e]), float(decision.value[e])
                rows[e, : s.noise_dim] = s.simulate(noise[e][k : k + 1], i, value)[0]
            names = ("variable", "value", "outcome_mean", "outcome_error", "outcome_std")
            found[kind].append({name: np.asarray(getattr(decision, name)).tolist() for name in names})
            found[kind][-1]["parent_probability"] = np.asarray(decision.parent_probability).sum(axis=1).tolist()
            session.observe(decision.variable, rows)
    return found


def campaign_numbers(path):
    """What a campaign would propose and recommend now."""
    campaign = load_campaign(path)
    proposal, best = campaign.ask(), campaign.recommend()
    return {
        "proposal": [proposal.variable, proposal.value, proposal.predicted, proposal.low, proposal.high],
        "recommendation": [best.variable, best.value, best.predicted, best.low, best.high],
    }


def page(path):
    """The report of a campaign in the folder `path`: bounds, ranges, scales, everything that can
    become of an experiment, names to stumble over.
    """
    rng = generator(5, Role.VERIFY, 98)
    variables = {
        "temp [C]": (20.0, 80.0), "dose": (0.01, 10.0, "log"), "tablets": (1.0, 6.0, "int"),
        "the angle of the <second> valve & its flap": (0.0, 360.0, "periodic"), "pressure": None, "yield": None,
    }  # fmt: skip
    rows = rng.standard_normal((14, 6)) * [6, 0.8, 1, 60, 0.6, 2] + [50, 0, 3, 180, 5, 43]
    rows[:, 1] = np.exp(rows[:, 1])
    rows[3, 0] = np.nan
    still = mock.patch.object(facts, "now", lambda: "2026-01-02T03:04:05+00:00")
    # a campaign's copy of its policy names the versions of the day, and its hash seeds a batch
    then = mock.patch.object(checkpoint_files, "versions", lambda: {"acbo": "0", "python": "0", "numpy": "0"})
    with still, then, warnings.catch_warnings():
        warnings.simplefilter("ignore", facts.CampaignWarning)
        campaign = Campaign.create(
            path, variables, "yield", "maximize", rows, 12, HERE / "run", "Ada", {"dose": 2.0},
            Caution(never_below=30.0), {"pressure": (None, 8.0)},
        )  # fmt: skip
        for n in range(6):
            proposal = campaign.ask(by="Ada")
            if n == 3:
                campaign.abandon(proposal.id, "Bo")
                campaign.note(proposal.id, "no time")
                continue
            row = {"yield": 43 + 2 * rng.standard_normal(), "pressure": 9.25 if n == 1 else 5.5}
            campaign.tell(proposal.id, row, yes=True, by="Bo")
        campaign.correct("e3", {"yield": 47.0})
        campaign.tell_external({"temp": 70.0, "dose": 1.0}, {"yield": 49.5, "pressure": 6.0}, by="Ada")
        campaign.tell_external({"tablets": 5.0}, {"yield": 44.0, "pressure": -55.0}, yes=True)
        campaign.note("x2", '<script>alert("sensor off?")</script>', "Ada")
        campaign.ask_batch(2)
        return campaign.report().read_text()


def page_of_today():
    """The page, from a campaign that is gone afterwards; the page names its folder."""
    with tempfile.TemporaryDirectory() as folder:
        return page(Path(folder) / "plant")


def evaluation(output=None):
    """Scores of four methods on two suites of the stored checkpoint."""
    report = evaluate(
        HERE / "run", suites=["seed", "cold"], methods=METHODS, interventions=3, quick=True, output=output
    )
    return {s["name"]: {m: v["score"] for m, v in s["methods"].items()} for s in report["suites"]}


def write_files():
    for name in ("run", "evaluation", "campaign", "systems"):
        shutil.rmtree(HERE / name, ignore_errors=True)
    trainer = Trainer(config(), output=HERE / "run")
    trainer.train()
    rng = generator(5, Role.SUITE_SYSTEMS)
    for n in range(10):
        kind = ("chain", "fork", "erdos_renyi", "tree", "layered")[n % 5]
        save_scm(sample_scm(config().scm, kind, 3 + n % 4, rng, f"{kind}-{n}"), HERE / "systems" / f"{n}.json")
    evaluation(HERE / "evaluation")
    rows = generator(5, Role.VERIFY, 99).standard_normal((5, 3))
    variables = {"dose": (0.0, 5.0), "temp": (20.0, 80.0), "yield": None}
    rows = [[2.5 + a, 50 + 10 * b, a + b + c] for a, b, c in rows.tolist()]
    campaign = Campaign.create(HERE / "campaign", variables, "yield", "maximize", rows, policy=HERE / "run")
    for outcome in (1.5, 2.5):
        proposal = campaign.ask()
        campaign.tell(proposal.id, {"dose": 2.0, "temp": 55.0, "yield": outcome} | {proposal.variable: proposal.value})
    campaign.tell_external({"dose": 1.0}, [1.0, 48.0, 0.3])


def record():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if "--files" in sys.argv:
            write_files()
        shutil.copytree(HERE / "campaign", HERE / "copy")
        try:
            golden = {
                "iterations": iterations("ref"),
                "decisions": decisions("ref"),
                "evaluation": evaluation(),
                "campaign": campaign_numbers(HERE / "copy"),
            }
        finally:
            shutil.rmtree(HERE / "copy")
        shown = page_of_today()
    before = (HERE / "page.html").read_text() if (HERE / "page.html").exists() else ""
    (HERE / "page.html").write_text(shown)
    print("page.html:", "as before" if shown == before else "changed")
    path = HERE / "golden.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(golden, indent=1) + "\n")
    print("changed:", ", ".join(key for key in golden if golden[key] != before.get(key)) or "nothing")


if __name__ == "__main__":
    record()
