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
from acbo_ref.campaign.bounds import Caution
from acbo_ref.campaign.curves import Curve, best_value, curve
from acbo_ref.campaign.doubts import doubtful
from acbo_ref.campaign.exchange import exported
from acbo_ref.campaign.facts import Facts, Proposal, plain, replay, warn
from acbo_ref.campaign.journal import Entry, Journal
from acbo_ref.campaign.methods import MakeMethod, method_of, settled_by
from acbo_ref.campaign.monitor import watch
from acbo_ref.campaign.predictions import (
    Answer,
    Belief,
    CampaignSession,
    beliefs,
    open_session,
)
from acbo_ref.campaign.ranges import outside
from acbo_ref.campaign.report import Findings, report_page
from acbo_ref.campaign.rules import checked_action, known_record
from acbo_ref.campaign.settling import Recommendation, judged_answer, recommendation
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

    @property
    def caution(self) -> Caution:
        """The bounds of the campaign; `ask(caution=...)` takes others for once."""
        return self._read().caution

    def recommend(self, method: MakeMethod | str | None = None) -> Recommendation:
        """What to settle on now, within the campaign's bounds, and how much better than doing
        nothing it is. Writes nothing.

        Args:
            method: who settles: "policy", a method's name or one of `acbo.BASELINES`; default the
                campaign's own. What is expected is the policy's word in any case. Other methods
                know no bounds: `keeps_bounds` and `warnings` say how their choice stands to them.

        Raises:
            AcboError: no such method, or it would set nothing.
        """
        facts = self._read()
        return self._recommendation(facts, self._session(facts), method)

    def _recommendation(
        self, facts: Facts, session: CampaignSession, method: MakeMethod | str | None = None
    ) -> Recommendation:
        make = method_of(facts, method)
        return recommendation(facts, session, None if make is None else settled_by(facts, session, make))

    def predict(self, variable: str, value: float) -> Answer:
        """What is expected if `variable` is set to `value`, and what speaks against it: bounds, and
        measurements nearby outside of a warning range. Writes nothing.

        Raises:
            AcboError: a variable that cannot be set, or a value outside its domain.
        """
        facts = self._read()
        variable = known_name(variable, facts.variables)
        checked = checked_action(facts, variable, value, "predict")
        return judged_answer(facts, self._session(facts), variable, checked)

    def suggest(self, variable: str) -> Answer:
        """The best value of one variable, within the campaign's bounds if any is, and what is
        expected of it. Writes nothing.

        Raises:
            AcboError: a variable that cannot be set or is not read.
        """
        facts = self._read()
        variable = known_name(variable, facts.variables)
        session = self._session(facts)
        return judged_answer(facts, session, variable, best_value(facts, session, variable))

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
            self.path.resolve().name, facts, self.history(), self._recommendation(facts, session), beliefs(facts, session),
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
            "method": facts.method,
            "objective": facts.objective,
            "exogenous": list(facts.exogenous),
            "bounds": asdict(facts.caution),
            "warn_outside": {
                n: [None if math.isinf(end) else end for end in ends]
                for n, ends in zip(facts.variables, facts.warning_ranges, strict=True)
                if ends is not None
            },
            "pending": [asdict(p) for p in facts.pending],
            "abandoned": sorted(facts.abandoned) + [id for id, r in facts.records.items() if not r.is_read],
            "outside": {id: words for id, r in facts.records.items() if r.is_read and (words := outside(facts, r.row))},
            "doubtful": doubtful(facts),
            "watch": asdict(watch(facts)),
            "torn_line": torn.decode(errors="replace")[:200] if torn else None,
            "policy_sha256": facts.policy_sha256,
        }

    def row(self, id: str) -> dict[str, float | None]:
        """What is recorded as `id`, by variable; None where missing. Writes nothing.

        Raises:
            AcboError: nothing is.
        """
        facts = self._read()
        return dict(zip(facts.variables, plain(known_record(facts, id).row), strict=True))

    def history(self) -> list[Document]:
        """Every experiment: those proposed, in their order, then those nobody asked for.

        Each has what a Proposal has (None in what nobody proposed; `variable` and `value` None
        where several were set), `set` {variable: value}, `measured` (the target, or None), `state`
        ("pending", "told", "corrected", "abandoned"), `notes`, and `time` and `by` of its record.
        `doubts` says which of its numbers are hard to believe beside all others, `outside` which
        left their warning range.
        """
        facts = self._read()
        unlikely = doubtful(facts)
        ids = [*facts.proposals, *(id for id in facts.records if id.startswith("x"))]
        return [_experiment(facts, id, unlikely.get(id, [])) for id in ids]

    def export_csv(self, path: str | Path) -> int:
        """Write all that is recorded to a new CSV file, from which `import_rows` makes the same
        campaign: a row for every record and for every proposal without one, numbers in full, empty
        where missing; columns `intervention` and `journal ...` (exchange.py). Returns the number of
        rows.

        Raises:
            AcboError: the file is there already.
            RunError: it cannot be written.
        """
        facts = self._read()
        header, lines = exported(facts, {id: _state(facts, id) for id in (*facts.proposals, *facts.records)})
        write_csv(path, header, lines)
        return len(lines)

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


def _state(facts: Facts, id: str) -> str:
    """Of a proposal or a record, in one word."""
    record = facts.records.get(id)
    if record is None:
        return "abandoned" if id in facts.abandoned else "pending"
    return "abandoned" if not record.is_read else "corrected" if record.is_corrected else "told"


def _experiment(facts: Facts, id: str, unlikely: list[str]) -> Document:
    """A line of the history; see Campaign.history."""
    record, proposal = facts.records.get(id), facts.proposals.get(id)
    names = [facts.variables[i] for i in record.was_set] if record is not None else [proposal.variable]  # type: ignore[union-attr]
    values = [record.row[i] for i in record.was_set] if record is not None else [proposal.value]  # type: ignore[union-attr]
    of_one = len(names) == 1
    nobody: Document = dict.fromkeys(field.name for field in fields(Proposal))
    nobody |= {"id": id, "variable": names[0] if of_one else None, "value": values[0] if of_one else None}
    return {
        **(asdict(proposal) if proposal is not None else nobody),
        "set": dict(zip(names, values, strict=True)),
        "measured": None if record is None else record.row[facts.target_index],
        "state": _state(facts, id),
        "notes": facts.notes.get(id, []),
        "doubts": unlikely,
        "outside": [] if record is None else outside(facts, record.row),
        "time": None if record is None else record.time,
        "by": None if record is None else record.by,
    }
