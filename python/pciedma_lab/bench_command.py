"""The command ``bench``: measure requests through the XDMA driver, and write the figures and a report with plots."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from . import bench_report, bench_table, modules
from .bench_measure import measure
from .bench_plan import BOOTS, Case, cases
from .bench_profile import profile
from .cache import LabError
from .guest_process import GuestError
from .machine import MachineFailed, prepare

_BOOT = "only the rows of this boot; may be repeated"
_CASE = "only rows whose names fit, as icount-off/read/4KiB/*; may be repeated"
_BESIDE = "another clone: measure the same with its driver, too, and show both and the ratio"
_PROFILE = "measure nothing, but print which functions the instructions of a request are in; may be repeated"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pciedma_lab bench", description=__doc__)
    parser.add_argument("--kernel", default="trixie")
    parser.add_argument("--boot", choices=BOOTS, action="append", help=_BOOT)
    parser.add_argument("--case", action="append", default=[], metavar="PATTERN", help=_CASE)
    parser.add_argument("--beside", type=Path, metavar="FOLDER", help=_BESIDE)
    parser.add_argument("--profile", action="append", default=[], metavar="PATTERN", help=_PROFILE)
    parser.add_argument("--output", type=Path, default=modules.BUILD / "bench.json", help="and .html beside it")
    return parser


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    boots = arguments.boot or BOOTS
    if arguments.profile:
        boots = [boot for boot in boots if boot.startswith("icount")]
    todo = {boot: cases(boot, arguments.profile or arguments.case) for boot in boots}
    if not any(todo.values()):
        names = "\n  ".join(case.name for boot in boots for case in cases(boot))
        parser.error(f"no row fits; there are\n  {names}")
    begin = time.monotonic()
    try:
        prepare(arguments.kernel)
        older = _build(arguments.kernel, arguments.beside)
        if arguments.profile:
            for text in _profiles(arguments.kernel, todo, older):
                print(text, end="\n\n")
            return 0
        rows = _measured(arguments.kernel, todo, older)
    except (LabError, MachineFailed, GuestError) as error:
        print(f"pciedma_lab: {error}", file=sys.stderr)
        return 1
    page = _write(arguments.output, rows)
    if arguments.case or arguments.beside:
        print(bench_table.text(rows))
    print(f"{len(rows)} rows in {time.monotonic() - begin:.0f} s: {arguments.output}, {page}")
    return 0


def _build(kernel: str, clone: Path | None) -> list[Path]:
    """Return the modules of another clone's driver, built now; none if there is no other."""
    if clone is None:
        return []
    return modules.modules_in(modules.build_folder(kernel, clone / "src"))


def _measured(kernel: str, todo: Mapping[str, Sequence[Case]], older: Sequence[Path]) -> list[dict[str, Any]]:
    """Measure all rows; of two states of the driver, one boot of the one and then the same of the other."""
    rows = []
    for boot, chosen in todo.items():
        if chosen:
            found = measure(kernel, boot, chosen)
            others = measure(kernel, boot, chosen, older) if older else []
            rows += [bench_table.compared(*pair) for pair in zip(found, others, strict=True)] if older else found
    return rows


def _profiles(kernel: str, todo: Mapping[str, Sequence[Case]], older: Sequence[Path]) -> Iterator[str]:
    """Give the text of each profile; of two states of the driver, both in one."""
    for chosen in filter(None, todo.values()):
        found = profile(kernel, chosen)
        others = profile(kernel, chosen, older) if older else []
        for one, other in zip_longest(found, others):
            yield one.text(other)


def _write(output: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write the rows, and beside them the report, whose file it returns."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(rows, indent=1) + "\n")
    page = output.with_suffix(".html")
    page.write_text(bench_report.html(rows))
    return page
