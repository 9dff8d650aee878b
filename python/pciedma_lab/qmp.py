"""QEMU's control protocol: one command at a time."""

from __future__ import annotations

import json
import socket
import threading
from collections import deque
from pathlib import Path
from typing import Any

#: The oldest are forgotten: nobody waits for them any more.
_EVENTS = 1000


class QmpError(Exception):
    """QEMU refused a command."""


class Qmp:
    """A connection to QEMU's monitor socket. Threads may share it."""

    def __init__(self, path: Path, timeout_s: float = 30.0) -> None:
        """Connect to the socket at *path*."""
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rw")
        self._file.readline()
        self.events: deque[dict[str, Any]] = deque(maxlen=_EVENTS)
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run a command and return what it returns; raises QmpError if QEMU refuses."""
        with self._lock:
            self._file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
            self._file.flush()
            while True:
                message = self._read()
                if "error" in message:
                    raise QmpError(message["error"]["desc"])
                if "return" in message:
                    return message["return"]

    def wait_event(self, name: str, device: str | None = None) -> dict[str, Any]:
        """Return the next event of this name (and device), waiting for it."""
        with self._lock:
            while True:
                for event in self.events:
                    if event["event"] == name and device in (None, event["data"].get("device")):
                        self.events.remove(event)
                        return event
                self._read()

    def _read(self) -> dict[str, Any]:
        line = self._file.readline()
        if not line.endswith("\n"):
            raise QmpError("QEMU has ended")
        message: dict[str, Any] = json.loads(line)
        if "event" in message:
            self.events.append(message)
        return message

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()
