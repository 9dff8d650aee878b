"""The Python binding's shared memory with the real driver: life times, entries, and calls for asyncio."""

from __future__ import annotations

import errno

import pytest

from pciedma_lab import modules
from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine

from .conftest import KERNEL, TIME_LIMIT_S, Lab, make_lab

MIB = 1 << 20
#: So slow that there is time to disturb it, in MB/s.
BANDWIDTH = 20


def copied(lab: Lab, card: str) -> int:
    return sum(lab.sysfs(card, f"c0/{direction}/copied") for direction in ("c2h", "h2c"))


@pytest.mark.parametrize(("card", "length"), [("xdma", 100_003), ("capric", 2000), ("edu", 400)])
def test_slices_and_arrays_of_a_buffer_are_moved_without_a_copy(lab: Lab, card: str, length: int) -> None:
    before = copied(lab, card)
    assert lab.call("shared_python:slices", path=f"{lab.nodes[card]}c0", length=length) == []
    assert copied(lab, card) == before


@pytest.mark.parametrize("way", ["transfer", "submit", "asyncio"])
@pytest.mark.parametrize("kind", ["buffer", "registration"])
@pytest.mark.parametrize(
    ("card", "length", "count"), [("xdma", 777, 5000), ("xdma", 3 * MIB + 5, 3), ("capric", 2000, 3), ("edu", 1000, 4)]
)
def test_entries_are_moved(lab: Lab, card: str, length: int, count: int, kind: str, way: str) -> None:
    options = {"path": f"{lab.nodes[card]}c0", "kind": kind, "length": length, "count": count, "way": way}
    assert lab.call("shared_python:entries", 240, **options) == []


@pytest.mark.parametrize("way", ["transfer", "submit", "asyncio"])
def test_entry_that_fails_ends_those_behind_it(lab: Lab, way: str) -> None:
    lab.xdma.control.set_fault("read_error*1")
    found = lab.call("shared_python:failing", path=lab.memory, way=way, at=0, count=300)
    assert found["raised"] == ([] if way == "submit" else ["TransferError", errno.EIO])
    first = found["errors"].index(errno.EIO)
    assert set(found["errors"][:first]) <= {0}
    assert found["errors"][-1] == errno.ECANCELED
    assert lab.call("shared_python:failing", path=lab.memory, way=way, at=0, count=300)["errors"] == [0] * 300


@pytest.mark.parametrize("way", ["transfer", "submit", "asyncio"])
def test_entry_behind_the_memory_s_end_is_enospc(lab: Lab, way: str) -> None:
    found = lab.call("shared_python:failing", path=f"{lab.nodes['edu']}c0", way=way, at=0, count=2)
    assert found["errors"] == [0, errno.ENOSPC]


def test_memory_goes_from_card_to_card(lab: Lab) -> None:
    assert lab.call("shared_python:from_card_to_card", path=lab.memory, other=f"{lab.nodes['edu']}c0") == []


@pytest.mark.parametrize("way", ["buffer", "channel"])
def test_close_with_entries_under_way_is_safe(lab: Lab, way: str) -> None:
    lab.xdma.control.set_fault(f"bandwidth={BANDWIDTH}")
    found = lab.call("shared_python:closed_under_way", path=lab.memory, way=way)
    assert found.pop("quick")
    if way == "buffer":
        assert found == {"held": [0, 0], "results": [[MIB, None]] * 2, "right": True}
    lab.settled()


def test_close_of_a_channel_whose_engine_stands_still_lets_memory_go(lab: Lab) -> None:
    lab.xdma.control.set_fault("stall*1")
    assert lab.call("shared_python:closed_under_way", path=lab.memory, way="channel") == {"quick": True}
    lab.settled()


def test_memory_that_nobody_closed_is_warned_of(lab: Lab) -> None:
    assert lab.call("shared_python:warned", path=lab.memory) == [
        "unclosed <Buffer 1 of NODE 4096 bytes>", "unclosed <Registration 2 of NODE 8192 bytes>", "[0, 0]",
    ]


def test_buffer_with_views_stays_as_it_is(lab: Lab) -> None:
    assert lab.call("shared_python:views", path=lab.memory) == [False, [1, 4096], 8, [0, 0]]


