"""Kernel modules: the files, what modprobe's configuration says of them, and what is loaded."""

from __future__ import annotations

import gzip
import lzma
import os
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from .system import System

MODULES = "/lib/modules"

_FILE = re.compile(r"(pciedma\w*)\.ko(\.xz|\.gz|\.zst)?")
_TRAILER = b"~Module signature appended~\n"
_CONFIGURATION = ("/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d",
                  "/lib/modprobe.d")


@dataclass(frozen=True)
class ConfigLine:
    """A line of modprobe's configuration; names of modules have underscores."""

    file: str
    number: int
    words: tuple[str, ...]

    def __str__(self) -> str:
        """Name the place."""
        return f"{self.file}:{self.number}"

    def options(self, name: str) -> list[str]:
        """Return the values that the line gives an option, without the quotes that the kernel takes off.

        A lone letter behind a value was meant to belong to it: the kernel takes it for another option.
        """
        text = " ".join(self.words[2:])
        values = re.findall(rf'(?:^| ){name}=("[^"]*"?|\S*(?: [A-Za-z](?= |$))?)', text)
        return [value[1:].removesuffix('"') if value.startswith('"') else value for value in values]


def releases(system: System) -> list[str]:
    """Return the kernels for which modules of ours are installed."""
    return [release for release in system.names(MODULES) if installed(system, release)]


def _files(system: System, release: str) -> list[str]:
    top = f"{MODULES}/{release}"
    return sorted(
        f"{top}/{Path(folder, name).relative_to(system.path(top))}"
        for folder, _, names in os.walk(system.path(top))
        for name in names
        if _FILE.fullmatch(name)
    )


def _module_name(file: str) -> str:
    match = _FILE.fullmatch(file.rpartition("/")[2])
    return match[1] if match else ""


def module_names(files: Iterable[str]) -> set[str]:
    """Return which modules of ours are in files of these names."""
    return set(map(_module_name, files)) - {""}


def known_to_modprobe(system: System, release: str) -> set[str]:
    """Return the files of ours that modprobe would load."""
    folder = f"{MODULES}/{release}"
    names = (line.partition(":")[0] for line in system.lines(f"{folder}/modules.dep"))
    return {f"{folder}/{name}" for name in names if _module_name(name)}


def installed(system: System, release: str) -> dict[str, str]:
    """Return the file of each module of ours; of two, the one that modprobe would load."""
    known = known_to_modprobe(system, release)
    files = sorted(_files(system, release), key=lambda file: file in known)
    return {_module_name(file): file for file in files}


def loaded(system: System) -> list[str]:
    """Return the modules of ours that are in the kernel."""
    return [name for name in system.names("/sys/module", "pciedma*") if "-" not in name]


def configuration(system: System) -> list[ConfigLine]:
    """Return all lines that modprobe reads and that name a module of ours."""
    result, seen = [], set()
    for folder in _CONFIGURATION:
        for name in system.names(folder, "*.conf"):
            if name in seen:  # a file hides those of the same name in the folders behind
                continue
            seen.add(name)
            for number, line in enumerate(system.lines(f"{folder}/{name}"), start=1):
                words = tuple(word.replace("-", "_") if "pciedma" in word else word for word in line.split())
                if any(word.startswith("pciedma") for word in words[1:]) and not words[0].startswith("#"):
                    result.append(ConfigLine(f"{folder}/{name}", number, words))
    return result


def aliases(system: System, release: str) -> list[tuple[str, str]]:
    """Return pairs of a pattern for PCI modaliases and the module of ours that it loads."""
    lines = [tuple(line.split()) for line in system.lines(f"{MODULES}/{release}/modules.alias")]
    lines += [line.words for line in configuration(system)]
    return [
        (words[1], words[2])
        for words in lines
        if len(words) == 3 and words[0] == "alias" and words[1].startswith("pci:") and words[2].startswith("pciedma")
    ]


def matching(pairs: list[tuple[str, str]], modalias: str) -> list[str]:
    """Return the modules of ours that take a device."""
    return list(dict.fromkeys(module for pattern, module in pairs if fnmatchcase(modalias, pattern)))


def _unpacked(system: System, file: str) -> bytes | None:
    """Return a module's content; None if it cannot be read: the standard library lacks zstd before 3.14."""
    content = system.content(file)
    if content is None or file.endswith(".zst"):
        return None
    try:
        if file.endswith(".xz"):
            return lzma.decompress(content)
        return gzip.decompress(content) if file.endswith(".gz") else content
    except (lzma.LZMAError, OSError, EOFError, zlib.error):
        return None


def _modinfo(system: System, file: str, field: str) -> str | None:
    output = system.run(["modinfo", "-F", field, str(system.path(file))])
    return None if output is None or output.status else output.text.strip()


def field(system: System, file: str, name: str) -> str | None:
    """Return a field of a module's information (``version``, ``srcversion``); None if it cannot be told."""
    content = _unpacked(system, file)
    if content is None:
        return _modinfo(system, file, name) or None
    match = re.search(rb"(?:^|\0)" + name.encode() + rb"=([^\0]*)\0", content)
    return match[1].decode(errors="replace") if match else None


def is_signed(system: System, file: str) -> bool | None:
    """Return whether a module carries a signature; None if that cannot be told."""
    content = _unpacked(system, file)
    if content is not None:
        return content.endswith(_TRAILER)
    signer = _modinfo(system, file, "signer")
    return None if signer is None else bool(signer)
