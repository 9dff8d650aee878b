"""A load on card memory whose every byte is checked, run in the guest; a plain file behaves like card memory.

All data are parts of random blocks, moved and compared by libc as wholes: a byte at a time, the guest is too slow.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pciedma

from . import buffers
from .buffers import PAGE, Buffer
from .request_ways import ALL, VECTORED, Request, Ways

MIB = 1 << 20
#: Where requests have their memory. Linux 6.1 lets io_uring register all kinds but "straddling".
KINDS = ("anonymous", "transparent_huge", "memfd")

_CANARY = 0xA5
_libc = ctypes.CDLL(None, use_errno=True)


def _differ(one: int, other: int, length: int) -> bool:
    """Return whether memory at two addresses differs."""
    return bool(_libc.memcmp(ctypes.c_void_p(one), ctypes.c_void_p(other), ctypes.c_size_t(length)))


def _first_difference(one: int, other: int, length: int) -> int:
    """Return how many bytes are the same before the first that is not."""
    same = 0
    while length > 1:
        half = length // 2
        if not _differ(one + same, other + same, half):
            same, length = same + half, length - half
        else:
            length = half
    return same


@contextmanager
def _opened(path: str, wait_mode: str | None) -> Iterator[int]:
    """Give a file descriptor; only a channel has a wait mode."""
    if wait_mode is not None:
        with pciedma.Channel(path) as channel:
            channel.wait_mode = pciedma.WaitMode[wait_mode]
            yield channel.fileno()
        return
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


class Load:
    """A span of the card's memory that nobody else writes, what must be in it, and memory for requests.

    A batch of requests is carried out in a window of an arena that was filled with noise: this is what is written.
    Afterwards the window must hold the same noise, except where a request has read, what the card's memory holds.
    That finds wrong data, data that did not arrive, and changed bytes beside the buffers, all by one comparison.
    What was written to the wrong place of the span, later reads find, at the latest those of the whole span.
    """

    def __init__(
        self, ways: Ways, arenas: Sequence[Buffer], rng: random.Random, *, base: int, span: int, longest: int,
        depth: int, least_gap: int,
    ) -> None:
        """Take *span* bytes of the card's memory from *base* on; buffers lie *least_gap* apart or more."""
        self.ways, self.arenas, self.rng = ways, arenas, rng
        self.least_gap = least_gap
        self.base, self.span, self.longest, self.depth = base, span, longest, depth
        room = arenas[0].length
        self.shadow, self.expected = buffers.anonymous(span), buffers.anonymous(room)
        self.noise = buffers.anonymous(room + 4 * MIB)
        self.noise.mapping[:] = rng.randbytes(self.noise.length)
        self.calls: Counter[str] = Counter()
        self.bytes = self.wrong = 0
        self.first_error: str | None = None

    def random_batch(self, names: Sequence[str]) -> None:
        """Read and write at random by one way, and read what was touched by another."""
        first, second = self.rng.sample(names, 2) if len(names) > 1 else (names[0], names[0])
        moved = self._planned(vectored=first in VECTORED)
        self.batch(first, moved)
        checked = [self._around(one, vectored=second in VECTORED) for one in moved]
        if not self.wrong:
            self.batch(second, checked)

    def whole_span(self, names: Sequence[str], *, writes: bool) -> None:
        """Write or read the whole span in chunks, each by some way."""
        for start in range(0, self.span, self.longest):
            if not self.wrong:
                length = min(self.longest, self.span - start)
                self.batch(self.rng.choice(names), [Request(writes, self.base + start, [(0, length)])])

    def _planned(self, *, vectored: bool) -> list[Request]:
        """Choose requests whose places in the card's memory do not overlap; their addresses follow later."""
        requests: list[Request] = []
        left = 2 * self.longest
        for _ in range(self.rng.randint(1, self.depth)):
            length = min(self.rng.randint(1, 1 << self.rng.randint(0, self.longest.bit_length())), self.longest, left)
            position = self.base + self.rng.randrange(self.span - length + 1)
            apart = all(position >= r.position + r.length or r.position >= position + length for r in requests)
            if length and apart:
                writes = bool(self.rng.getrandbits(1))
                requests.append(Request(writes, position, self._pieces(length, vectored=vectored)))
                left -= length
        return requests

    def _around(self, one: Request, *, vectored: bool) -> Request:
        """Return a request that reads what another has moved and a little beside it."""
        start = max(one.position - self.rng.randint(0, 64), self.base)
        end = min(one.position + one.length + self.rng.randint(0, 64), self.base + self.span)
        return Request(False, start, self._pieces(end - start, vectored=vectored))

    def _pieces(self, length: int, *, vectored: bool) -> list[tuple[int, int]]:
        """Cut *length* bytes into pieces, of which some may be empty; addresses are 0."""
        cuts = [0, length]
        if vectored and self.rng.getrandbits(1):
            cuts[1:1] = sorted(self.rng.randint(0, length) for _ in range(self.rng.randint(1, 6)))
        return [(0, b - a) for a, b in pairwise(cuts)]

    def _placed(self, requests: Sequence[Request], arena: Buffer) -> tuple[list[Request], int, int]:
        """Give all pieces addresses with gaps between; returns requests, and the window's offset and length."""
        size = PAGE + self.rng.randrange(PAGE)
        offsets = []
        for one in requests:
            for _, length in one.pieces:
                size += self.rng.choice([self.least_gap, self.rng.randint(self.least_gap, 500)])
                offsets.append(size)
                size += length
        size += PAGE
        window = self.rng.randrange(0, arena.length - size + 1, PAGE)
        places = iter(offsets)
        placed = [
            replace(one, pieces=[(arena.address + window + next(places), length) for _, length in one.pieces])
            for one in requests
        ]
        return placed, window, size

    def batch(self, way: str, requests: Sequence[Request]) -> None:
        """Carry requests out and check what they did."""
        arena = self.rng.choice(self.arenas)
        placed, window, size = self._placed(requests, arena)
        noise = self.noise.address + self.rng.randrange(self.noise.length - size)
        for buffer in (arena, self.expected):
            ctypes.memmove(buffer.address + window, noise, size)
        results = self.ways.run(way, placed)
        for one, result in zip(placed, results, strict=True):
            self.calls[way] += 1
            self.bytes += max(result, 0)
            if result != one.length:
                what = result if result >= 0 else errno.errorcode.get(-result, result)
                self._is_wrong(f"{_text(way, one)}: {what}")
            self._expect(one, arena)
        if not self.wrong and _differ(arena.address + window, self.expected.address + window, size):
            self._blame(way, placed, arena, window, size)

    def _expect(self, one: Request, arena: Buffer) -> None:
        """Note what a request must have done."""
        card = self.shadow.address + one.position - self.base
        for address, length in one.pieces:
            memory = self.expected.address + address - arena.address
            ctypes.memmove(*((card, memory) if one.writes else (memory, card)), length)
            card += length

    def _blame(self, way: str, requests: Sequence[Request], arena: Buffer, window: int, size: int) -> None:
        """Say where the first wrong byte is."""
        found, expected = arena.address + window, self.expected.address + window
        at = _first_difference(found, expected, size)
        bytes_of = [ctypes.string_at(start + at, min(16, size - at)).hex() for start in (found, expected)]
        where = f"beside the buffers of {[_text(way, one) for one in requests]}"
        for one in requests:
            done = 0
            for address, length in one.pieces:
                if address <= found + at < address + length:
                    where = f"byte {done + found + at - address} of {_text(way, one)}"
                done += length
        self._is_wrong(f"{where}: {bytes_of[0]} instead of {bytes_of[1]}")

    def _is_wrong(self, text: str) -> None:
        self.wrong += 1
        self.first_error = self.first_error or text


