"""The performance counters of one of XDMA's engines."""

from __future__ import annotations

from collections.abc import Callable

from . import registers as r

#: Clocks a second (its own choice): with a data path of 16 bytes, 4 GB/s.
CLOCK_HZ = 250e6
BITS = 42
_AUTO, _CLEAR, _RUN = (r.PERF_CONTROL.mask(name) for name in ("auto", "clear", "run"))
_SATURATED = 1 << 16


class Performance:
    """Clocks that pass, and words of the data path that are moved, while it runs."""

    def __init__(self, clock: Callable[[], float], width: int) -> None:
        """Stand at 0; *width* is the data path's, in bytes."""
        self._clock = clock
        self._width = width
        self.reset()

    def reset(self) -> None:
        """Go to the reset state."""
        self.control = 0
        self._clear()
        self._stopped = True

    def _clear(self) -> None:
        self._seconds = 0.0
        self._since = self._clock()
        self._beats = 0

    def _stop(self) -> None:
        if not self._stopped:
            self._seconds += self._clock() - self._since
        self._stopped = True

    def _go(self) -> None:
        if self._stopped:
            self._since = self._clock()
        self._stopped = False

    def write(self, value: int) -> None:
        """Software writes PERF_CONTROL; the bit that clears reads 0."""
        self.control = value & ~_CLEAR
        if value & _CLEAR:
            self._clear()
        if value & _RUN:
            self._go()
        else:
            self._stop()

    def engine_starts(self) -> None:
        """Run of the engine rises: in automatic mode, count anew."""
        if self.control & _AUTO:
            self._clear()
            if self.control & _RUN:
                self._go()

    def engine_stops(self) -> None:
        """A descriptor with STOP is done: in automatic mode, count no more."""
        if self.control & _AUTO:
            self._stop()

    def moved(self, length: int) -> None:
        """The engine moves bytes."""
        if not self._stopped:
            self._beats += -(-length // self._width)

    def read(self, place: int) -> int:
        """Return a counter's register, or 0 for those of what is pending."""
        running = 0.0 if self._stopped else self._clock() - self._since
        cycles = int((self._seconds + running) * CLOCK_HZ)
        if place in (r.PERF_CYCLES_LO.offset, r.PERF_CYCLES_HI.offset):
            return _half(cycles, high=place == r.PERF_CYCLES_HI.offset)
        if place in (r.PERF_BEATS_LO.offset, r.PERF_BEATS_HI.offset):
            return _half(self._beats, high=place == r.PERF_BEATS_HI.offset)
        return 0


def _half(count: int, *, high: bool) -> int:
    """Return half of a counter, which stays at its end."""
    most = (1 << BITS) - 1
    shown = min(count, most)
    if high:
        return shown >> 32 | (_SATURATED if count > most else 0)
    return shown & 0xFFFFFFFF
