"""Campaigns: the policy proposes an experiment, a person does it and tells what came out, and so
on.

    domains = {"temp": (20, 80), "dose": (0, 5), "age": None, "yield": None}
    campaign = Campaign.create("reactor", domains, "yield", "maximize", observations=table)
    proposal = campaign.ask()
    campaign.tell(proposal.id, {"temp": 61.0, "dose": 2.2, "age": 40, "yield": 7.3})
    campaign.recommend()

Everything follows from the folder: `journal.jsonl` (journal.py), and `policy-HASH.npz`, a copy of
the policy's weights. Each command replays the journal, so killing a process anywhere changes
nothing. Units are the user's; the sign of a target to be maximised is flipped in `Facts.cost` and
nowhere else. What the policy says is in predictions.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from acbo_ref.backend import ReferenceBackend
from acbo_ref.campaign.calibration import calibrate
from acbo_ref.campaign.facts import (
    SCHEMA,
    CampaignWarning,
    Facts,
    Proposal,
    check_observations,
    check_reach,
    checked_budget,
    checked_domain,
    checked_row,
    domain_from_data,
    external_row,
    plain,
    replay,
    warn,
)
from acbo_ref.campaign.journal import Entry, Journal
from acbo_ref.campaign.predictions import (
    Belief,
    CampaignSession,
    Recommendation,
    beliefs,
    open_session,
    proposal,
    recommendation,
)
from acbo_ref.campaign.tables import check_names, observation_rows, read_csv, row_values, select
from acbo_ref.errors import AcboError, RunError, did_you_mean
from acbo_ref.files import Document
from acbo_ref.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, shipped_policy

Domains = Mapping[str, tuple[float, float] | None]
__all__ = [
    "Belief",
    "Campaign",
    "CampaignWarning",
    "Proposal",
    "Recommendation",
    "domain_from_data",
    "load_campaign",
    "upgrade_campaign",
]


class Campaign:
    """A campaign in the folder `path`; see `create` and `load_campaign`."""

    def __init__(self, path: Path, checkpoint: Checkpoint) -> None:
        self.path, self._journal = path, Journal(path / "journal.jsonl")
        self._checkpoint = checkpoint
        self._backend = ReferenceBackend(replace(checkpoint.config, dtype=None))
        self._state = self._backend.from_host(checkpoint.state)

    # ------------------------------------------------------------------------------------ beginning

    @staticmethod
    def create(
        path: str | Path,
        variables: Domains,
        target: str,
        direction: str = "minimize",
        observations: Any = None,
        budget: int | None = None,
        policy: str | Path | None = None,
    ) -> Campaign:
        """Begin a campaign.

        Args:
            path: a folder that holds no campaign yet.
            variables: in order, the domain (low, high) of each variable that can be set, None for
                the target and the others.
            target, direction: what to "minimize" or "maximize".
            observations: rows measured without setting anything: a DataFrame, an array in the order
                of `variables`, or rows by name. Missing values are allowed, but for the target.
            budget: how many experiments may be proposed; None for no limit.
            policy: a checkpoint or run folder; default the one that ships.

        Raises:
            AcboError: something given is not possible; nothing was written.
        """
        path = Path(path)
        if (path / "journal.jsonl").exists():
            raise AcboError(f"{path} holds a campaign already", "choose another folder")
        names, domains = _checked_variables(variables, target, direction)
        budget = checked_budget(budget)
        rows = observation_rows(observations, names)
        table = np.array(rows, float).reshape(-1, len(names))
        check_observations(table, names, target)
        checkpoint = load_checkpoint(policy if policy is not None else shipped_policy())
        check_reach(checkpoint.config, len(names), len(rows))
        factors = calibrate(checkpoint)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot create {path}: {error.strerror or error}", "choose another folder") from error
        created: Entry = {
            "kind": "created", "schema": SCHEMA, "target": target, "direction": direction, "variables": names,
            "domains": [None if d is None else list(d) for d in domains], "budget": budget,
            **_policy_entry(path, checkpoint, factors),
        }  # fmt: skip
        given: Entry = {"kind": "rows", "rows": [{"variable": None, "row": plain(row)} for row in rows]}
        Journal.create(path / "journal.jsonl", [created, given] if rows else [created])
        return load_campaign(path)

    # --------------------------------------------------------------------------------- the commands

    def ask(self, another: bool = False) -> Proposal:
        """The pending proposal, or a new one; with `another` a new one besides those pending, about
        another variable.

        Raises:
            AcboError: the budget is spent, or every variable has a pending proposal.
        """
        found: list[Proposal] = []

        def decide(entries: list[Entry]) -> Entry | None:
            facts = self._facts(entries)
            if facts.pending and not another:
                found.append(facts.pending[0])
                return None
            if facts.remaining is not None and facts.remaining <= 0:
                raise AcboError(
                    f"the budget of {facts.budget} experiments is spent",
                    "`recommend` says what to settle on; tell_external records further experiments",
                )
            waiting = {p.variable for p in facts.pending}
            found.append(proposal(facts, self._session(facts), waiting))
            return {"kind": "asked", "proposal": asdict(found[0])}

        self._journal.update(decide)
        return found[0]

    def tell(self, id: str, row: Any) -> None:
        """Record the measured row of a proposed experiment: all variables, by name or in order.

        The variable that was set may be left out, or be measured a little off its set point (5 % of
        the domain).

        Raises:
            AcboError: no such proposal, told already, or an impossible row. The proposal then stays
                open.
        """

        def decide(entries: list[Entry]) -> Entry:
            facts = self._facts(entries)
            if id not in facts.proposals:
                hint = "pending: " + (", ".join(p.id for p in facts.pending) or "none; `ask` for one")
                raise AcboError(f"no proposal {id!r}", hint)
            if id in facts.told:
                raise AcboError(f"proposal {id!r} was told already", "tell_external records a repetition")
            proposal = facts.proposals[id]
            measured = checked_row(facts, row_values(row, facts.variables), proposal.variable, proposal.value)
            return {"kind": "told", "id": id, "row": plain(measured)}

        self._journal.update(decide)

    def tell_external(self, do: Mapping[str, float], row: Any) -> None:
        """Record an experiment nobody asked for: do={"x": 1.2}, or several variables at once; an
        empty `do` is an observation. It costs no budget.

        Raises:
            AcboError: a variable that cannot be set, a value outside its domain, or an impossible
                row.
        """

        def decide(entries: list[Entry]) -> Entry:
            facts = self._facts(entries)
            values = row_values(row, facts.variables)
            return {"kind": "rows", "rows": [external_row(facts, do, values, "row")]}

        self._journal.update(decide)

    def import_csv(self, path: str | Path) -> int:
        """Record the rows of a CSV file, all or none; a column `intervention` names the variable
        that was set, or several as a+b, empty for an observation. Without that column all rows are
        observations. Returns the number of rows.
        """
        table = read_csv(path)
        count = [0]

        def decide(entries: list[Entry]) -> Entry | None:
            facts = self._facts(entries)
            for name in table.names:
                if name not in facts.variables and name != "intervention":
                    hint = did_you_mean(name, [*facts.variables, "intervention"])
                    raise AcboError(f"{path}: column {name!r} is no variable of this campaign", hint)
            values = select(table, facts.variables)
            column = table.names.index("intervention") if "intervention" in table.names else None
            rows = []
            for n, cells, row in zip(table.lines, table.rows, values, strict=True):
                named = str(cells[column]).split("+") if column is not None else []
                names = [name.strip() for name in named if name.strip()]
                do = {name: row[facts.variables.index(name)] if name in facts.variables else None for name in names}
                rows.append(external_row(facts, do, row, f"{path}, line {n}"))
            count[0] = len(rows)
            return {"kind": "rows", "rows": rows} if rows else None

        self._journal.update(decide)
        return count[0]

    def recommend(self) -> Recommendation:
        """What to settle on now, and how much better than doing nothing it is. Writes nothing."""
        facts = self._read()
        return recommendation(facts, self._session(facts))

    def beliefs(self) -> list[Belief]:
        """What the policy thinks of every variable but the target. Writes nothing."""
        facts = self._read()
        return beliefs(facts, self._session(facts))

    def status(self) -> Document:
        """Where the campaign stands, as plain data. Writes nothing."""
        entries, torn = self._journal.read()
        facts = self._facts(entries)
        return {
            "target": facts.target,
            "direction": facts.direction,
            "variables": {
                n: None if d is None else list(d) for n, d in zip(facts.variables, facts.domains, strict=True)
            },
            "budget": facts.budget,
            "remaining": facts.remaining,
            "observations": len(facts.observations),
            "interventions": len(facts.interventions),
            "pending": [asdict(p) for p in facts.pending],
            "torn_line": torn.decode(errors="replace")[:200] if torn else None,
            "policy_sha256": facts.policy_sha256,
        }

    def history(self) -> list[Document]:
        """Every experiment so far, in order of the journal's proposals: proposal, and the measured
        target or None.
        """
        facts = self._read()
        return [
            {**asdict(p), "measured": facts.told[p.id][facts.target_index] if p.id in facts.told else None}
            for p in facts.proposals.values()
        ]

    # --------------------------------------------------------------------------------------- inside

    def _session(self, facts: Facts) -> CampaignSession:
        return open_session(facts, self._backend, self._state)

    def _read(self) -> Facts:
        entries, torn = self._journal.read()
        if torn:
            warn("the journal's last line is torn, as a crash leaves it; it is ignored")
        return self._facts(entries)

    def _facts(self, entries: list[Entry]) -> Facts:
        facts = replay(entries, self._journal.path)
        if facts.policy_sha256 != self._checkpoint.sha256:
            raise AcboError(
                f"{self.path / _policy_name(facts.policy_sha256)} is not the policy of this campaign: its hash is "
                f"{self._checkpoint.sha256[:16]}..., the journal says {facts.policy_sha256[:16]}...",
                "put the original file back; a campaign keeps its policy",
            )
        return facts


def upgrade_campaign(path: str | Path, policy: str | Path | None = None) -> Campaign:
    """Go on with another policy: what was measured and proposed stays valid, and the journal
    records the change. The campaign's own policy need not be readable any more.

    Args:
        policy: a checkpoint or run folder; default the one that ships.
    Raises:
        AcboError: there is no campaign, or the policy is that of the campaign already.
    """
    path = Path(path)
    journal = _journal(path)
    checkpoint = load_checkpoint(policy if policy is not None else shipped_policy())
    facts = replay(journal.read()[0], journal.path)
    check_reach(checkpoint.config, len(facts.variables), len(facts.observations))
    entry = {"kind": "upgraded", "from": facts.policy_sha256, **_policy_entry(path, checkpoint, calibrate(checkpoint))}

    def decide(entries: list[Entry]) -> Entry:
        if replay(entries, journal.path).policy_sha256 == entry["policy_sha256"]:
            raise AcboError("the campaign has this policy already", "give another one with --policy")
        return entry

    journal.update(decide)
    return load_campaign(path)


def _policy_entry(path: Path, checkpoint: Checkpoint, factors: tuple[float, float]) -> Entry:
    """Puts the weights into the campaign's folder; what the journal says of them."""
    unnamed = path / f".policy-{os.getpid()}.tmp.npz"  # its name is its hash, known once it is written
    sha256 = save_checkpoint(checkpoint, unnamed, moments=False)
    os.replace(unnamed, path / _policy_name(sha256))
    return {"policy_sha256": sha256, "outcome_factor": factors[0], "expectation_factor": factors[1]}


def _journal(path: Path) -> Journal:
    if not (path / "journal.jsonl").exists():
        raise AcboError(f"no campaign at {path}", "create one with `acbo campaign new`")
    return Journal(path / "journal.jsonl")


def _checked_variables(
    variables: Domains, target: str, direction: str
) -> tuple[list[str], list[tuple[float, float] | None]]:
    """Names and domains.

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
    domains = [checked_domain(name, variables[name], name == target) for name in names]
    if not any(d is not None for d in domains):
        raise AcboError("no variable can be set", "give the domain (low, high) of at least one")
    return names, domains


def load_campaign(path: str | Path) -> Campaign:
    """Open a campaign's folder.

    Raises:
        AcboError: there is none, or its journal or policy is damaged or does not belong to it.
    """
    path = Path(path)
    journal = _journal(path)
    facts = replay(journal.read()[0], journal.path)
    campaign = Campaign(path, load_checkpoint(path / _policy_name(facts.policy_sha256)))
    campaign._read()
    return campaign


def _policy_name(sha256: str) -> str:
    return f"policy-{str(sha256)[:16]}.npz"
