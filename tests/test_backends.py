"""Conformance: what every backend must do. New backends run this suite by being in the registry."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from acbo_fast import available, backend_maker, backend_pieces, default_backend, unavailable
from acbo_ref import AcboError
from acbo_ref.arena.play import run_method
from acbo_ref.arena.suites import load_suite
from acbo_ref.backend import ReferenceBackend
from acbo_ref.grpo.optim import OptimiserState
from acbo_ref.grpo.rollout import observe
from acbo_ref.grpo.update import ScheduledCoefficients, minibatch_order
from acbo_ref.policy.acquisition import ROLLOUT_GRID
from acbo_ref.policy.inputs import HALF_WIDTH, OUTCOME_BOUND, Task, standard_units
from acbo_ref.policy.network import PolicyInputs, parameter_shapes
from acbo_ref.systems.batch import simulate
from acbo_ref.verify.data import ROWS, iteration_data, perturbed_state, small_config
from acbo_ref.verify.parity import verify_backend
from acbo_ref.version import install

HYPER = ScheduledCoefficients(learning_rate=1e-3, entropy_coefficient=0.01)


FAST = [name for name in available() if name != "ref"]


# The trunk over rows, whose inputs are the rows themselves.
OVER_ROWS = {"policy": ROWS, "grpo": {"learned_decisions": None}}


def setup(make_backend, **changes):
    config = small_config(dtype="float64", **changes)
    backend = make_backend(config)
    state = backend.from_host(perturbed_state(ReferenceBackend(config)))
    return config, backend, state, iteration_data(config)


def host(backend, state):
    return backend.to_host(state).params


@pytest.mark.parametrize("name", FAST)
def test_it_agrees_with_the_reference(name):
    failed = [c for c in verify_backend(backend_maker(name), backend_pieces(name)) if not c.okay]
    assert failed == []


def test_all_backends_start_from_the_same_parameters(make_backend):
    config = small_config(dtype="float64")
    expected = ReferenceBackend(config).init_state().params
    found = host(make_backend(config), make_backend(config).init_state())
    assert list(found) == list(parameter_shapes(config.policy))
    assert all((found[k] == v).all() for k, v in expected.items())


def test_the_importance_ratio_starts_at_one(make_backend):
    config, backend, state, data = setup(make_backend, grpo={"ppo_epochs": 1, "minibatches": 1, "learning_rate": 1e-9})
    trajectories = backend.rollout(state, *data, 1.5)
    _, diagnostics = backend.update(state, trajectories, minibatch_order(config, 0), HYPER)
    assert abs(diagnostics["approx_kl"]) < 1e-12
    assert diagnostics["clip_ratio_low"] == diagnostics["clip_ratio_high"] == 0


def test_the_committed_row_is_candidate_zero(make_backend):
    _, backend, state, data = setup(make_backend, reward={"noise_draws": 1}, **OVER_ROWS)
    problems, observation_mask, _ = data
    t = backend.rollout(state, *data, 1.5)
    channels, variable = np.asarray(t.inputs.channels), np.asarray(t.variable)
    num_obs = observation_mask.shape[1]
    for k in range(variable.shape[1] - 1):  # the row after decision k says what candidate 0 did, and what came of it
        row = channels[:, num_obs + k + 1]
        assert (row[..., 2].argmax(axis=1) == variable[:, k, 0]).all() and (row[..., 2].sum(axis=1) == 1).all()
        each = np.arange(len(row))
        np.testing.assert_allclose(5 * row[each, problems.target, 0], np.asarray(t.judged_outcome)[:, k, 0], rtol=1e-12)
        np.testing.assert_allclose(5 * row[each, variable[:, k, 0], 0], np.asarray(t.judged_value)[:, k, 0], atol=1e-12)


@pytest.mark.parametrize("share, number", [(1.0, 6), (0.5, 3), (0.0, 0)])
def test_a_share_of_episodes_carries_out_the_outcome_heads_decision(make_backend, share, number):
    """It takes the place of the first probe, is what a session says is lowest, and the rows that
    follow are its own.
    """
    changes = {"heads": {"commit_by_outcome_head": share}, "extrapolation": None, **OVER_ROWS}
    config, backend, state, data = setup(make_backend, **changes)
    problems, observation_mask, noise = data
    t = backend.rollout(state, *data, 1.5)
    committed, group = np.asarray(t.committed), t.variable.shape[2]
    who = noise.by_outcome_head
    assert who.sum() == number and (committed == np.where(who, group, 0)).all()
    each, num_obs = np.arange(len(committed)), observation_mask.shape[1]
    variable, value = (np.asarray(a)[each, :, committed] for a in (t.judged_variable, t.judged_value))
    task, channels, outcome = (
        observe(problems, noise.observation, observation_mask),
        np.asarray(t.inputs.channels),
        np.asarray(t.outcome),
    )
    location, scale = (a[each, problems.target] for a in standard_units(task)[:2])
    for k in range(variable.shape[1] - 1):
        row = channels[:, num_obs + k + 1]
        assert (row[..., 2].argmax(axis=1) == variable[:, k]).all()
        np.testing.assert_allclose(5 * row[each, variable[:, k], 0], value[:, k], atol=1e-12)
        np.testing.assert_allclose(5 * row[each, problems.target, 0], (outcome[:, k] - location) / scale, rtol=1e-9)
    assert 0 <= noise.optimism.min() < noise.optimism.max() <= 2 * config.optimism  # each episode has its own
    width, points = task.valid.shape[1], ROLLOUT_GRID.size
    share_of_domain = (ROLLOUT_GRID + HALF_WIDTH) / (2 * HALF_WIDTH)
    values = (task.low[:, :, None] + (task.high - task.low)[:, :, None] * share_of_domain).reshape(len(each), -1)
    said = backend.session(state, task, 1).predict(np.tile(np.repeat(np.arange(width), points), (len(each), 1)), values)
    bound = said.mean - noise.optimism[:, None] * said.error
    allowed = np.repeat(task.manipulable, points, axis=1)
    harmless = allowed & (said.mean - location[:, None] <= 0.25 * said.error)
    good = np.where(harmless.any(axis=1, keepdims=True), harmless, allowed)
    best = np.where(good, bound, np.inf).argmin(axis=1)
    assert (variable[:, 0] == best // points)[np.array(who)].all()
    np.testing.assert_allclose(np.asarray(t.applied)[who, 0], values[each, best][who], atol=1e-9)


def test_a_share_needs_a_probe():
    with pytest.raises(AcboError, match="needs a probe"):
        small_config(heads={"commit_by_outcome_head": 0.5, "probes": 0})


def test_only_levers_are_pulled_and_values_stay_inside(make_backend):
    _, backend, state, data = setup(make_backend, scm={"manipulable": 0.4})
    problems = data[0]
    t = backend.rollout(state, *data, 8.0)
    for variable in (np.asarray(t.variable), np.asarray(t.judged_variable)):
        flat = variable.reshape(len(variable), -1)
        assert np.take_along_axis(problems.manipulable, flat, axis=1).all()
    assert np.abs(np.asarray(t.judged_value)).max() <= 5.0 < np.abs(np.asarray(t.value)).max()


def test_more_reward_for_what_lowers_the_target(make_backend):
    """Probability moves to the better candidate and its value: the sign of everything at once."""
    config, backend, state, data = setup(make_backend, grpo={"minibatches": 1}, reward={"parent": 0.0})
    t = backend.rollout(state, *data, 1.5)
    before = np.asarray(t.log_prob, float)
    advantage = np.asarray(t.rewards) - np.asarray(t.rewards).mean(axis=-1, keepdims=True)
    host_inputs = PolicyInputs(*(np.asarray(array) for array in t.inputs))
    state, _ = backend.update(state, t, minibatch_order(config, 0), HYPER)
    from acbo_ref.grpo.loss import log_prob_forward
    from acbo_ref.policy import network

    outputs, _ = network.forward(host(backend, state), config.policy, host_inputs, before.shape[1])
    after, _ = log_prob_forward(outputs, np.asarray(t.variable), np.asarray(t.value), 1.5)
    assert ((after - before) * advantage).mean() > 0


def test_non_finite_steps_are_skipped_and_counted(make_backend):
    config, backend, state, data = setup(make_backend)
    t = backend.rollout(state, *data, 1.5)
    rewards = np.array(t.rewards)
    rewards[0, 0, 0] = np.nan  # one episode, so one minibatch of two in each of two passes
    poisoned = t._replace(rewards=rewards)
    before = host(backend, state)
    state, diagnostics = backend.update(state, poisoned, minibatch_order(config, 0), HYPER)
    assert diagnostics["skipped_steps"] == config.grpo.ppo_epochs
    after = backend.to_host(state)
    assert after.step == config.grpo.ppo_epochs and all(np.isfinite(v).all() for v in after.params.values())
    assert any((after.params[k] != before[k]).any() for k in before)


def test_state_goes_to_the_host_and_back(make_backend):
    _, backend, state, _ = setup(make_backend)
    saved = backend.to_host(state)
    again = backend.to_host(backend.from_host(saved))
    assert isinstance(saved, OptimiserState) and again.step == saved.step
    assert all((again.params[k] == v).all() for k, v in saved.params.items())


def test_decisions_lie_inside_the_domains(make_backend):
    config, backend, state, (problems, observation_mask, noise) = setup(make_backend)
    task = observe(problems, noise.observation, observation_mask)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((config.batch_size, 2, task.valid.shape[1]))
    variable = np.argmax(task.manipulable, axis=1)
    session = backend.session(state, task, 2)
    for t in range(2):
        session.observe(variable, rows[:, t])
    a = session.decide()
    low, high = (np.take_along_axis(x, a.variable[:, None], axis=1)[:, 0] for x in (task.low, task.high))
    assert ((low <= a.value) & (a.value <= high)).all()
    np.testing.assert_allclose(a.probability.sum(axis=1), 1.0)
    assert (a.outcome_std > 0).all() and not a.parent_probability[task.is_target].any()


def test_decisions_do_not_depend_on_the_users_units(make_backend):
    """Rescale and shift every variable: the same decisions, in the new units."""
    _, backend, state, (problems, observation_mask, noise) = setup(make_backend)
    task = observe(problems, noise.observation, observation_mask)
    rng = np.random.default_rng(1)
    scale, shift = rng.uniform(0.1, 50, task.valid.shape), rng.uniform(-9, 9, task.valid.shape)
    other = dataclasses.replace(
        task,
        observations=task.observations * scale[:, None] + shift[:, None],
        low=task.low * scale + shift,
        high=task.high * scale + shift,
    )
    a, b = (backend.session(state, t, 1).decide() for t in (task, other))
    each = np.arange(len(a.variable))
    assert (a.variable == b.variable).all()
    np.testing.assert_allclose(b.value, a.value * scale[each, a.variable] + shift[each, a.variable], rtol=1e-9)
    np.testing.assert_allclose(b.outcome_std, a.outcome_std * scale[each, task.target], rtol=1e-9)


def test_units_may_be_tiny_huge_and_far_from_zero(make_backend):
    """A target in 1e-9 units, a lever around 1e8: the same decisions as in friendly units, also in
    float32.
    """
    config = small_config()
    for dtype in ("float64", "float32"):
        backend = make_backend(small_config(dtype=dtype))
        state = backend.from_host(perturbed_state(ReferenceBackend(config)))
        problems, observation_mask, noise = iteration_data(config)
        task = observe(problems, noise.observation, observation_mask)
        scale = np.where(task.is_target, 1e-9, 1.0)
        shift = np.where(task.is_target, 0.0, 1e8)
        other = dataclasses.replace(
            task,
            observations=task.observations * scale[:, None] + shift[:, None],
            low=task.low * scale + shift,
            high=task.high * scale + shift,
        )
        a, b = (backend.session(state, t, 1).decide() for t in (task, other))
        each = np.arange(len(a.variable))
        assert (a.variable == b.variable).all()
        # 1e8 leaves 1e-8 of a float64's digits
        np.testing.assert_allclose(b.value - shift[each, b.variable], a.value, atol=1e-4)


def test_values_lie_inside_the_domain_to_the_last_bit(make_backend):
    config, backend, state, (problems, observation_mask, noise) = setup(make_backend, extrapolation=None)
    task = observe(problems, noise.observation, observation_mask)
    rng = np.random.default_rng(0)
    low = np.round(rng.uniform(-3, 3, task.low.shape), 2)
    task = dataclasses.replace(task, low=low, high=np.round(low + rng.uniform(0.1, 9, low.shape), 2))
    session = backend.session(state, task, 1)
    for push in (1e6, -1e6):
        decision = session.decide(np.zeros(low.shape), np.full(config.batch_size, push))
        bounds = [np.take_along_axis(x, decision.variable[:, None], axis=1)[:, 0] for x in (task.low, task.high)]
        assert (decision.value == bounds[push > 0]).all()


def test_actions_are_judged_over_the_noise_draws(make_backend):
    """With M = 4 every candidate and probe is judged on the committed noise, its mirror image, and
    one more such pair.

    Domains are so wide that the targets' unit is larger than their spread."""
    settings = {"reward": {"noise_draws": 4, "parent": 0.0, "target": 1.0}, "heads": {"probes": 3}}
    settings["grpo"] = {"learned_decisions": None}
    settings["scm"] = {"domain_half_width": [40.0, 90.0], "domain_center": [-30.0, 30.0]}
    _, backend, state, (problems, observation_mask, noise) = setup(make_backend, **settings)
    np.testing.assert_array_equal(noise.scoring[:, :, 0], -noise.intervention)
    np.testing.assert_array_equal(noise.scoring[:, :, 1], -noise.scoring[:, :, 2])
    t = backend.rollout(state, problems, observation_mask, noise, 1.5)
    variable, value = np.asarray(t.judged_variable), np.asarray(t.judged_value)
    task = observe(problems, noise.observation, observation_mask)
    location, scale = standard_units(task)[:2]
    spread = np.where(task.observation_mask[:, :, None], task.observations, np.nan)[
        np.arange(len(variable)), :, task.target
    ]
    assert (scale[task.is_target] > 1.5 * np.nanstd(spread, axis=1)).mean() > 0.5
    each, n = np.arange(len(variable)), variable.shape[2]
    for k in range(variable.shape[1]):
        raw = location[each[:, None], variable[:, k]] + scale[each[:, None], variable[:, k]] * value[:, k]
        outcomes = []
        for e in (noise.intervention[:, k], *noise.scoring[:, k].swapaxes(0, 1)):
            target = simulate(problems, np.repeat(e[:, None], n, axis=1), variable[:, k], raw)[each, :, problems.target]
            standard = (target - location[each, problems.target][:, None]) / scale[each, problems.target][:, None]
            outcomes.append(np.clip(standard, -OUTCOME_BOUND, OUTCOME_BOUND))
        tight = {"rtol": 1e-9, "atol": 1e-12}
        np.testing.assert_allclose(np.asarray(t.judged_outcome)[:, k], np.mean(outcomes, axis=0), **tight)
        np.testing.assert_allclose(np.asarray(t.judged_variance)[:, k], np.var(outcomes, axis=0), **tight)
        np.testing.assert_allclose(np.asarray(t.rewards)[:, k], -np.mean(outcomes, axis=0)[:, :7] / 5, **tight)


