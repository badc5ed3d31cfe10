"""Layers against numbers derived by hand; their gradients are checked in test_gradients.py."""

from __future__ import annotations

import numpy as np
import pytest

from acbo_ref.policy import layers


def test_layer_norm_by_hand():
    params = {"n.scale": np.array([1.0, 2.0, 1.0]), "n.bias": np.array([0.0, 1.0, 0.0])}
    out, _ = layers.layer_norm_forward(params, "n", np.array([1.0, 2.0, 6.0]))
    # mean 3, variance (4 + 1 + 9) / 3 = 14/3
    std = np.sqrt(14 / 3 + layers.LAYER_NORM_EPSILON)
    assert out == pytest.approx([-2 / std, -2 / std + 1, 3 / std])


def test_gelu_by_hand():
    # 0.5 * (1 + tanh(0.7978845608 * 1.044715)) = 0.5 * (1 + tanh(0.8335620)) = 0.5 * (1 +
    # 0.6823838)
    out, _ = layers.gelu_forward(np.array([1.0, 0.0, -1.0, 20.0, -20.0]))
    assert out == pytest.approx([0.841192, 0.0, -0.158808, 20.0, 0.0], abs=1e-6)


def test_soft_bound():
    out, _ = layers.soft_bound_forward(np.array([1e-3, 1e9, -1e9]), 3.0)
    assert out == pytest.approx([1e-3, 3.0, -3.0], rel=1e-6)


def test_attention_by_hand():
    # one query, two keys: scores (q.k) / sqrt(d) with d = 4
    q, k = np.array([[2.0, 0, 0, 0]]), np.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0]])
    v = np.array([[10.0, 0, 0, 0], [0, 1.0, 0, 0]])
    out, _ = layers.attend_forward(q, k, v, np.array([[True, True]]))
    weight = np.e / (np.e + 1)  # softmax of (2 / 2, 0)
    assert out[0] == pytest.approx([10 * weight, 1 - weight, 0, 0])
    masked, _ = layers.attend_forward(q, k, v, np.array([[False, True]]))
    assert masked[0] == pytest.approx([0, 1.0, 0, 0])


def test_heads_are_split_and_merged():
    x = np.arange(2 * 3 * 8.0).reshape(2, 3, 8)
    heads = layers.split_heads(x, 4)
    assert heads.shape == (2, 4, 3, 2) and (heads[:, 1, :, 0] == x[:, :, 2]).all()
    assert (layers.merge_heads(heads) == x).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_layer_changes_the_dtype(dtype):
    rng = np.random.default_rng(0)
    shapes = {"a.qkv": (8, 24), "a.out": (8, 8), "u": (8, 16), "d": (16, 8)}
    params = {f"{name}.weight": rng.standard_normal(shape) for name, shape in shapes.items()}
    params |= {f"{name}.bias": np.zeros(shape[1]) for name, shape in shapes.items()}
    params |= {"n.scale": np.ones(8), "n.bias": np.zeros(8)}
    params = {k: v.astype(dtype) for k, v in params.items()}
    x = rng.standard_normal((2, 5, 8)).astype(dtype)
    grads: layers.Params = {}
    y, c1 = layers.layer_norm_forward(params, "n", x)
    y, c2 = layers.attention_forward(params, "a", y, np.ones((5, 5), bool), 2)
    y, c3 = layers.mlp_forward(params, "u", "d", y)
    y, c4 = layers.soft_bound_forward(y, 3.0)
    d = layers.soft_bound_backward(y, c4)
    d = layers.mlp_backward(params, "u", "d", d, c3, grads)
    d = layers.attention_backward(params, "a", d, c2, grads)
    d = layers.layer_norm_backward(params, "n", d, c1, grads)
    assert {a.dtype for a in (y, d, *grads.values())} == {np.dtype(dtype)} and grads.keys() == params.keys()


def test_gradients_of_a_parameter_used_twice_add_up():
    grads: dict[str, np.ndarray] = {}
    for gradient in ([1.0, 2.0], [10.0, -5.0]):
        layers.accumulate(grads, "w", np.array(gradient))
    layers.accumulate(grads, "other", np.array([7.0]))
    assert grads["w"].tolist() == [11.0, -3.0] and grads["other"].tolist() == [7.0]


def test_attention_with_enormous_scores():
    """Scores of +-1e4 would overflow or vanish unless each query's own largest is taken off
    first.
    """
    q, k = np.array([[1e4], [-1e4]]), np.array([[1.0], [-1.0]])
    out, _ = layers.attend_forward(q, k, np.array([[2.0], [3.0]]), np.array([[True, True], [True, True]]))
    assert out[:, 0].tolist() == [2.0, 3.0]
    out, _ = layers.attend_forward(q, k, np.array([[2.0], [3.0]]), np.array([[False, True], [True, False]]))
    assert out[:, 0].tolist() == [3.0, 2.0]


def test_log_softmax_row_by_row():
    """Each row less its own largest: beside a row of 1e4 one of 0 and log 3 keeps its shares of 1/4
    and 3/4, and what is masked has none.
    """
    found = layers.log_softmax(np.array([[1e4, 1e4, layers.MASKED], [0.0, np.log(3.0), layers.MASKED]]))
    np.testing.assert_allclose(np.exp(found), [[0.5, 0.5, 0.0], [0.25, 0.75, 0.0]], atol=1e-15)
    assert (found[:, 2] < -1e29).all()


def test_sigmoid_and_softplus_by_hand():
    x = np.array([0.0, np.log(3.0), -np.log(3.0), 1e3, -1e3])
    np.testing.assert_allclose(layers.sigmoid(x), [0.5, 0.75, 0.25, 1.0, 0.0], atol=1e-15)
    np.testing.assert_allclose(layers.softplus(x), [np.log(2), np.log(4), np.log(4 / 3), 1e3, 0.0], atol=1e-15)
