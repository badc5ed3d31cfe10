"""How far from what was seen an experiment may lie, by hand and in every backend's decisions."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2

from acbo_fast import available, backend_maker
from acbo_ref.backend import ReferenceBackend
from acbo_ref.policy.acquisition import DECISION_GRID
from acbo_ref.policy.extrapolation import Seen, is_near, seen_at_first, seen_with, within
from acbo_ref.policy.inputs import Task, set_mask, standard_units
from acbo_ref.verify.data import small_config


def task(rows, low=-10.0, high=10.0, counts=None):
    """One system of three variables, the last of them the target."""
    rows = np.asarray(rows, float)[None]
    return Task(
        observations=rows,
        observation_mask=np.ones(rows.shape[:2], bool) if counts is None else np.asarray(counts)[None],
        target=np.array([2]),
        valid=np.ones((1, 3), bool),
        manipulable=np.array([[True, True, False]]),
        low=np.full((1, 3), low),
        high=np.full((1, 3), high),
    )


ROWS = np.array([[0.0, 1.0, 0.3], [2.0, 1.0, 0.1], [1.0, 1.0, -0.2], [1.0, 1.0, 0.4]])


def seen_of(known, extrapolation=2.0):
    return seen_at_first(known, standard_units(known), extrapolation)


def test_the_frontier_by_hand():
    """X0 has mean 1 and sum of squares 2 over four rows; the domain -10 to 10 makes 2 a unit."""
    seen = seen_of(task(ROWS))
    upper = np.sqrt(2.0 / chi2.ppf(0.05, 3))
    assert seen.low[0, 0] == seen.high[0, 0] == pytest.approx(0.5)
    assert seen.room[0, 0] == pytest.approx(2.0 * upper / 2.0)
    near = within(seen, DECISION_GRID)[0, 0]
    assert (near == (np.abs(DECISION_GRID - 0.5) <= upper + 1e-12)).all()


def test_the_upper_limit_of_a_spread_holds_as_often_as_it_says():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((4000, 5))
    known = Task(
        rows[:, :, None] * np.ones(3), np.ones((4000, 5), bool), np.full(4000, 2), np.ones((4000, 3), bool),
        np.ones((4000, 3), bool), np.full((4000, 3), -5.0), np.full((4000, 3), 5.0),
    )  # fmt: skip
    covered = (seen_of(known, 1.0).room[:, 0] > 1.0).mean()
    assert covered == pytest.approx(0.95, abs=0.011)  # three standard errors of 4,000 draws


def test_each_trial_moves_the_frontier():
    known = task(ROWS)
    seen = seen_of(known)
    after = seen_with(seen, standard_units(known), set_mask(np.array([0]), 3), np.array([[7.0, 9.0, 5.0]]))
    assert after.high[0, 0] == pytest.approx(3.5) and after.low[0, 0] == pytest.approx(0.5)
    assert after.high[0, 1] == seen.high[0, 1]  # not set: moving by itself moves nothing
    nothing = seen_with(seen, standard_units(known), set_mask(np.array([-1]), 3), np.array([[7.0, 9.0, 5.0]]))
    assert all((a == b).all() for a, b in zip(nothing, seen, strict=True))


def test_places_are_in_standard_units_and_inside_the_domain():
    """The domain -4 to 16 is 6 +- 5 * 2: the mean 1 stands at -2.5, 0 at -3; beyond an end is at
    the end.
    """
    known = task(ROWS, -4.0, 16.0)
    seen, units, was_set = seen_of(known), standard_units(known), np.array([[True, False, False]])
    assert seen.low[0, 0] == seen.high[0, 0] == pytest.approx(-2.5)
    for value, low, high in ((0.0, -3.0, -2.5), (4.0, -2.5, -1.0), (99.0, -2.5, 5.0), (-99.0, -5.0, -2.5)):
        after = seen_with(seen, units, was_set, np.array([[value, 0.0, 0.0]]))
        assert [after.low[0, 0], after.high[0, 0]] == pytest.approx([low, high])


def test_rows_that_do_not_count_are_not_seen():
    """Of two rows, 0 and 2, the sum of squares is 2 with one degree of freedom."""
    rows = np.array([[0.0, 1.0, 0.3], [2.0, 1.0, 0.1], [90.0, -70.0, 5.0], [-60.0, 3.0, 1.0]])
    found, alone = seen_of(task(rows, counts=[True, True, False, False])), seen_of(task(rows[:2]))
    assert all((a == b).all() for a, b in zip(found, alone, strict=True))
    assert found.room[0, 0] == pytest.approx(2.0 * np.sqrt(2.0 / chi2.ppf(0.05, 1)) / 2.0)
    assert seen_of(task(rows[:2]), 0.0).room[0, 0] == 0.0


def test_the_frontier_itself_is_near_enough():
    seen = Seen(np.array([[0.5, -1.0]]), np.array([[1.0, -1.0]]), np.array([[0.5, 0.0]]))
    values = np.array([[0.0, 1.5, -0.25, 1.75, -0.75, -1.25, -0.5]])
    found = is_near(seen, np.array([[0, 0, 0, 0, 1, 1, 1]]), values, 0.25)
    assert found.tolist() == [[True, True, False, False, True, True, False]]
    grid = np.linspace(-2.0, 2.0, 17)
    assert grid[within(seen, grid)[0, 0]].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
    assert grid[within(seen, grid)[0, 1]].tolist() == [-1.25, -1.0, -0.75]


def test_what_is_not_limited():
    """A variable that never varied, a single row, no limit asked for, rows that do not count."""
    assert np.isinf(seen_of(task(ROWS)).room[0, 1])
    assert np.isinf(seen_of(task(ROWS[:1])).room).all()
    assert np.isinf(seen_of(task(ROWS), None).room).all()
    assert np.isinf(seen_of(task(ROWS, counts=[True, False, False, False])).room).all()
    assert within(seen_of(task(ROWS), None), DECISION_GRID).all()


@pytest.mark.parametrize("shift", [0.0, 30.0, -1e4])
def test_some_value_is_always_near_enough(shift):
    """A spread far below the grid's step, inside the domain and outside of it."""
    known = task(ROWS * [1e-6, 1.0, 1.0] + [shift, 0.0, 0.0])
    near = within(seen_of(known, 0.0), DECISION_GRID)[0, 0]
    assert 1 <= near.sum() <= 4
    middle = np.clip(shift / 2, -5, 5)
    assert np.abs(DECISION_GRID[near] - middle).max() <= 0.25 + 1e-5


