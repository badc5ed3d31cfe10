"""A campaign as it is read: what to settle on, what is believed, what was done. Writes nothing but
files that the user asked for.

Contract: everything follows from the journal and the policy in the campaign's folder, and is
replayed at each call.
"""

from __future__ import annotations

import math
from dataclasses import asdict, fields, replace
from pathlib import Path

from acbo_ref.backend import ReferenceBackend
from acbo_ref.campaign.beginning import policy_name
from acbo_ref.campaign.curves import Curve, best_value, curve
from acbo_ref.campaign.facts import Facts, Proposal, replay, warn
from acbo_ref.campaign.journal import Entry, Journal
from acbo_ref.campaign.methods import MakeMethod, settled_by
from acbo_ref.campaign.monitor import watch
from acbo_ref.campaign.predictions import (
    Answer,
    Belief,
    CampaignSession,
    Recommendation,
    answer,
    beliefs,
    open_session,
    recommendation,
)
from acbo_ref.campaign.report import Findings, report_page
from acbo_ref.campaign.rules import checked_action
from acbo_ref.campaign.tables import known_name, write_csv
from acbo_ref.errors import AcboError
from acbo_ref.files import Document, write_atomically
from acbo_ref.training.checkpoint import Checkpoint


class CampaignView:
    """The part of a campaign that changes nothing; see campaign.Campaign."""

    def __init__(self, path: Path, checkpoint: Checkpoint) -> None:
        self.path, self._journal = path, Journal(path / "journal.jsonl")
        self._checkpoint = checkpoint
        self._backend = ReferenceBackend(replace(checkpoint.config, dtype=None))
        self._state = self._backend.from_host(checkpoint.state)

    def recommend(self) -> Recommendation:
        """What to settle on now, and how much better than doing nothing it is. Writes nothing."""
        facts = self._read()
        return recommendation(facts, self._session(facts))

    def settle(self, method: MakeMethod) -> Answer:
        """What another method, one of `acbo.BASELINES`, would settle on now, and what the policy
        expects of that. Writes nothing.

        Raises:
            AcboError: it would set nothing.
        """
        facts = self._read()
        return settled_by(facts, self._session(facts), method)

    def predict(self, variable: str, value: float) -> Answer:
        """What is expected if `variable` is set to `value`. Writes nothing.

        Raises:
            AcboError: a variable that cannot be set, or a value outside its domain.
        """
        facts = self._read()
        variable = known_name(variable, facts.variables)
        checked = checked_action(facts, variable, value, "predict")
        return answer(facts, self._session(facts), variable, checked)

    def suggest(self, variable: str) -> Answer:
        """The best value of one variable, and what is expected of it. Writes nothing.

        Raises:
            AcboError: a variable that cannot be set or is not read.
        """
        facts = self._read()
        variable = known_name(variable, facts.variables)
        session = self._session(facts)
        return answer(facts, session, variable, best_value(facts, session, variable))

    def beliefs(self) -> list[Belief]:
        """What the policy thinks of every variable but the target. Writes nothing."""
        facts = self._read()
        return beliefs(facts, self._session(facts))

    def curve(self, variable: str, points: int = 41) -> Curve:
        """What is expected over the whole domain of `variable`, at so many values. Writes nothing.

        Raises:
            AcboError: a variable that cannot be set or is not read.
        """
        facts = self._read()
        variable = known_name(variable, facts.variables)
        session = self._session(facts)
        return curve(facts, session, variable, points)

    def report(self, path: str | Path | None = None) -> Path:
        """Write the page about this campaign, default `report.html` in its folder; returns where.

        Raises:
            RunError: it cannot be written.
        """
        facts = self._read()
        session = self._session(facts)
        levers = [
            n for n, d, r in zip(facts.variables, facts.domains, session.reads, strict=True) if d is not None and r
        ]
        found = Findings(
            self.path.resolve().name, facts, self.history(), recommendation(facts, session), beliefs(facts, session),
            [curve(facts, session, name, 41) for name in levers],
        )  # fmt: skip
        path = self.path / "report.html" if path is None else Path(path)
        write_atomically(path, report_page(found).encode())
        return path

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
            "scales": {n: scale.kinds for n, scale in zip(facts.variables, facts.scales, strict=True) if scale.kinds},
            "costs": {
                n: price
                for n, price, d in zip(facts.variables, facts.prices, facts.domains, strict=True)
                if d is not None
            },
            "pending": [asdict(p) for p in facts.pending],
            "abandoned": sorted(facts.abandoned) + [id for id, r in facts.records.items() if not r.is_read],
            "watch": asdict(watch(facts)),
            "torn_line": torn.decode(errors="replace")[:200] if torn else None,
            "policy_sha256": facts.policy_sha256,
        }

    def history(self) -> list[Document]:
        """Every experiment: those proposed, in their order, then those nobody asked for.

        Each has what a Proposal has (None in what nobody proposed; `variable` and `value` None
        where several were set), `set` {variable: value}, `measured` (the target, or None), `state`
        ("pending", "told", "corrected", "abandoned"), `notes`, and `time` and `by` of its record.
        """
        facts = self._read()
        proposed = [_experiment(facts, id) for id in facts.proposals]
        return proposed + [_experiment(facts, id) for id in facts.records if id.startswith("x")]

    def export_csv(self, path: str | Path) -> int:
        """Write every row that counts to a new CSV file, as `import_rows` reads it: numbers in
        full, empty where missing, and a column `intervention`. Returns the number of rows.

        Raises:
            AcboError: the file is there already.
            RunError: it cannot be written.
        """
        facts = self._read()
        records = [record for record in facts.records.values() if record.is_read]
        lines = [
            [*("" if math.isnan(x) else repr(x) for x in r.row), "+".join(facts.variables[i] for i in r.was_set)]
            for r in records
        ]
        write_csv(path, [*facts.variables, "intervention"], lines)
        return len(records)

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
                f"{self.path / policy_name(facts.policy_sha256)} is not the policy of this campaign: its hash is "
                f"{self._checkpoint.sha256[:16]}..., the journal says {facts.policy_sha256[:16]}...",
                "put the original file back; a campaign keeps its policy",
            )
        return facts


def _experiment(facts: Facts, id: str) -> Document:
    """A line of the history; see Campaign.history."""
    record, proposal = facts.records.get(id), facts.proposals.get(id)
    names = [facts.variables[i] for i in record.was_set] if record is not None else [proposal.variable]  # type: ignore[union-attr]
    values = [record.row[i] for i in record.was_set] if record is not None else [proposal.value]  # type: ignore[union-attr]
    of_one = len(names) == 1
    nobody: Document = dict.fromkeys(field.name for field in fields(Proposal))
    nobody |= {"id": id, "variable": names[0] if of_one else None, "value": values[0] if of_one else None}
    state = "abandoned" if id in facts.abandoned else "pending"
    if record is not None:
        state = "abandoned" if not record.is_read else "corrected" if record.is_corrected else "told"
    return {
        **(asdict(proposal) if proposal is not None else nobody),
        "set": dict(zip(names, values, strict=True)),
        "measured": None if record is None else record.row[facts.target_index],
        "state": state,
        "notes": facts.notes.get(id, []),
        "time": None if record is None else record.time,
        "by": None if record is None else record.by,
    }
