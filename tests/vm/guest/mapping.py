"""What becomes of user memory when it is mapped for DMA, run in the guest."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pciedma
from pciedma_lab.guest import buffers
from pciedma_lab.guest.buffers import PAGE, Buffer
from pciedma_lab.guest.libc_calls import pread, pwrite
from pciedma_lab.guest.linux_aio import PREAD, PWRITE, Context

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mremap.restype = ctypes.c_void_p
_MREMAP_MAYMOVE, _MREMAP_FIXED = 1, 2
_FRAME = (1 << 55) - 1


def _frames(buffer: Buffer) -> dict[int, int]:
    """Return the addresses of a buffer's pages by the numbers of their page frames."""
    with Path("/proc/self/pagemap").open("rb", buffering=0) as file:
        file.seek(buffer.address // PAGE * 8)
        entries = (ctypes.c_uint64 * (buffer.length // PAGE)).from_buffer_copy(file.read(buffer.length // PAGE * 8))
    return {entry & _FRAME: buffer.address + number * PAGE for number, entry in enumerate(entries)}


def _side_by_side(frames: dict[int, int], first: int) -> Buffer:
    """Move the pages of two frames that follow each other side by side."""
    place = buffers.anonymous(2 * PAGE)
    for number in range(2):
        where = place.address + number * PAGE
        size = ctypes.c_size_t(PAGE)
        old = ctypes.c_void_p(frames[first + number])
        moved = _libc.mremap(old, size, size, _MREMAP_MAYMOVE | _MREMAP_FIXED, ctypes.c_void_p(where))
        assert moved == where
    return place


def around(path: str, boundary: int, mib: int) -> list[str | int]:
    """Write and read two pages beside each other in memory, once across *boundary* and once not; returns the counts.

    They are searched for among *mib* of memory.
    """
    memory = buffers.small_pages(mib << 20)
    frames = _frames(memory)
    ends = [boundary // PAGE - 1, next(frame for frame in frames if frame + 1 in frames and frame % 512 < 256)]
    if not {ends[0], ends[0] + 1} <= set(frames):
        return ["no such pages", max(frames), min(frames)]
    found: list[str | int] = []
    with pciedma.Channel(path) as channel:
        for first in ends:
            pages = _side_by_side(frames, first)
            found.append(pwrite(channel.fileno(), pages.address, pages.length, 0))
            if first == ends[0]:
                found.append(pread(channel.fileno(), pages.address, pages.length, 0))
    return found


def exhaust(paths: list[str], length: int) -> list[int]:
    """Write and read *length* bytes at once on all channels; returns the counts."""
    found = []
    channels = [pciedma.Channel(path) for path in paths]
    areas = [buffers.small_pages(length) for _ in range(2 * len(paths))]
    with Context(len(areas)) as context:
        for number, area in enumerate(areas):
            channel = channels[number // 2]
            channel.timeout_s = 60
            context.submit((PWRITE, PREAD)[number % 2], channel.fileno(), area.address, length, 0)
        found = [result for _, result in context.wait(len(areas), 300)]
    for channel in channels:
        channel.close()
    return found
