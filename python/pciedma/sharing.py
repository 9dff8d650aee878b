"""The memory that a channel's card knows: how it is made, and what lies where."""

from __future__ import annotations

import bisect
import os
import weakref
from typing import TYPE_CHECKING, NamedTuple, SupportsIndex, cast

from .buffer import Buffer, Registration, Shared
from .channel_node import ChannelNode
from .dmabuf import DmaBuf
from .node import NodePath

if TYPE_CHECKING:
    from typing_extensions import Buffer as BytesLike

    from .channel import Channel


class _Index(NamedTuple):
    """Where a channel's shared memory lies, in order; *longest* is the most bytes of one. Of *state* it is."""

    state: object
    starts: list[int]
    memories: list[weakref.ref[Shared]]
    longest: int


class Sharing(ChannelNode):
    """A channel that knows memory. What the open file's buffers are stands here; they keep it, and not it them.

    There is no lock, which somebody might have in whose thread a finalizer or a handler of a signal does the same.
    """

    __slots__ = ("_index", "_memories", "_state")

    #: By the kernel's number, and another object with each change.
    _memories: dict[int, weakref.ref[Shared]]
    _state: object
    _index: _Index

    def __init__(self, path: NodePath, *, exclusive: bool = False, nonblocking: bool = False) -> None:
        """Open the node *path*, for the directions that the channel has (``info.c2h``, ``info.h2c``).

        With ``exclusive`` nobody else may have it open (EBUSY). With ``nonblocking`` a call that would
        have to queue raises WouldBlockError. Raises WrongNodeError if it is no channel's node.
        """
        self._memories, self._state, self._index = {}, None, _Index(None, [], [], 0)
        super().__init__(path, exclusive=exclusive, nonblocking=nonblocking)

    def buffer(self, size: SupportsIndex, *, c2h: bool | None = None, h2c: bool | None = None) -> Buffer:
        """Return *size* bytes of new memory that the card knows, mapped in this process, as a context manager.

        It is for the directions that the channel has, if nothing is said. It counts against RLIMIT_MEMLOCK and the
        control group's memory until it is closed and all entries of it have ended. Raises OSError with ENOMEM (a limit,
        or no memory that the card reaches: the kernel's log says how much), EOPNOTSUPP (the card cannot reach the
        memory that there is; the log says more), EMFILE (4,096 of an open file), CardGoneError; ValueError (a direction
        that the channel does not have, no size); DriverTooOldError.
        """
        return Buffer(cast("Channel", self), size, c2h=c2h, h2c=h2c)

    def register(self, obj: BytesLike, *, c2h: bool | None = None, h2c: bool | None = None) -> Registration:
        """Let the card know the memory of an object with a buffer without gaps; returns a context manager.

        The memory stays where it is, pinned, and the object stays alive and of its size until close(). A read-only
        object is for ``h2c`` alone. After fork() the memory is the parent's. Errors as buffer(), and OSError with
        EOPNOTSUPP also for memory that cannot be held for long, as mappings of files on disk; then readinto() and
        write() work with it. TypeError (no buffer, or one with gaps; ``c2h`` of a read-only one).
        """
        try:
            return Registration(cast("Channel", self), obj, c2h=c2h, h2c=h2c)
        finally:
            del obj  # as in Registration

    def import_dmabuf(self, fd: SupportsIndex, *, c2h: bool | None = None, h2c: bool | None = None) -> DmaBuf:
        """Let the card know another device's memory, of which *fd* is a dma-buf; returns a context manager.

        It is for entries. The memory is pinned, and counts against no limit; *fd* may be closed afterwards. Raises
        OSError with EBADF (no descriptor), EINVAL (no dma-buf), EOPNOTSUPP (the card cannot reach it: the kernel's log
        says more), EMFILE (4,096 of an open file), ENOMEM, CardGoneError; ValueError (a direction that the channel does
        not have); DriverTooOldError.
        """
        return DmaBuf(cast("Channel", self), fd, c2h=c2h, h2c=h2c)

    def _add(self, memory: Shared) -> None:
        self._memories[memory._id] = weakref.ref(memory)
        self._state = object()

    def _remove(self, number: int) -> None:
        """Know of memory no longer; before the kernel may give its number to other."""
        self._memories.pop(number, None)
        self._state = object()

    def _indexed(self) -> _Index:
        index, state = self._index, self._state
        if index.state is not state:
            refs = list(self._memories.values())
            known = [one for ref in refs if (one := ref()) is not None and not isinstance(one, DmaBuf)]
            known.sort(key=lambda one: one._address)
            index = self._index = _Index(
                state, [one._address for one in known], [weakref.ref(one) for one in known],
                max((one._size for one in known), default=0),
            )
        return index

    def _memory_at(self, address: int, length: int, flag: int) -> Shared | None:
        """Return the memory that the card knows and has these bytes, for a direction if there is one for that."""
        index, found = self._indexed(), None
        for i in range(bisect.bisect_right(index.starts, address) - 1, -1, -1):
            if index.starts[i] + index.longest <= address:
                break
            memory = index.memories[i]()
            if memory is None or not memory._id or address + length > memory._address + memory._size:
                continue
            if isinstance(memory, Registration) and memory._pid != os.getpid():
                continue
            if memory._flags & flag:
                return memory
            found = memory
        return found

    def close(self) -> None:
        """Close the channel; a second time does nothing. The card forgets its memory; that of a Buffer stays mapped."""
        for ref in list(self._memories.values()):
            memory = ref()
            if isinstance(memory, (Registration, DmaBuf)):
                memory.close()
            elif memory is not None:
                memory._forget()
        super().close()
