"""Exogenous variables: what they explain is taken off, in the arena, in campaigns, with every
backend.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from acbo_cli.main import run
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtrit

from acbo_ref.arena.play import batch_task, draw_episodes, run_method
from acbo_ref.arena.suites import Suite, load_suite
from acbo_ref.backend import ReferenceBackend
from acbo_ref.campaign.calibration import QUANTILE
from acbo_ref.campaign.campaign import Campaign, load_campaign
from acbo_ref.campaign.exogenous import correlation, may_be_exogenous, moved
from acbo_ref.campaign.facts import CampaignWarning, Facts, Judged, Proposal, Record
from acbo_ref.campaign.monitor import watch
from acbo_ref.campaign.scales import PLAIN
from acbo_ref.campaign.settling import _repetitions
from acbo_ref.config import PriorConfig
from acbo_ref.errors import AcboError
from acbo_ref.policy.exogenous import ExogenousSession, Told, exogenous_slopes, see_through
from acbo_ref.policy.inputs import Task
from acbo_ref.systems.prior import sample_scm
from acbo_ref.systems.scm import SCM, Variable
from acbo_ref.training.checkpoint import load_checkpoint, shipped_policy
from acbo_ref.verify.data import perturbed_state, small_config

# D drives the target and is followed by the lever a; b is a lever too, m between a and the target.
NAMES = ("d", "a", "b", "m", "y")
FOLLOWS, DRIVES = -0.7, 9.0
EXOGENOUS = np.arange(5) == 0
VARIABLES = {"d": None, "a": (-4, 4), "b": (-4, 4), "m": None, "y": None}


def plant(noise, d, lever=None, value=0.0):
    """Rows (N, 5) of the system from noise (N, 4), D as given, with a lever set."""
    a = np.full(len(d), value) if lever == "a" else 1.0 + FOLLOWS * (d - 3.0) + noise[:, 0]
    b = np.full(len(d), value) if lever == "b" else noise[:, 1]
    m = 0.8 * a + 0.3 * noise[:, 2]
    return np.stack([d, a, b, m, 2.0 * m - b + DRIVES * d + noise[:, 3]], axis=1)


def without_chance(rows):
    """Noise (N, 4) that goes with nothing: so the slopes on D are exact."""
    rng = np.random.default_rng(3)
    noise, d = rng.standard_normal((rows, 4)), 3.0 + 2.0 * rng.standard_normal(rows)
    basis = np.stack([np.ones(rows), d], axis=1)
    return noise - basis @ np.linalg.lstsq(basis, noise, rcond=None)[0], d


def task_of(observations):
    one = np.ones((1, 5), bool)
    return Task(
        observations=observations[None], observation_mask=np.ones((1, len(observations)), bool), target=np.array([4]),
        valid=one, manipulable=np.isin(np.arange(5), (1, 2))[None], low=np.full((1, 5), -4.0), high=np.full((1, 5), 4.0),
    )  # fmt: skip


@pytest.mark.parametrize("lever", ["a", "b"])
def test_what_is_left_is_the_system_with_d_held_at_its_mean(lever):
    """Row for row, also where the lever that is set follows D: it then is set to another value."""
    noise, d = without_chance(30)
    rng = np.random.default_rng(5)
    later, d_later, value = rng.standard_normal((4, 4)), rng.normal(3.0, 2.0, 4), np.array([-4.0, 1.0, 2.5, 4.0])
    rows = np.concatenate([plant(later[[k]], d_later[[k]], lever, value[k]) for k in range(4)])
    was_set = np.broadcast_to(np.array(NAMES) == lever, rows.shape)
    seen = see_through(task_of(plant(noise, d)), was_set[None], rows[None], EXOGENOUS[None])
    held = np.full(30, d.mean())
    np.testing.assert_allclose(seen.task.observations[0][:, 1:], plant(noise, held)[:, 1:], atol=1e-10)
    set_to = value - (FOLLOWS * (d_later - d.mean()) if lever == "a" else 0.0)
    expected = np.concatenate([plant(later[[k]], held[:1], lever, set_to[k]) for k in range(4)])
    np.testing.assert_allclose(seen.rows[0][:, 1:], expected[:, 1:], atol=1e-10)
    assert not seen.task.valid[0, 0] and seen.task.valid[0, 1:].all() and not seen.rows[0, :, 0].any()
    total = DRIVES + 2.0 * 0.8 * FOLLOWS
    assert seen.std[0] == pytest.approx(abs(total) * d.std())


def test_a_response_to_a_setting_is_no_effect_of_d():
    """Settings that were made once say nothing of the slopes, whatever they gave; repeated ones say
    what differs between their rows.
    """
    noise, d = without_chance(6)
    rows, was_set = plant(noise, d), np.zeros((6, 5), bool)
    alone = exogenous_slopes(rows, was_set, EXOGENOUS)
    once = np.array([[5.0, 0, 1.0, 2.0, 900.0], [-5.0, 0, 2.0, -3.0, -900.0]])
    on_b = np.arange(5) == 2
    more = np.concatenate([rows, once]), np.concatenate([was_set, [on_b, on_b]])
    np.testing.assert_allclose(exogenous_slopes(*more, EXOGENOUS), alone, atol=1e-12)
    # the same setting twice, in which nothing but D differs: the line through the two is within
    twice = np.array([[5.0, 0, 1.0, 2.0, 900.0], [7.0, 0, 1.0, 2.0, 900.0 + 2 * DRIVES]])
    found = exogenous_slopes(np.concatenate([rows, twice]), more[1], EXOGENOUS)[0, 4]
    within = rows - rows.mean(axis=0)
    by_hand = (within[:, 0] @ within[:, 4] + 2 * DRIVES) / (within[:, 0] @ within[:, 0] + 2.0)
    assert found == pytest.approx(by_hand)
    np.testing.assert_array_equal(found, exogenous_slopes(np.concatenate([rows, twice]), more[1], EXOGENOUS)[0, 4])


def test_rows_in_which_a_variable_was_set_say_nothing_of_its_slope():
    noise, d = without_chance(8)
    rows, on_a = plant(noise, d), np.arange(5) == 1
    later = plant(np.zeros((8, 4)), np.linspace(0, 6, 8), "a", 2.0)
    was_set = np.concatenate([np.zeros((8, 5), bool), np.broadcast_to(on_a, (8, 5))])
    found = exogenous_slopes(np.concatenate([rows, later]), was_set, EXOGENOUS)[0]
    assert found[1] == pytest.approx(FOLLOWS)
    assert found[4] > DRIVES + 2 * 0.8 * FOLLOWS + 0.1  # there D acts, and a does not follow it


def test_another_method_is_handed_what_is_left():
    class Recorder:
        def __init__(self, task):
            self.task, self.rows = task, []

        def ask(self):
            return 2, 1.0

        def tell(self, action, row):
            self.rows.append((action, row))

        def recommend(self):
            return 1, -1.0

    noise, d = without_chance(12)
    known, made = task_of(plant(noise, d)), []
    method = Told(known, EXOGENOUS, lambda task: made.append(Recorder(task)) or made[0])
    row = plant(np.ones((1, 4)), np.array([7.0]), "a", 2.0)[0]
    method.tell((1, 2.0), row)
    (action, handed), total = made[0].rows[0], DRIVES + 2 * 0.8 * FOLLOWS
    assert method.ask() == (2, 1.0) and method.recommend() == (1, -1.0) and action == (1, 2.0)
    assert handed[1] == 2.0 and handed[4] == pytest.approx(row[4] - total * (7.0 - d.mean()))
    assert not made[0].task.valid[0, 0] and made[0].task.observations[0, :, 4].std() < known.observations[0, :, 4].std()


@given(st.integers(0, 2**32 - 1))
def test_the_users_units_and_the_order_of_rows_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    noise, d = rng.standard_normal((12, 4)), rng.standard_normal(12)
    observed, rows = plant(noise[:8], d[:8]), plant(noise[8:], d[8:], "b", 2.0)
    was_set = np.broadcast_to(np.arange(5) == 2, (4, 5))
    seen = see_through(task_of(observed), was_set[None], rows[None], EXOGENOUS[None])
    scale, shift = 10.0 ** rng.integers(-3, 4, 5) * rng.choice([-1.0, 1.0], 5), rng.standard_normal(5)
    order, later = rng.permutation(8), rng.permutation(4)
    other = see_through(
        task_of((observed * scale + shift)[order]), was_set[None], (rows * scale + shift)[later][None], EXOGENOUS[None]
    )
    left = seen.task.observations[0][order] * scale + shift
    unit = np.abs(scale) * 100
    np.testing.assert_allclose(other.task.observations[0][:, 1:] / unit[1:], left[:, 1:] / unit[1:], atol=1e-9)
    np.testing.assert_allclose(
        other.rows[0][:, 1:] / unit[1:], ((seen.rows[0] * scale + shift)[later] / unit)[:, 1:], atol=1e-9
    )


def test_too_few_rows_take_nothing_off():
    noise, d = np.random.default_rng(0).standard_normal((3, 4)), np.array([1.0, 2.0, 4.0])
    nothing = np.zeros((1, 0, 5))
    for rows in (0, 1, 2, 3):
        observed = plant(noise[:rows], d[:rows])
        seen = see_through(task_of(observed), nothing.astype(bool), nothing, EXOGENOUS[None])
        np.testing.assert_array_equal(seen.task.observations[0][:, 1:], observed[:, 1:])
    noise, d = np.random.default_rng(0).standard_normal((4, 4)), np.array([1.0, 2.0, 4.0, 0.0])
    observed = plant(noise, d)
    assert (see_through(task_of(observed), nothing.astype(bool), nothing, EXOGENOUS[None]).task.observations[0, :, 4]
            != observed[:, 4]).any()  # fmt: skip


def test_two_of_them_and_none():
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((20, 5))
    rows[:, 4] = 3 * rows[:, 0] - 2 * rows[:, 3] + rows[:, 1]
    both = np.isin(np.arange(5), (0, 3))
    known = task_of(rows)
    nothing = np.zeros((1, 0, 5))
    left = see_through(known, nothing.astype(bool), nothing, both[None]).task.observations[0]
    within = left - left.mean(axis=0)
    assert np.abs(within[:, [1, 2, 4]].T @ (rows - rows.mean(axis=0))[:, both]).max() < 1e-10
    none = see_through(known, nothing.astype(bool), nothing, np.zeros((1, 5), bool))
    np.testing.assert_array_equal(none.task.observations, known.observations)
    assert none.std[0] == 0 and none.task.valid.all()


@pytest.mark.parametrize("wrong", [1, 4])
def test_neither_the_target_nor_a_lever_is_exogenous(wrong):
    noise, d = without_chance(8)
    nothing = np.zeros((1, 0, 5))
    with pytest.raises(ValueError, match="neither the target"):
        see_through(task_of(plant(noise, d)), nothing.astype(bool), nothing, (np.arange(5) == wrong)[None])


def test_a_session_sees_through_with_every_backend(make_backend):
    """It is a session on what is left, with the wider outcomes of what was taken off."""
    config = small_config(dtype="float64")
    reference = ReferenceBackend(config)
    backend, params = make_backend(config), reference.to_host(perturbed_state(reference))
    state = backend.from_host(params)
    noise, d = np.random.default_rng(1).standard_normal((10, 4)), np.linspace(0, 5, 10)
    known = task_of(plant(noise, d))
    session = ExogenousSession(known, EXOGENOUS[None], lambda t: backend.session(state, t, 3))
    rows, set_b = plant(noise[:2], d[3:5], "b", 1.5), np.arange(5) == 2
    for row in rows:
        session.decide()
        session.observe(np.array([2]), row[None])
    seen = see_through(known, np.stack([set_b, set_b])[None], rows[None], EXOGENOUS[None])
    direct = backend.session(state, seen.task, 3)
    for row in seen.rows[0]:
        direct.observe(np.array([2]), row[None])
    own, other = session.decide(), direct.decide()
    assert own.variable == other.variable and own.value == other.value and own.probability[0, 0] == 0
    assert own.outcome_mean == other.outcome_mean and own.outcome_error == other.outcome_error
    assert own.outcome_std[0] == pytest.approx(np.hypot(other.outcome_std[0], seen.std[0]))
    asked = np.array([[1, 2]]), np.array([[0.5, -1.0]])
    np.testing.assert_array_equal(session.near(*asked), direct.near(*asked))
    said, there = session.predict(*asked), direct.predict(*asked)
    np.testing.assert_array_equal(said.mean, there.mean)
    np.testing.assert_allclose(said.std, np.hypot(there.std, seen.std[0]))


# -------------------------------------------------------------------------------------- the arena


def with_disturbance(system):
    """The system, and a root D that makes 95 % of the target's variance."""
    weight = float(np.sqrt(0.95 / 0.05) * system.observational_moments[1])
    edges = {**system.edges, ("D", system.target): weight}
    return replace(system, variables=(*system.variables, Variable("D", manipulable=False)), edges=edges)


