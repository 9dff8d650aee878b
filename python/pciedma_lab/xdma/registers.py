"""XDMA's registers, as the product guide PG195 has them.

The DMA configuration BAR is cut into targets of 4 KiB; channels lie 256 bytes apart in the targets that have them.
"""

from __future__ import annotations

from enum import IntEnum

from ..registers import Access, Field, Register, bit

RW, RO, W1C, W1S, RC = Access.RW, Access.RO, Access.W1C, Access.W1S, Access.RC

CHANNEL_STRIDE = 0x100


class Target(IntEnum):
    """Bits 15:12 of an address in the DMA configuration BAR."""

    H2C = 0
    C2H = 1
    IRQ = 2
    CONFIG = 3
    H2C_SGDMA = 4
    C2H_SGDMA = 5
    COMMON = 6
    MSIX = 8


#: Targets whose addresses have a channel number in bits 11:8.
CHANNEL_TARGETS = (Target.H2C, Target.C2H, Target.H2C_SGDMA, Target.C2H_SGDMA)


def _word(name: str, offset: int, access: Access, meaning: str) -> Register:
    return Register(name, offset, (Field(31, 0, name.lower(), access, 0, meaning),))


#: What C2H channels have not: in any of the registers, and in the interrupt mask.
_NOT_OF_C2H = ("write_error",)
_NOT_MASKED_OF_C2H = (*_NOT_OF_C2H, "align_mismatch", "invalid_length")


def _conditions(access: Access, without: tuple[str, ...] = ()) -> tuple[Field, ...]:
    """Return the fields that control, status and interrupt mask share, but for those that are reserved."""
    fields = (
        bit(1, "descriptor_stopped", access, "a descriptor with STOP finished"),
        bit(2, "descriptor_completed", access, "a descriptor with COMPLETED finished"),
        bit(3, "align_mismatch", access, "addresses not aligned as they must be"),
        bit(4, "magic_stopped", access, "a descriptor without the magic; the engine stopped"),
        bit(5, "invalid_length", access, "length no multiple of the stream's width"),
        bit(6, "idle_stopped", access, "idle after Run was cleared"),
        Field(13, 9, "read_error", access, 0, "C2H: AXI (decode, slave); H2C: UR, CA, parity, poisoned, unexpected"),
        Field(18, 14, "write_error", access, 0, "AXI (decode, slave); reserved for C2H"),
        Field(23, 19, "descriptor_error", access, 0, "fetch of a descriptor: as read_error of H2C"),
    )
    return tuple(field for field in fields if field.name not in without)


def _control(name: str, offset: int, access: Access, without: tuple[str, ...] = ()) -> Register:
    return Register(name, offset, (
        bit(0, "run", access, "1 starts the engine, 0 lets it finish the current descriptor and stop"),
        *_conditions(access, without),
        bit(25, "non_inc_mode", access, "the card's address stays the same"),
        bit(26, "pollmode_wb_enable", access, "write the completed count to memory"),
        bit(27, "stream_wb_disable", access, "C2H stream: no result record for each descriptor"),
    ))


IDENTIFIER = _word("IDENTIFIER", 0x00, RO, "which block this is")
CONTROL = _control("CONTROL", 0x04, RW)
CONTROL_W1S = _control("CONTROL_W1S", 0x08, W1S)
CONTROL_W1C = _control("CONTROL_W1C", 0x0C, W1C)
STATUS = Register("STATUS", 0x40, (bit(0, "busy", RO, "not idle"), *_conditions(W1C)))
STATUS_RC = Register("STATUS_RC", 0x44, (bit(0, "busy", RO, "not idle"), *_conditions(RC)))
COMPLETED_COUNT = _word("COMPLETED_COUNT", 0x48, RO, "descriptors finished since Run was set")
ALIGNMENTS = Register("ALIGNMENTS", 0x4C, (
    Field(23, 16, "address", RO, 1, "bytes to which addresses must be aligned"),
    Field(15, 8, "length", RO, 1, "bytes of which lengths must be multiples"),
    Field(7, 0, "address_bits", RO, 64, "bits of an address"),
))
POLL_ADDRESS_LO = Register("POLL_ADDRESS_LO", 0x88, (Field(31, 2, "address", RW, 0, "where the count is written"),))
POLL_ADDRESS_HI = _word("POLL_ADDRESS_HI", 0x8C, RW, "its high half")
IRQ_MASK = Register("IRQ_MASK", 0x90, _conditions(RW))
IRQ_MASK_W1S = Register("IRQ_MASK_W1S", 0x94, _conditions(W1S))
IRQ_MASK_W1C = Register("IRQ_MASK_W1C", 0x98, _conditions(W1C))
PERF_CONTROL = Register("PERF_CONTROL", 0xC0, (
    bit(0, "auto", RW, "clear the counters when Run rises, stop at a descriptor with STOP"),
    bit(1, "clear", RW, "clear the counters; reads 0"),
    bit(2, "run", RW, "count"),
))


