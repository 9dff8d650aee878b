"""One of XDMA's engines: it fetches descriptors, moves what they say, and tells how far it came."""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import registers as r
from .performance import Performance

if TYPE_CHECKING:
    from ..cards.xdma import Model

_DESCRIPTOR = struct.Struct("<IIQQQ")
_RESULT = struct.Struct("<II")
_WORD = struct.Struct("<I")

MAGIC = 0xAD4B
RESULT_MAGIC = 0x52B4
STOP, COMPLETED, EOP = 1, 2, 1 << 4
MAX_CREDITS = 1023
PAGE = 4096
#: Descriptors that one fetch brings at most: the engine's buffer (its own choice).
MAX_FETCH = 64

RUN = r.CONTROL.mask("run")
NON_INC = r.CONTROL.mask("non_inc_mode")
POLLMODE_WB = r.CONTROL.mask("pollmode_wb_enable")
STREAM_WB_DISABLE = r.CONTROL.mask("stream_wb_disable")
STOPPED = r.STATUS.mask("descriptor_stopped")
DONE = r.STATUS.mask("descriptor_completed")
ALIGN_MISMATCH = r.STATUS.mask("align_mismatch")
MAGIC_STOPPED = r.STATUS.mask("magic_stopped")
IDLE_STOPPED = r.STATUS.mask("idle_stopped")
UNSUPPORTED, READ_DECODE, WRITE_DECODE = 1 << 9, 1 << 9, 1 << 14
DESCRIPTOR_UNSUPPORTED = 1 << 19
ERRORS = r.STATUS.mask("read_error", "write_error", "descriptor_error", "magic_stopped", "align_mismatch")

#: Work of one turn of the event loop, so that register accesses are answered in between.
TURN_DESCRIPTORS, TURN_BYTES = 64, 4 << 20
#: As many at most are done with early_completion before the access returns.
EARLY_TURNS = 128
#: Room behind an H2C stream for which it is worth while to go on.
LEAST_ROOM = 4096
#: Seconds that data may be ahead of what the bandwidth allows.
AHEAD = 200e-6
#: Seconds of the link's time, and bytes, that are moved at once at least.
PIECE_SECONDS, PIECE_BYTES = 1e-3, 4096
#: Less than that is no time: a clock may not tell it apart from none.
MOMENT = 1e-9
#: Reads of status that a card with the fault late_dma still answers with busy after Run was cleared.
LATE_READS = 3
LATE_US = 20_000.0
LIE_US = 1_000_000.0
#: Microseconds by which counts are behind, and interrupts come again, with the fault stale_interrupt (its own choice).
STALE_US = 50.0


@dataclass
class Descriptor:
    """A descriptor that the engine has; ``moved`` is what it has moved of it, or says so beyond ``limit``."""

    control: int
    length: int
    source: int
    destination: int
    moved: int = 0
    limit: int = 0


