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
from acbo_fast.jax.policy import decoder, heads, local, reading
from acbo_fast.jax.policy.inputs import attention_mask, standard_units
from acbo_fast.jax.policy.layers import Params, at_variable
from acbo_fast.jax.policy.session import lowest_predicted, seen
from acbo_fast.jax.systems.batch import causes, simulate
from acbo_ref.config import Config
from acbo_ref.grpo.loss import label_weights, reward
from acbo_ref.grpo.rollout import LEARNED, EpisodeNoise, Trajectories
from acbo_ref.policy.decoder import Thought
from acbo_ref.policy.heads import OutcomeState, PolicyOutputs
from acbo_ref.policy.inputs import HALF_WIDTH, OUTCOME_BOUND, Units
from acbo_ref.policy.local import OwnRows, Tried
from acbo_ref.policy.moments import Moments
from acbo_ref.policy.network import PolicyInputs, reads_pairs
from acbo_ref.policy.reading import View
from acbo_ref.policy.session import ROLLOUT_GRID
from acbo_ref.systems.batch import SCMBatch, target_parents


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


def judge(systems: SCMBatch[Array], units: Units[Array], draws: Array, variable: Array, value: Array) -> Judged:
    """Play N actions on the same M noise draws (E, M, V); variable (E, N), value (E, N) standard,
    inside [-5, 5].
    """
    (num_episodes, num_draws), num_actions = draws.shape[:2], variable.shape[1]
    location, scale = units.location, units.scale
    raw = at_variable(location, variable) + at_variable(scale, variable) * value
    rows = simulate(
        systems, jnp.repeat(draws, num_actions, 1), jnp.tile(variable, (1, num_draws)), jnp.tile(raw, (1, num_draws))
    )
    target = systems.target[:, None]
    outcome = jnp.take_along_axis(rows, target[:, None], axis=2)[..., 0]
    standard = (outcome - at_variable(location, target)) / at_variable(scale, target)
    bounded = jnp.clip(standard, -OUTCOME_BOUND, OUTCOME_BOUND).reshape(num_episodes, num_draws, num_actions)
    return Judged(raw, rows[:, :num_actions], outcome[:, :num_actions], bounded.mean(1), bounded.var(1))