@pytest.fixture(scope="module")
def shipped():
    checkpoint = load_checkpoint(shipped_policy())
    backend = ReferenceBackend(replace(checkpoint.config, dtype=None))
    return backend, backend.from_host(checkpoint.state)


def test_who_is_told_of_a_disturbance_sees_through_it(shipped):
    plain = load_suite("medium", 1000).first(6)
    suite = replace(plain, systems=tuple(map(with_disturbance, plain.systems)))

    def shares(suite, method):
        found = run_method(suite, method, 1000, 20, 4, *shipped)
        return ((found.baseline[:, None] - found.expected).mean(axis=1) / (found.baseline - found.best)).mean()

    for method in ("policy", "regress"):
        told, untold, without = (
            shares(suite, f"{method}_exogenous"), shares(suite, method), shares(plain, method),
        )  # fmt: skip
        assert told > untold + 0.2 and told > without - 0.1, (method, told, untold, without)


def test_where_nothing_is_exogenous_nothing_changes(shipped):
    suite = load_suite("medium", 1000).first(2)
    for method in ("policy", "policy_final", "regress", "thompson"):
        untold, told = (run_method(suite, name, 0, 5, 3, *shipped) for name in (method, f"{method}_exogenous"))
        np.testing.assert_array_equal(untold.value, told.value)
    with pytest.raises(AcboError, match="knows the system already"):
        run_method(suite, "oracle_exogenous", 0, 5, 1, *shipped)
    with pytest.raises(AcboError, match="no method named 'polcy_exogenous'"):
        run_method(suite, "polcy_exogenous", 0, 5, 1, *shipped)


