"""The command ``run``: a command in a virtual machine with emulated cards."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from pathlib import Path

from . import guest_agent, interruption, kernels, standard_input
from .cache import LabError
from .card_process import EmulatedCard
from .chroot import PROJECT
from .machine import Machine, MachineFailed, prepare

#: The exit status that says that the lab, not the command, failed.
LAB_FAILED = 125

_CARD = "add a card, by name or by the path of a model beside its back end; edu is QEMU's own"
_TIME_LIMIT = "how long the machine may run, its boot included; default: %(default)s"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pciedma_lab run",
        description="Run a command in a virtual machine, in the current folder (read-only there) and with the driver "
        f"loaded. The exit status is the command's, or {LAB_FAILED} if the machine failed or its verdict was bad.",
    )
    parser.add_argument("--kernel", default="trixie", choices=list(kernels.SERIES))
    parser.add_argument("--iommu", action="store_true", help="with an IOMMU, strict")
    parser.add_argument("--swiotlb", action="store_true", help="with swiotlb=force")
    parser.add_argument("--card", action="append", default=[], metavar="CARD", help=_CARD)
    parser.add_argument("--fault", action="append", default=[], metavar="CARD:FAULT", help="what cards do wrong")
    parser.add_argument("--memory", type=int, default=1024, metavar="MIB")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="seen in the guest as /mnt/results")
    parser.add_argument("--time-limit", type=float, default=600, metavar="SECONDS", help=_TIME_LIMIT)
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    return parser


def make_cards(names: list[str], faults: list[str]) -> list[EmulatedCard]:
    """Return the emulated cards for ``--card`` and ``--fault CARD:FAULT``; raises ValueError for an absent card."""
    emulated = [EmulatedCard(name) for name in names if name != "edu"]
    for text in faults:
        name, _, fault = text.partition(":")
        meant = [card for card in emulated if card.name == name and fault]
        if not meant:
            raise ValueError(f"--fault {text}: there is no --card {name} that has faults")
        for card in meant:
            card.faults.append(fault)
    return emulated


def place(folder: Path) -> tuple[Path | None, str]:
    """Return what of the host the guest must see for a command to run in *folder*, and the folder's name there."""
    if folder.is_relative_to(PROJECT):
        return None, str(guest_agent.PROJECT / folder.relative_to(PROJECT))
    return folder, guest_agent.WORK


def _machine(arguments: argparse.Namespace) -> Machine:
    return Machine(
        arguments.kernel,
        iommu=arguments.iommu,
        swiotlb_force=arguments.swiotlb,
        memory_mib=arguments.memory,
        cpus=arguments.cpus,
        cards=make_cards(arguments.card, arguments.fault),
        edu=arguments.card.count("edu"),
        results=arguments.results,
        work=place(Path.cwd())[0],
        time_limit_s=arguments.time_limit,
    )


def _pass_on(stream: str, data: bytes) -> None:
    file = (sys.stderr if stream == "stderr" else sys.stdout).buffer
    try:
        file.write(data)
        file.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise LabError(f"{stream}: {error.strerror}") from None


def _run(vm: Machine, arguments: argparse.Namespace) -> int:
    vm.load_modules()
    streams_input = standard_input.is_given()
    process = vm.start_run(arguments.command, cwd=place(Path.cwd())[1], streams_input=streams_input)
    process.on_output = _pass_on
    with standard_input.Pump(process) if streams_input else contextlib.nullcontext():
        return process.wait(arguments.time_limit)


def _run_in(machine: Machine, arguments: argparse.Namespace) -> int:
    """Boot, run and judge; whatever ends this, the machine is gone afterwards."""
    with interruption.orderly():
        try:
            with machine as vm:
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
        machine = _machine(arguments)
    except ValueError as error:
        parser.error(str(error))
    try:
        prepare(arguments.kernel, back_ends=machine.back_ends)
        status = _run_in(machine, arguments)
    except (interruption.Interrupted, KeyboardInterrupt) as error:
        number = error.number if isinstance(error, interruption.Interrupted) else signal.SIGINT
        print(f"pciedma_lab: ended by {signal.Signals(number).name}", file=sys.stderr)
        return 128 + number
    except BrokenPipeError:
        _close_output()
        return 128 + signal.SIGPIPE
    except (LabError, MachineFailed, RuntimeError) as error:  # RuntimeError: a model that did not start
        print(f"pciedma_lab: {error}", file=sys.stderr)
        return LAB_FAILED
    return status if status >= 0 else 128 - status
