"""Evaluation of one method on one suite: the same systems, the same observations and the same noise
for every method.

One intervention is one query, for every method. A method is judged by the true expected target of
what it does and of what it recommends, never by a lucky row (metrics.py). The policy has five
methods, named by the head that decides: `outcome_head` takes the lowest prediction, `policy_head`
the most probable action, `policy_head_sampled` a draw with `policy.fixed_std`, and `policy` is one
of the first two, as the checkpoint's config says. `policy_final` decides as in a campaign whose
objective is "final": it explores for what is settled on in the end.

Any method whose name ends with `_exogenous` is told which variables nothing that is set can move,
and sees the system without what they explain (policy/exogenous.py); what it does is judged in the
system as it is.

Contract: `run_method` is a function of (suite, method, seed, sizes, policy) but for the clock. The
comparison of many methods on many suites is compare.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from acbo_ref.arena.baselines import BASELINES, Constant
from acbo_ref.arena.method import Method
from acbo_ref.arena.metrics import MethodResults
from acbo_ref.arena.suites import Suite
from acbo_ref.arrays import Array
from acbo_ref.backend import AnyBackend
from acbo_ref.errors import AcboError, did_you_mean
from acbo_ref.policy.acquisition import optimism_for_final, optimism_now
from acbo_ref.policy.exogenous import ExogenousSession, Told
from acbo_ref.policy.inputs import HALF_WIDTH, Task, standard_units
from acbo_ref.policy.screening import open_session
from acbo_ref.policy.session import SETTLE_ERRORS, AnySession, or_nothing
from acbo_ref.randomness import Role, generator
from acbo_ref.systems.batch import gain_unit
from acbo_ref.systems.scm import System

POLICY_METHODS = ("policy", "policy_head", "policy_head_sampled", "outcome_head", "policy_final")
# Methods that had another name before; the old one is read for one release.
RENAMED_METHODS = {"policy_sampled": "policy_head_sampled", "surrogate": "outcome_head"}
ORACLES = ("oracle", "parent_oracle")
METHODS = (*POLICY_METHODS, *BASELINES, *ORACLES)
# What the name of a method that is told the exogenous variables ends with.
EXOGENOUS = "_exogenous"
# Systems of a suite on which single decisions of the policy are timed, one system at a time as a
# user would.
TIMED_SYSTEMS = 2


def untold(method: str) -> str:
    """The same method, told nothing of exogenous variables."""
    return method.removesuffix(EXOGENOUS)


def is_policy(method: str) -> bool:
    """Whether a policy decides; names of before included."""
    return untold(RENAMED_METHODS.get(method, method)) in POLICY_METHODS


def checked_method(method: str) -> str:
    """The method's name.

    Raises:
        AcboError: there is none of this name, or an oracle is to be told what it knows.
    """
    name = untold(method)
    if name not in METHODS:
        raise AcboError(f"no method named {method!r}", did_you_mean(name, METHODS))
    if name in ORACLES and name != method:
        raise AcboError(f"{name!r} knows the system already", f"--methods {name}")
    return method


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
    clusters: list[str]  # what each system is a repetition of


def draw_episodes(suite: Suite, seed: int, num_observations: int, steps: int) -> Episodes:
    systems = [system.minimised() for system in suite.systems]
    observations, noise, streams = [], [], []
    for n, system in enumerate(systems):
        rng = generator(seed, Role.SUITE_NOISE, suite.first_stream + n)
        observations.append(system.simulate(rng.standard_normal((num_observations, system.noise_dim))))
        noise.append(rng.standard_normal((steps, system.noise_dim)))
        streams.append(suite.first_stream + n)
    sign = np.array([-1.0 if system.direction == "maximize" else 1.0 for system in suite.systems])
    clusters = list(suite.clusters) or [str(n) for n in range(len(systems))]
    return Episodes(systems, sign, observations, noise, streams, seed, clusters)


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


def _nothing_played(count: int, steps: int) -> _Played:
    return _Played(np.zeros((count, steps), int), np.zeros((count, steps)), np.zeros((count, steps)),
                   np.zeros(count, int), np.zeros(count), [])  # fmt: skip


def _play_baseline(episodes: Episodes, name: str, steps: int) -> _Played:
    """A baseline on every system, one after another."""
    played = _nothing_played(len(episodes.systems), steps)
    for s, system in enumerate(episodes.systems):
        method = _baseline(episodes, name, s)
        for k in range(steps):
            action = method.ask()
            row = system.simulate(episodes.noise[s][k : k + 1], *action)[0]
            method.tell(action, row)
            played.variable[s, k], played.value[s, k] = action
            played.cost[s, k] = row[system.target_index]
        played.recommended_variable[s], played.recommended_value[s] = method.recommend()
    return played


def _baseline(episodes: Episodes, name: str, s: int) -> Method:
    """A baseline or an oracle, new, for system `s`."""
    system, observations = episodes.systems[s], episodes.observations[s]
    if name in ORACLES:
        return Constant(getattr(system, name))
    task, rng = batch_task([system], [observations]), generator(episodes.seed, Role.BASELINE, episodes.streams[s])
    if name == untold(name) or not system.exogenous.any():
        return BASELINES[untold(name)](task, rng)
    return Told(task, system.exogenous, lambda t: BASELINES[untold(name)](t, rng))


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
        task.valid[s, :n] = system.visible
        task.manipulable[s, :n] = system.manipulable
        task.low[s, :n], task.high[s, :n] = system.low, system.high
    return task


def _play_policy(episodes: Episodes, backend: AnyBackend, state: object, method: str, steps: int) -> _Played:
    """The policy on all systems at once."""
    systems, count = episodes.systems, len(episodes.systems)
    task = batch_task(systems, episodes.observations)
    width = task.valid.shape[1]
    session = _session(backend, state, method, systems, task, steps)
    played = _nothing_played(count, steps)
    name = untold(method)
    sampled, only_final = name == "policy_head_sampled", name == "policy_final"
    rngs = [generator(episodes.seed, Role.BASELINE, stream) for stream in episodes.streams]
    if sampled:
        gumbel = np.zeros((steps, count, width))
        for s, system in enumerate(systems):  # a system's draws do not depend on its batch-mates' sizes
            gumbel[:, s, : len(system.names)] = rngs[s].gumbel(size=(steps, len(system.names)))
        normal = np.stack([rng.standard_normal(steps) for rng in rngs], axis=1)
    kind = _head(name)
    by_outcome_head = (kind or backend.config.decision) == "outcome_head"
    for k in range(steps):
        if sampled:
            decision = session.decide(gumbel[k], normal[k], kind)
        else:
            decision = session.decide(decision=kind, optimism=optimism_for_final(steps) if only_final else None)
        if by_outcome_head and not only_final:
            decision = or_nothing(decision, task, float(optimism_now(backend.config.optimism, steps - k - 1)))
        rows = np.zeros((count, width))
        for s, system in enumerate(systems):
            row = system.simulate(episodes.noise[s][k : k + 1], int(decision.variable[s]), float(decision.value[s]))[0]
            rows[s, : len(row)] = row
        played.variable[:, k], played.value[:, k] = decision.variable, decision.value
        played.cost[:, k] = rows[np.arange(count), task.target]
        session.observe(decision.variable, rows)
    last = session.decide(decision=kind, optimism=0.0)  # what it would settle on: neither a draw nor exploration
    if by_outcome_head:
        last = or_nothing(last, task, -SETTLE_ERRORS)
    played.recommended_variable[:], played.recommended_value[:] = last.variable, last.value
    for s, system in enumerate(systems):
        others = np.arange(len(system.names)) != system.target_index
        played.parent_probability.append(np.asarray(last.parent_probability[s, : len(system.names)][others]))
    return played


def _session(
    backend: AnyBackend, state: object, method: str, systems: Sequence[System], task: Task, steps: int
) -> AnySession:
    """The session that a policy's method plays with."""
    exogenous = np.zeros(task.valid.shape, bool)
    if method != untold(method):
        for s, system in enumerate(systems):
            exogenous[s, : len(system.names)] = system.exogenous

    def begin(t: Task) -> AnySession:
        return open_session(backend.config.policy, t, lambda read: backend.session(state, read, steps))

    return ExogenousSession(task, exogenous, begin) if exogenous.any() else begin(task)


