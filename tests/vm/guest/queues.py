"""More asynchronous requests than an engine has room for, and longer ones, run in the guest."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pciedma
from pciedma_lab.guest import buffers, io_uring
from pciedma_lab.guest.libc_calls import pread
from pciedma_lab.guest.linux_aio import PREAD, PWRITE, Context, Iocb

from .slow_memory import not_coming


class _Aio:
    """Linux AIO, as _Uring."""

    def __init__(self, depth: int) -> None:
        self._context = Context(depth)
        self._requests: list[Iocb] = []

    def submit(self, direction: str, fd: int, address: int, length: int, offset: int, data: int) -> None:
        opcode = PREAD if direction == "read" else PWRITE
        self._requests.append(self._context.submit(opcode, fd, address, length, offset, data=data))

    def wait(self, count: int) -> list[tuple[int, int]]:
        return self._context.wait(count, 120)

    def cancel(self) -> None:
        for request in self._requests:
            try:
                self._context.cancel(request)
            except OSError as error:
                if error.errno not in (errno.EINPROGRESS, errno.EINVAL):
                    raise


class _Uring:
    """io_uring: requests are submitted one by one."""

    def __init__(self, depth: int) -> None:
        self._ring = io_uring.Ring(depth)

    def submit(self, direction: str, fd: int, address: int, length: int, offset: int, data: int) -> None:
        opcode = io_uring.READ if direction == "read" else io_uring.WRITE
        self._ring.prepare(opcode, fd, address, length, offset, data=data)
        self._ring.submit()

    def wait(self, count: int) -> list[tuple[int, int]]:
        return self._ring.wait(count, 120)


@contextmanager
def _queue(way: str, depth: int) -> Iterator[_Aio | _Uring]:
    queue = _Aio(depth) if way == "aio" else _Uring(depth)
    inner = queue._context if isinstance(queue, _Aio) else queue._ring
    with inner:
        yield queue


def _names(completions: list[tuple[int, int]]) -> dict[str, int]:
    """Count the results by their errno's name or their length."""
    return dict(Counter(str(result) if result >= 0 else errno.errorcode[-result] for _, result in completions))


def ordered(path: str, way: str, depth: int = 40, length: int = 100_000) -> dict[str, Any]:
    """Write *depth* different blocks to one place at once: the last one stays."""
    area = buffers.anonymous(depth * length)
    back = buffers.anonymous(length)
    for n in range(depth):
        ctypes.memset(area.address + n * length, n + 1, length)
    with pciedma.Channel(path) as channel, _queue(way, depth) as queue:
        for n in range(depth):
            queue.submit("write", channel.fileno(), area.address + n * length, length, 0, n)
        results = _names(queue.wait(depth))
        os.preadv(channel.fileno(), [back.mapping], 0)
    return {"results": results, "last": back.mapping[:] == bytes([depth]) * length}


def long(path: str, way: str, length: int) -> dict[str, Any]:
    """Write and read back with one request longer than all transfers together."""
    out, back = buffers.anonymous(length), buffers.anonymous(length)
    out.mapping[:] = os.urandom(1 << 20) * (length >> 20) + bytes(length % (1 << 20))
    with pciedma.Channel(path) as channel, _queue(way, 1) as queue:
        results = []
        for direction, buffer in (("write", out), ("read", back)):
            queue.submit(direction, channel.fileno(), buffer.address, length, 0, 0)
            results += [result for _, result in queue.wait(1)]
    return {"results": results, "same": out.mapping[:] == back.mapping[:]}


def messages(path: str, way: str, depth: int = 40) -> dict[str, Any]:
    """Send messages of 1 to *depth* bytes at once, and receive as many."""
    out, back = (buffers.anonymous(depth * depth) for _ in range(2))
    with pciedma.Channel(path) as channel, _queue(way, depth) as queue:
        found = {}
        for direction, buffer in (("write", out), ("read", back)):
            for n in range(depth):
                queue.submit(direction, channel.fileno(), buffer.address + n * depth, n + 1, 0, n)
            found[direction] = sum(result == data + 1 for data, result in queue.wait(depth))
    return found


