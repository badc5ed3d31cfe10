"""Every hand-written gradient against finite differences.

Gradients are compared with the five-point central difference

    f'(x) = (f(x - 2h) - 8 f(x - h) + 8 f(x + h) - f(x + 2h)) / 12h + O(h^4),

whose error at h = 1e-3 is near 1e-12 in float64 for the smooth functions here, far below the
tolerance of 1e-6. The data keep away from the clip bounds of the clipped objective, its only kinks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from acbo_ref.arrays import Array, Params
from acbo_ref.backend import ReferenceBackend
from acbo_ref.config import Config
from acbo_ref.grpo.loss import (
    LossWeights,
    clipped_objective_backward,
    clipped_objective_forward,
    edge_loss_forward,
    edge_mask,
    entropy_backward,
    entropy_forward,
    log_prob_backward,
    log_prob_forward,
    loss_forward,
    outcome_loss_backward,
    outcome_loss_forward,
    parent_loss_forward,
)
from acbo_ref.grpo.rollout import observe
from acbo_ref.grpo.update import group_advantages, loss_and_gradient, minibatch
from acbo_ref.policy import layers, pair_trunk
from acbo_ref.policy.decoder import open_decoder
from acbo_ref.policy.heads import OutcomePrediction, OutcomeState, PolicyOutputs, heads_forward
from acbo_ref.policy.local import predict_backward, predict_forward
from acbo_ref.policy.network import forward
from acbo_ref.policy.reading import open_reading
from acbo_ref.randomness import Role, generator
from acbo_ref.systems.batch import simulate
from acbo_ref.verify.checks import Check, output_errors, relative_error
from acbo_ref.verify.data import EPISODES, ROWS, iteration_data, local_case, off_policy, perturbed_state, small_config

GRADIENT_TOLERANCE = 1e-6
STEP = 1e-3
# Entries tried of an array; small arrays are tried whole.
MAX_ENTRIES = 24


def numeric_gradient(function: Callable[[], float], array: Array, entries: Array) -> Array:
    """d function / d array[entries] by the five-point difference; `array` is changed in place and
    restored.
    """
    flat = array.reshape(-1)
    result = np.zeros(len(entries))
    for n, i in enumerate(entries):
        start = flat[i]
        values = []
        for shift in (-2, -1, 1, 2):
            flat[i] = start + shift * STEP
            values.append(function())
        flat[i] = start
        result[n] = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * STEP)
    return result


def check_gradients(
    group: str,
    function: Callable[[], float],
    arrays: dict[str, Array],
    gradients: dict[str, Array],
    rng: np.random.Generator,
) -> Iterator[Check]:
    """One check for each named array: hand-written gradient against numeric differences of
    `function`.
    """
    for name, array in arrays.items():
        entries = np.arange(array.size)
        if array.size > MAX_ENTRIES:
            entries = np.sort(rng.choice(array.size, MAX_ENTRIES, replace=False))
        numeric = numeric_gradient(function, array, entries)
        error = relative_error(np.asarray(gradients[name]).reshape(-1)[entries], numeric)
        yield Check(group, name, error, GRADIENT_TOLERANCE)


def layer_checks() -> Iterator[Check]:
    """Each layer of layers.py alone: loss = sum(out * fixed random weights), so d_out is those
    weights.
    """
    rng = generator(0, Role.VERIFY, 0)

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape)

    x, weights = normal(2, 3, 5, 8), normal(2, 3, 5, 8)
    params: Params = {
        "linear.weight": normal(8, 8), "linear.bias": normal(8),
        "norm.scale": normal(8), "norm.bias": normal(8),
        "attention.qkv.weight": normal(8, 24) / 3, "attention.qkv.bias": normal(24),
        "attention.out.weight": normal(8, 8), "attention.out.bias": normal(8),
        "mlp.up.weight": normal(8, 32) / 3, "mlp.up.bias": normal(32),
        "mlp.down.weight": normal(32, 8), "mlp.down.bias": normal(8),
    }  # fmt: skip
    mask = np.tril(np.ones((5, 5), bool))
    cases: dict[str, tuple[Callable[[], tuple[Array, Any]], Callable[[Any, Params], Array]]] = {
        "linear": (
            lambda: layers.linear_forward(params, "linear", x),
            lambda cache, grads: layers.linear_backward(params, "linear", weights, cache, grads),
        ),
        "norm": (
            lambda: layers.layer_norm_forward(params, "norm", x),
            lambda cache, grads: layers.layer_norm_backward(params, "norm", weights, cache, grads),
        ),
        "gelu": (lambda: layers.gelu_forward(x), lambda cache, grads: layers.gelu_backward(weights, cache)),
        "soft_bound": (
            lambda: layers.soft_bound_forward(x, 3.0),
            lambda cache, grads: layers.soft_bound_backward(weights, cache),
        ),
        "attention": (
            lambda: layers.attention_forward(params, "attention", x, mask, 2),
            lambda cache, grads: layers.attention_backward(params, "attention", weights, cache, grads),
        ),
        "mlp": (
            lambda: layers.mlp_forward(params, "mlp.up", "mlp.down", x),
            lambda cache, grads: layers.mlp_backward(params, "mlp.up", "mlp.down", weights, cache, grads),
        ),
    }
    for name, (layer, layer_backward) in cases.items():
        grads: Params = {}
        gradients = {"x": layer_backward(layer()[1], grads)} | grads
        arrays = {"x": x} | {key: params[key] for key in grads}

        def loss(layer: Callable[[], tuple[Array, Any]] = layer) -> float:
            return float((layer()[0] * weights).sum())

        yield from check_gradients(f"layer {name}", loss, arrays, gradients, rng)


def pair_layer_checks() -> Iterator[Check]:
    """The parts of a pairwise block that layers.py does not have, on two tables of which one is
    padded.
    """
    rng = generator(0, Role.VERIFY, 6)
    valid = np.array([[True] * 5, [True] * 3 + [False] * 2])
    factors, x = rng.standard_normal((2, 5, 5, 12)), rng.standard_normal((2, 5, 5, 3))
    d_through, d_known = rng.standard_normal((2, 5, 5, 6)), rng.standard_normal((2, 5, 9))
    _, cache = pair_trunk.triangle_forward(factors, valid)
    yield from check_gradients(
        "layer triangle", lambda: float((pair_trunk.triangle_forward(factors, valid)[0] * d_through).sum()),
        {"factors": factors}, {"factors": pair_trunk.triangle_backward(d_through, cache, valid)}, rng,
    )  # fmt: skip
    yield from check_gradients(
        "layer variable", lambda: float((pair_trunk.variable_forward(x, valid) * d_known).sum()),
        {"x": x}, {"x": pair_trunk.variable_backward(d_known, valid)}, rng,
    )  # fmt: skip


def local_checks() -> Iterator[Check]:
    """The outcome head after own outcomes: its parameters and its state."""
    params, state, tried, variable, value = local_case()
    rng = generator(0, Role.VERIFY, 8)
    d = OutcomePrediction(*rng.standard_normal((4, *variable.shape)))
    d = d._replace(log_scatter=np.zeros_like(d.mean))

    def loss() -> float:
        predicted, _ = predict_forward(params, state, tried, variable, value)
        return float(sum((of * array).sum() for of, array in zip(d, predicted, strict=True)))

    grads: Params = {}
    _, cache = predict_forward(params, state, tried, variable, value)
    d_state = predict_backward(params, d, cache, grads)
    arrays = params | {name: array for name, array in state._asdict().items() if name not in ("centre", "spread")}
    yield from check_gradients("local evidence", loss, arrays, grads | d_state._asdict(), rng)


def policy_checks(config: Config, label: str) -> Iterator[Check]:
    """Every named parameter's gradient of the whole loss."""
    reference = ReferenceBackend(config)
    state = perturbed_state(reference)
    systems, observation_mask, noise = iteration_data(config)
    fixed_std = config.policy.fixed_std
    trajectories = off_policy(reference.rollout(state, systems, observation_mask, noise, fixed_std))
    advantage = group_advantages(trajectories.rewards, config)
    inputs, batch = minibatch(trajectories, advantage, np.arange(3))
    weights = LossWeights(0.2, 0.3, 0.05, 0.2, 0.5, 0.7)
    _, _, grads = loss_and_gradient(state.params, config, inputs, batch, weights)

    def loss() -> float:
        outputs, _ = forward(state.params, config.policy, inputs, batch.variable.shape[1])
        return loss_forward(state.params, outputs, batch, weights)[0]

    yield from check_gradients(label, loss, state.params, grads, generator(0, Role.VERIFY, 2))


