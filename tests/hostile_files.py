"""Read files that were changed at random, and some made to harm, of each kind that acbo reads.

    python tests/hostile_files.py COUNT [KIND ...]

Kinds: checkpoint, scm, scm_yaml, config, table, workbook, journal, export.

Each must be read, or refused with an AcboError, within 10 seconds and 1.5 GB; anything else is a
failure (exit code 1). Prints a line a kind. A process of its own, since its memory is limited.
"""

from __future__ import annotations

import io
import json
import pickle
import resource
import shutil
import signal
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from campaign_crashes import small_policy

from acbo_ref.campaign.bounds import Caution
from acbo_ref.campaign.campaign import Campaign, load_campaign
from acbo_ref.campaign.facts import CampaignWarning
from acbo_ref.campaign.journal import _line
from acbo_ref.campaign.tables import read_csv
from acbo_ref.campaign.workbooks import read_table
from acbo_ref.config import RenamedKeyWarning, load_config
from acbo_ref.errors import AcboError
from acbo_ref.systems.files import load_scm
from acbo_ref.training.checkpoint import load_checkpoint

SECONDS, EXTRA_BYTES = 10, 1_500 * 2**20
TOKENS = [
    b"1e308", b"-1e308", b"1e999", b"NaN", b".nan", b"-Infinity", b".inf", b"null", b"~", b"true", b"0", b"-1", b"1e-320",
    b"9" * 400, b"\x00", b"\x1b[2J", b"\r", b"\xff\xfe", "\u202e".encode(), b'"', b"'", b"{", b"[" * 3000, b"- " * 3000, b"&a [", b"*a",
    b"!!python/object/apply:os.system ['touch pwned']", b"../../pwned", b"%s%n", b",", b"\n", b"\t", b": ", b"a: " * 500, b"#",
]  # fmt: skip


def changed(data: bytes, rng: np.random.Generator) -> bytes:
    """One to four random edits: bits, cuts, doubled pieces, tokens that parsers dislike, numbers
    replaced.
    """
    for _ in range(int(rng.integers(1, 5))):
        if not data:
            return data
        at, kind = int(rng.integers(len(data))), int(rng.integers(7))
        span = int(rng.integers(1, 60))
        token = TOKENS[int(rng.integers(len(TOKENS)))]
        if kind == 0:
            data = data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + data[at + span :]
        elif kind == 2:
            data = data[:at] + data[at : at + span] * int(rng.integers(2, 20)) + data[at + span :]
        elif kind == 3:
            data = data[:at] + token + data[at:]
        elif kind == 4:
            data = data[:at] + token + data[at + span :]
        elif kind == 5:
            lines = data.splitlines(keepends=True)
            i, j = rng.integers(len(lines), size=2)
            lines[i], lines[j] = lines[j], lines[i]
            data = b"".join(lines)
        else:
            digits = [i for i, byte in enumerate(data) if 48 <= byte <= 57]
            if digits:
                i = digits[int(rng.integers(len(digits)))]
                data = data[:i] + token + data[i + 1 :]
    return data if rng.random() > 0.1 else data[: int(rng.integers(len(data) + 1))]


class Kind:
    """One kind of file: an honest one, files made to harm, and how it is read."""

    def __init__(self, suffix: str, honest: bytes, made: list[bytes], read: Callable[[Path], Any]) -> None:
        self.suffix, self.honest, self.made, self.read = suffix, honest, made, read

    def mutants(self, count: int, rng: np.random.Generator) -> Iterator[bytes]:
        yield from self.made[:count]
        for _ in range(count - len(self.made)):
            yield changed(self.honest, rng)


# -------------------------------------------------------------------------------------- checkpoints


