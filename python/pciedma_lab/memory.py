"""The guest's memory as the client maps it, with every DMA checked against what is mapped now."""

from __future__ import annotations

import errno
import mmap
import os
from bisect import bisect_left, bisect_right
from collections import deque
from dataclasses import dataclass

_REMEMBERED = 4096


class DmaOutsideMemory(Exception):  # noqa: N818
    """A DMA touches an address that is not mapped, or not for this direction."""

    def __init__(self, address: int, length: int, reason: str, *, unmapped_before: bool) -> None:
        """Say where and why, and whether that range was mapped a while ago."""
        super().__init__(f"{length} bytes at {address:#x}: {reason}")
        self.address = address
        self.length = length
        self.unmapped_before = unmapped_before


@dataclass(frozen=True)
class Mapping:
    """Bus addresses ``address`` to ``end``; ``view`` is None for what is not memory."""

    address: int
    end: int
    readable: bool
    writable: bool
    view: memoryview | None

    def refusal(self, *, writing: bool) -> str | None:
        """Return why a DMA may not come here, or None if it may."""
        if self.view is None:
            return "no memory is behind it"
        if not (self.writable if writing else self.readable):
            return "mapped, but not for this direction"
        return None


class GuestMemory:
    """All mappings of a client."""

    def __init__(self) -> None:
        """Start with nothing mapped."""
        self._starts: list[int] = []
        self._mappings: list[Mapping] = []
        self._files: dict[tuple[int, int], memoryview] = {}
        self._unmapped: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)

    def map(
        self,
        address: int,
        size: int,
        fd: int | None,
        offset: int = 0,
        *,
        readable: bool = True,
        writable: bool = True,
    ) -> None:
        """Add a mapping of *size* bytes of the file *fd* from *offset*; without a file it is refused to DMA.

        The caller keeps *fd*. Raises FileExistsError if it overlaps another, ValueError if it is empty, not
        within 64 bits, or longer than the file, and OSError if the file cannot be mapped.
        """
        end = address + size
        if not address < end <= 1 << 64:
            raise ValueError(f"{size} bytes at {address:#x} are no range of addresses")
        index = bisect_right(self._starts, address)
        if (index and self._mappings[index - 1].end > address) or (
            index < len(self._starts) and self._starts[index] < end
        ):
            raise FileExistsError(errno.EEXIST, f"{size} bytes at {address:#x} are mapped already")
        view = None if fd is None else self._view(fd, offset, size)
        self._starts.insert(index, address)
        self._mappings.insert(index, Mapping(address, end, readable, writable, view))

    def _view(self, fd: int, offset: int, size: int) -> memoryview:
        status = os.fstat(fd)
        if offset + size > status.st_size:
            raise ValueError(f"the file has no {size} bytes at {offset:#x}")
        key = (status.st_dev, status.st_ino)
        if key not in self._files:
            self._files[key] = memoryview(mmap.mmap(fd, status.st_size))
        return self._files[key][offset : offset + size]

    def unmap(self, address: int, size: int) -> None:
        """Remove all mappings that touch the range."""
        end = address + size
        first = bisect_right(self._starts, address)
        if first and self._mappings[first - 1].end > address:
            first -= 1
        last = bisect_left(self._starts, end)
        self._unmapped += [(mapping.address, mapping.end) for mapping in self._mappings[first:last]]
        del self._mappings[first:last]
        del self._starts[first:last]

    def unmap_all(self) -> None:
        """Remove all mappings."""
        self.unmap(0, 1 << 64)

    def forget(self) -> None:
        """Remove all mappings, let go of the files, and of what was mapped before."""
        self._starts.clear()
        self._mappings.clear()
        self._files.clear()
        self._unmapped.clear()

    def read(self, address: int, length: int) -> bytes:
        """Return *length* bytes of guest memory; raises DmaOutsideMemory."""
        return b"".join(self._pieces(address, length, writing=False))

    def read_into(self, address: int, target: memoryview) -> None:
        """Read guest memory into *target* without a copy in between; raises DmaOutsideMemory before that."""
        done = 0
        for piece in self._pieces(address, len(target), writing=False):
            target[done : done + len(piece)] = piece
            done += len(piece)

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Write to guest memory; raises DmaOutsideMemory before anything is written."""
        done = 0
        for piece in self._pieces(address, len(data), writing=True):
            piece[:] = data[done : done + len(piece)]
            done += len(piece)

    def _pieces(self, address: int, length: int, *, writing: bool) -> list[memoryview]:
        pieces = []
        at, end = address, address + length
        while at < end:
            index = bisect_right(self._starts, at) - 1
            mapping = self._mappings[index] if index >= 0 else None
            if mapping is None or at >= mapping.end:
                gone = any(start < end and at < stop for start, stop in self._unmapped)
                raise DmaOutsideMemory(address, length, "not mapped", unmapped_before=gone)
            refusal = mapping.refusal(writing=writing)
            if refusal or mapping.view is None:
                raise DmaOutsideMemory(address, length, refusal or "", unmapped_before=False)
            start = at - mapping.address
            pieces.append(mapping.view[start : start + min(end, mapping.end) - at])
            at = min(end, mapping.end)
        return pieces
