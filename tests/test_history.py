"""Standard units, channels and the row mask."""

from __future__ import annotations

import numpy as np
import pytest

from acbo_ref.policy.inputs import (
    Task,
    Units,
    attention_mask,
    deviations,
    observation_channels,
    row_channels,
    set_mask,
    standard_units,
    start_channels,
    to_domain,
    to_standard,
)
from acbo_ref.policy.pairs import PAIR_CHANNELS
from acbo_ref.policy.reading import PairReading, RowReading


def task(observations, mask=None, **changes):
    """One episode of 3 variables: X1 in [-2, 6] can be set, X2 cannot, the target is the last."""
    observations = np.asarray(observations, float)[None]
    given = {
        "observations": observations,
        "observation_mask": np.ones(observations.shape[:2], bool) if mask is None else np.array([mask]),
        "target": np.array([2]),
        "valid": np.array([[True, True, True]]),
        "manipulable": np.array([[True, False, False]]),
        "low": np.array([[-2.0, 0.0, 0.0]]),
        "high": np.array([[6.0, 1.0, 1.0]]),
    }
    return Task(**(given | changes))


def test_standard_units_by_hand():
    location, scale = standard_units(task([[0.0, 1.0, 10.0], [0.0, 3.0, 30.0]]))[:2]
    # the domain [-2, 6] maps to [-5, 5]; the others to mean and standard deviation (ddof 0)
    assert location[0] == pytest.approx([2.0, 2.0, 20.0]) and scale[0] == pytest.approx([0.8, 1.0, 10.0])


@pytest.mark.parametrize("rows", [np.zeros((0, 3)), [[1.0, 7.0, 7.0]], [[1.0, 7.0, 7.0]] * 4])
def test_without_spread_the_scale_is_one(rows):
    location, scale = standard_units(task(rows))[:2]
    assert scale[0, 1:] == pytest.approx([1.0, 1.0])
    assert location[0, 1:] == pytest.approx([7.0, 7.0] if len(rows) else [0.0, 0.0])


def test_a_tiny_spread_far_from_zero_is_still_a_spread():
    location, scale = standard_units(task([[0.0, 1e-9, 2e6], [0.0, 3e-9, 2e6 + 1.0]]))[:2]
    assert scale[0, 1:] == pytest.approx([1e-9, 0.5]) and location[0, 1] == pytest.approx(2e-9)
    constant = standard_units(task([[0.0, 0.1, 1e7 + 0.1]] * 7))[1]  # the mean of seven 0.1s is not 0.1
    assert constant[0, 1:] == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize(("low", "high", "unit"), [(-50.0, 40.0, 50.0), (-3.0, 100.0, 100.0), (60.0, 90.0, 90.0)])
def test_a_target_with_a_long_reach_has_a_larger_unit(low, high, unit):
    """y = 2 x exactly, so the far end of x's domain moves y by twice as far: the outcome there is
    10 standard units.
    """
    rows = [[-1.0, 0.0, -2.0], [0.0, 0.0, 0.0], [1.0, 0.0, 2.0]]
    known = task(rows, low=np.array([[low, 0.0, 0.0]]), high=np.array([[high, 0.0, 0.0]]))
    location, scale = standard_units(known)[:2]
    assert location[0, 2] == 0.0 and scale[0, 2] == pytest.approx(2 * unit / 10)
    assert scale[0, :2] == pytest.approx([(high - low) / 10, 1.0])
    # of no use: fewer than three rows, a domain of ten spreads (sqrt 2/3 is one), a variable that
    # cannot be set
    spread = np.sqrt(2 / 3)
    for other in (
        task(rows, [True, False, True], low=known.low, high=known.high),
        task(rows, low=np.full((1, 3), -9.9 * spread), high=np.full((1, 3), 9.9 * spread)),
        task(rows, low=known.low, high=known.high, manipulable=np.zeros((1, 3), bool)),
    ):
        counted = other.observations[0, other.observation_mask[0], 2]
        assert standard_units(other)[1][0, 2] == pytest.approx(counted.std())


