"""User memory as it is mapped for DMA: how far a piece reaches, and what is said when it cannot be."""

from __future__ import annotations

import pytest

from pciedma_lab import modules
from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine

from .conftest import KERNEL, Lab, make_lab

PAGE = 4096
GIB = 1 << 30
#: How many are tried for memory on both sides of a boundary.
MACHINES = 4


@pytest.mark.stock_kernel
def test_piece_of_memory_ends_at_4_gib() -> None:
    """Above 4 GiB the kernel is left only what lies around 8 GiB, so that a program gets it.

    It keeps the pages on both sides of it for itself on about one machine in ten: then there is another machine.
    Not on the debug kernel, which takes all of that for itself.
    """
    modules.build(KERNEL)
    words = ["memmap=3840M$4G"]
    for _ in range(MACHINES):
        xdma = EmulatedCard("xdma")
        with Machine(KERNEL, cards=[xdma], memory_mib=2048 + 4096 + 256, words=words, time_limit_s=600) as vm:
            lab = make_lab(vm, xdma)
            found = lab.call("mapping:around", 300, path=lab.memory, boundary=8 * GIB, mib=400)
            counters = xdma.control.counters()
        if found[0] != "no such pages":
            break
    assert found == [2 * PAGE] * 3
    assert (counters["h2c0_descriptors"], counters["c2h0_descriptors"]) == (2 + 1, 2)


@pytest.mark.stock_kernel
def test_bounce_buffers_that_run_out_are_no_news(bounced: Lab) -> None:
    bounced.xdma.control.set_fault("delay=3000000*8")
    paths = [f"{bounced.nodes['xdma']}c{number}" for number in range(4)]
    assert bounced.call("mapping:exhaust", 600, paths=paths, length=16 << 20) == [16 << 20] * 8
    script = f"cat /sys/class/pciedma/{paths[0].removeprefix('/dev/')[:-1]}*/*/copied"
    assert sum(map(int, bounced.vm.run(["sh", "-c", script]).stdout.split())) > 0, "there was room for all"
    assert "swiotlb buffer is full" not in bounced.vm.kernel_log()


def test_bounced_data_that_got_lost_shows_nobody_elses(bounced: Lab) -> None:
    """What the bounce buffers have must not be seen either."""
    for length, expected in ((4095, [0]), (70_000, [0x5A])):
        assert bounced.call("file_operations:marked", path=bounced.memory, length=length) == 20
        bounced.xdma.control.set_fault("dropped_dma")
        found = bounced.call("file_operations:bytes_after", path=bounced.memory, length=length, way="sync")
        bounced.xdma.control.clear_faults()
        assert found == expected
