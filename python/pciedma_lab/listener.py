"""Listening UNIX sockets that appear under their name only when a connection to them will be accepted."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from .cache import LabError

#: Of a sockaddr_un's path, with the byte that ends it.
_SUN_PATH = 108
_BACKLOG = 8


class Listener:
    """A socket that listens at a path, and owns the path until it is closed."""

    def __init__(self, path: Path) -> None:
        """Listen; a socket that an ended process left at *path* is replaced, and nothing else ever is.

        Raises LabError, with one line for the user, for a path that cannot be had.
        """
        self.path = path.absolute()
        _check(path)
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            with _folder(self.path) as folder:
                self._appear(folder)
        except BaseException as error:
            self._socket.close()
            if isinstance(error, OSError):
                raise LabError(f"{path}: no socket can be made here: {error.strerror}") from None
            raise

    def _appear(self, folder: int) -> None:
        """Bind under another name, and take ours when a connection would be accepted."""
        hidden = f".{secrets.token_hex(8)}"
        # By the descriptor: the hidden name may be longer than ours, and the path with it too long.
        self._socket.bind(f"/proc/self/fd/{folder}/{hidden}")
        try:
            self._socket.listen(_BACKLOG)
            stale = _stale(self.path, folder)
            self._identity = _identity(folder, hidden)
            if stale is not None:
                _remove(stale, folder, self.path.name)
            # Not a rename: that would replace what somebody without our lock has just put there.
            os.link(hidden, self.path.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        finally:
            os.unlink(hidden, dir_fd=folder)

    def fileno(self) -> int:
        """Return the socket's file descriptor."""
        return self._socket.fileno()

    def accept(self) -> socket.socket:
        """Return the next connection."""
        return self._socket.accept()[0]

    def close(self) -> None:
        """Stop listening, and remove the socket's name unless it is another's by now."""
        with contextlib.suppress(OSError), _folder(self.path) as folder:
            if _identity(folder, self.path.name) == self._identity:
                os.unlink(self.path.name, dir_fd=folder)
        self._socket.close()


def _check(path: Path) -> None:
    """Raise LabError for a path that no client could be told of, or reach."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise LabError(f"{path!r}: QEMU cannot be told of a path that is not UTF-8") from None
    size = len(os.fsencode(path))
    if size >= _SUN_PATH:
        raise LabError(f"{path}: a socket's path has {_SUN_PATH - 1} bytes at most, this one {size}")


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[int]:
    """Open the folder that *path* is in, and hold a lock on it: who replaces a stale socket is alone."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _identity(folder: int, name: str) -> tuple[int, int]:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return found.st_dev, found.st_ino


def _remove(stale: os.stat_result, folder: int, name: str) -> None:
    """Remove a stale socket, unless something else has come to its place: perhaps with the number that it had."""
    with contextlib.suppress(FileNotFoundError):
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if all(getattr(found, part) == getattr(stale, part) for part in ("st_dev", "st_ino", "st_mode", "st_ctime_ns")):
            os.unlink(name, dir_fd=folder)


def _stale(path: Path, folder: int) -> os.stat_result | None:
    """Return the socket at *path* at which nobody listens, None if there is nothing; raises LabError for all else."""
    try:
        found = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISSOCK(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a file that is no socket"
        raise LabError(f"{path}: there is {kind}; give another path, or remove it")
    # Of another type than a card's, so that a card does not see a client come and go.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(f"/proc/self/fd/{folder}/{path.name}")
        except ConnectionRefusedError:
            return found
        except OSError as error:
            if error.errno != errno.EPROTOTYPE:
                raise
    raise LabError(f"{path}: another process has this socket; give another path, or end that process")
