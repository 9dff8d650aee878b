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
from .chroot import BUILDERS, CROSS_BUILDERS, KERNEL_BUILDER, Chroot

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

    Where ``release`` is ``suite`` it is the newest of the chroot's own, which for sid is that of experimental too.
    With the flavour ``debug`` it is built here from the distribution's source. Of another architecture there are
    headers alone, to compile for: the lab has no machine that boots its image.
    """

    name: str
    suite: str
    release: str
    flavour: str = "amd64"
    architecture: str = "amd64"

    @property
    def builder(self) -> Chroot:
        """The chroot whose compiler the kernel's modules are built with."""
        if self.is_debug:
            return KERNEL_BUILDER
        return (BUILDERS if self.boots else CROSS_BUILDERS)[self.suite]

    @property
    def boots(self) -> bool:
        """Whether the lab's machines run it."""
        return self.architecture == "amd64"

    @property
    def make_options(self) -> tuple[str, ...]:
        """What make needs to know to build modules for it."""
        return () if self.boots else ("ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-")

    @property
    def packages(self) -> list[str]:
        """The metapackages of what the lab needs of it."""
        image = f"linux-image-{self.flavour}"
        return [image, self.headers_package] if self.boots else [self.headers_package]

    @property
    def headers_package(self) -> str:
        """The metapackage of its headers."""
        return f"linux-headers-{self.flavour}" + ("" if self.boots else f":{self.architecture}")

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
        Series("newest", "sid", "sid"),
        Series("bookworm-arm64", "bookworm", "bookworm", "arm64", "arm64"),
        Series("trixie-arm64", "trixie", "trixie", "arm64", "arm64"),
        Series("backports-arm64", "trixie", "trixie-backports", "arm64", "arm64"),
        Series("debug", "trixie", "trixie", "debug"),
    )
}

#: How the packages begin that compiling needs, of all that a kernel's headers depend on.
_TO_COMPILE = ("linux-headers-", "linux-kbuild-")

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
        return self.modules.name if self.series.boots else self.headers.name.removeprefix("linux-headers-")

    @property
    def version(self) -> str:
        """The version of its packages, e.g. ``6.12.107-1``."""
        return self.folder.name.removeprefix(f"kernel-{self.series.name}-")

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
        sources = self.folder / "usr/src"
        if self.series.boots:
            return sources / f"linux-headers-{self.release}"
        return next(sources.glob(f"linux-headers-*-{self.series.flavour}"))


def find(name: str, *, to_boot: bool = False) -> Series:
    """Return the series *name*; raises LabError if there is none, or none that a machine can run *to_boot*."""
    if name not in SERIES:
        raise LabError(f"there is no kernel {name!r}: known are {', '.join(SERIES)}")
    series = SERIES[name]
    if to_boot and not series.boots:
        raise LabError(f"{name} is a kernel for {series.architecture}: the lab builds for it, but cannot run it")
    return series


def provide(name: str) -> Kernel:
    """Return the newest kernel of the series *name*, downloaded now if the cache has it not.

    The archive is asked once a day; if it does not answer, the newest that the cache has will do.
    Raises LabError for an unknown name, or if there is nothing to go on with.
    """
    series = find(name)
    with cache.locked(cache.root() / f"kernel-{name}.lock"):
        return _provide(series)


def known(name: str) -> Kernel | None:
    """Return the kernel that provide() returned last, without asking the archive; None if the cache has it not."""
    series = find(name)
    folder = cache.root() / _read_note(series).get("folder", "-")
    return Kernel(series, folder) if folder.exists() else None


def _note(series: Series) -> Path:
    return cache.root() / f"kernel-{series.name}.json"


def _read_note(series: Series) -> dict[str, Any]:
    path = _note(series)
    noted: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return noted


def _provide(series: Series) -> Kernel:
    noted = _read_note(series)
    folder = cache.root() / noted.get("folder", "-")
    stale = series.is_debug and not folder.name.endswith(debug_kernel.key())
    if folder.exists() and time.time() < noted.get("check_at", 0) and not stale:
        return Kernel(series, folder)
    wait = _CHECK_SECONDS
    try:
        folder = _newest(series)
    except LabError as error:
        if stale or not folder.exists():
            raise
        cache.say(f"going on with {folder.name}, since the archive does not answer: {error}")
        wait = _RETRY_SECONDS
    cache.write(_note(series), json.dumps({"folder": folder.name, "check_at": time.time() + wait}))
    return Kernel(series, folder)


def _newest(series: Series) -> Path:
    if series.is_debug:
        return _newest_debug(series)
    packages = _list(series)
    version = dict(packages)[series.headers_package]
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
    packages = parse_uris(_print_uris(series, series.packages))
    return packages if series.boots else [package for package in packages if package[0].startswith(_TO_COMPILE)]


def _print_uris(series: Series, wanted: list[str]) -> str:
    """Return what apt would download to install *wanted*."""
    options = ["install", "--no-install-recommends", "--print-uris", "--reinstall"]
    options += ["-t", series.release] if series.release != series.suite else []
    builder = series.builder
    asking = ["apt-get", "-qq", *_apt_options(series)]
    with cache.locked(cache.root() / f"{builder.path.name}.apt.lock"):
        builder.run([*asking, "update"])
        return builder.run([*asking, *options, *wanted])


def _apt_options(series: Series) -> list[str]:
    """Return apt's options for a chroot in which the series' architecture may be foreign."""
    architectures = ("amd64", series.architecture) if not series.boots else ()
    return [*_APT_OPTIONS, *(f"-oAPT::Architectures::={name}" for name in architectures)]


def parse_uris(text: str) -> list[tuple[str, str]]:
    """Return name and version of each kernel package in the output of ``apt-get install --print-uris``.

    The names of a foreign architecture's have it at their end: ``linux-headers-arm64:arm64``.
    """
    found = re.findall(r"^'\S+' (linux-[^_\s]+)_([^_\s]+)_(\w+)\.deb ", text, re.MULTILINE)
    return [
        (name if architecture in ("amd64", "all") else f"{name}:{architecture}", version.replace("%3a", ":"))
        for name, version, architecture in found
        if name not in ("linux-base", "linux-libc-dev")
    ]


def _unpack(series: Series, packages: list[tuple[str, str]], target: Path) -> None:
    target.mkdir(parents=True)
    names = [f"{name}={version}" for name, version in packages]
    run = series.builder.run
    with cache.step(f"downloading the kernel {series.name}", " ".join(names)):
        run(["apt-get", "-qq", *_apt_options(series), "download", *names], cwd=target)
        run(["sh", "-ec", "for deb in *.deb; do dpkg-deb -x $deb .; rm $deb; done"], cwd=target)
        _merge(target)
        if series.boots:
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
