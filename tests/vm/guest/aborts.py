"""Requests that are given up at random moments, run in the guest."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pciedma
from pciedma_lab.guest import buffers, io_uring
from pciedma_lab.guest.libc_calls import pread, pwrite
from pciedma_lab.guest.linux_aio import PREAD, PWRITE, Context

#: Seconds between two tries to give up.
_AGAIN_S = 0.01
_libc = ctypes.CDLL(None, use_errno=True)
#: Results that a request which was given up may have, besides a count.
_ALLOWED = {"ETIMEDOUT", "EINTR", "EIO", "ECANCELED", "EAGAIN"}


class _Aborter:
    """Makes requests on one channel and gives them up in all the ways that there are."""

    def __init__(self, path: str, *, lengths: list[int], longest_us: float, seed: int) -> None:
        self.random = random.Random(seed)
        self.channel = pciedma.Channel(path)
        self.lengths = lengths
        self.memory = self.channel.kind is pciedma.Kind.MEMORY
        self.longest_us = longest_us
        self.buffer = buffers.anonymous(4 << 20)
        self.results: Counter[str] = Counter()
        ctypes.memset(self.buffer.address, 1, self.buffer.length)
        signal.signal(signal.SIGALRM, lambda number, frame: None)
        signal.siginterrupt(signal.SIGALRM, True)
        self.channel.timeout_s = 20.0

    def some(self) -> tuple[int, int, int]:
        """Return address, length and the card's address of a request."""
        places = 1 << 20 if max(self.lengths) > 4096 else 64
        address = self.buffer.address + self.random.randrange(64)
        return address, self.random.choice(self.lengths), self.random.randrange(places)

    def after_s(self) -> float:
        """Return when to give up."""
        return self.random.uniform(1e-5, self.longest_us / 1e6)

    def call(self) -> int | str:
        """Make one synchronous request."""
        function = self.random.choice([pread, pwrite])
        if self.memory:
            return function(self.channel.fileno(), *self.some())
        address, length, _ = self.some()
        plain = _libc.read if function is pread else _libc.write
        result = plain(self.channel.fileno(), ctypes.c_void_p(address), ctypes.c_size_t(length))
        return int(result) if result >= 0 else errno.errorcode[ctypes.get_errno()]

    def timeout(self) -> int | str:
        """Give up by time-out."""
        self.channel.timeout_s = self.after_s()
        result = self.call()
        self.channel.timeout_s = 20.0
        return result

    def signal(self) -> int | str:
        """Give up by a signal."""
        signal.setitimer(signal.ITIMER_REAL, self.after_s(), _AGAIN_S)
        result = self.call()
        signal.setitimer(signal.ITIMER_REAL, 0)
        return result

    def cancel(self) -> int | str:
        """Give up by CANCEL from another thread."""
        with self.cancelling():
            return self.call()

    @contextmanager
    def cancelling(self) -> Iterator[None]:
        """CANCEL after a while, and again and again: the first may come before the request."""
        done = threading.Event()

        def cancel() -> None:
            delay = self.after_s()
            while not done.wait(delay):
                self.channel.cancel()
                delay = _AGAIN_S

        thread = threading.Thread(target=cancel)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def kill(self) -> int | str:
        """Give up by the process's death."""
        pid = os.fork()
        if pid == 0:
            self.call()
            os._exit(0)
        time.sleep(self.after_s())
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return "killed"

    def aio(self) -> int | str:
        """Give up an asynchronous request."""
        with Context(1) as context, self.cancelling():
            context.submit(self.random.choice([PREAD, PWRITE]), self.channel.fileno(), *self.some())
            result = context.wait(1, 60)[0][1]
        return result if result >= 0 else errno.errorcode[-result]

    def uring(self) -> int | str:
        """Give up an io_uring's request."""
        with io_uring.Ring(1) as ring, self.cancelling():
            opcode = self.random.choice([io_uring.READ, io_uring.WRITE])
            address, length, place = self.some()
            ring.prepare(opcode, self.channel.fileno(), address, length, place)
            ring.submit()
            result = ring.wait(1, 60)[0][1]
        return result if result >= 0 else errno.errorcode[-result]

    def run(self, count: int) -> None:
        """Give up *count* requests."""
        ways = [self.timeout] * 5 + [self.signal] * 5 + [self.cancel, self.kill]
        ways += [self.aio, self.uring]
        for _ in range(count):
            way = self.random.choice(ways)
            result = way()
            self.results["moved" if isinstance(result, int) else result] += 1


def abort(path: str, count: int, *, lengths: list[int], longest_us: float = 3000, seed: int = 1) -> dict[str, Any]:
    """Give up *count* requests of some *lengths*; returns how often they led to what."""
    aborter = _Aborter(path, lengths=lengths, longest_us=longest_us, seed=seed)
    aborter.run(count)
    results = aborter.results
    return {"results": dict(results), "wrong": [name for name in results if name not in _ALLOWED | {"moved", "killed"}]}
