"""What leaves a campaign as a table and comes back: rows that nobody asked for, and whole exports.

An export has a row for every record, then one for every proposal without a record. Beside the
variables and `intervention` it has the columns JOURNAL. Read back into a campaign in which nothing
is recorded yet it gives the same state: ids, proposals, corrections, what was abandoned, notes,
times and persons, and with these what the intervals learnt. In any other campaign its rows become
rows that nobody asked for, with their notes, times and persons.

Contract: functions of facts and of tables; writes nothing. A table is imported as one journal entry
of kind "rows", or of kind "imported", which holds entries.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime

from acbo_ref.campaign.doubts import doubts
from acbo_ref.campaign.facts import Facts, Judged, Proposal, flattened, numbers, plain, warn
from acbo_ref.campaign.journal import Entry
from acbo_ref.campaign.ranges import outside
from acbo_ref.campaign.rules import checked_row, checked_text, external_row
from acbo_ref.campaign.tables import Table, number, select, set_variables, text_columns, with_known_names
from acbo_ref.campaign.words import counted
from acbo_ref.errors import AcboError, did_you_mean
from acbo_ref.files import Document

# What an export says of a row beside the row: its id, and so on; of a proposal what was proposed.
OF_RECORD = ("id", "state", "time", "by", "notes")
OF_PROPOSAL = ("value", "predicted", "low", "high", "parent_probability", "reason")
OF_JUDGED = Judged._fields  # not in exports of before
JOURNAL = tuple(f"journal {name}" for name in (*OF_RECORD, *OF_PROPOSAL, *OF_JUDGED))
# How many rows out of bounds are named when a table is imported.
MOST_SAID = 5
STATES = ("told", "corrected", "abandoned", "pending")


# ------------------------------------------------------------------------------------------- export


def exported(facts: Facts, states: Mapping[str, str]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of an export: numbers in full, empty where missing.

    Args:
        states: of every record and proposal by id, as the history has them.

    Raises:
        AcboError: a variable has the name of another column.
    """
    for name in facts.variables:
        if name in JOURNAL:
            raise AcboError(f"a variable is named {name!r}", "an export needs a column of that name")
    lines = []
    for id in [*facts.records, *(id for id in facts.proposals if id not in facts.records)]:
        record, proposal = facts.records.get(id), facts.proposals.get(id)
        if record is not None:
            row, was_set = record.row, [facts.variables[i] for i in record.was_set]
        else:
            assert proposal is not None
            row, was_set = [math.nan] * len(facts.variables), [proposal.variable]
        of_record = [id, states[id], (record and record.time) or "", (record and record.by) or ""]
        of_proposal = [""] * len((*OF_PROPOSAL, *OF_JUDGED))
        if proposal is not None:
            values = [getattr(proposal, name) for name in OF_PROPOSAL] + [*facts.judged.get(id, ("", ""))]
            of_proposal = [repr(value) if isinstance(value, float) else str(value) for value in values]
        cells = ["" if math.isnan(x) else repr(x) for x in row]
        lines.append([*cells, "+".join(was_set), *of_record, "\n".join(facts.notes.get(id, [])), *of_proposal])
    return [*facts.variables, "intervention", *JOURNAL], lines


# ------------------------------------------------------------------------------------------- import


@dataclass
class Line:
    """A row of a table to import.

    Attributes:
        where: file and line. row: in the order of variables. was_set: names.
        said: by name of OF_RECORD and OF_PROPOSAL, empty text where nothing is said.
    """

    where: str
    row: list[float]
    was_set: list[str]
    said: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.said.get("id", "")

    @property
    def is_proposal(self) -> bool:
        return self.id.startswith("e")

    @property
    def state(self) -> str:
        return self.said.get("state", "") or "told"

    @property
    def notes(self) -> list[str]:
        texts = self.said.get("notes", "").split("\n")
        return [checked_text(text, f"{self.where}: a note", 1000) for text in texts if text.strip()]

    @property
    def stamp(self) -> Document:
        """Time and person, if they are said.

        Raises:
            AcboError: they are none.
        """
        found: Document = {}
        if self.said.get("time"):
            try:
                found["time"] = datetime.fromisoformat(self.said["time"]).isoformat(timespec="seconds")
            except ValueError as error:
                raise AcboError(
                    f"{self.where}: {self.said['time'][:40]!r} is not a time", "for example 2026-01-31T09:30:00+00:00"
                ) from error
        if self.said.get("by"):
            found["by"] = checked_text(self.said["by"], f"{self.where}: a person's name", 200)
        return found


@dataclass(frozen=True)
class Import:
    """A table as it is to be recorded: the entry, None if there is nothing; how many rows; what is
    hard to believe.
    """

    entry: Entry | None
    count: int
    unlikely: list[str]


