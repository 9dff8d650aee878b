"""One client's connection: vfio-user messages and their file descriptors, cut out of the byte stream."""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket
import struct
from collections import deque

MAX_FDS = 16
MAX_DATA = 1 << 20

_HEADER = struct.Struct("<HHIII")
_MAX_MESSAGE = MAX_DATA + 4096
_CHUNK = 16384
_ANCILLARY = socket.CMSG_SPACE(MAX_FDS * 4)
_TYPE, _REPLY, _NO_REPLY, _ERROR = 0xF, 0x1, 0x10, 0x20


class Disconnected(Exception):  # noqa: N818
    """The client has gone, or speaks something else."""


class Message:
    """A request, with its file descriptors; whoever takes one out of ``fds`` closes it."""

    __slots__ = ("command", "fds", "flags", "number", "payload")

    def __init__(self, number: int, command: int, flags: int, payload: bytes, fds: list[int]) -> None:
        """Made by Connection."""
        self.number = number
        self.command = command
        self.flags = flags
        self.payload = payload
        self.fds = fds

    def close_fds(self) -> None:
        """Close the file descriptors that nobody took."""
        while self.fds:
            os.close(self.fds.pop())


class Connection:
    """A connected socket. Messages are read as many at once as there are: posted writes come in bursts."""

    def __init__(self, client: socket.socket) -> None:
        """Take over *client*."""
        client.setblocking(False)
        self._socket = client
        self._data = b""
        self._at = 0
        self._end = 0
        #: Position in the stream up to which data had come with them, and the descriptors. The kernel ends
        #: a read behind data that carries descriptors, so they belong to the message with that last byte.
        self._fds: deque[tuple[int, list[int]]] = deque()

    def fileno(self) -> int:
        """Return the socket's file descriptor."""
        return self._socket.fileno()

    def receive(self) -> Message | None:
        """Return the next request, or None if none has come yet; raises Disconnected."""
        while True:
            data, at = self._data, self._at
            left = len(data) - at
            if left >= 16:
                number, command, size, flags, _ = _HEADER.unpack_from(data, at)
                if not 16 <= size <= _MAX_MESSAGE or flags & _TYPE:
                    raise Disconnected
                if left >= size:
                    self._at = at + size
                    fds = self._take_fds() if self._fds else []
                    return Message(number, command, flags, data[at + 16 : at + size], fds)
            if not self._fill():
                return None

    def _fill(self) -> bool:
        try:
            data, ancillary, _, _ = self._socket.recvmsg(_CHUNK, _ANCILLARY)
        except BlockingIOError:
            return False
        except ConnectionError:
            raise Disconnected from None
        if not data:
            raise Disconnected
        self._data = self._data[self._at :] + data
        self._at = 0
        self._end += len(data)
        if ancillary:
            self._keep_fds(ancillary)
        return True

    def _keep_fds(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        fds = array.array("i")
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(content[: len(content) // 4 * 4])
        self._fds.append((self._end, list(fds)))

    def _take_fds(self) -> list[int]:
        """Return the descriptors of the message that has just been cut off."""
        position = self._end - (len(self._data) - self._at)
        fds: list[int] = []
        while self._fds and self._fds[0][0] <= position:
            fds += self._fds.popleft()[1]
        return fds

    def reply(self, message: Message, payload: bytes = b"", error: int = 0) -> None:
        """Answer a request, unless it wants no answer; raises Disconnected."""
        if message.flags & _NO_REPLY:
            return
        flags = _REPLY | _ERROR if error else _REPLY
        data = _HEADER.pack(message.number, message.command, 16 + len(payload), flags, error) + payload
        try:
            while data:
                data = data[self._send(data) :]
        except ConnectionError:
            raise Disconnected from None

    def _send(self, data: bytes) -> int:
        try:
            return self._socket.send(data, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            select.select([], [self._socket], [])
            return 0

    def hang_up(self) -> None:
        """Take what the client has sent, and nothing more.

        Data that nobody reads would tell it of an error (ECONNRESET) instead of the end, and QEMU 11.1 aborts then.
        """
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)
            while self._socket.recv(_CHUNK):
                pass

    def close(self) -> None:
        """Close the socket, and the descriptors of messages that were never taken."""
        for _, fds in self._fds:
            for fd in fds:
                os.close(fd)
        self._fds.clear()
        self._socket.close()
