"""What a campaign's journal says.

Contract: pure functions of entries; knows no policy.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.campaign.bounds import NO_BOUNDS, Caution, WarningRange, caution_of, ranges_of
from acbo_ref.campaign.journal import Entry
from acbo_ref.campaign.scales import PLAIN, Coordinates, Scale, check_scale, scale_of
from acbo_ref.campaign.tables import LARGEST
from acbo_ref.campaign.words import Words
from acbo_ref.errors import AcboError
from acbo_ref.policy.exogenous import explained_by

# 2 has scales, 3 bounds, warning ranges or a method, 4 an objective, and 5 exogenous variables. A
# journal says the lowest that it needs: an older version reads what it can understand, and refuses
# the rest.
SCHEMA, WITH_OBJECTIVE, WITH_BOUNDS, WITH_SCALES, WITHOUT_SCALES = 5, 4, 3, 2, 1
# What a campaign wants to be low: the sum of all outcomes, or what is settled on in the end.
CUMULATIVE, FINAL = OBJECTIVES = ("cumulative", "final")
POLICY = "policy"


# How much of the target's outcomes a predicted interval is to hold.
COVERAGE = 0.9
# Characters of a line of what is said in words.
PRINTED = 80
# How much a miss widens later intervals: by exp(WIDENING * COVERAGE); a hit narrows them by
# exp(WIDENING * (1 - COVERAGE)).
WIDENING = 0.3


class CampaignWarning(UserWarning):
    """Something the user should know; nothing was refused."""


def warn(message: str) -> None:
    warnings.warn(message, CampaignWarning, stacklevel=3)


@dataclass(frozen=True)
class Proposal(Words):
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

    def __str__(self) -> str:
        return (
            f"{self.id}: set {self.variable} to {self.value:.10g}\n"
            f"  expected {self.predicted:.4g}, measured within [{self.low:.4g}, {self.high:.4g}] with 90 %\n"
            f"  direct cause with probability {self.parent_probability:.2f}\n"
            + fill(f"  why: {self.reason}", PRINTED, subsequent_indent=" " * 7, break_on_hyphens=False)
        )


class Judged(NamedTuple):
    """How the outcome of a proposal is judged, as it was when that was made.

    Args:
        half: half width of the 90 % interval by the campaign's fixed factor, without what was
            learnt from misses and without what exogenous variables add.
        widening: the factor that was learnt.
    """

    half: float
    widening: float


class Outcome(NamedTuple):
    """What became of a proposal, without what exogenous variables explain of its target.

    Args:
        missed: whether it lay outside of its 90 % interval. worse: on the bad side of the
            prediction.
        ratio: how far from the prediction it lay, in half widths of its interval without what was
            learnt from misses.
    """

    missed: bool
    worse: bool
    ratio: float


@dataclass(frozen=True)
class Record:
    """A measured row.

    Attributes:
        was_set: the variables that were set, by number; empty for an observation.
        row: as measured, or as corrected since; nan where missing.
        is_read: False once it was abandoned: it stays in the journal and counts no more.
        is_corrected: whether it was ever corrected.
        time, by: when it was recorded (UTC), and by whom; None in journals of before.
    """

    was_set: tuple[int, ...]
    row: list[float]
    is_read: bool = True
    is_corrected: bool = False
    time: str | None = None
    by: str | None = None


@dataclass(frozen=True, eq=False)
class Facts:
    """A journal, understood; policy and factors are those of the last upgrade.

    Attributes:
        records: measured rows by id, in order. The id is that of the proposal, or o1, o2, ... for
            observations and x1, x2, ... for experiments nobody asked for.
        abandoned: proposals that will not be done, unless they are told after all.
        notes: what was noted, by id.
        calibrated_factors: on the policy's standard deviations of outcomes and of expectations, as
            found on systems of its prior (calibration.py).
        prices: what an experiment on each variable costs, in any unit; 1 where nothing was said.
        scales: how the values of each variable lie.
        caution: bounds on what is proposed and recommended.
        warning_ranges: of each variable, beyond which a measured value is said; None without one.
        method: who chooses where nothing else is said, POLICY or a method of the arena.
        objective: one of OBJECTIVES.
        exogenous: names of the variables that nothing which is set can move.
        judged: how outcomes are judged, by the proposal's id; none in journals of before.
        units: of the variables whose name has none, and whose column had one; to be read alone.
    """

    target: str
    direction: str
    variables: tuple[str, ...]
    domains: tuple[tuple[float, float] | None, ...]
    budget: int | None
    policy_sha256: str
    calibrated_factors: tuple[float, float]
    proposals: dict[str, Proposal]  # in order
    records: dict[str, Record]
    abandoned: frozenset[str]
    notes: dict[str, list[str]]
    prices: tuple[float, ...]
    scales: tuple[Scale, ...]
    caution: Caution = NO_BOUNDS
    warning_ranges: tuple[WarningRange | None, ...] = ()
    method: str = POLICY
    objective: str = CUMULATIVE
    exogenous: tuple[str, ...] = ()
    judged: Mapping[str, Judged] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)

    def with_unit(self, name: str) -> str:
        """A variable's name, with its unit if that is known."""
        return f"{name} [{self.units[name]}]" if name in self.units else name

    @cached_property
    def observations(self) -> Array:
        """(O, V), nan where missing."""
        rows = [record.row for record in self.records.values() if record.is_read and not record.was_set]
        return np.array(rows, float).reshape(-1, len(self.variables))

    @cached_property
    def interventions(self) -> list[tuple[tuple[int, ...], list[float]]]:
        """The variables that were set, and the row, of every experiment that counts."""
        return [(r.was_set, r.row) for r in self.records.values() if r.is_read and r.was_set]

    @cached_property
    def explained(self) -> dict[str, float]:
        """What exogenous variables explain of the target in every record that counts, by its id."""
        read = {id: record for id, record in self.records.items() if record.is_read}
        if not self.exogenous or not read:
            return dict.fromkeys(read, 0.0)
        rows = np.array([record.row for record in read.values()], float)
        was_set = np.array([np.isin(np.arange(len(self.variables)), record.was_set) for record in read.values()])
        found = explained_by(rows, was_set, self.is_exogenous)[:, self.target_index]
        return dict(zip(read, found.tolist(), strict=True))

    @cached_property
    def outcomes(self) -> list[Outcome]:
        """Of every proposal with an outcome that counts, in their order."""
        found = []
        for id, proposal in self.proposals.items():
            record = self.records.get(id)
            if record is None or not record.is_read:
                continue
            measured = float(record.row[self.target_index])
            off = measured - self.explained[id] - proposal.predicted
            judged = self.judged.get(id, Judged((proposal.high - proposal.low) / 2, 1.0))
            missed = abs(off) > judged.half * judged.widening
            ratio = abs(off) / judged.half if judged.half > 0 else math.inf if off else 0.0
            found.append(Outcome(bool(missed), bool(self.cost * off > 0), ratio))
        return found

    @cached_property
    def widening(self) -> float:
        """The factor on intervals, after the misses and hits so far: see monitor.py."""
        return math.exp(WIDENING * sum(float(outcome.missed) - (1.0 - COVERAGE) for outcome in self.outcomes))

    @property
    def outcome_factor(self) -> float:
        """On the standard deviation of the next outcome."""
        return self.calibrated_factors[0] * self.widening

    @property
    def expectation_factor(self) -> float:
        """On the standard error of an expectation."""
        return self.calibrated_factors[1] * self.widening

    @property
    def cost(self) -> float:
        """The target times this is what the policy drives down."""
        return -1.0 if self.direction == "maximize" else 1.0

    @cached_property
    def coordinates(self) -> Coordinates:
        """Between the user's units and what the policy reads. A circle is cut open opposite to the
        best experiment on the variable, before there is one at its low end.
        """
        seams = []
        for i, (scale, domain) in enumerate(zip(self.scales, self.domains, strict=True)):
            tried = [row for was_set, row in self.interventions if i in was_set] if scale.is_periodic else []
            low, high = domain or (0.0, 0.0)
            best = (
                min(tried, key=lambda row: self.cost * row[self.target_index])[i] if tried else low - (high - low) / 2
            )
            seams.append(best + (high - low) / 2)
        return Coordinates(self.domains, self.scales, seams)

    @cached_property
    def is_exogenous(self) -> Array:
        """(V,) bool"""
        return np.isin(self.variables, self.exogenous)

    @property
    def prices_differ(self) -> bool:
        """Whether some experiments cost more than others."""
        return len({price for price, d in zip(self.prices, self.domains, strict=True) if d is not None}) > 1

    @property
    def target_index(self) -> int:
        return self.variables.index(self.target)

    @property
    def pending(self) -> list[Proposal]:
        return [p for p in self.proposals.values() if p.id not in self.records and p.id not in self.abandoned]

    @property
    def remaining(self) -> int | None:
        """Proposals that the budget still allows; one that will not be done costs nothing."""
        return None if self.budget is None else max(0, self.budget - len(self.proposals) + len(self.abandoned))


