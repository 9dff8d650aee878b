"""Deep queues of short requests: no thread of the driver works on them, all are right, and all end.

They end in their order, as the data shows; which of two processors tells of an end first is another matter.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from .conftest import Lab

WAYS = ["aio", "io_uring"]
MOST = 256
#: What core's own looks, once in each drain bound and engine, come to in some seconds.
FEW_LOOKS = 20
#: In which a hung engine is halted, after its drain bound of a second, and all have ended.
SOON_S = 10.0


def served(lab: Lab, card: str, way: str, cases: Iterable[tuple[int, int, int]]) -> None:
    """Insist that requests of these depths, rounds and places were right, and nobody worked on them."""
    wrong = []
    for depth, rounds, step in cases:
        options = {"way": way, "depth": depth, "rounds": rounds, "step": step}
        found = lab.call("depth:kept_up", 300, path=f"{lab.nodes[card]}c0", **options)
        print(f"{card} {way} depth {depth}, {step} bytes apart: {found}")
        looks = sum(found["works"].values())
        told = found["results"], found["right"], found["threads"], looks <= FEW_LOOKS
        if told != ({"4096": 2 * depth * rounds}, True, {}, True):
            wrong.append((depth, step, found))
    assert wrong == []


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("way", WAYS)
def test_queue_of_any_depth_is_served_in_order_without_a_thread(lab: Lab, way: str) -> None:
    """Blocks side by side, and one over the other, where the last stays."""
    depths = [(depth, max(2, 300 // depth)) for depth in (1, 8, 9, 32, MOST)]
    served(lab, "xdma", way, [(depth, rounds, step) for depth, rounds in depths for step in (4096, 0)])


@pytest.mark.parametrize("way", WAYS)
def test_queue_of_a_card_that_copies_is_served_in_order_without_a_thread(lab: Lab, way: str) -> None:
    """QEMU's edu device has ten DMAs a second, and room for one block."""
    served(lab, "edu", way, [(1, 1, 0), (3, 1, 0), (16, 1, 0)])


def begun(lab: Lab, card: str) -> str:
    """Have XDMA's engine stop dead at what it is given; edu's takes its time. Returns the node."""
    if card == "xdma":
        lab.xdma.control.set_fault("stall*1")
    return f"{lab.nodes[card]}c0"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("card", ["xdma", "edu"])
def test_cancel_ends_a_deep_queue(lab: Lab, card: str, way: str) -> None:
    found = lab.call("depth:cancelled", path=begun(lab, card), way=way, depth=MOST)
    print(f"{card} {way}: {found}")
    assert found["results"].pop("4096", 0) <= (3 if card == "edu" else 0)  # edu's DMAs end by themselves
    assert set(found["results"]) == {"ECANCELED"}
    assert found["seconds"] < SOON_S * lab.vm.patience


@pytest.mark.parametrize(("way", "closes"), [("aio", False), ("aio", True), ("io_uring", False)])
@pytest.mark.parametrize("card", ["xdma", "edu"])
def test_exit_ends_a_deep_queue(lab: Lab, card: str, way: str, closes: bool) -> None:
    """Of AIO also if its file was closed before: the kernel cancels what a process leaves."""
    found = lab.call("depth:exited", path=begun(lab, card), way=way, depth=MOST, closes=closes)
    print(f"{card} {way} {closes}: {found}")
    assert max(found.values()) < SOON_S * lab.vm.patience
