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
nowhere else. What only reads is in view.py, what the policy says in predictions.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from acbo_ref.campaign.asking import next_proposal, proposal_beside
from acbo_ref.campaign.beginning import Domains, begin, policy_entry, policy_name
from acbo_ref.campaign.bounds import NO_BOUNDS, Caution, WarnOutside
from acbo_ref.campaign.calibration import calibrate
from acbo_ref.campaign.doubts import believe, doubts
from acbo_ref.campaign.exchange import imported
from acbo_ref.campaign.exogenous import moved
from acbo_ref.campaign.facts import CUMULATIVE, POLICY, CampaignWarning, Proposal, plain, replay, stamped, warn
from acbo_ref.campaign.journal import Entry, Journal
from acbo_ref.campaign.methods import MakeMethod, check_method, method_of, proposal_by
from acbo_ref.campaign.predictions import Belief, asked
from acbo_ref.campaign.ranges import say_neighbours, say_outside
from acbo_ref.campaign.rules import (
    check_budget,
    check_reach,
    checked_count,
    checked_person,
    checked_row,
    checked_text,
    corrected_row,
    domain_from_data,
    external_row,
    known_record,
)
from acbo_ref.campaign.settling import Recommendation
from acbo_ref.campaign.tables import by_known_names, row_values
from acbo_ref.campaign.view import CampaignView
from acbo_ref.campaign.workbooks import read_table
from acbo_ref.errors import AcboError
from acbo_ref.training.checkpoint import load_checkpoint, shipped_policy

__all__ = [
    "Belief",
    "Campaign",
    "CampaignWarning",
    "Caution",
    "Proposal",
    "Recommendation",
    "domain_from_data",
    "load_campaign",
    "upgrade_campaign",
]


