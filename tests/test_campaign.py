"""Campaigns: the journal, every rule, and that nothing a person measured is ever lost."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
from acbo_cli.main import run
from campaign_crashes import VARIABLES, create, measured, small_policy

from acbo_ref.campaign.calibration import COVERAGE, calibrate
from acbo_ref.campaign.campaign import Campaign, load_campaign
from acbo_ref.campaign.facts import CampaignWarning
from acbo_ref.campaign.rules import domain_from_data
from acbo_ref.errors import AcboError
from acbo_ref.training.checkpoint import load_checkpoint
from acbo_ref.verify.data import ROWS


def policy_file(campaign):
    (path,) = campaign.path.glob("policy-*.npz")
    return path


def journal_bytes(campaign):
    return (campaign.path / "journal.jsonl").read_bytes()


def test_ask_and_tell(campaign):
    for n in range(4):
        proposal = campaign.ask()
        assert proposal == campaign.ask()  # pending until told
        assert proposal.id == f"e{n + 1}" and proposal.variable in ("a", "b")
        low, high = VARIABLES[proposal.variable]
        assert low <= proposal.value <= high
        assert proposal.low < proposal.predicted < proposal.high and 0 <= proposal.parent_probability <= 1
        assert proposal.reason and "\n" not in proposal.reason
        campaign.tell(proposal.id, measured(proposal.variable, proposal.value))
    assert campaign.status()["interventions"] == 4 and campaign.status()["pending"] == []
    assert [h["measured"] is not None for h in campaign.history()] == [True] * 4


def test_reloading_gives_the_same_next_proposal(campaign):
    proposal = campaign.ask()
    campaign.tell(proposal.id, measured(proposal.variable, proposal.value))
    again = load_campaign(campaign.path)
    assert again.recommend() == campaign.recommend() and again.beliefs() == campaign.beliefs()
    assert again.ask() == campaign.ask()


def test_another_is_about_another_variable(campaign):
    first, second = campaign.ask(), campaign.ask(another=True)
    assert {first.variable, second.variable} == {"a", "b"}
    assert campaign.ask() == first
    with pytest.raises(AcboError, match="every variable"):
        campaign.ask(another=True)
    campaign.tell(second.id, measured(second.variable, second.value))  # in any order
    assert campaign.ask() == first


def test_the_users_units_do_not_matter(tmp_path, policy):
    """The same system in other units: the same experiments, and predictions in those units."""
    rows = np.random.default_rng(0).standard_normal((5, 3))
    plain = Campaign.create(
        tmp_path / "1", {"a": (-2, 2), "b": (-1, 3), "y": None}, "y", observations=rows, policy=policy
    )
    scale, shift = np.array([100.0, 1e-3, 50.0]), np.array([7.0, -2.0, 1000.0])
    domains = {"a": (-193.0, 207.0), "b": (-2.001, -1.997), "y": None}
    other = Campaign.create(tmp_path / "2", domains, "y", observations=rows * scale + shift, policy=policy)
    for n in range(3):
        p, q = plain.ask(), other.ask()
        assert p.variable == q.variable
        i = list(domains).index(p.variable)
        assert q.value == pytest.approx(p.value * scale[i] + shift[i], rel=1e-9)
        for name in ("predicted", "low", "high"):
            assert getattr(q, name) == pytest.approx(getattr(p, name) * 50 + 1000, rel=1e-9)
        row = np.random.default_rng(n).standard_normal(3)
        row[i] = p.value
        plain.tell(p.id, row)
        other.tell(q.id, row * scale + shift)


def test_maximising_is_minimising_the_negative(tmp_path, policy):
    rows = np.random.default_rng(0).standard_normal((5, 3))
    domains = {"a": (-2, 2), "b": (-1, 3), "y": None}
    down = Campaign.create(tmp_path / "1", domains, "y", observations=rows, policy=policy)
    up = Campaign.create(tmp_path / "2", domains, "y", "maximize", observations=rows * [1, 1, -1], policy=policy)
    p, q = down.ask(), up.ask()
    assert (p.variable, p.value) == (q.variable, q.value)
    assert q.predicted == pytest.approx(-p.predicted) and (q.low, q.high) == pytest.approx((-p.high, -p.low))
    r, s = down.recommend(), up.recommend()
    assert s.improvement == pytest.approx(r.improvement) and s.verdict == r.verdict


def test_column_order_does_not_matter_and_rows_may_be_incomplete(campaign):
    proposal = campaign.ask()
    campaign.tell(proposal.id, dict(reversed(measured(proposal.variable, proposal.value).items())))
    kept = json.loads(journal_bytes(campaign).splitlines()[-1])["entry"]["row"]
    names = list(VARIABLES)
    assert kept[names.index(proposal.variable)] == proposal.value  # set, so known
    other = "b" if proposal.variable == "a" else "a"
    assert kept[names.index(other)] is None  # stays missing in the journal
    assert math.isfinite(campaign.ask().predicted)


REJECTED = [
    ({"y": None, "c": 1.0}, "target 'y' is missing"),
    ({"c": 1.0}, "target 'y' is missing"),
    ({"y": math.inf}, "infinite"),
    ({"y": "three"}, "not a number"),
    ({"y": "1,5"}, "decimal comma"),
    ({"y": 1.0, "d": 2.0}, "'d'"),
    ([1.0, 2.0], "2 values"),
    ({"y": 1.0, "a": 99.0, "b": 99.0}, "was to be set to"),
]


@pytest.mark.parametrize(("row", "words"), REJECTED)
def test_a_rejected_row_leaves_everything_as_it_was(campaign, row, words):
    proposal = campaign.ask()
    before = journal_bytes(campaign)
    with pytest.raises(AcboError, match=words):
        campaign.tell(proposal.id, row)
    assert journal_bytes(campaign) == before and campaign.ask() == proposal


def test_ids(campaign):
    proposal = campaign.ask()
    with pytest.raises(AcboError, match="no proposal 'e9'") as error:
        campaign.tell("e9", {"y": 1.0})
    assert "e1" in error.value.hint
    campaign.tell(proposal.id, {"y": 1.0})
    with pytest.raises(AcboError, match="told already"):
        campaign.tell(proposal.id, {"y": 1.0})


def test_a_set_point_may_be_measured_a_little_off(campaign):
    proposal = campaign.ask()
    low, high = VARIABLES[proposal.variable]
    inward = -0.04 if proposal.value > (low + high) / 2 else 0.04
    campaign.tell(proposal.id, {"y": 1.0, proposal.variable: proposal.value + inward * (high - low)})
    assert campaign.status()["interventions"] == 1


def test_external_experiments(campaign):
    before = campaign.ask()
    campaign.tell_external({"a": 7.0}, {"y": -4.0, "b": 0.1, "c": 0.0})
    campaign.tell_external({}, {"a": 5.0, "b": 0.0, "c": 0.2, "y": 3.1})
    status = campaign.status()
    assert status["interventions"] == 1 and status["observations"] == 6
    assert campaign.ask() == before  # the pending one stays
    for do, words in (
        ({"a": 11.0}, "outside its domain"),
        ({"a": 1.0, "b": 99.0}, "outside its domain"),
        ({"c": 1.0}, "cannot be set"),
        ({"q": 1.0}, "no variable named 'q'"),
        ({"a": "x"}, "not a number"),
    ):
        kept = journal_bytes(campaign)
        with pytest.raises(AcboError, match=words):
            campaign.tell_external(do, {"y": 1.0})
        assert journal_bytes(campaign) == kept


def test_experiments_that_set_several_variables_are_evidence(campaign, tmp_path):
    """By Python and by a file; they change what is believed, and are told from single ones."""
    before = campaign.recommend()
    campaign.tell_external({"a": 7.0, "b": 0.4}, {"y": -4.0, "c": 0.0})
    file = tmp_path / "more.csv"
    file.write_text("y,intervention,a,b,c\n-4.1,a+b,7.5,0.3,0.1\n-3.9, a + b ,6.5,0.5,-0.1\n")
    assert campaign.import_rows(file) == 2
    both = campaign.recommend()
    assert campaign.status()["interventions"] == 3 and both != before
    assert load_campaign(campaign.path).recommend() == both
    one = create(tmp_path / "one", campaign.path / policy_file(campaign).name)
    one.tell_external({"a": 7.0}, {"y": -4.0, "b": 0.4, "c": 0.0})
    one.tell_external({"a": 7.5}, {"y": -4.1, "b": 0.3, "c": 0.1})
    one.tell_external({"a": 6.5}, {"y": -3.9, "b": 0.5, "c": -0.1})
    assert one.recommend() != both
    file.write_text("y,intervention,a,b,c\n-4.1,a+q,7.5,0.3,0.1\n")
    with pytest.raises(AcboError, match="no variable named 'q'"):
        campaign.import_rows(file)


def test_importing_is_all_or_nothing(campaign, tmp_path):
    file = tmp_path / "more.csv"
    file.write_text("y,intervention,a,b,c\n1.5,a,3.0,0.1,\n2.5,,5.0,0.2,0.3\n0.5,b,4.0,0.9,0.1\n")
    assert campaign.import_rows(file) == 3
    assert campaign.status()["interventions"] == 2 and campaign.status()["observations"] == 6
    before = journal_bytes(campaign)
    for line, words in (
        ("1.5,a,30.0,0.1,", "line 3.*outside"),
        (",a,3.0,0.1,", "line 3.*missing"),
        ("1.5,q,3.0,0.1,", "line 3.*'q'"),
        ("1.5,y,3.0,0.1,", "line 3.*cannot be set"),
        ("1.5,a,,0.1,", "line 3.*set to is missing"),
    ):
        file.write_text(f"y,intervention,a,b,c\n1.5,a,3.0,0.1,\n{line}\n")
        with pytest.raises(AcboError, match=words):
            campaign.import_rows(file)
        assert journal_bytes(campaign) == before


def test_columns_that_import_does_not_know_are_refused(campaign, tmp_path):
    """A mistyped `Intervention` must not turn experiments into observations."""
    file = tmp_path / "more.csv"
    file.write_text("y,Intervention,a,b,c\n1.5,a,3.0,0.1,\n")
    with pytest.raises(AcboError, match="'Intervention'") as error:
        campaign.import_rows(file)
    assert "did you mean 'intervention'" in error.value.hint


@pytest.mark.filterwarnings("ignore::acbo_ref.campaign.facts.CampaignWarning")
@pytest.mark.parametrize("known", [0, 1])
def test_without_observations_it_learns_from_the_experiments(tmp_path, policy, known):
    """A target around 1000: predictions must come to lie there, and missing values in the middle of
    their domain.
    """
    domains = {"a": (960.0, 1040.0), "b": (0.0, 1.0), "y": None}
    campaign = Campaign.create(tmp_path / "c", domains, "y", observations=[[1000, 0.5, 1010]] * known, policy=policy)
    rng = np.random.default_rng(0)
    for _ in range(6):
        p = campaign.ask()
        campaign.tell(p.id, {"y": 1000 + 50 * rng.standard_normal()})
    assert 850 < campaign.ask().predicted < 1150
    view = campaign._session(campaign._read())._session._view
    assert np.isfinite(view.channels).all() and np.abs(view.channels).max() < 30


def test_numbers_too_far_apart_are_an_error_and_not_a_crash(campaign, capsys):
    campaign.tell_external({"a": 1.0}, {"y": 1e99, "b": 0.0, "c": 0.0})
    campaign.tell_external({"a": 2.0}, {"y": -1e99, "b": 0.0, "c": -1e99})
    assert run(["campaign", "ask", str(campaign.path)]) in (0, 2)
    assert "internal error" not in capsys.readouterr().err
    assert run(["campaign", "recommend", str(campaign.path), "--format", "json"]) in (0, 2)
    assert "internal error" not in capsys.readouterr().err


def test_a_policy_beside_the_campaign_is_left_alone(tmp_path, policy):
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / "policy.npz").write_bytes(policy.read_bytes())
    before = (folder / "policy.npz").read_bytes()
    Campaign.create(folder, VARIABLES, "y", observations=np.eye(4), policy=folder / "policy.npz")
    assert (folder / "policy.npz").read_bytes() == before


def test_many_rows_are_all_read_as_moments(tmp_path, policy):
    """Fifty thousand: without a warning, and the last one counts."""
    rows = np.random.default_rng(0).standard_normal((50_000, 4))
    asked = []
    for last in (0.0, 1000.0):
        rows[-1] = last
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            campaign = Campaign.create(tmp_path / f"c{last}", VARIABLES, "y", observations=rows, policy=policy)
            asked.append(campaign.ask())
    assert math.isfinite(asked[0].predicted) and asked[0].predicted != asked[1].predicted


@pytest.fixture(scope="module")
def row_policy(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "policy.npz"
    return small_policy(path, policy=ROWS, grpo={"learned_decisions": None})


def test_many_rows_are_thinned_and_said_to_a_policy_that_reads_rows(tmp_path, row_policy):
    rows = np.random.default_rng(0).standard_normal((1000, 4))
    with pytest.warns(CampaignWarning, match="1000 past rows.*extrapolates"):
        campaign = Campaign.create(tmp_path / "c", VARIABLES, "y", observations=rows, policy=row_policy)
    with pytest.warns(CampaignWarning, match="reads 200 of the 1000"):
        assert math.isfinite(campaign.ask().predicted)


def test_many_experiments_are_read_from_the_latest_on_by_such_a_policy(tmp_path, row_policy, monkeypatch):
    campaign = create(tmp_path / "c", row_policy)
    monkeypatch.setattr("acbo_ref.campaign.predictions.INTERVENTIONS_READ", 2)
    for y in (100.0, 1.0, 2.0):
        campaign.tell_external({"a": 9.0}, {"y": y, "b": 0.0, "c": 0.0})
    latest = campaign.recommend()
    monkeypatch.undo()
    assert campaign.recommend() != latest and campaign.status()["interventions"] == 3


def test_the_budget(tmp_path, policy):
    campaign = Campaign.create(
        tmp_path / "c", VARIABLES, "y", observations=np.eye(4) * 2, budget=np.int64(2), policy=policy
    )
    for _ in range(2):
        campaign.tell(campaign.ask().id, {"y": 1.0})
    with pytest.raises(AcboError, match="budget of 2 experiments is spent"):
        campaign.ask()
    campaign.tell_external({"a": 1.0}, {"y": 0.0})  # still recorded
    assert campaign.recommend().variable in ("a", "b") and campaign.status()["remaining"] == 0


IMPOSSIBLE = [
    ({"variables": {"a": (0, 1), "y": None}, "target": "z"}, "'z' is no variable"),
    ({"variables": {"a": None, "y": None}, "target": "y"}, "no variable can be set"),
    ({"variables": {"a": (1, 0), "y": None}, "target": "y"}, "domain of 'a'"),
    ({"variables": {"a": (0, math.inf), "y": None}, "target": "y"}, "domain of 'a'"),
    ({"variables": {"a": (-1e308, 1e308), "y": None}, "target": "y"}, "domain of 'a'"),
    ({"variables": {"a": 3, "y": None}, "target": "y"}, "domain of 'a'"),
    ({"variables": {"a": "05", "y": None}, "target": "y"}, "domain of 'a'"),
    ({"variables": {"a": (0, 10**400), "y": None}, "target": "y"}, "domain of 'a'"),
    ({"variables": {"a": (0, 5e-324), "y": None}, "target": "y"}, "too narrow"),
    ({"variables": {1: (0, 1), "y": None}, "target": "y"}, "1 is not a name"),
    ({"variables": {"intervention": (0, 1), "y": None}, "target": "y"}, "'intervention'"),
    ({"variables": {"a": (0, 1), "y": None}, "target": "y", "budget": 2.5}, "budget"),
    ({"variables": {"a": (0, 1), "y": (0, 1)}, "target": "y"}, "target 'y' cannot be set"),
    ({"variables": {"a": (0, 1), "y": None}, "target": "y", "direction": "up"}, "direction 'up'"),
    ({"variables": {"a": (0, 1), "y": None}, "target": "y", "budget": 0}, "budget"),
    ({"variables": {"a": (0, 1), "y": None}, "target": "y", "observations": [[1, 2, 3]]}, "3 values"),
    ({"variables": {"a": (0, 1), "y": None}, "target": "y", "observations": [[1, None]]}, "target 'y' is missing"),
    ({"variables": {"a": (0, 1), "y": None}, "target": "y", "observations": [[None, 1]]}, "'a' is missing in every"),
]


@pytest.mark.filterwarnings("ignore::acbo_ref.campaign.facts.CampaignWarning")
@pytest.mark.parametrize(("given", "words"), IMPOSSIBLE)
def test_impossible_campaigns_are_refused_and_leave_nothing(tmp_path, policy, given, words):
    with pytest.raises(AcboError, match=words):
        Campaign.create(tmp_path / "c", **given, policy=policy)
    assert not (tmp_path / "c").exists()


def test_a_folder_holds_one_campaign(campaign, policy):
    before = journal_bytes(campaign)
    with pytest.raises(AcboError, match="holds a campaign already"):
        create(campaign.path, policy)
    assert journal_bytes(campaign) == before


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[1, 2, 3.0], [2, 3, 4]], "2 past rows"),
        (None, "0 past rows"),
        ([[1, 2, 3.0], [1, 3, 4], [1, 5, 4]], "'a' never varies"),
        ([[1, 1, 3.0], [2, 2, 4], [3, 3, 4]], "'a' and 'b' are equal"),
    ],
)
def test_what_is_odd_works_and_is_said(tmp_path, policy, rows, words):
    with pytest.warns(CampaignWarning, match=words):
        campaign = Campaign.create(
            tmp_path / "c", {"a": (0, 5), "b": (0, 5), "y": None}, "y", observations=rows, policy=policy
        )
    assert math.isfinite(campaign.ask().predicted)
    assert campaign.recommend().verdict


@pytest.mark.filterwarnings("ignore::acbo_ref.campaign.facts.CampaignWarning")
def test_more_variables_than_in_training(tmp_path, policy):
    variables = {f"x{i}": (0, 1) for i in range(30)} | {"y": None}
    with pytest.warns(CampaignWarning, match="31 variables.*extrapolates"):
        campaign = Campaign.create(tmp_path / "c", variables, "y", observations=np.random.rand(4, 31), policy=policy)
    campaign.tell(campaign.ask().id, {"y": 0.0})
    assert math.isfinite(campaign.ask().predicted)


def test_domains_from_data():
    values = np.append(np.arange(101.0), np.nan)
    assert domain_from_data(values, "a") == (1.0, 99.0)
    with pytest.raises(AcboError, match="does not vary"):
        domain_from_data(np.array([2.0, 2.0]), "a")


def test_another_policy_is_noticed(campaign, tmp_path):
    other = small_policy(tmp_path / "other.npz")
    checkpoint = load_checkpoint(other)
    checkpoint.state.params["embed.bias"] += 1.0
    from acbo_ref.training.checkpoint import save_checkpoint

    save_checkpoint(checkpoint, policy_file(campaign), moments=False)
    with pytest.raises(AcboError, match=r"its hash is .*the journal says"):
        load_campaign(campaign.path)


def test_calibration_makes_the_intervals_right_on_its_own_systems(policy):
    """By construction 90 % of what was simulated lies within; an untrained policy is far off
    without.
    """
    outcome, expectation = calibrate(load_checkpoint(policy))
    assert calibrate(load_checkpoint(policy)) == (outcome, expectation)
    assert outcome > 0 and expectation > 0 and COVERAGE == 0.9


@pytest.mark.filterwarnings("ignore:no experiment")
def test_no_improvement_is_said(tmp_path, policy):
    """The target is pure noise: nothing helps, and the recommendation must say so nearly always."""
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        campaign = Campaign.create(
            tmp_path / str(seed), VARIABLES, "y", observations=rng.standard_normal((5, 4)), policy=policy
        )
        for _ in range(6):
            p = campaign.ask()
            campaign.tell(p.id, {"y": rng.standard_normal(), "c": rng.standard_normal()})
        found.append(not campaign.recommend().verdict.startswith("improvement likely"))
    assert sum(found) >= 7


def test_warnings_are_the_campaigns_own():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert issubclass(CampaignWarning, UserWarning)
