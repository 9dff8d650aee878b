"""QEMU's command line for a guest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from .chroot import PROJECT
from .guest_agent import PORT_NAME, ROOT, WORK

#: Ports for cards: more than a test needs, so that cards can be added while the guest runs.
ROOT_PORTS = 4

#: By which an installed system's kernel finds its root.
ROOT_LABEL = "pciedma"


@dataclass(frozen=True)
class Firmware:
    """UEFI with Secure Boot: its code, its variables (a file of its guest's own), and the folder that it boots from."""

    code: Path
    variables: Path
    boot: Path


@dataclass(frozen=True)
class Guest:
    """What a guest is made of.

    ``folder`` takes what is kept of a run, ``results`` is shared with the guest, ``sockets`` is a folder with a
    path short enough for UNIX sockets. ``icount`` makes the guest's clock count instructions, one a nanosecond.
    ``work`` and ``root_folder``: there is a folder to share at WORK, or ROOT, where the guest finds it, too;
    ``modules`` is that of the kernel's own modules.
    With ``native_hotplug`` the kernel itself serves the ports' slots, not ACPI, and the ports report whether their
    links are active. If it ``is_installed``, the root is a whole system that may write to it; ``words`` go to the end
    of the kernel's command line; ``firmware`` boots what it finds, in place of QEMU the kernel.
    """

    image: Path
    initramfs: Path
    root: Path
    folder: Path
    results: Path
    sockets: Path
    is_installed: bool = False
    words: tuple[str, ...] = ()
    firmware: Firmware | None = None
    memory_mib: int = 1024
    cpus: int = 2
    iommu: bool = False
    swiotlb_force: bool = False
    edu: int = 0
    icount: bool = False
    native_hotplug: bool = False
    work: bool = False
    root_folder: bool = False
    modules: Path | None = None

    @property
    def qmp(self) -> Path:
        """The monitor's socket."""
        return self.sockets / "qmp"

    @property
    def agent(self) -> Path:
        """The agent's socket."""
        return self.sockets / "agent"

    @property
    def console(self) -> Path:
        """The file with what the guest prints."""
        return self.folder / "console.log"

    @property
    def trace(self) -> Path:
        """The file with QEMU's own trace events."""
        return self.folder / "trace.log"

    def kernel_command_line(self) -> str:
        """Return what the kernel is told."""
        words = ["console=ttyS0", "loglevel=7", "oops=panic", "panic=-1", "nokaslr", "mitigations=off"]
        words += [f"root=LABEL={ROOT_LABEL}", "rw"] if self.is_installed else ["rdinit=/init"]
        words += ["random.trust_cpu=on"]
        words += ["tsc=reliable", "no_timer_check"]  # else a busy host is taken for a bad clock or a dead timer
        words.append("pty.legacy_count=0")  # which would take a debug kernel some seconds
        words.append("secretmem.enable=1")  # before 6.5 there are no secret memfds without
        if self.iommu:
            words += ["intel_iommu=on", "iommu.strict=1"]
        if self.swiotlb_force:
            words.append("swiotlb=force")
        return " ".join([*words, *self.words])

    def command(self, cards: Sequence[str] = ()) -> list[str]:
        """Return the whole command line; *cards* are arguments of -device, each naming its bus."""
        readonly = "off" if self.is_installed else "on"
        return [
            "qemu-system-x86_64",
            *("-machine", ",".join(["q35,memory-backend=ram,kernel-irqchip=off", *self._machine()])),
            *self._accelerator(),
            *("-cpu", "max,la57=off", "-smp", str(self.cpus)),
            *("-m", f"{self.memory_mib}M"),
            *("-object", f"memory-backend-memfd,id=ram,size={self.memory_mib}M,share=on"),
            *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-vga", "none"),
            *self._boot(),
            *("-chardev", f"file,id=console,path={_quoted(self.console)}", "-serial", "chardev:console"),
            *("-qmp", f"unix:{_quoted(self.qmp)},server=on,wait=off", "-D", str(self.trace)),
            *self._iommu(),
            *self._hotplug(),
            *("-drive", f"if=none,id=root,file={_quoted(self.root)},format=raw,readonly={readonly}"),
            *("-device", "virtio-blk-pci,drive=root"),
            *("-device", "virtio-serial-pci,id=ports"),
            *("-chardev", f"socket,id=agent,path={_quoted(self.agent)},server=on,wait=off"),
            *("-device", f"virtserialport,chardev=agent,name={PORT_NAME}"),
            *self._devices(cards),
            *_share("project", PROJECT, "readonly=on,", ROOT_PORTS + 1),
            *_share("results", self.results, "", ROOT_PORTS + 2),
            *(_share("work", Path(WORK), "readonly=on,", ROOT_PORTS + 3) if self.work else []),
            *(_share("modules", self.modules, "readonly=on,", ROOT_PORTS + 4) if self.modules else []),
            *(_share("root", Path(ROOT), "readonly=on,", ROOT_PORTS + 5) if self.root_folder else []),
        ]

    def _machine(self) -> list[str]:
        return ["smm=on", "pflash0=code", "pflash1=variables"] if self.firmware else []

    def _boot(self) -> list[str]:
        if self.firmware is None:
            kernel = ["-kernel", str(self.image), "-initrd", str(self.initramfs)]
            return [*kernel, "-append", self.kernel_command_line()]
        code, variables, boot = (_quoted(path) for path in astuple(self.firmware))
        return [
            *("-blockdev", f"driver=file,node-name=code,read-only=on,filename={code}"),
            *("-blockdev", f"driver=file,node-name=variables,filename={variables}"),
            *("-global", "driver=cfi.pflash01,property=secure,value=on"),
            *("-drive", f"if=none,id=boot,file=fat:{boot},format=raw,readonly=on"),
            *("-device", "virtio-blk-pci,drive=boot,bootindex=0"),
        ]

    def _accelerator(self) -> list[str]:
        if self.icount:
            return ["-accel", "tcg,thread=single", "-icount", "shift=0"]
        return ["-accel", "tcg,thread=multi"]

    def _iommu(self) -> list[str]:
        return ["-device", "intel-iommu,caching-mode=on"] if self.iommu else []

    def _hotplug(self) -> list[str]:
        return ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"] if self.native_hotplug else []

    def _devices(self, cards: Sequence[str]) -> list[str]:
        options = []
        for number in range(ROOT_PORTS):
            options += _port(f"port{number}", number + 1)
        for card in cards:
            options += ["-device", card]
        for number in range(self.edu):
            options += ["-device", f"edu,id=edu{number}"]
        return options


def _quoted(path: Path) -> str:
    """Return a path as a value among QEMU's comma-separated options."""
    return str(path).replace(",", ",,")


def _share(name: str, path: Path, options: str, port: int) -> list[str]:
    """Return the arguments for a shared folder that survives the guest's suspend.

    The guest's driver cannot build up its queues anew, so the device must not lose them. Only a device behind a
    port of its own has the capability that says so.
    """
    filesystem = f"local,id={name},path={_quoted(path)},{options}security_model=none,multidevs=remap"
    device = f"virtio-9p-pci,fsdev={name},mount_tag={name},bus=to_{name},x-pcie-pm-no-soft-reset=on"
    return ["-fsdev", filesystem, *_port(f"to_{name}", port), "-device", device]


def _port(name: str, number: int) -> list[str]:
    return ["-device", f"pcie-root-port,id={name},chassis={number},slot={number}"]
