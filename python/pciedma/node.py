"""An open device node: its file descriptor, from open to close."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

from .errors import NoCardError, NotPermittedError, translated

_Structure = TypeVar("_Structure", bound=ctypes.Structure)


def open_node(path: str, flags: int, *others: int) -> int:
    """Open a device node; raises NoCardError, NotPermittedError, or another OSError.

    Where it does not support *flags* (EOPNOTSUPP), the *others* are tried.
    """
    try:
        with translated(path):
            return os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP and others:
            return open_node(path, *others)
        raise _explained(error, path) from None


def _explained(error: OSError, path: str) -> OSError:
    if isinstance(error, FileNotFoundError):
        text = "no such card: is its driver loaded (lsmod), and does `ls /dev/pciedma*` show it?"
        return NoCardError(errno.ENOENT, text, path)
    if isinstance(error, PermissionError):
        text = "not permitted: be a member of the group pciedma (adduser USER pciedma, then log in again)"
        return NotPermittedError(error.errno, text, path)
    return error


class Node:
    """A device node, open until close(). Threads may share it, but none may close what another uses."""

    def __init__(self, path: str, *flags: int) -> None:
        """Open *path* with the first of the *flags* that it supports."""
        self._fd: int | None = None
        self.path = path
        self._fd = open_node(path, *flags)

    def fileno(self) -> int:
        """Return the file descriptor; raises ValueError if closed."""
        if self._fd is None:
            raise ValueError(f"{self.path} is closed")
        return self._fd

    def close(self) -> None:
        """Close the node; a second time does nothing."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._fd is None

    def __enter__(self) -> Self:
        """Return the node itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the node."""
        self.close()

    def __del__(self) -> None:
        """Warn of a node that nobody closed, and close it."""
        if getattr(self, "_fd", None) is not None:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def __repr__(self) -> str:
        """Name the node and whether it is open."""
        return f"<{type(self).__name__} {self.path}{' closed' if self.closed else ''}>"

    @contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _ioctl(self, request: int, argument: _Structure) -> _Structure:
        with translated(self.path):
            fcntl.ioctl(self.fileno(), request, argument)
        return argument
