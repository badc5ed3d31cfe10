"""Very wide systems: the most promising variables, and a session on them that speaks of all."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
from campaign_crashes import small_policy

from acbo_fast import available, backend_maker
from acbo_ref import AcboError, Campaign
from acbo_ref.backend import ReferenceBackend
from acbo_ref.policy import screening
from acbo_ref.policy.inputs import Task
from acbo_ref.verify.data import ROWS, perturbed_state, small_config

CONFIG = small_config(dtype="float64")
STATE = perturbed_state(ReferenceBackend(CONFIG))


def task(width=9, rows=40, seed=0):
    """Two systems: the target is X2, caused by X5 and X7; the second has two variables less."""
    rng = np.random.default_rng(seed)
    observations = rng.standard_normal((2, rows, width))
    observations[:, :, 2] = observations[:, :, 5] + observations[:, :, 7] + 0.1 * rng.standard_normal((2, rows))
    valid = np.ones((2, width), bool)
    valid[1, -1:] = False
    return Task(
        observations=observations * 1e6 ** np.arange(width),  # the unit says nothing
        observation_mask=np.ones((2, rows), bool),
        target=np.array([2, 2]),
        valid=valid,
        manipulable=valid & (np.arange(width) != 2),
        low=np.full((2, width), -2.0) * 1e6 ** np.arange(width),
        high=np.full((2, width), 2.0) * 1e6 ** np.arange(width),
    )


def reduced(known, index):
    """The same systems as if they had the variables `index` (E, M) only."""
    names = ("valid", "manipulable", "low", "high")
    return Task(
        observations=np.take_along_axis(known.observations, index[:, None], axis=2),
        observation_mask=known.observation_mask,
        target=np.array([row.tolist().index(2) for row in index]),
        **{name: np.take_along_axis(getattr(known, name), index, axis=1) for name in names},
    )


def test_the_target_and_what_goes_with_it_are_kept():
    known = task()
    assert screening.promising(known, 3).tolist() == [[2, 5, 7]] * 2
    keep = np.zeros((2, 9), bool)
    keep[0, 0] = True  # was set already
    assert screening.promising(known, 4, keep)[0].tolist() == [0, 2, 5, 7]
    assert 8 not in screening.promising(known, 8)[1]  # padding comes last


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9, 1e-3 * 10.0 ** -np.arange(9)], ids=["small", "one", "large", "each"])
def test_neither_unit_nor_zero_nor_rows_that_do_not_count_matter(unit):
    known = task()
    rows = 100.0 + known.observations / 1e6 ** np.arange(9)  # back in one unit, and far from 0
    rows[:, 30:] = 1e3 * np.eye(9)[1]  # says that X1 is all that matters; not one of these rows counts
    rows[:, 30:, 2] = 1e3
    mask = np.tile(np.arange(40) < 30, (2, 1))
    far = {name: 100.0 + getattr(known, name) / 1e6 ** np.arange(9) for name in ("low", "high")}
    other = dataclasses.replace(
        known, observations=unit * rows, observation_mask=mask, **{name: unit * end for name, end in far.items()}
    )
    assert screening.promising(other, 3).tolist() == [[2, 5, 7]] * 2


def test_a_lever_goes_before_its_equal_and_not_before_its_better():
    """X5 and X7 are one and the same and only X7 can be set, as only X1 can of X0 and X1, which go
    less with the target; the lever X3 has nothing to do with it.
    """
    known = task()
    rows, rng = known.observations / 1e6 ** np.arange(9), np.random.default_rng(2)
    rows[:, :, 7] = rows[:, :, 5]
    rows[:, :, 2] = rows[:, :, 5] + 0.1 * rng.standard_normal((2, 40))
    rows[:, :, 0] = rows[:, :, 1] = rows[:, :, 2] + 0.5 * rng.standard_normal((2, 40))
    levers = np.tile(np.isin(np.arange(9), [1, 3, 7]), (2, 1))
    ends = {"low": np.full((2, 9), -2.0), "high": np.full((2, 9), 2.0)}
    known = dataclasses.replace(known, observations=rows, manipulable=levers, **ends)
    assert screening.promising(known, 2).tolist() == [[2, 7]] * 2
    assert screening.promising(known, 3).tolist() == [[2, 5, 7]] * 2
    assert screening.promising(known, 4).tolist() == [[1, 2, 5, 7]] * 2


def test_where_all_is_equal_the_first_are_kept():
    """Every other variable is the target's copy, the others stand still, and only the last can be
    set.
    """
    place = np.arange(200)
    known = Task(
        observations=np.where(place % 2 == 0, np.arange(5.0)[:, None], 1.0)[None],
        observation_mask=np.ones((1, 5), bool),
        target=np.array([150]),
        valid=np.ones((1, 200), bool),
        manipulable=(place == 199)[None],
        low=np.full((1, 200), -1.0),
        high=np.full((1, 200), 1.0),
    )
    assert screening.promising(known, 64)[0].tolist() == [*range(0, 124, 2), 150, 199]


@pytest.mark.parametrize("backend", available())
def test_a_screened_session_decides_as_one_on_those_variables_alone(monkeypatch, backend):
    monkeypatch.setattr(screening, "MOST_VARIABLES", 4)
    made = backend_maker(backend)(dataclasses.replace(CONFIG, extrapolation=1.0))
    known, rng = task(), np.random.default_rng(1)
    index = screening.promising(known, 4)
    wide = screening.open_session(CONFIG.policy, known, lambda t: made.session(made.from_host(STATE), t, 3))
    narrow = made.session(made.from_host(STATE), reduced(known, index), 3)
    half_way = np.take_along_axis(known.high, index[:, 1:3], axis=1) * [[0.4, 1.0], [-1.0, -0.4]]
    assert wide.near(index[:, 1:3], half_way).tolist() == [[True, False], [False, True]]
    for _ in range(3):
        a, b = wide.decide(decision="outcome_head"), narrow.decide(decision="outcome_head")
        assert (a.variable == index[np.arange(2), b.variable]).all()
        np.testing.assert_array_equal(a.value, b.value)
        for name in ("probability", "parent_probability"):
            np.testing.assert_array_equal(np.take_along_axis(getattr(a, name), index, axis=1), getattr(b, name))
        assert np.asarray(a.probability).sum(axis=1) == pytest.approx([1, 1])
        asked, values = index[:, 1:3], rng.standard_normal((2, 2))
        np.testing.assert_array_equal(
            wide.predict(asked, values).mean, narrow.predict(np.array([[1, 2]] * 2), values).mean
        )
        rows = rng.standard_normal((2, 9)) * 1e6 ** np.arange(9)
        wide.observe(a.variable, rows)
        narrow.observe(b.variable, np.take_along_axis(rows, index, axis=1))
    restricted = np.arange(9) == index[:, -1:]
    assert (wide.decide(allowed=restricted).variable == index[:, -1]).all()
    with pytest.raises(ValueError, match=r"^a variable was asked about that the session does not read$"):
        wide.predict(np.setdiff1d(np.arange(9), index[0])[:1].repeat(2)[:, None], np.zeros((2, 1)))
    with pytest.raises(ValueError, match=r"^a variable was set that the session does not read$"):
        wide.observe(np.setdiff1d(np.arange(9), index[0])[:1].repeat(2), rows)


def test_whatever_a_session_is_asked_reaches_the_one_inside(monkeypatch):
    """Noise of the policy head, and what the outcome head subtracts; in float32 as in float64."""
    monkeypatch.setattr(screening, "MOST_VARIABLES", 4)
    known, rng = task(), np.random.default_rng(3)
    index = screening.promising(known, 4)
    for dtype in ("float64", "float32"):
        config = small_config(dtype=dtype)
        made = ReferenceBackend(config)
        state = perturbed_state(made)
        state = state._replace(params={name: array.astype(dtype) for name, array in state.params.items()})
        session = made.session(state, reduced(known, index), 3)
        wide = screening.open_session(config.policy, known, lambda _, session=session: session)
        given = [{"decision": "outcome_head", "optimism": error} for error in (0.0, -1e4)]
        for _ in range(6):
            noise = {"gumbel": 5.0 * rng.gumbel(size=(2, 9)), "normal": 3.0 * rng.standard_normal(2)}
            given.append({"decision": "policy_head", **noise})
        found = []
        for asked in given:
            narrow = dict(asked)
            if "gumbel" in asked:
                narrow["gumbel"] = np.take_along_axis(asked["gumbel"], index, axis=1)
            a, b = wide.decide(**asked), session.decide(**narrow)
            assert (a.variable == index[np.arange(2), b.variable]).all() and (a.value == b.value).all()
            assert a.probability.dtype == b.probability.dtype == dtype
            found.append((*a.variable, *a.value))
        assert len(set(found)) == len(found)  # each of these makes a difference


def test_what_is_read_in_one_system_only(monkeypatch):
    """X8 in the first, where it can be set and was; the second does not even have it."""
    monkeypatch.setattr(screening, "MOST_VARIABLES", 4)
    known, made = task(), ReferenceBackend(CONFIG)
    keep = np.zeros((2, 9), bool)
    keep[0, 8] = True
    read = screening.variables_read(CONFIG.policy, known, keep)
    assert read[:, [2, 5, 7]].all() and read[:, 8].tolist() == [True, False] and read.sum(axis=1).tolist() == [4, 4]
    session = screening.open_session(CONFIG.policy, known, lambda t: made.session(STATE, t, 1), keep)
    assert session.predict(np.array([[8], [5]]), np.zeros((2, 1))).mean.shape == (2, 1)
    with pytest.raises(ValueError, match=r"^a variable was asked about that the session does not read$"):
        session.predict(np.array([[8], [8]]), np.zeros((2, 1)))
    with pytest.raises(ValueError, match=r"^no variable that is allowed is one that the session reads$"):
        session.decide(allowed=np.tile(np.arange(9) == 8, (2, 1)))


def test_there_is_always_a_lever():
    """Also where everything else goes with the target and the only lever does not."""
    known = task()
    only = np.arange(9) == np.array([[0], [4]])
    known = dataclasses.replace(known, manipulable=only)
    kept = screening.promising(known, 3)
    assert 0 in kept[0] and 4 in kept[1]


def test_what_is_not_read_cannot_be_asked_about(monkeypatch):
    monkeypatch.setattr(screening, "MOST_VARIABLES", 4)
    known, made = task(), ReferenceBackend(CONFIG)
    session = screening.open_session(CONFIG.policy, known, lambda t: made.session(STATE, t, 1))
    read = screening.variables_read(CONFIG.policy, known)
    assert read.sum(axis=1).tolist() == [4, 4]
    with pytest.raises(ValueError, match="no variable that is allowed"):
        session.decide(allowed=~read)


def test_a_wide_campaign_has_beliefs_of_what_it_reads_and_proposes_only_that(monkeypatch, tmp_path):
    monkeypatch.setattr(screening, "MOST_VARIABLES", 4)
    rows = np.random.default_rng(0).standard_normal((30, 8))
    rows[:, 7] = rows[:, 1] + rows[:, 2]
    variables = {f"x{i}": (-2.0, 2.0) for i in range(7)} | {"y": None}
    policy = small_policy(tmp_path / "policy.npz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        campaign = Campaign.create(tmp_path / "c", variables, "y", observations=rows, policy=policy)
        found = {belief.variable: (belief.value, belief.predicted) for belief in campaign.beliefs()}
        assert len(found) == 3 and {"x1", "x2"} <= set(found)
        asked = {campaign.ask(another=True).variable for _ in range(3)}
        assert asked == set(found)
        with pytest.raises(AcboError, match="pending"):
            campaign.ask(another=True)


def test_narrow_systems_and_the_trunk_over_rows_are_left_alone(monkeypatch):
    opened = []
    screening.open_session(CONFIG.policy, task(), lambda t: opened.append(t))
    monkeypatch.setattr(screening, "MOST_VARIABLES", 4)
    rows = small_config(policy=ROWS, grpo={"learned_decisions": None})
    screening.open_session(rows.policy, task(), lambda t: opened.append(t))
    monkeypatch.setattr(screening, "MOST_VARIABLES", 9)  # of each system, not of both; and 9 are not too many
    known = task()
    screening.open_session(CONFIG.policy, known, lambda t: opened.append(t))
    assert [t.valid.shape[1] for t in opened] == [9, 9, 9] and opened[-1] is known
    nothing = dataclasses.replace(task(), valid=np.zeros((0, 9), bool))
    assert screening.variables_read(CONFIG.policy, nothing).shape == (0, 9)
