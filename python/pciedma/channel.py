"""Channels: moving data."""

from __future__ import annotations

import errno
import os
import pickle
import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal, SupportsIndex

from . import uapi
from .errors import TransferError, transfer_error
from .node import Node, NodePath, as_int, is_bool

if TYPE_CHECKING:
    from typing_extensions import Buffer

_NANOSECONDS = 1_000_000_000
#: Behind the last byte that the kernel moves.
_LAST_ADDRESS = (1 << 63) - 1


class Kind(Enum):
    """What a channel is for its user. UNKNOWN is a kind of a driver that is newer than this package."""

    UNKNOWN = 0
    MEMORY = uapi.PCIEDMA_KIND_MEMORY
    MESSAGE = uapi.PCIEDMA_KIND_MESSAGE
    STREAM = uapi.PCIEDMA_KIND_STREAM

    @classmethod
    def _missing_(cls, value: object) -> Kind:
        return cls.UNKNOWN


class WaitMode(Enum):
    """How a call waits for its DMA: asleep until the interrupt, looking at the card, or first the one and then
    the other, as recent transfers of such a length suggest (the default).
    """

    INTERRUPT = uapi.PCIEDMA_WAIT_INTERRUPT
    POLL = uapi.PCIEDMA_WAIT_POLL
    ADAPTIVE = uapi.PCIEDMA_WAIT_ADAPTIVE


@dataclass(frozen=True)
class EngineInfo:
    """One direction of a channel; sizes and alignments in bytes.

    ``max_dma`` is the most that one DMA moves; for messages, the longest message.
    """

    address_bits: int
    max_dma: int
    address_alignment: int
    length_granularity: int
    buffers: int
    buffer_size: int
    drain_ms: int


@dataclass(frozen=True)
class ChannelInfo:
    """What a channel is. ``size`` is bytes of card memory, 0 unless the kind is memory; None if nobody knows.

    ``c2h`` (card to host, read) and ``h2c`` (host to card, write) are None where the direction is missing.
    """

    card: int
    channel: int
    kind: Kind
    size: int | None
    c2h: EngineInfo | None
    h2c: EngineInfo | None


def _engine_info(raw: uapi.pciedma_engine_info) -> EngineInfo | None:
    if not raw.flags & uapi.PCIEDMA_ENGINE_PRESENT:
        return None
    return EngineInfo(**{name: getattr(raw, name) for name in EngineInfo.__dataclass_fields__})


def _bytes_of(buffer: Buffer) -> memoryview:
    """Return a buffer's memory as bytes, as they lie there, without a copy; raises TypeError if it has gaps.

    To be released, as an error's traceback would else keep it, and with it the buffer from being resized or closed.
    """
    with memoryview(buffer) as elements:
        if "O" in re.sub(":[^:]*:", "", elements.format):  # without the names of fields
            raise TypeError("the buffer holds references to Python objects, which mean nothing to a card")
    try:
        return pickle.PickleBuffer(buffer).raw()
    except BufferError:
        raise TypeError(
            "the buffer is not contiguous in memory: there are gaps between its elements, or they repeat. Move a copy "
            "of it (bytes(), numpy.ascontiguousarray())"
        ) from None


