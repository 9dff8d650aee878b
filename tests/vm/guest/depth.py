"""Deep queues of short requests, and what works on them in the kernel, run in the guest."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pciedma
from pciedma_lab.guest import buffers, io_uring
from pciedma_lab.guest.linux_aio import PREAD, PWRITE, Context, request

from .floods import _quiet
from .slow_memory import forked
from .tracing import _events, _lines

_LENGTH = 4096
_WORK = re.compile(r"function (\S+) \[pciedma")


def threads() -> dict[str, int]:
    """Return the driver's threads, and io_uring's workers of this process: their names, and how often they ran."""
    found: Counter[str] = Counter()
    for status in [*Path("/proc").glob("[0-9]*/status"), *Path("/proc/self/task").glob("[0-9]*/status")]:
        with contextlib.suppress(OSError):  # it has ended
            lines = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            if lines["Name"].startswith(("pciedma", "iou-")):
                switches = int(lines["voluntary_ctxt_switches"]) + int(lines["nonvoluntary_ctxt_switches"])
                found[lines["Name"]] += switches
    return dict(found)


class _Queue:
    """Up to *depth* requests at a time by AIO or io_uring, handed in at once."""

    def __init__(self, way: str, depth: int, channel: pciedma.Channel) -> None:
        self._fd, self._depth = channel.fileno(), depth
        self.inner = Context(depth) if way == "aio" else io_uring.Ring(depth)

    def submit(self, direction: str, places: Sequence[tuple[int, int, int]]) -> None:
        """Hand in requests: each one's number, its address in memory and on the card."""
        if isinstance(self.inner, Context):
            opcode = PREAD if direction == "read" else PWRITE
            self.inner.submit_all(
                [request(opcode, self._fd, address, _LENGTH, at, data=number) for number, address, at in places]
            )
            return
        opcode = io_uring.READ if direction == "read" else io_uring.WRITE
        for number, address, at in places:
            self.inner.prepare(opcode, self._fd, address, _LENGTH, at, data=number)
        self.inner.submit()

    def ended(self) -> list[tuple[int, int]]:
        """Return at least one that has ended, and what has ended with it, in the order of their ends."""
        if isinstance(self.inner, Context):
            return self.inner.events(1, self._depth, 60)
        return self.inner.wait(1, 60)

    def wait(self, count: int) -> list[tuple[int, int]]:
        """Return so many in the order of their ends."""
        return self.inner.wait(count, 120)


@contextlib.contextmanager
def _queue(way: str, depth: int, channel: pciedma.Channel) -> Iterator[_Queue]:
    queue = _Queue(way, depth, channel)
    with queue.inner:
        yield queue


def _names(results: Sequence[int]) -> dict[str, int]:
    return dict(Counter(str(result) if result >= 0 else errno.errorcode[-result] for result in results))


def _rounds(
    queue: _Queue, direction: str, places: Sequence[tuple[int, int, int]], count: int,
) -> tuple[list[int], int]:
    """Keep as many requests under way as there are *places* until *count* have ended.

    Returns their results, and the number of the one that was handed in last.
    """
    found: list[tuple[int, int]] = []
    last = places[-1][0]
    queue.submit(direction, places)
    while len(found) < count:
        some = queue.ended()
        again = some[: max(count - len(places) - len(found), 0)]
        found += some
        if again:
            queue.submit(direction, [places[number] for number, _ in again])
            last = again[-1][0]
    return [result for _, result in found], last


def kept_up(path: str, way: str, depth: int, rounds: int, step: int) -> dict[str, Any]:
    """Write and read back *depth* different blocks at once, *rounds* times; they lie *step* bytes apart on the card.

    Returns the results, whether the data is right, and what of the kernel's has worked on
    them: the driver's threads and io_uring's, each with how often it ran, and the driver's work items.
    """
    out, back = (buffers.small_pages(depth * _LENGTH) for _ in range(2))
    data = os.urandom(depth * _LENGTH)
    ctypes.memmove(out.address, data, len(data))
    results, written = [], 0
    with pciedma.Channel(path) as channel, _queue(way, depth, channel) as queue:
        channel.timeout_s = 55.0
        before = threads()
        start = time.monotonic()
        with _events("workqueue/workqueue_execute_start"):
            for direction, buffer in (("write", out), ("read", back)):
                places = [(number, buffer.address + number * _LENGTH, number * step) for number in range(depth)]
                some, last = _rounds(queue, direction, places, depth * rounds)
                results += some
                written = last if direction == "write" else written
        seconds = time.monotonic() - start
        ran = {name: count - before.get(name, 0) for name, count in threads().items()}
    return {
        "results": _names(results),
        "right": back.mapping[:] == (data if step else data[written * _LENGTH : (written + 1) * _LENGTH] * depth),
        "threads": {name: count for name, count in ran.items() if count},
        "works": dict(Counter(match[1] for match in map(_WORK.search, _lines()) if match)),
        "per second": round(len(results) / seconds),
    }


@contextlib.contextmanager
def _submitted(path: str, way: str, depth: int) -> Iterator[tuple[pciedma.Channel, _Queue]]:
    area = buffers.small_pages(depth * _LENGTH)
    with pciedma.Channel(path) as channel, _queue(way, depth, channel) as queue:
        channel.timeout_s = 55.0
        queue.submit("read", [(number, area.address + number * _LENGTH, 0) for number in range(depth)])
        yield channel, queue


def cancelled(path: str, way: str, depth: int) -> dict[str, Any]:
    """Cancel so many requests; returns their results, and the seconds until the last."""
    with _submitted(path, way, depth) as (channel, queue):
        start = time.monotonic()
        channel.cancel()
        results = _names([result for _, result in queue.wait(depth)])
        return {"results": results, "seconds": time.monotonic() - start}


def exited(path: str, way: str, depth: int, closes: bool) -> dict[str, float]:
    """Kill a process with so many requests, which may have closed the channel before.

    Returns the seconds until it has ended, and until all its requests have.
    """
    child = forked()
    if not child:
        with _submitted(path, way, depth) as (channel, _):
            if closes:
                channel.close()
            os.kill(os.getpid(), signal.SIGKILL)
    start = time.monotonic()
    os.waitpid(child, 0)
    process = time.monotonic() - start
    _quiet(path)
    return {"process": process, "requests": time.monotonic() - start}
