"""What the benchmark measures: the chosen rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

KIB, MIB = 1 << 10, 1 << 20
#: From a few bytes to as much as one call is asked for.
LENGTHS = [64, 512, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB]


@dataclass(frozen=True)
class Case:
    """The parameters of a row.

    ``boot`` is "off" or "strict", the state of the IOMMU, or "icount": a machine with the IOMMU strict whose clock
    counts instructions. ``path`` is "copy" (through a DMA buffer) or "direct" (the user's pages). ``pages`` are "small"
    (4 KiB) or "huge" (2 MiB). ``way`` is "sync" (pread, pwrite), "io_uring" or "io_uring_fixed" (registered buffers).
    """

    boot: str
    length: int
    direction: str = "read"
    path: str = "direct"
    channels: int = 1
    wait_mode: str = "ADAPTIVE"
    pages: str = "small"
    way: str = "sync"
    depth: int = 1


def cases(boot: str) -> list[Case]:
    """Return the rows of one boot."""
    return _counted() if boot == "icount" else _timed(boot)


def _timed(boot: str) -> list[Case]:
    plain = Case(boot, 0)
    reads = [replace(plain, length=length, path=path) for length in LENGTHS for path in ("copy", "direct")]
    writes = [replace(plain, length=length, direction="write") for length in (4 * KIB, 64 * KIB, MIB, 256 * MIB)]
    waits = [
        replace(plain, length=length, wait_mode=mode)
        for length in (64, 4 * KIB, 64 * KIB, MIB)
        for mode in ("INTERRUPT", "POLL")
    ]
    huge = [replace(plain, length=length, pages="huge") for length in (64 * KIB, MIB, 16 * MIB, 256 * MIB)]
    four = [replace(plain, length=length, channels=4) for length in (64 * KIB, MIB, 16 * MIB)]
    deep = replace(plain, way="io_uring", depth=8)
    queued = [replace(deep, length=length) for length in (4 * KIB, 64 * KIB, MIB, 16 * MIB)]
    queued += [replace(deep, length=length, pages="huge") for length in (64 * KIB, MIB)]
    queued += [replace(deep, length=64 * KIB, way="io_uring_fixed"), replace(deep, length=MIB, channels=4)]
    return reads + writes + waits + huge + four + queued


def _counted() -> list[Case]:
    """By interrupt: what a poller executes while it waits depends on how fast the model is."""
    plain = Case("icount", 0, wait_mode="INTERRUPT")
    lengths = [64, 512, KIB, 2 * KIB, 4 * KIB, 8 * KIB, 16 * KIB, 64 * KIB, MIB]
    reads = [replace(plain, length=length, path=path) for length in lengths for path in ("copy", "direct")]
    writes = [replace(plain, length=length, direction="write", path=path)
              for length in (4 * KIB, 64 * KIB) for path in ("copy", "direct")]  # fmt: skip
    huge = [replace(plain, length=length, pages="huge") for length in (64 * KIB, MIB)]
    deep = replace(plain, way="io_uring", depth=8)
    return [*reads, *writes, *huge, *(replace(deep, length=length) for length in (4 * KIB, 64 * KIB, MIB))]
