"""The models of cards: a file for each, found by its name here, or elsewhere by its path."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

from ..model import CardModel


def names() -> list[str]:
    """Return the names of all cards that have a model."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def source(card: str) -> Path | None:
    """Return the file of a card that is given as ``PATH/NAME.py``, or None if it is given by its name."""
    return Path(card).resolve() if card.endswith(".py") else None


def model(card: str) -> type[CardModel]:
    """Return the model of a card, given by its name or as ``PATH/NAME.py``: the class ``Model`` of its file.

    Raises KeyError if there is no such file.
    """
    path = source(card)
    found: type[CardModel] = (_by_name(card) if path is None else _by_path(path)).Model
    return found


def _by_name(name: str) -> ModuleType:
    if name not in names():
        raise KeyError(f"there is no card {name}; the cards are {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}")


def _by_path(path: Path) -> ModuleType:
    """Import a file under the name that it would have here; what lies beside it can be imported, but hides nothing."""
    spec = importlib.util.spec_from_file_location(f"{__name__}.{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise KeyError(f"there is no card {path}")
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
