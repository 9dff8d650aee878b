"""Folders with a distribution in them, made once by mmdebstrap, and commands inside them."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from . import archive, cache
from .cache import LabError

PROJECT = Path(__file__).resolve().parents[2]

#: The variable that tells a command in which chroot it runs.
INSIDE = "PCIEDMA_LAB_CHROOT"

_DPKG = tuple(f"path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale", "info"))
_APT = ('Acquire::Languages "none";', 'APT::Sandbox::User "root";', 'Dir::Cache::srcpkgcache "";')


@dataclass(frozen=True)
class Chroot:
    """A distribution's folder, as data. Threads and processes may share one.

    ``backports`` are packages taken from the suite's backports, ``pip`` packages from the Python index;
    ``keeps_lists`` leaves apt's knowledge of the archive inside, for commands that ask for it.
    """

    name: str
    suite: str
    packages: tuple[str, ...]
    backports: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    keeps_lists: bool = False

    @property
    def path(self) -> Path:
        """The folder; it changes with the definition."""
        key = hashlib.sha256(repr((astuple(self), _DPKG, _APT)).encode()).hexdigest()[:12]
        return cache.root() / f"chroot-{self.name}-{key}"

    def provide(self) -> Path:
        """Return the folder, made now if it is missing; raises LabError if that fails."""
        return cache.provide(self.path, self._make)

    def _make(self, temporary: Path) -> None:
        if missing := _missing():
            raise LabError(f"something is missing; install it with: sudo apt-get install {missing}")
        log = cache.root() / f"chroot-{self.name}.log"
        names = " ".join((*self.packages, *self.backports, *self.pip))
        with cache.step(f"downloading the chroot {self.name}", f"Debian {self.suite}, {names}"), log.open("w") as file:
            result = subprocess.run(
                [*_isolation(), *self.mmdebstrap(temporary)],
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                check=False,
            )
        if result.returncode:
            raise LabError(f"mmdebstrap failed; {log} ends with\n{_tail(log.read_text())}")
        cache.prune(f"chroot-{self.name}-", self.path)

    def mmdebstrap(self, target: Path) -> list[str]:
        """Return the command line that makes the chroot in *target*."""
        mirror = archive.mirror()
        command = ["mmdebstrap", "--variant=minbase", "--mode=auto", f"--include={','.join(self.packages)}"]
        command += [f"--aptopt={option}" for option in (*_APT, *archive.proxy_options())]
        command += [f"--dpkgopt={option}" for option in _DPKG]
        command += [f"--customize-hook={hook}" for hook in self._hooks()]
        command += ["--skip=cleanup/apt/lists"] if self.keeps_lists else []
        return [*command, self.suite, str(target), *([mirror] if mirror else [])]

    def _hooks(self) -> list[str]:
        """Return what to do in the chroot before mmdebstrap cleans up."""
        hooks = []
        trusted = archive.certificates()
        if trusted is not None and "ca-certificates" in self.packages:
            hooks.append(f"upload {trusted} /etc/ssl/certs/ca-certificates.crt")
        if self.backports or self.keeps_lists:
            backports = f"{self.suite}-backports"
            edit = shlex.quote(f"s/ {self.suite} main.*/ {backports} main/p")
            sources = '"$1"/etc/apt/sources.list'
            hooks.append(f'sed -n {edit} {sources} > {sources}.d/backports.list && chroot "$1" apt-get update')
        if self.backports:
            install = f"apt-get install -y --no-install-recommends -t {backports}"
            hooks.append(f'chroot "$1" {install} {shlex.join(self.backports)}')
        if self.pip:
            install = "python3 -m pip install --no-cache-dir --break-system-packages --root-user-action=ignore"
            hooks.append(f'chroot "$1" {install} {shlex.join(self.pip)}')
        return hooks

    def command(self, argv: Sequence[str], cwd: Path | None = None) -> list[str]:
        """Return the command line that runs *argv* inside, with the project and the cache at their own places.

        It is one process from beginning to end, which is killed when the thread that starts it ends.
        Give it environment().
        """
        folder = shlex.quote(str(self.provide()))
        script = ["set -e"]
        script += [f"mount --rbind /{part} {folder}/{part}" for part in ("dev", "proc", "sys", "tmp")]
        for path in (shlex.quote(str(path)) for path in (PROJECT, cache.root())):
            script.append(f"mkdir -p {folder}{path}; mount --rbind {path} {folder}{path}")
        script.append(f"mount --rbind {folder} {folder}")  # unshare inside wants its root to be a mount point
        inside = f"cd {shlex.quote(str(cwd or PROJECT))} && exec setpriv --pdeathsig KILL {shlex.join(argv)}"
        script.append(f"{INSIDE}={self.name} exec chroot {folder} /bin/sh -c {shlex.quote(inside)}")
        namespace = cache.user_namespace() or ["unshare"]
        return ["setpriv", "--pdeathsig", "KILL", *namespace, "--mount", "sh", "-c", "\n".join(script)]

    def run(self, argv: Sequence[str], cwd: Path | None = None) -> str:
        """Run *argv* inside and return its standard output; raises LabError with the end of its words if it fails."""
        result = subprocess.run(
            self.command(argv, cwd),
            text=True,
            check=False,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        if result.returncode:
            raise LabError(f"{shlex.join(argv)} in {self.name} failed:\n{_tail(result.stdout + result.stderr)}")
        return result.stdout


def _missing() -> str:
    """Return the names of the packages that the host lacks."""
    programs = {"mmdebstrap": "mmdebstrap"} | ({"newuidmap": "uidmap"} if cache.user_namespace() else {})
    return " ".join(package for program, package in programs.items() if shutil.which(program) is None)


def _isolation() -> list[str]:
    """Return the beginning of mmdebstrap's command line: namespaces in which it may mount, if we are not root."""
    namespace = cache.user_namespace()
    return [*namespace, "--mount", "--pid", "--fork", "--kill-child"] if namespace else []


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-20:])