def _head(method: str) -> str | None:
    """The head that decides; None: as the config says."""
    return None if method in ("policy", "policy_final") else method.removesuffix("_sampled")


def time_decisions(
    suite: Suite, method: str, results: MethodResults, seed: int, num_observations: int, steps: int,
    backend: AnyBackend | None, state: object,
) -> list[float]:  # fmt: skip
    """Seconds from a measured row to the next decision, on the first TIMED_SYSTEMS systems, one at
    a time as a user would. The first two steps of a system warm up and do not count, if there are
    more. Nothing else should run meanwhile.
    """
    episodes = draw_episodes(suite, seed, num_observations, steps)
    warm_up, seconds = min(2, steps - 1), []
    for s, system in enumerate(episodes.systems[:TIMED_SYSTEMS]):
        tell_and_ask = _timed(episodes, method, s, steps, backend, state)
        for k in range(steps):
            action = int(results.variable[s, k]), float(results.value[s, k])
            rows = system.simulate(episodes.noise[s][k : k + 1], *action)
            began = time.perf_counter()
            tell_and_ask(action, rows)
            if k >= warm_up:
                seconds.append(time.perf_counter() - began)
    return seconds


def _timed(
    episodes: Episodes, method: str, s: int, steps: int, backend: AnyBackend | None, state: object
) -> Callable[[tuple[int, float], Array], None]:
    """What a step of the method costs on system `s`: take in (action, its row (1, V)), decide."""
    if not is_policy(method):
        baseline = _baseline(episodes, method, s)
        baseline.ask()

        def ask_baseline(action: tuple[int, float], rows: Array) -> None:
            baseline.tell(action, rows[0])
            baseline.ask()

        return ask_baseline
    assert backend is not None
    task, name = batch_task([episodes.systems[s]], [episodes.observations[s]]), untold(method)
    session = _session(backend, state, method, [episodes.systems[s]], task, steps)

    def ask_policy(action: tuple[int, float], rows: Array) -> None:
        session.observe(np.array([action[0]]), rows)
        session.decide(decision=_head(name), optimism=optimism_for_final(steps) if name == "policy_final" else None)

    return ask_policy


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
        units, index = standard_units(task), played.variable[s]
        values = (played.value[s] - units.location[0, index]) / units.scale[0, index]
        standard[s] = np.where(index < 0, 0.0, np.clip(values, -HALF_WIDTH, HALF_WIDTH))
        is_parent[s] = system.parent_mask[index] & (index >= 0)
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
        leaves=played.recommended_variable < 0,
        baseline=moments[:, 0],
        spread=spread,
        best=best,
        is_parent=is_parent,
        is_optimal=is_optimal,
        cluster=np.unique(episodes.clusters, return_inverse=True)[1].reshape(-1),
        parent_probability=played.parent_probability,
        parents=parents if played.parent_probability else [],
    )


def run_method(
    suite: Suite, method: str, seed: int, num_observations: int, steps: int, backend: AnyBackend | None, state: object
) -> MethodResults:
    """One method on one suite; its decisions are timed apart, by `time_decisions`."""
    episodes = draw_episodes(suite, seed, num_observations, steps)
    if is_policy(checked_method(method)):
        if backend is None:
            raise AcboError(f"method {method!r} needs a checkpoint", "give --checkpoint, or other --methods")
        return _results(episodes, _play_policy(episodes, backend, state, method, steps))
    return _results(episodes, _play_baseline(episodes, method, steps))