class Engine:
    """An engine at its reset state; ``index`` is its bit in the interrupt block."""

    def __init__(self, card: Model, *, c2h: bool, number: int, index: int, stream: bool) -> None:
        """Belong to *card*."""
        self.card = card
        self.c2h = c2h
        self.number = number
        self.index = index
        self.stream = stream
        self.name = f"{'c2h' if c2h else 'h2c'}{number}"
        self.generation = 0
        self.performance = Performance(lambda: card.clock(), card.width)
        self.reset()

    def reset(self) -> None:
        """Everything stops, nothing stays under way."""
        self.generation += 1
        self.control = self.status = self.mask = self.count = 0
        self.poll_address = self.first = self.first_adjacent = self.credits = 0
        self.performance.reset()
        self.running = False
        self.queue: deque[Descriptor] = deque()
        self.current: Descriptor | None = None
        self.stalled = self._awaits_stream = False
        self.late_reads = 0
        self.extra_busy = False
        self._scheduled = False
        self._next = self._next_adjacent = 0
        self._overfetches = False
        self._told = self._stales = 0
        self._is_stale = False
        self._line_free = 0.0
        self._busy_since: float | None = None

    # What software does

    @property
    def busy(self) -> bool:
        """Whether status says so: until STOP, an error, or the end of what was under way when Run was cleared."""
        return self.running or self.current is not None

    @property
    def told(self) -> int:
        """The count as software sees it: an old one for a while, if stale."""
        return self._told if self._is_stale else self.count

    def read_status(self) -> int:
        """Return STATUS, without side effects but those of the faults."""
        if self.late_reads:
            self.late_reads -= 1
            if not self.late_reads:
                self._late_dma()
                return self.status | 1
        if self.extra_busy:
            self.extra_busy = False
            return self.status | 1
        return self.status | self.busy

    def write_control(self, value: int) -> None:
        """Set CONTROL; edges of Run start and stop the engine."""
        rising, falling = value & ~self.control & RUN, self.control & ~value & RUN
        self.control = value
        if rising:
            self._start()
        elif falling:
            self._halt()

    def add_credits(self, credits: int) -> None:
        """Let the engine fetch more descriptors."""
        if not self.card.credit_mode(self):
            return
        self.credits += credits
        if self.credits > MAX_CREDITS:
            self.card.records.violation("credits", f"{self.name}: {self.credits} credits, of {MAX_CREDITS} at most")
        self.wake()

    def clear_status(self, bits: int) -> None:
        """Clear what STATUS has logged."""
        self.status &= ~bits
        self.card.update_interrupts()

    def _start(self) -> None:
        card = self.card
        if self.current is not None:
            card.records.violation("start_while_busy", f"{self.name}: Run set while a descriptor is under way")
        if self.first % 32:
            card.records.violation("descriptor_alignment", f"{self.name}: first descriptor at {self.first:#x}")
        if not card.config.bus_master:
            card.records.violation("start_without_bus_master", f"{self.name}: Run set with bus mastering off")
        card.records.counters["starts"] += 1
        card.records.counters[f"{self.name}_starts"] += 1
        self.status = self.count = 0
        self._is_stale, self._stales = False, 0
        self._next, self._next_adjacent = self.first, self.first_adjacent
        self.queue.clear()
        self.running = True
        self.performance.engine_starts()
        card.update_interrupts()
        self.wake()

    def _halt(self) -> None:
        """Finish the current descriptor, forget those fetched behind it."""
        self.running = False
        self.credits = 0
        self.queue.clear()
        if self.current is None:
            self._idle()
        elif self.card.faults.take("late_dma"):
            self.late_reads = LATE_READS
            generation = self.generation
            self.card.after_us(LATE_US, lambda: self._late_dma() if self.generation == generation else None)
        elif self.card.faults.take("lying_idle"):
            descriptor, self.current, self.stalled = self.current, None, False
            self.generation += 1
            self._scheduled = False
            self.card.after_us(LIE_US, lambda: self._lie(descriptor))
            self._idle()

    def _idle(self) -> None:
        self._rest()
        self._settle()
        self.status |= IDLE_STOPPED & self.control
        self.card.update_interrupts()

    def _late_dma(self) -> None:
        """What was under way when Run was cleared happens at last."""
        self.late_reads = 0
        if self.current is None:
            return
        self.card.records.event("late_dma", direction=self.name, address=self._host_address(self.current))
        self.stalled = False
        self._finish_current()

    def _lie(self, descriptor: Descriptor) -> None:
        self.card.records.event("lying_idle_dma", direction=self.name, address=self._host_address(descriptor))
        with self.card.ignoring_bus_master():
            self._move(descriptor, descriptor.length - descriptor.moved)

    def _host_address(self, descriptor: Descriptor) -> int:
        return descriptor.destination if self.c2h else descriptor.source

    # What the hardware does by itself

    def wake(self) -> None:
        """Go on in the event loop's next turn, if there is something to do."""
        if self._scheduled or not self.running or self.current is not None:
            return
        faults = self.card.faults
        if faults.active and faults.take("death"):
            self.card.die()
        self._scheduled = True
        generation = self.generation
        if faults.active and faults.take("early_completion"):
            self._turn(generation, EARLY_TURNS)
        else:
            self.card.after_us(0, lambda: self._turn(generation))

    def _later(self, delay_us: float) -> None:
        self._scheduled = True
        generation = self.generation
        self.card.after_us(delay_us, lambda: self._turn(generation))

    def _turn(self, generation: int, turns: int = 1) -> None:
        """Do a turn's work, or that of some turns."""
        if generation != self.generation:
            return
        self._scheduled = False
        if self.stalled:
            return
        budget, bytes_left = turns * TURN_DESCRIPTORS, turns * TURN_BYTES
        while budget and bytes_left > 0:
            if self.current is None:
                if not self.running or not (self.queue or self._fetch()):
                    self._rest()
                    return
                self.current = self.queue.popleft()
                if self._delayed(self.current):
                    return
            bytes_left -= self._step(min(bytes_left, TURN_BYTES))
            budget -= 1
            if self.stalled or self._scheduled:
                return
            ahead = self._line_free - self.card.clock() - AHEAD
            if ahead > MOMENT:
                self._later(ahead * 1e6)
                return
        self._later(0)

    def _rest(self) -> None:
        """Nothing is left to do: note how long there was."""
        if self._busy_since is not None:
            end = max(self.card.clock(), self._line_free)
            self.card.records.counters[f"{self.name}_busy_ns"] += int((end - self._busy_since) * 1e9)
            self._busy_since = None

    def _delayed(self, descriptor: Descriptor) -> bool:
        """Return whether a descriptor begins later, or never: as the faults say."""
        faults = self.card.faults
        if not faults.active:
            return False
        late = faults.value("late_dma") or faults.value("lying_idle")
        if late or faults.value("stall") in ("both", self.name[:3]):
            faults.take("stall")
            self.stalled = True
            return True
        delay = self.card.dma_delay_us() + (faults.value("latency") or 0)
        if delay:
            self._later(delay)
        return bool(delay)

    def _fetch(self) -> bool:
        """Fetch a block of descriptors; returns whether there are any now."""
        card = self.card
        count = min(self._next_adjacent + 1, MAX_FETCH)
        if card.credit_mode(self):
            count = min(count, self.credits)
        if card.fetch_halted(self):
            return False
        if not count:
            self._overfetch()
            return False
        if card.faults.active and card.faults.take("descriptor_error"):
            self._fail(DESCRIPTOR_UNSUPPORTED)
            return False
        if self._next % PAGE + count * _DESCRIPTOR.size > PAGE:
            text = f"{self.name}: {count} descriptors at {self._next:#x} cross 4 KiB"
            card.records.violation("block_crosses_page", text)
        data = card.dma_from_host(self._next, count * _DESCRIPTOR.size)
        if data is None:
            self._fail(DESCRIPTOR_UNSUPPORTED)
            return False
        if card.credit_mode(self):
            self.credits -= count
        card.records.counters[f"{self.name}_fetches"] += 1
        control = 0
        for control, length, source, destination, self._next in _DESCRIPTOR.iter_unpack(data):
            self.queue.append(Descriptor(control, length, source, destination))
        self._next_adjacent = control >> 8 & 0x3F
        self._overfetches = True
        if self._busy_since is None:
            self._busy_since = max(card.clock(), self._line_free)
        return True

    def _overfetch(self) -> None:
        """A core with the fault fetches the block behind the last descriptor that it may have, and does what it says.

        It stops at a descriptor without the magic, and neither counts nor tells of what it did.
        """
        card = self.card
        if not self._overfetches or not card.faults.active or not card.faults.take("overfetch"):
            return
        self._overfetches = False
        card.records.counters[f"{self.name}_overfetches"] += 1
        count = min(self._next_adjacent + 1, (PAGE - self._next % PAGE) // _DESCRIPTOR.size)
        data = card.dma_from_host(self._next, count * _DESCRIPTOR.size)
        for control, length, source, destination, _ in _DESCRIPTOR.iter_unpack(data or b""):
            if control >> 16 != MAGIC:
                return
            card.records.counters[f"{self.name}_overfetched"] += 1
            card.records.event("overfetched", direction=self.name, address=destination if self.c2h else source)
            self._move_between(source, destination, length)

    def _move_between(self, source: int, destination: int, length: int) -> None:
        memory = self.card.card_memory.view(source if self.c2h else destination, length)
        if memory is not None and self.c2h:
            self.card.dma_to_host(destination, memory)
        elif memory is not None:
            self.card.dma_from_host_into(source, memory)

    def _step(self, most: int) -> int:
        """Move some of the current descriptor; returns how many bytes."""
        descriptor = self.current
        assert descriptor is not None
        if descriptor.moved == descriptor.length:
            self._finish(descriptor, descriptor.length)
            return 0
        if not descriptor.moved and not self._acceptable(descriptor):
            return 0
        if self.stream:
            return self._receive(descriptor) if self.c2h else self._send(descriptor, most)
        length = min(descriptor.length - descriptor.moved, most, self._piece())
        self._note_first()
        if not descriptor.moved:
            descriptor.limit = self.card.dma_length(self.name[:3], descriptor.length)
        really = min(length, descriptor.limit - descriptor.moved)
        if really > 0 and not self._move(descriptor, really):
            return 0
        descriptor.moved += length
        self._pace(length)
        if descriptor.moved == descriptor.length and not self._waits_for_link(descriptor):
            self._finish(descriptor, descriptor.length)
        return length

    def _piece(self) -> int:
        rate = self.card.faults.value("bandwidth")
        return max(int(rate * 1e6 * PIECE_SECONDS), PIECE_BYTES) if rate else TURN_BYTES

    def _waits_for_link(self, descriptor: Descriptor) -> bool:
        """Return whether a descriptor is not done yet: its last bytes are on their way, and software would know."""
        early = self._line_free - self.card.clock()
        if not descriptor.control & (COMPLETED | STOP):
            early -= AHEAD
        if early <= MOMENT:
            return False
        self._later(early * 1e6)
        return True

    def _finish_current(self) -> None:
        """Let the current descriptor end at once."""
        while self.current is not None and not self.stalled:
            self._step(self.current.length or 1)

    def _acceptable(self, descriptor: Descriptor) -> bool:
        """Return whether a descriptor may begin; otherwise the engine has stopped."""
        card = self.card
        faults = card.faults
        if descriptor.control >> 16 != MAGIC or (faults.active and faults.take("magic_error")):
            self._fail(MAGIC_STOPPED)
            return False
        if descriptor.control & 0xC0EC or descriptor.length >> 28 or not descriptor.length:
            text = f"{self.name}: control {descriptor.control:#x}, length {descriptor.length:#x}"
            card.records.violation("reserved_descriptor_bits", text)
        if faults.active:
            if faults.take("read_error"):
                self._fail(UNSUPPORTED)
                return False
            if not self.c2h and faults.take("write_error"):
                self._fail(WRITE_DECODE)
                return False
            if faults.take("poll_error"):
                self._fail(UNSUPPORTED, record=True)
                return False
        return self._aligned(descriptor)

    def _aligned(self, descriptor: Descriptor) -> bool:
        address, length, _ = self.card.alignment
        if self.stream and self.c2h and descriptor.length % 64:
            text = f"{self.name}: length {descriptor.length} of a stream's descriptor is no multiple of 64"
            self.card.records.violation("stream_length", text)
        if not self.stream and self.control & NON_INC:
            address = length = self.card.width
        elif self.stream:
            return True
        if (descriptor.source | descriptor.destination) % address or descriptor.length % length:
            self._fail(ALIGN_MISMATCH)
            return False
        return True

    def _move(self, descriptor: Descriptor, length: int) -> bool:
        """Move bytes between host and card memory; on an error the engine has stopped."""
        host = self._host_address(descriptor) + descriptor.moved
        address = descriptor.source if self.c2h else descriptor.destination
        if self.control & NON_INC:
            return self._move_fixed(host, address, length)
        memory = self.card.card_memory.view(address + descriptor.moved, length)
        if memory is None:
            self._fail(READ_DECODE if self.c2h else WRITE_DECODE)
            return False
        done = self.card.dma_to_host(host, memory) if self.c2h else self.card.dma_from_host_into(host, memory)
        if not done:
            self._fail(UNSUPPORTED)
        return done

    def _move_fixed(self, host: int, address: int, length: int) -> bool:
        """The card's address stays: one data path's width is read over and over, or the last stays."""
        width = self.card.width
        memory = self.card.card_memory.view(address, width)
        if memory is None:
            self._fail(READ_DECODE if self.c2h else WRITE_DECODE)
            return False
        if self.c2h:
            return self.card.dma_to_host(host, bytes(memory) * (length // width))
        return self.card.dma_from_host_into(host + length - width, memory)

    def _send(self, descriptor: Descriptor, most: int) -> int:
        """Send some of an H2C descriptor; without room it waits."""
        stream = self.card.streams[self.number]
        left = descriptor.length - descriptor.moved
        room = stream.room(self.card.clock())
        if room < min(left, LEAST_ROOM):
            self._await_stream(stream.seconds_until(min(left, LEAST_ROOM)))
            return 0
        length = min(left, room, most)
        data = self.card.dma_from_host(descriptor.source + descriptor.moved, length)
        if data is None:
            self._fail(UNSUPPORTED)
            return 0
        descriptor.moved += length
        is_whole = descriptor.moved == descriptor.length
        stream.put(memoryview(data), end_of_packet=is_whole and bool(descriptor.control & EOP))
        self._pace(length)
        if is_whole:
            self._finish(descriptor, descriptor.length)
        self.card.wake_streams()
        return length

    def _await_stream(self, seconds: float | None) -> None:
        """Stand still until the user's logic has taken or has given something."""
        self.stalled = self._awaits_stream = True
        if seconds is not None:
            generation = self.generation
            self.card.after_us(seconds * 1e6, lambda: self.stream_moved() if generation == self.generation else None)

    def _receive(self, descriptor: Descriptor) -> int:
        """Fill a C2H descriptor until it is full or a packet ends; without data it waits."""
        start = descriptor.moved
        ended = False
        while descriptor.moved < descriptor.length and not ended:
            got = self.card.streams[self.number].get(descriptor.length - descriptor.moved)
            if got is None:
                self._await_stream(None)
                return descriptor.moved - start
            data, ended = got
            if not self.card.dma_to_host(descriptor.destination + descriptor.moved, data):
                self._fail(UNSUPPORTED)
                return 0
            descriptor.moved += len(data)
            self._pace(len(data))
        if not self.control & STREAM_WB_DISABLE:
            self.card.dma_to_host(descriptor.source, _RESULT.pack(RESULT_MAGIC << 16 | ended, descriptor.moved))
        self._finish(descriptor, descriptor.moved)
        self.card.wake_streams()
        return descriptor.moved - start

    def stream_moved(self) -> None:
        """A stream's engine that waits for data or for room looks again."""
        if self._awaits_stream and self.current is not None:
            self.stalled = self._awaits_stream = False
            if not self._scheduled:
                self._later(0)

    def _pace(self, length: int) -> None:
        """Count what was moved, and note when the link is free again."""
        self.performance.moved(length)
        rate = self.card.faults.value("bandwidth")
        if rate:
            self._line_free = max(self._line_free, self.card.clock()) + length / (rate * 1e6)

    def _note_first(self) -> None:
        counters = self.card.records.counters
        if not counters[f"{self.name}_first_ns"]:
            counters[f"{self.name}_first_ns"] = int(self.card.clock() * 1e9)

    def _finish(self, descriptor: Descriptor, length: int) -> None:
        """A descriptor is done: count, then the record in memory, then status and interrupt."""
        counters = self.card.records.counters
        counters[f"{self.name}_descriptors"] += 1
        counters[f"{self.name}_bytes"] += length
        counters[f"{self.name}_last_ns"] = int(max(self.card.clock(), self._line_free) * 1e9)
        self.current = None
        self.count += 1
        if descriptor.control & COMPLETED:
            self._complete()
        if descriptor.control & STOP:
            self.status |= STOPPED & self.control
            self.running = False
            self.queue.clear()
            self.performance.engine_stops()
            self._overfetch()
        if not self.running:
            self._rest()
            if not self.control & RUN:
                self._idle()
        if descriptor.control & (COMPLETED | STOP):
            self.card.update_interrupts()

    def _complete(self) -> None:
        """Tell of a descriptor with COMPLETED: with the fault, and if others came before it, of an old count first."""
        faults = self.card.faults
        if self._stales and faults.active and faults.take("stale_interrupt"):
            if self._stales % 2 and not self._is_stale:
                self._told, self._is_stale = self.count - 1, True
            generation, count = self.generation, self.count
            self.card.after_us(STALE_US, lambda: self._repeat(generation, count))
        if not self._is_stale:
            self._write_record(0)
        self._stales += 1
        self.status |= DONE & self.control

    def _repeat(self, generation: int, count: int) -> None:
        """Interrupt again for what was told of before, the count being right by now."""
        if generation != self.generation or self.count < count:
            return
        self._settle()
        if self.running:
            self.status |= DONE & self.control
            self.card.update_interrupts()

    def _settle(self) -> None:
        if self._is_stale:
            self._is_stale = False
            self._write_record(0)

    def _write_record(self, error: int) -> None:
        strict = self.card.faults.active and self.card.faults.value("strict_poll_mode")
        if not self.control & POLLMODE_WB or (strict and not self.control & DONE):
            return
        self.card.dma_to_host(self.poll_address, _WORD.pack(error << 31 | self.count & 0xFFFFFF))

    def _fail(self, condition: int, *, record: bool = False) -> None:
        """Stop because of an error, which is logged if software wants it."""
        self.current = None
        self.queue.clear()
        self.running = False
        self._rest()
        self._settle()
        self.status |= condition & self.control
        self.extra_busy = bool(self.card.faults.active and self.card.faults.take("busy_extra_read"))
        if record:
            self._write_record(1)
        self.card.update_interrupts()