def test_the_reach_believes_a_correlation_of_few_rows_less():
    """r^2 = 1/2 over three rows is what chance gives, 1 - (1/2) 2 = 0; over the same rows twice it
    is 1 - (1/2) (5/4) = 3/8.
    """
    rows = [[x, 0.0, y + np.sqrt(3) * x] for x, y in [(-1.0, -1.0), (0.0, 2.0), (1.0, -1.0)]]
    r = np.corrcoef(np.array(rows)[:, [0, 2]].T)[0, 1]
    wide = {"low": np.array([[-1000.0, 0, 0]]), "high": np.array([[1000.0, 0, 0]])}
    assert r**2 == pytest.approx(0.5)
    spread = np.array(rows)[:, [0, 2]].std(axis=0)
    for times, adjusted in [(1, 0.0), (2, 3 / 8)]:
        unit = standard_units(task(rows * times, **wide))[1][0, 2] / spread[1]
        assert unit == pytest.approx(max(1.0, np.sqrt(adjusted) * 1000 / spread[0] / 10))


def test_rows_beyond_the_mask_do_not_count():
    rows = [[0.0, 1.0, 10.0], [0.0, 3.0, 30.0], [9e9, 9e9, 9e9]]
    masked = task(rows, [True, True, False])
    for a, b in zip(standard_units(masked), standard_units(task(rows[:2])), strict=True):
        assert a == pytest.approx(b)
    channels = observation_channels(masked, standard_units(masked))
    assert not channels[0, 2, :, 0].any()


def test_channels_by_hand():
    t = task([[2.0, 1.0, 10.0], [6.0, 3.0, 30.0]])
    channels = observation_channels(t, standard_units(t))
    # X1 at 2 is the centre, at 6 the end: (6 - 2) / 0.8 / 5 = 1
    assert channels[0, :, 0, 0].tolist() == [0.0, 1.0]
    assert channels[0, 0, 2].tolist() == [-0.2, 1.0, 0.0, 0.0]  # (10 - 20) / 10 / 5, is-target
    start = start_channels(t.is_target)
    assert start[0].tolist() == [[0, 0, 0, 1], [0, 0, 0, 1], [0, 1, 0, 1]]


def test_the_row_mask_by_hand():
    mask = attention_mask(np.array([[True, True, False]]), 2)[0].astype(int)
    assert mask.tolist() == [
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],  # a padded row reads itself, so that its softmax is not empty
        [1, 1, 0, 1, 0],
        [1, 1, 0, 1, 1],
    ]


def test_values_inside_a_domain_by_hand():
    """Domains [10, 30] and [-2, 6]: standard values are fifths of the half width from the
    middle.
    """
    known = Task(
        observations=np.zeros((2, 0, 1)),
        observation_mask=np.zeros((2, 0), bool),
        target=np.zeros(2, int),
        valid=np.ones((2, 1), bool),
        manipulable=np.ones((2, 1), bool),
        low=np.array([[10.0], [-2.0]]),
        high=np.array([[30.0], [6.0]]),
    )
    units = standard_units(known)
    first = np.zeros(2, int)
    for standard, expected in [
        ([2.0, -2.5], [24.0, 0.0]),
        ([5.0, -5.0], [30.0, -2.0]),
        ([-5.0, 5.0], [10.0, 6.0]),
        ([9.0, -9.0], [30.0, -2.0]),
    ]:
        np.testing.assert_allclose(to_domain(known, units, first, np.array(standard)), expected, rtol=1e-15)
    # a map that is off by a little must not leave the domain
    outside = to_domain(known, units._replace(location=units.location + 1.0), first, np.array([4.9, 4.9]))
    assert (outside == known.high[:, 0]).all()
    inside = to_domain(known, units._replace(location=units.location - 1.0), first, np.array([-4.9, -4.9]))
    assert (inside == known.low[:, 0]).all()


