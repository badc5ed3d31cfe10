"""A backend against the reference: its pieces, the policy, every gradient, rollouts, decisions, ten
iterations.

A backend's *pieces* are single functions of it, NumPy in and NumPy out, by name;
`acbo_fast.backend_pieces` finds them.

Contract: a wrong number gives a check that fails, never an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from acbo_ref.arrays import Array, Params
from acbo_ref.backend import AnyBackend, ReferenceBackend
from acbo_ref.config import Config
from acbo_ref.errors import AcboError
from acbo_ref.grpo.loss import (
    advantages,
    clipped_objective_forward,
    edge_loss_forward,
    edge_mask,
    entropy_forward,
    log_prob_forward,
    outcome_loss_forward,
    parent_entropy,
    parent_loss_forward,
)
from acbo_ref.grpo.rollout import observe
from acbo_ref.grpo.update import group_advantages, loss_and_gradient, loss_weights, minibatch
from acbo_ref.policy import layers
from acbo_ref.policy.heads import LOG_STD_BOUND, OutcomePrediction, OutcomeState, PolicyOutputs
from acbo_ref.policy.inputs import Task
from acbo_ref.policy.local import Tried, predict_forward
from acbo_ref.policy.network import PolicyInputs, forward
from acbo_ref.policy.session import Decision, Prediction
from acbo_ref.randomness import Role, generator
from acbo_ref.training.run_folder import Record
from acbo_ref.training.trainer import Trainer
from acbo_ref.verify.checks import Check, output_errors, relative_error, scalar_error
from acbo_ref.verify.data import EPISODES, ROWS, iteration_data, local_case, off_policy, perturbed_state, small_config

# piece(backend, *arguments), by the name of what it computes
Pieces = Mapping[str, Callable[..., Any]]

# Float64: two orders of summation differ by rounding only. Ten iterations of Adam amplify it.
FORWARD_TOLERANCE, BACKWARD_TOLERANCE, TRAINING_TOLERANCE = 1e-12, 1e-10, 1e-9
# Float32 has 24 bits, 6e-8; a forward pass of a few hundred operations loses two digits, a backward
# pass one more.
FORWARD_TOLERANCE_32, BACKWARD_TOLERANCE_32 = 1e-5, 1e-4


def verify_backend(make: Callable[[Config], AnyBackend], pieces: Pieces) -> list[Check]:
    """All comparisons of a backend with the reference."""
    checks: list[Check] = []
    plain = small_config(dtype="float64")
    checks += piece_checks(make(plain), pieces)
    variants = {
        "fixed std": plain,
        "learned std, info gain, settle": small_config(
            dtype="float64",
            policy={"use_fixed_std": False},
            reward={"info_gain": 0.3, "noise_draws": 4},
            grpo={"scale_rewards": "batch", "clip_ratio_high": 0.3, "credit": "settle", "budget": [1, 9]},
            heads={"commit_by_outcome_head": 0.5},
            # a cliff makes rewards equal but for the rounding of tanh, and variables of which
            # nothing is known tie
            scm={"curved": 0.0, "hidden": 0.0},
        ),
        "episodes, apart from the trunk": small_config(
            dtype="float64", policy={"policy_into_trunk": False}, grpo={**EPISODES, "objective": "final"}
        ),
        "rows": small_config(dtype="float64", policy=ROWS, grpo={"learned_decisions": None, "credit": "settle"}),
        "rows, odd depth": small_config(
            dtype="float64",
            policy={**ROWS, "num_layers": 3},
            grpo={"learned_decisions": None},
            observations_per_episode=[0, 2],
            scm={"hidden": 0.0, "curved": 0.0},  # else variables of which nothing is known tie
        ),
    }
    for label, config in variants.items():
        checks += network_checks(make(config), pieces, config, label, FORWARD_TOLERANCE, BACKWARD_TOLERANCE)
        checks += rollout_checks(make(config), pieces, config, label)
        if config.grpo.credit != "episode":  # sessions know nothing of credit, and updates only sizes
            checks += decision_checks(make(config), config, label)
            checks += training_checks(make(config), config, label)
    single = small_config(dtype="float32")
    checks += network_checks(make(single), pieces, single, "float32", FORWARD_TOLERANCE_32, BACKWARD_TOLERANCE_32)
    checks += rollout_checks(make(single), pieces, single, "float32", BACKWARD_TOLERANCE_32)
    checks += decision_checks(make(single), single, "float32", BACKWARD_TOLERANCE_32)
    return checks


def piece_checks(backend: AnyBackend, pieces: Pieces) -> Iterator[Check]:
    """Every layer and every term of the loss alone, on random arrays."""
    for name, arguments, expected in (*_layer_cases(), *_term_cases(), *_local_cases()):
        found = pieces[name.split(",")[0]](backend, *arguments)
        yield Check(f"{backend.name} piece", name, relative_error(found, expected), FORWARD_TOLERANCE)


# name, arguments, what the reference gives
_Case = tuple[str, tuple[Any, ...], Array]


def _layer_cases() -> Iterator[_Case]:
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
    yield "linear", (params, "linear", x), layers.linear_forward(params, "linear", x)[0]
    yield "layer_norm", (params, "norm", x), layers.layer_norm_forward(params, "norm", x)[0]
    yield "gelu", (x,), layers.gelu_forward(x)[0]
    yield "soft_bound", (x,), layers.soft_bound_forward(x, LOG_STD_BOUND)[0]
    yield "attend", (q, k, v, mask), layers.attend_forward(q, k, v, mask)[0]
    yield "mlp", (params, "mlp.up", "mlp.down", x), layers.mlp_forward(params, "mlp.up", "mlp.down", x)[0]


def _term_cases() -> Iterator[_Case]:
    rng = generator(0, Role.VERIFY, 6)
    logits, means, log_stds, outcome, noise = (rng.standard_normal((2, 3, 5)) for _ in range(5))
    logits[:, :, 2] = layers.MASKED
    variable = np.array([0, 1, 3, 4])[rng.integers(0, 4, (2, 3, 7))]
    value, rewards = rng.standard_normal((2, 3, 7)), rng.standard_normal((2, 3, 7))
    rewards[0, 0] = 0.1
    outputs = PolicyOutputs(logits, means, log_stds, logits, OutcomeState(*[logits] * 5))
    parents, parent_mask = rng.random((2, 5)) < 0.5, np.array([[1, 1, 0, 1, 0], [1, 1, 0, 1, 1]], bool)
    ratio = np.exp(0.5 * rng.standard_normal((2, 3, 7)))
    variance, weight = rng.random((2, 3, 5)), rng.random((2, 3, 5))
    nll = outcome_loss_forward(OutcomePrediction(means, log_stds, noise, noise), outcome, variance, weight)[0]
    yield "log_prob", (outputs, variable, value, 1.5), log_prob_forward(outputs, variable, value, 1.5)[0]
    yield "entropy", (logits,), entropy_forward(logits)[0]
    yield "parent_loss", (means, parents, parent_mask), parent_loss_forward(means, parents, parent_mask)[0]
    edge_logits, edges = rng.standard_normal((2, 3, 5, 5, 2)), rng.random((2, 5, 5, 2)) < 0.5
    pairs = edge_mask(np.array([[True] * 5, [True] * 3 + [False] * 2]))
    yield "edge_loss", (edge_logits, edges, pairs), edge_loss_forward(edge_logits, edges, pairs)[0]
    yield "parent_entropy", (means, parent_mask[:, None]), parent_entropy(means, parent_mask[:, None])
    yield "outcome_loss", (means, log_stds, noise, outcome, variance, weight), nll
    clipped = clipped_objective_forward(ratio, rewards, 0.2, 0.3)[0]
    yield "clipped_objective", (ratio, rewards, 0.2, 0.3), clipped
    for scale in ("group", "batch", "none"):
        yield f"advantages, {scale}", (rewards, scale), advantages(rewards, scale)


def _local_cases() -> Iterator[_Case]:
    """Predictions after own outcomes, and without any that counts."""
    params, state, tried, variable, value = local_case()
    for label, own in (("some", tried), ("none", tried._replace(counts=np.zeros_like(tried.counts)))):
        expected, _ = predict_forward(params, state, own, variable, value)
        yield f"predict, {label} tried", (params, state, own, variable, value), np.stack(expected[:3])


def network_checks(
    backend: AnyBackend,
    pieces: Pieces,
    config: Config,
    label: str,
    forward_tolerance: float,
    backward_tolerance: float,
) -> Iterator[Check]:
    """The policy's outputs, the terms of the loss and every named gradient, on off-policy data of
    two sizes of padding.
    """
    reference = ReferenceBackend(replace(config, dtype="float64"))
    state = perturbed_state(reference)
    systems, observation_mask, noise = iteration_data(reference.config)
    played = reference.rollout(state, systems, observation_mask, noise, config.policy.fixed_std)
    trajectories = off_policy(played)
    advantage = group_advantages(trajectories.rewards, config)
    inputs, batch = minibatch(trajectories, advantage, np.arange(config.batch_size))
    weights = loss_weights(config, 0.05)
    steps = batch.variable.shape[1]
    expected, _ = forward(state.params, config.policy, inputs, steps)
    found = pieces["forward"](backend, state.params, inputs, steps)
    group = f"{backend.name} network, {label}"
    for name, error in output_errors(found, expected):
        yield Check(group, name, error, forward_tolerance)
    loss, terms, grads = loss_and_gradient(state.params, reference.config, inputs, batch, weights)
    found_loss, found_terms, found_grads = pieces["loss_and_gradient"](backend, state.params, inputs, batch, weights)
    for name, term in {"loss": loss, **terms}.items():
        error = scalar_error({"loss": found_loss, **found_terms}[name], term)
        yield Check(group, f"term {name}", error, forward_tolerance)
    for name, gradient in grads.items():
        yield Check(group, f"gradient of {name}", relative_error(found_grads[name], gradient), backward_tolerance)


# What a rollout gives, number by number.
_PLAYED = (
    "variable", "value", "log_prob", "rewards", "judged_variable", "judged_value", "judged_outcome", "judged_variance",
    "judged_weight", "done", "applied", "outcome", "expected",
)  # fmt: skip


def rollout_checks(
    backend: AnyBackend, pieces: Pieces, config: Config, label: str, tolerance: float = BACKWARD_TOLERANCE
) -> Iterator[Check]:
    """Whole rollouts by incremental decoding, number by number, and the one-pass forward on
    them.
    """
    reference = ReferenceBackend(replace(config, dtype="float64"))
    state = perturbed_state(reference)
    systems, observation_mask, noise = iteration_data(config)
    expected = reference.rollout(state, systems, observation_mask, noise, 1.5)
    found = backend.rollout(backend.from_host(state), systems, observation_mask, noise, 1.5)
    group = f"{backend.name} rollout, {label}"
    for name in _PLAYED:
        yield Check(group, name, relative_error(getattr(found, name), getattr(expected, name)), tolerance)
    for name in Tried._fields:
        error = relative_error(getattr(found.tried, name), getattr(expected.tried, name))
        yield Check(group, f"tried {name}", error, tolerance)
    yield Check(group, "causes", relative_error(found.causes, expected.causes), tolerance)
    yield Check(group, "channels", relative_error(found.inputs.channels, expected.inputs.channels), tolerance)
    yield Check(group, "evidence", relative_error(found.inputs.evidence, expected.inputs.evidence), tolerance)
    error = relative_error(found.inputs.acquisition, expected.inputs.acquisition)
    yield Check(group, "acquisition", error, tolerance)
    inputs = PolicyInputs(*(np.asarray(array) for array in found.inputs))
    outputs = pieces["forward"](backend, state.params, inputs, expected.variable.shape[1])
    log_prob, _ = log_prob_forward(outputs, np.asarray(found.variable), np.asarray(found.value), 1.5)
    yield Check(group, "one pass = step by step", relative_error(log_prob, found.log_prob), tolerance)


def decision_checks(
    backend: AnyBackend, config: Config, label: str, tolerance: float = BACKWARD_TOLERANCE
) -> Iterator[Check]:
    """Sessions: by either head, deterministic and sampled, free and restricted, after each of a few
    rows.
    """
    reference = ReferenceBackend(replace(config, dtype="float64"))
    state = perturbed_state(reference)
    systems, observation_mask, noise = iteration_data(config)
    task = observe(systems, noise.observation, observation_mask)
    sessions = [reference.session(state, task, 3), backend.session(backend.from_host(state), task, 3)]
    rng = generator(0, Role.VERIFY, 5)
    worst: dict[str, float] = {}
    for _ in range(3):
        for kind, settings in _ways_to_decide(task, rng).items():
            a, b = (session.decide(**settings) for session in sessions)
            for name in (field.name for field in fields(Decision)):
                error = relative_error(getattr(b, name), getattr(a, name))
                worst[f"{kind}: {name}"] = max(error, worst.get(f"{kind}: {name}", 0.0))
        asked = _actions_to_ask_about(task, rng)
        a_said, b_said = (session.predict(*asked) for session in sessions)
        for name in (field.name for field in fields(Prediction)):
            error = relative_error(getattr(b_said, name), getattr(a_said, name))
            worst[f"predict: {name}"] = max(error, worst.get(f"predict: {name}", 0.0))
        rows = rng.standard_normal(task.valid.shape)
        for session in sessions:
            session.observe(a.variable, rows)
    for name, error in worst.items():
        yield Check(f"{backend.name} decision, {label}", name, error, tolerance)


def _actions_to_ask_about(task: Task, rng: np.random.Generator) -> tuple[Array, Array]:
    """Four actions in each system, a little outside the domains as well."""
    rank = rng.integers(0, task.manipulable.sum(axis=1)[:, None], (len(task.valid), 4))
    variable = np.take_along_axis(np.argsort(~task.manipulable, axis=1, kind="stable"), rank, axis=1)
    low, high = (np.take_along_axis(end, variable, axis=1) for end in (task.low, task.high))
    return variable, low + (high - low) * rng.uniform(-0.1, 1.1, variable.shape)


def _ways_to_decide(task: Task, rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """{name: arguments of Session.decide}; the restricted ones may choose every manipulable
    variable but the first.
    """
    not_first = task.manipulable & (np.cumsum(task.manipulable, axis=1) > 1)
    not_first |= task.manipulable & (task.manipulable.sum(axis=1) == 1)[:, None]
    restricted = {"optimism": 2.0, "allowed": not_first}
    drawn = {"gumbel": rng.gumbel(size=task.valid.shape), "normal": rng.standard_normal(len(task.valid))}
    return {
        "policy head": {"decision": "policy_head"},
        "policy head, sampled": {"decision": "policy_head", **drawn},
        "policy head, restricted": {"decision": "policy_head", **restricted},
        "outcome head": {"decision": "outcome_head"},
        "outcome head, restricted": {"decision": "outcome_head", **restricted},
    }


def training_checks(backend: AnyBackend, config: Config, label: str) -> Iterator[Check]:
    """Ten whole iterations of training: metrics of each and the parameters at the end."""
    trainers = [Trainer(config), Trainer(config, backend)]
    records: list[list[Record]] = [[], []]
    group = f"{backend.name} training, {label}"
    for trainer, kept in zip(trainers, records, strict=True):
        try:
            trainer.train(kept.append)
        except AcboError:  # it says that the loss stays non-finite: that is a failed check, not an error of ours
            yield Check(group, "it runs to the end", float("inf"), TRAINING_TOLERANCE)
            return
    worst: dict[str, list[float]] = {}
    for expected, found in zip(*records, strict=True):
        for name, value in expected.items():
            if isinstance(value, float) and not name.startswith("clip_ratio"):
                worst.setdefault(name, []).append(scalar_error(found[name], value))
    error = float(np.max([e for errors in worst.values() for e in errors]))  # NaN if any is, unlike max
    yield Check(group, f"metrics of {len(records[0])} iterations", error, TRAINING_TOLERANCE)
    states = [trainer.backend.to_host(trainer.state) for trainer in trainers]
    # The loss does not depend on the bias of the variable logits, nor on those of attention's keys
    # (a softmax is shift invariant): their gradient is rounding, which Adam divides by its own
    # size. So tensors near their start of 0 are measured against a hundredth.
    errors = [
        float(np.abs(states[1].params[name] - value).max() / max(np.abs(value).max(), 0.01))
        for name, value in states[0].params.items()
    ]
    yield Check(group, "parameters at the end", float(np.max(errors)), TRAINING_TOLERANCE)
