"""Accesses to BARs from the guest's user space: the model sees each as it was made."""

from __future__ import annotations

from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine

from .conftest import KERNEL, Lab

CREDIT_ENABLE, SCRATCH, WRITTEN, MEMORY = 0x6020, 0x00, 0x08, 0x2000
USER_BAR, DMA_BAR, BYPASS_BAR = 0, 1, 2


def test_emulator_neither_splits_nor_merges_accesses() -> None:
    xdma = EmulatedCard("xdma", variant="user-bypass")
    with Machine(KERNEL, iommu=True, cards=[xdma], time_limit_s=300) as vm:
        lab = Lab(vm, {"xdma": xdma})  # without its driver, which takes the BARs for itself
        address = vm.run(["sh", "-c", "lspci -Dn -d 10ee: | cut -d' ' -f1"]).stdout.strip()
        vm.run(["setpci", "-s", address, "COMMAND=2"])
        xdma.control.counters(reset=True)
        for bar in (USER_BAR, BYPASS_BAR):
            assert lab.call("registers:widths", address=address, bar=bar, offset=MEMORY) == [True] * 4
        counters = xdma.control.counters()
        for window in ("user", "bypass"):
            for kind in ("reads", "writes"):
                assert [counters.get(f"{window}_{kind}.{size}") for size in (1, 2, 4, 8)] == [1] * 4
        for value in range(3):
            lab.call("registers:write", address=address, bar=USER_BAR, offset=SCRATCH, value=value)
        assert [lab.call("registers:read", address=address, bar=USER_BAR, offset=WRITTEN) for _ in range(2)] == [3, 0]
        assert xdma.control.counters()["user_reads.0x8.4"] == 2


def test_registers_of_a_card_can_be_read_when_its_driver_has_gone(lab: Lab) -> None:
    """For what a driver must leave behind: its registers are its own as long as it is there."""
    lab.call("processes:unbind", driver="pciedma_xdma", address=lab.addresses["xdma"])
    assert lab.call("registers:read", address=lab.addresses["xdma"], bar=0, offset=0x3000) == 0x1FC30006
    lab.call("processes:bind", driver="pciedma_xdma", address=lab.addresses["xdma"])
    lab.find()


def test_lost_configuration_space_is_seen_in_the_guest() -> None:
    """But for the BARs, which the emulator shows as it knows them."""
    capric = EmulatedCard("capric")
    with Machine(KERNEL, cards=[capric], time_limit_s=300) as vm:
        address = vm.run(["sh", "-c", "lspci -Dn -d 10ee:0007 | cut -d' ' -f1"]).stdout.strip()
        show = ["setpci", "-s", address, "COMMAND", "BASE_ADDRESS_0"]
        command, bar = vm.run(show).stdout.split()
        capric.control.set_fault("lost_config")
        lost, kept = vm.run(show).stdout.split()
        assert (lost, kept) == ("0000", bar)
        assert command != lost
        vm.run(["setpci", "-s", address, f"COMMAND={command}"])
        assert vm.run(show).stdout.split() == [command, bar]
