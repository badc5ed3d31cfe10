"""Making predicted intervals right on systems simulated from the policy's own prior (split
conformal prediction).

Contract: a function of a checkpoint alone; its randomness comes from the checkpoint's seed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.backend import ReferenceBackend
from acbo_ref.campaign.facts import COVERAGE
from acbo_ref.grpo.optim import OptimiserState
from acbo_ref.grpo.rollout import observe
from acbo_ref.randomness import Role, generator
from acbo_ref.systems.batch import simulate
from acbo_ref.training.checkpoint import Checkpoint
from acbo_ref.training.curriculum import Curriculum, Sample

QUANTILE = 1.6448536269514722  # of the standard normal: 90 % lie within
# So many batches of systems: one takes systems of similar size.
CALIBRATION_BATCHES = 4
CALIBRATION_SYSTEMS, CALIBRATION_STEPS, CALIBRATION_DRAWS = 16, 8, 64


def calibrate(checkpoint: Checkpoint) -> tuple[float, float]:
    """Factors that make the 90 % intervals right on systems simulated from the policy's own prior.

    On systems that training never saw, the policy plays a few interventions; the factor is the 90 %
    quantile of |deviation| / (1.645 predicted deviation), for the next measured outcome and for the
    expectation (mean of antithetic draws).

    Returns:
        (outcome_factor, expectation_factor)
    """
    config = checkpoint.config
    last, pools = config.curriculum.stages[-1], config.curriculum.pools
    graphs = tuple(g for g in last.graphs if g not in pools) or ("erdos_renyi",)  # a pool's files may be elsewhere
    stage = replace(last, until_episode=None, advance_score=None, graphs=graphs)
    config = replace(
        config,
        batch_size=CALIBRATION_SYSTEMS,
        dtype=None,
        grpo=replace(config.grpo, minibatches=1),
        curriculum=replace(config.curriculum, stages=(stage,), pools={}),
    )
    backend, curriculum = ReferenceBackend(config), Curriculum(config)
    state, rng = backend.from_host(checkpoint.state), generator(config.seed, Role.CALIBRATION, 0)
    ratios: list[tuple[Array, Array]] = []
    for batch in range(CALIBRATION_BATCHES):
        sample = curriculum.sample(2**30 + batch)  # iterations that no training reaches
        ratios += _ratios(backend, state, sample, rng)
    outcome, expectation = (np.quantile(np.concatenate(r), COVERAGE) / QUANTILE for r in zip(*ratios, strict=True))
    return float(outcome), float(expectation)


def _ratios(
    backend: ReferenceBackend, state: OptimiserState[Array], sample: Sample, rng: np.random.Generator
) -> list[tuple[Array, Array]]:
    """|deviation| / predicted deviation of the outcome and of the expectation, (E,) each, at every
    step of episodes on some systems.
    """
    systems, observation_mask, _ = sample
    count, width = systems.intercept.shape
    task = observe(systems, rng.standard_normal((count, observation_mask.shape[1], width)), observation_mask)
    session = backend.session(state, task, CALIBRATION_STEPS)
    each = np.arange(count)
    ratios: list[tuple[Array, Array]] = []
    for _ in range(CALIBRATION_STEPS):
        decision = session.decide()
        half = rng.standard_normal((count, CALIBRATION_DRAWS // 2, width))
        noise = np.concatenate([half, -half], axis=1)
        draws = noise.shape[1]
        rows = simulate(
            systems,
            noise,
            np.repeat(decision.variable[:, None], draws, 1),
            np.repeat(decision.value[:, None], draws, 1),
        )
        target = rows[each, :, task.target]
        ratios.append(
            (
                np.abs(target[:, 0] - decision.outcome_mean) / decision.outcome_std,
                np.abs(target.mean(axis=1) - decision.outcome_mean) / decision.outcome_error,
            )
        )
        session.observe(decision.variable, rows[:, 0])
    return ratios