def test_the_ends_of_a_domain_are_reached_to_the_last_bit():
    """Also where location + 5 scale misses them by rounding, as in some of a thousand random
    domains.
    """
    rng = np.random.default_rng(0)
    low = rng.uniform(-3, 3, (1000, 1))
    high = low + rng.uniform(0.1, 9, (1000, 1))
    known = Task(
        observations=np.zeros((1000, 0, 2)),
        observation_mask=np.zeros((1000, 0), bool),
        target=np.ones(1000, int),
        valid=np.ones((1000, 2), bool),
        manipulable=np.tile([True, False], (1000, 1)),
        low=np.pad(low, ((0, 0), (0, 1))),
        high=np.pad(high, ((0, 0), (0, 1)), constant_values=1.0),
    )
    units = standard_units(known)
    location, scale = units.location, units.scale
    assert (location[:, 0] + 5 * scale[:, 0] < high[:, 0]).any() and (
        location[:, 0] - 5 * scale[:, 0] > low[:, 0]
    ).any()
    first = np.zeros(1000, int)
    assert (to_domain(known, units, first, np.full(1000, 5.0)) == high[:, 0]).all()
    assert (to_domain(known, units, first, np.full(1000, -5.0)) == low[:, 0]).all()


def test_a_deviation_that_is_rounding_is_none_and_a_tiny_real_one_counts():
    """A constant of 0.1 and a column at 1e7 whose spread is 1e-6 of the domain, as far from 0 as a
    domain can make it.
    """
    rows = [[1e7 + 0.5e-3 * n, 0.1, 3.0 + n] for n in range(7)]
    known = task(rows, low=np.array([[1e7 - 500.0, 0.0, 0.0]]), high=np.array([[1e7 + 500.0, 1.0, 1.0]]))
    units = standard_units(known)
    du = deviations(units, known.valid, known.observations)[0]
    assert not du[:, 1].any()  # the mean of seven 0.1s is not 0.1
    np.testing.assert_allclose(du[:, 0], 1e-6 * (np.arange(7) - 3), rtol=1e-5, atol=1e-12)
    assert (deviations(units, np.zeros((1, 3), bool), known.observations) == 0).all()


def test_without_rows_deviations_are_from_the_location():
    known = task(np.zeros((0, 3)))
    units = standard_units(known)
    assert (units.mean == units.location).all()
    # X1's domain is [-2, 6]: its end is one half domain from the middle
    assert deviations(units, known.valid, np.array([[[6.0, 0.0, 0.0]]]))[0, 0].tolist() == [1.0, 0.0, 0.0]


def test_standard_values_by_hand():
    """Two systems of two variables each, in units of their own: (value - location) / scale, and the
    ends of [-5, 5] beyond.
    """
    units = Units(
        location=np.array([[1.0, 10.0], [-2.0, 0.0]]), scale=np.array([[2.0, 0.5], [1.0, 4.0]]),
        mean=np.zeros((2, 2)), resolution=np.zeros((2, 2)),
    )  # fmt: skip
    variable = np.array([[0, 1, 1], [1, 0, 0]])
    found = to_standard(units, variable, np.array([[4.0, 9.5, 99.0], [-6.0, -2.5, -99.0]]))
    assert found.tolist() == [[1.5, -1.0, 5.0], [-1.5, -0.5, -5.0]]


def test_which_variables_were_set():
    assert set_mask(np.array([2, -1, 0]), 3).astype(int).tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
    mask = np.array([[True, True, False]])
    assert set_mask(mask, 3) is mask


def test_channels_of_a_row_that_was_set_by_hand():
    """Standard value by 5, is the target, was set, is no start row."""
    standard = np.array([[[2.5, -1.0]], [[0.0, 5.0]]], np.float32)
    is_target = np.array([[False, True], [True, False]])
    found = row_channels(standard, is_target, np.array([[[True, False]], [[False, True]]]))
    assert found[:, 0].tolist() == [[[0.5, 0, 1, 0], [np.float32(-0.2), 1, 0, 0]], [[0, 1, 0, 0], [1, 0, 1, 0]]]
    assert found.dtype == np.float32 and start_channels(is_target, np.float32).dtype == np.float32


