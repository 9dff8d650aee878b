"""Checked transfers, run in the guest."""

from __future__ import annotations

import dataclasses
import os
import random
import time
from collections.abc import Iterable
from typing import Any

import pciedma

from . import buffers

LONGEST = 2047
_GUARD = 64


def info(card: str, channel: int = 0) -> dict[str, Any]:
    """Return what card and channel say of themselves."""
    with pciedma.open(card) as opened, opened.channel(channel) as open_channel:
        found = dataclasses.asdict(open_channel.info)
        return {"card": dataclasses.asdict(opened.info), "channel": found | {"kind": open_channel.kind.name}}


def _percentiles(nanoseconds: list[int]) -> dict[str, float]:
    ordered = sorted(nanoseconds) or [0]
    return {f"p{p}": round(ordered[min(len(ordered) - 1, len(ordered) * p // 100)] / 1000, 1) for p in (50, 99)}


def echo(
    path: str, count: int = 100, seed: int = 1, size: int | None = None, wait_mode: str = "INTERRUPT",
    timeout_s: float = 10.0, pause_us: float = 0, processors: Iterable[int] | None = None,
) -> dict[str, Any]:
    """Send *count* random messages through the loop-back of a message channel and compare each."""
    if processors is not None:
        os.sched_setaffinity(0, processors)
    rng = random.Random(seed)
    pool = rng.randbytes(1 << 16)
    area = bytearray(LONGEST + _GUARD)
    times: list[int] = []
    errors, first_error = 0, None
    clock = time.perf_counter_ns
    begin = clock()
    with pciedma.Channel(path) as channel:
        channel.timeout_s = timeout_s
        channel.wait_mode = pciedma.WaitMode[wait_mode]
        for number in range(count):
            length = size or rng.randint(1, LONGEST)
            at = rng.randrange(len(pool) - length)
            message = pool[at : at + length]
            poison = bytes([message[0] ^ 0xFF]) * len(area)
            area[:] = poison
            start = clock()
            sent = channel.write(message)
            middle = clock()
            got = channel.readinto(memoryview(area)[:length])
            end = clock()
            times += (middle - start, end - middle)
            if sent != length or got != length or area[:length] != message or area[length:] != poison[length:]:
                errors += 1
                first_error = first_error or f"message {number}: sent {sent}, got {got} of {length}"
            if pause_us:
                time.sleep(pause_us / 1e6)
    return {
        "messages": count,
        "errors": errors,
        "first_error": first_error,
        "seconds": (clock() - begin) / 1e9,
        "latency_us": _percentiles(times),
    }


def fill_and_verify(path: str, transfers: int = 20, seed: int = 1) -> dict[str, Any]:
    """Fill a memory channel, then write and read at random places, and compare with a copy."""
    rng = random.Random(seed)
    times: list[int] = []
    errors, first_error, moved = 0, None, 0
    begin = time.perf_counter_ns()
    with pciedma.Channel(path) as channel:
        size = channel.info.size or 0
        copy = bytearray(rng.randbytes(size))
        moved += channel.write(copy)
        for number in range(transfers):
            length = rng.randint(1, size)
            address = rng.randrange(size - length + 1)
            start = time.perf_counter_ns()
            if number % 4 == 3:
                data = rng.randbytes(length)
                done = channel.write(data, address)
                copy[address : address + length] = data
            else:
                area = bytearray(b ^ 0xFF for b in copy[address : address + length])
                done = channel.readinto(area, address)
                if area != copy[address : address + length]:
                    errors += 1
                    first_error = first_error or f"transfer {number}: {length} bytes at {address:#x} differ"
            times.append(time.perf_counter_ns() - start)
            moved += done
            if done != length:
                errors += 1
                first_error = first_error or f"transfer {number}: {done} of {length} bytes"
        if channel.read() != copy:
            errors += 1
    return {
        "bytes": moved + len(copy),
        "transfers": transfers + 2,
        "errors": errors,
        "first_error": first_error,
        "seconds": (time.perf_counter_ns() - begin) / 1e9,
        "latency_us": _percentiles(times),
    }


def one(path: str, direction: str, length: int = 100, timeout_s: float | None = 10.0, wait_mode: str = "INTERRUPT",
        nonblocking: bool = False, address: int | None = None) -> dict[str, Any]:
    """Make one call and return its length or its errno's number and class, and how long it took.

    Its memory begins with a page, so that always the same pieces of it lie in one.
    """
    memory = buffers.anonymous(length).mapping
    with pciedma.Channel(path, nonblocking=nonblocking) as channel:
        channel.timeout_s = timeout_s
        channel.wait_mode = pciedma.WaitMode[wait_mode]
        start = time.monotonic()
        try:
            if direction == "read":
                moved = channel.readinto(memory, address, whole=False)
            else:
                moved = channel.write(memory, address, whole=False)
        except OSError as error:
            return {"errno": error.errno, "class": type(error).__name__, "seconds": time.monotonic() - start}
        return {"moved": moved, "seconds": time.monotonic() - start}


def repeat_until_error(path: str, direction: str = "write", length: int = 64) -> dict[str, Any]:
    """Make calls until one fails; return how many went well and the errno."""
    calls = 0
    try:
        with pciedma.Channel(path) as channel:
            while True:
                if direction == "write":
                    channel.write(bytes(length))
                else:
                    channel.read(length)
                calls += 1
    except OSError as error:
        return {"calls": calls, "errno": error.errno}
