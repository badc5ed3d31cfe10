"""Experiments side by side, what they cost, and the best value of one variable."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from acbo_cli.main import run
from campaign_crashes import VARIABLES, create, measured

from acbo_ref.campaign.bounds import Caution
from acbo_ref.campaign.campaign import Campaign, load_campaign
from acbo_ref.campaign.facts import CampaignWarning
from acbo_ref.errors import AcboError
from acbo_ref.training.checkpoint import shipped_policy


def journal(campaign):
    return (campaign.path / "journal.jsonl").read_bytes()


def test_a_batch_of_one_is_the_next_experiment(campaign, tmp_path, policy):
    other = create(tmp_path / "other", policy)
    assert campaign.ask_batch(1) == [other.ask()]


def test_asking_again_repeats_the_batch_and_a_larger_one_goes_on(campaign, tmp_path, policy):
    first = campaign.ask_batch(3)
    assert [p.id for p in first] == ["e1", "e2", "e3"]
    kept = journal(campaign)
    assert campaign.ask_batch(3) == first == load_campaign(campaign.path).ask_batch(2) and journal(campaign) == kept
    whole = create(tmp_path / "whole", policy).ask_batch(5)
    assert campaign.ask_batch(5) == whole and whole[:3] == first
    campaign.tell("e2", measured(first[1].variable, first[1].value))
    assert [p.id for p in campaign.ask_batch(5)] == ["e1", "e3", "e4", "e5", "e6"]


def test_where_nothing_is_hoped_to_help_it_is_said(tmp_path):
    """y rises with x: once two experiments have shown it, a domain above what was seen can only do
    harm, and one below may help.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(0, 0.1, 12)
    begun = {"target": "y", "observations": np.column_stack([x, 5 * x + rng.normal(0, 0.1, 12)])}

    def asked_three_times(name, low, high, **more):
        campaign = Campaign.create(tmp_path / name, {"x": (low, high), "y": None}, **begun, **more)
        for _ in range(2):
            proposal = campaign.ask()
            campaign.tell(proposal.id, [proposal.value, 5 * proposal.value], yes=True)
        campaign.ask()

    with pytest.warns(CampaignWarning, match="no experiment is hoped to be better than doing nothing"):
        asked_three_times("harm", 2.0, 3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CampaignWarning)
        asked_three_times("help", -3.0, -2.0)
        asked_three_times("final", 2.0, 3.0, objective="final")


def test_several_may_be_about_one_variable(tmp_path, policy):
    """With one lever they must be; `--another` has nothing left to say then."""
    rows = np.random.default_rng(0).standard_normal((5, 2))
    campaign = Campaign.create(tmp_path / "c", {"x": (-1, 1), "y": None}, "y", observations=rows, policy=policy)
    assert {p.variable for p in campaign.ask_batch(3)} == {"x"}
    with pytest.raises(AcboError, match="has a pending proposal"):
        campaign.ask(another=True)


def test_a_batch_changes_nothing_that_is_believed(campaign):
    before = campaign.recommend(), campaign.beliefs()
    for proposal in campaign.ask_batch(4):
        said = campaign.predict(proposal.variable, proposal.value)
        assert (proposal.predicted, proposal.low, proposal.high) == pytest.approx(
            (said.predicted, said.measured_low, said.measured_high)
        )
    assert (campaign.recommend(), campaign.beliefs()) == before
    assert campaign.status()["interventions"] == 0 and len(campaign.status()["pending"]) == 4


def test_a_batch_gathers_where_no_doubt_is_left_and_spreads_where_there_is(campaign, monkeypatch):
    """Each action is drawn as often as it is the best in a draw of the variables' expectations."""
    facts = campaign._read()
    session = campaign._session(facts)
    first = campaign.ask()
    asked = campaign.ask_batch(40)[1:]
    grid = {name: np.linspace(*VARIABLES[name], 41) for name in "ab"}
    rng, wins = np.random.default_rng(0), 0
    said = {n: session.predict(np.full(41, facts.variables.index(n)), grid[n]) for n in "ab"}
    for _ in range(2000):
        lowest = {n: (mean + rng.standard_normal() * error).min() for n, (mean, error, _) in said.items()}
        wins += lowest["a"] < lowest["b"]
    share = wins / 2000
    assert abs(np.mean([p.variable == "a" for p in asked]) - share) < 3 * np.sqrt(share * (1 - share) / 39) + 1e-9
    assert 0.02 < share < 0.98 and "drawn from what may be best, beside e1, e2" in asked[1].reason
    assert first.id == "e1"


