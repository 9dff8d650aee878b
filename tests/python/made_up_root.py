"""A machine made of files in a folder, for tests of the command line tool."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pciedma.tool.system import Group, Output, Owner, System

RELEASE = "6.12.1-amd64"
DKMS_CONF = (Path(__file__).parents[2] / "dkms/dkms.conf").read_bytes()
UDEV_RULE = "/usr/lib/udev/rules.d/60-pciedma.rules"
UDEV_RULES = (Path(__file__).parents[2] / "dkms/60-pciedma.rules").read_text()
MODULES = f"/lib/modules/{RELEASE}"
SIGNATURE = b"~Module signature appended~\n"
SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
CARD_GROUP = 990
REGISTERS_GROUP = 991
USER_UID = 1000
_NOBODY = 65534
BUS_MASTER = b"\xee\x10\x38\x90\x06\x00" + bytes(58)

ALIASES = {
    "pciedma_capric": "pci:v000010EEd00000007sv*sd*bc*sc*i*",
    "pciedma_xdma": "pci:v000010EEd00009038sv*sd*bc*sc*i*",
}


#: What a kernel compares besides its release.
MAGIC = "SMP preempt mod_unload modversions "


def module_content(version: str = "0.1.0", srcversion: str = "AAAA", release: str = RELEASE) -> bytes:
    """A module's file as far as the tool reads it."""
    fields = (f"version={version}", f"srcversion={srcversion}", f"vermagic={release} {MAGIC}")
    return b"\x7fELF\0" + b"".join(field.encode() + b"\0" for field in fields) + b"\0"


