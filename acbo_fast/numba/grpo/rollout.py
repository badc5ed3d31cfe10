"""Twin of acbo_ref/grpo/rollout.py: whole episodes.

Simulation is float64, the network in its own dtype, as in the reference.
Letters: E episodes, O observational rows, K decisions, G candidates, P probes, N = G + P, M noise
draws, V variables.
"""

from __future__ import annotations

import math
from copy import copy
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from acbo_fast.numba.grpo.loss import normal_log_density, parent_entropies
from acbo_fast.numba.kernels import exp, kernel
from acbo_fast.numba.policy.acquisition import GridPredictor
from acbo_fast.numba.policy.decoder import PairDecoder, RowDecoder, open_decoder
from acbo_fast.numba.policy.inputs import attention_mask
from acbo_fast.numba.policy.layers import log_softmax
from acbo_fast.numba.policy.network import Network
from acbo_fast.numba.policy.reading import PairReading, open_reading
from acbo_fast.numba.systems.batch import contiguous, simulate_observations, simulate_row
from acbo_fast.numba.workspace import Workspace
from acbo_ref.arrays import Array, Params
from acbo_ref.config import Config
from acbo_ref.grpo.credit import answered_for, outcome_to_go, reward
from acbo_ref.grpo.loss import label_weights
from acbo_ref.grpo.noise import EpisodeNoise
from acbo_ref.grpo.rollout import Look, Trajectories
from acbo_ref.grpo.rollout import acquisition as acquisition_of
from acbo_ref.policy.acquisition import ROLLOUT_GRID, ROLLOUT_STEP, hopeful, lowest_predicted
from acbo_ref.policy.decoder import Thought
from acbo_ref.policy.extrapolation import reach, seen_at_first, seen_with, within
from acbo_ref.policy.inputs import HALF_WIDTH, OUTCOME_BOUND, Task, Units, set_mask
from acbo_ref.policy.local import Tried, no_own_rows, own_outcomes, own_row_added
from acbo_ref.policy.network import PolicyInputs, acquisition_size, evidence_size, num_channels, reads_pairs
from acbo_ref.policy.reading import RowReading, View
from acbo_ref.systems.batch import SCMBatch, causes, target_parents


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
    all_logits: Array, all_means: Array, log_stds: Array, gumbel: Array, normal: Array, learned_std: bool,
    fixed_std: float, log_p: Array, variable: Array, value: Array, log_prob: Array,
) -> None:  # fmt: skip
    """G candidates of each state from what the policy head says, (E, 1, V) each, gumbel (E, G, V)
    and normal (E, G): see the reference.
    """
    for e in range(variable.shape[0]):
        logits, means = all_logits[e, 0], all_means[e, 0]
        log_softmax(logits, log_p)
        for g in range(variable.shape[1]):
            best = 0
            for i in range(1, logits.shape[0]):
                if logits[i] + gumbel[e, g, i] > logits[best] + gumbel[e, g, best]:
                    best = i
            kind = means.dtype.type
            log_std = log_stds[e, 0, best] if learned_std else kind(math.log(fixed_std))
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
    shape, judged, done = noise.learned.shape, group + noise.probe.shape[2], (num_episodes, steps)
    table, mask = (num_episodes, num_obs + steps, width), attention_mask(observation_mask, steps)
    if reads_pairs(config.policy):
        table, mask = (*shape, width, width), np.zeros((num_episodes, 0, 0), bool)

    def array(size: int) -> Array:
        return np.empty((*shape, size), dtype)

    inputs = PolicyInputs(
        channels=np.empty((*table, num_channels(config.policy)), dtype),
        evidence=np.empty((*shape, width, evidence_size(config.policy)), dtype),
        acquisition=np.zeros((*shape, width, acquisition_size(config.policy)), dtype),
        valid=systems.valid,
        choosable=systems.manipulable,
        target=systems.target,
        row_mask=mask,
    )
    places = (*shape, steps - 1 if reads_pairs(config.policy) else 0)
    return Trajectories(
        inputs=inputs,
        tried=Tried(
            np.zeros(places, np.int64), np.zeros(places, dtype), np.zeros(places, dtype), np.zeros(places, bool)
        ),
        variable=np.empty((*shape, group), np.int64),
        value=array(group),
        log_prob=array(group),
        rewards=array(group),
        judged_variable=np.empty((*shape, judged), np.int64),
        judged_value=array(judged),
        judged_outcome=array(judged),
        judged_variance=array(judged),
        judged_weight=array(judged),
        committed=np.where(noise.by_outcome_head, group, 0),
        parents=target_parents(systems),
        causes=causes(systems.edges),
        parent_mask=systems.valid & (np.arange(width) != systems.target[:, None]),
        done=np.empty(done, np.int64),
        applied=np.empty(done),
        outcome=np.empty(done),
        expected=np.empty(done),
        learned=noise.learned,
        fixed_std=fixed_std,
    )


