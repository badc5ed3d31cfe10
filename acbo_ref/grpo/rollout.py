"""Episodes: draw the noise, simulate, decide, and collect what an update needs.

An iteration collects E whole episodes with the current parameters. In each state, G candidates are
drawn from the policy head and judged in the simulator on the same exogenous noise (common random
numbers). P further uniform probes are judged on the same noise, for the outcome head only. With
`reward.noise_draws` M > 1, every candidate and probe is judged over that noise e, its mirror image
-e, and further pairs (s, -s), M draws in all and the same for the whole group: antithetic variates
(Hammersley & Morton 1956). The simulator is free in training, and in a linear model a pair's mean
is the exact expected target (where neither is clipped). The policy sees none of those rows.

The committed row, which the policy reads, is that of candidate 0, an honest draw. In a share of the
episodes (`heads.commit_by_outcome_head`) it is that of what the outcome head would decide, which
then takes the place of the first probe; how many errors it subtracts varies by episode, between 0
and twice `optimism`. With `decision: outcome_head` those are the histories that
decisions will meet (Ross et al. 2011, "DAgger"). The labels do not depend on who chose the action,
and candidates are still compared within their state.

What a candidate answers for is `grpo.credit`. Under "settle" every candidate's row is read, as if
it was the next, and the action that the outcome head would then settle on is judged in the
simulator: no error of the model enters. Under "episode" a state has one candidate, which is carried
out, and `grpo.group_size` episodes share a system, its observational rows and all noise but that of
their choices.

Contract: all randomness comes in as arrays (noise.py). Simulation is float64; the network runs
in its own dtype.
Letters: E episodes, O observational rows, K decisions, K' of them learned from, G candidates, P
probes, N = G + P judged actions, M noise draws, V variables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from acbo_ref.arrays import A, Array, Params
from acbo_ref.config import Config
from acbo_ref.grpo.credit import answered_for, outcome_to_go, reward
from acbo_ref.grpo.loss import label_weights, log_prob_forward, parent_entropy
from acbo_ref.grpo.noise import EpisodeNoise
from acbo_ref.policy.acquisition import (
    ROLLOUT_GRID,
    ROLLOUT_STEP,
    OnGrid,
    acquisition_features,
    hopeful,
    lowest_predicted,
    optimism_now,
    predict_on_grid,
)
from acbo_ref.policy.decoder import Decoder, Thought, open_decoder
from acbo_ref.policy.extrapolation import Seen, reach, seen_at_first, seen_with, within
from acbo_ref.policy.heads import OutcomeState, PolicyOutputs, heads_forward, parent_forward, state_forward
from acbo_ref.policy.inputs import HALF_WIDTH, OUTCOME_BOUND, Task, Units, set_mask
from acbo_ref.policy.local import OwnRows, Tried, no_own_rows, own_outcomes, own_row_added, predict_forward
from acbo_ref.policy.network import PolicyInputs, reads_pairs
from acbo_ref.policy.reading import Reading, View, open_reading
from acbo_ref.systems.batch import SCMBatch, causes, simulate, target_parents


class Trajectories(NamedTuple, Generic[A]):
    """E whole episodes: what the loss needs, of the K' learned decisions, and what reports show.

    Args:
        inputs: what the network reads.
        variable, value, log_prob, rewards: (E, K', G), of the candidates; values standard and not
            clipped.
        judged_variable, judged_value: (E, K', N), the candidates, then the probes; values standard,
            clipped as applied.
        judged_outcome, judged_variance: (E, K', N), of the standard target over the noise draws,
            each draw clipped at OUTCOME_BOUND.
        judged_weight: (E, K', N), see loss.label_weights.
        committed: (E,), which judged action was carried out: 0 (candidate 0), or G (the outcome
            head's decision).
        tried: own outcomes before each learned decision, (E, K', R) each, see local.Tried.
        parents, parent_mask: (E, V) bool, and causes: (E, V, V, 2) bool, see LossBatch.
        done, applied, outcome, expected: (E, K), the committed variable, its raw value as applied,
            the raw target it gave, and its judged outcome.
        learned: (E, K') int, see noise.EpisodeNoise.
        fixed_std: as used.
    """

    inputs: PolicyInputs[A]
    tried: Tried[A]
    variable: A
    value: A
    log_prob: A
    rewards: A
    judged_variable: A
    judged_value: A
    judged_outcome: A
    judged_variance: A
    judged_weight: A
    committed: A
    parents: A
    parent_mask: A
    causes: A
    done: A
    applied: A
    outcome: A
    expected: A
    learned: A
    fixed_std: A | float


# ----------------------------------------------------------------------------------------- episodes


def observe(systems: SCMBatch[Array], noise: Array, observation_mask: Array) -> Task:
    """The observational rows of E systems and what else is known of them; noise (E, O, V)."""
    nothing = -np.ones(noise.shape[:2], int)
    return Task(
        observations=simulate(systems, noise, nothing, np.zeros(noise.shape[:2])),
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
) -> Trajectories[Array]:
    """Play E episodes of K interventions with the current policy.

    Args:
        params: the network's parameters.
        systems: E systems.
        observation_mask: (E, O) bool, which observational rows an episode gets.
        noise: see noise.EpisodeNoise.
        fixed_std: standard deviation of the value draw, standard units (not used with a learned
            one).
    """
    num_episodes, steps, group_size = len(systems.target), noise.intervention.shape[1], noise.gumbel.shape[2]
    credit, objective = config.grpo.credit, config.grpo.objective
    task = observe(systems, noise.observation, observation_mask)
    reading = open_reading(task, config.policy, params["embed.weight"].dtype)
    decoder = open_decoder(params, config.policy, task, reading, steps + 1)
    committed, each = np.where(noise.by_outcome_head, group_size, 0), np.arange(num_episodes)
    parents = target_parents(systems)
    views, played, acquired, tried = [reading.start()], [], [], []
    own = no_own_rows(num_episodes, task.valid.shape[1])
    seen = seen_at_first(task, reading.units, config.extrapolation)
    now = look(params, task, decoder.append(views[0].channels), views[0], own, seen)
    settled_after = np.zeros((num_episodes, steps))
    for k in range(steps):
        left = np.maximum(noise.budget - k - 1, 0)
        acquired.append(acquisition(config, now, left))
        evidence = views[k].evidence[:, None]
        outputs, _ = heads_forward(
            params, config.policy, now.h[:, None], task.manipulable, evidence, acquired[k][:, None]
        )
        tried.append(now.tried)
        variable, value, log_prob = draw_candidates(outputs, noise.gumbel[:, k], noise.normal[:, k], fixed_std)
        probes = _probes(noise, now, task, noise.probe[:, k])
        judged_variable = np.concatenate([variable, probes[0]], axis=1)
        kept = np.clip(value, *(np.take_along_axis(end, variable, axis=1) for end in (now.low, now.high)))
        judged_value = np.concatenate([kept, probes[1]], axis=1)
        draws = np.concatenate([noise.intervention[:, k, None], noise.scoring[:, k]], axis=1)
        judged = judge(systems, task, reading.units, draws, judged_variable, judged_value)
        answers = judged.outcome[:, :group_size]
        if credit == "settle":
            peeks = [
                peek(params, task, reading, decoder, own, seen, variable[:, g], judged.rows[:, g])
                for g in range(group_size)
            ]
            settled = np.stack([settled_outcome(systems, task, reading.units, draws, after) for after in peeks], axis=1)
            answers = answered_for(answers, settled, left[:, None], objective)
        gain = np.zeros(variable.shape)
        if config.reward.info_gain > 0:
            gain = information_gain(params, decoder, reading, now.h, task, variable, judged.rows)
        is_parent = np.take_along_axis(parents, variable, axis=1)
        row = judged.rows[each, committed]
        weight = _weights(params, config, now, judged_variable, judged_value)
        done = judged_variable[each, committed]
        views.append(reading.append(done, row))
        if reads_pairs(config.policy):
            own = own_row_added(own, task, reading.units, set_mask(done, row.shape[1]), row)
        seen = seen_with(seen, reading.units, set_mask(done, row.shape[1]), row)
        if k + 1 < steps or (credit, objective) == ("episode", "final"):
            now = look(params, task, decoder.append(views[-1].channels), views[-1], own, seen)
        if (credit, objective) == ("episode", "final"):
            settled_after[:, k] = settled_outcome(systems, task, reading.units, draws, now)
        step = (variable, value, log_prob, judged_variable, judged_value, judged.outcome, judged.variance, weight)
        played.append((*step, answers, is_parent, gain, judged.raw_value[each, committed], row[each, task.target]))
    return _trajectories(
        config,
        systems,
        task,
        reading,
        views[:steps],
        acquired,
        tried,
        played,
        settled_after,
        committed,
        noise,
        fixed_std,
    )


class Look(NamedTuple, Generic[A]):
    """What is known of E systems at one decision: the trunk's state h (E, V, H) of every variable,
    the outcome head's, own outcomes, what is predicted on the grid, which of its values are near
    enough and hopeful (E, V, G), and the ends (E, V) of what is near.
    """

    h: A
    outcome: OutcomeState[A]
    tried: Tried[A]
    predicted: OnGrid[A]
    good: A
    low: A
    high: A


def look(
    params: Params, task: Task, thought: Thought[Array], view: View[Array], own: OwnRows[Array], seen: Seen[Array]
) -> Look[Array]:
    """What is known after the rows that were read."""
    tried = own.tried
    if thought.cause_logits is not None:
        tried = own_outcomes(own, thought.cause_logits, view.evidence)
    outcome, _ = state_forward(params, thought.h, view.evidence)
    near = task.manipulable[:, :, None] & within(seen, ROLLOUT_GRID)
    predicted = predict_on_grid(params, outcome, tried, ROLLOUT_GRID)
    good = hopeful(predicted, near, task.observation_mask.sum(axis=1) > 1)
    return Look(thought.h, outcome, tried, predicted, good, *reach(seen, ROLLOUT_STEP))


def acquisition(config: Config, now: Look[Array], left: Array) -> Array:
    """(E, V, Q) for the policy head, with `left` (E,) experiments left; Q = 0 over rows."""
    if not reads_pairs(config.policy):
        return np.zeros((*now.h.shape[:2], 0), now.h.dtype)
    return acquisition_features(now.predicted, optimism_now(config.optimism, left), now.good, ROLLOUT_GRID, left)


def peek(
    params: Params,
    task: Task,
    reading: Reading,
    decoder: Decoder,
    own: OwnRows[Array],
    seen: Seen[Array],
    variable: Array,
    rows: Array,
) -> Look[Array]:
    """What would be known after the raw rows (E, V) in which `variable` (E,) was set, as if they
    were the next.
    """
    view, was_set = reading.peek(variable, rows), set_mask(variable, rows.shape[1])
    thought = decoder.peek(view.channels)
    if thought.cause_logits is not None:
        own = own_row_added(own, task, reading.units, was_set, rows)
    return look(params, task, thought, view, own, seen_with(seen, reading.units, was_set, rows))


def settled_outcome(systems: SCMBatch[Array], task: Task, units: Units[Array], draws: Array, now: Look[Array]) -> Array:
    """(E,) the true standard outcome, over the noise draws (E, M, V), of the action that the
    outcome head would settle on: the lowest mean.
    """
    variable, value = lowest_predicted(now.predicted, 0.0, now.good, ROLLOUT_GRID)
    return judge(systems, task, units, draws, variable[:, None], value[:, None].astype(float)).outcome[:, 0]


# What a step gives, in the order of `rollout`; those of the first row are kept in the network's
# dtype, those of the second for the learned decisions only.
_FLOATS = ("value", "log_prob", "rewards", "judged_value", "judged_outcome", "judged_variance", "judged_weight")
LEARNED = (
    "variable", "value", "log_prob", "judged_variable", "judged_value", "judged_outcome", "judged_variance",
    "judged_weight", "rewards",
)  # fmt: skip
_REWARDED = ("answers", "is_parent", "info_gain")
DONE = ("applied", "outcome")


def _trajectories(
    config: Config,
    systems: SCMBatch[Array],
    task: Task,
    reading: Reading,
    views: Sequence[View[Array]],
    acquired: Sequence[Array],
    tried: Sequence[Tried[Array]],
    played: Sequence[tuple[Array, ...]],
    settled_after: Array,
    committed: Array,
    noise: EpisodeNoise[Array],
    fixed_std: float,
) -> Trajectories[Array]:
    """What was played, put together: K views, acquisition features and own outcomes before each of
    K decisions, and K steps of LEARNED but for the rewards, _REWARDED and DONE.
    """
    learned = noise.learned
    names, each = (*LEARNED[:-1], *_REWARDED, *DONE), np.arange(len(learned))
    stacked = {n: np.stack(arrays, axis=1) for n, arrays in zip(names, zip(*played, strict=True), strict=True)}
    done, expected = (
        np.take_along_axis(stacked[name], committed[:, None, None], axis=2)[:, :, 0]
        for name in ("judged_variable", "judged_outcome")
    )
    answers, is_parent, info_gain = (stacked.pop(name) for name in _REWARDED)
    if config.grpo.credit == "episode":
        answers = outcome_to_go(expected, settled_after, noise.budget, config.grpo.objective)[:, :, None]
    stacked["rewards"] = reward(answers, is_parent, info_gain, config.reward)
    stacked |= {name: stacked[name][each[:, None], learned] for name in LEARNED}
    inputs = reading.inputs(views, np.stack(acquired, axis=1), learned)
    dtype = inputs.channels.dtype
    stacked |= {name: stacked[name].astype(dtype) for name in _FLOATS}
    return Trajectories(
        inputs=inputs,
        tried=_tried(tried, learned, dtype),
        committed=committed,
        parents=target_parents(systems),
        parent_mask=task.valid & ~task.is_target,
        causes=causes(systems.edges),
        done=done,
        expected=expected,
        learned=learned,
        fixed_std=fixed_std,
        **stacked,
    )


def _tried(before: Sequence[Tried[Array]], learned: Array, dtype: DTypeLike) -> Tried[Array]:
    """The own outcomes before each learned decision (E, K'), (E, K', K) each, from those before
    each of the K: what came later does not count. (E, K', 0) over rows.
    """
    last, each = before[-1], np.arange(len(learned))[:, None]
    room = last.variable.shape[1]

    def padded(array: Array) -> Array:
        return np.pad(array, ((0, 0), (0, room - array.shape[1])))

    fields = zip(*before, strict=True)
    kept = Tried(*(np.stack([padded(array) for array in arrays], axis=1)[each, learned] for arrays in fields))
    return kept._replace(value=kept.value.astype(dtype), outcome=kept.outcome.astype(dtype))


def _weights(params: Params, config: Config, now: Look[Array], variable: Array, value: Array) -> Array:
    """(E, N) weights of the labels of judged actions."""
    predicted, _ = predict_forward(params, now.outcome, now.tried, variable, value.astype(now.h.dtype))
    return label_weights(predicted.log_error, config.heads.label_weight, np.exp)


def _probes(noise: EpisodeNoise[Array], now: Look[Array], task: Task, uniform: Array) -> tuple[Array, Array]:
    """Uniform probes (variable, standard value), (E, P) each; where the outcome head decides, its
    decision is the first.
    """
    variable, value = probe_actions(uniform, task.manipulable)
    by_outcome_head = noise.by_outcome_head
    if by_outcome_head.any():
        decided = lowest_predicted(now.predicted, noise.optimism, now.good, ROLLOUT_GRID)
        variable[by_outcome_head, 0], value[by_outcome_head, 0] = (d[by_outcome_head] for d in decided)
    return variable, value


def draw_candidates(
    outputs: PolicyOutputs[Array], gumbel: Array, normal: Array, fixed_std: float
) -> tuple[Array, Array, Array]:
    """G candidates (variable, value, log-prob), (E, G) each, from outputs of one decision.

    The Gumbel-max trick: argmax_i (logit_i + Gumbel_i) is a draw from softmax(logits) (Gumbel
    1954). The value is mean + std * normal of the chosen variable.
    """
    variable = (outputs.logits + gumbel).argmax(axis=-1)  # logits (E, 1, V), gumbel (E, G, V)
    mean = np.take_along_axis(outputs.means[:, 0], variable, axis=1)
    std: Array | float = fixed_std
    if outputs.log_stds is not None:
        std = np.exp(np.take_along_axis(outputs.log_stds[:, 0], variable, axis=1))
    value = (mean + std * normal).astype(mean.dtype)
    log_prob, _ = log_prob_forward(outputs, variable[:, None], value[:, None], fixed_std)
    return variable, value, log_prob[:, 0]


def probe_actions(uniform: Array, choosable: Array) -> tuple[Array, Array]:
    """Uniform (variable, standard value) draws from uniforms (E, P, 2): the j-th choosable
    variable, a value in [-5, 5].
    """
    count = choosable.sum(axis=1)[:, None]
    rank = np.minimum((uniform[..., 0] * count).astype(int), count - 1)
    position = np.argsort(~choosable, axis=1, kind="stable")  # choosable variables first, in order
    return np.take_along_axis(position, rank, axis=1), HALF_WIDTH * (2.0 * uniform[..., 1] - 1.0)


class Judged(NamedTuple):
    """N actions in each of E systems: raw_value (E, N), rows (E, N, V) under the first noise draw,
    and mean and variance (E, N) of the standard outcome over all of them."""

    raw_value: Array
    rows: Array
    outcome: Array
    variance: Array


def judge(
    systems: SCMBatch[Array], task: Task, units: Units[Array], draws: Array, variable: Array, value: Array
) -> Judged:
    """Play N actions on the same M noise draws (E, M, V); variable (E, N), value (E, N) standard,
    inside [-5, 5].
    """
    num_episodes, num_draws, num_actions = len(draws), draws.shape[1], variable.shape[1]
    location, scale = units.location, units.scale
    raw = np.take_along_axis(location, variable, 1) + np.take_along_axis(scale, variable, 1) * value
    rows = simulate(
        systems,
        np.repeat(draws, num_actions, axis=1),
        np.tile(variable, (1, num_draws)),
        np.tile(raw, (1, num_draws)),
    )
    rows = rows.reshape(num_episodes, num_draws, num_actions, -1)
    each = np.arange(num_episodes)
    target = rows[each, :, :, task.target]  # (E, M, N)
    standard = (target - location[each, task.target][:, None, None]) / scale[each, task.target][:, None, None]
    bounded = np.clip(standard, -OUTCOME_BOUND, OUTCOME_BOUND)
    return Judged(raw, rows[:, 0], bounded.mean(axis=1), bounded.var(axis=1))


def information_gain(
    params: Params, decoder: Decoder, reading: Reading, h: Array, task: Task, variable: Array, rows: Array
) -> Array:
    """(E, G): entropy of the parent posterior now, minus after reading each candidate's row; nats.

    Args:
        h: (E, V, H) of the decision, before any of the rows.
        variable: (E, G), of the candidates; rows: (E, N, V), their rows first.
    """
    parent_mask = task.valid & ~task.is_target
    before = parent_entropy(parent_forward(params, h)[0], parent_mask)
    after = []
    for g in range(variable.shape[1]):
        thought = decoder.peek(reading.peek(variable[:, g], rows[:, g]).channels)
        after.append(parent_entropy(parent_forward(params, thought.h)[0], parent_mask))
    return np.asarray(before[:, None] - np.stack(after, axis=1))
