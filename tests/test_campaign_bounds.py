"""What a campaign keeps to: bounds on the target, warning ranges of other variables."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from acbo_cli.main import run
from campaign_crashes import VARIABLES
from scipy import stats

from acbo_ref import Campaign, Caution, load_campaign
from acbo_ref.campaign.bounds import NO_BOUNDS, plain_ranges
from acbo_ref.campaign.facts import CampaignWarning
from acbo_ref.errors import AcboError

ROWS = np.random.default_rng(0).standard_normal((12, 4)) * [3, 0.6, 1, 1] + [5.0, 0.0, 0.0, 3.0]


def begun(folder, policy, **more):
    return Campaign.create(folder, VARIABLES, "y", observations=ROWS, policy=policy, **more)


def chance_below(said, limit):
    """By an answer's own interval of a single outcome."""
    std = (said.measured_high - said.measured_low) / (2 * stats.norm.ppf(0.95))
    return stats.norm.cdf(limit, said.predicted, std)


def taught(folder, policy, **more):
    """After experiments in which a low a gave a low y, and a high one a high y."""
    campaign = begun(folder, policy, **more)
    for a, y in ((0.0, -6.0), (0.0, -7.0), (10.0, 9.0), (10.0, 8.0)):
        campaign.tell_external({"a": a}, {"y": y, "b": 0.0, "c": 0.0}, yes=True)
    return campaign


@pytest.mark.filterwarnings("ignore::acbo_ref.campaign.facts.CampaignWarning")
def test_bounds_hold_for_every_ask_and_for_what_is_recommended(tmp_path, policy):
    free, limit = taught(tmp_path / "free", policy), -4.0
    campaign = taught(tmp_path / "c", policy, caution=Caution(never_below=limit, risk=0.2))
    assert load_campaign(campaign.path).caution == Caution(never_below=limit, risk=0.2)
    best, before = campaign.recommend(), free.recommend()
    said = campaign.predict(best.variable, best.value)
    assert chance_below(said, limit) <= 0.2 + 1e-9 and said.warnings == () and best.keeps_bounds
    assert chance_below(campaign.predict(before.variable, before.value), limit) > 0.2
    assert best.passed_over.startswith(f"{before.variable} = {before.value:.6g}, expected")
    assert "the risk of a y below" in best.passed_over and "passed over: " in str(best)
    assert best.predicted > before.predicted  # it is to be minimised
    for name in "ab":
        found = campaign.suggest(name)
        is_risky = any(words.startswith("the risk") for words in found.warnings)
        assert not is_risky or chance_below(found, limit) > 0.2
    for proposal in [campaign.ask(), *campaign.ask_batch(4)]:
        assert chance_below(campaign.predict(proposal.variable, proposal.value), limit) <= 0.2 + 1e-9
    assert campaign.status()["bounds"]["never_below"] == limit
    text = campaign.report().read_text()
    assert "Bounds" in text and "Passed over" in text


@pytest.mark.filterwarnings("ignore::acbo_ref.campaign.facts.CampaignWarning")
def test_bounds_of_one_ask_come_in_place_of_the_campaigns(tmp_path, policy):
    free = taught(tmp_path / "free", policy)
    campaign = taught(tmp_path / "c", policy, caution=Caution(never_below=-4.0))
    first = campaign.ask(caution=Caution())
    assert first == free.ask() and first.value != campaign.recommend().value


def test_bounds_that_bind_nothing_change_nothing(tmp_path, policy):
    free, campaign = begun(tmp_path / "1", policy), begun(tmp_path / "2", policy, caution=Caution(never_below=-1e6))
    assert free.recommend() == campaign.recommend() and free.suggest("a") == campaign.suggest("a")


def test_a_step_holds_for_what_is_recommended(tmp_path, policy):
    campaign = begun(tmp_path / "c", policy, caution=Caution(step=0.01))
    best = campaign.recommend()
    i = list(VARIABLES).index(best.variable)
    low, high = VARIABLES[best.variable]
    reach = 0.01 * (high - low) + 1e-9
    assert best.keeps_bounds and ROWS[:, i].min() - reach <= best.value <= ROWS[:, i].max() + reach
    assert any("away from what was tried" in words for words in campaign.predict("b", -1.0).warnings) == (
        ROWS[:, 1].min() - 0.02 > -1.0
    )


