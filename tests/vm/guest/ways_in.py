"""Other ways into the driver than read and write: vectors, RWF_NOWAIT and Linux AIO, run in the guest."""

from __future__ import annotations

import ctypes
import errno
import os
from itertools import pairwise
from typing import Any

import pciedma
from pciedma_lab.guest.linux_aio import PREAD, PWRITE, Context


def vectors(path: str) -> dict[str, Any]:
    """Write a message from odd pieces and read it into other odd pieces; a longer vector is refused."""
    message = os.urandom(2047)
    cuts = [0, 1, 34, 35, 1000, 1000, 2047]
    pieces = [message[a:b] for a, b in pairwise(cuts)]
    areas = [bytearray(n) for n in (3, 500, 0, 1, 1543, 64)]
    with pciedma.Channel(path) as channel:
        sent = os.writev(channel.fileno(), pieces)
        got = os.readv(channel.fileno(), areas)
        try:
            os.writev(channel.fileno(), [bytes(2000), bytes(48)])
            too_long = "moved"
        except OSError as error:
            too_long = errno.errorcode[error.errno or 0]
    return {"sent": sent, "got": got, "same": b"".join(areas)[:got] == message, "too_long": too_long}


def nowait(path: str) -> int | str:
    """Read with RWF_NOWAIT; returns the count or the errno's name."""
    with pciedma.Channel(path) as channel:
        try:
            return os.preadv(channel.fileno(), [bytearray(10)], -1, os.RWF_NOWAIT)
        except OSError as error:
            return errno.errorcode[error.errno or 0]


def aio(path: str, rounds: int, *, offset: int = 0) -> dict[str, Any]:
    """Write and read back by io_submit(); returns results that were not the whole buffer, and wrong data."""
    out, back = ctypes.create_string_buffer(os.urandom(777), 777), ctypes.create_string_buffer(777)
    short, wrong = [], 0
    with pciedma.Channel(path) as channel, Context(8) as context:
        for _ in range(rounds):
            for opcode, buffer in ((PWRITE, out), (PREAD, back)):
                context.submit(opcode, channel.fileno(), ctypes.addressof(buffer), 777, offset)
                short += [result for _, result in context.wait(1) if result != 777]
            wrong += out.raw != back.raw
    return {"short": short, "wrong": wrong}
