"""Memory of all kinds for transfers, run in the guest."""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PAGE = 4096
HUGE = 2 << 20
_MAP_HUGETLB, _MADV_HUGEPAGE, _MADV_NOHUGEPAGE = 0x40000, 14, 15
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Buffer:
    """*length* bytes from *address*; ``view`` is the memory, read-only if the mapping is."""

    mapping: mmap.mmap
    address: int
    length: int

    @property
    def view(self) -> memoryview:
        """The memory."""
        return memoryview(self.mapping)


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
    mapping.madvise(_MADV_NOHUGEPAGE)
    buffer = Buffer(mapping, address_of(mapping), length)
    ctypes.memset(buffer.address, 1, length)
    return buffer


def transparent_huge(length: int) -> Buffer:
    """Return private memory that wants huge pages, aligned to them."""
    mapping = mmap.mmap(-1, length + HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    mapping.madvise(_MADV_HUGEPAGE)
    start = -address_of(mapping) % HUGE
    buffer = Buffer(mapping, address_of(mapping) + start, length)
    ctypes.memset(buffer.address, 0, length)
    return buffer


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


@contextmanager
def read_only_file(data: bytes) -> Iterator[Buffer]:
    """Give a shared read-only mapping of a file with *data*."""
    with tempfile.NamedTemporaryFile(dir="/tmp") as file:
        file.write(data)
        file.flush()
        with Path(file.name).open("rb") as again:
            address = _libc_mmap(len(data), 1, 1, again.fileno())
            mapping = mmap.mmap(again.fileno(), len(data), prot=mmap.PROT_READ)
            yield Buffer(mapping, address, len(data))
            _libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(len(data)))


def _libc_mmap(length: int, protection: int, flags: int, fd: int) -> int:
    _libc.mmap.restype = ctypes.c_void_p
    address = _libc.mmap(None, ctypes.c_size_t(length), protection, flags, fd, ctypes.c_long(0))
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "mmap")
    return int(address)


def protect(address: int, length: int, protection: int) -> None:
    """Change the protection of some pages."""
    if _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(length), protection):
        raise OSError(ctypes.get_errno(), "mprotect")


def unmap(address: int, length: int) -> None:
    """Take some pages away."""
    if _libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(length)):
        raise OSError(ctypes.get_errno(), "munmap")


def reserve_huge_pages(count: int) -> int:
    """Ask the kernel for huge pages; returns how many there are."""
    path = Path("/proc/sys/vm/nr_hugepages")
    path.write_text(str(count))
    return int(path.read_text())
