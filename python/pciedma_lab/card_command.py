"""The command ``card``: serve one emulated card, for QEMU to attach."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sys
from pathlib import Path

from . import cards, interruption
from .cache import LabError
from .control import ControlServer
from .faults import BadFault
from .model import CardModel
from .vfio_user import Server


def device_arguments(socket: Path, identifier: str, bus: str | None = None) -> str:
    """Return what QEMU's -device takes to attach the card that listens on *socket*."""
    arguments = {"driver": "vfio-user-pci", "id": identifier, "socket": {"path": str(socket), "type": "unix"}}
    return json.dumps(arguments | ({"bus": bus} if bus else {}))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pciedma_lab card",
        description="Emulate a card until interrupted; the exit status is 1 if it saw a violation.",
    )
    known = f"{', '.join(cards.names())}, or the path of a model"
    parser.add_argument("card", metavar="NAME", help=known)
    parser.add_argument("--socket", type=Path, required=True, help="where QEMU connects")
    parser.add_argument("--control", type=Path, help="where tests connect")
    parser.add_argument("--variant", help="another form of the card")
    fault = "repeatable; an unknown one lists them all"
    parser.add_argument("--fault", action="append", default=[], metavar="NAME[=VALUE][*COUNT]", help=fault)
    parser.add_argument("--seed", type=int, default=0, help="of all that is random")
    return parser


def _model(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> CardModel:
    try:
        kind = cards.model(arguments.card)
    except KeyError as error:
        parser.error(error.args[0])
    if arguments.variant not in (None, *kind.variants):
        parser.error(f"the variants of {arguments.card} are {', '.join(kind.variants)}")
    model = kind(arguments.variant, arguments.seed)
    try:
        for fault in arguments.fault:
            model.set_fault(fault)
    except BadFault as error:
        parser.error(str(error))
    return model


def _listen(model: CardModel, arguments: argparse.Namespace) -> Server:
    """Make the sockets, both or none."""
    # Whoever sees the first socket may count on the second.
    control = ControlServer(model, arguments.control) if arguments.control else None
    try:
        return Server(model, arguments.socket, control)
    except BaseException:
        if control is not None:
            control.close()
        raise


def _serve(model: CardModel, arguments: argparse.Namespace) -> None:
    """Serve until interrupted; leaves no socket."""
    with contextlib.ExitStack() as stack:
        with interruption.postponed():
            server = _listen(model, arguments)
            stack.callback(server.close)
        print("attach it to QEMU 10.1 or newer with")
        print("  -machine q35,memory-backend=ram -object memory-backend-memfd,id=ram,size=1G,share=on")
        print(f"  -device {shlex.quote(device_arguments(arguments.socket, model.name))}", flush=True)
        server.serve()


def main(argv: list[str]) -> int:
    """Run the command; returns 1 if the model saw a violation."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    model = _model(arguments, parser)
    if arguments.control and os.path.realpath(arguments.control) == os.path.realpath(arguments.socket):
        print(f"pciedma_lab card: --socket and --control are both {arguments.socket}: two are needed", file=sys.stderr)
        return 2
    with interruption.orderly():
        try:
            with contextlib.suppress(interruption.Interrupted):
                _serve(model, arguments)
        except LabError as error:
            print(f"pciedma_lab card: {error}", file=sys.stderr)
            return 2
        records = {"counters": model.records.counters, "violations": model.records.violations}
        json.dump(records, sys.stdout, indent=2)
        print(flush=True)
    return 1 if model.records.violations else 0
