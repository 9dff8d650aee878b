"""The kernel's own tracing as a witness, run in the guest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pciedma

TRACING = Path("/sys/kernel/tracing")


def _put(name: str, text: str) -> None:
    (TRACING / name).write_text(text)


@contextmanager
def _events(*patterns: str) -> Iterator[None]:
    _put("buffer_size_kb", "8192")
    for pattern in patterns:
        _put(f"events/{pattern}/enable", "1")
    _put("trace", "")
    _put("tracing_on", "1")
    try:
        yield
    finally:
        _put("tracing_on", "0")
        for pattern in patterns:
            _put(f"events/{pattern}/enable", "0")


def _lines(pid: int | None = None) -> list[str]:
    lines = [line for line in (TRACING / "trace").read_text().splitlines() if not line.startswith("#")]
    return [line for line in lines if pid is None or f"-{pid} " in line.split("[")[0]]


def allocations(path: str, count: int, length: int = 1000) -> dict[str, Any]:
    """Count allocations from the pciedma modules: during messages, and during an open, which must show."""
    with pciedma.Channel(path) as channel:
        area = bytearray(length)
        with _events("kmem"):
            for _ in range(count):
                channel.write(area)
                channel.readinto(area)
        lines = _lines()
        allocated = [line for line in lines if "alloc" in line and "call_site=" in line]
        ours = [line for line in allocated if "[pciedma" in line.split("call_site=")[1].split(" ptr=")[0]]
        with _events("kmem"), pciedma.Channel(path):
            pass
        control = [line for line in _lines() if "[pciedma" in line and "alloc" in line]
    return {"seen": len(lines), "ours": ours[:5], "control": len(control)}


def transfer_events(path: str) -> list[str]:
    """Return the names of the driver's events during one message, in order."""
    with pciedma.Channel(path) as channel:
        channel.write(b"x")
        with _events("pciedma"):
            channel.write(b"xyz")
        return [line.split(": ")[1] for line in _lines()]
