"""Memory that the card knows for requests whose own it does not: parts of one mapping."""

from __future__ import annotations

import mmap

from .buffer import RESERVED, address_of, create, destroy, directions, show
from .errors import translated
from .sharing import Sharing

#: Parts are powers of two from the least bytes, each at a multiple of its size; nobody has longer ones than the most.
#: Messages have to lie together for the card, as new memory does so far.
_LEAST, _MOST, _MOST_OF_MESSAGE = 1 << 8, 1 << 18, 1 << 21
_SIZE = 1 << 21


class Pool:
    """Parts of a new buffer, which knows no channel, so that it does not keep one. Who uses it holds a lock."""

    def __init__(self, channel: Sharing) -> None:
        """Make the buffer: 2 MiB, or 4 MiB if messages can be longer than 1 MiB."""
        self.longest = _MOST
        if channel.kind.name != "MEMORY":
            engines = filter(None, (channel.info.c2h, channel.info.h2c))
            self.longest = min(max(_power(engine.max_dma) for engine in engines), _MOST_OF_MESSAGE)
        size = max(_SIZE, 2 * self.longest)  # a power of two
        flags = directions(channel, None, None)
        made = create(channel, flags, size)
        try:
            with translated(channel.path):
                self._mapping = mmap.mmap(-1, size, **RESERVED)
                show(channel, made, address_of(self._mapping))
        except BaseException:
            destroy(channel, made.id)
            raise
        self.id: int = made.id
        self.memory = memoryview(self._mapping)
        self._free: dict[int, set[int]] = {_LEAST << i: set() for i in range((size // _LEAST).bit_length())}
        self._free[size].add(0)

    def take(self, length: int) -> int | None:
        """Return where a free part of so many bytes begins, or None."""
        wanted = max(_power(length), _LEAST)
        size = next((size for size, offsets in self._free.items() if size >= wanted and offsets), None)
        if size is None:
            return None
        offset = self._free[size].pop()
        while size > wanted:
            size //= 2
            self._free[size].add(offset + size)
        return offset

    def give(self, offset: int, length: int) -> None:
        """Let others have a part, with its neighbours that are free."""
        size = max(_power(length), _LEAST)
        while offset ^ size in self._free[size]:  # of the whole there is no other
            self._free[size].remove(offset ^ size)
            offset &= ~size
            size *= 2
        self._free[size].add(offset)

    def close(self) -> None:
        """Give the memory back."""
        self.memory.release()
        self._mapping.close()


def _power(length: int) -> int:
    """Return the power of two that is as long, or longer."""
    return 1 << max(length - 1, 0).bit_length()
