"""Adam, clipping, schedules and whole updates against numbers derived by hand."""

from __future__ import annotations

import numpy as np
import pytest

from acbo_ref.config import Config, GRPOConfig, HeadsConfig
from acbo_ref.grpo import optim, update
from acbo_ref.grpo.loss import LossWeights, advantages, edge_mask
from acbo_ref.randomness import Role, generator
from acbo_ref.verify.data import off_policy, small_config


def test_adam_by_hand():
    state = optim.init_state({"a": np.array([1.0, 1.0]), "b": np.array([0.0])})
    for moment in (state.first_moment, state.second_moment):
        assert {name: value.tolist() for name, value in moment.items()} == {"a": [0.0, 0.0], "b": [0.0]}
    grads = {"a": np.array([3.0, -0.5]), "b": np.array([0.0])}
    state = optim.adam_step(state, grads, 0.1)
    # the first step is lr * sign(g), whatever the size of g
    assert state.params["a"] == pytest.approx([0.9, 1.1], abs=1e-8) and state.params["b"] == 0
    state = optim.adam_step(state, {"a": np.array([1.0, -0.5]), "b": np.array([0.0])}, 0.1)
    # m = 0.9 * 0.3 + 0.1 = 0.37, v = 0.999 * 0.009 + 0.001 = 0.009991; corrections 0.19 and
    # 0.001999
    step = 0.1 * (0.37 / 0.19) / np.sqrt(0.009991 / 0.001999)
    assert state.params["a"][0] == pytest.approx(0.9 - step, abs=1e-8) and state.step == 2


def test_clipping_keeps_the_direction():
    grads = {"a": np.array([3.0]), "b": np.array([0.0, 4.0])}
    assert optim.global_norm(grads) == 5.0
    clipped = optim.clip_by_global_norm(grads, 5.0, 1.0)
    assert clipped["a"] == pytest.approx([0.6]) and clipped["b"] == pytest.approx([0.0, 0.8])
    assert optim.clip_by_global_norm(grads, 5.0, 5.0) is grads and optim.clip_by_global_norm(grads, 5.0, None) is grads


def test_the_norm_of_float32_gradients_does_not_overflow():
    assert optim.global_norm({"a": np.array([1e30], np.float32)}) == pytest.approx(1e30)


def test_schedules():
    cosine = GRPOConfig(learning_rate=1.0, learning_rate_final=0.2)
    values = [optim.learning_rate(cosine, i, 5) for i in (0, 2, 4, 9)]
    # 0.2 + 0.8 * (1 + cos(pi t)) / 2 at t = 0, 1/2, 1, 1
    assert values == pytest.approx([1.0, 0.6, 0.2, 0.2])
    constant = GRPOConfig(learning_rate=0.3, learning_rate_schedule="constant")
    assert optim.learning_rate(constant, 3, 4) == 0.3
    anneal = GRPOConfig(entropy_coefficient=0.1, entropy_coefficient_final=0.0)
    assert [optim.entropy_coefficient(anneal, i, 5) for i in (0, 2, 4)] == pytest.approx([0.1, 0.05, 0.0])
    assert optim.entropy_coefficient(GRPOConfig(entropy_coefficient=0.1), 4, 5) == 0.1


def test_parameter_change():
    assert optim.parameter_change({"a": np.zeros(2)}, {"a": np.array([3.0, 4.0])}) == 5.0


def test_numbers_by_hand_at_the_edges():
    # a gradient of 1e-9, smaller than epsilon 1e-8: 1e-9 / (1e-9 + 1e-8)
    state = optim.adam_step(optim.init_state({"w": np.array([1.0])}), {"w": np.array([1e-9])}, 0.1)
    assert state.params["w"][0] == pytest.approx(1.0 - 0.1 / 11.0, rel=1e-12)
    assert optim.parameter_change({"a": np.array([1.0, 2.0])}, {"a": np.array([4.0, 6.0])}) == pytest.approx(5.0)
    one = GRPOConfig(learning_rate=1.0, learning_rate_schedule="cosine", learning_rate_final=0.1)
    assert optim.learning_rate(one, 1, 1) == pytest.approx(0.1)
    falling = GRPOConfig(entropy_coefficient=0.4, entropy_coefficient_final=0.2)
    assert [optim.entropy_coefficient(falling, i, 2) for i in (0, 1, 5)] == pytest.approx([0.4, 0.2, 0.2])


def test_float32_stays_float32():
    grads = {"w": np.array([3.0, 4.0], np.float32)}
    clipped = optim.clip_by_global_norm(grads, 5.0, 1.0)
    state = optim.adam_step(optim.init_state({"w": np.ones(2, np.float32)}), clipped, 0.1)
    assert clipped["w"].dtype == state.params["w"].dtype == state.first_moment["w"].dtype == np.float32


# --------------------------------------------------------------------------------- whole updates


