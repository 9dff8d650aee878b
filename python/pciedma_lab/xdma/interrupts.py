"""XDMA's interrupt block: sources, enables, vectors, and what goes out on the bus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import registers as r

if TYPE_CHECKING:
    from ..cards.xdma import Model

_USER, _CHANNEL = 0x00, 0x10
_PIN_BITS = 3


class InterruptBlock:
    """16 user wires and up to 8 channels. Messages go out on rising edges of source and enable."""

    def __init__(self, card: Model) -> None:
        """Belong to *card*, at the reset state."""
        self.card = card
        self.wires = 0
        self.reset()

    def reset(self) -> None:
        """Everything off; the wires belong to the user's logic and are low then."""
        self.wires = 0
        self.enables = {_USER: 0, _CHANNEL: 0}
        self.vectors = {r.USER_VECTORS + 4 * n: 0 for n in range(4)} | {
            r.CHANNEL_VECTORS + 4 * n: 0 for n in range(2)
        }
        self._requested = {_USER: 0, _CHANNEL: 0}
        self.card.drive_level(asserted=False)

    def raise_wire(self, wire: int) -> None:
        """The user's logic raises a wire, which stays high until it is served."""
        self.wires |= 1 << wire & 0xFFFF
        self.update()

    def lower_wires(self, wires: int) -> None:
        """The user's logic was served."""
        self.wires &= ~wires
        self.update()

    def _sources(self, kind: int) -> int:
        if kind == _USER:
            return self.wires
        sources = 0
        for engine in self.card.engines:
            if engine.status & engine.mask:
                sources |= 1 << engine.index
        return sources

    def read(self, place: int) -> int:
        """Return a register of the block."""
        if place in self.vectors:
            return self.vectors[place]
        values = {
            r.USER_ENABLE.offset: self.enables[_USER],
            r.CHANNEL_ENABLE.offset: self.enables[_CHANNEL],
            r.USER_REQUEST.offset: self._sources(_USER) & self.enables[_USER],
            r.CHANNEL_REQUEST.offset: self._sources(_CHANNEL) & self.enables[_CHANNEL],
            r.USER_PENDING.offset: self._sources(_USER),
            r.CHANNEL_PENDING.offset: self._sources(_CHANNEL),
        }
        return values.get(place, 0)

    def write(self, place: int, value: int) -> None:
        """Write a register of the block."""
        if place in self.vectors:
            self.vectors[place] = value
        else:
            kind, alias = (_USER, place - 4) if place < _CHANNEL else (_CHANNEL, place - _CHANNEL)
            old = self.enables[kind]
            self.enables[kind] = {0: value, 4: old | value, 8: old & ~value}[alias]
        self.update()

    def update(self) -> None:
        """Send a message for each line that has become active, and drive the pin."""
        for kind, base in ((_CHANNEL, r.CHANNEL_VECTORS), (_USER, r.USER_VECTORS)):
            requested = self._sources(kind) & self.enables[kind]
            rising, self._requested[kind] = requested & ~self._requested[kind], requested
            if rising:
                self._send(rising, base)
        self.card.drive_level(asserted=any(self._requested.values()))

    def _send(self, lines: int, base: int) -> None:
        for line in range(lines.bit_length()):
            if lines >> line & 1:
                vector = self.vectors[base + line // 4 * 4] >> line % 4 * 8 & 0x1F
                self.card.send_message(vector)
