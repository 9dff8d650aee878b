"""The faults that a model can be told to have, by name."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_SYNTAX = re.compile(r"(?P<name>[a-z_]+)(=(?P<value>[^*]+))?(\*(?P<count>[1-9]\d*))?")


class BadFault(ValueError):  # noqa: N818
    """An unknown fault, or a value that it does not take."""


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (value >= 0 and math.isfinite(value)):
        raise BadFault(f"{text!r} is not a number from 0")
    return value


def number(text: str | None) -> float:
    """Take a number, e.g. of microseconds."""
    if text is None:
        raise BadFault("it needs a number")
    return _positive(text)


def span(text: str | None) -> tuple[float, float]:
    """Take a range ``LO-HI``."""
    low, dash, high = (text or "").partition("-")
    if not dash or _positive(low) > _positive(high):
        raise BadFault("it needs a range LO-HI")
    return float(low), float(high)


def nothing(text: str | None) -> bool:
    """Take no value."""
    if text is not None:
        raise BadFault("it takes no value")
    return True


def one_of(*words: str) -> Callable[[str | None], str]:
    """Return a function that takes one of some words; the first is the default."""

    def take(text: str | None) -> str:
        if text not in (None, *words):
            raise BadFault(f"it takes {', '.join(words)}")
        return text or words[0]

    return take


@dataclass
class Fault:
    """A fault that is switched on: its value, and how often it is still to happen (None: for ever)."""

    value: Any
    count: int | None


class Faults:
    """The faults of one model; ``known`` maps names to what takes their values."""

    def __init__(self, known: Mapping[str, Callable[[str | None], Any]]) -> None:
        """Start with none switched on."""
        self.known = known
        self.active: dict[str, Fault] = {}

    def set(self, text: str) -> str:
        """Switch a fault on: ``NAME[=VALUE][*COUNT]``; returns its name, raises BadFault."""
        match = _SYNTAX.fullmatch(text)
        name = match["name"] if match else text.partition("=")[0].partition("*")[0]
        if name not in self.known:
            raise BadFault(f"{text!r}: the faults are {', '.join(sorted(self.known))}")
        if match is None:
            raise BadFault(f"{text!r}: a fault is NAME[=VALUE][*COUNT], with a count from 1")
        try:
            value = self.known[name](match["value"])
        except BadFault as error:
            raise BadFault(f"{text!r}: {error}") from None
        self.active[name] = Fault(value, int(match["count"]) if match["count"] else None)
        return name

    def clear(self) -> None:
        """Switch all off."""
        self.active.clear()

    def value(self, name: str) -> Any:
        """Return a fault's value, or None if it is off; does not count."""
        fault = self.active.get(name)
        return None if fault is None else fault.value

    def take(self, name: str) -> Any:
        """Let a fault happen once: return its value, or None if it is off."""
        fault = self.active.get(name)
        if fault is None:
            return None
        if fault.count is not None:
            fault.count -= 1
            if not fault.count:
                del self.active[name]
        return fault.value