def test_a_pair_of_draws_is_exact_for_a_linear_model(make_backend):
    """e and -e cancel: the judged outcome is the expected target of the action, whatever e is."""
    _, backend, state, (problems, observation_mask, noise) = setup(
        make_backend, reward={"noise_draws": 2}, scm={"nonlinear": 0.0, "saturate": 0.0, "curved": 0.0}
    )
    t = backend.rollout(state, problems, observation_mask, noise, 1.5)
    other = 3.0 * noise.intervention  # the same first decision, other noise
    again = backend.rollout(
        state,
        problems,
        observation_mask,
        noise._replace(intervention=other, scoring=-other[:, :, None]),
        1.5,
    )
    inside = (
        np.abs(np.asarray(again.judged_outcome)[:, 0]) + 3 * np.sqrt(np.asarray(again.judged_variance)[:, 0])
        < OUTCOME_BOUND
    )
    first, second = (np.asarray(x.judged_outcome)[:, 0][inside] for x in (t, again))
    assert inside.mean() > 0.5
    np.testing.assert_allclose(first, second, atol=1e-9)


def test_outcomes_count_as_bounded(make_backend):
    """Two equal rows but for 1e-3 make a spread a thousand times too small; losses must not explode
    with it.
    """
    _, backend, state, (problems, observation_mask, noise) = setup(make_backend, observations_per_episode=2)
    rows = noise.observation.copy()
    rows[:, 1] = rows[:, 0] + 1e-3
    t = backend.rollout(state, problems, observation_mask, noise._replace(observation=rows), 1.5)
    assert np.abs(np.asarray(t.judged_outcome)).max() == OUTCOME_BOUND
    assert np.abs(np.asarray(t.rewards)).max() <= 0.9 * OUTCOME_BOUND / 5 + 0.1 + 1e-9


