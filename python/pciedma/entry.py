"""Entries: parts of shared memory to be moved, from what the program asks for to what the kernel is told."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from . import uapi
from .buffer import Buffer, Registration, Shared, address_of
from .channel_node import bytes_of
from .dmabuf import DmaBuf, DmaBufPart
from .errors import TransferError, transfer_error
from .sharing import Sharing

if TYPE_CHECKING:
    from typing_extensions import Buffer as BytesLike

_FLAGS = {"read": uapi.PCIEDMA_ENTRY_C2H, "write": uapi.PCIEDMA_ENTRY_H2C}


@dataclass(frozen=True, eq=False)
class Entry:
    """A part of shared memory to be moved.

    ``memory`` is a Buffer, a Registration or a DmaBuf, or a part of one of the channel's: a slice, a numpy array, a
    memoryview. ``direction`` is "read" (from the card into it) or "write". ``address`` is the card's, default 0; None
    where the channel has no addresses. ``tag`` comes back with the result; default: a number. With ``barrier`` all
    entries before it, of both directions, end first; else those of one direction are moved in order, and the two
    directions at the same time. The entry holds a view of the memory, so that a Buffer cannot be closed.
    """

    memory: Buffer | Registration | DmaBuf | DmaBufPart | BytesLike
    address: int | None = None
    direction: Literal["read", "write"] = field(kw_only=True)
    tag: Any = field(default=None, kw_only=True)
    barrier: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class Result:
    """What became of an entry: its ``tag``, the bytes that have arrived, and None or the error that it ended with."""

    tag: Any
    bytes: int
    error: TransferError | None


class Move:
    """An entry, until its result is known. It keeps the memory: the object that is registered, or the Buffer."""

    __slots__ = ("address", "flags", "holder", "id", "left", "length", "offset", "parts", "tag")

    def __init__(
        self, flags: int, number: int, offset: int, length: int, address: int | None, tag: Any, holder: object
    ) -> None:
        """Begin with nothing moved: a part of the buffer with an id, and the card's address or None."""
        self.flags, self.id, self.offset, self.length, self.address = flags, number, offset, length, address
        self.tag, self.holder = tag, holder
        most = length if address is None else uapi.PCIEDMA_ENTRY_MAX  # a message is one
        self.parts = [Part(self, start, min(most, length - start)) for start in range(0, length, most)]
        self.left = len(self.parts)

    @property
    def moved(self) -> int:
        """How many bytes have arrived, one behind the other."""
        done = 0
        for part in self.parts:
            done += part.moved
            if part.code or part.moved < part.length:
                break
        return done

    @property
    def code(self) -> int:
        """The errno of its first part that was not whole, or 0."""
        return next((part.code for part in self.parts if part.code), 0)

    def result(self, path: str) -> Result:
        """Return what is told of it."""
        code, error = self.code, None
        if code:
            doing = "reading" if self.flags & uapi.PCIEDMA_ENTRY_C2H else "writing"
            error = transfer_error(code, path, doing, self.length, self.address, self.moved)
        return Result(self.tag, self.moved, error)


class Part:
    """What the kernel is told of an entry: all of it, if it is not longer than the kernel's can be."""

    __slots__ = ("batch", "code", "length", "move", "moved", "start")

    batch: Batch

    def __init__(self, move: Move, start: int, length: int) -> None:
        """Begin with nothing moved, at a byte of the entry."""
        self.move, self.start, self.length = move, start, length
        self.moved = self.code = 0

    def fill(self, raw: uapi.pciedma_transfer_entry, tag: int = 0) -> None:
        """Tell the kernel of what is left of it."""
        move, done = self.move, self.start + self.moved
        raw.flags = move.flags & ~uapi.PCIEDMA_ENTRY_BARRIER if done else move.flags
        raw.buffer, raw.offset, raw.length = move.id, move.offset + done, self.length - self.moved
        raw.address, raw.tag = (move.address or 0) + done if move.address is not None else 0, tag


