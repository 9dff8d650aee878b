"""The control socket of a model: what tests ask of it while QEMU uses it. One line of JSON each way."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
from pathlib import Path
from typing import Any

from .faults import BadFault
from .listener import Listener
from .model import CardModel

#: Of a request.
_MAX_LINE = 1 << 16


class ControlError(Exception):
    """The model refused a command, or has ended."""


class _Client:
    """A connection, with the requests that have come and not been answered, and what has not gone of an answer."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over *connection*."""
        connection.setblocking(False)
        self.socket = connection
        self.requests = bytearray()
        self.answer = bytearray()

    @property
    def is_served(self) -> bool:
        """Whether it has all that it has asked for."""
        return not self.answer and b"\n" not in self.requests

    def receive(self) -> bool:
        """Take what has come; returns whether there may be more."""
        data = self.socket.recv(_MAX_LINE)
        self.requests += data
        return bool(data) and (b"\n" in data or len(self.requests) <= _MAX_LINE)

    def next_request(self) -> bytes:
        """Return the first request, which is there, and forget it."""
        line, _, _ = self.requests.partition(b"\n")
        del self.requests[: len(line) + 1]
        return bytes(line)

    def send(self) -> None:
        """Send as much of the answer as there is room for."""
        del self.answer[: self.socket.send(self.answer)]


class ControlServer:
    """The model's side; runs in the model's event loop.

    It waits for no client, keeps one answer for each, and reads no more requests of one that does not take it.
    """

    def __init__(self, model: CardModel, path: Path) -> None:
        """Listen on the UNIX socket *path*; raises LabError if it cannot be had."""
        self._model = model
        self._listener = Listener(path)
        self._clients: dict[int, _Client] = {}

    def register(self, poll: select.poll) -> None:
        """Let the event loop's poll object watch the socket."""
        self._poll = poll
        poll.register(self._listener, select.POLLIN)

    def close(self) -> None:
        """Stop listening and let go of all clients."""
        for client in self._clients.values():
            client.socket.close()
        self._clients.clear()
        self._listener.close()

    def handle(self, fd: int) -> None:
        """Something happened on *fd*."""
        if fd == self._listener.fileno():
            client = _Client(self._listener.accept())
            self._clients[client.socket.fileno()] = client
            self._poll.register(client.socket, select.POLLIN)
        elif fd in self._clients:
            self._serve(self._clients[fd])

    def _serve(self, client: _Client) -> None:
        """Answer one request at most: the card has its turn before the next."""
        is_there = True
        try:
            if client.is_served:
                is_there = client.receive()
            if not client.answer and not client.is_served:
                client.answer += json.dumps(self._answer(client.next_request())).encode() + b"\n"
            if client.answer:
                client.send()
        except BlockingIOError:
            pass
        except ConnectionError:
            is_there = False
        if is_there:
            self._poll.modify(client.socket, select.POLLIN if client.is_served else select.POLLOUT)
        else:
            self._forget(client)

    def _forget(self, client: _Client) -> None:
        self._poll.unregister(client.socket)
        del self._clients[client.socket.fileno()]
        client.socket.close()

    def _answer(self, line: bytes) -> dict[str, Any]:
        """Do what a line asks for; whatever is wrong with it is told to whoever asked, and ends nothing."""
        try:
            request = json.loads(line)
            command = getattr(self, "_do_" + request.pop("command"))
            return {"value": command(**request)}
        except Exception as error:
            return {"error": str(error) if isinstance(error, BadFault) else repr(error)}

    def _do_counters(self, reset: bool) -> dict[str, int]:
        counters = dict(self._model.records.counters)
        if reset:
            self._model.records.counters.clear()
        return counters

    def _do_violations(self, clear: bool) -> list[dict[str, Any]]:
        violations = self._model.records.violations
        if clear:
            self._model.records.clear_violations()
        return violations

    def _do_events(self) -> list[dict[str, Any]]:
        return self._model.records.events

    def _do_set_fault(self, text: str) -> None:
        self._model.set_fault(text)

    def _do_clear_faults(self) -> None:
        self._model.clear_faults()

    def _do_faults(self) -> list[str]:
        return sorted(self._model.faults.active)

    def _do_state(self) -> dict[str, Any]:
        return self._model.state()

    def _do_die(self) -> None:
        self._model.die()


class Control:
    """The tests' side. Threads may share it."""

    def __init__(self, path: Path) -> None:
        """Connect to the control socket at *path*."""
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("r")

    def _ask(self, command: str, **arguments: Any) -> Any:
        try:
            with self._lock:
                self._socket.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
                line = self._file.readline()
        except ConnectionError:
            line = ""
        if not line.endswith("\n"):
            raise ControlError("the model has ended")
        answer = json.loads(line)
        if "error" in answer:
            raise ControlError(answer["error"])
        return answer["value"]

    def counters(self, *, reset: bool = False) -> dict[str, int]:
        """Return the counters by name; with *reset* they begin again at 0 in the same moment."""
        counters: dict[str, int] = self._ask("counters", reset=reset)
        return counters

    def reset_counters(self) -> dict[str, int]:
        """Let the counters begin again at 0; returns what they were in the same moment."""
        return self.counters(reset=True)

    def violations(self, *, clear: bool = False) -> list[dict[str, Any]]:
        """Return the violations so far, each with ``name``, ``text`` and ``history``."""
        violations: list[dict[str, Any]] = self._ask("violations", clear=clear)
        return violations

    def clear_violations(self) -> list[dict[str, Any]]:
        """Forget the violations; returns them."""
        return self.violations(clear=True)

    def events(self) -> list[dict[str, Any]]:
        """Return the events so far, each with ``name`` and ``time_s``."""
        events: list[dict[str, Any]] = self._ask("events")
        return events

    def set_fault(self, text: str) -> None:
        """Switch a fault on: ``NAME[=VALUE][*COUNT]``; raises ControlError if there is no such fault."""
        self._ask("set_fault", text=text)

    def clear_faults(self) -> None:
        """Switch all faults off."""
        self._ask("clear_faults")

    def faults(self) -> list[str]:
        """Return the names of the faults that are on."""
        faults: list[str] = self._ask("faults")
        return faults

    def state(self) -> dict[str, Any]:
        """Return the model's registers and memory."""
        state: dict[str, Any] = self._ask("state")
        return state

    def die(self) -> None:
        """Let the model's process end at once."""
        with contextlib.suppress(ControlError):
            self._ask("die")

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()
