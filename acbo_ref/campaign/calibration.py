"""Making predicted intervals right on systems simulated from the policy's own prior (split
conformal prediction).

Contract: a function of a checkpoint alone; its randomness comes from the checkpoint's seed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.backend import ReferenceBackend
from acbo_ref.grpo.rollout import observe
from acbo_ref.randomness import Role, generator
from acbo_ref.systems.batch import simulate
from acbo_ref.training.checkpoint import Checkpoint
from acbo_ref.training.curriculum import Curriculum

COVERAGE = 0.9
QUANTILE = 1.6448536269514722  # of the standard normal: 90 % lie within
CALIBRATION_SYSTEMS, CALIBRATION_STEPS, CALIBRATION_DRAWS = 64, 8, 64


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
        curriculum=replace(config.curriculum, stages=(stage,), pools={}),
    )
    systems, observation_mask, _ = Curriculum(config).sample(2**30)  # an iteration that no training reaches
    count, width = systems.intercept.shape
    rng = generator(config.seed, Role.CALIBRATION, 0)
    backend = ReferenceBackend(config)
    task = observe(systems, rng.standard_normal((count, observation_mask.shape[1], width)), observation_mask)
    session = backend.session(backend.from_host(checkpoint.state), task, CALIBRATION_STEPS)
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
    outcome, expectation = (np.quantile(np.stack(r), COVERAGE) / QUANTILE for r in zip(*ratios, strict=True))
    return float(outcome), float(expectation)
