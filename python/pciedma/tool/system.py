"""The machine that a command looks at: files under a root folder, and the few programs that it asks."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PROGRAM_TIMEOUT_S = 20

#: Podman's, Docker's, systemd's, and Kubernetes'.
_OF_CONTAINERS = ("/run/.containerenv", "/.dockerenv", "/run/systemd/container", "/var/run/secrets/kubernetes.io")


@dataclass(frozen=True)
class Output:
    """What a program printed, and its exit status."""

    status: int
    text: str


@dataclass(frozen=True)
class Owner:
    """To whom a node belongs, and its permission bits."""

    uid: int
    gid: int
    mode: int


@dataclass(frozen=True)
class Group:
    """A group; ``members`` are those that it names: not all databases name those that have it as their first."""

    gid: int
    members: frozenset[str]


@dataclass(frozen=True)
class User:
    """Who runs the command; ``groups`` are those of the session, not of the database."""

    name: str
    uid: int
    groups: frozenset[int]


def _program(name: str) -> str | None:
    """Return the path of a program, root's programs included."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def has_program(name: str) -> bool:
    """Return whether a program is installed."""
    return _program(name) is not None


def run_program(command: Sequence[str]) -> Output | None:
    """Return what a program prints, root's programs included; None if it is missing or hangs."""
    program = _program(command[0])
    if program is None:
        return None
    try:
        result = subprocess.run(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROGRAM_TIMEOUT_S,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Output(result.returncode, result.stdout)


def may_use(path: Path) -> bool:
    """Return whether this process may read and write *path*."""
    return os.access(path, os.R_OK | os.W_OK)


def owner_of(path: Path) -> Owner | None:
    """Return to whom *path* belongs; None if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return Owner(status.st_uid, status.st_gid, status.st_mode & 0o777)


def name_of(uid: int) -> str | None:
    """Return a user's name, wherever it is kept; None if there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def group_named(name: str) -> Group | None:
    """Return a group, wherever it is kept; None if there is none."""
    try:
        found = grp.getgrnam(name)
    except KeyError:
        return None
    return Group(found.gr_gid, frozenset(found.gr_mem))


def _python() -> str:
    """Return what calls the interpreter that runs this, by sudo, too, which does not know of virtual environments."""
    return "python3" if sys.prefix == sys.base_prefix else shlex.quote(sys.executable)


def _tool() -> str:
    """Return what calls this tool."""
    python = _python()
    return "pciedma" if python == "python3" and has_program("pciedma") else f"{python} -m pciedma"


@dataclass(frozen=True)
class System:
    """A machine. Names of files are absolute, and looked up under ``root``; nothing here changes anything.

    ``python`` and ``tool`` are what one types to call them.
    """

    root: Path = Path("/")
    run: Callable[[Sequence[str]], Output | None] = run_program
    may_use: Callable[[Path], bool] = may_use
    owner_of: Callable[[Path], Owner | None] = owner_of
    has: Callable[[str], bool] = has_program
    name_of: Callable[[int], str | None] = name_of
    group_named: Callable[[str], Group | None] = group_named
    python: str = field(default_factory=_python)
    tool: str = field(default_factory=_tool)

    def path(self, name: str) -> Path:
        """Return where the file *name* is."""
        return self.root / name.lstrip("/")

    def text(self, name: str) -> str | None:
        """Return a file's text without white space around it; None if it is absent or may not be read."""
        content = self.content(name)
        return None if content is None else content.decode(errors="replace").strip()

    def number(self, name: str) -> int:
        """Return the number in a file, decimal or with 0x; 0 if there is none."""
        try:
            return int(self.text(name) or "0", 0)
        except ValueError:
            return 0

    def lines(self, name: str) -> list[str]:
        """Return a file's lines; none if it is absent or may not be read."""
        content = self.content(name)
        return [] if content is None else content.decode(errors="replace").splitlines()

    def content(self, name: str, size: int = -1) -> bytes | None:
        """Return a file's first *size* bytes, or all; None if it is absent or may not be read.

        No more is read than that: it may be a card's configuration space.
        """
        try:
            with self.path(name).open("rb", buffering=-1 if size < 0 else 0) as file:
                return file.read(size)
        except OSError:
            return None

    def exists(self, name: str) -> bool:
        """Return whether *name* is there and, if a link, leads somewhere that may be looked at."""
        return self._why_not(name) is None

    def is_absent(self, name: str) -> bool:
        """Return whether *name* is not there for sure; what may not be looked at may be there."""
        error = self._why_not(name)
        return error is not None and not isinstance(error, PermissionError)

    def _why_not(self, name: str) -> OSError | None:
        """Return why *name* cannot be looked at, if so."""
        try:
            self.path(name).stat()
        except OSError as error:
            return error
        return None

    def is_closed(self, folder: str) -> bool:
        """Return whether *folder* may be there but may not be listed."""
        try:
            os.scandir(self.path(folder)).close()
        except PermissionError:
            return True
        except OSError:
            return False
        return False

    def names(self, folder: str, pattern: str = "*") -> list[str]:
        """Return the names in *folder* that match, sorted; none if it is absent."""
        try:
            return sorted(path.name for path in self.path(folder).glob(pattern))
        except OSError:
            return []

    def link(self, name: str) -> str | None:
        """Return the last part of where a symbolic link leads; None if *name* is none."""
        try:
            return self.path(name).readlink().name
        except OSError:
            return None

    @property
    def is_container(self) -> bool:
        """Whether this is a container, in which the kernel and its modules are the host's."""
        return any(map(self.exists, _OF_CONTAINERS))

    @property
    def release(self) -> str:
        """The running kernel's release."""
        return self.text("/proc/sys/kernel/osrelease") or ""

    def user(self) -> User:
        """Return who runs this."""
        status = dict(line.split(":", 1) for line in self.lines("/proc/self/status") if ":" in line)
        uid = int(status.get("Uid", "0 0").split()[1])
        groups = {int(word) for word in (*status.get("Groups", "").split(), *status.get("Gid", "").split())}
        return User(self.name_of(uid) or "$USER", uid, frozenset(groups))
