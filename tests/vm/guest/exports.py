"""Buffers that other devices have, and theirs, run in the guest."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import random
from pathlib import Path
from typing import Any

import pciedma
from pciedma import uapi
from pciedma_lab.guest import buffers

from . import shared
from .buffer_faults import Case, held, moves, unlike
from .entries import C2H, H2C, batch, entry
from .shared import Outcome, said

_HEAP_ALLOC = 0xC0184800  # DMA_HEAP_IOCTL_ALLOC: u64 len, u32 fd, u32 fd_flags, u64 heap_flags
_UDMABUF_CREATE = 0x40187542  # u32 memfd, u32 flags, u64 offset, u64 size


class _Heap(ctypes.Structure):
    _fields_ = [("len", ctypes.c_uint64), ("fd", ctypes.c_uint32), ("flags", ctypes.c_uint32),
                ("heap", ctypes.c_uint64)]  # fmt: skip


class _Udmabuf(ctypes.Structure):
    _fields_ = [("memfd", ctypes.c_uint32), ("flags", ctypes.c_uint32), ("offset", ctypes.c_uint64),
                ("size", ctypes.c_uint64)]  # fmt: skip


def export(fd: int, number: int) -> int:
    """Have a buffer exported; returns the descriptor."""
    asked = uapi.pciedma_buffer_export(id=number)
    fcntl.ioctl(fd, uapi.PCIEDMA_IOC_BUFFER_EXPORT, asked)
    number_of_file: int = asked.fd
    return number_of_file


def imported(fd: int, dmabuf: int) -> uapi.pciedma_buffer_create:
    """Have a buffer made of a dma-buf."""
    return shared.create(fd, 0, type=uapi.PCIEDMA_BUFFER_DMABUF, fd=dmabuf)


def card_to_card(source: str, sink: str, size: int) -> list[Any]:
    """Move *size* bytes from one card to another through one exported buffer; returns what was wrong."""
    wrong: list[Any] = []
    data = random.Random(1).randbytes(size)
    with pciedma.Channel(source) as one, pciedma.Channel(sink) as other:
        made = shared.create(one.fileno(), size)
        dmabuf = export(one.fileno(), made.id)
        there = imported(other.fileno(), dmabuf)
        if there.size != size:
            wrong.append(("size", there.size))
        with mmap.mmap(one.fileno(), size, offset=made.mmap_offset) as memory:
            memory[:] = data
            wrong += _unless_whole(batch(one.fileno(), [entry(H2C, made.id, 0, size)]), size)
            memory[:] = bytes(size)
        wrong += _unless_whole(batch(one.fileno(), [entry(C2H, made.id, 0, size)]), size)
        wrong += _unless_whole(batch(other.fileno(), [entry(H2C, there.id, 0, size)]), size)
        os.close(dmabuf)
        shared.destroy(one.fileno(), made.id)
        if other.read(size, 0) != data:
            wrong.append("the data")
    return wrong


def _unless_whole(result: tuple[int, list[tuple[int, int, int]]], size: int) -> list[Any]:
    return [] if result == (1, [(0, size, 0)]) else [result]


def _heap(size: int) -> int:
    asked = _Heap(size, 0, os.O_RDWR | os.O_CLOEXEC, 0)
    fd = os.open("/dev/dma_heap/system", os.O_RDWR)
    try:
        fcntl.ioctl(fd, _HEAP_ALLOC, asked)
    finally:
        os.close(fd)
    number: int = asked.fd
    return number


def _udmabuf(size: int) -> int:
    memfd = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.ftruncate(memfd, size)
    fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    fd = os.open("/dev/udmabuf", os.O_RDWR)
    try:
        number: int = fcntl.ioctl(fd, _UDMABUF_CREATE, _Udmabuf(memfd, 0, 0, size))
        return number
    finally:
        os.close(fd)
        os.close(memfd)


_EXPORTERS = {"heap": _heap, "udmabuf": _udmabuf}


def some(size: int) -> int | None:
    """Return memory of another exporter's, if the kernel has one."""
    return _heap(size) if Path("/dev/dma_heap/system").exists() else None


