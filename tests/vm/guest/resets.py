"""Resets of a card, run in the guest."""

from __future__ import annotations

import pciedma


def reset(card: str) -> None:
    """Reset a card."""
    with pciedma.open(card) as opened:
        opened.reset()
