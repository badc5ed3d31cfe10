"""What is said of a setting beyond everything measured of its lever."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from acbo_cli.main import run

from acbo_ref import Campaign, Caution, load_campaign
from acbo_ref.campaign.facts import PRINTED, Proposal
from acbo_ref.campaign.reach import beyond, outside_words, untested

pytestmark = pytest.mark.filterwarnings("ignore::acbo_ref.campaign.facts.CampaignWarning")


def begun(folder, policy, lever=(0.0, 100.0), values=(20.0, 25.0, 30.0), **more):
    rows = [[value, 1.0 + n] for n, value in enumerate(values)]
    return Campaign.create(folder, {"x": lever, "y": None}, "y", observations=rows, policy=policy, **more)


def test_the_ends_are_those_of_past_rows_and_experiments(tmp_path, policy):
    campaign = begun(tmp_path / "c", policy)
    facts = campaign._read()
    assert beyond(facts, 0, 30.9) is None and beyond(facts, 0, 19.1) is None  # a hundredth of the domain
    assert beyond(facts, 0, 31.1) == (30.0, 20.0, 30.0) and beyond(facts, 0, 18.0) == (20.0, 20.0, 30.0)
    campaign.tell_external({"x": 60.0}, {"y": 2.0})
    assert beyond(campaign._read(), 0, 60.5) is None
    assert untested(campaign._read(), 0, 70.0) == ["nothing was measured beyond 60: do this as an experiment first"]
    campaign.abandon("x1")  # counts no more
    assert outside_words(campaign._read(), 0, 60.0) == "outside what was measured so far (20 to 30)"


def test_a_set_point_was_seen_even_if_it_was_measured_a_little_lower(tmp_path, policy):
    campaign = begun(tmp_path / "c", policy)
    proposal = campaign.ask()
    off = 4.0 if proposal.value < 25 else -4.0
    campaign.tell(proposal.id, {"x": proposal.value + off, "y": 1.5})
    assert proposal.value not in campaign._read().interventions[0][1]
    assert beyond(campaign._read(), 0, proposal.value) is None


def test_distances_are_those_of_the_scale(tmp_path, policy):
    values = (0.01, 0.02, 0.04)
    facts = begun(tmp_path / "log", policy, (0.001, 1000.0, "log"), values)._read()
    assert beyond(facts, 0, 0.05) is not None  # on a plain domain that is next to nothing
    circle = begun(tmp_path / "circle", policy, (0.0, 360.0, "periodic"), (40.0, 90.0))
    circle.tell_external({"x": 350.0}, {"y": -5.0})  # the best: the circle is cut opposite to it
    assert beyond(circle._read(), 0, 10.0) is None and beyond(circle._read(), 0, 200.0)[0] == 350.0


def test_nothing_is_outside_where_nothing_was_seen(tmp_path, policy):
    empty = Campaign.create(tmp_path / "c", {"x": (0, 1), "y": None}, "y", policy=policy)
    assert beyond(empty._read(), 0, 0.9) is None and untested(empty._read(), 0, 0.9) == []


def test_a_recommendation_beyond_what_was_measured_says_so(tmp_path, policy, capsys, monkeypatch):
    from acbo_ref.campaign import settling

    campaign = begun(tmp_path / "c", policy)
    for value, inside in ((50.0, False), (28.0, True)):
        monkeypatch.setattr(settling, "settle", lambda f, s, value=value: settling.settled_at(f, s, 0, value))
        words = "nothing was measured beyond 30: do this as an experiment first"
        best = campaign.recommend()
        assert best.value == value and best.keeps_bounds
        assert (words in best.warnings) is not inside and (f"take care: {words}" in str(best)) is not inside
        assert run(["campaign", "recommend", str(campaign.path), "--format", "json"]) == 0
        assert (words in json.loads(capsys.readouterr().out)["warnings"]) is not inside
        assert ("Nothing was measured beyond 30" in campaign.report().read_text()) is not inside
    assert "nothing was measured beyond 30" in str(campaign.predict("x", 90.0))


def test_a_proposal_outside_says_where_measurements_end(tmp_path, policy, monkeypatch, capsys):
    from acbo_ref.policy.session import Session

    words, help = "outside what was measured so far (20 to 30)", "--step or --never-{} hold it back"
    monkeypatch.setattr(Session, "near", lambda self, variable, value: np.ones(value.shape, bool))
    for n, direction in enumerate(("minimize", "maximize")):
        campaign = begun(tmp_path / str(n), policy, values=(20.0, 25.0, 30.0), direction=direction)
        proposal = campaign.ask()
        assert not 19 <= proposal.value <= 31 and words in proposal.reason
        assert help.format(("above", "below")[n]) in proposal.reason and "\n" not in proposal.reason
        assert set(asdict(proposal)) == set(Proposal.__dataclass_fields__) and len(asdict(proposal)) == 8
        assert load_campaign(campaign.path).ask() == proposal
        assert run(["campaign", "ask", str(campaign.path)]) == 0
        printed = capsys.readouterr().out
        assert words in " ".join(printed.split()) and max(map(len, printed.splitlines())) <= PRINTED
    bounded = begun(tmp_path / "bounded", policy, caution=Caution(step=0.1)).ask()
    assert "--step" not in bounded.reason  # it is held back already
    assert (words in bounded.reason) == (not 19 <= bounded.value <= 31)
    wide = replace(proposal, reason="far " * 60)
    assert max(map(len, str(wide).splitlines())) <= PRINTED
