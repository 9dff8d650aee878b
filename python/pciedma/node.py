"""An open device node: its file descriptor, from open to close."""

from __future__ import annotations

import ctypes
import difflib
import errno
import fcntl
import operator
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, NoReturn, Self, SupportsIndex, TypeVar

from . import uapi
from .errors import DriverTooOldError, NoCardError, NotPermittedError, WrongNodeError, translated

_Structure = TypeVar("_Structure", bound=ctypes.Structure)

#: As os.open() takes it.
NodePath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_FOREIGN = (
    "not a node of pciedma (it does not know the ioctls): a card is /dev/pciedma0, a channel /dev/pciedma0c0, a window "
    "/dev/pciedma0w0, or the like; `pciedma list` shows them"
)

#: The name of a node that is a part of a card, and which part its letter means.
_PART_NAME = re.compile(r"(pciedma[0-9]+)([cw])([0-9]+)")
_PARTS = {"c": "channel", "w": "window"}


def is_bool(value: object) -> bool:
    """Tell whether this is a bool, numpy's too: where a number is wanted it is a slip, though it can be one."""
    return type(value).__name__ in ("bool", "bool_")


def as_int(value: SupportsIndex, what: str) -> int:
    """Return what is an integer, a numpy one too, as int; raises TypeError."""
    if type(value) is int:  # at once: each access to a register comes by here
        return value
    if is_bool(value) or not hasattr(type(value), "__index__"):
        raise TypeError(f"{what} is an integer, not {value!r}")
    return operator.index(value)