def flattened(entries: Sequence[Entry]) -> Iterator[Entry]:
    """Entries with those that were imported together in their places."""
    for entry in entries:
        if entry["kind"] == "imported":
            yield from entry["entries"]
        else:
            yield entry


def numbers(row: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else float(value) for value in row]


def plain(row: Sequence[float]) -> list[float | None]:
    """For JSON: None where missing."""
    return [None if math.isnan(value) else float(value) for value in row]


def _record(was_set: tuple[int, ...], row: list[float], entry: Entry) -> Record:
    stamp = entry.get("time"), entry.get("by")
    if not all(said is None or isinstance(said, str) for said in stamp):
        raise ValueError("a time or a person that is not text")
    return Record(was_set, row, time=stamp[0], by=stamp[1])


def _proposal(entry: Entry, variables: Sequence[str]) -> Proposal:
    """The proposal of a journal's entry."""
    proposal = Proposal(**entry["proposal"])
    if not (isinstance(proposal.id, str) and isinstance(proposal.reason, str) and proposal.variable in variables):
        raise ValueError("a proposal that is none")
    for value in (proposal.value, proposal.predicted, proposal.low, proposal.high, proposal.parent_probability):
        _checked(value)
    return proposal


def _checked(value: object) -> float:
    """A number of a journal, which is not too large."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= LARGEST:
        raise ValueError(f"{str(value)[:20]!r} where a number should be")
    return float(value)


def _check_created(created: Entry, variables: Sequence[str], domains: Sequence[tuple[float, float] | None]) -> None:
    """Whether a journal's first entry describes a campaign."""
    if created["target"] not in variables or created["direction"] not in ("minimize", "maximize"):
        raise ValueError("it has no target")
    if len(domains) != len(variables) or not all(isinstance(name, str) for name in variables):
        raise ValueError("its variables are none")
    if any(domain is not None and not domain[0] < domain[1] for domain in domains):
        raise ValueError("a domain that is none")
    budget = created["budget"]
    if budget is not None and (isinstance(budget, bool) or not isinstance(budget, int)):
        raise ValueError("a budget that is none")


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def stamped(entry: Entry, by: str | None) -> Entry:
    """An entry with its time, and who made it if that was said."""
    return {**entry, "time": now(), **({} if by is None else {"by": by})}


