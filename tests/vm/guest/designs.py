"""All channels of all cards, found and tried, run in the guest."""

from __future__ import annotations

import errno
import mmap
import os
import re
from pathlib import Path
from typing import Any

import pciedma

from . import memory


def all_channels() -> list[list[dict[str, Any]]]:
    """Return for each card, in PCI order, what each channel is and whether data moves through it."""
    cards = {}
    for folder in Path("/sys/class/pciedma").iterdir():
        if re.fullmatch(r"pciedma\d+", folder.name):
            with pciedma.open(f"/dev/{folder.name}") as card:
                cards[card.info.pci_address] = (card.path, card.info.channels)
    return [[_channel(path, n) for n in range(count)] for _, (path, count) in sorted(cards.items())]


def _channel(card: str, number: int) -> dict[str, Any]:
    path = f"{card}c{number}"
    folder = Path("/sys/class/pciedma") / path.removeprefix("/dev/")
    found: dict[str, Any] = {
        "kind": (folder / "kind").read_text().strip().upper(),
        "c2h": (folder / "c2h/bytes").exists(),
        "h2c": (folder / "h2c/bytes").exists(),
    }
    try:
        found["result"] = _try(path, found)
    except OSError as error:
        found["result"] = error.errno
    if found["kind"] == "MEMORY":
        found["looks"] = sum(int(file.read_text()) for file in folder.glob("*/looks"))
    return found


def _try(path: str, found: dict[str, Any]) -> str:
    if found["c2h"] and found["h2c"]:
        with pciedma.Channel(path) as channel:
            engine = channel.info.c2h
            unit = engine.length_granularity if engine else 1
            alignment = engine.address_alignment if engine else 1
        lengths = [unit, 64 * unit, 100_000 // unit * unit, (5 << 20) // unit * unit]
        skews = [4096, 4096 + unit, 8192 - unit]
        wrong = []
        for mode in ("INTERRUPT", "POLL", "ADAPTIVE"):
            wrong += memory.there_and_back(path, lengths, skews=skews, card_address=64 * unit, wait_mode=mode)
        if alignment > 1:
            wrong += _anywhere_in_memory(path, unit, alignment)
        return "; ".join(wrong) or "right"
    one = memory.one_way(path, "read" if found["c2h"] else "write", 100_000)
    return _one_way_by_the_binding(path, found["c2h"]) if one == 100_000 else str(one)


def _anywhere_in_memory(path: str, unit: int, alignment: int) -> list[str]:
    """Requests of more DMA buffers than they get, and one of which the first piece ends where no next can begin."""
    wrong = [repr(one) for one in memory.uring(path, depth=2, length=(80 << 10) + alignment)["bad"]]
    before, length = unit if unit > 1 else 100, 5 * alignment
    with pciedma.Channel(path) as channel, mmap.mmap(-1, 2 * mmap.PAGESIZE) as pages, mmap.mmap(-1, length) as back:
        pages[: mmap.PAGESIZE] = bytes([7]) * mmap.PAGESIZE  # the second is not there
        start = mmap.PAGESIZE - before
        with memoryview(pages)[start : start + length] as source:
            wrote = os.pwrite(channel.fileno(), source, 0)
        read = os.preadv(channel.fileno(), [back], 0)
        if (wrote, read, back[:]) != (length, length, bytes([7]) * before + bytes(length - before)):
            wrong.append(f"beside what is not there: wrote {wrote}, read {read}: {back[:]!r}")
    return wrong


def _one_way_by_the_binding(path: str, c2h: bool) -> str:
    with pciedma.Channel(path) as channel:
        there = [channel.readinto, channel.write] if c2h else [channel.write, channel.readinto]
        moved = there[0](bytearray(5000))
        try:
            there[1](bytearray(1))
        except OSError as error:
            return "right" if moved == 5000 and error.errno == errno.EBADF else repr((moved, error))
    return "the other direction is there"
