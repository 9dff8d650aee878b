"""The debug kernel: that it finds mistakes, and that it finds none in the driver's main paths."""

from __future__ import annotations

import errno
import re
import signal
from pathlib import Path

import pytest

from pciedma_lab import modules, verdict
from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.chroot import PROJECT
from pciedma_lab.machine import Machine, MachineFailed

from .conftest import make_lab

KERNEL = "debug"

#: Not again under `make check-debug` and `make check-kernels`.
pytestmark = [pytest.mark.stock_kernel, pytest.mark.fixed_kernel]

#: In this order: lockdep gives up after KASAN's report, and the leak is seen while the module is loaded.
MISTAKES = {
    "lock_inversion": "possible circular locking dependency",
    "wrong_unmap": "DMA-API: .*different size",
    "atomic_sleep": "BUG: scheduling while atomic|sleeping function called",
    "out_of_bounds": "BUG: KASAN: slab-out-of-bounds",
    "leak": "leaked: unreferenced object",
}


@pytest.fixture(scope="module")
def probe() -> Path:
    """The module that makes mistakes, built for the debug kernel; as the guest sees it."""
    built = modules.build_folder(KERNEL, Path(__file__).parent / "debug_probe")
    return Path("/mnt/project") / built.relative_to(PROJECT) / "pciedma_probe.ko"


def main_paths(vm: Machine, cards: list[EmulatedCard]) -> None:
    """What the driver does most, and how it ends what hangs."""
    lab = make_lab(vm, *cards)
    lab.echo(50)
    lab.there_and_back(lengths=[1, 5000, 3 << 20], skews=[4097])
    assert lab.call("memory:uring", path=lab.memory) == {"bad": []}
    assert lab.call("memory:uring", path=lab.memory, fixed=True) == {"bad": []}
    assert lab.call("memory:aio", path=lab.memory) == {"bad": []}
    registers = {"path": lab.nodes["xdma"] + "w0", "value": 1}
    assert lab.call("windows:forked", **registers) == {"child": 1, "parent": 2}
    lab.call("windows:read_during", card=lab.nodes["xdma"], script="RESET", **registers)
    for fault, result in (("stall*1", errno.ETIMEDOUT), ("read_error*1", errno.EIO)):
        lab.xdma.control.set_fault(fault)
        found = lab.call("transfers:one", path=lab.memory, direction="read", length=50_000, timeout_s=0.3)
        assert found["errno"] == result
    for way in ("sync", "aio", "io_uring", "io_cancel"):
        lab.xdma.control.set_fault("stall*1")
        assert lab.call("memory:cancelled", path=lab.memory, way=way)["result"] == "ECANCELED"
    lab.capric.control.set_fault("stall=h2c*1")
    assert lab.call("processes:raw_write_interrupted", path=lab.data, after_s=0.5)["result"] == "EIO"
    for direction in ("write", "read"):
        lab.capric.control.set_fault("late_dma*1")
        killed = lab.begin("transfers:one", path=lab.data, direction=direction, timeout_s=None)
        killed.signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
    for card in ("capric", "xdma", "edu"):
        lab.call("processes:unbind", driver=f"pciedma_{card}", address=lab.addresses[card])
        lab.call("processes:bind", driver=f"pciedma_{card}", address=lab.addresses[card])
    lab.find()
    lab.echo(3)
    lab.there_and_back(lengths=[70_000])


def test_driver_makes_no_mistake_and_mistakes_are_found_and_fail_the_run(probe: Path) -> None:
    """In one machine, since it boots slowly: first the driver, then the probe."""
    modules.build(KERNEL)
    cards = [EmulatedCard("capric"), EmulatedCard("xdma", variant="user")]
    with (
        pytest.raises(MachineFailed) as caught,
        Machine(KERNEL, iommu=True, cards=cards, edu=1, time_limit_s=900) as vm,
    ):
        main_paths(vm, cards)
        vm.unload_modules()
        assert verdict.suspicious(vm.kernel_log()) == []
        for mistake in MISTAKES:
            assert vm.run(["insmod", str(probe), f"mistake={mistake}"]).returncode == 0
            if mistake != "leak":  # whose report names the module
                vm.run(["rmmod", "pciedma_probe"])
    text = str(caught.value).partition("console:")[0]
    for mistake, pattern in MISTAKES.items():
        assert re.search(pattern, text), f"{mistake} was not found"
    assert all("pciedma_probe" in leak for leak in text.split("leaked: ")[1:])
