"""Calls during which their thread is wanted for something that is no signal to its program, run in the guest."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pciedma
from pciedma_lab.guest import buffers, io_uring
from pciedma_lab.guest.libc_calls import pread, pwrite, result_of

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long
_ATTACH, _DETACH, _SEIZE, _INTERRUPT = 16, 17, 0x4206, 0x4207  # <linux/ptrace.h>
_WALL = 0x40000000
_TIMEOUT = 11  # an io_uring's request that ends after a while: <linux/io_uring.h>
#: Memory of the card that nothing else writes: zeros.
_UNTOUCHED = 40 << 30
_CANARY = 0xA5


def _ptrace(request: int, pid: int) -> None:
    if _libc.ptrace(request, pid, None, None):
        raise OSError(ctypes.get_errno(), f"ptrace {request}")


def _stop(pid: int, hold_s: float) -> None:
    os.kill(pid, signal.SIGSTOP)
    time.sleep(hold_s)
    os.kill(pid, signal.SIGCONT)


def _attach(pid: int, hold_s: float) -> None:
    """As gdb does."""
    _ptrace(_ATTACH, pid)
    _libc.waitpid(pid, None, _WALL)
    time.sleep(hold_s)
    _ptrace(_DETACH, pid)


def _seize(pid: int, hold_s: float) -> None:
    """As strace -p does."""
    _ptrace(_SEIZE, pid)
    _ptrace(_INTERRUPT, pid)
    _libc.waitpid(pid, None, _WALL)
    time.sleep(hold_s)
    _ptrace(_DETACH, pid)


def _freeze_group(pid: int, hold_s: float) -> None:
    root = Path("/tmp/cgroups")
    root.mkdir(exist_ok=True)
    os.system(f"mountpoint -q {root} || mount -t cgroup2 none {root}")
    group = root / "frozen"
    group.mkdir(exist_ok=True)
    (group / "cgroup.procs").write_text(str(pid))
    (group / "cgroup.freeze").write_text("1")
    time.sleep(hold_s)
    (group / "cgroup.freeze").write_text("0")
    (root / "cgroup.procs").write_text(str(pid))


def _old_group() -> Path:
    """A group of the freezer that was there before groups could freeze by themselves."""
    root = Path("/tmp/freezer")
    root.mkdir(exist_ok=True)
    os.system(f"mountpoint -q {root} || mount -t cgroup -o freezer none {root}")
    group = root / "frozen"
    group.mkdir(exist_ok=True)
    return group


def freezers() -> list[str]:
    """Which of the ways to freeze a group this kernel has."""
    old = Path("/proc/cgroups")
    found = ["freeze_group"] if "cgroup2" in Path("/proc/filesystems").read_text() else []
    return found + (["freeze_old_group"] if old.exists() and "freezer" in old.read_text() else [])


@contextlib.contextmanager
def _frozen(pid: int) -> Iterator[None]:
    """Keep a process frozen."""
    group = _old_group()
    (group / "cgroup.procs").write_text(str(pid))
    (group / "freezer.state").write_text("FROZEN")
    try:
        end = time.monotonic() + 10
        while (group / "freezer.state").read_text() != "FROZEN\n":
            if time.monotonic() > end:
                raise TimeoutError("the process is not frozen")
            time.sleep(0.02)
        yield
    finally:
        (group / "freezer.state").write_text("THAWED")
        (group.parent / "cgroup.procs").write_text(str(pid))


def _freeze_old_group(pid: int, hold_s: float) -> None:
    with _frozen(pid):
        time.sleep(hold_s)


def _freeze_all(pid: int, hold_s: float) -> None:
    """Freeze all processes as before a suspend, for the five seconds that the kernel's own test takes."""
    Path("/sys/power/pm_test").write_text("freezer")
    try:
        Path("/sys/power/state").write_text("mem")
    finally:
        Path("/sys/power/pm_test").write_text("none")


def _ignored(pid: int, hold_s: float) -> None:
    os.kill(pid, signal.SIGWINCH)


def _handled(pid: int, hold_s: float) -> None:
    os.kill(pid, signal.SIGUSR1)


_WAYS: dict[str, Callable[[int, float], None]] = {
    "stop": _stop, "attach": _attach, "seize": _seize, "freeze_group": _freeze_group,
    "freeze_old_group": _freeze_old_group, "freeze_all": _freeze_all,
    "ignored": _ignored, "handled": _handled,
}


@contextlib.contextmanager
def _disturbing(
    how: str, after_s: float, hold_s: float, begun: Callable[[], bool] = lambda: True,
) -> Iterator[Callable[[], None]]:
    """Have another process disturb this thread a while after *begun*, or, for "task_work", an io_uring complete in it.

    Yields what is called right before the call that is to be disturbed. Memory that is made in between is not the other
    process's, too: the call needs not copy it first.
    """
    started: list[float] = []
    if how == "task_work":
        delay = (ctypes.c_int64 * 2)(0, int(after_s * 1e9))
        with io_uring.Ring(4) as ring:
            def submit() -> None:
                started.append(time.monotonic())
                ring.prepare(_TIMEOUT, -1, ctypes.addressof(delay), 1, 0)
                ring.submit()

            yield submit
        if time.monotonic() - started[0] < after_s:
            raise RuntimeError("the call was not disturbed")
        return
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    parent = os.getpid()
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(send)
            if os.read(receive, 1):
                _wait_for(begun)
                time.sleep(after_s)
                _WAYS[how](parent, hold_s)
                os._exit(0)
        finally:
            os._exit(1)
    os.close(receive)

    def start() -> None:
        started.append(time.monotonic())
        os.write(send, b"!")

    try:
        yield start
    finally:
        seconds = time.monotonic() - started[0] if started else 0.0
        os.close(send)
        status = os.waitpid(child, 0)[1]
    if status or seconds < after_s:
        raise RuntimeError(f"the call was not disturbed: status {status}, {seconds} s")


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the call does not begin")
        time.sleep(0.01)


