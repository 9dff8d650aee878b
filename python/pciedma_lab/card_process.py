"""An emulated card as a process of its own, for the machine and for tests."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from .card_command import device_arguments
from .control import Control

_START_SECONDS = 30
_PR_SET_PDEATHSIG = 1
_numbers = itertools.count()
_libc = ctypes.CDLL(None)


class EmulatedCard:
    """A card's model in a process that ends with this one."""

    def __init__(
        self, name: str, *, variant: str | None = None, faults: Sequence[str] = (), seed: int = 0
    ) -> None:
        """Prepare the card *name*; nothing runs before start()."""
        self.name = name
        self.variant = variant
        self.faults = list(faults)
        self.seed = seed
        self.identifier = f"{name}{next(_numbers)}"
        self.process: subprocess.Popen[bytes] | None = None
        self._control: Control | None = None

    def start(self) -> None:
        """Start the process and wait until it listens."""
        self._folder = tempfile.TemporaryDirectory(prefix="pciedma-card-")
        folder = Path(self._folder.name)
        self.socket = folder / "socket"
        argv = [sys.executable, "-m", "pciedma_lab", "card", self.name, "--socket", str(self.socket)]
        argv += ["--control", str(folder / "control"), "--seed", str(self.seed)]
        argv += ["--variant", self.variant] if self.variant else []
        for fault in self.faults:
            argv += ["--fault", fault]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent,
                env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])},
            )
        end = time.monotonic() + _START_SECONDS
        while not self.socket.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the card {self.name} did not start: {(folder / 'log').read_text()}")
            time.sleep(0.01)
        self._control = Control(folder / "control")

    @property
    def control(self) -> Control:
        """The connection to the model; raises RuntimeError if it was not started."""
        if self._control is None:
            raise RuntimeError(f"the card {self.name} does not run")
        return self._control

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def qemu_device_arguments(self, bus: str | None) -> str:
        """Return what QEMU's -device takes to attach it."""
        return device_arguments(self.socket, self.identifier, bus)

    def stop(self) -> None:
        """End the process."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self._control is not None:
            self._control.close()
            self._control = None
        self.process = None
        self._folder.cleanup()


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
