"""What the benchmark measures: the chosen rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

KIB, MIB = 1 << 10, 1 << 20
PAGE = 4 * KIB
#: From a few bytes to as much as one call is asked for.
LENGTHS = [64, 512, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB]
#: The machines that measure: the state of the IOMMU, and of two whether the clock counts instructions.
BOOTS = ("off", "strict", "icount-off", "icount")
#: As many as an engine has at work, one more, and beyond.
DEPTHS = (1, 8, 9, 32, 128)

TIMES = ("link_mb_s", "throughput_mb_s", "share", "p50_us", "p99_us", "idle_share")
INSTRUCTIONS = ("instructions", "instructions_all", "instructions_page")
#: What a row has beside its parameters and the kernel, in this order.
FIGURES = (*TIMES, *INSTRUCTIONS, "requests", "mmio_reads", "mmio_writes", "interrupts", "descriptors")


@dataclass(frozen=True)
class Case:
    """The parameters of a row.

    ``boot`` is "off" or "strict", the state of the IOMMU, or "icount-off" or "icount": a machine of one processor, with
    the IOMMU off or strict, whose clock counts instructions. ``path`` is "copy" (through a DMA buffer) or "direct" (the
    user's pages). ``pages`` are "small" (4 KiB), "huge" (2 MiB) or "shared" (a mapped buffer of the channel's).
    ``way`` is "sync" (pread, pwrite), "aio", "io_uring", "io_uring_fixed" (buffers registered with io_uring) or
    "transfer" (parts of a buffer of the channel's, in one call for all of a batch), or Python's: "readinto", and
    "asyncio" with a task for each.
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

    @property
    def is_counted(self) -> bool:
        """Whether its figures are instructions, and not times."""
        return self.boot.startswith("icount")

    @property
    def has_iommu(self) -> bool:
        """Whether the machine has an IOMMU."""
        return self.boot in ("strict", "icount")

    @property
    def requests(self) -> int:
        """How many of them are counted, in all rounds."""
        return 1000 if self.length < MIB else 100 if self.length <= 16 * MIB else 4

    @property
    def name(self) -> str:
        """All parameters in one word, as ``icount-off/read/4KiB/direct/small/interrupt/aio-8``."""
        words = [self.boot, self.direction, size(self.length).replace(" ", ""), self.path, self.pages]
        words += [self.wait_mode.lower(), self.way if self.way == "sync" else f"{self.way}-{self.depth}"]
        return "/".join([*words, *([f"{self.channels}ch"] if self.channels > 1 else [])])


def size(length: int) -> str:
    """Return a length in the unit that makes it short."""
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if length >= factor:
            return f"{length / factor:g} {unit}"
    return f"{length} B"


def cases(boot: str, patterns: Sequence[str] = ()) -> list[Case]:
    """Return the rows of one boot; with *patterns*, as a shell has them, those whose names fit one."""
    every = _counted(boot) if boot.startswith("icount") else _timed(boot)
    return [case for case in every if not patterns or any(fnmatchcase(case.name, one) for one in patterns)]


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


def _counted(boot: str) -> list[Case]:
    """By interrupt: what a poller executes while it waits depends on how fast the model is."""
    plain = Case(boot, 0, wait_mode="INTERRUPT")
    usual = [replace(plain, length=length) for length in (64, 4 * KIB, 64 * KIB, MIB)]
    huge = [replace(case, pages="huge") for case in usual]
    long = replace(plain, length=256 * MIB)
    queued = [replace(plain, length=4 * KIB, way=way, depth=depth) for way in ("aio", "io_uring") for depth in DEPTHS]
    mapped = [replace(case, pages="shared") for case in usual]
    parts = [replace(case, way="transfer", pages=pages) for case in usual for pages in ("small", "shared")]
    parts.append(replace(plain, length=4 * MIB, way="transfer", pages="shared"))
    parts += [replace(plain, length=4 * KIB, way="transfer", pages="shared", depth=depth) for depth in (8, 32, 256)]
    queued += [replace(plain, length=4 * KIB, way=way, depth=8, pages="shared") for way in ("aio", "io_uring")]
    python = [replace(plain, length=4 * KIB, way="readinto", pages=pages) for pages in ("small", "shared")]
    python.append(replace(plain, length=4 * KIB, way="asyncio", depth=1000, pages="shared"))
    if boot == "icount-off":
        return [*usual, *huge, long, *queued, *mapped, *parts]
    lengths = [64, 512, KIB, 2 * KIB, 4 * KIB, 8 * KIB, 16 * KIB, 64 * KIB, MIB]
    reads = [replace(plain, length=length, path=path) for length in lengths for path in ("copy", "direct")]
    writes = [replace(plain, length=length, direction="write", path=path)
              for length in (4 * KIB, 64 * KIB) for path in ("copy", "direct")]  # fmt: skip
    deep = [replace(plain, length=length, way="io_uring", depth=8) for length in (64 * KIB, MIB)]
    return [*reads, *writes, *huge, long, *queued, *deep, *mapped, *parts, *python]
