"""What a candidate answers for: its own outcome, what would be settled on after it, or the rest of
its episode.
"""

from __future__ import annotations

import numpy as np
import pytest

from acbo_ref import AcboError
from acbo_ref.backend import ReferenceBackend
from acbo_ref.grpo import rollout as rollouts
from acbo_ref.grpo.credit import answered_for, by_episode, by_group, outcome_to_go, reward
from acbo_ref.grpo.noise import draw_noise
from acbo_ref.grpo.rollout import judge, observe
from acbo_ref.grpo.update import group_advantages
from acbo_ref.policy.acquisition import ROLLOUT_GRID
from acbo_ref.policy.inputs import standard_units
from acbo_ref.policy.reading import PairReading
from acbo_ref.systems.batch import simulate
from acbo_ref.verify.data import EPISODES, ROWS, iteration_data, perturbed_state, small_config


def played(config):
    made = ReferenceBackend(config)
    state, data = perturbed_state(made), iteration_data(config)
    return made, state, data, made.rollout(state, *data, 1.5)


def test_what_a_candidate_answers_for_by_hand():
    outcome, settled, left = np.array([[1.0, 4.0]]), np.array([[-2.0, 0.0]]), np.array([[3.0]])
    assert answered_for(outcome, settled, left, "cumulative").tolist() == [[-1.25, 1.0]]
    assert answered_for(outcome, settled, left, "final").tolist() == [[-2.0, 0.0]]
    assert answered_for(outcome, settled, 0 * left, "cumulative").tolist() == outcome.tolist()


def test_what_an_episode_still_gives_by_hand():
    """Four decisions of which two, four and nine are within the budget."""
    outcome = np.array([[1.0, 3.0, 5.0, 7.0]] * 3)
    settled, budget = np.array([[10.0, 20.0, 30.0, 40.0]] * 3), np.array([2, 4, 9])
    found = outcome_to_go(outcome, settled, budget, "cumulative")
    assert found.tolist() == [[2.0, 3.0, 5.0, 7.0], [4.0, 5.0, 6.0, 7.0], [4.0, 5.0, 6.0, 7.0]]
    found = outcome_to_go(outcome, settled, budget, "final")
    assert found.tolist() == [[20.0, 20.0, 30.0, 40.0], [40.0] * 4, [40.0] * 4]


def test_groups_of_episodes_there_and_back():
    rewards = np.arange(12.0).reshape(6, 2, 1)  # two systems, three episodes of each, two decisions
    grouped = by_group(rewards, 3)
    assert grouped.tolist() == [[[0, 2, 4], [1, 3, 5]], [[6, 8, 10], [7, 9, 11]]]
    assert (by_episode(grouped, 3) == rewards).all()
    assert by_group(rewards, 1) is rewards and by_episode(rewards, 1) is rewards


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_a_groups_mean_advantage_is_nothing(scale):
    config = small_config(dtype="float64", grpo={**EPISODES, "scale_rewards": scale})
    _, _, _, t = played(config)
    assert t.rewards.shape == (6, 2, 1)
    advantage = group_advantages(t.rewards, config)[:, :, 0].reshape(2, 3, 2)
    np.testing.assert_allclose(advantage.mean(axis=1), 0.0, atol=1e-12)
    assert np.abs(advantage).max() > 0.1


@pytest.mark.parametrize("changes", [{}, {"policy": ROWS, "grpo": {"learned_decisions": None}}])
def test_with_nothing_left_it_is_the_immediate_outcome(changes):
    """A budget of one experiment: the same rewards as without credit for what comes after."""
    grpo = changes.get("grpo", {})
    rest = {key: value for key, value in changes.items() if key != "grpo"}
    one = small_config(dtype="float64", **rest, grpo={**grpo, "credit": "settle", "budget": [1, 1]})
    many = small_config(dtype="float64", **rest, grpo={**grpo, "credit": "settle", "budget": [9, 9]})
    told = small_config(dtype="float64", **rest, grpo={**grpo, "budget": [1, 1]})
    expected, found = played(told)[3], played(one)[3]
    np.testing.assert_allclose(found.rewards, expected.rewards, rtol=1e-12)
    assert np.abs(played(many)[3].rewards - expected.rewards).max() > 1e-3
    episodes = small_config(
        dtype="float64", **rest, grpo={**grpo, "credit": "episode", "group_size": 3, "budget": [1, 1]}
    )
    t = played(episodes)[3]
    outcome = np.take_along_axis(t.expected, t.learned, axis=1)
    is_parent = np.take_along_axis(t.parents, np.take_along_axis(t.done, t.learned, axis=1), axis=1)
    np.testing.assert_allclose(t.rewards[:, :, 0], reward(outcome, is_parent, 0.0, episodes.reward), rtol=1e-12)


