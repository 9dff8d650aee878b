"""A file with thousands of asynchronous requests in the queue: each ends at the same cost, and others do not notice."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

from pciedma_lab import modules
from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine

from .conftest import KERNEL, Lab, make_lab

WAYS = ["aio", "io_uring"]
#: What ends too soon to stay in the queue takes this long (microseconds).
SLOW = "delay=200000"
#: Requests that are not in the queue: an engine has all its transfers at work, and one more is taken up.
AT_WORK = 257
#: What the cost of many is compared with at a process's exit: the dearest of these. io_uring hands what ends then to
#: the process in batches, or on 6.1 to a worker one by one; when the one takes turns with the other is the scheduler's
#: affair (seen there: 76 to 100 % one by one, 1430 to 1670 instructions for each, whatever their number).
AT_EXIT = [4000, 8000]


#: What part of all memory the kernel keeps at hand, at most, of pages that are given back. Else it merges those of very
#: many requests with their neighbours, at some 400 instructions a page, and those of few not.
_PAGES_KEPT = "/proc/sys/vm/percpu_pagelist_high_fraction"
#: How many empty slabs of a cache the kernel keeps: all, so that what requests were kept in is not given back at all.
#: Those of the most requests are there from the first measurement on.
_SLABS_KEPT = "/sys/kernel/slab/*/min_partial"


@pytest.fixture(scope="module")
def counted() -> Iterator[Lab]:
    """A machine of one processor whose clock counts instructions, with slow cards."""
    modules.build(KERNEL)
    cards = [EmulatedCard("capric", faults=[SLOW]), EmulatedCard("xdma")]
    with Machine(KERNEL, icount=True, cpus=1, cards=cards, edu=1, time_limit_s=1500) as vm:
        assert vm.run(["sh", "-c", f"echo 8 > {_PAGES_KEPT}"]).returncode == 0
        assert vm.run(["sh", "-c", f"for kept in {_SLABS_KEPT}; do echo 100000 > $kept || exit; done"]).returncode == 0
        yield make_lab(vm, *cards)


#: What the fixed part of a cost is seen by: that of those at work included.
HARDLY_ANY = 300


class Costs:
    """What it costs to end so many queued requests of a kind: the least of all samples, as other work only adds."""

    def __init__(self, lab: Lab, card: str, **how: object) -> None:
        """Measure nothing yet."""
        self._stalls = lab.xdma.control if card == "xdma" else None
        self._call = functools.partial(lab.call, "floods:instructions", 900, path=f"{lab.nodes[card]}c0", **how)
        self._least: dict[int, int] = {}

    def warm_up(self, count: int) -> None:
        """Have the kernel keep memory for so many from now on."""
        self._once(count)

    def sample(self, count: int, times: int) -> None:
        """Measure some times more."""
        found = [self._once(count) for _ in range(times)]
        self._least[count] = min([*found, *([self._least[count]] if count in self._least else [])])

    def _once(self, count: int) -> int:
        """Measure. XDMA's engine stops dead at what it has begun, so that nothing ends by itself."""
        if self._stalls:
            self._stalls.set_fault("stall*1")
        executed: int = self._call(count=count)
        return executed

    def each(self, count: int) -> float:
        """Return the instructions for one of *count* requests, beyond those that any number costs."""
        cost = (self._least[count] - self._least[HARDLY_ANY]) / (count - HARDLY_ANY)
        print(f"{count} requests: {cost:.0f} instructions each")
        return cost


