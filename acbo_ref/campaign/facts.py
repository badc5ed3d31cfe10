"""What a campaign's journal says, and what may be written into it.

Contract: pure functions of entries and of what the user gave; knows no policy. Every check raises
an `AcboError` that says which value is wrong, or warns.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import SupportsIndex

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.campaign.journal import Entry
from acbo_ref.campaign.tables import number
from acbo_ref.config import Config
from acbo_ref.errors import AcboError, did_you_mean
from acbo_ref.files import Document

SCHEMA = 1
FEW_OBSERVATIONS = 3
# A set value may be measured a little off: this share of the domain's width.
SET_POINT_TOLERANCE = 0.05
DOMAIN_PERCENTILES = (1.0, 99.0)


class CampaignWarning(UserWarning):
    """Something the user should know; nothing was refused."""


def warn(message: str) -> None:
    warnings.warn(message, CampaignWarning, stacklevel=3)


@dataclass(frozen=True)
class Proposal:
    """An experiment to do: set `variable` to `value`.

    Attributes:
        id: names it in `tell`.
        predicted, low, high: the target to be expected, and the 90 % interval of what will be
            measured, in its own units.
        parent_probability: that the variable is a direct cause of the target.
        reason: one line.
    """

    id: str
    variable: str
    value: float
    predicted: float
    low: float
    high: float
    parent_probability: float
    reason: str


@dataclass(frozen=True, eq=False)
class Facts:
    """A journal, understood; policy and factors are those of the last upgrade. `observations` and
    `interventions` hold rows as measured, nan where missing.
    """

    target: str
    direction: str
    variables: tuple[str, ...]
    domains: tuple[tuple[float, float] | None, ...]
    budget: int | None
    policy_sha256: str
    outcome_factor: float
    expectation_factor: float
    observations: Array  # (O, V)
    interventions: list[tuple[tuple[int, ...], list[float]]]  # the variables that were set, row
    proposals: dict[str, Proposal]  # in order
    told: dict[str, list[float]]

    @property
    def cost(self) -> float:
        """The target times this is what the policy drives down."""
        return -1.0 if self.direction == "maximize" else 1.0

    @property
    def target_index(self) -> int:
        return self.variables.index(self.target)

    @property
    def pending(self) -> list[Proposal]:
        return [p for p in self.proposals.values() if p.id not in self.told]

    @property
    def remaining(self) -> int | None:
        """Proposals that the budget still allows."""
        return None if self.budget is None else self.budget - len(self.proposals)


def numbers(row: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else float(value) for value in row]


def plain(row: Sequence[float]) -> list[float | None]:
    """For JSON: None where missing."""
    return [None if math.isnan(value) else float(value) for value in row]


def replay(entries: list[Entry], path: Path) -> Facts:
    """What the entries say.

    Raises:
        AcboError: they make no sense.
    """
    try:
        first = entries[0]
        if first["kind"] != "created":
            raise ValueError("it does not begin with its creation")
        if first["schema"] != SCHEMA:
            raise AcboError(
                f"{path} has journal schema {first['schema']}, this version reads {SCHEMA}", "use a newer acbo"
            )
        variables = tuple(first["variables"])
        observations: list[list[float]] = []
        interventions: list[tuple[tuple[int, ...], list[float]]] = []
        proposals: dict[str, Proposal] = {}
        told: dict[str, list[float]] = {}
        policy = first
        for entry in entries[1:]:
            kind = entry["kind"]
            if kind == "rows":
                for item in entry["rows"]:
                    row = numbers(item["row"])
                    if item["variable"] is None:
                        observations.append(row)
                    else:
                        names = [item["variable"]] if isinstance(item["variable"], str) else item["variable"]
                        interventions.append((tuple(variables.index(name) for name in names), row))
            elif kind == "asked":
                proposal = Proposal(**entry["proposal"])
                proposals[proposal.id] = proposal
            elif kind == "told":
                row = told[entry["id"]] = numbers(entry["row"])
                interventions.append(((variables.index(proposals[entry["id"]].variable),), row))
            elif kind == "upgraded":
                policy = entry
            else:
                raise ValueError(f"no entry is of kind {kind!r}")
        return Facts(
            target=first["target"],
            direction=first["direction"],
            variables=variables,
            domains=tuple(None if d is None else (float(d[0]), float(d[1])) for d in first["domains"]),
            budget=first["budget"],
            policy_sha256=policy["policy_sha256"],
            outcome_factor=float(policy["outcome_factor"]),
            expectation_factor=float(policy["expectation_factor"]),
            observations=np.array(observations, float).reshape(-1, len(variables)),
            interventions=interventions,
            proposals=proposals,
            told=told,
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise AcboError(f"{path}: not a campaign's journal ({error})", "restore it from a backup") from error


def checked_domain(name: str, domain: Iterable[object] | None, is_target: bool) -> tuple[float, float] | None:
    if domain is None:
        return None
    if is_target:
        raise AcboError(f"the target {name!r} cannot be set", "give domains of other variables")
    try:
        if isinstance(domain, str):
            raise ValueError
        low, high = (number(end, f"domain of {name!r}") for end in domain)
    except (TypeError, ValueError) as error:
        raise AcboError(f"the domain of {name!r} is not (low, high)") from error
    if not low < high:  # nan included
        raise AcboError(f"the domain of {name!r} is {low:g} to {high:g}", "its low end must lie below its high end")
    if high - low < max(1e-100, 1e-12 * max(abs(low), abs(high))):
        raise AcboError(f"the domain of {name!r} is too narrow to be told apart", "give it in another unit")
    return low, high


def checked_budget(budget: SupportsIndex | None) -> int | None:
    if budget is None:
        return None
    try:
        whole = operator.index(budget)
    except TypeError:
        whole = 0
    if whole < 1 or isinstance(budget, bool):
        raise AcboError(f"a budget of {budget!r} is not possible", "give a whole number of experiments, at least 1")
    return whole


def domain_from_data(values: Array, name: str) -> tuple[float, float]:
    """1st to 99th percentile of the values, missing ones left out."""
    known = values[~np.isnan(values)]
    if known.size == 0 or known.min() == known.max():
        raise AcboError(f"{name!r} does not vary in the data", f"give --domain {name}=LOW:HIGH, or --fixed {name}")
    low, high = np.percentile(known, DOMAIN_PERCENTILES)
    return float(low), float(high)


def check_observations(rows: Array, names: Sequence[str], target: str) -> None:
    if len(rows) < FEW_OBSERVATIONS:
        warn(f"{len(rows)} observational rows: predictions will be poor until some experiments are told")
    if np.isnan(rows[:, names.index(target)]).any():
        raise AcboError(f"the target {target!r} is missing in some observations", "leave those rows out")
    for i, name in enumerate(names):
        known = rows[:, i][~np.isnan(rows[:, i])]
        if len(rows) and known.size == 0:
            raise AcboError(f"{name!r} is missing in every observation", "leave the variable out")
        if len(rows) > 1 and known.min() == known.max():
            warn(f"{name!r} never varies in the observations: they tell nothing of its effect")
        for j in range(i):
            if len(rows) > 1 and known.size and known.min() < known.max() and np.array_equal(rows[:, i], rows[:, j]):
                warn(
                    f"{names[j]!r} and {name!r} are equal in every observation: leave one out if they are the same thing"
                )


def check_reach(config: Config, variables: int, rows: int) -> None:
    widest = max(stage.variables[1] for stage in config.curriculum.stages)
    if variables > widest:
        warn(f"{variables} variables, and the policy was trained on at most {widest}: it extrapolates")
    if config.policy.architecture != "pairwise" and rows > config.observations_per_episode[1]:
        warn(
            f"{rows} observational rows, and the policy was trained on at most {config.observations_per_episode[1]}: "
            "it extrapolates"
        )


def checked_row(facts: Facts, row: list[float], variable: str, value: float) -> list[float]:
    """A row in which `variable` was set to `value`, completed."""
    if math.isnan(row[facts.target_index]):
        raise AcboError(f"the target {facts.target!r} is missing", "an experiment without its outcome teaches nothing")
    index = facts.variables.index(variable)
    low, high = facts.domains[index]  # type: ignore[misc]
    if math.isnan(row[index]):
        row[index] = value
    elif abs(row[index] - value) > SET_POINT_TOLERANCE * (high - low):
        raise AcboError(
            f"{variable!r} is {row[index]:g} in the row and was to be set to {value:g}",
            "tell_external (or `import`) records an experiment that was done otherwise",
        )
    return row


def external_row(facts: Facts, do: Mapping[str, object], row: list[float], where: str) -> Document:
    """A journal row of an experiment nobody asked for, `do` what was set to what; or of an
    observation.
    """
    if math.isnan(row[facts.target_index]):
        raise AcboError(f"{where}: the target {facts.target!r} is missing", "leave the row out")
    for variable, given in do.items():
        if variable not in facts.variables:
            raise AcboError(f"{where}: no variable named {variable!r}", did_you_mean(variable, facts.variables))
        domain = facts.domains[facts.variables.index(variable)]
        if domain is None:
            raise AcboError(f"{where}: {variable!r} cannot be set in this campaign", "leave the experiment out")
        value = number(given, f"{where}, value of {variable!r}")
        if math.isnan(value):
            raise AcboError(f"{where}: the value that {variable!r} was set to is missing")
        if not domain[0] <= value <= domain[1]:
            raise AcboError(
                f"{where}: {variable!r} = {value:g} is outside its domain {domain[0]:g} to {domain[1]:g}",
                "domains are fixed; a new campaign can have a wider one",
            )
        row = checked_row(facts, row, variable, value)
    names = list(do)
    return {"variable": None if not names else names[0] if len(names) == 1 else names, "row": plain(row)}


def column_means(observations: Array) -> Array:
    """Mean of each column over what is known of it, 0 where nothing is."""
    known = ~np.isnan(observations)
    return np.where(known, observations, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