class _Judge:
    """`judge` with the arrays that it writes to: raw values, rows under the first noise, mean and
    variance of outcomes.
    """

    def __init__(
        self, space: Workspace, systems: SCMBatch[Array], noise: EpisodeNoise[Array], units: Units[Array], actions: int
    ) -> None:
        num_episodes, _, width = noise.observation.shape
        self._systems, self._noise, self._units = systems, noise, units
        self._scratch = space("judge.scratch", 1 + noise.scoring.shape[2] + width, dtype=float)
        self.raw, self.mean, self.variance = (
            space("judge." + name, num_episodes, actions, dtype=float) for name in ("raw", "mean", "variance")
        )
        self.rows = space("judge.rows", num_episodes, actions, width, dtype=float)
        self._settled = tuple(
            space("settled." + name, num_episodes, 1, dtype=float) for name in ("raw", "mean", "variance")
        )
        self._settled_rows = space("settled.rows", num_episodes, 1, width, dtype=float)

    def settled(self, k: int, now: Look[Array]) -> Array:
        """(E,) see acbo_ref.grpo.rollout.settled_outcome, on the noise of step k."""
        variable, value = lowest_predicted(now.predicted, 0.0, now.good, ROLLOUT_GRID)
        raw, mean, variance = self._settled
        judge(
            self._systems, self._noise.intervention[:, k], self._noise.scoring[:, k], variable[:, None],
            value[:, None], self._units.location, self._units.scale, self._scratch, raw, self._settled_rows, mean,
            variance,
        )  # fmt: skip
        return mean[:, 0].copy()

    def __call__(self, k: int, variable: Array, value: Array) -> None:
        """Play and judge actions (E, N) of step k."""
        judge(
            self._systems, self._noise.intervention[:, k], self._noise.scoring[:, k], variable, value,
            self._units.location, self._units.scale, self._scratch, self.raw, self.rows, self.mean, self.variance,
        )  # fmt: skip


def information_gain(
    params: Params,
    network: Network,
    decoder: RowDecoder | PairDecoder,
    reading: PairReading | RowReading,
    h: Array,
    parent_mask: Array,
    variable: Array,
    rows: Array,
    gain: Array,
) -> None:
    """gain (E, G), written; see acbo_ref.grpo.rollout.information_gain. It overwrites the network's
    arrays.
    """
    space, num_episodes = network.workspace, len(variable)
    before, after = (space(name, num_episodes) for name in ("entropy.before", "entropy.after"))
    parent_entropies(network.heads.parents(params, h), parent_mask, before)
    for g in range(variable.shape[1]):
        view = reading.peek(variable[:, g], rows[:, g])
        peeked = decoder.peek(view.channels).h
        parent_entropies(network.heads.parents(params, peeked), parent_mask, after)
        np.subtract(before, after, out=gain[:, g])


