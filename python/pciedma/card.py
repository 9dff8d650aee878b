"""Cards: finding and opening them."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, SupportsIndex

from . import uapi
from .channel import Channel
from .errors import NoCardError, WrongNodeError
from .node import Node, NodePath, as_int
from .window import Window

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
    windows: int


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


#: What names a card.
Which = SupportsIndex | NodePath | FoundCard | None


def find(which: Which, sysfs: Path = SYSFS, devices: Path = DEVICES) -> str:
    """Return the node of a card: the first, or as open() takes it; raises NoCardError, TypeError, ValueError."""
    if isinstance(which, FoundCard):
        return which.path
    if isinstance(which, (bytes, os.PathLike)) or (isinstance(which, str) and "/" in which):
        return os.fsdecode(which)
    if which is None or (isinstance(which, str) and not re.fullmatch("[0-9]+", which)):
        return _find_address(which, sysfs, devices)
    number = int(which) if isinstance(which, str) else as_int(which, "the number of a card")
    if number < 0:
        raise ValueError(f"the number of a card is negative: {number}")
    return str(devices / f"pciedma{number}")


def _find_address(address: str | None, sysfs: Path, devices: Path) -> str:
    cards = list_cards(sysfs, devices)
    for card in cards:
        if address is None or card.pci_address.lower().removeprefix("0000:") == address.lower().removeprefix("0000:"):
            return card.path
    if address is None:
        what = "no pciedma card"
    elif _ADDRESS.fullmatch(address):
        what = f"no pciedma card at {address}"
    else:
        what = f"no pciedma card {address!r}: it is no number, no PCI address, and without a slash no path"
    there = ", ".join(card.pci_address for card in cards) or "none; is the card's driver loaded (lsmod)?"
    raise NoCardError(errno.ENOENT, f"{what}; cards: {there}")


class Card(Node):
    """An open card. Threads may share it. Iterating opens its channels, one after the other."""

    __slots__ = ("_info",)

    _WHAT = "card"
    _info: CardInfo

    def __init__(self, path: NodePath) -> None:
        """Open the card's node *path*. Raises WrongNodeError if it is not a card's."""
        super().__init__(path, os.O_RDWR)
        with self._closed_on_error():
            raw = self._card_info()
            if self._part():
                raise self._wrong_node()
        values: dict[str, Any] = {name: getattr(raw, name) for name in CardInfo.__dataclass_fields__}
        for text in ("name", "pci_address", "driver_version"):
            values[text] = values[text].decode(errors="replace")
        self._info = CardInfo(**values)

    @property
    def info(self) -> CardInfo:
        """What the card is."""
        return self._info

    def _about(self) -> str:
        return f"{self.info.name} at {self.info.pci_address}" if hasattr(self, "_info") else ""

    def channel(self, index: SupportsIndex = 0, *, exclusive: bool = False, nonblocking: bool = False) -> Channel:
        """Open a channel; see Channel. The caller closes it. Raises IndexError if there is none."""
        number = as_int(index, "the number of a channel")
        if not 0 <= number < self.info.channels:
            raise IndexError(f"{self.path} has {self.info.channels} channels")
        self.fileno()
        channel = Channel(self._node(f"c{number}"), exclusive=exclusive, nonblocking=nonblocking)
        with channel._closed_on_error():
            self._insist(channel, number, (channel.info.card, channel.info.channel))
        return channel

    def _insist(self, part: Node, number: int, found: tuple[int, int]) -> None:
        """Raise an error unless a part is this card's, of that number; *found* is what it says of itself."""
        if found != (self.info.index, number):
            text = f"not {part._WHAT} {number} of card {self.info.index}, {self.info.pci_address}"
            raise WrongNodeError(errno.ENOTTY, text, part.path)
        self._card_info()  # a card that is gone may have left its number, and so its nodes, to another

    def _node(self, suffix: str) -> str:
        """Return the path of another node of this card's: beside its own, by its own name or by its number."""
        own = Path(self.path + suffix)
        return str(own if own.exists() else own.with_name(f"pciedma{self.info.index}{suffix}"))

    def __iter__(self) -> Iterator[Channel]:
        """Open each channel in turn, as channel() does: the caller closes it."""
        return (self.channel(number) for number in range(self.info.channels))

    __contains__ = None  # would open channels

    def window(self, which: SupportsIndex | str = 0, *, by: Literal["mmap", "call"] | None = None) -> Window:
        """Open a window onto the registers of the card's own logic, by number or name (``"user"``); see Window.

        The caller closes it. Raises IndexError or LookupError if there is none, NotPermittedError, CardGoneError.
        """
        number = self._window_number(which) if isinstance(which, str) else as_int(which, "the number of a window")
        if not 0 <= number < self.info.windows:
            raise IndexError(f"{self.path} has {self.info.windows} windows")
        self.fileno()
        window = Window(self._node(f"w{number}"), by=by)
        with window._closed_on_error():
            self._insist(window, number, (window.info.card, window.info.window))
        return window

    def _window_number(self, name: str) -> int:
        folders = [SYSFS / f"pciedma{self.info.index}w{number}" for number in range(self.info.windows)]
        try:
            names = [(folder / "name").read_text().strip() for folder in folders]
        finally:
            self._card_info()  # if it is gone, they are not there, or another's
        if name not in names:
            raise LookupError(f"{self.path} has no window {name!r}; windows: {', '.join(names) or 'none'}")
        return names.index(name)

    def reset(self) -> None:
        """Stop all engines and reset the card.

        Requests that have not begun stay queued; a DMA that does not end is cut off, and its call raises
        OSError with EIO. Raises OSError with EIO if the card could not be proven idle, CardGoneError.
        """
        self._ioctl(uapi.PCIEDMA_IOC_RESET, uapi.pciedma_reset())

    def listen(self, lines: Iterable[SupportsIndex], eventfd: int = -1) -> None:
        """Listen to interrupt lines of the user's own logic on the card, from 0; none: listen no more.

        ``fileno()`` is readable for poll and select when one has fired, and *eventfd* is signalled then. Raises
        ValueError for a line that the card does not have, OSError.
        """
        mask = 0
        for line in (as_int(value, "an event line") for value in lines):
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


def open(which: Which = None) -> Card:
    """Open a card: the first, or by number (``0``, ``"0"``), node path, PCI address (``"01:00.0"``), or as found.

    A path is text with a slash, bytes, or a path object; links, as those in ``/dev/pciedma/by-path``, are followed. A
    card found by list_cards() is opened if it is still the one there.

    Raises NoCardError, NotPermittedError, WrongNodeError (a path that is not a card's), CardGoneError; TypeError or
    ValueError for what cannot name a card.
    """
    card = Card(find(which))
    if isinstance(which, FoundCard) and card.info.pci_address != which.pci_address:
        card.close()
        text = f"the card that was found, at {which.pci_address}, is gone; there is {card.info.pci_address} now"
        raise NoCardError(errno.ENOENT, text, card.path)
    return card
