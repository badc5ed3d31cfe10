"""Baselines: each does what its name says."""

from __future__ import annotations

import numpy as np
import pytest
from test_scm import diamond, functional

from acbo_ref import AcboError, Variable
from acbo_ref.arena.baselines import BASELINES, Endpoints, Random, Regress
from acbo_ref.arena.method import target_spread
from acbo_ref.arena.play import run_method
from acbo_ref.arena.suites import load_suite
from acbo_ref.policy.inputs import Task
from acbo_ref.version import install


def task_of(rows, target, manipulable, low, high):
    """The task of a single system."""
    return Task(
        observations=rows[None], observation_mask=np.ones((1, len(rows)), bool), target=np.array([target]),
        valid=np.ones((1, rows.shape[1]), bool), manipulable=manipulable[None], low=low[None], high=high[None],
    )  # fmt: skip


def problem(num_obs=30, seed=0, **changes):
    scm = diamond(**changes)
    rows = scm.simulate(np.random.default_rng(seed).standard_normal((num_obs, 4)))
    return scm, task_of(rows, scm.target_index, scm.manipulable, scm.low, scm.high)


def test_regress_takes_the_steepest_slope_per_half_domain():
    x = np.arange(6.0)
    rows = np.stack([2 * x, x, -3 * (x % 2)], axis=1)  # target first
    p = task_of(rows, 0, np.array([False, True, True]), np.array([0, -1.0, 0]), np.array([0, 1.0, 1.0]))
    # slope on column 1 is 2 and its half domain 1; on column 2 the effect is smaller
    assert Regress(p, np.random.default_rng(0)).ask() == (1, -1.0)
    method = Regress(p, np.random.default_rng(0))
    for _ in range(30):  # interventions show that column 1 does nothing
        method.tell((1, -1.0), np.array([5.0, -1.0, 0.0]))
        method.tell((1, 1.0), np.array([5.0, 1.0, 0.0]))
    assert method.ask() == (2, 1.0)


def test_regress_finds_the_oracle_of_a_linear_system_with_many_rows():
    scm, p = problem(5000)
    assert Regress(p, np.random.default_rng(0)).ask() == (scm.oracle.variable, scm.oracle.value)


def test_a_constant_column_is_no_lever():
    rows = np.stack([np.arange(6.0), np.full(6, 0.1), np.arange(6.0)], axis=1)  # the mean of 0.1s is not 0.1
    p = task_of(rows, 0, np.array([False, True, True]), np.full(3, -1.0), np.ones(3))
    assert Regress(p, np.random.default_rng(0)).ask() == (2, -1.0)
    flat = task_of(np.full((6, 3), 0.1), 0, np.array([False, True, True]), np.full(3, -1.0), np.ones(3))
    assert target_spread(flat) == 1.0


def test_without_data_no_position_is_favoured():
    p = task_of(np.zeros((0, 5)), 4, np.array([True] * 4 + [False]), np.full(5, -1.0), np.ones(5))
    first = [Regress(p, np.random.default_rng(seed)).ask()[0] for seed in range(200)]
    assert min(np.bincount(first, minlength=4)) > 20  # 50 each: 5 standard errors are 31


def test_thompson_settles_on_the_oracle_and_explores_before():
    scm, p = problem(3, seed=5)
    rng = np.random.default_rng(1)
    method = BASELINES["thompson"](p, np.random.default_rng(0))
    asked = []
    for _ in range(60):
        action = method.ask()
        asked.append(action)
        method.tell(action, scm.simulate(rng.standard_normal((1, 4)), *action)[0])
    assert method.recommend() == (scm.oracle.variable, scm.oracle.value)
    assert len(set(asked)) > 1 and asked[-10:].count(method.recommend()) >= 8


def test_thompsons_posterior_is_the_conjugate_one():
    """Against the textbook's formulas on a design small enough to write out: two rows at u = -1 and
    u = 1.
    """
    rows = np.array([[-1.0, 2.0], [1.0, 6.0]])
    p = task_of(rows, 1, np.array([True, False]), np.array([-1.0, 0.0]), np.array([1.0, 1.0]))
    mean, covariance, shape, scale = BASELINES["thompson"](p, np.random.default_rng(0))._posterior(0)
    # y in standard units (mean 4, std 2) is -1, 1; X'X = diag(2, 2), prior precision 0.1: mean =
    # (0, 2 / 2.1)
    assert mean == pytest.approx([0.0, 2 / 2.1]) and covariance == pytest.approx(np.eye(2) / 2.1)
    # shape 1 + 2 / 2, scale 0.5 + (y'y - mean' X'y) / 2 = 0.5 + (2 - 4 / 2.1) / 2
    assert (shape, scale) == (2.0, pytest.approx(0.5 + (2 - 4 / 2.1) / 2))


