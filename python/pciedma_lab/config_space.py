"""A card's configuration space: header, capabilities, and what writes to it do."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

SIZE = 4096

COMMAND = 0x04
COMMAND_MEMORY = 0x0002
COMMAND_MASTER = 0x0004
COMMAND_INTX_DISABLE = 0x0400
CAPABILITIES = 0x34
INTERRUPT_PIN = 0x3D

_FIRST_CAPABILITY = 0x40
_ID_POWER, _ID_MSI, _ID_EXPRESS, _ID_MSIX = 0x01, 0x05, 0x10, 0x11
_FLR_CAPABLE = 1 << 28
_FLR_INITIATE = 1 << 15
_MSI_ENABLE, _MSIX_ENABLE = 0x0001, 0x8000


class InterruptMode(Enum):
    """How a card interrupts: as software has enabled it, whatever else the card could do."""

    INTX = "INTx"
    MSI = "MSI"
    MSIX = "MSI-X"


@dataclass(frozen=True)
class Identity:
    """What a card says of itself: PCI ids, class code, BAR lengths in bytes (0: none), and interrupts."""

    vendor: int
    device: int
    subsystem_vendor: int
    subsystem_device: int
    class_code: int
    bars: tuple[int, ...]
    #: Numbers of the BARs that are 64 bits wide: each takes the next one's place, too.
    bars_64bit: tuple[int, ...] = ()
    #: Numbers of those that hold memory: reads change nothing, and writes may be put together.
    bars_prefetchable: tuple[int, ...] = ()
    revision: int = 0
    msi_vectors: int = 1
    msi_64bit: bool = True
    msix_vectors: int = 0
    #: BAR and offset of the MSI-X table, and of its pending bits.
    msix_table: tuple[int, int] = (0, 0)
    msix_pending: tuple[int, int] = (0, 0)


class ConfigSpace:
    """The 4096 bytes. ``on_function_reset`` is called when software asks for a function-level reset."""

    def __init__(self, identity: Identity, on_function_reset: Callable[[], None]) -> None:
        """Build the space at its reset values."""
        self.identity = identity
        self._on_function_reset = on_function_reset
        self.reset()

    def reset(self) -> None:
        """Go to the reset values."""
        self.data = bytearray(SIZE)
        self._writable = bytearray(SIZE)
        identity = self.identity
        self._put(0x00, "<HH", identity.vendor, identity.device)
        self._put(0x08, "<I", identity.class_code << 8 | identity.revision)
        self._put(0x2C, "<HH", identity.subsystem_vendor, identity.subsystem_device)
        self._put(0x06, "<H", 0x0010)
        self._put(INTERRUPT_PIN, "<B", 1)
        self._allow(COMMAND, "<H", 0x0547)
        self._allow(0x3C, "<B", 0xFF)
        for number, length in enumerate(identity.bars):
            self._base_address(number, length)
        messages = [self._msi()] if identity.msi_vectors else []
        messages += [self._msix()] if identity.msix_vectors else []
        self._offsets: dict[int, int] = {}
        self._capabilities(self._express(), self._power(), *messages)

    def _put(self, offset: int, form: str, *values: int) -> None:
        struct.pack_into(form, self.data, offset, *values)

    def _allow(self, offset: int, form: str, *masks: int) -> None:
        struct.pack_into(form, self._writable, offset, *masks)

    def _base_address(self, number: int, length: int) -> None:
        if not length:
            return
        offset, is_64bit = 0x10 + 4 * number, number in self.identity.bars_64bit
        kind = (0x4 if is_64bit else 0) | (0x8 if number in self.identity.bars_prefetchable else 0)
        self._put(offset, "<I", kind)
        if is_64bit:
            self._allow(offset, "<Q", 0x10000000000000000 - length)
        else:
            self._allow(offset, "<I", 0x100000000 - length)

    def _capabilities(self, *capabilities: tuple[bytes, bytes]) -> None:
        """Chain capabilities, each given as its bytes and the mask of its writable bits."""
        link, offset = CAPABILITIES, _FIRST_CAPABILITY
        for data, writable in capabilities:
            self.data[link] = offset
            self.data[offset : offset + len(data)] = data
            self._writable[offset : offset + len(data)] = writable
            self._offsets[data[0]] = offset
            link, offset = offset + 1, (offset + len(data) + 3) & ~3

    @staticmethod
    def _express() -> tuple[bytes, bytes]:
        """PCI Express endpoint, version 2: payload 512 bytes, 8-bit tags, function reset; Gen1 x8."""
        data = bytearray(0x3C)
        struct.pack_into("<BBHI", data, 0, _ID_EXPRESS, 0, 0x0002, 2 | 1 << 5 | 1 << 15 | _FLR_CAPABLE)
        struct.pack_into("<HHIHH", data, 8, 0x2810, 0, 0x0081, 0, 0x0081)
        writable = bytearray(len(data))
        struct.pack_into("<H", writable, 8, 0x7FFF)
        return bytes(data), bytes(writable)

    @staticmethod
    def _power() -> tuple[bytes, bytes]:
        """Power management: D0 and D3hot, no soft reset on leaving D3hot."""
        return struct.pack("<BBHI", _ID_POWER, 0, 0x0003, 0x0008), struct.pack("<II", 0, 0x0003)

    def _msi(self) -> tuple[bytes, bytes]:
        control = (self.identity.msi_vectors.bit_length() - 1) << 1 | (0x80 if self.identity.msi_64bit else 0)
        size = 14 if self.identity.msi_64bit else 10
        data = struct.pack("<BBH", _ID_MSI, 0, control).ljust(size, b"\0")
        writable = struct.pack("<BBHI", 0, 0, 0x0071, 0xFFFFFFFC).ljust(size, b"\xff")
        return data, writable

    def _msix(self) -> tuple[bytes, bytes]:
        places = (self.identity.msix_table, self.identity.msix_pending)
        table, pending = (bar | offset for bar, offset in places)
        data = struct.pack("<BBHII", _ID_MSIX, 0, self.identity.msix_vectors - 1, table, pending)
        return data, struct.pack("<BBHII", 0, 0, 0xC000, 0, 0)

    def read(self, offset: int, size: int) -> bytes:
        """Return *size* bytes."""
        return bytes(self.data[offset : offset + size])

    def write(self, offset: int, data: Sequence[int]) -> None:
        """Write bytes as software does: only writable bits change."""
        for at, value in enumerate(data, offset):
            mask = self._writable[at]
            self.data[at] = self.data[at] & ~mask | value & mask
        control = self._offsets[_ID_EXPRESS] + 8
        if offset <= control + 1 < offset + len(data) and data[control + 1 - offset] & (_FLR_INITIATE >> 8):
            self._function_reset()

    def _function_reset(self) -> None:
        self.reset()
        self._on_function_reset()

    @property
    def intx_allowed(self) -> bool:
        """Whether the card may assert INTA: Interrupt Disable is not set."""
        return not self.data[COMMAND + 1] & (COMMAND_INTX_DISABLE >> 8)

    def _message_control(self, capability: int) -> int:
        offset = self._offsets.get(capability)
        return int.from_bytes(self.data[offset + 2 : offset + 4], "little") if offset else 0

    @property
    def msi_enabled(self) -> bool:
        """Whether software has enabled MSI."""
        return bool(self._message_control(_ID_MSI) & _MSI_ENABLE)

    @property
    def msix_enabled(self) -> bool:
        """Whether software has enabled MSI-X."""
        return bool(self._message_control(_ID_MSIX) & _MSIX_ENABLE)

    @property
    def interrupt_mode(self) -> InterruptMode:
        """How the card interrupts now; with both kinds of messages enabled, by MSI-X."""
        if self.msix_enabled:
            return InterruptMode.MSIX
        return InterruptMode.MSI if self.msi_enabled else InterruptMode.INTX

    @property
    def bus_master(self) -> bool:
        """Whether the card may access memory."""
        return bool(self.data[COMMAND] & COMMAND_MASTER)

    @property
    def decodes_memory(self) -> bool:
        """Whether the card answers at its BARs' addresses."""
        return bool(self.data[COMMAND] & COMMAND_MEMORY)

    def set_transactions_pending(self, pending: bool) -> None:
        """Set the bit that software waits for after it took bus mastering away."""
        status = self._offsets[_ID_EXPRESS] + 10
        self.data[status] = self.data[status] & ~0x20 | (0x20 if pending else 0)
