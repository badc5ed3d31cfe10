"""Sessions of the reference by hand: what is decided, drawn and predicted, and in which units.

What every backend's session must do is in test_backends.py.
"""

from __future__ import annotations

import numpy as np
import pytest

from acbo_ref.config import Config, PolicyConfig
from acbo_ref.policy import network
from acbo_ref.policy.acquisition import (
    DECISION_GRID,
    ROLLOUT_GRID,
    acquisition_features,
    hopeful,
    lowest_predicted,
    optimism_now,
    predict_on_grid,
)
from acbo_ref.policy.extrapolation import within
from acbo_ref.policy.heads import VALUE_FEATURES, OutcomeState, heads_forward
from acbo_ref.policy.inputs import Task, Units
from acbo_ref.policy.layers import sigmoid
from acbo_ref.policy.local import Tried
from acbo_ref.policy.session import Decision, Session, or_nothing, raw_prediction
from acbo_ref.verify.data import ROWS, small_config


def two_systems():
    """Three variables each, domains of their own, the target in another place; X2 of the second
    system is padding.
    """
    rows = np.random.default_rng(0).standard_normal((2, 6, 3)) * np.array([1.0, 3.0, 2.0]) + 5.0
    return Task(
        observations=rows, observation_mask=np.ones((2, 6), bool), target=np.array([2, 0]),
        valid=np.array([[True, True, True], [True, True, False]]),
        manipulable=np.array([[True, True, False], [False, True, False]]),
        low=np.array([[0.0, -4.0, 0.0], [0.0, 10.0, 0.0]]), high=np.array([[10.0, 4.0, 0.0], [0.0, 30.0, 0.0]]),
    )  # fmt: skip


def parameters(config, seed=0):
    rng = np.random.default_rng(seed)
    params = network.init_params(config.policy, seed)
    return {name: value + 0.3 * rng.standard_normal(value.shape) for name, value in params.items()}


def test_grids():
    assert DECISION_GRID.tolist() == [n / 4 for n in range(-20, 21)]
    assert ROLLOUT_GRID.tolist() == list(range(-5, 6))


def test_raw_units_by_hand():
    """Target X1 of the first system, at 10 and in units of 2, and X0 of the second, at -1 and 0.5;
    an error of 3 and a noise of 4 make 5.
    """
    units = Units(
        location=np.array([[7.0, 10.0], [-1.0, 7.0]]), scale=np.array([[9.0, 2.0], [0.5, 9.0]]),
        mean=np.zeros((2, 2)), resolution=np.zeros((2, 2)),
    )  # fmt: skip
    task = Task(*[np.zeros((2, 0, 2))] * 2, np.array([1, 0]), *[np.ones((2, 2), bool)] * 4)
    mean = np.array([[1.0, -2.0, 0.0], [4.0, 0.0, 1.0]])
    found = raw_prediction(task, units, mean, np.log(np.full((2, 3), 3.0)), np.log(np.full((2, 3), 4.0)))
    assert found.mean.tolist() == [[12.0, 6.0, 10.0], [1.0, -1.0, -0.5]]
    np.testing.assert_allclose(found.error, [[6.0] * 3, [1.5] * 3])
    np.testing.assert_allclose(found.std, [[10.0] * 3, [2.5] * 3])


def test_the_lowest_predicted_by_hand():
    """A head that says slope (u - centre), with error 1 everywhere. What is known of one place
    makes its error small, and a large optimism goes elsewhere.
    """
    params = {
        "outcome_head.value.weight": np.zeros((VALUE_FEATURES, 2)), "outcome_head.out.weight": np.zeros((2, 4)),
        "outcome_head.out.bias": np.array([0.0, 0.0, 0.0, -3.0]),
    }  # fmt: skip
    slope = np.array([[1.0, -2.0, 9.0], [3.0, 0.5, 9.0]])
    zero, one = np.zeros((2, 3)), np.ones((2, 3))
    state = OutcomeState(np.zeros((2, 3, 2)), slope, zero, one, np.log(0.1) * one)
    nothing = Tried(*[np.zeros((2, 0), int)] * 3, np.zeros((2, 0), bool))
    allowed, grid = np.array([[True, True, False]] * 2)[:, :, None], np.array([-5.0, 0.0, 5.0])
    untried = predict_on_grid(params, state, nothing, grid)
    variable, value = lowest_predicted(untried, 0.0, allowed, grid)
    assert variable.tolist() == [1, 0] and value.tolist() == [5.0, -5.0]
    # as said there: the mean stays and the error is all but gone; so 0 - 5 at some other place
    variable_tried, value_tried = variable[:, None], value[:, None]
    outcome = np.array([[-2.0], [-3.0]])
    tried = predict_on_grid(params, state, Tried(variable_tried, value_tried, outcome, np.ones((2, 1), bool)), grid)
    for optimism, expected in ((0.0, [(1, 5.0), (0, -5.0)]), (5.0, [(0, -5.0), (1, -5.0)])):
        for given in (optimism, np.full(2, optimism)):
            found = lowest_predicted(tried, given, allowed, grid)
            assert list(zip(*(array.tolist() for array in found), strict=True)) == expected
    inside = allowed & np.array([False, True, True])  # not the lowest value
    found = lowest_predicted(untried, 0.0, inside, grid)
    assert found[0].tolist() == [1, 0] and found[1].tolist() == [5.0, 0.0]
    found = lowest_predicted(tried, np.array([5.0, 0.0]), allowed, grid)
    assert found[0].tolist() == [0, 0]  # each system has its own
    narrow = OutcomeState(*(array.astype(np.float32) for array in state))
    weights = {name: array.astype(np.float32) for name, array in params.items()}
    single = predict_on_grid(weights, narrow, nothing, grid)
    assert lowest_predicted(single, 0.0, allowed, grid)[1].dtype == np.float32


