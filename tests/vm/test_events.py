"""Interrupts of the user's own logic, on the card node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pciedma_lab import modules
from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine

from .conftest import KERNEL, Lab, make_lab

LINE = 3


VARIANTS = ["user", "user-bypass", "user-intx", "user-msi"]


@pytest.fixture(scope="module")
def logic() -> Iterator[Lab]:
    """Cards with logic of the user's own that interrupt in every way."""
    modules.build(KERNEL)
    cards = [EmulatedCard("xdma", variant=variant) for variant in VARIANTS]
    with Machine(KERNEL, iommu=True, cards=cards, time_limit_s=600) as vm:
        yield make_lab(vm, *cards)


@pytest.mark.parametrize("variant", VARIANTS)
def test_line_fires_stays_off_until_noticed_and_fires_again(logic: Lab, variant: str) -> None:
    node, control = logic.nodes[f"xdma:{variant}"], logic.cards[f"xdma:{variant}"].control
    for reset in (False, True):
        listener = logic.start("events:listen", path=node, line=LINE, reads=reset)
        logic.vm.run(["sleep", "1"])
        if reset:  # after which the listener still listens
            logic.call("resets:reset", card=node)
        control.counters(reset=True)
        control.set_fault(f"user_interrupt={LINE}")
        found = listener.value()
        assert found.pop("none" if reset else "fired") == (["EAGAIN", "EINVAL"] if reset else True)
        assert found == {"signalled": 1, "other": False, "lines": [LINE], "again": True, "after": False}
        # No storm while nobody takes notice, which a read does before it sees that its memory is not there.
        assert control.counters()["interrupts"] in ([2, 3] if reset else [2])
    assert logic.call("memory:there_and_back", path=node + "c0", lengths=[1, 100, 5000, 70000]) == []


_INTX_DISABLE = 0x400


@pytest.mark.parametrize("variant", ["user-intx", "user"])
def test_line_that_is_armed_at_removal_has_no_pin_to_shout_by(logic: Lab, variant: str) -> None:
    """Nobody serves it any more, and others may share it; the next driver, and a reset, have it back."""
    key = f"xdma:{variant}"
    address = logic.addresses[key]

    def pin_is_off() -> bool:
        return bool(int(logic.vm.run(["setpci", "-s", address, "COMMAND"]).stdout, 16) & _INTX_DISABLE)

    def works() -> bool:
        found = logic.call("memory:there_and_back", path=logic.nodes[key] + "c0", lengths=[1, 100, 5000, 70000])
        return found == [] and pin_is_off() == (variant != "user-intx")

    assert works()
    logic.call("events:arm", path=logic.nodes[key], line=LINE)
    waiting = logic.start("events:wait", path=logic.nodes[key], line=LINE)
    logic.wait_until(f"grep -q pciedma_listener_read /proc/{waiting.pid}/wchan")
    logic.call("processes:unbind", driver="pciedma_xdma", address=address)
    assert waiting.value() == "ENODEV"
    assert pin_is_off()
    logic.cards[key].control.set_fault(f"user_interrupt={LINE}")
    logic.call("processes:bind", driver="pciedma_xdma", address=address)
    logic.find()
    assert works()
    assert logic.vm.run(["sh", "-c", f"echo 1 > /sys/bus/pci/devices/{address}/reset"]).returncode == 0
    assert works()
    logic.call("resets:reset", card=logic.nodes[key])
    assert works()


def test_lines_that_are_not_there_are_refused(lab: Lab) -> None:
    assert lab.call("events:refused", path=lab.nodes["xdma"]) == ["EINVAL", "EBADF", "EINVAL"]


def test_card_without_lines_says_so(lab: Lab) -> None:
    assert lab.call("events:refused", path=lab.nodes["capric"])[0] in ("EOPNOTSUPP", "ENOTSUP")
