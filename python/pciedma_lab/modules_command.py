"""The command ``modules``: the driver's modules, built for the lab's kernels."""

from __future__ import annotations

import argparse
import sys

from . import kernels, modules
from .cache import LabError


def main(argv: list[str]) -> int:
    """Build and print the folders with the modules; returns 1 if a build failed."""
    parser = argparse.ArgumentParser(prog="pciedma_lab modules", description="Build the driver's modules.")
    parser.add_argument(
        "--kernel",
        action="append",
        choices=list(kernels.SERIES),
        help="may be repeated; default: all that are supported",
    )
    parser.add_argument("--warnings-are-errors", action="store_true", help="build anew and refuse warnings")
    parser.add_argument("--sparse", action="store_true", help="build anew and let sparse look at it")
    arguments = parser.parse_args(argv)
    for series in arguments.kernel or kernels.SUPPORTED:
        try:
            print(
                modules.build(series, warnings_are_errors=arguments.warnings_are_errors, sparse=arguments.sparse),
                flush=True,
            )
        except LabError as error:
            print(f"pciedma_lab: {error}", file=sys.stderr)
            return 1
    return 0
