"""Single functions of the backend, NumPy in and NumPy out, by their names in acbo_ref.verify: for comparisons only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from acbo_fast.numba import evidence, grpo, layers, rollout, threads
from acbo_ref.grpo import LossBatch
from acbo_ref.layers import Params
from acbo_ref.policy import LOG_STD_BOUND, PolicyInputs, PolicyOutputs

Array = NDArray[Any]


def _put(backend: Any, value: Any) -> Any:
    """Floating arrays in the backend's dtype, integers as int64."""
    if isinstance(value, dict):
        return {name: _put(backend, part) for name, part in value.items()}
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value, {"f": backend.dtype, "i": np.int64, "b": bool}[value.dtype.kind])
    return value


def _elementwise(function: Any) -> Any:
    """A scalar function, over arrays."""
    return lambda backend, *arguments: np.vectorize(function)(*(_put(backend, a) for a in arguments))


def _linear(backend: Any, params: Params, name: str, x: Array) -> Array:
    params, x = _put(backend, params), _put(backend, x)
    out = np.empty((*x.shape[:-1], params[name + ".weight"].shape[1]), x.dtype)
    layers.product(x, params[name + ".weight"], out)
    layers.add_bias(out.reshape(-1, out.shape[-1]), params[name + ".bias"])
    return out


def _layer_norm(backend: Any, params: Params, name: str, x: Array) -> Array:
    params, x = _put(backend, params), _put(backend, x)
    flat = x.reshape(-1, x.shape[-1]).copy()
    out, hat, inverse = np.empty_like(flat), np.empty_like(flat), np.empty(len(flat), flat.dtype)
    zero = np.zeros(flat.shape[1], flat.dtype)
    layers.residual_norm_forward(
        np.zeros_like(flat), flat, zero, params[name + ".scale"], params[name + ".bias"], hat, inverse, out
    )
    return out.reshape(x.shape)


def _gelu(backend: Any, x: Array) -> Array:
    x = _put(backend, x)
    flat = x.reshape(-1, x.shape[-1]).copy()
    out = np.empty_like(flat)
    layers.gelu_forward(flat, np.zeros(flat.shape[1], flat.dtype), out)
    return out.reshape(x.shape)


def _mlp(backend: Any, params: Params, first: str, second: str, x: Array) -> Array:
    return _linear(backend, params, second, _gelu(backend, _linear(backend, params, first, x)))


def _attend(backend: Any, q: Array, k: Array, v: Array, mask: Array) -> Array:
    """The reference has heads before tokens, (X, Y, H, N, d), here the heads stand side by side: groups (X Y, N, 1, H d)."""
    x, y, heads, queries, dim = q.shape

    def together(a: Array) -> Array:
        return a.swapaxes(2, 3).reshape(x * y, a.shape[3], 1, heads, dim)

    q_, kv = together(q), np.stack([together(k), together(v)], axis=3)
    allowed = np.broadcast_to(mask[:, :, 0], (x, y, queries, k.shape[3])).reshape(x * y, queries, -1)
    q_, kv = _put(backend, q_), _put(backend, kv)
    out, weights = np.empty_like(q_), np.empty((x * y, 1, heads, queries, k.shape[3]), q_.dtype)
    layers.attend_forward(q_, kv, k.shape[3], np.ascontiguousarray(allowed), out, weights)
    return out.reshape(x, y, queries, heads, dim).swapaxes(2, 3)


def _log_prob(backend: Any, outputs: PolicyOutputs, variable: Array, value: Array, fixed_std: float) -> Array:
    logits, means = _put(backend, outputs.logits), _put(backend, outputs.means)
    out = np.empty(variable.shape)
    for place in np.ndindex(variable.shape):
        state, i = place[:-1], variable[place]
        log_p = np.empty_like(logits[state])
        grpo.log_softmax(logits[state], log_p)
        log_std = np.log(fixed_std) if outputs.log_stds is None else outputs.log_stds[state][i]
        kind = logits.dtype.type
        out[place] = log_p[i] + grpo.normal_log_density(kind(value[place]), kind(means[state][i]), kind(log_std))[0]
    return out


def _entropy(backend: Any, logits: Array) -> Array:
    logits = _put(backend, logits)
    out = np.empty(logits.shape[:-1])
    for state in np.ndindex(out.shape):
        log_p = np.empty_like(logits[state])
        grpo.log_softmax(logits[state], log_p)
        out[state] = grpo.entropy(log_p)
    return out


def _parent_loss(backend: Any, logits: Array, parents: Array, mask: Array) -> Array:
    losses = np.vectorize(grpo.softplus)(_put(backend, logits)) - logits * parents[:, None]
    return np.asarray((losses * mask[:, None]).sum(axis=-1) / mask.sum(axis=-1)[:, None])


def _parent_entropy(backend: Any, logits: Array, mask: Array) -> Array:
    logits = _put(backend, logits)
    flat = logits.reshape(-1, logits.shape[-1])
    out = np.empty(len(flat), flat.dtype)
    allowed = np.ascontiguousarray(np.broadcast_to(mask, logits.shape).reshape(flat.shape))
    rollout.parent_entropies(flat, allowed, out)
    return out.reshape(logits.shape[:-1])


def _advantages(backend: Any, rewards: Array, scale: str) -> Array:
    rewards = _put(backend, rewards)
    return grpo.advantages(rewards, scale, np.empty_like(rewards))


def _forward(backend: Any, params: Params, inputs: PolicyInputs, num_decisions: int) -> PolicyOutputs:
    outputs = backend.part(0).network.forward(_put(backend, params), _inputs(backend, inputs), num_decisions)
    return PolicyOutputs(
        logits=outputs.logits.copy(),
        means=outputs.means.copy(),
        log_stds=None if backend.config.policy.use_fixed_std else outputs.log_stds.copy(),
        parent_logits=outputs.parent_logits.copy(),
        outcome_hidden=np.concatenate([outputs.hidden, np.stack([outputs.slope, outputs.centre], axis=-1)], axis=-1),
    )


def _inputs(backend: Any, inputs: PolicyInputs) -> PolicyInputs:
    return PolicyInputs(*(_put(backend, getattr(inputs, n)) for n in ("channels", "valid", "choosable", "row_mask")))


def _loss_and_gradient(backend: Any, params: Params, inputs: PolicyInputs, batch: LossBatch, weights: Any) -> Any:
    data = grpo.Batch(*(_put(backend, getattr(batch, name)) for name in grpo.Batch._fields))
    everything = np.arange(len(batch.variable))
    for number in range(threads.MOST_PARTS):
        backend.part(number).flat_grads.fill(np.nan)  # each number must be written
    loss, terms = backend.loss_and_gradient(
        _put(backend, params), _inputs(backend, inputs), data, everything, batch.fixed_std, weights
    )
    return loss, terms, {name: gradient.copy() for name, gradient in backend.part(0).grads.items()}


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
    "parent_entropy": _parent_entropy,
    "outcome_loss": _elementwise(lambda *a: grpo.outcome_loss(*a)[0]),
    "surrogate": _elementwise(lambda ratio, advantage, low, high: grpo.surrogate(ratio, advantage, low, high)[0]),
    "advantages": _advantages,
    "forward": _forward,
    "loss_and_gradient": _loss_and_gradient,
}