def test_the_gaussian_process_finds_an_interior_optimum():
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    p = task_of(rng.standard_normal((10, 2)), 1, np.array([True, False]), np.array([-5.0, 0]), np.array([5.0, 1]))
    method = BASELINES["gp"](p, np.random.default_rng(1))
    for _ in range(25):
        i, value = method.ask()
        method.tell((i, value), np.array([value, 0.3 * (value - 1.5) ** 2 + 0.2 * rng.standard_normal()]))
    assert abs(method.recommend()[1] - 1.5) < 0.7


def test_optional_methods_explain_what_they_need(monkeypatch):
    import acbo_ref.arena.method as method_module

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(method_module, "import_module", absent)
    _, p = problem()
    for method, library, extra in (
        ("gp", "sklearn", "gp"),
        ("gp_all", "sklearn", "gp"),
        ("optuna", "optuna", "optuna"),
    ):
        with pytest.raises(AcboError) as caught:
            BASELINES[method](p, np.random.default_rng(0))
        assert caught.value.message == f"method '{method}' needs {library}: {install(extra)}"


def test_the_parent_oracle_is_the_best_parent():
    scm = diamond()
    # parents B and C: B at -1 gives 1 - 3 - 1 = -3 (A would give -29.5)
    assert scm.names[scm.parent_oracle.variable] == "B" and scm.parent_oracle.expected == pytest.approx(-3.0)
    assert functional().parent_oracle.expected == pytest.approx(-3.0, abs=1e-9)
    variables = tuple(Variable(v.name, v.intercept, v.noise_std, v.low, v.high, v.name == "A") for v in scm.variables)
    assert diamond(variables=variables).parent_oracle.variable == scm.index("A")  # no parent can be set


def test_regress_without_data_still_asks():
    _, p = problem(0)
    variable, value = Regress(p, np.random.default_rng(0)).ask()
    assert p.manipulable[0, variable] and p.low[0, variable] <= value <= p.high[0, variable]


def test_endpoints_tries_every_arm_once_then_settles():
    scm, p = problem()
    method, rng = Endpoints(p, np.random.default_rng(0)), np.random.default_rng(1)
    asked = []
    for _ in range(60):
        action = method.ask()
        asked.append(action)
        method.tell(action, scm.simulate(rng.standard_normal((1, 4)), *action)[0])
    assert len(set(asked[:6])) == 6 and set(asked) == set(asked[:6])
    assert method.recommend() == (scm.oracle.variable, scm.oracle.value)


def test_random_recommends_its_best_row():
    _, p = problem()
    method = Random(p, np.random.default_rng(0))
    row = np.zeros(4)
    for action, outcome in (((1, 0.5), 3.0), ((2, 1.0), -1.0), ((3, 0.0), 2.0)):
        row = row.copy()
        row[p.target] = outcome
        method.tell(action, row)
    assert method.recommend() == (2, 1.0)


NEEDS = {"gp": "sklearn", "gp_all": "sklearn", "optuna": "optuna"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the optional libraries' own making
@pytest.mark.parametrize("name", sorted(BASELINES))
@pytest.mark.parametrize("num_obs", [0, 1, 20])
def test_every_baseline_stays_inside(name, num_obs):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    scm, p = problem(num_obs)
    method = BASELINES[name](p, np.random.default_rng(2))
    rng = np.random.default_rng(3)
    for _ in range(15):
        i, value = method.ask()
        assert p.manipulable[0, i] and p.low[0, i] <= value <= p.high[0, i]
        method.tell((i, value), scm.simulate(rng.standard_normal((1, 4)), i, value)[0])
    i, value = method.recommend()
    assert p.manipulable[0, i] and p.low[0, i] <= value <= p.high[0, i]


def test_the_baseline_that_does_nothing_gains_nothing():
    results = run_method(load_suite("simple", 0, quick=True), "nothing", 0, 5, 3, None, None)
    assert (results.variable == -1).all() and not results.gain.any() and results.leaves.all()
    assert not results.is_parent.any() and not results.standard.any()


def test_a_process_of_all_levers_finds_a_peak_inside():
    """Yield peaks at 0.3 of a half domain; the second lever does nothing."""
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)

    def cost(x):
        return 4 * (x - 1.5) ** 2 / 25

    rows = 0.5 * rng.standard_normal((10, 3))
    rows[:, 2] = cost(rows[:, 0]) + 0.1 * rng.standard_normal(10)
    task = task_of(rows, 2, np.array([True, True, False]), np.full(3, -5.0), np.full(3, 5.0))
    method = BASELINES["gp_all"](task, np.random.default_rng(1))
    for _ in range(15):
        i, value = method.ask()
        row = 0.5 * rng.standard_normal(3)
        if i >= 0:
            assert -5 <= value <= 5
            row[i] = value
        row[2] = cost(row[0]) + 0.1 * rng.standard_normal()
        method.tell((i, value), row)
    i, value = method.recommend()
    assert i == 0 and abs(value - 1.5) < 1.0
