"""What lies behind XDMA's stream channels: packets come in, packets go out."""

from __future__ import annotations

from collections import deque


class Stream:
    """A channel number's user logic: by default what H2C sends, C2H gets, packet by packet.

    As a *source* of packets it makes them up for C2H; as a *sink* it checks that H2C sends just such packets.
    Byte n of the stream is n modulo 251.
    """

    def __init__(self) -> None:
        """Start as a loop-back, with nothing inside."""
        self.reset()

    def reset(self) -> None:
        """Forget what is inside, and be a loop-back again."""
        self.source_length = 0
        self.checks = False
        self.wrong = 0
        self._packets: deque[tuple[bytes, bool]] = deque()
        self._sent = 0
        self._checked = 0

    def put(self, data: memoryview, *, end_of_packet: bool) -> None:
        """Take what H2C sends."""
        if self.checks:
            expected = _pattern(self._checked, len(data))
            self.wrong += data != expected
            self._checked += len(data)
        else:
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
            return data[:most], False
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
