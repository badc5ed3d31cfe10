"""Every random number of a batch of episodes, drawn before it is played.

Contract: pure functions of a configuration and an iteration; see randomness.py.
Letters: E episodes, O observational rows, K decisions, K' of them learned from, G candidates, P
probes, M noise draws, V variables.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Generic, NamedTuple

import numpy as np

from acbo_ref.arrays import A, Array
from acbo_ref.config import Config, episodes_together
from acbo_ref.randomness import Role, generator


class EpisodeNoise(NamedTuple, Generic[A]):
    """Every random number of E episodes.

    Args:
        observation, intervention, scoring: (E, O, V), (E, K, V) and (E, K, M - 1, V), standard
            normal.
        gumbel, normal: (E, K, G, V) and (E, K, G): which variable and which value a candidate gets.
        probe: (E, K, P, 2) uniform in [0, 1): which variable, which value.
        by_outcome_head: (E,) bool, in which episodes the outcome head's decision is carried out.
        optimism: (E,), the standard errors that its committed decisions subtract.
        learned: (E, K') int, ascending: which decisions of an episode carry the gradient.
        budget: (E,) int, experiments that an episode is told it has.
    """

    observation: A
    intervention: A
    scoring: A
    gumbel: A
    normal: A
    probe: A
    by_outcome_head: A
    optimism: A
    learned: A
    budget: A


def antithetic(noise: Array, fresh: Array, num_draws: int) -> Array:
    """Draws 2 to M that judge besides `noise` (E, K, V): its mirror image, then `fresh` (E, K, S,
    V), each with its own.

    Returns (E, K, M - 1, V).
    """
    pairs = np.stack([fresh, -fresh], axis=3).reshape(*fresh.shape[:2], -1, fresh.shape[3])
    return np.asarray(np.concatenate([-noise[:, :, None], pairs], axis=2)[:, :, : num_draws - 1])


def draw_noise(config: Config, iteration: int, num_observations: int, num_variables: int) -> EpisodeNoise[Array]:
    """The noise of one iteration, a pure function of (seed, role, iteration) and the shapes.

    Under credit "episode", all but the choices is the same in the episodes of a system.
    """
    e, k, v = config.batch_size, config.interventions_per_episode, num_variables
    p, m = config.heads.probes, config.reward.noise_draws
    together = episodes_together(config)
    systems, g = e // together, config.grpo.group_size if together == 1 else 1

    def shared(array: Array) -> Array:
        return np.repeat(array, together, axis=0)

    exogenous = generator(config.seed, Role.EXOGENOUS_NOISE, iteration)
    scoring = generator(config.seed, Role.SCORING_NOISE, iteration)
    observation = exogenous.standard_normal((systems, num_observations, v))
    intervention = exogenous.standard_normal((systems, k, v))
    return EpisodeNoise(
        observation=shared(observation),
        intervention=shared(intervention),
        scoring=shared(antithetic(intervention, scoring.standard_normal((systems, k, (m - 1) // 2, v)), m)),
        gumbel=generator(config.seed, Role.VARIABLE_CHOICE, iteration).gumbel(size=(e, k, g, v)),
        normal=generator(config.seed, Role.VALUE_CHOICE, iteration).standard_normal((e, k, g)),
        probe=generator(config.seed, Role.PROBES, iteration).random((e, k, p, 2)),
        by_outcome_head=_by_outcome_head(config, iteration),
        optimism=2.0 * config.optimism * generator(config.seed, Role.OPTIMISM, iteration).random(e),
        learned=shared(_learned(config, iteration, systems)),
        budget=shared(_budget(config, iteration, systems)),
    )


def _budget(config: Config, iteration: int, number: int) -> Array:
    """(number,) int: K, or drawn from `grpo.budget`, each order of magnitude as often."""
    if config.grpo.budget is None:
        return np.full(number, config.interventions_per_episode)
    low, high = config.grpo.budget
    uniform = generator(config.seed, Role.BUDGET, iteration).uniform(np.log(low), np.log(high + 1), number)
    return np.clip(np.floor(np.exp(uniform)).astype(int), low, high)


def _by_outcome_head(config: Config, iteration: int) -> Array:
    """(E,) bool: a share of the batch, drawn anew each iteration.

    Drawn, since a fixed place in the batch would go with a graph kind or a rehearsed stage. Their
    number is exact: after n iterations it is floor(n E share), in fractions, as 100 * 0.29 is
    28.999... in floats.
    """
    e, share = config.batch_size, Fraction(str(config.heads.commit_by_outcome_head))
    count = math.floor((iteration + 1) * e * share) - math.floor(iteration * e * share)
    return np.asarray(generator(config.seed, Role.COMMITTED, iteration).permutation(e) < count)


def _learned(config: Config, iteration: int, number: int) -> Array:
    """(number, K') int: one decision of each of K' stretches of nearly equal length that the K are
    cut into, drawn anew for every episode; all of them where K' is K.
    """
    steps = config.interventions_per_episode
    wanted = min(config.grpo.learned_decisions or steps, steps)
    edges = np.arange(wanted + 1) * steps // wanted
    uniform = generator(config.seed, Role.LEARNED, iteration).random((number, wanted))
    return edges[:-1] + np.floor(uniform * np.diff(edges)).astype(int)
