"""The kernels that the lab knows: where each comes from, and its image, modules and headers in the cache."""

from __future__ import annotations

import json
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from . import cache
from .chroot import BUILDERS, Chroot

_CHECK_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Series:
    """A kernel that a distribution ships, by the name of its image's and headers' metapackages."""

    name: str
    suite: str
    release: str
    flavour: str = "amd64"

    @property
    def builder(self) -> Chroot:
        """The chroot whose compiler the kernel's modules are built with."""
        return BUILDERS[self.suite]


SERIES = {
    series.name: series
    for series in (
        Series("bookworm", "bookworm", "bookworm"),
        Series("trixie", "trixie", "trixie"),
        Series("backports", "trixie", "trixie-backports"),
    )
}


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
    """Return the newest kernel of the series *name*; looks for a newer one once a day.

    Raises KeyError for an unknown name.
    """
    series = SERIES[name]
    note = cache.root() / f"kernel-{name}.json"
    known = json.loads(note.read_text()) if note.exists() else {}
    folder = cache.root() / known.get("folder", "-")
    if folder.exists() and time.time() - known["checked"] < _CHECK_SECONDS:
        return Kernel(series, folder)
    try:
        folder = _newest(series)
    except subprocess.CalledProcessError:
        if not folder.exists():
            raise
        cache.say(f"the archive does not answer: going on with {folder.name}")
    note.write_text(json.dumps({"folder": folder.name, "checked": time.time()}))
    return Kernel(series, folder)


def _newest(series: Series) -> Path:
    lines = _list(series)
    metapackage = next(line for line in lines if line[1].startswith(f"linux-headers-{series.flavour}_"))
    version = metapackage[1].split("_")[1]
    target = cache.root() / f"kernel-{series.name}-{version.replace('%3a', '_')}"
    return cache.provide(target, lambda temporary: _unpack(series, lines, temporary))


def _apt(series: Series, *arguments: str) -> str:
    """Run apt-get in the series' own view of the archive."""
    return series.builder.run(["apt-get", "-qq", *arguments], capture_output=True).stdout


def _list(series: Series) -> list[tuple[str, str]]:
    """Return address and file name of each package that the kernel consists of."""
    _apt(series, "update")
    packages = [f"linux-image-{series.flavour}", f"linux-headers-{series.flavour}"]
    options = ["install", "--no-install-recommends", "--print-uris", "--reinstall", "-t", series.release]
    found = re.findall(r"^'(\S+)' (linux-\S+\.deb) ", _apt(series, *options, *packages), re.MULTILINE)
    return [(uri, name) for uri, name in found if not name.startswith(("linux-base_", "linux-libc"))]


def _unpack(series: Series, lines: list[tuple[str, str]], target: Path) -> None:
    target.mkdir(parents=True)
    names = [name.split("_")[0] + "=" + name.split("_")[1].replace("%3a", ":") for _, name in lines]
    cache.say(f"downloading the kernel {series.name}: {' '.join(names)}")
    series.builder.run(["apt-get", "-qq", "download", *names], cwd=target)
    for deb in target.glob("*.deb"):
        series.builder.run(["dpkg-deb", "-x", str(deb), str(target)])
        deb.unlink()
    _merge(target)
    release = next((target / "usr/lib/modules").glob("*/kernel")).parent.name
    series.builder.run(["depmod", "-b", str(target / "usr"), release])


def _merge(target: Path) -> None:
    """Bring what older packages have under /lib to /usr/lib, and make the headers' links relative."""
    old = target / "lib"
    if old.is_dir():
        for path in [*old.rglob("*")]:
            if not path.is_dir() or path.is_symlink():
                new = target / "usr/lib" / path.relative_to(old)
                new.parent.mkdir(parents=True, exist_ok=True)
                path.rename(new)
        cache.remove(old)
    for makefile in (target / "usr/src").glob("linux-headers-*/Makefile"):
        text = makefile.read_text()
        makefile.write_text(text.replace("/usr/src/", f"{final_name(target)}/usr/src/"))


def final_name(temporary: Path) -> Path:
    """Return where a folder that cache.provide() makes will be in the end."""
    return temporary.with_name(temporary.name.removesuffix(".new"))
