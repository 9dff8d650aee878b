"""What all card models share: the registers' front door, timers, DMA, interrupts and the common faults."""

from __future__ import annotations

import heapq
import itertools
import os
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from .config_space import ConfigSpace, Identity, InterruptMode
from .faults import Faults, nothing, number, span
from .memory import DmaOutsideMemory, GuestMemory
from .records import Records

#: Spurious interrupts come no closer than this, so that the model still gets to work.
_LEAST_PERIOD_US = 100
#: Of so many DMAs, one has a hiccup.
_HICCUP_EVERY = 8

#: Faults that the shared part of a model knows; times in microseconds or, where said, milliseconds.
COMMON_FAULTS: dict[str, Callable[[str | None], Any]] = {
    "lost_interrupt": nothing,
    "late_interrupt": number,  # ms
    "duplicate_interrupt": nothing,
    "spurious_interrupt": number,  # ms between two
    "delayed_writes": number,  # us
    "all_ones": nothing,
    "all_ones_config": nothing,
    "lost_config": nothing,
    "long_reset": nothing,
    "delay": number,  # us
    "jitter": span,  # us
    "hiccup": span,  # us
}


class Interrupts:
    """Where a model's interrupts go; the server puts itself in its place."""

    def message(self, vector: int) -> None:
        """Send MSI or MSI-X message *vector*."""

    def level(self, asserted: bool) -> None:
        """Drive INTA."""


