"""The command line: ``pciedma COMMAND``, or ``python3 -m pciedma COMMAND``.

Exit status: what the command says, 1 if it fails; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from . import __version__
from .tool import COMMANDS


def _add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], name: str) -> None:
    module: ModuleType = importlib.import_module(f"pciedma.tool.{name}_command")
    text = (module.__doc__ or "").strip()
    parser = subparsers.add_parser(
        name,
        help=text.partition("\n")[0],
        description=text,
        epilog=f"Exit status: {module.EXIT_STATUS}; 2: wrong usage.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    parser.set_defaults(run=module.run)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pciedma", description="Look at, and help with, cards of the driver pciedma.")
    parser.add_argument("--version", action="version", version=f"pciedma {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        _add_command(subparsers, name)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that *argv* names (default: the program's arguments); returns the exit status."""
    for stream in (sys.stdout, sys.stderr):  # a compiler's message or a card's name may have what they cannot write
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read it has seen enough; the interpreter would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"pciedma: {error}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
