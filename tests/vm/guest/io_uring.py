"""io_uring by its system calls, run in the guest. x86 keeps stores and loads in the order that the rings need."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
import time
from collections.abc import Sequence
from types import TracebackType

_libc = ctypes.CDLL(None, use_errno=True)
_SETUP, _ENTER, _REGISTER = 425, 426, 427
_GETEVENTS = 1
_REGISTER_BUFFERS = 0
_OFF_SQ_RING, _OFF_CQ_RING, _OFF_SQES = 0, 0x8000000, 0x10000000

NOP, READV, WRITEV, READ_FIXED, WRITE_FIXED = 0, 1, 2, 4, 5
ASYNC_CANCEL, READ, WRITE = 14, 22, 23

_PARAMS_SIZE = 120
_SQ_OFFSETS, _CQ_OFFSETS = 40, 80
_SQE = struct.Struct("<BBHiQQIIQHHIQQ")
_CQE = struct.Struct("<QiI")


def _check(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Ring:
    """An instance with *depth* submission entries; raises OSError if the kernel refuses."""

    def __init__(self, depth: int = 8) -> None:
        """Set it up."""
        params = bytearray(_PARAMS_SIZE)
        raw = (ctypes.c_char * _PARAMS_SIZE).from_buffer(params)
        self.fd = _check(_libc.syscall(_SETUP, depth, raw))
        del raw
        self.depth = struct.unpack_from("<I", params, 0)[0]
        cq_entries = struct.unpack_from("<I", params, 4)[0]
        sq = struct.unpack_from("<7I", params, _SQ_OFFSETS)
        cq = struct.unpack_from("<7I", params, _CQ_OFFSETS)
        self._sq = mmap.mmap(self.fd, sq[6] + 4 * self.depth, offset=_OFF_SQ_RING)
        self._cq = mmap.mmap(self.fd, cq[5] + _CQE.size * cq_entries, offset=_OFF_CQ_RING)
        self._sqes = mmap.mmap(self.fd, 64 * self.depth, offset=_OFF_SQES)
        self._sq_tail_at, self._sq_mask, self._sq_array = sq[1], self.depth - 1, sq[6]
        self._cq_head_at, self._cq_tail_at, self._cq_mask, self._cqes = cq[0], cq[1], cq_entries - 1, cq[5]
        self._prepared = 0
        self._keep: list[object] = []

    def __enter__(self) -> Ring:
        """Return the ring."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Let go of the instance; what is under way ends by itself."""
        for part in (self._sq, self._cq, self._sqes):
            part.close()
        os.close(self.fd)

    def register_buffers(self, areas: Sequence[tuple[int, int]]) -> None:
        """Register buffers, each an address and a length, for READ_FIXED and WRITE_FIXED."""
        vector = (ctypes.c_uint64 * (2 * len(areas)))(*(word for area in areas for word in area))
        _check(_libc.syscall(_REGISTER, self.fd, _REGISTER_BUFFERS, vector, len(areas)))

    def prepare(
        self, opcode: int, fd: int = -1, address: int = 0, length: int = 0, offset: int = 0, *, data: int = 0,
        buffer: int = 0,
    ) -> None:
        """Put a request into the next entry; *buffer* is the number of a registered one."""
        tail = struct.unpack_from("<I", self._sq, self._sq_tail_at)[0]
        index = tail & self._sq_mask
        _SQE.pack_into(self._sqes, 64 * index, opcode, 0, 0, fd, offset, address, length, 0, data, buffer, 0, 0, 0, 0)
        struct.pack_into("<I", self._sq, self._sq_array + 4 * index, index)
        struct.pack_into("<I", self._sq, self._sq_tail_at, tail + 1)
        self._prepared += 1

    def prepare_vector(
        self, opcode: int, fd: int, areas: Sequence[tuple[int, int]], offset: int, *, data: int = 0
    ) -> None:
        """Put a READV or WRITEV into the next entry."""
        vector = (ctypes.c_uint64 * (2 * len(areas)))(*(word for area in areas for word in area))
        self._keep.append(vector)
        self.prepare(opcode, fd, ctypes.addressof(vector), len(areas), offset, data=data)

    def submit(self, wait: int = 0) -> int:
        """Hand all prepared requests in, and wait for *wait* completions; returns how many were handed in."""
        count, self._prepared = self._prepared, 0
        flags = _GETEVENTS if wait else 0
        return _check(_libc.syscall(_ENTER, self.fd, count, wait, flags, None, 0))

    def completions(self) -> list[tuple[int, int]]:
        """Return the data and the result of each request that has ended since the last call."""
        head, found = struct.unpack_from("<I", self._cq, self._cq_head_at)[0], []
        while head != struct.unpack_from("<I", self._cq, self._cq_tail_at)[0]:
            data, result, _ = _CQE.unpack_from(self._cq, self._cqes + _CQE.size * (head & self._cq_mask))
            found.append((data, result))
            head = head + 1 & 0xFFFFFFFF
        struct.pack_into("<I", self._cq, self._cq_head_at, head)
        return found

    def wait(self, count: int, timeout_s: float = 30) -> list[tuple[int, int]]:
        """Return at least *count* completions; raises TimeoutError."""
        found = self.completions()
        end = time.monotonic() + timeout_s
        while len(found) < count:
            if time.monotonic() > end:
                raise TimeoutError(f"{len(found)} of {count} completions")
            if _libc.syscall(_ENTER, self.fd, 0, 0, _GETEVENTS, None, 0) < 0 and ctypes.get_errno() != errno.EINTR:
                _check(-1)
            time.sleep(0.0005)
            found += self.completions()
        return found
