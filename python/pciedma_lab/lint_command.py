"""The command ``lint``: the kernel's and Python's style checkers over all sources, and the check of core's layers."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
from pathlib import Path

from . import cache, chroot, kernels, layers, modules
from .cache import LabError

_SOURCE_PACKAGE = "linux-source-6.12"
_SCRIPTS = ("checkpatch.pl", "spelling.txt", "const_structs.checkpatch")

#: Debian's sparse does not know what the newest kernel's headers are written in (__typeof_unqual__).
_SPARSE = ("bookworm", "trixie")
#: What checkpatch's rules do not fit: macros that are statements; tracepoints, whose layout is the kernel's own.
_IGNORED = "MACRO_ARG_REUSE"
_IGNORED_IN_TRACE = f"{_IGNORED},OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT"

#: The card of docs/add-a-card.md.
_EXAMPLE = chroot.PROJECT / "examples/card/loop.py"


def main(argv: list[str]) -> int:
    """Run all checkers; returns 1 if any found something."""
    argparse.ArgumentParser(prog="pciedma_lab lint", description=__doc__).parse_args(argv)
    results = {
        "ruff": _tool(["ruff", "check", "--no-cache", "python", "tests", "docs", "examples"]),
        "mypy": _tool(["mypy", "--no-error-summary"]),
        "checkpatch": _checkpatch(),
        "kernel-doc": _kernel_doc(),
        "sparse and W=1": _modules(),
    }
    if (chroot.PROJECT / layers.TABLE).exists():
        results["layers"] = _layers()
    for name, clean in results.items():
        print(f"{name}: {'clean' if clean else 'NOT CLEAN'}")
    return 0 if all(results.values()) else 1


def _tool(argv: list[str]) -> bool:
    command = chroot.TOOLS.command(argv, chroot.PROJECT)
    return subprocess.run(command, env=chroot.environment(), check=False).returncode == 0


def _checkpatch() -> bool:
    scripts = cache.provide(cache.root() / f"checkpatch-{_SOURCE_PACKAGE}", _fetch_scripts)
    clean = True
    for path in _sources():
        ignored = _IGNORED_IN_TRACE if path.name == "trace.h" else _IGNORED
        options = ["--no-tree", "--strict", "--terse", "--no-summary", "--ignore", ignored, "-f"]
        clean &= _tool(["perl", str(scripts / _SCRIPTS[0]), *options, str(path)])
    return clean


def _sources() -> list[Path]:
    found = [*(chroot.PROJECT / "src").rglob("*.[ch]"), *_EXAMPLE.parent.glob("*.[ch]")]
    return sorted(path for path in found if not path.name.endswith(".mod.c"))


def _kernel_doc() -> bool:
    script = next(kernels.provide("trixie").folder.glob("usr/lib/linux-kbuild-*/scripts/kernel-doc"))
    return _tool(["perl", str(script), "-none", "-Wall", "-Werror", *map(str, _sources())])


def _fetch_scripts(target: Path) -> None:
    """Take checkpatch out of the kernel's source package."""
    target.mkdir(parents=True)
    cache.say(f"downloading {_SOURCE_PACKAGE} (150 MB) for its checkpatch.pl")
    archive = f"{_SOURCE_PACKAGE}.tar.xz"
    script = (
        f"apt-get -qq download {_SOURCE_PACKAGE}"
        f" && dpkg-deb --fsys-tarfile *.deb | tar -xO ./usr/src/{archive} > {archive} && rm *.deb"
    )
    chroot.BUILDERS["trixie"].run(["sh", "-c", script], cwd=target)
    with tarfile.open(target / archive, mode="r|xz") as tar:
        for member in tar:
            name = member.name.removeprefix(f"{_SOURCE_PACKAGE}/scripts/")
            if name in _SCRIPTS and (file := tar.extractfile(member)):
                (target / name).write_bytes(file.read())
    (target / archive).unlink()


def _modules() -> bool:
    clean = True
    for series in kernels.SUPPORTED:
        try:
            modules.build(series, [_EXAMPLE], warnings_are_errors=True, sparse=series in _SPARSE)
        except LabError as error:
            print(error, file=sys.stderr)
            clean = False
    return clean


def _layers() -> bool:
    """Check core by its table of layers: the sources, and the objects of a build, which lie as its sources do."""
    faults: list[str] = []
    try:
        table = layers.read(chroot.PROJECT)
        report = layers.report(table)
        print(report.summary)
        faults += report.faults
        modules.build("trixie")
        symbols = chroot.TOOLS.run([*layers.NM, *layers.objects(table)], cwd=modules.BUILD / "trixie")
        faults += layers.calls(table, symbols)
    except LabError as error:
        faults.append(str(error))
    for fault in faults:
        print(fault, file=sys.stderr)
    return not faults
