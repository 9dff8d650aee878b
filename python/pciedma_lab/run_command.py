"""The command ``run``: a command in a virtual machine with emulated cards."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from pathlib import Path

from . import interruption, kernels, modules, run_options, standard_input
from .cache import LabError
from .machine import Machine, MachineFailed, prepare

#: The exit status that says that the lab, not the command, failed.
LAB_FAILED = 125

_CARD = "add a card, by name or by the path of a model beside its back end; edu is QEMU's own"
_TIME_LIMIT = "how long the machine may run, its boot included; default: %(default)s"
_MODULE = "another driver's: its folder, with Kbuild or Makefile there or in a subfolder, or a module for this kernel"
_PARAMETER = "what a module is told when it is loaded"
_ROOT = "a root file system, in which the command runs; what it writes there is gone afterwards"


class _NobodyReads(Exception):  # noqa: N818
    """Nobody reads what the command writes any more."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pciedma_lab run",
        description="Run a command in a virtual machine, in the current folder (read-only there) and with the driver "
        f"loaded. The exit status is the command's, or {LAB_FAILED} if the machine failed or its verdict was bad.",
    )
    parser.add_argument("--kernel", default="trixie", choices=list(kernels.SERIES))
    parser.add_argument("--iommu", action="store_true", help="with an IOMMU, strict")
    parser.add_argument("--swiotlb", action="store_true", help="with swiotlb=force")
    parser.add_argument("--card", action="append", default=[], metavar="CARD[:VARIANT]", help=_CARD)
    parser.add_argument("--fault", action="append", default=[], metavar="CARD:FAULT", help="what cards do wrong")
    parser.add_argument("--parameter", action="append", default=[], metavar="MODULE.NAME=VALUE", help=_PARAMETER)
    parser.add_argument("--no-modules", action="store_true", help="load none of this driver's modules")
    parser.add_argument("--module", action="append", default=[], metavar="FOLDER[:SUBFOLDER]|FILE.ko", help=_MODULE)
    packages = "have a Debian package in the guest"
    parser.add_argument("--with", action="append", default=[], dest="packages", metavar="PACKAGE", help=packages)
    parser.add_argument("--root", type=Path, metavar="FOLDER", help=_ROOT)
    parser.add_argument("--memory", type=int, default=1024, metavar="MIB")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="seen in the guest as /mnt/results")
    parser.add_argument("--time-limit", type=float, default=600, metavar="SECONDS", help=_TIME_LIMIT)
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    return parser


def _pass_on(stream: str, data: bytes) -> None:
    file = (sys.stderr if stream == "stderr" else sys.stdout).buffer
    try:
        file.write(data)
        file.flush()
    except BrokenPipeError:
        raise _NobodyReads from None
    except OSError as error:
        raise LabError(f"{stream}: {error.strerror}") from None


def _prepare(machine: Machine, arguments: argparse.Namespace) -> tuple[list[Path], dict[str, str]]:
    """Make what the machine needs; returns other drivers' modules, and all modules' parameters by name."""
    ours = not arguments.no_modules
    prepare(arguments.kernel, back_ends=machine.back_ends, packages=machine.packages, builds=ours)
    foreign = run_options.build_foreign(arguments.kernel, arguments.module)
    built = [*modules.built(arguments.kernel, machine.back_ends).glob("*.ko")] if ours else []
    return foreign, run_options.sort_parameters(arguments.parameter, [*sorted(built), *foreign])


def _load(vm: Machine, arguments: argparse.Namespace, foreign: list[Path], parameters: dict[str, str]) -> None:
    if not arguments.no_modules:
        ours = {name: words for name, words in parameters.items() if name.startswith("pciedma")}
        vm.load_modules(**{name.removeprefix("pciedma_"): words for name, words in ours.items()})
    if foreign:
        vm.load_foreign(foreign, parameters)


def _run(vm: Machine, arguments: argparse.Namespace) -> int:
    streams_input = standard_input.is_given()
    process = vm.start_run(
        arguments.command,
        cwd=run_options.place(Path.cwd())[1],
        in_root=arguments.root is not None,
        streams_input=streams_input,
    )
    process.on_output = _pass_on
    with standard_input.Pump(process) if streams_input else contextlib.nullcontext():
        return process.wait(arguments.time_limit)


def _run_in(machine: Machine, arguments: argparse.Namespace) -> int:
    """Boot, run and judge; whatever ends this, the machine is gone afterwards."""
    foreign, parameters = _prepare(machine, arguments)
    with interruption.orderly():
        try:
            with machine as vm:
                _load(vm, arguments, foreign, parameters)
                return _run(vm, arguments)
        finally:
            machine.close()  # again, for a signal that came at its very beginning or end


def _close_output() -> None:
    """Let the interpreter not complain once more, at its end, that nobody reads."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: list[str]) -> int:
    """Run the command and return the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        machine = run_options.make_machine(arguments)
    except ValueError as error:
        parser.error(str(error))
    try:
        status = _run_in(machine, arguments)
    except (interruption.Interrupted, KeyboardInterrupt) as error:
        number = error.number if isinstance(error, interruption.Interrupted) else signal.SIGINT
        print(f"pciedma_lab: ended by {signal.Signals(number).name}", file=sys.stderr)
        return 128 + number
    except _NobodyReads:
        _close_output()
        return 128 + signal.SIGPIPE
    # RuntimeError: a model that did not start; OSError: a part of the lab that has gone away
    except (LabError, MachineFailed, RuntimeError, OSError) as error:
        print(f"pciedma_lab: {error}", file=sys.stderr)
        return LAB_FAILED
    return status if status >= 0 else 128 - status
