"""The errors of this package: OSError with the kernel's errno, and names for those that callers handle."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager


class NoCardError(FileNotFoundError):
    """There is no such card; the message says what to look at (ENOENT)."""


class NotPermittedError(PermissionError):
    """The node may not be opened; the message says how to get the right (EACCES)."""


class WrongNodeError(OSError):
    """The node is not what is wanted: none of pciedma's, a channel for a card, or the like (ENOTTY)."""


class DriverTooOldError(OSError):
    """The driver that is loaded does not know a call of this binding; the message names both versions (ENOTTY)."""


class CardGoneError(OSError):
    """The card was removed or does not answer (ENODEV)."""


class DmaTimeoutError(TimeoutError):
    """Nothing moved for the channel's time-out (ETIMEDOUT). The channel works on."""


class RequestCancelledError(OSError):
    """The request was cancelled before anything had moved (ECANCELED). The channel works on."""


class MessageTooLongError(OSError):
    """A message is longer than the card's longest DMA (EMSGSIZE). Nothing has moved."""


_CLASSES: dict[int, type[OSError]] = {
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
