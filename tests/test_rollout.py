"""Episodes: streams of noise, candidates, probes and judging, against numbers derived by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import xlogy

from acbo_ref import SCM, Variable
from acbo_ref.backend import ReferenceBackend
from acbo_ref.grpo.noise import antithetic, draw_noise
from acbo_ref.grpo.rollout import draw_candidates, judge, observe, probe_actions, rollout
from acbo_ref.policy.heads import OutcomeState, PolicyOutputs
from acbo_ref.policy.inputs import Units, standard_units
from acbo_ref.policy.layers import MASKED
from acbo_ref.policy.session import Session
from acbo_ref.randomness import Role, generator
from acbo_ref.systems.batch import causes, simulate
from acbo_ref.systems.scm import stack
from acbo_ref.verify.data import iteration_data, perturbed_state, small_config


def test_every_kind_of_noise_is_a_stream_of_its_own():
    """Of seed, role and iteration: E = 6 episodes, O = 4 rows, K = 3 decisions, G = 7 candidates,
    P = 2 probes, V = 5 variables, M = 8 draws.
    """
    given = {"reward": {"noise_draws": 8}, "heads": {"commit_by_outcome_head": 0.5}}
    config = small_config(seed=3, optimism=1.5, **given)
    noise = draw_noise(config, 11, 4, 5)

    def stream(role):
        return generator(3, role, 11)

    both = stream(Role.EXOGENOUS_NOISE)
    assert (noise.observation == both.standard_normal((6, 4, 5))).all()
    assert (noise.intervention == both.standard_normal((6, 3, 5))).all()
    assert (noise.gumbel == stream(Role.VARIABLE_CHOICE).gumbel(size=(6, 3, 7, 5))).all()
    assert (noise.normal == stream(Role.VALUE_CHOICE).standard_normal((6, 3, 7))).all()
    assert (noise.probe == stream(Role.PROBES).random((6, 3, 2, 2))).all()
    assert (noise.optimism == 3.0 * stream(Role.OPTIMISM).random(6)).all()
    assert (noise.by_outcome_head == (stream(Role.COMMITTED).permutation(6) < 3)).all()
    late = stream(Role.LEARNED).random((6, 2))[:, 1] >= 0.5  # of decisions 1 and 2 the second
    assert (noise.learned == np.stack([np.zeros(6), 1 + late], axis=1)).all()
    fresh = stream(Role.SCORING_NOISE).standard_normal((6, 3, 3, 5))
    assert noise.scoring.shape == (6, 3, 7, 5)
    expected = [-noise.intervention, *(sign * fresh[:, :, n] for n in range(3) for sign in (1.0, -1.0))]
    assert (noise.scoring == np.stack(expected, axis=2)).all()


@pytest.mark.parametrize("draws", [1, 2, 3, 4, 5, 6])
def test_a_draw_is_followed_by_its_mirror_image(draws):
    noise, fresh = np.array([[[1.0, 2.0]]]), np.array([[[[3.0, 4.0], [5.0, 6.0]]]])
    whole = [[-1.0, -2.0], [3.0, 4.0], [-3.0, -4.0], [5.0, 6.0], [-5.0, -6.0]]
    found = antithetic(noise, fresh, draws)
    assert found.shape == (1, 1, draws - 1, 2) and found[0, 0].tolist() == whole[: draws - 1]


def test_the_share_of_the_outcome_head_is_exact_over_iterations():
    """A quarter of six episodes is 1, 2, 1, 2, ...; 0.29 of a hundred are 29, though 100 * 0.29 is
    28.99... in floats. Which ones, changes from one iteration to the next.
    """
    given = {"heads": {"commit_by_outcome_head": 0.25}}
    drawn = [draw_noise(small_config(**given), n, 2, 3).by_outcome_head for n in range(6)]
    assert [chosen.sum() for chosen in drawn] == [1, 2, 1, 2, 1, 2] and drawn[1].dtype == bool
    assert len({tuple(chosen) for chosen in drawn}) > 3
    hundred = small_config(batch_size=100, heads={"commit_by_outcome_head": 0.29})
    assert [draw_noise(hundred, n, 2, 3).by_outcome_head.sum() for n in range(3)] == [29] * 3


def test_one_decision_of_every_stretch_is_learned_from():
    """Of seven decisions three: one of 0 and 1, one of 2 and 3, one of 4 to 6, each as often as the
    others of its stretch; all, where that is asked for.
    """

    def learned(number):
        grpo = {"learned_decisions": number}
        return draw_noise(small_config(batch_size=600, interventions_per_episode=7, grpo=grpo), 0, 1, 3).learned

    three = learned(3)
    assert three.shape == (600, 3) and three.dtype.kind == "i"
    counts = [np.bincount(column, minlength=7) for column in three.T]
    for count, stretch in zip(counts, ([0, 1], [2, 3], [4, 5, 6]), strict=True):
        assert set(np.flatnonzero(count)) == set(stretch)
        assert abs(count[stretch] - 600 / len(stretch)).max() < 5 * np.sqrt(150)
    for number in (7, 9, None):
        assert (learned(number) == np.arange(7)).all()


def one_decision(log_stds=None):
    """Two systems of three variables: choices with odds of 1 to 3, the third cannot be chosen."""
    logits = np.array([[[0.0, np.log(3.0), MASKED]], [[np.log(3.0), 0.0, MASKED]]])
    means = np.array([[[1.0, -2.0, 9.0]], [[0.5, 4.0, 9.0]]])
    return PolicyOutputs(logits, means, log_stds, logits, OutcomeState(*[logits] * 5))


def test_candidates_by_hand():
    """log 3 is 1.1: a Gumbel number of 1 for the other changes nothing, one of 1.2 does; and no
    such number opens what is masked.
    """
    gumbel = np.array([[[1.0, 0.0, 1e6], [1.2, 0.0, 0.0]], [[0.0, 1.2, 0.0], [0.0, 1.0, 1e6]]])
    normal = np.array([[2.0, -1.0], [0.0, 1.0]])
    variable, value, log_prob = draw_candidates(one_decision(), gumbel, normal, 1.5)
    assert variable.tolist() == [[1, 0], [1, 0]]
    assert value.tolist() == [[-2.0 + 3.0, 1.0 - 1.5], [4.0, 0.5 + 1.5]]
    choice = np.log([[0.75, 0.25], [0.25, 0.75]])
    assert log_prob == pytest.approx(choice + stats.norm.logpdf(normal) - np.log(1.5))
    learned = np.log(np.array([[[0.5, 2.0, 1.0]], [[3.0, 4.0, 1.0]]]))
    variable, value, log_prob = draw_candidates(one_decision(learned), gumbel, normal, 99.0)
    assert value == pytest.approx(np.array([[-2.0 + 4.0, 1.0 - 0.5], [4.0, 0.5 + 3.0]]))
    assert log_prob == pytest.approx(choice + stats.norm.logpdf(normal) - np.log([[2.0, 0.5], [4.0, 3.0]]))


def test_probes_by_hand():
    """The second and the fourth can be chosen in the first system, all in the second; the largest
    uniform number, rounded to 1, still names the last.
    """
    choosable = np.array([[False, True, False, True], [True] * 4])
    uniform = np.array([[[0.0, 0.5], [0.49, 0.75], [0.5, 0.0], [1.0, 1.0]]] * 2)
    variable, value = probe_actions(uniform, choosable)
    assert variable.tolist() == [[1, 1, 3, 3], [0, 1, 2, 3]]
    assert value.tolist() == [[0.0, 2.5, -5.0, 5.0]] * 2
    wide = np.arange(200)[None] % 2 == 0
    middles = (np.arange(100) + 0.5) / 100
    assert (probe_actions(np.stack([middles, middles], axis=-1)[None], wide)[0] == np.arange(0, 200, 2)).all()


def judged(draws, variable, value, saturate=False):
    """Y = 3 + 2 X + e_Y with X = 1 + e_X in [0, 20], in units of X from its middle and of Y from 5
    in steps of 4.
    """
    variables = (Variable("X", 1.0, 1.0, 0.0, 20.0), Variable("Y", 3.0, 1.0, -1.0, 1.0))
    system = stack([SCM("two", "Y", variables, {("X", "Y"): 2.0}, saturate=saturate)])
    task = observe(system, np.zeros((1, 2, 2)), np.ones((1, 2), bool))
    assert (task.observations == [[[1.0, 5.0]] * 2]).all()
    units = Units(np.array([[10.0, 5.0]]), np.array([[2.0, 4.0]]), np.zeros((1, 2)), np.zeros((1, 2)))
    return judge(system, task, units, np.array([draws]), np.array([variable]), np.array([value]))


def test_judging_by_hand():
    """X at 10 + 2 * -4 = 2 gives Y = 7 + e, at 10 it gives 23 + e; Y set to 5 + 4 * 2 is 13. Over
    e = 1 and -3: means 6, 22 and 13; in units (6 - 5) / 4, (22 - 5) / 4 and 2.
    """
    found = judged([[0.5, 1.0], [0.1, -3.0]], [0, 0, 1], [-4.0, 0.0, 2.0])
    assert found.raw_value.tolist() == [[2.0, 10.0, 13.0]]
    assert found.rows.tolist() == [[[2.0, 8.0], [10.0, 24.0], [1.5, 13.0]]]
    assert found.outcome[0] == pytest.approx([0.25, 4.25, 2.0])
    assert found.variance[0] == pytest.approx([0.25, 0.25, 0.0])


def test_outcomes_are_judged_as_if_they_lay_at_most_thirty_units_away():
    """X at 20 gives Y = 43 + e: (43 + 18 - 5) / 4 = 14 and (43 + 98 - 5) / 4 = 34, read as 30."""
    found = judged([[0.0, 18.0], [0.0, 98.0]], [0], [5.0])
    assert found.outcome[0, 0] == pytest.approx((14 + 30) / 2) and found.variance[0, 0] == pytest.approx(64.0)
    below = judged([[0.0, -200.0], [0.0, -158.0]], [0], [5.0])  # -40.5, and (43 - 158 - 5) / 4 = -30
    assert below.outcome[0, 0] == -30.0 and below.variance[0, 0] == 0.0


def test_a_reward_has_three_parts():
    """The judged outcome, a direct cause, and what the candidate's own row does to the entropy of
    the parents: read for good, in a session of its own.
    """
    config = small_config(
        dtype="float64", reward={"target": 0.9, "parent": 0.2, "info_gain": 0.4}, grpo={"learned_decisions": None}
    )
    params = perturbed_state(ReferenceBackend(config)).params
    systems, mask, noise = iteration_data(config)
    t = rollout(params, config, systems, mask, noise, 1.5)
    task, each = observe(systems, noise.observation, mask), np.arange(config.batch_size)[:, None]
    variable, units = t.variable[:, 0], standard_units(task)
    raw = units.location[each, variable] + units.scale[each, variable] * np.clip(t.value[:, 0], -5.0, 5.0)
    rows = simulate(systems, np.repeat(noise.intervention[:, :1], 7, axis=1), variable, raw)

    def entropy(session):
        p = session.decide().parent_probability
        return -(xlogy(p, p) + xlogy(1 - p, 1 - p)).sum(axis=1)

    gain = np.zeros(variable.shape)
    for g in range(7):
        session = Session(params, config, task, 1)
        before = entropy(session)
        session.observe(variable[:, g], rows[:, g])
        gain[:, g] = before - entropy(session)
    is_parent = systems.edges[each, variable, systems.target[:, None]]
    expected = -0.9 * t.judged_outcome[:, 0, :7] / 5 + 0.2 * is_parent + 0.4 * gain
    np.testing.assert_allclose(t.rewards[:, 0], expected, atol=1e-12)
    assert is_parent.any() and not is_parent.all() and np.abs(gain).max() > 1e-3


def test_what_was_played_is_told():
    """Which judged action was carried out, its raw value, the target it gave, and what was expected
    of it; which variables are the target's causes.
    """
    config = small_config(dtype="float64", heads={"commit_by_outcome_head": 0.5}, grpo={"learned_decisions": None})
    params = perturbed_state(ReferenceBackend(config)).params
    systems, mask, noise = iteration_data(config)
    t = rollout(params, config, systems, mask, noise, 1.5)
    assert noise.by_outcome_head.sum() == 3 and (t.committed == np.where(noise.by_outcome_head, 7, 0)).all()
    assert (t.learned == np.arange(3)).all() and t.fixed_std == 1.5
    each = np.arange(6)
    done, value, expected = (
        array[each, :, t.committed] for array in (t.judged_variable, t.judged_value, t.judged_outcome)
    )
    assert (t.done == done).all() and (t.expected == expected).all()
    units, at = standard_units(observe(systems, noise.observation, mask)), (each[:, None], done)
    assert t.applied == pytest.approx(units.location[at] + units.scale[at] * value)
    rows = simulate(systems, noise.intervention, done, t.applied)
    assert t.outcome == pytest.approx(rows[each, :, systems.target])
    is_target = np.arange(5) == systems.target[:, None]
    assert (t.parent_mask == (systems.valid & ~is_target)).all()
    assert (t.parents == systems.edges[each, :, systems.target]).all() and (t.causes[..., 0] == systems.edges).all()


def test_own_outcomes_before_each_decision():
    """What was done before a decision counts there, and nothing later; outcomes are as measured,
    less what other variables did of themselves.
    """
    config = small_config(dtype="float64", grpo={"learned_decisions": None})
    params = perturbed_state(ReferenceBackend(config)).params
    systems, mask, noise = iteration_data(config)
    t = rollout(params, config, systems, mask, noise, 1.5)
    assert t.tried.variable.shape == (6, 3, 2)
    for k in range(3):
        assert (t.tried.counts[:, k] == (np.arange(2) < k)).all()
        assert (t.tried.variable[:, k, :k] == t.done[:, :k]).all()
        standard = t.judged_value[np.arange(6), :, t.committed][:, :k]
        np.testing.assert_allclose(t.tried.value[:, k, :k], standard, atol=1e-9)
    units, each = standard_units(observe(systems, noise.observation, mask)), np.arange(6)
    at = each, systems.target
    measured = (t.outcome - units.location[at][:, None]) / units.scale[at][:, None]
    taken_off = np.clip(measured[:, :2], -15, 15) - t.tried.outcome[:, 2]
    assert np.isfinite(taken_off).all() and np.abs(taken_off).max() > 1e-3


def test_causes_by_hand():
    """0 -> 1 -> 2, and 3 apart."""
    edges = np.zeros((1, 4, 4), bool)
    edges[0, 0, 1] = edges[0, 1, 2] = True
    found = causes(edges)[0]
    assert np.argwhere(found[..., 0]).tolist() == [[0, 1], [1, 2]]
    assert np.argwhere(found[..., 1]).tolist() == [[0, 1], [0, 2], [1, 2]]
    chain = np.eye(64, k=1, dtype=bool)[None]
    assert (causes(chain)[0, ..., 1] == np.triu(np.ones((64, 64), bool), 1)).all()
