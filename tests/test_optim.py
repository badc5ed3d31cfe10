"""Adam, clipping and schedules against numbers derived by hand."""

from __future__ import annotations

import numpy as np
import pytest

from acbo_ref.config import GRPOConfig
from acbo_ref.grpo import optim


def test_adam_by_hand():
    state = optim.init_state({"a": np.array([1.0, 1.0]), "b": np.array([0.0])})
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
