"""What wakes a thread and is no signal to its program shortens no call and halts no engine; nor does a slow card."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine

from .conftest import KERNEL, Lab, make_lab

MIB = 1 << 20
LENGTH = 32 * MIB


def require_freezer(lab: Lab, how: str) -> None:
    """Skip what freezes a group in a way that this kernel does not have."""
    if how in {"freeze_group", "freeze_old_group"} and how not in lab.call("disturbances:freezers"):
        pytest.skip("this kernel has no such freezer for groups")


@pytest.mark.parametrize(
    ("how", "direction", "wait_mode"),
    [("task_work", "read", "INTERRUPT"), ("task_work", "write", "POLL"), ("stop", "write", "INTERRUPT"),
     ("stop", "read", "POLL"), ("attach", "read", "ADAPTIVE"), ("seize", "write", "INTERRUPT"),
     ("freeze_group", "read", "INTERRUPT"), ("freeze_old_group", "read", "INTERRUPT"),
     ("freeze_old_group", "write", "POLL"), ("freeze_all", "read", "INTERRUPT"), ("freeze_all", "write", "POLL"),
     ("ignored", "read", "INTERRUPT")],
)
def test_disturbance_shortens_no_call_and_halts_no_engine(lab: Lab, how: str, direction: str, wait_mode: str) -> None:
    require_freezer(lab, how)
    lab.xdma.control.set_fault("bandwidth=20")
    with lab.drain_bound("xdma", 60_000):
        options = {"how": how, "direction": direction, "wait_mode": wait_mode, "length": LENGTH}
        found = lab.call("disturbances:disturbed", path=lab.memory, **options)
    assert (found["result"], found["halts"], found.get("right", True)) == (LENGTH, 0, True)


@pytest.mark.parametrize("wait_mode", ["INTERRUPT", "POLL"])
def test_frozen_process_holds_neither_the_engine_nor_the_card(lab: Lab, wait_mode: str) -> None:
    require_freezer(lab, "freeze_old_group")
    lab.xdma.control.set_fault("bandwidth=20")
    options = {"driver": "pciedma_xdma", "address": lab.addresses["xdma"], "length": 4 * LENGTH, "wait_mode": wait_mode}
    found = lab.call("disturbances:holds_nothing", path=lab.memory, **options)
    lab.xdma.control.clear_faults()
    lab.restore()
    assert 0 < int(found.pop("reader")) < 4 * LENGTH
    assert found == {"other": 65536, "unbound": True}


@pytest.mark.late_interrupts
@pytest.mark.parametrize("how", ["stop", "handled"])
def test_call_that_gives_way_ends_at_a_boundary(lab: Lab, how: str) -> None:
    """To a signal at once, to a stop after the drain bound: what has begun ends, and nothing else is begun.

    What has begun is 16 MiB at most, for two seconds; three are left for a disturber that waits for a processor.
    """
    length = 3 * LENGTH
    lab.xdma.control.set_fault("bandwidth=8")
    with lab.drain_bound("xdma", 1000):
        options = {"how": how, "length": length, "after_s": 0.1, "hold_s": 3.0, "moved": True}
        found = lab.call("disturbances:disturbed", path=lab.memory, **options)
    assert 0 < found["result"] < length // 2
    assert found["halts"] == 0
    assert found["right"]


@pytest.mark.parametrize("how", ["task_work", "stop", "attach", "freeze_group"])
def test_disturbance_during_a_message_halts_nothing(lab: Lab, how: str) -> None:
    require_freezer(lab, how)
    with lab.drain_bound("capric", 5000):
        lab.capric.control.set_fault("delay=800000*1")
        assert lab.call("disturbances:disturbed_message", path=lab.data, how=how) == {"result": 100, "halts": 0}


#: MB/s of XDMA cards that were slow from the beginning.
RATES = [1.0, 0.1]


@pytest.fixture(scope="module")
def slow() -> Iterator[Lab]:
    """A machine with these cards."""
    cards = [EmulatedCard("xdma", faults=[f"bandwidth={rate}"]) for rate in RATES]
    with Machine(KERNEL, iommu=True, cards=cards, time_limit_s=600) as vm:
        yield make_lab(vm, *cards)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("kind", ["small_pages", "transparent_huge"])
def test_slow_card_works_with_short_time_outs(slow: Lab, kind: str, number: int) -> None:
    card = f"xdma:{number}"
    options = {"kinds": [kind], "wait_modes": ["INTERRUPT", "POLL", "ADAPTIVE"], "timeout_s": 0.05}
    path, length = slow.nodes[card] + "c0", int(RATES[number] * 1.5e6)
    assert slow.call("disturbances:slow", path=path, length=length, **options) == []
    assert slow.sysfs(card, "resets") == 0


def test_engine_that_has_all_the_segments_that_it_gets_is_told_of() -> None:
    """Of small pages, which no IOMMU merges: a slow engine gets few, and of a fast one they fill the ring."""
    lengths = {0.4: 600 << 10, 4.0: 6 << 20}
    cards = [EmulatedCard("xdma", faults=[f"bandwidth={rate}"]) for rate in lengths]
    with Machine(KERNEL, cards=cards, time_limit_s=300) as vm:
        lab = make_lab(vm, *cards)
        for number, length in enumerate(lengths.values()):
            card = f"xdma:{number}"
            options = {"length": length, "wait_mode": "INTERRUPT", "spin_us": 0, "scattered": True}
            with lab.drain_bound(card, 10_000):  # a quarter of it is what makes an engine slow
                found = lab.call("waiting:reads", path=f"{lab.nodes[card]}c0", count=2, **options)
            assert (found["moved"], found["looks"]) == ([length], 0), card


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("stopped", [False, True])
def test_nobody_s_slow_transfer_gets_a_neighbour_reset(slow: Lab, stopped: bool, number: int) -> None:
    card = f"xdma:{number}"
    path, length = slow.nodes[card] + "c0", int(RATES[number] * 1e6)
    halts = [slow.sysfs(card, f"c0/{engine}/halts") for engine in ("c2h", "h2c")]
    found = slow.call("disturbances:neighbours", path=path, length=length, stopped=stopped)
    assert found.pop("hasty", length) in (length, "ETIMEDOUT")
    assert found == {"reader": length, "writer": 2 * length}
    assert slow.sysfs(card, "resets") == 0
    assert [slow.sysfs(card, f"c0/{engine}/halts") for engine in ("c2h", "h2c")] == halts


@pytest.mark.late_interrupts
@pytest.mark.parametrize("direction", ["read", "write"])
def test_card_that_becomes_slow_loses_nothing(lab: Lab, direction: str) -> None:
    """The first descriptor may take longer than the drain bound: it is halted, but comes to its end."""
    lab.there_and_back()
    resets = lab.sysfs("xdma", "resets")
    lab.xdma.control.set_fault("bandwidth=1")
    found = lab.call("disturbances:disturbed", path=lab.memory, how="ignored", direction=direction, length=3 * MIB)
    assert found["result"] == 3 * MIB
    assert lab.sysfs("xdma", "resets") == resets
