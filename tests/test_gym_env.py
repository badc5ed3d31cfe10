"""The Gymnasium adapter: its own checker, and that it is the system and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from acbo_ref import SCM, Variable
from acbo_ref.arena.suites import load_suite
from acbo_ref.errors import AcboError
from acbo_ref.policy.inputs import OUTCOME_BOUND

pytest.importorskip("gymnasium")
from gymnasium.utils.env_checker import check_env

from acbo_ref.arena.gym_env import InterventionEnv


@pytest.mark.filterwarnings("ignore::UserWarning")  # the checker would like bounded observations and flat actions
def test_it_passes_gymnasiums_own_check():
    systems = load_suite("standardised", 0, quick=True).systems
    check_env(InterventionEnv(systems, 5, 4), skip_render_check=True)


def test_an_episode_is_the_system():
    system = load_suite("simple", 0, quick=True).systems[0]
    env = InterventionEnv([system], 6, 3)
    observation, info = env.reset(seed=1)
    assert info["system"] == system.name and not observation["rows"][6:].any() and not observation["intervened"].any()
    best = system.oracle
    total = 0.0
    for k in range(3):
        end = 1.0 if best.value == system.high[best.variable] else -1.0
        observation, reward, terminated, truncated, info = env.step(
            {"variable": best.variable, "value": np.array([end])}
        )
        assert not terminated and truncated == (k == 2)
        assert observation["rows"][6 + k, best.variable] == pytest.approx(end)  # the end of its domain
        assert observation["intervened"][6 + k].sum() == 1
        assert reward == -observation["rows"][6 + k, system.target_index]
        total += info["outcome"]
    assert total / 3 < system.observational_moments[0]
    again, _ = env.reset(seed=1)
    env2 = InterventionEnv([system], 6, 3)
    other, _ = env2.reset(seed=1)
    np.testing.assert_array_equal(again["rows"], other["rows"])


def test_what_cannot_be_set_sets_nothing():
    system = load_suite("simple", 0, quick=True).systems[0]
    env = InterventionEnv([system], 2, 1)
    env.reset(seed=0)
    observation, *_ = env.step({"variable": system.target_index, "value": np.array([1.0])})
    assert not observation["intervened"].any()


def test_nonsense_is_refused():
    with pytest.raises(AcboError):
        InterventionEnv([])


def test_a_target_to_be_maximised_is_told_in_the_users_direction_and_rewards_are_bounded():
    """Y = 10 X, to be maximised, nearly without noise, seen only near X = 0: setting X to 5 gives
    50, which is many spreads and counts as OUTCOME_BOUND of them.
    """
    plant = SCM(
        "plant", "y", (Variable("x", 0.0, 0.01), Variable("y", 0.0, 0.01)), {("x", "y"): 10.0}, direction="maximize"
    )
    env = InterventionEnv([plant], 2, 2)
    env.reset(seed=0)
    _, reward, _, _, info = env.step({"variable": 0, "value": np.array([1.0])})
    assert info["outcome"] == pytest.approx(50, abs=0.1) and reward == OUTCOME_BOUND / 5
    _, reward, _, _, info = env.step({"variable": 0, "value": np.array([-1.0])})
    assert info["outcome"] == pytest.approx(-50, abs=0.1) and reward == -OUTCOME_BOUND / 5
