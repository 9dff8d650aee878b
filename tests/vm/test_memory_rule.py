"""No memory goes back while hardware may still use it: the IOMMU as the witness."""

from __future__ import annotations

import time

import pytest

from pciedma_lab import modules
from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine

from .conftest import KERNEL, make_lab


def test_lying_idle_is_seen_by_the_oracle() -> None:
    """A card that says idle and then writes: no driver can survive that, but the lab must see it."""
    capric = EmulatedCard("capric", faults=["lying_idle*1"])
    with Machine(KERNEL, iommu=True, cards=[capric], time_limit_s=300) as vm:
        lab = make_lab(vm, capric)
        blocked = lab.begin("processes:blocked_call", path=lab.data, direction="read", timeout_s=None)
        vm.expect_violation("dma_after_unmap")
        lab.call("processes:unbind", driver="pciedma_capric", address=lab.addresses["capric"])
        assert blocked.value()["results"] == ["ENODEV", "ENODEV"]
        end = time.monotonic() + 20 * lab.vm.patience
        while not capric.control.violations() and time.monotonic() < end:
            time.sleep(0.1)
        assert [violation["name"] for violation in capric.control.violations()] == ["dma_after_unmap"]
        assert "lying_idle_dma" in [event["name"] for event in capric.control.events()]


def test_late_dma_at_unbind_is_waited_for() -> None:
    """The same card, late but honest: the memory is still mapped when the DMA comes."""
    capric = EmulatedCard("capric", faults=["late_dma*1"])
    with Machine(KERNEL, iommu=True, cards=[capric], time_limit_s=300) as vm:
        lab = make_lab(vm, capric)
        blocked = lab.begin("processes:blocked_call", path=lab.data, direction="read", timeout_s=None)
        lab.call("processes:unbind", driver="pciedma_capric", address=lab.addresses["capric"])
        assert blocked.value()["results"] == ["ENODEV", "ENODEV"]
        assert [event["name"] for event in capric.control.events()] == ["late_dma"]
        assert capric.control.violations() == []
        assert capric.control.counters()["c2h_dmas"] == 1


def test_memory_in_quarantine_is_left_alone_when_it_goes_back() -> None:
    """With all DMA bounced, what the bounce buffer has must not be copied over what its owner has made of the page."""
    xdma = EmulatedCard("xdma")
    with Machine(KERNEL, cards=[xdma], swiotlb_force=True, time_limit_s=300) as vm:
        lab = make_lab(vm, xdma)
        reader = lab.begin_stalled("memory:left_alone", path=lab.memory, card=lab.nodes["xdma"])
        xdma.control.set_fault("all_ones_config")
        xdma.control.set_fault("all_ones")
        vm.wait_log("the card does not answer")
        assert lab.sysfs("xdma", "quarantined_bytes") > 0
        xdma.control.clear_faults()
        assert reader.value() == {"result": "ENODEV", "same": True, "again": 65536}
        assert lab.sysfs("xdma", "quarantined_bytes") == 0


@pytest.mark.stock_kernel
@pytest.mark.fixed_kernel
def test_each_copied_transfer_syncs_its_buffer_once_for_the_card_and_a_read_once_for_the_processor() -> None:
    """Newer kernels skip the call where it does nothing, as on x86; 6.1 always makes it, so it can be counted."""
    modules.build("bookworm")
    cards = [EmulatedCard("capric"), EmulatedCard("xdma")]
    with Machine("bookworm", cards=cards, time_limit_s=300) as vm:
        lab = make_lab(vm, *cards)
        for path in (lab.data, lab.memory):
            found = lab.call("tracing:syncs", path=path, count=20)
            assert found == {"write": {"device 1000 1": 20}, "readinto": {"device 1000 2": 20, "cpu 1000 2": 20}}
        vm.unload_modules()
