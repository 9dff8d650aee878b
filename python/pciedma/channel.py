"""Channels: moving data."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Literal, SupportsIndex

from .aio import Asynchronous
from .channel_node import bytes_of
from .errors import TransferError, transfer_error

if TYPE_CHECKING:
    from typing_extensions import Buffer as BytesLike


class Channel(Asynchronous):
    """An open channel of a card.

    Calls release the GIL. Threads may share a channel: each call is a request of its own, in the order of
    arrival. Settings (time-out, wait mode) belong to the open file. A child after fork() shares them.
    """

    __slots__ = ()

    def read(
        self, size: SupportsIndex | None = None, address: SupportsIndex | None = None, *, whole: bool = True
    ) -> bytes:
        """Return *size* bytes of card memory from *address* (default 0), or fewer where it ends; or a message.

        The default size is the longest message, or the rest of the card's memory; it is needed where
        ``info.size`` is None (ValueError). *whole* and errors as readinto(); the error's ``partial`` is what has
        arrived.
        """
        size = self._size_to_read(size, address)
        buffer = bytearray(size)
        try:
            moved = self.readinto(buffer, address, whole=whole)
        except TransferError as error:
            error.partial = bytes(memoryview(buffer)[: error.transferred])
            raise
        return bytes(memoryview(buffer)[:moved])

    def readinto(self, buffer: BytesLike, address: SupportsIndex | None = None, *, whole: bool = True) -> int:
        """Fill a writable buffer with card memory from *address* (default 0), or with a message; returns the bytes.

        They are fewer than the buffer holds where the card's memory ends, or if the message is shorter. With *whole*
        false it is one call of the kernel's, which moves fewer also if a signal, an error or a time-out comes after
        part has moved, and never more than 2 GiB less 4 KiB.

        Raises TransferError, with what had moved until then: DmaTimeoutError, WouldBlockError (non-blocking, or
        time-out 0, and it would queue), CardGoneError, RequestCancelledError, and with its errno EIO (the card
        reported an error), EBADF (the channel has no such direction), EFAULT or EINVAL; TypeError or ValueError for
        an unsuitable buffer or address.
        """
        with bytes_of(buffer) as view:
            del buffer  # which an error's traceback would keep, and if it is a view, what that is of from being closed
            if view.readonly:
                raise TypeError("the buffer is read-only")
            return self._transfer("reading", view, self._position(address, len(view)), whole)

    def write(self, data: BytesLike, address: SupportsIndex | None = None, *, whole: bool = True) -> int:
        """Send bytes to card memory from *address* (default 0), all of them, or a message; returns how many.

        *whole* as for readinto(). Raises MessageTooLongError (nothing has moved), TransferError with ENOSPC (at the
        memory's end), and what readinto() raises.
        """
        with bytes_of(data) as view:
            del data
            return self._transfer("writing", view, self._position(address, len(view)), whole)

    def _transfer(
        self, doing: Literal["reading", "writing"], view: memoryview, address: int | None, whole: bool
    ) -> int:
        done, cancels = 0, self._cancels
        try:
            while True:
                with view[done:] as rest:
                    moved = self._call(doing, rest, None if address is None else address + done)
                done += moved
                if address is None or not whole or done == len(view):  # a message is one call
                    return done
                if not moved:
                    if doing == "reading":
                        return done
                    raise OSError(errno.ENOSPC, "")
                if self._cancels != cancels:
                    raise OSError(errno.ECANCELED, "")
        except OSError as error:
            raise transfer_error(error.errno or 0, self.path, doing, len(view), address, done) from None

    def _call(self, doing: Literal["reading", "writing"], view: memoryview, address: int | None) -> int:
        if address is None:
            return (os.readv if doing == "reading" else os.writev)(self.fileno(), [view])
        return (os.preadv if doing == "reading" else os.pwritev)(self.fileno(), [view], address)
