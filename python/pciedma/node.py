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


def open_node(path: str, flags: int) -> int:
    """Open a device node; raises NoCardError, NotPermittedError, or another OSError."""
    try:
        with translated(path):
            return os.open(path, flags | os.O_CLOEXEC)
    except FileNotFoundError:
        text = "no such card: is its driver loaded (lsmod), and does `ls /dev/pciedma*` show it?"
        raise NoCardError(errno.ENOENT, text, path) from None
    except PermissionError as error:
        text = "not permitted: be a member of the group pciedma (adduser USER pciedma, then log in again)"
        raise NotPermittedError(error.errno, text, path) from None


class Node:
    """A device node, open until close(). Threads may share it, but none may close what another uses."""

    def __init__(self, path: str, flags: int) -> None:
        """Open *path*."""
        self._fd: int | None = None
        self.path = path
        self._fd = open_node(path, flags)

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
