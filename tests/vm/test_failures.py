"""Each allocation that fails, in turn: only the debug kernel can make them fail."""

from __future__ import annotations

import pytest

from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine

from .conftest import KERNEL, Lab, make_lab

pytestmark = pytest.mark.skipif(KERNEL != "debug", reason="stock kernels do not inject failures")

#: Mistakes that the kernel itself makes when its allocations fail: of an interrupt's folder in /proc, and of ACPI's
#: routing; and kmemleak's own.
KERNELS_OWN = [
    "WARNING: .* at fs/proc/generic.c:.* remove_proc_entry", "Call Trace:", "KASAN: slab-use-after-free in acpi_",
    "kmemleak: Cannot allocate a scan area",
]


@pytest.mark.parametrize("card", ["capric", "xdma"])
def test_probe_survives_each_failure(card: str) -> None:
    model = EmulatedCard(card)
    with Machine(KERNEL, iommu=True, cards=[model], time_limit_s=600) as vm:
        for pattern in KERNELS_OWN:
            vm.expect_log(pattern)
        lab = make_lab(vm, model)
        driver = f"pciedma_{card}"
        lab.call("processes:unbind", driver=driver, address=lab.addresses[card])
        found = lab.call("failures:probe", 500, driver=driver, address=lab.addresses[card])
        assert found["wrong"] == []
        assert found["results"]["ENOMEM"] > 50
        assert set(found["results"]) <= {"ENOMEM", "EFAULT", "EBUSY", "EIO", "ENODEV", ""}
        lab.find()
        if card == "xdma":
            lab.there_and_back()
        else:
            lab.echo()
        vm.unload_modules()


@pytest.mark.parametrize("what", ["open", "copied", "direct", "aio", "postponed"])
def test_call_survives_each_failure(lab: Lab, what: str) -> None:
    found = lab.call("failures:calls", 600, path=lab.memory, what=what)
    assert found
    assert set(found) <= {"ENOMEM", "EFAULT", "EAGAIN", "EIO", ""}
    lab.settled()


@pytest.mark.parametrize("kind", ["new", "registered", "imported"])
def test_buffer_s_life_survives_each_failure(lab: Lab, kind: str) -> None:
    """From its making to its end, mapping, export, transfers and a read included; nothing of it is left."""
    found = lab.call("failures:lives", 600, path=lab.memory, kind=kind)
    assert found["wrong"] == []
    assert found["results"]["ENOMEM"] > 10
    assert set(found["results"]) <= {"ENOMEM", "EFAULT", "ENFILE", "EMFILE", ""}
    lab.settled()
