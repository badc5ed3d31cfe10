"""The journal: damage, kills, several processes at once, and hostile lines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_campaign import journal_bytes

from acbo_ref.campaign.campaign import load_campaign
from acbo_ref.campaign.facts import SCHEMA, CampaignWarning
from acbo_ref.campaign.journal import Journal
from acbo_ref.errors import AcboError, RunError


def test_a_torn_last_line_is_reported_ignored_and_cut_off(campaign):
    proposal = campaign.ask()
    whole = journal_bytes(campaign)
    path = campaign.path / "journal.jsonl"
    for cut in (1, 5, 60):
        path.write_bytes(
            whole + b'{"n": 3, "sha256": "0123456789abcdef", "entry": {"kind": "told", "id": "e1"}}'[:-cut]
        )
        torn = path.read_bytes()
        with pytest.warns(CampaignWarning, match="torn"):
            opened = load_campaign(campaign.path)
        assert opened.status()["torn_line"] and path.read_bytes() == torn  # reading never writes
        assert opened.ask() == proposal and path.read_bytes() == torn
    opened.tell(proposal.id, {"y": 1.0})
    assert load_campaign(campaign.path).status()["interventions"] == 1 and path.read_bytes().startswith(whole)


def test_damage_elsewhere_is_an_error(campaign):
    campaign.tell(campaign.ask().id, {"y": 1.0})
    path, lines = campaign.path / "journal.jsonl", journal_bytes(campaign).splitlines(keepends=True)
    damaged = [
        [*lines[:1], *lines[2:]],  # a line lost
        [*lines, lines[-1]],  # doubled
        [*lines[:-1], lines[-1].replace(b"1.0", b"2.0")],  # altered
        [lines[0], b"\n", *lines[1:]],
        [b"[1]\n"],
        [b'{"n": 0, "sha256": "x", "entry": NaN}\n'],
        [b"[" * 100_000 + b"\n"],
        [],
    ]
    for content in damaged:
        path.write_bytes(b"".join(content))
        with pytest.raises(AcboError):
            load_campaign(campaign.path)


def test_entries_that_make_no_sense_are_errors(tmp_path, campaign):
    first = json.loads(journal_bytes(campaign).splitlines()[0])["entry"]
    for change, words in (
        ({"schema": SCHEMA + 1}, f"schema {SCHEMA + 1}.* up to {SCHEMA}"),
        ({"caution": {"never_below": "much"}}, "not a campaign"),
        ({"caution": {"risk": 2.0}}, "a risk of 2"),
        ({"caution": {"never": 2.0}}, "not a campaign"),
        ({"warn_outside": {"q": [0, 1]}}, "of no variable"),
        ({"warn_outside": {"c": [1, 0]}}, "holds nothing"),
        ({"warn_outside": {"c": 3}}, "not a campaign"),
        ({"kind": "told"}, "creation"),
        ({"variables": 3}, "not a campaign"),
        ({"scales": 3}, "not a campaign"),
        ({"units": 3}, "not a campaign"),
        ({"scales": {"a": ["lin"]}}, "cannot be 'lin'"),
        ({"scales": {"b": ["log"]}}, "cannot be log"),
        ({"scales": {"c": ["int"]}}, "'c' has a scale and no domain"),
        ({"costs": {"a": 0}}, "a cost that is none"),
        ({"costs": {"a": "much"}}, "not a campaign"),
        ({"domains": [None]}, "not a campaign"),
    ):
        path = tmp_path / "made.jsonl"
        Journal.create(path, [first | change])
        (campaign.path / "journal.jsonl").write_bytes(path.read_bytes())
        with pytest.raises(AcboError, match=words):
            load_campaign(campaign.path)
        path.unlink()


def test_a_full_disk_loses_nothing(campaign, monkeypatch):
    proposal, before = campaign.ask(), None
    before = journal_bytes(campaign)

    class Full:
        def __init__(self, *a, **k):
            import io

            self._file = io.FileIO(*a[:2])

        def write(self, data):
            self._file.write(bytes(data[:10]))
            raise OSError(28, "No space left on device")

        def __getattr__(self, name):
            return getattr(self._file, name)

        def __enter__(self):
            return self

        def __exit__(self, *a):
            self._file.close()

    monkeypatch.setattr("acbo_ref.campaign.journal.open", Full, raising=False)
    with pytest.raises(RunError, match="No space left"):
        campaign.tell(proposal.id, {"y": 1.0})
    monkeypatch.undo()
    assert journal_bytes(campaign) == before and campaign.ask() == proposal


def crashes(kills, timeout):
    script = Path(__file__).with_name("campaign_crashes.py")
    return subprocess.run([sys.executable, script, str(kills)], capture_output=True, text=True, timeout=timeout)


def test_killing_it_anywhere_loses_nothing():
    done = crashes(12, 120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_two_hundred_kill_points():
    done = crashes(200, 1200)
    assert done.returncode == 0 and "nothing lost" in done.stdout, done.stdout + done.stderr


HAMMER = """
import sys, warnings
from acbo_ref import load_campaign
from acbo_ref.errors import AcboError
folder, who = sys.argv[1:]
for n in range(10):
    campaign = load_campaign(folder)
    campaign.tell_external({"a": 1.0 + n / 10}, {"y": float(who) + n / 100, "b": 0.0, "c": 0.0})
    try:
        campaign.tell(campaign.ask().id, {"y": float(who)})
    except AcboError as error:
        assert "told already" in error.message, error
