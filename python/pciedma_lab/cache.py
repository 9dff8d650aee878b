"""Where downloaded and built things are kept between runs, and how they come to be there whole."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_UNUSED_SECONDS = 30 * 24 * 3600


class LabError(Exception):
    """The lab cannot go on, for a reason outside the code under test; the text says what to do about it."""


def root() -> Path:
    """Return the folder of all that is cached: ``${XDG_CACHE_HOME:-~/.cache}/pciedma``."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "pciedma"


def say(text: str) -> None:
    """Print one line of progress on standard error."""
    print(f"pciedma_lab: {text}", file=sys.stderr, flush=True)


@contextmanager
def step(text: str, details: str = "") -> Iterator[None]:
    """Say that a long step begins, with *details*, and when it has ended how long it took."""
    say(f"{text}: {details}" if details else text)
    start = time.monotonic()
    yield
    say(f"{text} took {time.monotonic() - start:.0f} s")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file *path* against other threads and processes that change the same thing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def provide(target: Path, make: Callable[[Path], None]) -> Path:
    """Return *target*, made by ``make(temporary)`` and renamed, so that it is there whole or not at all.

    Threads and processes that want the same target wait for each other.
    """
    if not target.exists():
        with locked(target.with_name(f"{target.name}.lock")):
            if not target.exists():
                temporary = target.with_name(f"{target.name}.new")
                remove(temporary)
                make(temporary)
                temporary.rename(target)
    os.utime(target)
    return target


def final_name(temporary: Path) -> Path:
    """Return where the thing that provide() lets make at *temporary* will be in the end."""
    return temporary.with_name(temporary.name.removesuffix(".new"))


def together(*makers: Callable[[], Any]) -> list[Any]:
    """Call all *makers* at the same time and return what they return; raises the first one's error."""
    with ThreadPoolExecutor(len(makers)) as pool:
        return [future.result() for future in [pool.submit(maker) for maker in makers]]


def write(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old text or the new one."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.rename(path)


def age_s(path: Path) -> float:
    """Return for how many seconds a file or folder was not changed; 0 if it is gone, which others may have seen to."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0


def prune(prefix: str, keep: Path) -> None:
    """Remove what begins with *prefix*, is not *keep*, and was not used for a month."""
    for path in root().glob(f"{prefix}*"):
        if not path.name.startswith(keep.name) and age_s(path) > _UNUSED_SECONDS:
            remove(path)


def remove(path: Path) -> None:
    """Remove a file or a folder, whether it is there or not."""
    if path.is_dir() and not path.is_symlink():
        try:
            shutil.rmtree(path)
        except PermissionError:  # an unprivileged user's chroot has files of other ids
            subprocess.run([*user_namespace(), "rm", "-rf", str(path)], check=True)
    else:
        path.unlink(missing_ok=True)


def user_namespace() -> list[str]:
    """Return the beginning of a command line that is root in a user namespace; empty if we are root."""
    return [] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--map-auto"]
