"""Twin of acbo_ref/grpo/rollout.py: E whole episodes as one compiled function.

Letters: E episodes, O observational rows, K decisions, G candidates, P probes, N = G + P, M noise
draws, V variables.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from acbo_fast.jax.grpo import loss
from acbo_fast.jax.policy import decoder, heads, reading
from acbo_fast.jax.policy.evidence import Columns, Past, open_columns
from acbo_fast.jax.policy.inputs import attention_mask, standard_units
from acbo_fast.jax.policy.layers import Params, at_variable
from acbo_fast.jax.policy.session import lowest_predicted
from acbo_fast.jax.systems.batch import simulate
from acbo_ref.config import Config
from acbo_ref.grpo.loss import reward
from acbo_ref.grpo.rollout import EpisodeNoise, Trajectories
from acbo_ref.policy.heads import OutcomeState, PolicyOutputs
from acbo_ref.policy.inputs import HALF_WIDTH, OUTCOME_BOUND
from acbo_ref.policy.network import PolicyInputs
from acbo_ref.policy.session import ROLLOUT_GRID
from acbo_ref.systems.batch import SCMBatch


class Judged(NamedTuple):
    """See acbo_ref.grpo.rollout.Judged; raw_outcome (E, N) is the target under the first noise
    draw.
    """

    raw_value: Array
    rows: Array
    raw_outcome: Array
    outcome: Array
    variance: Array


def probe_actions(uniform: Array, choosable: Array) -> tuple[Array, Array]:
    """The j-th choosable variable and a value in [-5, 5] from uniforms (E, P, 2)."""
    count = choosable.sum(1, keepdims=True)
    rank = jnp.minimum(jnp.floor(uniform[..., 0] * count).astype(count.dtype), count - 1)
    # the variable whose number among the choosable ones is `rank`
    number = jnp.where(choosable, jnp.cumsum(choosable, axis=1) - 1, -1)
    variable = (number[:, None, :] == rank[..., None]).argmax(-1)
    return variable, HALF_WIDTH * (2 * uniform[..., 1] - 1)


def draw_candidates(
    outputs: PolicyOutputs[Array], gumbel: Array, normal: Array, fixed_std: Array
) -> tuple[Array, Array, Array]:
    """G candidates (variable, value, log-prob), (E, G) each; see
    acbo_ref.grpo.rollout.draw_candidates.
    """
    variable = (outputs.logits + gumbel).argmax(-1)
    std = fixed_std if outputs.log_stds is None else jnp.exp(at_variable(outputs.log_stds[:, 0], variable))
    value = at_variable(outputs.means[:, 0], variable) + std * normal
    return variable, value, loss.log_prob(outputs, variable[:, None], value[:, None], fixed_std)[:, 0]


def judge(
    systems: SCMBatch[Array], location: Array, scale: Array, draws: Array, variable: Array, value: Array
) -> Judged:
    """Play N actions on the same M noise draws (E, M, V); variable (E, N), value (E, N) standard,
    inside [-5, 5].
    """
    (num_episodes, num_draws), num_actions = draws.shape[:2], variable.shape[1]
    raw = at_variable(location, variable) + at_variable(scale, variable) * value
    rows = simulate(
        systems, jnp.repeat(draws, num_actions, 1), jnp.tile(variable, (1, num_draws)), jnp.tile(raw, (1, num_draws))
    )
    target = systems.target[:, None]
    outcome = jnp.take_along_axis(rows, target[:, None], axis=2)[..., 0]
    standard = (outcome - at_variable(location, target)) / at_variable(scale, target)
    bounded = jnp.clip(standard, -OUTCOME_BOUND, OUTCOME_BOUND).reshape(num_episodes, num_draws, num_actions)
    return Judged(raw, rows[:, :num_actions], outcome[:, :num_actions], bounded.mean(1), bounded.var(1))


class _Episodes:
    """What the steps of E episodes share."""

    def __init__(
        self,
        params: Params,
        config: Config,
        systems: SCMBatch[Array],
        observation_mask: Array,
        noise: EpisodeNoise[Array],
        fixed_std: Array,
    ) -> None:
        self.params, self.config, self.systems, self.fixed_std = params, config, systems, fixed_std
        self.by_outcome_head, self.observation_mask = noise.by_outcome_head, observation_mask
        num_models, self.num_obs, width = noise.observation.shape
        self.steps, self.group = noise.intervention.shape[1], noise.gumbel.shape[2]
        self.dtype = noise.observation.dtype
        is_target = jnp.arange(width) == systems.target[:, None]
        self.parent_mask = systems.valid & ~is_target
        nothing = jnp.full((num_models, self.num_obs), -1)
        observed = simulate(systems, noise.observation, nothing, jnp.zeros((num_models, self.num_obs), self.dtype))
        self.location, self.scale = standard_units(
            observed, observation_mask, is_target, systems.manipulable, systems.low, systems.high
        )
        self.committed = jnp.where(noise.by_outcome_head, self.group, 0)
        self.standard = jnp.where(observation_mask[:, :, None], self.in_standard_units(observed), 0)
        self.columns: Columns = open_columns(config.policy, self.standard, observation_mask, is_target, systems.valid)
        self.observations = reading.observation_row_channels(config.policy, self.standard, self.columns)

    def in_standard_units(self, rows: Array) -> Array:
        """Raw rows (E, N, V) in standard units, padding 0."""
        return jnp.where(self.systems.valid[:, None], (rows - self.location[:, None]) / self.scale[:, None], 0)

    def start(self) -> tuple[decoder.Cache, Past, Array]:
        """Cache and past after the observational rows, and the channels of the start row."""
        network = self.config.policy
        cache = decoder.read_observations(
            self.params, network, self.observations, self.observation_mask, self.systems.valid, self.steps + 1
        )
        past = reading.open_past(self.standard, self.observation_mask, self.steps)
        return cache, past, reading.start_row_channels(network, past, self.columns)

    def read(self, cache: decoder.Cache, step: Any, channels: Array) -> tuple[PolicyOutputs[Array], decoder.Cache]:
        """Heads after a new later row number `step`."""
        network, systems = self.config.policy, self.systems
        row, position = jnp.arange(self.num_obs + self.steps + 1), self.num_obs + step
        seen = jnp.pad(self.observation_mask, ((0, 0), (0, self.steps + 1)))
        readable = seen | ((row >= self.num_obs) & (row <= position))
        h, cache = decoder.read_row(self.params, network, cache, position, readable, systems.valid, channels)
        return heads.heads(self.params, network, h[:, None], systems.manipulable, channels[:, None]), cache

    def probes(self, outputs: PolicyOutputs[Array], uniform: Array) -> tuple[Array, Array]:
        """Uniform probes (E, P); where the outcome head decides, its decision takes the place of
        the first.
        """
        variable, value = probe_actions(uniform, self.systems.manipulable)
        if self.config.heads.commit_by_outcome_head == 0:
            return variable, value
        state = OutcomeState(*(array[:, 0] for array in outputs.outcome))
        grid, optimism = jnp.asarray(ROLLOUT_GRID, self.dtype), jnp.asarray(self.config.optimism, self.dtype)
        decided = lowest_predicted(self.params, state, optimism, self.systems.manipulable, grid)
        first = [
            probe.at[:, 0].set(jnp.where(self.by_outcome_head, best, probe[:, 0]))
            for probe, best in zip((variable, value), decided, strict=True)
        ]
        return first[0], first[1]

    def information_gain(
        self, cache: decoder.Cache, past: Past, step: Any, outputs: PolicyOutputs[Array], variable: Array, rows: Array
    ) -> Array:
        """(E, G), see acbo_ref.grpo.rollout.information_gain; rows (E, G, V) raw."""
        before = loss.parent_entropy(outputs.parent_logits[:, 0], self.parent_mask)
        network, position = self.config.policy, self.num_obs + step

        def after(candidate: tuple[Array, Array]) -> Array:
            extended = reading.append(past, position, *candidate)
            row = reading.newest_row_channels(network, extended, position, self.columns)
            peeked, _ = self.read(cache, step + 1, row)
            return loss.parent_entropy(peeked.parent_logits[:, 0], self.parent_mask)

        candidates = self.in_standard_units(rows).swapaxes(0, 1)
        return before[:, None] - jax.lax.map(after, (variable.T, candidates)).T

    def play(self, carry: tuple[decoder.Cache, Past, Array], x: tuple[Any, ...]) -> tuple[Any, Any]:
        """One step of every episode: (cache, past, channels of the newest row) -> the same, and
        what was played.
        """
        cache, past, channels = carry
        step, e, scoring, gumbel, normal, uniform = x
        outputs, cache = self.read(cache, step, channels)
        variable, value, log_prob = draw_candidates(outputs, gumbel, normal, self.fixed_std)
        probe_variable, probe_value = self.probes(outputs, uniform)
        judged_variable = jnp.concatenate([variable, probe_variable], 1)
        judged_value = jnp.clip(jnp.concatenate([value, probe_value], 1), -HALF_WIDTH, HALF_WIDTH)
        draws = jnp.concatenate([e[:, None], scoring], 1)
        judged = judge(self.systems, self.location, self.scale, draws, judged_variable, judged_value)
        gain = jnp.zeros_like(value)
        if self.config.reward.info_gain > 0:
            gain = self.information_gain(cache, past, step, outputs, variable, judged.rows[:, : self.group])
        is_parent = at_variable(self.systems.parents, variable)
        played = {
            "variable": variable,
            "value": value,
            "log_prob": log_prob,
            "rewards": reward(judged.outcome[:, : self.group], is_parent, gain, self.config.reward),
            "judged_variable": judged_variable,
            "judged_value": judged_value,
            "judged_outcome": judged.outcome,
            "judged_variance": judged.variance,
            "applied": at_variable(judged.raw_value, self.committed[:, None])[:, 0],
            "outcome": at_variable(judged.raw_outcome, self.committed[:, None])[:, 0],
        }
        row = jnp.take_along_axis(judged.rows, self.committed[:, None, None], axis=1)
        chosen, position = at_variable(judged_variable, self.committed[:, None])[:, 0], self.num_obs + step
        past = reading.append(past, position, chosen, self.in_standard_units(row)[:, 0])
        following = reading.newest_row_channels(self.config.policy, past, position, self.columns)
        return (cache, past, following), (channels, played)


def rollout(
    params: Params,
    config: Config,
    systems: SCMBatch[Array],
    observation_mask: Array,
    noise: EpisodeNoise[Array],
    fixed_std: Array,
) -> Trajectories[Array]:
    """Play E episodes with the current policy; see acbo_ref.grpo.rollout.rollout."""
    episodes = _Episodes(params, config, systems, observation_mask, noise, fixed_std)
    by_step = tuple(
        jnp.swapaxes(a, 0, 1) for a in (noise.intervention, noise.scoring, noise.gumbel, noise.normal, noise.probe)
    )
    _, records = jax.lax.scan(episodes.play, episodes.start(), (jnp.arange(episodes.steps), *by_step))
    later, played = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), records)
    return Trajectories(
        inputs=PolicyInputs(
            jnp.concatenate([episodes.observations, later], axis=1),
            systems.valid,
            systems.manipulable,
            attention_mask(observation_mask, episodes.steps),
        ),
        committed=episodes.committed,
        parents=systems.parents,
        parent_mask=episodes.parent_mask,
        fixed_std=fixed_std,
        **played,
    )