@pytest.mark.filterwarnings("ignore::acbo_ref.campaign.facts.CampaignWarning")
def test_a_batch_without_any_rows(tmp_path, policy):
    campaign = Campaign.create(tmp_path / "c", {"a": (0, 1), "b": (0, 1), "y": None}, "y", policy=policy)
    assert len(campaign.ask_batch(3)) == 3


def test_a_batch_stays_within_bounds(campaign):
    limit = campaign.predict("a", 5.0).measured_low
    for proposal in campaign.ask_batch(6, caution=Caution(never_below=limit, risk=0.2)):
        said = campaign.predict(proposal.variable, proposal.value)
        spread = (said.measured_high - said.measured_low) / 2 / 1.6449
        assert (said.predicted - limit) / spread > 0.84  # 20 % lie below the mean less .84 spreads


def test_a_batch_within_the_budget(tmp_path, policy):
    campaign = Campaign.create(tmp_path / "c", VARIABLES, "y", observations=np.eye(4) * 2, budget=3, policy=policy)
    before = journal(campaign)
    with pytest.raises(AcboError, match="leaves 3, and 4 more"):
        campaign.ask_batch(4)
    assert journal(campaign) == before
    assert len(campaign.ask_batch(3)) == 3 and campaign.status()["remaining"] == 0
    with pytest.raises(AcboError, match="is spent"):
        campaign.ask_batch(4)
    for count in (0, -1, 2.5, True, 101):
        with pytest.raises(AcboError, match="experiments is not possible"):
            campaign.ask_batch(count)


# --------------------------------------------------------------------------------------------- cost


def begun(folder, policy, **more):
    rows = np.random.default_rng(0).standard_normal((6, 4)) * [3, 0.6, 1, 1] + [5.0, 0.0, 0.0, 3.0]
    return Campaign.create(folder, VARIABLES, "y", observations=rows, policy=policy, **more)


def test_equal_costs_change_nothing(tmp_path, policy):
    given = [None, {"a": 1}, {"a": 3, "b": 3.0}]
    asked = [begun(tmp_path / str(n), policy, costs=costs).ask() for n, costs in enumerate(given)]
    assert asked[0] == asked[1] == asked[2]


def gains(campaign):
    """By variable, the most that is hoped for over what would be settled on."""
    facts = campaign._read()
    session = campaign._session(facts)
    settled = session.decide(decision="outcome_head", optimism=0.0).outcome_mean[0]
    found = {}
    for name in "ab":
        mean, error, _ = session.predict(np.full(41, facts.variables.index(name)), np.linspace(*VARIABLES[name], 41))
        found[name] = (settled - (mean - session.optimism * error)).max()
    return found


def test_the_most_gain_for_its_cost(tmp_path, policy):
    """The choice is the best gain over what would be settled on, divided by the cost."""
    free = begun(tmp_path / "free", policy)
    first, found = free.ask().variable, gains(free)
    other = "b" if first == "a" else "a"
    assert found[first] > found[other] > 0
    ratio = found[first] / found[other]
    for factor, chosen in ((0.9, first), (1.1, other)):
        campaign = begun(tmp_path / f"{factor}", policy, costs={first: ratio * factor})
        proposal = campaign.ask()
        assert proposal.variable == chosen and "for what it costs" in proposal.reason
        assert load_campaign(campaign.path).ask() == proposal


