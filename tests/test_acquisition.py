"""What the policy head gets of the outcome head's predictions, by hand, and how it starts."""

from __future__ import annotations

import numpy as np
import pytest

from acbo_ref.backend import ReferenceBackend
from acbo_ref.grpo.rollout import observe
from acbo_ref.grpo.update import loss_and_gradient, loss_weights, minibatch
from acbo_ref.policy.acquisition import (
    ACQUISITION_FEATURES,
    OnGrid,
    acquisition_features,
    hopeful,
    optimism_for_final,
    optimism_now,
)
from acbo_ref.systems.batch import simulate
from acbo_ref.verify.data import iteration_data, perturbed_state, small_config

GRID = np.array([-5.0, 0.0, 5.0])


def predicted():
    """Two variables and one that cannot be set, in one system. With c = 2 the bounds are -1, -4, 3
    and 0, -2, 1; the lowest means are 0 at -5 and -1 at 0.
    """
    mean = np.array([[[0.0, 2.0, 4.0], [1.0, -1.0, 2.0], [-9.0, -9.0, -9.0]]])
    error = np.array([[[0.5, 3.0, 0.5], [0.5, 0.5, 0.5], [9.0, 9.0, 9.0]]])
    allowed = np.array([[[True] * 3, [True] * 3, [False] * 3]])
    return OnGrid(mean, error), allowed


def value(x):
    return 6 / 5 * np.arctanh(x / 6)


def test_the_features_by_hand():
    on_grid, allowed = predicted()
    found = acquisition_features(on_grid, np.array([2.0]), allowed, GRID, np.array([4]))
    assert found.shape == (1, 3, ACQUISITION_FEATURES) and not found[0, 2].any()
    share = np.log(5) / np.log(51)
    expected = [
        [0.0, 3.0, 1.0, 0.5, -1.0, value(0.0), value(-5.0), share, 0.2],
        [2.0, 0.5, 0.0, 0.5, -1.0, value(0.0), value(0.0), share, 0.2],
    ]
    np.testing.assert_allclose(found[0, :2, :9], expected)
    products = [[share * row[n] for n in (0, 1, 2, 3, 5, 6)] for row in expected]
    np.testing.assert_allclose(found[0, :2, 9:], products)


def test_a_value_that_lies_too_far_is_not_told_of():
    on_grid, allowed = predicted()
    allowed[0, 0, 1] = False  # the bound of the first variable is now -1 at -5
    found = acquisition_features(on_grid, np.array([2.0]), allowed, GRID, np.array([0]))
    np.testing.assert_allclose(found[0, 0, :2], [1.0, 0.5])
    np.testing.assert_allclose(found[0, 0, 5:9], [value(-5.0), value(-5.0), 0.0, 1.0])
    assert not found[0, :, 9:].any()  # nothing is left


def test_the_order_of_variables_and_the_dtype():
    rng = np.random.default_rng(0)
    on_grid = OnGrid(*rng.standard_normal((2, 3, 4, 3)).astype(np.float32))
    on_grid = OnGrid(on_grid.mean, np.exp(on_grid.error))
    allowed, left = rng.random((3, 4, 3)) < 0.8, np.array([0, 3, 70])
    allowed[:, 0] = True
    found = acquisition_features(on_grid, np.full(3, 0.75), allowed, GRID, left)
    assert found.dtype == np.float32 and np.isfinite(found).all()
    order = np.array([2, 0, 3, 1])
    moved = OnGrid(*(array[:, order] for array in on_grid))
    assert (acquisition_features(moved, np.full(3, 0.75), allowed[:, order], GRID, left) == found[:, order]).all()


def test_optimism_falls_with_what_is_left():
    assert optimism_now(1.25, np.array([0, 19])).tolist() == [0.0, 1.25]
    assert optimism_for_final(20) == pytest.approx(np.log(20) / 2) and optimism_for_final(1) == 0.0
    assert optimism_now(2.0, 3) == pytest.approx(2 * np.log(4) / np.log(20))


