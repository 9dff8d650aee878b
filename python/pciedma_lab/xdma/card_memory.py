"""What lies behind XDMA's memory-mapped channels: sparse card memory."""

from __future__ import annotations

import mmap
import os

SIZE = 64 << 30


class CardMemory:
    """``SIZE`` bytes from address 0, which cost only what was written; behind them nobody answers."""

    def __init__(self) -> None:
        """Start with zeros."""
        fd = os.memfd_create("card memory")
        os.ftruncate(fd, SIZE)
        self._map = memoryview(mmap.mmap(fd, SIZE))
        os.close(fd)

    def view(self, address: int, length: int) -> memoryview | None:
        """Return the memory, to read or to write, or None if not all of it is there."""
        if address + length > SIZE:
            return None
        return self._map[address : address + length]
