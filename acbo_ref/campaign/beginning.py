"""What a campaign begins with: the first entries of its journal, and a copy of its policy.

Contract: all is checked before anything is written; the journal is written last, whole or not at
all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from acbo_ref.campaign.bounds import NO_BOUNDS, Caution, WarnOutside, plain_caution, plain_ranges
from acbo_ref.campaign.calibration import calibrate
from acbo_ref.campaign.facts import (
    CUMULATIVE,
    OBJECTIVES,
    POLICY,
    SCHEMA,
    WITH_BOUNDS,
    WITH_OBJECTIVE,
    WITH_SCALES,
    WITHOUT_SCALES,
    plain,
    stamped,
)
from acbo_ref.campaign.journal import Entry, Journal
from acbo_ref.campaign.methods import named_method
from acbo_ref.campaign.rules import (
    check_logarithms,
    check_observations,
    check_reach,
    checked_budget,
    checked_costs,
    checked_exogenous,
    checked_person,
    checked_variables,
)
from acbo_ref.campaign.tables import observation_rows, observed_units
from acbo_ref.errors import AcboError, RunError
from acbo_ref.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, shipped_policy

Domains = Mapping[str, Sequence[float | str] | None]


def begin(
    path: Path,
    variables: Domains,
    target: str,
    direction: str,
    observations: Any,
    budget: int | None,
    policy: str | Path | None,
    by: str | None,
    costs: Mapping[str, float | str] | None,
    caution: Caution | None,
    warn_outside: WarnOutside | None,
    method: str,
    objective: str,
    exogenous: Sequence[str],
) -> None:
    """Write a campaign's folder; arguments as of Campaign.create.

    Raises:
        AcboError: something given is not possible; nothing was written.
    """
    if (path / "journal.jsonl").exists():
        raise AcboError(f"{path} holds a campaign already", "choose another folder")
    names, domains, scales = checked_variables(variables, target, direction)
    budget, prices = checked_budget(budget), checked_costs(costs, names, domains)
    bounds, ranges = plain_caution(caution), plain_ranges(warn_outside, names, target)
    if named_method(method) is not None and not (caution or NO_BOUNDS).bounds_nothing:
        raise AcboError(f"method {method!r} knows no bounds", "leave out the method, or the bounds")
    if objective not in OBJECTIVES:
        raise AcboError(f"no objective {objective!r}", f"one of: {', '.join(OBJECTIVES)}")
    if named_method(method) is not None and objective != CUMULATIVE:
        raise AcboError(f"method {method!r} knows no objective", "leave out the method, or the objective")
    outside = checked_exogenous(exogenous, names, domains, target)
    rows = observation_rows(observations, names)
    table = np.array(rows, float).reshape(-1, len(names))
    check_observations(table, names, target)
    for n, row in enumerate(rows, start=1):
        check_logarithms(names, scales, row, f"observation {n}")
    checkpoint = load_checkpoint(policy if policy is not None else shipped_policy())
    check_reach(checkpoint.config, len(names), len(rows))
    factors = calibrate(checkpoint)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot create {path}: {error.strerror or error}", "choose another folder") from error
    kinds = {name: scale.kinds for name, scale in zip(names, scales, strict=True) if scale.kinds}
    bounded = {"caution": bounds, "warn_outside": ranges, "method": method if method != POLICY else None}
    aimed = {"objective": objective if objective != CUMULATIVE else None}
    newest = {"exogenous": outside}
    plainly = {"costs": prices, "units": observed_units(observations, names), "scales": kinds}
    more = {key: value for key, value in (plainly | bounded | aimed | newest).items() if value}
    needs = (
        (SCHEMA, any(newest.values())), (WITH_OBJECTIVE, any(aimed.values())), (WITH_BOUNDS, any(bounded.values())),
        (WITH_SCALES, bool(kinds)),
    )  # fmt: skip
    schema = next((number for number, needed in needs if needed), WITHOUT_SCALES)
    created: Entry = {
        "kind": "created", "schema": schema, "target": target, "direction": direction,
        "variables": names, "domains": [None if d is None else list(d) for d in domains], "budget": budget,
        **more, **policy_entry(path, checkpoint, factors),
    }  # fmt: skip
    given: Entry = {"kind": "rows", "rows": [{"variable": None, "row": plain(row)} for row in rows]}
    entries = [stamped(entry, checked_person(by)) for entry in ([created, given] if rows else [created])]
    Journal.create(path / "journal.jsonl", entries)


def policy_entry(path: Path, checkpoint: Checkpoint, factors: tuple[float, float]) -> Entry:
    """Puts the weights into the campaign's folder; what the journal says of them."""
    unnamed = path / f".policy-{os.getpid()}.tmp.npz"  # its name is its hash, known once it is written
    sha256 = save_checkpoint(checkpoint, unnamed, moments=False)
    os.replace(unnamed, path / policy_name(sha256))
    return {"policy_sha256": sha256, "outcome_factor": factors[0], "expectation_factor": factors[1]}


def policy_name(sha256: str) -> str:
    """The file in a campaign's folder that holds the policy of this hash."""
    return f"policy-{str(sha256)[:16]}.npz"
