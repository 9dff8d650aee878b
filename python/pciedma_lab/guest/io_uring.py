"""io_uring by its system calls, run in the guest; constants and layouts as in <linux/io_uring.h>.

Order of memory: without SQPOLL the kernel looks at the submission ring only within io_uring_enter() of this
thread; completions may appear at any time, but an x86 processor does not reorder loads, nor stores, and each
index is read and written as one aligned word.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
import time
from collections.abc import Sequence
from types import TracebackType

from .buffers import vector_of

_libc = ctypes.CDLL(None, use_errno=True)
_SETUP, _ENTER, _REGISTER = 425, 426, 427
_GETEVENTS, _EXT_ARG = 1 << 0, 1 << 3
_REGISTER_BUFFERS, _UNREGISTER_BUFFERS, _REGISTER_FILES, _UNREGISTER_FILES = 0, 1, 2, 3
_OFF_SQ_RING, _OFF_CQ_RING, _OFF_SQES = 0, 0x8000000, 0x10000000

NOP, READV, WRITEV, FSYNC, READ_FIXED, WRITE_FIXED = 0, 1, 2, 3, 4, 5
ASYNC_CANCEL, LINK_TIMEOUT, READ, WRITE, SPLICE = 14, 15, 22, 23, 30

#: Flags of a request: *fd* is a registered file's number; in order after all before; the next waits for this
#: (and, of a link that is not hard, is cancelled if this fails or is short); work in a thread of the kernel's.
FIXED_FILE, DRAIN, LINK, HARDLINK, ASYNC = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4

#: Flags of a ring: requests are polled for; completions are worked out only when the one thread that submits waits for
#: them.
IOPOLL, SINGLE_ISSUER, DEFER_TASKRUN = 1 << 0, 1 << 12, 1 << 13
_ALLOWED = IOPOLL | SINGLE_ISSUER | DEFER_TASKRUN

_PARAMS = struct.Struct("<2I I 7I 10I 10I")
_SQE = struct.Struct("<BBHiQQIIQHHIQQ")
_CQE = struct.Struct("<QiI")
_WORD = struct.Struct("<I")


class _Timespec(ctypes.Structure):
    _fields_ = [("tv_sec", ctypes.c_int64), ("tv_nsec", ctypes.c_int64)]


class _WaitArgument(ctypes.Structure):
    """``struct io_uring_getevents_arg``."""

    _fields_ = [
        ("sigmask", ctypes.c_uint64), ("sigmask_sz", ctypes.c_uint32), ("pad", ctypes.c_uint32),
        ("ts", ctypes.c_uint64),
    ]


def _check(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _timespec(seconds: float) -> _Timespec:
    return _Timespec(int(seconds), int(seconds % 1 * 1_000_000_000))


class Ring:
    """An instance with *depth* submission entries; raises OSError if the kernel refuses. One thread may use it.

    Memory that requests use must live until they have completed.
    """

    def __init__(self, depth: int = 8, flags: int = 0) -> None:
        """Set it up; *flags* are IOPOLL, SINGLE_ISSUER and DEFER_TASKRUN, other modes need more than this does."""
        if flags & ~_ALLOWED:
            raise ValueError("this mode of io_uring is not provided for")
        params = (ctypes.c_char * _PARAMS.size)()
        _WORD.pack_into(params, 8, flags)
        self.fd = _check(_libc.syscall(_SETUP, depth, params))
        words = _PARAMS.unpack(params)
        self.depth, cq_entries, sq, cq = words[0], words[1], words[10:20], words[20:30]
        self._sq = mmap.mmap(self.fd, sq[6] + _WORD.size * self.depth, offset=_OFF_SQ_RING)
        self._cq = mmap.mmap(self.fd, cq[5] + _CQE.size * cq_entries, offset=_OFF_CQ_RING)
        self._sqes = mmap.mmap(self.fd, _SQE.size * self.depth, offset=_OFF_SQES)
        self._sq_tail_at, self._sq_mask, self._sq_array = sq[1], self.depth - 1, sq[6]
        self._cq_head_at, self._cq_tail_at, self._cq_mask, self._cqes = cq[0], cq[1], cq_entries - 1, cq[5]
        self._prepared = 0
        self._found: list[tuple[int, int]] = []
        #: What entries point to beside the data; the kernel has read it when they are handed in.
        self._keep: list[object] = []
        self._closed = False

    def __enter__(self) -> Ring:
        """Return the ring."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Let go of the instance; the kernel cancels what is under way, some time after this has returned.

        A second time does nothing.
        """
        if self._closed:
            return
        self._closed = True
        for part in (self._sq, self._cq, self._sqes):
            part.close()
        os.close(self.fd)

    def register_buffers(self, areas: Sequence[tuple[int, int]]) -> None:
        """Register buffers, each an address and a length, for READ_FIXED and WRITE_FIXED."""
        self._register(_REGISTER_BUFFERS, vector_of(areas), len(areas))

    def unregister_buffers(self) -> None:
        """Take the registration of the buffers back."""
        self._register(_UNREGISTER_BUFFERS, None, 0)

    def register_files(self, fds: Sequence[int]) -> None:
        """Register open files, whose numbers here go with FIXED_FILE."""
        self._register(_REGISTER_FILES, (ctypes.c_int * len(fds))(*fds), len(fds))

    def unregister_files(self) -> None:
        """Take the registration of the files back."""
        self._register(_UNREGISTER_FILES, None, 0)

    def _register(self, opcode: int, argument: ctypes.Array[ctypes.c_uint64] | ctypes.Array[ctypes.c_int] | None,
                  count: int) -> None:
        _check(_libc.syscall(_REGISTER, self.fd, opcode, argument, count))

    def prepare(
        self, opcode: int, fd: int = -1, address: int = 0, length: int = 0, offset: int = 0, *, data: int = 0,
        buffer: int = 0, flags: int = 0, rw_flags: int = 0, source: int = 0,
    ) -> None:
        """Put a request into the next entry; *buffer* is the number of a registered one, *offset* -1 the position.

        *source* is the file that SPLICE reads.

        Raises BlockingIOError if there is no entry left before submit().
        """
        if self._prepared == self.depth:
            raise BlockingIOError(errno.EAGAIN, "the submission ring is full")
        tail = _WORD.unpack_from(self._sq, self._sq_tail_at)[0]
        index = tail & self._sq_mask
        _SQE.pack_into(
            self._sqes, _SQE.size * index, opcode, flags, 0, fd, offset & (1 << 64) - 1, address, length, rw_flags,
            data, buffer, 0, source, 0, 0,
        )
        _WORD.pack_into(self._sq, self._sq_array + _WORD.size * index, index)
        _WORD.pack_into(self._sq, self._sq_tail_at, tail + 1 & 0xFFFFFFFF)
        self._prepared += 1

    def prepare_vector(
        self, opcode: int, fd: int, areas: Sequence[tuple[int, int]], offset: int, *, data: int = 0, flags: int = 0
    ) -> None:
        """Put a READV or WRITEV into the next entry."""
        vector = vector_of(areas)
        self._keep.append(vector)
        self.prepare(opcode, fd, ctypes.addressof(vector), len(areas), offset, data=data, flags=flags)

    def prepare_splice(
        self, source: int, source_offset: int, fd: int, offset: int, length: int, *, data: int = 0
    ) -> None:
        """Put a SPLICE from *source* to *fd*, one of which is a pipe, with the offset -1, into the next entry."""
        self.prepare(SPLICE, fd, source_offset & (1 << 64) - 1, length, offset, data=data, source=source)

    def prepare_cancel(self, target: int, *, data: int = 0) -> None:
        """Put a request that cancels the one whose data is *target*; results in 0, -ENOENT or -EALREADY."""
        self.prepare(ASYNC_CANCEL, address=target, data=data)

    def prepare_link_timeout(self, seconds: float, *, data: int = 0) -> None:
        """Put a bound on the time of the request before, whose flags must have LINK.

        It results in -ETIME if it has cancelled that, and in -ECANCELED if that ended before.
        """
        limit = _timespec(seconds)
        self._keep.append(limit)
        self.prepare(LINK_TIMEOUT, address=ctypes.addressof(limit), length=1, data=data)

    def submit(self, wait: int = 0) -> int:
        """Hand all prepared requests in, and wait for *wait* completions; returns how many were handed in."""
        count = self._prepared
        flags = _GETEVENTS if wait else 0
        while True:
            taken = _check(_libc.syscall(_ENTER, self.fd, self._prepared, wait, flags, None, 0))
            self._prepared -= taken
            if not self._prepared:  # the kernel stops behind a request that it refuses, and does not wait then
                break
        self._keep.clear()
        return count

    def completions(self) -> list[tuple[int, int]]:
        """Return the data and the result of each request that has ended since the last call."""
        head, tail = (_WORD.unpack_from(self._cq, at)[0] for at in (self._cq_head_at, self._cq_tail_at))
        found, self._found = self._found, []
        while head != tail:
            data, result, _ = _CQE.unpack_from(self._cq, self._cqes + _CQE.size * (head & self._cq_mask))
            found.append((data, result))
            head = head + 1 & 0xFFFFFFFF
        _WORD.pack_into(self._cq, self._cq_head_at, head)
        return found

    def wait(self, count: int, timeout_s: float = 30) -> list[tuple[int, int]]:
        """Return at least *count* completions; raises TimeoutError, and then keeps those there are for later."""
        end = time.monotonic() + timeout_s
        found = self.completions()
        while len(found) < count:
            left = end - time.monotonic()
            if left <= 0:
                self._found = found
                raise TimeoutError(f"{len(found)} of {count} completions")
            self._sleep(count - len(found), left)
            found += self.completions()
        return found

    def _sleep(self, count: int, seconds: float) -> None:
        """Sleep until there are *count* completions, a signal comes, or time is over."""
        limit = _timespec(seconds)
        argument = _WaitArgument(ts=ctypes.addressof(limit))
        size = ctypes.sizeof(argument)
        flags = _GETEVENTS | _EXT_ARG
        if _libc.syscall(_ENTER, self.fd, 0, count, flags, ctypes.byref(argument), ctypes.c_size_t(size)) < 0:
            number = ctypes.get_errno()
            if number not in (errno.ETIME, errno.EINTR):
                raise OSError(number, os.strerror(number))
