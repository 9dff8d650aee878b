"""Parts of buffers that are moved by TRANSFER, run in the guest."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import random
import time
from collections.abc import Sequence
from typing import Any

import pciedma
from pciedma import uapi
from pciedma_lab.guest import buffers

from . import shared

C2H, H2C, BARRIER = uapi.PCIEDMA_ENTRY_C2H, uapi.PCIEDMA_ENTRY_H2C, uapi.PCIEDMA_ENTRY_BARRIER
FOREVER = uapi.PCIEDMA_TIMEOUT_NONE
PAGE = mmap.PAGESIZE

Result = tuple[int, int, int]


def entry(flags: int, buffer: int, offset: int, length: int, address: int = 0, tag: int = 0) -> Any:
    """Make an entry."""
    return uapi.pciedma_transfer_entry(flags, buffer, offset, length, address, tag)


def batch(fd: int, entries: Sequence[Any], *, submit: bool = False) -> tuple[int, list[Result]]:
    """Have entries moved; returns what the call says, and of each entry tag, bytes and errno."""
    many = (uapi.pciedma_transfer_entry * len(entries))(*entries)
    results = (uapi.pciedma_transfer_result * len(entries))()
    asked = uapi.pciedma_transfer_batch(
        uapi.PCIEDMA_TRANSFER_SUBMIT if submit else 0, len(entries), ctypes.addressof(many),
        0 if submit else ctypes.addressof(results),
    )
    count = fcntl.ioctl(fd, uapi.PCIEDMA_IOC_TRANSFER, asked)
    return count, [(one.tag, one.bytes, one.error) for one in results]


def wait(fd: int, minimum: int, most: int = 256, timeout_ns: int = FOREVER) -> list[Result]:
    """Take results of submitted entries."""
    results = (uapi.pciedma_transfer_result * most)()
    asked = uapi.pciedma_transfer_wait(0, minimum, most, 0, timeout_ns, ctypes.addressof(results))
    count = fcntl.ioctl(fd, uapi.PCIEDMA_IOC_TRANSFER_WAIT, asked)
    return [(one.tag, one.bytes, one.error) for one in results[:count]]


def moved(fd: int, way: str, entries: Sequence[Any]) -> list[Result]:
    """Have entries moved by one call, or submitted and waited for; returns their results."""
    if way == "sync":
        return batch(fd, entries)[1]
    taken = 0
    results: list[Result] = []
    while len(results) < len(entries):
        if taken < len(entries):
            try:
                taken += batch(fd, entries[taken:], submit=True)[0]
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise
        results += wait(fd, 1)
    return sorted(results)


def there_and_back(path: str, way: str, length: int, count: int, kind: str, wait_mode: str = "INTERRUPT") -> list[Any]:
    """Write *count* parts of a buffer and read them into another; returns what was wrong."""
    wrong: list[Any] = []
    data = random.Random(1).randbytes(length * count)
    with pciedma.Channel(path) as channel:
        channel.wait_mode = pciedma.WaitMode[wait_mode]
        fd = channel.fileno()
        memory, ids = zip(*(_memory(fd, kind, length * count) for _ in range(2)), strict=True)
        memory[0][:] = data
        is_memory = channel.kind is pciedma.Kind.MEMORY
        places = [(n * length, length, n * length if is_memory else 0, n) for n in range(count)]
        good = [(n, length, 0) for n in range(count)]
        if is_memory:
            wrong += [r for r in [moved(fd, way, [entry(H2C, ids[0], *place) for place in places])] if r != good]
            wrong += [r for r in [moved(fd, way, [entry(C2H, ids[1], *place) for place in places])] if r != good]
        else:
            for place in places:
                for flags, number in ((H2C, ids[0]), (C2H, ids[1])):
                    result = moved(fd, way, [entry(flags, number, *place)])
                    wrong += [result] if result != [(place[3], length, 0)] else []
        if bytes(memory[1]) != data:
            wrong.append("the data")
        memory[0].release()
        memory[1].release()
    return wrong


def _memory(fd: int, kind: str, size: int) -> tuple[memoryview, int]:
    """Return memory of a new buffer, or of the process's own that is registered, and the buffer's id."""
    if kind == "new":
        made = shared.create(fd, size)
        return memoryview(mmap.mmap(fd, made.size, offset=made.mmap_offset))[:size], made.id
    buffer = getattr(buffers, kind)(size + 5)
    made = shared.create(fd, size, type=uapi.PCIEDMA_BUFFER_USER, address=buffer.address + 5)
    return buffer.view[5:], made.id


def each(path: str, bad: int, count: int) -> list[Any]:
    """Have a call's entries moved of which one goes to card memory that there is not; returns what was wrong.

    Those behind it that have not begun are cancelled, but for those of a call of which each is alone.
    """
    wrong: list[Any] = []
    with pciedma.Channel(path) as channel:
        fd = channel.fileno()
        made = shared.create(fd, PAGE).id
        parts = [entry(H2C, made, 0, PAGE, bad if number == 3 else 0, number) for number in range(count)]
        many = (uapi.pciedma_transfer_entry * count)(*parts)
        for flag in (0, uapi.PCIEDMA_TRANSFER_EACH):
            for submit in (False, True):
                results = (uapi.pciedma_transfer_result * count)()
                asked = uapi.pciedma_transfer_batch(flag, count, ctypes.addressof(many), ctypes.addressof(results))
                if submit:
                    asked.flags, asked.results = flag | uapi.PCIEDMA_TRANSFER_SUBMIT, 0
                taken = fcntl.ioctl(fd, uapi.PCIEDMA_IOC_TRANSFER, asked)
                ends = sorted(wait(fd, count, count, 20 * 10**9)) if submit else [
                    (one.tag, one.bytes, one.error) for one in results]
                errors = [error for _, _, error in ends]
                wrong += [(flag, submit, "it failed", errors[3])] if errors[3] != errno.EIO else []
                lost = sum(error == errno.ECANCELED for error in errors)
                wrong += [(flag, submit, "cancelled", lost)] if bool(lost) == bool(flag) else []
                whole = count if submit else errors.count(0)
                wrong += [(flag, submit, taken)] if taken != whole else []
                wrong += [(flag, submit, {*errors})] if not {*errors} <= {0, errno.EIO, errno.ECANCELED} else []
    return wrong


def moved_in_part(path: str, bad: int) -> list[Any]:
    """Have one entry fail, and another when half of it has moved, behind which there is no card memory: no errno."""
    size = 16 << 20  # more than a segment has at most
    with pciedma.Channel(path) as channel:
        made = shared.create(channel.fileno(), size).id
        parts = [entry(C2H, made, 0, PAGE, bad, 1), entry(H2C, made, 0, size, bad - size // 2, 2)]
        many, results = (uapi.pciedma_transfer_entry * 2)(*parts), (uapi.pciedma_transfer_result * 2)()
        asked = uapi.pciedma_transfer_batch(
            uapi.PCIEDMA_TRANSFER_EACH, 2, ctypes.addressof(many), ctypes.addressof(results))
        said = shared.said(channel.fileno(), "TRANSFER", asked)
        ends = [(one.tag, one.bytes, one.error) for one in results]
        half = 0 < ends[1][1] <= size // 2
        return [] if half and (said, ends[0], ends[1][2]) == (0, (1, 0, errno.EIO), errno.EIO) else [said, *ends]


def pread_rate(path: str, length: int, count: int) -> float:
    """Return how many MB/s a loop of pread moves, by interrupt."""
    buffer = buffers.small_pages(length)
    with pciedma.Channel(path) as channel:
        channel.wait_mode = pciedma.WaitMode.INTERRUPT
        fd, view = channel.fileno(), [buffer.view]
        begin = time.monotonic()
        for number in range(count):
            os.preadv(fd, view, number * length)
        return length * count / (time.monotonic() - begin) / 1e6


def one_call(path: str, length: int, count: int, *, submit: bool = False) -> tuple[int, list[int]]:
    """Read *count* parts into scattered registered memory by one call; returns what that says, and their errnos."""
    buffer = buffers.scattered_pages(length * count)
    with pciedma.Channel(path) as channel:
        channel.wait_mode = pciedma.WaitMode.INTERRUPT
        made = shared.create(channel.fileno(), length * count, type=uapi.PCIEDMA_BUFFER_USER, address=buffer.address)
        parts = [entry(C2H, made.id, number * length, length, number * length) for number in range(count)]
        whole, results = batch(channel.fileno(), parts, submit=submit)
        if submit:
            results = wait(channel.fileno(), count, count)
        return whole, sorted({error for _, _, error in results})