def test_limit_is_named(lab: Lab) -> None:
    assert "RLIMIT_MEMLOCK" in lab.call("shared_python:limited", path=lab.memory)["limit"]


@pytest.mark.parametrize(("count", "length"), [(1000, 5000), (6000, 16)])
def test_many_reads_at_once_are_right_and_need_no_thread(lab: Lab, count: int, length: int) -> None:
    found = lab.call("shared_python:many", 240, path=lab.memory, count=count, length=length)
    assert found == {"wrong": [], "threads": 0}


def test_messages_by_asyncio(lab: Lab) -> None:
    assert lab.call("shared_python:messages", path=lab.data, count=200) == []


def test_long_requests_by_asyncio(lab: Lab) -> None:
    assert lab.call("shared_python:long", path=lab.memory, length=8 * MIB + 3) == []


@pytest.mark.parametrize("kind", ["pool", "buffer"])
def test_task_that_is_cancelled_ends_at_once(lab: Lab, kind: str) -> None:
    """What the card has begun goes on, into a Buffer alone."""
    lab.xdma.control.set_fault("bandwidth=1")
    assert lab.call("shared_python:cancelled", path=lab.memory, kind=kind) == {
        "at once": True, "under way": True, "moved": [False, kind == "buffer"], "touched": [False, kind == "buffer"],
        "after": 10,
    }


def test_cancel_ends_all_tasks(lab: Lab) -> None:
    """What the engine has of one may come to its end."""
    lab.xdma.control.set_fault(f"bandwidth={BANDWIDTH // 4}")
    found = lab.call("shared_python:cancel_all", path=lab.memory)
    assert (found["after"], set(found["errors"][5:])) == (9, {"RequestCancelledError"})
    assert set(found["errors"]) <= {"NoneType", "RequestCancelledError"}


def test_loops_that_are_closed_leave_nothing(lab: Lab) -> None:
    lab.xdma.control.set_fault("bandwidth=1")
    assert lab.call("shared_python:loops", path=lab.memory) == [True, 100] * 3


def test_child_leaves_the_parent_s_requests_alone(lab: Lab) -> None:
    lab.xdma.control.set_fault(f"bandwidth={BANDWIDTH}")
    assert lab.call("shared_python:forked", path=lab.memory) == {
        "child": 0, "data": "first", "buffer": "first!", "held": 2, "sync": 5,
    }


@pytest.mark.parametrize("address", [0, 96, 4096, 5000])
def test_asyncio_s_calls_end_as_synchronous_ones(lab: Lab, address: int) -> None:
    assert lab.call("shared_python:told", path=f"{lab.nodes['edu']}c0", address=address) == []


def test_channel_that_is_closed_as_its_card_goes_ends_its_tasks() -> None:
    """The card has MSI: QEMU crashes when it unplugs a card of another process that has MSI-X."""
    modules.build(KERNEL)
    xdma = EmulatedCard("xdma", variant="msi")
    with Machine(KERNEL, iommu=True, cards=[xdma], time_limit_s=TIME_LIMIT_S) as vm:
        lab = make_lab(vm, xdma)
        xdma.control.set_fault(f"bandwidth={BANDWIDTH // 4}")
        process = lab.start("shared_python:gone", path=lab.memory, ready="/tmp/ready")
        lab.wait_until("test -e /tmp/ready")
        vm.device_del(xdma)
        found = process.value(60)
        assert set(found.pop("ends")) <= {"CardGoneError", "RequestCancelledError", "NoneType"}
        assert found == {"count": 13, "resized": True}
        vm.unload_modules()


def test_channels_of_one_direction_and_engines_that_want_alignment() -> None:
    modules.build(KERNEL)
    cards = [EmulatedCard("xdma", variant=variant) for variant in ("h2c-only", "c2h-only", "aligned")]
    with Machine(KERNEL, iommu=True, cards=cards, time_limit_s=TIME_LIMIT_S) as vm:
        lab = make_lab(vm, *cards)
        for variant in ("h2c-only", "c2h-only", "aligned"):
            assert lab.call("shared_python:ways", path=f"{lab.nodes[f'xdma:{variant}']}c0") == [], variant