class CardModel(ABC):
    """A card. Everything runs in one event loop; nothing here may be called from other threads."""

    #: The model's name, its faults, and its variants with what each changes.
    name: str
    identity: Identity
    faults_known: ClassVar[Mapping[str, Callable[[str | None], Any]]] = COMMON_FAULTS
    variants: ClassVar[Mapping[str, Identity]] = {}
    #: The registers' names by BAR and offset: what counters and histories call them.
    register_names: Mapping[tuple[int, int], str] = {}

    def __init__(self, variant: str | None = None, seed: int = 0) -> None:
        """Make the card at its reset state; raises KeyError for an unknown variant."""
        self.identity = self.variants[variant] if variant else self.identity
        self.records = Records(self.register_names)
        self._read_names = {place: f"reads.{name}" for place, name in self.register_names.items()}
        self._write_names = {place: f"writes.{name}" for place, name in self.register_names.items()}
        self.faults = Faults(self.faults_known)
        self.memory = GuestMemory()
        self.config = ConfigSpace(self.identity, self.function_reset)
        self.interrupts = Interrupts()
        #: Ends the connection in order; the server puts its own in place.
        self.hang_up: Callable[[], None] = lambda: None
        self.random = random.Random(seed)
        self.clock: Callable[[], float] = time.monotonic
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        #: Writes that have not taken effect yet: when they will, and BAR, offset, size, value.
        self._posted: list[tuple[float, tuple[int, int, int, int]]] = []
        self._ignores_bus_master = False
        self._dmas = 0
        self._is_lost = False
        self._spurious_series = 0
        self._level = self._pin = False

    @abstractmethod
    def read_register(self, bar: int, offset: int, size: int) -> int:
        """Return what software reads."""

    @abstractmethod
    def write_register(self, bar: int, offset: int, size: int, value: int) -> None:
        """Do what software's write does."""

    @abstractmethod
    def reset(self) -> None:
        """Go to the reset state: after a function or bus reset."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return registers and memory in a form that JSON can carry."""

    def function_reset(self) -> None:
        """A function-level or bus reset happened."""
        self.records.counters["resets"] += 1
        self._posted.clear()
        self.reset()
        if self.faults.take("long_reset"):
            self.set_fault("all_ones_config")

    def disconnected(self) -> None:
        """The client has gone, as when power goes: nothing stays under way, and nothing stays mapped."""
        self._timers.clear()
        self.memory.forget()
        self.config.reset()
        self.function_reset()
        self._is_lost = False
        period_ms = self.faults.value("spurious_interrupt")
        if period_ms is not None:
            self._begin_spurious(period_ms)

    def read(self, bar: int, offset: int, size: int) -> int:
        """Software reads *size* bytes of a BAR."""
        counters = self.records.counters
        counters["mmio_reads"] += 1
        counters[self._read_names.get((bar, offset), "reads.reserved")] += 1
        if self._posted:
            self._flush_posted()
        if self._is_lost or (self.faults.active and self._is_off_the_bus()):
            return (1 << 8 * size) - 1
        value = self.read_register(bar, offset, size)
        self.records.history.append(("read", bar, offset, value))
        return value

    def write(self, bar: int, offset: int, size: int, value: int) -> None:
        """Software writes to a BAR."""
        counters = self.records.counters
        counters["mmio_writes"] += 1
        counters[self._write_names.get((bar, offset), "writes.reserved")] += 1
        self.records.history.append(("write", bar, offset, value))
        if self._is_lost:
            return
        if (self.faults.active or self._posted) and self._is_held_back(bar, offset, size, value):
            return
        self.write_register(bar, offset, size, value)

    def read_config(self, offset: int, size: int) -> bytes:
        """Software reads configuration space."""
        self.records.counters["config_reads"] += 1
        if self.faults.active and self.faults.take("all_ones_config"):
            return b"\xff" * size
        return self.config.read(offset, size)

    def write_config(self, offset: int, data: bytes) -> None:
        """Software writes to configuration space."""
        self.records.counters["config_writes"] += 1
        if self.faults.active and self.faults.take("all_ones_config"):
            return
        self.config.write(offset, data)
        self._is_lost = self._is_lost and not self.config.decodes_memory
        self._drive_pin()

    def _is_off_the_bus(self) -> bool:
        return bool(self.faults.take("all_ones") or self.faults.take("all_ones_config"))

    def _is_held_back(self, bar: int, offset: int, size: int, value: int) -> bool:
        """Return whether a write gets lost, or waits: behind others, since posted writes keep their order."""
        if self._is_off_the_bus():
            return True
        late = self.faults.take("delayed_writes")
        if late is None and not self._posted:
            return False
        late = late or 0
        self._posted.append((self._time_after(late), (bar, offset, size, value)))
        self.after_us(late, self._flush_due)
        return True

    def _flush_due(self) -> None:
        """Let writes take effect whose time has come, and those before them."""
        due = [number for number, (when, _) in enumerate(self._posted, 1) if when <= self.clock()]
        self._flush_posted(max(due, default=0))

    def _flush_posted(self, count: int | None = None) -> None:
        posted, self._posted = self._posted[:count], [] if count is None else self._posted[count:]
        for _, write in posted:
            self.write_register(*write)

    def after_us(self, delay_us: float, action: Callable[[], None]) -> None:
        """Do something after a while; 0: as soon as the present access is over."""
        heapq.heappush(self._timers, (self._time_after(delay_us), next(self._numbers), action))

    def _time_after(self, delay_us: float) -> float:
        return self.clock() + delay_us / 1e6

    def run_timers(self) -> float | None:
        """Do what is due, but not what that makes due; return seconds until the next, or None.

        Something may always be due, and software must get its answers in between.
        """
        timers = self._timers
        if not timers:
            return None
        behind = next(self._numbers)
        later = []
        while timers and timers[0][0] <= self.clock():
            timer = heapq.heappop(timers)
            if timer[1] < behind:
                timer[2]()
            else:
                later.append(timer)
        for timer in later:
            heapq.heappush(timers, timer)
        return max(timers[0][0] - self.clock(), 0.0) if timers else None

    def dma_delay_us(self) -> float:
        """Return how long the next DMA takes."""
        if not self.faults.active:
            return 0.0
        hiccup = self.faults.value("hiccup")
        if hiccup is not None:
            self._dmas += 1
            return 0.0 if self._dmas % _HICCUP_EVERY else self.random.uniform(*hiccup)
        jitter = self.faults.take("jitter")
        if jitter is not None:
            return self.random.uniform(*jitter)
        return float(self.faults.take("delay") or 0)

    def dma_length(self, direction: str, length: int) -> int:
        """Return how many bytes of a DMA the card moves while it reports all: less with dropped_dma or short_dma."""
        faults = self.faults
        if not faults.active:
            return length
        if faults.value("dropped_dma") in ("both", direction):
            faults.take("dropped_dma")
            return 0
        short = faults.take("short_dma")
        return length if short is None else min(int(short), length)

    def dma_to_host(self, address: int, data: bytes | memoryview) -> bool:
        """Write to host memory; a refused DMA is recorded, and False returned."""
        return self._dma("c2h", address, len(data), lambda: self.memory.write(address, data)) is not None

    def dma_from_host(self, address: int, length: int) -> bytes | None:
        """Read host memory; a refused DMA is recorded, and None returned."""
        data: bytes | None = self._dma("h2c", address, length, lambda: self.memory.read(address, length))
        return data

    def _dma(self, direction: str, address: int, length: int, action: Callable[[], Any]) -> Any:
        counters = self.records.counters
        if not self.config.bus_master and not self._ignores_bus_master:
            counters["dmas_refused"] += 1
            self.records.event("dma_without_bus_master", direction=direction, address=address, length=length)
            return None
        try:
            result = action()
        except DmaOutsideMemory as error:
            counters["dmas_refused"] += 1
            name = "dma_after_unmap" if error.unmapped_before else "dma_outside_memory"
            facts = {"direction": direction, "address": address, "length": length}
            self.records.violation(name, f"{direction}: {error}", **facts)
            return None
        counters[f"{direction}_dmas"] += 1
        counters[f"{direction}_bytes"] += length
        return result if result is not None else True

    @contextmanager
    def ignoring_bus_master(self) -> Iterator[None]:
        """Let DMA through although bus mastering is off, as a broken card does."""
        self._ignores_bus_master = True
        try:
            yield
        finally:
            self._ignores_bus_master = False

    def send_message(self, vector: int = 0) -> None:
        """Send a message, if software has enabled messages, with the faults that they can have."""
        if self.config.interrupt_mode is InterruptMode.INTX:
            return
        if self.faults.active:
            if self.faults.take("lost_interrupt"):
                return
            late = self.faults.take("late_interrupt")
            if late is not None:
                self.after_us(late * 1000, lambda: self._message(vector))
                return
            if self.faults.take("duplicate_interrupt"):
                self._message(vector)
        self._message(vector)

    def _message(self, vector: int) -> None:
        self.records.counters["interrupts"] += 1
        self.interrupts.message(vector)

    def set_fault(self, text: str) -> None:
        """Switch a fault on; raises BadFault."""
        name = self.faults.set(text)
        if name == "spurious_interrupt":
            self._begin_spurious(self.faults.value(name))
        elif name == "lost_config":
            del self.faults.active[name]
            self._lose_config()

    def _lose_config(self) -> None:
        """Be as after a board was programmed anew: registers reset, no address, not switched on."""
        self.config.reset()
        self.function_reset()
        self._is_lost = True

    def clear_faults(self) -> None:
        """Switch all faults off."""
        self.faults.clear()

    def _begin_spurious(self, period_ms: float) -> None:
        self._spurious_series += 1
        series = self._spurious_series
        self.after_us(period_ms * 1000, lambda: self._spurious(series))

    def _spurious(self, series: int) -> None:
        """Interrupt with nothing to say, and again after a period, until the fault is off or set anew."""
        period_ms = self.faults.take("spurious_interrupt") if series == self._spurious_series else None
        if period_ms is None:
            return
        if self.config.interrupt_mode is InterruptMode.INTX:
            self.records.counters["interrupts"] += 1
            self.interrupts.level(True)
            self.interrupts.level(self._pin)
        else:
            self._message(0)
        self.after_us(max(period_ms * 1000, _LEAST_PERIOD_US), lambda: self._spurious(series))

    def drive_level(self, asserted: bool) -> None:
        """Assert INTA or not: software sees it unless it has enabled messages or disabled the pin."""
        self._level = asserted
        self._drive_pin()

    def _drive_pin(self) -> None:
        config = self.config
        pin = self._level and config.intx_allowed and config.interrupt_mode is InterruptMode.INTX
        if pin == self._pin:
            return
        self._pin = pin
        self.records.counters["interrupts"] += pin
        self.interrupts.level(pin)

    def die(self) -> None:
        """End the process at once, as a card does that falls off the bus."""
        self.hang_up()
        os._exit(86)
