"""Who may use what a channel's lock protects, and what waits until somebody may."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import NoReturn


class Turn:
    """Around a lock: ``with turn, turn.lock``. Finalizers and handlers of signals run in any thread, at any moment.

    What such a one calls finds the lock with its own thread, and all half changed: that is a RuntimeError. What it has
    to clear up is left to who has the lock. Nobody waits for himself, nor for another to clear up.
    """

    __slots__ = ("_later", "_pid", "lock")

    def __init__(self) -> None:
        """Make the lock, which nobody has."""
        self.lock, self._later, self._pid = threading.RLock(), deque[Callable[[], object]](), os.getpid()

    @property
    def is_mine(self) -> bool:
        """Whether this thread has the lock."""
        owned: bool = self.lock._is_owned()  # type: ignore[attr-defined]
        return owned

    def __enter__(self) -> None:
        """Refuse who has the lock already."""
        if self.is_mine:
            self.refuse()

    def refuse(self) -> NoReturn:
        """Raise what who interrupts himself gets."""
        raise RuntimeError(
            "the channel is at work in this thread, which a handler of a signal, or a finalizer, has interrupted"
        )

    def __exit__(self, *arguments: object) -> None:
        """Do what was left to who had the lock; it is released."""
        self.catch_up()

    def clear_up(self, call: Callable[[], object]) -> None:
        """Have a call made with the lock held: now, or by who has it as he lets go of it."""
        self._later.append(call)
        self.catch_up()

    def do_left(self) -> bool:
        """Do what was left, as before a wait; returns whether there was any. Lock held, and nothing half changed."""
        is_any = bool(self._later)
        while self._later:
            self._later.popleft()()
        return is_any

    def catch_up(self) -> None:
        """Do what was left to who has had the lock, unless somebody has it."""
        while self._later and not self.is_mine and self._pid == os.getpid():  # in a child it is the parent's
            try:
                if not self.lock.acquire(blocking=False):
                    return
                self.do_left()
            finally:
                if self.is_mine:
                    self.lock.release()