class Campaign(CampaignView):
    """A campaign in the folder `path`; see `create` and `load_campaign`."""

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
        by: str | None = None,
        costs: Mapping[str, float | str] | None = None,
        caution: Caution | None = None,
        warn_outside: WarnOutside | None = None,
        method: str = POLICY,
        objective: str = CUMULATIVE,
        exogenous: Sequence[str] = (),
    ) -> Campaign:
        """Begin a campaign.

        Args:
            path: a folder that holds no campaign yet.
            variables: in order, the domain (low, high) of each variable that can be set, None for
                the target and the others. A domain may also be (low, high, "log"), with "int",
                "step=5" or "periodic"; see scales.py.
            target, direction: what to "minimize" or "maximize".
            observations: rows measured without setting anything: a DataFrame, what `read_table`
                gives, an array in the order of `variables`, or rows by name. Missing values are
                allowed, but for the target.
            budget: how many experiments may be proposed; None for no limit.
            policy: a checkpoint or run folder; default the one that ships.
            by: who does this, for the journal.
            costs: what an experiment on a variable costs, in any unit; 1 where nothing is said. The
                next experiment is then the one with the most gain for its cost.
            caution: bounds that every `ask` and `recommend` keeps to.
            warn_outside: by variable, the lowest and the highest measured value that needs no
                warning, in its unit, None for an open end. A measured row outside is recorded and
                said, and what was measured near it is not recommended.
            method: who chooses where nothing else is said: "policy", or a method of
                `acbo.BASELINES` by its name, which knows no bounds.
            objective: what shall be as good as it can: "cumulative", all outcomes together, or
                "final", what is settled on in the end. For "final" the policy tries what it knows
                less of, also where that may do harm; other methods know no objective.
            exogenous: variables that cannot be set, and that nothing which is set can move: the
                weather, a raw material. What they explain is taken off all others before the policy
                reads them, so that it sees through what they do to the target.

        Raises:
            AcboError: something given is not possible; nothing was written.
        """
        begin(
            Path(path), variables, target, direction, observations, budget, policy, by, costs, caution, warn_outside,
            method, objective, exogenous,
        )  # fmt: skip
        return load_campaign(path)

    # --------------------------------------------------------------------------------- the commands

    def ask(
        self,
        another: bool = False,
        by: str | None = None,
        caution: Caution | None = None,
        method: MakeMethod | str | None = None,
    ) -> Proposal:
        """The pending proposal, or a new one; with `another` a new one besides those pending, about
        another variable.

        Args:
            by: who asks, for the journal; so in every command that writes.
            caution: bounds of a new proposal, this once in place of the campaign's own; Caution()
                for none. A pending proposal stays as it is.
            method: who chooses: "policy", a method's name or one of `acbo.BASELINES`, which knows
                neither bounds nor what is pending; default the campaign's own.

        Raises:
            AcboError: the budget is spent, every variable has a pending proposal, no experiment
                lies within the bounds, or another method than the policy is to keep to bounds or to
                heed pending proposals.
        """
        found: list[Proposal] = []

        def decide(entries: list[Entry]) -> Entry | None:
            facts = self._facts(entries)
            if facts.pending and not another:
                found.append(facts.pending[0])
                if caution is not None and not caution.bounds_nothing:
                    warn(f"{found[0].id} was proposed before, whatever the bounds; --another proposes one within them")
                return None
            make, bounds = method_of(facts, method), facts.caution if caution is None else caution
            check_method(make, bounds, another)
            check_budget(facts, 1)
            session = self._session(facts)
            if make is None:
                found.append(next_proposal(facts, session, bounds))
            else:
                found.append(proposal_by(facts, session, make))
            say_neighbours(facts, found[0])
            for words in moved(facts):
                warn(f"{words}; `export` and `import` take the rows along")
            return asked(facts, session, found[0])

        self._write(decide, by)
        return found[0]

    def ask_batch(
        self,
        count: int,
        by: str | None = None,
        caution: Caution | None = None,
        method: MakeMethod | str | None = None,
    ) -> list[Proposal]:
        """Experiments to do side by side: those pending, and new ones until there are `count`, also
        several about one variable: drawn from what may be the best; see asking.py. Arguments as of
        `ask`.

        Raises:
            AcboError: the budget does not allow so many, another method than the policy is to
                choose, or no experiment lies within the bounds; those asked for before that stay.
        """
        count = checked_count(count)

        def decide(entries: list[Entry]) -> Entry | None:
            facts = self._facts(entries)
            if len(facts.pending) >= count:
                return None
            check_method(method_of(facts, method), NO_BOUNDS, True)
            check_budget(facts, count - len(facts.pending))
            session = self._session(facts)
            found = proposal_beside(facts, session, facts.caution if caution is None else caution)
            say_neighbours(facts, found)
            return asked(facts, session, found)

        for _ in range(count):
            self._write(decide, by)
        return self._read().pending

    def tell(self, id: str, row: Any, yes: bool = False, by: str | None = None) -> None:
        """Record the measured row of a proposed experiment: all variables, by name or in order. One
        that was abandoned can be told after all.

        The variable that was set may be left out, or be measured a little off its set point (5 % of
        the domain).

        Args:
            yes: record numbers that are hard to believe, too: they are as they should be.
        Raises:
            AcboError: no such proposal, told already, an impossible row, or one that is hard to
                believe. The proposal then stays open.
        """

        def decide(entries: list[Entry]) -> Entry:
            facts = self._facts(entries)
            if id not in facts.proposals:
                hint = "pending: " + (", ".join(p.id for p in facts.pending) or "none; `ask` for one")
                raise AcboError(f"no proposal {id!r}", hint)
            if id in facts.records:
                raise AcboError(
                    f"proposal {id!r} was told already",
                    "`correct` mends a typing error; `import` (Python: tell_external) records a repetition",
                )
            proposal = facts.proposals[id]
            measured = checked_row(facts, row_values(row, facts.variables), proposal.variable, proposal.value)
            believe(doubts(facts, [(id, measured, [facts.variables.index(proposal.variable)])]), yes)
            say_outside(facts, id, measured)
            missing = [name for name in facts.exogenous if math.isnan(measured[facts.variables.index(name)])]
            if missing:
                warn(f"{id}: {', '.join(missing)} is missing, so nothing is taken off this row; `correct` adds it")
            return {"kind": "told", "id": id, "row": plain(measured)}

        self._write(decide, by)

    def tell_external(self, do: Mapping[str, float], row: Any, yes: bool = False, by: str | None = None) -> None:
        """Record an experiment nobody asked for: do={"x": 1.2}, or several variables at once; an
        empty `do` is an observation. It costs no budget.

        Raises:
            AcboError: a variable that cannot be set, a value outside its domain, or an impossible
                row.
        """

        def decide(entries: list[Entry]) -> Entry:
            facts = self._facts(entries)
            values = row_values(row, facts.variables)
            were_set = by_known_names(do, facts.variables)
            recorded = external_row(facts, were_set, values, "row")
            believe(doubts(facts, [("row", values, [facts.variables.index(name) for name in were_set])]), yes)
            say_outside(facts, "row", values)
            return {"kind": "rows", "rows": [recorded]}

        self._write(decide, by)

    def correct(self, id: str, changes: Mapping[str, object], yes: bool = False, by: str | None = None) -> None:
        """Put right what was recorded as `id` (e1, or o1, x1 of rows nobody asked for): the journal
        keeps both. A row that was abandoned counts again.

        Args:
            changes: values by name; None for one that is not known after all.
        Raises:
            AcboError: no such record, nothing that differs, or a row that would have been refused.
        """

        def decide(entries: list[Entry]) -> Entry:
            facts = self._facts(entries)
            row = corrected_row(facts, id, changes)
            record = facts.records[id]
            if record.is_read and plain(row) == plain(record.row):
                raise AcboError(f"{id} is recorded like that already", "`history` shows what is recorded")
            others = replace(facts, records={name: r for name, r in facts.records.items() if name != id})
            believe(doubts(others, [(id, row, record.was_set)]), yes)
            say_outside(facts, id, row)
            return {"kind": "corrected", "id": id, "row": plain(row)}

        self._write(decide, by)

    def abandon(self, id: str, by: str | None = None) -> None:
        """A proposal that will not be done, which costs no budget then; or a row that counts no
        more. The journal keeps it, and `tell` or `correct` takes this back.

        Raises:
            AcboError: no such thing, or abandoned already.
        """

        def decide(entries: list[Entry]) -> Entry:
            facts = self._facts(entries)
            waits = id in facts.proposals and id not in facts.records
            if id in facts.abandoned if waits else not known_record(facts, id).is_read:
                raise AcboError(f"{id} was abandoned already", "`tell` or `correct` takes it back")
            return {"kind": "abandoned", "id": id}

        self._write(decide, by)

    def note(self, id: str, text: str, by: str | None = None) -> None:
        """Keep a remark about a proposal or a recorded row: one line of at most 1000 characters.

        Raises:
            AcboError: no such thing, or no such text.
        """

        def decide(entries: list[Entry]) -> Entry:
            facts = self._facts(entries)
            if id not in facts.proposals:
                known_record(facts, id)
            return {"kind": "noted", "id": id, "text": checked_text(text, "a note", 1000)}

        self._write(decide, by)

    def import_rows(self, path: str | Path, yes: bool = False, by: str | None = None, sheet: str | None = None) -> int:
        """Record the rows of a CSV or .xlsx file, all or none; a column `intervention` names the
        variable that was set, or several as a+b, empty for an observation. Without that column all
        rows are observations. Returns the number of rows.

        What `export_csv` wrote comes back whole if nothing is recorded yet: proposals, notes,
        times and all; else as rows that nobody asked for, with their notes.

        Args:
            sheet: of an .xlsx file; default the first.

        Raises:
            AcboError: a row that is impossible; or, without `yes`, one that is hard to believe, or
                rows that were recorded before.
        """
        table = read_table(path, sheet)
        count = [0]

        def decide(entries: list[Entry]) -> Entry | None:
            found = imported(self._facts(entries), entries, table)
            count[0] = found.count
            believe([f"{path}: {words}" for words in found.unlikely], yes)
            return found.entry

        self._write(decide, by)
        return count[0]

    # --------------------------------------------------------------------------------------- inside

    def _write(self, decide: Callable[[list[Entry]], Entry | None], by: str | None) -> None:
        """Append what `decide` makes of the entries, with the time and the person."""
        person = checked_person(by)

        def made(entries: list[Entry]) -> Entry | None:
            entry = decide(entries)
            return None if entry is None else stamped(entry, person)

        self._journal.update(made)


def upgrade_campaign(path: str | Path, policy: str | Path | None = None, by: str | None = None) -> Campaign:
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
    entry = {"kind": "upgraded", "from": facts.policy_sha256, **policy_entry(path, checkpoint, calibrate(checkpoint))}

    def decide(entries: list[Entry]) -> Entry:
        if replay(entries, journal.path).policy_sha256 == entry["policy_sha256"]:
            raise AcboError("the campaign has this policy already", "give another one with --policy")
        return entry

    person = checked_person(by)
    journal.update(lambda entries: stamped(decide(entries), person))
    return load_campaign(path)


def _journal(path: Path) -> Journal:
    if not (path / "journal.jsonl").exists():
        raise AcboError(f"no campaign at {path}", "create one with `acbo campaign new`")
    return Journal(path / "journal.jsonl")


def load_campaign(path: str | Path) -> Campaign:
    """Open a campaign's folder.

    Raises:
        AcboError: there is none, or its journal or policy is damaged or does not belong to it.
    """
    path = Path(path)
    journal = _journal(path)
    facts = replay(journal.read()[0], journal.path)
    campaign = Campaign(path, load_checkpoint(path / policy_name(facts.policy_sha256)))
    campaign._read()
    return campaign
