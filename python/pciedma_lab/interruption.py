"""Signals that ask this process to end: they become an exception, which lets all that it has started end in order."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal came; ``number`` says which."""

    def __init__(self, number: int) -> None:
        """Made by the handler."""
        super().__init__(signal.Signals(number).name)
        self.number = number


class _State:
    """What the handler has to know; the main thread's alone, as signals are."""

    postponed = 0
    came: int | None = None


def _handle(number: int, frame: object) -> None:
    for other in _NUMBERS:  # one is enough: the end that it brings is not to be disturbed
        signal.signal(other, signal.SIG_IGN)
    _State.came = number
    _raise()


def _raise() -> None:
    if _State.came is not None and not _State.postponed:
        number, _State.came = _State.came, None
        raise Interrupted(number)


@contextlib.contextmanager
def orderly() -> Iterator[None]:
    """Let the first of the signals raise Interrupted in the main thread, which calls this; those ignored stay so."""
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, _handle)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Let it be raised only afterwards: what begins here, or ends, is not left half done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.postponed += 1
    try:
        yield
    finally:
        _State.postponed -= 1
        _raise()
