"""The command ``coverage``: which lines of the driver ran on the debug kernel, over all machines of a run."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections import defaultdict
from pathlib import Path

from . import cache, junit, modules, project
from .cache import LabError
from .chroot import KERNEL_BUILDER
from .machine import VERDICT

_BUILT = modules.BUILD / "debug"
_FILE = re.compile(r"/debug/[^/]+/((?:core|cards)/.+)$")

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
    tests = junit.parse(arguments.tests.read_text()).passed if arguments.tests else None
    reports = count_reports(machines)
    print(closing_line(lines, len(machines), reports, tests))
    return 0 if lines and reports == 0 else 1


def collect(folders: list[Path]) -> Lines:
    """Return the sum over the data of several machines; raises LabError if gcov fails."""
    total: Lines = defaultdict(lambda: defaultdict(int))
    with cache.locked(_BUILT / "lock"):
        for folder in folders:
            for built in sorted(folder.glob("*/")):  # none if no module was loaded there
                for name, counts in _of_modules(built).items():
                    for line, count in counts.items():
                        total[name][line] += count
    return total


def _of_modules(folder: Path) -> Lines:
    """Let gcov read what a machine's modules have left beside what the compiler has; what has left nothing did not run.

    *folder* has the name of the one in which they were built.
    """
    sources = _BUILT / folder.name
    objects = []
    for notes in sorted(sources.glob("c*/**/*.gcno")):
        place = notes.with_suffix(".gcda")
        place.unlink(missing_ok=True)
        data = folder / place.relative_to(sources)
        if data.exists():
            shutil.copy(data, place)
        objects.append(str(notes.relative_to(sources)))
    if not objects:
        return {}
    text = KERNEL_BUILDER.run(["gcov", "--json-format", "--stdout", *objects], cwd=sources)
    return merged(text.splitlines())


def merged(documents: list[str]) -> Lines:
    """Return the counts in gcov's JSON *documents*, of the driver's own files alone."""
    lines: Lines = defaultdict(lambda: defaultdict(int))
    for document in documents:
        for file in json.loads(document)["files"]:
            found = _FILE.search(file["file"])
            if found and (project.SOURCE / found[1]).exists():
                for line in file["lines"]:
                    lines[found[1]][line["line_number"]] += line["count"]
    return lines


def table(lines: Lines) -> list[str]:
    """Return a row for each file and one for all: lines that ran, lines, share."""
    rows = [(name, sum(map(bool, counts.values())), len(counts)) for name, counts in sorted(lines.items())]
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    return [f"{name:24} {ran:5} of {count:5} lines {100 * ran / max(count, 1):5.1f} %" for name, ran, count in rows]


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
