"""Buffers that user space and the card share, run in the guest."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pciedma
from pciedma import uapi

BOTH = uapi.PCIEDMA_BUFFER_C2H | uapi.PCIEDMA_BUFFER_H2C
PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long  # all that the kernel returns
_IOCTL = ctypes.c_long(16)

Outcome = int | str


def said(fd: int, name: str, argument: Any) -> Outcome:
    """Make an ioctl once; its argument may be an address."""
    request = ctypes.c_ulong(getattr(uapi, f"PCIEDMA_IOC_{name}"))
    place = ctypes.c_void_p(argument) if isinstance(argument, int) else ctypes.byref(argument)
    result: int = _libc.syscall(_IOCTL, ctypes.c_long(fd), request, place)
    return result if result >= 0 else errno.errorcode[ctypes.get_errno()]


def create(channel: int, size: int, **fields: Any) -> uapi.pciedma_buffer_create:
    """Have a buffer made; other fields as they are given."""
    asked = uapi.pciedma_buffer_create(**{"flags": BOTH, "type": uapi.PCIEDMA_BUFFER_NEW, "size": size, **fields})
    fcntl.ioctl(channel, uapi.PCIEDMA_IOC_BUFFER_CREATE, asked)
    return asked


def destroy(fd: int, number: int, **fields: Any) -> None:
    """Have its id forgotten."""
    fcntl.ioctl(fd, uapi.PCIEDMA_IOC_BUFFER_DESTROY, uapi.pciedma_buffer_destroy(id=number, **fields))


@contextmanager
def mapped(fd: int, size: int) -> Iterator[mmap.mmap]:
    """Have a buffer made and mapped, and its id forgotten."""
    made = create(fd, size)
    with mmap.mmap(fd, made.size, offset=made.mmap_offset) as memory:
        destroy(fd, made.id)
        yield memory


def there_and_back(path: str, size: int, cases: list[tuple[int, int]], *, seed: int = 1) -> list[str]:
    """Write from, and read into parts (offset, length) of one buffer; returns what was wrong."""
    rng = random.Random(seed)
    wrong = []
    with pciedma.Channel(path) as channel, mapped(channel.fileno(), size) as memory:
        if memory[:].count(0) != size:
            wrong.append("it is not zeroed")
        address = 0 if channel.kind is pciedma.Kind.MEMORY else None
        for offset, length in cases:
            data = rng.randbytes(length)
            with memoryview(memory)[offset : offset + length] as part:
                part[:] = data
                wrote = channel.write(part, address)
                part[:] = bytes(length)
                read = channel.readinto(part, address)
                if (wrote, read, bytes(part)) != (length, length, data):
                    wrong.append(f"{length} bytes at {offset}: wrote {wrote}, read {read}, {bytes(part) == data}")
    return wrong
