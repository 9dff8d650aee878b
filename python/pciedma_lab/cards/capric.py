"""Capric: one DMA of up to 2047 bytes at a time each way, into and out of 2 KiB of SRAM.

Source: chapter 12 of Wang Qi's book on the PCI Express architecture. ``inferred`` marks what the book does
not say.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from ..config_space import Identity
from ..faults import nothing, number, one_of
from ..model import COMMON_FAULTS, CardModel
from ..registers import Access, Field, Register, bit, names

RW, RO, W1C = Access.RW, Access.RO, Access.W1C

DCSR1 = Register("DCSR1", 0x00, (
    bit(0, "init_rst_o", RW, "1 holds the card in reset: write 1, wait at least 5 us, write 0"),
    bit(8, "int_rd_enb", RW, "interrupt when a DMA read (H2C) is done"),
    bit(9, "int_wr_enb", RW, "interrupt when a DMA write (C2H) is done"),
    bit(16, "int_rd_msk", RW, "1: send no interrupt for a finished DMA read, set int_rd_pending instead"),
    bit(17, "int_rd_pending", RW, "an unsent interrupt waits; sent when bit 16 goes 1 to 0", inferred=True),
    bit(24, "int_wr_msk", RW, "as bit 16, for DMA write"),
    bit(25, "int_wr_pending", RW, "as bit 17, for DMA write", inferred=True),
))
DCSR2 = Register("DCSR2", 0x04, (
    bit(0, "mwr_start", RW, "1 starts a DMA write, 0 does nothing; 1 until the completion is acknowledged"),
    bit(1, "wr_done_clr", W1C, "set at completion; writing 1 clears it and mwr_start"),
    bit(16, "mrd_start", RW, "as mwr_start, for DMA read"),
    bit(17, "rd_done_clr", W1C, "as wr_done_clr, for DMA read"),
))
WR_DMA_ADR = Register("WR_DMA_ADR", 0x08, (
    Field(31, 0, "wr_dma_adr", RW, None, "host bus address that a DMA write fills"),
))
WR_DMA_SIZE = Register("WR_DMA_SIZE", 0x0C, (
    Field(10, 0, "wr_dma_size", RW, 0, "bytes, 1 to 0x7ff; 0 starts nothing until it changes"),
))
RD_DMA_ADR = Register("RD_DMA_ADR", 0x1C, (
    Field(31, 0, "rd_dma_adr", RW, None, "host bus address that a DMA read fetches"),
))
RD_DMA_SIZE = Register("RD_DMA_SIZE", 0x20, (
    Field(10, 0, "rd_dma_size", RW, 0, "as WR_DMA_SIZE, with mrd_start"),
))
INT_REG = Register("INT_REG", 0x2C, (
    bit(0, "int_src_rd", RO, "a DMA-read-done interrupt has been sent"),
    bit(1, "int_src_wr", RO, "a DMA-write-done interrupt has been sent"),
    bit(8, "rd_done_clr", W1C, "the same bit as DCSR2[17]"),
    bit(9, "wr_done_clr", W1C, "the same bit as DCSR2[1]"),
    bit(31, "int_asserted", RO, "int_src_rd OR int_src_wr", inferred=True),
))
ERR = Register("ERR", 0x30, (
    bit(0, "unexpected", RO, "unexpected completion", inferred=True),
    bit(1, "ur", RO, "completion with status UR", inferred=True),
    bit(2, "ca", RO, "completion with status CA", inferred=True),
))
REGISTERS = (DCSR1, DCSR2, WR_DMA_ADR, WR_DMA_SIZE, RD_DMA_ADR, RD_DMA_SIZE, INT_REG, ERR)

SRAM_SIZE = 2048
RESET_SECONDS = 5e-6
#: Reads of DCSR2 that a card with the fault late_dma still answers with busy after the reset (its choice).
LATE_READS = 3
#: Microseconds after which its DMA happens even if nobody reads (its own choice).
LATE_US = 20_000.0
#: Microseconds between the read of idle and the DMA of the fault lying_idle (its own choice).
LIE_US = 1_000_000.0

#: What the undefined address registers hold after a reset (its own choice: nothing is mapped there).
UNDEFINED = 0xDEADBEEC

# The subsystem id is (inferred).
_IDENTITY = Identity(
    vendor=0x10EE, device=0x0007, subsystem_vendor=0x10EE, subsystem_device=0x0007,
    class_code=0x050000, bars=(256, 0, 0, 0, 0, 0), msi_vectors=1,
)


@dataclass
class Engine:
    """One direction: where its registers and bits are, and what it does.

    ``running`` is the start bit, from the start to the acknowledgement; ``under_way`` is the DMA itself,
    which a size of 0 puts off.
    """

    name: str
    address: int
    size: int
    start: int
    done: int
    done_dcsr2: int
    source: int
    enable: int
    mask: int
    pending: int
    running: bool = False
    under_way: bool = False
    is_done: bool = False
    is_sent: bool = False
    started: float = 0.0
    generation: int = 0


def _engine(name: str, word: str, address: Register, size: Register) -> Engine:
    """Return the direction that the data sheet calls *word*."""
    done = f"{word}_done_clr"
    return Engine(
        name,
        address=address.offset,
        size=size.offset,
        start=DCSR2.mask(f"m{word}_start"),
        done=INT_REG.mask(done),
        done_dcsr2=DCSR2.mask(done),
        source=INT_REG.mask(f"int_src_{word}"),
        enable=DCSR1.mask(f"int_{word}_enb"),
        mask=DCSR1.mask(f"int_{word}_msk"),
        pending=DCSR1.mask(f"int_{word}_pending"),
    )


class Model(CardModel):
    """The card. Its message is an edge: the rise of int_asserted (inferred, the harsher reading)."""

    name = "capric"
    identity = _IDENTITY
    register_names = names((0, REGISTERS))
    faults_known: ClassVar = COMMON_FAULTS | {
        "early_completion": nothing,
        "stall": one_of("both", "c2h", "h2c"),
        "late_dma": nothing,
        "lying_idle": nothing,
        "dropped_dma": one_of("both", "c2h", "h2c"),
        "short_dma": number,  # bytes
        "error": one_of("ur", "ca", "unexpected"),
        "death": nothing,
    }
    variants: ClassVar = {
        "intx": dataclasses.replace(_IDENTITY, msi_vectors=0),
        "foreign-subsystem": dataclasses.replace(_IDENTITY, subsystem_device=0x1234),
        "foreign-bar": dataclasses.replace(_IDENTITY, bars=(65536, 0, 0, 0, 0, 0)),
        "own-id": dataclasses.replace(_IDENTITY, vendor=0x1234, device=0x5678, subsystem_device=0x1234),
    }

    def __init__(self, variant: str | None = None, seed: int = 0) -> None:
        """Make the card at its reset state."""
        super().__init__(variant, seed)
        self.sram = bytearray(SRAM_SIZE)
        self.engines = (
            _engine("c2h", "wr", WR_DMA_ADR, WR_DMA_SIZE),
            _engine("h2c", "rd", RD_DMA_ADR, RD_DMA_SIZE),
        )
        self._registers = {register.offset: register for register in REGISTERS}
        self._read_as: dict[int, Callable[[], int]] = {
            DCSR2.offset: self._read_dcsr2,
            INT_REG.offset: self._int_reg,
            ERR.offset: lambda: self.error,
        }
        self._write_as: dict[int, Callable[[int], None]] = {
            DCSR1.offset: self._write_dcsr1,
            DCSR2.offset: self._write_dcsr2,
            INT_REG.offset: self._acknowledge,
            ERR.offset: lambda value: None,
        }
        self._by_setting: dict[int, Engine] = {}
        for engine in self.engines:
            self._by_setting[engine.address] = engine
            self._by_setting[engine.size] = engine
        self.reset()

    def reset(self) -> None:
        """Go to the reset state; addresses are undefined then, and the SRAM keeps what it had."""
        self.late: list[tuple[Engine, int, int]] = []
        self.late_reads = 0
        self.lies: list[tuple[Engine, int, int]] = []
        self.asserted = False
        self.reset_since = 0.0
        self._reset_registers()

    def _reset_registers(self) -> None:
        """Both engines stop, and nothing that software had set stays (inferred for addresses and sizes)."""
        self.values = {register.offset: register.reset for register in REGISTERS}
        self.values[WR_DMA_ADR.offset] = self.values[RD_DMA_ADR.offset] = UNDEFINED
        self.error = 0
        for engine in self.engines:
            engine.generation += 1
            engine.running = engine.under_way = engine.is_done = engine.is_sent = False
        self._show_pending()
        self._update_interrupt()

    def _show_pending(self) -> None:
        under_way = any(engine.under_way for engine in self.engines)
        self.config.set_transactions_pending(under_way or bool(self.late))

    def state(self) -> dict[str, Any]:
        """Return register values by name and a digest of the SRAM."""
        values = {r.name: self.values[r.offset] for r in REGISTERS}
        values |= {"DCSR2": self._dcsr2(), "INT_REG": self._int_reg(), "ERR": self.error}
        running = [engine.name for engine in self.engines if engine.under_way]
        digest = hashlib.sha256(self.sram).hexdigest()
        return {"registers": values, "running": running, "sram_sha256": digest}

    def read_register(self, bar: int, offset: int, size: int) -> int:
        """Return a register; reserved offsets read 0 (inferred)."""
        if size != 4 or offset % 4:
            self._bad_size("read", offset, size)
            return 0
        if self.values[DCSR1.offset] & 1 and offset not in (DCSR1.offset, DCSR2.offset):
            text = f"read at {offset:#x} while init_rst_o is 1 (inferred)"
            self.records.violation("access_in_reset", text)
        reader = self._read_as.get(offset)
        if reader is not None:
            return reader()
        return self.values.get(offset, 0)

    def write_register(self, bar: int, offset: int, size: int, value: int) -> None:
        """Write a register; writes to reserved offsets are ignored (inferred)."""
        if size != 4 or offset % 4:
            self._bad_size("write", offset, size)
            return
        register = self._registers.get(offset)
        if register is None:
            self.records.violation("reserved_register", f"write of {value:#x} at {offset:#x}")
            return
        if value & ~register.writable:
            text = f"write of {value:#x} to {register.name}, where only {register.writable:#x} may be set"
            self.records.violation("reserved_bits", text)
        if self.values[DCSR1.offset] & 1 and offset != DCSR1.offset:
            text = f"write to {register.name} while init_rst_o is 1 (inferred)"
            self.records.violation("access_in_reset", text)
            return
        writer = self._write_as.get(offset)
        if writer is not None:
            writer(value & register.writable)
        else:
            self._write_setting(self._by_setting[offset], offset, value & register.writable)

    def _bad_size(self, kind: str, offset: int, size: int) -> None:
        text = f"{size}-byte {kind} at {offset:#x}: all registers are 32 bits"
        self.records.violation("access_size", text)

    def _write_setting(self, engine: Engine, offset: int, value: int) -> None:
        if engine.under_way:
            text = f"{engine.name}: write at {offset:#x} during its DMA"
            self.records.violation("setting_while_busy", text)
            return
        self.values[offset] = value
        if engine.running and not engine.is_done and offset == engine.size and value:
            self._begin(engine)

    def _dcsr2(self) -> int:
        value = 0
        for engine in self.engines:
            if engine.running:
                value |= engine.start
            if engine.is_done:
                value |= engine.done_dcsr2
        return value

    def _int_reg(self) -> int:
        value = 1 << 31 if self.asserted else 0
        for engine in self.engines:
            if engine.is_done:
                value |= engine.done
            if engine.is_sent:
                value |= engine.source
        return value

    def _read_dcsr2(self) -> int:
        if self.late:
            self.late_reads -= 1
            value = 0
            for engine, _, _ in self.late:
                value |= engine.start
            if self.late_reads <= 0:
                self._late_dmas(self.late)
            return value
        if self.lies:
            lies, self.lies = self.lies, []
            self.after_us(LIE_US, lambda: self._lie(lies))
        return self._dcsr2()

    def _late_dmas(self, late: list[tuple[Engine, int, int]]) -> None:
        if self.late is not late:
            return
        self.late = []
        self._show_pending()
        for engine, address, size in late:
            self.records.event("late_dma", direction=engine.name, address=address, length=size)
            self._transfer(engine, address, size)

    def _lie(self, lies: list[tuple[Engine, int, int]]) -> None:
        for engine, address, size in lies:
            self.records.event("lying_idle_dma", direction=engine.name, address=address, length=size)
            with self.ignoring_bus_master():
                self._transfer(engine, address, size)

    def _write_dcsr1(self, value: int) -> None:
        old = self.values[DCSR1.offset]
        if value & 1 and not old & 1:
            self._enter_reset()
        self.values[DCSR1.offset] = value
        if old & 1 and not value & 1 and self.clock() - self.reset_since < RESET_SECONDS:
            self.records.violation("reset_too_short", "init_rst_o must be 1 for at least 5 us")
        for engine in self.engines:
            unmasked = old & engine.mask and not value & (engine.mask | DCSR1.mask("init_rst_o"))
            if unmasked and old & engine.pending:
                self.values[DCSR1.offset] &= ~engine.pending
                engine.is_sent = True
        self._update_interrupt()

    def _enter_reset(self) -> None:
        self.reset_since = self.clock()
        pending = [
            (engine, self.values[engine.address], self.values[engine.size])
            for engine in self.engines
            if engine.under_way
        ]
        if pending and self.faults.take("late_dma"):
            self.late, self.late_reads = pending, LATE_READS
            self.after_us(LATE_US, lambda: self._late_dmas(pending))
        elif pending and self.faults.take("lying_idle"):
            self.lies = pending
        self._reset_registers()

    def _write_dcsr2(self, value: int) -> None:
        for engine in self.engines:
            if value & engine.done_dcsr2:
                self._clear_done(engine)
            if value & engine.start:
                self._start(engine)

    def _acknowledge(self, value: int) -> None:
        for engine in self.engines:
            if value & engine.done:
                self._clear_done(engine)

    def _clear_done(self, engine: Engine) -> None:
        if engine.is_done:
            engine.is_done = engine.running = engine.is_sent = False
            self.values[DCSR1.offset] &= ~engine.pending
            self._update_interrupt()

    def _start(self, engine: Engine) -> None:
        if engine.running:
            self.records.violation("start_while_busy", f"{engine.name}: start during its DMA")
            return
        if not self.config.bus_master:
            text = f"{engine.name}: start with bus mastering off"
            self.records.violation("start_without_bus_master", text)
        engine.running = True
        if self.values[engine.size]:
            self._begin(engine)
        else:
            self.records.violation("size_zero", f"{engine.name}: start with size 0 does nothing")

    def _begin(self, engine: Engine) -> None:
        self._check_range(engine)
        self.records.counters["starts"] += 1
        self.records.counters[f"{engine.name}_starts"] += 1
        engine.started = self.clock()
        engine.under_way = True
        self._show_pending()
        if not self.faults.active:
            generation = engine.generation
            self.after_us(0, lambda: self._finish(engine, generation))
            return
        self._begin_faulty(engine)

    def _begin_faulty(self, engine: Engine) -> None:
        faults = self.faults
        if faults.take("death"):
            self.die()
        if faults.value("late_dma") or faults.value("lying_idle"):
            return
        if faults.value("stall") in ("both", engine.name):
            faults.take("stall")
            return
        error = faults.take("error") if engine.name == "h2c" else None
        if error:
            self.error |= ERR.mask(error)
            self.after_us(0, self.send_message)
            self._update_interrupt()
            return
        if faults.take("early_completion"):
            self._finish(engine, engine.generation)
            return
        generation = engine.generation
        self.after_us(self.dma_delay_us(), lambda: self._finish(engine, generation))

    def _check_range(self, engine: Engine) -> None:
        address, size = self.values[engine.address], self.values[engine.size]
        if address + size > 1 << 32:
            self.records.violation("past_4_gib", f"{engine.name}: {size} bytes at {address:#x}")
        if (address + size - 1) // 4096 - address // 4096 > 1:
            text = f"{engine.name}: {size} bytes at {address:#x} cross two 4 KiB boundaries"
            self.records.violation("two_boundaries", text)

    def _finish(self, engine: Engine, generation: int) -> None:
        """The DMA ends, unless a reset came first: data, then the done bit, then the interrupt."""
        if engine.generation != generation:
            return
        size = self.dma_length(engine.name, self.values[engine.size])
        if size and not self._transfer(engine, self.values[engine.address], size):
            return
        self.records.counters["busy_ns"] += int((self.clock() - engine.started) * 1e9)
        engine.under_way = False
        engine.is_done = True
        self._show_pending()
        control = self.values[DCSR1.offset]
        if control & engine.enable:
            if control & engine.mask:
                self.values[DCSR1.offset] |= engine.pending
            else:
                engine.is_sent = True
        self._update_interrupt()

    def _transfer(self, engine: Engine, address: int, size: int) -> bool:
        if engine.name == "c2h":
            return self.dma_to_host(address, memoryview(self.sram)[:size])
        data = self.dma_from_host(address, size)
        if data is None:
            return False
        self.sram[:size] = data
        return True

    def _update_interrupt(self) -> None:
        asserted = any(engine.is_sent for engine in self.engines)
        if asserted and not self.asserted:
            self.asserted = True
            self.send_message()
        self.asserted = asserted
        self.drive_level(asserted or bool(self.error))
