"""The XDMA back end: designs, steady state, faults."""

from __future__ import annotations

import errno
import time

import pytest

from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine

from .conftest import KERNEL, WAYS, Lab, make_lab

HUGE = 2 << 20
DRAIN_S = 1.0
#: The kernel prints ten lines of one kind in five seconds, and drops the rest.
ERROR_LINE_S = 0.6
#: Of the model; the driver is not told.
CARD_MEMORY = 64 << 30


@pytest.mark.parametrize("wait_mode", ["INTERRUPT", "POLL"])
@pytest.mark.parametrize("length", [64, 100_000])
def test_transfer_costs_no_read_and_at_most_two_writes(lab: Lab, length: int, wait_mode: str) -> None:
    with lab.drain_bound("xdma", 10_000):
        lab.there_and_back(lengths=[length] * 3, wait_mode=wait_mode)
        lab.xdma.control.counters(reset=True)
        lab.there_and_back(lengths=[length] * 50, skews=[4097], wait_mode=wait_mode)
        counters = lab.xdma.control.counters()
    transfers = 100
    polled = wait_mode == "POLL"
    assert counters["h2c0_descriptors"] >= 50
    assert counters.get("mmio_reads", 0) == 0
    assert counters["mmio_writes"] <= (1 if polled else 2) * transfers
    assert counters.get("interrupts", 0) <= (0 if polled else transfers)


def test_ring_wraps_at_every_position(lab: Lab) -> None:
    """Requests of 1 and of 64 descriptors begin everywhere in a ring of 1024, and cross every page of it."""
    lab.xdma.control.counters(reset=True)
    assert lab.call("memory:wraps", path=lab.memory) == []
    counters = lab.xdma.control.counters()
    assert counters["h2c0_descriptors"] == counters["c2h0_descriptors"] == 65 * 1024


def test_deep_queue_costs_at_most_a_read_an_interrupt(lab: Lab) -> None:
    lab.call("memory:uring", path=lab.memory, rounds=1)
    lab.xdma.control.counters(reset=True)
    assert lab.call("memory:uring", path=lab.memory, rounds=20) == {"bad": []}
    counters = lab.xdma.control.counters()
    requests = 2 * 8 * 20
    assert counters["interrupts"] <= requests
    assert counters.get("mmio_reads", 0) <= counters["interrupts"]


def test_transfers_allocate_nothing_in_our_modules(lab: Lab) -> None:
    found = lab.call("tracing:allocations", path=lab.memory, count=200, length=50_000)
    assert found["seen"] > 0, "the trace saw no allocation at all"
    assert found["control"] > 0, "the trace does not see what opening a channel allocates"
    assert found["ours"] == []


def test_huge_pages_become_few_descriptors(lab: Lab) -> None:
    assert lab.call("buffers:reserve_huge_pages", count=40) == 40
    lab.xdma.control.counters(reset=True)
    lab.there_and_back(kind="huge_tlb", lengths=[64 << 20], skews=[HUGE])
    lab.call("buffers:reserve_huge_pages", count=0)
    counters = lab.xdma.control.counters()
    assert counters["h2c0_descriptors"] <= 32
    assert counters["c2h0_descriptors"] <= 32


@pytest.mark.parametrize("wait_mode", ["INTERRUPT", "POLL", "ADAPTIVE"])
@pytest.mark.parametrize("direction", ["read", "write"])
def test_stalled_engine_times_out_and_works_on(lab: Lab, direction: str, wait_mode: str) -> None:
    lab.xdma.control.set_fault("stall*1")
    options = {"length": 100_000, "timeout_s": 0.3, "wait_mode": wait_mode}
    result = lab.call("transfers:one", path=lab.memory, direction=direction, **options)
    assert result["errno"] == errno.ETIMEDOUT
    assert result["seconds"] < 5
    lab.there_and_back(wait_mode=wait_mode)


@pytest.mark.parametrize(
    ("fault", "direction"),
    [("descriptor_error", "read"), ("read_error", "read"), ("read_error", "write"), ("write_error", "write"),
     ("magic_error", "write"), ("poll_error", "read"), ("busy_extra_read", "write")],
)
@pytest.mark.parametrize("wait_mode", ["INTERRUPT", "POLL"])
def test_error_is_eio_at_once_with_one_line(lab: Lab, fault: str, direction: str, wait_mode: str) -> None:
    lab.xdma.control.set_fault(f"{fault}*1")
    if fault == "busy_extra_read":
        lab.xdma.control.set_fault("read_error*1")
    lines = lab.vm.kernel_log().count(": error ")
    result = lab.call("transfers:one", path=lab.memory, direction=direction, length=100_000, wait_mode=wait_mode)
    assert result["errno"] == errno.EIO
    assert result["seconds"] < DRAIN_S
    assert lab.vm.kernel_log().count(": error ") == lines + 1
    lab.there_and_back(wait_mode=wait_mode)
    time.sleep(ERROR_LINE_S)


