"""Where the lab's own parts are: in a clone of the project, or installed, where it makes a folder like one."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from pciedma import __version__

from . import cache

#: The folder that has the packages ``pciedma`` and ``pciedma_lab``.
PACKAGES = Path(__file__).resolve().parents[1]
_OURS = ("pciedma", "pciedma_lab")
#: Bytecode is the host's, and comes and goes.
_NOT_COPIED = "__pycache__"


def find_clone(packages: Path) -> Path | None:
    """Return the clone whose packages these are, or None if they are installed."""
    clone = packages.parent
    return clone if packages.name == "python" and (clone / "src/Kbuild").is_file() else None


def _folder() -> Path:
    """Return the folder that the guest sees, which has ``python`` and ``build``."""
    key = hashlib.sha256(os.fsencode(PACKAGES)).hexdigest()[:12]
    return CLONE or cache.root() / f"lab-{__version__}-{key}"


CLONE = find_clone(PACKAGES)
FOLDER = _folder()
#: The driver's source. Installed, it is a part of the lab: setup.cfg says so.
SOURCE = CLONE / "src" if CLONE else PACKAGES / "pciedma_lab/driver"


def provide() -> None:
    """Let FOLDER have the packages as they are; in a clone they are there."""
    if CLONE is None:
        with cache.locked(FOLDER / "lock"):
            for name in _OURS:
                copy_package(PACKAGES / name, FOLDER / "python" / name)
        os.utime(FOLDER)
        cache.prune("lab-", FOLDER)


def copy_package(source: Path, target: Path) -> None:
    """Make *target* a copy of *source*, unless it is one already: a guest may be using it."""
    if _files(source) != _files(target):
        cache.remove(target)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(_NOT_COPIED))


def _files(folder: Path) -> dict[str, str]:
    """Return a folder's files, each with a hash: times are not kept as they are on all file systems."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and _NOT_COPIED not in path.parts
    }