def _counter(name: str, offset: int, meaning: str) -> tuple[Register, Register]:
    high = (
        Field(9, 0, "high", RO, 0, "its bits 41:32"),
        bit(16, "saturated", RO, "it stays at its end"),
    )
    return _word(f"{name}_LO", offset, RO, meaning), Register(f"{name}_HI", offset + 4, high)


PERF_CYCLES_LO, PERF_CYCLES_HI = _counter("PERF_CYCLES", 0xC4, "clocks while the counters run")
PERF_BEATS_LO, PERF_BEATS_HI = _counter("PERF_BEATS", 0xCC, "words of the data path that were moved meanwhile")

#: H2C channels.
CHANNEL = (
    IDENTIFIER, CONTROL, CONTROL_W1S, CONTROL_W1C, STATUS, STATUS_RC, COMPLETED_COUNT, ALIGNMENTS, POLL_ADDRESS_LO,
    POLL_ADDRESS_HI, IRQ_MASK, IRQ_MASK_W1S, IRQ_MASK_W1C, PERF_CONTROL,
    PERF_CYCLES_LO, PERF_CYCLES_HI, PERF_BEATS_LO, PERF_BEATS_HI,
    *(_word(f"PERF_{offset:02X}", offset, RO, "pending, by another source; reads 0") for offset in (0xD4, 0xD8)),
)
#: What C2H channels have in their place, with fewer bits.
_C2H_REGISTERS = (
    _control("CONTROL", 0x04, RW, _NOT_OF_C2H),
    _control("CONTROL_W1S", 0x08, W1S, _NOT_OF_C2H),
    _control("CONTROL_W1C", 0x0C, W1C, _NOT_OF_C2H),
    Register("STATUS", 0x40, (bit(0, "busy", RO, "not idle"), *_conditions(W1C, _NOT_OF_C2H))),
    Register("STATUS_RC", 0x44, (bit(0, "busy", RO, "not idle"), *_conditions(RC, _NOT_OF_C2H))),
    Register("IRQ_MASK", 0x90, _conditions(RW, _NOT_MASKED_OF_C2H)),
    Register("IRQ_MASK_W1S", 0x94, _conditions(W1S, _NOT_MASKED_OF_C2H)),
    Register("IRQ_MASK_W1C", 0x98, _conditions(W1C, _NOT_MASKED_OF_C2H)),
)
C2H_CHANNEL = tuple(
    next((other for other in _C2H_REGISTERS if other.offset == register.offset), register) for register in CHANNEL
)

FIRST_LO = _word("FIRST_DESCRIPTOR_LO", 0x80, RW, "address of the first descriptor")
FIRST_HI = _word("FIRST_DESCRIPTOR_HI", 0x84, RW, "its high half")
FIRST_ADJACENT = Register("FIRST_ADJACENT", 0x88, (Field(5, 0, "adjacent", RW, 0, "extra descriptors behind it"),))
CREDITS = Register("CREDITS", 0x8C, (Field(9, 0, "credits", RW, 0, "writing adds, reading returns what remains"),))
SGDMA = (IDENTIFIER, FIRST_LO, FIRST_HI, FIRST_ADJACENT, CREDITS)


def _engines(name: str, offset: int, access: Access, meaning: str) -> Register:
    return Register(name, offset, (
        Field(3, 0, "h2c", access, 0, meaning),
        Field(19, 16, "c2h", access, 0, meaning),
    ))


FETCH_HALT = _engines("FETCH_HALT", 0x10, RW, "fetch no descriptors")
CREDIT_ENABLE = _engines("CREDIT_ENABLE", 0x20, RW, "fetch only as many descriptors as there are credits")
COMMON = (
    IDENTIFIER,
    FETCH_HALT,
    _engines("FETCH_HALT_W1S", 0x14, W1S, "set"),
    _engines("FETCH_HALT_W1C", 0x18, W1C, "clear"),
    CREDIT_ENABLE,
    _engines("CREDIT_ENABLE_W1S", 0x24, W1S, "set"),
    _engines("CREDIT_ENABLE_W1C", 0x28, W1C, "clear"),
)


def _lines(name: str, offset: int, high: int, access: Access, meaning: str) -> Register:
    return Register(name, offset, (Field(high, 0, "lines", access, 0, meaning),))


def _vectors(name: str, offset: int) -> Register:
    fields = tuple(Field(8 * n + 4, 8 * n, f"vector{n}", RW, 0, "vector of a line") for n in range(4))
    return Register(name, offset, fields)


