"""Thousands of asynchronous requests in an engine's queue, run in the guest."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pciedma
from pciedma_lab.guest import buffers, io_uring
from pciedma_lab.guest.children import forked
from pciedma_lab.guest.linux_aio import PREAD, PREADV, PWRITE, PWRITEV, Context, request
from pciedma_lab.guest.spinner import Spinner

#: In this time all that a process left ends, without anybody who looks whether it has; and what the kernel does of it
#: only after a while, such as giving memory back, which else would count for many requests and not for few.
_UNTIL_ENDED_S = 0.5
_AIO_MAX = Path("/proc/sys/fs/aio-max-nr")
_CGROUPS = Path("/sys/fs/cgroup")
#: More places in memory than requests that are served at a time, in cache lines of their own: DMA_API_DEBUG takes two
#: mappings of one line for a mistake.
_PLACES = 320
_CACHE_LINE = 64


class Flood:
    """*count* requests of one kind by *way*, to some places in memory in turn and one on the card, numbered from 0."""

    def __init__(
        self, channel: pciedma.Channel, way: str, direction: str, count: int, length: int, depth: int = 0,
        pieces: int = 0,
    ) -> None:
        """Prepare them, and room for *depth*; nothing is submitted yet."""
        _AIO_MAX.write_text("1000000")
        self.count, self.way, self._length = count, way, length
        self._fd, self._reads = channel.fileno(), direction == "read"
        stride = -(-length // _CACHE_LINE) * _CACHE_LINE
        self._area = buffers.small_pages(max(stride * _PLACES, 4096))
        self._addresses = [self._area.address + place * stride for place in range(_PLACES)]
        self._submitted = 0
        self._vector = buffers.vector_of([(self._area.address, length // pieces)] * pieces) if pieces else None
        depth = max(depth, count, 1)
        self.queue = Context(depth) if way == "aio" else io_uring.Ring(min(1 << (depth - 1).bit_length(), 32768))

    def submit(self, fd: int | None = None, first: int = 0, count: int | None = None) -> None:
        """Hand *count* of them in, by *fd*; only io_uring's are numbered from *first*."""
        fd = self._fd if fd is None else fd
        count = self.count if count is None else count
        places = [self._addresses[(self._submitted + place) % _PLACES] for place in range(_PLACES)]
        self._submitted += count
        if isinstance(self.queue, Context):
            opcodes = (PREADV, PWRITEV) if self._vector else (PREAD, PWRITE)
            wheres = [ctypes.addressof(self._vector)] if self._vector else places
            length = len(self._vector) // 2 if self._vector else self._length
            requests = [request(opcodes[not self._reads], fd, where, length, 0, data=first) for where in wheres]
            self.queue.submit_copies(requests, count)
            return
        opcode = io_uring.READ if self._reads else io_uring.WRITE
        for begin in range(0, count, self.queue.depth):
            for number in range(begin, min(begin + self.queue.depth, count)):
                self.queue.prepare(opcode, fd, places[number % _PLACES], self._length, 0, data=first + number)
            self.queue.submit()

    def ended(self) -> list[tuple[int, int]]:
        """Return the data and results of those that have ended, without waiting."""
        if isinstance(self.queue, Context):
            return self.queue.events(0, max(self.count, 1), 0)
        return self.queue.completions()

    def wait(self, count: int | None = None) -> list[tuple[int, int]]:
        """Return the data and results of *count*, in the order of their ends."""
        return self.queue.wait(self.count if count is None else count, 300)

    def end(self) -> None:
        """Close the queue."""
        if isinstance(self.queue, Context):
            self.queue.destroy()
        else:
            self.queue.close()


def _names(completions: list[tuple[int, int]]) -> dict[str, int]:
    return dict(Counter(str(result) if result >= 0 else errno.errorcode[-result] for _, result in completions))


def _stat(path: str, name: str) -> int:
    return int(Path("/sys/class/pciedma", Path(path).name, name).read_text())


