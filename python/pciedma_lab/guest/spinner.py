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
from types import TracebackType

from .children import forked


class Spinner:
    """A process that has the processor whenever nobody else wants it, and counts in shared memory how long it had it.

    So the machine is never idle, and what it executes is all that passes but for what the spinner does. A wake-up is
    then one from another process, and not from the idle task. Use it as a context manager.
    """

    #: inc qword [rdi]; jmp to it: two instructions a turn
    _TURN = bytes.fromhex("48ff07 ebfb")
    _TURN_NS = 2

    def __init__(self) -> None:
        """Start it; it has begun to count when this returns."""
        self._turns = mmap.mmap(-1, mmap.PAGESIZE)
        self._count = ctypes.c_uint64.from_buffer(self._turns)
        self._child = forked(self._spin)
        while not self._count.value:
            time.sleep(0.001)

    def _spin(self) -> None:
        code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code.write(self._TURN)
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        spin = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
        spin(ctypes.addressof(self._count))

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
        """Return what the machine executes while *function* runs: all of it, interrupts and other threads too."""
        spun, start = self._count.value, time.monotonic_ns()
        function()
        return time.monotonic_ns() - start - (self._count.value - spun) * self._TURN_NS
