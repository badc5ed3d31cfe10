"""Twin of acbo_ref/policy/heads.py: the three heads on preallocated arrays, forward and backward by
hand.

Letters: E episodes, V variables, K decisions, H size of h, F evidence channels, T tokens.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from acbo_fast.numba.kernels import kernel, scalar
from acbo_fast.numba.policy import layers
from acbo_fast.numba.policy.evidence import head_features, tanh
from acbo_fast.numba.policy.layers import product, weight_gradient
from acbo_fast.numba.workspace import Workspace
from acbo_ref.arrays import Array, Params
from acbo_ref.config import PolicyConfig
from acbo_ref.policy.evidence import EFFECTS
from acbo_ref.policy.heads import (
    LENGTH_START,
    LOG_LENGTH_BOUND,
    LOG_STD_BOUND,
    VALUE_FEATURES,
    VALUE_MEAN_BOUND,
    OutcomeState,
    PolicyOutputs,
)
from acbo_ref.policy.inputs import HALF_WIDTH
from acbo_ref.policy.layers import MASKED
from acbo_ref.policy.network import acquisition_size, evidence_size


@kernel
def _finish_policy(
    policy: Array, bias: Array, direct: Array, choosable: Array, log_fixed_std: float, logits: Array, means: Array,
    log_stds: Array,
) -> None:  # fmt: skip
    """Biases, what comes straight from the acquisition features, masks and bounds. policy, direct
    (T, 2 or 3); choosable (E, V).
    """
    num_episodes, steps, width = logits.shape
    kind = policy.dtype.type
    half, bound, log_bound, masked = kind(HALF_WIDTH), kind(VALUE_MEAN_BOUND), kind(LOG_STD_BOUND), kind(MASKED)
    for e in range(num_episodes):
        for k in range(steps):
            for i in range(width):
                t = (e * steps + k) * width + i
                logits[e, k, i] = policy[t, 0] + bias[0] + direct[t, 0] if choosable[e, i] else masked
                means[e, k, i] = bound * tanh(half * (policy[t, 1] + bias[1] + direct[t, 1]) / bound)
                if policy.shape[1] == 3:
                    raw = policy[t, 2] + bias[2] + direct[t, 2]
                    log_stds[e, k, i] = kind(log_fixed_std) + log_bound * tanh(raw / log_bound)


@kernel
def _finish_state(
    trust: Array, trust_bias: Array, slopes: Array, length: Array, length_bias: Array, slope: Array, log_length: Array
) -> None:  # fmt: skip
    """The outcome head's slope and log-length (T,); trust, slopes (T, 5); length (T, 0 or 1)."""
    kind = slope.dtype.type
    for t in range(slope.size):
        total = kind(0)
        for f in range(slopes.shape[1]):
            total += (trust[t, f] + trust_bias[f]) * slopes[t, f]
        slope[t] = total
        log_length[t] = kind(LENGTH_START)
        if length.shape[1]:
            reach = kind(LOG_LENGTH_BOUND)
            log_length[t] += reach * tanh((length[t, 0] + length_bias[0]) / reach)


@kernel
def _begin_backward(
    outputs_means: Array,
    outputs_log_stds: Array,
    choosable: Array,
    slopes: Array,
    log_fixed_std: float,
    d_logits: Array,
    d_means: Array,
    d_log_stds: Array,
    d_slope: Array,
    d_log_length: Array,
    outputs_log_length: Array,
    d_policy: Array,
    d_trust: Array,
    d_length: Array,
) -> None:
    """d_policy (T, 2 or 3), d_trust (T, 5) and d_length (T, 0 or 1) from the gradients of the
    outputs.
    """
    num_episodes, steps, width = d_logits.shape
    kind = d_policy.dtype.type
    one, half, bound, log_bound = kind(1), kind(HALF_WIDTH), kind(VALUE_MEAN_BOUND), kind(LOG_STD_BOUND)
    for e in range(num_episodes):
        for k in range(steps):
            for i in range(width):
                t = (e * steps + k) * width + i
                d_policy[t, 0] = d_logits[e, k, i] if choosable[e, i] else kind(0)
                bent = outputs_means[e, k, i] / bound
                d_policy[t, 1] = half * d_means[e, k, i] * (one - bent * bent)
                if d_policy.shape[1] == 3:
                    bent = (outputs_log_stds[e, k, i] - kind(log_fixed_std)) / log_bound
                    d_policy[t, 2] = d_log_stds[e, k, i] * (one - bent * bent)
                for f in range(slopes.shape[1]):
                    d_trust[t, f] = slopes[t, f] * d_slope[e, k, i]
                if d_length.shape[1]:
                    bent = (outputs_log_length[e, k, i] - kind(LENGTH_START)) / kind(LOG_LENGTH_BOUND)
                    d_length[t, 0] = d_log_length[e, k, i] * (one - bent * bent)


