"""Domains in the user's terms: on a logarithm, in steps, around a circle."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from acbo_cli.main import run
from hypothesis import given
from hypothesis import strategies as st

from acbo_ref.campaign.bounds import Caution
from acbo_ref.campaign.campaign import Campaign, load_campaign
from acbo_ref.campaign.facts import CampaignWarning
from acbo_ref.campaign.scales import PLAIN, Coordinates, Scale, scale_of
from acbo_ref.campaign.svg import log_ticks, setting
from acbo_ref.errors import AcboError


def test_kinds_are_read_and_given_back():
    for kinds in ([], ["log"], ["int"], ["step=2.5"], ["log", "int"], ["step=15", "periodic"]):
        assert scale_of(kinds, "x").kinds == kinds
    assert scale_of(["step=1"], "x") == scale_of(["int"], "x") == Scale(step=1.0)
    for kinds in (
        ["lin"],
        ["step"],
        ["step=0"],
        ["step=-1"],
        ["step=inf"],
        ["step=a"],
        ["int", "step=2"],
        [3],
        ["log", "periodic"],
    ):
        with pytest.raises(AcboError, match="domain of 'x' cannot be"):
            scale_of(kinds, "x")


@given(
    low=st.floats(-50, 50), width=st.floats(1.5, 400), share=st.floats(0, 1), seam=st.floats(0, 1),
    step=st.sampled_from([None, 1.0, 0.3]), kind=st.sampled_from(["plain", "log", "periodic"]),
)  # fmt: skip
def test_coordinates_lead_there_and_back(low, width, share, seam, step, kind):
    """What is allowed is found again, is inside the domain, and lies on a step."""
    low = abs(low) + 0.1 if kind == "log" else low
    high = low + width
    scale = Scale(kind == "log", step, kind == "periodic")
    coordinates = Coordinates([(low, high)], [scale], [low + seam * width])
    first, last = coordinates.domain(0)
    value = coordinates.outside(0, np.array([first + share * (last - first)]))
    assert low <= value[0] <= high
    if step is not None:
        count = (value[0] - low) / step
        assert count == pytest.approx(round(count), abs=1e-6)
    back = coordinates.inside(0, value)
    assert first - 1e-9 <= back[0] <= last + 1e-9
    again = coordinates.outside(0, back)[0]
    assert coordinates.distance(0, again, value[0]) < 1e-9
    assert coordinates.distance(0, value[0], value[0]) == 0
    grid = coordinates.grid(0, 41)
    assert len(grid) <= 41 and (np.diff(grid) > 0).all() and low <= grid[0] and grid[-1] <= high


def test_numbers_of_a_plain_domain_are_not_touched():
    coordinates, rows = Coordinates([(0.1, 0.7), None], [PLAIN, PLAIN], [0, 0]), np.random.default_rng(0).random((9, 2))
    assert (coordinates.rows(rows) == rows).all() and (coordinates.outside(0, rows[:, 0]) == rows[:, 0]).all()
    assert coordinates.domain(0) == (0.1, 0.7) and (coordinates.grid(0, 5) == np.linspace(0.1, 0.7, 5)).all()


ROWS = np.random.default_rng(0).standard_normal((6, 3)) * [1.0, 0.4, 1.0]


def test_a_logarithmic_domain_is_a_plain_one_of_logarithms(tmp_path, policy):
    logs = Campaign.create(
        tmp_path / "1", {"a": (-2, 2), "b": (-1, 1), "y": None}, "y", observations=ROWS, policy=policy
    )
    rows = np.column_stack([np.exp(ROWS[:, 0]), ROWS[:, 1:]])
    variables = {"a": (math.exp(-2), math.exp(2), "log"), "b": (-1, 1), "y": None}
    campaign = Campaign.create(tmp_path / "2", variables, "y", observations=rows, policy=policy)
    for n in range(4):
        p, q = campaign.ask(), logs.ask()
        assert p.variable == q.variable and (p.predicted, p.low, p.high) == pytest.approx((q.predicted, q.low, q.high))
        assert p.value == pytest.approx(math.exp(q.value) if q.variable == "a" else q.value)
        row = {"y": float(n) - 3}
        campaign.tell(p.id, row)
        logs.tell(q.id, row)
    campaign.tell_external({"a": 1.5}, {"y": 1.0})
    logs.tell_external({"a": math.log(1.5)}, {"y": 1.0})
    assert campaign.recommend().predicted == pytest.approx(logs.recommend().predicted)
    assert campaign.predict("a", 0.3).low == pytest.approx(logs.predict("a", math.log(0.3)).low)
    assert campaign.curve("a", 9).values == pytest.approx(np.exp(logs.curve("a", 9).values))
    assert campaign.suggest("a").predicted == pytest.approx(logs.suggest("a").predicted)
    p, q = campaign.ask(caution=Caution(step=0.05)), logs.ask(caution=Caution(step=0.05))
    assert p.variable == q.variable and p.predicted == pytest.approx(q.predicted)


def test_round_numbers_on_a_logarithmic_scale_stay_round():
    coordinates = Coordinates([(0.001, 8.0)], [Scale(is_log=True)], [0.0])
    ends = coordinates.outside(0, np.array(coordinates.domain(0)))
    assert ends.tolist() == [0.001, 8.0] == coordinates.grid(0, 41)[[0, -1]].tolist()


def stepped(folder, policy, **more):
    variables = {"a": (-3, 3, "int"), "b": (0.1, 10.3, "step=2.5"), "y": None}
    return Campaign.create(folder, variables, "y", observations=ROWS + np.array([0, 3, 0]), policy=policy, **more)


def test_what_is_proposed_is_allowed_and_predictions_are_of_that(tmp_path, policy):
    campaign = stepped(tmp_path / "c", policy)
    allowed = {"a": {-3, -2, -1, 0, 1, 2, 3}, "b": {0.1, 2.6, 5.1, 7.6, 10.1}}
    asked = [*campaign.ask_batch(12), load_campaign(campaign.path).recommend()]
    for proposal in asked:
        assert any(proposal.value == pytest.approx(value) for value in allowed[proposal.variable])
        assert proposal.predicted == pytest.approx(campaign.predict(proposal.variable, proposal.value).predicted)
    assert campaign.curve("b").values == pytest.approx([0.1, 2.6, 5.1, 7.6, 10.1])
    campaign.tell("e1", {"y": 1.0})
    for belief in campaign.beliefs():
        assert any(belief.value == pytest.approx(value) for value in allowed[belief.variable])
    for proposal in asked[:3]:
        if proposal.id != "e1":
            campaign.abandon(proposal.id)
    careful = stepped(tmp_path / "d", policy).ask(caution=Caution(step=0.3))
    assert any(careful.value == pytest.approx(value) for value in allowed[careful.variable])


def test_a_circle_has_no_ends(tmp_path, policy):
    rows = ROWS * [60, 1, 1] + [180, 0, 0]
    variables = {"angle": (0, 360, "periodic"), "b": (-1, 1), "y": None}
    campaign = Campaign.create(tmp_path / "c", variables, "y", observations=rows, policy=policy)
    turned = Campaign.create(tmp_path / "d", variables, "y", observations=rows + np.array([720, 0, 0]), policy=policy)
    one, other = campaign.ask(), turned.ask()
    assert one.variable == other.variable and (one.value, one.predicted) == pytest.approx(
        (other.value, other.predicted)
    )
    assert campaign.predict("angle", 370) == campaign.predict("angle", 10) == campaign.predict("angle", -350)
    campaign.tell_external({"angle": 355}, {"angle": 357, "y": -9.0})
    campaign.tell_external({"angle": 100}, {"angle": 100, "y": 9.0})
    assert campaign._read().coordinates.seams[0] == pytest.approx(357 + 180)
    before, after = campaign.predict("angle", 359.999), campaign.predict("angle", 0.001)
    assert before.predicted == pytest.approx(after.predicted, abs=1e-3)  # the seam is opposite
    with pytest.raises(AcboError, match="was to be set to"):
        campaign.tell_external({"angle": 5}, {"angle": 300, "y": 0.0})
    campaign.tell_external({"angle": 5}, {"angle": 354, "y": 0.0})  # 11 degrees off, across the end
    assert 0 <= campaign.recommend().value <= 360 and campaign.report().exists()


def test_a_set_point_is_as_far_off_as_its_scale_says(tmp_path, policy):
    variables = {"a": (0.001, 10.0, "log"), "b": (-1, 1), "y": None}
    campaign = Campaign.create(tmp_path / "c", variables, "y", observations=np.abs(ROWS), policy=policy)
    campaign.tell_external({"a": 0.01}, {"a": 0.012, "y": 1.0})
    for off in (0.4, 0.02):
        with pytest.raises(AcboError, match=r"was to be set to 0\.01"):
            campaign.tell_external({"a": 0.01}, {"a": off, "y": 1.0})
    for value in (0.0, -1.0):
        with pytest.raises(AcboError, match=r"its scale is log|was to be set to"):
            campaign.tell_external({"a": 0.01}, {"a": value, "y": 1.0})
        with pytest.raises(AcboError, match=r"'a' = .*its scale is log"):
            campaign.tell_external({"b": 0.5}, {"a": value, "y": 1.0})


IMPOSSIBLE = [
    ((0, 1, "log"), "begins at 0 and cannot be log"),
    ((-1, 1, "log"), "begins at -1"),
    ((0.5, 3, "int"), "cannot be int"),
    ((0, 1, "step=2"), "no two steps"),
    ((0, 1, "step=1e-12"), "told apart"),
    ((0, 1, "nonsense"), "cannot be 'nonsense'"),
    ((0,), r"is not \(low, high\)"),
    ((1, 0, "log"), "its low end|is 1 to 0"),
]


@pytest.mark.parametrize(("domain", "words"), IMPOSSIBLE)
def test_impossible_domains_are_refused(tmp_path, policy, domain, words):
    with pytest.raises(AcboError, match=words):
        Campaign.create(tmp_path / "c", {"a": domain, "y": None}, "y", policy=policy)
    assert not (tmp_path / "c").exists()


def test_past_rows_that_have_no_logarithm_are_refused(tmp_path, policy):
    with pytest.raises(AcboError, match="observation 2: 'a' = -1, and its scale is log"):
        rows = [[1, 1], [-1, 1.5], [1.5, 2]]
        Campaign.create(tmp_path / "c", {"a": (1, 2, "log"), "y": None}, "y", observations=rows, policy=policy)


def test_a_journal_says_its_scales_and_is_of_the_old_schema_without(tmp_path, policy, campaign):
    both = [campaign, stepped(tmp_path / "s", policy)]
    first = [json.loads((c.path / "journal.jsonl").read_text().splitlines()[0])["entry"] for c in both]
    assert first[0]["schema"] == 1 and "scales" not in first[0]
    assert first[1]["schema"] == 2 and first[1]["scales"] == {"a": ["int"], "b": ["step=2.5"]}


def test_by_the_command_line(tmp_path, policy, capsys):
    data = tmp_path / "obs.csv"
    data.write_text("dose,tablets,angle,y\n0.1,2,10,3.1\n1,3,200,2.2\n0.01,1,350,4.0\n2,4,90,1.9\n0.5,2,10,2.4\n")
    folder = str(tmp_path / "r")
    new = ["campaign", "new", folder, "--data", str(data), "--target", "y", "--minimize", "--policy", str(policy)]
    kinds = ["--domain", "dose=0.001:10:log", "--domain", "tablets=1:6:int", "--domain", "angle=0:360:step=15:periodic"]
    assert run([*new, *kinds]) == 0
    out = capsys.readouterr().out
    assert "0.001 to 10, log" in out and "1 to 6, int" in out and "0 to 360, step=15, periodic" in out
    for proposal in load_campaign(folder).ask_batch(4):
        load_campaign(folder).tell(proposal.id, {"y": 1.0})
    assert run(["campaign", "report", folder]) == 0
    page = (tmp_path / "r" / "report.html").read_text()
    assert all(f">{tick}</text>" in page for tick in ("0.001", "0.1", "10"))
    assert run(["campaign", "export", folder, str(tmp_path / "all.csv")]) == 0
    assert run(["campaign", "new", str(tmp_path / "again"), *new[3:], *kinds]) == 0
    campaign = load_campaign(tmp_path / "again")
    with pytest.warns(CampaignWarning, match="nobody asked for"):
        campaign.import_rows(tmp_path / "all.csv", yes=True)
    assert campaign.status()["interventions"] == 4
    assert (
        run(["campaign", "new", str(tmp_path / "q"), *new[3:], "--domain-from-data", "--domain", "dose=0.001:10:lgo"])
        == 2
    )
    assert "known: log, int, step=SIZE, periodic" in capsys.readouterr().err


def test_words_of_a_logarithmic_axis():
    assert [word for _, word in log_ticks((0.001, 10), 6)] == ["0.001", "0.01", "0.1", "1", "10"]
    assert [word for _, word in log_ticks((1.5, 12), 6)] == ["2", "5", "10"]
    assert [word for _, word in log_ticks((1e-12, 1e12), 6)][:2] == ["1e−12", "1e−8"]
    assert (
        setting(0.00312345, (0.001, 10), True) == "0.003123"
        and setting(53.461, (20, 80)) == "53.46"
        and setting(5.0, (0, 5)) == "5"
    )
