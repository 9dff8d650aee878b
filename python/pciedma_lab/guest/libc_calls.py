"""Reading and writing by libc, which repeats nothing: the count or the errno's name."""

from __future__ import annotations

import ctypes
import errno

_libc = ctypes.CDLL(None, use_errno=True)
_libc.pread.restype = _libc.pwrite.restype = ctypes.c_ssize_t


def pread(fd: int, address: int, length: int, offset: int) -> int | str:
    """Read from *offset* of the file to *address*."""
    return result_of(_libc.pread(fd, ctypes.c_void_p(address), ctypes.c_size_t(length), ctypes.c_long(offset)))


def pwrite(fd: int, address: int, length: int, offset: int) -> int | str:
    """Write to *offset* of the file from *address*."""
    return result_of(_libc.pwrite(fd, ctypes.c_void_p(address), ctypes.c_size_t(length), ctypes.c_long(offset)))


def result_of(value: int) -> int | str:
    """Return what a call has returned, or the name of the errno that it has left."""
    return value if value >= 0 else errno.errorcode[ctypes.get_errno()]