def environment() -> dict[str, str]:
    """Return the variables for commands inside: the chroot's own PATH and little of the host."""
    wanted = ("PCIEDMA_", "PYTEST_")
    kept = {name: value for name, value in os.environ.items() if name.startswith(wanted)}
    kept |= {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    return kept | {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERM": os.environ.get("TERM", "dumb"),
        "XDG_CACHE_HOME": str(cache.root().parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(PROJECT / "python"),
        "DEBIAN_FRONTEND": "noninteractive",
    }


EMULATOR = Chroot(
    name="emulator",
    suite="trixie",
    packages=("ca-certificates", "e2fsprogs", "cpio", "busybox-static"),
    backports=("qemu-system-x86",),
)
BUILDERS = {
    suite: Chroot(
        name=f"build-{suite}",
        suite=suite,
        packages=("ca-certificates", "make", "gcc", "libc6-dev", "kmod", "sparse", "bc", "libelf1"),
        keeps_lists=True,
    )
    for suite in ("bookworm", "trixie")
}
KERNEL_BUILDER = Chroot(
    name="build-kernel",
    suite="trixie",
    packages=(
        "ca-certificates", "make", "gcc", "libc6-dev", "kmod", "bc", "bison", "flex", "libelf-dev", "libssl-dev",
        "cpio", "perl", "python3", "xz-utils",
    ),
    keeps_lists=True,
)
GUEST = Chroot(name="guest", suite="trixie", packages=("python3", "kmod", "udev", "pciutils", "procps"))
TOOLS = Chroot(
    name="tools",
    suite="trixie",
    packages=(
        "ca-certificates",
        "python3",
        "python3-pip",
        "python3-pytest",
        "mypy",
        "gcc",
        "g++",
        "libc6-dev",
        "make",
        "git",
        "perl",
        "mmdebstrap",
        "uidmap",
    ),
    pip=("ruff",),
)
