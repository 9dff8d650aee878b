"""What a debug kernel has found out, run in the guest."""

from __future__ import annotations

import fnmatch
import os
import subprocess
import time
from pathlib import Path

_DEBUGFS = Path("/sys/kernel/debug")
#: Modules' files, by the folders that they were built in: with cards from outside, or with all warnings, not src.
_COUNTS = "*/build/debug/*/c*/*.gcda"
#: An object is reported that is older than five seconds, and that two scans have found no pointer to, nor changed; so
#: many seconds are from the beginning of one to that of the other.
_APART_S = 6.0


def mount() -> None:
    """Let the reports be there; from now on kmemleak looks only when it is told to, for that takes a while."""
    if not os.path.ismount(_DEBUGFS):
        subprocess.run(["mount", "-t", "debugfs", "debugfs", _DEBUGFS], check=True)
    (_DEBUGFS / "kmemleak").write_text("scan=off")


def keep_coverage(gcov: str = f"{_DEBUGFS}/gcov", target: str = "/mnt/results/gcda") -> None:
    """Copy what ran of our modules, as the compiler's instrumentation has counted."""
    for folder, _, names in os.walk(gcov):
        for name in names:
            path = Path(folder, name)
            if fnmatch.fnmatch(str(path), _COUNTS):
                kept = Path(target, str(path).rpartition("/build/debug/")[2])
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_bytes(path.read_bytes())


def leaks() -> str:
    """Return kmemleak's report after two scans."""
    kmemleak = _DEBUGFS / "kmemleak"
    start = time.monotonic()
    kmemleak.write_text("scan")
    time.sleep(max(start + _APART_S - time.monotonic(), 0))
    kmemleak.write_text("scan")
    return kmemleak.read_text()
