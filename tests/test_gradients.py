"""The gradient checks pass, and they fail when a gradient is broken."""

from __future__ import annotations

import numpy as np
import pytest

from acbo_ref.config import PolicyConfig
from acbo_ref.grpo import loss
from acbo_ref.policy import heads, layers, local, network, pair_trunk, row_trunk
from acbo_ref.policy.acquisition import ACQUISITION_FEATURES
from acbo_ref.policy.evidence import EVIDENCE_CHANNELS
from acbo_ref.policy.heads import OutcomePrediction, OutcomeState, PolicyOutputs
from acbo_ref.policy.inputs import attention_mask
from acbo_ref.verify import gradients
from acbo_ref.verify.checks import Check, relative_error
from acbo_ref.verify.data import ROWS, local_case, small_config


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


# ----------------------------------------------------- whole networks, along random directions


def assert_slopes(function, arrays, gradients):
    """The slope of a function along a random direction of each array, by differences, is what the
    gradients say.
    """
    rng = np.random.default_rng(1)
    assert gradients.keys() == arrays.keys()
    for name, array in arrays.items():
        direction, start, step, values = rng.standard_normal(array.shape), array.copy(), gradients_step(array), []
        for shift in (-2, -1, 1, 2):
            array[...] = start + shift * step * direction
            values.append(function())
        array[...] = start
        numeric = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
        assert gradients[name].shape == array.shape
        assert (gradients[name] * direction).sum() == pytest.approx(numeric, rel=1e-6, abs=1e-8), name


def gradients_step(array):
    """Shorter steps where many entries move at once."""
    return 1e-3 / np.sqrt(array.size)


def away_from_the_start(config, seed=0):
    """Parameters of a network, none of them 0 or 1."""
    rng = np.random.default_rng(seed)
    params = network.init_params(config, seed)
    return {name: value + 0.3 * rng.standard_normal(value.shape) for name, value in params.items()}


@pytest.mark.parametrize("trunk", ["pairwise", "simple_permutation_invariant"])
@pytest.mark.parametrize("fixed", [True, False])
def test_slopes_of_a_whole_network(trunk, fixed):
    """Two blocks of width 4 on two systems, of which one has a padded variable; everything that is
    said counts, each with a weight of its own.
    """
    config = PolicyConfig(trunk, hidden_dim=4, num_layers=2, num_heads=2, use_fixed_std=fixed)
    rng, params = np.random.default_rng(0), away_from_the_start(config)
    pairs = trunk == "pairwise"
    inputs = network.PolicyInputs(
        channels=rng.standard_normal((2, 3, 3, 3, network.num_channels(config)) if pairs else (2, 5, 3, 4)),
        evidence=rng.standard_normal((2, 3, 3, EVIDENCE_CHANNELS if pairs else 0)),
        acquisition=rng.standard_normal((2, 3, 3, ACQUISITION_FEATURES if pairs else 0)),
        valid=np.array([[True, True, True], [True, True, False]]),
        choosable=np.array([[True, False, True], [True, False, False]]),
        target=np.array([1, 1]),
        row_mask=np.zeros((2, 0, 0), bool) if pairs else attention_mask(np.array([[True, True], [True, False]]), 3),
    )
    outputs, cache = network.forward(params, config, inputs, 3)

    def weights(array):
        return rng.standard_normal(array.shape)

    d = PolicyOutputs(
        logits=np.where(inputs.choosable[:, None], weights(outputs.logits), 0.0),
        means=weights(outputs.means),
        log_stds=None if fixed else weights(outputs.log_stds),
        parent_logits=weights(outputs.parent_logits),
        outcome=OutcomeState(*(weights(array) for array in outputs.outcome)),
        edge_logits=weights(outputs.edge_logits) if pairs else None,
    )

    def total():
        found, _ = network.forward(params, config, inputs, 3)
        named = [(getattr(d, name), getattr(found, name)) for name in ("logits", "means", "parent_logits")]
        if not fixed:
            named.append((d.log_stds, found.log_stds))
        if pairs:
            named.append((d.edge_logits, found.edge_logits))
        return sum(float((a * b).sum()) for a, b in [*named, *zip(d.outcome, found.outcome, strict=True)])

    grads = {}
    network.backward(params, config, d, cache, grads)
    of_heads = {"outcome_head.value.weight", "outcome_head.out.weight", "outcome_head.out.bias"}
    assert grads.keys() == params.keys() - of_heads  # which are met when an action is asked about
    assert_slopes(total, {name: params[name] for name in grads}, grads)


def test_slopes_of_what_is_predicted():
    """Of the outcome head alone, and after own outcomes."""
    params, state, tried, variable, value = local_case()
    rng = np.random.default_rng(0)
    d = OutcomePrediction(*rng.standard_normal((4, 2, 4)))
    asked = rng.standard_normal((2, 4))

    def alone():
        predicted, _ = heads.outcome_forward(params, state, asked)
        return float(sum((a * b).sum() for a, b in zip(d, predicted, strict=True)))

    grads = {}
    d_state = heads.outcome_backward(params, d, heads.outcome_forward(params, state, asked)[1], grads)
    assert not d_state.centre.any() and not d_state.log_length.any()
    assert d_state.centre.shape == d_state.log_length.shape == (2, 4)
    of_state = {"hidden": state.hidden, "slope": state.slope}
    assert_slopes(alone, params | of_state, grads | {name: getattr(d_state, name) for name in of_state})

    d = OutcomePrediction(*rng.standard_normal((3, *variable.shape)), np.zeros(variable.shape))

    def local_too():
        predicted, _ = local.predict_forward(params, state, tried, variable, value)
        return float(sum((a * b).sum() for a, b in zip(d, predicted, strict=True)))

    grads = {}
    _, cache = local.predict_forward(params, state, tried, variable, value)
    d_state = local.predict_backward(params, d, cache, grads)
    assert not d_state.centre.any() and d_state.centre.shape == (2, 4)
    of_state["log_length"] = state.log_length
    assert_slopes(local_too, params | of_state, grads | {name: getattr(d_state, name) for name in of_state})