@pytest.mark.stock_kernel
@pytest.mark.parametrize(
    ("card", "way", "direction", "length", "end", "fews", "many"),
    [
        ("edu", "aio", "read", 4096, "destroy", [4000], 65536), ("xdma", "aio", "write", 4096, "cancel", [4000], 16000),
        ("capric", "aio", "write", 100, "exit", AT_EXIT, 32000),
        ("edu", "io_uring", "write", 4096, "exit", AT_EXIT, 32000),
    ],
)
def test_ending_a_queued_request_costs_the_same_however_many_there_are(
    counted: Lab, card: str, way: str, direction: str, length: int, end: str, fews: list[int],
    many: int,
) -> None:
    costs = Costs(counted, card, way=way, direction=direction, length=length, end=end)
    costs.warm_up(many)
    for _ in range(3):
        for count in (HARDLY_ANY, *fews):
            costs.sample(count, 5)
        costs.sample(many, 1)
        few, all_ = max(costs.each(count) for count in fews), costs.each(many)
        assert all_ > 500, "nothing was measured"
        # what a process's end costs beside varies, and can only be too much
        if all_ < 1.05 * few and (end == "exit" or all_ > 0.95 * few):
            return
    pytest.fail("the costs differ")


@pytest.mark.parametrize(
    ("card", "way", "direction", "length"),
    [
        ("xdma", "aio", "read", 4096), ("xdma", "io_uring", "write", 70000), ("capric", "io_uring", "write", 100),
        ("capric", "aio", "write", 2047),
    ],
)
def test_single_request_of_another_file_is_soon_served(
    lab: Lab, card: str, way: str, direction: str, length: int,
) -> None:
    lab.cards[card].control.set_fault("delay=5000")
    path = f"{lab.nodes[card]}c0"
    found = lab.call("floods:turns", 300, path=path, way=way, direction=direction, count=400, length=length)
    assert found["results"] == {str(length): 401}
    if (card, way, KERNEL) != ("xdma", "io_uring", "bookworm"):  # 6.1's tells of several that end together in any order
        assert found["in_order"]
    assert found["overtaken_by"] <= AT_WORK + 2  # what ends before it is looked
    if card == "capric":
        lab.cards[card].control.clear_faults()
        assert lab.call("floods:results", path=path, way=way, direction="read", count=401, length=2047, end="")


@pytest.mark.parametrize(("card", "way", "direction"), [("xdma", "aio", "read"), ("edu", "io_uring", "write")])
def test_exit_of_one_process_spares_the_requests_of_another(lab: Lab, card: str, way: str, direction: str) -> None:
    lab.xdma.control.set_fault("delay=20000")
    how = {"way": way, "direction": direction, "count": 2000, "length": 1000}
    found = lab.call("floods:exit_of_one", 300, path=f"{lab.nodes[card]}c0", **how)
    assert found["results"] == {"1000": 6}
    assert found["dmas"] < 2 * AT_WORK  # XDMA has begun all that are at work, and some end before the exit


@pytest.mark.parametrize(("card", "way", "direction"), [("xdma", "aio", "write"), ("edu", "io_uring", "read")])
def test_cancel_says_so_to_all(lab: Lab, card: str, way: str, direction: str) -> None:
    lab.xdma.control.set_fault("stall*1")
    how = {"way": way, "direction": direction, "count": 5000, "length": 4096}
    found = lab.call("floods:results", 300, path=f"{lab.nodes[card]}c0", end="cancel", **how)
    assert sum(found["results"].values()) == 5000
    assert found["results"]["ECANCELED"] >= 5000 - (100 if card == "edu" else 0)
    assert set(found["results"]) <= {"ECANCELED", "4096"}
    assert found["timeouts"] == 0


@pytest.mark.parametrize(
    ("card", "way", "direction"),
    [("xdma", "aio", "read"), ("xdma", "io_uring", "write"), ("capric", "aio", "read"), ("edu", "aio", "read")],
)
def test_time_out_is_told_and_counted(lab: Lab, card: str, way: str, direction: str) -> None:
    """Of slow cards, so that most have their time-out in the queue."""
    if card != "edu":
        lab.cards[card].control.set_fault({"xdma": "stall*1", "capric": "delay=100000"}[card])
    how = {"way": way, "direction": direction, "count": 5000, "length": 2000, "timeout_s": 1.0 * lab.vm.patience}
    found = lab.call("floods:results", 300, path=f"{lab.nodes[card]}c0", end="", **how)
    assert sum(found["results"].values()) == 5000
    assert set(found["results"]) <= {"ETIMEDOUT", "EIO", "2000"}
    assert found["results"]["ETIMEDOUT"] >= 4000
    assert found["timeouts"] == found["results"]["ETIMEDOUT"]


