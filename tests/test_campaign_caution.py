"""Experiments within bounds: what must not be measured, and how far to go at once."""

from __future__ import annotations

import json

import numpy as np
import pytest
from acbo_cli.main import run
from campaign_crashes import VARIABLES, create, measured
from scipy import stats

from acbo_ref import Campaign
from acbo_ref.arena.suites import load_suite
from acbo_ref.campaign.bounds import Caution, checked_caution
from acbo_ref.errors import AcboError
from acbo_ref.training.checkpoint import load_checkpoint, shipped_policy


def chance_below(proposal, limit):
    """By the proposal's own interval of the outcome: 90 % lie within 1.645 standard deviations."""
    return stats.norm.cdf(limit, proposal.predicted, (proposal.high - proposal.low) / (2 * stats.norm.ppf(0.95)))


def test_bounds_that_bind_nothing_change_nothing(campaign, tmp_path, policy):
    assert create(tmp_path / "other", policy).ask(caution=Caution()) == campaign.ask()


@pytest.mark.filterwarnings("ignore:no experiment")
@pytest.mark.parametrize("risk", [0.02, 0.2])
def test_the_chance_of_passing_a_limit_is_at_most_the_risk(campaign, risk):
    free = campaign.predict("a", 10.0)
    middle = (free.measured_low + campaign.predict("a", 0.0).measured_low) / 2
    proposal = campaign.ask(caution=Caution(never_below=middle, risk=risk))
    assert chance_below(proposal, middle) <= risk + 1e-6
    assert f"is {chance_below(proposal, middle):.1%}" in proposal.reason


def test_a_limit_on_either_side_is_the_same_in_the_mirror(tmp_path, policy):
    rows = np.random.default_rng(0).standard_normal((12, 4)) + np.array([5.0, 0.0, 0.0, 3.0])
    down = Campaign.create(tmp_path / "1", VARIABLES, "y", "minimize", rows, policy=policy)
    up = Campaign.create(tmp_path / "2", VARIABLES, "y", "maximize", rows * [1, 1, 1, -1], policy=policy)
    a, b = down.ask(caution=Caution(never_below=1.0, risk=0.3)), up.ask(caution=Caution(never_above=-1.0, risk=0.3))
    assert (a.variable, a.value) == (b.variable, b.value) and a.predicted == pytest.approx(-b.predicted)


def test_a_step_is_counted_from_all_that_was_tried(campaign):
    rows = campaign._read().observations
    for _ in range(3):
        tried = {name: rows[:, i] for i, name in enumerate("ab")}
        proposal = campaign.ask(caution=Caution(step=0.1))
        low, high = VARIABLES[proposal.variable]
        reach = 0.1 * (high - low) + 1e-9
        assert tried[proposal.variable].min() - reach <= proposal.value <= tried[proposal.variable].max() + reach
        campaign.tell(proposal.id, measured(proposal.variable, proposal.value))
        rows = np.vstack([rows, campaign._read().interventions[-1][1]])
        rows = np.where(np.isnan(rows), np.nanmean(rows, axis=0), rows)


IMPOSSIBLE = [
    (Caution(never_below=1e6), r"the risk of a y below 1e.06 is more than 0.1; the safest is "),
    (Caution(never_below=2.0, never_above=1.0), "leaves nothing"),
    (Caution(risk=0.0), "risk of 0"),
    (Caution(risk=0.7), "risk of 0.7"),
    (Caution(step=0.0), "step of 0"),
    (Caution(step=1.5), "step of 1.5"),
    (Caution(never_below=float("nan")), "never-below is missing"),
    (Caution(never_above=float("inf")), "infinite"),
]


@pytest.mark.parametrize(("caution", "words"), IMPOSSIBLE)
def test_bounds_that_cannot_be_kept_are_an_error_and_nothing_is_asked(campaign, caution, words):
    with pytest.raises(AcboError, match=words):
        campaign.ask(caution=caution)
    assert campaign.history() == []


def test_a_step_that_reaches_no_domain_is_an_error(tmp_path, policy):
    rows = np.random.default_rng(0).standard_normal((5, 3)) + np.array([50.0, 0.0, 0.0])
    campaign = Campaign.create(
        tmp_path / "c", {"a": (0, 10), "c": None, "y": None}, "y", observations=rows, policy=policy
    )
    with pytest.raises(AcboError, match="near to what was tried"):
        campaign.ask(caution=Caution(step=0.2))
    assert checked_caution(Caution(step=1.0)).step == 1.0


def test_by_the_command_line(campaign, capsys):
    folder = str(campaign.path)
    assert run(["campaign", "ask", folder, "--never-below", "100000"]) == 2
    assert "the safest is" in capsys.readouterr().err and campaign.history() == []
    assert (
        run(["campaign", "ask", folder, "--step", "0.1", "--never-above", "50", "--risk", "0.2", "--format", "json"])
        == 0
    )
    assert "within the bounds" in json.loads(capsys.readouterr().out)["reason"]


@pytest.mark.filterwarnings("ignore::acbo_ref.campaign.facts.CampaignWarning")
def test_limits_are_kept_about_as_often_as_promised(tmp_path):
    """The shipped policy on ten systems that it has not seen, six experiments each. The limit is
    one standard deviation better than doing nothing, so that the best experiments are forbidden: at
    most one outcome in ten may pass it, which is 6 of 60; 14 would be three standard deviations
    more.
    """
    policy, passed, asked = load_checkpoint(shipped_policy()), 0, 0
    for n, system in enumerate(load_suite("complex", 77, quick=True).systems[:10]):
        rng = np.random.default_rng(n)
        names, target = system.names, system.target
        domains = {v.name: (v.low, v.high) if v.manipulable and v.name != target else None for v in system.variables}
        rows = system.simulate(rng.standard_normal((20, system.noise_dim)))
        limit = rows[:, names.index(target)].mean() - rows[:, names.index(target)].std()
        campaign = Campaign.create(tmp_path / str(n), domains, target, observations=rows, policy=shipped_policy())
        for _ in range(6):
            try:
                proposal = campaign.ask(caution=Caution(never_below=limit))
            except AcboError:
                break
            row = system.simulate(
                rng.standard_normal((1, system.noise_dim)), names.index(proposal.variable), proposal.value
            )
            campaign.tell(proposal.id, row[0], yes=True)
            passed += row[0, names.index(target)] < limit
            asked += 1
    assert policy.config.decision == "outcome_head" and asked >= 40 and passed <= 14, (passed, asked)
