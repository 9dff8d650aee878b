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

from . import cards, chroot, interruption
from .card_command import device_arguments
from .control import Control

_START_SECONDS = 30
_PR_SET_PDEATHSIG = 1
_numbers = itertools.count()
_libc = ctypes.CDLL(None)


class EmulatedCard:
    """A card's model in a process that ends with this one: more exactly, with the thread that started it."""

    def __init__(
        self,
        card: str,
        *,
        variant: str | None = None,
        faults: Sequence[str] = (),
        seed: int = 0,
        directory: Path | None = None,
    ) -> None:
        """Prepare *card*, a name or ``PATH/NAME.py``; nothing runs before start().

        Sockets and the model's output lie in *directory*, or in a temporary one that stop() removes.
        """
        #: The file of a model that is not the lab's own.
        self.source = cards.source(card)
        self.name = card if self.source is None else self.source.stem
        self.variant = variant
        self.faults = list(faults)
        self.seed = seed
        self.identifier = f"{self.name}{next(_numbers)}"
        self.process: subprocess.Popen[bytes] | None = None
        self._directory = directory
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._control: Control | None = None

    def start(self) -> None:
        """Start the process and wait until it listens; raises RuntimeError with its output if it does not."""
        if self._directory is None:
            with interruption.postponed():
                self._temporary = tempfile.TemporaryDirectory(prefix="pciedma-card-", dir=chroot.SHARED_TMP)
        self.folder = Path(self._temporary.name) if self._temporary else self._directory or Path()
        self.socket = self.folder / "socket"
        left_over = _inode(self.socket)  # which a model that died has left, and the new one replaces
        with (self.folder / "log").open("wb") as log, interruption.postponed():
            self.process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
                env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])},
            )
        end = time.monotonic() + _START_SECONDS
        while _inode(self.socket) in (None, left_over):
            if not self.alive or time.monotonic() > end:
                raise self._failure()
            time.sleep(0.01)
        try:
            self._control = Control(self.folder / "control")
        except OSError:  # it has just ended
            raise self._failure() from None

    def _failure(self) -> RuntimeError:
        """End what there is, and return why it did not start."""
        text = f"the card {self.name} did not start: {self.log()}"
        self.stop()
        return RuntimeError(text)

    def _command(self) -> list[str]:
        argv = [sys.executable, "-P", "-m", "pciedma_lab"]  # -P: nothing of the current folder's hides a module
        argv += ["card", str(self.source or self.name), "--seed", str(self.seed)]
        argv += ["--socket", str(self.socket), "--control", str(self.folder / "control")]
        argv += ["--variant", self.variant] if self.variant else []
        for fault in self.faults:
            argv += ["--fault", fault]
        return argv

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

    def log(self) -> str:
        """Return what the model has written: why it did not start, or a traceback if it failed."""
        return (self.folder / "log").read_text(errors="replace")

    def qemu_device_arguments(self, bus: str | None) -> str:
        """Return what QEMU's -device takes to attach it; raises RuntimeError if it was not started."""
        if self.process is None:
            raise RuntimeError(f"the card {self.name} does not run")
        return device_arguments(self.socket, self.identifier, bus)

    def stop(self) -> None:
        """End the process, and leave nothing of it."""
        if self.process is not None:
            self._end(self.process)
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._control is not None:
            self._control.close()
            self._control = None
        self.process = None


def _inode(path: Path) -> int | None:
    """Return the number of what is at *path*, or None if there is nothing."""
    try:
        return path.lstat().st_ino
    except FileNotFoundError:
        return None


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
