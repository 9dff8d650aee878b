"""Memory of all kinds for transfers, run in the guest."""

from __future__ import annotations

import array
import ctypes
import itertools
import mmap
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

PAGE = 4096
HUGE = 2 << 20
#: Of scattered pages a mapping has at least so many, and one in so many bytes at most may lie behind the one before; so
#: many tries there are up to such a length.
_SCATTERED_LEAST, _SCATTERED_WELL, _SCATTERED_TRIES, _SCATTERED_AGAIN = 64 * PAGE, 1 << 20, 4, 16 << 20
_MAP_HUGETLB, _MADV_HUGEPAGE, _MADV_NOHUGEPAGE = 0x40000, 14, 15
#: A kernel with PREEMPT_RT has no transparent huge pages, and does not know their advice.
_HAS_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage").exists()
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p

NONE, READ, READ_WRITE = 0, 1, 3
_MAP_SHARED, _MAP_FIXED = 1, 0x10
_MAP_FAILED = ctypes.c_void_p(-1).value


@dataclass
class Buffer:
    """*length* bytes from *address*, which lie in *mapping*; the memory goes with the mapping."""

    mapping: mmap.mmap
    address: int
    length: int
    readonly: bool = False

    def __enter__(self) -> Buffer:
        """Return the buffer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    @property
    def view(self) -> memoryview:
        """The memory; whoever holds it keeps close() from working (BufferError)."""
        start = self.address - address_of(self.mapping)
        view = memoryview(self.mapping)[start : start + self.length]
        return view.toreadonly() if self.readonly else view

    def close(self) -> None:
        """Give the memory back; a second time does nothing."""
        self.mapping.close()

    def unmap(self, start: int, length: int) -> None:
        """Take some pages away, which must not be touched any more.

        The rest is never given back: Python would unmap the hole, too, and what has come to lie in it.
        """
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.mapping))
        unmap(self.address + start, length)

    def protect(self, start: int, length: int, protection: int) -> None:
        """Change the protection of some pages to NONE, READ or READ_WRITE."""
        protect(self.address + start, length, protection)


def address_of(mapping: mmap.mmap) -> int:
    """Return where a writable mapping lies."""
    raw = ctypes.c_char.from_buffer(mapping)
    address = ctypes.addressof(raw)
    del raw
    return address


def anonymous(length: int) -> Buffer:
    """Return private anonymous memory."""
    mapping = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return Buffer(mapping, address_of(mapping), length)


def small_pages(length: int) -> Buffer:
    """Return private memory of 4 KiB pages, all there."""
    mapping = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if _HAS_HUGE_PAGES:
        mapping.madvise(_MADV_NOHUGEPAGE)
    buffer = Buffer(mapping, address_of(mapping), length)
    ctypes.memset(buffer.address, 1, length)
    return buffer


def scattered_pages(length: int) -> Buffer:
    """Return private memory of 4 KiB pages, all there, hardly any two neighbours side by side in the machine's memory.

    The kernel gives them in the order in which they are touched, often side by side; what a transfer costs were luck.
    """
    tried = []  # what is given back would be given again
    for _ in range(_SCATTERED_TRIES if length <= _SCATTERED_AGAIN else 1):
        mapping = mmap.mmap(-1, max(length, _SCATTERED_LEAST), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if _HAS_HUGE_PAGES:
            mapping.madvise(_MADV_NOHUGEPAGE)
        for first in (0, PAGE):
            for place in range(first, len(mapping), 2 * PAGE):
                mapping[place] = 1
        tried.append(Buffer(mapping, address_of(mapping), length))
        if _side_by_side(tried[-1]) <= length // _SCATTERED_WELL:
            break
    return tried[-1]


def _side_by_side(buffer: Buffer) -> int:
    """Return how many of its pages lie right behind the one before, which only root is told."""
    frames = array.array("Q")
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
        pagemap.seek(buffer.address // PAGE * frames.itemsize)
        frames.frombytes(pagemap.read(-(-buffer.length // PAGE) * frames.itemsize))
    return sum(one + 1 == next_ for one, next_ in itertools.pairwise(frames))


def transparent_huge(length: int) -> Buffer:
    """Return private memory that wants huge pages, aligned to them; it gets them where the kernel has any."""
    room = length + -length % HUGE  # there is none at an end that is not whole
    mapping = mmap.mmap(-1, room + HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if _HAS_HUGE_PAGES:
        mapping.madvise(_MADV_HUGEPAGE)
    start = -address_of(mapping) % HUGE
    buffer = Buffer(mapping, address_of(mapping) + start, length)
    ctypes.memset(buffer.address, 0, length)
    return buffer


#: By the benchmark's words for pages, what makes memory of them.
OF_PAGES: dict[str, Callable[[int], Buffer]] = {"small": scattered_pages, "huge": transparent_huge}


def huge_tlb(length: int) -> Buffer:
    """Return memory of reserved huge pages."""
    mapping = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_HUGETLB)
    return Buffer(mapping, address_of(mapping), length)


def memfd(length: int) -> Buffer:
    """Return a shared mapping of a memfd."""
    fd = os.memfd_create("buffer")
    os.ftruncate(fd, length)
    mapping = mmap.mmap(fd, length)
    os.close(fd)
    return Buffer(mapping, address_of(mapping), length)


def file_shared(length: int) -> Buffer:
    """Return a shared mapping of a file."""
    with tempfile.TemporaryFile(dir="/tmp") as file:
        file.truncate(length)
        mapping = mmap.mmap(file.fileno(), length)
    return Buffer(mapping, address_of(mapping), length)


def read_only_file(data: bytes) -> Buffer:
    """Return a shared mapping of a file with *data* that is open for reading alone."""
    buffer = anonymous(len(data))
    with tempfile.NamedTemporaryFile(dir="/tmp") as file:
        file.write(data)
        file.flush()
        fd = os.open(file.name, os.O_RDONLY)
        _map_over(buffer.address, len(data), READ, fd)
        os.close(fd)
    buffer.readonly = True
    return buffer


def straddling(length: int) -> Buffer:
    """Return two mappings side by side: private anonymous memory, and from the middle page on a memfd's."""
    buffer = anonymous(length)
    half = length // 2 // PAGE * PAGE
    fd = os.memfd_create("buffer")
    os.ftruncate(fd, length - half)
    _map_over(buffer.address + half, length - half, READ_WRITE, fd)
    os.close(fd)
    return buffer


