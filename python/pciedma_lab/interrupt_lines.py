"""The client's eventfds, through which a card's interrupts reach the guest."""

from __future__ import annotations

import os
from enum import IntEnum, IntFlag

from .model import Interrupts


class Irq(IntEnum):
    """Kinds of interrupts, by their index in the protocol."""

    INTX = 0
    MSI = 1
    MSIX = 2
    ERROR = 3
    REQUEST = 4


class SetIrqs(IntFlag):
    """What a SET_IRQS request does, and with what."""

    DATA_NONE = 1
    DATA_BOOL = 2
    DATA_EVENTFD = 4
    MASK = 8
    UNMASK = 16
    TRIGGER = 32


class InterruptLines(Interrupts):
    """MSI and MSI-X messages are edges; INTA is a level that masks itself until the client unmasks it."""

    def __init__(self) -> None:
        """Start with no eventfd."""
        self._messages: dict[Irq, dict[int, int]] = {Irq.MSI: {}, Irq.MSIX: {}}
        self._pin: int | None = None
        self._asserted = False
        self._masked = False

    def message(self, vector: int) -> None:
        """Send MSI-X message *vector* if the guest uses MSI-X, else the MSI."""
        vectors = self._messages[Irq.MSIX] or self._messages[Irq.MSI]
        fd = vectors.get(vector)
        if fd is not None:
            os.eventfd_write(fd, 1)

    def level(self, asserted: bool) -> None:
        """Drive INTA; a card that uses messages does not."""
        self._asserted = asserted
        in_messages = self._messages[Irq.MSI] or self._messages[Irq.MSIX]
        if asserted and not self._masked and self._pin is not None and not in_messages:
            self._masked = True
            os.eventfd_write(self._pin, 1)

    def set(self, flags: int, index: int, start: int, count: int, fds: list[int]) -> None:
        """Do what a SET_IRQS request says, and take the eventfds it needs out of *fds*."""
        if index == Irq.INTX:
            self._set_pin(flags, fds)
        elif index in (Irq.MSI, Irq.MSIX) and flags & SetIrqs.TRIGGER:
            self._set_messages(Irq(index), flags, start, count, fds)

    def _set_pin(self, flags: int, fds: list[int]) -> None:
        if flags & SetIrqs.TRIGGER:
            if self._pin is not None:
                os.close(self._pin)
            self._pin = fds.pop(0) if fds else None
            self._unmask()
        elif flags & SetIrqs.DATA_EVENTFD:
            return
        elif flags & SetIrqs.UNMASK:
            self._unmask()
        elif flags & SetIrqs.MASK:
            self._masked = True

    def _unmask(self) -> None:
        self._masked = False
        self.level(self._asserted)

    def _set_messages(self, index: Irq, flags: int, start: int, count: int, fds: list[int]) -> None:
        """Without eventfds the vectors are let go: all of them if the request names none."""
        if flags & SetIrqs.DATA_NONE and count:
            return
        vectors = self._messages[index]
        for vector in range(start, start + count) if count else list(vectors):
            old = vectors.pop(vector, None)
            if old is not None:
                os.close(old)
            if fds:
                vectors[vector] = fds.pop(0)

    def close(self) -> None:
        """Forget all eventfds."""
        for vectors in self._messages.values():
            for fd in vectors.values():
                os.close(fd)
            vectors.clear()
        if self._pin is not None:
            os.close(self._pin)
        self._pin = None
        self._asserted = self._masked = False
