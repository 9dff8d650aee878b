"""Other ways into the driver than read and write: vectors, RWF_NOWAIT and Linux AIO, run in the guest."""

from __future__ import annotations

import ctypes
import errno
import os
from itertools import pairwise
from typing import Any

import pciedma

_libc = ctypes.CDLL(None, use_errno=True)
_IO_SETUP, _IO_DESTROY, _IO_GETEVENTS, _IO_SUBMIT = 206, 207, 208, 209
_IOCB_CMD_PREAD, _IOCB_CMD_PWRITE = 0, 1


class Iocb(ctypes.Structure):
    """``struct iocb`` of <linux/aio_abi.h>."""

    _fields_ = [
        ("data", ctypes.c_uint64), ("key", ctypes.c_uint32), ("rw_flags", ctypes.c_uint32),
        ("opcode", ctypes.c_uint16), ("reqprio", ctypes.c_int16), ("fildes", ctypes.c_uint32),
        ("buf", ctypes.c_uint64), ("nbytes", ctypes.c_uint64), ("offset", ctypes.c_int64),
        ("reserved2", ctypes.c_uint64), ("flags", ctypes.c_uint32), ("resfd", ctypes.c_uint32),
    ]


class IoEvent(ctypes.Structure):
    """``struct io_event`` of <linux/aio_abi.h>."""

    _fields_ = [("data", ctypes.c_uint64), ("obj", ctypes.c_uint64), ("res", ctypes.c_int64), ("res2", ctypes.c_int64)]


def _check(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


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
    context = ctypes.c_ulong(0)
    _check(_libc.syscall(_IO_SETUP, 8, ctypes.byref(context)))
    out, back = ctypes.create_string_buffer(os.urandom(777), 777), ctypes.create_string_buffer(777)
    short, wrong = [], 0
    with pciedma.Channel(path) as channel:
        for _ in range(rounds):
            for opcode, buffer in ((_IOCB_CMD_PWRITE, out), (_IOCB_CMD_PREAD, back)):
                request = Iocb(
                    opcode=opcode, fildes=channel.fileno(), buf=ctypes.addressof(buffer), nbytes=777, offset=offset
                )
                pointers = (ctypes.c_void_p * 1)(ctypes.addressof(request))
                _check(_libc.syscall(_IO_SUBMIT, context, ctypes.c_long(1), pointers))
                event, one = IoEvent(), ctypes.c_long(1)
                _check(_libc.syscall(_IO_GETEVENTS, context, one, one, ctypes.byref(event), None))
                if event.res != 777:
                    short.append(event.res)
            wrong += out.raw != back.raw
    _check(_libc.syscall(_IO_DESTROY, context))
    return {"short": short, "wrong": wrong}