def _text(way: str, one: Request) -> str:
    """Name a request."""
    pieces = " ".join(f"{address:#x}+{length}" for address, length in one.pieces)
    return f"{way} {'write' if one.writes else 'read'} of {one.length} at {one.position:#x} ({pieces})"


def mixed(
    path: str, *, base: int, span: int, seconds: float = 0, total: int = 0, seed: int = 1, ways: Sequence[str] = ALL,
    longest: int = MIB, depth: int = 8, kinds: Sequence[str] = KINDS, wait_mode: str | None = None, least_gap: int = 1,
) -> dict[str, Any]:
    """Write and read at random, by all ways, for so many seconds and bytes (whichever is more), and check all.

    Nobody else may write the *span* bytes from *base*, which are first written and at last read as a whole. Requests
    have 1 to *longest* bytes, up to *depth* are under way at once, *least_gap* bytes or more between their memory. The
    first batch in which something is wrong ends it.
    Returns the bytes moved, how many requests were wrong, how many there were by way, and what was wrong first.
    """
    rng = random.Random(seed)
    longest = min(longest, span)
    # What requests may need beside their bytes: what is read around, gaps, the window's pages, an odd start.
    room = 2 * longest + depth * (128 + 7 * 500) + 4 * PAGE
    room += -room % buffers.HUGE
    start = time.monotonic()
    with ExitStack() as stack:
        fd = stack.enter_context(_opened(path, wait_mode))
        arenas = [stack.enter_context(getattr(buffers, kind)(room)) for kind in kinds]
        doors = stack.enter_context(Ways(fd, arenas, ways, depth, rng))
        load = Load(doors, arenas, rng, base=base, span=span, longest=longest, depth=depth, least_gap=least_gap)
        load.whole_span(ways, writes=True)
        while not load.wrong and (time.monotonic() < start + seconds or load.bytes < total):
            load.random_batch(ways)
        load.whole_span(ways, writes=False)
    return {
        "bytes": load.bytes, "wrong": load.wrong, "calls": dict(load.calls), "first_error": load.first_error,
        "seconds": time.monotonic() - start,
    }