@pytest.mark.parametrize("decision", ["policy_head", "outcome_head"])
def test_an_untrained_policy_is_least_squares(make_backend, decision):
    """The outcome head starts as "play the end that the largest path effect recommends", the
    baseline `paths`, and the policy head as the outcome head; in the first step, then own outcomes
    correct it.
    """
    config = small_config(dtype="float64")
    backend = make_backend(config)
    suite = load_suite("simple", 5, quick=True)
    policy = run_method(suite, decision, 5, 20, 1, backend, backend.init_state())
    paths = run_method(suite, "paths", 5, 20, 1, None, None)
    # the other, randomly started part of the heads decides where two effects are nearly equal or
    # one is nearly 0
    assert (policy.variable == paths.variable).mean() > 0.95
    assert policy.gain.sum() == pytest.approx(paths.gain.sum(), rel=0.01)


def test_a_decision_is_predicted_as_it_was_decided(make_backend):
    """What `predict` says of the action decided on; beyond an end of a domain it speaks of the
    end.
    """
    config = small_config(dtype="float64")
    backend = make_backend(config)
    systems, mask, noise = iteration_data(config)
    task = observe(systems, noise.observation, mask)
    session = backend.session(backend.init_state(), task, 2)
    decided = session.decide(decision="outcome_head")
    said = session.predict(decided.variable[:, None], decided.value[:, None])
    for name in ("mean", "error", "std"):
        assert getattr(said, name)[:, 0] == pytest.approx(getattr(decided, f"outcome_{name}"), rel=1e-9)
    each, high = np.arange(len(decided.variable)), task.high[np.arange(len(decided.variable)), decided.variable]
    two = np.stack([high, high + 1.0], axis=1)
    said = session.predict(np.repeat(decided.variable[:, None], 2, axis=1), two)
    assert (said.mean[each, 0] == said.mean[each, 1]).all()