def test_where_there_is_no_gain_no_price_makes_one(tmp_path, policy):
    rows = np.random.default_rng(7).standard_normal((6, 4)) * [3, 0.6, 1, 1] + [5.0, 0.0, 0.0, 3.0]
    free = Campaign.create(tmp_path / "free", VARIABLES, "y", observations=rows, policy=policy)
    assert gains(free)["a"] < 0 < gains(free)["b"]
    for n, costs in enumerate(({"b": 1e6}, {"a": 1e-6}, {"a": 1e6})):
        campaign = Campaign.create(tmp_path / str(n), VARIABLES, "y", observations=rows, policy=policy, costs=costs)
        assert campaign.ask().variable == "b"


IMPOSSIBLE = [
    ({"c": 2}, "cannot be set"),
    ({"q": 2}, "no variable named 'q'"),
    ({"a": 0}, "cost of 0"),
    ({"a": -1}, "cost of -1"),
    ({"a": None}, "not possible"),
    ({"a": "much"}, "not a number"),
]


@pytest.mark.parametrize(("costs", "words"), IMPOSSIBLE)
def test_impossible_costs_are_refused(tmp_path, policy, costs, words):
    with pytest.raises(AcboError, match=words):
        begun(tmp_path / "c", policy, costs=costs)
    assert not (tmp_path / "c").exists()


# --------------------------------------------------------------------------------- the command line


def test_by_the_command_line(tmp_path, policy, capsys):
    data = tmp_path / "obs.csv"
    data.write_text("temp [C],dose,yield\n50,2.5,5.1\n52,2.7,5.4\n47,2.2,4.2\n55,2,5.9\n49,2.4,4.9\n")
    folder = str(tmp_path / "r")
    new = ["campaign", "new", folder, "--data", str(data), "--target", "yield", "--maximize", "--domain-from-data"]
    assert run([*new, "--policy", str(policy), "--cost", "temp=5"]) == 0
    out = capsys.readouterr().out
    assert "cost" in out and out.splitlines()[-3].split()[-1] == "5"
    assert run(["campaign", "status", folder, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["costs"] == {"temp [C]": 5.0, "dose": 1.0}
    assert run(["campaign", "ask", folder, "--batch", "3", "--format", "json"]) == 0
    assert [p["id"] for p in json.loads(capsys.readouterr().out)] == ["e1", "e2", "e3"]
    assert run(["campaign", "ask", folder, "--batch", "3"]) == 0
    assert capsys.readouterr().out.count("why: ") == 3
    assert run(["campaign", "ask", folder, "--batch", "3", "--another"]) == 2
    assert "exclude each other" in capsys.readouterr().err
    assert run(["campaign", "suggest", folder, "temp"]) == 0
    assert capsys.readouterr().out.startswith("temp [C] = ")
    assert run(["campaign", "suggest", folder, "tmp"]) == 2
    assert run(["campaign", "suggest", folder, "yield"]) == 2
    assert "cannot be set" in capsys.readouterr().err


def test_the_best_value_of_a_variable_is_what_is_believed_of_it(campaign):
    for belief in campaign.beliefs()[:2]:
        found = campaign.suggest(belief.variable)
        assert (found.variable, found.value, found.predicted, found.low, found.high) == pytest.approx(
            (belief.variable, belief.value, belief.predicted, belief.low, belief.high)
        )


@pytest.mark.skipif(not shipped_policy().exists(), reason="no policy ships yet")
def test_a_batch_of_the_policy_that_ships_looks_at_more_than_one_thing(tmp_path):
    """With little known, so that repeating one experiment would teach less."""
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((6, 5))
    variables = dict.fromkeys("abcd", (-2.0, 2.0)) | {"y": None}
    campaign = Campaign.create(tmp_path / "c", variables, "y", observations=rows)
    assert len({(p.variable, p.value) for p in campaign.ask_batch(6)}) >= 2


def test_bounds_do_not_change_what_is_pending_and_it_is_said(campaign):
    first = campaign.ask()
    with pytest.warns(CampaignWarning, match="e1 was proposed before, whatever the bounds"):
        assert campaign.ask(caution=Caution(step=0.1)) == first
