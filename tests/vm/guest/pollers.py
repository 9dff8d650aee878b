"""More threads than processors that poll one engine, run in the guest."""

from __future__ import annotations

import os
import re
import time
from collections import Counter

import pciedma
from pciedma_lab.guest import buffers
from pciedma_lab.guest.linux_aio import PREAD, Context

from .tracing import _events, _lines, _put


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


def beside_a_client(path: str, pollers: int = 2, seconds: float = 2.0) -> dict[str, int]:
    """Poll while an asynchronous client is interrupted; returns the segments that one interrupt found, and more.

    What the handler says is seen where it returns: the kernel's own count of what nobody wanted has also messages that
    come before a threaded handler has run.
    """
    children = []
    for _ in range(pollers):
        child = os.fork()
        if child == 0:
            _read(path, "POLL", 4096, seconds)
            os._exit(0)
        children.append(child)
    buffer = buffers.small_pages(8 * 4096)
    end = time.monotonic() + seconds
    requests = 0
    _put("kprobe_events", "r:pciedma_lab/handler pciedma:vector_handler said=$retval:u32")
    try:
        with (
            pciedma.Channel(path) as channel, Context(8) as context,
            _events("pciedma/pciedma_interrupt", "pciedma_lab"),
        ):
            while requests < 100 or time.monotonic() < end:
                for number in range(8):
                    context.submit(PREAD, channel.fileno(), buffer.address + number * 4096, 4096, 0, data=number)
                requests += sum(result == 4096 for _, result in context.wait(8, 30))
        for child in children:
            assert os.waitpid(child, 0)[1] == 0
        trace = "\n".join(_lines())
    finally:
        _put("kprobe_events", "")
    found = [int(text) for text in re.findall(r"found=(\d+)", trace)]
    said = re.findall(r"said=(\d+)", trace)
    return {
        "requests": requests, "interrupts": len(found), "most": max(found, default=0), "returns": len(said),
        "unhandled": said.count("0"),
    }