def _zip(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of duplicate names
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _npy(shape: tuple[int, ...], dtype: str, data: bytes) -> bytes:
    header = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


class _Payload:
    """Unpickled, it would leave a file behind."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("pwned"),)


def checkpoint(folder: Path) -> Kind:
    path = small_policy(folder / "honest.npz")
    honest = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name, header = "params/embed.bias.npy", json.loads(bytes(np.load(io.BytesIO(members["header.npy"]))))

    def with_header(**changes: Any) -> dict[str, bytes]:
        text = json.dumps(header | changes).encode()
        return {**members, "header.npy": _npy((len(text),), "|u1", text)}

    huge = json.loads(json.dumps(header["config"]))
    huge["policy"].update(hidden_dim=4096, num_layers=64, num_heads=64)
    bomb = {k: _npy((4096, 12288), "<f4", b"\x00" * (4096 * 12288 * 4)) for k in (name,)}
    swapped = {**members, name: members["params/embed.weight.npy"], "params/embed.weight.npy": members[name]}
    made = [
        _zip({**members, name: _npy((2**40,), "<f4", b"")}),
        _zip({**members, name: _npy((8,), "|O", pickle.dumps(_Payload()))}),
        _zip({**members, name: pickle.dumps(_Payload())}),
        _zip({**members, "../../pwned.npy": members[name]}),
        _zip({**members, "/pwned.npy": members[name]}),
        _zip({**members, **bomb}, zipfile.ZIP_DEFLATED),
        _zip({**with_header(config=huge), **bomb}, zipfile.ZIP_DEFLATED),
        _zip(members, zipfile.ZIP_DEFLATED),
        _zip(with_header(iteration=-1)), _zip(with_header(step="many")), _zip(with_header(progress=None)),
        _zip(with_header(format="acbo-checkpoint/9")), _zip(with_header(config={"a": 1})), _zip(with_header(sha256=None)),
        _zip({**members, "header.npy": _npy((3,), "|u1", b"[1]")}),
        _zip({**members, "header.npy": _npy((60_000,), "|u1", b"[" * 60_000)}),
        _zip(swapped), pickle.dumps(_Payload()), b"", b"PK\x05\x06" + b"\x00" * 18,
    ]  # fmt: skip
    for member in list(members):  # each member changed inside a sound archive
        for seed in range(3):
            made.append(_zip({**members, member: changed(members[member], np.random.default_rng(seed))}))
    return Kind(".npz", honest, made, load_checkpoint)


# --------------------------------------------------------------------------------------- text files


def scm(folder: Path) -> Kind:
    honest = {
        "format": "acbo-scm/1", "name": "plant", "target": "y", "direction": "minimize",
        "variables": [
            {"name": n, "intercept": 0.5, "noise_std": 1.0, "low": -5.0, "high": 5.0, "manipulable": n != "y"} for n in "abcy"
        ],
        "edges": [{"from": a, "to": b, "weight": 1.5} for a, b in ("ab", "bc", "cy", "ay")],
    }  # fmt: skip
    text = json.dumps(honest, indent=1).encode()
    many = {**honest, "variables": [{**honest["variables"][0], "name": f"v{i}"} for i in range(100_000)]}
    bombs = b"a: &a [x, x, x, x, x, x, x, x, x]\n" + b"".join(
        b"%c: &%c [%s]\n" % (98 + i, 98 + i, b", ".join([b"*%c" % (97 + i)] * 9)) for i in range(9)
    )
    made = [
        b"[" * 100_000, b"{" * 100_000, b'{"a":' * 50_000, b"- " * 50_000, bombs, b"!!python/object/apply:os.system [touch pwned]",
        json.dumps(many).encode(), yaml.safe_dump(honest).encode() * 2, b"", b"\x00" * 1000, b"null", b"[]", b"3", b'"x"',
        json.dumps({**honest, "edges": honest["edges"] * 2}).encode(),
        json.dumps({**honest, "edges": [{"from": "a", "to": "a", "weight": 1}]}).encode(),
        json.dumps({**honest, "edges": [{"from": "a", "to": "b", "weight": 1e308}, {"from": "b", "to": "y", "weight": 1e308}]}).encode(),
        text.replace(b"1.0", b"1e308"), text.replace(b"1.5", b"NaN"), text.replace(b"5.0", b"-5.0"), text.replace(b'"a"', b'""'),
    ]  # fmt: skip

    return Kind(".json", text, made, _read_scm)


def scm_yaml(folder: Path) -> Kind:
    json_kind = scm(folder)
    text = yaml.safe_dump(json.loads(json_kind.honest)).encode()
    return Kind(
        ".yaml", text, [*json_kind.made, text.replace(b"- from", b"- &a\n  from", 1) + b"more: *a\n"], _read_scm
    )


def _read_scm(path: Path) -> Any:
    model = load_scm(path)
    return model.simulate(np.zeros((2, len(model.names))))


def config(folder: Path) -> Kind:
    honest = Path(__file__).parents[1].joinpath("configs", "experiment.yaml").read_bytes()
    made = [
        b"[" * 100_000, b"a: " * 20_000, b"&a [*a]", b"seed: &s [*s, *s]", b"<<: *x", b"? [a]\n: b", b"seed: 1\nseed: 2",
        b"!!python/name:os.system", b"!!binary aGk=", b"seed: 1e400", b"seed: -1", b"total_episodes: 1e308", b"batch_size: .nan",
        b"policy: {hidden_dim: 99999999999}", b"curriculum: {stages: []}", b"curriculum: {pools: {a: ../../../etc/passwd}}",
        b"curriculum: {pools: {a: /dev/zero}, stages: [{name: x, graphs: [a]}]}", b"grpo: 3", b"", b"\xff\xfe\x00", b"\x00", b"--- a\n--- b",
        b"scm: {weight: [1e308, -1e308]}", b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", b"seed: 2001-01-01", b"seed: 0x10", b"seed: 1_000", b"{" * 5000, b"a" * 3_000_000,
    ]  # fmt: skip
    return Kind(".yaml", honest, made, load_config)


def table(folder: Path) -> Kind:
    rng = np.random.default_rng(0)
    rows = "\n".join(",".join(f"{v:.4f}" for v in row) for row in rng.standard_normal((12, 4)))
    honest = f"a,b,c,y\n{rows}\n".encode()
    made = [
        (",".join(f"v{i}" for i in range(1_000_000)) + "\n" + "1," * 999_999 + "1\n").encode(),
        b'"' + b"a" * 2_000_000, b"a,b\n" + b'"1\n' * 50_000, b"a,a\n1,2\n", b"\n\n\n", b"", b"a\n", b"a,b\n1\n", b"a,b\n1,2,3\n",
        b"a,b\n1e999,nan\n", b"a,b\n=cmd|'/c calc'!A0,1\n", b"\xef\xbb\xbfa,b\n1,2\n", b"a;b\n1;2\n", "a,b\n１,２\n".encode(), b"a,b\n0x1,1_0\n",
        b"a,b\r1,2\r", b"a\x00,b\n1,2\n", b"\x1b[2Ja,b\n1,2\n", "ä,ö\n1,2\n".encode("latin-1"), b"../../pwned,b\n1,2\n",
    ]  # fmt: skip
    return Kind(".csv", honest, made, read_csv)


def workbook(folder: Path) -> Kind:
    """Spreadsheets: the archive changed, each part changed inside a sound archive, and bombs."""
    import openpyxl

    rng = np.random.default_rng(0)
    book = openpyxl.Workbook()
    book.active.append(["when", "temp [C]", "b", "y"])
    for row in rng.standard_normal((12, 3)).tolist():
        book.active.append([datetime(2026, 1, 2), *row])
    book.create_sheet("notes").append(["nothing here"])
    buffer = io.BytesIO()
    book.save(buffer)
    with zipfile.ZipFile(buffer) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    sheet, index, styles = "xl/worksheets/sheet1.xml", "xl/workbook.xml", "xl/styles.xml"
    strings, begin = "xl/sharedStrings.xml", b"<sheetData>"
    kind = b"application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
    entry = b'<Override PartName="/xl/sharedStrings.xml" ContentType="%s"/></Types>' % kind
    members["[Content_Types].xml"] = members["[Content_Types].xml"].replace(b"</Types>", entry)
    members[strings] = b'<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><si><t>b</t></si></sst>'
    members[sheet] = members[sheet].replace(b't="inlineStr"><is><t>b</t></is>', b't="s"><v>0</v>')
    honest = _zip(members)
    rows = members[sheet].partition(begin)

    def with_sheet(inside: bytes, dimension: bytes = b'ref="A1:D13"') -> dict[str, bytes]:
        head = rows[0].replace(b'ref="A1:D13"', dimension)
        return {**members, sheet: head + begin + inside + b"</sheetData></worksheet>"}

    def cells(reference: bytes) -> bytes:
        return b'<row r="1"><c r="A1"><v>1</v></c></row><row r="2"><c r="%s"><v>1</v></c></row>' % reference

    data = rows[2].partition(b"</sheetData>")[0]
    laughs = b"<!DOCTYPE x [<!ENTITY a 'ha'>" + b"".join(
        b"<!ENTITY %c '%s'>" % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(9)
    ) + b"]>"  # fmt: skip
    many_sheets = members[index].replace(
        b"</sheets>", b"".join(b'<sheet name="s%d" sheetId="%d" r:id="rId1"/>' % (i, i + 9) for i in range(3000)) + b"</sheets>"
    )  # fmt: skip
    packed = zipfile.ZIP_DEFLATED
    made = [
        *(_zip({k: v for k, v in members.items() if k != gone}) for gone in members),
        *(_zip({**members, part: b""}) for part in members),
        _zip(with_sheet(data, b'ref="A1:XFD1048576"')), _zip(with_sheet(data, b'ref="A1:ZZZ999999999999"')), _zip(with_sheet(data, b'ref="x"')),
        *(_zip(with_sheet(cells(at))) for at in (b"XFD1048576", b"ZZZ2", b"AAAAAAAA2", b"A99999999999", b"A-1", b"", b"1", b"A" * 10_000)),
        _zip(with_sheet(data + b'<row r="999999999999"><c><v>1</v></c></row>')), _zip(with_sheet(b'<row r="1e300"><c><v>1</v></c></row>')),
        _zip(with_sheet(b"<row>" + b"<c/>" * 8_000_000 + b"</row>"), packed), _zip(with_sheet(b"<row/>" * 8_000_000), packed),
        _zip(with_sheet(b"<row/>" * 1_090_000), packed), _zip(with_sheet(b"<row><c><v>1</v></c></row>" * 700_000), packed),
        _zip(with_sheet((b"<row>" + b"<c><v>1</v></c>" * 9_000 + b"</row>") * 120), packed),
        _zip(with_sheet(b'<row r="1"><c r="A1"><v>1</v></c></row>' + b'<row><c r="XFD1"><v>1</v></c></row>' * 1_000_000), packed),
        _zip(with_sheet(b"<row " + b" ".join(b'a%d=""' % i for i in range(2_000_000)) + b"/>"), packed),
        _zip(with_sheet(b"<row>" * 300_000 + b"</row>" * 300_000), packed), _zip(with_sheet(b"<c>" * 190_000 + b"</c>" * 190_000), packed),
        _zip(with_sheet(b'<row><c t="s"><v>99</v></c></row>')), _zip(with_sheet(b'<row><c t="s"><v>-1</v></c></row>')),
        _zip(with_sheet(b'<row><c t="inlineStr"><is><t>a</t></is></c></row><row><c><v>' + b"9" * 5000 + b"</v></c></row>")),
        _zip(with_sheet(b'<row><c t="inlineStr"><is><t>a</t></is></c></row><row><c><v>1e999</v></c></row>')),
        _zip(with_sheet(b'<row><c t="inlineStr"><is><t>a</t></is></c></row><row><c><f>1/0</f></c></row>')),
        _zip(with_sheet(b'<row><c t="inlineStr"><is><t>\x1b[2J</t></is></c></row>')), _zip(with_sheet(b'<row><c t="d"><v>x</v></c></row>')),
        _zip({**members, sheet: laughs + b"<worksheet>&j;</worksheet>"}), _zip({**members, strings: laughs + b"<sst>&j;</sst>"}),
        _zip({**members, sheet: members[sheet].decode().encode("utf-16")}), _zip({**members, strings: members[strings].decode().encode("utf-16")}),
        _zip({**members, sheet: b'<?xml version="1.0" encoding="cp037"?>' + rows[2]}),
        _zip({**members, sheet: b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><worksheet/>'}),
        _zip({**members, strings: b"<sst>" + b"<si><t>a</t></si>" * 3_000_000 + b"</sst>"}, packed),
        _zip({**members, strings: b'<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">' + b"<si><t>a</t></si>" * 1_200_000 + b"</sst>"}, packed),
        _zip({**members, strings: b"\x00" * 100_000_000}, packed), _zip({**members, "xl/media/image1.png": b"\x00" * 400_000_000}, packed),
        _zip({**members, index: many_sheets, sheet: with_sheet(b"<row/>" * 500_000)[sheet].replace(b"<dimension", b"<dim")}, packed),
        _zip({**members, styles: members[styles] + b"<x/>" * 5_000_000}, packed), _zip({**members, styles: b"<styleSheet>" + b"<xf/>" * 350_000}, packed),
        _zip({**members, "../../pwned.xml": b"<a/>"}), _zip({**members, **{f"a{i}": b"" for i in range(60_000)}}),
        _zip(members, zipfile.ZIP_LZMA), _zip(members, zipfile.ZIP_BZIP2), _zip({}), b"", b"PK\x05\x06" + b"\x00" * 18, b"a,b\n1,2\n", pickle.dumps(_Payload()),
    ]  # fmt: skip
    for member in members:  # each part changed inside a sound archive
        for seed in range(40):
            made.append(_zip({**members, member: changed(members[member], np.random.default_rng(seed))}))
    return Kind(".xlsx", honest, made, read_table)


def _campaign(folder: Path) -> Campaign:
    """One with every kind of entry in its journal."""
    variables = {"a": (0.1, 10.0, "log"), "b": (0.0, 5.0, "int"), "c": None, "y": None}
    rows = np.random.default_rng(0).random((5, 4)) + 1.0
    policy = small_policy(folder / "policy.npz")
    campaign = Campaign.create(
        folder / "campaign", variables, "y", observations=rows, policy=policy, costs={"a": 2.0}, by="Ada",
        caution=Caution(never_below=-50.0, step=0.9), warn_outside={"c": (None, 4.0)},
    )  # fmt: skip
    for n in range(4):
        campaign.tell(campaign.ask().id, {"y": float(n), "c": 2.0 * n})
    campaign.ask_batch(2)
    campaign.correct("e1", {"y": 0.5})
    campaign.abandon("e5")
    campaign.abandon("o2")
    campaign.note("e2", "as it was")
    campaign.tell_external({"a": 1.0, "b": 2.0}, {"y": 2.0})
    return campaign


def journal(folder: Path) -> Kind:
    campaign = _campaign(folder)
    campaign.export_csv(folder / "all.csv")
    campaign.import_rows(folder / "all.csv", yes=True)
    path = folder / "campaign" / "journal.jsonl"
    honest = path.read_bytes()
    lines = honest.splitlines(keepends=True)
    made = [
        b"", b"\n", b"{}\n", b"[" * 100_000, lines[0] * 2, b"".join(reversed(lines)), lines[0] + lines[-1], b"\x00" * 10_000,
        honest + b"{", honest + honest, honest[:-1], honest.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + honest,
        *(honest.replace(b".npz", end) for end in (b"/../../x.npz", b"\\u0000.npz", b"x.npz")),
    ]  # fmt: skip
    rng = np.random.default_rng(5)
    for _ in range(300):  # entries that are changed and whose hashes are right
        entries = [json.loads(line)["entry"] for line in lines]
        n = int(rng.integers(len(entries)))
        entries[n] = _entry_changed(entries[n], rng)
        made.append(b"".join(_line(k, entry) for k, entry in enumerate(entries)))

    def read(mutant: Path) -> Any:
        shutil.copy(mutant, path)
        opened = load_campaign(folder / "campaign")
        return opened.status(), opened.history()

    return Kind(".jsonl", honest, made, read)


def _entry_changed(entry: Any, rng: np.random.Generator) -> Any:
    """An entry with one value, somewhere inside it, replaced or removed."""
    odd = [None, -1, 1e300, "", "e1", "o1", [], {}, True, [[]], {"kind": "told"}, "9" * 400]
    if isinstance(entry, dict) and entry:
        key = list(entry)[int(rng.integers(len(entry)))]
        if rng.random() < 0.2:
            return {k: v for k, v in entry.items() if k != key}
        return entry | {key: _entry_changed(entry[key], rng)}
    if isinstance(entry, list) and entry and rng.random() < 0.8:
        k = int(rng.integers(len(entry)))
        return [*entry[:k], _entry_changed(entry[k], rng), *entry[k + 1 :]]
    return odd[int(rng.integers(len(odd)))]


def export(folder: Path) -> Kind:
    """Exports, imported into a campaign in which nothing is recorded."""
    _campaign(folder).export_csv(folder / "all.csv")
    variables = {"a": (0.1, 10.0, "log"), "b": (0.0, 5.0, "int"), "c": None, "y": None}
    empty = Campaign.create(folder / "empty", variables, "y", policy=folder / "policy.npz")
    begun = (empty.path / "journal.jsonl").read_bytes()

    def read(mutant: Path) -> Any:
        (empty.path / "journal.jsonl").write_bytes(begun)
        try:
            empty.import_rows(mutant)
        except AcboError:
            if (empty.path / "journal.jsonl").read_bytes() != begun:
                raise RuntimeError("refused, and something was recorded") from None
            raise
        again = load_campaign(empty.path)
        return again.status(), again.history()

    honest = (folder / "all.csv").read_bytes()
    head, *rows = honest.splitlines(keepends=True)
    made = [
        head, head + b"".join(reversed(rows)), head + b"".join(rows * 2), head + rows[-1], head * 2, b"".join(rows),
        honest.replace(b"told", b"pending"), honest.replace(b"told", b"abandoned"), honest.replace(b"e1", b"o1"),
        honest.replace(b"o1", b"e1"), honest.replace(b",e", b",e0"), honest.replace(b"e2", b"e99999999999999999999"),
        honest.replace(b"2026-", b"9999-"), honest.replace(b"+00:00", b"+99:99"), honest.replace(b"Ada", b"A\x1b[2J"),
        honest.replace(b"as it was", b"as\x00was"), honest.replace(b"as it was", b'"a\n\n\nb"'), honest.replace(b"as it was", b"x" * 5000),
    ]  # fmt: skip
    return Kind(".csv", honest, made, read)


KINDS: dict[str, Callable[[Path], Kind]] = {
    "checkpoint": checkpoint,
    "scm": scm,
    "scm_yaml": scm_yaml,
    "config": config,
    "table": table,
    "workbook": workbook,
    "journal": journal,
    "export": export,
}


class TooSlow(BaseException):
    """Not an Exception, so that nothing catches it on the way."""


def _too_slow(signum: int, frame: Any) -> None:
    raise TooSlow


def run(name: str, count: int, seed: int = 0) -> tuple[int, int, list[str]]:
    """(read, refused, what went wrong) of `count` files of one kind."""
    rng, read, refused, wrong = np.random.default_rng(seed), 0, 0, []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CampaignWarning)
            kind = KINDS[name](folder)
        path = folder / f"mutant{kind.suffix}"
        for n, data in enumerate(kind.mutants(count, rng)):
            path.write_bytes(data)
            before = sorted(folder.iterdir())
            signal.alarm(SECONDS)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    for said in (CampaignWarning, RenamedKeyWarning):  # a mutation may be an old name
                        warnings.simplefilter("ignore", said)
                    kind.read(path)
                read += 1
            except AcboError as error:
                refused += 1
                if not error.message or "\x1b" in error.message:
                    wrong.append(f"{name} {n}: message {error.message[:80]!r}")
            except TooSlow:
                wrong.append(f"{name} {n}: more than {SECONDS} s")
            except BaseException as error:
                wrong.append(f"{name} {n}: {type(error).__name__}: {str(error)[:100]!r}")
            finally:
                signal.alarm(0)
            if sorted(folder.iterdir()) != before or Path("pwned").exists():
                wrong.append(f"{name} {n}: left something behind")
    return read, refused, wrong


def main(arguments: list[str]) -> int:
    count, names = int(arguments[0]), arguments[1:] or list(KINDS)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + EXTRA_BYTES, in_use + EXTRA_BYTES))
    signal.signal(signal.SIGALRM, _too_slow)
    failed = False
    for name in names:
        read, refused, wrong = run(name, count)
        print(f"{name}: {count} files, {read} read, {refused} refused with a message, {len(wrong)} wrong", flush=True)
        for line in wrong[:20]:
            print("  " + line)
        failed |= bool(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