@pytest.mark.parametrize("backend", available())
def test_decisions_keep_to_it_and_reach_further_with_each_trial(backend):
    """Twenty spreads to the end of the domain: the outcome head's decisions get there in steps."""
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((20, 3))
    rows[:, 2] = -3.0 * rows[:, 0] + 0.1 * rng.standard_normal(20)
    known = task(rows, -20.0, 20.0)
    config = small_config(dtype="float64", decision="outcome_head", extrapolation=3.0)
    state = ReferenceBackend(config).init_state()
    played = {}
    for limit in (3.0, None):
        made = backend_maker(backend)(replace(config, extrapolation=limit))
        session, played[limit] = made.session(made.from_host(state), known, 4), []
        for _ in range(4):
            decision = session.decide()
            value = float(decision.value[0])
            played[limit].append((int(decision.variable[0]), value))
            row = np.array([[0.0, 0.0, 0.0]])
            row[0, decision.variable[0]] = value
            row[0, 2] = -3.0 * row[0, 0]
            session.observe(decision.variable, row)
    assert played[None][0] == (0, 20.0)  # an untrained policy follows the line to the end
    values = [value for _, value in played[3.0]]
    room = 3.0 * np.sqrt(((rows[:, 0] - rows[:, 0].mean()) ** 2).sum() / chi2.ppf(0.05, 19))
    assert {variable for variable, _ in played[3.0]} == {0} and values == sorted(values)
    assert 0 < values[0] <= rows[:, 0].mean() + room and values[-1] > values[0]
    assert all(b - a <= room + 1e-9 for a, b in itertools.pairwise(values))


@pytest.mark.parametrize("backend", available())
def test_a_session_says_what_is_near_enough(backend):
    known, config = task(ROWS), small_config(dtype="float64", extrapolation=2.0)
    made = backend_maker(backend)(config)
    session = made.session(made.from_host(ReferenceBackend(config).init_state()), known, 1)
    room = 2.0 * np.sqrt(2.0 / chi2.ppf(0.05, 3))
    values = np.array([[1.0 + 0.99 * room, 1.0 + 1.01 * room, 1.0 - 1.01 * room, 10.0]])
    assert session.near(np.array([[0, 0, 0, 1]]), values).tolist() == [[True, False, False, True]]
    session.observe(np.array([0]), np.array([[1.0 + room, 1.0, 0.0]]))
    assert session.near(np.array([[0, 0, 0, 1]]), values).tolist() == [[True, True, False, True]]


def test_the_policy_head_starts_from_what_is_near():
    """It is told of values that are near enough, and starts by playing one."""
    known = task(ROWS, -1e6, 1e6)
    config = small_config(dtype="float64", decision="policy_head", extrapolation=0.0)
    made = ReferenceBackend(config)
    near = made.session(made.init_state(), known, 1).decide()
    far = ReferenceBackend(replace(config, extrapolation=None))
    assert abs(near.value[0]) < 0.1e6 < abs(far.session(made.init_state(), known, 1).decide().value[0])
