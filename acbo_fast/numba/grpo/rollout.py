"""Twin of acbo_ref/grpo/rollout.py: whole episodes.

Simulation is float64, the network in its own dtype, as in the reference.
Letters: E episodes, O observational rows, K decisions, G candidates, P probes, N = G + P, M noise
draws, V variables.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import DTypeLike

from acbo_fast.numba.grpo.loss import normal_log_density, parent_entropies
from acbo_fast.numba.kernels import exp, kernel
from acbo_fast.numba.policy.decoder import Decoder
from acbo_fast.numba.policy.inputs import attention_mask
from acbo_fast.numba.policy.layers import log_softmax
from acbo_fast.numba.policy.network import Network
from acbo_fast.numba.policy.reading import Reading
from acbo_fast.numba.policy.session import OutcomeDecider
from acbo_fast.numba.systems.batch import contiguous, simulate_observations, simulate_row
from acbo_fast.numba.workspace import Workspace
from acbo_ref.arrays import Array, Params
from acbo_ref.config import Config
from acbo_ref.grpo.loss import reward
from acbo_ref.grpo.rollout import EpisodeNoise, Trajectories
from acbo_ref.policy.heads import PolicyOutputs
from acbo_ref.policy.inputs import HALF_WIDTH, OUTCOME_BOUND, Task
from acbo_ref.policy.network import PolicyInputs, num_channels
from acbo_ref.policy.session import ROLLOUT_GRID
from acbo_ref.systems.batch import SCMBatch


@kernel
def probe_actions(uniform: Array, choosable: Array, variable: Array, value: Array) -> None:
    """The j-th choosable variable and a value in [-5, 5], (E, K, P) each, from uniforms (E, K, P,
    2).
    """
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
    outputs: PolicyOutputs[Array], gumbel: Array, normal: Array, learned_std: bool, fixed_std: float, log_p: Array,
    variable: Array, value: Array, log_prob: Array,
) -> None:  # fmt: skip
    """G candidates of each state from outputs (E, 1, V), gumbel (E, G, V) and normal (E, G): see
    the reference.
    """
    assert outputs.log_stds is not None  # always an array here
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
    m: SCMBatch[Array], first_noise: Array, more_noise: Array, variable: Array, value: Array, location: Array, scale: Array,
    outcomes_of: Array, raw: Array, rows: Array, mean: Array, variance: Array,
) -> None:  # fmt: skip
    """Play N actions in each of E systems on the same noise, and judge them over M draws of it.

    Args:
        first_noise: (E, V); more_noise: (E, M - 1, V).
        variable, value: (E, N), values standard, inside [-5, 5].
        raw: (E, N), written: the values in raw units. rows: (E, N, V), written: under the first
            noise.
        mean, variance: (E, N), written: of the bounded standard outcome. outcomes_of: (M + V,)
            scratch.
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


def empty_trajectories(
    config: Config,
    systems: SCMBatch[Array],
    observation_mask: Array,
    noise: EpisodeNoise[Array],
    fixed_std: float,
    dtype: DTypeLike,
) -> Trajectories[Array]:
    """Arrays for the episodes of a batch, not yet played."""
    (num_episodes, num_obs, width), (steps, group) = noise.observation.shape, noise.gumbel.shape[1:3]
    shape, judged = (num_episodes, steps), group + noise.probe.shape[2]

    def array(size: int) -> Array:
        return np.empty((*shape, size), dtype)

    inputs = PolicyInputs(
        channels=np.empty((num_episodes, num_obs + steps, width, num_channels(config.policy)), dtype),
        valid=systems.valid,
        choosable=systems.manipulable,
        row_mask=attention_mask(observation_mask, steps),
    )
    return Trajectories(
        inputs=inputs,
        variable=np.empty((*shape, group), np.int64),
        value=array(group),
        log_prob=array(group),
        rewards=array(group),
        judged_variable=np.empty((*shape, judged), np.int64),
        judged_value=array(judged),
        judged_outcome=array(judged),
        judged_variance=array(judged),
        committed=np.where(noise.by_outcome_head, group, 0),
        parents=systems.parents,
        parent_mask=systems.valid & (np.arange(width) != systems.target[:, None]),
        applied=np.empty(shape),
        outcome=np.empty(shape),
        fixed_std=fixed_std,
    )


class _Judge:
    """`judge` with the arrays that it writes to: raw values, rows under the first noise, mean and
    variance of outcomes.
    """

    def __init__(
        self, space: Workspace, systems: SCMBatch[Array], noise: EpisodeNoise[Array], reading: Reading, actions: int
    ) -> None:
        num_episodes, _, width = noise.observation.shape
        self._systems, self._noise, self._reading = systems, noise, reading
        self._scratch = space("judge.scratch", 1 + noise.scoring.shape[2] + width, dtype=float)
        self.raw, self.mean, self.variance = (
            space("judge." + name, num_episodes, actions, dtype=float) for name in ("raw", "mean", "variance")
        )
        self.rows = space("judge.rows", num_episodes, actions, width, dtype=float)

    def __call__(self, k: int, variable: Array, value: Array) -> None:
        """Play and judge actions (E, N) of step k."""
        judge(
            self._systems, self._noise.intervention[:, k], self._noise.scoring[:, k], variable, value,
            self._reading.location, self._reading.scale, self._scratch, self.raw, self.rows, self.mean, self.variance,
        )  # fmt: skip


