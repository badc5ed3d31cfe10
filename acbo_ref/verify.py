"""The reader's proof: every hand-written gradient against finite differences, every backend against this one.

    checks = verify(backend=None)          # the reference alone
    checks = verify(backend=make_backend)  # and a backend against it

Gradients are compared with the five-point central difference

    f'(x) = (f(x - 2h) - 8 f(x - h) + 8 f(x + h) - f(x + 2h)) / 12h + O(h^4),

whose error at h = 1e-3 is near 1e-12 in float64 for the smooth functions here, far below the tolerance of 1e-6. The data
keep away from the clip bounds of the surrogate, its only kinks. The relative error of an array is
max |hand - numeric| / max(|numeric|) over the entries tried, so that entries that are 0 do not divide by 0.

Contract: `verify` never raises for a wrong number; it returns checks that say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acbo_ref import backend as backends
from acbo_ref import grpo, layers, policy
from acbo_ref.config import Config, config_from_dict
from acbo_ref.curriculum import Curriculum
from acbo_ref.layers import Params
from acbo_ref.randomness import Role, generator
from acbo_ref.rollout import EpisodeNoise, Trajectories, draw_noise

Array = NDArray[Any]

GRADIENT_TOLERANCE = 1e-6
STEP = 1e-3
# Entries tried of an array; small arrays are tried whole.
MAX_ENTRIES = 24


@dataclass(frozen=True)
class Check:
    """One comparison: what, the worst relative error found, and the error allowed."""

    group: str
    name: str
    error: float
    tolerance: float

    @property
    def okay(self) -> bool:
        return bool(self.error <= self.tolerance)  # False for NaN


def relative_error(value: Array, reference: Array) -> float:
    """max |value - reference| / max |reference|; 0 where both are 0, inf where the shapes differ."""
    value, reference = np.asarray(value, float), np.asarray(reference, float)
    if value.shape != reference.shape:
        return float("inf")
    if value.size == 0:
        return 0.0
    scale = float(np.abs(reference).max())
    difference = float(np.abs(value - reference).max())
    if difference == 0.0:
        return 0.0
    return difference / scale if scale > 0 else float("inf")


def numeric_gradient(function: Callable[[], float], array: Array, entries: Array) -> Array:
    """d function / d array[entries] by the five-point difference; `array` is changed in place and restored."""
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
    group: str, function: Callable[[], float], arrays: dict[str, Array], gradients: dict[str, Array], rng: Any
) -> Iterator[Check]:
    """One check for each named array: hand-written gradient against numeric differences of `function`."""
    for name, array in arrays.items():
        entries = np.arange(array.size)
        if array.size > MAX_ENTRIES:
            entries = np.sort(rng.choice(array.size, MAX_ENTRIES, replace=False))
        numeric = numeric_gradient(function, array, entries)
        error = relative_error(np.asarray(gradients[name]).reshape(-1)[entries], numeric)
        yield Check(group, name, error, GRADIENT_TOLERANCE)


# ------------------------------------------------------------------------------------------------------- layers


def layer_checks() -> Iterator[Check]:
    """Each layer of layers.py alone: loss = sum(out * fixed random weights), so d_out is those weights."""
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
    for name, (forward, backward) in cases.items():
        grads: Params = {}
        gradients = {"x": backward(forward()[1], grads)} | grads
        arrays = {"x": x} | {key: params[key] for key in grads}
        yield from check_gradients(f"layer {name}", lambda f=forward: float((f()[0] * weights).sum()), arrays, gradients, rng)  # type: ignore[misc]


# -------------------------------------------------------------------------------------------- the policy and loss

# Distinct primes where possible, so that a transposed axis cannot pass: E=3 (5 later), O=5, K=3, G=7, P=2.
SMALL = {
    "name": "verify",
    "seed": 7,
    "total_episodes": 60,
    "batch_size": 6,
    "observations_per_episode": [3, 5],
    "interventions_per_episode": 3,
    "policy": {"hidden_dim": 8, "num_layers": 4, "num_heads": 2},
    "grpo": {"group_size": 7, "ppo_epochs": 2, "minibatches": 2, "learning_rate": 1e-3},
    "surrogate": {"probes": 2},
    "scm": {"nonlinear": 0.3, "saturate": 0.3, "manipulable": 0.8},
    "curriculum": {"stages": [{"name": "all", "variables": [3, 5], "graphs": ["chain", "fork", "erdos_renyi"]}]},
}


def small_config(**changes: Any) -> Config:
    """The small configuration that checks run on; sections given replace keys of its sections."""
    document: dict[str, Any] = {key: dict(value) if isinstance(value, dict) else value for key, value in SMALL.items()}
    for key, value in changes.items():
        document[key] = {**document.get(key, {}), **value} if isinstance(value, dict) else value
    return config_from_dict(document)


def iteration_data(config: Config, iteration: int = 0) -> tuple[Any, Array, EpisodeNoise]:
    """Problems, observation mask and noise that training would use in an iteration."""
    curriculum = Curriculum(config)
    problems, observation_mask = curriculum.sample(iteration)
    noise = draw_noise(config, iteration, observation_mask.shape[1], problems.shape[1])
    return problems, observation_mask, noise


def perturbed_state(backend: backends.ReferenceBackend) -> Any:
    """A state whose parameters are all away from their starting values (heads start near 0, biases at 0)."""
    state = backend.init_state()
    rng = generator(backend.config.seed, Role.VERIFY, 1)
    state.params = {name: value + 0.1 * rng.standard_normal(value.shape) for name, value in state.params.items()}
    return state


def off_policy(trajectories: Trajectories, config: Config) -> Trajectories:
    """The same episodes with old log-probs moved so that ratios lie below, inside and above the clip range, none near a
    bound: exp(-0.5) = 0.61, exp(0.05) = 1.05, exp(0.5) = 1.65."""
    shift = np.array([-0.5, 0.05, 0.5])[np.arange(trajectories.log_prob.size) % 3].reshape(trajectories.log_prob.shape)
    return replace(trajectories, log_prob=trajectories.log_prob - shift)


def policy_checks(config: Config, label: str) -> Iterator[Check]:
    """Every named parameter's gradient of the whole loss."""
    reference = backends.ReferenceBackend(config)
    state = perturbed_state(reference)
    problems, observation_mask, noise = iteration_data(config)
    fixed_std = config.policy.fixed_std
    trajectories = off_policy(reference.rollout(state, problems, observation_mask, noise, fixed_std), config)
    advantage = grpo.advantages(trajectories.rewards, config.grpo.scale_rewards)
    inputs, batch = backends.minibatch(trajectories, advantage, np.arange(3))
    weights = grpo.LossWeights(0.2, 0.3, 0.05, 0.2, 0.5)
    _, _, grads = backends.loss_and_gradient(state.params, config, inputs, batch, weights)

    def loss() -> float:
        outputs, _ = policy.forward(state.params, config.policy, inputs, batch.variable.shape[1])
        return grpo.loss_forward(state.params, outputs, batch, weights)[0]

    yield from check_gradients(label, loss, state.params, grads, generator(0, Role.VERIFY, 2))


