"""What checks run on: a small configuration, a state away from its start, and off-policy data.

Contract: everything is a function of fixed seeds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from acbo_ref.arrays import Array, Params
from acbo_ref.backend import ReferenceBackend
from acbo_ref.config import Config, config_from_dict
from acbo_ref.files import Document
from acbo_ref.grpo.noise import EpisodeNoise, draw_noise
from acbo_ref.grpo.optim import OptimiserState
from acbo_ref.grpo.rollout import Trajectories
from acbo_ref.policy.heads import VALUE_FEATURES, OutcomeState
from acbo_ref.policy.local import Tried
from acbo_ref.randomness import Role, generator
from acbo_ref.systems.batch import SCMBatch
from acbo_ref.training.curriculum import Curriculum

# Distinct primes where possible, so that a transposed axis cannot pass: E=3 (5 later), O=5, K=3,
# G=7, P=2.
SMALL: Document = {
    "name": "verify",
    "seed": 7,
    "total_episodes": 60,  # ten iterations
    "batch_size": 6,
    "observations_per_episode": [3, 5],
    "interventions_per_episode": 3,
    "policy": {"hidden_dim": 8, "num_layers": 4, "num_heads": 2},
    "grpo": {"group_size": 7, "ppo_epochs": 2, "minibatches": 2, "learning_rate": 1e-3, "learned_decisions": 2},
    "heads": {"probes": 2},
    "scm": {"nonlinear": 0.3, "saturate": 0.3, "curved": 0.4, "hidden": 0.3, "manipulable": 0.8},
    "curriculum": {"stages": [{"name": "all", "variables": [3, 5], "graphs": ["chain", "fork", "erdos_renyi"]}]},
}

# Changes of its `policy` section for the other trunk.
ROWS: Document = {"architecture": "simple_permutation_invariant"}
# Changes of its `grpo` section for the credit of whole episodes.
EPISODES: Document = {"credit": "episode", "group_size": 3, "budget": [1, 3]}


def small_config(**changes: Any) -> Config:
    """The small configuration that checks run on; sections given replace keys of its sections."""
    document = {key: dict(value) if isinstance(value, dict) else value for key, value in SMALL.items()}
    for key, value in changes.items():
        document[key] = {**document.get(key, {}), **value} if isinstance(value, dict) else value
    return config_from_dict(document)


def iteration_data(config: Config, iteration: int = 0) -> tuple[SCMBatch[Array], Array, EpisodeNoise[Array]]:
    """Systems, observation mask and noise that training would use in an iteration."""
    systems, observation_mask, _ = Curriculum(config).sample(iteration)
    noise = draw_noise(config, iteration, observation_mask.shape[1], systems.intercept.shape[1])
    return systems, observation_mask, noise


def perturbed_state(backend: ReferenceBackend) -> OptimiserState[Array]:
    """A state whose parameters are all away from their starting values (heads start near 0, biases
    at 0).
    """
    state = backend.init_state()
    rng = generator(backend.config.seed, Role.VERIFY, 1)
    params = {name: value + 0.1 * rng.standard_normal(value.shape) for name, value in state.params.items()}
    return state._replace(params=params)


def off_policy(trajectories: Trajectories[Array]) -> Trajectories[Array]:
    """The same episodes with old log-probs moved so that ratios lie below, inside and above the
    clip range, none near a bound: exp(-0.5) = 0.61, exp(0.05) = 1.05, exp(0.5) = 1.65."""
    shift = np.array([-0.5, 0.05, 0.5])[np.arange(trajectories.log_prob.size) % 3].reshape(trajectories.log_prob.shape)
    return trajectories._replace(log_prob=trajectories.log_prob - shift)


def local_case() -> tuple[Params, OutcomeState[Array], Tried[Array], Array, Array]:
    """An outcome head, its state of 4 variables in 2 systems, 5 own outcomes of each (variables
    tried twice and at one place, one that does not count), and 7 actions, some of them tried.
    """
    rng = generator(0, Role.VERIFY, 7)
    params = {
        "outcome_head.value.weight": rng.standard_normal((VALUE_FEATURES, 6)),
        "outcome_head.out.weight": rng.standard_normal((6, 4)) / 3,
        "outcome_head.out.bias": np.array([0.1, 0.0, -0.5, -0.4]),
    }
    slope, centre, log_length = rng.standard_normal((3, 2, 4))
    state = OutcomeState(rng.standard_normal((2, 4, 6)), slope, centre, rng.uniform(0.1, 0.5, (2, 4)), log_length)
    tried = Tried(
        variable=np.array([[0, 1, 1, 1, 3], [2, 2, 0, 2, 1]]),
        value=np.array([[-2.0, 5.0, 4.0, 4.0, 1.0], [0.0, 3.0, -5.0, -1.0, 2.0]]),
        outcome=rng.standard_normal((2, 5)),
        counts=np.array([[True] * 5, [True, True, False, True, True]]),
    )
    variable = np.array([[0, 1, 1, 2, 3, 3, 0], [2, 2, 0, 3, 1, 0, 2]])
    value = np.array([[-2.0, 4.0, -4.0, 1.0, 1.5, 5.0, 0.0], [1.0, 0.0, -5.0, 2.0, 2.0, 3.0, -4.0]])
    return params, state, tried, variable, value
