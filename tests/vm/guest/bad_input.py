"""Calls that a careful program would not make, run in the guest."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
from typing import Any

from pciedma import uapi

_libc = ctypes.CDLL(None, use_errno=True)
_libc.read.restype = _libc.write.restype = ctypes.c_ssize_t
_PAGE = 4096
_PROT_NONE, _PROT_READ, _PROT_RW = 0, 1, 3
_libc.mmap.restype = ctypes.c_void_p


def _map(pages: int, protection: int) -> int:
    address = _libc.mmap(None, ctypes.c_size_t(pages * _PAGE), protection, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    return int(address)


def _call(function: Any, fd: int, address: int, length: int) -> int | str:
    result = function(fd, ctypes.c_void_p(address), ctypes.c_size_t(length))
    return int(result) if result >= 0 else errno.errorcode[ctypes.get_errno()]


def raw_calls(path: str) -> dict[str, int | str]:
    """Read and write with unsuitable memory; returns the result or the errno's name of each."""
    fd = os.open(path, os.O_RDWR)
    good = _map(2, _PROT_RW)
    ctypes.memset(good, 0x5A, 2 * _PAGE)
    half = _map(2, _PROT_RW)
    _libc.mprotect(ctypes.c_void_p(half + _PAGE), ctypes.c_size_t(_PAGE), _PROT_NONE)
    read_only, nothing = _map(1, _PROT_READ), _map(1, _PROT_NONE)
    unmapped = _map(1, _PROT_RW)
    _libc.munmap(ctypes.c_void_p(unmapped), ctypes.c_size_t(_PAGE))
    cases = {
        "count_0": (good, 0),
        "count_0_null": (0, 0),
        "null": (0, 100),
        "unmapped": (unmapped, 100),
        "no_access": (nothing, 100),
        "read_only": (read_only, 100),
        "straddling": (half + _PAGE - 50, 100),
        "odd": (good + 1, 33),
        "page_end": (good + _PAGE - 7, 100),
        "longest": (good + 3, 2047),
        "too_long": (good, 2048),
        "huge": (good, 1 << 24),
    }
    results = {}
    for name, (address, length) in cases.items():
        results[f"write_{name}"] = _call(_libc.write, fd, address, length)
        results[f"read_{name}"] = _call(_libc.read, fd, address, length)
    os.close(fd)
    return results


def _ioctl(fd: int, request: int, argument: Any) -> str:
    try:
        fcntl.ioctl(fd, request, argument)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "ok"


def _spoilt(structure: type[ctypes.Structure]) -> dict[str, ctypes.Structure]:
    """Return a structure for each flags or reserved field, and each element of it, with just that not 0."""
    found = {}

    def visit(kind: type[ctypes.Structure], base: int, prefix: str) -> None:
        for field in kind._fields_:
            name, part = field[0], field[1]
            offset = base + getattr(kind, name).offset
            if issubclass(part, ctypes.Structure):
                visit(part, offset, f"{prefix}{name}.")
            elif name == "reserved" or (name == "flags" and not prefix):
                for at in range(offset, offset + ctypes.sizeof(part), 4):
                    spoilt = structure()
                    ctypes.c_uint32.from_address(ctypes.addressof(spoilt) + at).value = 0x80000000
                    found[f"{prefix}{name}@{at - offset}"] = spoilt

    visit(structure, 0, "")
    return found


def bad_ioctls(card: str, channel: str) -> dict[str, str]:
    """Try every ioctl with each field spoilt, unknown ioctls, and bad values; returns errno names."""
    results = {}
    nodes = {"card": os.open(card, os.O_RDWR), "channel": os.open(channel, os.O_RDWR)}
    ioctls = [
        ("card", "CARD_INFO", uapi.pciedma_card_info),
        ("channel", "CARD_INFO", uapi.pciedma_card_info),
        ("channel", "CHANNEL_INFO", uapi.pciedma_channel_info),
        ("channel", "GET_WAIT", uapi.pciedma_wait),
        ("channel", "SET_WAIT", uapi.pciedma_wait),
        ("channel", "CANCEL", uapi.pciedma_cancel),
        ("card", "RESET", uapi.pciedma_reset),
        ("card", "GET_EVENTS", uapi.pciedma_events),
    ]
    for node, name, structure in ioctls:
        request = getattr(uapi, f"PCIEDMA_IOC_{name}")
        for field, spoilt in _spoilt(structure).items():
            results[f"{node} {name} {field}"] = _ioctl(nodes[node], request, spoilt)
        results[f"{node} {name} NULL"] = "EFAULT" if _libc.ioctl(nodes[node], ctypes.c_ulong(request), None) else "ok"
        results[f"{node} {name} good"] = _ioctl(nodes[node], request, structure())
    results["mode"] = _ioctl(nodes["channel"], uapi.PCIEDMA_IOC_SET_WAIT, uapi.pciedma_wait(mode=3))
    results["timeout"] = _ioctl(nodes["channel"], uapi.PCIEDMA_IOC_SET_WAIT, uapi.pciedma_wait(timeout_ns=-2))
    results["unknown"] = _ioctl(nodes["channel"], uapi.PCIEDMA_IOC_RESET + 0x40, bytearray(64))
    results["unknown size"] = _ioctl(nodes["card"], uapi.PCIEDMA_IOC_RESET + (4 << 16), bytearray(64))
    results["channel RESET"] = _ioctl(nodes["channel"], uapi.PCIEDMA_IOC_RESET, uapi.pciedma_reset())
    read_only = os.open(card, os.O_RDONLY)
    results["read-only RESET"] = _ioctl(read_only, uapi.PCIEDMA_IOC_RESET, uapi.pciedma_reset())
    for fd in (read_only, *nodes.values()):
        os.close(fd)
    return results


def bad_window_ioctls(path: str) -> dict[str, str]:
    """Try a window's ioctls with each field spoilt; returns errno names."""
    fd = os.open(path, os.O_RDWR)
    results = {}
    for name, structure in (("CARD_INFO", uapi.pciedma_card_info), ("WINDOW_INFO", uapi.pciedma_window_info)):
        request = getattr(uapi, f"PCIEDMA_IOC_{name}")
        for field, spoilt in _spoilt(structure).items():
            results[f"{name} {field}"] = _ioctl(fd, request, spoilt)
    results["NULL"] = "EFAULT" if _libc.ioctl(fd, ctypes.c_ulong(uapi.PCIEDMA_IOC_WINDOW_INFO), None) else "ok"
    results["good"] = _ioctl(fd, uapi.PCIEDMA_IOC_WINDOW_INFO, uapi.pciedma_window_info())
    os.close(fd)
    return results


def positions(path: str, size: int) -> dict[str, int | str]:
    """Read and write a memory channel around its end."""
    fd = os.open(path, os.O_RDWR)
    results: dict[str, int | str] = {}
    for name, offset, length in (("at_end", size, 10), ("behind", size + 4096, 10), ("across", size - 10, 100),
                                 ("far", (1 << 63) - 4096, 10)):
        for direction in ("read", "write"):
            try:
                moved = (
                    len(os.pread(fd, length, offset)) if direction == "read" else os.pwrite(fd, bytes(length), offset)
                )
                results[f"{direction}_{name}"] = moved
            except OSError as error:
                results[f"{direction}_{name}"] = errno.errorcode[error.errno or 0]
    results["seek_end"] = os.lseek(fd, 0, os.SEEK_END)
    try:
        os.lseek(fd, -1, os.SEEK_SET)
        results["seek_negative"] = "ok"
    except OSError as error:
        results["seek_negative"] = errno.errorcode[error.errno or 0]
    os.close(fd)
    return results
