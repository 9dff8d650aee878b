"""Requests whose memory does not come, and what happens beside them, run in the guest."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pciedma
from pciedma_lab.guest import buffers, io_uring
from pciedma_lab.guest.buffers import PAGE
from pciedma_lab.guest.linux_aio import PREAD, PWRITE, Context

from .callers import ENGINES, LONG_S, WAYS, Counts, Request, bytes_in, moved, outcomes, waiting
from .processes import unbind
from .slow_memory import forked

#: What the card has where callers read, and how much of it.
_CARDS, _FILLED = 0x77, 65536


def _fill(path: str) -> None:
    """Let the card have what callers are to read."""
    with pciedma.Channel(path) as channel:
        if channel.kind == pciedma.Kind.MEMORY:
            channel.write(bytes([_CARDS]) * min(channel.info.size or _FILLED, _FILLED), 0)


def _holds(request: Request) -> list[int]:
    """Return which bytes there are on the card where a request has written, if it has memory."""
    with pciedma.Channel(request.path) as channel:
        return bytes_in(channel.read(request.length, 0)) if channel.kind == pciedma.Kind.MEMORY else []


#: A node, a direction, and lengths.
Place = tuple[str, str, tuple[int, int]]


def _requests(kind: str, places: Sequence[Place], way: str) -> list[Request]:
    return [Request(path, direction, way, length, kind) for path, direction, lengths in places for length in lengths]


def times_over(kind: str, places: Sequence[Place], timeout_s: float, late_s: float) -> list[dict[str, Any]]:
    """Let requests have their time-out, and then let their pages come; returns what became of each.

    "kept": nothing has come to the memory after the call had given it back; "counted": by the driver, of both lengths
    together, after all.
    """
    found = []
    for way in WAYS:
        requests = _requests(kind, places, way)
        counts = Counts(requests)
        with waiting(requests, timeout_s) as (come, callers):
            results = outcomes(callers, timeout_s + late_s)
            come()
            over = {caller.request.name: caller for caller in callers}
            for one in results:
                if one["result"] == "nothing":
                    del over[one["request"]]
            for caller in over.values():
                caller.ask_whether_kept()
            kept = {name: caller.kept() for name, caller in over.items()}
            for one, request in zip(results, requests, strict=True):
                found.append(one | {"kept": kept.get(request.name), "counted": counts.of(request)})
    return found


def ended(
    kind: str, places: Sequence[Place], how: str, ways: Sequence[str], late_s: float,
) -> list[dict[str, Any]]:
    """End requests that wait for pages; returns what became of each.

    *how* is "kill", "signal", which has a handler, or "cancel".
    """
    found = []
    for way in ways:
        requests = _requests(kind, places, way)
        with contextlib.ExitStack() as stack:
            channels = [stack.enter_context(pciedma.Channel(request.path)) for request in requests]
            _, callers = stack.enter_context(waiting(requests, LONG_S, channels))
            start = time.monotonic()
            for caller, channel in zip(callers, channels, strict=True):
                if how == "cancel":
                    channel.cancel()
                else:
                    os.kill(caller.pid, signal.SIGKILL if how == "kill" else signal.SIGUSR1)
            for caller in callers:
                if how == "kill":
                    outcome = {"result": "killed" if caller.gone(start + late_s) else "nothing"}
                else:
                    outcome = caller.outcome(start + late_s)
                found.append({"request": caller.request.name} | outcome | {"seconds": time.monotonic() - start})
    return found


def there_in_part(
    kind: str, path: str, length: int, present: int, timeout_s: float, late_s: float,
) -> list[dict[str, Any]]:
    """Let long calls have their time-out, or a signal that has a handler; the first pages of their memory are there."""
    found = []
    for direction, signals in itertools.product(ENGINES, (False, True)):
        request = Request(path, direction, "sync", length, kind, present)
        with waiting([request], LONG_S if signals else timeout_s) as (_, callers):
            if signals:
                os.kill(callers[0].pid, signal.SIGUSR1)
            found += [one | {"signal": signals} for one in outcomes(callers, late_s + (0 if signals else timeout_s))]
    return found


def brought(kind: str, places: Sequence[Place], within_s: float) -> list[dict[str, Any]]:
    """Let pages come at last while requests wait for them; returns what became of each.

    "data" are the bytes that a read has brought, or that the card has after a write; none of a message. "counted": by
    the driver, of both lengths together.
    """
    found = []
    for way, direction in itertools.product(WAYS, ("write", "read")):
        requests = [one for one in _requests(kind, places, way) if one.direction == direction]
        for request in requests:
            _fill(request.path)
        counts = Counts(requests)
        with waiting(requests, LONG_S) as (come, callers):
            come()
            results = outcomes(callers, within_s)
        for one, request in zip(results, requests, strict=True):
            more = {"counted": counts.of(request)}
            found.append(one | more | ({"data": _holds(request)} if direction == "write" else {}))
    return found


def _in(seconds: float, path: str, direction: str, length: int) -> int:
    """Make calls, one after the other, for that time; returns how many until one fails."""
    memory = buffers.small_pages(length)
    count = 0
    with pciedma.Channel(path) as channel:
        channel.timeout_s = 2.0
        end = time.monotonic() + seconds
        while time.monotonic() < end and moved(channel, direction, memory.address, length) == length:
            count += 1
    return count


def _seconds_for(count: int, path: str, direction: str, length: int) -> float | str:
    """Make requests by AIO and as many by io_uring; returns how long they took, or what was wrong."""
    memory = buffers.small_pages(2 * count * PAGE)
    reads = direction == "read"
    start = time.monotonic()
    with pciedma.Channel(path) as channel, Context(count) as context, io_uring.Ring(count) as ring:
        channel.timeout_s = 2.0
        for address in range(memory.address, memory.address + 2 * count * PAGE, 2 * PAGE):
            context.submit(PREAD if reads else PWRITE, channel.fileno(), address, length, 0)
            ring.prepare(io_uring.READ if reads else io_uring.WRITE, channel.fileno(), address + PAGE, length, 0)
            ring.submit()
        results = {result for _, result in context.wait(count, 60) + ring.wait(count, 60)}
    if results != {length}:
        return " ".join(str(one) if one >= 0 else errno.errorcode[-one] for one in results)
    return time.monotonic() - start


def _eight(path: str, directions: Sequence[str], lengths: tuple[int, int], kinds: Sequence[str]) -> list[Request]:
    """Return requests by all ways in with memory of all kinds, of both lengths."""
    found = []
    for number in range(8):
        way, kind = WAYS[number % len(WAYS)], kinds[number // len(WAYS) % len(kinds)]
        found.append(Request(path, directions[number % len(directions)], way, lengths[number // 4], kind))
    return found


def beside(
    path: str, direction: str, lengths: tuple[int, int], kinds: Sequence[str], length: int, count: int, late_s: float,
) -> dict[str, Any]:
    """Move data alone, and then beside eight callers that wait for pages, which come at last.

    Returns how many synchronous requests of *length* there were in a second, how long *count* asynchronous ones took by
    either way, what became of the eight, and what the driver counted.
    """
    requests = _eight(path, [direction], lengths, kinds)
    counts = Counts(requests)
    found: dict[str, Any] = {"alone": _in(1.0, path, direction, length)}
    found["asynchronous alone"] = _seconds_for(count, path, direction, length)
    with waiting(requests, LONG_S) as (come, callers):
        found["beside"] = _in(1.0, path, direction, length)
        found["asynchronous beside"] = _seconds_for(count, path, direction, length)
        come()
        found["results"] = outcomes(callers, late_s)
    return found | {"counted": counts.of(requests[0])}


def _exits(path: str) -> None:
    """Exit with requests under way."""
    memory = buffers.small_pages(8 * PAGE)
    channel = pciedma.Channel(path)
    context, ring = Context(4), io_uring.Ring(4)
    for number in range(4):
        context.submit(PREAD, channel.fileno(), memory.address + number * PAGE, 100, 0)
        ring.prepare(io_uring.READ, channel.fileno(), memory.address + (4 + number) * PAGE, 100, 0)
        ring.submit()
    os.kill(os.getpid(), signal.SIGKILL)


def _resets(card: str) -> None:
    with pciedma.open(card) as opened:
        opened.reset()


class _Action:
    """A child that does something to a card."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._start = time.monotonic()
        self._child = forked()
        if not self._child:
            try:
                function()
            finally:
                os._exit(0)

    def seconds(self, within_s: float) -> float | None:
        """Return how long it took, or None if it has not ended after that time."""
        while time.monotonic() - self._start < within_s:
            if os.waitpid(self._child, os.WNOHANG)[0]:
                return time.monotonic() - self._start
            time.sleep(0.005)
        return None

    def wait(self) -> None:
        """Wait for its end."""
        os.waitpid(self._child, 0)


