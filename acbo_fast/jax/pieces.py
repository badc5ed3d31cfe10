"""Single functions of the backend, NumPy in and NumPy out, by their names in
acbo_ref.verify.parity: for comparisons only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from acbo_fast.jax.backend import JaxBackend
from acbo_fast.jax.grpo import loss
from acbo_fast.jax.grpo.update import loss_of_minibatch
from acbo_fast.jax.policy import layers, local
from acbo_fast.jax.policy.network import forward
from acbo_ref.grpo.loss import LossBatch, LossWeights
from acbo_ref.policy.heads import LOG_STD_BOUND, OutcomePrediction, PolicyOutputs
from acbo_ref.policy.network import PolicyInputs


def _put(backend: JaxBackend, value: Any) -> Any:
    """Arrays, also inside dicts and named tuples, on the device, floats in the backend's dtype."""

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray):
            return leaf
        return jnp.asarray(leaf, backend.dtype if leaf.dtype.kind == "f" else None)

    return jax.tree.map(one, value)


def _piece(function: Callable[..., Any]) -> Callable[..., NDArray[Any]]:
    """A traced function of arrays as NumPy in, NumPy out."""

    def call(backend: JaxBackend, *arguments: Any) -> NDArray[Any]:
        with backend.precision():
            return np.asarray(function(*(_put(backend, a) for a in arguments)))

    return call


def _forward(
    backend: JaxBackend, params: Any, inputs: PolicyInputs[Any], num_decisions: int
) -> PolicyOutputs[NDArray[Any]]:
    with backend.precision():
        outputs = forward(_put(backend, params), backend.config.policy, _put(backend, inputs), num_decisions)
        return jax.tree.map(np.asarray, outputs)


def _loss_and_gradient(
    backend: JaxBackend, params: Any, inputs: PolicyInputs[Any], batch: LossBatch[Any], weights: LossWeights
) -> tuple[float, dict[str, float], dict[str, NDArray[Any]]]:
    with backend.precision():
        number = partial(jnp.asarray, dtype=backend.dtype)
        data = _put(backend, batch)._replace(fixed_std=number(batch.fixed_std))
        entropy: Any = number(weights.entropy)
        traced = weights._replace(entropy=entropy)
        given, never = _put(backend, inputs), jnp.zeros((), jnp.int32)

        def objective(params: Any) -> Any:
            return loss_of_minibatch(params, backend.config, given, data, traced, never)

        (value, terms), grads = jax.jit(jax.value_and_grad(objective, has_aux=True))(_put(backend, params))
        return float(value), {k: float(v) for k, v in terms.items()}, {k: np.asarray(v) for k, v in grads.items()}


def _attend(q: Any, k: Any, v: Any, mask: Any) -> Any:
    """The reference has heads before tokens, (..., H, N, d); here they stand after."""
    q, k, v = (a.swapaxes(-2, -3) for a in (q, k, v))
    return layers.attend(q, k, v, mask[..., 0, :, :]).swapaxes(-2, -3)


PIECES: dict[str, Callable[..., Any]] = {
    "linear": _piece(layers.linear),
    "layer_norm": _piece(layers.layer_norm),
    "gelu": _piece(layers.gelu),
    "soft_bound": _piece(lambda x: layers.soft_bound(x, LOG_STD_BOUND)),
    "mlp": _piece(layers.mlp),
    "attend": _piece(_attend),
    "log_prob": _piece(lambda o, *rest: loss.log_prob(o.logits, o.means, o.log_stds, *rest)),
    "entropy": _piece(loss.entropy),
    "parent_loss": _piece(loss.parent_loss),
    "edge_loss": _piece(loss.edge_loss),
    "parent_entropy": _piece(loss.parent_entropy),
    "predict": _piece(lambda *a: jnp.stack(local.predict(*a)[:3])),
    "outcome_loss": _piece(lambda *a: loss.outcome_loss(OutcomePrediction(a[0], a[1], a[2], a[2]), *a[3:])),
    "clipped_objective": _piece(loss.clipped_objective),
    "advantages": _piece(loss.advantages),
    "forward": _forward,
    "loss_and_gradient": _loss_and_gradient,
}
