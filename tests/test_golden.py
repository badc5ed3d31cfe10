"""The golden run: numbers and files of an earlier day still hold (tests/golden/record.py)."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pytest
from golden import record

from acbo_fast import available
from acbo_ref import AcboError, Trainer, load_checkpoint, upgrade_campaign

GOLDEN = json.loads((record.HERE / "golden.json").read_text())
# Other backends and other processors sum in another order; five iterations amplify that
# (acbo_ref/verify).
TOLERANCE = 1e-9


def assert_close(found, expected, where=""):
    """Same structure and words; numbers within TOLERANCE of their size, or of 0.01 where that is
    more.
    """
    if isinstance(expected, dict):
        assert set(found) == set(expected), where
        for key in expected:
            assert_close(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for n, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert_close(a, b, f"{where}[{n}]")
    elif isinstance(expected, float):
        assert abs(found - expected) <= TOLERANCE * max(abs(expected), 0.01), f"{where}: {found} for {expected}"
    else:
        assert found == expected, where


@pytest.mark.parametrize("backend", available())
def test_five_iterations(backend):
    found = record.iterations(backend)
    assert_close(found["records"], GOLDEN["iterations"]["records"])
    for name, (total, norm) in GOLDEN["iterations"]["parameters"].items():
        a, b = found["parameters"][name]
        assert abs(a - total) <= TOLERANCE * max(norm, 0.01) and abs(b - norm) <= TOLERANCE * max(norm, 0.01), name


@pytest.mark.parametrize("backend", available())
def test_decisions_of_ten_systems(backend):
    assert_close(record.decisions(backend), GOLDEN["decisions"])


def test_an_evaluation_scores_the_same_and_its_folder_is_readable(tmp_path):
    assert_close(record.evaluation(), GOLDEN["evaluation"])
    shutil.copytree(record.HERE / "evaluation", tmp_path / "evaluation")
    assert_close(record.evaluation(tmp_path / "evaluation"), GOLDEN["evaluation"])


def test_the_page_of_a_campaign_is_as_it_was():
    assert record.page_of_today() == (record.HERE / "page.html").read_text(), "python tests/golden/record.py"


def test_a_run_folder_of_then_goes_on(tmp_path):
    shutil.copytree(record.HERE / "run", tmp_path / "run")
    trainer = Trainer.resume(tmp_path / "run", overrides=["total_episodes=42"])
    assert trainer.iteration == record.ITERATIONS
    trainer.train()
    assert trainer.iteration == 7
    before, after = load_checkpoint(record.HERE / "run"), load_checkpoint(tmp_path / "run")
    assert all(np.isfinite(a).all() and a.shape == before.state.params[n].shape for n, a in after.state.params.items())


@pytest.mark.parametrize("run", ["run", "pairs_run", "local_run", "bends_run"])
def test_a_policy_of_an_architecture_that_is_gone_is_refused_with_a_hint(run):
    with pytest.raises(AcboError, match="this policy is of an architecture that is gone") as caught:
        load_checkpoint(record.HERE / "gone" / run)
    assert "acbo campaign upgrade" in caught.value.hint


@pytest.mark.parametrize("gone", ["campaign", "pairs_campaign", "edges_campaign", "local_campaign", "bends_campaign"])
def test_a_campaign_with_such_a_policy_goes_on_once_it_is_upgraded(tmp_path, gone):
    """What was measured and asked stays; the journal says which policy came after which."""
    path = tmp_path / "campaign"
    shutil.copytree(record.HERE / "gone" / gone, path)
    with pytest.raises(AcboError, match="architecture that is gone"):
        record.load_campaign(path)
    before = [json.loads(line)["entry"] for line in (path / "journal.jsonl").read_text().splitlines()]
    campaign = upgrade_campaign(path, record.HERE / "run")
    after = [json.loads(line)["entry"] for line in (path / "journal.jsonl").read_text().splitlines()]
    assert after[:-1] == before and after[-1]["kind"] == "upgraded"
    assert after[-1]["from"] == before[0]["policy_sha256"] != campaign.status()["policy_sha256"]
    status = record.load_campaign(path).status()
    assert (status["observations"], status["interventions"]) == (5, 3)
    proposal = campaign.ask()
    campaign.tell(proposal.id, {"dose": 2.0, "temp": 50.0, "yield": 3.0} | {proposal.variable: proposal.value})
    assert record.load_campaign(path).status()["interventions"] == 4
    with pytest.raises(AcboError, match="has this policy already"):
        upgrade_campaign(path, record.HERE / "run")


def test_a_campaign_of_then_goes_on(tmp_path):
    path = tmp_path / "campaign"
    shutil.copytree(record.HERE / "campaign", path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_close(record.campaign_numbers(path), GOLDEN["campaign"])
        campaign = record.load_campaign(path)
        proposal = campaign.ask()
        campaign.tell(proposal.id, {"dose": 2.0, "temp": 50.0, "yield": 3.0} | {proposal.variable: proposal.value})
        assert record.load_campaign(path).status()["interventions"] == 4