"""


def test_four_processes_at_once(campaign):
    workers = [
        subprocess.Popen([sys.executable, "-c", HAMMER, str(campaign.path), str(k)], stderr=subprocess.PIPE)
        for k in range(4)
    ]
    assert [w.communicate()[1] for w in workers] == [b""] * 4 and [w.returncode for w in workers] == [0] * 4
    entries, torn = Journal(campaign.path / "journal.jsonl").read()
    assert not torn
    external = [e["rows"][0]["row"][3] for e in entries if e["kind"] == "rows" and e["rows"][0]["variable"]]
    assert sorted(external) == sorted(k + n / 100 for k in range(4) for n in range(10))
    asked = [e["proposal"]["id"] for e in entries if e["kind"] == "asked"]
    told = [e["id"] for e in entries if e["kind"] == "told"]
    assert len(set(asked)) == len(asked) and len(set(told)) == len(told) and set(told) <= set(asked)


def mutants(data, rng, count):
    """Copies of a file with bits flipped, bytes removed, lines swapped or doubled, or cut short."""
    for _ in range(count):
        kind, at = rng.integers(5), int(rng.integers(len(data)))
        lines = data.splitlines(keepends=True)
        if kind == 0:
            yield data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]
        elif kind == 1:
            yield data[:at] + data[at + int(rng.integers(1, 40)) :]
        elif kind == 2:
            i, j = rng.integers(len(lines), size=2)
            lines[i], lines[j] = lines[j], lines[i]
            yield b"".join(lines)
        elif kind == 3:
            i = int(rng.integers(len(lines)))
            yield b"".join([*lines[: i + 1], lines[i], *lines[i + 1 :]])
        else:
            yield data[:at]


def mutated_journals(campaign, count):
    """Loading a mutated journal is a clear error, or gives exactly a prefix of what was
    recorded.
    """
    for n in range(4):
        campaign.tell(campaign.ask().id, {"y": float(n)})
    path, whole = campaign.path / "journal.jsonl", journal_bytes(campaign)
    original, _ = campaign._journal.read()
    rejected = 0
    for mutant in mutants(whole, np.random.default_rng(0), count):
        path.write_bytes(mutant)
        try:
            load_campaign(campaign.path)
        except AcboError as error:
            assert error.message
            rejected += 1
            continue
        entries, _ = campaign._journal.read()
        assert entries == original[: len(entries)]
    assert rejected > count / 3


@pytest.mark.filterwarnings("ignore::acbo_ref.campaign.facts.CampaignWarning")
def test_mutated_journals(campaign):
    mutated_journals(campaign, 150)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::acbo_ref.campaign.facts.CampaignWarning")
def test_two_thousand_mutated_journals(campaign):
    mutated_journals(campaign, 2000)