def test_where_nothing_keeps_the_bounds_that_is_the_verdict(tmp_path, policy):
    campaign = begun(tmp_path / "c", policy, caution=Caution(never_below=1e6))
    best = campaign.recommend()
    assert best.verdict == "no setting keeps the bounds" and not best.keeps_bounds and not best.is_likely
    assert "the safest: set" in str(best) and best.passed_over is None and "risk of a y below 1e+06" in best.warnings[0]
    page = campaign.report().read_text()
    assert "No setting keeps the bounds" in page and "The safest is" in page
    with pytest.raises(AcboError, match="the safest is"):
        campaign.ask()


IMPOSSIBLE = [
    ({"caution": Caution(risk=0.7, never_below=1.0)}, "risk of 0.7"),
    ({"caution": Caution(never_below=2.0, never_above=1.0)}, "leaves nothing"),
    ({"warn_outside": {"q": (0, 1)}}, "no variable named 'q' to warn about"),
    ({"warn_outside": {"y": (0, 1)}}, "'y' is the target"),
    ({"warn_outside": {"c": (2, 1)}}, "is 2 to 1"),
    ({"warn_outside": {"c": (None, None)}}, "has no end"),
    ({"warn_outside": {"c": 3}}, "is not .low, high."),
    ({"warn_outside": {"c": "03"}}, "is not .low, high."),
    ({"warn_outside": {"c": ("x", 1)}}, "not a number"),
    ({"warn_outside": {"c": (0, 1, 2)}}, "is not .low, high."),
]


@pytest.mark.parametrize(("given", "words"), IMPOSSIBLE)
def test_what_is_impossible_is_refused_and_leaves_nothing(tmp_path, policy, given, words):
    with pytest.raises(AcboError, match=words):
        begun(tmp_path / "c", policy, **given)
    assert not (tmp_path / "c").exists()


def test_journals_say_the_lowest_schema_that_they_need(tmp_path, policy):
    """So that an older version reads what it can, and refuses bounds that it would not keep."""
    given = [{}, {"caution": NO_BOUNDS}, {"caution": Caution(risk=0.2)}, {"warn_outside": {"c": (0, None)}}]
    schemas = []
    for n, more in enumerate([*given, {"method": "regress"}]):
        path = begun(tmp_path / str(n), policy, **more).path / "journal.jsonl"
        schemas.append(json.loads(path.read_text().splitlines()[0])["entry"]["schema"])
    assert schemas == [1, 1, 3, 3, 3]


# ---------------------------------------------------------------------------------- warning ranges


def test_an_outcome_beyond_the_bounds_is_said(tmp_path, policy):
    campaign = begun(tmp_path / "c", policy, caution=Caution(never_below=-3.0, never_above=20.0, risk=0.4))
    proposal = campaign.ask()
    with pytest.warns(CampaignWarning, match="e1: y = -4.5 .should never be below -3 or above 20."):
        campaign.tell(proposal.id, {"y": -4.5, "c": 0.0}, yes=True)
    assert campaign.history()[0]["outside"] == ["y = -4.5 (should never be below -3 or above 20)"]
    assert campaign.predict(proposal.variable, proposal.value).warnings == () or campaign.recommend().keeps_bounds


def ranged(folder, policy, **more):
    """c is to stay below 8; at every past row it does."""
    return begun(folder, policy, warn_outside={"c": (None, 8.0)}, **more)