USER_ENABLE = _lines("USER_ENABLE", 0x04, 15, RW, "user wires that interrupt")
CHANNEL_ENABLE = _lines("CHANNEL_ENABLE", 0x10, 7, RW, "channels that interrupt: H2C from bit 0, C2H above")
USER_REQUEST = _lines("USER_REQUEST", 0x40, 15, RO, "wire and enable")
CHANNEL_REQUEST = _lines("CHANNEL_REQUEST", 0x44, 7, RO, "source and enable")
USER_PENDING = _lines("USER_PENDING", 0x48, 15, RO, "wires")
CHANNEL_PENDING = _lines("CHANNEL_PENDING", 0x4C, 7, RO, "sources")
USER_VECTORS = 0x80
CHANNEL_VECTORS = 0xA0
IRQ = (
    IDENTIFIER,
    USER_ENABLE,
    _lines("USER_ENABLE_W1S", 0x08, 15, W1S, "set"),
    _lines("USER_ENABLE_W1C", 0x0C, 15, W1C, "clear"),
    CHANNEL_ENABLE,
    _lines("CHANNEL_ENABLE_W1S", 0x14, 7, W1S, "set"),
    _lines("CHANNEL_ENABLE_W1C", 0x18, 7, W1C, "clear"),
    USER_REQUEST,
    CHANNEL_REQUEST,
    USER_PENDING,
    CHANNEL_PENDING,
    *(_vectors(f"USER_VECTORS_{n}", USER_VECTORS + 4 * n) for n in range(4)),
    *(_vectors(f"CHANNEL_VECTORS_{n}", CHANNEL_VECTORS + 4 * n) for n in range(2)),
)

MESSAGES = Register("MSI_ENABLE", 0x14, (bit(0, "msi", RO, "MSI is on"), bit(1, "msix", RO, "MSI-X is on")))
CONFIG = (
    IDENTIFIER,
    Register("BUS_DEV_FN", 0x04, (Field(15, 0, "bdf", RO, 0, "bus, device, function"),)),
    Register("MAX_PAYLOAD", 0x08, (Field(2, 0, "code", RO, 2, "128 << code bytes"),)),
    Register("MAX_READ_REQUEST", 0x0C, (Field(2, 0, "code", RO, 2, "128 << code bytes"),)),
    Register("SYSTEM_ID", 0x10, (Field(15, 0, "id", RO, 0xFF01, "the designer's"),)),
    MESSAGES,
    Register("PCIE_WIDTH", 0x18, (Field(2, 0, "width", RO, 1, "64 << width bits"),)),
    Register("PCIE_CONTROL", 0x1C, (Field(0, 0, "relaxed_ordering", RW, 1, "on reads"),)),
    Register("USER_MAX_PAYLOAD", 0x40, (Field(2, 0, "code", RW, 5, "128 << code bytes"),)),
    Register("USER_MAX_READ_REQUEST", 0x44, (Field(2, 0, "code", RW, 5, "128 << code bytes"),)),
    Register("WRITE_FLUSH_TIMEOUT", 0x60, (Field(4, 0, "log2", RW, 0, "C2H stream: idle clocks before a flush"),)),
)

#: The AXI-Lite user BAR belongs to the card's designer; this small design is our own.
USER_SCRATCH = _word("USER_SCRATCH", 0x00, RW, "remembers what was written")
USER_WIRES = Register("USER_WIRES", 0x04, (Field(15, 0, "wires", W1C, 0, "user interrupt wires that are high"),))
USER_WRITTEN = _word("USER_WRITTEN", 0x08, RC, "writes to USER_SCRATCH since it was last read")
USER = (USER_SCRATCH, USER_WIRES, USER_WRITTEN)

BY_TARGET = {
    Target.H2C: CHANNEL,
    Target.C2H: C2H_CHANNEL,
    Target.IRQ: IRQ,
    Target.CONFIG: CONFIG,
    Target.H2C_SGDMA: SGDMA,
    Target.C2H_SGDMA: SGDMA,
    Target.COMMON: COMMON,
}


def register_at(target: int, offset: int) -> Register | None:
    """Return the register at *offset* (bits 7:0) of a target, or None where it is reserved."""
    return _PLACES.get((target, offset))


_PLACES = {
    (int(target), register.offset): register for target, registers in BY_TARGET.items() for register in registers
}


def place_names(bar: int, user_bar: int | None) -> dict[tuple[int, int], str]:
    """Return the registers' names by BAR and offset, for counters and histories."""
    names = {(user_bar, register.offset): register.name for register in USER} if user_bar is not None else {}
    for target, registers in BY_TARGET.items():
        channels = range(4) if target in CHANNEL_TARGETS else range(1)
        for channel in channels:
            base = (target << 12) + channel * CHANNEL_STRIDE
            label = f"{target.name}{channel if target in CHANNEL_TARGETS else ''}"
            for register in registers:
                names[bar, base + register.offset] = f"{label}.{register.name}"
    return names