def test_a_session_says_when_it_is_full(make_backend):
    _, backend, state, (problems, observation_mask, noise) = setup(make_backend)
    task = observe(problems, noise.observation, observation_mask)
    session = backend.session(state, task, 1)
    row, variable = np.zeros(task.valid.shape), np.argmax(task.manipulable, axis=1)
    session.observe(variable, row)
    with pytest.raises(ValueError, match="opened for 1"):
        session.observe(variable, row)


def test_a_wrong_backend_does_not_verify():
    """One that gives NaN now and then, and one that is off by a little."""
    from acbo_ref.verify import parity

    class Sloppy(ReferenceBackend):
        def session(self, state, task, capacity):
            session = super().session(state, task, capacity)
            plain, count = session.decide, iter(range(100))

            def decide(**settings):
                decision = plain(**settings)
                return dataclasses.replace(decision, value=decision.value * np.nan) if next(count) < 5 else decision

            session.decide = decide
            return session

        def update(self, *args):
            state, diagnostics = super().update(*args)
            state.params["final_norm.bias"] = state.params["final_norm.bias"] + 1e-7
            return state, diagnostics

    config = small_config(dtype="float64")
    decisions = [c for c in parity.decision_checks(Sloppy(config), config, "x") if not c.okay]
    assert {c.name for c in decisions} >= {"policy head: value", "policy head, sampled: value", "outcome head: value"}
    training = [c.name for c in parity.training_checks(Sloppy(config), config, "x") if not c.okay]
    assert "parameters at the end" in training