def term_checks() -> Iterator[Check]:
    """Each term of the loss alone, with respect to the network's outputs."""
    rng = generator(0, Role.VERIFY, 3)
    logits, means, log_stds = (rng.standard_normal((2, 3, 5)) for _ in range(3))
    variable, value = rng.integers(0, 5, (2, 3, 7)), rng.standard_normal((2, 3, 7))
    d_group, d_state = rng.standard_normal((2, 3, 7)), rng.standard_normal((2, 3))
    outputs = PolicyOutputs(logits, means, log_stds, logits, OutcomeState(*[logits] * 5))
    _, cache = log_prob_forward(outputs, variable, value, 1.5)
    gradients = dict(zip(("logits", "means", "log_stds"), log_prob_backward(d_group, cache), strict=True))
    arrays = {"logits": logits, "means": means, "log_stds": log_stds}

    def log_prob() -> float:
        return float((log_prob_forward(outputs, variable, value, 1.5)[0] * d_group).sum())

    yield from check_gradients("term log_prob", log_prob, arrays, gradients, rng)
    _, entropy_cache = entropy_forward(logits)
    yield from check_gradients(
        "term entropy", lambda: float((entropy_forward(logits)[0] * d_state).sum()),
        {"logits": logits}, {"logits": entropy_backward(d_state, entropy_cache)}, rng,
    )  # fmt: skip
    parents, mask = rng.random((2, 5)) < 0.5, np.array([[1, 1, 1, 1, 0], [1, 0, 1, 1, 1]], bool)
    _, parent_cache = parent_loss_forward(logits, parents, mask)
    yield from check_gradients(
        "term parents", lambda: float((parent_loss_forward(logits, parents, mask)[0] * d_state).sum()),
        {"logits": logits}, {"logits": d_state[..., None] * parent_cache}, rng,
    )  # fmt: skip
    edge_logits, edges = rng.standard_normal((2, 3, 5, 5, 2)), rng.random((2, 5, 5, 2)) < 0.5
    pairs = edge_mask(np.array([[True] * 5, [True] * 3 + [False] * 2]))
    _, edge_cache = edge_loss_forward(edge_logits, edges, pairs)
    yield from check_gradients(
        "term edges", lambda: float((edge_loss_forward(edge_logits, edges, pairs)[0] * d_state).sum()),
        {"logits": edge_logits}, {"logits": d_state[..., None, None, None] * edge_cache}, rng,
    )  # fmt: skip
    variance, weight = rng.random(logits.shape), rng.random(logits.shape)
    predicted = OutcomePrediction(means, log_stds, *rng.standard_normal((2, *logits.shape)))
    _, nll_cache = outcome_loss_forward(predicted, logits, variance, weight)
    d_nll = rng.standard_normal((2, 3, 5))
    arrays = predicted._asdict()
    del arrays["log_scatter"]  # it has no term of its own
    yield from check_gradients(
        "term outcome", lambda: float((outcome_loss_forward(predicted, logits, variance, weight)[0] * d_nll).sum()),
        arrays, outcome_loss_backward(d_nll, nll_cache)._asdict(), rng,
    )  # fmt: skip
    # Ratios below, inside and above the clip range, with advantages of both signs.
    ratio = np.array([[[0.5, 0.7, 0.9, 1.1, 1.25, 1.5, 1.7]] * 3] * 2)
    advantage = rng.standard_normal(ratio.shape)
    _, is_unclipped = clipped_objective_forward(ratio, advantage, 0.2, 0.3)
    yield from check_gradients(
        "term clipped_objective",
        lambda: float((clipped_objective_forward(ratio, advantage, 0.2, 0.3)[0] * d_group).sum()),
        {"ratio": ratio}, {"ratio": clipped_objective_backward(d_group, advantage, is_unclipped)}, rng,
    )  # fmt: skip


