"""What a machine of one processor executes, told by who has the processor for the rest of the time; run in the guest.

The machine's clock counts instructions (Machine's ``icount``), one a nanosecond. The kernel's own idle time is not
asked: on 7.3 it can exceed what has passed.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from .children import forked

#: inc qword [rdi]; jmp to it: two instructions a turn
_TURN = bytes.fromhex("48ff07 ebfb")
_TURN_NS = 2.0
#: begin: mov eax, [rsi]; mov ecx, 500; turn: inc qword [rdi]; dec ecx; jnz turn; jmp begin: three a turn, and for each
#: 500 turns three more
_TURN_WITH_READS = bytes.fromhex("8b06 b9f4010000 48ff07 ffc9 75f9 ebf0")
_TURN_WITH_READS_NS = 3 + 3 / 500


class Spinner:
    """A process that has the processor whenever nobody else wants it, and counts in shared memory how long it had it.

    So the machine is never idle, and what it executes is all that passes but for what the spinner does. A wake-up is
    then one from another process, and not from the idle task. Use it as a context manager. Begin it before there is
    memory for DMA: a process that has a child shares its pages, and gets others when they are written to.

    With a *card*, the folder of a PCI device in sysfs, it also reads that one's first register, when it gets the
    processor and again and again. A model that lets register writes take effect only when somebody reads does what it
    is told when nobody else has anything to do, however fast its host is. The kernel has to allow it (iomem=relaxed).
    """

    def __init__(self, card: Path | None = None) -> None:
        """Start it; it has begun to count when this returns."""
        turn, self._turn_ns = (_TURN, _TURN_NS) if card is None else (_TURN_WITH_READS, _TURN_WITH_READS_NS)
        self._turns = mmap.mmap(-1, mmap.PAGESIZE)
        self._count = ctypes.c_uint64.from_buffer(self._turns)
        self._code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._code.write(turn)
        #: Where its turns are, in its process.
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._code))
        self._registers = None if card is None else _registers(card)
        self._child = forked(self._spin)
        while not self._count.value:
            time.sleep(0.001)

    def _spin(self) -> None:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        register = None if self._registers is None else ctypes.addressof(ctypes.c_char.from_buffer(self._registers))
        spin = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(self.address)
        spin(ctypes.addressof(self._count), register)

    def __enter__(self) -> Spinner:
        """Return the spinner."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)

    def executed_ns(self, function: Callable[[], object]) -> int:
        """Return what the machine executes while *function* runs: all of it, interrupts and other threads too.

        The clock is asked first and last, so that turns of the spinner's between two questions are too much, never too
        little: the least of several is right.
        """
        start, spun = time.monotonic_ns(), self._count.value
        function()
        spun = self._count.value - spun
        return time.monotonic_ns() - start - round(spun * self._turn_ns)


def _registers(card: Path) -> mmap.mmap:
    """Map the first page of a PCI device's BAR 0."""
    fd = os.open(card / "resource0", os.O_RDWR)
    try:
        return mmap.mmap(fd, mmap.PAGESIZE)
    finally:
        os.close(fd)
