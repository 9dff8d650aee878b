"""Channels: moving data."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from . import uapi
from .errors import DriverTooOldError, WrongNodeError, translated
from .node import Node, NodePath, is_bool

if TYPE_CHECKING:
    from typing_extensions import Buffer

_NANOSECONDS = 1_000_000_000


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
    """Return a buffer's memory as bytes, without a copy; raises TypeError if it is not contiguous."""
    view = memoryview(buffer)
    if not view.c_contiguous:
        raise TypeError("the buffer is not contiguous in memory")
    return view.cast("B")


class Channel(Node):
    """An open channel of a card.

    Calls release the GIL. Threads may share a channel: each call is a request of its own, in the order of
    arrival. Settings (time-out, wait mode) belong to the open file. A child after fork() shares them.
    """

    __slots__ = ("_info",)

    _info: ChannelInfo

    def __init__(self, path: NodePath, *, exclusive: bool = False, nonblocking: bool = False) -> None:
        """Open the node *path*, for the directions that the channel has (``info.c2h``, ``info.h2c``).

        With ``exclusive`` nobody else may have it open (EBUSY). With ``nonblocking`` a call that would
        have to queue raises BlockingIOError. Raises WrongNodeError if it is no channel's node.
        """
        flags = (os.O_EXCL if exclusive else 0) | (os.O_NONBLOCK if nonblocking else 0)
        super().__init__(path, *(access | flags for access in (os.O_RDWR, os.O_RDONLY, os.O_WRONLY)))
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
        try:
            raw = self._ioctl(uapi.PCIEDMA_IOC_CHANNEL_INFO, uapi.pciedma_channel_info())
        except DriverTooOldError:  # each driver knows it, of its channels
            text = "not a channel: a card's are opened by pciedma.open(CARD).channel(NUMBER)"
            raise WrongNodeError(errno.ENOTTY, text, self.path) from None
        size = None if raw.size == uapi.PCIEDMA_SIZE_UNKNOWN else raw.size
        return ChannelInfo(
            raw.card, raw.channel, Kind(raw.kind), size, _engine_info(raw.c2h), _engine_info(raw.h2c)
        )

    def read(self, size: int | None = None, address: int | None = None) -> bytes:
        """Return up to *size* bytes: a message, or card memory from *address* (default 0).

        The default size is the longest message, or the rest of the card's memory; it is needed where
        ``info.size`` is None (ValueError). Errors as readinto().
        """
        if size is None:
            size = self._rest(address or 0) if self.kind is Kind.MEMORY else self._longest()
        buffer = bytearray(size)
        return bytes(memoryview(buffer)[: self.readinto(buffer, address)])

    def _rest(self, address: int) -> int:
        if self.info.size is None:
            raise ValueError("the card does not say how much memory it has: give a size")
        return max(self.info.size - address, 0)

    def _longest(self) -> int:
        return self.info.c2h.max_dma if self.info.c2h else 0

    def readinto(self, buffer: Buffer, address: int | None = None) -> int:
        """Fill a writable buffer from the card; returns the bytes that arrived.

        Fewer than the buffer holds: the end of the card's memory, the longest message, or a signal.

        Raises DmaTimeoutError, BlockingIOError (non-blocking, or time-out 0, and it would queue),
        CardGoneError, OSError with EIO (the card reported an error), EBADF (the channel has no such direction),
        EFAULT or EINVAL; TypeError or ValueError for an unsuitable buffer or address.
        """
        view = _bytes_of(buffer)
        if view.readonly:
            raise TypeError("the buffer is read-only")
        with translated(self.path):
            if self.kind is Kind.MEMORY:
                return os.preadv(self.fileno(), [view], self._position(address))
            self._position(address)
            return os.readv(self.fileno(), [view])

    def write(self, data: Buffer, address: int | None = None) -> int:
        """Send bytes to the card: a message, or to card memory from *address* (default 0); returns how many.

        Raises MessageTooLongError (nothing has moved), OSError with ENOSPC (at the memory's end), and what
        readinto() raises.
        """
        view = _bytes_of(data)
        with translated(self.path):
            if self.kind is Kind.MEMORY:
                return os.pwritev(self.fileno(), [view], self._position(address))
            self._position(address)
            return os.writev(self.fileno(), [view])

    def _position(self, address: int | None) -> int:
        if address is not None and self.kind is not Kind.MEMORY:
            raise ValueError(f"a {self.kind.name.lower()} channel has no addresses")
        if address is not None and not 0 <= address < 1 << 63:
            raise ValueError("the address is negative" if address < 0 else "the address is 2^63 or more")
        return address or 0

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

        Each returns what has arrived, or raises RequestCancelledError if that is nothing. The channel works on.
        """
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
