"""Transfers: many parts of shared memory at a time, waited for or not."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any, SupportsIndex

from . import uapi
from .channel_node import NANOSECONDS, to_nanoseconds
from .entry import Batch, Entry, Move, Part, Result, number, prepare
from .node import NodePath, as_int
from .sharing import Sharing
from .turn import Turn

#: Of an open file's entries so many are handed in at most: transfer() has the others.
_MOST = uapi.PCIEDMA_ENTRIES - 1024
#: Results that are taken at a time.
_AT_ONCE = 256
#: How long close() waits for the hardware to let go of memory.
_CLOSING_S = 20.0
#: What the kernel says of the first entry of a call where it is to blame; all else is the call's.
_OF_AN_ENTRY = {errno.EACCES, errno.EBADF, errno.EINVAL, errno.EMSGSIZE, errno.ENOENT, errno.ENOSPC}
#: What entries end with when a signal ends the call.
_INTERRUPTED = {errno.EINTR, errno.ECANCELED}
#: What a result has where the kernel has told nothing.
_UNTOLD = 0xFFFFFFFF
NO_ROOM_S = 0.005
#: Of a part: what is left of its batch.
_PARTS = attrgetter("batch.parts")


class Transfers(Sharing):
    """A channel that moves entries.

    One thread at a time takes results from the kernel, for all: the others wait for it. Of the rest the lock is held
    only while nothing is waited for.
    """

    __slots__ = (
        "_condition", "_done", "_handed_in", "_lock", "_next_number", "_next_tag", "_pid", "_queue", "_results",
        "_submitted", "_taker", "_turn",
    )

    #: All of the following is for who has the lock.
    _turn: Turn
    _lock: threading.RLock
    _condition: threading.Condition
    #: Entries that submit() was given and whose result nobody has taken; what of them has ended.
    _submitted: int
    _done: deque[Move]
    #: What waits for room in the kernel, and what the kernel has, by tag.
    _queue: deque[Batch]
    _handed_in: dict[int, Part]
    _next_tag: int
    _next_number: int
    #: The thread that waits for results, without the lock.
    _taker: int | None
    _results: ctypes.Array[uapi.pciedma_transfer_result]
    _pid: int

    def __init__(self, path: NodePath, *, exclusive: bool = False, nonblocking: bool = False) -> None:
        """Open the node *path*, for the directions that the channel has (``info.c2h``, ``info.h2c``).

        With ``exclusive`` nobody else may have it open (EBUSY). With ``nonblocking`` a call that would
        have to queue raises WouldBlockError. Raises WrongNodeError if it is no channel's node.
        """
        self._turn, self._pid = Turn(), os.getpid()
        self._lock, self._condition = self._turn.lock, threading.Condition(self._turn.lock)
        self._submitted, self._done, self._queue, self._handed_in = 0, deque(), deque(), {}
        self._next_tag, self._next_number, self._taker = 0, 0, None
        self._results = _results(_AT_ONCE)
        super().__init__(path, exclusive=exclusive, nonblocking=nonblocking)

    def transfer(self, entries: Iterable[Entry], *, each: bool = False) -> list[Result]:
        """Move entries, and wait for them; returns their results, in the order of the entries.

        Any number of any length: the kernel is handed 4,096 at a time, and less than 2 GiB of each. A handler of a
        signal runs meanwhile, and ends the call if it raises. Tags are numbers from 0 where there are none.

        When an entry fails, those that have not begun end with RequestCancelledError; with *each* they are moved, and
        each is for itself. Then the error of the first that failed is raised, with all ``results``: TransferError as
        readinto() has it; ENOSPC if the entry ends behind the card's memory, MessageTooLongError, WouldBlockError also
        when the time-out is over before one of the open file's 4,096 entries is free. Raises ValueError (memory that
        the card does not know, or not for this direction; an address) or TypeError before anything is moved.
        """
        try:
            moves = prepare(self, entries)
        finally:
            del entries  # which an error's traceback would keep, and with it a Buffer from being closed
        number(moves, 0)
        parts = deque(part for move in moves for part in move.parts)
        cancels, code, since = self._cancels, 0, time.monotonic()
        while parts and not code:
            code = self._move_some(parts, cancels, each)
            if code != errno.EAGAIN:
                since = time.monotonic()
            elif self._may_wait(since):
                code = 0
        if parts:
            parts[0].code = code
        for part in parts:
            part.code = part.code or errno.ECANCELED
        return self._told(moves)

    def _move_some(self, parts: deque[Part], cancels: int, each: bool) -> int:
        """Have the kernel move some of what is left; that goes from *parts*. Returns the errno that ends the call."""
        some = [parts[i] for i in range(min(len(parts), uapi.PCIEDMA_ENTRIES))]
        raw, results = _entries(some), _results(len(some))
        flags = uapi.PCIEDMA_TRANSFER_EACH if each else 0
        batch = uapi.pciedma_transfer_batch(flags, len(some), ctypes.addressof(raw), ctypes.addressof(results))
        code = errno.ECANCELED if self._cancels != cancels else self._ask(uapi.PCIEDMA_IOC_TRANSFER, batch, [])
        told = [(part, result) for part, result in zip(some, results, strict=True) if result.reserved != _UNTOLD]
        if not told and each and code in _OF_AN_ENTRY:
            parts.popleft().code = code
            return 0
        if not told:
            return 0 if code == errno.EINTR else code or errno.EIO
        errors = {result.error for _, result in told} - {0}
        again = errno.EINTR in errors and (each or errors <= _INTERRUPTED) and self._cancels == cancels
        left = []
        for part, result in told:
            parts.popleft()
            part.moved += result.bytes
            if again and result.error in _INTERRUPTED and (part.move.address is not None or not result.bytes):
                left.append(part)
            else:
                part.code = result.error
        parts.extendleft(reversed(left))
        return errno.ECANCELED if (errors and not again and not each) or self._cancels != cancels else 0

    def _may_wait(self, since: float) -> bool:
        """Wait a little, if this channel's calls may, and not for longer than its time-out."""
        timeout_s = self.timeout_s
        if timeout_s == 0 or fcntl.fcntl(self.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK:
            return False
        if timeout_s is not None and time.monotonic() - since > timeout_s:
            return False
        time.sleep(NO_ROOM_S)
        return True

    def _told(self, moves: list[Move]) -> list[Result]:
        """Return the results of entries; raises the error of the first that failed, if one has."""
        results = [move.result(self.path) for move in moves]
        codes = [(move.code == errno.ECANCELED, i) for i, move in enumerate(moves) if move.code]
        if not codes:
            return results
        error = moves[min(codes)[1]].result(self.path).error  # another: who keeps results is to keep no traceback
        assert error
        error.results = tuple(results)
        try:
            raise error
        finally:
            del error  # or it would hold itself by its traceback, and with that what the caller's frames have

    def submit(self, entries: Iterable[Entry], *, each: bool = False) -> list[Any]:
        """Have entries moved, and do not wait; returns their tags, which are running numbers where there are none.

        Their results are for wait(), and their memory is kept until then; a Buffer may be closed. What the kernel has
        no room for (3,072 are handed in, the entries of a call for which there was room one after the other) is handed
        in when results are taken, by wait() or by asyncio. When an entry fails, those of the same call that have not
        begun end with RequestCancelledError, but with *each*, as for transfer(). They always queue, and end with
        DmaTimeoutError after ``timeout_s`` without progress, or 60 s if that is less; if ``timeout_s`` is 0, after the
        engine's ``drain_ms``, be it only that others are before them. Threads may share it. Raises ValueError or
        TypeError as transfer() does, ValueError in a child after fork(): the entries would be the parent's;
        RuntimeError in a handler of a signal, or a finalizer, that has interrupted a call of this channel's in the
        midst of its work.
        """
        self._check_owner()
        try:
            moves = prepare(self, entries)
        finally:
            del entries  # as in transfer()
        with self._turn, self._lock:
            number(moves, self._next_number)
            self._next_number += len(moves)
            self._submitted += len(moves)
            self._put(moves, self._done.append, each)
        return [move.tag for move in moves]

    def wait(
        self, min: SupportsIndex = 1, max: SupportsIndex | None = None, timeout_s: float | None = None
    ) -> list[Result]:
        """Take results of submitted entries, in the order of their ends: at least *min*, at most *max* (None: all).

        They are fewer when *timeout_s* seconds are over (None: no bound), or if fewer were submitted: none is an empty
        list at once. Errors of entries are in the results. Threads may share it: each result goes to one of them. In
        handlers of signals and finalizers it is as submit().
        """
        self._check_owner()
        wanted, most = as_int(min, "min"), None if max is None else as_int(max, "max")
        if wanted < 0 or (most is not None and (most < 1 or most < wanted)):
            raise ValueError("min is 0 or more, and max not less than min, and not 0")
        end = None if timeout_s is None else time.monotonic() + to_nanoseconds(timeout_s) / NANOSECONDS
        with self._turn, self._lock:
            self._take()
            while len(self._done) < (wanted if wanted < self._submitted else self._submitted):
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._await_results(left)
            count = len(self._done) if most is None or most > len(self._done) else most
            taken = [self._done.popleft() for _ in range(count)]
            self._submitted -= count
        return [move.result(self.path) for move in taken]

    @property
    def submitted(self) -> int:
        """How many entries were given to submit() whose result wait() has not returned yet."""
        return self._submitted

    def cancel(self) -> None:
        """End all requests of this open file, of all its threads and processes, synchronous or not.

        Each raises RequestCancelledError. A call with ``whole`` false, an asynchronous request, and one of the C
        library or of another Channel on the same open file (as after fork()) ends with what has arrived instead,
        if that is not nothing. The channel works on.
        """
        self._cancels += 1
        if self._turn.is_mine:
            self._turn.clear_up(self._cancel_again)
        elif self._pid == os.getpid():
            with self._turn, self._lock:
                pass  # what somebody was about to hand in, he has
        self._ioctl(uapi.PCIEDMA_IOC_CANCEL, uapi.pciedma_cancel())

    def _cancel_again(self) -> None:
        """End what this thread was about to hand in when it was interrupted."""
        with suppress(OSError, ValueError):
            self._ioctl(uapi.PCIEDMA_IOC_CANCEL, uapi.pciedma_cancel())

    def _check_owner(self) -> None:
        if self._pid != os.getpid():
            raise ValueError(f"{self!r} was opened before fork(), and what is submitted is the parent's: open it anew")
        self.fileno()

    def _put(self, moves: list[Move], tell: Callable[[Move], None], each: bool) -> Batch:
        """Have entries moved as soon as there is room; lock held."""
        batch = self._enqueue(moves, tell, each)
        self._feed()
        self._condition.notify_all()
        return batch

    def _enqueue(self, moves: list[Move], tell: Callable[[Move], None], each: bool) -> Batch:
        """Have entries handed in by the next _feed(); lock held."""
        batch = Batch(moves, self._cancels, tell, each)
        if batch.parts:
            self._queue.append(batch)
        return batch

    def _feed(self) -> None:
        """Hand in what there is room for; lock held."""
        while self._queue:
            batch = self._queue[0]
            if batch.failed or batch.cancels != self._cancels:
                batch.drop()
            elif (batch.out and not batch.each) or not self._hand_in():
                return  # a call's entries that could not be handed in at once wait: one of them may fail
            while self._queue and not self._queue[0].parts:
                self._queue.popleft()

    def _next_parts(self, room: int) -> tuple[list[Part], int]:
        """Return what the kernel is to be told of next, and the flags of that: some of the parts of the first in the
        queue, or those of as many, one behind the other, as have a single one each."""
        first = self._queue[0]
        flags = uapi.PCIEDMA_TRANSFER_SUBMIT | uapi.PCIEDMA_TRANSFER_EACH
        if len(first.parts) > 1:
            some = [first.parts[i] for i in range(min(len(first.parts), room))]
            return some, flags if first.each else uapi.PCIEDMA_TRANSFER_SUBMIT
        some = []
        for batch in self._queue:
            is_alone = len(batch.parts) == 1 and (batch.each or not batch.out)
            if len(some) == room or not is_alone or batch.failed or batch.cancels != self._cancels:
                break
            some.append(batch.parts[0])
        return some, flags

    def _hand_in(self) -> bool:
        """Hand in some of what is first in the queue; returns whether there was room for any. Lock held."""
        some, flags = self._next_parts(_MOST - len(self._handed_in))
        if not some:
            return False
        first = self._next_tag
        self._next_tag += len(some)
        raw = _entries(some, first)
        argument = uapi.pciedma_transfer_batch(flags, len(some), ctypes.addressof(raw), 0)
        counts: list[int] = []

        def taken() -> Iterator[int]:  # known when the call has returned
            return chain.from_iterable(map(range, counts))

        code = self._ask(uapi.PCIEDMA_IOC_TRANSFER, argument, counts, chain(
            map(self._handed_in.__setitem__, map(first.__add__, taken()), map(some.__getitem__, taken())),
            map(deque.popleft, map(_PARTS, map(some.__getitem__, taken()))),
        ))
        if code == errno.EAGAIN:
            return False
        if code:
            batch = some[0].batch
            batch.failed |= code not in _OF_AN_ENTRY
            batch.end(batch.parts.popleft(), 0, code)
        return True

    def _await_results(self, timeout_s: float | None) -> None:
        """Wait until somebody has taken a result, or for the time, or for a while; lock held."""
        if self._turn.do_left():
            return
        me = threading.get_ident()
        if self._taker == me:  # which a handler of a signal has interrupted, and would take what that waits for
            self._turn.refuse()
        if self._taker is not None:
            self._condition.wait(timeout_s)
            return
        if not self._handed_in:  # the kernel has no room, others have it all
            self._condition.wait(NO_ROOM_S)
            self._feed()
            return
        try:
            try:
                self._taker = me
                self._lock.release()
                self._turn.catch_up()
                self._wait_call(1, timeout_s)
            finally:
                self._regain()
        finally:
            self._regain()  # now surely: an exception may have come in between
            self._take()

    def _regain(self) -> None:
        """Get the lock back, to wait for results no more; what is raised meanwhile is raised afterwards."""
        try:
            if not self._turn.is_mine:
                self._lock.acquire()
        finally:
            if not self._turn.is_mine:
                self._regain()
            self._taker = None

    def _take(self) -> None:
        """Take results that there are; lock held."""
        if self._taker is not None:
            return  # who waits for them takes all before he lets go of the lock
        self._collect()
        while self._handed_in:
            try:
                self._wait_call(0, 0)
            finally:
                count = self._collect()
            if count < _AT_ONCE:
                break
        self._feed()
        self._condition.notify_all()

    def _wait_call(self, least: int, timeout_s: float | None) -> None:
        nanoseconds = uapi.PCIEDMA_TIMEOUT_NONE if timeout_s is None else to_nanoseconds(timeout_s)
        argument = uapi.pciedma_transfer_wait(0, least, _AT_ONCE, 0, nanoseconds, ctypes.addressof(self._results))
        code = self._ask(uapi.PCIEDMA_IOC_TRANSFER_WAIT, argument, [])
        if code not in (0, errno.ETIMEDOUT, errno.EINTR):
            raise OSError(code, os.strerror(code), self.path)

    def _collect(self) -> int:
        """Know of the results that the kernel has told of, also if an exception came in between; lock held."""
        count = 0
        for result in self._results:
            if result.reserved == _UNTOLD:
                break
            result.reserved = _UNTOLD
            count += 1
            part = self._handed_in.pop(result.tag, None)
            if part is not None:
                part.batch.end(part, result.bytes, result.error)
        return count

    def _ask(
        self, request: int, argument: ctypes.Structure, counts: list[int], then: Iterable[object] = (),
    ) -> int:
        """Make an ioctl; returns its errno, or 0.

        What it returns is added to *counts*, and *then* is done, before any signal is heard.
        """
        call = map(partial(fcntl.ioctl, self.fileno(), request), (argument,))
        try:
            deque(chain(map(counts.append, call), then), maxlen=0)  # without a step of the interpreter's in between
        except OSError as error:
            if error.errno == errno.ENOTTY:
                self._ioctl(request, argument)  # says which driver it is
            return error.errno or errno.EIO
        return 0

    def close(self) -> None:
        """Close the channel; a second time does nothing.

        What was submitted is cancelled, and waited for, as the hardware may still be at work with its memory: for as
        long as it takes to stop that, or 20 s, after which the memory is kept for ever. Tasks that wait get
        RequestCancelledError, or CardGoneError. The card forgets the channel's memory; that of a Buffer stays mapped
        until it is closed itself. In a child after fork() nothing of the parent's changes.
        """
        if not self.closed and self._pid == os.getpid():
            self._settle()
        super().close()

    def _settle(self) -> None:
        """See that nothing that was submitted is under way any more."""
        if not self._handed_in and not self._queue:
            return
        end = time.monotonic() + _CLOSING_S
        with suppress(OSError):  # such as of a card that goes: it refuses that, and ends what it has by itself
            self.cancel()
        with self._turn, self._lock:
            with suppress(OSError):
                self._take()
                while self._handed_in and time.monotonic() < end:
                    self._await_results(max(end - time.monotonic(), 0))
            _kept.extend(holder for part in self._handed_in.values() if (holder := part.move.holder) is not None)
            while self._handed_in:
                _, part = self._handed_in.popitem()
                part.batch.end(part, 0, errno.ECANCELED)
            while self._queue:
                self._queue.popleft().drop()
            self._condition.notify_all()


#: Memory that no hardware was proven to have left.
_kept: list[object] = []


def _entries(parts: list[Part], tag: int = 0) -> ctypes.Array[uapi.pciedma_transfer_entry]:
    raw = (uapi.pciedma_transfer_entry * len(parts))()
    for i, (part, one) in enumerate(zip(parts, raw, strict=True)):
        part.fill(one, tag + i)
    return raw


def _results(count: int) -> ctypes.Array[uapi.pciedma_transfer_result]:
    results = (uapi.pciedma_transfer_result * count)()
    ctypes.memset(results, 0xFF, ctypes.sizeof(results))
    return results
