"""The reader's proof: every hand-written gradient against finite differences, every backend against this one.

    verify_reference()             # the reference alone
    verify_backend(make_backend)   # a backend against it

Gradients are compared with the five-point central difference

    f'(x) = (f(x - 2h) - 8 f(x - h) + 8 f(x + h) - f(x + 2h)) / 12h + O(h^4),

whose error at h = 1e-3 is near 1e-12 in float64 for the smooth functions here, far below the tolerance of 1e-6. The data
keep away from the clip bounds of the surrogate, its only kinks. The relative error of an array is
max |hand - numeric| / max(|numeric|) over the entries tried, so that entries that are 0 do not divide by 0.

Contract: neither raises for a wrong number; they return checks that say so.
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
from acbo_ref.errors import AcboError
from acbo_ref.layers import Params
from acbo_ref.randomness import Role, generator
from acbo_ref.rollout import EpisodeNoise, Trajectories, draw_noise, observe
from acbo_ref.train import Trainer

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
    """max |value - reference| / max |reference|; 0 where both are 0, inf for other shapes and for what is not finite."""
    value, reference = np.asarray(value, float), np.asarray(reference, float)
    if value.shape != reference.shape or not np.isfinite(value).all():
        return float("inf")
    if value.size == 0:
        return 0.0
    scale = float(np.abs(reference).max())
    difference = float(np.abs(value - reference).max())
    if difference == 0.0:
        return 0.0
    return difference / scale if scale > 0 else float("inf")


def scalar_error(value: float | None, reference: float) -> float:
    """|value - reference| / max(1, |reference|), for numbers that may be differences of larger ones; inf if not finite."""
    if value is None or not np.isfinite(value):
        return float("inf")
    return abs(value - reference) / max(1.0, abs(reference))


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

        def loss(forward: Callable[[], tuple[Array, Any]] = forward) -> float:
            return float((forward()[0] * weights).sum())

        yield from check_gradients(f"layer {name}", loss, arrays, gradients, rng)


# -------------------------------------------------------------------------------------------- the policy and loss

# Distinct primes where possible, so that a transposed axis cannot pass: E=3 (5 later), O=5, K=3, G=7, P=2.
SMALL = {
    "name": "verify",
    "seed": 7,
    "total_episodes": 60,  # ten iterations
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
    problems, observation_mask, _ = curriculum.sample(iteration)
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

    def log_prob() -> float:
        return float((grpo.log_prob_forward(outputs, variable, value, 1.5)[0] * d_group).sum())

    yield from check_gradients("term log_prob", log_prob, arrays, gradients, rng)
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
    variance = rng.random(logits.shape)
    predicted = {"mean": means, "log_error": log_stds, "log_noise": rng.standard_normal(logits.shape)}
    _, nll_cache = grpo.outcome_loss_forward(**predicted, outcome=logits, variance=variance)
    d_nll = rng.standard_normal((2, 3, 5))
    yield from check_gradients(
        "term outcome",
        lambda: float((grpo.outcome_loss_forward(**predicted, outcome=logits, variance=variance)[0] * d_nll).sum()),
        predicted, dict(zip(predicted, grpo.outcome_loss_backward(d_nll, nll_cache), strict=True)), rng,
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
    yield Check(
        "decoding", "ratio at unchanged parameters - 1", float(np.abs(np.exp(log_prob - t.log_prob) - 1).max()), 1e-10
    )
    num_obs = observation_mask.shape[1]
    channels = t.inputs.channels
    decoder = policy.Decoder(
        state.params, config.policy, channels[:, :num_obs], observation_mask, t.inputs.valid, steps
    )
    h = np.stack([decoder.append(channels[:, num_obs + k]) for k in range(steps)], axis=1)
    stepwise, _ = policy.heads_forward(state.params, config.policy, h, t.inputs.choosable, channels[:, num_obs:])
    for name in ("logits", "means", "parent_logits", "outcome_hidden"):
        yield Check(
            "decoding",
            f"{name}, step by step = one pass",
            relative_error(getattr(stepwise, name), getattr(outputs, name)),
            1e-12,
        )


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

# Float64: two orders of summation differ by rounding only. Ten iterations of Adam amplify it.
FORWARD_TOLERANCE, BACKWARD_TOLERANCE, TRAINING_TOLERANCE = 1e-12, 1e-10, 1e-9
# Float32 has 24 bits, 6e-8; a forward pass of a few hundred operations loses two digits, a backward pass one more.
FORWARD_TOLERANCE_32, BACKWARD_TOLERANCE_32 = 1e-5, 1e-4


def verify_backend(make: Callable[[Config], backends.Backend]) -> list[Check]:
    """A backend against the reference: its pieces, the policy, every gradient, rollouts, decisions, ten iterations."""
    checks: list[Check] = []
    plain = small_config(dtype="float64")
    checks += piece_checks(make(plain))
    variants = {
        "fixed std": plain,
        "learned std, info gain": small_config(
            dtype="float64",
            policy={"use_fixed_std": False},
            reward={"info_gain": 0.3, "noise_draws": 3},
            grpo={"scale_rewards": "batch", "clip_ratio_high": 0.3},
            surrogate={"commit_share": 0.5},
        ),
    }
    for label, config in variants.items():
        checks += network_checks(make(config), config, label, FORWARD_TOLERANCE, BACKWARD_TOLERANCE)
        checks += rollout_checks(make(config), config, label)
        checks += decision_checks(make(config), config, label)
        checks += training_checks(make(config), config, label)
    single = small_config(dtype="float32")
    checks += network_checks(make(single), single, "float32", FORWARD_TOLERANCE_32, BACKWARD_TOLERANCE_32)
    checks += rollout_checks(make(single), single, "float32", BACKWARD_TOLERANCE_32)
    checks += decision_checks(make(single), single, "float32", BACKWARD_TOLERANCE_32)
    return checks


def piece_checks(backend: backends.Backend) -> Iterator[Check]:
    """Every layer and every term of the loss alone, on random arrays."""
    rng = generator(0, Role.VERIFY, 4)

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape)

    params: Params = {
        "linear.weight": normal(8, 8), "linear.bias": normal(8), "norm.scale": normal(8), "norm.bias": normal(8),
        "mlp.up.weight": normal(8, 32), "mlp.up.bias": normal(32), "mlp.down.weight": normal(32, 8), "mlp.down.bias": normal(8),
    }  # fmt: skip
    x, q, k, v = normal(2, 3, 5, 8), normal(2, 3, 2, 5, 4), normal(2, 3, 2, 7, 4), normal(2, 3, 2, 7, 4)
    mask = rng.random((2, 1, 1, 5, 7)) < 0.6
    mask[..., 0] = True
    logits, means, log_stds = normal(2, 3, 5), normal(2, 3, 5), normal(2, 3, 5)
    logits[:, :, 2] = layers.MASKED
    variable = np.array([0, 1, 3, 4])[rng.integers(0, 4, (2, 3, 7))]
    value, rewards = normal(2, 3, 7), normal(2, 3, 7)
    rewards[0, 0] = 0.1
    outputs = policy.PolicyOutputs(logits, means, log_stds, logits, logits)
    parents, parent_mask = rng.random((2, 5)) < 0.5, np.array([[1, 1, 0, 1, 0], [1, 1, 0, 1, 1]], bool)
    ratio = np.exp(0.5 * normal(2, 3, 7))
    cases: list[tuple[str, tuple[Any, ...], Any]] = [
        ("linear", (params, "linear", x), layers.linear_forward(params, "linear", x)[0]),
        ("layer_norm", (params, "norm", x), layers.layer_norm_forward(params, "norm", x)[0]),
        ("gelu", (x,), layers.gelu_forward(x)[0]),
        ("soft_bound", (x,), layers.soft_bound_forward(x, policy.LOG_STD_BOUND)[0]),
        ("attend", (q, k, v, mask), layers.attend_forward(q, k, v, mask)[0]),
        ("mlp", (params, "mlp.up", "mlp.down", x), layers.mlp_forward(params, "mlp.up", "mlp.down", x)[0]),
        ("log_prob", (outputs, variable, value, 1.5), grpo.log_prob_forward(outputs, variable, value, 1.5)[0]),
        ("entropy", (logits,), grpo.entropy_forward(logits)[0]),
        ("parent_loss", (means, parents, parent_mask), grpo.parent_loss_forward(means, parents, parent_mask)[0]),
        ("parent_entropy", (means, parent_mask[:, None]), grpo.parent_entropy(means, parent_mask[:, None])),
        (
            "outcome_loss",
            (means, log_stds, x[:, :, :, 2], x[:, :, :, 0], x[:, :, :, 1] ** 2),
            grpo.outcome_loss_forward(means, log_stds, x[:, :, :, 2], x[:, :, :, 0], x[:, :, :, 1] ** 2)[0],
        ),
        ("surrogate", (ratio, rewards, 0.2, 0.3), grpo.surrogate_forward(ratio, rewards, 0.2, 0.3)[0]),
        *((f"advantages, {s}", (rewards, s), grpo.advantages(rewards, s)) for s in ("group", "batch", "none")),
    ]
    for name, arguments, expected in cases:
        found = backend.piece(name.split(",")[0], *arguments)
        yield Check(f"{backend.name} piece", name, relative_error(found, expected), FORWARD_TOLERANCE)


def network_checks(
    backend: backends.Backend, config: Config, label: str, forward_tolerance: float, backward_tolerance: float
) -> Iterator[Check]:
    """The policy's outputs, the terms of the loss and every named gradient, on off-policy data of two sizes of padding."""
    reference = backends.ReferenceBackend(replace(config, dtype="float64"))
    state = perturbed_state(reference)
    problems, observation_mask, noise = iteration_data(reference.config)
    played = reference.rollout(state, problems, observation_mask, noise, config.policy.fixed_std)
    trajectories = off_policy(played, config)
    advantage = grpo.advantages(trajectories.rewards, config.grpo.scale_rewards)
    inputs, batch = backends.minibatch(trajectories, advantage, np.arange(config.batch_size))
    weights = backends.loss_weights(config, 0.05)
    steps = batch.variable.shape[1]
    expected, _ = policy.forward(state.params, config.policy, inputs, steps)
    found = backend.piece("forward", state.params, inputs, steps)
    group = f"{backend.name} network, {label}"
    for name in ("logits", "means", "log_stds", "parent_logits", "outcome_hidden"):
        value = getattr(expected, name)
        if value is not None:
            yield Check(group, name, relative_error(getattr(found, name), value), forward_tolerance)
    loss, terms, grads = backends.loss_and_gradient(state.params, reference.config, inputs, batch, weights)
    found_loss, found_terms, found_grads = backend.piece("loss_and_gradient", state.params, inputs, batch, weights)
    for name, term in {"loss": loss, **terms}.items():
        error = scalar_error({"loss": found_loss, **found_terms}[name], term)
        yield Check(group, f"term {name}", error, forward_tolerance)
    for name, gradient in grads.items():
        yield Check(group, f"gradient of {name}", relative_error(found_grads[name], gradient), backward_tolerance)


