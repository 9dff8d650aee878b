"""The command line: ``python3 -m pciedma_lab COMMAND``."""

from __future__ import annotations

import importlib
import sys

from . import project

COMMANDS = {
    "card": "emulate a card for QEMU to attach",
    "run": "run a command in a virtual machine with emulated cards",
    "modules": "build the driver's modules for the lab's kernels",
    "tools": "run a command in the chroot with the test and lint tools",
    "demo": "move checked data through the driver and print figures",
    "bench": "measure requests through the driver, with a report",
    "coverage": "print which lines of the driver ran on the debug kernel",
    "kernels": "build the modules for each kernel, run the tests on it, and print a table",
    "docs": "build the documentation",
    "deb": "build the Debian packages, twice, and compare them",
    "lint": "check the style of all sources",
}
#: What works on the project's own files, which an installed lab has not.
IN_A_CLONE = ("tools", "coverage", "kernels", "docs", "deb", "lint")


def main() -> int:
    """Run the command named by the first argument; returns the exit status."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        print("usage: python3 -m pciedma_lab COMMAND ...", file=sys.stderr)
        for name, text in COMMANDS.items():
            if project.CLONE or name not in IN_A_CLONE:
                print(f"  {name:10} {text}", file=sys.stderr)
        return 0 if sys.argv[1:2] in (["-h"], ["--help"]) else 2
    if sys.argv[1] in IN_A_CLONE and not project.CLONE:
        print(f"pciedma_lab: {sys.argv[1]} needs a clone of the project; this lab is installed", file=sys.stderr)
        return 2
    module = importlib.import_module(f"pciedma_lab.{sys.argv[1]}_command")
    status: int = module.main(sys.argv[2:])
    return status


if __name__ == "__main__":
    sys.exit(main())
