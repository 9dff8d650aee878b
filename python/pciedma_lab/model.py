"""What all card models share: the registers' front door, timers, DMA, interrupts and the common faults."""

from __future__ import annotations

import heapq
import itertools
import os
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from .config_space import ConfigSpace, Identity
from .faults import Faults, nothing, number, span
from .memory import DmaOutsideMemory, GuestMemory
from .records import Records

ALL_ONES = 0xFFFFFFFF

#: Faults that the shared part of a model knows; times in microseconds or, where said, milliseconds.
COMMON_FAULTS: dict[str, Callable[[str | None], Any]] = {
    "lost_interrupt": nothing,
    "late_interrupt": number,  # ms
    "duplicate_interrupt": nothing,
    "spurious_interrupt": number,  # ms between two
    "delayed_writes": number,  # us
    "all_ones": nothing,
    "all_ones_config": nothing,
    "delay": number,  # us
    "jitter": span,  # us
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
    faults_known: dict[str, Callable[[str | None], Any]] = COMMON_FAULTS
    variants: dict[str, Identity] = {}

    def __init__(self, variant: str | None = None, seed: int = 0) -> None:
        """Make the card at its reset state; raises KeyError for an unknown variant."""
        self.identity = self.variants[variant] if variant else self.identity
        self.records = Records()
        self.faults = Faults(self.faults_known)
        self.memory = GuestMemory()
        self.config = ConfigSpace(self.identity, self.function_reset)
        self.interrupts = Interrupts()
        self.random = random.Random(seed)
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._posted: list[tuple[int, int, int, int]] = []

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

    def read(self, bar: int, offset: int, size: int) -> int:
        """Software reads *size* bytes of a BAR."""
        counters = self.records.counters
        counters["mmio_reads"] += 1
        if self._posted:
            self._flush_posted()
        if self.faults.active and (self.faults.value("all_ones") or self.faults.value("all_ones_config")):
            return (1 << 8 * size) - 1
        value = self.read_register(bar, offset, size)
        self.records.history.append(("read", bar, offset, value))
        return value

    def write(self, bar: int, offset: int, size: int, value: int) -> None:
        """Software writes to a BAR."""
        self.records.counters["mmio_writes"] += 1
        self.records.history.append(("write", bar, offset, value))
        if self.faults.active:
            if self.faults.value("all_ones") or self.faults.value("all_ones_config"):
                return
            late = self.faults.take("delayed_writes")
            if late is not None or self._posted:
                self._posted.append((bar, offset, size, value))
                self.after_us(late or 0, self._flush_posted)
                return
        self.write_register(bar, offset, size, value)

    def _flush_posted(self) -> None:
        posted, self._posted = self._posted, []
        for bar, offset, size, value in posted:
            self.write_register(bar, offset, size, value)

    def after_us(self, delay_us: float, action: Callable[[], None]) -> None:
        """Do something after a while; 0: as soon as the present access is over."""
        heapq.heappush(self._timers, (time.monotonic() + delay_us / 1e6, next(self._numbers), action))

    def run_timers(self) -> float | None:
        """Do what is due; return seconds until the next, or None."""
        timers = self._timers
        while timers:
            left = timers[0][0] - time.monotonic()
            if left > 0:
                return left
            heapq.heappop(timers)[2]()
        return None

    def dma_delay_us(self) -> float:
        """Return how long the next DMA takes."""
        if not self.faults.active:
            return 0.0
        jitter = self.faults.take("jitter")
        if jitter is not None:
            return self.random.uniform(*jitter)
        return float(self.faults.take("delay") or 0)

    def dma_to_host(self, address: int, data: bytes | memoryview) -> bool:
        """Write to host memory; a refused DMA is recorded, and False returned."""
        return self._dma("c2h", address, len(data), lambda: self.memory.write(address, data)) is not None

    def dma_from_host(self, address: int, length: int) -> bytes | None:
        """Read host memory; a refused DMA is recorded, and None returned."""
        data: bytes | None = self._dma("h2c", address, length, lambda: self.memory.read(address, length))
        return data

    def _dma(self, direction: str, address: int, length: int, action: Callable[[], Any]) -> Any:
        counters = self.records.counters
        if not self.config.bus_master:
            counters["dmas_refused"] += 1
            self.records.event("dma_without_bus_master", direction=direction, address=address, length=length)
            return None
        try:
            result = action()
        except DmaOutsideMemory as error:
            counters["dmas_refused"] += 1
            name = "dma_after_unmap" if error.unmapped_before else "dma_outside_memory"
            self.records.violation(name, f"{direction}: {error}", direction=direction, address=address, length=length)
            return None
        counters[f"{direction}_dmas"] += 1
        counters[f"{direction}_bytes"] += length
        return result if result is not None else True

    def send_message(self, vector: int = 0) -> None:
        """Send an interrupt message, with the faults that interrupts can have."""
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
        self.faults.set(text)
        if self.faults.value("spurious_interrupt"):
            self.after_us(0, self._spurious)

    def _spurious(self) -> None:
        period_ms = self.faults.value("spurious_interrupt")
        if period_ms:
            self._message(0)
            self.interrupts.level(True)
            self.interrupts.level(False)
            self.after_us(period_ms * 1000, self._spurious)

    def die(self) -> None:
        """End the process at once, as a card does that falls off the bus."""
        os._exit(86)
