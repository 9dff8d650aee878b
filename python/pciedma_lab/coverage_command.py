"""The command ``coverage``: which lines of the driver ran on the debug kernel, over all machines of a run."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections import defaultdict
from pathlib import Path

from . import modules
from .cache import LabError
from .chroot import KERNEL_BUILDER

_SOURCES = modules.BUILD / "debug" / "src"

#: By file, by line: how often it ran.
Lines = dict[str, dict[int, int]]


def main(argv: list[str]) -> int:
    """Print the table; returns 1 if there is nothing to print."""
    parser = argparse.ArgumentParser(prog="pciedma_lab coverage", description=__doc__)
    parser.add_argument("--machines", type=Path, default=modules.BUILD / "vm", help="folder of the machines' folders")
    arguments = parser.parse_args(argv)
    try:
        lines = collect(sorted(arguments.machines.glob("debug-*/results/gcda")))
    except LabError as error:
        print(f"pciedma_lab: {error}", file=sys.stderr)
        return 1
    for row in table(lines):
        print(row)
    return 0 if lines else 1


def collect(folders: list[Path]) -> Lines:
    """Return the sum over the data of several machines; raises LabError if gcov fails."""
    total: Lines = defaultdict(lambda: defaultdict(int))
    for folder in folders:
        for name, counts in _of_machine(folder).items():
            for line, count in counts.items():
                total[name][line] += count
    return total


def _of_machine(folder: Path) -> Lines:
    """Let gcov read what one machine has left beside what the compiler has."""
    objects = []
    for data in sorted(folder.rglob("*.gcda")):
        place = _SOURCES / data.relative_to(folder)
        if place.with_suffix(".gcno").exists():
            shutil.copy(data, place)
            objects.append(str(place.relative_to(_SOURCES)))
    if not objects:
        return {}
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
