"""Local evidence: what own experiments said, where they were made."""

from __future__ import annotations

import numpy as np
import pytest

from acbo_ref.policy.evidence import DIRECT_EFFECT, EVIDENCE_CHANNELS
from acbo_ref.policy.heads import OutcomePrediction
from acbo_ref.policy.inputs import OUTCOME_BOUND, Task, standard_units
from acbo_ref.policy.local import (
    MOST_TRIED,
    OwnRows,
    Tried,
    local_backward,
    local_forward,
    no_own_rows,
    own_outcomes,
    own_row_added,
    predict_forward,
)
from acbo_ref.verify.gradients import local_case


def said(count, mean=0.0, error=1.0, scatter=1.0):
    """A head that says the same of every action."""
    full = np.full((1, count), 1.0)
    return OutcomePrediction(mean * full, np.log(error) * full, 0 * full, np.log(scatter) * full)


def tried(values, outcomes, variable=0):
    values = np.array(values, float)[None]
    return Tried(np.full(values.shape, variable), values, np.array(outcomes, float)[None], np.ones(values.shape, bool))


def posterior(at, own, length=0.5, variable=0, **head):
    """(mean, error) of actions at these values of one variable."""
    value = np.array(at, float)[None]
    asked, known = said(value.shape[1], **head), said(own.value.shape[1], **head)
    lengths = np.full(value.shape, np.log(length)), np.full(own.value.shape, np.log(length))
    found, _ = local_forward(asked, known, np.full(value.shape, variable), value, *lengths, own)
    return found.mean[0], np.exp(found.log_error[0])


def test_one_outcome_by_hand():
    """Prior N(0, 2^2), an outcome 3 with scatter 1 at the same place: 3 * 4 / 5 and sqrt(4 / 5);
    half a half domain away, with a length of half a half domain, k = exp(-1/2).
    """
    mean, error = posterior([0.0, 2.5], tried([0.0], [3.0]), error=2.0)
    k = np.exp(-0.5)
    np.testing.assert_allclose(mean, [2.4, 2.4 * k])
    np.testing.assert_allclose(error**2, [0.8, 4 * (1 - 0.8 * k**2)])


@pytest.mark.parametrize("error", [0.3, 3.0])
@pytest.mark.parametrize("scatter", [0.2, 5.0])
def test_the_error_falls_as_one_over_the_root_of_repetitions(error, scatter):
    """Whatever the noise; and never above that of the measurements alone."""
    for n in (1, 4, 16, 64, 256):
        mean, found = posterior([1.0], tried([1.0] * n, [2.0] * n), error=error, scatter=scatter)
        alone = max(scatter, error * np.sqrt(1e-3)) / np.sqrt(n)
        np.testing.assert_allclose(found, 1 / np.sqrt(1 / error**2 + 1 / alone**2), rtol=1e-6)
        np.testing.assert_allclose(mean, 2.0 * error**2 / (error**2 + alone**2), rtol=1e-6)


def test_it_grows_with_the_distance_and_stays_below_the_heads_own():
    _, error = posterior(np.linspace(0, 5, 11), tried([0.0], [1.0]), scatter=0.1)
    assert (np.diff(error) > 0).all() and error[-1] < 1.0 and error[-1] > 0.98


def test_other_variables_and_places_that_do_not_count_change_nothing():
    own = tried([0.0, 1.0], [3.0, 4.0], variable=1)
    mean, error = posterior([0.0, 1.0], own, variable=0)
    assert mean.tolist() == [0, 0] and error.tolist() == [1, 1]
    nobody = own._replace(counts=np.zeros((1, 2), bool))
    mean, error = posterior([0.0, 1.0], nobody, variable=1)
    assert mean.tolist() == [0, 0] and error.tolist() == [1, 1]