@pytest.mark.parametrize(("way", "direction"), [("aio", "write"), ("io_uring", "read")])
def test_unbind_says_so_to_all(lab: Lab, way: str, direction: str) -> None:
    flood = lab.begin_stalled(
        "floods:results", path=lab.memory, way=way, direction=direction, count=5000, length=4096, end="",
    )
    lab.call("processes:unbind", driver="pciedma_xdma", address=lab.addresses["xdma"])
    found = flood.value()["results"]
    assert sum(found.values()) == 5000
    assert set(found) <= {"ENODEV", "EIO"}
    assert found["ENODEV"] >= 5000 - AT_WORK
    lab.call("processes:bind", driver="pciedma_xdma", address=lab.addresses["xdma"])
    lab.find()


@pytest.mark.parametrize("way", WAYS)
def test_dead_card_says_so_to_all(lab: Lab, way: str) -> None:
    flood = lab.begin_stalled(
        "floods:results", path=lab.memory, way=way, direction="read", count=5000, length=4096, end="", timeout_s=2.0,
    )
    lab.xdma.control.set_fault("all_ones_config")
    lab.xdma.control.set_fault("all_ones")
    found = flood.value()["results"]
    assert sum(found.values()) == 5000
    assert set(found) <= {"ENODEV", "ETIMEDOUT"}
    lab.xdma.control.clear_faults()
    lab.call("resets:reset", card=lab.nodes["xdma"])


def test_reset_lets_all_go_on(lab: Lab) -> None:
    flood = lab.begin_stalled(
        "floods:results", path=lab.memory, way="aio", direction="read", count=2000, length=4096, end="",
    )
    lab.call("resets:reset", card=lab.nodes["xdma"])
    found = flood.value()["results"]
    assert found["4096"] >= 2000 - AT_WORK
    assert set(found) <= {"4096", "EIO"}


def require_charges(lab: Lab) -> None:
    """Skip on the debug kernel, if that charges no memory to groups; others have to."""
    charges = lab.call("floods:charges")
    if KERNEL == "debug" and not charges:
        pytest.skip("this kernel charges no memory to groups")
    assert charges


@pytest.mark.parametrize(
    ("direction", "count", "pieces", "least"), [("read", 5000, 0, 256), ("write", 1000, 512, 8192)],
)
def test_memory_is_charged_to_who_floods(lab: Lab, direction: str, count: int, pieces: int, least: int) -> None:
    """Copied vectors included."""
    require_charges(lab)
    lab.xdma.control.set_fault("stall*1")
    found = lab.call(
        "floods:in_cgroup", 300, path=lab.memory, direction=direction, count=count, length=4096, pieces=pieces,
        room=None,
    )
    assert found["inside"]["results"] == {"ECANCELED": count}
    assert found["inside"]["used"] >= (count - 20 - AT_WORK) * least
    assert found["outside"] == {"ECANCELED": 50}


def test_limit_of_memory_hits_who_floods(lab: Lab) -> None:
    """The kernel kills him, as anybody who needs more memory than his cgroup has; his requests end, others' do not."""
    require_charges(lab)
    xdma = EmulatedCard("xdma")
    with Machine(KERNEL, cards=[xdma], time_limit_s=600) as vm:
        vm.expect_log("Call Trace:")
        lab = make_lab(vm, xdma)
        xdma.control.set_fault("stall*1")
        found = lab.call(
            "floods:in_cgroup", 300, path=lab.memory, direction="read", count=60000, length=4096, pieces=0,
            room=4 << 20,
        )
        assert (found["inside"], found["killed"]) == ({}, 1)
        assert sum(found["outside"].values()) == 50
        assert set(found["outside"]) <= {"ECANCELED", "4096"}
        lab.there_and_back()
