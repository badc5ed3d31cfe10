"""What a campaign keeps to: bounds on the target, and ranges beyond which other variables are to be
said.

A bound (`Caution`) is on what is proposed and recommended. A warning range (`warn_outside`) is on
what is measured: the policy predicts the target alone, so nothing can be said of another variable
before it was measured.

Contract: what was given is checked here; knows no policy and no journal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from acbo_ref.campaign.tables import by_known_names, number
from acbo_ref.errors import AcboError, did_you_mean

RISK = 0.1
# The lowest and the highest value that needs no warning, infinite where there is no end.
WarningRange = tuple[float, float]
WarnOutside = Mapping[str, Sequence[float | str | None]]


@dataclass(frozen=True)
class Caution:
    """Bounds on experiments and on what is settled on; None is no bound.

    Attributes:
        never_below, never_above: what the measured target must not pass, in its own unit.
        risk: the probability that it does all the same, above 0 and below 0.5.
        step: the share of a domain that a value may lie away from what was tried, above 0 and at
            most 1.
    """

    never_below: float | None = None
    never_above: float | None = None
    risk: float = RISK
    step: float | None = None

    @property
    def bounds_nothing(self) -> bool:
        return not self.limits_target and self.step is None

    @property
    def limits_target(self) -> bool:
        return self.never_below is not None or self.never_above is not None

    @property
    def passed(self) -> str:
        """What an outcome must not be, for example "below 40 or above 80"."""
        ends = (("below", self.never_below), ("above", self.never_above))
        return " or ".join(f"{word} {limit:.6g}" for word, limit in ends if limit is not None)

    def __str__(self) -> str:
        parts = [f"never {self.passed} (risk at most {self.risk:.3g})"] if self.limits_target else []
        if self.step is not None:
            parts.append(f"at most {self.step:.3g} of a domain away from what was tried")
        return "; ".join(parts) or "none"


NO_BOUNDS = Caution()


def checked_caution(caution: Caution) -> Caution:
    """The bounds themselves.

    Raises:
        AcboError: a limit that is not a number, or a share that is not possible.
    """
    for name, limit in (("never-below", caution.never_below), ("never-above", caution.never_above)):
        if limit is not None and math.isnan(number(limit, name)):
            raise AcboError(f"{name} is missing", "give a number in the target's unit")
    low, high = caution.never_below, caution.never_above
    if low is not None and high is not None and not low < high:
        raise AcboError(f"never below {low:g} and never above {high:g} leaves nothing", "exchange the two?")
    if not 0.0 < caution.risk < 0.5:
        raise AcboError(f"a risk of {caution.risk:g} is not possible", "a probability above 0 and below 0.5")
    if caution.step is not None and not 0.0 < caution.step <= 1.0:
        raise AcboError(f"a step of {caution.step:g} is not possible", "a share of the domain, above 0 and at most 1")
    return caution


def plain_caution(caution: Caution | None) -> dict[str, float]:
    """For the journal: empty if nothing was said."""
    if caution is None or checked_caution(caution) == NO_BOUNDS:
        return {}
    return {key: float(value) for key, value in asdict(caution).items() if value is not None}


def caution_of(entry: Mapping[str, Any]) -> Caution:
    """The bounds in a journal's entry.

    Raises:
        AcboError, TypeError, ValueError: they make no sense.
    """
    return checked_caution(Caution(**{key: float(value) for key, value in entry.items()}))


def plain_ranges(
    given: WarnOutside | None, names: Sequence[str], target: str
) -> dict[str, tuple[float | None, float | None]]:
    """Warning ranges by name for the journal, None where an end is open.

    Raises:
        AcboError: an unknown name, the target, or a range that is not (low, high).
    """
    found: dict[str, tuple[float | None, float | None]] = {}
    for name, ends in by_known_names(given or {}, names).items():
        if name not in names:
            raise AcboError(f"no variable named {name!r} to warn about", did_you_mean(str(name), names))
        if name == target:
            raise AcboError(f"{name!r} is the target", "bound it by never-below and never-above")
        where = f"the warning range of {name!r}"
        try:
            if isinstance(ends, str):
                raise ValueError
            low, high = (number(end, where) for end in ends)  # type: ignore[attr-defined]
        except (TypeError, ValueError) as error:
            raise AcboError(f"{where} is not (low, high)", "leave one end open with None") from error
        if math.isnan(low) and math.isnan(high):
            raise AcboError(f"{where} has no end", "give a lowest value, a highest value or both")
        if low >= high:  # false where one is open
            raise AcboError(f"{where} is {low:g} to {high:g}", "its low end must lie below its high end")
        found[name] = (None if math.isnan(low) else low, None if math.isnan(high) else high)
    return found


def ranges_of(entry: Mapping[str, Any], names: Sequence[str]) -> tuple[WarningRange | None, ...]:
    """The warning range of every variable, of a journal's entry.

    Raises:
        ValueError, TypeError: it makes no sense.
    """
    if set(entry) - set(names):
        raise ValueError("a warning range of no variable")
    found: list[WarningRange | None] = []
    for name in names:
        low, high = entry.get(name, (None, None))
        ends = open_ends(low, high)
        if not ends[0] < ends[1]:
            raise ValueError("a warning range that holds nothing")
        found.append(ends if name in entry else None)
    return tuple(found)


def open_ends(low: float | None, high: float | None) -> WarningRange:
    """A range with infinity in place of None."""
    return (-math.inf if low is None else float(low), math.inf if high is None else float(high))


def range_words(ends: WarningRange) -> str:
    """For example "0 to 8", "at least 0", "at most 8"."""
    low, high = ends
    if math.isinf(low):
        return f"at most {high:.6g}"
    return f"at least {low:.6g}" if math.isinf(high) else f"{low:.6g} to {high:.6g}"