class Channel(Node):
    """An open channel of a card.

    Calls release the GIL. Threads may share a channel: each call is a request of its own, in the order of
    arrival. Settings (time-out, wait mode) belong to the open file. A child after fork() shares them.
    """

    __slots__ = ("_cancels", "_info")

    _WHAT = "channel"
    _info: ChannelInfo
    _cancels: int

    def __init__(self, path: NodePath, *, exclusive: bool = False, nonblocking: bool = False) -> None:
        """Open the node *path*, for the directions that the channel has (``info.c2h``, ``info.h2c``).

        With ``exclusive`` nobody else may have it open (EBUSY). With ``nonblocking`` a call that would
        have to queue raises WouldBlockError. Raises WrongNodeError if it is no channel's node.
        """
        flags = (os.O_EXCL if exclusive else 0) | (os.O_NONBLOCK if nonblocking else 0)
        super().__init__(path, *(access | flags for access in (os.O_RDWR, os.O_RDONLY, os.O_WRONLY)))
        self._cancels = 0
        with self._closed_on_error():
            self._info = self._get_info()

    @property
    def info(self) -> ChannelInfo:
        """What the channel is."""
        return self._info

    @property
    def kind(self) -> Kind:
        """The same as ``info.kind``."""
        return self._info.kind

    def _about(self) -> str:
        return self.kind.name.lower() if hasattr(self, "_info") else ""

    def _get_info(self) -> ChannelInfo:
        raw = self._part_info(uapi.PCIEDMA_IOC_CHANNEL_INFO, uapi.pciedma_channel_info())
        size = None if raw.size == uapi.PCIEDMA_SIZE_UNKNOWN else raw.size
        return ChannelInfo(
            raw.card, raw.channel, Kind(raw.kind), size, _engine_info(raw.c2h), _engine_info(raw.h2c)
        )

    def read(
        self, size: SupportsIndex | None = None, address: SupportsIndex | None = None, *, whole: bool = True
    ) -> bytes:
        """Return *size* bytes of card memory from *address* (default 0), or fewer where it ends; or a message.

        The default size is the longest message, or the rest of the card's memory; it is needed where
        ``info.size`` is None (ValueError). *whole* and errors as readinto(); the error's ``partial`` is what has
        arrived.
        """
        if size is None:
            size = self._rest(self._position(address, 0) or 0) if self.kind is Kind.MEMORY else self._longest()
        size = as_int(size, "the size")
        if size < 0:
            raise ValueError("the size is negative; without one it is the rest of the memory, or the longest message")
        self._position(address, size)
        if size > _LAST_ADDRESS:
            raise ValueError(f"{size} bytes are longer than any message")
        buffer = bytearray(size)
        try:
            moved = self.readinto(buffer, address, whole=whole)
        except TransferError as error:
            error.partial = bytes(memoryview(buffer)[: error.transferred])
            raise
        return bytes(memoryview(buffer)[:moved])

    def _rest(self, address: int) -> int:
        if self.info.size is None:
            raise ValueError("the card does not say how much memory it has: give a size")
        return max(self.info.size - address, 0)

    def _longest(self) -> int:
        return self.info.c2h.max_dma if self.info.c2h else 0

    def readinto(self, buffer: Buffer, address: SupportsIndex | None = None, *, whole: bool = True) -> int:
        """Fill a writable buffer with card memory from *address* (default 0), or with a message; returns the bytes.

        They are fewer than the buffer holds where the card's memory ends, or if the message is shorter. With *whole*
        false it is one call of the kernel's, which moves fewer also if a signal, an error or a time-out comes after
        part has moved, and never more than 2 GiB less 4 KiB.

        Raises TransferError, with what had moved until then: DmaTimeoutError, WouldBlockError (non-blocking, or
        time-out 0, and it would queue), CardGoneError, RequestCancelledError, and with its errno EIO (the card
        reported an error), EBADF (the channel has no such direction), EFAULT or EINVAL; TypeError or ValueError for
        an unsuitable buffer or address.
        """
        with _bytes_of(buffer) as view:
            if view.readonly:
                raise TypeError("the buffer is read-only")
            return self._transfer("reading", view, self._position(address, len(view)), whole)

    def write(self, data: Buffer, address: SupportsIndex | None = None, *, whole: bool = True) -> int:
        """Send bytes to card memory from *address* (default 0), all of them, or a message; returns how many.

        *whole* as for readinto(). Raises MessageTooLongError (nothing has moved), TransferError with ENOSPC (at the
        memory's end), and what readinto() raises.
        """
        with _bytes_of(data) as view:
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

    def _position(self, address: SupportsIndex | None, length: int) -> int | None:
        """Return where a transfer of card memory begins, None for messages; raises ValueError where it cannot be."""
        if self.kind is not Kind.MEMORY:
            if address is not None:
                raise ValueError(f"a {self.kind.name.lower()} channel has no addresses")
            return None
        position = 0 if address is None else as_int(address, "the address")
        if position < 0:
            raise ValueError("the address is negative")
        if position > _LAST_ADDRESS:
            raise ValueError("the address is 2^63 or more")
        if position + length > _LAST_ADDRESS:
            raise ValueError(f"{length} bytes at {position:#x} end behind 2^63 - 1, the last address")
        return position

    @property
    def timeout_s(self) -> float | None:
        """Seconds without progress, queueing included, after which a call raises DmaTimeoutError.

        None: no bound. 0: BlockingIOError instead of queueing.
        """
        nanoseconds: int = self._get_wait().timeout_ns
        return None if nanoseconds == uapi.PCIEDMA_TIMEOUT_NONE else nanoseconds / _NANOSECONDS

    @timeout_s.setter
    def timeout_s(self, value: float | None) -> None:
        nanoseconds = uapi.PCIEDMA_TIMEOUT_NONE if value is None else _to_nanoseconds(value)
        wait = self._get_wait()
        wait.timeout_ns = nanoseconds
        self._ioctl(uapi.PCIEDMA_IOC_SET_WAIT, wait)

    @property
    def wait_mode(self) -> WaitMode:
        """How calls wait. Raises ValueError for a mode that this package has no name for."""
        return WaitMode(self._get_wait().mode)

    @wait_mode.setter
    def wait_mode(self, value: WaitMode) -> None:
        if not isinstance(value, WaitMode):
            names = ", ".join(f"WaitMode.{mode.name}" for mode in WaitMode)
            raise TypeError(f"wait_mode is one of pciedma's {names}, not {value!r}")
        wait = self._get_wait()
        wait.mode = value.value
        self._ioctl(uapi.PCIEDMA_IOC_SET_WAIT, wait)

    def cancel(self) -> None:
        """End all requests of this open file, of all its threads and processes, synchronous or not.

        Each raises RequestCancelledError. A call with ``whole`` false, an asynchronous request, and one of the C
        library or of another Channel on the same open file (as after fork()) ends with what has arrived instead,
        if that is not nothing. The channel works on.
        """
        self._cancels += 1
        self._ioctl(uapi.PCIEDMA_IOC_CANCEL, uapi.pciedma_cancel())

    def _get_wait(self) -> uapi.pciedma_wait:
        return self._ioctl(uapi.PCIEDMA_IOC_GET_WAIT, uapi.pciedma_wait())


def _to_nanoseconds(seconds: float) -> int:
    """Round to nanoseconds; what is not 0 does not become 0, which means something else."""
    if is_bool(seconds) or not (hasattr(type(seconds), "__float__") or hasattr(type(seconds), "__index__")):
        raise TypeError(f"timeout_s is seconds, a number, or None for no bound, not {seconds!r}")
    try:
        value = float(seconds)
    except OverflowError:
        value = float("inf")
    if value < 0:
        raise ValueError("the time-out is negative")
    if value != value or value * _NANOSECONDS >= 1 << 63:
        raise ValueError("the time-out is too long; None is no bound")
    return max(round(value * _NANOSECONDS), 1) if value else 0
