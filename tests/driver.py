"""What the driver consists of, from its source: no test has to be told of a new card."""

from __future__ import annotations

from .installation import PROJECT


def modules() -> list[str]:
    """Return the names of the driver's modules: the core's, then each card's, which is a file with no underscore."""
    cards = sorted(path.stem for path in (PROJECT / "src/cards").glob("*.c") if "_" not in path.stem)
    return ["pciedma", *(f"pciedma_{card}" for card in cards)]