def test_the_weights_of_the_loss_are_those_configured():
    heads = HeadsConfig(parent_weight=0.3, outcome_weight=0.4, edge_weight=0.6)
    for high, expected in ((None, 0.1), (0.25, 0.25)):
        config = Config(grpo=GRPOConfig(clip_ratio=0.1, clip_ratio_high=high), heads=heads)
        assert update.loss_weights(config, 0.02) == LossWeights(0.1, expected, 0.02, 0.3, 0.4, 0.6)


def test_the_order_of_minibatches_is_of_seed_and_iteration():
    config = small_config(seed=5, grpo={"ppo_epochs": 3})
    rng = generator(5, Role.MINIBATCHES, 2)
    found = update.minibatch_order(config, 2)
    assert found.tolist() == [rng.permutation(6).tolist() for _ in range(3)]
    assert found.tolist() != update.minibatch_order(config, 3).tolist()


def test_a_minibatch_is_some_episodes_of_everything(played):
    _, _, _, _, _, t = played
    index, advantage = np.array([4, 1]), np.arange(t.rewards.size, dtype=float).reshape(t.rewards.shape)
    inputs, batch = update.minibatch(t, advantage, index)
    for name, array in inputs._asdict().items():
        np.testing.assert_array_equal(array, getattr(t.inputs, name)[[4, 1]], err_msg=name)
    renamed = {"old_log_prob": t.log_prob, "advantage": advantage, "edge_mask": edge_mask(t.inputs.valid)}
    for name, array in batch._asdict().items():
        if name == "tried":
            for part, whole in zip(array, t.tried, strict=True):
                np.testing.assert_array_equal(part, whole[[4, 1]])
        elif name == "fixed_std":
            assert array == t.fixed_std
        else:
            whole = renamed[name] if name in renamed else getattr(t, name)
            np.testing.assert_array_equal(array, whole[[4, 1]], err_msg=name)


def test_an_update_is_a_step_for_each_minibatch_in_order(played):
    """Two passes over six episodes in two minibatches each: four steps of Adam, each from where the
    last one ended, clipped; what is told are means over the four.
    """
    config, state, _, _, _, t = played
    t, order = off_policy(t), np.array([[5, 0, 3, 1, 2, 4], [2, 1, 0, 3, 4, 5]])
    config = small_config(grpo={"gradient_clip": 0.1, "scale_rewards": "batch"})
    found, told = update.update(state, config, t, order, update.ScheduledCoefficients(0.01, 0.02))
    advantage, weights = advantages(t.rewards, "batch"), update.loss_weights(config, 0.02)
    now, records = state, []
    for index in ([5, 0, 3], [1, 2, 4], [2, 1, 0], [3, 4, 5]):
        inputs, batch = update.minibatch(t, advantage, np.array(index))
        loss, terms, grads = update.loss_and_gradient(now.params, config, inputs, batch, weights)
        norm = optim.global_norm(grads)
        assert norm > 0.1  # so that it is clipped
        records.append({"loss": loss, "gradient_norm": norm, **terms})
        now = optim.adam_step(now, optim.clip_by_global_norm(grads, norm, 0.1), 0.01)
    assert found.step == state.step + 4
    for name, value in now.params.items():
        np.testing.assert_array_equal(found.params[name], value, err_msg=name)
    change = np.sqrt(sum(((now.params[name] - value) ** 2).sum() for name, value in state.params.items()))
    assert told.pop("parameter_change") == pytest.approx(change) and told.pop("skipped_steps") == 0.0
    assert told == pytest.approx({name: np.mean([record[name] for record in records]) for name in records[0]})


@pytest.mark.parametrize("number", [np.nan, -np.inf])
def test_steps_that_are_not_finite_are_left_out(played, number):
    """A log-probability of nothing or of minus infinity, of episode 2: two of four steps are not
    taken.
    """
    config, state, _, _, _, t = played
    order = np.array([[5, 0, 3, 1, 2, 4], [2, 1, 0, 3, 4, 5]])
    log_prob = t.log_prob.copy()
    log_prob[2] = number
    bad = t._replace(log_prob=log_prob)
    with np.errstate(all="ignore"):
        found, told = update.update(state, config, bad, order, update.ScheduledCoefficients(0.01, 0.0))
    assert told["skipped_steps"] == 2.0 and found.step == state.step + 2
    assert all(np.isfinite(value).all() for value in found.params.values())


@pytest.mark.parametrize(("loss", "gradient"), [(1.0, np.nan), (np.nan, 1.0), (1.0, np.inf), (np.inf, 1.0)])
def test_a_loss_or_a_gradient_that_is_not_finite_is_enough(played, monkeypatch, loss, gradient):
    config, state, _, _, _, t = played
    grads = {name: np.full(value.shape, gradient) for name, value in state.params.items()}
    monkeypatch.setattr(update, "loss_and_gradient", lambda *args: (loss, {}, grads))
    scheduled = update.ScheduledCoefficients(0.01, 0.0)
    found, told = update.update(state, config, t, np.arange(6)[None], scheduled)
    assert found is state and told["skipped_steps"] == 2.0 and told["parameter_change"] == 0.0
