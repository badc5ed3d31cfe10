"""GRPO against numbers derived by hand; gradients are checked in test_gradients.py."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from acbo_ref.config import RewardConfig
from acbo_ref.grpo.credit import reward
from acbo_ref.grpo.loss import (
    LossWeights,
    advantages,
    clipped_objective_backward,
    clipped_objective_forward,
    edge_loss_forward,
    edge_mask,
    entropy_backward,
    entropy_forward,
    label_weights,
    log_prob_backward,
    log_prob_forward,
    loss_forward,
    loss_terms,
    outcome_loss_backward,
    outcome_loss_forward,
    parent_entropy,
    parent_loss_forward,
    total_loss,
    zero_std_groups,
)
from acbo_ref.policy import layers
from acbo_ref.policy.heads import OutcomePrediction, OutcomeState, PolicyOutputs
from acbo_ref.policy.layers import MASKED


def test_advantages_by_hand():
    rewards = np.array([[[1.0, 2.0, 6.0]]])
    # mean 3, centred (-2, -1, 3), std sqrt(14 / 3)
    std = np.sqrt(14 / 3)
    assert advantages(rewards, "group")[0, 0] == pytest.approx(np.array([-2, -1, 3]) / (std + 1e-4))
    assert advantages(rewards, "none")[0, 0] == pytest.approx([-2, -1, 3])
    two = np.array([[[1.0, 3.0]], [[10.0, 10.0]]])
    # batch: mean 6, deviations 5, 3, 4, 4 -> std sqrt(66 / 4)
    expected = np.array([[-1.0, 1.0], [0.0, 0.0]]) / (np.sqrt(16.5) + 1e-4)
    assert advantages(two, "batch")[:, 0] == pytest.approx(expected)
    # each group has its own deviation: 1 and 3
    own = advantages(np.array([[[1.0, 3.0], [10.0, 16.0]]]), "group")
    assert own[0] == pytest.approx(np.array([[-1.0, 1.0], [-3.0, 3.0]]) / np.array([[1.0001], [3.0001]]), rel=1e-12)


@pytest.mark.parametrize("value", [0.1, 1e30, -3.3])
@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_equal_rewards_have_no_advantage(value, scale):
    rewards = np.full((2, 3, 7), value)  # 0.1 summed seven times and divided is not 0.1
    assert (advantages(rewards, scale) == 0).all() and zero_std_groups(rewards).all()


def test_advantages_of_shifted_rewards_keep_their_digits():
    rewards = np.random.default_rng(0).standard_normal((2, 3, 9))
    shifted = advantages(rewards + 1e6, "group")  # two passes: E[x^2] - E[x]^2 would lose all of it
    np.testing.assert_allclose(shifted, advantages(rewards, "group"), atol=1e-9)


def test_the_clipped_objective_by_hand():
    ratio = np.array([0.5, 0.5, 1.0, 1.5, 1.5])
    advantage = np.array([1.0, -1.0, 2.0, 1.0, -1.0])
    value, is_unclipped = clipped_objective_forward(ratio, advantage, 0.2, 0.3)
    # 0.5 * 1 = 0.5 < 0.8;  min(-0.5, -0.8) = -0.8;  2;  min(1.5, 1.3);  min(-1.5, -1.3)
    assert value == pytest.approx([0.5, -0.8, 2.0, 1.3, -1.5])
    assert is_unclipped.tolist() == [True, False, True, False, True]
    assert clipped_objective_backward(np.ones(5), advantage, is_unclipped).tolist() == [1.0, 0.0, 2.0, 0.0, -1.0]


def outputs(log_stds=None):
    logits = np.array([[[0.0, np.log(3.0), MASKED]]])
    means = np.array([[[1.0, -2.0, 9.0]]])
    return PolicyOutputs(logits, means, log_stds, logits, OutcomeState(*[logits] * 5))


def test_log_prob_is_choice_times_normal():
    variable, value = np.array([[[0, 1]]]), np.array([[[2.5, -2.0]]])
    found, _ = log_prob_forward(outputs(), variable, value, 1.5)
    expected = [np.log(0.25) + stats.norm.logpdf(2.5, 1.0, 1.5), np.log(0.75) + stats.norm.logpdf(-2.0, -2.0, 1.5)]
    assert found[0, 0] == pytest.approx(expected)
    learned = outputs(np.log(np.array([[[0.5, 2.0, 1.0]]])))
    found, _ = log_prob_forward(learned, variable, value, 99.0)
    assert found[0, 0, 0] == pytest.approx(np.log(0.25) + stats.norm.logpdf(2.5, 1.0, 0.5))


def test_entropy_ignores_what_cannot_be_chosen():
    entropy, cache = entropy_forward(outputs().logits)
    assert entropy[0, 0] == pytest.approx(-(0.25 * np.log(0.25) + 0.75 * np.log(0.75)))
    assert entropy_backward(np.ones((1, 1)), cache)[0, 0, 2] == 0
    assert entropy_forward(np.zeros((1, 5)))[0][0] == pytest.approx(np.log(5))
    one = np.array([[MASKED, 0.3, MASKED]])
    assert entropy_forward(one)[0][0] == 0


def test_the_gradient_of_the_entropy_by_hand():
    """- p (log p + H) each, times what is asked for: here 2; nothing for what cannot be chosen."""
    _, cache = entropy_forward(outputs().logits)
    p = np.array([0.25, 0.75])
    entropy = -(p * np.log(p)).sum()
    found = entropy_backward(np.full((1, 1), 2.0), cache)[0, 0]
    assert found == pytest.approx(np.append(-2.0 * p * (np.log(p) + entropy), 0.0))


def test_cross_entropies_are_means_within_an_episode():
    """One variable counts in the first, three in the second; at logits of 0 each costs log 2, and
    slopes are +-1/2 over their number.
    """
    mask = np.array([[True, False, False], [True, True, True]])
    truth = np.array([[True, False, False], [False, True, False]])
    loss, slope = parent_loss_forward(np.zeros((2, 1, 3)), truth, mask)
    assert loss.tolist() == [[np.log(2)], [pytest.approx(np.log(2))]]
    assert slope[:, 0] == pytest.approx(np.array([[-1 / 2, 0.0, 0.0], [1 / 6, -1 / 6, 1 / 6]]))
    small = parent_loss_forward(np.zeros((2, 1, 3), np.float32), truth, mask)
    assert {a.dtype for a in small} == {np.dtype(np.float32)}


def test_parent_loss_counts_the_variables_that_count():
    logits = np.array([[[0.0, 2.0, -1e3, 50.0]]])
    parents, mask = np.array([[True, False, False, True]]), np.array([[True, True, True, False]])
    loss, _ = parent_loss_forward(logits, parents, mask)
    # log 2, softplus(2), softplus(-1000) = 0; the fourth is the target
    assert loss[0, 0] == pytest.approx((np.log(2) + np.log1p(np.exp(2.0)) + 0) / 3)


def test_edge_loss_counts_the_pairs_that_count():
    mask = edge_mask(np.array([[True, True, False]]))
    assert mask[0].tolist() == [[False, True, False], [True, False, False], [False, False, False]]
    logits, causes = np.full((1, 2, 3, 3, 2), 50.0), np.zeros((1, 3, 3, 2), bool)
    causes[0, 0, 1] = True  # 0 causes 1, directly and so at all, and not the other way round
    logits[0, 0, 0, 1], logits[0, 0, 1, 0] = (np.log(3.0), 1e3), (-np.log(4.0), -1e3)
    logits[0, 1, 0, 1], logits[0, 1, 1, 0] = 1e3, -1e3
    loss, slope = edge_loss_forward(logits, causes, mask)
    # -log 3/4 and -log(1 - 1/5) of two pairs and two answers; all else is as good as certain
    assert loss[0].tolist() == pytest.approx([(np.log(4 / 3) + np.log(5 / 4)) / 4, 0.0])
    assert slope[0, 0, ..., 0].ravel().tolist() == pytest.approx([0, -0.0625, 0, 0.05, 0, 0, 0, 0, 0])
    assert slope[0, 0, ..., 1].ravel().tolist() == pytest.approx([0] * 9)
    alone = edge_loss_forward(logits[:, :1], causes, edge_mask(np.array([[True, False, False]])))
    assert alone[0].tolist() == [[0.0]] and not alone[1].any()


def test_outcome_loss_is_two_normal_densities():
    """Of the judged outcome, and of two draws that scatter symmetrically around it."""
    mean, log_error, log_noise = np.array([1.0]), np.array([np.log(2.0)]), np.array([np.log(3.0)])
    nll, _ = outcome_loss_forward(
        OutcomePrediction(mean, log_error, log_noise, log_noise), np.array([4.0]), np.array([6.25]), np.array([0.7])
    )
    scatter = -stats.norm.logpdf([-2.5, 2.5], 0.0, 3.0).mean() - 0.5 * np.log(2 * np.pi)
    assert nll[0] == pytest.approx(-0.7 * stats.norm.logpdf(4.0, 1.0, 2.0) + scatter)


def test_the_gradient_of_the_outcome_loss_by_hand():
    """As above: z is 3 / 2, the weight 0.7, variance over noise^2 6.25 / 9; and 2 is asked for."""
    given = OutcomePrediction(np.array([1.0]), *np.log([[2.0], [3.0], [5.0]]))
    _, cache = outcome_loss_forward(given, np.array([4.0]), np.array([6.25]), np.array([0.7]))
    mean, log_error, log_noise, log_scatter = outcome_loss_backward(np.array([2.0]), cache)
    assert mean == pytest.approx(-2 * 0.7 * 1.5 / 2)
    assert log_error == pytest.approx(2 * 0.7 * (1 - 1.5**2))
    assert log_noise == pytest.approx(2 * (1 - 6.25 / 9)) and log_scatter == 0


def test_parent_entropy_by_hand():
    logits = np.array([0.0, np.log(3.0), 7.0])
    expected = np.log(2) + -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert parent_entropy(logits, np.array([True, True, False])) == pytest.approx(expected)
    assert parent_entropy(np.array([1e4, -1e4]), np.ones(2)) == 0


def test_reward_by_hand():
    weights = RewardConfig(target=0.9, parent=0.1, info_gain=0.5)
    # 0.9 * (-(-2.5) / 5) + 0.1 * 1 + 0.5 * 0.4
    assert reward(np.array(-2.5), np.array(True), np.array(0.4), weights) == pytest.approx(0.75)


def test_the_loss_is_a_sum_of_five_terms():
    """The objective is maximised and entropy rewarded; the other three are costs."""
    weights = LossWeights(0.2, 0.3, entropy=0.01, parent=2.0, outcome=3.0, edge=5.0)
    terms = {"clipped_objective": 1.0, "entropy": 10.0, "parent_loss": 100.0, "outcome_loss": 1e3, "edge_loss": 1e4}
    assert loss_terms(weights) == {
        "clipped_objective": -1.0, "entropy": -0.01, "parent_loss": 2.0, "outcome_loss": 3.0, "edge_loss": 5.0
    }  # fmt: skip
    assert total_loss(terms, weights) == pytest.approx(-1.0 - 0.1 + 200.0 + 3e3 + 5e4)


def test_the_gradient_of_log_prob_by_hand():
    """Two states, in each the first variable with probability 1/4 and the second with 3/4. Choices
    0 and 1 with weights 1 and 2 give [1, 2] - 3 [1/4, 3/4] for the logits; in the second state
    choice 1 twice, with weights 1 and 4.
    """
    logits = np.tile([0.0, np.log(3.0)], (1, 2, 1))
    means, log_stds = np.tile([1.0, -2.0], (1, 2, 1)), np.log(np.tile([0.5, 2.0], (1, 2, 1)))
    given = PolicyOutputs(logits, means, log_stds, logits, OutcomeState(*[logits] * 5))
    variable, value = np.array([[[0, 1], [1, 1]]]), np.array([[[2.5, -2.0], [0.0, 4.0]]])
    _, cache = log_prob_forward(given, variable, value, 99.0)
    d_logits, d_means, d_log_stds = log_prob_backward(np.array([[[1.0, 2.0], [1.0, 4.0]]]), cache)
    assert d_logits[0] == pytest.approx(np.array([[0.25, -0.25], [-1.25, 1.25]]))
    # z is 1.5 / 0.5 = 3 and 0; then 2 / 2 = 1 and 6 / 2 = 3
    assert d_means[0] == pytest.approx(np.array([[3 / 0.5, 0.0], [0.0, 1 / 2 + 4 * 3 / 2]]))
    assert d_log_stds[0] == pytest.approx(np.array([[9 - 1, -2.0], [0.0, 0.0 + 4 * (9 - 1)]]))


def test_label_weights_by_hand():
    """An error of 3: its square with power 1, the error itself with 1/2, nothing with 0."""
    log_error = np.log(np.array([3.0]))
    assert [label_weights(log_error, power, np.exp)[0] for power in (1.0, 0.5, 0.0)] == pytest.approx([9.0, 3.0, 1.0])


def test_the_loss_keeps_the_dtype_of_the_network():
    given = outputs(np.zeros((1, 1, 3)))
    small = PolicyOutputs(*(getattr(given, n).astype(np.float32) for n in ("logits", "means", "log_stds")), None, None)
    variable, value = np.array([[[0, 1]]]), np.array([[[2.5, -2.0]]], np.float32)
    log_prob, cache = log_prob_forward(small, variable, value, 1.5)
    assert {a.dtype for a in (log_prob, *cache)} == {np.dtype(np.float32)}
    assert {a.dtype for a in log_prob_backward(log_prob, cache)} == {np.dtype(np.float32)}


def test_extreme_numbers_stay_finite():
    big = np.array([1e4, -1e4, 0.0])
    assert np.isfinite(layers.softplus(big)).all() and layers.sigmoid(big).tolist() == [1.0, 0.0, 0.5]
    assert np.isfinite(layers.log_softmax(np.array([[1e30, MASKED, 0.0]]))).all()


def test_the_entropy_of_the_parents_is_one_number_a_state():
    logits = np.random.default_rng(0).standard_normal((2, 3, 4))
    mask = np.array([True, False, True, True])
    found = parent_entropy(logits, mask)
    p = 1 / (1 + np.exp(-logits))
    expected = (-(p * np.log(p) + (1 - p) * np.log(1 - p)) * mask).sum(axis=-1)
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_groups_that_teach_nothing():
    rewards = np.array([[[1.0, 1.0], [1.0, 2.0]], [[0.5, 0.5], [2.0, 2.0]]])
    assert zero_std_groups(rewards).tolist() == [[True, False], [True, True]]


def test_diagnostics_of_the_ratio_by_hand(played):
    """Ratios of 0.5, 0.7, 1, 1.3 and 1.5 with advantages of both signs and sizes below 1, and of 0,
    which have no gradient to be cut; clip range 0.8 to 1.4.
    """
    from acbo_ref.grpo.update import minibatch
    from acbo_ref.policy import network

    config, state, _, _, _, t = played
    advantage = np.full(t.rewards.shape, 0.5)
    advantage[..., ::2] = -0.5
    advantage[:2] = 0.0
    inputs, batch = minibatch(t, advantage, np.arange(config.batch_size))
    outputs, _ = network.forward(state.params, config.policy, inputs, batch.variable.shape[1])
    log_prob, _ = log_prob_forward(outputs, batch.variable, batch.value, batch.fixed_std)
    ratio = np.array([0.5, 0.7, 1.0, 1.3, 1.5])[np.arange(log_prob.size) % 5].reshape(log_prob.shape)
    batch = batch._replace(old_log_prob=log_prob - np.log(ratio))
    _, terms, _ = loss_forward(state.params, outputs, batch, LossWeights(0.2, 0.4, 0.0, 0.0, 0.0, 0.0))
    assert terms["clip_ratio_low"] == pytest.approx(((ratio < 0.8) & (advantage < 0)).mean())
    assert terms["clip_ratio_high"] == pytest.approx(((ratio > 1.4) & (advantage > 0)).mean())
    assert 0 < terms["clip_ratio_low"] < (ratio < 0.8).mean() and terms["clip_ratio_high"] > 0
    assert terms["approx_kl"] == pytest.approx((ratio - 1 - np.log(ratio)).mean())


def test_the_slope_of_the_loss_along_random_directions(played):
    """Of what the heads say, each by itself, off policy: differences against the gradient."""
    from acbo_ref.grpo.loss import loss_backward
    from acbo_ref.grpo.update import minibatch
    from acbo_ref.policy import network
    from acbo_ref.verify.data import off_policy

    config, state, _, _, _, t = played
    t = off_policy(t)
    inputs, batch = minibatch(t, advantages(t.rewards, "group"), np.arange(3))
    weights = LossWeights(0.2, 0.3, entropy=0.7, parent=1.1, outcome=1.3, edge=1.7)
    outputs, _ = network.forward(state.params, config.policy, inputs, batch.variable.shape[1])
    _, _, cache = loss_forward(state.params, outputs, batch, weights)
    gradient = loss_backward(state.params, outputs, batch, weights, cache, {})
    assert (gradient.outcome.centre == 0).all() and gradient.outcome.centre.shape == outputs.outcome.centre.shape

    def loss(moved):
        return loss_forward(state.params, moved, batch, weights)[0]

    rng = np.random.default_rng(0)
    for name in ("logits", "means", "parent_logits", "edge_logits", "hidden", "slope"):
        inner = name in ("hidden", "slope")
        array, slope = (getattr(record.outcome if inner else record, name) for record in (outputs, gradient))
        step = np.where(array == MASKED, 0.0, 1e-5 * rng.standard_normal(array.shape))
        ends = []
        for sign in (1.0, -1.0):
            changed = {name: array + sign * step}
            ends.append(
                loss(
                    outputs._replace(outcome=outputs.outcome._replace(**changed))
                    if inner
                    else outputs._replace(**changed)
                )
            )
        assert (ends[0] - ends[1]) / 2 == pytest.approx((slope * step).sum(), rel=1e-5), name


def test_without_an_edge_head_there_is_no_edge_loss():
    from acbo_ref.backend import ReferenceBackend
    from acbo_ref.grpo.loss import loss_backward
    from acbo_ref.grpo.update import minibatch
    from acbo_ref.policy import network
    from acbo_ref.verify.data import ROWS, iteration_data, perturbed_state, small_config

    config = small_config(policy=ROWS, grpo={"learned_decisions": None})
    reference = ReferenceBackend(config)
    state = perturbed_state(reference)
    t = reference.rollout(state, *iteration_data(config), config.policy.fixed_std)
    inputs, batch = minibatch(t, np.ones(t.rewards.shape), np.arange(2))
    outputs, _ = network.forward(state.params, config.policy, inputs, batch.variable.shape[1])
    weights = LossWeights(0.2, 0.2, 0.0, 0.0, 0.0, edge=1e6)
    loss, terms, cache = loss_forward(state.params, outputs, batch, weights)
    assert terms["edge_loss"] == 0.0 and loss == pytest.approx(-terms["clipped_objective"])
    assert terms["approx_kl"] == pytest.approx(0.0, abs=1e-12)  # one pass says what was said row by row
    assert loss_backward(state.params, outputs, batch, weights, cache, {}).edge_logits is None


def arrays_in(thing):
    """All arrays in records, lists and dictionaries of them."""
    if isinstance(thing, np.ndarray | np.generic):
        return [thing]
    parts = thing.values() if isinstance(thing, dict) else thing if isinstance(thing, list | tuple) else ()
    return [array for part in parts for array in arrays_in(part)]


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("fixed", [False, True])
def test_a_network_in_float32_computes_in_float32(rows, fixed):
    """Episodes, outputs, loss, every cache and every gradient; nothing is widened on the way."""
    from acbo_ref.backend import ReferenceBackend
    from acbo_ref.grpo.loss import loss_backward
    from acbo_ref.grpo.update import loss_weights, minibatch
    from acbo_ref.policy import network
    from acbo_ref.verify.data import ROWS, iteration_data, small_config

    trunk = {"policy": {**(ROWS if rows else {}), "use_fixed_std": fixed}}
    config = small_config(dtype="float32", **trunk, **({"grpo": {"learned_decisions": None}} if rows else {}))
    reference = ReferenceBackend(config)
    state = reference.init_state()
    t = reference.rollout(state, *iteration_data(config), config.policy.fixed_std)
    assert t.inputs.channels.dtype == t.inputs.evidence.dtype == np.float32
    for name in ("value", "log_prob", "rewards", "judged_value", "judged_outcome", "judged_variance", "judged_weight"):
        assert getattr(t, name).dtype == np.float32, name
    inputs, batch = minibatch(t, t.rewards, np.arange(2))
    outputs, forward_cache = network.forward(state.params, config.policy, inputs, batch.variable.shape[1])
    weights, grads = loss_weights(config, 0.01), {}
    _, _, cache = loss_forward(state.params, outputs, batch, weights)
    d_outputs = loss_backward(state.params, outputs, batch, weights, cache, grads)
    network.backward(state.params, config.policy, d_outputs, forward_cache, grads)
    for what in (outputs, forward_cache, cache, d_outputs, grads):
        assert not [array.shape for array in arrays_in(what) if array.dtype == np.float64]


def test_information_gain_is_what_reading_the_row_does_to_the_parents_entropy():
    """Each candidate's row read for good, in a session of its own, by both trunks."""
    from acbo_ref.backend import ReferenceBackend
    from acbo_ref.grpo.rollout import information_gain, observe
    from acbo_ref.policy.decoder import open_decoder
    from acbo_ref.policy.heads import parent_forward
    from acbo_ref.policy.reading import open_reading
    from acbo_ref.verify.data import ROWS, iteration_data, perturbed_state, small_config

    pairs = small_config(dtype="float64")
    for config in (pairs, small_config(dtype="float64", policy=ROWS, grpo={"learned_decisions": None})):
        params = perturbed_state(ReferenceBackend(config)).params
        systems, mask, noise = iteration_data(config)
        task = observe(systems, noise.observation, mask)
        counts = task.valid & ~task.is_target
        rng = np.random.default_rng(0)
        lever = task.manipulable.argmax(axis=1)
        variable, rows = np.stack([lever, lever], axis=1), rng.standard_normal((len(lever), 2, task.valid.shape[1]))

        def begun(config=config, params=params, task=task):
            reading = open_reading(task, config.policy, float)
            return reading, open_decoder(params, config.policy, task, reading, 2), reading.start()

        def entropy(decoder, view, params=params, counts=counts):
            return parent_entropy(parent_forward(params, decoder.append(view.channels).h)[0], counts)

        reading, decoder, view = begun()
        h = decoder.append(view.channels).h
        gain = information_gain(params, decoder, reading, h, task, variable, rows)
        assert gain.shape == (len(lever), 2)
        for g in range(2):
            reading, decoder, view = begun()
            before = entropy(decoder, view)
            after = entropy(decoder, reading.append(lever, rows[:, g]))
            np.testing.assert_allclose(gain[:, g], before - after, atol=1e-12)
        assert np.abs(gain[:, 0] - gain[:, 1]).max() > 1e-5
