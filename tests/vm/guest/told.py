"""What a driver, and the tool, tell of cards that are not well, run in the guest."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pciedma
from pciedma import __main__ as command_line
from pciedma.tool.card_checks import check_health
from pciedma.tool.cards import cards
from pciedma.tool.facts import Facts
from pciedma.tool.findings import problems
from pciedma.tool.system import System

_libc = ctypes.CDLL(None, use_errno=True)
_FINIT_MODULE, _DELETE_MODULE = {"x86_64": (313, 176), "aarch64": (273, 106)}[platform.machine()]

_COMMAND, _BARS = 0x04, range(0x10, 0x28, 4)
_MEMORY_SPACE = b"\x02\x00"


def _result(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def _sysfs(card: str, name: str) -> str:
    return Path("/sys/class/pciedma", card.removeprefix("/dev/") + name).read_text().strip()


def lose_config(address: str, what: str) -> None:
    """Wipe parts of a card's configuration space, as configuring its FPGA anew does."""
    fd = os.open(f"/sys/bus/pci/devices/{address}/config", os.O_RDWR)
    try:
        if what != "bars":
            os.pwrite(fd, _MEMORY_SPACE if what == "master" else bytes(2), _COMMAND)
        for offset in _BARS if what in ("bars", "both") else ():
            os.pwrite(fd, bytes(4), offset)
    finally:
        os.close(fd)


def _troubles() -> list[tuple[str, tuple[str, ...]]]:
    """Return the problems that ``pciedma doctor`` finds with cards' health, and what to do about each."""
    return [(found.summary, found.steps) for found in problems(check_health(Facts(System())))]


def _state(card: str) -> dict[str, Any]:
    return {
        "sysfs": _sysfs(card, "/configuration"),
        "list": next(found.state.value for found in cards(System()) if found.node == card),
        "health": _sysfs(card, "c0/h2c/health"),
        "doctor": [steps for _, steps in _troubles()],
    }


def lost_config(card: str, address: str, what: str) -> dict[str, Any]:
    """Lose a card's configuration, call it, and reset it by what doctor says; returns what there was to see."""
    with pciedma.open(card) as opened, opened.channel(0) as channel:
        channel.timeout_s = 0.5
        found: dict[str, Any] = {"before": [_result(channel.write, b"hello"), _sysfs(card, "/configuration")]}
        lose_config(address, what)
        found["unnoticed"] = _state(card)
        found["first"] = _result(channel.write, b"hello")
        timeouts = _sysfs(card, "c0/h2c/timeouts")
        found["then"] = [_result(channel.write, b"hello") for _ in range(3)]
        found["waited"] = int(_sysfs(card, "c0/h2c/timeouts")) - int(timeouts)
        found["noticed"] = _state(card)
        program, *arguments = found["noticed"]["doctor"][0][0].split()
        found["reset"] = [program, command_line.main(arguments)]
        found["after"] = [_result(channel.write, b"hello"), _state(card)]
    return found


def reset_of_lost(card: str, address: str, what: str) -> list[Any]:
    """Lose a card's configuration, and reset it at once; returns what the reset and a call after it led to."""
    with pciedma.open(card) as opened, opened.channel(0) as channel:
        lose_config(address, what)
        return [_result(opened.reset), _sysfs(card, "/configuration"), _result(channel.write, b"hello")]


def calls(path: str, direction: str, count: int, timeout_s: float = 0.2) -> list[Any]:
    """Make calls that may fail; returns what each led to."""
    with pciedma.Channel(path) as channel:
        channel.timeout_s = timeout_s
        if direction == "c2h":
            return [_result(lambda: len(channel.read(100))) for _ in range(count)]
        return [_result(channel.write, bytes(100)) for _ in range(count)]


def health(card: str) -> dict[str, Any]:
    """Return what there is to see of the health of a card's first channel."""
    return {
        "sysfs": {direction: _sysfs(card, f"c0/{direction}/health") for direction in ("c2h", "h2c")},
        "list": next(found.channels[0].health for found in cards(System()) if found.node == card),
        "doctor": _troubles(),
    }


@contextlib.contextmanager
def _listening() -> Iterator[Callable[[], list[str]]]:
    """Open the kernel log at its end; yields a function that returns the lines since it was last called."""
    fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)

    def news() -> list[str]:
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                record = os.read(fd, 8192).decode(errors="replace")
                found.append(record.partition(";")[2].partition("\n")[0])
        return found

    try:
        os.lseek(fd, 0, os.SEEK_END)
        yield news
    finally:
        os.close(fd)


def _load(fd: int, parameters: str) -> str | None:
    """Return the name of the errno with which the kernel refuses the module; None: it has it."""
    refused = _libc.syscall(_FINIT_MODULE, fd, parameters.encode(), 0) != 0
    return errno.errorcode[ctypes.get_errno()] if refused else None


def _unload(name: str) -> None:
    if _libc.syscall(_DELETE_MODULE, name.encode(), os.O_NONBLOCK):
        raise OSError(ctypes.get_errno(), name)


def loads(file: str, parameters: list[str]) -> list[dict[str, Any]]:
    """Load a module with one parameter after the other; returns for each what the log says of it, and the channels."""
    copy = shutil.copy(file, "/dev/shm")  # its own file system is slow
    fd = os.open(copy, os.O_RDONLY)
    found = []
    with _listening() as news:
        for parameter in parameters:
            error = _load(fd, parameter)
            sizes = {path.parent.name: path.read_text().strip() for path in Path("/sys/class/pciedma").glob("*/size")}
            if not error:
                _unload(Path(file).stem)
            said = [line for line in news() if "pciedma" in line]
            found.append({"loaded": not error, "error": error, "said": said, "sizes": sizes})
    os.close(fd)
    Path(copy).unlink()
    return found


def settings(card: str, values: list[list[Any]]) -> list[Any]:
    """Write values to settings of a channel, each [name, value]; returns what each led to, and what it reads then."""
    found = []
    for name, value in values:
        file = Path(f"/sys/class/pciedma/{card.removeprefix('/dev/')}c0/h2c/{name}")
        before = file.read_text()
        found.append([_stored(file, value), file.read_text().strip()])
        file.write_text(before)
    return found


def _stored(file: Path, value: str) -> str:
    result = _result(file.write_text, value)
    return "ok" if isinstance(result, int) else str(result)