@pytest.mark.parametrize("optimism", [0.0, 0.75, 3.0])
def test_the_outcome_head_takes_its_lowest_bound(make_backend, optimism):
    """Of all that it says itself, however far from what was seen; before and after an outcome."""
    from acbo_ref.policy.acquisition import DECISION_GRID

    _, backend, state, (problems, observation_mask, noise) = setup(make_backend, extrapolation=None)
    task = observe(problems, noise.observation, observation_mask)
    session, share = backend.session(state, task, 1), (DECISION_GRID + 5.0) / 10.0
    for session_is_new in (True, False):
        decision = session.decide(decision="outcome_head", optimism=optimism)
        assert np.take_along_axis(task.manipulable, decision.variable[:, None], axis=1).all()
        found = decision.outcome_mean - optimism * decision.outcome_error
        assert (decision.outcome_std > decision.outcome_error).all()
        for i in range(task.valid.shape[1]):
            values = task.low[:, i, None] + (task.high - task.low)[:, i, None] * share
            said = session.predict(np.full(values.shape, i), values)
            lowest = (said.mean - optimism * said.error).min(axis=1)
            assert (lowest >= found - 1e-9)[task.manipulable[:, i]].all()
        if session_is_new:
            session.observe(decision.variable, np.random.default_rng(0).standard_normal(task.valid.shape))


