"""PCI functions as sysfs shows them to anybody."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .system import System

DEVICES = "/sys/bus/pci/devices"

_BRIDGE = 0x06
_COMMAND = 4
_BUS_MASTER = 0x04
_ADDRESS = re.compile(r"(?:([0-9a-f]{4,}):)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])", re.IGNORECASE)


def full_address(text: str) -> str:
    """Return a PCI address with its domain, as sysfs spells it; raises ValueError."""
    match = _ADDRESS.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a PCI address like 03:00.0")
    return f"{match[1] or '0000'}:{match[2]}".lower()


@dataclass(frozen=True)
class PciDevice:
    """A PCI function: ids and class are numbers; ``driver``: None if unbound; ``override``: its driver_override."""

    address: str
    vendor: int
    device: int
    subsystem_vendor: int
    subsystem_device: int
    device_class: int
    modalias: str
    driver: str | None
    override: str | None

    @property
    def ids(self) -> str:
        """``vendor:device``, as lspci -n and ids= have it."""
        return f"{self.vendor:04x}:{self.device:04x}"

    @property
    def is_bridge(self) -> bool:
        """Whether it only leads to others."""
        return self.device_class >> 16 == _BRIDGE


def pci_device(system: System, address: str) -> PciDevice:
    """Return the function at *address*; what sysfs does not show is 0 or None."""
    folder = f"{DEVICES}/{address}"
    override = system.text(f"{folder}/driver_override")
    return PciDevice(
        address=address,
        vendor=system.number(f"{folder}/vendor"),
        device=system.number(f"{folder}/device"),
        subsystem_vendor=system.number(f"{folder}/subsystem_vendor"),
        subsystem_device=system.number(f"{folder}/subsystem_device"),
        device_class=system.number(f"{folder}/class"),
        modalias=system.text(f"{folder}/modalias") or "",
        driver=system.link(f"{folder}/driver"),
        override=None if override in (None, "", "(null)") else override,
    )


def pci_devices(system: System) -> list[PciDevice]:
    """Return all functions of the machine in the order of their addresses."""
    return [pci_device(system, address) for address in system.names(DEVICES)]


def answers(system: System, address: str) -> bool | None:
    """Return whether the function answers on the bus now; None if that cannot be told."""
    config = system.content(f"{DEVICES}/{address}/config", 4)
    return None if not config else config != b"\xff" * len(config)


def is_bus_master(system: System, address: str) -> bool | None:
    """Return whether the function may reach memory now; None if that cannot be told."""
    config = system.content(f"{DEVICES}/{address}/config", _COMMAND + 2)
    return None if config is None or len(config) <= _COMMAND else bool(config[_COMMAND] & _BUS_MASTER)