def test_what_is_expected_to_do_harm_is_not_tried():
    """A mean of at most a quarter of its error; all that is near where nothing is, or where the
    observational mean is not known.
    """
    on_grid = OnGrid(np.array([[[0.2, 0.3, -1.0]]] * 4), np.ones((4, 1, 3)))
    near = np.array([[[True, True, True]], [[True, True, False]], [[False, True, False]], [[True, True, False]]])
    found = hopeful(on_grid, near, np.array([True, True, True, False]))
    assert found[:, 0].tolist() == [
        [True, False, True],
        [True, False, False],
        [False, True, False],
        [True, True, False],
    ]


def test_an_untrained_policy_head_decides_as_the_outcome_head(make_backend):
    """Whatever was seen so far, and also among some variables only."""
    config = small_config(dtype="float64", scm={"hidden": 0.0, "curved": 0.0})
    backend = make_backend(config)
    start, moved = ReferenceBackend(config).init_state(), perturbed_state(ReferenceBackend(config))
    # only the policy head is as it starts
    params = {n: v if n.startswith("policy_head") else moved.params[n] for n, v in start.params.items()}
    systems, observation_mask, noise = iteration_data(config)
    task = observe(systems, noise.observation, observation_mask)
    session = backend.session(backend.from_host(start._replace(params=params)), task, 3)
    few = task.manipulable & (np.cumsum(task.manipulable, axis=1) <= 2)
    for k in range(3):
        for allowed in (None, few):
            a, b = (session.decide(decision=head, allowed=allowed) for head in ("policy_head", "outcome_head"))
            assert (a.variable == b.variable).all()
            np.testing.assert_allclose(a.value, b.value, atol=1e-9)
            assert (a.probability.argmax(axis=1) == b.variable).all()
        rows = simulate(systems, noise.intervention[:, k : k + 1], a.variable[:, None], a.value[:, None])[:, 0]
        session.observe(a.variable, rows)


def test_what_is_left_is_told(make_backend):
    """A budget changes what a trained policy head says, and how much the outcome head explores, not
    what it would settle on.
    """
    config = small_config(dtype="float64")
    backend = make_backend(config)
    systems, observation_mask, noise = iteration_data(config)
    task = observe(systems, noise.observation, observation_mask)
    state = backend.from_host(perturbed_state(ReferenceBackend(config)))
    last, early, same = (backend.session(state, task, 1, budget) for budget in (1, 30, None))
    assert (last.decide().probability == same.decide().probability).all()
    assert np.abs(last.decide().probability - early.decide().probability).max() > 1e-4
    settled = [session.decide(decision="outcome_head", optimism=0.0) for session in (last, early)]
    assert (settled[0].value == settled[1].value).all()
    means = [session.decide(decision="outcome_head").outcome_mean for session in (last, early)]
    assert (means[0] <= means[1] + 1e-9).all() and (means[0] < means[1] - 1e-6).any()  # standard cost: lower is better


@pytest.mark.parametrize("into_trunk", [True, False])
def test_the_policy_head_can_be_kept_from_the_trunk(into_trunk):
    """With the other heads' weights at 0, nothing but the policy head moves."""
    config = small_config(
        dtype="float64",
        policy={"policy_into_trunk": into_trunk},
        heads={"parent_weight": 0.0, "outcome_weight": 0.0, "edge_weight": 0.0},
        decision="policy_head",
    )
    made = ReferenceBackend(config)
    state = perturbed_state(made)
    trajectories = made.rollout(state, *iteration_data(config), 1.5)
    inputs, batch = minibatch(trajectories, trajectories.rewards, np.arange(6))
    _, _, grads = loss_and_gradient(state.params, config, inputs, batch, loss_weights(config, 0.1))
    moved = {name for name, gradient in grads.items() if gradient.any()}
    heads = {name for name in grads if name.startswith("policy_head")}
    assert heads <= moved
    assert (moved == heads) is not into_trunk
