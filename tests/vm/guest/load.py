"""A verified load on a memory channel by all ways in, from several processes, run in the guest."""

from __future__ import annotations

import ctypes
import json
import os
import random
import time
from collections import Counter
from itertools import pairwise
from typing import Any

import pciedma

from . import buffers, io_uring
from .linux_aio import PREAD, PREADV, PWRITE, PWRITEV, Context
from .memory import pread, pwrite

_libc = ctypes.CDLL(None, use_errno=True)
_libc.preadv.restype = _libc.pwritev.restype = ctypes.c_ssize_t
_CANARY = 64
WAYS = ("plain", "vector", "aio", "aio_vector", "io_uring", "io_uring_vector", "io_uring_fixed")


class Worker:
    """Owns *span* bytes of the card's memory from *base*, and knows what must be in them."""

    def __init__(self, path: str, base: int, span: int, seed: int) -> None:
        """Fill them."""
        self.random = random.Random(seed)
        self.channel = pciedma.Channel(path)
        self.fd = self.channel.fileno()
        self.base, self.span = base, span
        self.block = self.random.randbytes(span)
        self.shadow = buffers.anonymous(span)
        self.area = buffers.anonymous(span + 4096)
        self.context = Context(4)
        self.ring = io_uring.Ring(4)
        self.ring.register_buffers([(self.area.address, self.area.length)])
        self.calls: Counter[str] = Counter()
        self.moved = 0
        self.errors: list[str] = []
        ctypes.memmove(self.shadow.address, self.block, span)
        self._move("plain", "write", self.shadow.address, span, 0)

    def _pieces(self, address: int, length: int) -> list[tuple[int, int]]:
        cuts = sorted({0, length, *(self.random.randrange(length + 1) for _ in range(self.random.randint(1, 6)))})
        return [(address + a, b - a) for a, b in pairwise(cuts)]

    def _move(self, way: str, direction: str, address: int, length: int, offset: int) -> None:
        self.calls[f"{way} {direction}"] += 1
        result = getattr(self, f"_{way}")(direction == "read", address, length, self.base + offset)
        if result != length:
            self.errors.append(f"{way} {direction} of {length} bytes at {offset}: {result}")
        self.moved += length

    def _plain(self, reads: bool, address: int, length: int, place: int) -> int | str:
        return (pread if reads else pwrite)(self.fd, address, length, place)

    def _raw(self, address: int, length: int) -> Any:
        areas = self._pieces(address, length)
        return (ctypes.c_uint64 * (2 * len(areas)))(*(word for area in areas for word in area)), len(areas)

    def _vector(self, reads: bool, address: int, length: int, place: int) -> int:
        raw, count = self._raw(address, length)
        return int((_libc.preadv if reads else _libc.pwritev)(self.fd, raw, count, ctypes.c_long(place)))

    def _aio(self, reads: bool, address: int, length: int, place: int) -> int:
        self.context.submit(PREAD if reads else PWRITE, self.fd, address, length, place)
        return self.context.wait(1, 60)[0][1]

    def _aio_vector(self, reads: bool, address: int, length: int, place: int) -> int:
        raw, count = self._raw(address, length)
        self.context.submit(PREADV if reads else PWRITEV, self.fd, ctypes.addressof(raw), count, place)
        return self.context.wait(1, 60)[0][1]

    def _wait_ring(self) -> int:
        self.ring.submit()
        return self.ring.wait(1, 60)[0][1]

    def _io_uring(self, reads: bool, address: int, length: int, place: int) -> int:
        self.ring.prepare(io_uring.READ if reads else io_uring.WRITE, self.fd, address, length, place)
        return self._wait_ring()

    def _io_uring_vector(self, reads: bool, address: int, length: int, place: int) -> int:
        areas = self._pieces(address, length)
        self.ring.prepare_vector(io_uring.READV if reads else io_uring.WRITEV, self.fd, areas, place)
        return self._wait_ring()

    def _io_uring_fixed(self, reads: bool, address: int, length: int, place: int) -> int:
        opcode = io_uring.READ_FIXED if reads else io_uring.WRITE_FIXED
        self.ring.prepare(opcode, self.fd, address, length, place)
        return self._wait_ring()

    def step(self) -> None:
        """Write a random piece by one way, read one by another, and compare."""
        longest = min(self.span, self.random.choice([100, 5000, 200_000, self.span]))
        length = self.random.randint(1, longest)
        offset = self.random.randrange(self.span - length + 1)
        where = self.area.address + 1 + self.random.randrange(4000 - _CANARY)
        turn = self.random.randrange(self.span - length + 1)
        ctypes.memmove(where, self.block[turn : turn + length], length)
        self._move(self.random.choice(WAYS), "write", where, length, offset)
        ctypes.memmove(self.shadow.address + offset, where, length)
        length = self.random.randint(1, longest)
        offset = self.random.randrange(self.span - length + 1)
        ctypes.memset(where, 0xA5, min(length + _CANARY, self.span))
        self._move(self.random.choice(WAYS), "read", where, length, offset)
        if _libc.memcmp(ctypes.c_void_p(where), ctypes.c_void_p(self.shadow.address + offset), ctypes.c_size_t(length)):
            self.errors.append(f"{length} bytes at {offset} differ")
        if length + _CANARY <= self.span and ctypes.string_at(where + length, _CANARY) != b"\xa5" * _CANARY:
            self.errors.append(f"bytes behind {length} bytes at {offset} changed")


def _work(path: str, size: int, base: int, span: int, seed: int, seconds: float) -> dict[str, Any]:
    worker = Worker(path, base, span, seed)
    end = time.monotonic() + seconds
    while worker.moved < size and time.monotonic() < end and not worker.errors:
        worker.step()
    return {"bytes": worker.moved, "errors": worker.errors[:3], "calls": dict(worker.calls)}


def mixed(
    path: str, size: int, *, processes: int = 4, span: int = 4 << 20, seed: int = 1, seconds: float = 600
) -> dict[str, Any]:
    """Move *size* bytes in several processes, each on memory of its own; returns bytes, calls by way, and errors."""
    children = []
    for number in range(processes):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            status = 1
            try:
                result = _work(path, size // processes, number * span, span, seed + number, seconds)
                os.write(writer, json.dumps(result).encode())
                status = 0
            finally:
                os._exit(status)
        os.close(writer)
        children.append((pid, reader))
    total: dict[str, Any] = {"bytes": 0, "errors": [], "calls": Counter()}
    for pid, reader in children:
        with os.fdopen(reader, "rb") as file:
            text = file.read()
        _, status = os.waitpid(pid, 0)
        if status:
            total["errors"].append(f"a process ended with {status}")
            continue
        part = json.loads(text)
        total["bytes"] += part["bytes"]
        total["errors"] += part["errors"]
        total["calls"].update(part["calls"])
    return total | {"calls": dict(total["calls"])}
