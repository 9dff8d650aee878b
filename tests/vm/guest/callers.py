"""Children that make requests with memory whose pages do not come, run in the guest."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pciedma
from pciedma_lab.guest import io_uring
from pciedma_lab.guest.buffers import PAGE, Buffer
from pciedma_lab.guest.libc_calls import pread, pwrite, result_of
from pciedma_lab.guest.linux_aio import PREAD, PWRITE, Context

from .slow_memory import Keeper, forked

_libc = ctypes.CDLL(None, use_errno=True)
_libc.read.restype = _libc.write.restype = ctypes.c_ssize_t

WAYS = ("sync", "aio", "io_uring")
#: A time-out beyond anything here, and not so long that it counts as pinning for long.
LONG_S = 50.0
_CANARY = 0xA5
#: As long as a request that has ended might go on.
_AFTERWARDS_S = 0.3
_COUNTERS = ("transfers", "bytes", "errors", "timeouts", "halts", "looks")
ENGINES = {"read": "c2h", "write": "h2c"}


@dataclass(frozen=True)
class Request:
    """A request of *length* bytes, at the card's address 0 if it has any, with memory of one of slow_memory's kinds."""

    path: str
    direction: str
    way: str
    length: int
    kind: str
    #: So much of its memory is there, in whole pages.
    present: int = 0

    @property
    def name(self) -> str:
        """What it is called in results."""
        words = (self.path.removeprefix("/dev/"), self.direction, self.way, str(self.length), self.kind)
        return " ".join(words)

    @property
    def engine(self) -> tuple[str, str]:
        """What counts it."""
        return self.path, self.direction


def bytes_in(data: bytes) -> list[int]:
    """Return which bytes there are, some of them if there are many."""
    return sorted(set(data))[:3]


def moved(channel: pciedma.Channel, direction: str, address: int, length: int) -> int | str:
    """Make one call that nothing repeats."""
    fd = channel.fileno()
    if channel.kind == pciedma.Kind.MEMORY:
        return (pread if direction == "read" else pwrite)(fd, address, length, 0)
    function = _libc.read if direction == "read" else _libc.write
    return result_of(function(fd, ctypes.c_void_p(address), ctypes.c_size_t(length)))


def _made(channel: pciedma.Channel, request: Request, address: int) -> tuple[int | str, float]:
    """Make a request; returns what it led to, and the seconds for which it was being submitted."""
    start = time.monotonic()
    if request.way == "sync":
        return moved(channel, request.direction, address, request.length), 0.0
    reads = request.direction == "read"
    if request.way == "aio":
        context = Context(1)
        context.submit(PREAD if reads else PWRITE, channel.fileno(), address, request.length, 0)
        submitted = time.monotonic() - start
        result = context.wait(1, 2 * LONG_S)[0][1]
    else:
        ring = io_uring.Ring(1)
        ring.prepare(io_uring.READ if reads else io_uring.WRITE, channel.fileno(), address, request.length, 0)
        ring.submit()
        submitted = time.monotonic() - start
        result = ring.wait(1, 2 * LONG_S)[0][1]
    return result if result >= 0 else errno.errorcode[-result], submitted


class Caller:
    """A child that makes one request with a keeper's memory."""

    def __init__(
        self, keeper: Keeper, number: int, request: Request, timeout_s: float, channel: pciedma.Channel | None = None,
    ) -> None:
        """Start it; by a *channel* of this process if there is one."""
        self.request = request
        self._keeper, self._number, self._timeout_s = keeper, number, timeout_s
        self._outcome: dict[str, Any] | None = None
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = forked()
        if not self.pid:
            self._socket.close()
            try:
                self._work(theirs, channel)
            finally:
                os._exit(1)
        theirs.close()

    def _work(self, parent: socket.socket, channel: pciedma.Channel | None) -> None:
        signal.signal(signal.SIGUSR1, lambda number, frame: None)
        signal.siginterrupt(signal.SIGUSR1, True)
        request = self.request
        memory = self._keeper.memory(self._number, -(-request.length // PAGE) * PAGE, request.present)
        channel = channel or pciedma.Channel(request.path)
        channel.timeout_s = self._timeout_s
        start = time.monotonic()
        result, submitted = _made(channel, request, memory.address)
        found: dict[str, Any] = {"result": result, "seconds": time.monotonic() - start, "submitting": submitted}
        if isinstance(result, int) and request.direction == "read":
            found["data"] = bytes_in(ctypes.string_at(memory.address, result))
        parent.send(json.dumps(found).encode())
        while parent.recv(16):
            parent.send(json.dumps(self._keeps(memory)).encode())
        os._exit(0)

    def _keeps(self, memory: Buffer) -> bool:
        """Whether the memory, which this process has back, is left alone."""
        ctypes.memset(memory.address, _CANARY, memory.length)
        time.sleep(_AFTERWARDS_S)
        return memory.mapping[:] == bytes([_CANARY]) * memory.length

    def _told(self, seconds: float) -> Any:
        self._socket.settimeout(max(seconds, 0.01))
        try:
            data = self._socket.recv(4096)
        except TimeoutError:
            return None
        return json.loads(data) if data else {"result": "it was killed"}

    def outcome(self, end: float) -> dict[str, Any]:
        """Return what the request led to, waiting until *end* at most; "nothing" is the result of one under way."""
        self._outcome = self._outcome or self._told(end - time.monotonic())
        return self._outcome or {"result": "nothing"}

    def ask_whether_kept(self) -> None:
        """Have it look whether something comes to its memory; it writes there first, and needs the pages for it."""
        self._socket.send(b"?")

    def kept(self) -> bool:
        """Whether nothing came."""
        return self._told(10) is True

    def gone(self, end: float) -> bool:
        """Whether the process has ended until then."""
        while self.pid:
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                self.pid = 0
            elif time.monotonic() > end:
                return False
            else:
                time.sleep(0.01)
        return True

    def close(self) -> None:
        """End it; the pages that it waits for must have come."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            if not self.gone(time.monotonic() + 60):
                raise TimeoutError(f"{self.request.name} cannot be killed")
        self._socket.close()


@contextmanager
def waiting(
    requests: Sequence[Request], timeout_s: float, channels: Sequence[pciedma.Channel] = (),
) -> Iterator[tuple[Callable[[], None], list[Caller]]]:
    """Give what lets all pages come, and callers that make requests at once, when all wait for pages.

    Those that wait for something else have two seconds to come to that. Afterwards all pages have come, and the callers
    have ended.
    """
    keepers: dict[str, Keeper] = {}
    callers: list[Caller] = []

    def come() -> None:
        for keeper in keepers.values():
            keeper.come()

    def close() -> None:
        come()
        for caller in callers:
            caller.close()

    with contextlib.ExitStack() as stack:
        for kind in {request.kind for request in requests}:
            keepers[kind] = stack.enter_context(Keeper(kind))
        stack.callback(close)
        for number, (request, channel) in enumerate(itertools.zip_longest(requests, channels)):
            callers.append(Caller(keepers[request.kind], number, request, timeout_s, channel))
        _wait_wanted([*keepers.values()], len(callers))
        yield come, callers


def _wait_wanted(keepers: list[Keeper], count: int) -> None:
    end = time.monotonic() + 2
    while (wanted := sum(keeper.wanted() for keeper in keepers)) < count and time.monotonic() < end:
        time.sleep(0.01)
    if not wanted:
        raise RuntimeError("nobody waits for pages")


def outcomes(callers: list[Caller], within_s: float) -> list[dict[str, Any]]:
    """Return what became of each, by its request's name."""
    end = time.monotonic() + within_s
    return [{"request": caller.request.name} | caller.outcome(end) for caller in callers]


def _counted(paths: Iterable[str]) -> dict[tuple[str, str, str], int]:
    """Return what the driver has counted, by node, direction and counter."""
    files = {
        (path, direction, counter): Path("/sys/class/pciedma", Path(path).name, engine, counter)
        for path in paths for direction, engine in ENGINES.items() for counter in _COUNTERS
    }
    return {key: int(file.read_text()) for key, file in files.items()}


class Counts:
    """What the driver counts from now on."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._paths = {request.path for request in requests}
        self._before = _counted(self._paths)

    def of(self, request: Request) -> dict[str, int]:
        """Return what more there is for an engine and a direction, but for what is not more."""
        mine = {key: value for key, value in _counted(self._paths).items() if key[:2] == request.engine}
        return {key[2]: value - self._before[key] for key, value in mine.items() if value != self._before[key]}
