"""What lies behind XDMA's memory-mapped channels: sparse card memory."""

from __future__ import annotations

import mmap

SIZE = 64 << 30
_MAP_NORESERVE, _MADV_HUGEPAGE = 0x4000, 14  # names that the mmap module does not have everywhere


class CardMemory:
    """``SIZE`` bytes from address 0, which cost only what was written; behind them nobody answers."""

    def __init__(self) -> None:
        """Start with zeros."""
        area = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
        area.madvise(_MADV_HUGEPAGE)
        self._map = memoryview(area)

    def view(self, address: int, length: int) -> memoryview | None:
        """Return the memory, to read or to write, or None if not all of it is there."""
        if address + length > SIZE:
            return None
        return self._map[address : address + length]