def test_exogenous_is_what_no_setting_moves():
    """By brute force, on models with hidden variables and some that cannot be set, and on every
    process.
    """
    prior = PriorConfig(manipulable=0.5, hidden=0.3, curved=0.5)
    systems = [sample_scm(prior, "erdos_renyi", 6, np.random.default_rng(seed)) for seed in range(12)]
    systems += list(load_suite("process", 1000).first(128).systems[::8])
    found = 0
    for system in systems:
        noise = np.random.default_rng(0).standard_normal((40, system.noise_dim))
        rows, is_still = system.simulate(noise), np.asarray(system.visible).copy()
        for i in (*np.flatnonzero(system.manipulable), system.target_index):
            changed = system.simulate(noise, int(i), float(rows[:, i].mean() + 3 * rows[:, i].std() + 1.0))
            is_still &= (np.abs(changed - rows) < 1e-12).all(axis=0)
        np.testing.assert_array_equal(system.exogenous, is_still, err_msg=system.name)
        found += is_still.sum()
    assert found > 12


# ---------------------------------------------------------------------------------------- campaigns


def rows_of(count, seed=0, **levers):
    rng = np.random.default_rng(seed)
    lever, value = next(iter(levers.items()), (None, 0.0))
    return plant(rng.standard_normal((count, 4)), 3.0 + 2.0 * rng.standard_normal(count), lever, value)


