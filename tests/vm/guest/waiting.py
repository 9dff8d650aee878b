"""Many short requests, each waited for, run in the guest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pciedma
from pciedma import uapi
from pciedma_lab.guest import buffers

from .entries import C2H, batch, entry
from .shared import create


def _counts(folder: Path) -> dict[str, int]:
    return {name: int((folder / name).read_text()) for name in ("looks", "poll_misses")}


def _reader(channel: pciedma.Channel, buffer: buffers.Buffer, way: str) -> Callable[[], int]:
    """Return what reads once, by a call or by a TRANSFER of one entry, and returns the bytes that have moved."""
    if way == "read":
        return lambda: channel.readinto(buffer.view, 0)
    made = create(channel.fileno(), buffer.length, type=uapi.PCIEDMA_BUFFER_USER, address=buffer.address)
    parts = [entry(C2H, made.id, 0, buffer.length)]
    return lambda: batch(channel.fileno(), parts)[1][0][1]


def reads(
    path: str, count: int, length: int, wait_mode: str, spin_us: int, scattered: bool = False, way: str = "read",
) -> dict[str, Any]:
    """Read again and again by a wait mode, adaptive waiting spinning for so long; returns how the ends were found."""
    folder = Path("/sys/class/pciedma") / Path(path).name / "c2h"
    spin = (folder / "spin_us").read_text()
    before = _counts(folder)
    moved = set()
    (folder / "spin_us").write_text(str(spin_us))
    try:
        with pciedma.Channel(path) as channel:
            channel.wait_mode = pciedma.WaitMode[wait_mode]
            buffer = (buffers.scattered_pages if scattered else buffers.small_pages)(length)
            read = _reader(channel, buffer, way)
            for _ in range(count):
                moved.add(read())
    finally:
        (folder / "spin_us").write_text(spin)
    counts = {name: count - before[name] for name, count in _counts(folder).items()}
    return {"moved": sorted(moved), **counts}
