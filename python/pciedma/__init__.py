"""Zero-copy DMA between PCI Express cards and user space.

    with pciedma.open() as card, card.channel(0) as channel:
        channel.write(b"hello")
        data = channel.read(5)
"""

from __future__ import annotations

from .buffer import Buffer, Registration
from .card import Card, CardInfo, FoundCard, list_cards, open
from .channel import Channel
from .channel_node import ChannelInfo, EngineInfo, Kind, WaitMode
from .dmabuf import DmaBuf, DmaBufPart
from .entry import Entry, Result
from .errors import (
    CardGoneError,
    DmaTimeoutError,
    DriverTooOldError,
    MessageTooLongError,
    NoCardError,
    NotPermittedError,
    RequestCancelledError,
    TransferError,
    WouldBlockError,
    WrongNodeError,
)
from .window import Window, WindowInfo

__version__ = "0.1.0"

__all__ = [
    "Buffer", "Card", "CardGoneError", "CardInfo", "Channel", "ChannelInfo", "DmaBuf", "DmaBufPart", "DmaTimeoutError",
    "DriverTooOldError", "EngineInfo", "Entry", "FoundCard", "Kind", "MessageTooLongError", "NoCardError",
    "NotPermittedError", "Registration", "RequestCancelledError", "Result", "TransferError", "WaitMode", "Window",
    "WindowInfo", "WouldBlockError", "WrongNodeError", "list_cards", "open",
]
