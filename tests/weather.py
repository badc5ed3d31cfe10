"""A plant whose weather drives the target and is followed by a lever, and campaigns on it."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np

from acbo_ref.campaign.facts import CampaignWarning, Facts
from acbo_ref.campaign.scales import PLAIN
from acbo_ref.policy.inputs import Task
from acbo_ref.systems.scm import Variable

# D drives the target and is followed by the lever a; b is a lever too, m between a and the target.
NAMES = ("d", "a", "b", "m", "y")
FOLLOWS, DRIVES = -0.7, 9.0
EXOGENOUS = np.arange(5) == 0
VARIABLES = {"d": None, "a": (-4, 4), "b": (-4, 4), "m": None, "y": None}


def plant(noise, d, lever=None, value=0.0):
    """Rows (N, 5) of the system from noise (N, 4), D as given, with a lever set."""
    a = np.full(len(d), value) if lever == "a" else 1.0 + FOLLOWS * (d - 3.0) + noise[:, 0]
    b = np.full(len(d), value) if lever == "b" else noise[:, 1]
    m = 0.8 * a + 0.3 * noise[:, 2]
    return np.stack([d, a, b, m, 2.0 * m - b + DRIVES * d + noise[:, 3]], axis=1)


def without_chance(rows):
    """Noise (N, 4) that goes with nothing: so the slopes on D are exact."""
    rng = np.random.default_rng(3)
    noise, d = rng.standard_normal((rows, 4)), 3.0 + 2.0 * rng.standard_normal(rows)
    basis = np.stack([np.ones(rows), d], axis=1)
    return noise - basis @ np.linalg.lstsq(basis, noise, rcond=None)[0], d


def task_of(observations):
    one = np.ones((1, 5), bool)
    return Task(
        observations=observations[None], observation_mask=np.ones((1, len(observations)), bool), target=np.array([4]),
        valid=one, manipulable=np.isin(np.arange(5), (1, 2))[None], low=np.full((1, 5), -4.0), high=np.full((1, 5), 4.0),
    )  # fmt: skip


def with_disturbance(system):
    """The system, and a root D that makes 95 % of the target's variance."""
    weight = float(np.sqrt(0.95 / 0.05) * system.observational_moments[1])
    edges = {**system.edges, ("D", system.target): weight}
    return replace(system, variables=(*system.variables, Variable("D", manipulable=False)), edges=edges)


def rows_of(count, seed=0, **levers):
    rng = np.random.default_rng(seed)
    lever, value = next(iter(levers.items()), (None, 0.0))
    return plant(rng.standard_normal((count, 4)), 3.0 + 2.0 * rng.standard_normal(count), lever, value)


def quietly(function, *given, **named):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CampaignWarning)
        return function(*given, **named)


def facts_of(records, **more):
    return Facts(
        target="y", direction="minimize", variables=NAMES, domains=tuple(VARIABLES.values()), budget=None,
        policy_sha256="0" * 64, calibrated_factors=(1.0, 1.0), records=records, abandoned=frozenset(), notes={},
        prices=(1.0,) * 5, scales=(PLAIN,) * 5, exogenous=("d",), **({"proposals": {}} | more),
    )  # fmt: skip
