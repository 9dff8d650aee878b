"""Mistakes and mishaps with buffers and transfers: a clear errno each, nothing lost, and the card works on."""

from __future__ import annotations

import signal

import pytest

from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine

from .conftest import DELIBERATE_LEAK, KERNEL, Lab, make_lab


def test_every_wrong_argument_of_a_buffer_is_refused(lab: Lab) -> None:
    assert lab.call("buffer_faults:bad_creates", path=lab.memory) == []
    assert lab.call("buffer_faults:bad_ids", path=lab.memory) == []


def test_every_wrong_entry_is_refused_and_those_before_it_are_moved(lab: Lab) -> None:
    assert lab.call("buffer_faults:bad_transfers", path=lab.memory) == []
    assert lab.call("buffer_faults:beyond_the_end", path=f"{lab.nodes['edu']}c0", end=4096) == []


def test_wrong_messages_are_refused(lab: Lab) -> None:
    assert lab.call("buffer_faults:bad_messages", path=lab.data) == []


def test_results_are_neither_lost_nor_told_twice(lab: Lab) -> None:
    assert lab.call("buffer_faults:bad_waits", path=lab.memory) == []


def test_several_who_wait_get_a_result_each(lab: Lab) -> None:
    assert lab.call("buffer_ends:several_wait", path=lab.memory) == []


def test_who_only_waits_is_stopped_and_interrupted_at_once(lab: Lab) -> None:
    with lab.drain_bound("xdma", 30000):
        assert lab.call("buffer_ends:waiting_is_nothing", path=lab.memory) == []


def test_limit_of_locked_memory_is_kept_exactly_and_told(lab: Lab) -> None:
    lines = lab.vm.kernel_log().count("needs a limit of locked memory (ulimit -l) of 260 KiB for")
    assert lab.call("buffer_life:limits", path=lab.memory, pages=64) == []
    assert lab.vm.kernel_log().count("needs a limit of locked memory (ulimit -l) of 260 KiB for") > lines


def test_mapping_shows_the_pages_whatever_becomes_of_it(lab: Lab) -> None:
    assert lab.call("buffer_life:mappings", path=lab.memory) == []


def test_mapping_is_memory_like_any_other(lab: Lab) -> None:
    assert lab.call("buffer_life:elsewhere", path=lab.memory, other=lab.data) == []


#: What the call says, or the first of what was submitted; and the others may.
ENDS = {
    "timeout": ("ETIMEDOUT", {"ETIMEDOUT", "ECANCELED"}),
    "signal": ("EINTR", {"EINTR", "ECANCELED"}),
    "cancel": ("ECANCELED", {"ECANCELED"}),
    "reset": ("EIO", {"EIO", "ECANCELED"}),
    "unbind": ("ENODEV", {"ENODEV", "ECANCELED"}),
    "close": ("", set()),
    "exit": ("", set()),
    "kill": ("", set()),
}


@pytest.mark.parametrize(("how", "way", "mode"), [
    *((how, "sync", "INTERRUPT") for how in ("timeout", "signal", "cancel", "reset", "unbind", "kill")),
    *((how, "sync", "POLL") for how in ("timeout", "signal", "cancel", "reset", "unbind", "exit")),
    *((how, "submit", "") for how in ("timeout", "cancel", "reset", "unbind", "close", "exit", "kill")),
])
def test_end_of_what_hangs_is_its_own(lab: Lab, how: str, way: str, mode: str) -> None:
    """Those behind it in the engine are moved, but for those of its call; unless the card goes. It takes one reset."""
    resets = lab.xdma.control.counters().get("resets", 0)
    first, rest = ENDS[how]
    with lab.drain_bound("xdma", 200):
        lab.xdma.control.set_fault("stall=h2c*1")
        more = {"driver": "pciedma_xdma", "address": lab.addresses["xdma"]}
        process = lab.start("buffer_ends:ended", path=lab.memory, card=lab.nodes["xdma"], how=how, way=way, mode=mode,
                            within_s=3 * lab.vm.patience, **more)
        lab.wait_stalled()
        lab.vm.run(["touch", "/tmp/stalled"])
        found = process.value(60)
        print(found)
        if how == "unbind":
            lab.find()
    if first:
        assert (found["said"], found["first"], found["count"]) == (first if way == "sync" else 604, [first], 604)
        assert {*found["rest"]} <= rest
    assert not found["late"]
    if how == "unbind":
        assert {*found["other"]} <= rest | {"ok"}
        assert (found["memory"], found["then"], found["destroyed"]) == (True, ["ENODEV", "ENODEV", [], 1], 0)
        assert found["waiter"] == "ENODEV"
    else:
        assert (found["other said"], found["other"], found["works"]) == (40, ["ok"], True)
        assert lab.xdma.control.counters()["resets"] == resets + 1


def test_buffer_that_a_slow_card_moves_may_be_let_go_of(lab: Lab) -> None:
    lab.xdma.control.set_fault("bandwidth=8")
    assert lab.call("buffer_life:busy", path=lab.memory, size=1 << 20) == []


@pytest.mark.late_interrupts
def test_call_that_gets_on_has_no_time_out(lab: Lab) -> None:
    lab.xdma.control.set_fault("bandwidth=8")
    assert lab.call("buffer_ends:progress", path=lab.memory, length=1 << 20, count=8, timeout_s=0.5) == []


def test_entry_behind_a_barrier_sees_what_those_before_have_done(lab: Lab) -> None:
    assert lab.call("buffer_ends:barriers", path=lab.memory, length=12345, rounds=60) == []


def test_cancel_meets_entries_that_are_used_again(lab: Lab) -> None:
    assert lab.call("buffer_ends:cancels", path=lab.memory, seconds=2) == []


def test_card_of_a_stopped_caller_can_be_unbound(lab: Lab) -> None:
    with lab.drain_bound("xdma", 200):
        blocked = lab.begin_stalled("buffer_ends:blocked", "stall=h2c", path=lab.memory, timeout_s=60.0)
        blocked.signal(signal.SIGSTOP)
        lab.call("processes:unbind", driver="pciedma_xdma", address=lab.addresses["xdma"])
        blocked.signal(signal.SIGCONT)
        found = blocked.value()
    print(found)
    assert {found["said"], *found["errors"]} <= {"ENODEV", "EINTR", "ECANCELED"}
    lab.xdma.control.clear_faults()
    lab.call("processes:bind", driver="pciedma_xdma", address=lab.addresses["xdma"])
    lab.find()
    assert (found["memory"], found["held"], found["then"], found["results"]) == (True, [1, 4096], "ENODEV", [])


def test_death_of_the_card_leaves_the_mapping_and_keeps_the_memory() -> None:
    xdma = EmulatedCard("xdma")
    with Machine(KERNEL, iommu=True, cards=[xdma], time_limit_s=300) as vm:
        for pattern in DELIBERATE_LEAK:
            vm.expect_log(pattern)
        lab = make_lab(vm, xdma)
        xdma.control.set_fault("death*1")
        found = lab.call("buffer_ends:blocked", path=lab.memory, timeout_s=1.0)
        print(found)
        assert {found["said"], *found["errors"]} <= {"EIO", "ENODEV", "ECANCELED", "ETIMEDOUT"}
        assert (found["memory"], found["then"] in ("EIO", "ENODEV"), found["results"]) == (True, True, [])
        assert lab.sysfs("xdma", "quarantined_bytes") in (0, 4096, 4 * 4096)
        vm.unload_modules()