def test_what_does_not_count_is_as_if_it_were_not_there():
    """Also where it lies beside others of the same variable."""
    three = tried([0.0, 0.5, 1.0], [3.0, -9.0, 4.0])._replace(counts=np.array([[True, False, True]]))
    found, two = (posterior([0.2, 0.6], own, scatter=0.3) for own in (three, tried([0.0, 1.0], [3.0, 4.0])))
    for a, b in zip(found, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_a_scatter_below_the_least_has_no_say():
    """exp(-6) of an error of exp(2) is less than the least: the same as a thousandth of its square,
    and no gradient; the gradient of the error is that of differences.
    """
    own, value = tried([0.0, 1.0], [3.0, 4.0]), np.array([[0.3, 2.0]])
    asked, log_length = said(2), np.full((1, 2), np.log(0.5))
    d = OutcomePrediction(*np.random.default_rng(0).standard_normal((3, 1, 2)), np.zeros((1, 2)))

    def result(log_scatter, log_error=2.0, mean=0.0):
        known = said(2)._replace(
            mean=np.full((1, 2), mean), log_error=np.full((1, 2), log_error), log_scatter=np.full((1, 2), log_scatter)
        )
        found, cache = local_forward(asked, known, np.zeros((1, 2), int), value, log_length, log_length, own)
        total = float(sum((a * b).sum() for a, b in zip(d, found, strict=True)))
        return total, local_backward(d, asked, known, cache)[1]

    total, d_known = result(-6.0)
    assert total == result(-7.0)[0] == pytest.approx(result(2.0 + np.log(1e-3) / 2)[0], rel=1e-12)
    assert not d_known.log_scatter.any() and not d_known.log_noise.any()
    for name, h in (("log_error", 1e-5), ("mean", 1e-5)):
        start = {"log_error": 2.0, "mean": 0.0}[name]
        slope = (result(-6.0, **{name: start + h})[0] - result(-6.0, **{name: start - h})[0]) / (2 * h)
        assert getattr(d_known, name).sum() == pytest.approx(slope, rel=1e-6)


def test_an_action_known_to_the_last_bit_passes_nothing_back():
    """Where 1 - k . w would be below the least, the error is taken for that of the least and does
    not move.
    """
    asked = known = said(1)
    zero, d = np.zeros((1, 1)), OutcomePrediction(*[np.zeros((1, 1))] * 4)
    _, cache = local_forward(asked, known, zero.astype(int), zero, zero, zero, tried([0.0], [1.0]))
    d = d._replace(log_error=np.ones((1, 1)))
    moving, still = (
        local_backward(d, asked, known, cache._replace(is_left=np.full((1, 1), is_left))) for is_left in (True, False)
    )
    assert moving[1].log_error.any() and moving[1].log_scatter.any()
    assert not any(array.any() for array in still[1]) and still[0].log_error.tolist() == [[1.0]]


def test_what_does_not_count_may_be_anything():
    params, state, own, variable, value = local_case()
    expected, _ = predict_forward(params, state, own, variable, value)
    changed = own._replace(value=np.where(own.counts, own.value, 4.4), outcome=np.where(own.counts, own.outcome, 1e6))
    found, _ = predict_forward(params, state, changed, variable, value)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_order_of_own_outcomes_changes_nothing():
    params, state, own, variable, value = local_case()
    expected, _ = predict_forward(params, state, own, variable, value)
    turned = Tried(*(array[:, ::-1] for array in own))
    found, _ = predict_forward(params, state, turned, variable, value)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_far_outcomes_and_tiny_scatter_stay_finite():
    for n in (1, 50):
        mean, error = posterior([0.0, 5.0], tried([0.0] * n, [10.0] * n), error=20.0, scatter=0.05)
        assert np.isfinite(mean).all() and (error > 0).all() and np.isfinite(error).all()


# --------------------------------------------------------------------------------------- own rows


def task(rows=5):
    """Two levers, a variable that is only seen, and the target, X3, each in units of its own."""
    observations = np.random.default_rng(0).normal((0, 10, -3, 7), 1.0, (1, rows, 4))
    return Task(
        observations=observations, observation_mask=np.ones((1, rows), bool), target=np.array([3]),
        valid=np.ones((1, 4), bool), manipulable=np.array([[True, True, False, False]]),
        low=np.array([[-5.0, 0, -1, -1]]), high=np.array([[5.0, 20, 1, 1]]),
    )  # fmt: skip


def test_own_rows_by_hand():
    t = task()
    units = standard_units(t)
    row = np.array([[1.0, 14.0, -3.5, 9.0]])
    own = own_row_added(no_own_rows(1, 4), t, units, np.array([[False, True, False, False]]), row)
    assert own.tried.variable.tolist() == [[1]] and own.tried.counts.tolist() == [[True]]
    assert own.tried.value[0, 0] == pytest.approx(2.0)  # 14 in 0 to 20 is 0.4 of a half domain
    observed = t.observations[0, :, 3]
    assert own.tried.outcome[0, 0] == pytest.approx((9.0 - observed.mean()) / observed.std())
    others = own.others[0, 0]
    assert others[1] == 0 and others[3] == 0  # what was set, and the target
    assert others[0] == pytest.approx((1.0 - t.observations[0, :, 0].mean()) / 5.0)
    for was_set in ([False, False, False, False], [True, True, False, False]):  # an observation, and two at once
        more = own_row_added(own, t, units, np.array([was_set]), row)
        assert more.tried.counts.tolist() == [[True, False]]


def test_the_newest_are_kept():
    t = task()
    units, own = standard_units(t), no_own_rows(1, 4)
    for n in range(MOST_TRIED + 3):
        row = np.array([[n / 100, 10.0, -3.0, 7.0]])
        own = own_row_added(own, t, units, np.array([[True, False, False, False]]), row)
    assert own.tried.value.shape == (1, MOST_TRIED) and own.others.shape == (1, MOST_TRIED, 4)
    assert own.tried.value[0, 0] == pytest.approx(0.03) and own.tried.value[0, -1] == pytest.approx(
        (MOST_TRIED + 2) / 100
    )


def test_noise_is_seen_through_by_hand():
    """X2 moves the target by 2 a half domain; a row in which it stood 0.3 higher, of itself, gave
    0.6 too much. As far as X2 is a consequence of what was set, nothing is taken off.
    """
    evidence = np.zeros((1, 4, EVIDENCE_CHANNELS))
    evidence[0, 2, DIRECT_EFFECT] = np.arcsinh(2.0)
    one = Tried(np.array([[0, 0]]), np.zeros((1, 2)), np.ones((1, 2)), np.ones((1, 2), bool))
    own = OwnRows(one, np.array([[[0, 0, 0.3, 0], [0, 0, 0.0, 0]]]))
    bounded = OUTCOME_BOUND * np.tanh(2.0 / OUTCOME_BOUND)
    for logit, share in ((-50.0, 1.0), (50.0, 0.0), (0.0, 0.5)):
        logits = np.full((1, 4, 4), 99.0)
        logits[0, 0, 2] = logit
        found = own_outcomes(own, logits, evidence).outcome[0]
        np.testing.assert_allclose(found, [1.0 - share * 0.3 * bounded, 1.0], atol=1e-12)


def test_far_outcomes_and_large_moves_count_as_bounded():
    """On both sides: an outcome of a thousand spreads counts as OUTCOME_BOUND, and no more than
    that is taken off.
    """
    t = task()
    units, lever = standard_units(t), np.array([[True, False, False, False]])
    for sign in (1.0, -1.0):
        own = own_row_added(no_own_rows(1, 4), t, units, lever, np.array([[0.0, 10.0, -3.0, 7.0 + sign * 1e3]]))
        assert own.tried.outcome.tolist() == [[sign * OUTCOME_BOUND]]
        evidence = np.zeros((1, 4, EVIDENCE_CHANNELS))
        evidence[0, 2, DIRECT_EFFECT] = np.arcsinh(2.0)
        far = own._replace(others=np.array([[[0.0, 0.0, sign * 1e3, 0.0]]]))
        found = own_outcomes(far, np.full((1, 4, 4), -50.0), evidence)
        assert found.outcome.tolist() == [[0.0]]  # the bound less the bound
