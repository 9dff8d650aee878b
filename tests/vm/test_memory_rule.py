"""No memory goes back while hardware may still use it: the IOMMU as the witness."""

from __future__ import annotations

import time

import pytest

from pciedma_lab import modules
from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine

from .conftest import KERNEL, Lab, make_lab


def test_card_that_lies_is_seen_by_the_oracle() -> None:
    """Cards that say idle and then write: no driver can survive that, but the lab must see it."""
    cards = capric, xdma = [EmulatedCard(name, faults=["lying_idle*1"]) for name in ("capric", "xdma")]
    with Machine(KERNEL, iommu=True, cards=cards, time_limit_s=300) as vm:
        lab = make_lab(vm, *cards)
        vm.expect_violation("dma_after_unmap")
        assert lab.call("memory:begun", path=lab.memory, way="sync", timeout_s=0.3) == "ETIMEDOUT"
        blocked = lab.begin("processes:blocked_call", path=lab.data, direction="read", timeout_s=None)
        lab.call("processes:unbind", driver="pciedma_capric", address=lab.addresses["capric"])
        assert blocked.value()["results"] == ["ENODEV", "ENODEV"]
        end = time.monotonic() + 20 * vm.patience
        while not all(card.control.violations() for card in cards) and time.monotonic() < end:
            time.sleep(0.1)
        assert {violation["name"] for violation in xdma.control.violations()} == {"dma_after_unmap"}
        assert [violation["name"] for violation in capric.control.violations()] == ["dma_after_unmap"]
        assert "lying_idle_dma" in [event["name"] for event in capric.control.events()]


def test_late_dma_at_unbind_is_waited_for(lab: Lab) -> None:
    """A card that is late but honest: the memory is still mapped when the DMA comes."""
    before = lab.last_late_dma("capric")
    lab.capric.control.set_fault("late_dma*1")
    blocked = lab.begin("processes:blocked_call", path=lab.data, direction="read", timeout_s=None)
    lab.call("processes:unbind", driver="pciedma_capric", address=lab.addresses["capric"])
    assert blocked.value()["results"] == ["ENODEV", "ENODEV"]
    assert lab.last_late_dma("capric") > before
    assert lab.capric.control.counters()["c2h_dmas"] == 1
    lab.restore()


def test_memory_in_quarantine_is_left_alone_when_it_goes_back(bounced: Lab) -> None:
    """What the bounce buffer has must not be copied over what its owner has made of the page."""
    lab, xdma = bounced, bounced.xdma
    reader = lab.begin_stalled("memory:left_alone", path=lab.memory, card=lab.nodes["xdma"])
    xdma.control.set_fault("all_ones_config")
    xdma.control.set_fault("all_ones")
    lab.vm.wait_log("the card does not answer")
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
