"""Other devices' memory that a channel's card knows."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, SupportsIndex

from .buffer import Shared, create, directions
from .node import as_int

if TYPE_CHECKING:
    from .channel import Channel


class DmaBuf(Shared):
    """Another device's memory that the card knows, too: made by ``channel.import_dmabuf()``; a slice is a part of it.

    It is memory of entries alone: this process does not have it mapped, so that it has no bytes to be looked at.
    """

    __slots__ = ("__weakref__", "_address", "_channel", "_flags", "_id", "_pid", "_size")

    def __init__(
        self, channel: Channel, fd: SupportsIndex, *, c2h: bool | None = None, h2c: bool | None = None
    ) -> None:
        """Make it; see ``channel.import_dmabuf()``."""
        self._id = 0
        flags = directions(channel, c2h, h2c)
        made = create(channel, flags, fd=as_int(fd, "the descriptor"))
        self._share(channel, made.id, flags, 0, made.size)

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size

    def __len__(self) -> int:
        """Return how many bytes it has."""
        return self._size

    def __getitem__(self, key: slice) -> DmaBufPart:
        """Return a part of it, for an Entry."""
        if not isinstance(key, slice):
            raise TypeError(f"a part of a DmaBuf is a slice, not {key!r}")
        start, stop, step = key.indices(self._size)
        if step != 1:
            raise ValueError("a part has no gaps")
        return DmaBufPart(self, start, max(stop - start, 0))

    def close(self) -> None:
        """Let the card forget it; a second time does nothing. Submitted entries go on."""
        self._forget()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


class DmaBufPart(NamedTuple):
    """A part of a DmaBuf, as a slice of it is: *size* bytes from *start* on."""

    memory: DmaBuf
    start: int
    size: int
