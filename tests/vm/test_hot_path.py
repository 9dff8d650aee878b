"""What a transfer costs in steady state: counted, not timed."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from .conftest import Lab

MESSAGES = 500


@pytest.fixture(autouse=True)
def patient(lab: Lab) -> Iterator[None]:
    """Let no waiter look at the card for itself because this machine was busy with something else."""
    with lab.drain_bound("capric", 10_000):
        yield


@pytest.fixture
def processor(lab: Lab) -> Iterator[int]:
    """The only processor that Capric interrupts: what is started on another may end while its handler still looks."""
    set_interrupts(lab, "echo 1")
    yield 0
    set_interrupts(lab, "cat /proc/irq/default_smp_affinity")


def set_interrupts(lab: Lab, mask: str) -> None:
    folder = f"/sys/bus/pci/devices/{lab.addresses['capric']}/msi_irqs"
    script = f"for irq in $(ls {folder}); do {mask} > /proc/irq/$irq/smp_affinity || exit 1; done"
    assert lab.vm.run(["sh", "-c", script]).returncode == 0


@pytest.mark.parametrize("size", [1, 2047])
def test_capric_message_costs_one_read_and_four_writes(lab: Lab, processor: int, size: int) -> None:
    lab.echo(5)
    lab.capric.control.counters(reset=True)
    lab.echo(MESSAGES, size=size, processors=[processor])
    counters = lab.capric.control.counters()
    transfers = counters["starts"]
    assert transfers == 2 * MESSAGES
    assert counters["mmio_reads"] <= transfers
    assert counters["mmio_writes"] <= 4 * transfers
    assert counters["interrupts"] == transfers


def test_capric_polled_message_costs_four_writes(lab: Lab) -> None:
    lab.echo(5, wait_mode="POLL")
    lab.capric.control.counters(reset=True)
    lab.echo(MESSAGES, wait_mode="POLL")
    counters = lab.capric.control.counters()
    assert counters["mmio_writes"] <= 4 * counters["starts"]


@pytest.mark.parametrize(("mode", "scattered"), [("INTERRUPT", False), ("INTERRUPT", True), ("ADAPTIVE", True)])
def test_long_request_interrupts_once_for_several_windows(lab: Lab, mode: str, scattered: bool) -> None:
    """Of 2 MiB each, or for most segments that an engine holds; and none of their ends is found by a look."""
    mib = 64
    options = {"path": lab.memory, "length": mib << 20, "wait_mode": mode, "spin_us": 0, "scattered": scattered}
    with lab.drain_bound("xdma", 10_000):
        lab.call("waiting:reads", count=1, **options)
        lab.xdma.control.counters(reset=True)
        found = lab.call("waiting:reads", count=3, **options)
        assert (found["moved"], found["looks"]) == ([mib << 20], 0)
    most = mib / (4 * 2) + 2 + (mib * 256 / 600 if scattered else 0)
    assert lab.xdma.control.counters()["interrupts"] <= 3 * most


def test_messages_allocate_nothing_in_our_modules(lab: Lab) -> None:
    found = lab.call("tracing:allocations", path=lab.data, count=200)
    assert found["seen"] > 0, "the trace saw no allocation at all"
    assert found["control"] > 0, "the trace does not see what opening a channel allocates"
    assert found["ours"] == []


#: What is done for memory that is not known yet; and allocations.
_NOT_OF_A_TRANSFER = re.compile("alloc|pin_user|gup|user_pages|page_walk|walk_page|follow_page|dma_map|kthread")


@pytest.mark.stock_kernel  # the debug kernel traces no functions
def test_transfer_of_registered_memory_allocates_nothing_and_walks_no_pages(lab: Lab) -> None:
    names = lab.call("tracing:functions_of_transfer", path=lab.memory, length=1 << 20)
    print("\n".join(names))
    assert {"pciedma_transfer_ioctl", "pciedma_call_run", "schedule"} <= set(names)
    assert [name for name in names if _NOT_OF_A_TRANSFER.search(name)] == []


def test_tracepoints_follow_a_transfer(lab: Lab) -> None:
    events = lab.call("tracing:transfer_events", path=lab.data)
    assert events == ["pciedma_submit", "pciedma_start", "pciedma_interrupt", "pciedma_complete"] or events == [
        "pciedma_submit", "pciedma_start", "pciedma_complete", "pciedma_interrupt",
    ]
