"""Linux AIO by its system calls, run in the guest."""

from __future__ import annotations

import ctypes
import errno
import os
import time
from types import TracebackType

_libc = ctypes.CDLL(None, use_errno=True)
_SETUP, _DESTROY, _GETEVENTS, _SUBMIT, _CANCEL = 206, 207, 208, 209, 210

PREAD, PWRITE, PREADV, PWRITEV = 0, 1, 7, 8


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


class _Timespec(ctypes.Structure):
    _fields_ = [("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long)]


def _check(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Context:
    """A context for up to *depth* requests at a time."""

    def __init__(self, depth: int = 8) -> None:
        """Set it up."""
        self._context = ctypes.c_ulong(0)
        _check(_libc.syscall(_SETUP, depth, ctypes.byref(self._context)))

    def __enter__(self) -> Context:
        """Return the context."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Destroy it; waits for what is under way."""
        _libc.syscall(_DESTROY, self._context)

    def submit(
        self, opcode: int, fd: int, address: int, length: int, offset: int, *, data: int = 0, flags: int = 0
    ) -> Iocb:
        """Hand in one request; of vectors, *address* and *length* are those of the array of pieces."""
        request = Iocb(
            data=data, opcode=opcode, fildes=fd, buf=address, nbytes=length, offset=offset, rw_flags=flags
        )
        pointers = (ctypes.c_void_p * 1)(ctypes.addressof(request))
        _check(_libc.syscall(_SUBMIT, self._context, ctypes.c_long(1), pointers))
        return request

    def wait(self, count: int, timeout_s: float = 30) -> list[tuple[int, int]]:
        """Return data and result of *count* requests; raises TimeoutError."""
        found: list[tuple[int, int]] = []
        end = time.monotonic() + timeout_s
        while len(found) < count:
            events = (IoEvent * (count - len(found)))()
            limit = _Timespec(1, 0)
            got = _libc.syscall(
                _GETEVENTS, self._context, ctypes.c_long(1), ctypes.c_long(len(events)), events, ctypes.byref(limit)
            )
            if got < 0 and ctypes.get_errno() == errno.EINTR:
                continue
            _check(got)
            found += [(event.data, event.res) for event in events[:got]]
            if time.monotonic() > end:
                raise TimeoutError(f"{len(found)} of {count} requests have ended")
        return found

    def cancel(self, request: Iocb) -> int:
        """Ask the kernel to cancel a request; returns 0 or the errno."""
        event = IoEvent()
        if _libc.syscall(_CANCEL, self._context, ctypes.byref(request), ctypes.byref(event)) == 0:
            return 0
        return ctypes.get_errno()
