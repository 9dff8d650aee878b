"""Transfers with memory that the processor can touch and the kernel does not pin, run in the guest."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import random
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pciedma
from pciedma_lab.guest import buffers, io_uring
from pciedma_lab.guest.buffers import PAGE, Buffer
from pciedma_lab.guest.request_ways import VECTORED, Request, Ways

_libc = ctypes.CDLL(None, use_errno=True)
_MEMFD_SECRET = 447
_DMA_HEAP_ALLOC, _UDMABUF_CREATE = 0xC0184800, 0x40187542
_ADD_SEALS, _SEAL_SHRINK = 1033, 2
_HEAP, _UDMABUF = Path("/dev/dma_heap/system"), Path("/dev/udmabuf")
#: A file of it counts as one on disk: its pages must be told of writes.
_RAMFS = Path("/tmp/ramfs")
_CARD_ADDRESS = 4096 * 3


def _secret(length: int) -> int:
    fd = _libc.syscall(_MEMFD_SECRET, 0)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "memfd_secret")
    os.ftruncate(fd, length)
    return int(fd)


def _dma_heap(length: int) -> int:
    argument = bytearray(struct.pack("<QIIQ", length, 0, os.O_RDWR | os.O_CLOEXEC, 0))
    with _HEAP.open("r+b", buffering=0) as heap:
        fcntl.ioctl(heap, _DMA_HEAP_ALLOC, argument)
    return int(struct.unpack("<QIIQ", argument)[1])


def _udmabuf(length: int) -> int:
    memory = os.memfd_create("backing", os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, length)
    fcntl.fcntl(memory, _ADD_SEALS, _SEAL_SHRINK)
    with _UDMABUF.open("r+b", buffering=0) as device:
        argument = bytearray(struct.pack("<IIQQ", memory, 1, 0, length))
        fd = int(fcntl.ioctl(device, _UDMABUF_CREATE, argument))
    os.close(memory)
    return fd


def _file(length: int) -> int:
    _RAMFS.mkdir(exist_ok=True)
    if not _RAMFS.is_mount():
        subprocess.run(["mount", "-t", "ramfs", "none", _RAMFS], check=True)
    with tempfile.TemporaryFile(dir=_RAMFS) as file:
        file.truncate(length)
        return os.dup(file.fileno())


_FILES: dict[str, Callable[[int], int]] = {
    "secret": _secret, "dma_heap": _dma_heap, "udmabuf": _udmabuf, "file": _file,
}


def there() -> list[str]:
    """Return which kinds of memory that is never pinned this kernel has."""
    return ["secret"] + ["dma_heap"] * _HEAP.exists() + ["udmabuf"] * _UDMABUF.exists()


def patchwork(layout: Sequence[tuple[str, int]]) -> Buffer:
    """Return memory of so many pages of each kind, side by side; "gone" cannot be touched."""
    buffer = buffers.anonymous(sum(pages for _, pages in layout) * PAGE)
    at = buffer.address
    for kind, pages in layout:
        if kind in _FILES:
            fd = _FILES[kind](pages * PAGE)
            buffers._map_over(at, pages * PAGE, buffers.READ_WRITE, fd)
            os.close(fd)
        elif kind == "gone":
            buffers.protect(at, pages * PAGE, buffers.NONE)
        at += pages * PAGE
    return buffer


@contextlib.contextmanager
def _opened(path: str, timeout_s: float | None, ways: Sequence[str]) -> Iterator[Ways]:
    with pciedma.Channel(path) as channel:
        channel.timeout_s = timeout_s
        with Ways(channel.fileno(), [], ways, 1, random.Random(1)) as entered:
            yield entered


def _named(result: int) -> int | str:
    return result if result >= 0 else errno.errorcode[-result]


def whole(
    path: str, kind: str, cases: list[tuple[int, int]], *, ways: Sequence[str] = ("pread", *VECTORED),
    timeout_s: float | None = 10.0, address: int = _CARD_ADDRESS,
) -> dict[str, Any]:
    """Write and read back each length at each offset of memory of one kind, by each way; returns what was wrong.

    The bytes beside the area must stay as they were; *bytes* is what was moved one way.
    """
    rng = random.Random(kind)
    wrong, moved = [], 0
    with _opened(path, timeout_s, ways) as entered:
        for offset, length in cases:
            pages = (offset + length + PAGE - 1) // PAGE
            with patchwork([(kind, pages)]) as buffer:
                for way in ways:
                    found = _one(entered, way, buffer, offset, rng.randbytes(length), address)
                    moved += length
                    wrong += [f"{way}, {length} at {offset}: {found}"] * bool(found)
    return {"wrong": wrong, "bytes": moved}


def _one(ways: Ways, way: str, buffer: Buffer, offset: int, data: bytes, address: int) -> str:
    pieces = [(buffer.address + offset, len(data))]
    ctypes.memset(buffer.address, 0xA5, buffer.length)
    ctypes.memmove(*pieces[0][:1], data, len(data))
    results = ways.run(way, [Request(True, address, pieces)])
    ctypes.memset(pieces[0][0], 0x5A, len(data))
    results += ways.run(way, [Request(False, address, pieces)])
    if results != [len(data)] * 2:
        return f"{[_named(result) for result in results]}"
    rest = buffer.length - offset - len(data)
    expected = b"\xa5" * offset + data + b"\xa5" * rest
    return "" if ctypes.string_at(buffer.address, buffer.length) == expected else "wrong data"


def pieces(
    path: str, layout: list[tuple[str, int]], *, skip: int = 0, cut: int = 0, timeout_s: float | None = 10.0,
) -> dict[str, Any]:
    """Write and read a patchwork, in one piece and as a vector of its parts, by each way.

    Returns each way's counts or errno names, and whether the bytes that moved were right. *skip* and *cut* are bytes at
    the beginning and the end that are left out.
    """
    found: dict[str, Any] = {}
    rng = random.Random(1)
    touchable = max(_before_gone(layout) * PAGE - skip, 0)
    with _opened(path, timeout_s, ("pread", *VECTORED)) as entered, patchwork(layout) as buffer:
        for way, vector in [("pread", False), *((way, vector) for way in VECTORED for vector in (False, True))]:
            areas = _areas(buffer, layout, vector)
            areas[0] = (areas[0][0] + skip, areas[0][1] - skip)
            areas[-1] = (areas[-1][0], areas[-1][1] - cut)
            data = rng.randbytes(touchable)
            ctypes.memmove(buffer.address + skip, data, touchable)
            results = entered.run(way, [Request(True, _CARD_ADDRESS, areas)])
            ctypes.memset(buffer.address + skip, 0, touchable)
            results += entered.run(way, [Request(False, _CARD_ADDRESS, areas)])
            got = ctypes.string_at(buffer.address + skip, touchable)
            least = max(results[-1], 0)
            found[way + " vector" * vector] = [*map(_named, results), got[:least] == data[:least]]
    return found


def _before_gone(layout: Sequence[tuple[str, int]]) -> int:
    pages = 0
    for kind, count in layout:
        if kind == "gone":
            break
        pages += count
    return pages


def _areas(buffer: Buffer, layout: Sequence[tuple[str, int]], vector: bool) -> list[tuple[int, int]]:
    if not vector:
        return [(buffer.address, buffer.length)]
    areas, at = [], buffer.address
    for _, pages in layout:
        areas.append((at, pages * PAGE))
        at += pages * PAGE
    return areas


def messages(path: str, kind: str, lengths: list[int]) -> list[str]:
    """Send messages out of memory of one kind and receive them into it; returns what was wrong."""
    wrong = []
    ways = ("aio", "io_uring")
    with pciedma.Channel(path) as channel, patchwork([(kind, 2)]) as buffer, \
            Ways(channel.fileno(), [], ways, 1, random.Random(1)) as entered:
        for length in lengths:
            for way in ("read", *ways):
                data = os.urandom(length)
                at = buffer.address + PAGE - length // 2
                ctypes.memmove(at, data, length)
                results = []
                for writes in (True, False):
                    if way == "read":
                        area = (ctypes.c_char * length).from_address(at)
                        call: Callable[..., int] = os.writev if writes else os.readv
                        results.append(call(channel.fileno(), [area]))
                    else:
                        results += entered.run(way, [Request(writes, 0, [(at, length)])])
                    if writes:
                        ctypes.memset(at, 0, length)
                if results != [length] * 2 or ctypes.string_at(at, length) != data:
                    wrong.append(f"{way}, {length}: {results}")
    return wrong


def fixed(kind: str) -> str:
    """Register memory as io_uring's buffer, which pins it; says what it led to."""
    with patchwork([(kind, 4)]) as buffer, io_uring.Ring(1) as ring:
        try:
            ring.register_buffers([(buffer.address, buffer.length)])
        except OSError as error:
            return "refused" if error.errno in (errno.EFAULT, errno.EOPNOTSUPP) else str(error)
    return "registered"


def device(path: str, address: str, length: int) -> dict[str, Any]:
    """Write what a card's registers read as, and read into them, by each way; returns the results.

    What they read as depends on how wide the accesses are, so that it says nothing.
    """
    ways = ("pread", *VECTORED)
    with Path(f"/sys/bus/pci/devices/{address}/resource0").open("r+b", buffering=0) as file:
        where = buffers._libc_mmap(length + PAGE, buffers.READ_WRITE, 1, file.fileno())
    with _opened(path, 10.0, ways) as entered:
        requests = [Request(writes, 0, [(where + PAGE, length)]) for writes in (True, False)]
        found = {way: [_named(entered.run(way, [request])[0]) for request in requests] for way in ways}
    buffers.unmap(where, length + PAGE)
    return found
