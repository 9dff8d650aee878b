"""Modules of other drivers than this project's, loaded with all that they need."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def load(paths: Sequence[str], parameters: Mapping[str, str]) -> None:
    """Load modules by their files, each after those of them, and of the kernel's own, that it depends on.

    *parameters* are by the modules' names. Raises OSError with the words of who refused.
    """
    files = {name_of(path): path for path in paths}
    for name in files:
        _load(name, files, parameters)


def name_of(path: str) -> str:
    """Return the name that the kernel has for a module of this file."""
    return Path(path).stem.replace("-", "_")


def _load(name: str, files: Mapping[str, str], parameters: Mapping[str, str]) -> None:
    if Path("/sys/module", name).exists():
        return
    if name not in files:
        _must(["modprobe", name])
        return
    needed = _must(["modinfo", "-F", "depends", files[name]]).strip()
    for other in filter(None, needed.split(",")):
        _load(other.replace("-", "_"), files, parameters)
    words = parameters.get(name)
    _must(["insmod", files[name], *([words] if words else [])])


def _must(argv: list[str]) -> str:
    result = subprocess.run(argv, text=True, check=False, capture_output=True)
    if result.returncode:
        raise OSError(f"{' '.join(argv)}: {(result.stderr or result.stdout).strip()}")
    return result.stdout
