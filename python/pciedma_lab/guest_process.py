"""A command or a function call that runs in the guest, seen from the host."""

from __future__ import annotations

import base64
import contextlib
import json
import queue
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any, Protocol

from .guest_agent import OUTPUT_WINDOW

#: Of each output of a command that is kept.
_KEPT_BYTES = 64 << 20
#: So much is taken before the guest is told: less than it waits for, more than most commands write.
_TOLD_BYTES = OUTPUT_WINDOW // 4


class MachineFailed(Exception):  # noqa: N818
    """The guest crashed, hung, ended early, or did not end clean."""


class GuestError(Exception):
    """A function that ran in the guest raised; the text is its traceback."""


class Host(Protocol):
    """What a process asks of the machine it runs in."""

    @property
    def patience(self) -> int:
        """The factor by which all waits are longer than their callers say."""

    def send(self, kind: str, identifier: int, /, **arguments: Any) -> None:
        """Send a request to the agent."""

    def check_alive(self) -> None:
        """Raise MachineFailed if the machine has ended."""

    def failure(self, text: str) -> MachineFailed:
        """Return an exception with the end of the guest's console."""


class Process:
    """A command or a call in the guest that is under way. One thread at a time may wait for it.

    While nobody does, or asks whether it is done, its output has room for 1 MiB, and then it is held up.
    """

    def __init__(self, host: Host, number: int) -> None:
        """Made by Machine."""
        self._host = host
        self._messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._output = {"stdout": bytearray(), "stderr": bytearray(), "result": bytearray()}
        self._dropped = {"stdout": 0, "stderr": 0, "result": 0}
        self._untold = 0
        self._status: int | None = None
        #: The agent's name for it.
        self.number = number
        #: Its process id in the guest; 0 until started().
        self.pid = 0
        #: The agent's last message about it.
        self.final: dict[str, Any] = {}
        #: Called by who waits, with each piece of output: stream and data, which are then not kept.
        self.on_output: Callable[[str, bytes], None] | None = None
        #: Called by who waits, with how much of the input was taken; None: no more is wanted.
        self.on_input: Callable[[int | None], None] = lambda taken: None

    def deliver(self, message: dict[str, Any]) -> None:
        """Take a message of the agent's (from the machine's reader thread)."""
        self._messages.put(message)

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        while self._status is None and not self._messages.empty():
            self._take(self._messages.get())
        return self._status is not None

    def started(self, timeout_s: float = 30) -> Process:
        """Wait until it runs."""
        self._wait(lambda: self.pid != 0 or self._status is not None, timeout_s)
        return self

    def wait(self, timeout_s: float = 60) -> int:
        """Wait until it has ended and return its exit status; raises MachineFailed when time is up."""
        self._wait(lambda: self._status is not None, timeout_s)
        assert self._status is not None
        return self._status

    def completed(self, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Wait for a command's end and return its output."""
        status = self.wait(timeout_s)
        stdout, stderr = (self._text(name) for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess([], status, stdout, stderr)

    def _text(self, stream: str) -> str:
        """Return what was kept of an output, and how much was not."""
        dropped = self._dropped[stream]
        more = f"\n{dropped} bytes more, dropped\n" if dropped else ""
        return self._output[stream].decode(errors="replace") + more

    def value(self, timeout_s: float = 60) -> Any:
        """Wait for a call's end and return its value; raises GuestError if it raised or was killed."""
        status = self.wait(timeout_s)
        if self._dropped["result"]:
            raise GuestError(f"the call returned more than {_KEPT_BYTES} bytes")
        if not self._output["result"]:
            raise GuestError(f"the call ended with status {status} and no value")
        result = json.loads(self._output["result"])
        if "error" in result:
            raise GuestError(result["error"])
        return result["value"]

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal."""
        self._host.send("signal", self.number, number=int(number))

    def send_input(self, data: bytes) -> None:
        """Send more of its standard input, the end if there is no *data*; for a command that takes it so."""
        self._host.send("input", self.number, data=base64.b64encode(data).decode())

    def _wait(self, condition: Callable[[], bool], timeout_s: float) -> None:
        timeout_s *= self._host.patience
        end = time.monotonic() + timeout_s
        while not condition():
            try:
                self._take(self._messages.get(timeout=max(0.0, min(1.0, end - time.monotonic()))))
            except queue.Empty:
                self._host.check_alive()
                if time.monotonic() > end:
                    raise self._host.failure(f"nothing ended within {timeout_s} s") from None

    def _take(self, message: dict[str, Any]) -> None:
        event = message["event"]
        if event == "output":
            data = base64.b64decode(message["data"])
            if self.on_output is None:
                room = _KEPT_BYTES - len(self._output[message["stream"]])
                self._output[message["stream"]] += data[:room]
                self._dropped[message["stream"]] += len(data[room:])
            else:
                self.on_output(message["stream"], data)
            self._tell_taken(len(data))
        elif event in ("input", "input_over"):
            self.on_input(message.get("taken"))
        elif event == "started":
            self.pid = message["pid"]
        else:
            self._status = message.get("status", 0)
            self.final = message

    def _tell_taken(self, size: int) -> None:
        """Let the guest send more in place of what was taken."""
        self._untold += size
        if self._untold >= _TOLD_BYTES:
            with contextlib.suppress(MachineFailed):  # what it has sent before its end is still good
                self._host.send("output_taken", self.number, size=self._untold)
            self._untold = 0
