"""Configuration: YAML to frozen dataclasses, every key known and every value checked.

Contract: `load_config` returns a `Config` or raises an `AcboError` that names the key, the value, the allowed range and,
for an unknown key, the closest known one. Defaults are those of the class; `configs/*.yaml` state only what differs.
What a key means stands beside it, once, here; docs/configuration.txt is printed from it (`acbo info --keys`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from acbo_ref.documents import read_yaml
from acbo_ref.errors import AcboError, did_you_mean
from acbo_ref.graphs import GRAPHS

Range = tuple[float, float]
IntRange = tuple[int, int]
MAX_CONFIG_BYTES = 2**20


def _key(kind: str, default: Any, help: str, low: float | None = None, high: float | None = None, **extra: Any) -> Any:
    """A dataclass field with what the checker needs: kind, range or choices, and one line of help."""
    metadata = {"kind": kind, "low": low, "high": high, "help": help, **extra}
    if isinstance(default, (dict, list)) or callable(default):
        return field(
            default_factory=default if callable(default) else lambda: type(default)(default), metadata=metadata
        )
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class PolicyConfig:
    architecture: str = _key(
        "choice",
        "simple_permutation_invariant",
        "the one architecture there is",
        choices=("simple_permutation_invariant",),
    )
    hidden_dim: int = _key("int", 256, "width D of the residual stream", 4, 4096)
    num_layers: int = _key("int", 4, "blocks L, alternating attention over variables and over rows", 2, 64)
    num_heads: int = _key("int", 4, "attention heads H; must divide hidden_dim", 1, 64)
    use_fixed_std: bool = _key("bool", True, "false: the policy learns a standard deviation per variable")
    fixed_std: float = _key("float", 1.5, "standard deviation of the proposed value, standard units", 1e-3, 10.0)
    evidence: str = _key(
        "choice",
        "regression",
        "further input channels: what least squares says of every variable so far, or nothing",
        choices=("regression", "none"),
    )


@dataclass(frozen=True)
class GRPOConfig:
    group_size: int = _key("int", 10, "candidates G scored in one state on the same noise", 2, 4096)
    ppo_epochs: int = _key("int", 4, "passes over the collected episodes", 1, 100)
    minibatches: int = _key("int", 2, "minibatches a pass; must divide batch_size", 1, 4096)
    clip_ratio: float = _key("float", 0.2, "epsilon_low of the clipped surrogate", 1e-4, 0.999)
    clip_ratio_high: float | None = _key(
        "float", None, "epsilon_high; null: the same as clip_ratio", 1e-4, 100.0, null=True
    )
    entropy_coefficient: float = _key("float", 0.01, "weight of the entropy of the variable choice", 0.0, 10.0)
    entropy_coefficient_final: float | None = _key(
        "float", None, "linear anneal to this by the last iteration; null: constant", 0.0, 10.0, null=True
    )
    scale_rewards: str = _key(
        "choice",
        "group",
        "divide advantages by the std of the group, of the batch, or not",
        choices=("group", "batch", "none"),
    )
    credit: str = _key("choice", "step", "each state's group is judged by that step's reward", choices=("step",))
    learning_rate: float = _key("float", 5e-4, "Adam's step size at the start", 1e-9, 1.0)
    learning_rate_schedule: str = _key("choice", "cosine", "over the whole run", choices=("cosine", "constant"))
    learning_rate_final: float = _key("float", 0.05, "end of the cosine, as a share of learning_rate", 0.0, 1.0)
    gradient_clip: float | None = _key(
        "float", 1.0, "largest global gradient norm; null: no clipping", 1e-6, 1e6, null=True
    )


@dataclass(frozen=True)
class RewardConfig:
    target: float = _key("float", 0.9, "weight of -(standard target) / 5", 0.0, 100.0)
    parent: float = _key("float", 0.1, "weight of 1[the variable is a true parent of the target]", 0.0, 100.0)
    info_gain: float = _key("float", 0.0, "weight of the drop in entropy of the parent posterior, nats", 0.0, 100.0)
    noise_draws: int = _key(
        "int",
        2,
        "draws of the exogenous noise, in antithetic pairs and the same for a whole group, that judge each candidate and probe",
        1,
        4096,
    )


@dataclass(frozen=True)
class SurrogateConfig:
    parent_weight: float = _key("float", 0.2, "weight of the parents' cross-entropy", 0.0, 100.0)
    outcome_weight: float = _key("float", 0.5, "weight of the outcome head's Gaussian NLL", 0.0, 100.0)
    probes: int = _key(
        "int", 10, "extra uniform (variable, value) draws labelled by the simulator in each state", 0, 4096
    )
    commit_share: float = _key(
        "float", 0.0, "share of episodes that carry out the outcome head's decision (needs a probe)", 0.0, 1.0
    )


@dataclass(frozen=True)
class PriorConfig:
    standardised: float = _key("share", 0.5, "share of SCMs rescaled to unit variances", 0.0, 1.0)
    nonlinear: float = _key("share", 0.0, "share of SCMs with sine terms", 0.0, 1.0)
    saturate: float = _key("share", 0.0, "share of SCMs whose variables cannot leave their domain", 0.0, 1.0)
    weight: Range = _key("range", (0.5, 2.0), "absolute edge weights before any rescaling", 1e-6, 1e3)
    noise_std: Range = _key("range", (1.0, 1.0), "noise standard deviations before any rescaling", 0.0, 1e3)
    intercept: Range = _key("range", (0.0, 0.0), "intercepts before any rescaling", -1e6, 1e6)
    sine_amplitude: Range = _key("range", (0.5, 1.5), "amplitude of a sine term, times |weight|", 0.0, 1e3)
    sine_frequency: Range = _key("range", (0.3, 1.5), "frequency of a sine term", 0.0, 1e3)
    domain_center: Range = _key("range", (0.0, 0.0), "centre of a variable's domain", -1e6, 1e6)
    domain_half_width: Range = _key("range", (5.0, 5.0), "half the width of a variable's domain", 1e-6, 1e6)
    varied: float = _key(
        "share",
        1.0,
        "share of SCMs whose weights, noise, intercepts and domains follow this section; the others take its defaults",
        0.0,
        1.0,
    )
    manipulable: float = _key("float", 1.0, "share of non-target variables that can be set", 0.0, 1.0)
    target: str = _key("choice", "any", "which variable with parents is the target", choices=("any", "last"))
    edge_probability: float = _key("float", 0.5, "for erdos_renyi and layered", 0.0, 1.0)


@dataclass(frozen=True)
class StageConfig:
    name: str = _key("text", "stage", "shown in logs and reports")
    until_episode: int | None = _key(
        "int", None, "the stage ends here at the latest; null: never", 1, 10**12, null=True
    )
    advance_score: float | None = _key(
        "float", None, "it ends earlier once the recent score passes this; null: never", -10.0, 10.0, null=True
    )
    variables: IntRange = _key("int_range", (3, 4), "number of variables, target included", 2, 1000)
    graphs: tuple[str, ...] = _key("names", ("chain", "fork"), "graph families, or names of pools")


def _default_stages() -> tuple[StageConfig, ...]:
    return (
        StageConfig("simple", 200, 0.8, (3, 4), ("chain", "fork")),
        StageConfig("medium", 500, 0.8, (5, 7), ("chain", "fork", "collider", "tree", "erdos_renyi")),
        StageConfig("complex", None, None, (8, 10), ("erdos_renyi", "scale_free")),
    )


@dataclass(frozen=True)
class CurriculumConfig:
    stages: tuple[StageConfig, ...] = _key("stages", _default_stages, "in order; the last one has no end")
    rehearsal: float = _key("float", 0.2, "share of episodes drawn from earlier stages", 0.0, 0.95)
    window: int = _key("int", 100, "episodes of the stage over which the recent score is averaged", 1, 10_000)
    pools: Mapping[str, tuple[str, ...]] = _key(
        "pools", dict, "named lists of SCM files, used in rotation by episode number"
    )


@dataclass(frozen=True)
class ExplorationConfig:
    adaptive: bool = _key("bool", False, "let fixed_std follow the recent score")
    low: float = _key("float", 1.0, "fixed_std once the score is at or above switch_score", 1e-3, 10.0)
    high: float = _key("float", 2.0, "fixed_std while it is below", 1e-3, 10.0)
    switch_score: float = _key("float", 0.7, "the score at which it changes", -10.0, 10.0)


@dataclass(frozen=True)
class EarlyStoppingConfig:
    patience: int | None = _key(
        "int", None, "stop after so many episodes of the last stage without a better recent score", 1, 10**12, null=True
    )
    score: float | None = _key(
        "float", None, "stop once the recent score reaches this in the last stage", -10.0, 10.0, null=True
    )


@dataclass(frozen=True)
class Config:
    name: str = _key("text", "custom", "names the run folder")
    seed: int = _key("int", 42, "the only source of randomness", 0, 2**63 - 1)
    total_episodes: int = _key("int", 1000, "rounded up to whole batches", 1, 10**12)
    observations_per_episode: IntRange = _key("int_range", (20, 20), "rows O; a range varies it by episode", 0, 100_000)
    interventions_per_episode: int = _key("int", 30, "interventions K", 1, 100_000)
    batch_size: int = _key("int", 32, "episodes E an iteration", 1, 1_000_000)
    checkpoint_every: int = _key("int", 50, "episodes between checkpoints", 1, 10**12)
    keep_best_n: int = _key("int", 5, "numbered checkpoints kept, by score", 1, 1000)
    decision: str = _key(
        "choice",
        "policy",
        "outside training: by the policy head, or by the outcome head on a grid",
        choices=("policy", "surrogate"),
    )
    optimism: float = _key(
        "float",
        0.75,
        "decision 'surrogate' takes the lowest expected target minus this many standard errors; 0: no exploration",
        0.0,
        100.0,
    )
    dtype: str | None = _key(
        "choice",
        None,
        "null: the backend's own (ref float64, others float32)",
        choices=("float32", "float64"),
        null=True,
    )
    policy: PolicyConfig = _key("section", PolicyConfig, "the network")
    grpo: GRPOConfig = _key("section", GRPOConfig, "the optimiser")
    reward: RewardConfig = _key("section", RewardConfig, "what a candidate is worth")
    surrogate: SurrogateConfig = _key("section", SurrogateConfig, "losses of the parent and outcome heads")
    scm: PriorConfig = _key("section", PriorConfig, "the prior over systems")
    curriculum: CurriculumConfig = _key("section", CurriculumConfig, "which systems when")
    exploration: ExplorationConfig = _key("section", ExplorationConfig, "adaptive exploration")
    early_stopping: EarlyStoppingConfig = _key("section", EarlyStoppingConfig, "when to stop before the end")

    def __post_init__(self) -> None:
        _cross_check(self)

    @property
    def num_iterations(self) -> int:
        return -(-self.total_episodes // self.batch_size)

    def to_dict(self) -> dict[str, Any]:
        """Plain Python that `config_from_dict` turns back into an equal Config."""
        return _plain(self)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value


# ------------------------------------------------------------------------------------------------------- checks


def _shown(low: float | None, high: float | None) -> str:
    return f"[{'-inf' if low is None else f'{low:g}'}, {'inf' if high is None else f'{high:g}'}]"


def _number(value: Any, key: str, low: float | None, high: float | None, integer: bool = False) -> Any:
    number: Any = value
    if isinstance(number, str):  # YAML 1.1 reads 5e-4 as text
        try:
            number = float(number)
        except ValueError:
            number = None
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise AcboError(f"{key} is {value!r}, not a number", f"allowed: {_shown(low, high)}")
    if integer:
        if number != number or number in (float("inf"), float("-inf")) or number != int(number):
            raise AcboError(f"{key} is {value!r}, not a whole number", f"allowed: {_shown(low, high)}")
        number = int(number)
    elif isinstance(number, int) and abs(number) > 2**1000:
        raise AcboError(f"{key} is too large", f"allowed: {_shown(low, high)}")
    else:
        number = float(number)
    if not (low is None or number >= low) or not (high is None or number <= high):  # also false for NaN
        raise AcboError(f"{key} is {value}, outside the allowed range {_shown(low, high)}")
    return number


def _check(value: Any, key: str, meta: Mapping[str, Any], base: Path) -> Any:
    """One value of a known key, converted and checked."""
    kind, low, high = meta["kind"], meta["low"], meta["high"]
    if value is None and meta.get("null"):
        return None
    if kind == "int":
        return _number(value, key, low, high, integer=True)
    if kind == "float":
        return _number(value, key, low, high)
    if kind == "share":  # true and false read naturally where a share is meant
        return _number(float(value) if isinstance(value, bool) else value, key, low, high)
    if kind == "bool":
        if not isinstance(value, bool):
            raise AcboError(f"{key} is {value!r}", "write true or false")
        return value
    if kind == "choice":
        if value not in meta["choices"]:
            hint = did_you_mean(str(value), meta["choices"]) if isinstance(value, str) else ""
            raise AcboError(f"{key} is {value!r}, allowed: {', '.join(meta['choices'])}", hint)
        return value
    if kind == "text":
        if not isinstance(value, str) or not value or "/" in value or len(value) > 100 or not value.isprintable():
            raise AcboError(f"{key} is {value!r}", "give a short text without '/'")
        return value
    if kind in ("range", "int_range"):
        pair = value if isinstance(value, (list, tuple)) else [value, value]
        if len(pair) != 2:
            raise AcboError(f"{key} is {value!r}", "give a number or [low, high]")
        first, second = (_number(v, key, low, high, integer=kind == "int_range") for v in pair)
        if first > second:
            raise AcboError(f"{key} is {value!r}: low is above high", "write [low, high]")
        return first, second
    if kind == "names":
        if not isinstance(value, (list, tuple)) or not value or not all(isinstance(v, str) for v in value):
            raise AcboError(f"{key} is {value!r}", "give a list of names")
        return tuple(value)
    if kind == "pools":
        if not isinstance(value, Mapping):
            raise AcboError(f"{key} is {value!r}", "write {name: [file, ...]}")
        return {str(k): tuple(_pool(v, f"{key}.{k}", base)) for k, v in value.items()}
    if kind == "stages":
        if not isinstance(value, (list, tuple)) or not value:
            raise AcboError(f"{key} is not a list of stages", "give at least one stage")
        return tuple(_build(StageConfig, v, f"{key}[{n}]", base) for n, v in enumerate(value))
    raise AssertionError(kind)


def _pool(value: Any, key: str, base: Path) -> list[str]:
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(v, str) for v in value):
        raise AcboError(f"{key} is {value!r}", "give a list of SCM files")
    return [str((base / v).absolute()) for v in value]


def _build(cls: type, document: Any, prefix: str, base: Path) -> Any:
    """An instance of a config class from a mapping; nested sections recursively."""
    if document is None:
        document = {}
    if dataclasses.is_dataclass(document) and isinstance(document, cls):
        return document
    if not isinstance(document, Mapping):
        raise AcboError(f"{prefix or 'the config'} is not a mapping of keys to values")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    for name, value in document.items():
        key = f"{prefix}.{name}" if prefix else str(name)
        if name not in fields:
            raise AcboError(f"unknown key {key!r}", did_you_mean(str(name), fields))
        meta = fields[name].metadata
        if meta["kind"] == "section":
            values[name] = _build(fields[name].default_factory, value, key, base)  # type: ignore[arg-type]
        else:
            values[name] = _check(value, key, meta, base)
    return cls(**values)


def _cross_check(config: Config) -> None:
    """What single values cannot tell."""
    policy, grpo, curriculum = config.policy, config.grpo, config.curriculum
    if policy.hidden_dim % policy.num_heads:
        raise AcboError(
            f"policy.num_heads is {policy.num_heads}, which does not divide policy.hidden_dim {policy.hidden_dim}",
            "choose a hidden_dim that is a multiple of num_heads",
        )
    if policy.hidden_dim % 2:
        raise AcboError(f"policy.hidden_dim is {policy.hidden_dim}, not even", "the heads halve it")
    if config.surrogate.commit_share > 0 and config.surrogate.probes == 0:
        raise AcboError(
            "surrogate.commit_share needs a probe: the outcome head's decision takes the place of the first",
            "set surrogate.probes to 1 or more",
        )
    if config.batch_size % grpo.minibatches:
        raise AcboError(
            f"grpo.minibatches is {grpo.minibatches}, which does not divide batch_size {config.batch_size}",
            "choose a batch_size that is a multiple of minibatches",
        )
    reward = config.reward
    if reward.target + reward.parent + reward.info_gain == 0:
        raise AcboError("all reward weights are 0", "give at least reward.target a positive weight")
    if config.decision == "surrogate" and config.surrogate.outcome_weight == 0:
        raise AcboError(
            "decision is 'surrogate' but surrogate.outcome_weight is 0", "the outcome head would not be trained"
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
            if graph not in GRAPHS and graph not in curriculum.pools:
                raise AcboError(
                    f"{key}.graphs names {graph!r}, neither a graph family nor a pool",
                    did_you_mean(graph, [*GRAPHS, *curriculum.pools]),
                )
    for name in curriculum.pools:
        if name in GRAPHS:
            raise AcboError(f"curriculum.pools.{name} has the name of a graph family", "rename the pool")


# ------------------------------------------------------------------------------------------------------ loading


def config_from_dict(document: Any, base: str | Path = ".") -> Config:
    """Check plain Python (from YAML or a checkpoint) and build the Config; pool files are relative to `base`."""
    config: Config = _build(Config, document, "", Path(base))
    return config


def shipped_configs() -> list[str]:
    """Names that `load_config` knows."""
    return sorted(p.name[:-5] for p in resources.files("acbo_configs").iterdir() if p.name.endswith(".yaml"))


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a shipped config by name (`production`) or a YAML file by path, then apply `section.key=value` overrides.

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
        return config_from_dict(apply_overrides(document, overrides), base)
    except AcboError as error:
        raise AcboError(f"{source}: {error.message}", error.hint) from error


def apply_overrides(document: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of `document` with each `section.key=value` set; values are read as YAML."""
    document = _plain_copy(document)
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise AcboError(f"--set {text!r} is not KEY=VALUE", "for example --set grpo.learning_rate=1e-3")
        try:
            parsed = read_yaml(value)
        except ValueError as error:
            raise AcboError(f"--set {text!r}: the value is not valid YAML") from error
        *sections, last = key.split(".")
        place: Any = document
        for section in sections:
            if place.get(section) is None:
                place[section] = {}
            place = place[section]
            if not isinstance(place, dict):
                raise AcboError(f"--set {text!r}: {section!r} is not a section", "lists are set whole: KEY=[...]")
        place[last] = parsed
    return document


def _plain_copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain_copy(v) for k, v in value.items()}
    return [_plain_copy(v) for v in value] if isinstance(value, list) else value


def describe_keys(cls: type = Config, prefix: str = "") -> list[tuple[str, str, str, str]]:
    """(key, default, allowed, help) of every configuration key."""
    rows = []
    for f in dataclasses.fields(cls):
        key, meta = prefix + f.name, f.metadata
        if meta["kind"] == "section":
            rows += describe_keys(f.default_factory, key + ".")  # type: ignore[arg-type]
        elif meta["kind"] == "stages":
            rows.append((key, "three stages", "list", meta["help"]))
            rows += describe_keys(StageConfig, key + "[i].")
        else:
            default = f.default if f.default is not dataclasses.MISSING else {}
            allowed = ", ".join(meta.get("choices", ())) or (
                _shown(meta["low"], meta["high"]) if meta["low"] is not None else meta["kind"]
            )
            rows.append((key, "null" if default is None else str(_plain(default)), allowed, meta["help"]))
    return rows