class Heads:
    """The heads, for one workspace."""

    def __init__(self, workspace: Workspace, config: PolicyConfig) -> None:
        self._space, self._config = workspace, config
        self._knows, self._log_fixed_std = evidence_size(config) > 0, math.log(config.fixed_std)
        self._columns, self._acquired = 2 if config.use_fixed_std else 3, acquisition_size(config)

    def _array(self, name: str, *shape: int) -> Array:
        return self._space("heads." + name, *shape)

    def _kept(self, name: str, *shape: int) -> Array:
        return self._space.kept("heads." + name, *shape)

    def _mlp(self, params: Params, name: str, x: Array, columns: int) -> Array:
        """(T, columns) of x (T, H): two linear layers, the last one without its bias."""
        tokens, half = len(x), params[name + ".hidden.weight"].shape[1]
        before, after = self._array(name + ".before", tokens, half), self._array(name + ".after", tokens, half)
        product(x, params[name + ".hidden.weight"], before)
        layers.gelu_forward(before, params[name + ".hidden.bias"], after)
        return product(after, params[name + ".out.weight"], self._array(name, tokens, columns))

    def state(self, params: Params, h: Array, evidence: Array) -> OutcomeState[Array]:
        """What the outcome head knows of every variable, from h (..., H) and evidence (..., F); see
        acbo_ref.policy.heads.state_forward.
        """
        shape, half = h.shape[:-1], params["outcome_head.hidden.weight"].shape[1]
        tokens = math.prod(shape)
        hidden = self._array("outcome", *shape, half)
        product(h, params["outcome_head.hidden.weight"], hidden)
        layers.add_bias(layers.tokens(hidden), params["outcome_head.hidden.bias"])
        trust, trust_bias = self._array("trust", tokens, 0), self._array("trust.bias", 0)
        slopes, centre = self._array("slopes", tokens, 0), self._array("out.centre", *shape)
        spread = self._array("out.spread", *shape)
        length, length_bias = self._array("length", tokens, 0), self._array("length.bias", 0)
        if self._knows:
            slopes, trust = (self._array(name, tokens, len(EFFECTS)) for name in ("slopes", "trust"))
            trust_bias = params["outcome_head.trust.bias"]
            head_features(layers.tokens(evidence), slopes, centre.reshape(-1), spread.reshape(-1))
            product(h, params["outcome_head.trust.weight"], trust)
            length, length_bias = self._array("length", tokens, 1), params["outcome_head.length.bias"]
            product(h, params["outcome_head.length.weight"], length)
        else:
            centre.fill(0)
            spread.fill(1 / HALF_WIDTH)
        slope, log_length = self._array("out.slope", *shape), self._array("out.log_length", *shape)
        _finish_state(
            trust, trust_bias, slopes, length, length_bias, slope.reshape(-1), log_length.reshape(-1)
        )  # fmt: skip
        return OutcomeState(hidden, slope, centre, spread, log_length)

    def parents(self, params: Params, h: Array) -> Array:
        """Parent logits (...) from h (..., H)."""
        logits = self._mlp(params, "parent_head", layers.tokens(h), 1)
        logits += params["parent_head.out.bias"]
        return logits.reshape(h.shape[:-1])

    def policy(self, params: Params, h: Array, choosable: Array, acquisition: Array) -> tuple[Array, Array, Array]:
        """(logits, means, log_stds) from h (E, K, V, H) and the acquisition features (E, K, V, Q);
        see acbo_ref.policy.heads.policy_forward.
        """
        shape, width = h.shape[:3], h.shape[3]
        tokens = math.prod(shape)
        read = self._array("policy.read", tokens, width + self._acquired)
        read[:, :width] = layers.tokens(h)
        direct = self._array("direct", tokens, self._columns)
        direct.fill(0)
        if self._acquired:
            features = self._array("acquisition", tokens, self._acquired)
            np.copyto(features, layers.tokens(acquisition))
            np.arcsinh(features, out=read[:, width:])
            product(features, params["policy_head.acquisition.weight"], direct)
        policy = self._mlp(params, "policy_head", read, self._columns)
        logits, means, log_stds = (self._array("out." + name, *shape) for name in ("logits", "means", "log_stds"))
        bias = params["policy_head.out.bias"]
        _finish_policy(policy, bias, direct, choosable, self._log_fixed_std, logits, means, log_stds)
        return logits, means, log_stds

    def forward(
        self, params: Params, h: Array, choosable: Array, evidence: Array, acquisition: Array
    ) -> PolicyOutputs[Array]:
        """All heads but the edge head on h (E, K, V, H) of K decisions; see
        acbo_ref.policy.heads.heads_forward.
        """
        logits, means, log_stds = self.policy(params, h, choosable, acquisition)
        return PolicyOutputs(logits, means, log_stds, self.parents(params, h), self.state(params, h, evidence))

    def backward(
        self,
        params: Params,
        h: Array,
        choosable: Array,
        outputs: PolicyOutputs[Array],
        d: PolicyOutputs[Array],
        grads: Params,
    ) -> Array:
        """d_h of `forward`, whose outputs and kept arrays are still there; `d` the gradients of its
        outputs.
        """
        shape, width = h.shape[:3], h.shape[3]
        tokens = math.prod(shape)
        number = len(EFFECTS) if self._knows else 0
        d_policy, d_trust = self._array("d_policy", tokens, self._columns), self._array("d_trust", tokens, number)
        slopes, d_length = self._kept("slopes", tokens, number), self._array("d_length", tokens, int(self._knows))
        _begin_backward(
            outputs.means, outputs.log_stds, choosable, slopes, self._log_fixed_std, d.logits, d.means,
            d.log_stds, d.outcome.slope, d.outcome.log_length, outputs.outcome.log_length, d_policy, d_trust, d_length,
        )  # fmt: skip
        d_h, d_part = self._array("d_h", *h.shape), self._array("d_h.part", *h.shape)
        d_hidden = layers.tokens(d.outcome.hidden)
        self._linear_backward(params, "outcome_head.hidden", h, d_hidden, d_h, grads)
        if self._knows:
            for name, d_out in (("trust", d_trust), ("length", d_length)):
                self._linear_backward(params, "outcome_head." + name, h, d_out, d_part, grads)
                d_h += d_part
        d_parents = d.parent_logits.reshape(tokens, 1)
        self._mlp_backward(params, "parent_head", layers.tokens(h), d_parents, layers.tokens(d_part), grads)
        d_h += d_part
        read = self._kept("policy.read", tokens, width + self._acquired)
        d_read = self._array("d_read", *read.shape)
        self._mlp_backward(params, "policy_head", read, d_policy, d_read, grads)
        if self._acquired:
            features = self._kept("acquisition", tokens, self._acquired)
            weight_gradient(features, d_policy, grads["policy_head.acquisition.weight"])
        if self._config.policy_into_trunk:
            d_h += d_read[:, :width].reshape(d_h.shape)
        return d_h

    def _mlp_backward(self, params: Params, name: str, x: Array, d_out: Array, d_x: Array, grads: Params) -> None:
        """d_x (T, H) of `_mlp`, and the gradients of its parameters."""
        shape = len(x), params[name + ".hidden.weight"].shape[1]
        before, after = self._kept(name + ".before", *shape), self._kept(name + ".after", *shape)
        d_activated = self._array("d_activated", *shape)
        self._linear_backward(params, name + ".out", after, d_out, d_activated, grads)
        layers.gelu_backward(before, d_activated, grads[name + ".hidden.bias"])
        weight_gradient(x, d_activated, grads[name + ".hidden.weight"])
        product(d_activated, params[name + ".hidden.weight"].T, d_x)

    def _linear_backward(self, params: Params, name: str, x: Array, d_y: Array, d_x: Array, grads: Params) -> None:
        weight_gradient(x, d_y, grads[name + ".weight"])
        layers.column_sums(d_y, grads[name + ".bias"])
        product(d_y, params[name + ".weight"].T, d_x)


