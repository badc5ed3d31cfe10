"""Campaigns with exogenous variables: what is asked, said and judged."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from acbo_cli.main import run
from scipy.special import stdtrit
from weather import (
    DRIVES,
    EXOGENOUS,
    FOLLOWS,
    NAMES,
    VARIABLES,
    facts_of,
    plant,
    quietly,
    rows_of,
    task_of,
    with_disturbance,
)

from acbo_ref.arena.play import draw_episodes, run_method
from acbo_ref.arena.suites import load_suite
from acbo_ref.campaign.calibration import QUANTILE
from acbo_ref.campaign.campaign import Campaign, load_campaign
from acbo_ref.campaign.exogenous import correlation, may_be_exogenous, moved
from acbo_ref.campaign.facts import CampaignWarning, Judged, Proposal, Record
from acbo_ref.campaign.monitor import watch
from acbo_ref.campaign.settling import _repetitions
from acbo_ref.errors import AcboError
from acbo_ref.policy.exogenous import exogenous_slopes, see_through


def test_a_campaign_does_what_the_arena_does(tmp_path, shipped):
    suite = load_suite("medium", 1000).first(2)
    suite, steps = replace(suite, systems=tuple(map(with_disturbance, suite.systems))), 4
    found, episodes = run_method(suite, "policy_exogenous", 0, 12, steps, *shipped), draw_episodes(suite, 0, 12, steps)
    for s, system in enumerate(suite.systems):
        domains = {v.name: (v.low, v.high) if v.manipulable else None for v in system.variables}
        rows = np.array(episodes.observations[s])
        campaign = Campaign.create(
            tmp_path / str(s), domains, system.target, observations=rows, budget=steps, exogenous=["D"]
        )
        for k in range(steps):
            proposal = load_campaign(campaign.path).ask()
            variable, value = system.names.index(proposal.variable), proposal.value
            assert (variable, value) == (found.variable[s, k], pytest.approx(found.value[s, k], abs=1e-6))
            campaign.tell(proposal.id, system.simulate(episodes.noise[s][k : k + 1], variable, value)[0], yes=True)


def test_it_finds_what_the_disturbance_hides(tmp_path):
    """The same plant and noise: told of D the campaign establishes the gain, else it does not."""
    found = {}
    for exogenous in ((), ("d",)):
        campaign = quietly(
            Campaign.create,
            tmp_path / f"c{len(exogenous)}",
            VARIABLES,
            "y",
            "minimize",
            rows_of(20),
            6,
            exogenous=exogenous,
        )
        for k in range(6):
            proposal = quietly(campaign.ask)
            campaign.tell(proposal.id, rows_of(1, 10 + k, **{proposal.variable: proposal.value})[0], yes=True)
        found[exogenous] = quietly(campaign.recommend)
    told, untold = found[("d",)], found[()]
    assert told.is_likely and not untold.is_likely
    assert told.improvement_high - told.improvement_low < 0.5 * (untold.improvement_high - untold.improvement_low)
    assert (told.variable, told.value) == ("a", -4.0)
    usual = 2 * 0.8 * 1.0  # of m, at D's mean
    assert told.improvement_low < usual + 2 * 0.8 * 4 < told.improvement_high


def test_what_is_said_of_an_improvement_by_hand(tmp_path, policy):
    """The error of doing nothing is that of what is left of the past rows, with a degree of freedom
    less for the slope; a single outcome has the weather, and a repetition is judged without.
    """
    rows, seen_more = rows_of(12), 0
    nothing = np.zeros((1, 0, 5))
    left = see_through(task_of(rows), nothing.astype(bool), nothing, EXOGENOUS[None])
    spread = np.sqrt((left.task.observations[0, :, 4] ** 2).sum() - 12 * left.task.observations[0, :, 4].mean() ** 2)
    of_nothing = stdtrit(10, 0.95) * spread / np.sqrt(10) / np.sqrt(12)
    for seed in range(6):
        campaign = quietly(
            Campaign.create, tmp_path / str(seed), VARIABLES, "y", observations=rows, policy=policy, exogenous=["d"]
        )
        campaign.tell_external({"b": 1.0}, rows_of(1, 50 + seed, b=1.0)[0], yes=True)
        best, facts = campaign.recommend(), campaign._read()
        error = (best.high - best.low) / 2
        margin = best.improvement_high - best.improvement
        assert margin == pytest.approx(np.hypot(error, of_nothing)) and best.baseline == pytest.approx(
            rows[:, 4].mean()
        )
        session = campaign._session(facts)
        assert session.exogenous_std == pytest.approx(left.std[0])
        place = NAMES.index(best.variable)
        _, _, std = (float(x[0]) for x in session.predict(np.array([place]), np.array([best.value])))
        f = facts.calibrated_factors[0] * facts.widening
        said = campaign.predict(best.variable, best.value)
        assert (said.measured_high - said.measured_low) / 2 == pytest.approx(QUANTILE * f * std)
        assert std > session.exogenous_std
        own = f * np.sqrt(std**2 - session.exogenous_std**2)
        assert best.more is None or best.more == _repetitions(best.improvement, of_nothing, error / QUANTILE, own)
        seen_more += best.more is not None
        proposal = quietly(campaign.ask)
        judged = campaign._read().judged[proposal.id]
        half, weather = (
            (proposal.high - proposal.low) / 2,
            QUANTILE * facts.calibrated_factors[0] * session.exogenous_std,
        )
        assert judged.half == pytest.approx(np.sqrt(half**2 - weather**2)) and judged.half < 0.7 * half
    assert seen_more


def test_it_is_kept_shown_and_checked(tmp_path, policy):
    begun = {"policy": policy, "observations": rows_of(10)}
    campaign = quietly(Campaign.create, tmp_path / "c", VARIABLES, "y", **begun, exogenous=["d"])
    first = json.loads((campaign.path / "journal.jsonl").read_text().splitlines()[0])["entry"]
    assert (first["schema"], first["exogenous"]) == (5, ["d"])
    assert load_campaign(campaign.path).status()["exogenous"] == ["d"]
    assert "what d explains is taken off" in campaign.report().read_text()
    assert "d" not in {belief.variable for belief in campaign.beliefs()}
    plain = quietly(Campaign.create, tmp_path / "p", VARIABLES, "y", **begun)
    assert "exogenous" not in (plain.path / "journal.jsonl").read_text() and plain.status()["exogenous"] == []
    for wrong, words in (
        (["e"], "no variable named 'e'"), (["y"], "the target 'y' cannot"), (["a"], "'a' can be set"), ("d", "exogenous is 'd'"),
    ):  # fmt: skip
        with pytest.raises(AcboError, match=words) as error:
            Campaign.create(tmp_path / "x", VARIABLES, "y", **begun, exogenous=wrong)
        assert error.value.hint and not (tmp_path / "x").exists()


def test_a_missing_value_of_it_takes_nothing_off(tmp_path, policy):
    rows = rows_of(10)
    rows[3, 0] = np.nan
    rows[5, 3] = np.nan
    nothing = np.zeros((1, 0, 5))
    left = see_through(task_of(rows), nothing.astype(bool), nothing, EXOGENOUS[None]).task.observations[0]
    np.testing.assert_array_equal(left[3, 1:], rows[3, 1:])
    assert np.isnan(left[5, 3]) and left[5, 4] != rows[5, 4]
    whole = np.delete(rows, 3, axis=0)
    same = exogenous_slopes(whole, np.zeros((9, 5), bool), EXOGENOUS)
    np.testing.assert_array_equal(exogenous_slopes(rows, np.zeros((10, 5), bool), EXOGENOUS), same)
    campaign = quietly(
        Campaign.create, tmp_path / "c", VARIABLES, "y", observations=rows, policy=policy, exogenous=["d"]
    )
    proposal = campaign.ask()
    with pytest.warns(CampaignWarning, match="e1: d is missing, so nothing is taken off"):
        campaign.tell(proposal.id, {"y": 40.0, "m": 1.0}, yes=True)
    assert np.isfinite(campaign.recommend().predicted)


def test_another_method_sees_through_as_it_does_in_the_arena(tmp_path, shipped):
    """It finds what the disturbance hides from it."""
    suite = load_suite("medium", 1000).first(1)
    suite, steps = replace(suite, systems=tuple(map(with_disturbance, suite.systems))), 3
    system, episodes = suite.systems[0], draw_episodes(suite, 0, 12, steps)
    found, untold = (run_method(suite, name, 0, 12, steps, *shipped) for name in ("regress_exogenous", "regress"))
    domains = {v.name: (v.low, v.high) if v.manipulable else None for v in system.variables}
    rows = np.array(episodes.observations[0])
    campaign = Campaign.create(
        tmp_path / "c", domains, system.target, observations=rows, exogenous=["D"], method="regress"
    )
    for k in range(steps):
        proposal = load_campaign(campaign.path).ask()
        variable, value = system.names.index(proposal.variable), proposal.value
        assert (variable, value) == (found.variable[0, k], pytest.approx(found.value[0, k]))
        campaign.tell(proposal.id, system.simulate(episodes.noise[0][k : k + 1], variable, value)[0], yes=True)
    assert (untold.variable != found.variable).any() or (untold.value != found.value).any()


def test_a_variable_that_may_be_exogenous_is_asked_about(tmp_path, policy, capsys):
    rows = rows_of(20)
    data = tmp_path / "past.csv"
    data.write_text("d,a,b,m,y\n" + "\n".join(",".join(f"{x:.6g}" for x in row) for row in rows))
    begin = ["--data", str(data), "--target", "y", "--minimize", "--policy", str(policy), "--domain", "a=-4:4",
             "--domain", "b=-4:4", "--fixed", "m"]  # fmt: skip
    assert run(["campaign", "new", str(tmp_path / "c"), *begin, "--fixed", "d"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "'y' goes along with 'd' (9" in said and "with --exogenous NAME" in said
    assert run(["campaign", "new", str(tmp_path / "d"), *begin, "--exogenous", "d", "--exogenous", "m"]) == 0
    assert "exogenous NAME" not in capsys.readouterr().err
    share = np.corrcoef(rows[:, 0], rows[:, 4])[0, 1] ** 2
    nothing = np.zeros(5, bool)
    assert may_be_exogenous(rows, [0, 3], nothing, 4)[0] == (0, pytest.approx(share))
    assert may_be_exogenous(rows[:3], [0, 3], nothing, 4) == []
    rows[:, 3] = rows[:, 0] + 0.1 * np.random.default_rng(0).standard_normal(20)  # what d alone moves
    assert may_be_exogenous(rows, [3], nothing, 4) and may_be_exogenous(rows, [3], EXOGENOUS, 4) == []


def test_correlation_is_students():
    from scipy.stats import pearsonr

    x, y = np.random.default_rng(0).standard_normal((2, 9))
    r, p = pearsonr(x, x + 2 * y)
    assert correlation(x, x + 2 * y) == (pytest.approx(r * r), pytest.approx(p))
    assert correlation(x, np.ones(9)) == (0.0, 1.0) and correlation(x[:2], y[:2]) == (0.0, 1.0)
    assert correlation(x, 2 * x)[0] == pytest.approx(1.0) and correlation(x, 2 * x)[1] < 1e-12


def test_a_variable_that_a_lever_moves_is_not_exogenous(tmp_path, policy):
    """m follows the lever a: said to be exogenous, it is found out; d is not."""
    campaign = Campaign.create(
        tmp_path / "c", VARIABLES, "y", observations=rows_of(10), policy=policy, exogenous=["d", "m"]
    )
    for k, value in enumerate((-4.0, 4.0, -4.0, 4.0, -2.0, 3.0)):
        campaign.tell_external({"a": value}, rows_of(1, 20 + k, a=value)[0], yes=True)
    with pytest.warns(CampaignWarning, match="m is said to be exogenous and went along when a was set .* begin anew"):
        campaign.ask()
    found = campaign.recommend().warnings
    assert any(words.startswith("m is said") for words in found) and not any(
        words.startswith("d is") for words in found
    )


@pytest.mark.parametrize("memory", [0.0, 0.95])
def test_what_is_exogenous_is_rarely_said_to_move(memory):
    """Of 400 campaigns in which it is, with two levers each: less than one in a hundred, also where
    the weather of a day is nearly that of the day before.
    """
    said = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        d = [0.0]
        for _ in range(20):
            d.append(memory * d[-1] + np.sqrt(1 - memory**2) * rng.standard_normal())
        days, noise = 3.0 + 2.0 * np.array(d[1:]), rng.standard_normal((20, 4))
        rows = plant(noise, days)
        records = {f"o{n}": Record((), rows[n].tolist()) for n in range(10)}
        for k in range(10, 20):
            lever, value = "ab"[k % 2], float(rng.choice([-4.0, 4.0, 2.0]))
            row = plant(noise[[k]], days[[k]], lever, value)[0]
            records[f"x{k}"] = Record((NAMES.index(lever),), row.tolist())
        said += bool(moved(facts_of(records)))
    assert said <= 4


def test_an_outcome_is_judged_without_the_weather():
    """Twelve days of a heat wave say nothing against a prediction for usual weather; a response
    that is off does, however large the share of the weather.
    """
    rng = np.random.default_rng(0)
    records = {f"o{n}": Record((), row.tolist()) for n, row in enumerate(rows_of(100))}
    mean = np.mean([record.row[0] for record in records.values()])
    for wrong in (0.0, 6.0):
        proposals, judged, told = {}, {}, dict(records)
        for k in range(12):
            id, row = f"e{k}", plant(rng.standard_normal((1, 4)), np.array([9.0]), "b", 2.0)[0]
            usual = 2 * 0.8 * (1.0 + FOLLOWS * (mean - 3.0)) - 2.0 + DRIVES * mean
            wide = 2.0 * DRIVES * 2.0
            proposals[id] = Proposal(id, "b", 2.0, usual + wrong, usual + wrong - wide, usual + wrong + wide, 0.5, "")
            judged[id], told[id] = Judged(1.645 * 2.0, 1.0), Record((2,), row.tolist())
        found = watch(facts_of(told, proposals=proposals, judged=judged))
        assert found.alarm == bool(wrong), found


def test_a_miss_is_outside_of_what_was_learnt():
    proposals = {"e1": Proposal("e1", "b", 2.0, 0.0, -50.0, 50.0, 0.5, "")}
    records = {f"o{n}": Record((), row.tolist()) for n, row in enumerate(rows_of(20))}
    told = {**records, "e1": Record((2,), [float(np.mean(rows_of(20)[:, 0])), 0.0, 2.0, 0.0, 3.0])}
    for widening, missed in ((1.0, True), (4.0, False)):
        facts = facts_of(told, proposals=proposals, judged={"e1": Judged(1.0, widening)})
        assert facts.outcomes[0].missed == missed and facts.outcomes[0].ratio == pytest.approx(3.0)


def test_a_new_lot_is_no_effect_of_the_first_experiment():
    """A raw material that changes once, on the day of the first of several equal settings."""
    records = {f"o{n}": Record((), [1.0, *row[1:]]) for n, row in enumerate(rows_of(10).tolist())}
    records |= {f"x{n}": Record((2,), [2.0, *row[1:]]) for n, row in enumerate(rows_of(5, 7, b=3.0).tolist())}
    assert moved(facts_of(records)) == []


def test_what_a_lever_moves_is_said_with_certainty():
    """From setting to setting, not by level: m goes up and down with a."""
    records = {f"o{n}": Record((), row.tolist()) for n, row in enumerate(rows_of(10))}
    for k, value in enumerate((-4.0, -4.0, 4.0, 4.0, -4.0, -4.0, 4.0, 4.0)):
        records[f"x{k}"] = Record((1,), rows_of(1, 70 + k, a=value)[0].tolist())
    (words,) = moved(replace(facts_of(records), exogenous=("m",)))
    assert float(words.split("p = ")[1].split(")")[0]) < 1e-6


def test_an_export_keeps_how_outcomes_are_judged(tmp_path, policy):
    first = quietly(Campaign.create, tmp_path / "a", VARIABLES, "y", policy=policy, exogenous=["d"])
    for row in rows_of(8):
        first.tell_external({}, row)
    for k in range(3):
        proposal = quietly(first.ask)
        first.tell(proposal.id, rows_of(1, 30 + k, **{proposal.variable: proposal.value})[0], yes=True)
    first.export_csv(tmp_path / "all.csv")
    again = quietly(Campaign.create, tmp_path / "b", VARIABLES, "y", policy=policy, exogenous=["d"])
    again.import_rows(tmp_path / "all.csv", yes=True)
    assert again._read().judged == first._read().judged and len(first._read().judged) == 3
    assert again.status()["watch"] == first.status()["watch"]
    lines = (tmp_path / "all.csv").read_text().replace(",journal half,journal widening", "").splitlines()
    (tmp_path / "old.csv").write_text("\n".join([lines[0], *(line.rsplit(",", 2)[0] for line in lines[1:])]))
    old = quietly(Campaign.create, tmp_path / "c", VARIABLES, "y", policy=policy, exogenous=["d"])
    old.import_rows(tmp_path / "old.csv", yes=True)  # as exports were before
    assert old._read().judged == {} and old.status()["watch"]["told"] == 3


def test_by_the_command_line(tmp_path, policy, capsys):
    data = tmp_path / "past.csv"
    data.write_text("d,a,b,m,y\n" + "\n".join(",".join(f"{x:.6g}" for x in row) for row in rows_of(20)))
    begin = ["campaign", "new", str(tmp_path / "c"), "--data", str(data), "--target", "y", "--minimize",
             "--policy", str(policy), "--domain", "a=-4:4", "--domain", "b=-4:4"]  # fmt: skip
    assert run([*begin, "--fixed", "m", "--exogenous", "e"]) == 2
    assert "no column 'e'" in capsys.readouterr().err
    assert run([*begin, "--fixed", "m", "--exogenous", "a"]) == 2
    assert "both --domain and" in capsys.readouterr().err
    assert run([*begin, "--fixed", "m", "--exogenous", "d"]) == 0
    assert "d         exogenous" in capsys.readouterr().out
    assert run(["campaign", "ask", str(tmp_path / "c")]) == 0