def imported(facts: Facts, entries: Sequence[Entry], table: Table) -> Import:
    """A table to import into a campaign with these entries.

    Raises:
        AcboError: a column or a row that is impossible.
    """
    table = with_known_names(table, [*facts.variables, "intervention", *JOURNAL])
    check_columns(table, facts)
    lines = _lines(facts, table)
    if any(line.id for line in lines):
        return _of_export(facts, entries, lines, table.where)
    rows = [_external(facts, line) for line in lines]
    _say(facts, lines)
    return Import({"kind": "rows", "rows": rows} if rows else None, len(rows), _unlikely(facts, entries, lines, rows))


def check_columns(table: Table, facts: Facts) -> None:
    """Columns to import: the campaign's variables, `intervention` and those of an export. Others
    without a number in them are left out with a warning, unless the name looks mistyped.

    Raises:
        AcboError: any other column, or some of an export's own and not all.
    """
    known = [*facts.variables, "intervention"]
    text, own = text_columns(table), [name for name in JOURNAL if name in table.names]
    for name in JOURNAL[: -len(OF_JUDGED)]:
        if own and name not in own:
            raise AcboError(
                f"{table.where} has {own[0]!r} and no column {name!r}",
                "keep all columns of an export, or none that begins with 'journal'",
            )
    for name in table.names:
        if name in known or name in own:
            continue
        hint = did_you_mean(name, known)
        if name not in text or hint.startswith("did you mean"):
            raise AcboError(f"{table.where}: column {name!r} is no variable of this campaign", hint)
        warn(f"{table.where}: column {name!r} is left out, since there are no numbers in it")


def _lines(facts: Facts, table: Table) -> list[Line]:
    places = {name: table.names.index(name) for name in ("intervention", *JOURNAL) if name in table.names}
    lines = []
    for n, cells, row in zip(table.lines, table.rows, select(table, facts.variables), strict=True):
        text = {name: "" if cells[place] is None else str(cells[place]) for name, place in places.items()}
        was_set = set_variables(text.pop("intervention", ""), facts.variables)
        said = {name.removeprefix("journal "): cell.strip() for name, cell in text.items()}
        line = Line(f"{table.where}, line {n}", row, was_set, said)
        if line.state not in STATES:
            raise AcboError(f"{line.where}: {line.state[:40]!r} is not a state", f"known: {', '.join(STATES)}")
        lines.append(line)
    return lines


def _say(facts: Facts, lines: Sequence[Line]) -> None:
    """Warns of the first rows that measured what they should not have."""
    found = [(line.where, words) for line in lines if (words := outside(facts, line.row))]
    for where, words in found[:MOST_SAID]:
        warn(f"{where}: {'; '.join(words)}")
    if len(found) > MOST_SAID:
        warn(f"{counted(len(found) - MOST_SAID, 'more row')} out of bounds; `status` and `history` mark them")


def _external(facts: Facts, line: Line) -> Document:
    """The journal row of an experiment nobody asked for, or of an observation."""
    known = facts.variables
    do = {name: line.row[known.index(name)] if name in known else None for name in line.was_set}
    return external_row(facts, do, line.row, line.where)


def _unlikely(facts: Facts, entries: Sequence[Entry], lines: Sequence[Line], rows: Sequence[Document]) -> list[str]:
    """What is hard to believe in rows, and whether they were recorded before."""
    read = [
        (line.where, numbers(row["row"]), [facts.variables.index(name) for name in line.was_set])
        for line, row in zip(lines, rows, strict=True)
    ]
    unlikely = doubts(facts, read)
    known = recorded_rows(facts, entries)
    again = sum(json.dumps(row, sort_keys=True) in known for row in rows)
    if again:
        which = "these very rows" if again == len(rows) else f"{again} of these {len(rows)} rows"
        unlikely.insert(0, f"{which} were recorded before")
    return unlikely


def recorded_rows(facts: Facts, entries: Sequence[Entry]) -> set[str]:
    """Every row as it was recorded, and as it is since it was corrected: JSON text of {"variable",
    "row"}.
    """
    now = [_row_document([facts.variables[i] for i in r.was_set], r.row) for r in facts.records.values()]
    found, variables = {json.dumps(row, sort_keys=True) for row in now}, {}
    for entry in flattened(entries):
        if entry["kind"] == "asked":
            variables[entry["proposal"]["id"]] = entry["proposal"]["variable"]
        rows = entry["rows"] if entry["kind"] == "rows" else []
        if entry["kind"] == "told":
            rows = [{"variable": variables[entry["id"]], "row": entry["row"]}]
        found |= {json.dumps(row, sort_keys=True) for row in rows}
    return found


def _row_document(names: list[str], row: list[float]) -> Document:
    return {"variable": None if not names else names[0] if len(names) == 1 else names, "row": plain(row)}


# ------------------------------------------------------------------------------------ whole exports


