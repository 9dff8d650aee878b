"""The errors of this package: OSError with the kernel's errno, and names for those that callers handle."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .entry import Result


class NoCardError(FileNotFoundError):
    """There is no such card; the message says what to look at (ENOENT)."""


class NotPermittedError(PermissionError):
    """The node may not be opened; the message says how to get the right (EACCES)."""


class WrongNodeError(OSError):
    """The node is not what is wanted: none of pciedma's, a channel for a card, or the like (ENOTTY)."""


class DriverTooOldError(OSError):
    """The driver that is loaded does not know a call of this binding; the message names both versions (ENOTTY)."""


class TransferError(OSError):
    """A read or write failed. The classes below are such errors too, if that is what failed.

    ``transferred`` is how many bytes had moved before; readinto() has put them into its buffer. ``partial`` is
    those of read(). ``address`` (None where there are none) and ``length`` are what was asked for. ``results`` are
    those of all entries of transfer(), in their order; the error is then that of the first that failed.
    """

    transferred: int = 0
    partial: bytes = b""
    address: int | None = None
    length: int = 0
    results: tuple[Result, ...] = ()
    _doing: str = ""

    def __str__(self) -> str:
        """Say what was asked for, and what came of it."""
        if not self._doing:
            return super().__str__()
        place = "" if self.address is None else f" at {self.address:#x}"
        after = f", after {self.transferred} bytes" if self.transferred else ""
        what = f"{self._doing} {self.length} bytes{place} of {self.filename}"
        return f"[Errno {self.errno}] {what}: {self.strerror}{after}"


class CardGoneError(TransferError):
    """The card was removed or does not answer (ENODEV)."""


class DmaTimeoutError(TransferError, TimeoutError):
    """Nothing moved for the channel's time-out (ETIMEDOUT). The channel works on."""


class WouldBlockError(TransferError, BlockingIOError):
    """The engine is at work for others, and the call must not queue: non-blocking, or time-out 0 (EAGAIN)."""


class RequestCancelledError(TransferError):
    """The request was cancelled (ECANCELED). The channel works on."""


class MessageTooLongError(TransferError):
    """A message is longer than the card's longest DMA (EMSGSIZE). Nothing has moved."""


_CLASSES: dict[int, type[TransferError]] = {
    errno.ECANCELED: RequestCancelledError,
    errno.ENODEV: CardGoneError,
    errno.ETIMEDOUT: DmaTimeoutError,
    errno.EMSGSIZE: MessageTooLongError,
}


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Give an OSError that passes through its class of this module, and the node's path."""
    try:
        yield
    except OSError as error:
        code = error.errno or 0
        kind = _CLASSES.get(code, OSError)
        raise kind(code, os.strerror(code), path) from None


def transfer_error(
    code: int, path: str, doing: str, length: int, address: int | None, transferred: int
) -> TransferError:
    """Return the error of a transfer: what was asked for, and what had moved."""
    kind = WouldBlockError if code == errno.EAGAIN else _CLASSES.get(code, TransferError)
    error = kind(code, os.strerror(code), path)
    error._doing, error.length, error.address, error.transferred = doing, length, address, transferred
    return error
