"""The state in which each test finds and leaves the machine that most tests share, run in the guest."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pciedma_lab.guest import transfers
from tests.vm.guest import memory

_CLASS = Path("/sys/class/pciedma")


def cards() -> list[list[str]]:
    """The kind, the node and the PCI address of each card, in the order of their addresses."""
    found = []
    for card in _CLASS.glob("*[0-9]/card"):
        with contextlib.suppress(OSError):  # it goes while we look
            address = (card.parent / "device").readlink().name
            found.append([card.read_text().strip(), f"/dev/{card.parent.name}", address])
    return sorted(found, key=lambda card: card[2])


def bound(drivers: dict[str, str]) -> list[list[str]]:
    """The same, where each card that has no driver gets its own; by PCI addresses."""
    for address in drivers.keys() - {address for _, _, address in cards()}:
        with contextlib.suppress(OSError):  # the test says what it misses
            Path(f"/sys/bus/pci/drivers/{drivers[address]}/bind").write_text(address)
    return cards()


def entered(drivers: dict[str, str], drain_ms: int) -> dict[str, object]:
    """Bind what has no driver and give Capric a drain bound; returns the cards, and looks()."""
    found = bound(drivers)
    for kind, node, _ in found:
        if kind == "capric":
            set_drain_bound(f"{node.removeprefix('/dev/')}c0", drain_ms)
    return {"cards": found, "looks": looks()}


def looks() -> dict[str, int]:
    """How many ends of each engine were found by looking, because no interrupt told of them in time."""
    return {str(file.parent.relative_to(_CLASS)): int(file.read_text()) for file in _CLASS.glob("*/*/looks")}


def set_drain_bound(channel: str, milliseconds: int) -> int | None:
    """Another drain bound for a channel, in both directions; returns what it was, None if there is no such channel."""
    before = None
    for file in (_CLASS / channel).glob("*/drain_ms"):
        before = int(file.read_text())
        file.write_text(str(milliseconds))
    return before


def left(data: str, memory_channel: str, nodes: list[str]) -> dict[str, object]:
    """Return looks(); move messages and memory, and return what was wrong, and how much memory is quarantined."""
    before = looks()
    attributes = [_CLASS / node.removeprefix("/dev/") / "quarantined_bytes" for node in nodes]
    return {
        "looks": before,
        "messages": transfers.echo(data, 20)["first_error"],
        "memory": memory.there_and_back(memory_channel, [100, 9000], skews=[4097]),
        "quarantined": sum(int(attribute.read_text()) for attribute in attributes),
    }
