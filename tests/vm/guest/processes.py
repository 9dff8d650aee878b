"""Signals, several processes, polling, and files that outlive their card, run in the guest."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pciedma


class LeaveError(Exception):
    """Raised by a signal handler, to leave the call that Python would repeat."""


def _raise(number: int, frame: object) -> None:
    raise LeaveError


def interrupted(path: str, direction: str, after_s: float, length: int = 100) -> dict[str, Any]:
    """Make a call with a signal on its way; returns what the call led to, and the time it took."""
    moved: list[int] = []
    signal.signal(signal.SIGALRM, _raise)
    start = time.monotonic()
    outcome = "?"
    with pciedma.Channel(path) as channel:
        channel.timeout_s = 30.0
        signal.setitimer(signal.ITIMER_REAL, after_s)
        try:
            moved.append(channel.write(bytes(length)) if direction == "write" else len(channel.read(length)))
            outcome = "moved"
        except LeaveError:
            outcome = "EINTR or done"
        except OSError as error:
            outcome = errno.errorcode[error.errno or 0]
        signal.setitimer(signal.ITIMER_REAL, 0)
    return {"outcome": outcome, "moved": moved, "seconds": time.monotonic() - start}


def raw_write_interrupted(path: str, after_s: float) -> dict[str, Any]:
    """The same by libc, which repeats nothing: returns the errno's name or the count."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.write.restype = ctypes.c_ssize_t
    signal.signal(signal.SIGALRM, lambda number, frame: None)
    signal.siginterrupt(signal.SIGALRM, True)
    with pciedma.Channel(path) as channel:
        channel.timeout_s = 30.0
        signal.setitimer(signal.ITIMER_REAL, after_s)
        start = time.monotonic()
        result = libc.write(channel.fileno(), b"x" * 100, ctypes.c_size_t(100))
        return {
            "result": result if result >= 0 else errno.errorcode[ctypes.get_errno()],
            "seconds": time.monotonic() - start,
        }


def pattern_writer(path: str, count: int, value: int, length: int = 256) -> int:
    """Write messages of one byte's value; returns how many."""
    with pciedma.Channel(path) as channel:
        for _ in range(count):
            assert channel.write(bytes([value]) * length) == length
    return count


def reader(path: str, count: int, length: int = 256) -> int:
    """Read messages; each must be whole, one writer's. Returns how many were not."""
    torn = 0
    with pciedma.Channel(path) as channel:
        for _ in range(count):
            data = channel.read(length)
            torn += len(set(data)) != 1
    return torn


def forked(path: str, count: int = 50) -> dict[str, Any]:
    """Parent and child use one open file; returns the child's status and the parent's errors."""
    with pciedma.Channel(path) as channel:
        pid = os.fork()
        failures = 0
        for _ in range(count):
            failures += channel.write(bytes(64)) != 64
        if pid == 0:
            os._exit(1 if failures else 0)
        _, status = os.waitpid(pid, 0)
        return {"child": os.waitstatus_to_exitcode(status), "parent": failures}


def close_during_transfer(path: str, hold_s: float) -> dict[str, Any]:
    """Close the descriptor while another thread's call is under way; returns how that ended."""
    channel = pciedma.Channel(path)
    channel.timeout_s = 20.0
    fd = channel.fileno()
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(os.write(fd, bytes(100)))
        except OSError as error:
            outcome.append(errno.errorcode[error.errno or 0])

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(hold_s)
    os.close(fd)
    channel._fd = None
    closed_at = time.monotonic()
    thread.join()
    return {"outcome": outcome[0], "after_close_s": time.monotonic() - closed_at}


def blocked_call(path: str, direction: str = "write", timeout_s: float | None = 60.0) -> dict[str, Any]:
    """Make a call that will not end by itself; returns its errno and the calls after it."""
    with pciedma.Channel(path) as channel:
        channel.timeout_s = timeout_s
        results: list[int | str] = []
        for _ in range(2):
            try:
                results.append(channel.write(bytes(100)) if direction == "write" else len(channel.read(100)))
            except OSError as error:
                results.append(errno.errorcode[error.errno or 0])
        poll = select.poll()
        poll.register(channel.fileno(), select.POLLIN | select.POLLOUT)
        events = poll.poll(0)
        return {"results": results, "hup": bool(events and events[0][1] & select.POLLHUP)}


def poll_states(path: str) -> dict[str, Any]:
    """Return what poll says of an idle channel, of one with a stalled H2C engine, and again after its end."""
    def state(fd: int) -> list[bool]:
        poll = select.poll()
        poll.register(fd, select.POLLIN | select.POLLOUT)
        events = dict(poll.poll(0)).get(fd, 0)
        return [bool(events & select.POLLIN), bool(events & select.POLLOUT)]

    with pciedma.Channel(path) as channel, pciedma.Channel(path, nonblocking=True) as other:
        before = state(other.fileno())
        channel.timeout_s = 1.0
        thread = threading.Thread(target=_swallow, args=(channel,))
        thread.start()
        time.sleep(0.3)
        during = state(other.fileno())
        try:
            other.write(b"x")
            nonblocking = "moved"
        except BlockingIOError:
            nonblocking = "EAGAIN"
        poll = select.poll()
        poll.register(other.fileno(), select.POLLOUT)
        woken = bool(poll.poll(20_000))
        thread.join()
        return {
            "before": before, "during": during, "nonblocking": nonblocking, "woken": woken,
            "after": state(other.fileno()),
        }


def _swallow(channel: pciedma.Channel) -> None:
    try:
        channel.write(bytes(100))
    except OSError:
        return


def open_twice_exclusive(path: str) -> list[str]:
    """Return what exclusive opens lead to: first, second while it is open, plain while it is open, after it."""
    def attempt(exclusive: bool) -> tuple[str, pciedma.Channel | None]:
        try:
            return "ok", pciedma.Channel(path, exclusive=exclusive)
        except OSError as error:
            return errno.errorcode[error.errno or 0], None

    results = []
    first, channel = attempt(True)
    results.append(first)
    results.append(attempt(True)[0])
    results.append(attempt(False)[0])
    if channel:
        channel.close()
    again, channel = attempt(False)
    results.append(again)
    results.append(attempt(True)[0])
    if channel:
        channel.close()
    return results


def unbind(driver: str, address: str) -> float:
    """Unbind a card; returns the seconds it took."""
    start = time.monotonic()
    Path(f"/sys/bus/pci/drivers/{driver}/unbind").write_text(address)
    return time.monotonic() - start


def unbind_during_write(path: str, driver: str, address: str, length: int) -> int:
    """Unbind a card while a write to it is under way; returns what the write moved."""
    moved: list[int] = []
    with pciedma.Channel(path) as channel:
        writer = threading.Thread(target=lambda: moved.append(channel.write(bytes(length), whole=False)))
        writer.start()
        time.sleep(0.02)
        unbind(driver, address)
        writer.join()
    return moved[0]


def bind(driver: str, address: str) -> None:
    """Bind a card."""
    Path(f"/sys/bus/pci/drivers/{driver}/bind").write_text(address)
