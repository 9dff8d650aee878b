"""All channels of all cards, found and tried, run in the guest."""

from __future__ import annotations

import errno
import glob
import re
from typing import Any

import pciedma

from . import memory


def all_channels() -> list[list[dict[str, Any]]]:
    """Return for each card, in PCI order, what each channel is and whether data moves through it."""
    cards = {}
    for folder in glob.glob("/sys/class/pciedma/pciedma*"):
        if re.search(r"pciedma\d+$", folder):
            with pciedma.open("/dev/" + folder.rsplit("/", 1)[1]) as card:
                cards[card.info.pci_address] = (card.path, card.info.channels)
    return [[_channel(path, n) for n in range(count)] for _, (path, count) in sorted(cards.items())]


def _read(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def _channel(card: str, number: int) -> dict[str, Any]:
    path = f"{card}c{number}"
    folder = f"/sys/class/pciedma/{path.removeprefix('/dev/')}"
    found: dict[str, Any] = {
        "kind": _read(f"{folder}/kind").upper(),
        "c2h": bool(glob.glob(f"{folder}/c2h/bytes")),
        "h2c": bool(glob.glob(f"{folder}/h2c/bytes")),
    }
    try:
        found["result"] = _try(path, found)
    except OSError as error:
        found["result"] = error.errno
    if found["kind"] == "MEMORY":
        found["looks"] = sum(int(_read(name)) for name in glob.glob(f"{folder}/*/looks"))
    return found


def _try(path: str, found: dict[str, Any]) -> str:
    if found["c2h"] and found["h2c"]:
        with pciedma.Channel(path) as channel:
            engine = channel.info.c2h
            unit = engine.length_granularity if engine else 1
        lengths = [unit, 64 * unit, 100_000 // unit * unit, (5 << 20) // unit * unit]
        skews = [4096, 4096 + unit, 8192 - unit]
        wrong = []
        for mode in ("INTERRUPT", "POLL", "ADAPTIVE"):
            wrong += memory.there_and_back(path, lengths, skews=skews, card_address=64 * unit, wait_mode=mode)
        return "; ".join(wrong) or "right"
    one = memory.one_way(path, "read" if found["c2h"] else "write", 100_000)
    return "right" if one == 100_000 else str(one)
