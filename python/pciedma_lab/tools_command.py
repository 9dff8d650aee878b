"""The command ``tools``: a command in the chroot with the test and lint tools."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from . import chroot
from .cache import LabError


def main(argv: list[str]) -> int:
    """Run ``[--] COMMAND...`` there, in the current folder, and return its exit status; 125 if the lab failed."""
    argv = argv[1:] if argv[:1] == ["--"] else argv
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: python3 -m pciedma_lab tools -- COMMAND [ARGUMENT...]", file=sys.stderr)
        return 0 if argv else 2
    try:
        if os.environ.get(chroot.INSIDE) == chroot.TOOLS.name:
            return subprocess.run(argv, check=False).returncode
        folder = Path.cwd() if Path.cwd().is_relative_to(chroot.PROJECT) else chroot.PROJECT
        command = chroot.TOOLS.command(argv, folder)
        status = subprocess.run(command, env=chroot.environment(), check=False).returncode
    except LabError as error:
        print(f"pciedma_lab: {error}", file=sys.stderr)
        return 125
    return status if status >= 0 else 128 - status
