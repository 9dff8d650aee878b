"""The layers of the driver's core by the table ``src/core/LAYERS``: who uses what is above; what is too long.

A file of core may use its own layer and those below; upward there are only operations that the lower layer declares.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .cache import LabError

CORE = Path("src/core")
TABLE = CORE / "LAYERS"
_CARDS = Path("src/cards")

#: How many lines each may have. A function's are those between the braces in column 0.
BOUNDS = {"header": 250, "file": 450, "function": 60}

#: The command that lists what objects define and want as calls() reads it.
NM = ("nm", "--extern-only", "--portability", "--print-file-name")
_UNDEFINED = "Uwv"
_FUNCTIONS = "TW"

_INCLUDE = re.compile(r'\s*#\s*include\s*(<[^>]*>|"[^"]*"|\w+)')
#: The name of a function in its head, in which attributes may come before it.
_NAME = re.compile(r"\b(?!__)(\w+)\(")


@dataclass(frozen=True)
class Layers:
    """The layers of the tree at ``root``: the folders in its core, the lowest first. All paths are relative to it."""

    root: Path
    folders: tuple[str, ...]

    def level(self, path: Path) -> int | None:
        """Return the place of a file's layer in the table; None if it is in none."""
        folder = path.parent.relative_to(CORE).as_posix() if path.is_relative_to(CORE) else ""
        return self.folders.index(folder) if folder in self.folders else None

    def name(self, level: int) -> str:
        """Return what a layer is called."""
        return "assembly" if self.folders[level] == "." else self.folders[level]

    def sources(self, *folders: Path) -> list[Path]:
        """Return the C files and headers below folders."""
        found = (path for folder in folders for path in (self.root / folder).rglob("*.[ch]"))
        return sorted(path.relative_to(self.root) for path in found)

    def lines(self, path: Path) -> list[str]:
        """Return a file's lines."""
        return (self.root / path).read_text().splitlines()


@dataclass(frozen=True)
class Size:
    """How many lines a header, a file or a function has."""

    kind: str
    place: str
    lines: int

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.place}: a {self.kind} of {self.lines} lines"


@dataclass(frozen=True)
class Report:
    """What the sources alone tell: a line for each fault, and the longest header, file and function."""

    faults: list[str]
    longest: list[Size]

    @property
    def summary(self) -> str:
        """The longest of each kind, in one line."""
        return "longest: " + "; ".join(map(str, self.longest))


def read(root: Path) -> Layers:
    """Return the layers that a tree's table names; raises LabError for a table that says less than it should."""
    folders: list[str] = []
    for number, line in enumerate((root / TABLE).read_text().splitlines(), 1):
        folder, _, sentence = line.partition(" ")
        if not sentence.strip() or folder in folders:
            raise LabError(f"{TABLE}:{number}: a line is a folder that no other line has, and what the layer is")
        folders.append(folder)
    return Layers(root, tuple(folders))


def report(layers: Layers) -> Report:
    """Return what is wrong with includes and sizes, in core and cards, and what is longest."""
    sizes = list(_sizes(layers))
    too_long = [f"{size}, above {BOUNDS[size.kind]}" for size in sizes if size.lines > BOUNDS[size.kind]]
    of_kinds = ([size for size in sizes if size.kind == kind] for kind in BOUNDS)
    longest = [max(found, key=lambda size: size.lines) for found in of_kinds if found]
    return Report([*_includes(layers), *too_long], longest)


def objects(layers: Layers) -> list[str]:
    """Return where core's objects are in a folder in which ``src`` was built: nm fails if one is missing."""
    return [str(path.with_suffix(".o")) for path in layers.sources(CORE) if path.suffix == ".c"]


def calls(layers: Layers, symbols: str) -> list[str]:
    """Return a line for each function or datum that an object has from a higher layer.

    *symbols* is what NM says of objects(). Objects of no layer are left out: report() names their sources.
    """
    defined: dict[str, tuple[int, str, str]] = {}
    wanted: list[tuple[int, str, str]] = []
    for line in symbols.splitlines():
        place, name, kind = line.split()[:3]
        place = place.removesuffix(":")
        level = layers.level(Path(place))
        if level is not None and kind in _UNDEFINED:
            wanted.append((level, place, name))
        elif level is not None:
            defined[name] = (level, place, kind)
    faults = []
    for own, user, name in wanted:
        level, place, kind = defined.get(name, (own, "", ""))
        if level > own:
            what = f"calls {name}()" if kind in _FUNCTIONS else f"uses {name}"
            where = f"{place} (layer {layers.name(level)})"
            faults.append(f"{user} (layer {layers.name(own)}) {what}, which {where} defines")
    return faults


def _includes(layers: Layers) -> Iterator[str]:
    """Yield the faults of files that are in no layer, or include what is above or in none."""
    for path in layers.sources(CORE):
        own = layers.level(path)
        if own is None:
            yield f"{path}: is in no layer: {TABLE} does not name its folder"
            continue
        for number, line in enumerate(layers.lines(path), 1):
            if not (match := _INCLUDE.match(line)):
                continue
            found = _find(layers, path, match[1])
            level = layers.level(found) if found else None
            if level is None and not match[1].startswith("<"):
                yield f"{path}:{number}: includes {match[1]}, which is in no layer"
            elif level is not None and level > own:
                yield f"{path}:{number}: includes {match[1]}, of the higher layer {layers.name(level)}"


def _find(layers: Layers, path: Path, written: str) -> Path | None:
    """Return the file that *path* includes by what is *written*; None if it is neither beside it nor in core."""
    places = [CORE] if written.startswith("<") else [path.parent, CORE]
    found = (Path(os.path.normpath(place / written.strip('<>"'))) for place in places)
    return next((file for file in found if (layers.root / file).is_file()), None)


def _sizes(layers: Layers) -> Iterator[Size]:
    """Yield the size of all that has a bound."""
    for path in layers.sources(CORE, _CARDS):
        lines = layers.lines(path)
        yield Size("header" if path.suffix == ".h" else "file", str(path), len(lines))
        begin = None
        for number, line in enumerate(lines):
            if line == "{":
                begin = number
            elif line.startswith("}") and begin is not None:
                yield Size("function", f"{path}:{_head(lines, begin)}", number - begin - 1)
                begin = None


def _head(lines: list[str], begin: int) -> str:
    """Return the number and name of the function whose opening brace is at *begin*: its head may take several lines."""
    first = begin - 1
    while first > 0 and lines[first].startswith((" ", "\t")):
        first -= 1
    match = _NAME.search(" ".join(lines[first:begin]))
    return f"{first + 1}: {match[1]}()" if match else f"{first + 1}"
