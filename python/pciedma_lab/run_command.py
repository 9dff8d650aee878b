"""The command ``run``: a command in a virtual machine with emulated cards."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import kernels
from .cache import LabError
from .card_process import EmulatedCard
from .machine import Machine, MachineFailed, prepare

#: The exit status that says that the lab, not the command, failed.
LAB_FAILED = 125


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pciedma_lab run",
        description="Run a command in a virtual machine, in the project's folder and with the driver loaded. The exit "
        f"status is the command's, or {LAB_FAILED} if the machine failed or its verdict was bad.",
    )
    parser.add_argument("--kernel", default="trixie", choices=list(kernels.SERIES))
    parser.add_argument("--iommu", action="store_true", help="with an IOMMU, strict")
    parser.add_argument("--swiotlb", action="store_true", help="with swiotlb=force")
    parser.add_argument("--card", action="append", default=[], metavar="NAME", help="add a card; edu is QEMU's own")
    parser.add_argument("--fault", action="append", default=[], metavar="CARD:FAULT", help="what cards do wrong")
    parser.add_argument("--memory", type=int, default=1024, metavar="MIB")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="seen in the guest as /mnt/results")
    parser.add_argument("--time-limit", type=float, default=600, metavar="SECONDS")
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    return parser


def make_cards(names: list[str], faults: list[str]) -> list[EmulatedCard]:
    """Return the emulated cards for ``--card`` and ``--fault CARD:FAULT``; raises ValueError for an absent card."""
    by_card: dict[str, list[str]] = {name: [] for name in names if name != "edu"}
    for text in faults:
        name, _, fault = text.partition(":")
        if name not in by_card or not fault:
            raise ValueError(f"--fault {text}: there is no --card {name} that has faults")
        by_card[name].append(fault)
    return [EmulatedCard(name, faults=by_card[name]) for name in names if name != "edu"]


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
        time_limit_s=arguments.time_limit,
    )


def _pass_on(stream: str, text: str) -> None:
    file = sys.stderr if stream == "stderr" else sys.stdout
    file.write(text)
    file.flush()


def _run(vm: Machine, arguments: argparse.Namespace) -> int:
    vm.load_modules()
    process = vm.start_run(arguments.command)
    process.on_output = _pass_on
    return process.wait(arguments.time_limit)


def main(argv: list[str]) -> int:
    """Run the command and return the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        machine = _machine(arguments)
    except ValueError as error:
        parser.error(str(error))
    try:
        prepare(arguments.kernel)
        with machine as vm:
            status = _run(vm, arguments)
    except (LabError, MachineFailed, RuntimeError) as error:  # RuntimeError: a model that did not start
        print(f"pciedma_lab: {error}", file=sys.stderr)
        return LAB_FAILED
    return status if status >= 0 else 128 - status