def test_doing_nothing_in_several_systems():
    """Rows that do not count do not; two rows, 1 and 3, say 2 with a standard deviation of sqrt 2
    and an error of 1. One row says nothing, and an action that is better stays as it is.
    """
    rows = np.zeros((4, 3, 2))
    rows[:, :, 1] = [[1.0, 3.0, 99.0], [99.0, 5.0, 9.0], [7.0, 99.0, 99.0], [1.0, 3.0, 99.0]]
    counts = np.array([[True, True, False], [False, True, True], [True, False, False], [True, True, False]])
    task = Task(rows, counts, np.ones(4, int), *[np.ones((4, 2), bool)] * 2, np.zeros((4, 2)), np.ones((4, 2)))
    decision = Decision(
        variable=np.zeros(4, int), value=np.full(4, 0.5), probability=np.ones((4, 2)),
        parent_probability=np.ones((4, 2)), outcome_mean=np.array([2.5, 7.5, 9.0, 1.5]),
        outcome_error=np.full(4, 0.25), outcome_std=np.full(4, 0.75),
    )  # fmt: skip
    found = or_nothing(decision, task, 1.0)
    assert found.variable.tolist() == [-1, -1, 0, 0] and found.value.tolist() == [0.0, 0.0, 0.5, 0.5]
    assert found.outcome_mean.tolist() == [2.0, 7.0, 9.0, 1.5]
    np.testing.assert_allclose(found.outcome_error, [1.0, 2.0, 0.25, 0.25])
    np.testing.assert_allclose(found.outcome_std, [np.sqrt(3.0), np.sqrt(12.0), 0.75, 0.75])
    assert found.probability is decision.probability
    assert not or_nothing(decision, task, 3.0).variable.any()  # 2.5 - 0.75 is below 2, 7.5 - 0.75 below 7


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("trunk", [{}, ROWS])
def test_a_draw_of_the_policy_head_by_hand(trunk, fixed):
    """The variable with the largest logit, or logit + Gumbel noise; its mean, or mean + std normal,
    kept inside the domain.
    """
    config = small_config(
        policy={**trunk, "use_fixed_std": fixed, "fixed_std": 0.3}, grpo={"learned_decisions": None}, extrapolation=None
    )
    params, task = parameters(config), two_systems()
    session, each = Session(params, config, task, 2), np.arange(2)
    acquisition = np.zeros((2, 3, 0))
    if not trunk:  # one experiment is left after this one
        near = task.manipulable[:, :, None] & within(session._seen, DECISION_GRID)
        predicted = predict_on_grid(params, session._outcome(), session._tried(), DECISION_GRID)
        good, usual = hopeful(predicted, near, np.ones(2, bool)), optimism_now(config.optimism, np.ones(2))
        acquisition = acquisition_features(predicted, usual, good, DECISION_GRID, np.ones(2))
    h, evidence = session._thought.h[:, None], session._view.evidence[:, None]
    said = heads_forward(params, config.policy, h, task.manipulable, evidence, acquisition[:, None])[0]
    logits, means = said.logits[:, 0], said.means[:, 0]
    std = np.full(means.shape, 0.3) if fixed else np.exp(said.log_stds[:, 0])
    normal = np.array([1.5, -1.0])
    for gumbel in (None, np.array([[-99.0, 0.0, 0.0]] * 2), np.array([[0.0, -99.0, 0.0]] * 2)):
        for noise in (None, normal):
            found = session.decide(gumbel, noise, "policy_head")
            variable = (logits if gumbel is None else logits + gumbel).argmax(axis=1)
            assert found.variable.tolist() == variable.tolist() and variable[1] == 1
            standard = means[each, variable] + (0.0 if noise is None else noise * std[each, variable])
            low, high = task.low[each, variable], task.high[each, variable]
            raw = np.clip((low + high) / 2 + (high - low) / 10 * standard, low, high)
            np.testing.assert_allclose(found.value, raw)
    for far in (99.0, -99.0):  # what is predicted is the end that is played
        found = session.decide(None, np.full(2, far), "policy_head")
        said_of_it = session.predict(found.variable[:, None], found.value[:, None])
        np.testing.assert_allclose(found.outcome_mean, said_of_it.mean[:, 0])
        np.testing.assert_allclose(found.outcome_std, said_of_it.std[:, 0])
    probability = np.where(task.manipulable, np.exp(logits - logits.max(axis=1, keepdims=True)), 0.0)
    np.testing.assert_allclose(found.probability, probability / probability.sum(axis=1, keepdims=True))
    parents = sigmoid(said.parent_logits[:, 0])
    assert found.parent_probability[0].tolist() == [*parents[0, :2], 0.0]  # the target has none
    assert found.parent_probability[1].tolist() == [0.0, parents[1, 1], 0.0]


