"""Folders with a distribution in them, made once by mmdebstrap, and commands inside them."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from . import archive, cache, project
from .cache import LabError

PROJECT = project.FOLDER

#: The variable that tells a command in which chroot it runs.
INSIDE = "PCIEDMA_LAB_CHROOT"

#: The host's folder that commands inside see: QEMU's and the cards' sockets are there, whatever TMPDIR says.
SHARED_TMP = "/tmp"
_DPKG = tuple(f"path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale", "info"))
#: For apt's preferences, in printf's words: as good as sid's.
_KERNELS_OF_EXPERIMENTAL = r"Package: linux-*\nPin: release a=experimental\nPin-Priority: 500\n"
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
#: Beside the definitions, what makes other chroots than before: raise it when Chroot._hooks() does something else.
_EDITION = 1
_APT = ('Acquire::Languages "none";', 'APT::Sandbox::User "root";', 'Dir::Cache::srcpkgcache "";')


@dataclass(frozen=True)
class Chroot:
    """A distribution's folder, as data. Threads and processes may share one.

    ``backports`` are packages taken from the suite's backports, ``pip`` packages from the Python index;
    ``keeps_lists`` leaves apt's knowledge of the archive inside, for commands that ask for it. For those, sid has
    experimental in place of backports, and of the kernels in both the newest is the one to install.
    """

    name: str
    suite: str
    packages: tuple[str, ...]
    backports: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    keeps_lists: bool = False

    @property
    def path(self) -> Path:
        """The folder; it changes with the definition, and each month where the distribution itself changes."""
        rolling = (time.strftime("%Y-%m"), _KERNELS_OF_EXPERIMENTAL) if self.suite == "sid" else ()
        edition = (_EDITION,) if _EDITION != 1 else ()  # all that the first one made is still good
        key = hashlib.sha256(repr((astuple(self), _DPKG, _APT, *rolling, *edition)).encode()).hexdigest()[:12]
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
        command += [f"--aptopt={option}" for option in (*_APT, *archive.settings())]
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
            backports = "experimental" if self.suite == "sid" else f"{self.suite}-backports"
            edit = shlex.quote(f"s/ {self.suite} main.*/ {backports} main/p")
            sources = '"$1"/etc/apt/sources.list'
            hooks.append(f'sed -n {edit} {sources} > {sources}.d/backports.list && chroot "$1" apt-get update')
        if self.suite == "sid" and self.keeps_lists:
            hooks.append(f"printf '{_KERNELS_OF_EXPERIMENTAL}' > \"$1\"/etc/apt/preferences.d/kernels")
        if self.backports:
            install = f"apt-get install -y --no-install-recommends -t {backports}"
            hooks.append(f'chroot "$1" {install} {shlex.join(self.backports)}')
        if self.pip:
            install = "python3 -m pip install --no-cache-dir --break-system-packages --root-user-action=ignore"
            hooks.append(f'chroot "$1" {install} {shlex.join(self.pip)}')
        return hooks

    def command(
        self,
        argv: Sequence[str],
        cwd: Path | None = None,
        *,
        scratch: Path | None = None,
        mounts: Mapping[str, Path] | None = None,
        own_tmp: bool = False,
    ) -> list[str]:
        """Return the command line that runs *argv* inside, with the project and the cache at their own places.

        It is one process from beginning to end, which is killed when the thread that starts it ends.
        Give it environment(). With *scratch*, an empty folder, all that *argv* changes inside is gone when it ends.
        *mounts* are more of the host's folders, by their places inside. /tmp is the host's, as for sockets it must be,
        unless there is *scratch*, or *own_tmp*.
        """
        folder = shlex.quote(str(self.provide()))
        PROJECT.mkdir(parents=True, exist_ok=True)  # an installed lab's own is empty at first
        script = ["set -e"]
        if scratch is not None:
            _check_overlay(self.path, scratch)
            top = shlex.quote(str(scratch))
            script.append(f"mount -t tmpfs scratch {top}; mkdir {top}/upper {top}/work {top}/root")
            layers = f"lowerdir={folder},upperdir={top}/upper,workdir={top}/work"
            own = ",userxattr" if cache.user_namespace() else ""  # others' attributes are root's alone
            script.append(f"mount -t overlay -o {layers}{own} overlay {top}/root")
            folder = f"{top}/root"
        script += [f"mount --rbind /{part} {folder}/{part}" for part in ("dev", "proc", "sys")]
        is_own = own_tmp or scratch is not None
        script.append(f"mount {'-t tmpfs tmp' if is_own else f'--rbind {SHARED_TMP}'} {folder}/tmp")
        places = {str(path): path for path in (PROJECT, cache.root())} | dict(mounts or {})
        for place, path in places.items():
            inside = f"{folder}{shlex.quote(place)}"
            script.append(f"mkdir -p {inside}; mount --rbind {shlex.quote(str(path))} {inside}")
        script.append(f"mount --rbind {folder} {folder}")  # unshare inside wants its root to be a mount point
        inside = f"cd {shlex.quote(str(cwd or PROJECT))} && exec setpriv --pdeathsig KILL {shlex.join(argv)}"
        script.append(f"{INSIDE}={self.name} exec chroot {folder} /bin/sh -c {shlex.quote(inside)}")
        namespace = cache.user_namespace() or ["unshare"]
        return ["setpriv", "--pdeathsig", "KILL", *namespace, "--mount", "sh", "-c", "\n".join(script)]

    def run_scratch(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script inside, of which nothing remains; returns its status and output, errors included."""
        with tempfile.TemporaryDirectory(prefix="pciedma-scratch-") as scratch:
            return self.attempt(["bash", "-c", script], Path("/"), scratch=Path(scratch))

    def attempt(
        self, argv: Sequence[str], cwd: Path | None = None, *, scratch: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run *argv* inside, as command() has it; returns its status and output, errors among it."""
        return subprocess.run(
            self.command(argv, cwd, scratch=scratch),
            text=True,
            check=False,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

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


def _check_overlay(*folders: Path) -> None:
    """Raise LabError for folders that mount cannot be told of."""
    for folder in folders:
        if set(str(folder)) & set(",:\\"):
            text = "a folder with a comma, colon or backslash in its path cannot be a layer of an overlay"
            raise LabError(f"{folder}: {text}; set XDG_CACHE_HOME and TMPDIR to others")


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
    packages=("ca-certificates", "e2fsprogs", "cpio", "busybox-static", "zstd"),
    backports=("qemu-system-x86",),
)
BUILDERS = {
    suite: Chroot(
        name=f"build-{suite}",
        suite=suite,
        packages=("ca-certificates", "make", "gcc", "libc6-dev", "kmod", "sparse", "bc", "libelf1"),
        keeps_lists=True,
    )
    for suite in ("bookworm", "trixie", "sid")
}
#: Those that compile for arm64.
CROSS_BUILDERS = {
    suite: Chroot(
        name=f"build-arm64-{suite}",
        suite=suite,
        packages=("ca-certificates", "make", "gcc", "gcc-aarch64-linux-gnu", "libc6-dev", "bc", "libelf1", "perl"),
        keeps_lists=True,
    )
    for suite in ("bookworm", "trixie")
}
PACKAGERS = {
    suite: Chroot(
        name=f"package-{suite}",
        suite=suite,
        packages=(
            "ca-certificates", "build-essential", "debhelper", "dh-dkms", "dh-python", "git", "lintian",
            "linux-headers-amd64", "pybuild-plugin-pyproject", "python3-all", "python3-myst-parser",
            "python3-setuptools", "python3-sphinx",
        ),
    )
    for suite in ("bookworm", "trixie")
}
#: What a machine has on which the packages are installed.
INSTALLED = {
    suite: Chroot(
        name=f"installed-{suite}",
        suite=suite,
        packages=(
            "adduser", "ca-certificates", "dkms", "e2fsprogs", "initramfs-tools", "kmod", "libjs-sphinxdoc",
            "libpam-systemd", "linux-headers-amd64", "linux-image-amd64", "mokutil", "openssl", "pciutils", "psmisc",
            "python3", "sudo", "systemd-sysv", "udev",
        ),
    )
    for suite in ("bookworm", "trixie")
}
#: The same with Debian's own runner of package tests, and with all that these need, since they have no network.
PACKAGE_TESTERS = {
    suite: replace(
        machine,
        name=f"package-tests-{suite}",
        packages=(
            *machine.packages,
            "autodep8", "autopkgtest", "dctrl-tools", "g++", "gcc", "linux-doc", "mmdebstrap", "pkgconf", "uidmap",
        ),
    )
    for suite, machine in INSTALLED.items()
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


def guest(packages: Sequence[str]) -> Chroot:
    """Return the guest's system with more *packages*, whatever their order; raises LabError for what is no name."""
    for package in packages:
        if not _PACKAGE.fullmatch(package):
            raise LabError(f"{package!r} cannot be the name of a Debian package")
    more = sorted({*packages} - {*GUEST.packages})
    return replace(GUEST, name="guest_with", packages=(*GUEST.packages, *more)) if more else GUEST


TOOLS = Chroot(
    name="tools",
    suite="trixie",
    packages=(
        "ca-certificates",
        "python3",
        "python3-pip",
        "python3-numpy",
        "python3-pytest",
        "python3-pytest-xdist",
        "mypy",
        "gcc",
        "g++",
        "libc6-dev",
        "make",
        "git",
        "perl",
        "pkgconf",
        "python3-setuptools",
        "mmdebstrap",
        "uidmap",
    ),
    pip=("ruff",),
)
FIRMWARE = Chroot(
    name="firmware",
    suite="trixie",
    packages=("grub-efi-amd64-signed", "ovmf", "python3-virt-firmware", "shim-signed"),
)
DOCS = {
    suite: Chroot(
        name=f"docs-{suite}",
        suite=suite,
        packages=("python3-sphinx", "python3-myst-parser", f"linux-kbuild-{series}"),
    )
    for suite, series in (("bookworm", "6.1"), ("trixie", "6.12"))
}
