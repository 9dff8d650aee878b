"""Loops of asyncio that listen to a channel's eventfd."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from . import uapi
from .node import NodePath
from .transfer import NO_ROOM_S, Transfers

_Loop = asyncio.AbstractEventLoop


class _Signal:
    """An eventfd, closed when nobody refers to it."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if hasattr(self, "fd"):
            close(self.fd)


def run_in(loop: _Loop, call: Callable[..., object], *arguments: Any) -> bool:
    """Make a call in a loop, soon; returns False if it is closed."""
    try:
        is_here = asyncio.get_running_loop() is loop
    except RuntimeError:
        is_here = False
    try:
        (loop.call_soon if is_here else loop.call_soon_threadsafe)(call, *arguments)
    except RuntimeError:
        return False
    return True


def _stop_reading(loop: _Loop, signal: _Signal) -> None:
    loop.remove_reader(signal.fd)  # which nobody else gets before


class Listening(Transfers):
    """A channel that loops listen to, each while something of it is under way.

    Results are taken by whoever comes first, a loop or a thread in wait(), and told to those whose they are.
    """

    __slots__ = ("_feeding", "_looking", "_loops", "_signal")

    _signal: _Signal | None
    #: How much of each loop is under way.
    _loops: dict[_Loop, int]
    #: Those that are about to hand in what their tasks have asked for.
    _feeding: set[_Loop]
    #: Those that look again after a while.
    _looking: set[_Loop]

    def __init__(self, path: NodePath, *, exclusive: bool = False, nonblocking: bool = False) -> None:
        """Open the node *path*, for the directions that the channel has (``info.c2h``, ``info.h2c``).

        With ``exclusive`` nobody else may have it open (EBUSY). With ``nonblocking`` a call that would
        have to queue raises WouldBlockError. Raises WrongNodeError if it is no channel's node.
        """
        self._signal, self._loops, self._feeding, self._looking = None, {}, set(), set()
        super().__init__(path, exclusive=exclusive, nonblocking=nonblocking)

    def _listen(self, loop: _Loop) -> None:
        """Have a loop listen, once more; lock held."""
        if self._signal is None:
            signal = _Signal()
            self._ioctl(uapi.PCIEDMA_IOC_TRANSFER_EVENTFD, uapi.pciedma_transfer_eventfd(eventfd=signal.fd))
            self._signal = signal
        if loop not in self._loops:
            for old in [one for one in self._loops if one.is_closed()]:
                del self._loops[old]
            loop.add_reader(self._signal.fd, self._hear, loop, self._signal)
        self._loops[loop] = self._loops.get(loop, 0) + 1

    def _unlisten(self, loop: _Loop) -> None:
        """Have a loop listen no more, when that was the last; lock held, in any thread."""
        if loop not in self._loops:
            return
        self._loops[loop] -= 1  # who has waited may go on before the loop gets to the next
        if not self._loops[loop] and not run_in(loop, self._quit, loop, self._signal):
            del self._loops[loop]

    def _quit(self, loop: _Loop, signal: _Signal) -> None:
        with self._turn, self._lock:
            if self._loops.get(loop) == 0:
                del self._loops[loop]
                loop.remove_reader(signal.fd)

    def _hear(self, loop: _Loop, signal: _Signal) -> None:
        """Take results, of which the eventfd has told."""
        try:
            os.eventfd_read(signal.fd)
        except BlockingIOError:  # another loop does
            return
        with self._turn, self._lock:
            if not self.closed:
                self._take()
                self._nudge(loop)

    def _nudge(self, loop: _Loop) -> None:
        """Look again after a while if others have all entries; lock held."""
        if self._queue and not self._handed_in and loop not in self._looking:
            self._looking = {one for one in self._looking if not one.is_closed()} | {loop}
            loop.call_later(NO_ROOM_S, self._look, loop)

    def _look(self, loop: _Loop) -> None:
        with self._turn, self._lock:
            self._looking.discard(loop)
            self._feed_again(loop)

    def _feed_soon(self, loop: _Loop) -> None:
        """Hand in what the loop's tasks ask for now, all at once; lock held."""
        if loop not in self._feeding:
            self._feeding = {one for one in self._feeding if not one.is_closed()} | {loop}
            loop.call_soon(self._feed_now, loop)

    def _feed_now(self, loop: _Loop) -> None:
        with self._turn, self._lock:
            self._feeding.discard(loop)
            self._feed_again(loop)

    def _feed_again(self, loop: _Loop) -> None:
        """Hand in what there is room for, and look again if there is none; lock held."""
        if not self.closed:
            self._feed()
            self._condition.notify_all()
            self._nudge(loop)

    def _settle(self) -> None:
        super()._settle()
        with self._turn, self._lock:
            loops, self._loops = list(self._loops), {}
            signal, self._signal = self._signal, None
            for loop in loops:
                run_in(loop, _stop_reading, loop, signal)