def test_a_decision_can_be_kept_to_some_variables(make_backend):
    _, backend, state, (problems, observation_mask, noise) = setup(make_backend, scm={"manipulable": 1.0})
    task = observe(problems, noise.observation, observation_mask)
    session = backend.session(state, task, 1)
    for kind in ("policy_head", "outcome_head"):
        first = session.decide(decision=kind)
        others = np.arange(task.valid.shape[1]) != first.variable[:, None]
        second = session.decide(decision=kind, allowed=others)
        assert (second.variable != first.variable).all()
        assert np.take_along_axis(task.manipulable, second.variable[:, None], axis=1).all()
        assert session.decide(decision=kind).variable.tolist() == first.variable.tolist()


def test_what_stands_in_padding_is_never_read(make_backend):
    """NaN in every padded place, of observations and of measured rows: the same decisions."""
    _, backend, state, (problems, observation_mask, noise) = setup(make_backend)
    task = observe(problems, noise.observation, observation_mask)
    assert not task.valid.all() and not observation_mask.all()
    padding = ~(task.valid[:, None] & observation_mask[:, :, None])
    dirty = dataclasses.replace(task, observations=np.where(padding, np.nan, task.observations))
    rows, variable = np.random.default_rng(0).standard_normal(task.valid.shape), np.argmax(task.manipulable, axis=1)
    decisions = []
    for given, row in ((task, rows), (dirty, np.where(task.valid, rows, np.nan))):
        session = backend.session(state, given, 1)
        session.observe(variable, row)
        decisions.append(session.decide())
    for field in dataclasses.fields(decisions[0]):
        a, b = (getattr(d, field.name) for d in decisions)
        assert np.isfinite(a).all()
        np.testing.assert_array_equal(a, b)


