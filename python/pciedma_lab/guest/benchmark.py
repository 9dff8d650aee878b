"""Requests that are timed, run in the guest."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from typing import Any

import pciedma

from . import buffers, io_uring
from .libc_calls import pread, pwrite


class Worker:
    """One thread's requests on one channel, each to its own part of a buffer and of the card's memory."""

    def __init__(
        self, channel: pciedma.Channel, *, direction: str, length: int, pages: str, way: str, depth: int, span: int,
    ) -> None:
        """Prepare requests of *length* bytes in one *direction*, *depth* at a time by *way*, anywhere in *span*."""
        self.fd, self.direction, self.depth = channel.fileno(), direction, depth
        self._make = {"sync": self._sync, "io_uring": self._io_uring, "io_uring_fixed": self._io_uring}[way]
        self._fixed = way == "io_uring_fixed"
        self.buffer = buffers.OF_PAGES[pages](length * depth)
        self.span = max(span, length)
        self.length = length
        self.latencies: list[int] = []
        self.errors: list[Any] = []

    def run(self, least: int, most: int, seconds: float) -> None:
        """Make requests until there were *least*, and *most* or the time is over."""
        end = time.monotonic() + seconds
        self.latencies.clear()
        self._make(least, most, end)

    def _goes_on(self, count: int, least: int, most: int, end: float) -> bool:
        return not self.errors and (count < least or (count < most and time.monotonic() < end))

    def _position(self, count: int) -> int:
        return count * self.length % (self.span - self.length + 1)

    def _sync(self, least: int, most: int, end: float) -> None:
        call = pread if self.direction == "read" else pwrite
        count = 0
        while self._goes_on(count, least, most, end):
            begin = time.perf_counter_ns()
            result = call(self.fd, self.buffer.address, self.length, self._position(count))
            self.latencies.append(time.perf_counter_ns() - begin)
            count += 1
            if result != self.length:
                self.errors.append(result)

    def _io_uring(self, least: int, most: int, end: float) -> None:
        kinds = (io_uring.READ_FIXED, io_uring.WRITE_FIXED) if self._fixed else (io_uring.READ, io_uring.WRITE)
        opcode = kinds[self.direction == "write"]
        with io_uring.Ring(self.depth) as ring:
            if self._fixed:
                ring.register_buffers([(self.buffer.address, self.buffer.length)])
            begun: dict[int, int] = {}
            count = 0
            free = list(range(self.depth))
            while free or begun:
                while free and self._goes_on(count, least, most, end):
                    slot = free.pop()
                    begun[slot] = time.perf_counter_ns()
                    where = self.buffer.address + slot * self.length
                    ring.prepare(opcode, self.fd, where, self.length, self._position(count), data=slot)
                    count += 1
                if not begun:
                    return
                ring.submit(wait=1)
                now = time.perf_counter_ns()
                for slot, result in ring.completions():
                    self.latencies.append(now - begun.pop(slot))
                    free.append(slot)
                    if result != self.length:
                        self.errors.append(result)


def fill(path: str, span: int) -> None:
    """Write the card's memory once."""
    step = 16 << 20
    buffer = buffers.small_pages(step)
    with pciedma.Channel(path) as channel:
        for position in range(0, span, step):
            if pwrite(channel.fileno(), buffer.address, step, position) != step:
                raise RuntimeError("the card's memory cannot be filled")


def measure(
    paths: list[str], *, wait_mode: str, least: int, most: int, seconds: float, **request: Any
) -> dict[str, Any]:
    """Make requests on all channels at once; returns their number, bytes, seconds and latencies.

    ``request`` is what Worker takes.
    """
    with ExitStack() as stack:
        workers = []
        for path in paths:
            channel = stack.enter_context(pciedma.Channel(path))
            channel.wait_mode = pciedma.WaitMode[wait_mode]
            workers.append(Worker(channel, **request))
        begin = time.monotonic()
        threads = [threading.Thread(target=worker.run, args=(least, most, seconds)) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        elapsed = time.monotonic() - begin
    if errors := [error for worker in workers for error in worker.errors]:
        raise RuntimeError(f"requests failed: {errors[:5]}")
    latencies = sorted(ns for worker in workers for ns in worker.latencies)
    return {
        "requests": len(latencies),
        "bytes": len(latencies) * workers[0].length,
        "seconds": elapsed,
        "p50_us": latencies[len(latencies) // 2] / 1000,
        "p99_us": latencies[len(latencies) * 99 // 100] / 1000,
    }
