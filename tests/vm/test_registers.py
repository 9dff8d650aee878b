"""Accesses to BARs from the guest's user space: the model sees each as it was made."""

from __future__ import annotations

from .conftest import Lab


def test_registers_of_a_card_can_be_read_when_its_driver_has_gone(lab: Lab) -> None:
    """For what a driver must leave behind: its registers are its own as long as it is there."""
    lab.call("processes:unbind", driver="pciedma_xdma", address=lab.addresses["xdma"])
    assert lab.call("registers:read", address=lab.addresses["xdma"], bar=0, offset=0x3000) == 0x1FC30006
    lab.call("processes:bind", driver="pciedma_xdma", address=lab.addresses["xdma"])
    lab.find()


def test_lost_configuration_space_is_seen_in_the_guest(lab: Lab) -> None:
    """But for the BARs, which the emulator shows as it knows them."""
    address = lab.addresses["capric"]
    lab.call("processes:unbind", driver="pciedma_capric", address=address)
    lab.vm.run(["setpci", "-s", address, "COMMAND=2"])
    show = ["setpci", "-s", address, "COMMAND", "BASE_ADDRESS_0"]
    command, bar = lab.vm.run(show).stdout.split()
    lab.capric.control.set_fault("lost_config")
    lost, kept = lab.vm.run(show).stdout.split()
    assert (lost, kept) == ("0000", bar)
    assert command != lost
    lab.vm.run(["setpci", "-s", address, f"COMMAND={command}"])
    assert lab.vm.run(show).stdout.split() == [command, bar]
    lab.call("processes:bind", driver="pciedma_capric", address=address)
    lab.find()
