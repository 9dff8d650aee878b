"""What counts as a clean run: the kernel's log, its taint flags, and the card models' records."""

from __future__ import annotations

import re
from collections.abc import Iterable

_BAD = re.compile(
    r"WARNING: |\bBUG\b|Oops|Call Trace|general protection|Kernel panic|Unable to handle|hung_task|blocked for more than"
    r"|rcu.*stall|soft lockup|hard LOCKUP|DMAR:.*fault|DMA-API|KASAN|UBSAN|lockdep|refcount_t|nobody cared"
    r"|sleeping function|possible .*deadlock|unreferenced object|list_add corruption|list_del corruption"
    r"|Bad page|double free"
)

#: Lines of stock kernels on this machine that match and mean nothing.
_HARMLESS = re.compile(r"RETBleed|Spectre|MDS|TAA|MMIO Stale|Speculative|ITS:|TSA:|VMSCAPE|smp_mb|Transient Scheduler")

#: Taint bits that a healthy guest with our modules has: out of tree (12), unsigned (13).
_TAINT_ALLOWED = 1 << 12 | 1 << 13


def suspicious(log: str, expected: Iterable[str] = ()) -> list[str]:
    """Return the lines of a kernel log that no healthy run has, but for those that match *expected*."""
    patterns = [re.compile(pattern) for pattern in expected]
    return [
        line
        for line in log.splitlines()
        if _BAD.search(line)
        and not _HARMLESS.search(line)
        and not any(pattern.search(line) for pattern in patterns)
    ]


def bad_taint(tainted: int) -> int:
    """Return the taint bits that no healthy run has."""
    return tainted & ~_TAINT_ALLOWED
