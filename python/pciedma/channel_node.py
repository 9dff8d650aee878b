"""A channel's node: what the channel is, its settings, what its calls are given."""

from __future__ import annotations

import os
import pickle
import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, SupportsIndex

from . import uapi
from .node import Node, NodePath, as_int, is_bool

if TYPE_CHECKING:
    from typing_extensions import Buffer as BytesLike

NANOSECONDS = 1_000_000_000
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


def bytes_of(buffer: BytesLike) -> memoryview:
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


class ChannelNode(Node):
    """What a channel is and how its calls wait; what moves data is added on top of it."""

    __slots__ = ("_cancels", "_info")

    _WHAT = "channel"
    _info: ChannelInfo
    #: How often cancel() was called.
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

    def _size_to_read(self, size: SupportsIndex | None, address: SupportsIndex | None) -> int:
        """Return how many bytes a read is of, after a look at whether it can be; None: all that there is."""
        if size is None and self.kind is Kind.MEMORY:
            size = self._rest(self._position(address, 0) or 0)
        elif size is None:
            size = self.info.c2h.max_dma if self.info.c2h else 0
        size = as_int(size, "the size")
        if size < 0:
            raise ValueError("the size is negative; without one it is the rest of the memory, or the longest message")
        self._position(address, size)
        if size > _LAST_ADDRESS:
            raise ValueError(f"{size} bytes are longer than any message")
        return size

    def _rest(self, address: int) -> int:
        if self.info.size is None:
            raise ValueError("the card does not say how much memory it has: give a size")
        return max(self.info.size - address, 0)

    @property
    def timeout_s(self) -> float | None:
        """Seconds without progress, queueing included, after which a call raises DmaTimeoutError.

        None: no bound. 0: BlockingIOError instead of queueing.
        """
        nanoseconds: int = self._get_wait().timeout_ns
        return None if nanoseconds == uapi.PCIEDMA_TIMEOUT_NONE else nanoseconds / NANOSECONDS

    @timeout_s.setter
    def timeout_s(self, value: float | None) -> None:
        nanoseconds = uapi.PCIEDMA_TIMEOUT_NONE if value is None else to_nanoseconds(value)
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

    def _get_wait(self) -> uapi.pciedma_wait:
        return self._ioctl(uapi.PCIEDMA_IOC_GET_WAIT, uapi.pciedma_wait())


def to_nanoseconds(seconds: float) -> int:
    """Round to nanoseconds; what is not 0 does not become 0, which means something else."""
    if is_bool(seconds) or not (hasattr(type(seconds), "__float__") or hasattr(type(seconds), "__index__")):
        raise TypeError(f"timeout_s is seconds, a number, or None for no bound, not {seconds!r}")
    try:
        value = float(seconds)
    except OverflowError:
        value = float("inf")
    if value < 0:
        raise ValueError("the time-out is negative")
    if value != value or value * NANOSECONDS >= 1 << 63:
        raise ValueError("the time-out is too long; None is no bound")
    return max(round(value * NANOSECONDS), 1) if value else 0
