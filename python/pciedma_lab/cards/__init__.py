"""The models of cards: a file for each, found by its name."""

from __future__ import annotations

import importlib
import pkgutil

from ..model import CardModel


def names() -> list[str]:
    """Return the names of all cards that have a model."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def model(name: str) -> type[CardModel]:
    """Return the model of a card: the class ``Model`` of the file of its name; raises KeyError."""
    if name not in names():
        raise KeyError(f"there is no card {name}; the cards are {', '.join(names())}")
    found: type[CardModel] = importlib.import_module(f"{__name__}.{name}").Model
    return found
