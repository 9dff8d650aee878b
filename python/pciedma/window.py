"""Windows: the registers of a card's own logic."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from typing import Final, Literal, SupportsIndex

from . import uapi
from .errors import translated
from .node import Node, NodePath, as_int

#: What memoryview calls an unsigned integer of so many bytes.
_FORMATS: Final[dict[int, Literal["B", "H", "I", "Q"]]] = {1: "B", 2: "H", 4: "I", 8: "Q"}


@dataclass(frozen=True)
class WindowInfo:
    """What a window is: ``size`` in bytes, ``widths`` of an access in bytes, the PCI BAR that it lies in.

    ``write_combining``: memory rather than registers; in a mapping writes may be put together, and reads made early.
    """

    card: int
    window: int
    name: str
    bar: int
    size: int
    widths: tuple[int, ...]
    mappable: bool
    write_combining: bool


class Window(Node):
    """An open window of a card: registers by their offset in bytes, little-endian, one access to the bus for a call.

    A write reads nothing, and a read reads once. While the card is reset or asleep a call waits; it can be killed, but
    no signal is handled, and by ``mmap`` no other thread of this interpreter runs. When the card has gone, reading by
    ``mmap`` returns all ones, as from a bus on which nobody answers, and by ``call`` raises CardGoneError. A child
    after fork() may use it, too.
    """

    __slots__ = ("_by", "_info", "_memory", "_views")

    _WHAT = "window"
    _info: WindowInfo
    _by: Literal["mmap", "call"]
    _views: dict[int, memoryview]
    _memory: mmap.mmap | None

    def __init__(self, path: NodePath, *, by: Literal["mmap", "call"] | None = None) -> None:
        """Open the node *path*. Accesses go by a mapping of it (``mmap``: fast), or by pread and pwrite (``call``:
        errors are seen); by default mapped where the window may be. Raises ValueError for another *by*,
        WrongNodeError if it is no window's node, OSError with EOPNOTSUPP for a mapping of a window that has none.
        """
        if by not in (None, "mmap", "call"):
            raise ValueError(f"by is 'mmap' or 'call', not {by!r}")
        self._views, self._memory = {}, None
        super().__init__(path, os.O_RDWR)
        with self._closed_on_error():
            self._info = self._get_info()
            self._by = by or ("mmap" if self.info.mappable else "call")
            if self.by == "mmap":
                self._map()

    @property
    def info(self) -> WindowInfo:
        """What the window is."""
        return self._info

    @property
    def by(self) -> Literal["mmap", "call"]:
        """How accesses are made."""
        return self._by

    def _about(self) -> str:
        return self.info.name if hasattr(self, "_info") else ""

    def _get_info(self) -> WindowInfo:
        raw = self._part_info(uapi.PCIEDMA_IOC_WINDOW_INFO, uapi.pciedma_window_info())
        return WindowInfo(
            raw.card, raw.window, raw.name.decode(errors="replace"), raw.bar, raw.size,
            tuple(width for width in _FORMATS if raw.widths & width),
            bool(raw.flags & uapi.PCIEDMA_WINDOW_MAPPABLE), bool(raw.flags & uapi.PCIEDMA_WINDOW_WRITE_COMBINING),
        )

    def _map(self) -> None:
        with translated(self.path):
            self._memory = mmap.mmap(self.fileno(), self.info.size)
        with memoryview(self._memory) as view:
            # An element is one load or one store of its size. (A field of ctypes is read before it is written.)
            self._views = {width: view.cast(_FORMATS[width]) for width in self.info.widths}

    def close(self) -> None:
        """Close the window, and end its mapping; a second time does nothing."""
        for view in self._views.values():
            view.release()
        self._views.clear()
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        super().close()

    def read8(self, offset: SupportsIndex) -> int:
        """Return the byte at *offset*. Errors as read32()."""
        return self._read(1, offset)

    def read16(self, offset: SupportsIndex) -> int:
        """Return the 16 bits at *offset*. Errors as read32()."""
        return self._read(2, offset)

    def read32(self, offset: SupportsIndex) -> int:
        """Return the 32 bits at *offset* bytes.

        Raises ValueError (closed; the window has no accesses of this width; an offset that is no multiple of it),
        IndexError (an offset beyond the window), TypeError; by ``call`` CardGoneError and other OSErrors.
        """
        return self._read(4, offset)

    def read64(self, offset: SupportsIndex) -> int:
        """Return the 64 bits at *offset*. Errors as read32()."""
        return self._read(8, offset)

    def write8(self, offset: SupportsIndex, value: SupportsIndex) -> None:
        """Write a byte at *offset*. Errors as write32()."""
        self._write(1, offset, value)

    def write16(self, offset: SupportsIndex, value: SupportsIndex) -> None:
        """Write 16 bits at *offset*. Errors as write32()."""
        self._write(2, offset, value)

    def write32(self, offset: SupportsIndex, value: SupportsIndex) -> None:
        """Write 32 bits, 0 to 2**32 - 1, at *offset* bytes. The card has them some time later; a read waits for that.

        Raises what read32() does, and ValueError for a value that has more bits.
        """
        self._write(4, offset, value)

    def write64(self, offset: SupportsIndex, value: SupportsIndex) -> None:
        """Write 64 bits at *offset*. Errors as write32()."""
        self._write(8, offset, value)

    def _index(self, width: int, offset: SupportsIndex) -> int:
        """Return which element of its width an offset is, after a look at whether it may be accessed."""
        self.fileno()  # closed?
        if width not in self._info.widths:
            widths = ", ".join(str(8 * known) for known in self._info.widths)
            raise ValueError(f"{self.path} ({self.info.name}) has no accesses of {8 * width} bits, only of {widths}")
        offset = as_int(offset, "the offset")
        if offset % width:
            raise ValueError(f"offset {offset:#x} is no multiple of {width}")
        if not 0 <= offset < self._info.size:
            raise IndexError(f"offset {offset:#x} is beyond the {self.info.size:#x} bytes of {self.path}")
        return offset // width

    def _read(self, width: int, offset: SupportsIndex) -> int:
        index = self._index(width, offset)
        if self._views:
            value: int = self._views[width][index]
            return value
        with translated(self.path):
            return int.from_bytes(os.pread(self.fileno(), width, index * width), "little")

    def _write(self, width: int, offset: SupportsIndex, value: SupportsIndex) -> None:
        index = self._index(width, offset)
        value = as_int(value, "the value")
        if not 0 <= value < 1 << 8 * width:
            raise ValueError(f"{value:#x} is no value of {8 * width} bits")
        if self._views:
            self._views[width][index] = value
            return
        with translated(self.path):
            os.pwrite(self.fileno(), value.to_bytes(width, "little"), index * width)