def quietly(function, *given, **named):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CampaignWarning)
        return function(*given, **named)


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


def facts_of(records, **more):
    return Facts(
        target="y", direction="minimize", variables=NAMES, domains=tuple(VARIABLES.values()), budget=None,
        policy_sha256="0" * 64, calibrated_factors=(1.0, 1.0), records=records, abandoned=frozenset(), notes={},
        prices=(1.0,) * 5, scales=(PLAIN,) * 5, exogenous=("d",), **({"proposals": {}} | more),
    )  # fmt: skip


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


def test_what_never_varied_explains_nothing():
    """Twenty equal values differ from their mean by rounding, which is no slope; nor are two later
    rows of one setting enough.
    """
    rng = np.random.default_rng(1)
    for constant in (0.1, 0.3, 37.2):
        rows = plant(rng.standard_normal((20, 4)), np.full(20, constant))
        assert not exogenous_slopes(rows, np.zeros((20, 5), bool), EXOGENOUS).any()
        later = plant(rng.standard_normal((2, 4)), np.array([1.0, 2.0]), "b", 3.0)
        was_set = np.concatenate([np.zeros((20, 5), bool), np.broadcast_to(np.arange(5) == 2, (2, 5))])
        assert not exogenous_slopes(np.concatenate([rows, later]), was_set, EXOGENOUS).any()


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


def test_a_suite_of_one_is_padded_as_others_are(shipped):
    """A system with and one without, side by side, play as each alone."""
    one, other = (
        load_suite("simple", 1000).first(1).systems[0],
        with_disturbance(load_suite("medium", 1000).first(1).systems[0]),
    )
    backend, state = shipped
    suite = Suite("both", (one, other), first_stream=0)
    both = run_method(suite, "policy_exogenous", 0, 8, 3, backend, state)
    assert batch_task([one, other], draw_episodes(suite, 0, 8, 3).observations).valid.shape[1] == len(other.names)
    alone = run_method(Suite("one", (one,), first_stream=0), "policy_exogenous", 0, 8, 3, backend, state)
    np.testing.assert_allclose(both.value[0], alone.value[0], rtol=1e-4)


def test_an_scm_names_what_is_exogenous():
    variables = (Variable("w", manipulable=False), Variable("x"), Variable("z", manipulable=False),
                 Variable("h", manipulable=False, hidden=True), Variable("y", manipulable=False))  # fmt: skip
    scm = SCM("s", "y", variables, {("w", "x"): 1.0, ("x", "z"): 1.0, ("h", "w"): 1.0, ("z", "y"): 1.0})
    assert scm.exogenous.tolist() == [True, False, False, False, False]
    names = ("w", "x", "q", "y")
    variables = tuple(Variable(name, manipulable=name == "x") for name in names)
    result_of_target = SCM("s", "y", variables, {("y", "q"): 1.0, ("w", "y"): 1.0})
    assert result_of_target.exogenous.tolist() == [True, False, False, False]