def foreign(path: str, exporter: str, size: int) -> list[Any]:
    """Write the card from a buffer of another exporter's, and read it back into that; returns what was wrong."""
    wrong: list[Any] = []
    data = random.Random(2).randbytes(size)
    dmabuf = _EXPORTERS[exporter](size)
    with pciedma.Channel(path) as channel, mmap.mmap(dmabuf, size) as memory:
        made = imported(channel.fileno(), dmabuf)
        memory[:] = data
        wrong += _unless_whole(batch(channel.fileno(), [entry(H2C, made.id, 0, size)]), size)
        memory[:] = bytes(size)
        wrong += _unless_whole(batch(channel.fileno(), [entry(C2H, made.id, 0, size)]), size)
        if memory[:] != data:
            wrong.append("the data")
        os.close(dmabuf)
    return wrong


def refused(path: str, other: str, kinds: list[str]) -> dict[str, Outcome]:
    """Try to have a card know memory of some kinds, 64 MiB of the program's own; returns what that says."""
    area = buffers.anonymous(64 << 20)
    ctypes.memset(area.address, 1, area.length)
    with pciedma.Channel(path) as channel, pciedma.Channel(other) as exporter:
        dmabuf = export(exporter.fileno(), shared.create(exporter.fileno(), 4096).id)
        asked = {
            "new": uapi.pciedma_buffer_create(flags=shared.BOTH, type=uapi.PCIEDMA_BUFFER_NEW, size=4096),
            "user": uapi.pciedma_buffer_create(
                flags=shared.BOTH, type=uapi.PCIEDMA_BUFFER_USER, size=area.length, address=area.address),
            "dmabuf": uapi.pciedma_buffer_create(flags=shared.BOTH, type=uapi.PCIEDMA_BUFFER_DMABUF, fd=dmabuf),
        }
        found = {kind: said(channel.fileno(), "BUFFER_CREATE", asked[kind]) for kind in kinds}
        os.close(dmabuf)
    return found


_PROBE = ("good", "attach fails", "pin fails", "map fails", "map has no memory", "too short", "in pieces")
_PROBE_SIZE = 16 * 4096
_PROBE_MOVE = 1


def misbehaving(path: str) -> list[str]:
    """Import memory of an exporter that refuses, or gives less than it says, or in odd pieces, or takes it away."""
    cases: list[Case] = []
    wanted = {"good": 0, "in pieces": 0, "map has no memory": "ENOMEM"}
    probe = os.open("/dev/pciedma_exporter", os.O_RDWR)
    with pciedma.Channel(path) as channel:
        fd = channel.fileno()
        for number, name in enumerate(_PROBE):
            dmabuf = fcntl.ioctl(probe, 0, number)
            asked = uapi.pciedma_buffer_create(flags=shared.BOTH, type=uapi.PCIEDMA_BUFFER_DMABUF, fd=dmabuf)
            cases.append((name, wanted.get(name, "ENOTSUP"), said(fd, "BUFFER_CREATE", asked)))
            if name in ("good", "in pieces"):
                with mmap.mmap(dmabuf, _PROBE_SIZE) as memory:
                    cases += _moved_about(channel, asked.id, memory, name)
            if name == "good":
                fcntl.ioctl(probe, _PROBE_MOVE, dmabuf)
                cases += [("moved away", "EIO", moves(fd, [entry(H2C, asked.id, 0, 4096)])),
                          ("submitted", "EIO", moves(fd, [entry(C2H, asked.id, 0, 4096)], submit=True))]
            os.close(dmabuf)
        cases.append(("held", 2, held(fd)[0]))
    os.close(probe)
    return unlike(cases)


def _moved_about(channel: pciedma.Channel, number: int, memory: mmap.mmap, name: str) -> list[Case]:
    """Move parts that begin and end anywhere, one call for each and all in one."""
    cases: list[Case] = []
    data = random.Random(3).randbytes(_PROBE_SIZE)
    memory[:] = data
    places = [(0, _PROBE_SIZE), (1, 4095), (4, 4), (4095, 2), (5000, 12345), (_PROBE_SIZE - 5, 5)]
    for offset, length in places:
        cases += [(f"{name} write {offset} {length}", 1, moves(channel.fileno(), [entry(H2C, number, offset, length)])),
                  (f"{name} wrote {offset} {length}", data[offset : offset + length], channel.read(length, 0))]
    channel.write(data, 0)
    memory[:] = bytes(_PROBE_SIZE)
    starts = range(0, _PROBE_SIZE, 777)
    parts = [entry(C2H, number, start, min(777, _PROBE_SIZE - start), start) for start in starts]
    cases += [(f"{name} reads", len(parts), moves(channel.fileno(), parts)), (f"{name} what", data, memory[:])]
    return cases