@pytest.mark.parametrize(
    "fault", ["early_completion", "duplicate_interrupt", "spurious_interrupt=2", "late_interrupt=3",
              "delayed_writes=50", "jitter=0-400", "delay=300", "latency=100", "bandwidth=2000", "strict_poll_mode"],
)
@pytest.mark.parametrize("wait_mode", ["INTERRUPT", "POLL", "ADAPTIVE"])
def test_odd_timing_loses_nothing(lab: Lab, fault: str, wait_mode: str) -> None:
    lab.xdma.control.set_fault(fault)
    lab.there_and_back(lengths=[100, 5000, 70_000, HUGE + 5], wait_mode=wait_mode)
    if wait_mode == "INTERRUPT":  # as all that is asynchronous
        assert lab.call("memory:uring", path=lab.memory, rounds=2) == {"bad": []}


@pytest.mark.parametrize("wait_mode", ["INTERRUPT", "POLL"])
def test_stale_interrupts_and_counts_lose_nothing(lab: Lab, wait_mode: str) -> None:
    """They come again for what was told of before, and an old count comes first."""
    looks = [lab.sysfs("xdma", f"c0/{direction}/looks") for direction in ("c2h", "h2c")]
    lab.xdma.control.set_fault("stale_interrupt")
    with lab.drain_bound("xdma", 10_000):  # a busy host delays interrupts, too
        lab.there_and_back(lengths=[100, 5000, 70_000, 5 * HUGE + 5], wait_mode=wait_mode)
        assert lab.call("memory:uring", path=lab.memory, depth=64, length=50_000, rounds=3) == {"bad": []}
        assert [lab.sysfs("xdma", f"c0/{direction}/looks") for direction in ("c2h", "h2c")] == looks


@pytest.mark.late_interrupts
def test_lost_interrupt_is_found_by_looking(lab: Lab) -> None:
    looks = lab.sysfs("xdma", "c0/h2c/looks")
    lab.xdma.control.set_fault("lost_interrupt*1")
    result = lab.call("transfers:one", path=lab.memory, direction="write", wait_mode="INTERRUPT")
    assert result["moved"] == 100
    assert result["seconds"] >= DRAIN_S
    assert lab.sysfs("xdma", "c0/h2c/looks") == looks + 1


@pytest.mark.late_interrupts
@pytest.mark.parametrize("way", WAYS)
def test_interrupts_that_never_come_lose_nothing(lab: Lab, way: str) -> None:
    lab.xdma.control.set_fault("lost_interrupt")
    assert lab.call("memory:begun", path=lab.memory, way=way) == 65536


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("direction", ["read", "write"])
def test_late_dma_after_the_halt_is_survived(lab: Lab, way: str, direction: str) -> None:
    before = lab.last_late_dma("xdma")
    lab.xdma.control.set_fault("late_dma*1")
    lab.xdma.control.set_fault("stall*1")
    result = lab.call("memory:begun", path=lab.memory, way=way, direction=direction, timeout_s=0.3)
    assert result in ("ETIMEDOUT", 65536)
    assert lab.last_late_dma("xdma") > before
    lab.there_and_back()


@pytest.mark.parametrize("way", WAYS)
def test_timeout_of_each_way(lab: Lab, way: str) -> None:
    lab.xdma.control.set_fault("stall*1")
    assert lab.call("memory:begun", path=lab.memory, way=way, timeout_s=0.3) == "ETIMEDOUT"
    lab.there_and_back()


@pytest.mark.parametrize("way", ["sync", "aio", "io_uring", "io_cancel"])
def test_cancel_ends_a_request(lab: Lab, way: str) -> None:
    lab.xdma.control.set_fault("stall*1")
    result = lab.call("memory:cancelled", path=lab.memory, way=way)
    assert result["result"] == "ECANCELED"
    assert result["seconds"] < 5
    lab.there_and_back()


