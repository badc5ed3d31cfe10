"""Evaluation of one method on one suite: the same systems, the same observations and the same noise
for every method.

One intervention is one query, for every method. A method is judged by the true expected target of
what it does and of what it recommends, never by a lucky row (metrics.py). The policy has four
methods, named by the head that decides: `outcome_head` takes the lowest prediction, `policy_head`
the most probable action, `policy_head_sampled` a draw with `policy.fixed_std`, and `policy` is one
of the first two, as the checkpoint's config says.

Contract: `run_method` is a function of (suite, method, seed, sizes, policy) but for the clock. The
comparison of many methods on many suites is compare.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from acbo_ref.arena.baselines import BASELINES, Constant, Method
from acbo_ref.arena.metrics import MethodResults
from acbo_ref.arena.suites import Suite
from acbo_ref.arrays import Array
from acbo_ref.backend import AnyBackend
from acbo_ref.errors import AcboError, did_you_mean
from acbo_ref.policy.inputs import HALF_WIDTH, Task, standard_units
from acbo_ref.randomness import Role, generator
from acbo_ref.systems.batch import gain_unit
from acbo_ref.systems.scm import System

POLICY_METHODS = ("policy", "policy_head", "policy_head_sampled", "outcome_head")
# Methods that had another name before; the old one is read for one release.
RENAMED_METHODS = {"policy_sampled": "policy_head_sampled", "surrogate": "outcome_head"}
ORACLES = ("oracle", "parent_oracle")
METHODS = (*POLICY_METHODS, *BASELINES, *ORACLES)
# Systems of a suite on which single decisions of the policy are timed, one system at a time as a
# user would.
TIMED_SYSTEMS = 2


@dataclass(frozen=True, eq=False)
class Episodes:
    """The systems of a suite with everything random about them drawn: rows before, noise of each
    step.
    """

    systems: list[System]  # as minimisation
    sign: Array  # (S,) -1 where the user maximises
    observations: list[Array]
    noise: list[Array]  # (K, noise_dim) a system
    streams: list[int]
    seed: int


def draw_episodes(suite: Suite, seed: int, num_observations: int, steps: int) -> Episodes:
    systems = [system.minimised() for system in suite.systems]
    observations, noise, streams = [], [], []
    for n, system in enumerate(systems):
        rng = generator(seed, Role.SUITE_NOISE, suite.first_stream + n)
        observations.append(system.simulate(rng.standard_normal((num_observations, system.noise_dim))))
        noise.append(rng.standard_normal((steps, system.noise_dim)))
        streams.append(suite.first_stream + n)
    sign = np.array([-1.0 if system.direction == "maximize" else 1.0 for system in suite.systems])
    return Episodes(systems, sign, observations, noise, streams, seed)


@dataclass(eq=False)
class _Played:
    """Actions and rows of one method: variable, value, cost (S, K); recommended action (S,)
    each.
    """

    variable: Array
    value: Array
    cost: Array
    recommended_variable: Array
    recommended_value: Array
    parent_probability: list[Array]
    seconds: list[float]


def _play_method(episodes: Episodes, make: Callable[[int, Task], Method], steps: int) -> _Played:
    """A baseline on every system, one after another."""
    count = len(episodes.systems)
    played = _Played(np.zeros((count, steps), int), np.zeros((count, steps)), np.zeros((count, steps)),
                     np.zeros(count, int), np.zeros(count), [], [])  # fmt: skip
    for s, system in enumerate(episodes.systems):
        method = make(s, batch_task([system], [episodes.observations[s]]))
        for k in range(steps):
            began = time.perf_counter()
            action = method.ask()
            spent = time.perf_counter() - began
            row = system.simulate(episodes.noise[s][k : k + 1], *action)[0]
            began = time.perf_counter()
            method.tell(action, row)
            played.seconds.append(spent + time.perf_counter() - began)
            played.variable[s, k], played.value[s, k] = action
            played.cost[s, k] = row[system.target_index]
        played.recommended_variable[s], played.recommended_value[s] = method.recommend()
    return played


def batch_task(systems: Sequence[System], observations: Sequence[Array]) -> Task:
    """The systems side by side, padded to the largest, in their own order of variables."""
    count, width = len(systems), max(len(system.names) for system in systems)
    task = Task(
        observations=np.zeros((count, len(observations[0]), width)),
        observation_mask=np.ones((count, len(observations[0])), bool),
        target=np.array([system.target_index for system in systems]),
        valid=np.zeros((count, width), bool),
        manipulable=np.zeros((count, width), bool),
        low=np.full((count, width), -1.0),
        high=np.full((count, width), 1.0),
    )
    for s, system in enumerate(systems):
        n = len(system.names)
        task.observations[s, :, :n] = observations[s]
        task.valid[s, :n] = True
        task.manipulable[s, :n] = system.manipulable
        task.low[s, :n], task.high[s, :n] = system.low, system.high
    return task


def _play_policy(episodes: Episodes, backend: AnyBackend, state: object, method: str, steps: int) -> _Played:
    """The policy on all systems at once; decisions are timed on single systems."""
    systems, count = episodes.systems, len(episodes.systems)
    task = batch_task(systems, episodes.observations)
    width = task.valid.shape[1]
    session = backend.session(state, task, steps)
    played = _Played(np.zeros((count, steps), int), np.zeros((count, steps)), np.zeros((count, steps)),
                     np.zeros(count, int), np.zeros(count), [], [])  # fmt: skip
    sampled = method == "policy_head_sampled"
    rngs = [generator(episodes.seed, Role.BASELINE, stream) for stream in episodes.streams]
    if sampled:
        gumbel = np.zeros((steps, count, width))
        for s, system in enumerate(systems):  # a system's draws do not depend on its batch-mates' sizes
            gumbel[:, s, : len(system.names)] = rngs[s].gumbel(size=(steps, len(system.names)))
        normal = np.stack([rng.standard_normal(steps) for rng in rngs], axis=1)
    kind = None if method == "policy" else method.removesuffix("_sampled")
    for k in range(steps):
        if sampled:
            decision = session.decide(gumbel[k], normal[k], kind)
        else:
            decision = session.decide(decision=kind)
        rows = np.zeros((count, width))
        for s, system in enumerate(systems):
            row = system.simulate(episodes.noise[s][k : k + 1], int(decision.variable[s]), float(decision.value[s]))[0]
            rows[s, : len(row)] = row
        played.variable[:, k], played.value[:, k] = decision.variable, decision.value
        played.cost[:, k] = rows[np.arange(count), task.target]
        session.observe(decision.variable, rows)
    last = session.decide(decision=kind, optimism=0.0)  # what it would settle on: neither a draw nor exploration
    played.recommended_variable[:], played.recommended_value[:] = last.variable, last.value
    for s, system in enumerate(systems):
        others = np.arange(len(system.names)) != system.target_index
        played.parent_probability.append(np.asarray(last.parent_probability[s, : len(system.names)][others]))
    played.seconds = _time_decisions(episodes, backend, state, played, kind, steps)
    return played


def _time_decisions(
    episodes: Episodes, backend: AnyBackend, state: object, played: _Played, kind: str | None, steps: int
) -> list[float]:
    """Seconds from a measured row to the next decision, for one system at a time, each after a
    warm-up of two steps.
    """
    seconds = []
    warm_up = min(2, steps - 1)
    for s in range(min(TIMED_SYSTEMS, len(episodes.systems))):
        system = episodes.systems[s]
        session = backend.session(state, batch_task([system], [episodes.observations[s]]), steps)
        for k in range(steps):
            action = int(played.variable[s, k]), float(played.value[s, k])
            rows = system.simulate(episodes.noise[s][k : k + 1], *action)
            began = time.perf_counter()
            session.observe(np.array([action[0]]), rows)
            session.decide(decision=kind)
            if k >= warm_up:
                seconds.append(time.perf_counter() - began)
    return seconds


def _results(episodes: Episodes, played: _Played) -> MethodResults:
    """Judge what was played by the systems' true expectations."""
    systems = episodes.systems
    shape = played.variable.shape
    moments = np.array([system.observational_moments for system in systems])
    best = np.array([system.oracle.expected for system in systems])
    spread = gain_unit(moments[:, 0], moments[:, 1], best)
    expected, recommended = np.zeros(shape), np.zeros(shape[0])
    standard, is_parent, is_optimal = np.zeros(shape), np.zeros(shape, bool), np.zeros(shape, bool)
    parents = []
    for s, system in enumerate(systems):
        actions = np.stack([played.variable[s], played.value[s]], axis=1)
        actions = np.concatenate([actions, [[played.recommended_variable[s], played.recommended_value[s]]]])
        distinct, inverse = np.unique(actions, axis=0, return_inverse=True)
        outcome = system.expected_target(distinct[:, 0].astype(int), distinct[:, 1])[inverse.reshape(-1)]
        expected[s], recommended[s] = outcome[:-1], outcome[-1]
        task = batch_task([system], [episodes.observations[s]])
        location, scale = standard_units(task)
        index = played.variable[s]
        standard[s] = np.clip((played.value[s] - location[0, index]) / scale[0, index], -HALF_WIDTH, HALF_WIDTH)
        is_parent[s] = system.parent_mask[index]
        is_optimal[s] = index == system.oracle.variable
        parents.append(np.delete(system.parent_mask, system.target_index))
    return MethodResults(
        variable=played.variable,
        value=played.value,
        standard=standard,
        outcome=played.cost * episodes.sign[:, None],
        cost=played.cost,
        expected=expected,
        recommended=recommended,
        baseline=moments[:, 0],
        spread=spread,
        best=best,
        is_parent=is_parent,
        is_optimal=is_optimal,
        parent_probability=played.parent_probability,
        parents=parents if played.parent_probability else [],
        seconds=played.seconds,
    )


def run_method(
    suite: Suite, method: str, seed: int, num_observations: int, steps: int, backend: AnyBackend | None, state: object
) -> MethodResults:
    """One method on one suite."""
    episodes = draw_episodes(suite, seed, num_observations, steps)
    if method in POLICY_METHODS:
        if backend is None:
            raise AcboError(f"method {method!r} needs a checkpoint", "give --checkpoint, or other --methods")
        return _results(episodes, _play_policy(episodes, backend, state, method, steps))
    if method in ORACLES:
        return _results(
            episodes, _play_method(episodes, lambda s, _: Constant(getattr(episodes.systems[s], method)), steps)
        )
    if method not in BASELINES:
        raise AcboError(f"no method named {method!r}", did_you_mean(method, METHODS))
    cls = BASELINES[method]
    return _results(
        episodes,
        _play_method(episodes, lambda s, task: cls(task, generator(seed, Role.BASELINE, episodes.streams[s])), steps),
    )
