"""Interrupts of the user's own logic, on the card node."""

from __future__ import annotations

import pytest

from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine

from .conftest import KERNEL, Lab, make_lab

LINE = 3


@pytest.mark.parametrize("variant", ["user", "user-bypass", "user-intx", "user-msi"])
def test_line_fires_stays_off_until_noticed_and_fires_again(variant: str) -> None:
    xdma = EmulatedCard("xdma", variant=variant)
    with Machine(KERNEL, iommu=True, cards=[xdma], time_limit_s=300) as vm:
        lab = make_lab(vm, xdma)
        for reset in (False, True):
            listener = lab.start("events:listen", path=lab.nodes["xdma"], line=LINE, reads=reset)
            vm.run(["sleep", "1"])
            if reset:  # after which the listener still listens
                lab.call("resets:reset", card=lab.nodes["xdma"])
            xdma.control.counters(reset=True)
            xdma.control.set_fault(f"user_interrupt={LINE}")
            found = listener.value()
            expected = {"none": ["EAGAIN", "EINVAL"]} if reset else {"fired": True}
            assert found == expected | {
                "signalled": 1, "other": False, "lines": [LINE], "again": True, "after": False,
            }
            assert xdma.control.counters()["interrupts"] == 2  # no storm while nobody takes notice
        lab.there_and_back()


_INTX_DISABLE = 0x400


@pytest.mark.parametrize("variant", ["intx", "user"])
def test_line_that_is_armed_at_removal_has_no_pin_to_shout_by(variant: str) -> None:
    """Nobody serves it any more, and others may share it; the next driver, and a reset, have it back."""
    xdma = EmulatedCard("xdma", variant=variant)

    def pin_is_off() -> bool:
        return bool(int(vm.run(["setpci", "-s", address, "COMMAND"]).stdout, 16) & _INTX_DISABLE)

    with Machine(KERNEL, iommu=True, cards=[xdma], time_limit_s=300) as vm:
        lab = make_lab(vm, xdma)
        address = lab.addresses["xdma"]
        assert pin_is_off() == (variant != "intx")
        lab.call("events:arm", path=lab.nodes["xdma"], line=LINE)
        waiting = lab.start("events:wait", path=lab.nodes["xdma"], line=LINE)
        lab.wait_until(f"grep -q pciedma_listener_read /proc/{waiting.pid}/wchan")
        lab.call("processes:unbind", driver="pciedma_xdma", address=address)
        assert waiting.value() == "ENODEV"
        assert pin_is_off()
        xdma.control.set_fault(f"user_interrupt={LINE}")
        lab.call("processes:bind", driver="pciedma_xdma", address=address)
        lab.find()
        lab.there_and_back()
        for reset in (f"echo 1 > /sys/bus/pci/devices/{address}/reset", None):
            if reset:
                assert vm.run(["sh", "-c", reset]).returncode == 0
            else:
                lab.call("resets:reset", card=lab.nodes["xdma"])
            assert pin_is_off() == (variant != "intx")
            lab.there_and_back()


def test_lines_that_are_not_there_are_refused(lab: Lab) -> None:
    assert lab.call("events:refused", path=lab.nodes["xdma"]) == ["EINVAL", "EBADF", "EINVAL"]


def test_card_without_lines_says_so(lab: Lab) -> None:
    assert lab.call("events:refused", path=lab.nodes["capric"])[0] in ("EOPNOTSUPP", "ENOTSUP")