def term_checks() -> Iterator[Check]:
    """Each term of the loss alone, with respect to the network's outputs."""
    rng = generator(0, Role.VERIFY, 3)
    logits, means, log_stds = (rng.standard_normal((2, 3, 5)) for _ in range(3))
    variable, value = rng.integers(0, 5, (2, 3, 7)), rng.standard_normal((2, 3, 7))
    d_group, d_state = rng.standard_normal((2, 3, 7)), rng.standard_normal((2, 3))
    outputs = policy.PolicyOutputs(logits, means, log_stds, logits, logits)
    _, cache = grpo.log_prob_forward(outputs, variable, value, 1.5)
    gradients = dict(zip(("logits", "means", "log_stds"), grpo.log_prob_backward(d_group, cache), strict=True))
    arrays = {"logits": logits, "means": means, "log_stds": log_stds}
    yield from check_gradients(
        "term log_prob", lambda: float((grpo.log_prob_forward(outputs, variable, value, 1.5)[0] * d_group).sum()), arrays, gradients, rng,
    )  # fmt: skip
    _, entropy_cache = grpo.entropy_forward(logits)
    yield from check_gradients(
        "term entropy", lambda: float((grpo.entropy_forward(logits)[0] * d_state).sum()),
        {"logits": logits}, {"logits": grpo.entropy_backward(d_state, entropy_cache)}, rng,
    )  # fmt: skip
    parents, mask = rng.random((2, 5)) < 0.5, np.array([[1, 1, 1, 1, 0], [1, 0, 1, 1, 1]], bool)
    _, parent_cache = grpo.parent_loss_forward(logits, parents, mask)
    yield from check_gradients(
        "term parents", lambda: float((grpo.parent_loss_forward(logits, parents, mask)[0] * d_state).sum()),
        {"logits": logits}, {"logits": d_state[..., None] * parent_cache}, rng,
    )  # fmt: skip
    _, nll_cache = grpo.outcome_loss_forward(means, log_stds, logits)
    d_nll = rng.standard_normal((2, 3, 5))
    d_mean, d_log_std = grpo.outcome_loss_backward(d_nll, nll_cache)
    yield from check_gradients(
        "term outcome", lambda: float((grpo.outcome_loss_forward(means, log_stds, logits)[0] * d_nll).sum()),
        {"mean": means, "log_std": log_stds}, {"mean": d_mean, "log_std": d_log_std}, rng,
    )  # fmt: skip
    # Ratios below, inside and above the clip range, with advantages of both signs.
    ratio = np.array([[[0.5, 0.7, 0.9, 1.1, 1.25, 1.5, 1.7]] * 3] * 2)
    advantage = rng.standard_normal(ratio.shape)
    _, is_unclipped = grpo.surrogate_forward(ratio, advantage, 0.2, 0.3)
    yield from check_gradients(
        "term surrogate", lambda: float((grpo.surrogate_forward(ratio, advantage, 0.2, 0.3)[0] * d_group).sum()),
        {"ratio": ratio}, {"ratio": grpo.surrogate_backward(d_group, advantage, is_unclipped)}, rng,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------- the invariants


def invariant_checks(config: Config) -> Iterator[Check]:
    """Decoding row by row equals the one-pass forward, and at unchanged parameters the importance ratio is 1."""
    reference = backends.ReferenceBackend(config)
    state = perturbed_state(reference)
    problems, observation_mask, noise = iteration_data(config)
    t = reference.rollout(state, problems, observation_mask, noise, config.policy.fixed_std)
    steps = t.variable.shape[1]
    outputs, _ = policy.forward(state.params, config.policy, t.inputs, steps)
    log_prob, _ = grpo.log_prob_forward(outputs, t.variable, t.value, t.fixed_std)
    yield Check("decoding", "ratio at unchanged parameters - 1", float(np.abs(np.exp(log_prob - t.log_prob) - 1).max()), 1e-10)
    num_obs = observation_mask.shape[1]
    channels = t.inputs.channels
    decoder = policy.Decoder(state.params, config.policy, channels[:, :num_obs], observation_mask, t.inputs.valid, steps)
    h = np.stack([decoder.append(channels[:, num_obs + k]) for k in range(steps)], axis=1)
    stepwise, _ = policy.heads_forward(state.params, config.policy, h, t.inputs.choosable)
    for name in ("logits", "means", "parent_logits", "outcome_hidden"):
        yield Check("decoding", f"{name}, step by step = one pass", relative_error(getattr(stepwise, name), getattr(outputs, name)), 1e-12)


def verify_reference() -> list[Check]:
    """All checks of the reference alone."""
    checks = [*layer_checks(), *term_checks()]
    checks += policy_checks(small_config(), "policy, fixed std")
    checks += policy_checks(
        small_config(policy={"use_fixed_std": False}, grpo={"scale_rewards": "batch"}), "policy, learned std"
    )
    checks += invariant_checks(small_config())
    return checks


# --------------------------------------------------------------------------------------- a backend against this one


def verify_backend(make: Callable[[Config], backends.Backend]) -> list[Check]:
    """A backend against the reference, in float64: rollouts, updates, ten iterations, decisions."""
    raise NotImplementedError