class State(NamedTuple):
    """Where episodes stand: caches of the trunk over rows, moments of that over pairs, the view at
    the next decision, and own outcomes (with no places over rows).
    """

    cache: decoder.Cache
    moments: Moments[Array] | None
    view: View[Array]
    own: OwnRows[Array]


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
        self.optimism = noise.optimism
        num_models, self.num_obs, width = noise.observation.shape
        self.steps, self.group = noise.intervention.shape[1], noise.gumbel.shape[2]
        self.dtype = noise.observation.dtype
        is_target = jnp.arange(width) == systems.target[:, None]
        self.parent_mask = systems.valid & ~is_target
        nothing = jnp.full((num_models, self.num_obs), -1)
        self.observed = simulate(systems, noise.observation, nothing, jnp.zeros((num_models, self.num_obs), self.dtype))
        self.units = standard_units(
            self.observed, observation_mask, is_target, systems.manipulable, systems.low, systems.high
        )
        self.committed, self.learned = jnp.where(noise.by_outcome_head, self.group, 0), noise.learned
        known = reading.Known(systems.target, systems.valid, systems.manipulable, self.units, None)
        self.known, self.moments, self.first_view = reading.open_reading(
            config.policy, known, self.observed, observation_mask
        )

    def start(self) -> State:
        """Before the first decision."""
        network, cache = self.config.policy, {}
        if not reads_pairs(network):
            cache = decoder.read_observations(
                self.params, network, self.observations(), self.observation_mask, self.systems.valid, self.steps + 1
            )
        places = self.steps - 1 if reads_pairs(network) else 0
        num_episodes, width = self.systems.valid.shape
        own = local.no_own_rows(num_episodes, places, width, self.dtype)
        return State(cache, self.moments, self.first_view, own)

    def observations(self) -> Array:
        """(E, O, V, C) of the observational rows."""
        return reading.observation_row_channels(self.known, self.observed, self.observation_mask)

    def read(
        self, cache: decoder.Cache, step: Any, view: View[Array]
    ) -> tuple[PolicyOutputs[Array], Thought[Array], decoder.Cache]:
        """Heads and trunk at decision number `step`."""
        network, systems = self.config.policy, self.systems
        thought, cache = decoder.read_view(
            self.params, network, cache, step, view.channels, self.observation_mask, systems.valid, systems.target
        )
        outputs = heads.heads(self.params, network, thought.h[:, None], systems.manipulable, view.evidence[:, None])
        return outputs, thought, cache

    def probes(self, outputs: PolicyOutputs[Array], tried: Tried[Array], uniform: Array) -> tuple[Array, Array]:
        """Uniform probes (E, P); where the outcome head decides, its decision takes the place of
        the first.
        """
        variable, value = probe_actions(uniform, self.systems.manipulable)
        if self.config.heads.commit_by_outcome_head == 0:
            return variable, value
        state = OutcomeState(*(array[:, 0] for array in outputs.outcome))
        grid = jnp.asarray(ROLLOUT_GRID, self.dtype)
        decided = lowest_predicted(self.params, state, tried, self.optimism, self.systems.manipulable[:, :, None], grid)
        first = [
            probe.at[:, 0].set(jnp.where(self.by_outcome_head, best, probe[:, 0]))
            for probe, best in zip((variable, value), decided, strict=True)
        ]
        return first[0], first[1]

    def weights(self, outputs: PolicyOutputs[Array], tried: Tried[Array], variable: Array, value: Array) -> Array:
        """(E, N) weights of the labels of judged actions."""
        state = OutcomeState(*(array[:, 0] for array in outputs.outcome))
        log_error = local.predict(self.params, state, tried, variable, value).log_error
        return label_weights(log_error, self.config.heads.label_weight, jnp.exp)

    def information_gain(
        self, state: State, step: Any, outputs: PolicyOutputs[Array], variable: Array, rows: Array
    ) -> Array:
        """(E, G), see acbo_ref.grpo.rollout.information_gain; rows (E, G, V) raw."""
        before = loss.parent_entropy(outputs.parent_logits[:, 0], self.parent_mask)

        def after(candidate: tuple[Array, Array]) -> Array:
            _, view = reading.append(self.known, state.moments, *candidate)
            peeked, _, _ = self.read(state.cache, step + 1, view)
            return loss.parent_entropy(peeked.parent_logits[:, 0], self.parent_mask)

        return before[:, None] - jax.lax.map(after, (variable.T, rows.swapaxes(0, 1))).T

    def play(
        self, state: State, x: tuple[Any, ...]
    ) -> tuple[State, tuple[View[Array], Tried[Array], dict[str, Array]]]:
        """One step of every episode, the view and the own outcomes that it was decided on, and what
        was played.
        """
        step, e, scoring, gumbel, normal, uniform = x
        outputs, thought, cache = self.read(state.cache, step, state.view)
        tried = seen(state.own, thought, state.view.evidence)
        state = state._replace(cache=cache)
        variable, value, log_prob = draw_candidates(outputs, gumbel, normal, self.fixed_std)
        probe_variable, probe_value = self.probes(outputs, tried, uniform)
        judged_variable = jnp.concatenate([variable, probe_variable], 1)
        judged_value = jnp.clip(jnp.concatenate([value, probe_value], 1), -HALF_WIDTH, HALF_WIDTH)
        draws = jnp.concatenate([e[:, None], scoring], 1)
        judged = judge(self.systems, self.units, draws, judged_variable, judged_value)
        gain = jnp.zeros_like(value)
        if self.config.reward.info_gain > 0:
            gain = self.information_gain(state, step, outputs, variable, judged.rows[:, : self.group])
        is_parent = at_variable(target_parents(self.systems), variable)
        chosen, raw_value, raw_outcome, expected = (
            at_variable(array, self.committed[:, None])[:, 0]
            for array in (judged_variable, judged.raw_value, judged.raw_outcome, judged.outcome)
        )
        played = {
            "variable": variable,
            "value": value,
            "log_prob": log_prob,
            "rewards": reward(judged.outcome[:, : self.group], is_parent, gain, self.config.reward),
            "judged_variable": judged_variable,
            "judged_value": judged_value,
            "judged_outcome": judged.outcome,
            "judged_variance": judged.variance,
            "judged_weight": self.weights(outputs, tried, judged_variable, judged_value),
            "done": chosen,
            "applied": raw_value,
            "outcome": raw_outcome,
            "expected": expected,
        }
        row = jnp.take_along_axis(judged.rows, self.committed[:, None, None], axis=1)[:, 0]
        moments, following = reading.append(self.known, state.moments, chosen, row)
        own = state.own
        if thought.cause_logits is not None:
            is_target = self.systems.valid & ~self.parent_mask
            own = local.own_row_added(own, step, self.units, self.systems.valid, is_target, chosen, row)
        return State(cache, moments, following, own), (state.view, tried, played)

    def inputs(self, views: View[Array]) -> PolicyInputs[Array]:
        """What the network reads in one pass; see acbo_ref.policy.reading."""
        systems, channels, evidence = self.systems, *views
        if reads_pairs(self.config.policy):
            channels, evidence = (self.at_learned(array) for array in (channels, evidence))
            mask = jnp.zeros((len(systems.target), 0, 0), bool)
        else:
            channels = jnp.concatenate([self.observations(), channels], axis=1)
            mask = attention_mask(self.observation_mask, self.steps)
        return PolicyInputs(channels, evidence, systems.valid, systems.manipulable, systems.target, mask)

    def at_learned(self, array: Array) -> Array:
        """(E, K, ...) -> (E, K', ...)"""
        return jax.vmap(lambda a, index: a[index])(array, self.learned)


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
    views, tried, played = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), records)
    tried = Tried(*map(episodes.at_learned, tried)) if reads_pairs(config.policy) else tried
    played |= {name: episodes.at_learned(played[name]) for name in LEARNED}
    return Trajectories(
        inputs=episodes.inputs(views),
        tried=tried,
        committed=episodes.committed,
        parents=target_parents(systems),
        causes=causes(systems.edges),
        parent_mask=episodes.parent_mask,
        learned=noise.learned,
        fixed_std=fixed_std,
        **played,
    )
