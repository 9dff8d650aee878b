"""The Python binding with a real driver, run in the guest."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pciedma
from pciedma import uapi


def _told(action: Callable[[], object]) -> dict[str, Any]:
    try:
        action()
    except OSError as error:
        return {"class": type(error).__name__, "errno": error.errno, "text": str(error)}
    return {"class": "", "errno": 0, "text": ""}


def opened_by(node: str, address: str) -> dict[str, list[str]]:
    """Open a card by all that names it, its first channel, and all of them; returns their paths."""
    found = next(card for card in pciedma.list_cards() if card.path == node)
    paths = {}
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"pci-{address}"
        link.symlink_to(node)
        number = node.removeprefix("/dev/pciedma")
        for name, which in (("link", str(link)), ("path object", link), ("bytes", os.fsencode(node)), ("text", number),
                            ("number", int(number)), ("found", found), ("address", address)):
            with pciedma.open(which) as card, card.channel(0) as channel:
                paths[name] = [card.path, channel.path]
                for each in card:
                    with each:
                        paths[name].append(each.path)
    return paths


def refused(node: str) -> dict[str, dict[str, Any]]:
    """Open what is no card as one, and what is no channel or window. Of a window the name is enough."""
    return {
        "channel as card": _told(lambda: pciedma.open(f"{node}c0")),
        "window as card": _told(lambda: pciedma.open(f"{node}w0")),
        "card as channel": _told(lambda: pciedma.Channel(node)),
        "window as channel": _told(lambda: pciedma.Channel(f"{node}w0")),
        "card as window": _told(lambda: pciedma.Window(node)),
        "channel as window": _told(lambda: pciedma.Window(f"{node}c0")),
        "null as card": _told(lambda: pciedma.open("/dev/null")),
        "null as channel": _told(lambda: pciedma.Channel("/dev/null")),
        "null as window": _told(lambda: pciedma.Window("/dev/null")),
        "console as card": _told(lambda: pciedma.open("/dev/tty0")),
        "folder as card": _told(lambda: pciedma.open("/dev/")),
    }


def renamed(node: str) -> dict[str, dict[str, Any]]:
    """Make a node of a channel by another name, and open it as a card and as a window."""
    with tempfile.TemporaryDirectory(dir="/dev") as folder:
        path = Path(folder) / "mine"
        os.mknod(path, 0o020600, Path(f"{node}c0").stat().st_rdev)
        return {"card": _told(lambda: pciedma.open(path)), "window": _told(lambda: pciedma.Window(path))}


def unknown_call(node: str) -> dict[str, dict[str, Any]]:
    """Make calls that no driver knows yet, of a card and of a channel."""
    request = uapi._ioc(1, 0x7F, uapi.pciedma_reset)
    with pciedma.open(node) as card, card.channel(0) as channel:
        return {
            "card": _told(lambda: card._ioctl(request, uapi.pciedma_reset())),
            "channel": _told(lambda: channel._ioctl(request, uapi.pciedma_reset())),
        }


def whole(
    path: str, direction: str, length: int, address: int = 0, *, cancelled: bool = False, signal_after_s: float = 0,
) -> dict[str, Any]:
    """Move memory by one call of the binding's; returns what came of it.

    *cancelled* when part has moved, or with signals all the while.
    """
    seen: list[int] = []
    data = os.urandom(1 << 20) * (length >> 20) + os.urandom(length % (1 << 20))
    signal.signal(signal.SIGALRM, lambda number, frame: seen.append(number))
    with pciedma.Channel(path) as channel:
        channel.timeout_s = 60.0
        ended = threading.Event()
        canceller = threading.Thread(target=_cancel_when_moved, args=(channel, direction, ended))
        if cancelled:
            canceller.start()
        if signal_after_s:
            signal.setitimer(signal.ITIMER_REAL, signal_after_s, signal_after_s)
        found = _moved(channel, direction, data, address)
        signal.setitimer(signal.ITIMER_REAL, 0)
        ended.set()
        if cancelled:
            canceller.join()
    return found | {"signals": len(seen)}


def _cancel_when_moved(channel: pciedma.Channel, direction: str, ended: threading.Event) -> None:
    folder = Path("/sys/class/pciedma") / Path(channel.path).name
    moved = folder / ("c2h" if direction == "read" else "h2c") / "bytes"
    before = moved.read_text()
    while moved.read_text() == before and not ended.wait(0.001):
        pass
    channel.cancel()


def _moved(channel: pciedma.Channel, direction: str, data: bytes, address: int) -> dict[str, Any]:
    try:
        if direction == "write":
            return {"moved": channel.write(data, address), "class": ""}
        return {"moved": len(channel.read(len(data), address)), "class": ""}
    except pciedma.TransferError as error:
        return {
            "moved": error.transferred, "class": type(error).__name__, "errno": error.errno, "text": str(error),
            "partial": len(error.partial),
        }


def fill(path: str, length: int, seed: int) -> None:
    """Fill a memory channel with what partial() expects."""
    with pciedma.Channel(path) as channel:
        channel.write(random.Random(seed).randbytes(length))


def partial(path: str, length: int, seed: int) -> dict[str, Any]:
    """Read what fill() has written; returns the error, and whether what arrived is right."""
    expected = random.Random(seed).randbytes(length)
    with pciedma.Channel(path) as channel:
        try:
            return {"class": "", "right": channel.read(length, 0) == expected}
        except pciedma.TransferError as error:
            return {
                "class": type(error).__name__, "errno": error.errno, "moved": error.transferred,
                "right": error.partial == expected[: error.transferred], "text": str(error),
            }


def shapes(path: str) -> list[str]:
    """Read into buffers of several shapes; returns those that were wrong."""
    memory = bytes(range(256)) * 16
    buffers: dict[str, Any] = {
        "three dimensions": memoryview(mmap.mmap(-1, 4096)).cast("I", (4, 4, 64)),
        "no elements": ((ctypes.c_int * 4) * 0)(),
        "a scalar": ctypes.c_uint64(),
        "structures": (uapi.pciedma_engine_info * 3)(),
    }
    wrong = []
    with pciedma.Channel(path) as channel:
        channel.write(memory)
        for name, buffer in buffers.items():
            size = memoryview(buffer).nbytes
            if channel.readinto(buffer, 0) != size or bytes(buffer) != memory[:size]:
                wrong.append(name)
    return wrong