class MadeUpRoot:
    """A machine whose kernel loads modules, with a user in no group; the rest is added."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outputs: dict[str, Output] = {}
        self.owners: dict[str, Owner] = {}
        self.closed: set[str] = set()
        self.missing: set[str] = set()
        self.python, self.tool = "python3", "pciedma"
        self.write("/proc/sys/kernel/osrelease", f"{RELEASE}\n")
        self.write("/proc/modules", "")
        self.write("/etc/passwd", f"root:x:0:0::/root:/bin/sh\nada:x:{USER_UID}:{USER_UID}::/home/ada:/bin/sh\n")
        self.write("/etc/group", "root:x:0:\n")
        self.session(USER_UID)
        self.memlock(str(1 << 30))
        self.log("[    0.0] Linux\n")

    def system(self) -> System:
        return System(
            root=self.folder,
            run=self._run,
            may_use=lambda path: self._name(path) not in self.closed,
            owner_of=lambda path: self.owners.get(self._name(path)),
            has=lambda program: program not in self.missing,
            name_of=self._name_of,
            group_named=self._group_named,
            python=self.python,
            tool=self.tool,
        )

    def _entries(self, name: str) -> list[list[str]]:
        path = self.folder / name
        return [line.split(":") for line in path.read_text().splitlines()] if path.exists() else []

    def _name_of(self, uid: int) -> str | None:
        return next((fields[0] for fields in self._entries("etc/passwd") if fields[2] == str(uid)), None)

    def _group_named(self, name: str) -> Group | None:
        found = next((fields for fields in self._entries("etc/group") if fields[0] == name), None)
        return Group(int(found[2]), frozenset(found[3].split(","))) if found else None

    def _name(self, path: Path) -> str:
        return f"/{path.relative_to(self.folder)}"

    def _run(self, command: Sequence[str]) -> Output | None:
        return self.outputs.get(" ".join(str(word).replace(str(self.folder), "") for word in command))

    def write(self, name: str, content: str | bytes = "") -> None:
        path = self.folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def link(self, name: str, target: str) -> None:
        """Make a link; *target* is the name of another file of this machine."""
        path = self.folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(self.folder / target.lstrip("/"))

    @contextmanager
    def closed_to_all(self, folder: str) -> Iterator[None]:
        """Let nobody look into a folder, and look as somebody who is not root, if the test is run by root."""
        path = self.folder / folder.lstrip("/")
        path.chmod(0)
        is_root = os.geteuid() == 0
        if is_root:
            for parent in (self.folder, *self.folder.parents):  # pytest's own are its user's
                parent.chmod(parent.stat().st_mode | 0o011)
            os.seteuid(_NOBODY)
        try:
            yield
        finally:
            if is_root:
                os.seteuid(0)
            path.chmod(0o755)

    def log(self, text: str | None) -> None:
        self.outputs["dmesg"] = Output(1, "") if text is None else Output(0, text)

    def session(self, uid: int, *groups: int) -> None:
        numbers = " ".join(str(group) for group in groups)
        ids = "\t".join([str(uid)] * 4)
        self.write("/proc/self/status", f"Name:\tpython3\nUid:\t{ids}\nGid:\t{ids}\nGroups:\t{numbers} \n")

    def memlock(self, limit: str) -> None:
        self.write("/proc/self/limits", f"Limit  Soft  Hard  Units\nMax locked memory  {limit}  {limit}  bytes\n")

    def boot(self, release: str) -> None:
        """Run another kernel, of which only its modules' folder is there."""
        self.write("/proc/sys/kernel/osrelease", f"{release}\n")
        self.write(f"/lib/modules/{release}/modules.dep")

    def headers(self) -> None:
        self.write(f"/usr/src/linux-headers-{RELEASE}/Makefile")
        self.link(f"{MODULES}/build", f"/usr/src/linux-headers-{RELEASE}")

    def sources(self, version: str = "0.1.0") -> None:
        self.write(f"/usr/src/pciedma-{version}/dkms.conf", DKMS_CONF)

    def install(self, content: bytes | None = None, suffix: str = ".ko", release: str = RELEASE) -> None:
        """Install the core and its back ends where DKMS does."""
        for name in ("pciedma", *ALIASES):
            file = f"updates/dkms/{name}{suffix}"
            built = module_content(release=release) if content is None else content
            self.write(f"/lib/modules/{release}/{file}", built)
            with (self.folder / f"lib/modules/{release}/modules.dep").open("a") as dep:
                dep.write(f"{file}:\n")
        lines = [f"alias {pattern} {module}\n" for module, pattern in ALIASES.items()]
        self.write(f"/lib/modules/{release}/modules.alias", "".join(["alias pci:v*d*bc03* gpu\n", *lines]))

    def remove(self) -> None:
        """Remove what install() has installed."""
        shutil.rmtree(self.folder / f"lib/modules/{RELEASE}/updates")
        self.write(f"{MODULES}/modules.dep")

    def load(self, *back_ends: str, version: str = "0.1.0", srcversion: str = "AAAA") -> None:
        self.write("/sys/module/pciedma/version", f"{version}\n")
        self.write("/sys/module/pciedma/srcversion", f"{srcversion}\n")
        for name in back_ends:
            self.write(f"/sys/module/{name}/refcnt", "0\n")

    def device(
        self, address: str, ids: str, *, driver: str | None = None, device_class: str = "0x070001",
        override: str = "(null)", config: bytes = BUS_MASTER,
    ) -> None:
        vendor, device = ids.split(":")
        folder = f"/sys/devices/pci0000:00/{address}"
        for name, text in (("vendor", f"0x{vendor}"), ("device", f"0x{device}"), ("subsystem_vendor", f"0x{vendor}"),
                           ("subsystem_device", "0x0007"), ("class", device_class), ("driver_override", override)):
            self.write(f"{folder}/{name}", f"{text}\n")
        self.write(f"{folder}/modalias",
                   f"pci:v0000{vendor.upper()}d0000{device.upper()}sv0000{vendor.upper()}sd00000007bc07sc00i01\n")
        self.write(f"{folder}/config", config)
        if driver:
            self.link(f"{folder}/driver", f"/sys/bus/pci/drivers/{driver}")
        self.link(f"/sys/bus/pci/devices/{address}", folder)

    def card(self, index: int = 0, address: str = "0000:03:00.0", name: str = "xdma", quarantined: int = 0) -> None:
        """Show the device at *address* as a card with a memory channel both ways and a message channel to the card."""
        folder = f"/sys/class/pciedma/pciedma{index}"
        for attribute, text in (("card", name), ("quarantined_bytes", str(quarantined)), ("resets", "0")):
            self.write(f"{folder}/{attribute}", f"{text}\n")
        self.link(f"{folder}/device", f"/sys/devices/pci0000:00/{address}")
        channels = (("memory", 1 << 32, ("c2h", "h2c")), ("message", 0, ("h2c",)))
        for channel, (kind, size, directions) in enumerate(channels):
            self.write(f"{folder}c{channel}/kind", f"{kind}\n")
            self.write(f"{folder}c{channel}/size", f"{size}\n")
            for direction in directions:
                self.write(f"{folder}c{channel}/{direction}/bytes", "0\n")
        for node in (f"pciedma{index}", f"pciedma{index}c0", f"pciedma{index}c1"):
            self.owners[f"/dev/{node}"] = Owner(0, CARD_GROUP, 0o660)

    def window(self, card: int = 0, index: int = 0) -> None:
        """Show registers of a card's own logic."""
        for attribute, text in (("name", "user"), ("size", "65536"), ("widths", "1 2 4")):
            self.write(f"/sys/class/pciedma/pciedma{card}w{index}/{attribute}", f"{text}\n")
        self.owners[f"/dev/pciedma{card}w{index}"] = Owner(0, REGISTERS_GROUP, 0o660)

    def health(self, **words: str) -> None:
        """Let card 0 say how its configuration is, and how each direction of its first channel is."""
        for name, word in words.items():
            file = "pciedma0/configuration" if name == "configuration" else f"pciedma0c0/{name}/health"
            self.write(f"/sys/class/pciedma/{file}", f"{word}\n")

    def udev(self) -> None:
        """The rules, and the groups with nobody in them."""
        self.write(UDEV_RULE, UDEV_RULES)
        self.write("/etc/group", f"root:x:0:\npciedma:x:{CARD_GROUP}:\npciedma-regs:x:{REGISTERS_GROUP}:\n")

    def all_well(self) -> None:
        """One XDMA card that works, for a user who may use it."""
        self.headers()
        self.sources()
        self.install()
        self.load("pciedma_xdma")
        self.device("0000:03:00.0", "10ee:9038", driver="pciedma_xdma")
        self.card()
        self.udev()
        self.session(USER_UID, CARD_GROUP)
