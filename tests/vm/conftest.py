"""The machine that most tests share, and the state in which each test finds and leaves it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from pciedma_lab import modules
from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine, Process

#: The kernel of the full tests.
KERNEL = os.environ.get("PCIEDMA_KERNEL", "trixie")

GUEST = "tests.vm.guest"


@dataclass
class Lab:
    """A booted machine with the modules loaded, a Capric card and QEMU's edu."""

    vm: Machine
    capric: EmulatedCard
    #: Nodes and PCI addresses in the guest.
    nodes: dict[str, str]
    addresses: dict[str, str]

    def call(self, target: str, wait_s: float = 120, /, **kwargs: Any) -> Any:
        """Run a function of tests.vm.guest in the guest."""
        return self.vm.call(f"{GUEST}.{target}", wait_s, **kwargs)

    def start(self, target: str, /, **kwargs: Any) -> Process:
        """Start a function of tests.vm.guest in the guest."""
        return self.vm.start_call(f"{GUEST}.{target}", **kwargs).started()

    def begin(self, target: str, /, **kwargs: Any) -> Process:
        """The same, and wait until the Capric card has begun a DMA for it."""
        self.capric.control.counters(reset=True)
        process = self.start(target, **kwargs)
        self.wait_for("starts")
        return process

    def wait_for(self, *counters: str) -> None:
        """Wait until the Capric card has counted each of these since its counters were reset."""
        end = time.monotonic() + 30
        while not all(self.capric.control.counters().get(name) for name in counters):
            assert time.monotonic() < end, f"the card did not count {counters}"
            time.sleep(0.01)

    @property
    def data(self) -> str:
        """Capric's channel node."""
        return self.nodes["capric"] + "c0"

    def sysfs(self, card: str, attribute: str) -> int:
        """Return a number of a card's or, by ``c0/...``, its channel's sysfs folder."""
        name = self.nodes[card].removeprefix("/dev/")
        folder, _, rest = attribute.rpartition("c0/")
        path = f"/sys/class/pciedma/{name}c0/{rest}" if "c0/" in attribute else f"/sys/class/pciedma/{name}/{attribute}"
        assert not folder
        return int(self.vm.run(["cat", path]).stdout)

    def find(self) -> None:
        """Learn the cards' nodes and addresses anew."""
        script = 'for c in /sys/class/pciedma/*/card; do d=${c%/card}; echo $(cat $c) $d $(readlink $d/device); done'
        self.nodes.clear()
        for line in self.vm.run(["sh", "-c", script]).stdout.splitlines():
            card, folder, link = line.split()
            self.nodes[card] = "/dev/" + folder.rsplit("/", 1)[1]
            self.addresses[card] = link.rsplit("/", 1)[1]

    def restore(self) -> None:
        """Bind again what a failed test left unbound, so that only that test fails."""
        self.find()
        for card, address in self.addresses.items():
            if card not in self.nodes:
                self.vm.run(["sh", "-c", f"echo {address} > /sys/bus/pci/drivers/pciedma_{card}/bind"])
        self.find()

    def echo(self, count: int = 20, **kwargs: Any) -> dict[str, Any]:
        """Send messages through Capric and insist that all were right."""
        result: dict[str, Any] = self.call("transfers:echo", path=self.data, count=count, **kwargs)
        assert result["errors"] == 0, result["first_error"]
        return result


def make_lab(vm: Machine, capric: EmulatedCard) -> Lab:
    """Load the modules and find the cards."""
    vm.load_modules()
    lab = Lab(vm, capric, {}, {})
    lab.find()
    return lab


@pytest.fixture(scope="session")
def machine() -> Iterator[Lab]:
    """One booted guest with the IOMMU strict, for all tests that leave it in order."""
    modules.build(KERNEL)
    capric = EmulatedCard("capric", seed=1)
    with Machine(KERNEL, iommu=True, cards=[capric], edu=1, time_limit_s=3000) as vm:
        yield make_lab(vm, capric)


@pytest.fixture
def lab(machine: Lab) -> Iterator[Lab]:
    """The shared machine; afterwards the card must work on, and nothing may be wrong or left over."""
    machine.capric.control.clear_faults()
    machine.restore()
    yield machine
    machine.capric.control.clear_faults()
    assert machine.capric.control.violations(clear=True) == []
    machine.echo()
    assert machine.sysfs("capric", "quarantined_bytes") == 0
