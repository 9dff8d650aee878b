"""DKMS: the sources that it has, the kernels that it leaves alone, its key, and the log of a build that failed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .system import System

#: While it is there, DKMS and the package build nothing by themselves.
NO_AUTOINSTALL = "/etc/dkms/no-autoinstall"

#: What dkms.conf looks for beside what its variables say: kernels since 6.1.79 and since 6.5 have it.
_HEADER = "cleanup.h"

_TREE = "/var/lib/dkms"
_SOURCES = "/usr/src"
_FRAMEWORK = "/etc/dkms/framework.conf"
_VERSION = re.compile(r"pciedma-(\d.*)")
_ASSIGNMENT = re.compile(r"""\s*(\w+)=(?:"([^"]*)"|'([^']*)'|([^\s#;]*))""")


@dataclass(frozen=True)
class Exclusion:
    """Why DKMS skips a kernel: ``lacking`` options, older than ``oldest``, a ``header`` less, or else unknown."""

    lacking: tuple[str, ...] = ()
    oldest: str | None = None
    header: str | None = None


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def _settings(system: System, *files: str) -> dict[str, str]:
    """Return what a shell that sources *files* would know; of two assignments the last counts."""
    matches = (_ASSIGNMENT.match(line) for file in files for line in system.lines(file))
    return {match[1]: match[2] or match[3] or match[4] or "" for match in matches if match}


def source_version(system: System) -> str | None:
    """Return the newest version whose sources are here; a purge may leave a folder with what was built in it."""
    matches = (_VERSION.fullmatch(name) for name in system.names(_SOURCES))
    found = [match[1] for match in matches if match and system.exists(f"{_SOURCES}/{match[0]}/dkms.conf")]
    return max(found, key=_numbers) if found else None


def certificate(system: System, release: str) -> str:
    """Return the file of the key with which DKMS signs modules for a kernel."""
    more = [f"{_FRAMEWORK}.d/{name}" for name in system.names(f"{_FRAMEWORK}.d", "*.conf")]
    given = _settings(system, _FRAMEWORK, *more).get("mok_certificate") or f"{_TREE}/mok.pub"
    return given.replace("${kernelver}", release).replace("$kernelver", release)


def _records(system: System, release: str) -> list[str]:
    """Return the folders with the modules that DKMS takes for installed: at most one, if all is well."""
    names = system.names(f"{_TREE}/pciedma", f"kernel-{release}-*")
    return [f"{_TREE}/pciedma/{name}" for name in names if "-" not in name.removeprefix(f"kernel-{release}-")]


def claims_installed(system: System, release: str) -> bool:
    """Return whether DKMS takes our modules for installed, so that ``dkms install`` alone does nothing."""
    return bool(_records(system, release))


def installed_files(system: System, release: str) -> list[str]:
    """Return the names of the files that DKMS has installed."""
    return [name for folder in _records(system, release) for name in system.names(f"{folder}/module")]


def _log_of_failure(system: System, name: str, release: str) -> tuple[str, str] | None:
    lines = system.lines(name)
    kernel = next((match[1] for line in lines[:3] if (match := re.search(r"for kernel (\S+)", line))), release)
    if not lines or kernel != release:
        return None
    telling = [line for line in lines if "error:" in line.lower()] or [line for line in lines if "***" in line]
    return name, (telling or lines)[-1].strip()


def failed_build(system: System, version: str | None, release: str) -> tuple[str, str] | None:
    """Return the log of a build for a kernel that failed, and its last line that tells why.

    DKMS has only the last build's, whatever kernel that was for; the package keeps those of failures.
    """
    folder = f"{_TREE}/pciedma/{version}"
    logs = (f"{folder}/build/make.log", f"{folder}/failed-{release}.log")
    return next((found for name in logs if (found := _log_of_failure(system, name, release))), None)


def _oldest(known: re.Pattern[str]) -> str | None:
    """Return the first kernel that *known* matches."""
    names = (f"{major}.{minor}" for major in range(2, 20) for minor in range(100))
    return next((name for name in names if known.search(f"{name}.0")), None)


def _set_options(system: System, release: str) -> set[str] | None:
    """Return the options with which a kernel was built; None if they cannot be told."""
    build = f"/lib/modules/{release}/build"
    for file in (f"{build}/include/config/auto.conf", f"{build}/.config", f"/boot/config-{release}"):
        if settings := _settings(system, file):
            return {name for name, value in settings.items() if value in ("y", "m")}
    return None


def _lacks_header(system: System, release: str) -> bool:
    trees = [f"/lib/modules/{release}/{name}/include/linux" for name in ("build", "source")]
    return any(system.exists(f"{tree}/kernel.h") and not system.exists(f"{tree}/{_HEADER}") for tree in trees)


def exclusion(system: System, version: str | None, release: str) -> Exclusion | None:
    """Return why the sources' dkms.conf keeps DKMS from building for a kernel; None: nothing does."""
    told = _settings(system, f"{_SOURCES}/pciedma-{version}/dkms.conf")
    try:
        known = re.compile(told.get("BUILD_EXCLUSIVE_KERNEL", ""))
    except re.error:  # the shell's expressions are not quite Python's
        known = re.compile("")
    if not known.search(release):
        oldest = _oldest(known)
        return Exclusion(oldest=oldest if oldest and _numbers(release)[:2] < _numbers(oldest) else None)
    if told and _lacks_header(system, release):
        return Exclusion(header=_HEADER)
    options = _set_options(system, release)
    needed = [word for word in told.get("BUILD_EXCLUSIVE_CONFIG", "").split() if not word.startswith("!")]
    lacking = tuple(word for word in needed if options is not None and word not in options)
    return Exclusion(lacking=lacking) if lacking else None
