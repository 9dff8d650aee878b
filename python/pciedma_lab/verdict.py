"""What counts as a clean run: the kernel's log, its taint flags, and the guest's last word."""

from __future__ import annotations

import re
from collections.abc import Iterable

_BAD = re.compile(
    r"WARNING: |\bBUG\b|\bOops\b|Call Trace|general protection|Kernel panic|[Uu]nable to handle|hung_task"
    r"|blocked for more than|rcu.*stall|soft lockup|hard LOCKUP|DMAR:.*fault|DMA-API|KASAN|UBSAN|KCSAN"
    r"|lockdep|possible .*(locking|deadlock|unsafe locking)|bad unlock balance|suspicious RCU usage"
    r"|refcount_t|nobody cared|sleeping function|scheduling while atomic|unreferenced object"
    r"|ODEBUG|list_(add|del) corruption|[Bb]ad page|double free|page allocation failure|Out of memory"
    r"|kmemleak: (Cannot|Memory pool empty|Failed|Kernel memory leak detector disabled)"  # blind from here on
)

#: Messages that match and mean nothing: processor mitigations that are off, debuggers that introduce themselves,
#: functions of a debugger in the backtrace below a report, programs that died of their own mistakes: those name the
#: program, whatever it is called, and an address of a user's.
_HARMLESS = re.compile(
    r"^\[[ \d.]+\] ((RETBleed|Spectre|MDS|TAA|MMIO Stale Data|ITS|TSA|VMSCAPE|SRBDS)[^:]*: "
    r"|rcu: \tRCU lockdep checking is enabled|DMA-API: (preallocated \d+ debug entries|debugging enabled by"
    r"|dma_debug_entry pool grown to)"
    r"|traps: .{1,15}\[\d+\] [a-z0-9 ]+ ip:[0-9a-f]{1,15} sp:"
    r"|.{1,15}\[\d+\]: segfault at [0-9a-f]+ ip [0-9a-f]{1,16} sp "
    r"|kasan: KernelAddressSanitizer initialized| *(\? )?[\w.]+\+0x[0-9a-f]+/0x[0-9a-f]+)"
)

#: In the backtrace of an allocation: one of our modules, or what has no name any more since it was unloaded, or was
#: code that runs once when it is loaded. The guest unloads no other modules.
_OURS = re.compile(r"\[pciedma|^    0x[0-9a-f]+$", re.MULTILINE)

#: So many lines tell what is wrong.
_SHOWN = 200

_KERNEL_LINE = re.compile(r"^\[ *\d+\.\d+\]")

#: Taint bits that a healthy guest with our modules has: out of tree (12), unsigned (13).
_TAINT_ALLOWED = 1 << 12 | 1 << 13
#: What some other driver's module may add to them.
TAINT_PROPRIETARY = 1 << 0


def suspicious(log: str, expected: Iterable[str] = ()) -> list[str]:
    """Return the kernel's lines in *log* that no healthy run has, but for those that match *expected*."""
    patterns = [re.compile(pattern) for pattern in expected]
    return [
        line
        for line in log.splitlines()
        if _KERNEL_LINE.match(line)
        and _BAD.search(line)
        and not _HARMLESS.search(line)
        and not any(pattern.search(line) for pattern in patterns)
    ]


def bad_taint(tainted: int) -> int:
    """Return the taint bits that no healthy run has."""
    return tainted & ~_TAINT_ALLOWED


def judge(log: str, console: str, tainted: int, sentinel: str, expected: Iterable[str] = ()) -> list[str]:
    """Return what is wrong with a run that has ended: nothing if it was clean.

    *log* is what dmesg said last, *console* all that the guest printed, *tainted* the kernel's flags. A warning
    that *expected* names also excuses the taint flag that it sets.
    """
    expected = list(expected)
    problems = suspicious(log, expected)
    said = {*problems}
    problems += [line for line in suspicious(console, expected) if line not in said]
    excused = {*suspicious(log), *suspicious(console)} - set(problems)
    flags = (1 << 9 if excused else 0) | (1 << 5 if any("KASAN: " in line for line in excused) else 0)
    if bits := bad_taint(tainted) & ~flags:
        problems.append(f"the kernel is tainted: {bits:#x}")
    if sentinel not in console:
        problems.append("the guest did not say that it ends in order")
    return problems


def shortened(lines: list[str]) -> list[str]:
    """Return the first of *lines*, and how many more there are."""
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], f"and {more} lines more"] if more > 0 else lines


def leaks(report: str) -> tuple[list[str], list[str]]:
    """Return the objects in kmemleak's *report*, a text for each: those that our modules allocated, and others."""
    objects = re.split(r"^(?=unreferenced object)", report, flags=re.MULTILINE)[1:]
    ours = [text for text in objects if _OURS.search(text)]
    return ours, [text for text in objects if text not in ours]


def judge_end(reason: str) -> list[str]:
    """Return what is wrong with how a guest ended, by QEMU's *reason*: a crash after its last word is a reset."""
    return [] if reason == "guest-shutdown" else [f"the guest did not power off: {reason}"]