def open_node(path: str, flags: int, *others: int) -> int:
    """Open a device node; raises NoCardError, NotPermittedError, WrongNodeError, or another OSError.

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
    is_gone = error.errno == errno.ENXIO and not Path(path).exists()  # while it was being opened
    if isinstance(error, FileNotFoundError) or is_gone:
        text = "no such card: is its driver loaded (lsmod), and does `ls /dev/pciedma*` show it?"
        return NoCardError(errno.ENOENT, text, path)
    if isinstance(error, PermissionError):
        group = "pciedma-regs" if re.search(r"\dw\d+$", os.path.realpath(path)) else "pciedma"
        text = f"not permitted: be a member of the group {group} (adduser USER {group}, then log in again)"
        return NotPermittedError(error.errno, text, path)
    if error.errno in (errno.EISDIR, errno.ENOTDIR):
        return WrongNodeError(errno.ENOTTY, _FOREIGN, path)
    return error


def _too_old(card: uapi.pciedma_card_info, path: str) -> DriverTooOldError:
    from . import __version__

    module = f"pciedma_{card.name.decode(errors='replace')}"
    text = (
        f"the driver that is loaded, {card.driver_version.decode(errors='replace')} (ABI {card.abi_version}), does not "
        f"know this call of pciedma {__version__} (ABI {uapi.PCIEDMA_ABI_VERSION}) for Python. Where a newer one is "
        "installed, close the programs that use cards and load it, or reboot: sudo modprobe -r "
        f"{module} pciedma && sudo modprobe {module}; `pciedma doctor` says more"
    )
    return DriverTooOldError(errno.ENOTTY, text, path)


def _other_part(path: str, wanted: str, part: str, card: str | int, number: int) -> WrongNodeError:
    text = f"a {part}, not a {wanted}: it is pciedma.open({card!r}).{part}({number})"
    return WrongNodeError(errno.ENOTTY, text, path)


class Node:
    """A device node, open until close(). Threads may share it, but none may close what another uses.

    It is neither copied nor pickled (TypeError): the number of its file means another file elsewhere.
    """

    __slots__ = ("__weakref__", "_fd", "_path")

    #: What the nodes of a class are: a card, or which part of one.
    _WHAT: ClassVar[str]
    _fd: int | None
    _path: str

    def __init__(self, path: NodePath, *flags: int) -> None:
        """Open *path* with the first of the *flags* that it supports, unless its name says that it is another part."""
        self._fd = None
        self._path = os.path.realpath(os.fsdecode(path))  # a link may lead elsewhere later
        self._refuse_name()
        self._fd = open_node(self._path, *flags)

    def _refuse_name(self) -> None:
        path = Path(self._path)
        match = _PART_NAME.fullmatch(path.name)
        if match and _PARTS[match[2]] != self._WHAT:  # opening a channel would keep others from having it exclusively
            raise _other_part(self._path, self._WHAT, _PARTS[match[2]], str(path.with_name(match[1])), int(match[3]))

    @property
    def path(self) -> str:
        """The node's path; where it was opened by a link, what that leads to."""
        return self._path

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
        """Name the node, what it is, and whether it is open."""
        words = [type(self).__name__, getattr(self, "_path", ""), self._about()]
        return f"<{' '.join(filter(None, words))}{' closed' if getattr(self, '_fd', None) is None else ''}>"

    def _about(self) -> str:
        """Return what this node is, in a word or two, also where opening it has failed."""
        return ""

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse to be copied, pickled, or handed to a process that is not forked."""
        raise TypeError(
            f"cannot copy or pickle {self!r}: the number of its file means nothing elsewhere; hand over its path, and "
            "open that"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute that there is; raises AttributeError for others, with the one that may be meant."""
        try:
            super().__setattr__(name, value)
        except AttributeError:
            if hasattr(type(self), name):
                raise
            known = [word for word in dir(type(self)) if not word.startswith("_")]
            meant = difflib.get_close_matches(name, known, 1, 0.7)
            hint = f"; is {meant[0]} meant?" if meant else ""
            text = f"a {type(self).__name__} has no attribute {name!r}{hint}"
            raise AttributeError(text, name=name, obj=self) from None

    @contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _card_info(self) -> uapi.pciedma_card_info:
        """Ask for the card, as every node of ours can; raises WrongNodeError if it is none of ours."""
        card = uapi.pciedma_card_info()
        try:
            with translated(self.path):
                fcntl.ioctl(self.fileno(), uapi.PCIEDMA_IOC_CARD_INFO, card)
        except OSError as error:
            if error.errno in (errno.ENOTTY, errno.EINVAL):  # some drivers' word for an ioctl that they do not know
                raise WrongNodeError(errno.ENOTTY, _FOREIGN, self.path) from None
            raise
        return card

    def _part(self) -> tuple[str, int, int] | None:
        """Ask which part of a card this is, of which card, and its number there; None: it is a card."""
        channel = self._asked(uapi.PCIEDMA_IOC_CHANNEL_INFO, uapi.pciedma_channel_info())
        if channel is not None:
            return "channel", channel.card, channel.channel
        window = self._asked(uapi.PCIEDMA_IOC_WINDOW_INFO, uapi.pciedma_window_info())
        return None if window is None else ("window", window.card, window.window)

    def _wrong_node(self) -> WrongNodeError:
        """Return the error of a node that is not what its class is: it is none of ours, or another."""
        try:
            self._card_info()
        except WrongNodeError as error:
            return error
        if part := self._part():
            return _other_part(self.path, self._WHAT, *part)
        text = f"a card, not a {self._WHAT}: its {self._WHAT}s are opened by pciedma.open(CARD).{self._WHAT}(NUMBER)"
        return WrongNodeError(errno.ENOTTY, text, self.path)

    def _part_info(self, request: int, argument: _Structure) -> _Structure:
        """Ask what a part is, as each driver that has such parts can; raises WrongNodeError if it is none."""
        try:
            answer = self._asked(request, argument)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a stranger's word: we ask with zeros
                raise
            answer = None
        if answer is None:
            raise self._wrong_node()
        return answer

    def _asked(self, request: int, argument: _Structure) -> _Structure | None:
        """Make an ioctl; returns the answer, or None if the node does not know it."""
        try:
            with translated(self.path):
                fcntl.ioctl(self.fileno(), request, argument)
        except OSError as error:
            if error.errno != errno.ENOTTY:
                raise
            return None
        return argument

    def _ioctl(self, request: int, argument: _Structure) -> _Structure:
        """Make an ioctl of this sort of node; raises DriverTooOldError if the driver is older and does not know it."""
        answer = self._asked(request, argument)
        if answer is not None:
            return answer
        card = self._card_info()
        if card.abi_version < uapi.PCIEDMA_ABI_VERSION:
            raise _too_old(card, self.path)
        raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY), self.path)
