"""The serving end of a FUSE file system of one big file whose pages come when it is told so, run in the guest.

Constants and layouts as in <linux/fuse.h>, version 7.31.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path

from pciedma_lab.guest.buffers import PAGE

_libc = ctypes.CDLL(None, use_errno=True)
_NEW_MOUNTS, _RECURSIVE_PRIVATE, _NO_SUID_NO_DEVICES = 0x20000, 0x44000, 6
_NOBODY = 65534

_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _RELEASE, _FLUSH, _INIT = 1, 2, 3, 14, 15, 18, 25, 26
_INTERRUPT, _DESTROY, _BATCH_FORGET = 36, 38, 42
_ASYNC_READ = 1
_IN, _OUT = struct.Struct("<IIQQIIIHH"), struct.Struct("<IiQ")
_INIT_OUT = struct.Struct("<4I2H2I2H2I24x")
_ATTRIBUTES = struct.Struct("<6Q10I")
_ENTRY, _ATTRIBUTES_FOR, _OPENED = struct.Struct("<4Q2I"), struct.Struct("<Q2I"), struct.Struct("<Q2I")
_READ_IN = struct.Struct("<2QI")
_ROOT, _FILE = 1, 2
_VALID_S = 3600
_REQUEST = 1 << 20
_CONNECTIONS = Path("/sys/fs/fuse/connections")

#: The file's name, and its length.
NAME = "pages"
LENGTH = 1 << 40


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def prepare() -> None:
    """Have FUSE, and the files by which connections are aborted, there."""
    if not Path("/dev/fuse").exists():
        os.system("modprobe fuse")
    if not _CONNECTIONS.is_mount():
        _check(_libc.mount(b"none", bytes(_CONNECTIONS), b"fusectl", 0, None))


def connection(fd: int) -> int:
    """Return the number of an open file's connection."""
    return os.minor(os.fstat(fd).st_dev)


def abort(connection: int) -> None:
    """End a connection: whoever waits for its server gets an error."""
    with contextlib.suppress(FileNotFoundError):  # it has ended already
        (_CONNECTIONS / str(connection) / "abort").write_text("1")


class Server:
    """The file system as this process serves it: reads are answered with *byte* alone, from come() on."""

    def __init__(self, folder: Path, byte: int, read_ahead: int) -> None:
        """Mount it for this process alone, as fusermount does it for a user, and go on as that user: nobody."""
        self._byte, self._read_ahead = bytes([byte]), read_ahead
        #: Reads that wait: their numbers, places and lengths.
        self._held: list[tuple[int, int, int]] = []
        self._coming = False
        self._answers: dict[int, Callable[[int, int, bytes], None]] = {
            _INIT: self._init, _LOOKUP: self._lookup, _GETATTR: self._getattr, _OPEN: self._open, _READ: self._read,
            _FLUSH: self._done, _RELEASE: self._done, _DESTROY: self._done,
            _FORGET: self._forget, _BATCH_FORGET: self._forget, _INTERRUPT: self._forget,
        }
        self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        _check(_libc.unshare(_NEW_MOUNTS))
        _check(_libc.mount(None, b"/", None, _RECURSIVE_PRIVATE, None))
        options = f"fd={self.fd},rootmode=40000,user_id={_NOBODY},group_id={_NOBODY},allow_other"
        _check(_libc.mount(b"slow", bytes(folder), b"fuse", _NO_SUID_NO_DEVICES, options.encode()))
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)

    @property
    def wanted(self) -> list[int]:
        """The places of the file that are waited for."""
        return [offset for _, offset, _ in self._held]

    def come(self) -> None:
        """Answer the reads that wait, and from now on all at once."""
        self._coming = True
        held, self._held = self._held, []
        for unique, _, length in held:
            self._reply(unique, self._byte * length)

    def serve(self) -> None:
        """Take a request; raises OSError (ENODEV) when the connection has ended."""
        try:
            request = os.read(self.fd, _REQUEST)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ENOENT, errno.EINTR):
                raise
            return
        _, opcode, unique, node, *_ = _IN.unpack_from(request)
        self._answers.get(opcode, self._unknown)(unique, node, request[_IN.size :])

    def _reply(self, unique: int, data: bytes = b"", error: int = 0) -> None:
        with contextlib.suppress(OSError):  # whoever asked may be gone
            os.write(self.fd, _OUT.pack(_OUT.size + len(data), -error, unique) + data)

    def _init(self, unique: int, node: int, body: bytes) -> None:
        most = 0xFFFF  # reads under way
        self._reply(unique, _INIT_OUT.pack(7, 31, self._read_ahead, _ASYNC_READ, most, most, PAGE, 1, 0, 0, 0, 0))

    def _lookup(self, unique: int, node: int, body: bytes) -> None:
        if body != NAME.encode() + b"\0":
            self._reply(unique, error=errno.ENOENT)
            return
        self._reply(unique, _ENTRY.pack(_FILE, 0, _VALID_S, _VALID_S, 0, 0) + _attributes(_FILE))

    def _getattr(self, unique: int, node: int, body: bytes) -> None:
        self._reply(unique, _ATTRIBUTES_FOR.pack(_VALID_S, 0, 0) + _attributes(node))

    def _open(self, unique: int, node: int, body: bytes) -> None:
        self._reply(unique, _OPENED.pack(0, 0, 0))

    def _read(self, unique: int, node: int, body: bytes) -> None:
        _, offset, length = _READ_IN.unpack_from(body)
        if self._coming:
            self._reply(unique, self._byte * length)
        else:
            self._held.append((unique, offset, length))

    def _done(self, unique: int, node: int, body: bytes) -> None:
        self._reply(unique)

    def _forget(self, unique: int, node: int, body: bytes) -> None:
        """It wants no answer."""

    def _unknown(self, unique: int, node: int, body: bytes) -> None:
        self._reply(unique, error=errno.ENOSYS)


def _attributes(node: int) -> bytes:
    mode, size = (0o040755, 0) if node == _ROOT else (0o100666, LENGTH)
    return _ATTRIBUTES.pack(node, size, 0, 0, 0, 0, 0, 0, 0, mode, 1, _NOBODY, _NOBODY, 0, PAGE, 0)
