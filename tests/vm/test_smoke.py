"""A short run on each kernel, with and without an IOMMU, with bounced DMA and with memory that cards do not reach."""

from __future__ import annotations

import pytest

from pciedma_lab import kernels, modules
from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine

from .conftest import KERNEL, Lab, make_lab

#: Not again under `make check-debug`.
pytestmark = pytest.mark.stock_kernel

#: Check-kernels runs all tests on each.
OTHERS = [name for name in kernels.SUPPORTED if name != KERNEL]


def _cards_work(lab: Lab) -> None:
    for card in (lab.capric, lab.xdma):
        card.control.set_fault("jitter=0-200")
    lab.echo(300)
    lab.there_and_back(lengths=[1, 5000, 3 << 20])
    assert lab.call("memory:uring", path=lab.memory) == {"bad": []}
    assert lab.call("memory:uring", path=lab.memory, fixed=True) == {"bad": []}
    assert lab.call("memory:aio", path=lab.memory) == {"bad": []}
    lab.echo(100, wait_mode="POLL")
    result = lab.call("transfers:fill_and_verify", path=lab.nodes["edu"] + "c0", transfers=6)
    assert result["errors"] == 0, result["first_error"]
    lab.capric.control.set_fault("stall=h2c*1")
    blocked = lab.start("transfers:one", path=lab.data, direction="write", timeout_s=0.5)
    assert blocked.value()["class"] == "DmaTimeoutError"
    blocked = lab.begin("processes:blocked_call", path=lab.data, timeout_s=None)
    lab.call("processes:unbind", driver="pciedma_capric", address=lab.addresses["capric"])
    blocked.value()
    lab.call("processes:bind", driver="pciedma_capric", address=lab.addresses["capric"])
    lab.find()
    lab.echo(10)
    for card in (lab.capric, lab.xdma):
        card.control.clear_faults()


@pytest.mark.fixed_kernel
@pytest.mark.parametrize(("kernel", "iommu"), [(name, bool(number % 2)) for number, name in enumerate(OTHERS)])
def test_cards_work_with_other_kernels(kernel: str, iommu: bool) -> None:
    modules.build(kernel)
    cards = [EmulatedCard("capric"), EmulatedCard("xdma")]
    with Machine(kernel, cards=cards, edu=1, iommu=iommu, time_limit_s=300) as vm:
        _cards_work(make_lab(vm, *cards))
        vm.unload_modules()


@pytest.mark.parametrize("fixture", ["untranslated", "bounced"])
def test_cards_work_without_an_iommu(fixture: str, request: pytest.FixtureRequest) -> None:
    _cards_work(request.getfixturevalue(fixture))