@scalar
def value_features(value: Any, centre: Any, spread: Any, out: Any) -> None:
    """u, u^2, two harmonics of the domain and two of the distance in spreads, of a standard value,
    into out (8,); see acbo_ref.policy.heads.value_features.
    """
    kind = type(value)
    u = value / kind(HALF_WIDTH)
    angle = kind(np.pi) * u
    out[0], out[1] = u, u * u
    out[2], out[3] = np.sin(angle), np.cos(angle)
    out[4], out[5] = np.sin(angle + angle), np.cos(angle + angle)
    d = (u - centre) / spread
    out[6], out[7] = np.arcsinh(d), kind(0.5) * np.log1p(d * d)


class OutcomeWeights(NamedTuple):
    """The outcome head's own parameters or their gradients: value (8, H/2), out (4, H/2)
    transposed, bias (4,).
    """

    value: Array
    out: Array
    bias: Array


def outcome_weights(space: Workspace, params: Params) -> OutcomeWeights:
    """The outcome head's parameters, its last weight transposed into an array of the workspace."""
    weight = params["outcome_head.out.weight"]
    out = space("outcome.transposed", *weight.shape[::-1])
    np.copyto(out, weight.T)
    return OutcomeWeights(params["outcome_head.value.weight"], out, params["outcome_head.out.bias"])


