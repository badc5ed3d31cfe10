"""The gradient checks pass, and they fail when a gradient is broken."""

from __future__ import annotations

import numpy as np
import pytest

from acbo_ref.grpo import loss
from acbo_ref.policy import layers, local, network, pair_trunk, row_trunk
from acbo_ref.verify import gradients
from acbo_ref.verify.checks import Check, relative_error
from acbo_ref.verify.data import ROWS, small_config


def over(trunk):
    """Changes of the small configuration for a trunk."""
    return {"policy": trunk, "grpo": {"learned_decisions": None}} if trunk else {}


def test_everything_verifies():
    checks = gradients.verify_reference()
    assert len(checks) > 150
    assert [c for c in checks if not c.okay] == []
    for groups, trunk in ((("policy, fixed std", "policy, learned std"), {}), (("policy, rows",), ROWS)):
        names = {c.name for c in checks if c.group in groups}
        assert names == set(network.parameter_shapes(small_config(**over(trunk)).policy))  # none is left out


def layer_and_term_checks():
    return [*gradients.layer_checks(), *gradients.term_checks()]


def whole_loss_checks():
    return [*gradients.policy_checks(small_config(), "policy")]


def whole_loss_over_rows_checks():
    return [*gradients.policy_checks(small_config(**over(ROWS)), "policy")]


def pair_layer_checks():
    return [*gradients.pair_layer_checks()]


def scaled(function, factor=1.001):
    """The function with its result a tenth of a percent too large."""

    def broken(*args, **kwargs):
        result = function(*args, **kwargs)
        if hasattr(result, "_fields"):  # a record
            return type(result)(*(factor * r for r in result))
        return tuple(factor * r for r in result) if isinstance(result, tuple) else factor * result

    return broken


@pytest.mark.parametrize(
    ("module", "name", "checks"),
    [
        (layers, "linear_backward", layer_and_term_checks),
        (layers, "layer_norm_backward", layer_and_term_checks),
        (layers, "gelu_backward", layer_and_term_checks),
        (layers, "soft_bound_backward", layer_and_term_checks),
        (layers, "attend_backward", layer_and_term_checks),
        (gradients, "log_prob_backward", layer_and_term_checks),
        (loss, "log_prob_backward", whole_loss_checks),
        (gradients, "entropy_backward", layer_and_term_checks),
        (gradients, "outcome_loss_backward", layer_and_term_checks),
        (gradients, "clipped_objective_backward", layer_and_term_checks),
        (pair_trunk, "triangle_backward", pair_layer_checks),
        (pair_trunk, "variable_backward", pair_layer_checks),
        (pair_trunk, "triangle_backward", whole_loss_checks),
        (pair_trunk, "variable_backward", whole_loss_checks),
        (pair_trunk, "block_backward", whole_loss_checks),
        (pair_trunk, "layer_norm_backward", whole_loss_checks),
        (row_trunk, "block_backward", whole_loss_over_rows_checks),
        (row_trunk, "layer_norm_backward", whole_loss_over_rows_checks),
        (network, "heads_backward", whole_loss_checks),
        (local, "outcome_backward", whole_loss_checks),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_broken_gradient_is_caught(monkeypatch, module, name, checks):
    monkeypatch.setattr(module, name, scaled(getattr(module, name)))
    assert [c for c in checks() if not c.okay], f"nothing noticed that {module.__name__}.{name} is wrong"


@pytest.mark.parametrize(
    ("dropped", "checks"),
    [
        ("blocks.2.attention.qkv.bias", whole_loss_over_rows_checks),
        ("blocks.2.factors.bias", whole_loss_checks),
        ("blocks.2.variable.weight", whole_loss_checks),
    ],
)
def test_a_gradient_dropped_on_the_way_is_caught(monkeypatch, dropped, checks):
    plain = layers.accumulate

    def forgetful(grads, name, gradient):
        plain(grads, name, np.zeros_like(gradient) if name == dropped else gradient)

    for module in (layers, pair_trunk):
        monkeypatch.setattr(module, "accumulate", forgetful)
    assert {c.name for c in checks() if not c.okay} == {dropped}


def test_relative_error():
    assert relative_error(np.array([1.0, 2.2]), np.array([1.0, 2.0])) == pytest.approx(0.1)
    assert relative_error(np.zeros(3), np.zeros(3)) == 0
    assert relative_error(np.ones(3), np.zeros(3)) == np.inf
    assert relative_error(np.ones(3), np.ones(4)) == np.inf
    assert not Check("g", "n", float("nan"), 1.0).okay
