"""Memory whose pages do not come before they are told to, run in the guest.

A process of its own, the keeper, has what would bring them: so nothing of a process that waits for pages brings them
because it is killed, or ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import selectors
import signal
import socket
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from pciedma_lab.guest import buffers
from pciedma_lab.guest.buffers import Buffer

from . import slow_file

#: A userfaultfd that nobody serves; the mapping of a file of a FUSE file system whose reads are not answered, as any
#: user may have it by fusermount; and the same without read-ahead: there the kernel lets nobody give up a read that he
#: makes himself, so that not even a kill ends such a wait.
KINDS = ("userfaultfd", "fuse", "fuse_unkillable")
#: What all bytes of pages are that have come.
BROUGHT = 0x3C

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_PRIVATE_FIXED, _DEATH_SIGNAL = 0x12, 1
_USERFAULTFD, _UFFDIO_API, _UFFDIO_REGISTER, _UFFDIO_COPY = 323, 0xC018AA3F, 0xC020AA00, 0xC028AA03
_UFFD_MESSAGES = 64 * 32  # <linux/userfaultfd.h>
#: Each memory has a part of the file of its own, with room around it for what the kernel reads ahead.
_PART, _PART_BEGIN = 64 << 20, 1 << 20
_READ_AHEAD = {"fuse": 128 << 10, "fuse_unkillable": 0}
_AREA = struct.Struct("<2Q")
_READY, _WANTED, _COME = b"ready", b"wanted", b"come"


def _check(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def forked() -> int:
    """Fork; the kernel kills the child when the thread that forked it ends, whatever its end."""
    parent = os.getpid()
    child = os.fork()
    if not child:
        _die_with(parent)
    return child


def _die_with(parent: int) -> None:
    _libc.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _userfaultfd(address: int, length: int) -> int:
    """Let pages that are not there belong to a new userfaultfd; its messages say which are wanted."""
    fd = _check(_libc.syscall(_USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK))
    fcntl.ioctl(fd, _UFFDIO_API, struct.pack("=QQQ", 0xAA, 0, 0))
    fcntl.ioctl(fd, _UFFDIO_REGISTER, struct.pack("=QQQQ", address, length, 1, 0))
    return fd


@contextmanager
def not_coming(area: Buffer, present: int = 0) -> Iterator[None]:
    """Let the pages behind *present* bytes not come: they belong to a userfaultfd of this process, which closes it."""
    area.mapping.madvise(mmap.MADV_DONTNEED)
    fd = _userfaultfd(area.address + present, area.length - present)
    ctypes.memset(area.address, 0, present)  # not before: a huge page would bring some of what is behind it
    try:
        yield
    finally:
        os.close(fd)


class _Keeping:
    """What the keeper does: it holds all pages that are wanted until they are to come."""

    def __init__(self, commands: socket.socket, server: slow_file.Server | None) -> None:
        self._commands, self._server = commands, server
        #: Addresses and lengths, by userfaultfds; and those of them of which pages are wanted.
        self._areas: dict[int, tuple[int, int]] = {}
        self._wanted: set[int] = set()
        self._coming = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(commands, selectors.EVENT_READ)
        if server:
            self._selector.register(server.fd, selectors.EVENT_READ)

    def run(self) -> None:
        """Serve until the process that forked this one has gone, or aborts the connection."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._commands:
                    if not self._command():
                        return
                elif self._server and key.fd == self._server.fd:
                    self._serve()
                elif key.fd in self._areas:
                    self._fault(key.fd)

    def _serve(self) -> None:
        assert self._server
        try:
            self._server.serve()
        except OSError:
            self._selector.unregister(self._server.fd)

    def _command(self) -> bool:
        data, fds, _, _ = socket.recv_fds(self._commands, 64, 1)
        if fds:
            self._add(fds[0], _AREA.unpack(data))
            return True
        if data == _COME:
            self._come()
        if data:
            parts = {place // _PART for place in self._server.wanted} if self._server else self._wanted
            self._commands.send(str(len(parts)).encode())
        return bool(data)

    def _add(self, fd: int, area: tuple[int, int]) -> None:
        self._areas[fd] = area
        if self._coming:
            self._bring(fd)
        else:
            self._selector.register(fd, selectors.EVENT_READ)

    def _fault(self, fd: int) -> None:
        with contextlib.suppress(BlockingIOError):
            if os.read(fd, _UFFD_MESSAGES):
                self._wanted.add(fd)

    def _come(self) -> None:
        self._coming = True
        if self._server:
            self._server.come()
        for fd in [*self._areas]:
            self._selector.unregister(fd)
            self._bring(fd)

    def _bring(self, fd: int) -> None:
        """Bring all pages of an area whose process may have ended; whoever waits for others goes on, too."""
        address, length = self._areas.pop(fd)
        pages = mmap.mmap(-1, length)
        source = buffers.address_of(pages)
        ctypes.memset(source, BROUGHT, length)
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, _UFFDIO_COPY, struct.pack("=4Qq", address, source, length, 0, 0))
        os.close(fd)


