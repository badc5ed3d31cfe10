"""Single functions of the backend, NumPy in and NumPy out, by their names in acbo_ref.verify: for
comparisons only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from acbo_fast.numba import threads
from acbo_fast.numba.backend import NumbaBackend
from acbo_fast.numba.grpo.loss import (
    advantages,
    clipped_objective,
    edge_losses,
    entropy,
    normal_log_density,
    outcome_loss,
    parent_entropies,
)
from acbo_fast.numba.grpo.update import loss_and_gradient
from acbo_fast.numba.policy import evidence, layers, local
from acbo_fast.numba.policy.heads import outcome_weights
from acbo_fast.numba.workspace import Workspace
from acbo_ref.arrays import Array, Params
from acbo_ref.grpo.loss import LossBatch, LossWeights
from acbo_ref.policy.heads import LOG_STD_BOUND, VALUE_FEATURES, OutcomeState, PolicyOutputs
from acbo_ref.policy.local import Tried
from acbo_ref.policy.network import PolicyInputs


def _put(backend: NumbaBackend, value: Any) -> Any:
    """Arrays, also inside dicts and named tuples: floating ones in the backend's dtype, integers as
    int64.
    """
    if isinstance(value, dict):
        return {name: _put(backend, part) for name, part in value.items()}
    if isinstance(value, tuple):
        return type(value)(*(_put(backend, part) for part in value))
    if isinstance(value, np.ndarray):
        kinds = {"f": np.dtype(backend.dtype), "i": np.dtype(np.int64), "b": np.dtype(bool)}
        return np.ascontiguousarray(value, kinds[value.dtype.kind])
    return value


def _elementwise(function: Any) -> Any:
    """A scalar function, over arrays."""
    return lambda backend, *arguments: np.vectorize(function)(*(_put(backend, a) for a in arguments))


def _linear(backend: NumbaBackend, params: Params, name: str, x: Array) -> Array:
    params, x = _put(backend, params), _put(backend, x)
    out = np.empty((*x.shape[:-1], params[name + ".weight"].shape[1]), x.dtype)
    layers.product(x, params[name + ".weight"], out)
    layers.add_bias(out.reshape(-1, out.shape[-1]), params[name + ".bias"])
    return out


def _layer_norm(backend: NumbaBackend, params: Params, name: str, x: Array) -> Array:
    params, x = _put(backend, params), _put(backend, x)
    flat = x.reshape(-1, x.shape[-1]).copy()
    out, hat, inverse = np.empty_like(flat), np.empty_like(flat), np.empty(len(flat), flat.dtype)
    zero = np.zeros(flat.shape[1], flat.dtype)
    layers.residual_norm_forward(
        np.zeros_like(flat), flat, zero, params[name + ".scale"], params[name + ".bias"], hat, inverse, out
    )
    return out.reshape(x.shape)


def _gelu(backend: NumbaBackend, x: Array) -> Array:
    x = _put(backend, x)
    flat = x.reshape(-1, x.shape[-1]).copy()
    out = np.empty_like(flat)
    layers.gelu_forward(flat, np.zeros(flat.shape[1], flat.dtype), out)
    return out.reshape(x.shape)


def _mlp(backend: NumbaBackend, params: Params, first: str, second: str, x: Array) -> Array:
    return _linear(backend, params, second, _gelu(backend, _linear(backend, params, first, x)))


def _attend(backend: NumbaBackend, q: Array, k: Array, v: Array, mask: Array) -> Array:
    """The reference has heads before tokens, (X, Y, H, N, d), here the heads stand side by side:
    groups (X Y, N, 1, H d).
    """
    x, y, heads, queries, dim = q.shape

    def together(a: Array) -> Array:
        return a.swapaxes(2, 3).reshape(x * y, a.shape[3], 1, heads, dim)

    q_, kv = together(q), np.stack([together(k), together(v)], axis=3)
    allowed = np.broadcast_to(mask[:, :, 0], (x, y, queries, k.shape[3])).reshape(x * y, queries, -1)
    q_, kv = _put(backend, q_), _put(backend, kv)
    out, weights = np.empty_like(q_), np.empty((x * y, 1, heads, queries, k.shape[3]), q_.dtype)
    layers.attend_forward(q_, kv, k.shape[3], np.ascontiguousarray(allowed), out, weights)
    return out.reshape(x, y, queries, heads, dim).swapaxes(2, 3)


def _log_prob(
    backend: NumbaBackend, outputs: PolicyOutputs[Array], variable: Array, value: Array, fixed_std: float
) -> Array:
    logits, means = _put(backend, outputs.logits), _put(backend, outputs.means)
    out = np.empty(variable.shape)
    for place in np.ndindex(variable.shape):
        state, i = place[:-1], variable[place]
        log_p = np.empty_like(logits[state])
        layers.log_softmax(logits[state], log_p)
        log_std = np.log(fixed_std) if outputs.log_stds is None else outputs.log_stds[state][i]
        kind = logits.dtype.type
        out[place] = log_p[i] + normal_log_density(kind(value[place]), kind(means[state][i]), kind(log_std))[0]
    return out


def _entropy(backend: NumbaBackend, logits: Array) -> Array:
    logits = _put(backend, logits)
    out = np.empty(logits.shape[:-1])
    for state in np.ndindex(out.shape):
        log_p = np.empty_like(logits[state])
        layers.log_softmax(logits[state], log_p)
        out[state] = entropy(log_p)
    return out


def _parent_loss(backend: NumbaBackend, logits: Array, parents: Array, mask: Array) -> Array:
    losses = np.vectorize(layers.softplus)(_put(backend, logits)) - logits * parents[:, None]
    return np.asarray((losses * mask[:, None]).sum(axis=-1) / mask.sum(axis=-1)[:, None])


def _edge_loss(backend: NumbaBackend, logits: Array, edges: Array, mask: Array) -> Array:
    logits, found = _put(backend, logits), np.empty(logits.shape[:2])
    for e, k in np.ndindex(found.shape):
        one = logits[e : e + 1, k : k + 1]
        found[e, k] = edge_losses(one, edges[e : e + 1], mask[e : e + 1], 1.0, np.empty_like(one))
    return found


def _predict(
    backend: NumbaBackend,
    params: Params,
    state: OutcomeState[Array],
    tried: Tried[Array],
    variable: Array,
    value: Array,
) -> Array:
    space, half = Workspace(backend.dtype), state.hidden.shape[2]
    params, state, value = _put(backend, params), _put(backend, state), _put(backend, value)
    out = np.empty((*value.shape, 3), value.dtype)
    local.predict(
        state, local.typed(tried, value.dtype), _put(backend, variable), value, outcome_weights(space, params),
        space("scratch", 2 * half + VALUE_FEATURES), local.workings(space, tried.counts.shape[1], half), out,
    )  # fmt: skip
    return np.moveaxis(out, -1, 0)


def _parent_entropy(backend: NumbaBackend, logits: Array, mask: Array) -> Array:
    logits = _put(backend, logits)
    flat = logits.reshape(-1, logits.shape[-1])
    out = np.empty(len(flat), flat.dtype)
    allowed = np.ascontiguousarray(np.broadcast_to(mask, logits.shape).reshape(flat.shape))
    parent_entropies(flat, allowed, out)
    return out.reshape(logits.shape[:-1])


def _advantages(backend: NumbaBackend, rewards: Array, scale: str) -> Array:
    rewards = _put(backend, rewards)
    return advantages(rewards, scale, np.empty_like(rewards))


def _forward(backend: NumbaBackend, params: Params, inputs: PolicyInputs[Array], num_decisions: int) -> Any:
    outputs = backend.parts[0].network.forward(_put(backend, params), _put(backend, inputs), num_decisions)
    learned = outputs.log_stds if not backend.config.policy.use_fixed_std else None
    return PolicyOutputs(
        logits=outputs.logits.copy(),
        means=outputs.means.copy(),
        log_stds=None if learned is None else learned.copy(),
        parent_logits=outputs.parent_logits.copy(),
        outcome=OutcomeState(*(array.copy() for array in outputs.outcome)),
        edge_logits=None if outputs.edge_logits is None else outputs.edge_logits.copy(),
    )


def _loss_and_gradient(
    backend: NumbaBackend, params: Params, inputs: PolicyInputs[Array], batch: LossBatch[Array], weights: LossWeights
) -> tuple[float, dict[str, float], Params]:
    everything = np.arange(len(batch.variable))
    for number in range(threads.MOST_PARTS):
        backend.parts[number].flat_grads.fill(np.nan)  # each number must be written
    loss, terms = loss_and_gradient(
        _put(backend, params), backend.config, _put(backend, inputs), _put(backend, batch), weights, everything,
        backend.parts,
    )  # fmt: skip
    return loss, terms, {name: gradient.copy() for name, gradient in backend.parts[0].grads.items()}


PIECES: dict[str, Any] = {
    "linear": _linear,
    "layer_norm": _layer_norm,
    "gelu": _gelu,
    "soft_bound": _elementwise(lambda x: LOG_STD_BOUND * evidence.tanh(x / LOG_STD_BOUND)),
    "mlp": _mlp,
    "attend": _attend,
    "log_prob": _log_prob,
    "entropy": _entropy,
    "parent_loss": _parent_loss,
    "edge_loss": _edge_loss,
    "parent_entropy": _parent_entropy,
    "predict": _predict,
    "outcome_loss": _elementwise(lambda *a: outcome_loss(*a)[0]),
    "clipped_objective": _elementwise(
        lambda ratio, advantage, low, high: clipped_objective(ratio, advantage, low, high)[0]
    ),
    "advantages": _advantages,
    "forward": _forward,
    "loss_and_gradient": _loss_and_gradient,
}
