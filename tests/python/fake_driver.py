"""What the kernel answers to ioctls, for nodes that are files."""

from __future__ import annotations

import ctypes
import errno
import re
from pathlib import Path
from typing import Any

import pciedma
from pciedma import uapi

from .fake_entries import OUTSIDE_THE_GATE, FakeEntries


def _copy(target: ctypes.Structure, source: ctypes.Structure) -> None:
    ctypes.memmove(ctypes.addressof(target), ctypes.addressof(source), ctypes.sizeof(target))


class FakeDriver:
    """Knows cards, channels and windows by the names of their nodes; *names* gives others one. Files else are none of
    its.

    Its channels are of one *kind*, its windows have the names *windows* and the *widths* of an access, as a mask; it
    does not know the ioctls *unknown*. Its channels have the *directions*, whose longest message has *max_dma* bytes.
    """

    def __init__(self, kind: int = uapi.PCIEDMA_KIND_MEMORY, size: int = 4096, channels: int = 2) -> None:
        self.kind, self.size, self.channels = kind, size, channels
        self.directions, self.max_dma = ["c2h", "h2c"], 2047
        self.windows, self.widths, self.mappable = ["user", "bypass"], 1 | 2 | 4, True
        self.wait = uapi.pciedma_wait(timeout_ns=10_000_000_000)
        self.version, self.abi_version = pciedma.__version__, uapi.PCIEDMA_ABI_VERSION
        self.names: dict[str, str] = {}
        self.addresses: dict[int, str] = {}
        self.unknown: set[int] = set()
        self.gone: set[int] = set()
        self.entries = FakeEntries(size)

    def ioctl(self, fd: int, request: int, argument: Any) -> int:
        """Take the place of fcntl.ioctl()."""
        name = Path(f"/proc/self/fd/{fd}").readlink().name
        match = re.fullmatch(r"pciedma(\d+)(?:([cw])(\d+))?", self.names.get(name, name))
        if not match or request in self.unknown:
            raise OSError(errno.ENOTTY, "unknown")
        if (card := int(match[1])) in self.gone and request not in OUTSIDE_THE_GATE:
            raise OSError(errno.ENODEV, "gone")
        if request == uapi.PCIEDMA_IOC_CARD_INFO:
            self._card(card, argument)
        elif match[2] is None:
            self._call_card(request, argument)
        else:
            self.entries.one_way = len(self.directions) == 1
            if match[2] == "c" and (count := self.entries.ioctl(match[0], fd, request, argument)) is not None:
                return count
            call = self._call_channel if match[2] == "c" else self._call_window
            call(card, int(match[3]), request, argument)
        return 0

    def _card(self, card: int, argument: Any) -> None:
        argument.index, argument.channels, argument.name, argument.event_lines = card, self.channels, b"xdma", 16
        argument.pci_address = self.addresses.get(card, f"0000:0{card}:00.0").encode()
        argument.windows = len(self.windows)
        argument.abi_version, argument.driver_version = self.abi_version, self.version.encode()

    def _call_card(self, request: int, argument: Any) -> None:
        if request not in (uapi.PCIEDMA_IOC_RESET, uapi.PCIEDMA_IOC_SET_EVENTS, uapi.PCIEDMA_IOC_GET_EVENTS):
            raise OSError(errno.ENOTTY, "a channel's or a window's")

    def _call_channel(self, card: int, channel: int, request: int, argument: Any) -> None:
        if request == uapi.PCIEDMA_IOC_CHANNEL_INFO:
            argument.card, argument.channel, argument.kind, argument.size = card, channel, self.kind, self.size
            for direction in self.directions:
                getattr(argument, direction).flags = uapi.PCIEDMA_ENGINE_PRESENT
                getattr(argument, direction).max_dma = self.max_dma
        elif request == uapi.PCIEDMA_IOC_GET_WAIT:
            _copy(argument, self.wait)
        elif request == uapi.PCIEDMA_IOC_SET_WAIT:
            _copy(self.wait, argument)
        else:
            raise OSError(errno.ENOTTY, "a card's or a window's")

    def _call_window(self, card: int, window: int, request: int, argument: Any) -> None:
        if request != uapi.PCIEDMA_IOC_WINDOW_INFO:
            raise OSError(errno.ENOTTY, "a card's or a channel's")
        argument.card, argument.window, argument.name = card, window, self.windows[window].encode()
        argument.widths, argument.size, argument.bar = self.widths, self.size, window
        argument.flags = uapi.PCIEDMA_WINDOW_MAPPABLE if self.mappable else 0