def rollout_checks(
    backend: backends.Backend, config: Config, label: str, tolerance: float = BACKWARD_TOLERANCE
) -> Iterator[Check]:
    """Whole rollouts by incremental decoding, number by number, and the one-pass forward on them."""
    reference = backends.ReferenceBackend(replace(config, dtype="float64"))
    state = perturbed_state(reference)
    problems, observation_mask, noise = iteration_data(config)
    expected = reference.rollout(state, problems, observation_mask, noise, 1.5)
    found = backend.rollout(backend.from_host(state), problems, observation_mask, noise, 1.5)
    group = f"{backend.name} rollout, {label}"
    names = (
        "variable",
        "value",
        "log_prob",
        "rewards",
        "draw_variable",
        "draw_value",
        "draw_outcome",
        "draw_variance",
        "applied",
        "outcome",
    )
    for name in names:
        yield Check(group, name, relative_error(getattr(found, name), getattr(expected, name)), tolerance)
    yield Check(group, "channels", relative_error(found.inputs.channels, expected.inputs.channels), tolerance)
    inputs = policy.PolicyInputs(
        *(
            np.asarray(a)
            for a in (found.inputs.channels, found.inputs.valid, found.inputs.choosable, found.inputs.row_mask)
        )
    )
    steps = noise.intervention.shape[1]
    outputs = backend.piece("forward", state.params, inputs, steps)
    log_prob, _ = grpo.log_prob_forward(outputs, np.asarray(found.variable), np.asarray(found.value), 1.5)
    yield Check(group, "one pass = step by step", relative_error(log_prob, found.log_prob), tolerance)


