"""This process's standard input, passed to a command in the guest as it comes."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from types import TracebackType

from . import cache
from .guest_process import MachineFailed, Process

_CHUNK = 48 << 10
#: How much may be under way: more would only wait in the guest.
_WINDOW = 256 << 10


def is_given() -> bool:
    """Return whether there is an input to pass on: a terminal is none, since nobody knows that it is waited for."""
    return sys.stdin is not None and not os.isatty(0)


class Pump:
    """A thread that reads a file descriptor and sends what it reads, as far as the command takes it.

    It ends with the input, or when the command wants no more, or when the context is left: what was not read then stays
    for others.
    """

    def __init__(self, process: Process, descriptor: int = 0) -> None:
        """Send what *descriptor* has to *process*, which must have been started to take it so."""
        self._process = process
        self._descriptor = descriptor
        self._room = _WINDOW
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._is_over = False
        self._wake = os.eventfd(0)
        process.on_input = self._taken

    def __enter__(self) -> Pump:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self._taken(None)
        self._thread.join(1)
        if not self._thread.is_alive():  # else it waits for a guest that takes nothing any more, and ends with it
            os.close(self._wake)

    def _taken(self, size: int | None) -> None:
        with self._change:
            self._room += size or 0
            self._is_over = self._is_over or size is None
            self._change.notify()
        if size is None:
            os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        with contextlib.suppress(MachineFailed):  # who waits for the command sees that, too
            data = b"."
            while data and self._has_room() and self._is_ready():
                try:
                    data = os.read(self._descriptor, min(_CHUNK, self._room))
                except BlockingIOError:
                    continue
                except OSError as error:
                    cache.say(f"standard input: {error.strerror}")
                    data = b""
                with self._change:
                    self._room -= len(data)
                self._process.send_input(data)

    def _has_room(self) -> bool:
        """Wait until the command has taken enough; returns whether it wants more."""
        with self._change:
            self._change.wait_for(lambda: self._room or self._is_over)
            return not self._is_over

    def _is_ready(self) -> bool:
        """Wait until there is something to read; returns whether it is still wanted."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        poll.poll()
        return not self._is_over
