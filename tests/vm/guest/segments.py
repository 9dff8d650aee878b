"""Vectors of pieces of which each begins where it is told to, run in the guest."""

from __future__ import annotations

import mmap
import os

import pciedma


def vector_there_and_back(path: str, pieces: list[list[int]], seed: int = 1) -> bool:
    """Write pieces (offset in memory, length) with one call, read them back, and return whether all was right."""
    end = max(offset + length for offset, length in pieces)
    total = sum(length for _, length in pieces)
    data = bytes((seed + number * 7 + (number >> 8)) & 0xFF for number in range(end))
    with mmap.mmap(-1, end) as memory, pciedma.Channel(path) as channel:
        memory[:] = data
        views = [memoryview(memory)[offset : offset + length] for offset, length in pieces]
        wrote = os.pwritev(channel.fileno(), views, 0)
        for view in views:
            view[:] = bytes(len(view))
        read = os.preadv(channel.fileno(), views, 0)
        for view in views:
            view.release()
        return wrote == read == total and memory[:] == data
