"""What requests cost in instructions, on a machine whose clock counts them, run in the guest.

What the program itself does is taken off: as many requests that move nothing cost that, and no more of it.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import gc
import json
import mmap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import pciedma
from pciedma import uapi

from . import buffers, io_uring, linux_aio
from .spinner import Spinner

_libc = ctypes.CDLL(None, use_errno=True)
for _function in (_libc.pread, _libc.pwrite):
    _function.restype = ctypes.c_ssize_t
    _function.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long)
#: The x86 instruction ``ret``.
_RETURN = b"\xc3"
_MARK_BYTES = 64
#: In this time the kernel has freed what was given back before, which it does in batches.
_SETTLE_S = 0.02
_LOOK_S = 0.001


def shared(fd: int, size: int) -> tuple[buffers.Buffer, int]:
    """Return memory of a buffer that a channel's driver makes, mapped, and the buffer's id."""
    flags = uapi.PCIEDMA_BUFFER_C2H | uapi.PCIEDMA_BUFFER_H2C
    asked = uapi.pciedma_buffer_create(flags=flags, type=uapi.PCIEDMA_BUFFER_NEW, size=size)
    fcntl.ioctl(fd, uapi.PCIEDMA_IOC_BUFFER_CREATE, asked)
    mapping = mmap.mmap(fd, asked.size, offset=asked.mmap_offset)
    buffer = buffers.Buffer(mapping, buffers.address_of(mapping), size)
    ctypes.memset(buffer.address, 1, size)
    return buffer, asked.id


def registered(fd: int, buffer: buffers.Buffer) -> int:
    """Register memory with a channel, and return its id."""
    flags = uapi.PCIEDMA_BUFFER_C2H | uapi.PCIEDMA_BUFFER_H2C
    asked = uapi.pciedma_buffer_create(
        flags=flags, type=uapi.PCIEDMA_BUFFER_USER, size=buffer.length, address=buffer.address
    )
    fcntl.ioctl(fd, uapi.PCIEDMA_IOC_BUFFER_CREATE, asked)
    number: int = asked.id
    return number


class Batches:
    """Requests of one thread on one channel: *depth* at a time, handed in by one call and waited for by one.

    So a program does the same for requests that move something and for those that do not; and it does little.
    """

    def __init__(
        self, channel: pciedma.Channel, *, direction: str, length: int, pages: str, way: str, depth: int
    ) -> None:
        """Prepare requests of *length* bytes in one *direction* by *way*, each in a batch to places of its own."""
        self._fd, self._writes, self._depth, self._length = channel.fileno(), direction == "write", depth, length
        if pages == "shared":
            self._buffer, self._number = shared(self._fd, length * depth)
        else:
            self._buffer = buffers.OF_PAGES[pages](length * depth)
        #: Their addresses, and their positions on the card.
        self._places = [(self._buffer.address + number * length, number * length) for number in range(depth)]
        self._fixed = way == "io_uring_fixed"
        self._batch = {
            "sync": self._sync, "aio": self._aio, "io_uring": self._io_uring, "io_uring_fixed": self._io_uring,
            "transfer": self._transfer, "readinto": self._readinto, "asyncio": self._asyncio,
        }[way]  # fmt: skip
        with ExitStack() as stack:
            if way == "aio":
                self._context = stack.enter_context(linux_aio.Context(depth))
                self._requests = {0: self._of_length(0), length: self._of_length(length)}
            elif way == "transfer":
                if pages != "shared":
                    self._number = registered(self._fd, self._buffer)
                self._calls = {0: self._of_entries(0), length: self._of_entries(length)}
            elif way in ("readinto", "asyncio"):
                self._channel, self._view = channel, stack.enter_context(self._buffer.view)
                self._loop = asyncio.new_event_loop()
                stack.callback(self._loop.close)
            elif way != "sync":
                self._ring = stack.enter_context(io_uring.Ring(depth))
            if self._fixed:
                self._ring.register_buffers([(self._buffer.address, self._buffer.length)])
            self._stack = stack.pop_all()

    def __enter__(self) -> Batches:
        """Return the batches."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of context or ring."""
        self._stack.close()

    def make(self, count: int, *, empty: bool = False) -> None:
        """Make so many requests, in whole batches; *empty* ones move nothing. Raises RuntimeError if any fails."""
        length = 0 if empty else self._length
        expected = [length] * self._depth
        for _ in range(0, count, self._depth):
            if (results := self._batch(length)) != expected:
                raise RuntimeError(f"requests failed: {results[:5]}")

    def _sync(self, length: int) -> list[int]:
        ((address, position),) = self._places
        return [(_libc.pwrite if self._writes else _libc.pread)(self._fd, address, length, position)]

    def _of_length(self, length: int) -> list[linux_aio.Iocb]:
        opcode = linux_aio.PWRITE if self._writes else linux_aio.PREAD
        return [linux_aio.request(opcode, self._fd, address, length, position) for address, position in self._places]

    def _of_entries(self, length: int) -> uapi.pciedma_transfer_batch:
        flags = uapi.PCIEDMA_ENTRY_H2C if self._writes else uapi.PCIEDMA_ENTRY_C2H
        entries = [uapi.pciedma_transfer_entry(flags, self._number, place, length, place) for _, place in self._places]
        self._entries = (uapi.pciedma_transfer_entry * self._depth)(*entries)
        return uapi.pciedma_transfer_batch(0, self._depth if length else 0, ctypes.addressof(self._entries), 0)

    def _transfer(self, length: int) -> list[int]:
        """An empty call is refused, by the first look at it."""
        whole = _libc.ioctl(self._fd, uapi.PCIEDMA_IOC_TRANSFER, ctypes.byref(self._calls[length]))
        return [length] * max(whole, 0) if length else [0] * self._depth

    def _readinto(self, length: int) -> list[int]:
        """What Python does for it is a part of what it costs: an empty one is none."""
        return [self._channel.readinto(self._view, 0) if length else 0]

    def _asyncio(self, length: int) -> list[int]:
        """All at once, each a task; an empty one is none, as by readinto."""
        return self._loop.run_until_complete(self._tasks(length)) if length else [0] * self._depth

    async def _tasks(self, length: int) -> list[int]:
        return await asyncio.gather(*(
            self._channel.readinto_async(self._view[place : place + length], place) for _, place in self._places
        ))

    def _aio(self, length: int) -> list[int]:
        self._context.submit_all(self._requests[length])
        return [result for _, result in self._context.wait(self._depth)]

    def _io_uring(self, length: int) -> list[int]:
        kinds = (io_uring.READ_FIXED, io_uring.WRITE_FIXED) if self._fixed else (io_uring.READ, io_uring.WRITE)
        for address, position in self._places:
            self._ring.prepare(kinds[self._writes], self._fd, address, length, position)
        self._ring.submit(wait=self._depth)
        return [result for _, result in self._ring.wait(self._depth)]


