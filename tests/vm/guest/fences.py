"""What others still do with imported memory: fences of vgem's, whose graphics memory is there without graphics.

Run in the guest. Each function returns what was wrong.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pciedma

from .buffer_faults import Call, Case, moves, unlike
from .entries import C2H, H2C, entry, wait
from .exports import imported
from .shared import Outcome

_CREATE_DUMB = 0xC02064B2
_HANDLE_TO_FD = 0xC00C642D
_FENCE_ATTACH = 0xC0106441
_FENCE_SIGNAL = 0x40086442
_WRITES = 1


class _Dumb(ctypes.Structure):
    _fields_ = [("height", ctypes.c_uint32), ("width", ctypes.c_uint32), ("bpp", ctypes.c_uint32),
                ("flags", ctypes.c_uint32), ("handle", ctypes.c_uint32), ("pitch", ctypes.c_uint32),
                ("size", ctypes.c_uint64)]  # fmt: skip


class _Prime(ctypes.Structure):
    _fields_ = [("handle", ctypes.c_uint32), ("flags", ctypes.c_uint32), ("fd", ctypes.c_int32)]


class _Attach(ctypes.Structure):
    _fields_ = [("handle", ctypes.c_uint32), ("flags", ctypes.c_uint32), ("out_fence", ctypes.c_uint32),
                ("pad", ctypes.c_uint32)]  # fmt: skip


class _Signal(ctypes.Structure):
    _fields_ = [("fence", ctypes.c_uint32), ("flags", ctypes.c_uint32)]


class Graphics:
    """Memory of vgem's, as a dma-buf; work on it that others are to wait for begins and ends as is said here."""

    def __init__(self, size: int) -> None:
        """Make it, of *size* bytes, whole pages."""
        subprocess.run(["modprobe", "vgem"], check=True)
        card = next(path for path in sorted(Path("/dev/dri").iterdir()) if path.name.startswith("card"))
        self._fd = os.open(card, os.O_RDWR | os.O_CLOEXEC)
        made = _Dumb(height=size // 4096, width=1024, bpp=32)
        fcntl.ioctl(self._fd, _CREATE_DUMB, made)
        self._handle = made.handle
        shared = _Prime(made.handle, os.O_CLOEXEC | os.O_RDWR)
        fcntl.ioctl(self._fd, _HANDLE_TO_FD, shared)
        self.dmabuf: int = shared.fd

    def begin(self, *, writes: bool) -> int:
        """Begin work, which ends by itself after 10 s; returns its fence."""
        asked = _Attach(self._handle, _WRITES if writes else 0)
        fcntl.ioctl(self._fd, _FENCE_ATTACH, asked)
        number: int = asked.out_fence
        return number

    def end(self, fence: int) -> None:
        """End it."""
        fcntl.ioctl(self._fd, _FENCE_SIGNAL, _Signal(fence))

    def close(self) -> None:
        """Let go of it."""
        os.close(self.dmabuf)
        os.close(self._fd)


def _timed(call: Callable[[], Outcome]) -> tuple[Outcome, float]:
    start = time.monotonic()
    return call(), time.monotonic() - start


def fences(path: str, size: int) -> list[str]:
    """Move memory on which others work: those who read it are in the way of what writes it, those who write of all."""
    cases: list[Case] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    signal.siginterrupt(signal.SIGUSR1, True)
    graphics = Graphics(size)
    with pciedma.Channel(path) as channel, mmap.mmap(graphics.dmabuf, size) as memory:
        fd = channel.fileno()
        made = imported(fd, graphics.dmabuf).id
        memory[:] = data = os.urandom(size)
        write, read = [entry(H2C, made, 0, size)], [entry(C2H, made, 0, size)]
        cases += [("write", 1, moves(fd, write)), ("what", data, channel.read(size, 0))]
        for writes in (False, True):
            fence = graphics.begin(writes=writes)
            channel.timeout_s = 0.3
            for name, parts, waits in (("write", write, writes), ("read", read, True)):
                for submit in (False, True):
                    found, took = _timed(lambda: moves(fd, parts, submit=submit))  # noqa: B023
                    wanted = ("ETIMEDOUT", True) if waits else (1, False)
                    cases.append((f"{name} {writes} {submit}", wanted, (found, took >= 0.3)))
                    if submit and not waits:
                        cases.append((f"{name} {writes}: ended", [(0, size, 0)], wait(fd, 1)))
            channel.timeout_s = 0
            cases.append((f"at once {writes}", "EAGAIN", moves(fd, read)))
            channel.timeout_s = None
            waiter = Call(lambda: moves(fd, read))
            time.sleep(0.2)
            signal.pthread_kill(waiter.ident or 0, signal.SIGUSR1)
            cases.append((f"signal {writes}", "EINTR", waiter.value(5)))
            late = threading.Timer(0.3, graphics.end, [fence])
            late.start()
            found, took = _timed(lambda: moves(fd, read))
            late.join()
            cases.append((f"late {writes}", (1, True), (found, took >= 0.2)))
            cases.append((f"then {writes}", (1, 1), (moves(fd, write), moves(fd, read))))
        graphics.begin(writes=True)  # which nobody ends
    graphics.close()
    return unlike(cases)