def done_to_card(
    card: str, driver: str, address: str, lengths: tuple[int, int], kinds: Sequence[str], within_s: float,
) -> dict[str, Any]:
    """Do one thing after the other to a card eight of whose callers wait for pages; the last is to unbind it.

    Returns how long each took, None for the first that takes more than *within_s*; what became of callers before the
    last, and at last, when the pages have come.
    """
    path = f"{card}c0"
    reset = Path(f"/sys/bus/pci/devices/{address}/reset")
    actions: dict[str, Callable[[], object]] = {
        "exit": lambda: _exits(path), "RESET": lambda: _resets(card), "reset": lambda: reset.write_text("1"),
        "unbind": lambda: unbind(driver, address),
    }
    if not reset.exists():
        del actions["reset"]
    found: dict[str, Any] = {"seconds": {}, "early": []}
    with waiting(_eight(path, [*ENGINES], lengths, kinds), LONG_S) as (come, callers):
        for name, function in actions.items():
            if name == "unbind":
                found["early"] = [one for one in outcomes(callers, 0) if one["result"] != "nothing"]
            action = _Action(function)
            found["seconds"][name] = action.seconds(within_s)
            if found["seconds"][name] is None:
                break
        come()
        if found["seconds"][name] is None:
            action.wait()
        found["late"] = outcomes(callers, within_s)
    return found


