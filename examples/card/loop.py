"""Loop: one DMA of up to 4096 bytes at a time, either way, between host memory and 64 KiB of its own.

A made-up card, with which docs/add-a-card.md shows how to add one.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pciedma_lab.config_space import Identity
from pciedma_lab.faults import nothing
from pciedma_lab.model import COMMON_FAULTS, CardModel
from pciedma_lab.registers import Access, Field, Register, bit, names

RO, RW, W1C, W1S = Access.RO, Access.RW, Access.W1C, Access.W1S

ID = Register("ID", 0x00, (
    Field(31, 0, "id", RO, 0x4C4F4F50, "LOOP in ASCII"),
))
COMMAND = Register("COMMAND", 0x04, (
    bit(0, "start_h2c", W1S, "1 starts a DMA from the host; reads 0"),
    bit(1, "start_c2h", W1S, "1 starts a DMA to the host; reads 0"),
    bit(2, "abort", W1S, "1 ends the DMA under way after its burst; reads 0"),
))
STATUS = Register("STATUS", 0x08, (
    bit(0, "busy", RO, "from start until the card has left host memory alone; up to 50 ms behind an abort"),
    bit(1, "done", W1C, "a DMA has ended; to be cleared before the next one"),
    Field(28, 16, "count", RO, 0, "bytes that the last DMA has moved"),
))
INTERRUPT = Register("INTERRUPT", 0x0C, (
    bit(0, "enable", RW, "send the message when done rises; without messages, hold the pin while done is set"),
))
HOST_LOW = Register("HOST_LOW", 0x10, (
    Field(31, 0, "host_low", RW, 0, "host bus address"),
))
HOST_HIGH = Register("HOST_HIGH", 0x14, (
    Field(31, 0, "host_high", RW, 0, "its upper half"),
))
CARD = Register("CARD", 0x18, (
    Field(15, 0, "card", RW, 0, "address in the card's memory"),
))
LENGTH = Register("LENGTH", 0x1C, (
    Field(12, 0, "length", RW, 0, "bytes, 1 to 4096"),
))
LAMPS = Register("LAMPS", 0x00, (
    Field(7, 0, "lamps", RW, 0, "those that are lit"),
))
SETTINGS = (INTERRUPT, HOST_LOW, HOST_HIGH, CARD, LENGTH)
REGISTERS = (ID, COMMAND, STATUS, *SETTINGS)

#: The BAR of the user's own logic, of which this one has lamps.
USER_BAR = 1
BY_PLACE = {(0, register.offset): register for register in REGISTERS} | {(USER_BAR, LAMPS.offset): LAMPS}
MEMORY_LENGTH = 65536
LONGEST = 4096
BURST = 256
#: Microseconds that the last burst takes behind an abort.
ABORT_US = 20_000.0


class Model(CardModel):
    """The card."""

    name = "loop"
    identity = Identity(
        vendor=0x1234, device=0x100B, subsystem_vendor=0x1234, subsystem_device=0x100B,
        class_code=0xFF0000, bars=(4096, 4096, 0, 0, 0, 0), msi_vectors=1,
    )
    register_names = names((0, REGISTERS), (USER_BAR, (LAMPS,)))
    faults_known: ClassVar = COMMON_FAULTS | {"stall": nothing}

    def __init__(self, variant: str | None = None, seed: int = 0) -> None:
        """Make the card at its reset state."""
        super().__init__(variant, seed)
        self.sram = bytearray(MEMORY_LENGTH)
        self.number = 0
        self.reset()

    def reset(self) -> None:
        """Go to the reset state: a DMA under way is gone, and the memory keeps what it had."""
        self.values = {register.offset: register.reset for register in REGISTERS}
        self.lamps = LAMPS.reset
        self.number += 1
        self.to_host = self.done = False
        self.count = 0
        self._set_busy(False)
        self._drive_interrupt()

    def state(self) -> dict[str, Any]:
        """Return the registers by name."""
        return {register.name: self._value(register.offset) for register in REGISTERS}

    def read_register(self, bar: int, offset: int, size: int) -> int:
        """Return a register; reserved offsets read 0."""
        if size != 4 or offset % 4:
            self.records.violation("access_size", f"{size}-byte read at {offset:#x}: all registers are 32 bits")
            return 0
        if bar == USER_BAR:
            return self.lamps if offset == LAMPS.offset else 0
        return self._value(offset)

    def _value(self, offset: int) -> int:
        if offset == STATUS.offset:
            return self.count << 16 | self.done << 1 | self.busy
        return self.values.get(offset, 0)

    def write_register(self, bar: int, offset: int, size: int, value: int) -> None:
        """Do what a write does, after a look at whether the data sheet allows it."""
        register = BY_PLACE.get((bar, offset))
        if size != 4 or register is None:
            self.records.violation("reserved_register", f"{size}-byte write at {offset:#x}")
            return
        if value & ~register.writable:
            self.records.violation("reserved_bits", f"write of {value:#x} to {register.name}")
        value &= register.writable
        if register is LAMPS:
            self.lamps = value
        elif register is COMMAND:
            self._command(value)
        elif register is STATUS:
            self.done = self.done and not value & STATUS.mask("done")
            self._drive_interrupt()
        elif register in SETTINGS:
            self._set(register, value)

    def _set(self, register: Register, value: int) -> None:
        if self.busy and register is not INTERRUPT:
            self.records.violation("setting_while_busy", f"write to {register.name} during a DMA")
        else:
            self.values[register.offset] = value
            self._drive_interrupt()

    def _command(self, value: int) -> None:
        if value.bit_count() > 1:
            self.records.violation("two_commands", f"write of {value:#x} to COMMAND")
        elif value & COMMAND.mask("abort"):
            self._abort()
        elif value:
            self._start(to_host=value == COMMAND.mask("start_c2h"))

    def _start(self, *, to_host: bool) -> None:
        if self.busy or self.done:
            self.records.violation("start_while_busy", "start before done of the DMA before it was cleared")
            return
        if not self.config.bus_master:
            self.records.violation("start_without_bus_master", "start with bus mastering off")
        length = self.values[LENGTH.offset]
        if not 1 <= length <= LONGEST or self.values[CARD.offset] + length > MEMORY_LENGTH:
            self.records.violation("bad_length", f"{length} bytes at {self.values[CARD.offset]:#x} of the card")
            return
        self.records.counters["starts"] += 1
        self.to_host = to_host
        self.count = 0
        self._set_busy(True)
        if not self.faults.take("stall"):
            self._end_after(self.dma_delay_us(), length)

    def _abort(self) -> None:
        if self.busy:
            self._end_after(ABORT_US, min(self.values[LENGTH.offset], BURST))

    def _end_after(self, delay_us: float, length: int) -> None:
        """Let the DMA end after *length* bytes, and not as was planned before."""
        self.number += 1
        number = self.number
        self.after_us(delay_us, lambda: self._end(length) if number == self.number else None)

    def _end(self, length: int) -> None:
        if not self._move(length):
            return
        self.count = length
        self.done = True
        self._set_busy(False)
        if self.values[INTERRUPT.offset]:
            self.send_message()
        self._drive_interrupt()

    def _drive_interrupt(self) -> None:
        self.drive_level(self.done and bool(self.values[INTERRUPT.offset]))

    def _move(self, length: int) -> bool:
        host = self.values[HOST_HIGH.offset] << 32 | self.values[HOST_LOW.offset]
        area = memoryview(self.sram)[self.values[CARD.offset] :][:length]
        if self.to_host:
            return self.dma_to_host(host, area)
        data = self.dma_from_host(host, length)
        if data is not None:
            area[:] = data
        return data is not None

    def _set_busy(self, busy: bool) -> None:
        self.busy = busy
        self.config.set_transactions_pending(busy)
