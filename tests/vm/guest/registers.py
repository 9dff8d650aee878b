"""Registers of a card, read and written past the driver, run in the guest: by the kernel's files of its BARs."""

from __future__ import annotations

import mmap
import os
from pathlib import Path


def _cast(view: memoryview, size: int) -> memoryview[int]:
    """Let a view have elements of so many bytes, so that each is one load or store."""
    match size:
        case 1:
            return view.cast("B")
        case 2:
            return view.cast("H")
        case 4:
            return view.cast("I")
        case _:
            return view.cast("Q")


def _view(address: str, bar: int, size: int) -> memoryview[int]:
    """Map a BAR; a BAR that a driver has taken for itself cannot be mapped. Decoding must be on."""
    folder = Path("/sys/bus/pci/devices") / address
    fd = os.open(folder / f"resource{bar}", os.O_RDWR | os.O_SYNC)
    try:
        return _cast(memoryview(mmap.mmap(fd, os.fstat(fd).st_size)), size)
    finally:
        os.close(fd)


def read(address: str, bar: int, offset: int, size: int = 4) -> int:
    """Read *size* bytes at *offset* of a BAR of the card at a PCI address, by one load."""
    return _view(address, bar, size)[offset // size]