def ended(path: str, way: str, end: str, depth: int = 20, timeout_s: float = 20.0) -> dict[str, Any]:
    """Submit reads that find an engine at work, and end them; returns what they led to, and how long submitting took.

    *end* is "cancel", "io_cancel", "exit", or "" to wait for what else happens.
    """
    area = buffers.anonymous(depth * 65536)
    with pciedma.Channel(path) as channel, _queue(way, depth) as queue:
        channel.timeout_s = timeout_s
        start = time.monotonic()
        for n in range(depth):
            queue.submit("read", channel.fileno(), area.address + n * 65536, 65536, n * 65536, n)
        took = time.monotonic() - start
        if end == "cancel":
            channel.cancel()
        elif end == "io_cancel":
            assert isinstance(queue, _Aio)
            queue.cancel()
        elif end == "exit":
            os._exit(7)
        return {"results": _names(queue.wait(depth)), "took": took}


def nonblocking(path: str, way: str, depth: int = 20, length: int = 65536) -> dict[str, int]:
    """Submit reads by a file that does not block; returns what they led to."""
    area = buffers.anonymous(depth * length)
    with pciedma.Channel(path, nonblocking=True) as channel, _queue(way, depth) as queue:
        channel.timeout_s = 1.0
        for n in range(depth):
            queue.submit("read", channel.fileno(), area.address + n * length, length, n * length, n)
        return _names(queue.wait(depth))


def stuck(path: str, end: str, timeout_s: float = 20.0) -> str:
    """Read into memory whose pages never come; *end* as of ended(), and "" to wait for what else happens.

    The request is longer than all transfers together.
    """
    area = buffers.small_pages(32 << 20)
    with not_coming(area), pciedma.Channel(path) as channel, _queue("aio", 1) as queue:
        assert isinstance(queue, _Aio)
        channel.timeout_s = timeout_s
        queue.submit("read", channel.fileno(), area.address, area.length, 0, 0)
        time.sleep(0.3)
        if end == "cancel":
            channel.cancel()
        elif end == "io_cancel":
            queue.cancel()
        elif end == "exit":
            os._exit(7)
        return next(iter(_names(queue.wait(1))))


def beside_one_that_is_away(path: str) -> dict[str, Any]:
    """Poll behind transfers of another thread that polls, too, but waits for its pages; returns what both led to."""
    area, short = buffers.small_pages(14 << 20), buffers.small_pages(4096)
    results: list[int | str] = []

    def away() -> None:
        with pciedma.Channel(path) as channel:
            channel.timeout_s = 60
            channel.wait_mode = pciedma.WaitMode.POLL
            results.append(pread(channel.fileno(), area.address, area.length, 0))

    thread = threading.Thread(target=away)
    with not_coming(area, 12 << 20):
        thread.start()
        time.sleep(1)
        with pciedma.Channel(path) as channel:
            channel.timeout_s = 5
            channel.wait_mode = pciedma.WaitMode.POLL
            start = time.monotonic()
            moved = pread(channel.fileno(), short.address, short.length, 0)
            seconds = time.monotonic() - start
    thread.join()
    return {"moved": moved, "soon": seconds < 2, "away": results}


def fixed_part(path: str, length: int, registered: int) -> int:
    """Read into a part of a big registered buffer; returns the count."""
    area = buffers.small_pages(registered)
    with pciedma.Channel(path) as channel, io_uring.Ring(1) as ring:
        ring.register_buffers([(area.address, area.length)])
        ring.prepare(io_uring.READ_FIXED, channel.fileno(), area.address + 4096 + 7, length, 0)
        ring.submit()
        return ring.wait(1, 120)[0][1]
