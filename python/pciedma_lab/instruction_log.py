"""QEMU's log of what a guest executes, counted by the kernel's functions.

With one instruction in each translated block, ``-d exec`` writes a line for every instruction; the machine's monitor
switches both on only for the stretch of interest. The log is large, and goes through a pipe that is read at once.
"""

from __future__ import annotations

import bisect
import contextlib
import fcntl
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from .guest_process import MachineFailed
from .machine import Machine

USER = "user space"
_UNKNOWN = "unknown"
_KERNEL_BEGIN = 1 << 63
#: ``Trace CPU: BLOCK [BASE/PC/FLAGS/FLAGS] SYMBOL`` has executed; ``Stopped ... before BLOCK [PC] SYMBOL``: it has not.
_EXECUTED = re.compile(rb"/([0-9a-f]{16})/")
_EITHER = re.compile(rb"(/|Stopped[^\[\n]*\[)([0-9a-f]{16})[/\]]")
_STOPPED = b"Stopped"
_TEXT = "tTwW"
_SPINNER_BYTES = 16
_PIPE_BYTES = 1 << 20
_JOIN_SECONDS = 60


class Symbols:
    """The functions of a kernel and its modules, from what ``/proc/kallsyms`` says."""

    def __init__(self, kallsyms: str) -> None:
        """Take the lines, in any order."""
        names: dict[int, str] = {}
        for line in kallsyms.splitlines():
            address, kind, name, *module = line.split()
            if kind in _TEXT:
                names.setdefault(int(address, 16), " ".join([name, *module]))
        self._addresses = sorted(names)
        self._names = [names[address] for address in self._addresses]

    def name(self, address: int) -> str:
        """Return the function that an address lies in, with its module in brackets; USER below the kernel."""
        if address < _KERNEL_BEGIN:
            return USER
        place = bisect.bisect_right(self._addresses, address) - 1
        return self._names[place] if place >= 0 else _UNKNOWN

    def by_function(self, counts: Mapping[int, int]) -> Counter[str]:
        """Return the sums for each function of what was counted for addresses."""
        found: Counter[str] = Counter()
        for address, count in counts.items():
            found[self.name(address)] += count
        return found


class Stretches:
    """Counts the instructions by their addresses in each stretch between two marks, which are addresses themselves."""

    def __init__(self, begin: int, end: int, wanted: int, spinner: int | None = None) -> None:
        """Wait for *wanted* stretches, from what executes at *begin* to what executes at *end*.

        What a Spinner executes, from the address *spinner*, is not counted.
        """
        self._begin, self._end = (b"%016x" % mark for mark in (begin, end))
        self._left_out = () if spinner is None else range(spinner, spinner + _SPINNER_BYTES)
        self._wanted = wanted
        self._open: Counter[bytes] | None = None
        self._rest = b""
        self._found: list[Counter[bytes]] = []
        #: Set when all are there.
        self.complete = threading.Event()

    @property
    def counts(self) -> list[Counter[int]]:
        """The counts of each that has ended."""
        found = [Counter({int(address, 16): count for address, count in one.items()}) for one in self._found]
        for one in found:
            for address in self._left_out:
                del one[address]
        return found

    def feed(self, data: bytes) -> None:
        """Take the next piece of the log."""
        whole, newline, self._rest = (self._rest + data).rpartition(b"\n")
        if not newline or self.complete.is_set():
            return
        if self._begin in whole or self._end in whole or _STOPPED in whole:
            for kind, address in _EITHER.findall(whole):
                self._take(address, 1 if kind == b"/" else -1)
        elif self._open is not None:
            self._open.update(_EXECUTED.findall(whole))

    def _take(self, address: bytes, count: int) -> None:
        if address == self._begin:
            self._open = Counter()
        elif self._open is None:
            return
        elif address == self._end:
            self._found.append(self._open)
            self._open = None
            if len(self._found) == self._wanted:
                self.complete.set()
        else:
            self._open[address] += count


def _monitor(vm: Machine, line: str) -> None:
    """Have QEMU's human monitor do something; it says nothing if all is well."""
    said = vm.qmp.execute("human-monitor-command", **{"command-line": line})
    if said:
        raise vm.failure(f"QEMU's monitor says of {line!r}: {said}")


def _drain(pipe: int, stretches: Stretches) -> None:
    """Read until QEMU closes its end."""
    with contextlib.closing(os.fdopen(pipe, "rb", buffering=0)) as file:
        while data := file.read(_PIPE_BYTES):
            stretches.feed(data)


@contextlib.contextmanager
def recorded(vm: Machine, stretches: Stretches) -> Iterator[None]:
    """Let the machine log each instruction to *stretches*; it executes some hundred thousand a second meanwhile."""
    path = vm.guest.sockets / "instructions"
    os.mkfifo(path)
    pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # else it would wait for QEMU, which waits for it
    os.set_blocking(pipe, True)
    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    thread = threading.Thread(target=_drain, args=(pipe, stretches), daemon=True)
    try:
        _monitor(vm, f"logfile {path}")
        thread.start()  # before QEMU has opened it there is nothing to read, which would be its end
        _monitor(vm, "one-insn-per-tb on")
        _monitor(vm, "log exec")
        yield
        _monitor(vm, "log none")
        _monitor(vm, "one-insn-per-tb off")
        _monitor(vm, f"logfile {vm.guest.trace}")
        thread.join(_JOIN_SECONDS)
        if thread.is_alive():
            raise MachineFailed("QEMU does not end its log")
    finally:
        path.unlink()


def read_symbols(vm: Machine) -> Symbols:
    """Return the functions of a machine's kernel and of the modules that it has loaded."""
    place = Path("kallsyms")
    vm.run(["cp", "/proc/kallsyms", f"/mnt/results/{place}"], 120)
    return Symbols((vm.guest.results / place).read_text())