def decision_checks(
    backend: backends.Backend, config: Config, label: str, tolerance: float = BACKWARD_TOLERANCE
) -> Iterator[Check]:
    """Sessions: deterministic, sampled and by the surrogate, after each of a few rows."""
    reference = backends.ReferenceBackend(replace(config, dtype="float64"))
    state = perturbed_state(reference)
    problems, observation_mask, noise = iteration_data(config)
    task = observe(problems, noise.observation, observation_mask)
    sessions = [reference.session(state, task, 3), backend.session(backend.from_host(state), task, 3)]
    rng = generator(0, Role.VERIFY, 5)
    worst: dict[str, float] = {}
    # all manipulable variables but the first that is
    not_first = task.manipulable & (np.cumsum(task.manipulable, axis=1) > 1)
    not_first |= task.manipulable & (task.manipulable.sum(axis=1) == 1)[:, None]
    restricted: dict[str, Any] = {"optimism": 2.0, "allowed": not_first}
    other = [(f"{kind}, restricted", {"decision": kind, **restricted}) for kind in ("policy", "surrogate")]
    for _ in range(3):
        drawn = {"gumbel": rng.gumbel(size=task.valid.shape), "normal": rng.standard_normal(len(task.valid))}
        kinds: list[tuple[str, dict[str, Any]]] = [
            ("greedy", {}),
            ("sampled", drawn),
            ("surrogate", {"decision": "surrogate"}),
            *other,
        ]
        for kind, settings in kinds:
            a, b = (s.decide(**settings) for s in sessions)
            for name in (
                "variable",
                "value",
                "probability",
                "parent_probability",
                "outcome_mean",
                "outcome_error",
                "outcome_std",
            ):
                error = relative_error(getattr(b, name), getattr(a, name))
                worst[f"{kind} {name}"] = max(error, worst.get(f"{kind} {name}", 0.0))
        rows = rng.standard_normal(task.valid.shape)
        for session in sessions:
            session.observe(a.variable, rows)
    for name, error in worst.items():
        yield Check(f"{backend.name} decision, {label}", name, error, tolerance)


