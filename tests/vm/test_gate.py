"""Memory whose pages do not come hurts only its owner: nobody else waits, neither for data nor for the card."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from pciedma_lab import modules
from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine

from .conftest import KERNEL, Lab, make_lab
from .test_power import COPY_PROJECT, RESUMED, through_a_suspend

pytestmark = pytest.mark.usefixtures("patient")

CARDS = ["capric", "edu", "xdma"]
#: Memory that any user may have; from all of it others are safe, from some even a kill is: the kernel's affair.
KINDS = ["userfaultfd", "fuse"]
ALL_KINDS = [*KINDS, "fuse_unkillable"]
#: A short and a long request of each card; long ones of XDMA are not copied.
LENGTHS = {"capric": (100, 2047), "edu": (100, 4096), "xdma": (100, 65536)}
#: Requests that others make, and how many asynchronous ones at once.
OTHERS = {"capric": (2047, 16), "edu": (4096, 4), "xdma": (4096, 16)}
DIRECTIONS = ["read", "write"]
WAYS_IN = 3
TIMEOUT_S = 1.0
#: What is not delayed takes less, from submitting a request to unbinding a card.
SOON_S = 3.0
#: The kernel's own test of a suspend keeps the devices asleep for so long.
ASLEEP_S = 1


@pytest.fixture(scope="module")
def machine() -> Iterator[Lab]:
    """A guest of its own: it is suspended, with a copy of the project; and XDMA can be unplugged, having MSI."""
    modules.build(KERNEL)
    cards = [EmulatedCard("capric", seed=1), EmulatedCard("xdma", variant="user-msi", seed=1)]
    with Machine(KERNEL, iommu=True, cards=cards, edu=1) as vm:
        lab = make_lab(vm, *cards)
        assert vm.run(["sh", "-ec", COPY_PROJECT]).returncode == 0
        yield lab


def places(lab: Lab, cards: Sequence[str] = CARDS) -> list[tuple[str, str, tuple[int, int]]]:
    """Return what requests are made of: a node, a direction, and lengths."""
    return [(f"{lab.nodes[card]}c0", direction, LENGTHS[card]) for card in cards for direction in DIRECTIONS]


def told(outcomes: list[dict[str, Any]]) -> None:
    """Print what became of each request."""
    for one in outcomes:
        print(", ".join(f"{name}: {value}" for name, value in one.items()))


@pytest.mark.parametrize("kind", KINDS)
def test_time_out_ends_what_waits_for_pages_and_nothing_happens_when_they_come(lab: Lab, kind: str) -> None:
    """Neither to memory that the caller has back nor to the card; and io_uring's submitter has not waited."""
    soon = SOON_S * lab.vm.patience
    timeout_s = TIMEOUT_S * lab.vm.patience
    found = lab.call("gate:times_over", 300, kind=kind, places=places(lab), timeout_s=timeout_s, late_s=soon)
    told(found)
    assert len(found) == WAYS_IN * 2 * 2 * len(CARDS)
    wrong = [
        one for one in found
        if one["result"] != "ETIMEDOUT" or one["seconds"] > timeout_s + soon or one["counted"] != {"timeouts": 2}
        or not one["kept"] or ("io_uring" in one["request"] and one["submitting"] > 0.9 * timeout_s)
    ]
    assert wrong == []


@pytest.mark.parametrize(("how", "result"), [("kill", "killed"), ("signal", "EINTR"), ("cancel", "ECANCELED")])
@pytest.mark.parametrize("kind", KINDS)
def test_wait_for_pages_is_ended_at_once(lab: Lab, kind: str, how: str, result: str) -> None:
    ways = ["sync"] if how == "signal" else ["sync", "aio", "io_uring"]
    options = {"kind": kind, "how": how, "ways": ways, "late_s": SOON_S * lab.vm.patience}
    found = lab.call("gate:ended", 300, places=places(lab), **options)
    told(found)
    assert [one for one in found if one["result"] != result] == []


@pytest.mark.parametrize("kind", KINDS)
def test_call_whose_memory_is_there_in_part_ends_with_what_was_moved(lab: Lab, kind: str) -> None:
    length, present = 6 << 20, 4 << 20
    options = {"timeout_s": TIMEOUT_S * lab.vm.patience, "late_s": SOON_S * lab.vm.patience}
    found = lab.call("gate:there_in_part", kind=kind, path=lab.memory, length=length, present=present, **options)
    told(found)
    for one in found:
        moved = one["result"]
        assert 0 < moved <= present if isinstance(moved, int) else moved == ("EINTR" if one["signal"] else "ETIMEDOUT")