def _count(path: str, direction: str, name: str) -> int:
    engine = "c2h" if direction == "read" else "h2c"
    return int(Path("/sys/class/pciedma", Path(path).name, engine, name).read_text())


def _halts(path: str, direction: str) -> int:
    return _count(path, direction, "halts")


def disturbed(
    path: str, how: str, direction: str = "read", length: int = 32 << 20, wait_mode: str = "INTERRUPT",
    after_s: float = 0.3, hold_s: float = 0.3, moved: bool = False,
) -> dict[str, Any]:
    """Make one call on a memory channel while it is disturbed, if *moved* not before something of it was moved.

    "right" of a read: all its bytes came, and no others.
    """
    before = _count(path, direction, "bytes")

    def begun() -> bool:
        return not moved or _count(path, direction, "bytes") > before

    with pciedma.Channel(path) as channel:
        channel.timeout_s = 60.0
        channel.wait_mode = pciedma.WaitMode[wait_mode]
        halts = _halts(path, direction)
        function = pread if direction == "read" else pwrite
        place = _UNTOUCHED if direction == "read" else _UNTOUCHED - (1 << 30)
        with _disturbing(how, after_s, hold_s, begun) as start:
            buffer = buffers.small_pages(length)
            ctypes.memset(buffer.address, _CANARY, length)
            start()
            result = function(channel.fileno(), buffer.address, length, place)
        found: dict[str, Any] = {"result": result, "halts": _halts(path, direction) - halts}
        if direction == "read" and isinstance(result, int):
            data = buffer.view
            found["right"] = data[:result] == bytes(result) and data[result:] == bytes([_CANARY]) * (length - result)
        return found


def disturbed_message(path: str, how: str, length: int = 100) -> dict[str, Any]:
    """Write one message while it is disturbed."""
    _libc.write.restype = ctypes.c_ssize_t
    with pciedma.Channel(path) as channel:
        channel.timeout_s = 60.0
        halts = _halts(path, "write")
        with _disturbing(how, 0.2, 0.2) as start:
            start()
            result = result_of(_libc.write(channel.fileno(), bytes(length), ctypes.c_size_t(length)))
        return {"result": result, "halts": _halts(path, "write") - halts}


def slow(
    path: str, length: int, kinds: list[str], wait_modes: list[str], timeout_s: float
) -> list[dict[str, Any]]:
    """Read and write on a slow card; returns the calls that did not move all, or halted an engine."""
    wrong = []
    with pciedma.Channel(path) as channel:
        channel.timeout_s = timeout_s
        for kind in kinds:
            buffer = getattr(buffers, kind)(length)
            for wait_mode in wait_modes:
                channel.wait_mode = pciedma.WaitMode[wait_mode]
                for direction, function in (("read", pread), ("write", pwrite)):
                    halts = _halts(path, direction)
                    result = function(channel.fileno(), buffer.address, length, _UNTOUCHED)
                    halted = _halts(path, direction) - halts
                    if result != length or halted:
                        case: dict[str, Any] = {"kind": kind, "wait_mode": wait_mode, "direction": direction}
                        wrong.append(case | {"result": result, "halts": halted})
    return wrong


def neighbours(path: str, length: int, stopped: bool) -> dict[str, Any]:
    """Read and write at once on a slow card; the reader is stopped for a while, or a third has little patience."""
    found: dict[str, Any] = {}

    def call(name: str, direction: str, timeout_s: float, what: int) -> None:
        buffer = buffers.transparent_huge(what)
        with pciedma.Channel(path) as channel:
            channel.timeout_s = timeout_s
            function = pread if direction == "read" else pwrite
            found[name] = function(channel.fileno(), buffer.address, what, _UNTOUCHED)

    threads = [
        threading.Thread(target=call, args=("writer", "write", 30.0, 2 * length)),
        threading.Thread(target=call, args=("reader", "read", 30.0, length)),
    ]
    if not stopped:
        threads.append(threading.Thread(target=call, args=("hasty", "read", 0.2, length)))
    parent = os.getpid()
    child = os.fork() if stopped else 0
    if stopped and child == 0:
        time.sleep(0.5)
        _stop(parent, 0.2)
        os._exit(0)
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    for thread in threads:
        thread.join()
    if child:
        os.waitpid(child, 0)
    return found


def holds_nothing(path: str, driver: str, address: str, length: int, wait_mode: str) -> dict[str, Any]:
    """Freeze a process in a long read; meanwhile another one reads, and the card is unbound; returns the results."""
    receive, send = os.pipe()
    reader = os.fork()
    if reader == 0:
        with pciedma.Channel(path) as channel:
            channel.wait_mode = pciedma.WaitMode[wait_mode]
            buffer = buffers.small_pages(length)
            os.write(send, b"!")
            result = pread(channel.fileno(), buffer.address, length, _UNTOUCHED)
            os.write(send, str(result).encode())
            os._exit(0)
    os.read(receive, 1)
    time.sleep(0.5)
    with _frozen(reader):
        with pciedma.Channel(path) as channel:
            channel.timeout_s = 5.0
            buffer = buffers.small_pages(65536)
            other = pread(channel.fileno(), buffer.address, 65536, _UNTOUCHED)
        start = time.monotonic()
        Path(f"/sys/bus/pci/drivers/{driver}/unbind").write_text(address)
        seconds = time.monotonic() - start
    os.waitpid(reader, 0)
    return {"other": other, "unbound": seconds < 5, "reader": os.read(receive, 100).decode()}