def together(path: str, *, workers: int, base: int, span: int, seed: int = 1, **options: Any) -> dict[str, Any]:
    """Run mixed() in several processes, each with a span of its own from *base* on; returns the sums.

    A process that ends in another way than by returning counts as wrong.
    """
    children = [
        _forked(path, base=base + number * span, span=span, seed=seed + number, **options) for number in range(workers)
    ]
    results = [_result_of(*child) for child in children]
    calls: Counter[str] = Counter()
    for result in results:
        calls.update(result["calls"])
    errors = [result["first_error"] for result in results if result["first_error"]]
    return {
        "bytes": sum(result["bytes"] for result in results), "wrong": sum(result["wrong"] for result in results),
        "calls": dict(calls), "first_error": errors[0] if errors else None,
        "seconds": max(result["seconds"] for result in results),
    }


def _forked(path: str, **options: Any) -> tuple[int, int]:
    """Start mixed() in a child; returns its process and the pipe with its result."""
    readable, writable = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writable)
        return pid, readable
    try:
        try:
            result = mixed(path, **options)
        except Exception as error:
            result = _failed(repr(error))
        with os.fdopen(writable, "w") as file:
            json.dump(result, file)
    finally:
        os._exit(0)


def _result_of(pid: int, readable: int) -> dict[str, Any]:
    """Wait for a child's result."""
    with os.fdopen(readable, "rb") as file:
        data = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    result: dict[str, Any] = json.loads(data) if data else _failed(f"a worker ended with status {status}")
    return result


def _failed(text: str) -> dict[str, Any]:
    return {"bytes": 0, "wrong": 1, "calls": {}, "first_error": text, "seconds": 0.0}


def checked_copy(
    path: str, length: int, *, address: int = 0, chunk: int = 32 * MIB, span: int = 0, skew: int = 1,
    direction: str = "both", seed: int = 1, wait_mode: str | None = None,
) -> dict[str, Any]:
    """Write *length* bytes of card memory from *address* on in chunks, then read them, and compare every byte.

    With *span*, it is this much memory that is written and read again and again. Each chunk is the same random block
    turned by another number of bytes, so that places mixed up show, and memory that was not read: it holds the chunk
    before. ``direction`` "write" or "read" does one half; the other must be called with the same arguments. *skew*, 1
    to a page, is how far the buffer that is read into lies behind a page's start. Seconds are those of the calls alone.
    """
    span = span or length
    found: dict[str, Any] = {"bytes": {"write": 0, "read": 0}, "wrong": 0, "first_error": None}
    seconds = {"write": 0.0, "read": 0.0}
    with ExitStack() as stack:
        fd = stack.enter_context(_opened(path, wait_mode))
        source = stack.enter_context(buffers.anonymous(2 * chunk))
        target = stack.enter_context(buffers.anonymous(chunk + 3 * PAGE))
        source.mapping[:chunk] = random.Random(seed).randbytes(chunk)
        ctypes.memmove(source.address + chunk, source.address, chunk)
        arrives = target.address + PAGE + skew
        ways = stack.enter_context(Ways(fd, [], ["pread"], 1, random.Random(seed)))
        for writes, number, at, size in _steps(length, span, chunk, direction):
            ctypes.memset(arrives - skew, _CANARY, skew)
            ctypes.memset(arrives + size, _CANARY, PAGE)
            data = source.address + (number * 1_000_003 + 7) % chunk
            request = Request(writes, address + at, [(data if writes else arrives, size)])
            start = time.monotonic()
            (result,) = ways.run("pread", [request])
            seconds["write" if writes else "read"] += time.monotonic() - start
            found["bytes"]["write" if writes else "read"] += max(result, 0)
            text = str(result) if result != size else "" if writes else _unlike(arrives, data, size, skew)
            if text:
                found["wrong"] += 1
                found["first_error"] = found["first_error"] or f"{_text('pread', request)}: {text}"
    return found | {"write_seconds": seconds["write"], "read_seconds": seconds["read"]}


def _unlike(arrives: int, data: int, size: int, skew: int) -> str:
    """Say what is wrong with what has arrived, and with the canaries beside it."""
    if _differ(arrives, data, size):
        return f"wrong from byte {_first_difference(arrives, data, size)}"
    canaries = ctypes.string_at(arrives - skew, skew) + ctypes.string_at(arrives + size, PAGE)
    return "bytes beside the buffer changed" if canaries.strip(bytes([_CANARY])) else ""


def _steps(length: int, span: int, chunk: int, direction: str) -> Iterator[tuple[bool, int, int, int]]:
    """Give each chunk's direction, number, offset and size: a span is written, then read."""
    number = done = 0
    while done < length:
        places = []
        for at in range(0, min(span, length - done), chunk):
            places.append((number, at, min(chunk, span - at, length - done)))
            done += places[-1][-1]
            number += 1
        for name in ("write", "read"):
            if direction in ("both", name):
                yield from ((name == "write", *place) for place in places)