def training_checks(backend: backends.Backend, config: Config, label: str) -> Iterator[Check]:
    """Ten whole iterations of training: metrics of each and the parameters at the end."""
    trainers = [Trainer(config), Trainer(config, backend)]
    records: list[list[dict[str, Any]]] = [[], []]
    group = f"{backend.name} training, {label}"
    for trainer, kept in zip(trainers, records, strict=True):
        try:
            trainer.train(kept.append)
        except AcboError:  # it says that the loss stays non-finite: that is a failed check, not an error of ours
            yield Check(group, "it runs to the end", float("inf"), TRAINING_TOLERANCE)
            return
    worst: dict[str, float] = {}
    for expected, found in zip(*records, strict=True):
        for name, value in expected.items():
            if isinstance(value, float) and not name.startswith("clip_ratio"):
                worst[name] = max(worst.get(name, 0.0), scalar_error(found[name], value))
    yield Check(group, f"metrics of {len(records[0])} iterations", max(worst.values()), TRAINING_TOLERANCE)
    states = [trainer.backend.to_host(trainer.state) for trainer in trainers]
    # The loss does not depend on the bias of the variable logits, nor on those of attention's keys (a softmax is shift
    # invariant): their gradient is rounding, which Adam divides by its own size. So tensors near their start of 0 are
    # measured against a hundredth.
    errors = [
        float(np.abs(states[1].params[name] - value).max() / max(np.abs(value).max(), 0.01))
        for name, value in states[0].params.items()
    ]
    yield Check(group, "parameters at the end", max(errors), TRAINING_TOLERANCE)