class _Knowledge:
    """What is known of E systems as rows come: see acbo_ref.grpo.rollout.Look."""

    def __init__(
        self, params: Params, config: Config, task: Task, network: Network, reading: PairReading | RowReading
    ) -> None:
        self._params, self._config, self._task, self._network, self._reading = params, config, task, network, reading
        num_episodes, width = task.valid.shape
        self.predictor = GridPredictor(network, params, num_episodes, width, ROLLOUT_GRID)
        self._own = no_own_rows(num_episodes, width)
        self._seen = seen_at_first(task, reading.units, config.extrapolation)

    def look(self, thought: Thought[Array], view: View[Array]) -> Look[Array]:
        """What is known now; the outcome head's state lies in the network's arrays."""
        own, tried = self._own, self._own.tried
        if thought.cause_logits is not None:
            tried = own_outcomes(own, thought.cause_logits, view.evidence)
        state = self._network.heads.state(self._params, thought.h, view.evidence)
        near = self._task.manipulable[:, :, None] & within(self._seen, ROLLOUT_GRID)
        on_grid = self.predictor.on_grid(state, tried)
        good = hopeful(on_grid, near, self._task.observation_mask.sum(axis=1) > 1)
        return Look(thought.h, state, tried, on_grid, good, *reach(self._seen, ROLLOUT_STEP))

    def with_row(self, variable: Array, rows: Array) -> _Knowledge:
        """The same after raw rows (E, V) in which `variable` (E,) was set."""
        after, was_set = copy(self), set_mask(variable, rows.shape[1])
        after._seen = seen_with(self._seen, self._reading.units, was_set, rows)
        if reads_pairs(self._config.policy):
            after._own = own_row_added(self._own, self._task, self._reading.units, was_set, rows)
        return after


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


class Step(NamedTuple):
    """What is played and judged in one step of E episodes; see Trajectories."""

    variable: Array
    value: Array
    log_prob: Array
    rewards: Array
    judged_variable: Array
    judged_value: Array
    judged_outcome: Array
    judged_variance: Array
    judged_weight: Array


def empty_step(noise: EpisodeNoise[Array], width: int, group: int, actions: int, dtype: DTypeLike) -> Step:
    """Arrays for one step."""
    num_episodes = len(noise.observation)

    def array(size: int, kind: DTypeLike = dtype) -> Array:
        return np.empty((num_episodes, size), kind)

    return Step(
        array(group, np.int64), array(group), array(group), array(group),
        array(actions, np.int64), array(actions), array(actions), array(actions), array(actions),
    )  # fmt: skip


def _probes(noise: EpisodeNoise[Array], choosable: Array) -> tuple[Array, Array]:
    """Uniform probes (variable, standard value), (E, K, P) each."""
    shape = noise.probe.shape[:3]
    variable, value = np.empty(shape, np.int64), np.empty(shape)
    probe_actions(noise.probe, choosable, variable, value)
    return variable, value


def _keep_view(
    t: Trajectories[Array], view: View[Array], acquisition: Array, tried: Tried[Array], k: int, num_obs: int
) -> None:
    """The view of step k among the network's inputs: of every episode over rows, else of those that
    learn from this step, with the own outcomes before it.
    """
    if t.inputs.row_mask.shape[1]:
        t.inputs.channels[:, num_obs + k] = view.channels
        return
    episode, slot = np.nonzero(t.learned == k)
    t.inputs.channels[episode, slot], t.inputs.evidence[episode, slot] = view.channels[episode], view.evidence[episode]
    t.inputs.acquisition[episode, slot] = acquisition[episode]
    for kept, array in zip(t.tried, tried, strict=True):
        kept[episode, slot, : array.shape[1]] = array[episode]