# ----------------------------------------------------------------------------------- the invariants


def invariant_checks(config: Config, label: str) -> Iterator[Check]:
    """Decoding row by row equals the one-pass forward, and at unchanged parameters the importance
    ratio is 1.
    """
    reference = ReferenceBackend(config)
    state = perturbed_state(reference)
    systems, observation_mask, noise = iteration_data(config)
    t = reference.rollout(state, systems, observation_mask, noise, config.policy.fixed_std)
    outputs, _ = forward(state.params, config.policy, t.inputs, t.variable.shape[1])
    log_prob, _ = log_prob_forward(outputs, t.variable, t.value, t.fixed_std)
    error = float(np.abs(np.exp(log_prob - t.log_prob) - 1).max())
    yield Check(f"decoding, {label}", "ratio at unchanged parameters - 1", error, 1e-10)
    task = observe(systems, noise.observation, observation_mask)
    steps, each = noise.intervention.shape[1], np.arange(len(t.done))[:, None]
    reading = open_reading(task, config.policy, float)
    decoder = open_decoder(state.params, config.policy, task, reading, steps)
    views = [reading.start()]
    h = [decoder.append(views[0].channels).h]
    for k in range(steps - 1):
        rows = simulate(systems, noise.intervention[:, k : k + 1], t.done[:, k : k + 1], t.applied[:, k : k + 1])
        views.append(reading.append(t.done[:, k], rows[:, 0]))
        h.append(decoder.append(views[-1].channels).h)
    at = each, t.learned
    evidence = np.stack([view.evidence for view in views], axis=1)[at]
    stepwise, _ = heads_forward(
        state.params, config.policy, np.stack(h, axis=1)[at], t.inputs.choosable, evidence, t.inputs.acquisition
    )
    for name, error in output_errors(stepwise, outputs._replace(edge_logits=None)):
        yield Check(f"decoding, {label}", f"{name}, step by step = one pass", error, 1e-12)


def verify_reference() -> list[Check]:
    """All checks of the reference alone."""
    checks = [*layer_checks(), *pair_layer_checks(), *local_checks(), *term_checks()]
    variants = {
        "fixed std": small_config(),
        "learned std": small_config(policy={"use_fixed_std": False}, grpo={"scale_rewards": "batch"}),
        "episodes": small_config(grpo=EPISODES),
        "rows": small_config(policy=ROWS, grpo={"learned_decisions": None}),
    }
    for label, config in variants.items():
        checks += policy_checks(config, f"policy, {label}")
        checks += invariant_checks(config, label)
    return checks
