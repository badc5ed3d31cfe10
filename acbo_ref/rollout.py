"""Episodes: draw the noise, simulate, decide, and collect what an update needs.

An iteration collects E whole episodes with the current parameters. In each state G candidates are drawn from the policy
and scored in the simulator on the same exogenous noise (common random numbers). P further uniform probes are labelled on the
same noise, for the outcome head only. With `reward.noise_draws` M > 1 every candidate and probe is judged over that noise e,
its mirror image -e, and further pairs (s, -s), M in all and again the same for the whole group: antithetic variates
(Hammersley & Morton 1956). The simulator is free in training, and in a linear model a pair's mean is the exact expected target
(where neither is clipped). The policy sees none of those rows.

The committed row is that of candidate 0, an honest draw. In a share of the episodes (`surrogate.commit_share`) it is that of
what the outcome head would decide, which then takes the place of the first probe. With `decision: surrogate` those are the
histories that decisions will meet (Ross et al. 2011, "DAgger"); the labels do not depend on who chose them, and candidates are
still compared within their state.

Contract: all randomness comes in as arrays (`draw_noise`). Simulation is float64; the network runs in its own dtype.
Letters: E episodes, O observational rows, K decisions, G candidates, P probes, N = G + P, M noise draws, V variables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acbo_ref import grpo
from acbo_ref.config import Config
from acbo_ref.history import HALF_WIDTH, OUTCOME_BOUND, Task, attention_mask, to_domain
from acbo_ref.layers import Params
from acbo_ref.policy import Decoder, PolicyInputs, PolicyOutputs, heads_forward, outcome_forward
from acbo_ref.randomness import Role, generator
from acbo_ref.reading import Reading
from acbo_ref.scm import SCMBatch, simulate

Array = NDArray[Any]

# Values at which `decision: surrogate` asks the outcome head, ends of the domain included.
SURROGATE_GRID = np.linspace(-HALF_WIDTH, HALF_WIDTH, 41)
# The same in rollouts, where a coarser one will do.
COMMIT_GRID = SURROGATE_GRID[::4]


@dataclass(frozen=True, eq=False)
class EpisodeNoise:
    """Every random number of E episodes.

    Shapes: observation (E, O, V), intervention (E, K, V) and scoring (E, K, M - 1, V), standard normal; gumbel (E, K, G, V);
    normal (E, K, G); probe (E, K, P, 2) uniform in [0, 1): which variable, which value.
    """

    observation: Array
    intervention: Array
    scoring: Array
    gumbel: Array
    normal: Array
    probe: Array


def antithetic(noise: Array, fresh: Array, num_draws: int) -> Array:
    """Draws 2 to M that judge besides `noise` (E, K, V): its mirror image, then `fresh` (E, K, S, V), each with its own.

    An odd M leaves the last one without its mirror image. Returns (E, K, M - 1, V).
    """
    pairs = np.stack([fresh, -fresh], axis=3).reshape(*fresh.shape[:2], -1, fresh.shape[3])
    return np.asarray(np.concatenate([-noise[:, :, None], pairs], axis=2)[:, :, : num_draws - 1])


def draw_noise(config: Config, iteration: int, num_observations: int, num_variables: int) -> EpisodeNoise:
    """The noise of one iteration, a pure function of (seed, role, iteration) and the shapes."""
    e, k, v = config.batch_size, config.interventions_per_episode, num_variables
    g, p = config.grpo.group_size, config.surrogate.probes
    exogenous = generator(config.seed, Role.EXOGENOUS_NOISE, iteration)
    scoring = generator(config.seed, Role.SCORING_NOISE, iteration)
    observation = exogenous.standard_normal((e, num_observations, v))
    intervention = exogenous.standard_normal((e, k, v))
    draws = config.reward.noise_draws
    return EpisodeNoise(
        observation=observation,
        intervention=intervention,
        scoring=antithetic(intervention, scoring.standard_normal((e, k, (draws - 1) // 2, v)), draws),
        gumbel=generator(config.seed, Role.VARIABLE_CHOICE, iteration).gumbel(size=(e, k, g, v)),
        normal=generator(config.seed, Role.VALUE_CHOICE, iteration).standard_normal((e, k, g)),
        probe=generator(config.seed, Role.PROBES, iteration).random((e, k, p, 2)),
    )


@dataclass(frozen=True, eq=False)
class Trajectories:
    """E whole episodes: what the loss needs, and what reports show.

    Shapes: inputs, see PolicyInputs; variable, value, log_prob, rewards (E, K, G), values standard and unclipped;
    draw_variable, draw_value, draw_outcome, draw_variance (E, K, N) standard, values clipped as applied; mean and variance
    of the outcome over the noise draws, each clipped at OUTCOME_BOUND; committed (E,) which of the N draws was carried out, 0
    (candidate 0) or G (the outcome head's); parents, parent_mask (E, V); applied (E, K) the committed value as applied and
    outcome (E, K) the target it gave, both raw; fixed_std as used.
    """

    inputs: PolicyInputs
    variable: Array
    value: Array
    log_prob: Array
    rewards: Array
    draw_variable: Array
    draw_value: Array
    draw_outcome: Array
    draw_variance: Array
    committed: Array
    parents: Array
    parent_mask: Array
    applied: Array
    outcome: Array
    fixed_std: float


def commit_by_surrogate(num_episodes: int, share: float) -> Array:
    """(E,) bool: which episodes of a batch carry out what the outcome head decides, evenly spread."""
    episode = np.arange(num_episodes)
    return np.asarray(np.floor((episode + 1) * share) > np.floor(episode * share))


def observe(problems: SCMBatch, noise: Array, observation_mask: Array) -> Task:
    """The observational rows of E systems and what else is known of them; noise (E, O, V)."""
    nothing = -np.ones(noise.shape[:2], int)
    return Task(
        observations=simulate(problems, noise, nothing, np.zeros(noise.shape[:2])),
        observation_mask=observation_mask,
        target=problems.target,
        valid=problems.valid,
        manipulable=problems.manipulable,
        low=problems.low,
        high=problems.high,
    )


def to_raw(location: Array, scale: Array, variable: Array, standard: Array) -> Array:
    """Raw values of standard ones of the variables named by `variable`, (E, ...) each, clipped to the domain."""
    index = variable.reshape(len(variable), -1)
    loc = np.take_along_axis(location, index, axis=1).reshape(variable.shape)
    sc = np.take_along_axis(scale, index, axis=1).reshape(variable.shape)
    return np.asarray(loc + sc * np.clip(standard, -HALF_WIDTH, HALF_WIDTH))


def probe_actions(uniform: Array, choosable: Array) -> tuple[Array, Array]:
    """Uniform (variable, standard value) draws from uniforms (E, P, 2): the j-th choosable variable, a value in [-5, 5]."""
    count = choosable.sum(axis=1)[:, None]
    rank = np.minimum((uniform[..., 0] * count).astype(int), count - 1)
    position = np.argsort(~choosable, axis=1, kind="stable")  # choosable variables first, in order
    return np.take_along_axis(position, rank, axis=1), HALF_WIDTH * (2.0 * uniform[..., 1] - 1.0)


def rollout(
    params: Params,
    config: Config,
    problems: SCMBatch,
    observation_mask: Array,
    noise: EpisodeNoise,
    fixed_std: float,
) -> Trajectories:
    """Play E episodes of K interventions with the current policy.

    Args:
        params: the network's parameters.
        problems: E systems.
        observation_mask: (E, O) bool, which observational rows an episode gets.
        noise: see EpisodeNoise.
        fixed_std: standard deviation of the value draw, standard units (not used with a learned one).
    """
    dtype = params["embed.weight"].dtype
    num_groups = noise.gumbel.shape[2]
    steps = noise.intervention.shape[1]
    each = np.arange(problems.shape[0])
    task = observe(problems, noise.observation, observation_mask)
    reading = Reading(task, config.policy.evidence, dtype)
    location, scale = reading.location, reading.scale
    observations = reading.observations()
    decoder = Decoder(params, config.policy, observations, observation_mask, task.valid, steps + 1)
    parent_mask = task.valid & ~task.is_target
    share = config.surrogate.commit_share
    by_surrogate = commit_by_surrogate(len(each), share)
    committed = np.where(by_surrogate, num_groups, 0)
    target_location, target_scale = location[each, task.target], scale[each, task.target]

    def bounded(target: Array) -> Array:
        """Raw targets (E, M, N) in standard units, none beyond OUTCOME_BOUND."""
        standard = (target - target_location[:, None, None]) / target_scale[:, None, None]
        return np.clip(standard, -OUTCOME_BOUND, OUTCOME_BOUND)

    later = [reading.start()]
    collected: dict[str, list[Array]] = {key: [] for key in _COLLECTED}
    for k in range(steps):
        h = decoder.append(later[-1])
        outputs, _ = heads_forward(params, config.policy, h[:, None], task.manipulable, later[-1][:, None])
        variable, value, log_prob = draw_candidates(outputs, noise.gumbel[:, k], noise.normal[:, k], fixed_std)
        probe_variable, probe_value = probe_actions(noise.probe[:, k], task.manipulable)
        if share > 0:
            chosen, standard = lowest_predicted(
                params, outputs.outcome_hidden[:, 0], config.optimism, task.manipulable, COMMIT_GRID
            )
            probe_variable[by_surrogate, 0], probe_value[by_surrogate, 0] = chosen[by_surrogate], standard[by_surrogate]
        draw_variable = np.concatenate([variable, probe_variable], axis=1)
        draw_value = np.clip(np.concatenate([value, probe_value], axis=1), -HALF_WIDTH, HALF_WIDTH)
        raw_value = to_raw(location, scale, draw_variable, draw_value)
        rows = _simulate_each(problems, noise.intervention[:, k, None], noise.scoring[:, k], draw_variable, raw_value)
        outcomes = bounded(rows[each, :, :, task.target])  # (E, M, N)
        draw_outcome, draw_variance = outcomes.mean(axis=1), outcomes.var(axis=1)
        rows = rows[:, 0]
        info_gain = np.zeros(variable.shape)
        if config.reward.info_gain > 0:
            candidates = np.stack([reading.peek(variable[:, g], rows[:, g]) for g in range(num_groups)], axis=1)
            info_gain = information_gain(params, config, decoder, outputs, candidates, task, parent_mask)
        is_parent = np.take_along_axis(problems.parents, variable, axis=1)
        weights = (config.reward.target, config.reward.parent, config.reward.info_gain)
        rewards = grpo.reward(draw_outcome[:, :num_groups], is_parent, info_gain, weights)
        later.append(reading.append(draw_variable[each, committed], rows[each, committed]))
        step = (
            variable,
            value,
            log_prob,
            rewards,
            draw_variable,
            draw_value,
            draw_outcome,
            draw_variance,
            raw_value[each, committed],
            rows[each, committed, task.target],
        )
        for key, array in zip(_COLLECTED, step, strict=True):
            collected[key].append(array)
    stacked = {key: np.stack(arrays, axis=1) for key, arrays in collected.items()}
    for key in ("value", "log_prob", "rewards", "draw_value", "draw_outcome", "draw_variance"):
        stacked[key] = stacked[key].astype(dtype)
    inputs = PolicyInputs(
        channels=np.concatenate([observations, np.stack(later[:steps], axis=1)], axis=1),
        valid=task.valid,
        choosable=task.manipulable,
        row_mask=attention_mask(observation_mask, steps),
    )
    return Trajectories(
        inputs=inputs,
        committed=committed,
        parents=problems.parents,
        parent_mask=parent_mask,
        fixed_std=fixed_std,
        **stacked,
    )


_COLLECTED = (
    "variable", "value", "log_prob", "rewards", "draw_variable", "draw_value", "draw_outcome", "draw_variance", "applied",
    "outcome",
)  # fmt: skip


def _simulate_each(problems: SCMBatch, committed: Array, scoring: Array, variable: Array, value: Array) -> Array:
    """(E, M, N, V) rows of N interventions (E, N) under each of M noise draws, `committed` (E, 1, V) the first."""
    noise = np.concatenate([committed, scoring], axis=1)
    draws, actions = noise.shape[1], variable.shape[1]
    rows = simulate(
        problems, np.repeat(noise, actions, axis=1), np.tile(variable, (1, draws)), np.tile(value, (1, draws))
    )
    return rows.reshape(len(rows), draws, actions, -1)


def draw_candidates(
    outputs: PolicyOutputs, gumbel: Array, normal: Array, fixed_std: float
) -> tuple[Array, Array, Array]:
    """G candidates (variable, value, log-prob), (E, G) each, from outputs of one decision.

    The Gumbel-max trick: argmax_i (logit_i + Gumbel_i) is a draw from softmax(logits) (Gumbel 1954). The value is
    mean + std * normal of the chosen variable.
    """
    variable = (outputs.logits + gumbel).argmax(axis=-1)  # logits (E, 1, V), gumbel (E, G, V)
    mean = np.take_along_axis(outputs.means[:, 0], variable, axis=1)
    std: Array | float = fixed_std
    if outputs.log_stds is not None:
        std = np.exp(np.take_along_axis(outputs.log_stds[:, 0], variable, axis=1))
    value = (mean + std * normal).astype(mean.dtype)
    log_prob, _ = grpo.log_prob_forward(outputs, variable[:, None], value[:, None], fixed_std)
    return variable, value, log_prob[:, 0]


def information_gain(
    params: Params,
    config: Config,
    decoder: Decoder,
    outputs: PolicyOutputs,
    candidates: Array,
    task: Task,
    parent_mask: Array,
) -> Array:
    """(E, G): entropy of the parent posterior now, minus after reading each candidate's row; nats."""
    before = grpo.parent_entropy(outputs.parent_logits[:, 0], parent_mask)
    after = []
    for g in range(candidates.shape[1]):
        row = candidates[:, g]
        peeked, _ = heads_forward(params, config.policy, decoder.peek(row)[:, None], task.manipulable, row[:, None])
        after.append(grpo.parent_entropy(peeked.parent_logits[:, 0], parent_mask))
    return np.asarray(before[:, None] - np.stack(after, axis=1))


def lowest_predicted(
    params: Params, hidden: Array, optimism: float, allowed: Array, grid: Array
) -> tuple[Array, Array]:
    """(variable, standard value), (E,) each, of the lowest mean - optimism * error that the outcome head predicts on a grid.

    A lower confidence bound, as GP-UCB (Srinivas et al. 2010, eq. 6) for a minimum.

    Args:
        hidden: (E, V, D/2 + 2), `outcome_hidden` of one decision.
        allowed: (E, V) bool.
        grid: standard values.
    """
    num_episodes, width, size = hidden.shape
    grid = grid.astype(hidden.dtype)
    shape = (num_episodes, width, grid.size)
    mean, log_error, _, _ = outcome_forward(
        params, np.broadcast_to(hidden[:, :, None], (*shape, size)), np.broadcast_to(grid, shape)
    )
    bound = np.where(allowed[:, :, None], mean - optimism * np.exp(log_error), np.inf)
    best = bound.reshape(num_episodes, -1).argmin(axis=1)
    return best // grid.size, grid[best % grid.size]


# --------------------------------------------------------------------------------- deciding, outside of training


@dataclass(frozen=True, eq=False)
class Decision:
    """What to do next in each of E systems, and why.

    Shapes: variable (E,); value (E,) raw, inside the domain; probability (E, V) of choosing each variable;
    parent_probability (E, V); outcome_mean, outcome_error, outcome_std (E,) raw: of the target under this very action, its
    expectation, the standard error of that estimate, and the standard deviation of the next measured outcome, which has
    both that error and the noise.
    """

    variable: Array
    value: Array
    probability: Array
    parent_probability: Array
    outcome_mean: Array
    outcome_error: Array
    outcome_std: Array


class Session:
    """E systems side by side, one row at a time: `decide`, do it, `observe` the row, and so on.

    Args:
        params, config: the policy.
        task: what is known before the first intervention.
        capacity: how many interventions will be observed at most.
    """

    def __init__(self, params: Params, config: Config, task: Task, capacity: int) -> None:
        self._params, self._config, self._task = params, config, task
        self._capacity, self._observed = capacity, 0
        self._dtype = params["embed.weight"].dtype
        self._reading = Reading(task, config.policy.evidence, self._dtype)
        self._location, self._scale = self._reading.location, self._reading.scale
        observations = self._reading.observations()
        self._decoder = Decoder(params, config.policy, observations, task.observation_mask, task.valid, capacity + 1)
        self._row = self._reading.start()
        self._h = self._decoder.append(self._row)

    def observe(self, variable: Array, rows: Array) -> None:
        """Read the measured rows (E, V), raw units, of interventions on `variable` (E,).

        Raises:
            ValueError: more rows than the session's capacity.
        """
        if self._observed == self._capacity:
            raise ValueError(f"the session was opened for {self._capacity} interventions")
        self._observed += 1
        self._row = self._reading.append(variable, rows)
        self._h = self._decoder.append(self._row)

    def decide(
        self,
        gumbel: Array | None = None,
        normal: Array | None = None,
        decision: str | None = None,
        optimism: float | None = None,
        allowed: Array | None = None,
    ) -> Decision:
        """The next action of each system.

        Args:
            gumbel, normal: (E, V) and (E,) for a sampled decision; None for the deterministic one.
            decision: "policy" or "surrogate"; default the configured one.
            optimism: standard errors that "surrogate" takes off; default the configured number. 0 is what it would settle on.
            allowed: (E, V) bool, the variables to choose from, some manipulable one in each system; None for all of those.
        """
        task, policy = self._task, self._config.policy
        allowed = task.manipulable if allowed is None else task.manipulable & allowed
        outputs, _ = heads_forward(self._params, policy, self._h[:, None], allowed, self._row[:, None])
        logits, means = outputs.logits[:, 0], outputs.means[:, 0]
        if (decision or self._config.decision) == "surrogate":
            optimism = self._config.optimism if optimism is None else optimism
            variable, standard = lowest_predicted(
                self._params, outputs.outcome_hidden[:, 0], optimism, allowed, SURROGATE_GRID
            )
        else:
            variable = logits.argmax(axis=1) if gumbel is None else (logits + gumbel).argmax(axis=1)
            standard = np.take_along_axis(means, variable[:, None], axis=1)[:, 0]
            if normal is not None:
                std: Array | float = policy.fixed_std
                if outputs.log_stds is not None:
                    std = np.exp(np.take_along_axis(outputs.log_stds[:, 0], variable[:, None], axis=1)[:, 0])
                standard = standard + std * normal
        standard = np.clip(standard, -HALF_WIDTH, HALF_WIDTH)
        each = np.arange(len(variable))
        hidden = outputs.outcome_hidden[each, 0, variable]
        mean, log_error, log_noise, _ = outcome_forward(self._params, hidden, standard)
        location, scale = self._location[each, task.target], self._scale[each, task.target]
        return Decision(
            variable=variable,
            value=to_domain(task, self._location, self._scale, variable, standard),
            probability=np.exp(grpo.log_softmax(logits)),
            parent_probability=grpo.sigmoid(outputs.parent_logits[:, 0]) * (task.valid & ~task.is_target),
            outcome_mean=location + scale * mean,
            outcome_error=scale * np.exp(log_error),
            outcome_std=scale * np.hypot(np.exp(log_error), np.exp(log_noise)),
        )
