"""The C library and the examples in C, installed and compiled for tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

PROJECT = Path(__file__).parents[1]
EXAMPLES = PROJECT / "examples/c"
#: Calls the library as its arguments say; see there.
CALLER = PROJECT / "tests/python/c_library.c"

WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Werror")


def install(folder: Path, prefix: str = "/usr") -> Path:
    """Install the library below *folder*; returns the folder of the headers."""
    options = [f"DESTDIR={folder}", f"PREFIX={prefix}"]
    subprocess.run(["make", "-s", "-C", str(PROJECT / "c"), "install", *options], check=True)
    return folder / prefix.lstrip("/") / "include"


def compile(
    source: Path, target: Path, include: Path, *options: str, compiler: str = "cc"
) -> subprocess.CompletedProcess[str]:
    """Compile a program, warnings as errors; returns how that ended."""
    path = shutil.which(compiler)
    assert path, f"there is no {compiler} here"
    language = "c++" if "++" in compiler else "c"
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [path, *WARNINGS, *options, f"-I{include}", "-x", language, str(source), "-o", str(target)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def compiled(source: Path, target: Path, include: Path, *options: str, compiler: str = "cc") -> Path:
    """Compile a program and insist that it can be done without a warning."""
    result = compile(source, target, include, *options, compiler=compiler)
    assert (result.returncode, result.stderr) == (0, "")
    return target
