"""Which systems an iteration trains on: stages, rehearsal, and pools of the user's own models.

A stage lasts until its last episode, or ends earlier once the recent score passes its threshold;
rehearsed episodes do not count towards it. Random families give a new model every time; a pool
gives its models in rotation, by episode number. A pool that no stage names is used in every stage,
as one more entry of its `graphs`, so `curriculum.scm_pool["custom"] = [my_scm]` is enough.

Contract: the models of an iteration are a function of (seed, iteration) and the curriculum's small
state, which is plain data and goes into checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.config import GRAPH_FAMILIES, Config, StageConfig, episodes_together
from acbo_ref.errors import AcboError
from acbo_ref.randomness import Role, generator
from acbo_ref.systems.batch import SCMBatch
from acbo_ref.systems.curves import MOST_TERMS
from acbo_ref.systems.files import load_scm
from acbo_ref.systems.prior import sample_scm
from acbo_ref.systems.scm import SCM, stack


class Sample(NamedTuple):
    """What an iteration trains on: E models, (E, O) bool which observational rows an episode gets,
    (E,) bool which episodes rehearse an earlier stage."""

    systems: SCMBatch[Array]
    observation_mask: Array
    rehearsed: Array


@dataclass
class CurriculumState:
    """What training has learnt of its own progress: the stage, and (gain, oracle gain) of recent
    episodes in it.
    """

    stage: int = 0
    recent: list[list[float]] = field(default_factory=list)


def bucket(sizes: tuple[int, int], part: int, parts: int) -> tuple[int, int]:
    """(smallest, largest) size in one of the parts that a range is cut into, whose largest sizes
    grow by equal factors: work on a system grows with the square of its size, so an iteration takes
    systems of similar size.
    """
    low, high = sizes
    edges = [low - 1, *(round(low * (high / low) ** ((p + 1) / parts)) for p in range(parts))]
    largest = min(max(edges[part + 1], low), high)
    return min(max(edges[part] + 1, low), largest), largest


class Curriculum:
    """Stages and pools of a config.

    Attributes:
        scm_pool: {name: models}, filled from `curriculum.pools`; add your own before training.
        state: see CurriculumState.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self.scm_pool: dict[str, Sequence[SCM]] = {
            name: [load_scm(path) for path in paths] for name, paths in config.curriculum.pools.items()
        }
        self.state = CurriculumState()

    @property
    def stages(self) -> tuple[StageConfig, ...]:
        return self._config.curriculum.stages

    @property
    def stage(self) -> StageConfig:
        return self.stages[self.state.stage]

    def sample(self, iteration: int) -> Sample:
        """The E models of an iteration, padded to the stage's width, and how many rows each
        gets. Under credit "episode" neighbours share a model and their number of rows.
        """
        config, together = self._config, episodes_together(self._config)
        number = config.batch_size // together
        self._check_pools()
        rng = generator(config.seed, Role.SYSTEMS, iteration)
        part, parts = self._part(rng)
        scms = []
        rehearsed = np.zeros(number, bool)
        for e in range(number):
            stage = self.stage
            if self.state.stage > 0 and rng.random() < config.curriculum.rehearsal:
                stage, rehearsed[e] = self.stages[int(rng.integers(self.state.stage))], True
            families = self._families(stage)
            family = families[rng.integers(len(families))]
            if family in self.scm_pool:
                pool = self.scm_pool[family]
                scms.append(pool[(iteration * number + e) % len(pool)].minimised())
            else:
                low, high = bucket(stage.variables, part, parts)
                size = int(rng.integers(low, high + 1))
                scms.append(sample_scm(config.scm, family, size, rng))
        low, high = config.observations_per_episode
        if config.observations_spacing == "logarithmic":
            drawn = rng.uniform(np.log(low + 0.5), np.log(high + 1.5), size=number)
            counts = np.minimum(np.floor(np.exp(drawn) - 0.5).astype(int), high)
        else:
            counts = rng.integers(low, high + 1, size=number)
        width, terms = self._padding(part, parts)
        counts, rehearsed = np.repeat(counts, together), np.repeat(rehearsed, together)
        scms = [scm for scm in scms for _ in range(together)]
        return Sample(stack(scms, width, terms), np.arange(high) < counts[:, None], rehearsed)

    def _families(self, stage: StageConfig) -> list[str]:
        named = {graph for s in self.stages for graph in s.graphs}
        return [*stage.graphs, *(name for name in self.scm_pool if name not in named)]

    def _part(self, rng: np.random.Generator) -> tuple[int, int]:
        """Which part of the stages' ranges of sizes this iteration draws from, and of how many."""
        parts = self._config.curriculum.size_buckets
        if parts == 1:
            return 0, 1
        largest = np.array([bucket(self.stage.variables, part, parts)[1] for part in range(parts)], float)
        return int(rng.choice(parts, p=largest**-1.5 / (largest**-1.5).sum())), parts

    def _padding(self, part: int, parts: int) -> tuple[int, int]:
        """(V, M) that holds every model this stage and rehearsal can give: one shape a stage and
        part, so one compilation.
        """
        reachable = self.stages[: self.state.stage + 1]
        families = {family for stage in reachable for family in self._families(stage)}
        models = [scm for name, pool in self.scm_pool.items() if name in families for scm in pool]
        width = max(
            [bucket(s.variables, part, parts)[1] for s in reachable if any(g in GRAPH_FAMILIES for g in s.graphs)]
            + [len(s.names) for s in models]
        )
        terms = max([sum(t.variable == n for t in s.terms) for s in models for n in s.names], default=0)
        if self._config.scm.nonlinear > 0:  # at most one sine term for each possible parent
            terms = max(terms, width - 1)
        if self._config.scm.curved > 0:
            terms = max(terms, MOST_TERMS)
        return width, terms

    def _check_pools(self) -> None:
        for name, pool in self.scm_pool.items():
            if not len(pool):
                raise AcboError(f"pool {name!r} is empty", "add at least one SCM, or remove the pool")
            for scm in pool:
                if not isinstance(scm, SCM):
                    raise AcboError(
                        f"pool {name!r} has a {type(scm).__name__}", "pools hold SCM objects (see acbo_ref.SCM)"
                    )

    # ------------------------------------------------------------------------------------- progress

    def recent_score(self) -> float | None:
        """Sum of gains over sum of the oracle's gains of the last `window` episodes of this stage;
        None before any.
        """
        if not self.state.recent:
            return None
        gain, oracle_gain = np.sum(self.state.recent, axis=0)
        return float(gain / oracle_gain) if oracle_gain > 0 else 0.0

    def record(self, gains: Array, oracle_gains: Array) -> None:
        """Note the outcome of episodes of this stage (not of rehearsal), any number of them."""
        pairs = np.stack([gains, oracle_gains], axis=1).tolist()
        self.state.recent = (self.state.recent + pairs)[-self._config.curriculum.window :]

    def window_is_full(self) -> bool:
        """Whether the recent score rests on enough episodes to act on: the window, or two batches
        if that is less.
        """
        return len(self.state.recent) >= min(self._config.curriculum.window, 2 * self._config.batch_size)

    def advance(self, episodes_done: int) -> bool:
        """Go to the next stage if this one has passed its score, and over those whose last episode
        is behind.
        """
        start, score = self.state.stage, self.recent_score()
        last = len(self.stages) - 1
        threshold = self.stage.advance_score
        if (
            start < last
            and threshold is not None
            and self.window_is_full()
            and score is not None
            and score >= threshold
        ):
            self.state = CurriculumState(stage=start + 1)
        while (
            self.state.stage < last
            and self.stage.until_episode is not None
            and episodes_done >= self.stage.until_episode
        ):
            self.state = CurriculumState(stage=self.state.stage + 1)
        return self.state.stage > start
