"""What doctor knows of a machine; each fact is gathered when first asked for."""

from __future__ import annotations

from functools import cached_property

from . import cards, dkms, kernel_modules, pci
from .system import System, User


class Facts:
    """The machine's modules, devices, cards and log. ``device``: the PCI address that the user asks about, or None."""

    def __init__(self, system: System, device: str | None = None) -> None:
        """Gather nothing yet."""
        self.system = system
        self.device = device

    @cached_property
    def release(self) -> str:
        """The running kernel's."""
        return self.system.release

    @cached_property
    def installed(self) -> dict[str, str]:
        """The file of each module of ours for the running kernel."""
        return kernel_modules.installed(self.system, self.release)

    @property
    def installed_by_dkms(self) -> set[str]:
        """The modules that DKMS takes for installed for the running kernel."""
        return kernel_modules.module_names(dkms.installed_files(self.system, self.release))

    @property
    def modules_folder(self) -> str:
        """Where the running kernel's modules are."""
        return f"{kernel_modules.MODULES}/{self.release}"

    @cached_property
    def modules_are_hidden(self) -> bool:
        """Whether the user may not see which modules are installed."""
        return self.system.is_closed(self.modules_folder)

    @cached_property
    def loaded(self) -> list[str]:
        """The modules of ours in the kernel."""
        return kernel_modules.loaded(self.system)

    @cached_property
    def configuration(self) -> list[kernel_modules.ConfigLine]:
        """What modprobe's configuration says of our modules."""
        return kernel_modules.configuration(self.system)

    @cached_property
    def source_version(self) -> str | None:
        """The newest version whose sources are here for DKMS."""
        return dkms.source_version(self.system)

    @cached_property
    def certificate(self) -> str:
        """The file of the key with which DKMS signs modules."""
        return dkms.certificate(self.system, self.release)

    @cached_property
    def devices(self) -> list[pci.PciDevice]:
        """All PCI functions."""
        return pci.pci_devices(self.system)

    @cached_property
    def _aliases(self) -> list[tuple[str, str]]:
        return kernel_modules.aliases(self.system, self.release)

    def modules_of(self, device: pci.PciDevice) -> list[str]:
        """Return the modules of ours that take a device by its ids, of those that are installed."""
        return kernel_modules.matching(self._aliases, device.modalias)

    def module_of(self, device: pci.PciDevice) -> str | None:
        """Return the first of these, or None."""
        return next(iter(self.modules_of(device)), None)

    @cached_property
    def matching(self) -> list[tuple[pci.PciDevice, str]]:
        """The devices whose ids are ours, each with its modules; unrelated designs may have the same ids."""
        return [(device, module) for device in self.devices for module in self.modules_of(device)]

    @cached_property
    def cards(self) -> list[cards.CardState]:
        """The cards that work for the driver."""
        return cards.cards(self.system)

    @cached_property
    def user(self) -> User:
        """Who asks."""
        return self.system.user()

    @cached_property
    def log(self) -> list[str] | None:
        """The kernel log's lines since the start; None if it may not be read."""
        for command in (["dmesg"], ["journalctl", "-k", "-b", "-q", "--no-pager", "-o", "cat"]):
            output = self.system.run(command)
            if output and not output.status and output.text.strip():
                return output.text.splitlines()
        return None

    def last_logged(self, *words: str) -> str | None:
        """Return the log's last line that has all *words*."""
        lines = (line for line in reversed(self.log or []) if all(word in line for word in words))
        return next(lines, None)
