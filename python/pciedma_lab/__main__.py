"""The command line: ``python3 -m pciedma_lab COMMAND``."""

from __future__ import annotations

import importlib
import sys

COMMANDS = {
    "card": "emulate a card for QEMU to attach",
    "run": "run a command in a virtual machine with emulated cards",
    "modules": "build the driver's modules for the lab's kernels",
    "tools": "run a command in the chroot with the test and lint tools",
    "demo": "move checked data through the driver and print figures",
    "bench": "measure requests through the driver, with a report",
    "coverage": "print which lines of the driver ran on the debug kernel",
    "lint": "check the style of all sources",
}


def main() -> int:
    """Run the command named by the first argument; returns the exit status."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        print("usage: python3 -m pciedma_lab COMMAND ...", file=sys.stderr)
        for name, text in COMMANDS.items():
            print(f"  {name:10} {text}", file=sys.stderr)
        return 0 if sys.argv[1:2] in (["-h"], ["--help"]) else 2
    module = importlib.import_module(f"pciedma_lab.{sys.argv[1]}_command")
    status: int = module.main(sys.argv[2:])
    return status


if __name__ == "__main__":
    sys.exit(main())