@pytest.mark.parametrize("way", ["sync", "aio", "io_uring"])
@pytest.mark.parametrize("reason", ["ETIMEDOUT", "ECANCELED"])
def test_request_that_was_given_up_ends_with_its_own_reason(lab: Lab, reason: str, way: str) -> None:
    """And not with that for which its DMA, which the halt waits for, fails."""
    before = lab.last_late_dma("xdma")
    for fault in ("late_dma*1", "stall*1"):
        lab.xdma.control.set_fault(fault)
    if reason == "ETIMEDOUT":
        result = lab.call("memory:begun", path=lab.memory, way=way, timeout_s=0.3, at=CARD_MEMORY)
    else:
        result = lab.call("memory:cancelled", path=lab.memory, way=way, at=CARD_MEMORY)["result"]
    assert result == reason
    assert lab.last_late_dma("xdma") > before
    assert lab.call("memory:begun", path=lab.memory, way=way, at=CARD_MEMORY) == "EIO"
    lab.there_and_back()


@pytest.mark.parametrize("way", ["aio", "io_uring"])
def test_exit_ends_what_a_process_leaves(lab: Lab, way: str) -> None:
    process = lab.begin_stalled("memory:exits_with_requests", path=lab.memory, way=way)
    process.wait(30)
    lab.settled()
    lab.there_and_back()


def test_queued_requests_go_on_behind_the_one_that_is_stopped(lab: Lab) -> None:
    lab.xdma.control.set_fault("late_dma*1")
    blocked = lab.begin_stalled("memory:begun", path=lab.memory, way="sync", direction="write", timeout_s=0.5)
    queued = [
        lab.start("memory:begun", path=lab.memory, way=way, direction="write") for way in ("sync", "aio", "io_uring")
    ]
    assert blocked.value() in ("ETIMEDOUT", 65536)
    assert [process.value() for process in queued] == [65536] * 3


def test_all_ones_is_eio_and_a_reset_brings_the_card_back(lab: Lab) -> None:
    lab.xdma.control.set_fault("all_ones")
    assert lab.call("memory:begun", path=lab.memory, way="sync", timeout_s=1.5) == "EIO"
    lab.xdma.control.clear_faults()
    lab.call("resets:reset", card=lab.nodes["xdma"])
    lab.there_and_back()


@pytest.mark.parametrize("way", WAYS)
def test_reset_ends_what_had_begun(lab: Lab, way: str) -> None:
    blocked = lab.begin_stalled("memory:begun", path=lab.memory, way=way)
    lab.call("resets:reset", card=lab.nodes["xdma"])
    assert blocked.value() == "EIO"
    lab.there_and_back()


@pytest.mark.late_interrupts
def test_reset_starts_nothing_behind_what_it_cut_off(lab: Lab) -> None:
    """Of a call of which the engine has only a part, since the card is slow."""
    lab.xdma.control.set_fault("bandwidth=20")
    with lab.drain_bound("xdma", 300):
        lab.there_and_back(lengths=[4 << 20])
        blocked = lab.begin_stalled(
            "memory:begun", path=lab.memory, way="sync", direction="write", length=14 << 20,
        )
        lab.xdma.control.counters(reset=True)
        lab.call("resets:reset", card=lab.nodes["xdma"])
        assert blocked.value() == "EIO"
        assert lab.xdma.control.counters().get("h2c0_descriptors", 0) == 0
    lab.there_and_back()


@pytest.mark.parametrize("way", WAYS)
def test_sysfs_reset_ends_what_had_begun(lab: Lab, way: str) -> None:
    blocked = lab.begin_stalled("memory:begun", path=lab.memory, way=way)
    lab.vm.run(["sh", "-c", f"echo 1 > /sys/bus/pci/devices/{lab.addresses['xdma']}/reset"])
    assert blocked.value() == "EIO"
    lab.there_and_back()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", ["stall*1", "late_dma*1"])
def test_unbind_ends_what_is_under_way(lab: Lab, way: str, fault: str) -> None:
    if fault != "stall*1":
        lab.xdma.control.set_fault(fault)
    blocked = lab.begin_stalled("memory:begun", path=lab.memory, way=way)
    lab.call("processes:unbind", driver="pciedma_xdma", address=lab.addresses["xdma"])
    assert blocked.value() in ("ENODEV", 65536)
    lab.call("processes:bind", driver="pciedma_xdma", address=lab.addresses["xdma"])
    lab.find()
    lab.there_and_back()


