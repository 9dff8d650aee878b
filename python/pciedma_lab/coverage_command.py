"""The command ``coverage``: which lines of the driver ran on the debug kernel, over all machines of a run."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

from . import cache, modules
from .cache import LabError
from .chroot import KERNEL_BUILDER
from .machine import VERDICT

_SOURCES = modules.BUILD / "debug" / "src"

#: By file, by line: how often it ran.
Lines = dict[str, dict[int, int]]


def main(argv: list[str]) -> int:
    """Print the table and one closing line; returns 1 if there is nothing to count or a run was not clean."""
    parser = argparse.ArgumentParser(prog="pciedma_lab coverage", description=__doc__)
    parser.add_argument("--machines", type=Path, default=modules.BUILD / "vm", help="folder of the machines' folders")
    parser.add_argument("--tests", type=Path, metavar="FILE", help="pytest's JUnit report of the run")
    arguments = parser.parse_args(argv)
    machines = sorted(arguments.machines.glob("debug-*"))
    try:
        lines = collect([machine / "results/gcda" for machine in machines])
    except LabError as error:
        print(f"pciedma_lab: {error}", file=sys.stderr)
        return 1
    for row in table(lines):
        print(row)
    tests = passed(arguments.tests.read_text()) if arguments.tests else None
    reports = count_reports(machines)
    print(closing_line(lines, len(machines), reports, tests))
    return 0 if lines and reports == 0 else 1


def collect(folders: list[Path]) -> Lines:
    """Return the sum over the data of several machines; raises LabError if gcov fails."""
    total: Lines = defaultdict(lambda: defaultdict(int))
    with cache.locked(modules.BUILD / "debug" / "lock"):
        for folder in folders:
            if folder.is_dir():  # else no module was loaded there
                for name, counts in _of_machine(folder).items():
                    for line, count in counts.items():
                        total[name][line] += count
    return total


def _of_machine(folder: Path) -> Lines:
    """Let gcov read what one machine has left beside what the compiler has; what has left nothing did not run."""
    objects = []
    for notes in sorted(_SOURCES.glob("c*/*.gcno")):
        place = notes.with_suffix(".gcda")
        place.unlink(missing_ok=True)
        data = folder / place.relative_to(_SOURCES)
        if data.exists():
            shutil.copy(data, place)
        objects.append(str(notes.relative_to(_SOURCES)))
    text = KERNEL_BUILDER.run(["gcov", "--json-format", "--stdout", *objects], cwd=_SOURCES)
    return merged(text.splitlines())


def merged(documents: list[str]) -> Lines:
    """Return the counts in gcov's JSON *documents*, of our own files alone."""
    lines: Lines = defaultdict(lambda: defaultdict(int))
    for document in documents:
        for file in json.loads(document)["files"]:
            name = file["file"].split("/debug/src/")[-1]
            if name.startswith(("core/", "cards/")):
                for line in file["lines"]:
                    lines[name][line["line_number"]] += line["count"]
    return lines


def table(lines: Lines) -> list[str]:
    """Return a row for each file and one for all: lines that ran, lines, share."""
    rows = [(name, sum(map(bool, counts.values())), len(counts)) for name, counts in sorted(lines.items())]
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    return [f"{name:24} {ran:5} of {count:5} lines {100 * ran / max(count, 1):5.1f} %" for name, ran, count in rows]


def passed(report: str) -> int:
    """Return how many tests passed, of pytest's JUnit *report*."""
    suites = list(ElementTree.fromstring(report).iter("testsuite"))
    return sum(
        int(suite.get("tests", 0)) - sum(int(suite.get(name, 0)) for name in ("failures", "errors", "skipped"))
        for suite in suites
    )


def count_reports(machines: list[Path]) -> int:
    """Return how much the verdicts on these machines say; one that was not judged counts as one."""
    verdicts = [machine / VERDICT for machine in machines]
    return sum(len(json.loads(path.read_text())) if path.exists() else 1 for path in verdicts)


def closing_line(lines: Lines, machines: int, reports: int, tests: int | None) -> str:
    """Return the run in one line."""
    ran = sum(count > 0 for counts in lines.values() for count in counts.values())
    share = 100 * ran / max(sum(map(len, lines.values())), 1)
    words = [] if tests is None else [f"{tests} tests passed"]
    words += [f"{machines} machines, {reports} reports", f"{share:.1f} % of the driver's lines ran"]
    return f"the debug kernel: {'; '.join(words)}"
