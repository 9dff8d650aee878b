"""More threads than processors that poll one engine, run in the guest."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from pathlib import Path

import pciedma
from pciedma_lab.guest import buffers
from pciedma_lab.guest.linux_aio import PREAD, Context

from .tracing import TRACING, _events, _lines


def _read(path: str, wait_mode: str, length: int, seconds: float) -> int:
    """Read again and again, at least 100 times; returns how often."""
    count = 0
    buffer = buffers.small_pages(length)
    with pciedma.Channel(path) as channel:
        channel.wait_mode = pciedma.WaitMode[wait_mode]
        end = time.monotonic() + seconds
        while count < 100 or time.monotonic() < end:
            assert channel.readinto(buffer.view, 0) == length
            count += 1
    return count


def _together(path: str, processes: int, wait_mode: str, length: int, seconds: float) -> int:
    """Read in several processes; returns how often all together."""
    read, write = os.pipe()
    children = []
    for _ in range(processes):
        child = os.fork()
        if child == 0:
            os.write(write, b"%d\n" % _read(path, wait_mode, length, seconds))
            os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    os.close(write)
    with os.fdopen(read) as file:
        return sum(map(int, file))


def crowd(path: str, processes: int = 4, length: int = 4096, seconds: float = 2.0) -> dict[str, int]:
    """Return how many reads of one and of several processes that poll, and how many looks were out of turn."""
    alone = _together(path, 1, "POLL", length, seconds)
    crowded = _together(path, processes, "POLL", length, seconds)
    with _events("pciedma/pciedma_poll"):
        _together(path, processes, "POLL", length, 0.3)
        _together(path, processes, "ADAPTIVE", length, 0.3)
    turns = Counter(re.findall(r"oldest=(\d)", "\n".join(_lines())))
    return {"alone": alone, "crowded": crowded, "in_turn": turns["1"], "out_of_turn": turns["0"]}


def _unhandled(name: str) -> int:
    """Count the interrupts of a card, by the beginning of its vectors' names, that nobody wanted."""
    lines = [line for line in Path("/proc/interrupts").read_text().splitlines() if re.search(rf" {name}(-|$|,)", line)]
    assert lines, f"no vector of {name}"
    files = [Path(f"/proc/irq/{line.split(':')[0].strip()}/spurious") for line in lines]
    return sum(int(re.findall(r"unhandled (\d+)", file.read_text())[0]) for file in files)


def beside_a_client(path: str, pollers: int = 2, seconds: float = 2.0) -> dict[str, int]:
    """Poll while an asynchronous client is interrupted; returns the segments that one interrupt found, and more."""
    children = []
    for _ in range(pollers):
        child = os.fork()
        if child == 0:
            _read(path, "POLL", 4096, seconds)
            os._exit(0)
        children.append(child)
    card = re.findall(r"pciedma\d+", path)[0]
    unhandled = _unhandled(card)
    buffer = buffers.small_pages(8 * 4096)
    end = time.monotonic() + seconds
    requests = 0
    with pciedma.Channel(path) as channel, Context(8) as context, _events("pciedma/pciedma_interrupt"):
        while requests < 100 or time.monotonic() < end:
            for number in range(8):
                context.submit(PREAD, channel.fileno(), buffer.address + number * 4096, 4096, 0, data=number)
            requests += sum(result == 4096 for _, result in context.wait(8, 30))
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    found = [int(text) for text in re.findall(r"found=(\d+)", (TRACING / "trace").read_text())]
    return {
        "requests": requests, "interrupts": len(found), "most": max(found, default=0),
        "unhandled": _unhandled(card) - unhandled,
    }
