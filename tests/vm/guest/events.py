"""Event lines of a card, run in the guest."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import sys
from typing import Any

import pciedma

_USER_WIRES = 0x04


def _readable(fd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(int(seconds * 1000)))


def _read(fd: int, length: int = 4) -> list[int] | str:
    """Read the card node once; returns the lines, or an errno's name."""
    try:
        mask = int.from_bytes(os.read(fd, length), sys.byteorder)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return [line for line in range(32) if mask >> line & 1]


def listen(path: str, line: int, reads: bool = False) -> dict[str, Any]:
    """Wait for a line to fire that the test raises, take notice twice, and listen no more.

    By poll and ioctl, or by a read that waits, and one that does not.
    """
    eventfd = os.eventfd(0, os.EFD_NONBLOCK)
    with pciedma.open(path) as card, pciedma.open(path) as other:
        card.listen([line, 15], eventfd)
        other.listen([14])
        print("listening", flush=True)
        if reads:  # into memory that is not there, which loses nothing; as soon as notice is taken it fires again
            wrong = ctypes.c_void_p(1)
            assert ctypes.CDLL(None, use_errno=True).read(card.fileno(), wrong, ctypes.c_size_t(4)) == -1
            assert ctypes.get_errno() == errno.EFAULT
            found: dict[str, Any] = {"lines": _read(card.fileno()), "signalled": min(1, os.eventfd_read(eventfd))}
        else:
            found = {"fired": _readable(card.fileno(), 30), "signalled": os.eventfd_read(eventfd)}
            found["lines"] = sorted(card.events())
        found["other"] = _readable(other.fileno(), 0)
        found["again"] = _readable(card.fileno(), 5)  # nobody has served the card's logic
        with card.window("user") as registers:  # what the user's logic wants: its wire is lowered
            registers.write32(_USER_WIRES, 1 << line)
        card.events()
        found["after"] = _readable(card.fileno(), 0.3)
        if reads:
            os.set_blocking(card.fileno(), False)
            found["none"] = [_read(card.fileno()), _read(card.fileno(), 3)]
        card.listen([])
    os.close(eventfd)
    return found


def arm(path: str, line: int) -> None:
    """Listen to a line, and go without waiting for it: it stays armed."""
    with pciedma.open(path) as card:
        card.listen([line])


def wait(path: str, line: int) -> list[int] | str:
    """Listen to a line, and wait for it by a read."""
    with pciedma.open(path) as card:
        card.listen([line])
        return _read(card.fileno())


def refused(path: str) -> list[str]:
    """Listen to what is not there; returns errno names."""
    results = []
    with pciedma.open(path) as card:
        for raw in ({"lines": 1 << 16}, {"lines": 1, "eventfd": 999}, {"lines": 1, "eventfd": card.fileno()}):
            try:
                card._ioctl(pciedma.uapi.PCIEDMA_IOC_SET_EVENTS, pciedma.uapi.pciedma_events(**({"eventfd": -1} | raw)))
                results.append("ok")
            except OSError as error:
                results.append(errno.errorcode[error.errno or 0])
    return results
