"""The guest's memory as the client maps it, with every DMA checked against what is mapped now."""

from __future__ import annotations

import mmap
import os
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass

_REMEMBERED = 4096


class DmaOutsideMemory(Exception):
    """A DMA touches an address that is not mapped, or not for this direction."""

    def __init__(self, address: int, length: int, *, unmapped_before: bool) -> None:
        """Say where, and whether that range was mapped a while ago."""
        super().__init__(f"{length} bytes at {address:#x}")
        self.address = address
        self.length = length
        self.unmapped_before = unmapped_before


@dataclass(frozen=True)
class Mapping:
    """Bus addresses ``address`` to ``address + size``; ``view`` is None for what is not memory."""

    address: int
    size: int
    writable: bool
    view: memoryview | None


class GuestMemory:
    """All mappings of a client."""

    def __init__(self) -> None:
        """Start with nothing mapped."""
        self._starts: list[int] = []
        self._mappings: list[Mapping] = []
        self._files: dict[tuple[int, int], memoryview] = {}
        self._unmapped: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)

    def map(self, address: int, size: int, fd: int | None, offset: int, *, writable: bool) -> None:
        """Add a mapping of *size* bytes of the file *fd* from *offset*; without a file it is refused to DMA.

        Closes *fd*. Raises ValueError if it overlaps another.
        """
        view = None if fd is None else self._file(fd)[offset : offset + size]
        index = bisect_right(self._starts, address)
        after = self._starts[index] if index < len(self._starts) else None
        before = self._mappings[index - 1] if index else None
        if (before and before.address + before.size > address) or (after is not None and address + size > after):
            raise ValueError(f"{size} bytes at {address:#x} are mapped already")
        self._starts.insert(index, address)
        self._mappings.insert(index, Mapping(address, size, writable, view))

    def _file(self, fd: int) -> memoryview:
        status = os.fstat(fd)
        key = (status.st_dev, status.st_ino)
        if key not in self._files:
            self._files[key] = memoryview(mmap.mmap(fd, status.st_size))
        os.close(fd)
        return self._files[key]

    def unmap(self, address: int, size: int) -> None:
        """Remove all mappings within the range."""
        keep = [m for m in self._mappings if m.address + m.size <= address or m.address >= address + size]
        if len(keep) < len(self._mappings):
            self._unmapped.append((address, size))
        self._mappings = keep
        self._starts = [m.address for m in keep]

    def unmap_all(self) -> None:
        """Remove all mappings."""
        self.unmap(0, 1 << 64)

    def read(self, address: int, length: int) -> bytes:
        """Return *length* bytes of guest memory; raises DmaOutsideMemory."""
        return b"".join(self._pieces(address, length, writing=False))

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
            if (
                mapping is None
                or mapping.view is None
                or at >= mapping.address + mapping.size
                or (writing and not mapping.writable)
            ):
                raise DmaOutsideMemory(address, length, unmapped_before=self._was_mapped(at))
            start = at - mapping.address
            pieces.append(mapping.view[start : start + min(end - at, mapping.size - start)])
            at += len(pieces[-1])
        return pieces

    def _was_mapped(self, address: int) -> bool:
        return any(start <= address < start + size for start, size in self._unmapped)