class Keeper:
    """Memory of one of KINDS, of which no page comes before come(), or the end of this context.

    Children of this process may use it; it alone asks wanted() and says come().
    """

    def __init__(self, kind: str) -> None:
        """Nothing is there before the context is entered."""
        self._kind = kind
        self._file = -1
        self._connection = self._child = 0

    def __enter__(self) -> Keeper:
        """Start the keeper."""
        if self._kind != "userfaultfd":
            slow_file.prepare()
        self._folder = tempfile.TemporaryDirectory(prefix="slow-")
        self._commands, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(self.close)
            Path(self._folder.name).chmod(0o755)
            self._child = forked()
            if not self._child:
                self._keep(theirs)
            theirs.close()
            self._ask(_READY)
            if self._kind != "userfaultfd":  # the file system is in the keeper's name space alone
                path = f"/proc/{self._child}/root{self._folder.name}/{slow_file.NAME}"
                self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                self._connection = slow_file.connection(self._file)
            undo.pop_all()
        return self

    def _keep(self, commands: socket.socket) -> None:
        try:
            parent = os.getppid()
            self._commands.close()
            server = None
            if self._kind != "userfaultfd":
                server = slow_file.Server(Path(self._folder.name), BROUGHT, _READ_AHEAD[self._kind])
                _die_with(parent)  # what was said of it is forgotten by who becomes another user
            _Keeping(commands, server).run()
        except OSError as error:
            commands.send(f"the keeper failed: {error}".encode())
        finally:
            os._exit(0)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the keeper."""
        self.close()

    def close(self) -> None:
        """End the keeper, and with it all waiting: in place of what had not come there is an error, or zeros."""
        if self._connection:
            slow_file.abort(self._connection)
        if self._file >= 0:
            with contextlib.suppress(OSError):  # there is no server any more
                os.close(self._file)
            self._file = -1
        if self._child:
            os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
            self._child = 0
        self._commands.close()
        self._folder.cleanup()

    def _ask(self, what: bytes) -> int:
        self._commands.send(what)
        answer = self._commands.recv(200).decode()
        if not answer.isdecimal():
            raise RuntimeError(answer or "the keeper has ended")
        return int(answer)

    def memory(self, number: int, length: int, present: int = 0) -> Buffer:
        """Return memory whose pages behind the first *present* bytes, whole pages, do not come; for this process.

        No other may have the same *number*.
        """
        buffer = buffers.anonymous(length)
        address, rest = buffer.address + present, length - present
        if self._kind == "userfaultfd":
            fd = _userfaultfd(address, rest)
            socket.send_fds(self._commands, [_AREA.pack(address, rest)], [fd])
            os.close(fd)
        else:
            _map_over(address, rest, self._file, number * _PART + _PART_BEGIN)
        ctypes.memset(buffer.address, BROUGHT, present)  # not before: a huge page would bring some of what is behind it
        return buffer

    def wanted(self) -> int:
        """Return of how many of those memories pages are waited for."""
        return self._ask(_WANTED)

    def come(self) -> None:
        """Let all pages come, those that are wanted later, too."""
        self._ask(_COME)


def _map_over(address: int, length: int, fd: int, offset: int) -> None:
    place = ctypes.c_void_p(address), ctypes.c_size_t(length)
    if _libc.mmap(*place, buffers.READ_WRITE, _PRIVATE_FIXED, fd, ctypes.c_long(offset)) != address:
        raise OSError(ctypes.get_errno(), "mmap")