def test_a_session_keeps_the_parameters_it_was_opened_with(make_backend):
    config, backend, state, data = setup(make_backend)
    if backend.name == "jax":
        pytest.skip("an update takes the old state's buffers, and a session on them says so")
    problems, observation_mask, noise = data
    session = backend.session(state, observe(problems, noise.observation, observation_mask), 1)
    before = session.decide(decision="outcome_head")
    t = backend.rollout(state, *data, 1.5)
    backend.update(
        state, t, minibatch_order(config, 0), ScheduledCoefficients(learning_rate=0.1, entropy_coefficient=0.0)
    )
    np.testing.assert_array_equal(session.decide(decision="outcome_head").outcome_mean, before.outcome_mean)


def test_extreme_shapes(make_backend):
    for changes in (
        {
            "observations_per_episode": 0,
            "interventions_per_episode": 1,
            "batch_size": 1,
            "grpo": {"minibatches": 1, "group_size": 2},
        },
        {
            "curriculum": {"stages": [{"name": "two", "variables": [2, 2], "graphs": ["chain"]}]},
            "heads": {"probes": 0},
        },
    ):
        config, backend, state, data = setup(make_backend, **changes)
        t = backend.rollout(state, *data, 1.5)
        _, diagnostics = backend.update(state, t, minibatch_order(config, 0), HYPER)
        assert diagnostics["skipped_steps"] == 0 and all(np.isfinite(v) for v in diagnostics.values())


def test_registry_errors():
    with pytest.raises(AcboError) as caught:
        backend_maker("jaxx")
    assert "jax" in caught.value.hint
    assert unavailable("ref") is None and default_backend() == available()[0]


def test_a_missing_extra_is_explained_in_one_line(monkeypatch):
    import acbo_fast

    monkeypatch.setattr(acbo_fast, "find_spec", lambda name: None if name in ("jax", "numba") else True)
    with pytest.raises(AcboError) as caught:
        backend_maker("jax")
    assert caught.value.message == f"backend 'jax' needs jax: {install('jax')} (available here: ref)"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_lever_that_never_moves_has_no_effect(make_backend, dtype):
    """X0 held at 70.1, X1 within 0.001 of 63.3: what such levers do is not in these rows, and
    rounding must not invent it.
    """
    rng = np.random.default_rng(0)
    rows = np.stack([np.full(50, 70.1), 63.3 + 0.001 * rng.standard_normal(50), rng.uniform(20, 80, 50)], axis=1)
    y = rows[:, 2] / 10 + rng.standard_normal(50)
    config = small_config(dtype=dtype)
    task = Task(
        np.concatenate([rows, y[:, None]], axis=1)[None], np.ones((1, 50), bool), np.array([3]), np.ones((1, 4), bool),
        np.array([[True, True, True, False]]), np.zeros((1, 4)), np.full((1, 4), 100.0),
    )  # fmt: skip
    reference = ReferenceBackend(dataclasses.replace(config, dtype="float64"))
    state = perturbed_state(reference)
    backend = make_backend(config)
    expected = reference.session(state, task, 1).decide(decision="policy_head")
    found = backend.session(backend.from_host(state), task, 1).decide(decision="policy_head")
    np.testing.assert_allclose(found.probability, expected.probability, atol=1e-3)


def test_a_refused_row_takes_no_place(make_backend):
    _, backend, state, (systems, observation_mask, noise) = setup(make_backend)
    session = backend.session(state, observe(systems, noise.observation, observation_mask), 1)
    variable, rows = np.zeros(len(systems.target), int), np.zeros(systems.valid.shape)
    with pytest.raises((ValueError, TypeError, IndexError)):
        session.observe(variable, rows[:, :, None] * np.ones(3))
    session.observe(variable, rows)
    with pytest.raises(ValueError, match="opened for 1 interventions"):
        session.observe(variable, rows)
