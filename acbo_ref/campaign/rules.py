"""What may be written into a campaign's journal.

Contract: pure functions of facts and of what the user gave. Every check raises an `AcboError` that
says which value is wrong, or warns. What is possible and hard to believe is in doubts.py.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from shlex import quote
from typing import SupportsIndex

import numpy as np

from acbo_ref.arrays import Array
from acbo_ref.campaign.facts import Facts, Record, numbers, plain, warn
from acbo_ref.campaign.scales import PLAIN, Scale, check_scale, scale_of
from acbo_ref.campaign.tables import (
    by_known_names,
    check_names,
    number,
)
from acbo_ref.campaign.words import counted
from acbo_ref.config import Config
from acbo_ref.errors import AcboError, did_you_mean
from acbo_ref.files import Document

FEW_OBSERVATIONS = 3
# A set value may be measured a little off: this share of the domain's width.
SET_POINT_TOLERANCE = 0.05
MOST_AT_ONCE = 100
DOMAIN_PERCENTILES = (1.0, 99.0)


def checked_text(text: object, what: str, longest: int) -> str:
    """Text that may go into the journal: not empty, one line, printable."""
    if not isinstance(text, str) or not text.strip() or not text.isprintable() or len(text) > longest:
        raise AcboError(f"{what} must be one line of 1 to {longest} characters", "leave control characters out")
    return text.strip()


def checked_domain(
    name: str, domain: Iterable[object] | None, is_target: bool
) -> tuple[tuple[float, float] | None, Scale]:
    """The domain (low, high) of what may be (low, high, "log", ...), and its scale."""
    if domain is None:
        return None, PLAIN
    if is_target:
        raise AcboError(f"the target {name!r} cannot be set", "give domains of other variables")
    try:
        if isinstance(domain, str):
            raise ValueError
        first, second, *kinds = domain
        low, high = (number(end, f"domain of {name!r}") for end in (first, second))
    except (TypeError, ValueError) as error:
        raise AcboError(f"the domain of {name!r} is not (low, high)") from error
    if not low < high:  # nan included
        raise AcboError(f"the domain of {name!r} is {low:g} to {high:g}", "its low end must lie below its high end")
    if high - low < max(1e-100, 1e-12 * max(abs(low), abs(high))):
        raise AcboError(f"the domain of {name!r} is too narrow to be told apart", "give it in another unit")
    scale = scale_of(kinds, name)
    check_scale(scale, low, high, name)
    return (low, high), scale


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


def checked_costs(
    costs: Mapping[str, object] | None, names: Sequence[str], domains: Sequence[object]
) -> dict[str, float]:
    """What an experiment on each variable costs, of those for which it was said."""
    found = {}
    for name, given in by_known_names(costs or {}, names).items():
        if name not in names:
            raise AcboError(f"no variable named {name!r} to cost anything", did_you_mean(str(name), names))
        if domains[names.index(name)] is None:
            raise AcboError(f"{name!r} has a cost and cannot be set", "only a variable with a domain has one")
        found[name] = number(given, f"cost of {name!r}")
        if not found[name] > 0:  # nan included
            raise AcboError(f"a cost of {found[name]:g} of {name!r} is not possible", "a number above 0, in any unit")
    return found


def checked_exogenous(
    exogenous: Sequence[str], names: Sequence[str], domains: Sequence[object], target: str
) -> list[str]:
    """The variables that nothing which is set can move, once each and in their order."""
    if isinstance(exogenous, str):
        raise AcboError(f"exogenous is {exogenous!r}", "a list of names")
    given = list(by_known_names(dict.fromkeys(exogenous), names))
    for name in given:
        if name not in names:
            raise AcboError(f"no variable named {name!r} to be exogenous", did_you_mean(str(name), names))
        if name == target:
            raise AcboError(
                f"the target {name!r} cannot be exogenous", "an exogenous variable is moved by nothing here"
            )
        if domains[names.index(name)] is not None:
            raise AcboError(f"{name!r} can be set and so is not exogenous", "leave out its domain, or --exogenous")
    return [name for name in names if name in given]


def checked_count(count: SupportsIndex) -> int:
    """How many experiments to do side by side."""
    try:
        whole = operator.index(count)
    except TypeError:
        whole = 0
    if not 1 <= whole <= MOST_AT_ONCE or isinstance(count, bool):
        raise AcboError(f"a batch of {count!r} experiments is not possible", f"a whole number, 1 to {MOST_AT_ONCE}")
    return whole


def check_budget(facts: Facts, count: int) -> None:
    """Whether so many more experiments may be proposed."""
    if facts.remaining is None or facts.remaining >= count:
        return
    if facts.remaining == 0:
        raise AcboError(
            f"the budget of {counted(facts.budget or 0, 'experiment')} is spent",
            "`recommend` says what to settle on; `import` records experiments that nobody proposed",
        )
    raise AcboError(
        f"the budget of {counted(facts.budget or 0, 'experiment')} leaves {facts.remaining}, and {count} more are asked for",
        f"--batch {facts.remaining + len(facts.pending)}",
    )


def domain_from_data(values: Array, name: str) -> tuple[float, float]:
    """1st to 99th percentile of the values, missing ones left out."""
    known = values[~np.isnan(values)]
    if known.size == 0 or known.min() == known.max():
        options = f"--domain {quote(f'{name}=LOW:HIGH')}, or --fixed {quote(name)}"
        raise AcboError(f"{name!r} does not vary in the data", f"give {options}")
    low, high = np.percentile(known, DOMAIN_PERCENTILES)
    return float(low), float(high)


def check_observations(rows: Array, names: Sequence[str], target: str) -> None:
    if len(rows) < FEW_OBSERVATIONS:
        warn(f"{counted(len(rows), 'past row')}: predictions will be poor until some experiments are told")
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


def say_outside_domains(
    names: Sequence[str], domains: Mapping[str, Sequence[object]], rows: Sequence[Sequence[float]]
) -> None:
    """Warns, once a variable, of past rows outside of these domains, which are as `checked_domain`
    takes them; a circle has no outside.
    """
    for name, given in domains.items():
        domain, scale = checked_domain(name, given, False)
        assert domain is not None
        low, high = domain
        values = [row[names.index(name)] for row in rows]
        count = sum(value < low or value > high for value in values)
        if count and not scale.is_periodic:
            lie = "lies" if count == 1 else "lie"
            warn(
                f"{count} of {counted(len(rows), 'past row')} of {name} {lie} outside its domain ({low:g} to {high:g})"
            )


def check_reach(config: Config, variables: int, rows: int) -> None:
    widest = max(stage.variables[1] for stage in config.curriculum.stages)
    if variables > widest:
        warn(f"{variables} variables, and the policy was trained on at most {widest}: it extrapolates")
    if config.policy.architecture != "pairwise" and rows > config.observations_per_episode[1]:
        warn(
            f"{rows} past rows, and the policy was trained on at most {config.observations_per_episode[1]}: "
            "it extrapolates"
        )


def checked_row(facts: Facts, row: list[float], variable: str, value: float) -> list[float]:
    """A row in which `variable` was set to `value`, completed."""
    if math.isnan(row[facts.target_index]):
        raise AcboError(f"the target {facts.target!r} is missing", "an experiment without its outcome teaches nothing")
    index = facts.variables.index(variable)
    if math.isnan(row[index]):
        row[index] = value
    elif facts.coordinates.distance(index, row[index], value) > SET_POINT_TOLERANCE:
        raise AcboError(
            f"{variable!r} is {row[index]:g} in the row and was to be set to {value:g}",
            "`import` (Python: tell_external) records an experiment that was done otherwise",
        )
    check_logarithms(facts.variables, facts.scales, row, "row")
    return row


def check_logarithms(names: Sequence[str], scales: Sequence[Scale], row: Sequence[float], where: str) -> None:
    """Whether values on a logarithmic scale are above 0, or missing."""
    for name, scale, value in zip(names, scales, row, strict=True):
        if scale.is_log and value <= 0:
            raise AcboError(f"{where}: {name!r} = {value:g}, and its scale is log", "leave it empty if it is not known")


def checked_lever(facts: Facts, variable: str, where: str) -> tuple[float, float]:
    """The domain of a variable, which must be one that can be set."""
    if variable not in facts.variables:
        raise AcboError(f"{where}: no variable named {variable!r}", did_you_mean(variable, facts.variables))
    domain = facts.domains[facts.variables.index(variable)]
    if domain is None:
        raise AcboError(f"{where}: {variable!r} cannot be set in this campaign", "only a variable with a domain can")
    return domain


def checked_action(facts: Facts, variable: str, given: object, where: str) -> float:
    """The value that a variable is set to, which must be one that can be set, inside its domain."""
    domain = checked_lever(facts, variable, where)
    value = number(given, f"{where}, value of {variable!r}")
    if math.isnan(value):
        raise AcboError(f"{where}: the value that {variable!r} was set to is missing")
    value = facts.coordinates.within(facts.variables.index(variable), value)
    if not domain[0] <= value <= domain[1]:
        raise AcboError(
            f"{where}: {variable!r} = {value:g} is outside its domain {domain[0]:g} to {domain[1]:g}",
            "domains are fixed; a new campaign can have a wider one",
        )
    return value


def external_row(facts: Facts, do: Mapping[str, object], row: list[float], where: str) -> Document:
    """A journal row of an experiment nobody asked for, `do` what was set to what; or of an
    observation.
    """
    if math.isnan(row[facts.target_index]):
        raise AcboError(f"{where}: the target {facts.target!r} is missing", "leave the row out")
    check_logarithms(facts.variables, facts.scales, row, where)
    for variable, given in do.items():
        value = checked_action(facts, variable, given, where)
        row = checked_row(facts, row, variable, value)
    names = list(do)
    return {"variable": None if not names else names[0] if len(names) == 1 else names, "row": plain(row)}


def corrected_row(facts: Facts, id: str, changes: Mapping[str, object]) -> list[float]:
    """The row of record `id` with some values changed, checked as it was when it was recorded."""
    record = known_record(facts, id)
    row = list(record.row)
    for name, value in by_known_names(changes, facts.variables).items():
        if name not in facts.variables:
            raise AcboError(f"no variable named {name!r}", did_you_mean(name, facts.variables))
        row[facts.variables.index(name)] = number(value, f"{id}, {name!r}")
    if id in facts.proposals:
        proposal = facts.proposals[id]
        return checked_row(facts, row, proposal.variable, proposal.value)
    do = {facts.variables[i]: row[i] for i in record.was_set}
    return numbers(external_row(facts, do, row, id)["row"])


def known_record(facts: Facts, id: str) -> Record:
    """The record of this id.

    Raises:
        AcboError: there is none.
    """
    if id in facts.records:
        return facts.records[id]
    if id in facts.proposals:
        raise AcboError(f"{id} was not told yet", "`tell` records what was measured")
    raise AcboError(f"nothing is recorded as {id!r}", "`history` lists experiments; past rows are o1, o2, ... in order")


def checked_person(by: str | None) -> str | None:
    return None if by is None else checked_text(by, "a person's name", 200)


def checked_variables(
    variables: Mapping[str, Iterable[object] | None], target: str, direction: str
) -> tuple[list[str], list[tuple[float, float] | None], list[Scale]]:
    """Names, domains and scales.

    Raises:
        AcboError: a name, a domain, the target or the direction is not possible.
    """
    names = list(variables)
    check_names(names, "the variables")
    if "intervention" in names:
        raise AcboError("a variable cannot be named 'intervention'", "`import` needs a column of that name; rename it")
    if target not in names:
        raise AcboError(f"the target {target!r} is no variable", did_you_mean(target, names))
    if direction not in ("minimize", "maximize"):
        raise AcboError(f"direction {direction!r} is not possible", did_you_mean(direction, ["minimize", "maximize"]))
    checked = [checked_domain(name, variables[name], name == target) for name in names]
    domains, scales = [domain for domain, _ in checked], [scale for _, scale in checked]
    if not any(d is not None for d in domains):
        raise AcboError("no variable can be set", "give the domain (low, high) of at least one")
    return names, domains, scales