@pytest.mark.parametrize("kind", KINDS)
def test_request_goes_on_when_its_pages_come(lab: Lab, kind: str) -> None:
    found = lab.call("gate:brought", 300, kind=kind, places=places(lab), within_s=SOON_S * lab.vm.patience)
    told(found)
    assert len(found) == WAYS_IN * 2 * 2 * len(CARDS)
    kinds = {f"{node.removeprefix('/dev/')}c0": card for card, node in lab.nodes.items()}
    for one in found:
        name, direction, _, length, _ = one["request"].split()
        card = kinds[name]
        assert one["result"] == int(length), one
        assert (one["counted"]["bytes"], set(one["counted"])) == (sum(LENGTHS[card]), {"bytes", "transfers"}), one
        if card != "capric":
            assert one["data"] == [0x77 if direction == "read" else 0x3C], one


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_others_move_data_at_full_rate(lab: Lab, direction: str, card: str) -> None:
    """On the same channel, in the same direction as eight that wait for pages. A busy host is given other attempts."""
    length, count = OTHERS[card]
    options = {"direction": direction, "lengths": LENGTHS[card], "kinds": ALL_KINDS, "length": length, "count": count}
    for _ in range(3):
        late_s = SOON_S * lab.vm.patience
        found = lab.call("gate:beside", 300, path=f"{lab.nodes[card]}c0", late_s=late_s, **options)
        share = found["beside"] / found["alone"]
        alone, beside = (found[f"asynchronous {when}"] for when in ("alone", "beside"))
        print(f"{card} {direction}: {found['beside']} of {found['alone']} in a second: {share:.0%}; "
              f"{count} asynchronous ones took {alone} s, then {beside} s; counted {found['counted']}")
        told(found["results"])
        slow = isinstance(beside, str) or beside > 2 * alone + 0.5 * lab.vm.patience
        assert [one for one in found["results"] if one["result"] != int(one["request"].split()[3])] == []
        assert set(found["counted"]) == {"bytes", "transfers"}
        if share >= 0.5 and not slow:
            break
    assert (share >= 0.5, slow) == (True, False)


def ended_with_the_card(outcomes: list[dict[str, Any]]) -> None:
    """Insist that requests whose pages came when the card had gone say so."""
    told(outcomes)
    assert {one["result"] for one in outcomes} == {"ENODEV"}


@pytest.mark.parametrize("card", CARDS)
def test_exit_resets_and_unbind_do_not_wait(lab: Lab, card: str) -> None:
    """With eight that wait for pages, in both directions, with memory of all kinds; resets do not end them."""
    soon = SOON_S * lab.vm.patience
    options = {"lengths": LENGTHS[card], "kinds": ALL_KINDS, "within_s": 2 * soon}
    names = {"card": lab.nodes[card], "driver": f"pciedma_{card}", "address": lab.addresses[card]}
    found = lab.call("gate:done_to_card", 300, **names, **options)
    print(f"{card}: {found['seconds']}")
    lab.restore()
    assert {name: seconds for name, seconds in found["seconds"].items() if seconds is None or seconds > soon} == {}
    assert "unbind" in found["seconds"]
    assert found["early"] == []
    ended_with_the_card(found["late"])


@pytest.mark.parametrize("card", ["capric", "xdma"])
def test_unplugging_does_not_wait(lab: Lab, card: str) -> None:
    soon = SOON_S * lab.vm.patience
    lab.vm.run(["rm", "-f", "/tmp/waiting"])
    options = {"lengths": LENGTHS[card], "kinds": ALL_KINDS, "within_s": 2 * soon}
    waiting = lab.start("gate:gone", card=lab.nodes[card], address=lab.addresses[card], **options)
    lab.wait_until("test -e /tmp/waiting")
    start = time.monotonic()
    lab.vm.device_del(lab.cards[card])
    seconds = time.monotonic() - start
    print(f"{card}: unplugged in {seconds:.2f} s")
    found = waiting.value()
    lab.plug_in(card)
    assert found["in time"]
    assert seconds < soon
    ended_with_the_card(found["late"])


def test_suspend_does_not_wait(lab: Lab) -> None:
    lab.vm.run(["sh", "-c", f"echo {ASLEEP_S} > /sys/module/suspend/parameters/pm_test_delay"])
    options = {"cards": [(lab.nodes[card], LENGTHS[card]) for card in CARDS], "kinds": KINDS, "resumed": RESUMED}
    found = through_a_suspend(lab, "gate:during", within_s=SOON_S * lab.vm.patience, **options)
    print(f"status {found['status']} after {found['seconds']:.2f} s")
    told(found["late"])
    assert (found["status"], found["seconds"] < ASLEEP_S + 2 * SOON_S * lab.vm.patience) == (0, True)
    assert [one for one in found["late"] if one["result"] != int(one["request"].split()[3])] == []


@pytest.mark.parametrize(
    ("card", "cases", "ways"),
    [("capric", [(3000, 2047)], ["sync", "aio", "io_uring"]), ("edu", [(1, 4096)], ["sync"]),
     ("xdma", [(4000, 200), (5, 20000)], ["sync", "aio", "io_uring"])],
)
def test_memory_that_is_there_is_no_fault(lab: Lab, card: str, cases: list[tuple[int, int]], ways: list[str]) -> None:
    """Though no page table says so yet, or not any more."""
    assert lab.call("present_memory:wrong", 300, path=f"{lab.nodes[card]}c0", cases=cases, ways=ways) == []


@pytest.mark.parametrize("card", CARDS)
def test_memory_whose_pages_change_all_the_time_is_no_fault(lab: Lab, card: str) -> None:
    for direction in DIRECTIONS:
        options = {"direction": direction, "lengths": LENGTHS[card], "often": 1 if card == "edu" else 20}
        found = lab.call("present_memory:torn_away", path=f"{lab.nodes[card]}c0", seconds=1.0, **options)
        print(f"{card} {direction}: {found['calls']} calls")
        assert (found["wrong"], found["calls"] > 5) == ([], True)
