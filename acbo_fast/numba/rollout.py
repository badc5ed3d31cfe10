"""Twin of acbo_ref/rollout.py: episodes, and deciding step by step.

Simulation is float64, the network in its own dtype, as in the reference.
Letters: E episodes, O observational rows, K decisions, G candidates, P probes, N = G + P, M noise draws, V variables.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acbo_fast.numba.grpo import log_softmax, normal_log_density, softplus
from acbo_fast.numba.history import Reading, attention_mask
from acbo_fast.numba.kernels import exp, kernel, sigmoid
from acbo_fast.numba.policy import Decoder, Network, Outputs, Params, outcomes
from acbo_fast.numba.scm import Models, models, simulate_observations, simulate_row
from acbo_fast.numba.threads import one_blas_thread
from acbo_ref.config import Config
from acbo_ref.history import HALF_WIDTH, OUTCOME_BOUND, Task, to_domain
from acbo_ref.policy import VALUE_FEATURES, PolicyInputs, num_channels
from acbo_ref.rollout import (
    COMMIT_GRID,
    SURROGATE_GRID,
    Decision,
    EpisodeNoise,
    Trajectories,
    commit_by_surrogate,
)
from acbo_ref.scm import SCMBatch

Array = NDArray[Any]


@kernel
def probe_actions(uniform: Array, choosable: Array, variable: Array, value: Array) -> None:
    """The j-th choosable variable and a value in [-5, 5], (E, K, P) each, from uniforms (E, K, P, 2)."""
    for e in range(uniform.shape[0]):
        count = 0
        for i in range(choosable.shape[1]):
            count += choosable[e, i]
        for k in range(uniform.shape[1]):
            for p in range(uniform.shape[2]):
                rank = min(int(uniform[e, k, p, 0] * count), count - 1)
                for i in range(choosable.shape[1]):
                    if choosable[e, i]:
                        if rank == 0:
                            variable[e, k, p] = i
                        rank -= 1
                value[e, k, p] = HALF_WIDTH * (2.0 * uniform[e, k, p, 1] - 1.0)


@kernel
def draw_candidates(
    outputs: Outputs, gumbel: Array, normal: Array, learned_std: bool, fixed_std: float, log_p: Array,
    variable: Array, value: Array, log_prob: Array,
) -> None:  # fmt: skip
    """G candidates of each state from outputs (E, 1, V), gumbel (E, G, V) and normal (E, G): see the reference."""
    for e in range(variable.shape[0]):
        logits, means = outputs.logits[e, 0], outputs.means[e, 0]
        log_softmax(logits, log_p)
        for g in range(variable.shape[1]):
            best = 0
            for i in range(1, logits.shape[0]):
                if logits[i] + gumbel[e, g, i] > logits[best] + gumbel[e, g, best]:
                    best = i
            kind = means.dtype.type
            log_std = outputs.log_stds[e, 0, best] if learned_std else kind(math.log(fixed_std))
            std = np.float64(exp(log_std)) if learned_std else fixed_std
            variable[e, g] = best
            value[e, g] = means[best] + std * normal[e, g]
            log_prob[e, g] = log_p[best] + normal_log_density(value[e, g], means[best], log_std)[0]


@kernel
def judge(
    m: Models, first_noise: Array, more_noise: Array, variable: Array, value: Array, location: Array, scale: Array,
    outcomes_of: Array, raw: Array, rows: Array, mean: Array, variance: Array,
) -> None:  # fmt: skip
    """Play N actions in each of E systems on the same noise, and judge them over M draws of it.

    Args:
        first_noise: (E, V); more_noise: (E, M - 1, V).
        variable, value: (E, N), values standard, inside [-5, 5].
        raw: (E, N), written: the values in raw units. rows: (E, N, V), written: under the first noise.
        mean, variance: (E, N), written: of the bounded standard outcome. outcomes_of: (M + V,) scratch.
    """
    draws = 1 + more_noise.shape[1]
    values, row = outcomes_of[:draws], outcomes_of[draws:]
    for e in range(variable.shape[0]):
        y = m.target[e]
        for n in range(variable.shape[1]):
            i = variable[e, n]
            action = location[e, i] + scale[e, i] * np.float64(value[e, n])
            raw[e, n] = action
            simulate_row(m, e, first_noise[e], i, action, rows[e, n])
            total = 0.0
            for s in range(draws):
                if s == 0:
                    outcome = rows[e, n, y]
                else:
                    simulate_row(m, e, more_noise[e, s - 1], i, action, row)
                    outcome = row[y]
                standard = (outcome - location[e, y]) / scale[e, y]
                standard = min(max(standard, -OUTCOME_BOUND), OUTCOME_BOUND) if standard == standard else standard
                values[s] = standard
                total += standard
            centre, squares = total / draws, 0.0
            for s in range(draws):
                squares += (values[s] - centre) ** 2
            mean[e, n] = centre
            variance[e, n] = squares / draws


@kernel
def parent_entropies(parent_logits: Array, parent_mask: Array, out: Array) -> None:
    """Entropy of the parent posterior, nats: (E, V) -> (E,)."""
    for e in range(parent_logits.shape[0]):
        total = parent_logits.dtype.type(0)
        for i in range(parent_logits.shape[1]):
            if parent_mask[e, i]:
                x = parent_logits[e, i]
                total += softplus(x) - x * sigmoid(x)
        out[e] = total


def empty_trajectories(
    config: Config, problems: SCMBatch, observation_mask: Array, noise: EpisodeNoise, fixed_std: float, dtype: Any
) -> Trajectories:
    """Arrays for the episodes of a batch, not yet played."""
    (num_episodes, num_obs, width), (steps, group) = noise.observation.shape, noise.gumbel.shape[1:3]
    shape, draws = (num_episodes, steps), group + noise.probe.shape[2]

    def array(size: int) -> Array:
        return np.empty((*shape, size), dtype)

    inputs = PolicyInputs(
        channels=np.empty((num_episodes, num_obs + steps, width, num_channels(config.policy)), dtype),
        valid=problems.valid,
        choosable=problems.manipulable,
        row_mask=attention_mask(observation_mask, steps),
    )
    return Trajectories(
        inputs=inputs,
        variable=np.empty((*shape, group), np.int64),
        value=array(group),
        log_prob=array(group),
        rewards=array(group),
        draw_variable=np.empty((*shape, draws), np.int64),
        draw_value=array(draws),
        draw_outcome=array(draws),
        draw_variance=array(draws),
        committed=np.where(commit_by_surrogate(num_episodes, config.surrogate.commit_share), group, 0),
        parents=problems.parents,
        parent_mask=problems.valid & (np.arange(width) != problems.target[:, None]),
        applied=np.empty(shape),
        outcome=np.empty(shape),
        fixed_std=fixed_std,
    )


def rollout(
    network: Network,
    params: Params,
    config: Config,
    problems: SCMBatch,
    observation_mask: Array,
    noise: EpisodeNoise,
    t: Trajectories,
) -> None:
    """Play E episodes of K interventions with the current policy, into t; see acbo_ref.rollout.rollout."""
    space = network.workspace
    num_episodes, num_obs, width = noise.observation.shape
    steps, group, draws = noise.gumbel.shape[1], noise.gumbel.shape[2], t.draw_variable.shape[2]
    learned_std, weights, channels = not config.policy.use_fixed_std, config.reward, t.inputs.channels
    system = models(problems)
    task = Task(
        observations=space("observations", *noise.observation.shape, dtype=float),
        observation_mask=observation_mask,
        target=problems.target,
        valid=problems.valid,
        manipulable=problems.manipulable,
        low=problems.low,
        high=problems.high,
    )
    simulate_observations(system, noise.observation, task.observations)
    reading = Reading(space, config.policy, task, steps + 1)
    reading.observations(channels[:, :num_obs])
    observed = space("observed", num_episodes, num_obs, width, channels.shape[3])
    np.copyto(observed, channels[:, :num_obs])
    decoder = Decoder(network, params, observed, observation_mask, problems.valid, steps + 1)
    probe_value = space("probe", *noise.probe.shape[:3], dtype=float)
    probe_actions(noise.probe, problems.manipulable, t.draw_variable[..., group:], probe_value)
    t.draw_value[..., group:] = probe_value
    row, log_p = space("row", num_episodes, width, channels.shape[3]), space("log_p", width)
    raw, rows = space("raw", num_episodes, draws, dtype=float), space("rows", num_episodes, draws, width, dtype=float)
    judged = [space(name, num_episodes, draws, dtype=float) for name in ("judged.mean", "judged.variance")]
    scratch = space("outcomes", 1 + noise.scoring.shape[2] + width, dtype=float)
    entropies = [space(name, num_episodes) for name in ("entropy.before", "entropy.after")]
    gain, each = space.zeros("gain", num_episodes, group), np.arange(num_episodes)
    by_surrogate = t.committed > 0
    surrogate = Surrogate(network, params, num_episodes, width, COMMIT_GRID) if by_surrogate.any() else None
    reading.start(row)
    for k in range(steps):
        channels[:, num_obs + k] = row
        outputs = network.heads.forward(params, decoder.append(row), problems.manipulable, row[:, None])
        variable, value = t.variable[:, k], t.value[:, k]
        draw_candidates(
            outputs, noise.gumbel[:, k], noise.normal[:, k], learned_std, t.fixed_std, log_p, variable, value,
            t.log_prob[:, k],
        )  # fmt: skip
        t.draw_variable[:, k, :group] = variable
        np.clip(value, -HALF_WIDTH, HALF_WIDTH, out=t.draw_value[:, k, :group])
        if surrogate is not None:
            chosen, standard = surrogate(outputs, problems.manipulable, config.optimism)
            t.draw_variable[by_surrogate, k, group] = chosen[by_surrogate]
            t.draw_value[by_surrogate, k, group] = standard[by_surrogate]
        judge(
            system, noise.intervention[:, k], noise.scoring[:, k], t.draw_variable[:, k], t.draw_value[:, k],
            reading.location, reading.scale, scratch, raw, rows, *judged,
        )  # fmt: skip
        t.draw_outcome[:, k], t.draw_variance[:, k] = judged
        if weights.info_gain > 0:
            parent_entropies(outputs.parent_logits[:, 0], t.parent_mask, entropies[0])
            for g in range(group):
                reading.append(variable[:, g], rows[:, g], row, keep=False)
                h = decoder.append(row, keep=False)
                peeked = network.heads.forward(params, h, problems.manipulable, row[:, None])
                parent_entropies(peeked.parent_logits[:, 0], t.parent_mask, entropies[1])
                np.subtract(entropies[0], entropies[1], out=gain[:, g])
        is_parent = problems.parents[each[:, None], variable]
        t.rewards[:, k] = (
            weights.target * (-judged[0][:, :group] / 5.0) + weights.parent * is_parent + weights.info_gain * gain
        )
        t.applied[:, k], t.outcome[:, k] = raw[each, t.committed], rows[each, t.committed, problems.target]
        reading.append(t.draw_variable[each, k, t.committed], rows[each, t.committed], row)


# --------------------------------------------------------------------------------- deciding, outside of training


@kernel
def lowest_bound(predicted: Array, allowed: Array, optimism: float, grid: Array, variable: Array, value: Array) -> None:
    """The action of lowest mean - optimism * error, from predictions (E, V * grid, 3) at every grid value of every variable."""
    size = grid.size
    for e in range(variable.shape[0]):
        best, lowest = -1, np.inf
        for n in range(predicted.shape[1]):
            if allowed[e, n // size]:
                bound = predicted[e, n, 0] - predicted.dtype.type(optimism) * exp(predicted[e, n, 1])
                if bound < lowest or best < 0:
                    best, lowest = n, bound
        variable[e], value[e] = best // size, grid[best % size]


class Surrogate:
    """Deciding by the outcome head: twin of acbo_ref.rollout.lowest_predicted."""

    def __init__(self, network: Network, params: Params, num_episodes: int, width: int, grid: Array) -> None:
        dtype = params["embed.weight"].dtype
        self._space, self._params, self._grid = network.workspace, params, grid.astype(dtype)
        # every grid value of every variable
        self._variable = np.tile(np.repeat(np.arange(width), grid.size), (num_episodes, 1))
        self._value = np.tile(self._grid, (num_episodes, width))
        self._out_weight = np.ascontiguousarray(params["outcome_head.out.weight"].T)

    def predict(self, outputs: Outputs, variable: Array, value: Array) -> Array:
        """(mean, log_error, log_noise), (E, N, 3), of actions variable, value (E, N)."""
        params, half = self._params, outputs.hidden.shape[3]
        out = self._space("decide.outcomes", *value.shape, 3)
        outcomes(
            outputs.hidden[:, 0], outputs.slope[:, 0], outputs.centre[:, 0], variable, value,
            params["outcome_head.value.weight"], self._out_weight, params["outcome_head.out.bias"],
            self._space("outcome.scratch", 2 * half + VALUE_FEATURES), out,
        )  # fmt: skip
        return out

    def __call__(self, outputs: Outputs, allowed: Array, optimism: float) -> tuple[Array, Array]:
        """(variable, standard value), (E,) each."""
        predicted = self.predict(outputs, self._variable, self._value)
        variable, standard = np.empty(len(allowed), np.int64), np.empty(len(allowed), predicted.dtype)
        lowest_bound(predicted, allowed, float(optimism), self._grid, variable, standard)
        return variable, standard


class Session:
    """Twin of acbo_ref.rollout.Session. It keeps the parameters it was opened with, in `params`."""

    def __init__(self, network: Network, params: Params, config: Config, task: Task, capacity: int) -> None:
        self._network, self._params, self._config, self._task = network, params, config, task
        self._capacity, self._observed = capacity, 0
        dtype = params["embed.weight"].dtype
        num_episodes, num_obs, width = task.observations.shape
        self._reading = Reading(network.workspace, config.policy, task, capacity + 1)
        channels = num_channels(config.policy)
        observations = np.empty((num_episodes, num_obs, width, channels), dtype)
        self._reading.observations(observations)
        self._row = np.empty((num_episodes, width, channels), dtype)
        self._reading.start(self._row)
        with one_blas_thread:
            self._decoder = Decoder(network, params, observations, task.observation_mask, task.valid, capacity + 1)
            self._h = self._decoder.append(self._row).copy()
        self._surrogate = Surrogate(network, params, num_episodes, width, SURROGATE_GRID)

    def observe(self, variable: Array, rows: Array) -> None:
        """Read the measured rows (E, V), raw units, of interventions on `variable` (E,)."""
        if self._observed == self._capacity:
            raise ValueError(f"the session was opened for {self._capacity} interventions")
        self._observed += 1
        self._reading.append(np.asarray(variable, np.int64), np.asarray(rows, float), self._row)
        with one_blas_thread:
            np.copyto(self._h, self._decoder.append(self._row))

    def decide(
        self,
        gumbel: Array | None = None,
        normal: Array | None = None,
        decision: str | None = None,
        optimism: float | None = None,
        allowed: Array | None = None,
    ) -> Decision:
        """The next action of each system; see acbo_ref.rollout.Session.decide."""
        task, config = self._task, self._config
        allowed = task.manipulable if allowed is None else task.manipulable & allowed
        with one_blas_thread:
            outputs = self._network.heads.forward(self._params, self._h, allowed, self._row[:, None])
        logits, means = outputs.logits[:, 0], outputs.means[:, 0]
        each = np.arange(len(logits))
        if (decision or config.decision) == "surrogate":
            variable, standard = self._surrogate(outputs, allowed, config.optimism if optimism is None else optimism)
        else:
            variable = (logits if gumbel is None else logits + gumbel).argmax(axis=1)
            standard = means[each, variable]
            if normal is not None:
                learned = not config.policy.use_fixed_std
                std = np.exp(outputs.log_stds[:, 0][each, variable]) if learned else config.policy.fixed_std
                standard = standard + std * normal
        standard = np.clip(standard, -HALF_WIDTH, HALF_WIDTH)
        predicted = self._surrogate.predict(outputs, variable[:, None], standard[:, None].astype(logits.dtype))
        mean, log_error, log_noise = predicted[:, 0].T
        error, noise = np.exp(log_error), np.exp(log_noise)
        location, scale = self._reading.location[each, task.target], self._reading.scale[each, task.target]
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return Decision(
            variable=variable,
            value=to_domain(task, self._reading.location, self._reading.scale, variable, standard),
            probability=shifted / shifted.sum(axis=1, keepdims=True),
            parent_probability=0.5 * (1 + np.tanh(0.5 * outputs.parent_logits[:, 0])) * (task.valid & ~task.is_target),
            outcome_mean=location + scale * mean,
            outcome_error=scale * error,
            outcome_std=scale * np.hypot(error, noise),
        )
