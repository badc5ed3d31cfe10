"""Mutation testing: run mutmut's mutants by forking from one process that has collected the tests.

    pip install mutmut
    mutmut run --max-children 1             stop it when it begins to test: mutants and statistics
                                            of which test meets which function are then there
    cd mutants && python ../tests/mutation.py results.json [PREFIX,PREFIX,...] [SECONDS]
    python tests/mutation.py --table mutants/results.json

mutmut itself starts pytest anew for every mutant. A mutant meets the tests that call its function,
those first that killed a mutant of this function before, then the quickest; the first failure kills
it, and so does a limit of time. It lives if all pass. With SECONDS it meets only as many tests as
take that long together, and one that passes these is left "open" for a run without. A run that was
stopped goes on where it was.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

SAVE_EVERY = 20  # seconds
KILLED, LIVED, NO_TEST, TIMEOUT, OPEN = "killed", "lived", "no test", "timeout", "open"
FAILED_CODE = 77


def mutants() -> list[str]:
    """Names of all mutants, from the files that mutmut left beside the mutated modules."""
    found = []
    for path in sorted(Path(".").rglob("*.py.meta")):
        found += json.loads(path.read_text())["exit_code_by_key"]
    return found


def room(mutant: str) -> str:
    """The module of a mutant, without `acbo_ref.`"""
    return ".".join(mutant.split(".")[1:-1])


class Runner:
    """A pytest plugin that runs mutants in place of the tests."""

    def __init__(self, results: Path, prefix: str, budget: float | None) -> None:
        statistics = json.loads(Path("mutmut-stats.json").read_text())
        self.tests = statistics["tests_by_mangled_function_name"]
        self.seconds = statistics["duration_by_test"]
        self.path, self.prefix, self.budget = results, prefix, budget
        self.results: dict[str, str] = json.loads(results.read_text()) if results.exists() else {}
        self.killers: dict[str, Counter[str]] = defaultdict(Counter)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        self.charge_fixtures(session.items)
        saved = time.monotonic()
        again = () if self.budget is not None else (OPEN,)
        todo = [
            name
            for prefix in self.prefix.split(",")
            for name in mutants()
            if name.startswith(prefix) and (name not in self.results or self.results[name] in again)
        ]
        for number, name in enumerate(todo):
            function = name.rsplit("__mutmut_", 1)[0]
            met = [test for test in self.tests.get(function, ()) if test in items]
            killers = self.killers[function]
            met.sort(key=lambda test: (-killers[test], self.seconds.get(test, 1.0)))
            few = self.affordable(met)
            self.results[name], killer = self.judge(name, [items[test] for test in few])
            if self.results[name] == LIVED and len(few) < len(met):
                self.results[name] = OPEN
            if killer:
                killers[killer] += 1
            if time.monotonic() - saved > SAVE_EVERY or number == len(todo) - 1:
                self.path.write_text(json.dumps(self.results, indent=0))
                saved = time.monotonic()
                print(f"{number + 1} of {len(todo)}", dict(Counter(self.results.values())), flush=True)
        return True

    def charge_fixtures(self, items: list[pytest.Item]) -> None:
        """Add to the seconds of every test those of the fixtures that it shares with others: only
        the first of them was charged, and here each mutant has to set them up again.
        """
        sharing: dict[tuple[str, ...], list[pytest.Item]] = defaultdict(list)
        for item in items:
            fixtures = getattr(item, "_fixtureinfo").name2fixturedefs  # noqa: B009
            shared = [f"{d[-1].baseid}::{n}" for n, d in fixtures.items() if d[-1].scope in ("module", "session")]
            shared = sorted(name for name in shared if name.startswith("tests"))
            if shared:
                sharing[tuple(shared)].append(item)
        for together in sharing.values():
            quickest = min(together, key=lambda item: self.seconds.get(item.nodeid, 1.0))
            begin = time.monotonic()
            self.judge("", [quickest])
            seconds = time.monotonic() - begin
            for item in together:
                self.seconds[item.nodeid] = max(self.seconds.get(item.nodeid, 1.0), seconds)

    def affordable(self, tests: list[str]) -> list[str]:
        """The first of these tests, as long as they fit the budget; a handful at least."""
        if self.budget is None:
            return tests
        spent = list(itertools.accumulate(self.seconds.get(test, 1.0) for test in tests))
        return tests[: max(5, sum(total <= self.budget for total in spent))]

    def judge(self, name: str, chosen: list[pytest.Item]) -> tuple[str, str | None]:
        """What became of a mutant, and the test that killed it."""
        if not chosen:
            return NO_TEST, None
        limit = 20 + int(10 * sum(self.seconds.get(item.nodeid, 1.0) for item in chosen))
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.environ["MUTANT_UNDER_TEST"] = name
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            signal.setitimer(signal.ITIMER_PROF, limit)  # of processor time: the machine may be busy
            signal.alarm(20 * limit)  # the default action of both ends the process
            for item, following in zip(chosen, [*chosen[1:], None], strict=True):
                reports = runtestprotocol(item, log=False, nextitem=following)
                if any(report.failed for report in reports):
                    os.write(write, item.nodeid.encode())
                    os._exit(FAILED_CODE)
            os._exit(0)
        os.close(write)
        _, status = os.waitpid(child, 0)
        killer = os.read(read, 10_000).decode()
        os.close(read)
        if os.WIFSIGNALED(status):
            return TIMEOUT, None
        return (KILLED, killer) if os.WEXITSTATUS(status) else (LIVED, None)


def table(results: dict[str, str]) -> str:
    """A Markdown table of a module a row, and the names of those that lived."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for name, what in results.items():
        rows[room(name)][what] += 1
        rows["all"][what] += 1
    lines = ["| module | mutants | killed | lived | met no test | share killed |", "| -- | -- | -- | -- | -- | -- |"]
    for name in sorted(rows, key=lambda n: (n == "all", n)):
        counts = rows[name]
        total, killed = sum(counts.values()), counts[KILLED] + counts[TIMEOUT]
        lived = counts[LIVED] + counts[OPEN]
        lines.append(f"| {name} | {total} | {killed} | {lived} | {counts[NO_TEST]} | {killed / total:.1%} |")
    survivors = [f"{what}: {name}" for name, what in results.items() if what in (LIVED, OPEN, NO_TEST)]
    return "\n".join([*lines, "", *survivors])


if __name__ == "__main__":
    if sys.argv[1] == "--table":
        print(table(json.loads(Path(sys.argv[2]).read_text())))
    else:
        sys.path.insert(0, os.getcwd())
        prefix, *seconds = [*sys.argv[2:], ""] if len(sys.argv) < 4 else sys.argv[2:4]
        runner = Runner(Path(sys.argv[1]).resolve(), prefix, float(seconds[0]) if seconds and seconds[0] else None)
        files = sorted({test.split("::")[0] for tests in runner.tests.values() for test in tests})
        sys.exit(
            pytest.main(["-p", "no:cacheprovider", "-q", "--tb=no", "-p", "no:randomly", *files], plugins=[runner])
        )