def information_gain(
    params: Params,
    network: Network,
    decoder: Decoder,
    reading: Reading,
    outputs: PolicyOutputs[Array],
    task: Task,
    parent_mask: Array,
    variable: Array,
    rows: Array,
    gain: Array,
) -> None:
    """gain (E, G), written; see acbo_ref.grpo.rollout.information_gain. It overwrites the network's
    arrays of `outputs`.
    """
    space, num_episodes = network.workspace, len(variable)
    before, after = (space(name, num_episodes) for name in ("entropy.before", "entropy.after"))
    row = space("peeked.row", *decoder.row_shape)
    parent_entropies(outputs.parent_logits[:, 0], parent_mask, before)
    for g in range(variable.shape[1]):
        reading.append(variable[:, g], rows[:, g], row, keep=False)
        h = decoder.append(row, keep=False)
        peeked = network.heads.forward(params, h, task.manipulable, row[:, None])
        parent_entropies(peeked.parent_logits[:, 0], parent_mask, after)
        np.subtract(before, after, out=gain[:, g])


def observe(systems: SCMBatch[Array], noise: Array, observation_mask: Array, space: Workspace) -> Task:
    """The observational rows of E systems and what else is known of them; noise (E, O, V)."""
    rows = space("observations", *noise.shape, dtype=float)
    simulate_observations(systems, noise, rows)
    return Task(
        observations=rows,
        observation_mask=observation_mask,
        target=systems.target,
        valid=systems.valid,
        manipulable=systems.manipulable,
        low=systems.low,
        high=systems.high,
    )


def rollout(
    params: Params,
    config: Config,
    systems: SCMBatch[Array],
    observation_mask: Array,
    noise: EpisodeNoise[Array],
    fixed_std: float,
    network: Network,
    t: Trajectories[Array],
) -> None:
    """Play E episodes of K interventions with the current policy, into t; see
    acbo_ref.grpo.rollout.rollout.
    """
    space, systems = network.workspace, contiguous(systems)
    num_episodes, num_obs, width = noise.observation.shape
    steps, group, actions = noise.gumbel.shape[1], noise.gumbel.shape[2], t.judged_variable.shape[2]
    channels, each = t.inputs.channels, np.arange(num_episodes)
    task = observe(systems, noise.observation, observation_mask, space)
    reading = Reading(space, config.policy, task, steps + 1)
    reading.observations(channels[:, :num_obs])
    observed = space("observed", num_episodes, num_obs, width, channels.shape[3])
    np.copyto(observed, channels[:, :num_obs])
    decoder = Decoder(network, params, observed, observation_mask, systems.valid, steps + 1)
    probe_value = space("probe", *noise.probe.shape[:3], dtype=float)
    probe_actions(noise.probe, systems.manipulable, t.judged_variable[..., group:], probe_value)
    t.judged_value[..., group:] = probe_value
    by_outcome_head, decider = noise.by_outcome_head, None
    if by_outcome_head.any():
        decider = OutcomeDecider(network, params, num_episodes, width, ROLLOUT_GRID)
    row, log_p = space("row", num_episodes, width, channels.shape[3]), space("log_p", width)
    gain, judged = space.zeros("gain", num_episodes, group), _Judge(space, systems, noise, reading, actions)
    reading.start(row)
    for k in range(steps):
        channels[:, num_obs + k] = row
        outputs = network.heads.forward(params, decoder.append(row), systems.manipulable, row[:, None])
        variable, value = t.variable[:, k], t.value[:, k]
        draw_candidates(
            outputs, noise.gumbel[:, k], noise.normal[:, k], not config.policy.use_fixed_std, fixed_std, log_p, variable,
            value, t.log_prob[:, k],
        )  # fmt: skip
        t.judged_variable[:, k, :group] = variable
        np.clip(value, -HALF_WIDTH, HALF_WIDTH, out=t.judged_value[:, k, :group])
        if decider is not None:
            chosen, standard = decider(outputs, systems.manipulable, config.optimism)
            t.judged_variable[by_outcome_head, k, group] = chosen[by_outcome_head]
            t.judged_value[by_outcome_head, k, group] = standard[by_outcome_head]
        judged(k, t.judged_variable[:, k], t.judged_value[:, k])
        t.judged_outcome[:, k], t.judged_variance[:, k] = judged.mean, judged.variance
        if config.reward.info_gain > 0:
            information_gain(
                params, network, decoder, reading, outputs, task, t.parent_mask, variable, judged.rows, gain
            )
        is_parent = systems.parents[each[:, None], variable]
        t.rewards[:, k] = reward(judged.mean[:, :group], is_parent, gain, config.reward)
        row_done = judged.rows[each, t.committed]
        t.applied[:, k], t.outcome[:, k] = judged.raw[each, t.committed], row_done[each, systems.target]
        reading.append(t.judged_variable[each, k, t.committed], row_done, row)
