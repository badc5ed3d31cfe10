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
from acbo_fast.jax.policy.acquisition import lowest_predicted, predict_on_grid
from acbo_fast.jax.policy.extrapolation import seen_at_first
from acbo_fast.jax.policy.inputs import attention_mask, standard_units
from acbo_fast.jax.policy.layers import Params, at_variable
from acbo_fast.jax.policy.session import own_so_far
from acbo_fast.jax.systems.batch import causes, simulate
from acbo_ref.config import Config
from acbo_ref.grpo.credit import answered_for, outcome_to_go, reward
from acbo_ref.grpo.loss import label_weights
from acbo_ref.grpo.noise import EpisodeNoise
from acbo_ref.grpo.rollout import LEARNED, Look, Trajectories
from acbo_ref.policy.acquisition import ROLLOUT_GRID, ROLLOUT_STEP, acquisition_features, hopeful, optimism_now
from acbo_ref.policy.extrapolation import Seen, reach, seen_with, within
from acbo_ref.policy.inputs import HALF_WIDTH, OUTCOME_BOUND, Units
from acbo_ref.policy.local import OwnRows, Tried
from acbo_ref.policy.moments import Moments
from acbo_ref.policy.network import PolicyInputs, reads_pairs
from acbo_ref.policy.reading import View
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
    logits: Array, means: Array, log_stds: Array | None, gumbel: Array, normal: Array, fixed_std: Array
) -> tuple[Array, Array, Array]:
    """G candidates (variable, value, log-prob), (E, G) each; see
    acbo_ref.grpo.rollout.draw_candidates.
    """
    variable = (logits + gumbel).argmax(-1)
    std = fixed_std if log_stds is None else jnp.exp(at_variable(log_stds[:, 0], variable))
    value = at_variable(means[:, 0], variable) + std * normal
    log_prob = loss.log_prob(logits, means, log_stds, variable[:, None], value[:, None], fixed_std)
    return variable, value, log_prob[:, 0]


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
    the next decision, own outcomes (with no places over rows), and what was seen of each variable.
    """

    cache: decoder.Cache
    moments: Moments[Array] | None
    view: View[Array]
    own: OwnRows[Array]
    seen: Seen[Array]


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
        self.optimism, self.budget = noise.optimism, noise.budget
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
        places = self.steps if reads_pairs(network) else 0  # a peek may read the last row, too
        num_episodes, width = self.systems.valid.shape
        own = local.no_own_rows(num_episodes, places, width, self.dtype)
        seen = seen_at_first(self.observed, self.observation_mask, self.units, self.config.extrapolation)
        return State(cache, self.moments, self.first_view, own, seen)

    def observations(self) -> Array:
        """(E, O, V, C) of the observational rows."""
        return reading.observation_row_channels(self.known, self.observed, self.observation_mask)

    def read(self, state: State, step: Any) -> tuple[Look[Array], decoder.Cache]:
        """What is known at decision number `step`, see acbo_ref.grpo.rollout.Look."""
        network, systems, view = self.config.policy, self.systems, state.view
        thought, cache = decoder.read_view(
            self.params, network, state.cache, step, view.channels, self.observation_mask, systems.valid, systems.target
        )
        tried, grid = own_so_far(state.own, thought, view.evidence), jnp.asarray(ROLLOUT_GRID, self.dtype)
        outcome = heads.outcome_state(self.params, thought.h, view.evidence)
        near = systems.manipulable[:, :, None] & within(state.seen, grid, jnp)
        predicted = predict_on_grid(self.params, outcome, tried, grid)
        ends = reach(state.seen, ROLLOUT_STEP, jnp)
        good = hopeful(predicted, near, self.observation_mask.sum(1) > 1, jnp)
        return Look(thought.h, outcome, tried, predicted, good, *ends), cache

    def with_row(self, state: State, step: Any, variable: Array, row: Array) -> State:
        """After the raw rows (E, V) in which `variable` (E,) was set in step `step`."""
        moments, view = reading.append(self.known, state.moments, variable, row)
        own = state.own
        if reads_pairs(self.config.policy):
            is_target = self.systems.valid & ~self.parent_mask
            own = local.own_row_added(own, step, self.units, self.systems.valid, is_target, variable, row)
        was_set = jnp.arange(row.shape[1]) == variable[:, None]
        return State(state.cache, moments, view, own, seen_with(state.seen, self.units, was_set, row, jnp))

    def settled(self, draws: Array, now: Look[Array]) -> Array:
        """(E,) see acbo_ref.grpo.rollout.settled_outcome."""
        variable, value = lowest_predicted(now.predicted, 0.0, now.good, jnp.asarray(ROLLOUT_GRID, self.dtype))
        return judge(self.systems, self.units, draws, variable[:, None], value[:, None]).outcome[:, 0]

    def probes(self, now: Look[Array], uniform: Array) -> tuple[Array, Array]:
        """Uniform probes (E, P); where the outcome head decides, its decision takes the place of
        the first.
        """
        variable, value = probe_actions(uniform, self.systems.manipulable)
        if self.config.heads.commit_by_outcome_head == 0:
            return variable, value
        decided = lowest_predicted(now.predicted, self.optimism, now.good, jnp.asarray(ROLLOUT_GRID, self.dtype))
        first = [
            probe.at[:, 0].set(jnp.where(self.by_outcome_head, best, probe[:, 0]))
            for probe, best in zip((variable, value), decided, strict=True)
        ]
        return first[0], first[1]

    def weights(self, now: Look[Array], variable: Array, value: Array) -> Array:
        """(E, N) weights of the labels of judged actions."""
        log_error = local.predict(self.params, now.outcome, now.tried, variable, value).log_error
        return label_weights(log_error, self.config.heads.label_weight, jnp.exp)

    def peeks(
        self, state: State, step: Any, draws: Array, h: Array, variable: Array, rows: Array
    ) -> tuple[Array, Array]:
        """What is settled on after each candidate's row (E, G, V), and how much it tells of the
        parents, (E, G) each; 0 where the config does not ask.
        """

        def after(candidate: tuple[Array, Array]) -> tuple[Array, Array]:
            peeked, _ = self.read(self.with_row(state, step, *candidate), step + 1)
            entropy = loss.parent_entropy(heads.parents(self.params, peeked.h), self.parent_mask)
            return self.settled(draws, peeked), entropy

        if self.config.grpo.credit != "settle" and self.config.reward.info_gain == 0:
            return jnp.zeros(variable.shape, self.dtype), jnp.zeros(variable.shape, self.dtype)
        settled, entropy = jax.lax.map(after, (variable.T, rows.swapaxes(0, 1)))
        before = loss.parent_entropy(heads.parents(self.params, h), self.parent_mask)
        return settled.T, before[:, None] - entropy.T

    def play(
        self, state: State, x: tuple[Any, ...]
    ) -> tuple[State, tuple[View[Array], Array, Tried[Array], dict[str, Array]]]:
        """One step of every episode; what it was decided on (the view, the acquisition features and
        own outcomes), and what was played.
        """
        step, e, scoring, gumbel, normal, uniform = x
        config = self.config
        now, cache = self.read(state, step)
        state = state._replace(cache=cache)
        left = jnp.maximum(self.budget - step - 1, 0).astype(self.dtype)
        acquisition = jnp.zeros((*now.h.shape[:2], 0), self.dtype)
        if reads_pairs(config.policy):
            acquisition = acquisition_features(
                now.predicted, optimism_now(config.optimism, left, jnp), now.good, ROLLOUT_GRID, left, jnp
            )
        policy = heads.policy_head(
            self.params, config.policy, now.h[:, None], self.systems.manipulable, acquisition[:, None]
        )
        variable, value, log_prob = draw_candidates(*policy, gumbel, normal, self.fixed_std)
        probe_variable, probe_value = self.probes(now, uniform)
        judged_variable = jnp.concatenate([variable, probe_variable], 1)
        kept = jnp.clip(value, *(at_variable(end, variable) for end in (now.low, now.high)))
        judged_value = jnp.concatenate([kept, probe_value], 1)
        draws = jnp.concatenate([e[:, None], scoring], 1)
        judged = judge(self.systems, self.units, draws, judged_variable, judged_value)
        settled, gain = self.peeks(state, step, draws, now.h, variable, judged.rows[:, : self.group])
        answers = judged.outcome[:, : self.group]
        if config.grpo.credit == "settle":
            answers = answered_for(answers, settled, left[:, None], config.grpo.objective)
        is_parent = at_variable(target_parents(self.systems), variable)
        chosen, raw_value, raw_outcome, expected = (
            at_variable(array, self.committed[:, None])[:, 0]
            for array in (judged_variable, judged.raw_value, judged.raw_outcome, judged.outcome)
        )
        row = jnp.take_along_axis(judged.rows, self.committed[:, None, None], axis=1)[:, 0]
        view, state = state.view, self.with_row(state, step, chosen, row)
        after = jnp.zeros_like(expected)
        if (config.grpo.credit, config.grpo.objective) == ("episode", "final"):
            after = self.settled(draws, self.read(state, step + 1)[0])
        played = {
            "variable": variable,
            "value": value,
            "log_prob": log_prob,
            "answers": answers,
            "is_parent": is_parent,
            "info_gain": gain,
            "settled_after": after,
            "judged_variable": judged_variable,
            "judged_value": judged_value,
            "judged_outcome": judged.outcome,
            "judged_variance": judged.variance,
            "judged_weight": self.weights(now, judged_variable, judged_value),
            "done": chosen,
            "applied": raw_value,
            "outcome": raw_outcome,
            "expected": expected,
        }
        before = Tried(*(array[:, : self.steps - 1] for array in now.tried))
        return state, (view, acquisition, before, played)

    def rewards(self, played: dict[str, Array]) -> Array:
        """(E, K, G), see acbo_ref.grpo.rollout."""
        answers = played["answers"]
        if self.config.grpo.credit == "episode":
            to_go = outcome_to_go(
                played["expected"], played["settled_after"], self.budget, self.config.grpo.objective, jnp
            )
            answers = to_go[:, :, None]
        return reward(answers, played["is_parent"], played["info_gain"], self.config.reward)

    def inputs(self, views: View[Array], acquisition: Array) -> PolicyInputs[Array]:
        """What the network reads in one pass; see acbo_ref.policy.reading."""
        systems, channels, evidence = self.systems, *views
        if reads_pairs(self.config.policy):
            channels, evidence, acquisition = map(self.at_learned, (channels, evidence, acquisition))
            mask = jnp.zeros((len(systems.target), 0, 0), bool)
        else:
            channels = jnp.concatenate([self.observations(), channels], axis=1)
            mask = attention_mask(self.observation_mask, self.steps)
        return PolicyInputs(channels, evidence, acquisition, systems.valid, systems.manipulable, systems.target, mask)

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
    views, acquisition, tried, played = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), records)
    tried = Tried(*map(episodes.at_learned, tried)) if reads_pairs(config.policy) else tried
    played["rewards"] = episodes.rewards(played)
    played = {name: played[name] for name in (*LEARNED, "done", "applied", "outcome", "expected")}
    played |= {name: episodes.at_learned(played[name]) for name in LEARNED}
    return Trajectories(
        inputs=episodes.inputs(views, acquisition),
        tried=tried,
        committed=episodes.committed,
        parents=target_parents(systems),
        causes=causes(systems.edges),
        parent_mask=episodes.parent_mask,
        learned=noise.learned,
        fixed_std=fixed_std,
        **played,
    )