def _quiet(path: str) -> None:
    """Wait until nobody has the channel open, nor requests under way."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(OSError):
            os.close(os.open(path, os.O_RDWR | os.O_EXCL))
            return
        time.sleep(0.05)
    raise TimeoutError("requests do not end")


def _exits(path: str, way: str, direction: str, count: int, length: int) -> Callable[[], None]:
    """Have another process submit the requests; returns what lets it exit, and waits until all have ended."""
    (ready, say_ready), (go, say_go) = os.pipe(), os.pipe()

    def child() -> None:
        with pciedma.Channel(path) as channel:
            channel.timeout_s = 55
            flood = Flood(channel, way, direction, count, length)
            flood.submit()
            os.write(say_ready, b"x")
            os.read(go, 1)
            os._exit(0)

    pid = forked(child)
    os.close(say_ready)
    if not os.read(ready, 1):
        raise RuntimeError("the process that floods has failed")

    def let_go() -> None:
        os.write(say_go, b"x")
        os.waitpid(pid, 0)
        time.sleep(_UNTIL_ENDED_S)
        for fd in (ready, go, say_go):
            os.close(fd)

    return let_go


def instructions(path: str, way: str, direction: str, count: int, length: int, end: str) -> int:
    """Return what it costs the machine to end *count* queued requests: "destroy", "cancel", "exit"."""
    with Spinner() as spinner:
        if end == "exit":
            executed = spinner.executed_ns(_exits(path, way, direction, count, length))
        else:
            with pciedma.Channel(path) as channel:
                channel.timeout_s = 55
                flood = Flood(channel, way, direction, count, length)
                flood.submit()

                def finish() -> None:
                    if end == "cancel":
                        channel.cancel()
                    flood.end()
                    time.sleep(_UNTIL_ENDED_S)

                executed = spinner.executed_ns(finish)
        _quiet(path)
        return executed


def results(
    path: str, way: str, direction: str, count: int, length: int, end: str, timeout_s: float = 60.0,
) -> dict[str, Any]:
    """Submit requests, end them by "cancel", "destroy" or, "", by what else happens; returns what they led to.

    And how many the driver says to have timed out.
    """
    name = "c2h/timeouts" if direction == "read" else "h2c/timeouts"
    before = _stat(path, name)
    with pciedma.Channel(path) as channel:
        channel.timeout_s = timeout_s
        flood = Flood(channel, way, direction, count, length)
        flood.submit()
        if end == "cancel":
            channel.cancel()
        found = _names(flood.wait())
        flood.end()
    with suppress(FileNotFoundError):
        return {"results": found, "timeouts": _stat(path, name) - before}
    return {"results": found}


def turns(path: str, way: str, direction: str, count: int, length: int) -> dict[str, Any]:
    """Queue requests by one open file and then one by another; returns how many of the first end before it.

    Those that had ended when it was submitted do not count; and whether the first file's end in their order.
    """
    with pciedma.Channel(path) as one, pciedma.Channel(path) as other:
        one.timeout_s = other.timeout_s = 60
        flood = Flood(one, way, direction, count, length, depth=count + 1)
        for number in range(count):
            flood.submit(first=number, count=1)
        before = flood.ended()
        flood.submit(other.fileno(), first=count, count=1)
        after = flood.wait(count + 1 - len(before))
        flood.end()
    order = [number for number, _ in after]
    firsts = [number for number, _ in before] + [number for number in order if number != count]
    return {
        "overtaken_by": order.index(count), "in_order": firsts == sorted(firsts), "results": _names(before + after),
    }


def exit_of_one(path: str, way: str, direction: str, count: int, length: int) -> dict[str, Any]:
    """Two processes queue requests by one open file, and one exits; returns what the other's led to.

    And how many DMAs there were.
    """
    name = "c2h/transfers" if direction == "read" else "h2c/transfers"
    before = _stat(path, name)
    with pciedma.Channel(path) as channel:
        channel.timeout_s = 60
        (ready, say_ready), (go, say_go) = os.pipe(), os.pipe()

        def child() -> None:
            flood = Flood(channel, way, direction, count, length)
            flood.submit()
            os.write(say_ready, b"x")
            os.read(go, 1)
            os._exit(0)

        own = Flood(channel, way, direction, 6, length)
        pid = forked(child)
        os.read(ready, 1)
        own.submit()
        os.write(say_go, b"x")
        os.waitpid(pid, 0)
        found = _names(own.wait())
        own.end()
    _quiet(path)
    return {"results": found, "dmas": _stat(path, name) - before}


def charges() -> bool:
    """Whether this kernel charges memory to groups."""
    controllers = _CGROUPS / "cgroup.controllers"
    if not controllers.exists():
        ctypes.CDLL(None).mount(b"none", str(_CGROUPS).encode(), b"cgroup2", 0, None)
    return controllers.exists() and "memory" in controllers.read_text().split()


@contextmanager
def _cgroup() -> Iterator[Path]:
    """Give a new cgroup with the memory controller."""
    if not charges():
        raise RuntimeError("this kernel charges no memory to groups")
    (_CGROUPS / "cgroup.subtree_control").write_text("+memory")
    group = _CGROUPS / "flooder"
    group.mkdir()
    try:
        yield group
    finally:
        group.rmdir()


def in_cgroup(path: str, direction: str, count: int, length: int, pieces: int, room: int | None) -> dict[str, Any]:
    """Submit requests in a memory cgroup, which has *room* bytes left.

    Returns what it was charged for them and what they led to, whether it was killed, and what 50 from outside led to.
    """
    read, write = os.pipe()
    (ready, say_ready), (go, say_go) = os.pipe(), os.pipe()

    def child() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))
        with pciedma.Channel(path) as channel:
            channel.timeout_s = 60
            flood = Flood(channel, "aio", direction, count, length, pieces=pieces)
            flood.submit(count=20)
            before = _kernel_memory(group)
            if room is not None:
                (group / "memory.max").write_text(str(int((group / "memory.current").read_text()) + room))
            flood.submit(count=count - 20)
            used = _kernel_memory(group) - before
            os.write(say_ready, b"x")
            os.read(go, 1)
            channel.cancel()
            found = _names(flood.wait())
            os.write(write, json.dumps({"results": found, "used": used}).encode())

    with _cgroup() as group:
        pid = forked(child)
        os.close(say_ready)
        os.close(write)
        os.read(ready, 1)
        outside = results(path, "aio", direction, 50, length, "cancel")["results"]
        os.write(say_go, b"x")
        with os.fdopen(read) as pipe:
            text = pipe.read()
        os.waitpid(pid, 0)
        killed = dict(line.split() for line in (group / "memory.events").read_text().splitlines())["oom_kill"]
    _quiet(path)
    return {"inside": json.loads(text) if text else {}, "killed": int(killed), "outside": outside}


def _kernel_memory(group: Path) -> int:
    stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return int(stat["slab_unreclaimable"])