def test_who_decides_and_how_bold_is_configured_unless_told():
    config = small_config(decision="outcome_head", optimism=2.0)
    params, task = parameters(config), two_systems()
    session = Session(params, config, task, 1, 20)  # 19 are left after the first

    def values(**told):
        decision = session.decide(**told)
        return [decision.variable.tolist(), decision.value.tolist(), decision.outcome_mean.tolist()]

    assert values() == values(decision="outcome_head", optimism=2.0)
    assert values(optimism=0.0) == values(decision="outcome_head", optimism=0.0) != values()
    plain = Session(params, small_config(decision="policy_head", optimism=2.0), task, 1, 20)
    assert values(decision="policy_head")[1] == plain.decide().value.tolist() != values()[1]


def test_predictions_are_about_the_action_asked_about():
    """Each action by itself is what it is among others; an action beyond a domain is its end."""
    config = small_config()
    params, task = parameters(config), two_systems()
    session = Session(params, config, task, 1)
    variable, value = np.array([[0, 1, 0], [1, 1, 1]]), np.array([[3.0, -2.0, 99.0], [12.0, 25.0, -99.0]])
    together = session.predict(variable, value)
    ends = np.array([[3.0, -2.0, 10.0], [12.0, 25.0, 10.0]])
    for n in range(3):
        alone = session.predict(variable[:, [n]], ends[:, [n]])
        for name in ("mean", "error", "std"):
            np.testing.assert_allclose(getattr(alone, name)[:, 0], getattr(together, name)[:, n], rtol=1e-12)
    assert len(set(together.mean.ravel().tolist())) == 6


def test_what_was_done_is_known_afterwards():
    """An action done many times with one result: that is what is expected of it, nearly without
    error. By name or by mask, a row says the same; two levers set at once say nothing of either.
    """
    config = small_config()
    params, task = parameters(config), two_systems()
    rows = np.array([[4.0, 2.0, 9.0], [6.0, 20.0, 0.0]])
    variable = np.array([1, 1])
    mask = np.array([[False, True, False]] * 2)
    sessions = [Session(params, config, task, 16) for _ in range(3)]
    for session, what in zip(sessions, (variable, mask, mask | np.array([True, False, False])), strict=True):
        before = session.predict(variable[:, None], rows[:, [1]])
        for _ in range(16):
            session.observe(what, rows)
        after = session.predict(variable[:, None], rows[:, [1]])
        if session is sessions[2]:
            assert session._own.tried.counts.tolist() == [[False] * 16] * 2
        else:
            assert (after.error < before.error / 2).all()
        with pytest.raises(ValueError, match=r"^the session was opened for 16 interventions$"):
            session.observe(what, rows)
    a, b, _ = (session.decide(decision="outcome_head") for session in sessions)
    assert a.value.tolist() == b.value.tolist() and a.outcome_mean.tolist() == b.outcome_mean.tolist()


def test_over_rows_nothing_is_local():
    """The trunk over rows has no own outcomes to put beside what it says."""
    config = Config(policy=PolicyConfig("simple_permutation_invariant", hidden_dim=4, num_layers=2, num_heads=2))
    session = Session(parameters(config), config, two_systems(), 3)
    for n in range(3):
        session.observe(np.array([0, 1]), np.full((2, 3), float(n)))
    assert session._tried().value.shape == (2, 0)
    with pytest.raises(ValueError, match="opened for 3"):
        session.observe(np.array([0, 1]), np.ones((2, 3)))
    roomy = Session(parameters(config), config, two_systems(), 9)  # the last row is read as well
    for n in range(3):
        roomy.observe(np.array([0, 1]), np.full((2, 3), float(n)))
    np.testing.assert_allclose(session.decide().probability, roomy.decide().probability, rtol=1e-12)