def gone(card: str, address: str, lengths: tuple[int, int], kinds: Sequence[str], within_s: float) -> dict[str, Any]:
    """Have eight callers wait for pages, say so by /tmp/waiting, and wait until the card is gone.

    Returns whether it was in time, and what became of the callers when the pages had come.
    """
    with waiting(_eight(f"{card}c0", [*ENGINES], lengths, kinds), LONG_S) as (come, callers):
        Path("/tmp/waiting").touch()
        end = time.monotonic() + within_s
        while Path(f"/sys/bus/pci/devices/{address}").exists() and time.monotonic() < end:
            time.sleep(0.01)
        in_time = time.monotonic() < end
        come()
        return {"in time": in_time, "late": outcomes(callers, within_s)}


def during(
    cards: Sequence[tuple[str, tuple[int, int]]], kinds: Sequence[str], action: list[str], resumed: str,
    within_s: float,
) -> dict[str, Any]:
    """Suspend while callers of all cards wait for pages, which come then; returns what that led to.

    In the file *resumed* the command leaves when it was awake again.
    """
    requests = [one for card, lengths in cards for one in _eight(f"{card}c0", [*ENGINES], lengths, kinds)]
    with waiting(requests, LONG_S) as (come, callers):
        start = time.clock_gettime(time.CLOCK_BOOTTIME)
        status = subprocess.run(action, check=False).returncode
        seconds = float(Path(resumed).read_text().split()[0]) - start if not status else 0
        come()
        return {"status": status, "seconds": seconds, "late": outcomes(callers, within_s)}
