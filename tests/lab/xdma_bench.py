"""A bare XDMA model, and what a driver does with it."""

from __future__ import annotations

import struct

from pciedma_lab.cards.xdma import Model

from .bench import MEMORY, ModelBench

H2C, C2H, IRQ, CONFIG, SGDMA, COMMON = 0x0000, 0x1000, 0x2000, 0x3000, 0x4000, 0x6000
CONTROL, CONTROL_W1S, CONTROL_W1C, STATUS, STATUS_RC, COUNT = 0x04, 0x08, 0x0C, 0x40, 0x44, 0x48
POLL_LO, MASK, MASK_W1S, MASK_W1C = 0x88, 0x90, 0x94, 0x98
FIRST_LO, ADJACENT, CREDITS = SGDMA + 0x80, SGDMA + 0x88, SGDMA + 0x8C
CREDIT_W1S = COMMON + 0x24
CHANNEL_ENABLE_W1S = IRQ + 0x14
RUN, STOPPED, DONE, MAGIC_STOPPED, IDLE_STOPPED = 1, 2, 4, 1 << 4, 1 << 6
ERRORS, WRITE_ERRORS = 0x00FFFE18, 0x1F << 14
POLLMODE_WB, NON_INC = 1 << 26, 1 << 25
#: Reserved for C2H: in CONTROL, and in the interrupt mask.
NOT_OF_C2H, NOT_MASKED_OF_C2H = WRITE_ERRORS, WRITE_ERRORS | 1 << 3 | 1 << 5
RUNNING = RUN | STOPPED | DONE | IDLE_STOPPED | ERRORS | POLLMODE_WB
STOP, COMPLETED, EOP = 1, 2, 16

#: Where the bench keeps the ring, the poll dword and data.
RING, POLL, DATA = MEMORY, MEMORY + 0x4000, MEMORY + 0x8000
RING_LENGTH = 256
_DESCRIPTOR = struct.Struct("<IIQQQ")


class XdmaBench(ModelBench):
    """A bare XDMA, with all interrupts on."""

    def __init__(self, variant: str | None = None) -> None:
        """Put it on the bench."""
        self.model = Model(variant, seed=1)
        super().__init__(self.model)
        self.write(CHANNEL_ENABLE_W1S, 0xFF & (1 << len(self.model.engines)) - 1)
        for engine in (H2C, C2H):
            self.write(engine + POLL_LO, POLL + engine // 0x1000 * 64)
            self.write(engine + MASK, DONE | STOPPED | (ERRORS if engine == H2C else ERRORS & ~NOT_MASKED_OF_C2H))

    def read(self, offset: int) -> int:
        """Read a register of the DMA BAR."""
        return self.model.read(self.model.design.dma_bar, offset, 4)

    def write(self, offset: int, value: int) -> None:
        """Write one."""
        self.model.write(self.model.design.dma_bar, offset, 4, value)

    def poll_word(self, engine: int) -> int:
        """Return the completed count that the engine has written."""
        at = POLL + engine // 0x1000 * 64 - MEMORY
        return int.from_bytes(self.ram.bytes[at : at + 4], "little")

    def descriptor(
        self, index: int, source: int, destination: int, length: int, flags: int = 0, adjacent: int | None = None,
        following: int | None = None, magic: int = 0xAD4B,
    ) -> None:
        """Write a descriptor of the ring; by default it is linked to the next, as adjacent as it is."""
        after = (index + 1) % RING_LENGTH
        if adjacent is None:
            adjacent = min(63, 127 - after % 128)
        following = RING + 32 * after if following is None else following
        control = magic << 16 | adjacent << 8 | flags
        at = RING - MEMORY + 32 * index
        self.ram.bytes[at : at + 32] = _DESCRIPTOR.pack(control, length, source, destination, following)

    def begin(self, engine: int, *, credit_mode: bool = True, adjacent: int = 63, control: int = RUNNING) -> None:
        """Start an engine at the ring's beginning."""
        if credit_mode:
            self.write(CREDIT_W1S, 1 if engine == H2C else 1 << 16)
        self.write(engine + FIRST_LO, RING)
        self.write(engine + ADJACENT, adjacent)
        self.write(engine + CONTROL_W1C, RUN)
        self.write(engine + CONTROL, control if engine == H2C else control & ~NOT_OF_C2H)

    def chain(self, engine: int, pieces: list[tuple[int, int, int]], **options: int) -> None:
        """Run a chain that ends with STOP: pieces are source, destination, length."""
        for index, (source, destination, length) in enumerate(pieces):
            last = index == len(pieces) - 1
            adjacent = 0 if last else len(pieces) - index - 2
            self.descriptor(index, source, destination, length, STOP | COMPLETED if last else 0, adjacent=adjacent)
        self.begin(engine, credit_mode=False, adjacent=len(pieces) - 1, **options)
        self.run()
