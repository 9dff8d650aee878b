"""Cards: finding and opening them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import uapi
from .channel import Channel
from .errors import NoCardError
from .node import Node

#: Where the kernel shows the cards, and where their nodes are.
SYSFS = Path("/sys/class/pciedma")
DEVICES = Path("/dev")

_ADDRESS = re.compile(r"([0-9a-f]{4,}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", re.IGNORECASE)


@dataclass(frozen=True)
class CardInfo:
    """What a card is: PCI ids as numbers, ``name`` of its back end, versions of the loaded driver."""

    index: int
    name: str
    pci_address: str
    channels: int
    vendor: int
    device: int
    subsystem_vendor: int
    subsystem_device: int
    abi_version: int
    driver_version: str
    event_lines: int


@dataclass(frozen=True)
class FoundCard:
    """A card that the kernel shows: number, node, PCI address, and the name of its back end."""

    index: int
    path: str
    pci_address: str
    name: str


def list_cards(sysfs: Path = SYSFS, devices: Path = DEVICES) -> list[FoundCard]:
    """Return all cards in the order of their numbers; needs no permission."""
    found = []
    for folder in sysfs.glob("pciedma*"):
        match = re.fullmatch(r"pciedma(\d+)", folder.name)
        if not match:
            continue
        try:
            address = (folder / "device").resolve(strict=True).name
            name = (folder / "card").read_text().strip()
        except OSError:  # it goes while we look
            continue
        found.append(FoundCard(int(match[1]), str(devices / folder.name), address, name))
    return sorted(found, key=lambda card: card.index)


def find(which: int | str | None, sysfs: Path = SYSFS, devices: Path = DEVICES) -> str:
    """Return the node of a card: the first, or by number, path or PCI address; raises NoCardError."""
    if isinstance(which, str) and not _ADDRESS.fullmatch(which):
        return which
    if isinstance(which, int):
        return str(devices / f"pciedma{which}")
    cards = list_cards(sysfs, devices)
    for card in cards:
        if which is None or card.pci_address.lower().removeprefix("0000:") == which.lower().removeprefix("0000:"):
            return card.path
    what = "no pciedma card" if which is None else f"no pciedma card at {which}"
    there = ", ".join(card.pci_address for card in cards) or "none; is the card's driver loaded (lsmod)?"
    raise NoCardError(2, f"{what}; cards: {there}")


class Card(Node):
    """An open card. Threads may share it."""

    def __init__(self, path: str) -> None:
        """Open the card's node *path*."""
        super().__init__(path, os.O_RDWR)
        with self._closed_on_error():
            raw = self._ioctl(uapi.PCIEDMA_IOC_CARD_INFO, uapi.pciedma_card_info())
        values: dict[str, Any] = {name: getattr(raw, name) for name in CardInfo.__dataclass_fields__}
        for name in ("name", "pci_address", "driver_version"):
            values[name] = values[name].decode()
        self.info = CardInfo(**values)

    def channel(self, index: int = 0, *, exclusive: bool = False, nonblocking: bool = False) -> Channel:
        """Open a channel; see Channel. The caller closes it. Raises IndexError if there is none."""
        if not 0 <= index < self.info.channels:
            raise IndexError(f"{self.path} has {self.info.channels} channels")
        return Channel(f"{self.path}c{index}", exclusive=exclusive, nonblocking=nonblocking)

    def reset(self) -> None:
        """Stop all engines and reset the card.

        Requests that have not begun stay queued; a DMA that does not end is cut off, and its call raises
        OSError with EIO. Raises OSError with EIO if the card could not be proven idle, CardGoneError.
        """
        self._ioctl(uapi.PCIEDMA_IOC_RESET, uapi.pciedma_reset())

    def listen(self, lines: Iterable[int], eventfd: int = -1) -> None:
        """Listen to interrupt lines of the user's own logic on the card, from 0; none: listen no more.

        ``fileno()`` is readable for poll and select when one has fired, and *eventfd* is signalled then. Raises
        ValueError for a line that the card does not have, OSError.
        """
        mask = 0
        for line in lines:
            if not 0 <= line < self.info.event_lines:
                raise ValueError(f"{self.path} has {self.info.event_lines} event lines")
            mask |= 1 << line
        self._ioctl(uapi.PCIEDMA_IOC_SET_EVENTS, uapi.pciedma_events(lines=mask, eventfd=eventfd))

    def events(self) -> set[int]:
        """Return the lines that have fired since the last call, and let them fire again.

        Serve the card's logic first: a line that is still active fires at once.
        """
        raw = self._ioctl(uapi.PCIEDMA_IOC_GET_EVENTS, uapi.pciedma_events())
        return {line for line in range(uapi.PCIEDMA_MAX_EVENTS) if raw.lines >> line & 1}


def open(which: int | str | None = None) -> Card:
    """Open a card: the first, or by number, node path, or PCI address (``01:00.0``).

    Raises NoCardError, NotPermittedError, CardGoneError.
    """
    return Card(find(which))
