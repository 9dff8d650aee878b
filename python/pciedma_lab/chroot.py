"""Folders with a distribution in them, made once by mmdebstrap, and commands inside them."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from . import archive, cache

PROJECT = Path(__file__).resolve().parents[2]

_NO_DOCUMENTATION = (
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/info/*",
)


@dataclass(frozen=True)
class Chroot:
    """A distribution's folder, as data.

    ``backports`` are packages taken from the suite's backports, ``pip`` packages from the Python index.
    """

    name: str
    suite: str
    packages: tuple[str, ...]
    backports: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The folder; it changes with the definition."""
        key = hashlib.sha256(repr(astuple(self)).encode()).hexdigest()[:12]
        return cache.root() / f"chroot-{self.name}-{key}"

    def provide(self) -> Path:
        """Return the folder, made now if it is missing."""
        return cache.provide(self.path, self._make)

    def _make(self, temporary: Path) -> None:
        if _missing_mmdebstrap():
            raise SystemExit("mmdebstrap is missing; install it with: sudo apt-get install mmdebstrap")
        names = " ".join((*self.packages, *self.backports, *self.pip))
        cache.say(f"downloading Debian {self.suite} for {self.name}: {names}")
        with (cache.root() / f"chroot-{self.name}.log").open("w") as log:
            result = subprocess.run(self._mmdebstrap(temporary), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        if result.returncode:
            raise SystemExit(f"mmdebstrap failed; see {log.name}")

    def _mmdebstrap(self, target: Path) -> list[str]:
        backports = f"{self.suite}-backports"
        sources = f"s/ {self.suite} main.*/ {backports} main/p"
        command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(self.packages)}"]
        command += [f"--aptopt={option}" for option in archive.proxy_options()]
        command += [f"--dpkgopt={option}" for option in _NO_DOCUMENTATION]
        command.append(
            f'--customize-hook=sed -n "{sources}" "$1"/etc/apt/sources.list'
            ' > "$1"/etc/apt/sources.list.d/backports.list && chroot "$1" apt-get update'
        )
        if self.backports:
            install = f"apt-get install -y --no-install-recommends -t {backports}"
            command.append(f'--customize-hook=chroot "$1" {install} {shlex.join(self.backports)}')
        if self.pip:
            install = "python3 -m pip install --break-system-packages --root-user-action=ignore"
            command.append(f'--customize-hook=chroot "$1" {install} {shlex.join(self.pip)}')
        mirror = archive.mirror()
        command += ["--skip=cleanup/apt/lists", self.suite, str(target)]
        return [*command, mirror] if mirror else command

    def command(self, argv: Sequence[str], cwd: Path | None = None) -> list[str]:
        """Return the command line that runs *argv* inside, with the project and the cache at their own places.

        It is one process from beginning to end, and dies with the one that started it.
        """
        folder = shlex.quote(str(self.provide()))
        binds = [PROJECT, cache.root(), Path("/tmp")]
        script = ["set -e", "mount --make-rprivate /"]
        script += [f"mount --rbind {part} {folder}{part}" for part in ("/dev", "/proc", "/sys")]
        for path in map(str, binds):
            quoted = shlex.quote(path)
            script.append(f"mkdir -p {folder}{quoted}; mount --rbind {quoted} {folder}{quoted}")
        inside = f"cd {shlex.quote(str(cwd or PROJECT))} && exec setpriv --pdeathsig KILL {shlex.join(argv)}"
        script.append(f"exec chroot {folder} /bin/sh -c {shlex.quote(inside)}")
        return [*_namespace(), "sh", "-c", "\n".join(script)]

    def run(self, argv: Sequence[str], cwd: Path | None = None, **options: object) -> subprocess.CompletedProcess[str]:
        """Run *argv* inside and return what subprocess.run() returns, as text; raises if it fails."""
        return subprocess.run(self.command(argv, cwd), text=True, check=True, env=environment(), **options)  # type: ignore[call-overload,no-any-return]


def _missing_mmdebstrap() -> bool:
    return subprocess.run(["sh", "-c", "command -v mmdebstrap"], stdout=subprocess.DEVNULL).returncode != 0


def _namespace() -> list[str]:
    if os.geteuid() == 0:
        return ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount"]
    return ["unshare", "--user", "--map-root-user", "--map-auto", "--mount"]


def environment() -> dict[str, str]:
    """Return the variables for commands inside: the chroot's own PATH and little of the host."""
    kept = {name: value for name, value in os.environ.items() if name.endswith(("_proxy", "_PROXY"))}
    return kept | {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "XDG_CACHE_HOME": str(cache.root().parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "DEBIAN_FRONTEND": "noninteractive",
    }


EMULATOR = Chroot(
    name="emulator",
    suite="trixie",
    packages=("ca-certificates", "e2fsprogs", "cpio", "busybox-static", "kmod", "zstd"),
    backports=("qemu-system-x86", "qemu-system-data"),
)
BUILDERS = {
    suite: Chroot(
        name=f"build-{suite}",
        suite=suite,
        packages=("ca-certificates", "make", "gcc", "libc6-dev", "kmod", "sparse", "bc", "libelf1"),
    )
    for suite in ("bookworm", "trixie")
}
GUEST = Chroot(name="guest", suite="trixie", packages=("python3", "kmod", "udev", "pciutils", "procps"))
TOOLS = Chroot(
    name="tools",
    suite="trixie",
    packages=(
        "ca-certificates", "python3", "python3-pip", "python3-pytest", "mypy", "gcc", "g++", "libc6-dev",
        "make", "git", "perl", "mmdebstrap", "apt", "uidmap",
    ),
    pip=("ruff",),
)