@scalar
def outcome_head(hidden: Any, slope: Any, centre: Any, features: Any, head: Any, before: Any, after: Any) -> Any:
    """(mean, log_error, log_noise, log_scatter) of the target under one action, and its hidden
    layer before and after GELU.

    hidden, before, after (H/2,); features (8,).
    """
    kind = type(slope)
    one, a, c, zero = kind(1), kind(layers.GELU_A), kind(layers.GELU_C), kind(0)
    size = hidden.shape[0]
    for j in range(size):
        before[j] = hidden[j]
    for f in range(VALUE_FEATURES):
        for j in range(size):
            before[j] += features[f] * head.value[f, j]
    first, second, third, fourth = zero, zero, zero, zero
    for j in range(size):
        activated = layers.gelu(before[j], one, a, c)
        after[j] = activated
        first += activated * head.out[0, j]
        second += activated * head.out[1, j]
        third += activated * head.out[2, j]
        fourth += activated * head.out[3, j]
    bound, bias = kind(LOG_STD_BOUND), head.bias
    mean = kind(HALF_WIDTH) * (first + bias[0]) + slope * (features[0] - centre)
    return (
        mean, bound * tanh((second + bias[1]) / bound), bound * tanh((third + bias[2]) / bound),
        bound * tanh((fourth + bias[3]) / bound),
    )  # fmt: skip


@scalar
def outcome_head_backward(
    d_mean: Any, d_log_error: Any, d_log_noise: Any, d_log_scatter: Any, log_error: Any, log_noise: Any,
    log_scatter: Any, features: Any, before: Any, after: Any, head: Any, d_hidden: Any, d_head: Any,
) -> None:  # fmt: skip
    """Adds to d_hidden (H/2,) and d_head what an action's prediction passes on, but for the slope's
    share; `before` is overwritten.
    """
    kind = type(d_mean)
    one, a, c, bound = kind(1), kind(layers.GELU_A), kind(layers.GELU_C), kind(LOG_STD_BOUND)
    e1, e2, e3 = log_error / bound, log_noise / bound, log_scatter / bound
    d0 = kind(HALF_WIDTH) * d_mean
    d1, d2, d3 = d_log_error * (one - e1 * e1), d_log_noise * (one - e2 * e2), d_log_scatter * (one - e3 * e3)
    d_head.bias[0] += d0
    d_head.bias[1] += d1
    d_head.bias[2] += d2
    d_head.bias[3] += d3
    size = before.shape[0]
    for j in range(size):
        d_head.out[0, j] += d0 * after[j]
        d_head.out[1, j] += d1 * after[j]
        d_head.out[2, j] += d2 * after[j]
        d_head.out[3, j] += d3 * after[j]
        back = d0 * head.out[0, j] + d1 * head.out[1, j] + d2 * head.out[2, j] + d3 * head.out[3, j]
        back *= layers.gelu_slope(before[j], one, a, c)
        before[j] = back
        d_hidden[j] += back
    for f in range(VALUE_FEATURES):
        for j in range(size):
            d_head.value[f, j] += features[f] * before[j]