def settled_by_reading_for_good(config, made, state, data, t, k, g):
    """The true standard outcome of what a session settles on that reads the rows up to step k, and
    then that of candidate g.
    """
    systems, observation_mask, noise = data
    task = observe(systems, noise.observation, observation_mask)
    units, each = standard_units(task), np.arange(len(t.done))
    session = made.session(state, task, k + 1)
    for step in range(k + 1):
        variable = t.done[:, step] if step < k else t.variable[:, k, g]
        raw = t.applied[:, step]
        if step == k:
            raw = units.location[each, variable] + units.scale[each, variable] * t.judged_value[:, k, g]
        row = simulate(systems, noise.intervention[:, step : step + 1], variable[:, None], raw[:, None])[:, 0]
        session.observe(variable, row)
    values = (ROLLOUT_GRID + 5.0) / 10.0
    best = np.full(len(each), np.inf)
    chosen = np.zeros((len(each), 2))
    for i in range(task.valid.shape[1]):
        for share in values:
            raw = task.low[:, i] + (task.high[:, i] - task.low[:, i]) * share
            variable = np.full(len(each), i)
            mean = session.predict(variable[:, None], raw[:, None]).mean[:, 0]
            better = task.manipulable[:, i] & (mean < best)
            best = np.where(better, mean, best)
            chosen = np.where(
                better[:, None], np.stack([variable, 10.0 * (share - 0.5) * np.ones(len(each))], 1), chosen
            )
    draws = np.concatenate([noise.intervention[:, k, None], noise.scoring[:, k]], axis=1)
    return judge(systems, task, units, draws, chosen[:, :1].astype(int), chosen[:, 1:]).outcome[:, 0]


def test_settle_is_what_reading_the_row_for_good_would_settle_on(monkeypatch):
    """By a session that has read each candidate's row; a peek that does not read it is noticed."""
    config = small_config(
        dtype="float64", extrapolation=None, scm={"curved": 0.0, "hidden": 0.0},
        grpo={"credit": "settle", "objective": "final", "learned_decisions": None, "group_size": 2},
        reward={"target": 1.0, "parent": 0.0},
    )  # fmt: skip
    made, state, data, t = played(config)
    expected = np.array(
        [[settled_by_reading_for_good(config, made, state, data, t, k, g) for g in range(2)] for k in range(3)]
    )
    found = -5.0 * np.moveaxis(t.rewards, 0, 2)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    monkeypatch.setattr(PairReading, "peek", lambda self, variable, rows: self._view(self._moments))
    broken = -5.0 * np.moveaxis(made.rollout(state, *data, 1.5).rewards, 0, 2)
    assert np.abs(broken - expected).max() > 1e-3


def test_episodes_of_a_group_share_all_but_their_choices():
    config = small_config(grpo={**EPISODES, "budget": [1, 3]}, reward={"noise_draws": 4})
    systems, observation_mask, noise = iteration_data(config)
    for name in ("observation", "intervention", "scoring", "learned", "budget"):
        array = getattr(noise, name)
        assert (array[:3] == array[0]).all() and (array[3:] == array[3]).all(), name
    assert (observation_mask[:3] == observation_mask[0]).all()
    for array in (systems.intercept, systems.target, systems.edges):
        assert (array[:3] == array[0]).all()
    assert (noise.observation[0] != noise.observation[3]).any()
    assert (noise.gumbel[0] != noise.gumbel[1]).any() and (noise.normal[0] != noise.normal[1]).any()
    assert noise.gumbel.shape[2] == 1


def test_budgets_of_every_order_of_magnitude():
    config = small_config(batch_size=600, grpo={"budget": [1, 50], "minibatches": 1})
    budget = draw_noise(config, 0, 2, 3).budget
    assert budget.min() == 1 and 40 < budget.max() <= 50
    assert 0.13 < (budget == 1).mean() < 0.23  # log 2 / log 51 is .176, known to .016
    assert (draw_noise(small_config(), 0, 2, 3).budget == 3).all()


def test_the_final_settlement_is_looked_at_after_the_last_row(monkeypatch):
    """Credit episode with the final objective asks once more than there are decisions."""
    counted = []
    whole = rollouts.settled_outcome
    monkeypatch.setattr(rollouts, "settled_outcome", lambda *a: counted.append(1) or whole(*a))
    for objective, times in (("final", 3), ("cumulative", 0)):
        counted.clear()
        t = played(small_config(dtype="float64", grpo={**EPISODES, "objective": objective}))[3]
        assert len(counted) == times and np.isfinite(t.rewards).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"grpo": {"credit": "episode", "group_size": 4}}, "does not divide batch_size 6"),
        ({"grpo": EPISODES, "heads": {"commit_by_outcome_head": 0.5}}, "needs heads.commit_by_outcome_head: 0"),
        ({"grpo": {**EPISODES, "budget": [1, 9]}}, "above interventions_per_episode 3"),
        ({"grpo": {"credit": "whole"}}, "grpo.credit"),
        ({"grpo": {"objective": "sum"}}, "grpo.objective"),
        ({"grpo": {"objective": "final"}}, "needs grpo.credit settle or episode"),
        ({"grpo": {"budget": [0, 9]}}, "grpo.budget"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, words):
    with pytest.raises(AcboError, match=words):
        small_config(**changes)
