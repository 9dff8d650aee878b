"""Linux AIO by its system calls, run in the guest; constants and layouts as in <linux/aio_abi.h>."""

from __future__ import annotations

import ctypes
import errno
import os
import time
from collections.abc import Sequence
from itertools import cycle, islice
from types import TracebackType

from .buffers import vector_of

_libc = ctypes.CDLL(None, use_errno=True)
_SETUP, _DESTROY, _GETEVENTS, _SUBMIT, _CANCEL = 206, 207, 208, 209, 210

PREAD, PWRITE, POLL, PREADV, PWRITEV = 0, 1, 5, 7, 8


class Iocb(ctypes.Structure):
    """``struct iocb``."""

    _fields_ = [
        ("data", ctypes.c_uint64), ("key", ctypes.c_uint32), ("rw_flags", ctypes.c_uint32),
        ("opcode", ctypes.c_uint16), ("reqprio", ctypes.c_int16), ("fildes", ctypes.c_uint32),
        ("buf", ctypes.c_uint64), ("nbytes", ctypes.c_uint64), ("offset", ctypes.c_int64),
        ("reserved2", ctypes.c_uint64), ("flags", ctypes.c_uint32), ("resfd", ctypes.c_uint32),
    ]


class IoEvent(ctypes.Structure):
    """``struct io_event``."""

    _fields_ = [("data", ctypes.c_uint64), ("obj", ctypes.c_uint64), ("res", ctypes.c_int64), ("res2", ctypes.c_int64)]


class _Timespec(ctypes.Structure):
    _fields_ = [("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long)]


def _check(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def request(
    opcode: int, fd: int, address: int, length: int, offset: int, *, data: int = 0, flags: int = 0
) -> Iocb:
    """Return a request; of vectors, *address* and *length* are those of the array of pieces; *flags* are RWF_*."""
    return Iocb(data=data, opcode=opcode, fildes=fd, buf=address, nbytes=length, offset=offset, rw_flags=flags)


class Context:
    """A context for up to *depth* requests at a time; raises OSError if the kernel refuses.

    Memory that requests use must live until they have completed.
    """

    def __init__(self, depth: int = 8) -> None:
        """Set it up."""
        self._context = ctypes.c_ulong(0)
        _check(_libc.syscall(_SETUP, depth, ctypes.byref(self._context)))
        self._found: list[tuple[int, int]] = []

    def __enter__(self) -> Context:
        """Return the context."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Destroy it."""
        self.destroy()

    def destroy(self) -> None:
        """Give the context back; the kernel cancels what it can, and waits for the rest. A second time does nothing."""
        context, self._context = self._context, ctypes.c_ulong(0)
        if context.value:
            _check(_libc.syscall(_DESTROY, context))

    def submit(
        self, opcode: int, fd: int, address: int, length: int, offset: int, *, data: int = 0, flags: int = 0
    ) -> Iocb:
        """Hand in one request, as request() makes it; returns it for cancel()."""
        one = request(opcode, fd, address, length, offset, data=data, flags=flags)
        self.submit_all([one])
        return one

    def submit_vector(
        self, opcode: int, fd: int, areas: Sequence[tuple[int, int]], offset: int, *, data: int = 0, flags: int = 0
    ) -> Iocb:
        """Hand in one PREADV or PWRITEV of areas, each an address and a length."""
        vector = vector_of(areas)  # the kernel copies it at once
        return self.submit(opcode, fd, ctypes.addressof(vector), len(areas), offset, data=data, flags=flags)

    def submit_all(self, requests: Sequence[Iocb]) -> None:
        """Hand in several requests by as few calls as the kernel wants; raises OSError for the first it refuses."""
        pointers = (ctypes.c_void_p * len(requests))(*map(ctypes.addressof, requests))
        done = 0
        while done < len(requests):
            rest = ctypes.byref(pointers, done * ctypes.sizeof(ctypes.c_void_p))
            done += _check(_libc.syscall(_SUBMIT, self._context, ctypes.c_long(len(requests) - done), rest))

    def submit_copies(self, requests: Sequence[Iocb], count: int) -> None:
        """Hand in *count* requests, as these are in turn, with nothing for each of them in this process."""
        kinds = len(requests)
        batch = (ctypes.c_void_p * (1024 + kinds))(*islice(cycle(map(ctypes.addressof, requests)), 1024 + kinds))
        done = 0
        while done < count:
            rest = ctypes.byref(batch, done % kinds * ctypes.sizeof(ctypes.c_void_p))
            done += _check(_libc.syscall(_SUBMIT, self._context, ctypes.c_long(min(count - done, 1024)), rest))

    def events(self, least: int, most: int, timeout_s: float) -> list[tuple[int, int]]:
        """Call io_getevents() once, or again after a signal; returns data and result of up to *most* requests."""
        events = (IoEvent * most)()
        end = time.monotonic() + timeout_s
        while True:
            left = max(end - time.monotonic(), 0)
            limit = _Timespec(int(left), int(left % 1 * 1_000_000_000))
            counts = ctypes.c_long(least), ctypes.c_long(most)
            got = _libc.syscall(_GETEVENTS, self._context, *counts, events, ctypes.byref(limit))
            if got >= 0 or ctypes.get_errno() != errno.EINTR:
                return [(event.data, event.res) for event in events[: _check(got)]]

    def wait(self, count: int, timeout_s: float = 30) -> list[tuple[int, int]]:
        """Return data and result of *count* requests; raises TimeoutError, and then keeps those there are for later."""
        found, self._found = self._found[:count], self._found[count:]
        end = time.monotonic() + timeout_s
        while len(found) < count:
            left = end - time.monotonic()
            if left <= 0:
                self._found = found
                raise TimeoutError(f"{len(found)} of {count} requests have ended")
            found += self.events(count - len(found), count - len(found), left)
        return found

    def cancel(self, request: Iocb) -> int:
        """Ask the kernel to cancel a request; returns 0 or the errno.

        EINPROGRESS: it is being cancelled, and completes as others do. EINVAL: its file cannot, or it has ended.
        """
        event = IoEvent()
        if _libc.syscall(_CANCEL, self._context, ctypes.byref(request), ctypes.byref(event)) == 0:
            return 0
        return ctypes.get_errno()