def _map_over(address: int, length: int, protection: int, fd: int, offset: int = 0) -> None:
    """Put a shared mapping of a file where another mapping is."""
    place = ctypes.c_void_p(address), ctypes.c_size_t(length)
    if _libc.mmap(*place, protection, _MAP_SHARED | _MAP_FIXED, fd, ctypes.c_long(offset)) != address:
        raise OSError(ctypes.get_errno(), "mmap")


def _libc_mmap(length: int, protection: int, flags: int, fd: int) -> int:
    address = _libc.mmap(None, ctypes.c_size_t(length), protection, flags, fd, ctypes.c_long(0))
    if address in (None, _MAP_FAILED):
        raise OSError(ctypes.get_errno(), "mmap")
    return int(address)


def shared_of(fd: int, length: int, offset: int) -> Buffer:
    """Return a part of a file, mapped shared; unlike an mmap object of Python's it keeps no descriptor of it."""
    buffer = anonymous(length)
    _map_over(buffer.address, length, READ_WRITE, fd, offset)
    return buffer


def protect(address: int, length: int, protection: int) -> None:
    """Change the protection of some pages."""
    if _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(length), protection):
        raise OSError(ctypes.get_errno(), "mprotect")


def unmap(address: int, length: int) -> None:
    """Take some pages away."""
    if _libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(length)):
        raise OSError(ctypes.get_errno(), "munmap")


def vector_of(areas: Sequence[tuple[int, int]]) -> ctypes.Array[ctypes.c_uint64]:
    """Return the array of ``struct iovec`` for areas, each an address and a length."""
    return (ctypes.c_uint64 * (2 * len(areas)))(*(word for area in areas for word in area))


def reserve_huge_pages(count: int) -> int:
    """Ask the kernel for huge pages; returns how many there are."""
    path = Path("/proc/sys/vm/nr_hugepages")
    path.write_text(str(count))
    return int(path.read_text())