class Batch:
    """The entries of one submission: when one fails those that have not begun do not, unless *each* is for itself.

    The channel's lock is held. ``tell`` is called with each entry that has ended, in the order of their ends.
    """

    __slots__ = ("_ended", "_total", "cancels", "each", "failed", "left", "parts", "tell")

    def __init__(self, moves: Iterable[Move], cancels: int, tell: Callable[[Move], None], each: bool) -> None:
        """Begin with nothing handed in, after so many calls of cancel()."""
        moves = list(moves)
        self.parts = deque(part for move in moves for part in move.parts)
        for part in self.parts:
            part.batch = self
        self.left, self.failed = len(moves), False
        self._total, self._ended = len(self.parts), 0
        self.cancels, self.tell, self.each = cancels, tell, each

    @property
    def out(self) -> int:
        """How many of its parts the kernel has."""
        return self._total - len(self.parts) - self._ended

    def end(self, part: Part, moved: int, code: int) -> None:
        """Know of a part what became of it."""
        self._ended += 1
        part.moved, part.code = part.moved + moved, code
        self.failed |= code != 0 and not self.each
        part.move.left -= 1
        if not part.move.left:
            self.left -= 1
            part.move.holder = None
            self.tell(part.move)
            if not self.left:
                del self.tell  # which may know this

    def drop(self) -> None:
        """End what the kernel does not know yet."""
        self.failed = True
        while self.parts:
            self.end(self.parts.popleft(), 0, errno.ECANCELED)


def locate(
    channel: Sharing, memory: Shared | DmaBufPart | BytesLike, flag: int
) -> tuple[Shared | None, int, int]:
    """Return in which shared memory something lies, at which address, and how many bytes it has; None: in none.

    Raises TypeError for what is read-only and to be read into. Errors keep no view of the memory.
    """
    if isinstance(memory, (Shared, DmaBufPart)):
        whole = memory if isinstance(memory, Shared) else memory.memory
        place, size = (whole._address, whole._size) if isinstance(memory, Shared) else memory[1:]
        return whole if whole._id and whole._channel is channel else None, place, size
    try:
        view = bytes_of(memory)
    finally:
        del memory
    with view:
        if flag == uapi.PCIEDMA_ENTRY_C2H and view.readonly and view:
            raise TypeError("the buffer is read-only")
        address, length = address_of(view), len(view)
    return channel._memory_at(address, length, flag), address, length


def prepare(channel: Sharing, entries: Iterable[Entry]) -> list[Move]:
    """Return entries as they are moved; raises ValueError or TypeError for the first that cannot be."""
    entry = None
    try:
        moves = []
        for entry in entries:
            if not isinstance(entry, Entry):
                raise TypeError(f"what is moved are pciedma's Entry, not {entry!r}")
            moves.append(_move_of(channel, entry))
        return moves
    finally:
        del entries, entry


def _move_of(channel: Sharing, entry: Entry) -> Move:
    try:
        direction, tag, asked = entry.direction, entry.tag, entry.address
        flag = _FLAGS.get(direction)
        if flag is None:
            raise ValueError(f"the direction is 'read' or 'write', not {direction!r}")
        flags = flag | (uapi.PCIEDMA_ENTRY_BARRIER if entry.barrier else 0)
        shared, place, length = locate(channel, entry.memory, flag)
    finally:
        del entry
    if shared is None:
        raise ValueError(
            f"{length} bytes at {place:#x} lie in no open Buffer, Registration or DmaBuf of {channel.path}: make it by "
            "channel.buffer(), or channel.register() it"
        )
    if not length:
        raise ValueError("an entry has at least a byte")
    if not shared._flags & flag:
        raise ValueError(f"{shared!r} is not for the direction {'c2h' if direction == 'read' else 'h2c'}")
    address = channel._position(asked, length)
    return Move(flags, shared._id, place - shared._address, length, address, tag, holder_of(shared))


def number(moves: list[Move], first: int) -> None:
    """Give tags to those that have none."""
    for i, move in enumerate(moves, first):
        if move.tag is None:
            move.tag = i


def holder_of(shared: Shared) -> object:
    """Return what keeps memory, and does not keep it from being closed."""
    return shared._memory if isinstance(shared, Registration) else shared
