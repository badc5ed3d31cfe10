"""Configuration: YAML to frozen dataclasses, every key known and every value checked.

Contract: `load_config` returns a `Config` or raises an `AcboError` that names the key, the value,
the allowed range and, for an unknown key, the closest known one. Defaults are those of the class;
`configs/*.yaml` state only what differs. What a key means stands beside it, once, here;
docs/configuration.txt is printed from it (`acbo info --keys`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import ClassVar

from acbo_ref.errors import AcboError, did_you_mean
from acbo_ref.files import Document, read_yaml
from acbo_ref.settings import build, merged, modernise, read_overrides, setting, to_plain

Range = tuple[float, float]
IntRange = tuple[int, int]
MAX_CONFIG_BYTES = 2**20
# The families of random graphs; systems/graphs.py has a function for each.
GRAPH_FAMILIES = ("chain", "fork", "collider", "tree", "layered", "erdos_renyi", "scale_free", "sparse")


@dataclass(frozen=True)
class PolicyConfig:
    RENAMED: ClassVar[Mapping[str, str | None]] = {"evidence": None}

    architecture: str = setting(
        "choice",
        "pairwise",
        "what the network reads: the moments of pairs of variables, or raw rows by a transformer",
        choices=("pairwise", "simple_permutation_invariant"),
    )
    hidden_dim: int = setting("int", 32, "width D of the residual stream", 4, 4096)
    num_layers: int = setting(
        "int", 4, "blocks L; over rows they alternate attention over variables and over rows", 2, 64
    )
    num_heads: int = setting("int", 4, "attention heads H of the trunk over rows; must divide hidden_dim", 1, 64)
    use_fixed_std: bool = setting("bool", True, "false: the policy learns a standard deviation per variable")
    fixed_std: float = setting("float", 1.5, "standard deviation of the proposed value, standard units", 1e-3, 10.0)
    policy_into_trunk: bool = setting("bool", True, "false: the policy head learns, but nothing below it from it")


@dataclass(frozen=True)
class GRPOConfig:
    group_size: int = setting(
        "int",
        10,
        "candidates G compared in one state on the same noise; of credit episode: episodes of a system",
        2,
        4096,
    )
    credit: str = setting(
        "choice",
        "immediate",
        "what a candidate is judged by: its own outcome; that and what would be settled on after its row, for the "
        "experiments left; or the outcomes of the rest of its episode",
        choices=("immediate", "settle", "episode"),
        renamed={"step": "immediate"},
    )
    objective: str = setting(
        "choice",
        "cumulative",
        "of credit settle and episode: the sum of outcomes, or only what is settled on in the end",
        choices=("cumulative", "final"),
    )
    budget: IntRange | None = setting(
        "int_range",
        None,
        "experiments that an episode is told it has; null: interventions_per_episode",
        1,
        1000,
        null=True,
    )
    ppo_epochs: int = setting("int", 4, "passes over the collected episodes", 1, 100)
    minibatches: int = setting("int", 2, "minibatches a pass; must divide batch_size", 1, 4096)
    clip_ratio: float = setting("float", 0.2, "epsilon_low of the clipped objective", 1e-4, 0.999)
    clip_ratio_high: float | None = setting(
        "float", None, "epsilon_high; null: the same as clip_ratio", 1e-4, 100.0, null=True
    )
    entropy_coefficient: float = setting("float", 0.01, "weight of the entropy of the variable choice", 0.0, 10.0)
    entropy_coefficient_final: float | None = setting(
        "float", None, "linear anneal to this by the last iteration; null: constant", 0.0, 10.0, null=True
    )
    scale_rewards: str = setting(
        "choice",
        "group",
        "divide advantages by the std of the group, of the batch, or not",
        choices=("group", "batch", "none"),
    )
    learned_decisions: int | None = setting(
        "int", None, "decisions of an episode that carry the gradient (pairwise only); null: all", 1, 100_000, null=True
    )
    learning_rate: float = setting("float", 5e-4, "Adam's step size at the start", 1e-9, 1.0)
    learning_rate_schedule: str = setting("choice", "cosine", "over the whole run", choices=("cosine", "constant"))
    learning_rate_final: float = setting("float", 0.05, "end of the cosine, as a share of learning_rate", 0.0, 1.0)
    gradient_clip: float | None = setting(
        "float", 1.0, "largest global gradient norm; null: no clipping", 1e-6, 1e6, null=True
    )


@dataclass(frozen=True)
class RewardConfig:
    target: float = setting("float", 0.9, "weight of -(standard target) / 5", 0.0, 100.0)
    parent: float = setting("float", 0.1, "weight of 1[the variable is a true parent of the target]", 0.0, 100.0)
    info_gain: float = setting("float", 0.0, "weight of the drop in entropy of the parent posterior, nats", 0.0, 100.0)
    noise_draws: int = setting(
        "int",
        2,
        "draws of the exogenous noise, in antithetic pairs and the same for a whole group, that judge each candidate and probe",
        1,
        4096,
    )


@dataclass(frozen=True)
class HeadsConfig:
    RENAMED: ClassVar[Mapping[str, str | None]] = {"commit_share": "commit_by_outcome_head"}

    parent_weight: float = setting("float", 0.2, "weight of the parents' cross-entropy", 0.0, 100.0)
    edge_weight: float = setting(
        "float", 3.0, "weight of the cross-entropy of all edges (architecture pairwise)", 0.0, 100.0
    )
    outcome_weight: float = setting("float", 0.5, "weight of the outcome head's Gaussian NLL", 0.0, 100.0)
    label_weight: float = setting(
        "float",
        0.5,
        "labels of the outcome head weigh as their predicted variance at the time to this power; 0: all the same",
        0.0,
        1.0,
    )
    probes: int = setting(
        "int", 10, "extra uniform (variable, value) draws labelled by the simulator in each state", 0, 4096
    )
    commit_by_outcome_head: float = setting(
        "float", 0.0, "share of episodes that carry out the outcome head's decision (needs a probe)", 0.0, 1.0
    )


@dataclass(frozen=True)
class PriorConfig:
    standardised: float = setting("share", 0.5, "share of SCMs rescaled to unit variances", 0.0, 1.0)
    nonlinear: float = setting("share", 0.0, "share of SCMs with sine terms", 0.0, 1.0)
    saturate: float = setting("share", 0.0, "share of SCMs whose variables cannot leave their domain", 0.0, 1.0)
    weight: Range = setting("range", (0.5, 2.0), "absolute edge weights before any rescaling", 1e-6, 1e3)
    noise_std: Range = setting("range", (1.0, 1.0), "noise standard deviations before any rescaling", 0.0, 1e3)
    intercept: Range = setting("range", (0.0, 0.0), "intercepts before any rescaling", -1e6, 1e6)
    sine_amplitude: Range = setting("range", (0.5, 1.5), "amplitude of a sine term, times |weight|", 0.0, 1e3)
    sine_frequency: Range = setting("range", (0.3, 1.5), "frequency of a sine term", 0.0, 1e3)
    curved: float = setting("share", 0.0, "share of SCMs with curves: see systems/curves", 0.0, 1.0)
    curve_length: Range = setting("range", (0.3, 3.0), "length scale of a curve, half domains of its parent", 1e-3, 1e3)
    curve_size: Range = setting(
        "range", (0.3, 10.0), "size of a curve, noise standard deviations of its child", 0.0, 1e3
    )
    tuned: float = setting(
        "share", 0.0, "share of the varied SCMs that are curved and whose target stands near its best", 0.0, 1.0
    )
    tuned_size: Range = setting("range", (2.0, 60.0), "the same as curve_size, of the target of a tuned SCM", 0.0, 1e4)
    hidden: float = setting("share", 0.0, "share of roots with several effects that nobody sees", 0.0, 1.0)
    disturbed: float = setting(
        "share", 0.0, "share of SCMs in which a root that nobody can set makes most of the target's variance", 0.0, 1.0
    )
    disturbance: Range = setting("range", (0.5, 0.98), "its share of the target's variance", 0.0, 0.999)
    domain_center: Range = setting("range", (0.0, 0.0), "centre of a variable's domain", -1e6, 1e6)
    domain_half_width: Range = setting("range", (5.0, 5.0), "half the width of a variable's domain", 1e-6, 1e6)
    varied: float = setting(
        "share",
        1.0,
        "share of SCMs whose weights, noise, intercepts and domains follow this section; the others take its defaults",
        0.0,
        1.0,
    )
    manipulable: float = setting("float", 1.0, "share of non-target variables that can be set", 0.0, 1.0)
    target: str = setting("choice", "any", "which variable with parents is the target", choices=("any", "last"))
    edge_probability: float = setting("float", 0.5, "for erdos_renyi and layered", 0.0, 1.0)


@dataclass(frozen=True)
class StageConfig:
    name: str = setting("text", "stage", "shown in logs and reports")
    until_episode: int | None = setting(
        "int", None, "the stage ends here at the latest; null: never", 1, 10**12, null=True
    )
    advance_score: float | None = setting(
        "float", None, "it ends earlier once the recent score passes this; null: never", -10.0, 10.0, null=True
    )
    variables: IntRange = setting("int_range", (3, 4), "number of variables, target included", 2, 1000)
    graphs: tuple[str, ...] = setting("names", ("chain", "fork"), "graph families, or names of pools")


def _default_stages() -> tuple[StageConfig, ...]:
    return (
        StageConfig("simple", 200, 0.8, (3, 4), ("chain", "fork")),
        StageConfig("medium", 500, 0.8, (5, 7), ("chain", "fork", "collider", "tree", "erdos_renyi")),
        StageConfig("complex", None, None, (8, 10), ("erdos_renyi", "scale_free")),
    )


@dataclass(frozen=True)
class CurriculumConfig:
    stages: tuple[StageConfig, ...] = setting(
        "sections", _default_stages, "in order; the last one has no end", section=StageConfig
    )
    rehearsal: float = setting("float", 0.2, "share of episodes drawn from earlier stages", 0.0, 0.95)
    size_buckets: int = setting(
        "int",
        1,
        "parts that a stage's range of variables is cut into; the systems of an iteration come from one part, the parts "
        "as often as they are small",
        1,
        16,
    )
    window: int = setting("int", 100, "episodes of the stage over which the recent score is averaged", 1, 10_000)
    pools: Mapping[str, tuple[str, ...]] = setting(
        "files", dict, "named lists of SCM files, used in rotation by episode number"
    )


@dataclass(frozen=True)
class ExplorationConfig:
    adaptive: bool = setting("bool", False, "let fixed_std follow the recent score")
    low: float = setting("float", 1.0, "fixed_std once the score is at or above switch_score", 1e-3, 10.0)
    high: float = setting("float", 2.0, "fixed_std while it is below", 1e-3, 10.0)
    switch_score: float = setting("float", 0.7, "the score at which it changes", -10.0, 10.0)


@dataclass(frozen=True)
class EarlyStoppingConfig:
    patience: int | None = setting(
        "int", None, "stop after so many episodes of the last stage without a better recent score", 1, 10**12, null=True
    )
    score: float | None = setting(
        "float", None, "stop once the recent score reaches this in the last stage", -10.0, 10.0, null=True
    )


@dataclass(frozen=True)
class Config:
    RENAMED: ClassVar[Mapping[str, str | None]] = {"surrogate": "heads"}

    name: str = setting("text", "custom", "names the run folder")
    seed: int = setting("int", 42, "the only source of randomness", 0, 2**63 - 1)
    total_episodes: int = setting("int", 1000, "rounded up to whole batches", 1, 10**12)
    observations_per_episode: IntRange = setting(
        "int_range", (20, 20), "rows O; a range varies it by episode", 0, 100_000
    )
    observations_spacing: str = setting(
        "choice",
        "uniform",
        "how a range of rows is drawn: each number as often, or each order of magnitude",
        choices=("uniform", "logarithmic"),
    )
    interventions_per_episode: int = setting("int", 30, "interventions K", 1, 100_000)
    batch_size: int = setting("int", 32, "episodes E an iteration", 1, 1_000_000)
    checkpoint_every: int = setting("int", 50, "episodes between checkpoints", 1, 10**12)
    keep_best_n: int = setting("int", 5, "numbered checkpoints kept, by score", 1, 1000)
    decision: str = setting(
        "choice",
        "policy_head",
        "outside training: by the policy head, or by the outcome head on a grid",
        choices=("policy_head", "outcome_head"),
        renamed={"policy": "policy_head", "surrogate": "outcome_head"},
    )
    optimism: float = setting(
        "float",
        1.25,
        "decision outcome_head takes the lowest expected target minus this many standard errors with 19 experiments left, "
        "fewer as log(1 + left) falls; 0: no exploration",
        0.0,
        100.0,
    )
    extrapolation: float | None = setting(
        "float",
        5.0,
        "decision outcome_head goes at most so many spreads of a variable beyond what was seen of it; null: anywhere",
        0.0,
        1e6,
        null=True,
    )
    dtype: str | None = setting(
        "choice",
        None,
        "null: the backend's own (ref float64, others float32)",
        choices=("float32", "float64"),
        null=True,
    )
    policy: PolicyConfig = setting("section", PolicyConfig, "the network")
    grpo: GRPOConfig = setting("section", GRPOConfig, "the optimiser")
    reward: RewardConfig = setting("section", RewardConfig, "what a candidate is worth")
    heads: HeadsConfig = setting("section", HeadsConfig, "how the parent and outcome heads are trained")
    scm: PriorConfig = setting("section", PriorConfig, "the prior over systems")
    curriculum: CurriculumConfig = setting("section", CurriculumConfig, "which systems when")
    exploration: ExplorationConfig = setting("section", ExplorationConfig, "adaptive exploration")
    early_stopping: EarlyStoppingConfig = setting("section", EarlyStoppingConfig, "when to stop before the end")

    def __post_init__(self) -> None:
        _cross_check(self)

    @property
    def num_iterations(self) -> int:
        return -(-self.total_episodes // self.batch_size)

    def to_dict(self) -> Document:
        """Plain Python that `config_from_dict` turns back into an equal Config."""
        return dict(to_plain(self))


def episodes_together(config: Config) -> int:
    """How many episodes of a batch are of one system and on the same noise."""
    return config.grpo.group_size if config.grpo.credit == "episode" else 1


def _check_credit(config: Config) -> None:
    """What the credit asks of other keys."""
    together, steps, budget = episodes_together(config), config.interventions_per_episode, config.grpo.budget
    if config.grpo.objective == "final" and config.grpo.credit == "immediate":
        raise AcboError(
            "grpo.objective final needs grpo.credit settle or episode",
            "credit immediate knows nothing of what is settled on in the end",
        )
    if config.batch_size % together:
        raise AcboError(
            f"grpo.group_size is {together}, which does not divide batch_size {config.batch_size}",
            "under credit episode a batch holds group_size episodes of each system",
        )
    if together > 1 and config.heads.commit_by_outcome_head > 0:
        raise AcboError(
            "grpo.credit episode needs heads.commit_by_outcome_head: 0", "the policy head must act in all episodes"
        )
    if together > 1 and budget is not None and budget[1] > steps:
        raise AcboError(
            f"grpo.budget ends at {budget[1]}, above interventions_per_episode {steps}",
            "under credit episode all experiments of the budget are played",
        )


def _check_network(policy: PolicyConfig, grpo: GRPOConfig) -> None:
    """Sizes that do not fit each other or the trunk."""
    if policy.hidden_dim % policy.num_heads:
        found = f"policy.num_heads is {policy.num_heads}, which does not divide policy.hidden_dim {policy.hidden_dim}"
        raise AcboError(found, "choose a hidden_dim that is a multiple of num_heads")
    if policy.hidden_dim % 2:
        raise AcboError(f"policy.hidden_dim is {policy.hidden_dim}, not even", "the heads halve it")
    if grpo.learned_decisions is not None and policy.architecture != "pairwise":
        hint = "the trunk over rows learns from all decisions of an episode in one pass: leave it out"
        raise AcboError("grpo.learned_decisions needs policy.architecture: pairwise", hint)


def _cross_check(config: Config) -> None:
    """What single values cannot tell."""
    policy, grpo, curriculum = config.policy, config.grpo, config.curriculum
    _check_network(policy, grpo)
    _check_credit(config)
    if config.heads.commit_by_outcome_head > 0 and config.heads.probes == 0:
        raise AcboError(
            "heads.commit_by_outcome_head needs a probe: the outcome head's decision takes the place of the first",
            "set heads.probes to 1 or more",
        )
    if config.batch_size % grpo.minibatches:
        raise AcboError(
            f"grpo.minibatches is {grpo.minibatches}, which does not divide batch_size {config.batch_size}",
            "choose a batch_size that is a multiple of minibatches",
        )
    reward = config.reward
    if reward.target + reward.parent + reward.info_gain == 0:
        raise AcboError("all reward weights are 0", "give at least reward.target a positive weight")
    if config.decision == "outcome_head" and config.heads.outcome_weight == 0:
        raise AcboError(
            "decision is outcome_head but heads.outcome_weight is 0", "the outcome head would not be trained"
        )
    if config.reward.noise_draws > 1 and config.reward.noise_draws % 2:
        raise AcboError(
            f"reward.noise_draws is {config.reward.noise_draws}", "give 1 or an even number: draws come in pairs"
        )
    if config.exploration.adaptive and not policy.use_fixed_std:
        raise AcboError("exploration.adaptive needs policy.use_fixed_std: true", "the learned std is not overridden")
    last = 0
    for n, stage in enumerate(curriculum.stages):
        key = f"curriculum.stages[{n}]"
        if stage.until_episode is not None:
            if stage.until_episode <= last:
                raise AcboError(f"{key}.until_episode is {stage.until_episode}, not above the stage before ({last})")
            last = stage.until_episode
        if n == len(curriculum.stages) - 1 and (stage.until_episode, stage.advance_score) != (None, None):
            raise AcboError(
                f"{key} ({stage.name}) is the last stage, and has until_episode or advance_score",
                "leave them out there: the run ends by total_episodes or early_stopping",
            )
        if n < len(curriculum.stages) - 1 and (stage.until_episode, stage.advance_score) == (None, None):
            raise AcboError(
                f"{key} ({stage.name}) never ends, so the stages after it are never reached",
                "give it until_episode or advance_score",
            )
        for graph in stage.graphs:
            if graph not in GRAPH_FAMILIES and graph not in curriculum.pools:
                raise AcboError(
                    f"{key}.graphs names {graph!r}, neither a graph family nor a pool",
                    did_you_mean(graph, [*GRAPH_FAMILIES, *curriculum.pools]),
                )
    for name in curriculum.pools:
        if name in GRAPH_FAMILIES:
            raise AcboError(f"curriculum.pools.{name} has the name of a graph family", "rename the pool")


def config_from_dict(
    document: object, base: str | Path = ".", on_renamed: Callable[[str], None] | None = None
) -> Config:
    """Check plain Python (from YAML or a checkpoint) and build the Config.

    Args:
        base: folder that the files of pools are relative to.
        on_renamed: called with a sentence about each key that has another name now.
    """
    return build(Config, modernise(Config, document, on_renamed), "", base)


class RenamedKeyWarning(UserWarning):
    """A key or value of a configuration has another name now; the old one is read for one
    release.
    """


def warn_of_renamed(message: str) -> None:
    """Warn of a renamed key."""
    warnings.warn(message, RenamedKeyWarning, stacklevel=4)


def with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """The config with `section.key=value` texts applied."""
    changes = modernise(Config, read_overrides(overrides), warn_of_renamed)
    return config_from_dict(merged(config.to_dict(), changes))


def shipped_configs() -> list[str]:
    """Names that `load_config` knows."""
    return sorted(p.name[:-5] for p in resources.files("acbo_configs").iterdir() if p.name.endswith(".yaml"))


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a shipped config by name (`production`) or a YAML file by path, then apply
    `section.key=value` overrides.

    Raises:
        AcboError: nothing there, not YAML, an unknown key or a value out of range.
    """
    path = Path(source)
    try:
        if path.suffix in (".yaml", ".yml") or "/" in str(source):
            name, base = path.stem, path.parent
            if path.stat().st_size > MAX_CONFIG_BYTES:
                raise AcboError(f"{path}: larger than {MAX_CONFIG_BYTES} bytes", "is this really a config?")
            text = path.read_text(encoding="utf-8")
        else:
            name, base = str(source), Path()
            if name not in shipped_configs():
                raise AcboError(
                    f"no config named {name!r}", did_you_mean(name, shipped_configs()) + " Or give a .yaml file."
                )
            text = (resources.files("acbo_configs") / f"{name}.yaml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AcboError(
            f"cannot read config {source}: {error}", f"shipped configs, by name: {', '.join(shipped_configs())}"
        ) from error
    try:
        document = read_yaml(text)
    except ValueError as error:
        raise AcboError(f"{source}: not valid YAML: {error}") from error
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise AcboError(f"{source}: the config is not a mapping of keys to values")
    document.setdefault("name", name)
    try:
        changes = modernise(Config, read_overrides(overrides), warn_of_renamed)
        return config_from_dict(merged(modernise(Config, document, warn_of_renamed), changes), base)
    except AcboError as error:
        raise AcboError(f"{source}: {error.message}", error.hint) from error
