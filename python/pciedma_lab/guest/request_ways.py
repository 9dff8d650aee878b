"""All ways of having a file read and written at positions, behind one function, run in the guest."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from . import io_uring, linux_aio
from .buffers import Buffer, vector_of

_libc = ctypes.CDLL(None, use_errno=True)
for _function in (_libc.pread, _libc.pwrite, _libc.preadv, _libc.pwritev):
    _function.restype = ctypes.c_ssize_t

#: Every way; those that take a request of several pieces of memory.
ALL = ("pread", "readv", "aio", "io_uring", "io_uring_fixed")
VECTORED = ("readv", "aio", "io_uring")


@dataclass(frozen=True)
class Request:
    """Bytes of a file from *position*, and the pieces of memory, each an address and a length, that they go to."""

    writes: bool
    position: int
    pieces: Sequence[tuple[int, int]]

    @property
    def length(self) -> int:
        """The bytes of all pieces."""
        return sum(length for _, length in self.pieces)


class Ways:
    """The ways into an open file, for up to *depth* requests at once with memory in *arenas*. One thread may use it.

    What else there is to choose (registered files, the kernel's worker threads, a vector of one piece) is chosen
    at random.
    """

    def __init__(self, fd: int, arenas: Sequence[Buffer], ways: Sequence[str], depth: int, rng: random.Random) -> None:
        """Set up what *ways* need; raises OSError if the kernel refuses."""
        self._fd, self._arenas, self._rng = fd, arenas, rng
        self._functions: dict[str, Callable[[Sequence[Request]], list[int]]] = {
            "pread": self._single, "readv": self._vector, "aio": self._aio, "io_uring": self._uring,
            "io_uring_fixed": self._uring_fixed,
        }
        with contextlib.ExitStack() as stack:
            if "aio" in ways:
                self._context = stack.enter_context(linux_aio.Context(depth))
            if "io_uring" in ways or "io_uring_fixed" in ways:
                self._ring = stack.enter_context(io_uring.Ring(depth))
                self._ring.register_files([fd])
            if "io_uring_fixed" in ways:
                self._ring.register_buffers([(arena.address, arena.length) for arena in arenas])
            self._stack = stack.pop_all()

    def __enter__(self) -> Ways:
        """Return the ways."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of contexts and rings."""
        self._stack.close()

    def run(self, way: str, requests: Sequence[Request]) -> list[int]:
        """Have all requests done, at once if the way can; returns each one's count or negative errno."""
        return self._functions[way](requests)

    def _single(self, requests: Sequence[Request]) -> list[int]:
        results = []
        for one in requests:
            ((address, length),) = one.pieces
            function = _libc.pwrite if one.writes else _libc.pread
            place = ctypes.c_void_p(address), ctypes.c_size_t(length), ctypes.c_long(one.position)
            results.append(_result(function(self._fd, *place)))
        return results

    def _vector(self, requests: Sequence[Request]) -> list[int]:
        results = []
        for one in requests:
            function = _libc.pwritev if one.writes else _libc.preadv
            place = vector_of(one.pieces), len(one.pieces), ctypes.c_long(one.position)
            results.append(_result(function(self._fd, *place)))
        return results

    def _aio(self, requests: Sequence[Request]) -> list[int]:
        made, vectors = [], []
        for data, one in enumerate(requests):
            if len(one.pieces) == 1 and self._rng.getrandbits(1):
                opcode, (address, count) = linux_aio.PWRITE if one.writes else linux_aio.PREAD, one.pieces[0]
            else:
                vectors.append(vector_of(one.pieces))
                opcode = linux_aio.PWRITEV if one.writes else linux_aio.PREADV
                address, count = ctypes.addressof(vectors[-1]), len(one.pieces)
            made.append(linux_aio.request(opcode, self._fd, address, count, one.position, data=data))
        self._context.submit_all(made)
        return _in_order(self._context.wait(len(requests)))

    def _uring(self, requests: Sequence[Request]) -> list[int]:
        for data, one in enumerate(requests):
            fd, flags = self._file()
            if len(one.pieces) == 1 and self._rng.getrandbits(1):
                opcode = io_uring.WRITE if one.writes else io_uring.READ
                self._ring.prepare(opcode, fd, *one.pieces[0], one.position, data=data, flags=flags)
            else:
                opcode = io_uring.WRITEV if one.writes else io_uring.READV
                self._ring.prepare_vector(opcode, fd, one.pieces, one.position, data=data, flags=flags)
        return self._submit(requests)

    def _uring_fixed(self, requests: Sequence[Request]) -> list[int]:
        for data, one in enumerate(requests):
            fd, flags = self._file()
            ((address, length),) = one.pieces
            opcode = io_uring.WRITE_FIXED if one.writes else io_uring.READ_FIXED
            number = next(n for n, arena in enumerate(self._arenas) if 0 <= address - arena.address < arena.length)
            self._ring.prepare(opcode, fd, address, length, one.position, data=data, flags=flags, buffer=number)
        return self._submit(requests)

    def _file(self) -> tuple[int, int]:
        """Return the open or the registered file, and a request's flags."""
        flags = self._rng.choice([0, 0, 0, io_uring.ASYNC])
        return (0, flags | io_uring.FIXED_FILE) if self._rng.getrandbits(1) else (self._fd, flags)

    def _submit(self, requests: Sequence[Request]) -> list[int]:
        self._ring.submit()
        return _in_order(self._ring.wait(len(requests)))


def _result(value: int) -> int:
    return value if value >= 0 else -ctypes.get_errno()


def _in_order(completions: list[tuple[int, int]]) -> list[int]:
    """Return the results by their data, which counts the requests; each must have ended once."""
    if sorted(data for data, _ in completions) != list(range(len(completions))):
        raise OSError(f"the kernel made up or lost a completion, os {os.uname().release}: {completions}")
    return [result for _, result in sorted(completions)]
