"""Steps as they can be typed on a machine: by who asks, with the programs that are there."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .system import System

#: Debian's package of each program that a step may call and that is not everywhere.
_PACKAGES = {
    "addgroup": "adduser",
    "adduser": "adduser",
    "fuser": "psmisc",
    "less": "less",
    "lspci": "pciutils",
    "mokutil": "mokutil",
}

# At the start, and behind a pipe or &&.
_COMMAND = r"(^|\| |&& )"
_SUDO = re.compile(rf"{_COMMAND}sudo ")
_SUDOEDIT = re.compile(rf"{_COMMAND}sudoedit ")
_PYTHON = re.compile(rf"{_COMMAND}(sudo )?python3 ")
_TOOL = re.compile(rf"{_COMMAND}(sudo )?pciedma ")
_PROGRAM = re.compile(rf"{_COMMAND}(?:sudo )?(\S+)")


def _missing_packages(step: str, system: System) -> list[str]:
    programs = [match[2] for match in _PROGRAM.finditer(step)]
    return [_PACKAGES[name] for name in programs if name in _PACKAGES and not system.has(name)]


def _as_root(step: str) -> str:
    return _SUDOEDIT.sub(r"\1editor ", _SUDO.sub(r"\1", step))


def _is_for_root(step: str) -> bool:
    return _as_root(step) != step


def typed(steps: Sequence[str], system: System) -> tuple[str, ...]:
    """Return steps that are written for a user with sudo and Debian's Python as they can be typed here.

    Packages of missing programs come first; without sudo, and for root, the steps are root's own.
    """
    result: list[str] = []
    for step in steps:
        if step.startswith("#"):
            result.append(step)
            continue
        install = [f"sudo apt install {package}" for package in _missing_packages(step, system)]
        result += [line for line in install if line not in result]
        here = _TOOL.sub(lambda match: f"{match[1]}{match[2] or ''}{system.tool} ", step)
        result.append(_PYTHON.sub(lambda match: f"{match[1]}{match[2] or ''}{system.python} ", here))
    if system.user().uid == 0:
        return tuple(map(_as_root, result))
    if not system.has("sudo") and any(map(_is_for_root, result)):
        return ("# there is no sudo here: as root (su -)", *map(_as_root, result))
    return tuple(result)
