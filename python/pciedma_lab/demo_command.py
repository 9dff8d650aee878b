"""The command ``demo``: build, boot, move checked data through all cards, and print what it cost."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from . import cache, modules
from .cache import LabError
from .card_process import EmulatedCard
from .machine import Machine, MachineFailed, prepare

_GUEST = "pciedma_lab.guest.transfers"
_COPY = "pciedma_lab.guest.verified_load:checked_copy"
#: Card memory that the demo goes round in. It is written once before: a model's memory is slow the first time.
_SPAN = 256 << 20
_CHUNK_BYTES = 32 << 20  # of one call
#: What the emulated XDMA card's link moves each way, in MB/s.
_LINK_MB_S = 1000
_CHUNK = 1000
_EDU_NAME = "edu-mmio"
_EDU_EVENTS = ("memory_region_ops_read", "memory_region_ops_write")


def main(argv: list[str]) -> int:
    """Run the command; returns 0 only if every byte was right."""
    parser = argparse.ArgumentParser(prog="pciedma_lab demo", description=__doc__)
    parser.add_argument("--kernel", default="trixie")
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--transfers", type=int, default=40, help="of edu, each of 100 ms")
    parser.add_argument("--mebibytes", type=int, default=1024, help="through XDMA, each way")
    parser.add_argument("--output", type=Path, default=modules.BUILD / "demo.json")
    arguments = parser.parse_args(argv)
    try:
        figures = _run(arguments)
    except (LabError, MachineFailed) as error:
        print(f"pciedma_lab: {error}", file=sys.stderr)
        return 1
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(figures, indent=2) + "\n")
    _print(figures)
    return 1 if any(figures[card]["errors"] for card in ("capric", "edu", "xdma")) else 0


def _run(arguments: argparse.Namespace) -> dict[str, Any]:
    begin = time.monotonic()
    prepare(arguments.kernel)
    cache.say("booting")
    capric, xdma = EmulatedCard("capric"), EmulatedCard("xdma", faults=[f"bandwidth={_LINK_MB_S}"])
    with Machine(arguments.kernel, cards=[capric, xdma], edu=1) as vm:
        vm.load_modules()
        figures: dict[str, Any] = {
            "kernel": vm.kernel_release,
            "capric": _capric(vm, capric, arguments.messages),
            "edu": _edu(vm, arguments.transfers),
            "xdma": _xdma(vm, xdma, arguments.mebibytes),
        }
    return figures | {"seconds": round(time.monotonic() - begin, 1)}


def _node(vm: Machine, card: str) -> str:
    """Return the data node of a card in the guest."""
    line = vm.run(["sh", "-c", f"grep -lx {card} /sys/class/pciedma/*/card"]).stdout.strip()
    return f"/dev/{Path(line).parent.name}c0"


def _capric(vm: Machine, card: EmulatedCard, messages: int) -> dict[str, Any]:
    node = _node(vm, "capric")
    vm.call(f"{_GUEST}:echo", path=node, count=10)
    card.control.counters(reset=True)
    parts = []
    for done in range(0, messages, _CHUNK):
        count = min(_CHUNK, messages - done)
        parts.append(vm.call(f"{_GUEST}:echo", 300, path=node, count=count, seed=done))
        cache.say(f"capric: {done + count} of {messages} messages there and back")
    counters = card.control.counters()
    transfers = 2 * messages
    seconds = sum(part["seconds"] for part in parts)
    return {
        "messages": messages,
        "errors": sum(part["errors"] for part in parts),
        "first_error": next((part["first_error"] for part in parts if part["errors"]), None),
        "messages_per_second": round(messages / seconds),
        "mmio_reads_per_transfer": round(counters["mmio_reads"] / transfers, 3),
        "mmio_writes_per_transfer": round(counters["mmio_writes"] / transfers, 3),
        "interrupts_per_transfer": round(counters["interrupts"] / transfers, 3),
        "latency_us": _middle([part["latency_us"] for part in parts]),
    }


def _middle(parts: list[dict[str, float]]) -> dict[str, float]:
    """Return the median over the parts of each percentile."""
    return {name: sorted(part[name] for part in parts)[len(parts) // 2] for name in parts[0]}


def _edu(vm: Machine, transfers: int) -> dict[str, Any]:
    cache.say(f"edu: {transfers} transfers of 100 ms")
    _count_edu(vm, enable=True)
    result: dict[str, Any] = vm.call(f"{_GUEST}:fill_and_verify", 300, path=_node(vm, "edu"), transfers=transfers)
    _count_edu(vm, enable=False)
    text = vm.guest.trace.read_text(errors="replace")
    reads, writes = (len(re.findall(rf"^.*{event} .*'{_EDU_NAME}'", text, re.MULTILINE)) for event in _EDU_EVENTS)
    return {
        "bytes": result["bytes"],
        "transfers": result["transfers"],
        "errors": result["errors"],
        "first_error": result["first_error"],
        "transfers_per_second": round(result["transfers"] / result["seconds"], 1),
        "mmio_reads_per_transfer": round(reads / result["transfers"], 3),
        "mmio_writes_per_transfer": round(writes / result["transfers"], 3),
        "latency_us": result["latency_us"],
    }


def _xdma(vm: Machine, card: EmulatedCard, mebibytes: int) -> dict[str, Any]:
    cache.say(f"xdma: {mebibytes} MiB to the card and back, every byte checked")
    path = _node(vm, "xdma")
    vm.call(_COPY, 600, path=path, length=_SPAN, direction="write")
    card.control.counters(reset=True)
    result: dict[str, Any] = vm.call(_COPY, 600, path=path, length=mebibytes << 20, span=_SPAN)
    counters = card.control.counters()
    moved = result["bytes"]
    transfers = sum(moved.values()) / _CHUNK_BYTES
    return {
        "bytes": sum(moved.values()),
        "errors": result["wrong"],
        "first_error": result["first_error"],
        "link_mb_per_second": _LINK_MB_S,
        "h2c_share_of_link": round(moved["write"] / result["write_seconds"] / 1e6 / _LINK_MB_S, 3),
        "c2h_share_of_link": round(moved["read"] / result["read_seconds"] / 1e6 / _LINK_MB_S, 3),
        "mmio_reads_per_transfer": round(counters.get("mmio_reads", 0) / transfers, 3),
        "mmio_writes_per_transfer": round(counters["mmio_writes"] / transfers, 3),
        "interrupts_per_transfer": round(counters.get("interrupts", 0) / transfers, 3),
    }


def _count_edu(vm: Machine, *, enable: bool) -> None:
    """Let QEMU log its edu device's accesses: that model is not ours, and does not count."""
    for event in _EDU_EVENTS:
        vm.qmp.execute("trace-event-set-state", name=event, enable=enable)


def _print(figures: dict[str, Any]) -> None:
    capric, edu = figures["capric"], figures["edu"]
    columns = ("card", "moved", "wrong", "per second", "p50 us", "p99 us", "MMIO reads", "MMIO writes")
    rows = [
        ("capric", f"{capric['messages']} messages", capric["errors"], capric["messages_per_second"], *_rest(capric)),
        ("edu", f"{edu['bytes']} bytes", edu["errors"], edu["transfers_per_second"], *_rest(edu)),
    ]
    print(f"kernel {figures['kernel']}, software emulation; latency and MMIO of one transfer")
    for row in (columns, *rows):
        print("  ".join(f"{cell!s:>14}" for cell in row))
    xdma = figures["xdma"]
    print(
        f"xdma: {xdma['bytes']} bytes, {xdma['errors']} wrong; of the link's {xdma['link_mb_per_second']} MB/s"
        f" {xdma['h2c_share_of_link']:.1%} to the card, {xdma['c2h_share_of_link']:.1%} from it"
    )


def _rest(card: dict[str, Any]) -> tuple[Any, ...]:
    latency = card["latency_us"]
    return latency["p50"], latency["p99"], card["mmio_reads_per_transfer"], card["mmio_writes_per_transfer"]
