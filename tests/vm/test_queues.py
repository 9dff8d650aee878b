"""Asynchronous requests that find no room wait in the driver, in order, and end as all others do."""

from __future__ import annotations

import time

import pytest

from .conftest import Lab

WAYS = ["aio", "io_uring"]
MIB = 1 << 20


@pytest.mark.parametrize("way", WAYS)
def test_requests_are_served_in_their_order(lab: Lab, way: str) -> None:
    assert lab.call("queues:ordered", path=lab.memory, way=way) == {"results": {"100000": 40}, "last": True}


@pytest.mark.parametrize("fixed", [False, True])
def test_io_uring_of_depth_64(lab: Lab, fixed: bool) -> None:
    assert lab.call("memory:uring", path=lab.memory, depth=64, length=300_001, fixed=fixed, rounds=2) == {"bad": []}


def test_linux_aio_of_depth_64(lab: Lab) -> None:
    assert lab.call("memory:aio", path=lab.memory, depth=64, length=300_001, rounds=2) == {"bad": []}


def test_numbers_of_segments_wrap(lab: Lab) -> None:
    """They begin 3000 before their end; seven requests of one segment each are under way when they pass it."""
    lab.call("processes:unbind", driver="pciedma_xdma", address=lab.addresses["xdma"])
    lab.call("processes:bind", driver="pciedma_xdma", address=lab.addresses["xdma"])
    lab.find()
    lab.xdma.control.counters(reset=True)
    assert lab.call("memory:uring", path=lab.memory, depth=7, length=5000, rounds=500) == {"bad": []}
    assert lab.xdma.control.counters()["c2h0_descriptors"] == 3500


@pytest.mark.parametrize("way", WAYS)
def test_one_request_longer_than_all_windows(lab: Lab, way: str) -> None:
    length = 40 * MIB + 5
    assert lab.call("queues:long", path=lab.memory, way=way, length=length) == {"results": [length] * 2, "same": True}


def test_part_of_a_big_registered_buffer_is_not_copied(lab: Lab) -> None:
    length = 20 * MIB
    lab.xdma.control.counters(reset=True)
    assert lab.call("queues:fixed_part", path=lab.memory, length=length, registered=64 * MIB) == length
    assert lab.xdma.control.counters()["c2h0_descriptors"] < 100


@pytest.mark.parametrize("way", WAYS)
def test_messages_wait_for_each_other(lab: Lab, way: str) -> None:
    assert lab.call("queues:messages", path=lab.data, way=way) == {"write": 40, "read": 40}


@pytest.mark.parametrize("way", WAYS)
def test_cancel_ends_what_waits(lab: Lab, way: str) -> None:
    lab.xdma.control.set_fault("stall*1")
    found = lab.call("queues:ended", path=lab.memory, way=way, end="cancel")
    assert found["took"] < 10
    assert found["results"] == {"ECANCELED": 20}


def test_io_cancel_ends_what_waits(lab: Lab) -> None:
    lab.xdma.control.set_fault("stall*1")
    assert lab.call("queues:ended", path=lab.memory, way="aio", end="io_cancel")["results"] == {"ECANCELED": 20}


@pytest.mark.parametrize("way", WAYS)
def test_time_out_ends_what_waits(lab: Lab, way: str) -> None:
    lab.xdma.control.set_fault("stall*1")
    found = lab.call("queues:ended", path=lab.memory, way=way, end="", timeout_s=0.3)
    assert set(found["results"]) <= {"ETIMEDOUT", "EIO", "65536"}
    assert found["results"]["ETIMEDOUT"] >= 12


@pytest.mark.parametrize("way", WAYS)
def test_exit_ends_what_waits(lab: Lab, way: str) -> None:
    process = lab.begin_stalled("queues:ended", path=lab.memory, way=way, end="exit", timeout_s=None)
    assert process.wait(30) == 7
    lab.wait_stalled(False)
    lab.settled()


@pytest.mark.parametrize("way", WAYS)
def test_unbind_ends_what_waits(lab: Lab, way: str) -> None:
    blocked = lab.begin_stalled("queues:ended", path=lab.memory, way=way, end="")
    lab.call("processes:unbind", driver="pciedma_xdma", address=lab.addresses["xdma"])
    assert set(blocked.value()["results"]) <= {"ENODEV", "EIO"}
    lab.call("processes:bind", driver="pciedma_xdma", address=lab.addresses["xdma"])
    lab.find()


@pytest.mark.parametrize(
    ("end", "timeout_s", "result"),
    [("cancel", 20, "ECANCELED"), ("io_cancel", 20, "ECANCELED"), ("", 0.5, "ETIMEDOUT")],
)
def test_pages_that_never_come_do_not_stop_others(lab: Lab, end: str, timeout_s: float, result: str) -> None:
    before = lab.sysfs("xdma", "c0/c2h/timeouts")
    assert lab.call("queues:stuck", path=lab.memory, end=end, timeout_s=timeout_s) == result
    assert lab.sysfs("xdma", "c0/c2h/timeouts") == before + (result == "ETIMEDOUT")
    lab.settled()
    assert lab.call("memory:aio", path=lab.memory, depth=16, rounds=1) == {"bad": []}


def test_exit_ends_the_wait_for_pages_that_never_come(lab: Lab) -> None:
    assert lab.start("queues:stuck", path=lab.memory, end="exit").wait(60) == 7
    lab.settled()


def test_unbind_ends_the_wait_for_pages_that_never_come(lab: Lab) -> None:
    stuck = lab.start("queues:stuck", path=lab.memory, end="")
    lab.wait_until(f"ls -l /proc/{stuck.pid}/fd | grep -q {lab.memory}")
    time.sleep(2 * lab.vm.patience)
    lab.call("processes:unbind", driver="pciedma_xdma", address=lab.addresses["xdma"])
    assert stuck.value() == "ENODEV"
    lab.call("processes:bind", driver="pciedma_xdma", address=lab.addresses["xdma"])
    lab.find()


@pytest.mark.parametrize("way", WAYS)
def test_broken_card_says_so_to_files_that_do_not_block(lab: Lab, way: str) -> None:
    lab.capric.control.set_fault("all_ones_config")
    lab.capric.control.set_fault("all_ones")
    assert lab.call("transfers:one", path=lab.data, direction="write", timeout_s=0.5)["errno"] in (19, 110)
    lab.vm.wait_log("pciedma0: the card does not answer")
    assert lab.call("queues:nonblocking", path=lab.data, way=way, depth=3, length=100) == {"ENODEV": 3}
    lab.capric.control.clear_faults()
    lab.call("resets:reset", card=lab.nodes["capric"])


@pytest.mark.parametrize(("way", "waits"), [("aio", "EAGAIN"), ("io_uring", "65536")])
def test_file_that_does_not_block_takes_what_there_is_room_for(lab: Lab, way: str, waits: str) -> None:
    """io_uring does not pass EAGAIN on: it polls until the engine has nothing else to do, and comes again."""
    lab.xdma.control.set_fault("stall*1")
    found = lab.call("queues:nonblocking", path=lab.memory, way=way)
    assert found[waits] >= 12
    assert sum(found.values()) == 20


@pytest.mark.parametrize("way", WAYS)
def test_reset_of_the_card_lets_what_waits_go_on(lab: Lab, way: str) -> None:
    blocked = lab.begin_stalled("queues:ended", path=lab.memory, way=way, end="")
    lab.call("resets:reset", card=lab.nodes["xdma"])
    results = blocked.value()["results"]
    assert set(results) <= {"65536", "EIO"}
    assert results["65536"] >= 12
