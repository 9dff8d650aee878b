"""Memory that can be touched and not pinned is copied, by every way in; what is not there at all is EFAULT."""

from __future__ import annotations

import pytest

from .conftest import Lab

pytestmark = pytest.mark.usefixtures("patient")

PAGE = 4096
HUGE = 2 << 20
#: Offsets and lengths: a byte, around the threshold below which all is copied, around the engine's buffers, MiB.
CASES = [
    (0, 1), (1, 100), (4095, 2), (0, 4095), (0, 4096), (1, 4096), (4095, 4097), (0, 16384), (3, 16385), (77, 65537),
    (1, HUGE + 3),
]
#: The part of them that edu's memory has room for.
SHORT = [(offset, length) for offset, length in CASES if length <= 4096]
def copied(lab: Lab) -> list[int]:
    """Return the bytes that XDMA's channel has copied, from and to the card."""
    folder = f"/sys/class/pciedma/{lab.memory.removeprefix('/dev/')}"
    return [int(line) for line in lab.vm.run(["cat", f"{folder}/c2h/copied", f"{folder}/h2c/copied"]).stdout.split()]


@pytest.mark.parametrize("kind", ["secret", "dma_heap", "udmabuf"])
def test_memory_that_is_not_pinned_moves_whole_by_every_way(lab: Lab, kind: str) -> None:
    if kind not in lab.call("unpinnable:there"):
        pytest.skip(f"this kernel has no {kind}")
    before = copied(lab)
    found = lab.call("unpinnable:whole", 300, path=lab.memory, kind=kind, cases=CASES)
    assert found["wrong"] == []
    assert copied(lab) == [count + found["bytes"] for count in before]


def test_cards_that_always_copy_move_memory_that_is_not_pinned(lab: Lab) -> None:
    path = lab.nodes["edu"] + "c0"
    for kind in lab.call("unpinnable:there"):
        assert lab.call("unpinnable:whole", path=path, kind=kind, cases=SHORT, address=0)["wrong"] == []
        assert lab.call("unpinnable:messages", path=lab.data, kind=kind, lengths=[1, 100, 2047]) == []


def test_memory_that_can_be_pinned_is_not_copied(lab: Lab) -> None:
    before = copied(lab)
    found = lab.call("unpinnable:whole", path=lab.memory, kind="anonymous", cases=[(0, 4096), (5, HUGE + 3)])
    assert found["wrong"] == []
    assert copied(lab) == before
    assert lab.call("unpinnable:fixed", kind="secret") == "refused"


MIXED = [
    [("anonymous", 8), ("secret", 8)],
    [("secret", 8), ("anonymous", 8)],
    [("anonymous", 1), ("secret", 1)] * 6,
    [("anonymous", 700), ("secret", 30), ("anonymous", 700)],
]


def test_memory_that_is_pinned_in_part_moves_whole(lab: Lab) -> None:
    for layout in MIXED:
        whole = sum(pages for _, pages in layout) * PAGE - 77 - 5
        found = lab.call("unpinnable:pieces", path=lab.memory, layout=layout, skip=77, cut=5)
        assert set(map(tuple, found.values())) == {(whole, whole, True)}, (layout, found)


GONE = [
    [("secret", 8), ("gone", 4)],
    [("anonymous", 4), ("secret", 4), ("gone", 2)],
    [("secret", 1), ("anonymous", 7), ("gone", 1)],
]


def test_what_is_there_before_memory_that_is_gone_moves(lab: Lab) -> None:
    for layout in GONE:
        found = lab.call("unpinnable:pieces", path=lab.memory, layout=layout, skip=9)
        assert set(map(tuple, found.values())) == {(8 * PAGE - 9, 8 * PAGE - 9, True)}, (layout, found)


def test_memory_that_is_gone_is_efault_before_the_card_is_asked(lab: Lab) -> None:
    lab.xdma.control.counters(reset=True)
    for layout in ([("gone", 1), ("secret", 8)], [("gone", 16), ("anonymous", 1)]):
        found = lab.call("unpinnable:pieces", path=lab.memory, layout=layout)
        assert {tuple(one[:2]) for one in found.values()} == {("EFAULT", "EFAULT")}, found
    counters = lab.xdma.control.counters()
    assert [counters.get(f"{way}0_descriptors", 0) for way in ("c2h", "h2c")] == [0, 0]


def test_file_on_disk_is_read_into_with_a_long_time_out(lab: Lab) -> None:
    """From kernel 6.5 on a shared mapping of one is not pinned for long."""
    for timeout_s in (None, 61.0):
        options = {"path": lab.memory, "timeout_s": timeout_s}
        found = lab.call("unpinnable:whole", kind="file", cases=CASES[4:], ways=["pread", "readv"], **options)
        assert found["wrong"] == []
        parts = lab.call("unpinnable:pieces", layout=[("anonymous", 40), ("file", 40)], **options)
        assert parts["pread"] == parts["readv"] == [80 * PAGE, 80 * PAGE, True]


def test_device_memory_is_copied(lab: Lab) -> None:
    lab.call("processes:unbind", driver="pciedma_edu", address=lab.addresses["edu"])
    length = 3 * PAGE - 5
    found = lab.call("unpinnable:device", path=lab.memory, address=lab.addresses["edu"], length=length)
    lab.restore()
    assert set(map(tuple, found.values())) == {(length, length)}, found
