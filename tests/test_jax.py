"""JAX's own promises."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from test_backends import HYPER, host, setup

from acbo_fast import backend_maker
from acbo_ref.grpo.rollout import observe
from acbo_ref.grpo.update import minibatch_order
from acbo_ref.verify.data import small_config


def test_jax_compiles_each_function_once_a_stage():
    pytest.importorskip("jax")
    from acbo_fast.jax import backend
    from acbo_ref import Trainer

    stages = [
        {"name": "a", "until_episode": 18, "variables": [3, 4], "graphs": ["chain"]},
        {"name": "b", "variables": [3, 6], "graphs": ["chain", "fork"]},
    ]
    config = small_config(curriculum={"stages": stages}, total_episodes=42, scm={"nonlinear": 0.0})
    backend.TRACES.clear()
    Trainer(config, backend.JaxBackend(config)).train()
    assert backend.TRACES == {"rollout": 2, "update": 2}  # 7 iterations, 2 stages


def test_jax_decides_without_recompiling_as_rows_arrive():
    pytest.importorskip("jax")
    from acbo_fast.jax.policy import session as compiled_by_session

    _, backend, state, (problems, observation_mask, noise) = setup(backend_maker("jax"))
    task = observe(problems, noise.observation, observation_mask)
    compiled = []
    for num_obs in (2, 5):  # sessions of other sizes share the compiled functions too
        part = dataclasses.replace(
            task, observations=task.observations[:, :num_obs], observation_mask=task.observation_mask[:, :num_obs]
        )
        session = backend.session(state, part, 5)
        for _ in range(5):
            session.decide()
            session.observe(np.argmax(task.manipulable, axis=1), np.zeros(task.valid.shape))
        compiled.append(tuple(getattr(compiled_by_session, f)._cache_size() for f in ("open_cache", "read", "decide")))
    assert compiled[0] == compiled[1]


def test_jax_leaves_the_users_precision_alone():
    jax = pytest.importorskip("jax")
    _, backend, state, data = setup(backend_maker("jax"))
    t = backend.rollout(state, *data, 1.5)
    assert np.asarray(t.rewards).dtype == np.float64
    assert not jax.config.jax_enable_x64 and jax.numpy.ones(1).dtype == np.float32
    single = small_config(dtype="float32")
    assert (
        host(backend_maker("jax")(single), backend_maker("jax")(single).init_state())["embed.weight"].dtype
        == np.float32
    )


def test_jax_is_deterministic():
    pytest.importorskip("jax")
    results = []
    for _ in range(2):
        config, backend, state, data = setup(backend_maker("jax"))
        t = backend.rollout(state, *data, 1.5)
        state, _ = backend.update(state, t, minibatch_order(config, 0), HYPER)
        results.append(host(backend, state))
    assert all((results[0][k] == results[1][k]).all() for k in results[0])