def test_deviations_by_hand():
    """From the mean in half domains: mean 1 and scale 2, so (21 - 1) / (5 2) = 2; none of padding
    or of what is within the resolution; at most a million.
    """
    units = Units(
        location=np.zeros((1, 3)), scale=np.array([[2.0, 1.0, 1.0]]), mean=np.array([[1.0, 0.0, 0.0]]),
        resolution=np.array([[0.0, 0.25, 0.0]]),
    )  # fmt: skip
    valid = np.array([[True, True, False]])
    rows = np.array([[[21.0, 0.25, 9.0], [1e99, -0.5, np.nan], [-1e99, 0.5, 0.0]]])
    found = deviations(units, valid, rows)
    assert found[0].tolist() == [[2.0, 0.0, 0.0], [1e6, -0.1, 0.0], [-1e6, 0.1, 0.0]]


def test_what_two_rows_of_rounding_are():
    """A column varies if its standard deviation is above 16 units in the last place of its largest
    entry, or half a unit for each row where there are more than 32.
    """
    unit = np.finfo(float).eps
    for rows, allowed in ((2, 16), (40, 20)):
        for spread, varies in ((0.9 * allowed, False), (1.1 * allowed, True)):
            column = np.where(np.arange(rows) % 2, 1.0, -1.0) * spread * unit * 8.0
            wide = np.stack([np.zeros(rows), np.where(np.arange(rows) == 0, -8.0, 0.0), column], axis=1)
            known = task(wide)
            resolution = standard_units(known).resolution[0]
            # X1's domain reaches to 6, X2's largest entry is 8; the target's is as small as it is
            np.testing.assert_allclose(resolution[2], allowed * unit * np.abs(column).max())
            np.testing.assert_allclose(standard_units(known).scale[0, 2], spread * unit * 8.0)
            np.testing.assert_allclose(resolution[:2], [allowed * unit * 6.0, allowed * unit * 8.0])
            near = task(np.stack([np.zeros(rows), np.zeros(rows), 8.0 + column], axis=1))
            found = standard_units(near).scale[0, 2]
            assert 0.0 < found < 1e-12 if varies else found == 1.0


def test_a_reading_over_rows_by_hand():
    """The newest row in standard units, nothing of padding, and no evidence; one pass reads all
    rows, observational ones first.
    """
    known = task([[2.0, 1.0, 10.0], [6.0, 3.0, 30.0]], valid=np.array([[True, False, True]]))
    reading = RowReading(known, np.float32)
    views = [reading.start(), reading.append(np.array([0]), np.array([[6.0, np.nan, 40.0]]))]
    assert [view.evidence.shape for view in views] == [(1, 3, 0)] * 2
    assert views[1].channels[0].tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [pytest.approx(0.4), 1, 0, 0]]
    inputs = reading.inputs(views, np.zeros((1, 2, 3, 0)), np.array([[0, 1]]))
    assert inputs.channels.shape == (1, 4, 3, 4) and inputs.evidence.shape == (1, 2, 3, 0)
    np.testing.assert_array_equal(inputs.channels[:, 2:], np.stack([view.channels for view in views], axis=1))
    np.testing.assert_array_equal(inputs.channels[:, :2], reading.observations())
    over_pairs = PairReading(known, np.float32)
    start = over_pairs.start()
    of_pairs = over_pairs.inputs([start, start], np.arange(6.0).reshape(1, 2, 3, 1), np.array([[1]]))
    assert of_pairs.row_mask.shape == (1, 0, 0) and of_pairs.channels.shape == (1, 1, 3, 3, PAIR_CHANNELS)
    assert inputs.row_mask.shape == (1, 4, 4) and {view.channels.dtype for view in views} == {np.dtype("float32")}
