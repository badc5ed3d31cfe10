"""Twin of acbo_ref/rollout.py: E whole episodes as one compiled function, and deciding step by step.

Letters: E episodes, O observational rows, K decisions, G candidates, P probes, N = G + P, V variables.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from acbo_fast.jax import evidence, grpo, policy
from acbo_fast.jax.history import attention_mask, standard_units
from acbo_fast.jax.scm import Problems, simulate
from acbo_ref.config import Config, PolicyConfig
from acbo_ref.history import HALF_WIDTH, OUTCOME_BOUND
from acbo_ref.rollout import COMMIT_GRID


class Noise(NamedTuple):
    """See acbo_ref.rollout.EpisodeNoise."""

    observation: Array
    intervention: Array
    scoring: Array
    gumbel: Array
    normal: Array
    probe: Array


class Trajectories(NamedTuple):
    """See acbo_ref.rollout.Trajectories."""

    inputs: policy.Inputs
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
    fixed_std: Array


def at_variable(per_variable: Array, variable: Array) -> Array:
    """(E, V) at variable (E, N) -> (E, N)."""
    return jnp.take_along_axis(per_variable, variable, axis=1)


def probe_actions(uniform: Array, choosable: Array) -> tuple[Array, Array]:
    """The j-th choosable variable and a value in [-5, 5] from uniforms (E, P, 2)."""
    count = choosable.sum(1, keepdims=True)
    rank = jnp.minimum(jnp.floor(uniform[..., 0] * count).astype(count.dtype), count - 1)
    # the variable whose number among the choosable ones is `rank`
    number = jnp.where(choosable, jnp.cumsum(choosable, axis=1) - 1, -1)
    variable = (number[:, None, :] == rank[..., None]).argmax(-1)
    return variable, HALF_WIDTH * (2 * uniform[..., 1] - 1)


def rollout(
    params: policy.Params,
    config: Config,
    problems: Problems,
    observation_mask: Array,
    noise: Noise,
    by_surrogate: Array,
    fixed_std: Array,
) -> Trajectories:
    """Play E episodes with the current policy; see acbo_ref.rollout.rollout. `by_surrogate` (E,): its commit_by_surrogate."""
    network = config.policy
    dtype = noise.observation.dtype
    num_models, num_obs, width = noise.observation.shape
    steps, group = noise.intervention.shape[1], noise.gumbel.shape[2]
    is_target = jnp.arange(width) == problems.target[:, None]
    valid, choosable = problems.valid, problems.manipulable
    parent_mask = valid & ~is_target

    nothing = jnp.full((num_models, num_obs), -1)
    observed = simulate(problems, noise.observation, nothing, jnp.zeros((num_models, num_obs), dtype))
    location, scale = standard_units(observed, observation_mask, is_target, choosable, problems.low, problems.high)

    share = config.surrogate.commit_share
    committed = jnp.where(by_surrogate, group, 0)

    def in_standard_units(rows: Array) -> Array:
        return jnp.where(valid[:, None], (rows - location[:, None]) / scale[:, None], 0)

    standard_observations = jnp.where(observation_mask[:, :, None], in_standard_units(observed), 0)
    columns = evidence.open_columns(network, standard_observations, observation_mask, is_target, valid)
    observations = evidence.observation_row_channels(network, standard_observations, columns)
    cache = policy.read_observations(params, network, observations, observation_mask, valid, steps + 1)
    row_index = jnp.arange(num_obs + steps + 1)
    seen = jnp.pad(observation_mask, ((0, 0), (0, steps + 1)))

    def read(cache: policy.Cache, step: Any, channels: Array) -> tuple[policy.Outputs, policy.Cache]:
        """Heads after a new later row number `step`."""
        position = num_obs + step
        readable = seen | ((row_index >= num_obs) & (row_index <= position))
        h, cache = policy.read_row(params, network, cache, position, readable, valid, channels)
        return policy.heads(params, network, h[:, None], choosable, channels[:, None]), cache

    def play(carry: tuple[policy.Cache, evidence.Past, Array], x: tuple[Any, ...]) -> tuple[Any, Any]:
        cache, past, channels = carry
        step, e, scoring, gumbel, normal, uniform = x
        outputs, cache = read(cache, step, channels)
        variable = (outputs.logits + gumbel).argmax(-1)
        std = fixed_std if outputs.log_stds is None else jnp.exp(at_variable(outputs.log_stds[:, 0], variable))
        value = at_variable(outputs.means[:, 0], variable) + std * normal
        log_prob = grpo.log_prob(outputs, variable[:, None], value[:, None], fixed_std)[:, 0]
        probe_variable, probe_value = probe_actions(uniform, choosable)
        if share > 0:
            hidden = outputs.outcome_hidden[:, 0]
            grid, optimism = jnp.asarray(COMMIT_GRID, dtype), jnp.asarray(config.optimism, dtype)
            decided = lowest_predicted(params, hidden, optimism, choosable, grid)
            probe_variable, probe_value = (
                probes.at[:, 0].set(jnp.where(by_surrogate, best, probes[:, 0]))
                for probes, best in zip((probe_variable, probe_value), decided, strict=True)
            )
        draw_variable = jnp.concatenate([variable, probe_variable], 1)
        draw_value = jnp.clip(jnp.concatenate([value, probe_value], 1), -HALF_WIDTH, HALF_WIDTH)
        raw = at_variable(location, draw_variable) + at_variable(scale, draw_variable) * draw_value
        draws, actions = 1 + scoring.shape[1], draw_variable.shape[1]
        each_noise = jnp.repeat(jnp.concatenate([e[:, None], scoring], 1), actions, 1)
        rows = simulate(problems, each_noise, jnp.tile(draw_variable, (1, draws)), jnp.tile(raw, (1, draws)))
        outcome = jnp.take_along_axis(rows, problems.target[:, None, None], axis=2)[..., 0]
        target = problems.target[:, None]
        standard = (outcome - at_variable(location, target)) / at_variable(scale, target)
        outcomes = jnp.clip(standard, -OUTCOME_BOUND, OUTCOME_BOUND).reshape(num_models, draws, actions)
        draw_outcome, draw_variance = outcomes.mean(1), outcomes.var(1)
        chosen = committed[:, None]
        weights = config.reward
        rewards = weights.target * -draw_outcome[:, :group] / 5
        rewards = rewards + weights.parent * at_variable(problems.parents, variable)
        if weights.info_gain > 0:
            before = grpo.parent_entropy(outputs.parent_logits[:, 0], parent_mask)

            def after(candidate: tuple[Array, Array]) -> Array:
                extended = evidence.append(past, num_obs + step, *candidate)
                row = evidence.newest_row_channels(network, extended, num_obs + step, columns)
                peeked, _ = read(cache, step + 1, row)
                return grpo.parent_entropy(peeked.parent_logits[:, 0], parent_mask)

            candidates = in_standard_units(rows[:, :group])
            gain = before[:, None] - jax.lax.map(after, (variable.T, candidates.swapaxes(0, 1))).T
            rewards = rewards + weights.info_gain * gain
        record = (
            channels, variable, value, log_prob, rewards, draw_variable, draw_value, draw_outcome, draw_variance,
            at_variable(raw, chosen)[:, 0], at_variable(outcome, chosen)[:, 0],
        )  # fmt: skip
        row = in_standard_units(jnp.take_along_axis(rows, chosen[..., None], axis=1))[:, 0]
        past = evidence.append(past, num_obs + step, at_variable(draw_variable, chosen)[:, 0], row)
        return (cache, past, evidence.newest_row_channels(network, past, num_obs + step, columns)), record

    by_step = tuple(
        jnp.swapaxes(a, 0, 1) for a in (noise.intervention, noise.scoring, noise.gumbel, noise.normal, noise.probe)
    )
    past = evidence.open_past(standard_observations, observation_mask, steps)
    start = evidence.start_row_channels(network, past, columns)
    _, records = jax.lax.scan(play, (cache, past, start), (jnp.arange(steps), *by_step))
    later, *rest = (jnp.swapaxes(a, 0, 1) for a in records)
    variable, value, log_prob, rewards, draw_variable, draw_value, draw_outcome, draw_variance, applied, outcome = rest
    inputs = policy.Inputs(
        jnp.concatenate([observations, later], axis=1), valid, choosable, attention_mask(observation_mask, steps)
    )
    return Trajectories(
        inputs, variable, value, log_prob, rewards, draw_variable, draw_value, draw_outcome, draw_variance,
        committed, problems.parents, parent_mask, applied, outcome, fixed_std,
    )  # fmt: skip


def lowest_predicted(
    params: policy.Params, hidden: Array, optimism: Array, allowed: Array, grid: Array
) -> tuple[Array, Array]:
    """See acbo_ref.rollout.lowest_predicted."""
    num_episodes, width, _ = hidden.shape
    values = jnp.broadcast_to(grid, (num_episodes, width, grid.size))
    mean, log_error, _ = policy.outcome(params, hidden[:, :, None], values)
    bound = jnp.where(allowed[:, :, None], mean - optimism * jnp.exp(log_error), jnp.inf)
    best = bound.reshape(num_episodes, -1).argmin(1)
    return best // grid.size, grid[best % grid.size]


# --------------------------------------------------------------------------------- deciding, outside of training


class Known(NamedTuple):
    """A task on the device: what deciding needs besides the caches."""

    observation_mask: Array
    is_target: Array
    valid: Array


class Read(NamedTuple):
    """Where a session stands: what is known of the variables, caches, the rows read, and of the newest its channels (E, V, C)
    and h (E, V, D)."""

    columns: evidence.Columns
    cache: policy.Cache
    past: evidence.Past
    row: Array
    h: Array


@partial(jax.jit, static_argnames=("network", "capacity"))
def open_session(
    params: policy.Params, network: PolicyConfig, observations: Array, known: Known, capacity: int
) -> Read:
    """State after the observational rows (standard units, padded to a fixed number) and the start row."""
    columns = evidence.open_columns(network, observations, known.observation_mask, known.is_target, known.valid)
    channels = evidence.observation_row_channels(network, observations, columns)
    cache = policy.read_observations(params, network, channels, known.observation_mask, known.valid, capacity + 1)
    past = evidence.open_past(observations, known.observation_mask, capacity)
    start = evidence.start_row_channels(network, past, columns)
    h, cache = _append(params, network, known, cache, 0, start)
    return Read(columns, cache, past, start, h)


def _append(
    params: policy.Params, network: PolicyConfig, known: Known, cache: policy.Cache, step: Any, channels: Array
) -> tuple[Array, policy.Cache]:
    num_obs = known.observation_mask.shape[1]
    rows = cache["1.k"].shape[2]
    row_index = jnp.arange(rows)
    seen = jnp.pad(known.observation_mask, ((0, 0), (0, rows - num_obs)))
    readable = seen | ((row_index >= num_obs) & (row_index <= num_obs + step))
    return policy.read_row(params, network, cache, num_obs + step, readable, known.valid, channels)


@partial(jax.jit, static_argnames=("network",), donate_argnames=("read",))
def observe(
    params: policy.Params,
    network: PolicyConfig,
    known: Known,
    read: Read,
    step: Array,
    variable: Array,
    rows: Array,
) -> Read:
    """State after the rows (E, V), standard units, of intervention number `step` (from 1)."""
    position = known.observation_mask.shape[1] + step - 1
    past = evidence.append(read.past, position, variable, rows)
    channels = evidence.newest_row_channels(network, past, position, read.columns)
    h, cache = _append(params, network, known, read.cache, step, channels)
    return Read(read.columns, cache, past, channels, h)


class Decided(NamedTuple):
    """See acbo_ref.rollout.Decision; value, outcome_mean, outcome_error and outcome_std in standard units."""

    variable: Array
    value: Array
    probability: Array
    parent_probability: Array
    outcome_mean: Array
    outcome_error: Array
    outcome_std: Array


@partial(jax.jit, static_argnames=("network", "by_surrogate"))
def decide(
    params: policy.Params,
    network: PolicyConfig,
    known: Known,
    row: Array,
    h: Array,
    gumbel: Array,
    normal: Array,
    grid: Array,
    optimism: Array,
    allowed: Array,
    by_surrogate: bool,
) -> Decided:
    """The next action of each system; zero gumbel and normal make it deterministic."""
    outputs = policy.heads(params, network, h[:, None], allowed, row[:, None])
    logits, hidden = outputs.logits[:, 0], outputs.outcome_hidden[:, 0]
    if by_surrogate:
        variable, standard = lowest_predicted(params, hidden, optimism, allowed, grid)
    else:
        variable = (logits + gumbel).argmax(1)
        std: Any = network.fixed_std
        if outputs.log_stds is not None:
            std = jnp.exp(at_variable(outputs.log_stds[:, 0], variable[:, None])[:, 0])
        standard = at_variable(outputs.means[:, 0], variable[:, None])[:, 0] + std * normal
    standard = jnp.clip(standard, -HALF_WIDTH, HALF_WIDTH)
    chosen = variable[:, None]
    mean, log_error, log_noise = policy.outcome(
        params, jnp.take_along_axis(hidden, chosen[..., None], axis=1)[:, 0], standard
    )
    return Decided(
        variable=variable,
        value=standard,
        probability=jax.nn.softmax(logits),
        parent_probability=jax.nn.sigmoid(outputs.parent_logits[:, 0]) * (known.valid & ~known.is_target),
        outcome_mean=mean,
        outcome_error=jnp.exp(log_error),
        outcome_std=jnp.hypot(jnp.exp(log_error), jnp.exp(log_noise)),
    )
