"""Cards that the driver is bound to, as sysfs shows them to anybody."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from pathlib import Path

from ..card import FoundCard, list_cards
from ..uapi import PCIEDMA_SIZE_UNKNOWN
from . import pci
from .system import System

CLASS = "/sys/class/pciedma"
BY_PATH = "/dev/pciedma/by-path"


class State(enum.Enum):
    """What can be seen of a card's health without permission."""

    OK = "ok"
    QUARANTINED = "quarantined"  #: memory is kept, because the card may still write to it
    STOPPED = "stopped"  #: the driver gave it up, and keeps it off the bus
    CONFIG_LOST = "configuration lost"  #: its FPGA was configured anew, say: it is not at its addresses any more
    NO_ANSWER = "no answer"  #: it reads as all ones: it is gone, or in a deep sleep


@dataclass(frozen=True)
class ChannelState:
    """A channel; ``size``: the card's memory in bytes, 0: unknown or none; ``link``: its stable name, if any.

    ``health`` is each direction's: ok, failing, broken.
    """

    index: int
    node: str
    kind: str
    size: int
    directions: tuple[str, ...]
    health: dict[str, str]
    link: str | None

    @property
    def trouble(self) -> str:
        """The directions that do not work, and how; nothing if all do."""
        return ", ".join(f"{name} {health}" for name, health in self.health.items() if health != "ok")


@dataclass(frozen=True)
class WindowState:
    """A window; ``name`` is its card's word, ``size`` in bytes, ``widths`` those of an access; ``link``: as above."""

    index: int
    node: str
    name: str
    size: int
    widths: tuple[int, ...]
    link: str | None


@dataclass(frozen=True)
class CardState:
    """A card; ``name`` is its back end's."""

    index: int
    node: str
    name: str
    pci: pci.PciDevice
    state: State
    quarantined_bytes: int
    resets: int
    link: str | None
    channels: tuple[ChannelState, ...]
    windows: tuple[WindowState, ...] = ()

    @property
    def unwell(self) -> list[tuple[ChannelState, str]]:
        """The channels whose engines do not work, and what of them."""
        pairs = ((channel, channel.trouble) for channel in self.channels)
        return [(channel, trouble) for channel, trouble in pairs if trouble]

    @property
    def nodes(self) -> tuple[str, ...]:
        """The card's own node, and its channels'."""
        return (self.node, *(channel.node for channel in self.channels))


def _links(system: System) -> dict[str, str]:
    """Return the stable name of each node's name."""
    names = system.names(BY_PATH)
    return {target: f"{BY_PATH}/{name}" for name in names if (target := system.link(f"{BY_PATH}/{name}"))}


def _channel(system: System, node: str, links: dict[str, str]) -> ChannelState:
    folder = f"{CLASS}/{node}"
    size = system.number(f"{folder}/size")
    directions = tuple(name for name in ("c2h", "h2c") if system.exists(f"{folder}/{name}"))
    return ChannelState(
        index=int(node.rpartition("c")[2]),
        node=f"/dev/{node}",
        kind=system.text(f"{folder}/kind") or "unknown",
        size=0 if size == PCIEDMA_SIZE_UNKNOWN else size,
        directions=directions,
        health={name: system.text(f"{folder}/{name}/health") or "ok" for name in directions},
        link=links.get(node),
    )


def _window(system: System, node: str, links: dict[str, str]) -> WindowState:
    folder = f"{CLASS}/{node}"
    return WindowState(
        index=int(node.rpartition("w")[2]),
        node=f"/dev/{node}",
        name=system.text(f"{folder}/name") or "unknown",
        size=system.number(f"{folder}/size"),
        widths=tuple(int(word) for word in (system.text(f"{folder}/widths") or "").split()),
        link=links.get(node),
    )


def _state(system: System, folder: str, address: str, quarantined_bytes: int) -> State:
    if pci.answers(system, address) is False:
        return State.NO_ANSWER
    if system.text(f"{folder}/configuration") == "lost":
        return State.CONFIG_LOST
    if pci.is_bus_master(system, address) is False:
        return State.STOPPED
    return State.QUARANTINED if quarantined_bytes else State.OK


def _card(system: System, found: FoundCard, links: dict[str, str]) -> CardState:
    name = Path(found.path).name
    folder = f"{CLASS}/{name}"
    quarantined_bytes = system.number(f"{folder}/quarantined_bytes")
    nodes = [node for node in system.names(CLASS) if re.fullmatch(rf"{name}c\d+", node)]
    channels = sorted((_channel(system, node, links) for node in nodes), key=lambda channel: channel.index)
    nodes = [node for node in system.names(CLASS) if re.fullmatch(rf"{name}w\d+", node)]
    windows = sorted((_window(system, node, links) for node in nodes), key=lambda window: window.index)
    return CardState(
        index=found.index,
        node=found.path,
        name=found.name,
        pci=pci.pci_device(system, found.pci_address),
        state=_state(system, folder, found.pci_address, quarantined_bytes),
        quarantined_bytes=quarantined_bytes,
        resets=system.number(f"{folder}/resets"),
        link=links.get(name),
        channels=tuple(channels),
        windows=tuple(windows),
    )


def cards(system: System) -> list[CardState]:
    """Return all cards in the order of their numbers."""
    links = _links(system)
    return [_card(system, found, links) for found in list_cards(system.path(CLASS), Path("/dev"))]
