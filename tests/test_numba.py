"""Numba's own promises."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest
from test_backends import HYPER, host, setup

from acbo_fast import backend_maker, backend_pieces
from acbo_ref.backend import ReferenceBackend
from acbo_ref.grpo.update import minibatch_order
from acbo_ref.verify.data import iteration_data, perturbed_state, small_config


def numba_training(threads, dtype="float32", **changes):
    """Parameters after two iterations whose batches are cut into parts, on so many threads."""
    numba = pytest.importorskip("numba")
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        config, data = small_config(dtype=dtype, **changes), None
        backend = backend_maker("numba")(config)
        state = backend.from_host(perturbed_state(ReferenceBackend(small_config(**changes))))
        for i in range(2):
            data = iteration_data(config, i)
            t = backend.rollout(state, *data, 1.5)
            state, _ = backend.update(state, t, minibatch_order(config, i), HYPER)
        return host(backend, state)
    finally:
        numba.set_num_threads(before)


@pytest.fixture
def small_parts(monkeypatch):
    """Batches of the tests are too small to be cut otherwise."""
    pytest.importorskip("numba")
    from acbo_fast.numba import threads

    monkeypatch.setattr(threads, "TOKENS_A_PART", 1)


def test_numba_results_do_not_depend_on_the_number_of_threads(small_parts):
    numba = pytest.importorskip("numba")
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one core")
    one, two = numba_training(1), numba_training(2)
    assert all((one[name] == two[name]).all() for name in one)


def test_numba_agrees_with_the_reference_also_in_parts(small_parts):
    """Cut into single episodes, gradients and rollouts are those of the whole."""
    from acbo_ref.verify.parity import network_checks, rollout_checks

    config = small_config(dtype="float64", heads={"commit_by_outcome_head": 0.5})
    make = backend_maker("numba")
    checks = [
        *network_checks(make(config), backend_pieces("numba"), config, "parts", 1e-12, 1e-10),
        *rollout_checks(make(config), backend_pieces("numba"), config, "parts"),
    ]
    assert [c for c in checks if not c.okay] == []


def test_numba_an_interrupted_update_changes_nothing(monkeypatch):
    pytest.importorskip("numba")
    from acbo_fast.numba.grpo import update

    config, backend, state, data = setup(backend_maker("numba"))
    t, order = backend.rollout(state, *data, 1.5), minibatch_order(config, 0)
    before, calls, plain = backend.to_host(state), iter(range(100)), update.guarded_step

    def interrupted(*arguments):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(update, "guarded_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        backend.update(state, t, order, HYPER)
    after = backend.to_host(state)
    assert after.step == before.step
    for part in ("params", "first_moment", "second_moment"):
        assert all((getattr(after, part)[k] == v).all() for k, v in getattr(before, part).items())


def test_numba_states_can_be_copied():
    pytest.importorskip("numba")
    config, backend, state, data = setup(backend_maker("numba"))
    twin = copy.deepcopy(state)
    t = backend.rollout(twin, *data, 1.5)
    backend.update(twin, t, minibatch_order(config, 0), HYPER)
    assert all(np.shares_memory(view, twin.flat) for view in twin.params.values())
    assert (twin.params["embed.weight"] != state.params["embed.weight"]).any()


def test_numba_parts_are_whole_episodes_and_depend_on_the_shape_alone():
    pytest.importorskip("numba")
    from acbo_fast.numba.threads import MOST_PARTS, TOKENS_A_PART, parts

    for episodes, tokens in [(1, 10**6), (7, TOKENS_A_PART), (64, 1), (64, 10**5), (5, TOKENS_A_PART // 2)]:
        found = parts(episodes, tokens)
        assert [i for part in found for i in range(episodes)[part]] == list(range(episodes))
        assert len(found) <= min(MOST_PARTS, episodes) and min(part.stop - part.start for part in found) >= 1
    assert parts(64, 1) == [slice(0, 64)]


def test_numba_holds_blas_to_one_thread_and_lets_go_of_it(small_parts):
    controller = pytest.importorskip("threadpoolctl").ThreadpoolController().select(user_api="blas")
    before = [library["num_threads"] for library in controller.info()]
    from acbo_fast.numba import threads

    with threads.one_blas_thread:
        with threads.one_blas_thread:
            pass
        assert {library["num_threads"] for library in controller.info()} == {1}
    assert [library["num_threads"] for library in controller.info()] == before


def test_numba_workspaces_are_settled_once_warm():
    """The arrays of a pass are asked for by name and shape; after the first iteration none of them
    is made any more.
    """
    pytest.importorskip("numba")
    _, backend, state, data = setup(
        backend_maker("numba"), reward={"info_gain": 0.2}, heads={"commit_by_outcome_head": 0.5}
    )
    order = minibatch_order(backend.config, 0)
    made = []
    for _ in range(3):
        t = backend.rollout(state, *data, 1.5)
        state, _ = backend.update(state, t, order, HYPER)
        made.append([id(a) for a in backend.parts[0].space._memory.values()])
    assert made[0] == made[1] == made[2]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numba_exp_is_libms_to_two_units_in_the_last_place(dtype):
    numba = pytest.importorskip("numba")
    from acbo_fast.numba.kernels import FASTMATH, exp

    @numba.njit(error_model="numpy", fastmath=FASTMATH)
    def over(x, out):
        for i in range(x.size):
            out[i] = exp(x[i])

    low, high = (-87.0, 88.3) if dtype == "float32" else (-708.0, 709.4)
    x = np.concatenate([np.linspace(low, high, 400_001), [0.0, -0.0, 1e-30]]).astype(dtype)
    x = x[(x >= low) & (x <= high)]
    out = np.empty_like(x)
    over(x, out)
    exact = np.exp(x.astype(np.longdouble))
    assert float((np.abs(out - exact) / exact).max()) <= 2 * np.finfo(dtype).eps
    special = np.array([-np.inf, -1e30, -1e4, np.inf, 1e4, np.nan], dtype)
    over(special, out[:6])
    np.testing.assert_array_equal(out[:6], [0, 0, 0, np.inf, np.inf, np.nan])


def test_numba_forgets_kernels_made_from_other_sources(tmp_path, monkeypatch):
    """A kernel holds constants of other files, so a change in any source must not leave it on
    disk.
    """
    pytest.importorskip("numba")
    from acbo_fast.numba import kernels

    package, cache = tmp_path / "acbo_fast" / "numba", tmp_path / "cache"
    rooms = [tmp_path / "acbo_ref" / room for room in ("systems", "policy", "grpo")]
    for folder in (package, cache, *rooms):
        folder.mkdir(parents=True)
    (package / "kernels.py").write_text("")
    constants = tmp_path / "acbo_ref" / "policy" / "evidence.py"
    constants.write_text("JOINT_PENALTY = 1.0")
    monkeypatch.setattr(kernels, "__file__", str(package / "kernels.py"))
    with pytest.raises(RuntimeError, match="is missing"):  # a room that moved must not go unnoticed
        kernels._stamp()
    for room in rooms:
        (room / "__init__.py").write_text("")
    forget = kernels.forget_stale_kernels.__wrapped__
    forget(cache)
    kept = cache / "layers.attend-1.nbc"
    kept.write_bytes(b"code")
    forget(cache)
    assert kept.exists()
    constants.write_text("JOINT_PENALTY = 10.0")
    forget(cache)
    assert not kept.exists()


def test_numba_starts_quickly_a_second_time():
    """Kernels are kept on disk: a new process makes its first decision in under 3 seconds of
    processor time, imports included.
    """
    pytest.importorskip("numba")
    code = (
        "import time\n"
        "from acbo_fast import backend_maker\n"
        "from acbo_ref.grpo.rollout import observe\n"
        "from acbo_ref.verify.data import iteration_data, small_config\n"
        "backend = backend_maker('numba')(small_config(dtype='float64'))\n"
        "problems, mask, noise = iteration_data(backend.config)\n"
        "backend.session(backend.init_state(), observe(problems, noise.observation, mask), 1).decide(decision='outcome_head')\n"
        "print(time.process_time())\n"
    )
    seconds = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) for _ in range(2)
    ]
    assert seconds[1] < 3.0
