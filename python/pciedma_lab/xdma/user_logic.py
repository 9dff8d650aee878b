"""What lies behind XDMA's user BAR: a small design of the lab's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import registers as r

if TYPE_CHECKING:
    from ..cards.xdma import Model

#: Behind the registers there is plain memory, up to the BAR's end.
MEMORY_START = 0x1000


class UserLogic:
    """Registers of 32 bits, and memory. An access takes effect on each register that it touches, once.

    A narrow write changes only its bytes; a narrow read reads the whole register, side effects and all.
    """

    def __init__(self, card: Model, size: int) -> None:
        """Belong to *card*, in a BAR of *size* bytes."""
        self.card = card
        self.memory = bytearray(size - MEMORY_START)
        self.reset()

    def reset(self) -> None:
        """Go to the reset state; the memory keeps what it had."""
        self.scratch = 0
        self.written = 0

    def read(self, offset: int, size: int) -> int:
        """Return what software reads."""
        if offset >= MEMORY_START:
            at = offset - MEMORY_START
            return int.from_bytes(self.memory[at : at + size], "little")
        value = 0
        for place in range(offset & ~3, offset + size, 4):
            value |= self._read_register(place) << 8 * (place - (offset & ~3))
        return value >> 8 * (offset & 3) & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Do what software's write does."""
        if offset >= MEMORY_START:
            at = offset - MEMORY_START
            self.memory[at : at + size] = value.to_bytes(size, "little")
            return
        value, mask = value << 8 * (offset & 3), (1 << 8 * size) - 1 << 8 * (offset & 3)
        for place in range(offset & ~3, offset + size, 4):
            shift = 8 * (place - (offset & ~3))
            self._write_register(place, value >> shift & 0xFFFFFFFF, mask >> shift & 0xFFFFFFFF)

    def _read_register(self, place: int) -> int:
        if place == r.USER_SCRATCH.offset:
            return self.scratch
        if place == r.USER_WIRES.offset:
            return self.card.irq_block.wires
        if place == r.USER_WRITTEN.offset:
            written, self.written = self.written, 0
            return written
        return 0

    def _write_register(self, place: int, value: int, mask: int) -> None:
        if place == r.USER_SCRATCH.offset:
            self.scratch = self.scratch & ~mask | value & mask
            self.written = self.written + 1 & 0xFFFFFFFF
        elif place == r.USER_WIRES.offset:
            self.card.irq_block.lower_wires(value & mask)
