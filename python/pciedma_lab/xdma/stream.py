"""What lies behind XDMA's stream channels: packets come in, packets go out."""

from __future__ import annotations

import math
from collections import deque

#: Bytes that wait behind an H2C channel at most, until somebody takes them (its own choice).
FIFO_BYTES = 65536


class Stream:
    """A channel number's user logic: by default what H2C sends, C2H gets, packet by packet.

    As a *source* of packets it makes them up for C2H; as a *sink* it checks that H2C sends just such packets.
    Byte n of the stream is n modulo 251. A sink may take no more than ``sink_rate`` bytes a second (None: all at once).
    """

    def __init__(self) -> None:
        """Start as a loop-back, with nothing inside."""
        self.reset()

    def reset(self) -> None:
        """Forget what is inside, and be a loop-back again."""
        self.source_length = 0
        self.checks = False
        self.wrong = 0
        self._rate: float | None = None
        self._packets: deque[tuple[bytes, bool]] = deque()
        self._sent = 0
        self._checked = 0
        #: Bytes that wait for C2H, and that a sink has not taken at a time.
        self._queued = 0
        self._untaken = 0.0
        self._since = 0.0

    def set_sink(self, now: float, *, checks: bool, rate: float | None) -> None:
        """Be a sink from now on, or none any more."""
        self.room(now)
        self.checks, self._rate = checks, rate

    def room(self, now: float) -> int:
        """Return how many bytes H2C may send at the moment."""
        if not self.checks:
            return FIFO_BYTES - self._queued
        taken = self._untaken if self._rate is None else self._rate * (now - self._since)
        self._untaken, self._since = max(self._untaken - taken, 0.0), now
        return FIFO_BYTES - math.ceil(self._untaken)

    def seconds_until(self, room: int) -> float | None:
        """Return when a sink will have made so much room, right after room(); None if that depends on others."""
        if not self.checks or not self._rate:
            return None
        missing = room - (FIFO_BYTES - self._untaken)
        return max(missing + 1, 1.0) / self._rate  # a byte more, since room() rounds down

    def put(self, data: memoryview, *, end_of_packet: bool) -> None:
        """Take what H2C sends, for which there must be room."""
        if self.checks:
            self._untaken += len(data)
            expected = _pattern(self._checked, len(data))
            self.wrong += data != expected
            self._checked += len(data)
        else:
            self._queued += len(data)
            self._packets.append((bytes(data), end_of_packet))

    def get(self, most: int) -> tuple[bytes, bool] | None:
        """Give C2H up to *most* bytes, and whether a packet ends with them; None if there are none."""
        if self.source_length:
            return self._generate(most)
        if not self._packets:
            return None
        data, end = self._packets.popleft()
        if len(data) > most:
            self._packets.appendleft((data[most:], end))
            data, end = data[:most], False
        self._queued -= len(data)
        return data, end

    def _generate(self, most: int) -> tuple[bytes, bool]:
        left = self.source_length - self._sent % self.source_length
        length = min(left, most)
        data = _pattern(self._sent, length)
        self._sent += length
        return data, length == left


_PERIOD = bytes(range(251))


def _pattern(start: int, length: int) -> bytes:
    skip = start % len(_PERIOD)
    return (_PERIOD * ((skip + length) // len(_PERIOD) + 1))[skip : skip + length]
