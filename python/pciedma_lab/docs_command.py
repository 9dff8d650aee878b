"""The command ``docs``: the documentation as HTML and as man pages, in a chroot with Sphinx."""

from __future__ import annotations

import argparse
import subprocess
import sys

from . import cache, chroot, modules
from .cache import LabError

_BUILDERS = ("html", "man")


def main(argv: list[str]) -> int:
    """Build all; returns 1 if Sphinx had anything to say."""
    parser = argparse.ArgumentParser(prog="pciedma_lab docs", description=__doc__)
    parser.add_argument("--suite", choices=chroot.DOCS, default="trixie", help="the Debian whose Sphinx builds")
    arguments = parser.parse_args(argv)
    try:
        with cache.locked(modules.BUILD / "docs/lock"):
            clean = [_build(arguments.suite, builder) for builder in _BUILDERS]
    except LabError as error:
        print(f"pciedma_lab: {error}", file=sys.stderr)
        return 1
    return 0 if all(clean) else 1


def _build(suite: str, builder: str) -> bool:
    output = modules.BUILD / "docs" / builder
    words = ["python3", "-m", "sphinx", "-q", "-W", "--keep-going", "-E", "-b", builder]
    words += ["-d", str(output.with_name("doctrees")), str(chroot.PROJECT / "docs"), str(output)]
    command = chroot.DOCS[suite].command(words)
    cache.remove(output)
    clean = subprocess.run(command, env=chroot.environment(), stdin=subprocess.DEVNULL, check=False).returncode == 0
    print(f"{builder}: {output}" if clean else f"{builder}: NOT CLEAN")
    return clean
