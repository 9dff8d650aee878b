"""The command ``kernels``: the modules built for each kernel, the tests run on those that boot, and a table of both."""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

from . import cache, kernels, kernels_report, modules, tools_command
from .cache import LabError
from .chroot import PROJECT
from .kernels_report import Build

#: What pytest ends with when it came to the end of the tests, whether they passed or not.
_CAME_TO_THE_END = (0, 1)
#: Two processes of pytest, each with its own machines: while one boots, the other tests.
_TWO_AT_ONCE = ("-n", "2", "--dist", "worksteal")


def main(argv: list[str]) -> int:
    """Check, and print the table; returns 1 if a kernel is not good: warnings, failures, or nothing known of it."""
    parser = argparse.ArgumentParser(prog="pciedma_lab kernels", description=__doc__)
    parser.add_argument("--kernel", action="append", choices=kernels_report.CHECKED, help="repeatable; default: all")
    parser.add_argument("--report", action="store_true", help="only print what is known")
    parser.add_argument("--again", action="store_true", help="check also what was checked and found good")
    arguments = parser.parse_args(argv)
    names = arguments.kernel or kernels_report.CHECKED
    try:
        kernels_report.sources()
        for name in () if arguments.report else names:
            _try_to_check(name, again=arguments.again)
        sources, commit = kernels_report.sources(), kernels_report.commit()
    except LabError as error:
        print(f"pciedma_lab: {error}", file=sys.stderr)
        return 1
    rows = [kernels_report.judge(name, sources) for name in names]
    for line in kernels_report.table(rows):
        print(line)
    print(kernels_report.closing_line(rows, sources, commit))
    return 0 if all(row.is_good for row in rows) else 1


def _try_to_check(name: str, *, again: bool) -> None:
    """Check a kernel; one that cannot be checked is without a row, and the others are checked all the same."""
    try:
        check(name, again=again)
    except LabError as error:
        print(f"pciedma_lab: {name}: {error}", file=sys.stderr)


def check(name: str, *, again: bool) -> None:
    """Build the modules for a kernel and run the tests on it, unless it is known to be good; raises LabError."""
    kernel = kernels.provide(name)
    with cache.locked(kernels_report.lock(name)):
        sources = kernels_report.sources()
        if not again and kernels_report.judge(name, sources).is_good:
            cache.say(f"{name} was checked and is good; --again checks it anew")
            return
        with cache.step(f"checking {name}", f"{kernel.release} ({kernel.version})"):
            _check(kernel, sources)
        if kernels_report.sources() != sources:
            kernels_report.forget(name)
            cache.say(f"the sources were changed while {name} was checked, which so does not count")


def _check(kernel: kernels.Kernel, sources: str) -> None:
    build = _build(kernel, sources)
    kernels_report.write_build(kernel.series.name, build)
    if kernel.series.boots and not build.error:
        _test(kernel.series.name, sources)


def _build(kernel: kernels.Kernel, sources: str) -> Build:
    """Build the modules anew, with all warnings, and return how that went."""
    name = kernel.series.name
    kernels_report.build_note(name).unlink(missing_ok=True)
    failure = None
    start = time.monotonic()
    try:
        modules.build(name, warnings_are_errors=True)
    except modules.BuildFailed as error:
        print(error, file=sys.stderr, flush=True)
        failure = error
    return Build(
        version=kernel.version,
        release=kernel.release,
        sources=sources,
        compiler=compiler(modules.BUILD / name / "checked/pciedma.ko"),
        warnings=failure.warnings if failure else 0,
        error=failure is not None and not failure.warnings,
        seconds=time.monotonic() - start,
    )


def compiler(module: Path) -> str:
    """Return what compiled a module, by its own words: ``gcc 14.2.0``; empty if it is not there."""
    found = re.search(rb"GCC: \([^)\0]*\) ([\d.]+)", module.read_bytes() if module.exists() else b"")
    return f"gcc {found[1].decode()}" if found else ""


def _test(name: str, sources: str) -> None:
    """Run the virtual machine tests on a kernel; only what came to the end leaves a report."""
    report = kernels_report.tests_report(name)
    report.unlink(missing_ok=True)
    partial = report.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    words = ["env", "-u", "PYTEST_ADDOPTS", f"PCIEDMA_KERNEL={name}", f"{kernels_report.SOURCES_VARIABLE}={sources}"]
    words += ["PCIEDMA_COMBINATIONS=all", "PCIEDMA_TIME_LIMIT_S=9000"]
    words += ["python3", "-m", "pytest", "-p", "no:cacheprovider", *_TWO_AT_ONCE, "-m", "not fixed_kernel"]
    words += [f"--junit-xml={partial}", str(PROJECT / "tests/vm")]
    if tools_command.main(["--", *words]) in _CAME_TO_THE_END and partial.exists():
        partial.rename(report)
