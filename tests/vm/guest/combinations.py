"""Requests of every kind, and what may befall them, run in the guest."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pciedma
from pciedma_lab.guest.buffers import PAGE, Buffer
from pciedma_lab.guest.children import forked
from pciedma_lab.guest.request_ways import Request, Ways
from tests.vm.guest.unpinnable import patchwork

_CANARY = 0xA5
#: How long a call is under way before it is disturbed, and for how long it then is.
_AFTER_S, _HOLD_S = 0.1, 0.1
#: By how much the model's engines may be ahead of their bandwidth.
_AHEAD_S = 0.01


class _Client:
    """One way into an open channel, with *length* bytes at an odd place in memory of one *kind*."""

    def __init__(self, channel: pciedma.Channel, way: str, length: int, kind: str, again: bool) -> None:
        self.fd, self.way, self.length, self.kind, self.again = channel.fileno(), way, length, kind, again
        self.plain = way == "pread" and channel.info.kind is pciedma.Kind.MESSAGE  # messages have no place
        self.skip = 77
        self.rng = random.Random(length)

    def memory(self) -> Buffer:
        """Memory with room before and behind."""
        memory = patchwork([(self.kind, (self.skip + self.length) // PAGE + 1)])
        ctypes.memset(memory.address, _CANARY, memory.length)
        return memory

    def move(self, writes: bool, memory: Buffer) -> int:
        """Move all bytes; returns how many were, or a negative errno."""
        where = memory.address + self.skip
        if self.plain:
            area = (ctypes.c_char * self.length).from_address(where)
            try:
                return os.writev(self.fd, [area]) if writes else os.readv(self.fd, [area])
            except OSError as error:
                return -(error.errno or 0)
        with Ways(self.fd, [], [self.way], 1, self.rng) as ways:
            return ways.run(self.way, [Request(writes, 0, [(where, self.length)])])[0]

    def there_and_back(self) -> str:
        """Write and read back; returns what was wrong."""
        data = self.rng.randbytes(self.length)
        with self.memory() as memory:
            where = memory.address + self.skip
            ctypes.memmove(where, data, self.length)
            wrote = self.move(True, memory)
            ctypes.memset(where, 0, self.length)
            read = self.move(False, memory)
            found = ctypes.string_at(memory.address, memory.length)
        rest = bytes([_CANARY]) * (len(found) - self.skip - self.length)
        if (wrote, read) != (self.length, self.length):
            return f"wrote {wrote}, read {read}"
        return "" if found == bytes([_CANARY]) * self.skip + data + rest else "wrong data"


def _on_time(client: _Client) -> str:
    """Transfers that end at any time."""
    return "".join(client.there_and_back() for _ in range(20 if client.length > PAGE else 5))


def _slow(client: _Client) -> str:
    """The card moves a megabyte in a second: a time-out is time without progress.

    The request is longer than what a slow engine is given at a time: who gave up would cut it.
    """
    client.length *= 10
    start = time.monotonic()
    found = client.there_and_back()
    least = 2 * client.length / 1e6 - _AHEAD_S
    return found or ("" if time.monotonic() - start >= least else "it was not slow")


def _stopped(client: _Client) -> str:
    """The process is stopped while a call is under way."""
    parent = os.getpid()

    def stop() -> None:
        time.sleep(_AFTER_S)
        os.kill(parent, signal.SIGSTOP)
        time.sleep(_HOLD_S)
        os.kill(parent, signal.SIGCONT)

    child = forked(stop)
    found = client.there_and_back()
    return found if os.waitpid(child, 0)[1] == 0 else "it was not stopped"


def _killed(client: _Client) -> str:
    """Another process is killed while its call is under way."""
    with client.memory() as memory:

        def write() -> None:
            while client.move(True, memory) == client.length and client.again:
                pass

        child = forked(write)
        time.sleep(_AFTER_S)
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    if status != signal.SIGKILL:
        return "its call had ended"
    return client.there_and_back()


def _hung(client: _Client) -> str:
    """The engine stops dead."""
    with client.memory() as memory:
        result = client.move(True, memory)
    if result not in (-errno.ETIMEDOUT, -errno.EIO):
        return f"the hung transfer led to {result}"
    return client.there_and_back()


def _moved(client: _Client) -> str:
    return client.there_and_back()


def _direct(client: _Client) -> str:
    """The file is open for direct I/O."""
    fcntl.fcntl(client.fd, fcntl.F_SETFL, os.O_DIRECT)
    return client.there_and_back()


#: What may befall a request; the memory that it is made with.
_POINTS: dict[str, tuple[Callable[[_Client], str], str]] = {
    "on_time": (_on_time, "anonymous"), "slow": (_slow, "anonymous"), "stopped": (_stopped, "anonymous"),
    "killed": (_killed, "anonymous"), "hung": (_hung, "anonymous"), "unpinnable": (_moved, "secret"),
    "direct": (_direct, "anonymous"),
}


def _sum(channel: str, attribute: str) -> int:
    folder = Path("/sys/class/pciedma") / Path(channel).name
    return sum(int(file.read_text()) for file in folder.glob(f"*/{attribute}"))


@contextlib.contextmanager
def _drain_bound(channel: str, milliseconds: int) -> Iterator[None]:
    files = [*(Path("/sys/class/pciedma") / Path(channel).name).glob("*/drain_ms")]
    before = [file.read_text() for file in files]
    for file in files:
        file.write_text(str(milliseconds))
    try:
        yield
    finally:
        for file, text in zip(files, before, strict=True):
            file.write_text(text)


def run(path: str, point: str, way: str, wait_mode: str, length: int, *, again: bool) -> str:
    """Let one of the points befall a request by one way; returns what was wrong.

    What is to be disturbed is done *again* until it is, on a card that cannot be made to take longer. But for a hung
    engine no end is found by a look, and nothing is halted.
    """
    function, kind = _POINTS[point]
    hangs = point == "hung"
    before = [_sum(path, name) for name in ("looks", "halts")]
    with _drain_bound(path, 200 if hangs else 5000), pciedma.Channel(path) as channel:
        channel.wait_mode = pciedma.WaitMode[wait_mode]
        channel.timeout_s = {"hung": 0.3, "slow": 0.05}.get(point, 20.0)
        wrong = function(_Client(channel, way, length, kind, again))
    looks, halts = (_sum(path, name) - count for name, count in zip(("looks", "halts"), before, strict=True))
    if not wrong and not hangs and (looks or halts):
        return f"{looks} looks, {halts} halts"
    return wrong
