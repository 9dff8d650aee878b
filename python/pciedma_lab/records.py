"""What a card's model has seen: counters, violations, events, and the last accesses."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

_HISTORY = 32
_EVENTS = 1000
_ACCESSES = 256


class Records:
    """The records of one model. Used by its event loop alone."""

    def __init__(self, names: Mapping[tuple[int, int], str]) -> None:
        """Start with nothing; *names* are the registers' by BAR and offset."""
        self._names = names
        self.counters: Counter[str] = Counter()
        self.violations: list[dict[str, Any]] = []
        self.events: deque[dict[str, Any]] = deque(maxlen=_EVENTS)
        #: The last accesses to what belongs to the user's logic: window, kind, offset, bytes, value.
        self.accesses: deque[tuple[str, str, int, int, int]] = deque(maxlen=_ACCESSES)
        self.history: deque[tuple[str, int, int, int]] = deque(maxlen=_HISTORY)

    def violation(self, name: str, text: str, **facts: Any) -> None:
        """Record that something forbidden happened, with the accesses before it."""
        history = [
            f"{kind} {self._names.get((bar, offset), f'BAR{bar}+{offset:#x}')} {value:#010x}"
            for kind, bar, offset, value in self.history
        ]
        self.violations.append({"name": name, "text": text, **facts, "history": history})

    def access(self, window: str, kind: str, offset: int, size: int, value: int, *, each: bool = False) -> None:
        """Count a read or write of a window as one access of its width, with *each* also by its offset."""
        self.accesses.append((window, kind, offset, size, value))
        name = f"{window}_{kind}s"
        self.counters[name] += 1
        self.counters[f"{name}.{size}"] += 1
        if each:
            self.counters[f"{name}.{offset:#x}.{size}"] += 1

    def event(self, name: str, **facts: Any) -> None:
        """Record something worth knowing that nothing forbids."""
        self.events.append({"name": name, "time_s": time.monotonic(), **facts})
