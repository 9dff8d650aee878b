"""Installed Debian systems for tests: one with the packages just installed, of whose disk each test gets a copy."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pciedma_lab import cache, chroot, modules
from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.installed import Installed
from pciedma_lab.machine import Card, Machine

from .seat import BUILD_SECONDS, Seat

PACKAGES = "pciedma pciedma-dkms pciedma-common python3-pciedma pciedma-dev pciedma-doc"
APT = "apt-get -q"
#: For what doctor says to type, too; without the progress that is meant for a terminal.
_ANSWERS = 'APT::Get::Assume-Yes "true"; Dpkg::Use-Pty "false";'
_TIME_LIMIT_S = 1800

_FETCH = """set -e
sed -n 's/ {suite} main.*/ {suite}-backports main/p' /etc/apt/sources.list > /etc/apt/sources.list.d/backports.list
apt-get -qq update
mkdir -p {target}/partial
apt-get -qq -y --download-only -t {suite}-backports -o Dir::Cache::archives={target} \
    install linux-image-amd64 linux-headers-amd64
rm -rf {target}/partial {target}/lock
"""


def kernel_repository(suite: str) -> Path:
    """Return a folder with the packages of another kernel than the installed one: that of the suite's backports."""
    installed = chroot.INSTALLED[suite]
    target = cache.root() / f"other-kernel-{installed.path.name.removeprefix('chroot-installed-')}"

    def make(temporary: Path) -> None:
        with cache.step(f"downloading another kernel for {suite}"):
            result = installed.run_scratch(_FETCH.format(suite=suite, target=temporary))
        if result.returncode:
            raise cache.LabError(f"there is no other kernel for {suite}:\n{result.stdout}")
        index = chroot.PACKAGERS[suite].run(["dpkg-scanpackages", "."], cwd=temporary)
        (temporary / "Packages").write_text(index)

    return cache.provide(target, make)


def apt_sources(*folders: str) -> str:
    """Return a command that makes these folders all that apt knows, and lets it take yes for an answer."""
    lines = "\\n".join(f"deb [trusted=yes] file:{folder} ./" for folder in folders)
    sources = rf"printf '{lines}\n' > /etc/apt/sources.list; rm -f /etc/apt/sources.list.d/*"
    return f"{sources}; echo '{_ANSWERS}' > /etc/apt/apt.conf.d/answers; apt-get -qq update"


def cards() -> list[EmulatedCard]:
    """Return a card of each kind that needs a model."""
    return [EmulatedCard("capric"), EmulatedCard("xdma")]


@dataclass
class System:
    """A system that is switched on and off; its folder has what is kept of it."""

    suite: str
    installed: Installed
    folder: Path

    @property
    def share(self) -> Path:
        """The folder that guests see as /mnt/results."""
        return self.folder / "share"

    @contextlib.contextmanager
    def on(self, plugged: Sequence[Card] | None = None, edu: int = 1, **changes: object) -> Iterator[Seat]:
        """Boot, with *plugged* cards (default: one of each) and *changes* to how; shuts down in order at the end."""
        installed = dataclasses.replace(self.installed, **changes)  # type: ignore[arg-type]
        self.share.mkdir(parents=True, exist_ok=True)
        with Machine(
            self.suite,
            installed=installed,
            memory_mib=2048,
            cards=cards() if plugged is None else plugged,
            edu=edu,
            results=self.share,
            time_limit_s=_TIME_LIMIT_S,
        ) as vm:
            yield Seat(vm, self.folder / "transcript.txt")

    def take_kernel(self, seat: Seat, release: str) -> None:
        """Boot the kernel *release* from now on, as a boot loader would that finds it in /boot."""
        seat.root(f"cp /boot/vmlinuz-{release} /boot/initrd.img-{release} /mnt/results/")
        kernel, initramfs = self.share / f"vmlinuz-{release}", self.share / f"initrd.img-{release}"
        self.installed = dataclasses.replace(self.installed, kernel=kernel, initramfs=initramfs)

    def copy(self, name: str) -> System:
        """Return the same system on a disk of its own, with a folder of its own beside this one."""
        folder = new_folder(self.suite, name)
        return System(self.suite, self.installed.copy(folder / "disk"), folder)

    def remove(self) -> None:
        """Remove what is big; the transcript stays."""
        cache.remove(self.installed.disk)
        cache.remove(self.share)


def new_folder(suite: str, name: str) -> Path:
    """Return an empty folder for a system."""
    folder = modules.BUILD / "install" / suite / name
    cache.remove(folder)
    folder.mkdir(parents=True)
    return folder


@dataclass
class Installation:
    """A system on which the packages were installed, switched off again, and what was seen before that."""

    system: System
    said: str
    seen: dict[str, str] = field(default_factory=dict)


def install(system: System) -> Installation:
    """Install the packages from their repository, make alice a member of the group, and look around."""
    with system.on() as seat:
        seat.root(apt_sources(f"/mnt/project/dist/{system.suite}"))
        command = f"{APT} install {PACKAGES}"
        installation = Installation(system, seat.root(command, BUILD_SECONDS))
        seat.root("adduser alice pciedma")
        installation.seen = look(seat)
    return installation


_LOOK = {
    "modules": "sed -n 's/^\\(pciedma[a-z_]*\\) .*/\\1/p' /proc/modules | sort",
    "nodes": "stat -c '%n %U:%G %a' /dev/pciedma?*",
    "links": "cd /dev/pciedma/by-path; for link in *; do echo $link $(readlink -f $link); done",
    "files": "find /lib/modules -name 'pciedma*.ko*'",
}


def look(seat: Seat) -> dict[str, str]:
    """Return what is there of the driver, and how members and strangers fare with it."""
    seat.root("udevadm settle")  # it may still be at it after the boot
    seen = {name: seat.root(script) for name, script in _LOOK.items()}
    numbers = cards_by_name(seat)
    examples = "/usr/share/doc/python3-pciedma/examples"
    for name in ("alice", "bob"):
        scripts = [f"python3 {examples}/message_echo.py {numbers['capric']} 'a checked message'"]
        for memory in ("xdma", "edu"):
            length = 1_000_000 if memory == "xdma" else 4096
            data = f"/tmp/{name}.data"
            scripts.append(f"head -c {length} /dev/urandom > {data}; "
                           f"python3 {examples}/memory_copy.py {numbers[memory]} 0 {data}")
        results = [seat.try_user(name, script, 120) for script in scripts]
        seen[name] = "".join(f"{result.stdout}status {result.returncode}\n" for result in results)
    return seen


def cards_by_name(seat: Seat) -> dict[str, str]:
    """Return the number of each card by its back end's name, as pciedma list tells a stranger."""
    listed = seat.user("bob", "pciedma list")
    return {name: number for number, name in re.findall(r"^/dev/pciedma(\d+) +(\w+)", listed, re.M)}