def test_what_is_measured_outside_its_range_is_said_wherever_it_is_shown(tmp_path, policy):
    campaign = ranged(tmp_path / "c", policy)
    asked = campaign.ask()
    with pytest.warns(CampaignWarning, match="e1: c = 9.1 .should be at most 8"):
        campaign.tell(asked.id, {"y": 2.0, "c": 9.1}, yes=True)
    (line,) = campaign.history()
    assert line["outside"] == ["c = 9.1 (should be at most 8)"]
    status = campaign.status()
    assert status["outside"] == {"e1": line["outside"]} and status["warn_outside"] == {"c": [None, 8.0]}
    assert "c = 9.1 (should be at most 8)" in campaign.report().read_text()
    with pytest.warns(CampaignWarning, match="row: c = 8.5"):
        campaign.tell_external({}, {"y": 2.0, "c": 8.5, "a": 5.0, "b": 0.0}, yes=True)
    with pytest.warns(CampaignWarning, match="e1: c = 8.6"):
        campaign.correct("e1", {"c": 8.6}, yes=True)
    campaign.correct("e1", {"c": 7.9}, yes=True)
    assert campaign.history()[0]["outside"] == [] and list(campaign.status()["outside"]) == ["o13"]


def test_imported_rows_outside_are_said_and_not_all_of_them(tmp_path, policy):
    campaign, file = ranged(tmp_path / "c", policy), tmp_path / "more.csv"
    file.write_text("a,b,c,y\n" + "".join(f"{4 + n / 10},0.{n},{7.5 + n},3\n" for n in range(9)))
    with pytest.warns(CampaignWarning) as said:
        campaign.import_rows(file, yes=True)
    words = [str(w.message) for w in said]
    assert len(words) == 6 and words[0].endswith("line 3: c = 8.5 (should be at most 8)")
    assert words[5].startswith("3 more rows out of bounds") and len(campaign.status()["outside"]) == 8


def test_what_was_never_set_is_recommended_as_an_experiment(tmp_path, policy):
    best = begun(tmp_path / "c", policy).recommend()
    assert best.variable in best.untried and f"{best.variable} was never set: do this as an experiment first" in str(
        best
    )
    done = taught(tmp_path / "t", policy).recommend()
    assert done.variable == "a" and "was never set" not in str(done)


@pytest.mark.filterwarnings("ignore::acbo_ref.campaign.facts.CampaignWarning")
def test_what_was_measured_outside_is_not_recommended(tmp_path, policy):
    """Nor what lies nearer to it than to anything that was measured within."""
    free, campaign = begun(tmp_path / "free", policy), ranged(tmp_path / "c", policy)
    before = campaign.recommend()
    name, value = before.variable, before.value
    for each in (free, campaign):
        each.tell_external({name: value}, {"y": -9.0, "c": 9.1}, yes=True)
    again, best = free.recommend(), campaign.recommend()
    assert again.value == pytest.approx(value, abs=0.5) and best.keeps_bounds
    assert all(words.startswith("hard to believe") for words in best.warnings)
    assert "x1 was measured nearest to it, with c = 9.1 (should be at most 8)" in best.passed_over
    i = list(VARIABLES).index(name)
    if best.variable == name:
        assert np.abs(ROWS[:, i] - best.value).min() < abs(best.value - value)
    assert "x1 was measured nearest" in campaign.predict(name, value).warnings[0]
    assert "take care: x1" in str(campaign.predict(name, value))
    nearest = ROWS[np.abs(ROWS[:, i] - value).argmin(), i]
    if VARIABLES[name][0] <= nearest <= VARIABLES[name][1]:
        assert campaign.predict(name, float(nearest)).warnings == ()
    # another that kept its range at the same value does not outweigh it; correcting the row does
    campaign.tell_external({name: value}, {"y": -9.0, "c": 1.0}, yes=True)
    assert campaign.predict(name, value).warnings != ()
    campaign.correct("x1", {"c": 1.0}, yes=True)
    assert campaign.predict(name, value).warnings == ()
    campaign.correct("x1", {"c": 9.1}, yes=True)
    campaign.abandon("x1")
    assert campaign.predict(name, value).warnings == ()


def test_a_proposal_beside_what_was_measured_outside_says_so(tmp_path, policy):
    campaign = ranged(tmp_path / "c", policy)
    name, value = (first := campaign.ask()).variable, first.value
    with pytest.warns(CampaignWarning, match="c = 9"):
        campaign.tell(first.id, {"y": -9.0, "c": 9.0}, yes=True)
    with pytest.warns(CampaignWarning, match="e2: e1 was measured nearest to it, with c = 9"):
        second = campaign.ask()
    assert second.variable == name and abs(second.value - value) < 1


