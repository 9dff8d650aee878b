"""Transfers with memory that is there, though the processor's page tables do not say so yet; run in the guest."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import mmap
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pciedma
from pciedma_lab.guest import buffers
from pciedma_lab.guest.buffers import PAGE, Buffer
from pciedma_lab.guest.request_ways import Request, Ways

from .callers import moved
from .slow_memory import Keeper, forked

_libc = ctypes.CDLL(None, use_errno=True)
_CANARY = 0xA5
_WAYS = ("aio", "io_uring")


def _untouched(length: int) -> Buffer:
    return buffers.anonymous(length)


def _only_read(length: int) -> Buffer:
    """Its pages are the one page of zeros."""
    buffer = buffers.anonymous(length)
    ctypes.string_at(buffer.address, length)
    return buffer


def _given_back(length: int) -> Buffer:
    buffer = buffers.small_pages(length)
    buffer.mapping.madvise(mmap.MADV_DONTNEED)
    return buffer


def _made_read_only_for_a_while(length: int) -> Buffer:
    buffer = buffers.small_pages(length)
    buffers.protect(buffer.address, length, buffers.READ)
    buffers.protect(buffer.address, length, buffers.READ_WRITE)
    return buffer


def _file_of_its_own(length: int) -> Buffer:
    """A private mapping of a file that was never read."""
    fd = os.memfd_create("file")
    os.ftruncate(fd, length)
    mapping = mmap.mmap(fd, length, flags=mmap.MAP_PRIVATE)
    os.close(fd)
    return Buffer(mapping, buffers.address_of(mapping), length)


_MADE: dict[str, Callable[[int], Buffer]] = {
    "untouched": _untouched, "only read": _only_read, "given back": _given_back,
    "made read-only for a while": _made_read_only_for_a_while, "memfd": buffers.memfd, "private file": _file_of_its_own,
}


@contextlib.contextmanager
def _shared_with_a_child(buffer: Buffer) -> Iterator[None]:
    """A write needs a copy of each page meanwhile."""
    child = forked()
    if not child:
        signal.pause()
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@contextlib.contextmanager
def _memory(kind: str, length: int) -> Iterator[Buffer]:
    """Give memory of a kind, which no transfer has used."""
    with contextlib.ExitStack() as stack:
        if kind in _MADE:
            buffer = _MADE[kind](length)
        elif kind == "shared with a child":
            buffer = buffers.small_pages(length)
            stack.enter_context(_shared_with_a_child(buffer))
        else:  # one of slow_memory's, whose pages come at once
            keeper = stack.enter_context(Keeper(kind))
            keeper.come()
            buffer = keeper.memory(0, length)
        yield buffer


KINDS = (*_MADE, "shared with a child", "userfaultfd", "fuse", "fuse_unkillable")


def _moved_by(channel: pciedma.Channel, way: str, direction: str, address: int, length: int) -> int | str:
    if way == "sync":
        return moved(channel, direction, address, length)
    with Ways(channel.fileno(), [], [way], 1, random.Random(1)) as ways:
        return ways.run(way, [Request(direction == "write", 0, [(address, length)])])[0]


def wrong(path: str, cases: Sequence[tuple[int, int]], ways: Sequence[str] = ("sync", *_WAYS)) -> list[str]:
    """Write from and read into memory of each of KINDS, offsets and lengths in it; returns what was wrong.

    A write's bytes are those that the processor sees afterwards; a read's are others, and nothing beside them changes.
    """
    found = []
    with pciedma.Channel(path) as channel:
        for kind in KINDS:
            for way in ways:
                for offset, length in cases:
                    size = -(-(offset + length) // PAGE) * PAGE
                    with _memory(kind, size) as buffer:
                        said = _written(channel, way, buffer.address + offset, length)
                    with _memory(kind, size) as buffer:
                        said = said or _read(channel, way, buffer, offset, length)
                    if said:
                        found.append(f"{kind} {way} {offset} {length}: {said}")
    return found


def _written(channel: pciedma.Channel, way: str, address: int, length: int) -> str:
    result = _moved_by(channel, way, "write", address, length)
    if result != length:
        return f"wrote {result}"
    if channel.kind == pciedma.Kind.MEMORY and channel.read(length, 0) != ctypes.string_at(address, length):
        return "wrote other bytes"
    return ""


def _read(channel: pciedma.Channel, way: str, buffer: Buffer, offset: int, length: int) -> str:
    data = os.urandom(length)
    channel.write(data)
    result = _moved_by(channel, way, "read", buffer.address + offset, length)
    if result != length:
        return f"read {result}"
    seen = buffer.mapping[:]
    if seen[offset : offset + length] != data:
        return "read other bytes"
    rest = {*seen[:offset], *seen[offset + length :]}
    return "" if len(rest) < 2 else "bytes beside changed"


def torn_away(path: str, direction: str, lengths: Sequence[int], seconds: float, often: int) -> dict[str, Any]:
    """Move data while another thread gives the memory's pages back to the kernel, again and again.

    Such memory is always there: the next touch brings a page. Synchronous calls are made so much more *often* than
    others. Returns how many calls there were, and wrong results.
    """
    memory = buffers.small_pages(-(-max(lengths) // PAGE) * PAGE)
    over = threading.Event()

    def tear() -> None:
        place = ctypes.c_void_p(memory.address), ctypes.c_size_t(memory.length)
        while not over.is_set():
            _libc.madvise(*place, mmap.MADV_DONTNEED)

    thread = threading.Thread(target=tear)
    thread.start()
    calls, results = 0, set()
    try:
        with pciedma.Channel(path) as channel:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                for way, length in itertools.product(["sync"] * often + [*_WAYS], lengths):
                    result = _moved_by(channel, way, direction, memory.address, length)
                    calls += 1
                    if result != length:
                        results.add(str(result))
    finally:
        over.set()
        thread.join()
    return {"calls": calls, "wrong": sorted(results)}