#: Variants of the design: what INFO must say of the channels, as (kind, C2H, H2C).
DESIGNS = {
    "4ch": [("MEMORY", True, True)] * 4,
    "h2c-only": [("MEMORY", False, True)],
    "c2h-only": [("MEMORY", True, False)],
    "uneven": [("MEMORY", True, True), ("MEMORY", False, True)],
    "stream": [("STREAM", True, True)],
    "mixed": [("MEMORY", True, True), ("STREAM", True, True)],
    "user": [("MEMORY", True, True)],
    "bypass": [("MEMORY", True, True)],
    "user-bypass": [("MEMORY", True, True)],
    "64bit": [("MEMORY", True, True)],
    "64bit-user-bypass": [("MEMORY", True, True)],
    "msix-few": [("MEMORY", True, True)] * 4,
    "msi": [("MEMORY", True, True)],
    "msi-many": [("MEMORY", True, True)] * 2,
    "msi-msix": [("MEMORY", True, True)],
    "intx": [("MEMORY", True, True)],
    "old-core": [("MEMORY", True, True)],
    "aligned": [("MEMORY", True, True)],
    "address-aligned": [("MEMORY", True, True)],
    "narrow": [("MEMORY", True, True)],
}


@pytest.mark.parametrize("group", [list(DESIGNS)[n : n + 4] for n in range(0, len(DESIGNS), 4)], ids=" ".join)
def test_each_design_is_found_and_moves_data(group: list[str]) -> None:
    cards = [EmulatedCard("xdma", variant=variant) for variant in group]
    with Machine(KERNEL, iommu=True, cards=cards, time_limit_s=300) as vm:
        vm.load_modules()
        found = vm.call("tests.vm.guest.designs:all_channels", 120)
        assert [[(c["kind"], c["c2h"], c["h2c"]) for c in card] for card in found] == [DESIGNS[v] for v in group]
        for card in found:
            for channel in card:
                assert channel["result"] == (errno.EOPNOTSUPP if channel["kind"] == "STREAM" else "right")
                assert channel.get("looks", 0) == 0


def no_old_descriptor_is_done(lab: Lab) -> None:
    """Fill the ring with what will be old, and let the core fetch beyond what it may."""
    assert lab.call("memory:uring", path=lab.memory, length=5000, rounds=140) == {"bad": []}
    lab.xdma.control.counters(reset=True)
    lab.xdma.control.set_fault("overfetch*200")
    lab.there_and_back(lengths=[100, 5000, 70_000, HUGE + 5])
    counters = lab.xdma.control.counters()
    assert lab.xdma.control.violations(clear=True) == []
    for engine in ("c2h0", "h2c0"):
        assert counters[f"{engine}_overfetches"] > 0
        assert counters.get(f"{engine}_overfetched", 0) == 0


def test_core_that_fetches_beyond_its_credits_finds_no_old_descriptor(lab: Lab) -> None:
    no_old_descriptor_is_done(lab)


def test_core_without_credits_works_a_chain_at_a_time() -> None:
    xdma = EmulatedCard("xdma", faults=["no_credits"])
    with Machine(KERNEL, iommu=True, cards=[xdma], time_limit_s=300) as vm:
        lab = make_lab(vm, xdma)
        lab.there_and_back(lengths=[1, 5000, HUGE + 5, 9 * HUGE])
        assert lab.call("memory:uring", path=lab.memory) == {"bad": []}
        lab.there_and_back(lengths=[100], wait_mode="POLL")
        xdma.control.counters(reset=True)
        lab.there_and_back(lengths=[100] * 50, skews=[4097], wait_mode="POLL")
        assert xdma.control.counters().get("mmio_reads", 0) == 0
        assert xdma.control.counters()["mmio_writes"] <= 2 * 100
        xdma.control.set_fault("stall*1")
        assert lab.call("memory:begun", path=lab.memory, way="sync", timeout_s=0.3) == "ETIMEDOUT"
        lab.there_and_back()
        no_old_descriptor_is_done(lab)


def test_foreign_cards_are_declined_unwritten_with_one_line() -> None:
    foreign = [EmulatedCard("xdma", variant=v) for v in ("foreign", "foreign-bar", "ancient-core")]
    with Machine(KERNEL, cards=foreign, time_limit_s=300) as vm:
        vm.load_modules()
        lines = [line for line in vm.kernel_log().splitlines() if "not an XDMA card" in line]
        assert len(lines) == 2
        assert "before 2016.1" in vm.kernel_log()
        for card in foreign:
            assert card.control.counters().get("mmio_writes", 0) == 0
        assert vm.run(["sh", "-c", "ls /dev/pciedma*"]).returncode != 0


def test_beyond_the_cards_memory_is_eio(lab: Lab) -> None:
    result = lab.call("transfers:one", path=lab.memory, direction="read", length=100_000, address=CARD_MEMORY - 4096)
    assert result["errno"] == errno.EIO
    lab.there_and_back()