def _of_export(facts: Facts, entries: Sequence[Entry], lines: Sequence[Line], where: str) -> Import:
    """An export: whole into a campaign in which nothing is recorded, else as rows."""
    if not facts.records and not facts.proposals:
        proposals = _proposals(facts, lines, where)
        asked = [_asked(proposals[line.id], line) for line in sorted(lines, key=_number) if line.is_proposal]
        return Import({"kind": "imported", "entries": asked + _told(facts, lines, proposals)}, len(lines), [])
    counting = [line for line in lines if line.state in ("told", "corrected")]
    if len(counting) < len(lines):
        warn(f"{where}: left out: {counted(len(lines) - len(counting), 'row')}, pending or abandoned")
    if any(line.is_proposal for line in counting):
        warn(
            f"{where}: its proposals become experiments nobody asked for, since this campaign has rows already; one begun "
            "without past rows takes them as they were"
        )
    plainly = [Line(line.where, line.row, line.was_set, line.said | {"id": "", "state": ""}) for line in counting]
    rows = [_external(facts, line) for line in plainly]
    unlikely = _unlikely(facts, entries, plainly, rows)
    return Import({"kind": "imported", "entries": _told(facts, plainly, {})} if rows else None, len(rows), unlikely)


def _number(line: Line) -> int:
    """Of a proposal."""
    return int(line.id[1:]) if line.is_proposal else 0


def _asked(proposal: Proposal, line: Line) -> Entry:
    """The entry of a proposal, with how it is judged if that was exported."""
    entry: Entry = {"kind": "asked", "proposal": asdict(proposal)}
    judged = {name: number(line.said.get(name, ""), f"{line.where}, 'journal {name}'") for name in OF_JUDGED}
    return entry if any(map(math.isnan, judged.values())) else entry | {"judged": judged}


def _proposals(facts: Facts, lines: Sequence[Line], where: str) -> dict[str, Proposal]:
    """The proposals of an export by id, in their order.

    Raises:
        AcboError: they are not e1, e2, ..., each with one variable and its numbers.
    """
    found = {}
    for line in lines:
        if not line.is_proposal:
            continue
        if line.id in found:
            raise AcboError(f"{line.where}: {line.id} appears twice", "remove one of the two rows")
        if len(line.was_set) != 1 or line.was_set[0] not in facts.variables:
            raise AcboError(f"{line.where}: {line.id} needs one variable as its intervention")
        values = {name: number(line.said[name], f"{line.where}, 'journal {name}'") for name in OF_PROPOSAL[:-1]}
        if any(map(math.isnan, values.values())):
            raise AcboError(f"{line.where}: {line.id} lacks a number of its proposal", "as the export wrote it")
        reason = checked_text(line.said["reason"] or "not said", f"{line.where}: a reason", 2000)
        found[line.id] = Proposal(line.id, line.was_set[0], **values, reason=reason)
    wanted = [f"e{n + 1}" for n in range(len(found))]
    for id in wanted:
        if id not in found:
            raise AcboError(
                f"{where} has {counted(len(found), 'proposal')}, and {id} is not among them",
                "as the export wrote it; without its 'journal ...' columns rows are read alone",
            )
    return {id: found[id] for id in wanted}


def _told(facts: Facts, lines: Sequence[Line], proposals: Mapping[str, Proposal]) -> list[Entry]:
    """The entries that record these rows, and what became of them."""
    entries: list[Entry] = []
    counts = {letter: sum(id.startswith(letter) for id in facts.records) for letter in "ox"}
    for line in lines:
        if line.id in proposals:
            id, row = line.id, _told_row(facts, line, proposals[line.id])
            if row is not None:
                entries.append({"kind": "told", "id": id, "row": row, **line.stamp})
        else:
            if line.state == "pending":
                raise AcboError(f"{line.where}: only a proposal can be pending", "its id begins with e")
            record = _external(facts, line)
            row, letter = record["row"], "x" if line.was_set else "o"
            counts[letter] += 1
            id = f"{letter}{counts[letter]}"
            last = entries[-1] if entries else {}
            if last.get("kind") == "rows" and {k: v for k, v in last.items() if k in ("time", "by")} == line.stamp:
                last["rows"].append(record)
            else:
                entries.append({"kind": "rows", "rows": [record], **line.stamp})
        if line.state == "corrected":
            entries.append({"kind": "corrected", "id": id, "row": row})
        if line.state == "abandoned":
            entries.append({"kind": "abandoned", "id": id})
        entries += [{"kind": "noted", "id": id, "text": text} for text in line.notes]
    return entries


def _told_row(facts: Facts, line: Line, proposal: Proposal) -> list[float | None] | None:
    """The row of a proposal as it was told, None if it was not."""
    is_told = not math.isnan(line.row[facts.target_index])
    if line.state == "pending" or (line.state == "abandoned" and not is_told):
        if is_told:
            raise AcboError(f"{line.where}: {line.id} is pending and has an outcome", "its state would be told")
        return None
    try:
        return plain(checked_row(facts, line.row, proposal.variable, proposal.value))
    except AcboError as error:
        raise AcboError(f"{line.where}: {error.message}", error.hint) from error
