"""What a card's model has seen: counters, violations, events, and the last accesses."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

_HISTORY = 32
_EVENTS = 1000
_ACCESSES = 256
#: Of each name: a driver that does one thing wrong does it again and again, and must not hide another.
_VIOLATIONS = 100


class Records:
    """The records of one model. Used by its event loop alone."""

    def __init__(self, names: Mapping[tuple[int, int], str]) -> None:
        """Start with nothing; *names* are the registers' by BAR and offset."""
        self._names = names
        self.counters: Counter[str] = Counter()
        self._violations: list[dict[str, Any]] = []
        self._seen: Counter[str] = Counter()
        self._events: deque[dict[str, Any]] = deque(maxlen=_EVENTS)
        self._forgotten = 0
        #: The last accesses to what belongs to the user's logic: window, kind, offset, bytes, value.
        self.accesses: deque[tuple[str, str, int, int, int]] = deque(maxlen=_ACCESSES)
        self.history: deque[tuple[str, int, int, int]] = deque(maxlen=_HISTORY)

    def violation(self, name: str, text: str, **facts: Any) -> None:
        """Record that something forbidden happened, with the accesses before it; the first of each name are kept."""
        self._seen[name] += 1
        if self._seen[name] > _VIOLATIONS:
            return
        history = [
            f"{kind} {self._names.get((bar, offset), f'BAR{bar}+{offset:#x}')} {value:#010x}"
            for kind, bar, offset, value in self.history
        ]
        self._violations.append({"name": name, "text": text, **facts, "history": history})

    @property
    def violations(self) -> list[dict[str, Any]]:
        """What was recorded, and of each name of which more was seen than is kept one that says how many."""
        more = {name: seen - _VIOLATIONS for name, seen in self._seen.items() if seen > _VIOLATIONS}
        dropped = [
            {"name": name, "text": f"{count} more of {name}, dropped", "dropped": count, "history": []}
            for name, count in more.items()
        ]
        return [*self._violations, *dropped]

    def clear_violations(self) -> None:
        """Forget them."""
        self._violations.clear()
        self._seen.clear()

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
        self._forgotten += len(self._events) == _EVENTS
        self._events.append({"name": name, "time_s": time.monotonic(), **facts})

    @property
    def events(self) -> list[dict[str, Any]]:
        """The last events; if there were more, one at the beginning says how many were dropped."""
        dropped = {"name": "dropped", "time_s": 0.0, "count": self._forgotten}
        return [*([dropped] if self._forgotten else []), *self._events]
