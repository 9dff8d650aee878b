"""What stands before and after a tool that ran on a channel: the card's memory, and files."""

from __future__ import annotations

import os
import random
from pathlib import Path

FOLDER = Path("/tmp/tools")
DATA, OUT = FOLDER / "data", FOLDER / "out"


def set_up(node: str, size: int, memory: str | None) -> None:
    """Make DATA of *size* random bytes, no OUT, and the card's memory like DATA or all zeros, or leave it."""
    FOLDER.mkdir(exist_ok=True)
    OUT.unlink(missing_ok=True)
    data = random.Random(size).randbytes(size)
    DATA.write_bytes(data)
    if memory is not None:
        _write(node, data if memory == "data" else bytes(size))


def _write(node: str, data: bytes) -> None:
    descriptor = os.open(node, os.O_RDWR)
    try:
        assert os.pwrite(descriptor, data, 0) == len(data)
    finally:
        os.close(descriptor)


def memory_differs(node: str) -> str:
    """Return where the card's memory differs from DATA, or an empty text."""
    wanted = DATA.read_bytes()
    descriptor = os.open(node, os.O_RDONLY)
    try:
        return _differs(os.pread(descriptor, len(wanted), 0), wanted)
    finally:
        os.close(descriptor)


def file_differs(begin: int, end: int) -> str:
    """Return where OUT differs from DATA's bytes from *begin* to *end*, or an empty text."""
    return _differs(OUT.read_bytes() if OUT.exists() else b"", DATA.read_bytes()[begin:end])


def _differs(found: bytes, wanted: bytes) -> str:
    if found == wanted:
        return ""
    first = next((n for n, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), "the end")
    return f"{len(found)} bytes for {len(wanted)}, different from {first} on"