def _keep_step(t: Trajectories[Array], step: Step, k: int) -> None:
    """What was played in step k, of the episodes that learn from it."""
    episode, slot = np.nonzero(t.learned == k)
    for name, array in step._asdict().items():
        getattr(t, name)[episode, slot] = array[episode]


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
    each, credit, objective = np.arange(num_episodes), config.grpo.credit, config.grpo.objective
    task = observe(systems, noise.observation, observation_mask, space)
    reading = open_reading(task, config.policy, t.inputs.channels.dtype)
    decoder = open_decoder(network, params, task, reading, steps + 1)
    if isinstance(reading, RowReading):
        t.inputs.channels[:, :num_obs] = reading.observations()
    step = empty_step(noise, width, group, actions, t.value.dtype)
    probes = _probes(noise, systems.manipulable)
    knowledge = _Knowledge(params, config, task, network, reading)
    log_p, judged = space("log_p", width), _Judge(space, systems, noise, reading.units, actions)
    gain, view = space.zeros("gain", num_episodes, group), reading.start()
    answers = np.zeros((num_episodes, group))
    settled_after, info_gains = np.zeros((num_episodes, steps)), np.zeros((num_episodes, steps))
    now = knowledge.look(decoder.append(view.channels), view)
    for k in range(steps):
        acquisition = acquisition_of(config, now, np.maximum(noise.budget - k - 1, 0))
        logits, means, log_stds = network.heads.policy(
            params, now.h[:, None], systems.manipulable, acquisition[:, None]
        )
        draw_candidates(
            logits, means, log_stds, noise.gumbel[:, k], noise.normal[:, k], not config.policy.use_fixed_std, fixed_std,
            log_p, step.variable, step.value, step.log_prob,
        )  # fmt: skip
        step.judged_variable[:, :group] = step.variable
        low, high = (np.take_along_axis(end, step.variable, axis=1) for end in (now.low, now.high))
        step.judged_value[:, :group] = np.clip(step.value, low, high)
        step.judged_variable[:, group:], step.judged_value[:, group:] = (probe[:, k] for probe in probes)
        if noise.by_outcome_head.any():
            chosen, standard = lowest_predicted(now.predicted, noise.optimism, now.good, ROLLOUT_GRID)
            by_outcome_head = noise.by_outcome_head
            step.judged_variable[by_outcome_head, group] = chosen[by_outcome_head]
            step.judged_value[by_outcome_head, group] = standard[by_outcome_head]
        judged(k, step.judged_variable, step.judged_value)
        predicted = knowledge.predictor.predict(now.outcome, now.tried, step.judged_variable, step.judged_value)
        step.judged_weight[:] = label_weights(predicted[..., 1], config.heads.label_weight, np.exp)
        step.judged_outcome[:], step.judged_variance[:] = judged.mean, judged.variance
        _keep_view(t, view, acquisition, now.tried, k, num_obs)  # before a peek writes to it
        h = now.h
        if credit == "settle" or config.reward.info_gain > 0:
            h = h.copy()
        answers[:] = judged.mean[:, :group]
        if credit == "settle":
            settled = np.empty((num_episodes, group))
            for g in range(group):
                peeked = reading.peek(step.variable[:, g], judged.rows[:, g])
                after = knowledge.with_row(step.variable[:, g], judged.rows[:, g])
                settled[:, g] = judged.settled(k, after.look(decoder.peek(peeked.channels), peeked))
            left = np.maximum(noise.budget - k - 1, 0)
            answers[:] = answered_for(answers, settled, left[:, None], objective)
        if config.reward.info_gain > 0:
            information_gain(params, network, decoder, reading, h, t.parent_mask, step.variable, judged.rows, gain)
        is_parent = t.parents[each[:, None], step.variable]
        step.rewards[:] = reward(answers, is_parent, gain, config.reward)
        info_gains[:, k] = gain[:, 0]
        row = judged.rows[each, t.committed]
        t.done[:, k], t.applied[:, k] = step.judged_variable[each, t.committed], judged.raw[each, t.committed]
        t.outcome[:, k], t.expected[:, k] = row[each, systems.target], judged.mean[each, t.committed]
        _keep_step(t, step, k)
        knowledge = knowledge.with_row(t.done[:, k], row)
        view = reading.append(t.done[:, k], row)
        if k + 1 < steps or (credit, objective) == ("episode", "final"):
            now = knowledge.look(decoder.append(view.channels), view)
        if (credit, objective) == ("episode", "final"):
            settled_after[:, k] = judged.settled(k, now)
    if credit == "episode":
        to_go = outcome_to_go(t.expected, settled_after, noise.budget, objective)
        is_parent = np.take_along_axis(t.parents, t.done, axis=1)
        rewards = reward(to_go, is_parent, info_gains, config.reward)
        t.rewards[:] = np.take_along_axis(rewards, t.learned, axis=1)[:, :, None]
