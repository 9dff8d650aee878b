"""Where downloads and built things are kept between runs, and how they come to be there whole."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def root() -> Path:
    """Return the folder of all that is cached: ``${XDG_CACHE_HOME:-~/.cache}/pciedma``."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "pciedma"


def say(text: str) -> None:
    """Print one line of progress on standard error."""
    print(f"pciedma_lab: {text}", file=sys.stderr, flush=True)


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock *name* against other processes that fill the same part of the cache."""
    path = root() / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def provide(target: Path, make: Callable[[Path], None]) -> Path:
    """Return *target*, made by ``make(temporary)`` and renamed, so that it is there whole or not at all.

    Processes that want the same target wait for each other.
    """
    if target.exists():
        return target
    with locked(target.name):
        if target.exists():
            return target
        temporary = target.with_name(f"{target.name}.new")
        remove(temporary)
        make(temporary)
        temporary.rename(target)
    return target


def remove(path: Path) -> None:
    """Remove a file or a folder, whether it is there or not."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
