"""Direct I/O: any length, any memory, any alignment, by every way in; nothing beside the buffer is touched."""

from __future__ import annotations

import time

import pytest

from .conftest import Lab

HUGE = 2 << 20
#: User memory that an engine holds at most: 8 transfers of 2 MiB.
POOL_PAGES = 8 * HUGE // 4096
#: The kernel counts pins for each processor, and adds them up now and then.
COUNTER_DRIFT = 2 * 125
KINDS = ["anonymous", "transparent_huge", "huge_tlb", "memfd", "file_shared"]


@pytest.mark.parametrize("kind", KINDS)
def test_memory_of_each_kind_moves_whole_and_alone(lab: Lab, kind: str) -> None:
    if kind == "huge_tlb" and lab.call("buffers:reserve_huge_pages", count=8) < 8:
        pytest.fail("the guest has no room for huge pages")
    lengths = [1, 4095, 4096, 4097, 65537, HUGE - 1, HUGE + 4097]
    lab.there_and_back(kind=kind, lengths=lengths, skews=[4096, 4097, 8191])
    lab.call("buffers:reserve_huge_pages", count=0)


@pytest.mark.parametrize("wait_mode", ["INTERRUPT", "POLL", "ADAPTIVE"])
def test_lengths_around_every_limit_move(lab: Lab, wait_mode: str) -> None:
    lengths = [1, 2, 63, 64, 4095, 4096, 4097, 16383, 16384, 16385, HUGE, HUGE + 1, 3 * HUGE + 7, 9 * HUGE]
    lab.there_and_back(lengths=lengths, skews=[4096 + 77], wait_mode=wait_mode)


@pytest.mark.parametrize("threshold", [0, 1 << 30])
def test_copied_or_direct_the_data_is_the_same(lab: Lab, threshold: int) -> None:
    folder = f"/sys/class/pciedma/{lab.memory.removeprefix('/dev/')}"
    files = f"{folder}/c2h/copy_threshold {folder}/h2c/copy_threshold"
    lab.vm.run(["sh", "-c", f"for f in {files}; do echo {threshold} > $f; done"])
    lab.there_and_back(lengths=[1, 333, 4096, 50_000, HUGE + 5])
    lab.vm.run(["sh", "-c", f"for f in {files}; do echo 4096 > $f; done"])


@pytest.mark.parametrize("longest", [64, 3000, 20_000])
def test_vector_of_1024_odd_pieces_moves(lab: Lab, longest: int) -> None:
    assert lab.call("memory:vectors", path=lab.memory, longest=longest) == [True] * 4


def test_memory_that_is_not_there_is_efault_and_what_is_moves(lab: Lab) -> None:
    page = 4096
    assert lab.call("memory:bad_memory", path=lab.memory) == {
        "null": "EFAULT", "kernel": "EFAULT", "wraps": "EFAULT",
        "half_gone_write": 8 * page, "half_gone_read": 8 * page,
        "half_read_only_write": 16 * page, "half_read_only_read": 8 * page,
        "straddling": 16 * page - 10,
        "read_only_file_write": 16 * page, "read_only_file_read": "EFAULT",
        "position_overflow": "EINVAL", "negative": "EINVAL",
    }


def test_wait_without_bound_counts_against_the_limit_of_locked_memory(lab: Lab) -> None:
    assert lab.call("memory:beyond_the_limit", path=lab.memory) == [0]


@pytest.mark.parametrize("how", ["munmap", "fork"])
def test_buffer_that_changes_hands_during_the_transfer(lab: Lab, how: str) -> None:
    lab.xdma.control.set_fault("delay=4000000*1")
    found = lab.call("memory:changed_while_under_way", path=lab.memory, how=how)
    assert found == {"result": 4 << 20, "same": True, "before_the_end": True}


def test_16_threads_on_one_file_do_not_mix(lab: Lab) -> None:
    assert lab.call("memory:many_threads", path=lab.memory) == {"wrong": [], "failed": 0}


def test_errors_under_load_fail_only_whom_they_hit(lab: Lab) -> None:
    """Other requests are handed in between an error and its recovery."""
    lab.xdma.control.counters(reset=True)
    load = lab.start("memory:many_threads", path=lab.memory, rounds=40, tolerated=["EIO"])
    lab.wait_for("h2c0_descriptors", "c2h0_descriptors", card="xdma")
    for number in range(60):
        lab.xdma.control.set_fault(("read_error", "descriptor_error")[number % 2] + "*1")
        time.sleep(0.05)
    found = load.value(300)
    assert found["wrong"] == []
    assert found["failed"] > 5


def test_nonblocking_moves_on_an_idle_card_and_is_eagain_on_a_busy_one(lab: Lab) -> None:
    assert lab.call("memory:nonblocking", path=lab.memory) == {"nowait": 5000, "nonblocking": 5000}
    blocked = lab.begin_stalled("memory:begun", path=lab.memory, way="sync", timeout_s=2.0)
    assert lab.call("memory:nonblocking", path=lab.memory) == {"nowait": "EAGAIN", "nonblocking": "EAGAIN"}
    assert blocked.value() == "ETIMEDOUT"


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("length", [777, 65536, HUGE + 4097])
def test_io_uring_of_depth_8(lab: Lab, length: int, fixed: bool) -> None:
    assert lab.call("memory:uring", path=lab.memory, length=length, fixed=fixed, rounds=3) == {"bad": []}


@pytest.mark.parametrize("length", [777, 100_000, HUGE + 4097])
def test_linux_aio_of_depth_8(lab: Lab, length: int) -> None:
    assert lab.call("memory:aio", path=lab.memory, length=length, rounds=3) == {"bad": []}


def _idle_share(lab: Lab, length: int) -> tuple[float, int]:
    """Return which part of a long read the engine idles at half the rate of pinning and mapping, and what it pins."""
    lab.xdma.control.clear_faults()
    fastest = lab.call("memory:big_read", path=lab.memory, length=length)
    lab.xdma.control.set_fault(f"bandwidth={length / fastest['seconds'] / 2e6:.0f}")
    lab.xdma.control.counters(reset=True)
    lab.call("memory:one_big", path=lab.memory, length=length)
    counters = lab.xdma.control.counters()
    return 1 - counters["c2h0_busy_ns"] / (counters["c2h0_last_ns"] - counters["c2h0_first_ns"]), fastest["pages"]


def test_engine_does_not_wait_for_pages_and_few_are_pinned(lab: Lab) -> None:
    """The next transfers are pinned and mapped while the engine works: at half the rate at which that can be done.

    A busy host can hold the guest up for long enough to be seen once; not again and again.
    """
    lab.vm.run(["sh", "-c", "echo 3 > /proc/sys/vm/drop_caches"])
    shares: list[float] = []
    while not shares or (shares[-1] >= 0.03 and len(shares) < 4):
        share, pages = _idle_share(lab, 256 << 20)
        shares.append(share)
        assert pages <= POOL_PAGES + COUNTER_DRIFT
    assert shares[-1] < 0.03, shares


def test_pages_pinned_are_all_unpinned(lab: Lab) -> None:
    lab.there_and_back()
    acquired, released = lab.call("memory:pinned")
    assert acquired == released > 0
