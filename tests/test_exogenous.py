"""Exogenous variables: what they explain is taken off, with every backend and in the arena."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weather import (
    DRIVES,
    EXOGENOUS,
    FOLLOWS,
    NAMES,
    plant,
    task_of,
    with_disturbance,
    without_chance,
)

from acbo_ref.arena.play import batch_task, draw_episodes, run_method
from acbo_ref.arena.suites import Suite, load_suite
from acbo_ref.backend import ReferenceBackend
from acbo_ref.config import PriorConfig
from acbo_ref.errors import AcboError
from acbo_ref.policy.exogenous import ExogenousSession, Told, exogenous_slopes, see_through
from acbo_ref.systems.prior import sample_scm
from acbo_ref.systems.scm import SCM, Variable
from acbo_ref.verify.data import perturbed_state, small_config


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
