"""The kernels that the lab knows: where each comes from, and its image, modules and headers in the cache."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import cache, debug_kernel
from .cache import LabError
from .chroot import BUILDERS, KERNEL_BUILDER, Chroot

_CHECK_SECONDS = 24 * 3600
_RETRY_SECONDS = 3600

#: So that a missing network costs seconds, and so that files of another user's folder can be written.
_APT_OPTIONS = (
    "-o",
    "Acquire::http::Timeout=15",
    "-o",
    "Acquire::Retries=1",
    "-o",
    "APT::Update::Error-Mode=any",
)


@dataclass(frozen=True)
class Series:
    """A kernel that a distribution ships, by the name of its image's and headers' metapackages.

    With the flavour ``debug`` it is built here from the distribution's source.
    """

    name: str
    suite: str
    release: str
    flavour: str = "amd64"

    @property
    def builder(self) -> Chroot:
        """The chroot whose compiler the kernel's modules are built with."""
        return KERNEL_BUILDER if self.is_debug else BUILDERS[self.suite]

    @property
    def is_debug(self) -> bool:
        """Whether it is the debug kernel, on which all is slower and more is seen."""
        return self.flavour == "debug"

    @property
    def patience(self) -> int:
        """How many times longer the lab waits for anything in a guest with this kernel than on a stock one."""
        return 4 if self.is_debug else 1


SERIES = {
    series.name: series
    for series in (
        Series("bookworm", "bookworm", "bookworm"),
        Series("trixie", "trixie", "trixie"),
        Series("trixie-rt", "trixie", "trixie", "rt-amd64"),
        Series("backports", "trixie", "trixie-backports"),
        Series("backports-rt", "trixie", "trixie-backports", "rt-amd64"),
        Series("debug", "trixie", "trixie", "debug"),
    )
}

#: The kernels that the modules are always built for.
SUPPORTED = ("bookworm", "trixie", "backports")


@dataclass(frozen=True)
class Kernel:
    """A kernel of a certain version, unpacked in the cache."""

    series: Series
    folder: Path

    @property
    def release(self) -> str:
        """What ``uname -r`` says, e.g. ``6.12.107+deb13-amd64``."""
        return self.modules.name

    @property
    def modules(self) -> Path:
        """The folder ``/lib/modules/<release>``, which has modules.dep."""
        return next(path.parent for path in (self.folder / "usr/lib/modules").glob("*/kernel"))

    @property
    def image(self) -> Path:
        """The bootable image."""
        found = [*self.folder.glob("boot/vmlinuz-*"), *self.folder.glob("usr/lib/modules/*/vmlinuz")]
        return found[0]

    @property
    def headers(self) -> Path:
        """The folder to build modules against."""
        return self.folder / "usr/src" / f"linux-headers-{self.release}"


def provide(name: str) -> Kernel:
    """Return the newest kernel of the series *name*, downloaded now if the cache has it not.

    The archive is asked once a day; if it does not answer, the newest that the cache has will do.
    Raises LabError for an unknown name, or if there is nothing to go on with.
    """
    if name not in SERIES:
        raise LabError(f"there is no kernel {name!r}: known are {', '.join(SERIES)}")
    with cache.locked(cache.root() / f"kernel-{name}.lock"):
        return _provide(SERIES[name])


def _provide(series: Series) -> Kernel:
    note = cache.root() / f"kernel-{series.name}.json"
    known: dict[str, Any] = json.loads(note.read_text()) if note.exists() else {}
    folder = cache.root() / known.get("folder", "-")
    stale = series.is_debug and not folder.name.endswith(debug_kernel.key())
    if folder.exists() and time.time() < known.get("check_at", 0) and not stale:
        return Kernel(series, folder)
    wait = _CHECK_SECONDS
    try:
        folder = _newest(series)
    except LabError as error:
        if stale or not folder.exists():
            raise
        cache.say(f"going on with {folder.name}, since the archive does not answer: {error}")
        wait = _RETRY_SECONDS
    cache.write(note, json.dumps({"folder": folder.name, "check_at": time.time() + wait}))
    return Kernel(series, folder)


def _newest(series: Series) -> Path:
    if series.is_debug:
        return _newest_debug(series)
    packages = _list(series)
    version = dict(packages)[f"linux-headers-{series.flavour}"]
    target = cache.root() / f"kernel-{series.name}-{version.replace(':', '_')}"
    made = cache.provide(target, lambda temporary: _unpack(series, packages, temporary))
    cache.prune(f"kernel-{series.name}-", made)
    return made


def _newest_debug(series: Series) -> Path:
    name, version = debug_kernel.source_package(_print_uris(series, ["linux-source"]))
    target = cache.root() / f"kernel-debug-{version.replace(':', '_')}-{debug_kernel.key()}"
    made = cache.provide(target, lambda temporary: debug_kernel.make(name, version, temporary))
    cache.prune("kernel-debug-", made)
    return made


def _list(series: Series) -> list[tuple[str, str]]:
    """Return name and version of each package that the newest kernel consists of."""
    return parse_uris(_print_uris(series, [f"linux-image-{series.flavour}", f"linux-headers-{series.flavour}"]))


def _print_uris(series: Series, wanted: list[str]) -> str:
    """Return what apt would download to install *wanted*."""
    options = ["install", "--no-install-recommends", "--print-uris", "--reinstall", "-t", series.release]
    builder = series.builder
    with cache.locked(cache.root() / f"{builder.path.name}.apt.lock"):
        builder.run(["apt-get", "-qq", *_APT_OPTIONS, "update"])
        return builder.run(["apt-get", "-qq", *options, *wanted])


def parse_uris(text: str) -> list[tuple[str, str]]:
    """Return name and version of each kernel package in the output of ``apt-get install --print-uris``."""
    found = re.findall(r"^'\S+' (linux-[^_\s]+)_([^_\s]+)_\S+\.deb ", text, re.MULTILINE)
    others = ("linux-base", "linux-libc-dev")
    return [(name, version.replace("%3a", ":")) for name, version in found if name not in others]


def _unpack(series: Series, packages: list[tuple[str, str]], target: Path) -> None:
    target.mkdir(parents=True)
    names = [f"{name}={version}" for name, version in packages]
    run = series.builder.run
    with cache.step(f"downloading the kernel {series.name}", " ".join(names)):
        run(["apt-get", "-qq", *_APT_OPTIONS, "download", *names], cwd=target)
        run(["sh", "-ec", "for deb in *.deb; do dpkg-deb -x $deb .; rm $deb; done"], cwd=target)
        _merge(target)
        run(["depmod", "-b", str(target / "usr"), Kernel(series, target).release])


def _merge(target: Path) -> None:
    """Bring what older packages have under /lib to /usr/lib, and let the headers find each other here."""
    old = target / "lib"
    if old.is_dir():
        shutil.copytree(old, target / "usr/lib", symlinks=True, dirs_exist_ok=True, copy_function=os.rename)
        cache.remove(old)
    for makefile in (target / "usr/src").glob("linux-headers-*/Makefile"):
        text = makefile.read_text()
        makefile.write_text(text.replace("/usr/src/", f"{cache.final_name(target)}/usr/src/"))