def replay(entries: list[Entry], path: Path) -> Facts:
    """What the entries say.

    Raises:
        AcboError: they make no sense.
    """
    try:
        first = entries[0]
        if first["kind"] != "created":
            raise ValueError("it does not begin with its creation")
        if first["schema"] not in range(WITHOUT_SCALES, SCHEMA + 1):
            raise AcboError(
                f"{path} has journal schema {first['schema']}, this version reads up to {SCHEMA}", "use a newer acbo"
            )
        variables = tuple(first["variables"])
        domains = tuple(None if d is None else (_checked(d[0]), _checked(d[1])) for d in first["domains"])
        _check_created(first, variables, domains)
        proposals: dict[str, Proposal] = {}
        judged: dict[str, Judged] = {}
        records: dict[str, Record] = {}
        abandoned: set[str] = set()
        notes: dict[str, list[str]] = {}
        counts = {"o": 0, "x": 0}
        policy = first

        def whole(row: Sequence[float | None]) -> list[float]:
            if len(row) != len(variables):
                raise ValueError(f"a row of {len(row)} values")
            return numbers([None if value is None else _checked(value) for value in row])

        for entry in flattened(entries[1:]):
            kind = entry["kind"]
            if kind == "rows":
                for item in entry["rows"]:
                    names = [item["variable"]] if isinstance(item["variable"], str) else item["variable"] or []
                    letter = "x" if names else "o"
                    counts[letter] += 1
                    were_set = tuple(variables.index(name) for name in names)
                    records[f"{letter}{counts[letter]}"] = _record(were_set, whole(item["row"]), entry)
            elif kind == "asked":
                proposal = _proposal(entry, variables)
                proposals[proposal.id] = proposal
                if "judged" in entry:
                    judged[proposal.id] = Judged(*(_checked(entry["judged"][name]) for name in Judged._fields))
            elif kind == "told":
                were_set = (variables.index(proposals[entry["id"]].variable),)
                records[entry["id"]] = _record(were_set, whole(entry["row"]), entry)
                abandoned.discard(entry["id"])
            elif kind == "corrected":
                record, row = records[entry["id"]], whole(entry["row"])
                records[entry["id"]] = replace(record, row=row, is_read=True, is_corrected=True)
            elif kind == "abandoned":
                if entry["id"] in records:
                    records[entry["id"]] = replace(records[entry["id"]], is_read=False)
                else:
                    abandoned.add(proposals[entry["id"]].id)
            elif kind == "noted":
                notes.setdefault(entry["id"], []).append(str(entry["text"]))
            elif kind == "upgraded":
                policy = entry
            else:
                raise ValueError(f"no entry is of kind {kind!r}")
        return Facts(
            target=first["target"],
            direction=first["direction"],
            variables=variables,
            domains=domains,
            budget=first["budget"],
            policy_sha256=str(policy["policy_sha256"]),
            calibrated_factors=(_checked(policy["outcome_factor"]), _checked(policy["expectation_factor"])),
            proposals=proposals,
            records=records,
            abandoned=frozenset(abandoned),
            notes=notes,
            prices=_prices(first, variables),
            scales=_scales(first, variables, domains),
            caution=caution_of(first.get("caution", {})),
            warning_ranges=ranges_of(first.get("warn_outside", {}), variables),
            method=str(first.get("method", POLICY)),
            objective=OBJECTIVES[OBJECTIVES.index(first.get("objective", CUMULATIVE))],
            exogenous=_exogenous(first, variables, domains),
            judged=judged,
            units={str(name): str(unit) for name, unit in first.get("units", {}).items()},
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise AcboError(f"{path}: not a campaign's journal ({error})", "restore it from a backup") from error


def _prices(created: Entry, variables: Sequence[str]) -> tuple[float, ...]:
    """What experiments cost, of a journal's first entry."""
    prices = tuple(float(created.get("costs", {}).get(name, 1.0)) for name in variables)
    if not all(0 < price < math.inf for price in prices):
        raise ValueError("a cost that is none")
    return prices


def _exogenous(
    created: Entry, variables: Sequence[str], domains: Sequence[tuple[float, float] | None]
) -> tuple[str, ...]:
    """The exogenous variables of a journal's first entry."""
    found = tuple(created.get("exogenous", ()))
    if any(name == created["target"] or domains[variables.index(name)] is not None for name in found):
        raise ValueError("an exogenous variable that is none")
    return found


def _scales(
    created: Entry, variables: Sequence[str], domains: Sequence[tuple[float, float] | None]
) -> tuple[Scale, ...]:
    """How values lie, of a journal's first entry."""
    found = []
    for name, domain in zip(variables, domains, strict=True):
        scale = scale_of(created.get("scales", {}).get(name, []), name)
        if scale != PLAIN:
            low, high = domain or (math.nan, math.nan)
            check_scale(scale, low, high, name)
        found.append(scale)
    return tuple(found)


def column_means(observations: Array) -> Array:
    """Mean of each column over what is known of it, 0 where nothing is."""
    known = ~np.isnan(observations)
    return np.where(known, observations, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
