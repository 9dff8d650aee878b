"""What is known of the driver on each kernel, kept in ``build/kernels``, and the table of it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from . import cache, junit, kernels, modules
from .cache import LabError
from .chroot import PROJECT

FOLDER = modules.BUILD / "kernels"

#: The kernels that the table has; the debug kernel has a report of its own.
CHECKED = tuple(name for name, series in kernels.SERIES.items() if not series.is_debug)

#: What the modules and the tests on a machine are made of, in git's words. No test there runs the tool, or needs what
#: packages, documents and lints, or installs whole systems. The page is there for its commands, which are a test.
_SOURCES = (
    "src", "python", "c", "examples", "tests/vm", ":(glob)tests/*.py", "setup.cfg", "docs/add-a-card.md",
    ":(exclude)python/pciedma/tool", ":(exclude)python/pciedma/__main__.py",
    *(
        f":(exclude)python/pciedma_lab/{name}.py"
        for name in ("deb_command", "docs_command", "layers", "lint_command", "installed", "secure_boot")
    ),
)

#: The variable by which the tests are told of which sources they are.
SOURCES_VARIABLE = "PCIEDMA_SOURCES"

_TITLES = ("series", "kernel", "compiler", "warnings", "passed", "failed", "skipped", "minutes", "")


@dataclass(frozen=True)
class Build:
    """How the modules' build for a kernel went: of which ``version``, from which ``sources``; ``error``: not at all."""

    version: str
    release: str
    sources: str
    compiler: str = ""
    warnings: int = 0
    error: bool = False
    seconds: float = 0


@dataclass(frozen=True)
class Row:
    """A kernel's row of the table; ``problems`` say why it is not good."""

    series: str
    build: Build | None = None
    tests: junit.Report | None = None
    problems: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether the kernel was checked and nothing was found."""
        return not self.problems

    def cells(self) -> tuple[str, ...]:
        """Return the row's texts, in the order of the titles."""
        build, tests = self.build, self.tests
        if build is None:
            return (self.series, *"-------", ", ".join(self.problems))
        return (
            self.series,
            f"{build.release} ({build.version})",
            build.compiler or "-",
            "-" if build.error else str(build.warnings),
            *((str(tests.passed), str(tests.failed), str(tests.skipped)) if tests else "---"),
            f"{(build.seconds + (tests.seconds if tests else 0)) / 60:.1f}",
            ", ".join(self.problems),
        )


def build_note(name: str) -> Path:
    """Return the file that says how the build for a kernel went."""
    return FOLDER / f"{name}.json"


def tests_report(name: str) -> Path:
    """Return the file with pytest's report of the tests on a kernel."""
    return FOLDER / f"{name}.xml"


def lock(name: str) -> Path:
    """Return the file that is locked while a kernel is checked."""
    return FOLDER / f"{name}.lock"


def forget(name: str) -> None:
    """Remove what is known of a kernel."""
    build_note(name).unlink(missing_ok=True)
    tests_report(name).unlink(missing_ok=True)


def sources() -> str:
    """Return what tells these sources from all others: a hash of them, new and changed files included.

    Raises LabError where there is no git repository to list them.
    """
    total = hashlib.sha256()
    for name in sorted(set(_git("ls-files", "-coz", "--exclude-standard", "--", *_SOURCES).split("\0")) - {""}):
        path = PROJECT / name
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "-"
        total.update(f"{name}\0{content}\0".encode())
    return total.hexdigest()[:12]


def tested_sources() -> str:
    """Return of which sources a run of the tests is: those that who runs them has seen, else those of now."""
    return os.environ.get(SOURCES_VARIABLE) or sources()


def commit() -> str:
    """Return the commit that the project is at, as git describes it."""
    return _git("describe", "--always", "--dirty").strip()


def _git(*words: str) -> str:
    command = ["git", "-c", "safe.directory=*", "-c", "core.excludesFile=/dev/null", *words]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if result.returncode:
        raise LabError(f"git cannot tell which sources these are: {result.stderr.strip()}")
    return result.stdout


def write_build(name: str, build: Build) -> None:
    """Note how the build for a kernel went."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    cache.write(build_note(name), json.dumps(asdict(build)))


def _read_build(name: str) -> Build | None:
    try:
        return Build(**json.loads(build_note(name).read_text()))
    except (OSError, ValueError, TypeError):  # none, or another edition's
        return None


def _read_tests(name: str) -> junit.Report | None:
    try:
        return junit.parse(tests_report(name).read_text())
    except (OSError, ValueError):
        return None


def judge(name: str, current_sources: str) -> Row:
    """Return the row of a kernel, from what is kept; what is of other sources or of another kernel does not count."""
    build, kernel = _read_build(name), kernels.known(name)
    if build is None or kernel is None:
        return Row(name, problems=("not built",))
    if build.sources != current_sources:
        return Row(name, problems=("built from other sources",))
    if build.version != kernel.version:
        return Row(name, problems=(f"built for {build.version}, but there is {kernel.version}",))
    if build.error:
        return Row(name, build, problems=("does not build",))
    row = Row(name, build, problems=("warnings",) if build.warnings else ())
    return _with_tests(row, build) if kernel.series.boots else row


def _with_tests(row: Row, build: Build) -> Row:
    """Return the row with the tests, if they are of this build's sources and kernel."""
    tests = _read_tests(row.series)
    if tests is None:
        return replace(row, problems=(*row.problems, "no report of the tests"))
    if tests.properties.get("sources") != build.sources:
        return replace(row, problems=(*row.problems, "tests of other sources"))
    if not {build.release, build.version} <= set(tests.properties.get("kernel", "").split()):
        return replace(row, problems=(*row.problems, "tests on another kernel"))
    problems = [*row.problems]
    problems += ["tests failed"] if tests.failed else []
    problems += ["no test passed"] if not tests.passed else []
    return replace(row, tests=tests, problems=tuple(problems))


def table(rows: list[Row]) -> list[str]:
    """Return the lines of the table: texts to the left, numbers to the right."""
    cells = [_TITLES, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_TITLES))]
    return ["  ".join(_aligned(line, widths)).rstrip() for line in cells]


def _aligned(line: tuple[str, ...], widths: list[int]) -> list[str]:
    numbers = range(_TITLES.index("warnings"), len(_TITLES) - 1)
    return [
        cell.rjust(width) if column in numbers else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]


def closing_line(rows: list[Row], current_sources: str, at_commit: str) -> str:
    """Return the table in one line, and what it is about."""
    good = sum(row.is_good for row in rows)
    return f"{good} of {len(rows)} kernels are good; sources {current_sources}, commit {at_commit}"
