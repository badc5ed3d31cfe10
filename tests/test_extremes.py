"""Extreme but legal input: finite losses and gradients on every backend, and memory that does not
grow.
"""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest

from acbo_ref import SCM, AcboError, Trainer, Variable
from acbo_ref.backend import ReferenceBackend
from acbo_ref.grpo.noise import draw_noise
from acbo_ref.grpo.update import ScheduledCoefficients, minibatch_order
from acbo_ref.systems.scm import stack
from acbo_ref.verify.data import perturbed_state, small_config

HYPER = ScheduledCoefficients(learning_rate=1e-3, entropy_coefficient=0.01)


def chain(size=4, weight=1.0, noise=1.0, **changes):
    """X0 -> X1 -> ... -> Y."""
    names = [*(f"X{i}" for i in range(size - 1)), "Y"]
    given = {
        "name": "chain",
        "target": "Y",
        "variables": tuple(Variable(name, noise_std=noise) for name in names),
        "edges": dict.fromkeys(itertools.pairwise(names), weight),
    }
    return SCM(**(given | changes))


def levers(count, **changes):
    return tuple(Variable(f"X{i}", **changes) for i in range(count))


def idle(count):
    return levers(count, manipulable=False)


def collinear():
    """X1 and X2 are X0 itself, and all three are parents."""
    variables = tuple(Variable(name, noise_std=n) for name, n in (("X0", 1.0), ("X1", 0.0), ("X2", 0.0), ("Y", 1.0)))
    edges = {("X0", "X1"): 1.0, ("X0", "X2"): 1.0, ("X0", "Y"): 1.0, ("X1", "Y"): -1.0, ("X2", "Y"): 1.0}
    return SCM("collinear", "Y", variables, edges)


SYSTEMS = {
    "weights of a millionth": chain(weight=1e-6),
    "weights of a million": chain(weight=1e6),
    "no noise": chain(noise=0.0),
    "next to no noise": chain(noise=1e-12),
    "loud noise": chain(noise=1e6),
    "collinear parents": collinear(),
    "nothing matters": chain(weight=0.0),
    "two variables": chain(size=2),
    "one lever of many": chain(size=9, variables=(*idle(8)[:3], Variable("X3"), *idle(8)[4:], Variable("Y"))),
    "tiny domains": chain(variables=(*levers(3, low=1e6, high=1e6 + 1e-3), Variable("Y"))),
    "huge domains": chain(variables=(*levers(3, low=-1e9, high=1e9), Variable("Y"))),
}  # fmt: skip
SHAPES = {
    "usual": {},
    "no observations": {"observations_per_episode": 0},
    "one episode, one intervention, two candidates": {
        "batch_size": 1, "interventions_per_episode": 1, "grpo": {"group_size": 2, "minibatches": 1}, "heads": {"probes": 0},
    },
    "two rows": {"observations_per_episode": 2, "reward": {"info_gain": 0.1}},
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_losses_and_gradients_stay_finite(make_backend, shape, dtype):
    """Every system above, each alone in its batch, or a refusal that says what to do."""
    config = small_config(dtype=dtype, **SHAPES[shape])
    backend = make_backend(config)
    refused = set()
    for name, model in SYSTEMS.items():
        state = backend.from_host(perturbed_state(ReferenceBackend(small_config(**SHAPES[shape]))))
        problems = stack([model] * config.batch_size, num_variables=9)
        low, high = config.observations_per_episode
        observation_mask = np.arange(high) < np.linspace(low, high, config.batch_size).astype(int)[:, None]
        noise = draw_noise(config, 0, observation_mask.shape[1], problems.intercept.shape[1])
        try:
            t = backend.rollout(state, problems, observation_mask, noise, 1.5)
        except AcboError as error:
            assert "float64" in error.hint
            refused.add(name)
            continue
        assert np.isfinite(np.asarray(t.rewards)).all() and np.isfinite(np.asarray(t.inputs.channels)).all(), name
        state, diagnostics = backend.update(state, t, minibatch_order(config, 0), HYPER)
        assert diagnostics["skipped_steps"] == 0, (name, diagnostics)
        assert all(np.isfinite(v) for v in diagnostics.values()), (name, diagnostics)
        assert all(np.isfinite(v).all() for v in backend.to_host(state).params.values()), name
    assert refused == ({"tiny domains"} if (backend.name, dtype) == ("jax", "float32") else set())


@pytest.mark.parametrize("count", [80, pytest.param(200, marks=pytest.mark.slow)])
def test_many_variables(make_backend, count):
    stages = [{"name": "wide", "variables": [count, count], "graphs": ["tree"]}]
    config = small_config(
        curriculum={"stages": stages}, batch_size=2, grpo={"minibatches": 1}, observations_per_episode=3, total_episodes=2,
        interventions_per_episode=2, scm={"nonlinear": 0.0, "saturate": 0.0},
    )  # fmt: skip
    records = []
    Trainer(config, make_backend(config)).train(records.append)
    assert records[0]["skipped_steps"] == 0 and np.isfinite(records[0]["loss"])


def test_the_jax_programs_do_not_call_lapack():
    """Batched LAPACK calls deadlock in jaxlib 0.10: each waits in a thread of the pool that its
    parts should run on.
    """
    jax = pytest.importorskip("jax")
    backend_module = pytest.importorskip("acbo_fast.jax.backend")
    config = small_config(batch_size=4, grpo={"minibatches": 1}, reward={"info_gain": 0.1})
    backend = backend_module.JaxBackend(config)
    texts = []
    real = backend._rollout
    backend._rollout = lambda *arguments: (texts.append(real.lower(*arguments).as_text()), real(*arguments))[1]
    Trainer(config, backend).train(lambda record: None)
    assert len(texts[0]) > 10_000
    assert "lapack" not in texts[0] and "cholesky" not in texts[0]
    assert "lapack" in jax.jit(jax.numpy.linalg.cholesky).lower(np.ones((2, 3, 3))).as_text()


MEMORY = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from acbo_fast import backend_maker
from acbo_ref import Trainer
from acbo_ref.verify.data import small_config
config = small_config(total_episodes=2000 * 6, interventions_per_episode=2, grpo={{"ppo_epochs": 1}})
held = {{}}
def measure(record):
    if record["iteration"] in (400, 2000):
        held[record["iteration"]] = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
Trainer(config, backend_maker({name!r})(config), output=sys.argv[1]).train(measure)
print(held[2000] - held[400])
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ref", "numba", "jax"])
def test_two_thousand_iterations_do_not_grow_in_memory(name, tmp_path):
    code = MEMORY.format(tests=str(tmp_path), name=name)
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 8 * 2**20  # the record of iterations is on disk; what stays is allocator noise
