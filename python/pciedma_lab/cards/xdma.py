"""XDMA, AMD/Xilinx's DMA/Bridge Subsystem for PCI Express: chained descriptors, up to four channels each way.

Source: product guide PG195. ``inferred`` marks what it does not say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from ..config_space import Identity
from ..faults import nothing, number, one_of
from ..model import COMMON_FAULTS, CardModel
from ..xdma import registers as r
from ..xdma.card_memory import CardMemory
from ..xdma.engine import Engine
from ..xdma.interrupts import InterruptBlock
from ..xdma.stream import Stream
from ..xdma.user_logic import MEMORY_START, UserLogic

DMA_BAR_SIZE, USER_BAR_SIZE, BYPASS_BAR_SIZE = 65536, 65536, 1 << 20
#: What the registers of a design that is not XDMA may read as.
FOREIGN = 0x12345678

_IDENTITY = Identity(
    vendor=0x10EE, device=0x9038, subsystem_vendor=0x10EE, subsystem_device=0x0007, class_code=0x070001,
    bars=(DMA_BAR_SIZE, 0, 0, 0, 0, 0), msi_vectors=0, msix_vectors=32, msix_table=(0, 0x8000),
    msix_pending=(0, 0x8FE0),
)


@dataclass(frozen=True)
class Design:
    """How the core was configured. ``h2c`` and ``c2h`` have an entry for each channel: True for a stream.

    ``alignment`` is bytes of addresses, bytes of lengths, and bits of an address; None makes its register read 0.
    """

    identity: Identity = _IDENTITY
    h2c: tuple[bool, ...] = (False,)
    c2h: tuple[bool, ...] = (False,)
    version: int = 6
    alignment: tuple[int, int, int] | None = (1, 1, 64)
    dma_bar: int = 0
    user_bar: int | None = None
    bypass_bar: int | None = None
    foreign: bool = False


def _at(bar: int, sizes: tuple[int, ...], bars_64bit: tuple[int, ...] = ()) -> Identity:
    """Return the identity with other BARs, the DMA registers in *bar*."""
    bars = (*sizes, *(0 for _ in range(6 - len(sizes))))
    return dataclasses.replace(
        _IDENTITY, bars=bars, bars_64bit=bars_64bit, msix_table=(bar, 0x8000), msix_pending=(bar, 0x8FE0)
    )


def _messages(identity: Identity = _IDENTITY, *, msi: int = 0, msix: int = 0) -> Identity:
    return dataclasses.replace(identity, msi_vectors=msi, msix_vectors=msix)


_USER, _BYPASS = USER_BAR_SIZE, BYPASS_BAR_SIZE
_USER_BARS = _at(1, (_USER, DMA_BAR_SIZE))
DESIGNS = {
    "default": Design(),
    "2ch": Design(h2c=(False,) * 2, c2h=(False,) * 2),
    "4ch": Design(h2c=(False,) * 4, c2h=(False,) * 4),
    "h2c-only": Design(c2h=()),
    "c2h-only": Design(h2c=()),
    "uneven": Design(h2c=(False,) * 2),
    "stream": Design(h2c=(True,), c2h=(True,)),
    "mixed": Design(h2c=(False, True), c2h=(False, True)),
    "user": Design(_USER_BARS, dma_bar=1, user_bar=0),
    "user-msi": Design(_messages(_USER_BARS, msi=1), dma_bar=1, user_bar=0),
    "user-intx": Design(_messages(_USER_BARS), dma_bar=1, user_bar=0),
    "bypass": Design(_at(0, (DMA_BAR_SIZE, _BYPASS)), bypass_bar=1),
    "user-bypass": Design(_at(1, (_USER, DMA_BAR_SIZE, _BYPASS)), dma_bar=1, user_bar=0, bypass_bar=2),
    "64bit": Design(_at(0, (DMA_BAR_SIZE,), (0,))),
    "64bit-user-bypass": Design(
        dataclasses.replace(_at(2, (_USER, 0, DMA_BAR_SIZE, 0, _BYPASS), (0, 2, 4)), bars_prefetchable=(4,)),
        dma_bar=2, user_bar=0, bypass_bar=4,
    ),
    "msix-few": Design(_messages(msix=3), h2c=(False,) * 4, c2h=(False,) * 4),
    "msi": Design(_messages(msi=1)),
    "msi-many": Design(_messages(msi=16), h2c=(False,) * 2, c2h=(False,) * 2),
    "msi-msix": Design(_messages(msi=16, msix=32)),
    "intx": Design(_messages()),
    "old-core": Design(version=4, alignment=None),
    "ancient-core": Design(version=1),
    "aligned": Design(alignment=(64, 64, 64)),
    "address-aligned": Design(alignment=(64, 1, 64)),
    "narrow": Design(alignment=(1, 1, 40)),
    "foreign": Design(foreign=True),
    "foreign-bar": Design(dataclasses.replace(_messages(msi=1), bars=(4096, 0, 0, 0, 0, 0))),
}


class Model(CardModel):
    """The card."""

    name = "xdma"
    identity = _IDENTITY
    variants: ClassVar = {name: design.identity for name, design in DESIGNS.items()}
    faults_known: ClassVar = COMMON_FAULTS | {
        "bandwidth": number,  # MB/s of each engine
        "latency": number,  # us of each descriptor
        "early_completion": nothing,
        "stall": one_of("both", "c2h", "h2c"),
        "late_dma": nothing,
        "lying_idle": nothing,
        "dropped_dma": one_of("both", "c2h", "h2c"),
        "short_dma": number,  # bytes
        "descriptor_error": nothing,
        "read_error": nothing,
        "write_error": nothing,
        "magic_error": nothing,
        "poll_error": nothing,
        "busy_extra_read": nothing,
        "strict_poll_mode": nothing,
        "no_credits": nothing,
        "overfetch": nothing,
        "stale_interrupt": nothing,
        "death": nothing,
        "user_interrupt": number,
        "stream_source": number,
        "stream_sink": nothing,
        "sink_rate": number,  # MB/s
    }

    def __init__(self, variant: str | None = None, seed: int = 0) -> None:
        """Make the card at its reset state."""
        self.design = DESIGNS[variant or "default"]
        self.register_names = r.place_names(self.design.dma_bar, self.design.user_bar)
        super().__init__(variant, seed)
        self.alignment = self.design.alignment or (1, 1, 64)
        self.width = 16
        self.card_memory = CardMemory()
        self.streams = [Stream() for _ in range(4)]
        self.h2c = [
            Engine(self, c2h=False, number=n, index=n, stream=stream) for n, stream in enumerate(self.design.h2c)
        ]
        self.c2h = [
            Engine(self, c2h=True, number=n, index=len(self.h2c) + n, stream=stream)
            for n, stream in enumerate(self.design.c2h)
        ]
        self.engines = self.h2c + self.c2h
        self.irq_block = InterruptBlock(self)
        self.user_logic = UserLogic(self, USER_BAR_SIZE)
        self.reset()

    def reset(self) -> None:
        """Go to the reset state; card memory keeps what it had."""
        self.fetch_halt = self.credit_enable = 0
        self.config_values = {register.offset: register.reset for register in r.CONFIG}
        self.user_logic.reset()
        for engine in self.engines:
            engine.reset()
        for stream in self.streams:
            stream.reset()
        self.irq_block.reset()

    def state(self) -> dict[str, Any]:
        """Return what the engines are about."""
        return {
            "engines": {
                engine.name: {
                    "control": engine.control, "status": engine.status | engine.busy, "count": engine.count,
                    "credits": engine.credits, "stalled": engine.stalled,
                }
                for engine in self.engines
            },
            "wires": self.irq_block.wires,
            "accesses": list(self.records.accesses),
            "stream_errors": sum(stream.wrong for stream in self.streams),
        }

    def set_fault(self, text: str) -> None:
        """Switch a fault on; some are orders to the user's logic, which it carries out at once."""
        super().set_fault(text)
        wire = self.faults.value("user_interrupt")
        if wire is not None:
            del self.faults.active["user_interrupt"]
            self.irq_block.raise_wire(int(wire))
        self._order_streams()

    def clear_faults(self) -> None:
        """Switch all faults off; streams are loop-backs again."""
        super().clear_faults()
        self._order_streams()

    def _order_streams(self) -> None:
        rate = self.faults.value("sink_rate")
        checks = bool(self.faults.value("stream_sink")) or rate is not None
        for stream in self.streams:
            stream.source_length = int(self.faults.value("stream_source") or 0)
            stream.set_sink(self.clock(), checks=checks, rate=None if rate is None else rate * 1e6)
        self.wake_streams()

    def update_interrupts(self) -> None:
        """Let the interrupt block see what has changed."""
        self.irq_block.update()

    def wake_streams(self) -> None:
        """Let stream engines that wait for data or for room look again."""
        for engine in self.engines:
            engine.stream_moved()

    def _bit(self, engine: Engine) -> int:
        return 1 << (engine.number + (16 if engine.c2h else 0))

    def credit_mode(self, engine: Engine) -> bool:
        """Whether an engine fetches only as many descriptors as it has credits."""
        return bool(self.credit_enable & self._bit(engine))

    def fetch_halted(self, engine: Engine) -> bool:
        """Whether an engine may fetch no descriptors."""
        return bool(self.fetch_halt & self._bit(engine))

    def dma_from_host_into(self, address: int, memory: memoryview) -> bool:
        """Read host memory without a copy in between; a refused DMA is recorded, and False returned."""
        done = self._dma("h2c", address, len(memory), lambda: self.memory.read_into(address, memory))
        return done is not None

    # Registers

    def read_register(self, bar: int, offset: int, size: int) -> int:
        """Return what software reads."""
        if bar == self.design.user_bar:
            value = self.user_logic.read(offset, size)
            self.records.access("user", "read", offset, size, value, each=offset < MEMORY_START)
            return value
        if bar == self.design.bypass_bar:
            memory = self.card_memory.view(offset, size)
            value = int.from_bytes(memory or b"", "little")
            self.records.access("bypass", "read", offset, size, value)
            return value
        if self.design.foreign or self.identity.bars[bar] < DMA_BAR_SIZE:
            return FOREIGN
        if size != 4 or offset % 4:
            self._bad_size("read", offset, size)
            return 0
        target, channel, place = offset >> 12, offset >> 8 & 0xF, offset & 0xFF
        if target in r.CHANNEL_TARGETS:
            engine = self._engine(target, channel)
            return self._read_engine(engine, target, place) if engine else 0
        return self._read_block(target, place) if not channel else 0

    def write_register(self, bar: int, offset: int, size: int, value: int) -> None:
        """Do what software's write does."""
        if bar == self.design.user_bar:
            self.records.access("user", "write", offset, size, value, each=offset < MEMORY_START)
            self.user_logic.write(offset, size, value)
            return
        if bar == self.design.bypass_bar:
            self.records.access("bypass", "write", offset, size, value)
            memory = self.card_memory.view(offset, size)
            if memory is not None:
                memory[:] = value.to_bytes(size, "little")
            return
        if self.design.foreign or self.identity.bars[bar] < DMA_BAR_SIZE:
            self.records.violation("foreign_written", f"write of {value:#x} at {offset:#x} of somebody else's card")
            return
        if size != 4 or offset % 4:
            self._bad_size("write", offset, size)
            return
        self._write_dma_bar(offset, value)

    def _write_dma_bar(self, offset: int, value: int) -> None:
        target, channel, place = offset >> 12, offset >> 8 & 0xF, offset & 0xFF
        engine = self._engine(target, channel)
        register = r.register_at(target, place)
        if register is None or (target in r.CHANNEL_TARGETS and engine is None):
            self.records.violation("reserved_register", f"write of {value:#x} at {offset:#x}")
            return
        if value & ~register.writable:
            text = f"write of {value:#x} to {register.name}, where only {register.writable:#x} may be set"
            self.records.violation("reserved_bits", text)
            value &= register.writable
        if engine:
            self._write_engine(engine, target, place, value)
        else:
            self._write_block(target, place, value)

    def _bad_size(self, kind: str, offset: int, size: int) -> None:
        self.records.violation("access_size", f"{size}-byte {kind} at {offset:#x}: all registers are 32 bits")

    def _engine(self, target: int, channel: int) -> Engine | None:
        if target not in r.CHANNEL_TARGETS:
            return None
        engines = self.h2c if target in (r.Target.H2C, r.Target.H2C_SGDMA) else self.c2h
        return engines[channel] if channel < len(engines) else None

    def _identifier(self, target: int, engine: Engine | None) -> int:
        value = 0x1FC << 20 | target << 16 | self.design.version
        if engine:
            value |= engine.number << 8 | (1 << 15 if engine.stream else 0)
        return value

    def _read_engine(self, engine: Engine, target: int, place: int) -> int:
        if place == r.IDENTIFIER.offset:
            return self._identifier(target, engine)
        if target in (r.Target.H2C_SGDMA, r.Target.C2H_SGDMA):
            return self._read_sgdma(engine, place)
        if place == r.STATUS.offset:
            return engine.read_status()
        if place == r.STATUS_RC.offset:
            value = engine.read_status()
            engine.clear_status(value)
            return value
        readers: dict[int, Callable[[], int]] = {
            r.CONTROL.offset: lambda: engine.control,
            r.COMPLETED_COUNT.offset: lambda: engine.told,
            r.ALIGNMENTS.offset: self._alignments,
            r.POLL_ADDRESS_LO.offset: lambda: engine.poll_address & 0xFFFFFFFF,
            r.POLL_ADDRESS_HI.offset: lambda: engine.poll_address >> 32,
            r.IRQ_MASK.offset: lambda: engine.mask,
            r.PERF_CONTROL.offset: lambda: engine.performance.control,
        }
        return readers.get(place, lambda: engine.performance.read(place))()

    def _alignments(self) -> int:
        if self.design.alignment is None:
            return 0
        address, length, bits = self.design.alignment
        return address << 16 | length << 8 | bits

    def _read_sgdma(self, engine: Engine, place: int) -> int:
        values = {
            r.FIRST_LO.offset: engine.first & 0xFFFFFFFF,
            r.FIRST_HI.offset: engine.first >> 32,
            r.FIRST_ADJACENT.offset: engine.first_adjacent,
            r.CREDITS.offset: engine.credits,
        }
        return values.get(place, 0)

    def _write_engine(self, engine: Engine, target: int, place: int, value: int) -> None:
        if target in (r.Target.H2C_SGDMA, r.Target.C2H_SGDMA):
            self._write_sgdma(engine, place, value)
        elif place == r.CONTROL.offset:
            engine.write_control(value)
        elif place == r.CONTROL_W1S.offset:
            engine.write_control(engine.control | value)
        elif place == r.CONTROL_W1C.offset:
            engine.write_control(engine.control & ~value)
        elif place == r.STATUS.offset:
            engine.clear_status(value)
        elif place == r.POLL_ADDRESS_LO.offset:
            engine.poll_address = engine.poll_address >> 32 << 32 | value
        elif place == r.POLL_ADDRESS_HI.offset:
            engine.poll_address = engine.poll_address & 0xFFFFFFFF | value << 32
        elif place == r.PERF_CONTROL.offset:
            engine.performance.write(value)
        else:
            masks = {
                r.IRQ_MASK.offset: value,
                r.IRQ_MASK_W1S.offset: engine.mask | value,
                r.IRQ_MASK_W1C.offset: engine.mask & ~value,
            }
            engine.mask = masks.get(place, engine.mask)
            self.update_interrupts()

    def _write_sgdma(self, engine: Engine, place: int, value: int) -> None:
        if place == r.CREDITS.offset:
            engine.add_credits(value)
            return
        if engine.busy:
            self.records.violation("setting_while_busy", f"{engine.name}: write at {place:#x} of SGDMA while it runs")
        if place == r.FIRST_LO.offset:
            engine.first = engine.first >> 32 << 32 | value
        elif place == r.FIRST_HI.offset:
            engine.first = engine.first & 0xFFFFFFFF | value << 32
        elif place == r.FIRST_ADJACENT.offset:
            engine.first_adjacent = value

    def _read_block(self, target: int, place: int) -> int:
        if target not in (r.Target.IRQ, r.Target.CONFIG, r.Target.COMMON):
            return 0
        if place == r.IDENTIFIER.offset:
            return self._identifier(target, None)
        if target == r.Target.IRQ:
            return self.irq_block.read(place)
        if target == r.Target.CONFIG:
            return self._read_config_block(place)
        return {r.FETCH_HALT.offset: self.fetch_halt, r.CREDIT_ENABLE.offset: self.credit_enable}.get(place, 0)

    def _read_config_block(self, place: int) -> int:
        if place == r.MESSAGES.offset:
            return self.config.msi_enabled | self.config.msix_enabled << 1
        return self.config_values.get(place, 0)

    def _write_block(self, target: int, place: int, value: int) -> None:
        if target == r.Target.IRQ:
            self.irq_block.write(place, value)
        elif target == r.Target.CONFIG:
            self.config_values[place] = value
        elif target == r.Target.COMMON:
            base, kind = place & ~0xF, place & 0xF
            if base == r.FETCH_HALT.offset:
                self.fetch_halt = _aliased(self.fetch_halt, kind, value)
            elif not self.faults.value("no_credits"):
                self.credit_enable = _aliased(self.credit_enable, kind, value)
            for engine in self.engines:
                if not self.credit_mode(engine):
                    engine.credits = 0
                engine.wake()


def _aliased(old: int, kind: int, value: int) -> int:
    """Return a register's value after a write to it, to its W1S or to its W1C alias."""
    return {0: value, 4: old | value, 8: old & ~value}[kind]