def _whole(requests: int, depth: int) -> int:
    """Return the number of requests in whole batches."""
    return -(-requests // depth) * depth


@contextmanager
def _ready(path: str, wait_mode: str, warm: int, **kind: Any) -> Iterator[tuple[Batches, Spinner]]:
    """Give batches on a channel of their own, of which some have *warmed* up, and a spinner that gets the card to work.

    What is touched, allocated or learned is so only once, and then does not count.
    """
    card = Path("/sys/class/pciedma") / Path(path).name.rpartition("c")[0] / "device"
    with Spinner(card) as spinner, pciedma.Channel(path) as channel, Batches(channel, **kind) as batches:
        channel.wait_mode = pciedma.WaitMode[wait_mode]
        gc.collect()
        gc.disable()
        for empty in (False, True):
            batches.make(warm, empty=empty)
        yield batches, spinner


def _median(values: Sequence[int]) -> float:
    """Return what lies in the middle: of empty rounds the first can cost less than all others, by 1 %."""
    ordered, middle = sorted(values), len(values) // 2
    return (ordered[middle] + ordered[~middle]) / 2


def _executed(batches: Batches, spinner: Spinner, requests: int, *, empty: bool) -> tuple[int, int]:
    """Return what the thread executes for requests by the kernel's account, and all that the machine does."""
    begin = time.thread_time_ns()
    whole = spinner.executed_ns(lambda: batches.make(requests, empty=empty))
    return time.thread_time_ns() - begin, whole


def count(
    path: str, *, wait_mode: str, warm: int, requests: int, rounds: int, depth: int, **kind: Any
) -> dict[str, Any]:
    """Count what requests on a channel cost, after some to *warm* it up; ``kind`` is what Batches takes.

    Returns the instructions of one request beyond those of an empty one, for the ``thread`` and ``all`` of the machine,
    in each of some *rounds* of so many *requests*; and how many were made in one round and altogether.
    """
    requests, warm = _whole(requests, depth), _whole(warm, depth)
    with _ready(path, wait_mode, warm, depth=depth, **kind) as (batches, spinner):
        empty, whole = (
            [_executed(batches, spinner, requests, empty=empty) for _ in range(rounds)] for empty in (True, False)
        )
    thread, all_ = (
        [(one - _median(nothing)) / requests for one in each]
        for each, nothing in zip(zip(*whole, strict=True), zip(*empty, strict=True), strict=True)
    )
    return {"thread": thread, "all": all_, "requests": requests, "made": warm + rounds * requests}


class _Marks:
    """Two functions that do nothing, by whose addresses one sees in a record of all instructions where to look."""

    def __init__(self) -> None:
        self._code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._code.write(_RETURN * (2 * _MARK_BYTES))
        self.begin = ctypes.addressof(ctypes.c_char.from_buffer(self._code))
        self.end = self.begin + _MARK_BYTES
        self._call_begin, self._call_end = (ctypes.CFUNCTYPE(None)(address) for address in (self.begin, self.end))

    def around(self, function: Callable[[], object]) -> None:
        self._call_begin()
        function()
        self._call_end()


def between_marks(
    path: str, *, folder: str, wait_mode: str, warm: int, requests: int, depth: int, **kind: Any
) -> dict[str, int]:
    """Make requests and then as many empty ones, each between two marks, once the file ``go`` is in *folder*.

    Before, the file ``marks`` there tells the marks' addresses, and that of a spinner, so that the machine is never
    idle. Returns how many requests it made, and what the thread executed for them and for the empty ones.
    """
    requests = _whole(requests, depth)
    shared, marks = Path(folder), _Marks()
    with _ready(path, wait_mode, _whole(warm, depth), depth=depth, **kind) as (batches, spinner):
        marks.around(lambda: None)
        time.sleep(_SETTLE_S)
        addresses = {"begin": marks.begin, "end": marks.end, "spinner": spinner.address}
        (shared / "marks.new").write_text(json.dumps(addresses))
        (shared / "marks.new").rename(shared / "marks")
        while not (shared / "go").exists():
            time.sleep(_LOOK_S)
        times = [time.thread_time_ns()]
        for empty in (False, True):
            marks.around(partial(batches.make, requests, empty=empty))
            times.append(time.thread_time_ns())
    return {"requests": requests, "thread": times[1] - times[0], "thread_empty": times[2] - times[1]}
