"""Allocations and copies from and to user space that fail by order of the debug kernel, run in the guest."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pciedma
from pciedma import uapi
from pciedma_lab.guest import buffers
from pciedma_lab.guest.buffers import PAGE
from pciedma_lab.guest.libc_calls import pread, pwrite
from pciedma_lab.guest.linux_aio import PREAD, Context

from . import exports
from .buffer_faults import held
from .entries import C2H, H2C, batch, entry, wait
from .shared import create, destroy

_DEBUGFS = Path("/sys/kernel/debug")


def _prepare() -> None:
    """Let every allocation be one that may fail, and none be reported."""
    if not _DEBUGFS.is_mount() or not (_DEBUGFS / "failslab").exists():
        subprocess.run(["mount", "-t", "debugfs", "debugfs", str(_DEBUGFS)], check=True)
    for name, knobs in {
        "failslab": {"ignore-gfp-wait": "N", "verbose": "0"},
        "fail_page_alloc": {"ignore-gfp-wait": "N", "ignore-gfp-highmem": "N", "min-order": "0", "verbose": "0"},
        "fail_usercopy": {"verbose": "0"},
    }.items():
        for knob, value in knobs.items():
            (_DEBUGFS / name / knob).write_text(value)


def _one(fd: int, nth: int, action: Callable[[], object]) -> tuple[str, bool]:
    """Let the *nth* occasion in an action of this thread fail; returns the errno's name or "", and whether it came."""
    found = ""
    os.pwrite(fd, str(nth).encode(), 0)
    try:
        action()
    except OSError as error:
        found = errno.errorcode[error.errno or 0]
    try:
        came = int(os.pread(fd, 20, 0)) == 0
    except OSError:
        came = False  # not in the action, but just now
    with contextlib.suppress(OSError):  # the occasion can be this very call
        os.pwrite(fd, b"0", 0)
    return found, came


def _each(action: Callable[[], object], afterwards: Callable[[str], None]) -> dict[str, int]:
    """Let each occasion in an action fail in turn; returns how often which errno came of it, "" if none."""
    _prepare()
    results: Counter[str] = Counter()
    fd = os.open("/proc/thread-self/fail-nth", os.O_RDWR)
    try:
        for nth in range(1, 100_000):
            found, came = _one(fd, nth, action)
            afterwards(found)
            if not came:
                break
            results[found] += 1
    finally:
        os.close(fd)
    return dict(results)


def _nodes() -> int:
    return sum(1 for _ in Path("/sys/class/pciedma").iterdir())


def probe(driver: str, address: str) -> dict[str, Any]:
    """Probe a card that is not bound, with each failure; it is bound in the end."""
    folder = Path(f"/sys/bus/pci/drivers/{driver}")
    wrong: list[str] = []
    bind, unbind = (os.open(folder / name, os.O_WRONLY) for name in ("bind", "unbind"))
    nodes = _nodes()

    def afterwards(found: str) -> None:
        if found:
            if (folder / address).exists() or _nodes() != nodes:
                wrong.append(found)
        else:
            os.pwrite(unbind, address.encode(), 0)

    results = _each(lambda: os.pwrite(bind, address.encode(), 0), afterwards)
    os.pwrite(bind, address.encode(), 0)
    os.close(bind)
    os.close(unbind)
    return {"results": results, "wrong": wrong}


def calls(path: str, what: str) -> dict[str, int]:
    """Open a channel, or make a call on an open one, with each failure."""
    if what == "open":
        opened: list[int] = []

        def close(found: str) -> None:
            while opened:
                os.close(opened.pop())

        return _each(lambda: opened.append(os.open(path, os.O_RDWR)), close)
    length = {"copied": 1000, "direct": 300_000, "aio": 300_000, "postponed": 20 << 20}[what]
    buffer = buffers.small_pages(length)
    with pciedma.Channel(path) as channel, Context(1) as context:
        fd = channel.fileno()

        def call() -> None:
            if what in ("aio", "postponed"):
                context.submit(PREAD, fd, buffer.address, length, 0)
                return
            for function in (pwrite, pread):
                moved = function(fd, buffer.address, length, 0)
                if moved != length:
                    raise OSError(ctypes.get_errno() if isinstance(moved, str) else errno.EIO, "moved")

        def collect(found: str) -> None:
            if what in ("aio", "postponed") and not found:
                context.wait(1, 120)

        return _each(call, collect)


def _surely_destroy(fd: int, number: int) -> None:
    try:
        destroy(fd, number)
    except OSError:  # of which nothing has happened; the next works
        destroy(fd, number)
        raise


def lives(path: str, kind: str) -> dict[str, Any]:
    """Make a buffer, use it in all ways, and let go of it, with each failure."""
    size, wrong = 4 * PAGE, []
    own = buffers.scattered_pages(size)
    with pciedma.Channel(path) as channel, pciedma.Channel(path) as other:
        fd = channel.fileno()

        def life() -> None:
            with contextlib.ExitStack() as stack:
                if kind == "new":
                    made = create(fd, size)
                    stack.callback(_surely_destroy, fd, made.id)
                    area = buffers.shared_of(fd, size, made.mmap_offset)
                    stack.callback(area.close)
                    os.preadv(fd, [area.view], 0)
                    stack.callback(os.close, exports.export(fd, made.id))
                elif kind == "registered":
                    made = create(fd, size, type=uapi.PCIEDMA_BUFFER_USER, address=own.address)
                    stack.callback(_surely_destroy, fd, made.id)
                else:
                    theirs = create(other.fileno(), size)
                    stack.callback(_surely_destroy, other.fileno(), theirs.id)
                    dmabuf = exports.export(other.fileno(), theirs.id)
                    stack.callback(os.close, dmabuf)
                    made = exports.imported(fd, dmabuf)
                    stack.callback(_surely_destroy, fd, made.id)
                for flags in (H2C, C2H):
                    batch(fd, [entry(flags, made.id, 0, size)])
                batch(fd, [entry(H2C, made.id, 0, size)], submit=True)

        def afterwards(found: str) -> None:
            wait(fd, 0, 64)
            if held(fd) != (0, 0) or held(other.fileno()) != (0, 0):
                wrong.append(f"after {found}: {held(fd)}")

        with pciedma.Channel(path) as first:  # the entries of a file are made by its first TRANSFER
            results = _each(lambda: batch(first.fileno(), [entry(H2C, 1, 0, 8)]), lambda found: None)
        wrong += [] if set(results) <= {"ENOMEM", "EFAULT", "ENOENT", "EAGAIN"} else [f"first: {results}"]
        wait(fd, 0)
        return {"results": _each(life, afterwards), "wrong": wrong}