@pytest.mark.filterwarnings("ignore::acbo_ref.campaign.facts.CampaignWarning")
def test_ranges_on_other_scales(tmp_path, policy):
    variables = {"a": (0.01, 100.0, "log"), "b": (0.0, 360.0, "periodic"), "c": None, "y": None}
    rows = np.abs(ROWS) + np.array([1, 180, 0, 0])
    campaign = Campaign.create(
        tmp_path / "c", variables, "y", observations=rows, policy=policy, warn_outside={"c": (-1, 5)}
    )
    campaign.tell_external({"a": 0.01}, {"y": -9.0, "c": 9.0}, yes=True)
    campaign.tell_external({"b": 355.0}, {"y": -9.0, "c": -2.0}, yes=True)
    assert "x1" in campaign.predict("a", 0.05).warnings[0]  # by ratio it is nearer to 0.01 than to 1
    assert "x2" in campaign.predict("b", 10.0).warnings[0] and campaign.predict("b", 190.0).warnings == ()
    assert campaign.recommend().keeps_bounds


def test_ranges_are_read_by_name_and_unit():
    assert plain_ranges({"p": (0, None)}, ["p [bar]", "y"], "y") == {"p [bar]": (0.0, None)}
    assert plain_ranges({"p": (None, "8")}, ["p", "y"], "y") == {"p": (None, 8.0)}


# --------------------------------------------------------------------------------- the command line


def test_by_the_command_line(tmp_path, policy, capsys):
    data, folder = tmp_path / "past.csv", str(tmp_path / "r")
    np.savetxt(data, ROWS, delimiter=",", header="a,b,c,y", comments="")
    new = ["campaign", "new", folder, "--data", str(data), "--target", "y", "--minimize", "--policy", str(policy)]
    new += ["--domain", "a=0:10", "--domain", "b=-1:1", "--fixed", "c"]
    for words, message in (
        (["--warn-outside", "c=8"], "is not LOW:HIGH"),
        (["--warn-outside", "c=a:8"], "is not LOW:HIGH"),
        (["--never-below", "much"], "'much' is not a number"),
        (["--never-below", "-100", "--risk", "0.9"], "risk of 0.9"),
        (["--never-below", "-100", "--method", "regress"], "knows no bounds"),
        (["--method", "regres"], "did you mean 'regress'"),
    ):
        assert run([*new, *words]) == 2
        assert message in capsys.readouterr().err and not (tmp_path / "r").exists()
    assert run([*new, "--never-below", "-100", "--step", "0.3", "--warn-outside", "c=:8"]) == 0
    out = capsys.readouterr().out
    assert "bounds: never below -100 (risk at most 0.1); at most 0.3 of a domain away from what was tried" in out
    assert "warn outside: c at most 8" in out
    assert run(["campaign", "ask", folder, "--never-below", "1e6"]) == 2  # for this once; the step stays
    assert "risk of a y below 1e+06 is more than 0.1" in capsys.readouterr().err
    assert run(["campaign", "ask", folder, "--never-below", "none", "--step", "none", "--format", "json"]) == 0
    assert "bounds" not in json.loads(capsys.readouterr().out)["reason"]
    assert run(["campaign", "ask", folder, "--another"]) == 0
    assert "within the bounds" in capsys.readouterr().out
    assert run(["campaign", "tell", folder, "e1", "y=2", "c=9", "--yes"]) == 0
    said = capsys.readouterr()
    assert "warning: e1: c = 9 (should be at most 8)" in said.err and "recorded e1: c 9, y 2\n" in said.err
    assert run(["campaign", "status", folder]) == 0
    assert "out of bounds: e1: c = 9" in capsys.readouterr().out
    assert run(["campaign", "history", folder]) == 0
    assert "    out of bounds: c = 9 (should be at most 8)\n" in capsys.readouterr().out
    assert run(["campaign", "recommend", folder, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["keeps_bounds"] is True
    assert run(["campaign", "ask", folder, "--never-below", "none", "--risk", "0.3"]) == 2
    assert "the risk of what" in capsys.readouterr().err
    assert replace(load_campaign(folder).caution, step=None) == Caution(never_below=-100.0)
