"""Transfers for asyncio: submitted, and told of by an eventfd; no thread waits for them."""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, SupportsIndex, cast

from . import uapi
from .buffer import Registration, Shared, destroy
from .channel_node import Kind, bytes_of
from .dmabuf import DmaBuf, DmaBufPart
from .entry import Batch, Entry, Move, Result, holder_of, locate, number
from .entry import prepare as prepare_entries
from .errors import TransferError, transfer_error
from .listening import Listening, run_in
from .node import NodePath
from .pool import Pool

if TYPE_CHECKING:
    from typing_extensions import Buffer as BytesLike

    _Loop = asyncio.AbstractEventLoop

_C2H, _H2C = uapi.PCIEDMA_ENTRY_C2H, uapi.PCIEDMA_ENTRY_H2C


class _Ticket:
    """Who waits for a part of the pool, and where the part begins as soon as it is his."""

    def __init__(self, loop: _Loop, length: int) -> None:
        self.loop, self.length, self.future = loop, length, loop.create_future()
        self.offset: int | None = None


class _Request:
    """What a coroutine has under way; *dropped*: nobody waits for it any more."""

    def __init__(self, loop: _Loop, take: Callable[[Move], None] | None = None) -> None:
        self.loop, self.future, self.take = loop, loop.create_future(), take
        self.moves: list[Move] = []
        self.batches: list[Batch] = []
        self.left, self.is_all, self.failed, self.dropped = 0, False, False, False

    def drop(self) -> None:
        """Nobody waits for it any more: what has not begun is not to. No lock is needed."""
        self.dropped = True
        for batch in self.batches:
            batch.failed = True


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Asynchronous(Listening):
    """A channel with calls for asyncio."""

    __slots__ = ("_pool", "_tickets")

    _pool: Pool | None
    _tickets: deque[_Ticket]

    def __init__(self, path: NodePath, *, exclusive: bool = False, nonblocking: bool = False) -> None:
        """Open the node *path*, for the directions that the channel has (``info.c2h``, ``info.h2c``).

        With ``exclusive`` nobody else may have it open (EBUSY). With ``nonblocking`` a call that would
        have to queue raises WouldBlockError. Raises WrongNodeError if it is no channel's node.
        """
        self._pool, self._tickets = None, deque()
        super().__init__(path, exclusive=exclusive, nonblocking=nonblocking)

    async def read_async(self, size: SupportsIndex | None = None, address: SupportsIndex | None = None) -> bytes:
        """Return what read() does, without keeping the loop from anything else; as readinto_async()."""
        asked = self._size_to_read(size, address)
        position = self._position(address, asked)
        chunks: dict[int, bytes] = {}

        def take(move: Move) -> None:
            assert self._pool
            chunks[move.tag] = bytes(self._pool.memory[move.offset : move.offset + move.moved])

        try:
            await self._pooled(_C2H, asked, self._clipped(position, asked), position, None, take)
        except TransferError as error:
            whole = b"".join(chunks[start] for start in sorted(chunks))
            error.partial = whole[: error.transferred]
            raise
        return chunks[0] if len(chunks) == 1 else b"".join(chunks[start] for start in sorted(chunks))

    async def readinto_async(self, buffer: BytesLike | Registration, address: SupportsIndex | None = None) -> int:
        """Fill a writable buffer as readinto() does, with its errors; the loop goes on meanwhile. Any number at once.

        What lies in one of the channel's Buffers or Registrations is moved there, if the engine can begin there. All
        else goes through 2 MiB of memory of the channel's own (4 MiB where messages can be longer than 1 MiB), in parts
        of 256 KiB at most, or messages: what is copied costs less than what is registered for a request, works with
        memory of each kind, and stays below the usual RLIMIT_MEMLOCK however many requests there are. They queue in
        this process where that or the kernel's entries are not enough. Calls of one task after the other are moved in
        order; of one that fails, parts behind the error may have been moved, too. O_NONBLOCK is for other calls: these
        always queue, and time out as submit() says, with a time-out of 0 also while others are before them for long. A
        message that lies in no memory of the channel's is of 2 MiB at most (ValueError).

        A task that is cancelled gets its CancelledError at once, and the channel goes on: what has begun is moved,
        into a Buffer or Registration too, for which the memory is kept until it has ended; no other memory is touched
        any more. cancel() ends what has begun of all tasks. For a child after fork(): ValueError.
        """
        if isinstance(buffer, Registration):
            buffer = buffer.memory
        if located := self._located(buffer, _C2H):
            del buffer  # which an error's traceback would keep, and with it a Buffer from being closed
            return await self._direct(_C2H, located, address)
        with bytes_of(buffer) as view:
            del buffer
            return await self._copied(_C2H, view, self._position(address, len(view)))

    async def write_async(self, data: BytesLike | Registration, address: SupportsIndex | None = None) -> int:
        """Send bytes as write() does, with its errors; the loop goes on meanwhile; as readinto_async()."""
        if isinstance(data, Registration):
            data = data.memory
        if located := self._located(data, _H2C):
            del data
            return await self._direct(_H2C, located, address)
        with bytes_of(data) as view:
            del data
            return await self._copied(_H2C, view, self._position(address, len(view)))

    async def transfer_async(self, entries: Iterable[Entry], *, each: bool = False) -> list[Result]:
        """Move entries as transfer() does, with its results and errors; cancellation is as in readinto_async()."""
        self._check_owner()
        try:
            moves = prepare_entries(self, entries)
        finally:
            del entries  # as in transfer()
        number(moves, 0)
        await self._moved(moves, each)
        return self._told(moves)

    def _clipped(self, position: int | None, length: int) -> int:
        """Return how many bytes there are up to the end of the card's memory."""
        if self.kind is not Kind.MEMORY:
            return length
        return length if self.info.size is None else max(min(length, self.info.size - (position or 0)), 0)

    def _located(self, memory: BytesLike, flag: int) -> tuple[Shared, int, int] | None:
        """Return in which shared memory for a direction something lies, at which byte, and how many it has; or None."""
        if isinstance(memory, (DmaBuf, DmaBufPart)):
            return None  # they are for entries, and no bytes
        shared, address, length = locate(self, memory, flag)
        return (shared, address - shared._address, length) if shared and shared._flags & flag else None

    async def _direct(self, flag: int, located: tuple[Shared, int, int], address: SupportsIndex | None) -> int:
        self._check_owner()
        shared, offset, asked = located
        position = self._position(address, asked)
        length = self._limited(flag, self._clipped(position, asked))
        moves = [Move(flag, shared._id, offset, length, position, None, holder_of(shared))] if length else []
        await self._moved(moves)
        if moves and moves[0].code == errno.EINVAL and not moves[0].moved:  # the engine cannot begin there
            with self._view(shared, offset, asked) as view:
                return await self._copied(flag, view, position)
        return self._checked(flag, asked, length, position, moves, 0)

    @staticmethod
    def _view(shared: Shared, offset: int, length: int) -> memoryview:
        memory = shared.memory if isinstance(shared, Registration) else memoryview(cast("BytesLike", shared))
        return memory[offset : offset + length]

    def _limited(self, flag: int, length: int) -> int:
        """Return how many bytes a request is of: of a message that is read at most as many as the longest has."""
        if flag == _H2C or self.kind is Kind.MEMORY or not self.info.c2h:
            return length
        return min(length, self.info.c2h.max_dma)

    def _checked(
        self, flag: int, asked: int, length: int, position: int | None, moves: list[Move], code: int
    ) -> int:
        """Return how many bytes have arrived; raises what the synchronous call would."""
        done = 0
        for move in moves:
            done += move.moved
            if move.code:
                code = move.code
                break
        if not code and flag == _H2C and length < asked:
            code = errno.ENOSPC
        if code:
            raise transfer_error(code, self.path, "reading" if flag == _C2H else "writing", asked, position, done)
        return done

    async def _moved(self, moves: list[Move], each: bool = False) -> None:
        """Wait until entries of one call have ended."""
        request = _Request(asyncio.get_running_loop())
        request.is_all = True
        with self._turn, self._lock:
            if moves:
                self._start(request, moves, each)
        try:
            if moves:
                await request.future
        except BaseException:  # also where a coroutine is collected that nobody goes on with: in any thread, anywhere
            request.drop()
            self._turn.clear_up(self._feed)
            raise

    async def _copied(self, flag: int, view: memoryview, position: int | None) -> int:
        """Move what lies anywhere by the pool."""

        def take(move: Move) -> None:
            assert self._pool
            view[move.tag : move.tag + move.moved] = self._pool.memory[move.offset : move.offset + move.moved]

        length = self._clipped(position, len(view))
        if flag == _C2H:
            return await self._pooled(_C2H, len(view), length, position, None, take)
        return await self._pooled(_H2C, len(view), length, position, view, None)

    async def _pooled(
        self, flag: int, asked: int, length: int, position: int | None, source: memoryview | None,
        take: Callable[[Move], None] | None,
    ) -> int:
        """Move bytes by the pool; *take* has what was read, with the byte where it begins as its tag."""
        self._check_owner()
        length, code, cancels = self._limited(flag, length), 0, self._cancels
        if position is None and flag == _H2C and self.info.h2c and length > self.info.h2c.max_dma:
            code = errno.EMSGSIZE
        if not length or code:
            return self._checked(flag, asked, length, position, [], code)
        loop = asyncio.get_running_loop()
        request = _Request(loop, take)
        with self._turn, self._lock:
            if self._pool is None:
                self._pool = Pool(self)
            pool, is_message = self._pool, position is None
            self._listen(loop)
        try:
            if is_message and length > pool.longest:
                raise ValueError(f"a message of more than {pool.longest} bytes is to lie in a buffer() of the channel")
            for start in range(0, length, pool.longest):
                part = min(pool.longest, length - start)
                offset = await self._room(loop, part)
                with self._turn, self._lock:
                    if request.failed or self._cancels != cancels or self.closed:
                        code = errno.ECANCELED
                        self._give(offset, part)
                        break
                    if source is not None:
                        pool.memory[offset : offset + part] = source[start : start + part]
                    self._start(request, [Move(flag, pool.id, offset, part, _plus(position, start), start, None)])
            with self._turn, self._lock:
                request.is_all = True
                waits = request.left > 0
            if waits:
                await request.future
        except BaseException:  # as in _moved()
            request.drop()
            self._turn.clear_up(self._feed)
            raise
        finally:
            self._turn.clear_up(partial(self._unlisten, loop))
        return self._checked(flag, asked, length, position, request.moves, code)

    def _start(self, request: _Request, moves: list[Move], each: bool = False) -> None:
        """Hand in a part of a request; lock held."""
        request.moves += moves
        request.left += len(moves)
        self._listen(request.loop)
        request.batches.append(self._enqueue(moves, partial(self._ended, request, len(moves)), each))
        self._feed_soon(request.loop)

    def _ended(self, request: _Request, of: int, move: Move) -> None:
        """Know of an end of a request's; lock held, in any thread."""
        if request.take and not request.dropped and move.flags == _C2H:
            request.take(move)
        if self._pool is not None and move.id == self._pool.id:
            self._give(move.offset, move.length)
        request.left -= 1
        request.failed |= move.code != 0
        if not request.left and request.is_all:
            run_in(request.loop, _resolve, request.future)
        if of == 1 or not request.left:
            self._unlisten(request.loop)

    async def _room(self, loop: _Loop, length: int) -> int:
        """Wait for a part of the pool, and return where it begins."""
        with self._turn, self._lock:
            assert self._pool
            offset = None if self._tickets else self._pool.take(length)
            if offset is not None:
                return offset
            ticket = _Ticket(loop, length)
            self._tickets.append(ticket)
        try:
            await ticket.future
        except BaseException:  # as in _moved()
            self._turn.clear_up(partial(self._give_up, ticket))
            raise
        assert ticket.offset is not None
        return ticket.offset

    def _give_up(self, ticket: _Ticket) -> None:
        """Let others have what somebody waited for; lock held."""
        if ticket.offset is not None:
            self._give(ticket.offset, ticket.length)
        else:
            self._tickets.remove(ticket)
            self._grant()

    def _give(self, offset: int, length: int) -> None:
        """Let the next have a part of the pool; lock held."""
        assert self._pool
        self._pool.give(offset, length)
        self._grant()

    def _grant(self) -> None:
        while self._tickets and self._pool:
            ticket = self._tickets[0]
            ticket.offset = self._pool.take(ticket.length)
            if ticket.offset is None:
                return
            self._tickets.popleft()
            run_in(ticket.loop, _resolve, ticket.future)

    def _settle(self) -> None:
        super()._settle()
        with self._turn, self._lock:
            if self._pool:
                destroy(self, self._pool.id)
                self._pool.close()


def _plus(position: int | None, start: int) -> int | None:
    return None if position is None else position + start
