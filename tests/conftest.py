"""Fixtures: every backend installed, and small data to run it on."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings

from acbo_fast import available, backend_maker
from acbo_ref.verify.data import iteration_data, perturbed_state, small_config

# Derandomised, so that a failure on one machine is a failure on all; no deadline, since compilation
# takes its time.
settings.register_profile(
    "acbo",
    derandomize=True,
    deadline=None,
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("acbo")
os.environ.setdefault("COLUMNS", "100")


@pytest.fixture(params=available())
def make_backend(request):
    """Builds each installed backend in turn for a Config."""
    return backend_maker(request.param)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """The file of a small, untrained policy."""
    from campaign_crashes import small_policy

    return small_policy(tmp_path_factory.mktemp("policy") / "policy.npz")


@pytest.fixture
def campaign(tmp_path, policy):
    """A campaign with five observations, about to begin."""
    from campaign_crashes import create

    return create(tmp_path / "c", policy)


@pytest.fixture(scope="session")
def played():
    """(config, reference state, problems, observation mask, noise, trajectories) of a small
    iteration.
    """
    from acbo_ref.backend import ReferenceBackend

    config = small_config()
    reference = ReferenceBackend(config)
    state = perturbed_state(reference)
    data = iteration_data(config)
    return config, state, *data, reference.rollout(state, *data, config.policy.fixed_std)


@pytest.fixture(scope="module")
def shipped():
    """A backend with the policy that ships, and its state."""
    from acbo_ref.backend import ReferenceBackend
    from acbo_ref.training.checkpoint import load_checkpoint, shipped_policy

    checkpoint = load_checkpoint(shipped_policy())
    backend = ReferenceBackend(replace(checkpoint.config, dtype=None))
    return backend, backend.from_host(checkpoint.state)
