"""The kernel's own tracing as a witness, run in the guest."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pciedma
from pciedma import uapi
from pciedma_lab.guest import buffers

from . import entries, shared

TRACING = Path("/sys/kernel/tracing")
_SYNC = re.compile(r": (device|cpu): .* size=(\d+) dir=(\d+)")


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


def functions_of_transfer(path: str, length: int) -> list[str]:
    """Return the kernel's functions that a thread runs for one TRANSFER of a registered buffer, in order.

    From its ioctl to when its result is taken; what interrupts it, too.
    """
    with pciedma.Channel(path) as channel:
        channel.wait_mode = pciedma.WaitMode.INTERRUPT
        memory = buffers.scattered_pages(length)
        flags = {"type": uapi.PCIEDMA_BUFFER_USER, "address": memory.address}
        number = shared.create(channel.fileno(), length, **flags).id
        asked = [entries.entry(entries.C2H, number, 0, length)]
        entries.batch(channel.fileno(), asked)
        _put("set_ftrace_pid", str(os.getpid()))
        _put("current_tracer", "function")
        try:
            with _events():
                entries.batch(channel.fileno(), asked)
            names = [line.split(": ")[1].split(" <-")[0].split(" [")[0] for line in _lines(os.getpid())]
        finally:
            _put("current_tracer", "nop")
            _put("set_ftrace_pid", "")
    first, last = names.index("pciedma_channel_ioctl"), names.index("pciedma_result_taken")
    return names[first : last + 1]


def syncs(path: str, count: int, length: int = 1000) -> dict[str, dict[str, int]]:
    """Count the syncs of DMA buffers during *count* writes, and during as many reads, by what they say.

    A key is whose turn it is ("device" or "cpu"), the bytes, and the direction as the kernel numbers it.
    """
    # by the x86 calling convention the third argument is in rdx and the fourth in rcx
    probe = "p:pciedma_lab/{0} dma_sync_single_for_{0} size=%dx:u32 dir=%cx:u32\n"
    _put("kprobe_events", probe.format("device") + probe.format("cpu"))
    found = {}
    try:
        with pciedma.Channel(path) as channel:
            area = bytearray(length)
            for call in (channel.write, channel.readinto):
                with _events("pciedma_lab"):
                    for _ in range(count):
                        call(area)
                matches = (_SYNC.search(line) for line in _lines(os.getpid()))
                found[call.__name__] = dict(Counter(" ".join(match.groups()) for match in matches if match))
    finally:
        _put("kprobe_events", "")
    return found


def transfer_events(path: str) -> list[str]:
    """Return the names of the driver's events during one message, in order.

    The handler that tells of its end may still be at work when the call has returned.
    """
    with pciedma.Channel(path) as channel:
        channel.write(b"x")
        with _events("pciedma"):
            channel.write(b"xyz")
            deadline = time.monotonic() + 5
            while not any("pciedma_interrupt" in line for line in _lines()) and time.monotonic() < deadline:
                time.sleep(0.01)
        return [line.split(": ")[1] for line in _lines()]
