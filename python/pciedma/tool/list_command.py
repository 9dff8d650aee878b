"""Show all cards, their channels and windows, nodes and stable names.

Needs no permission. SIZE is the card's memory behind a channel, where it is known, or a window's.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import json
import sys
from collections.abc import Sequence
from typing import Any

from .cards import CardState, ChannelState, State, WindowState, cards
from .system import System

EXIT_STATUS = "0: there are cards; 1: there is none"

_HEADER = ("NODE", "KIND", "SIZE", "ACCESS", "PCI ADDRESS", "PCI IDS", "STATE", "STABLE NAME")
_ACCESS = {("c2h", "h2c"): "read, write", ("c2h",): "read", ("h2c",): "write"}


def size_text(size: int) -> str:
    """Return bytes in the largest unit that has no fraction; nothing for 0."""
    units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while size and size % 1024 == 0 and len(units) > 1:
        size //= 1024
        units.pop(0)
    return f"{size} {units[0]}" if size else ""


def _state_text(card: CardState) -> str:
    if card.quarantined_bytes and card.state != State.OK:
        return f"{card.state.value}, {size_text(card.quarantined_bytes)} kept"
    return card.state.value


def _card_row(card: CardState) -> tuple[str, ...]:
    subsystem = f"{card.pci.subsystem_vendor:04x}:{card.pci.subsystem_device:04x}"
    ids = f"{card.pci.ids} ({subsystem})"
    return (card.node, card.name, "", "", card.pci.address, ids, _state_text(card), card.link or "")


def _channel_row(channel: ChannelState) -> tuple[str, ...]:
    access = _ACCESS.get(channel.directions, "")
    return (channel.node, channel.kind, size_text(channel.size), access, "", "", channel.trouble, channel.link or "")


def _window_row(window: WindowState) -> tuple[str, ...]:
    return (window.node, window.name, size_text(window.size), "registers", "", "", "", window.link or "")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as lines with aligned columns; a column without content is left out."""
    head, *body = rows
    columns = [column for column in range(len(head)) if any(row[column] for row in body)]
    widths = {column: max(len(row[column]) for row in rows) for column in columns}
    return "\n".join("  ".join(row[column].ljust(widths[column]) for column in columns).rstrip() for row in rows)


def text(found: Sequence[CardState]) -> str:
    """Return what people read: a line for each card, and one for each of its channels and windows."""
    rows: list[tuple[str, ...]] = [_HEADER]
    for card in found:
        rows += [_card_row(card), *(_channel_row(channel) for channel in card.channels)]
        rows += [_window_row(window) for window in card.windows]
    return table(rows)


def _enums_to_values(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value.value if isinstance(value, enum.Enum) else value for name, value in pairs}


def as_json(found: Sequence[CardState]) -> str:
    """Return what programs read: a list with an object for each card."""
    return json.dumps([dataclasses.asdict(card, dict_factory=_enums_to_values) for card in found], indent=2)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--json", action="store_true", help="a list of objects, for programs")


def run(arguments: argparse.Namespace, system: System | None = None) -> int:
    """Print the cards; returns 1 if there is none."""
    found = cards(system or System())
    if arguments.json:
        print(as_json(found))
    elif found:
        print(text(found))
    if not found:
        print("pciedma: no card; `pciedma doctor` finds out why", file=sys.stderr)
    return 0 if found else 1
