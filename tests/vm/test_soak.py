"""Very many transfers, aborts and removals; ``make soak`` runs many times more than ``make check``."""

from __future__ import annotations

import errno
import os
import time

import pytest

from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine, Process
from pciedma_lab.qemu import ROOT_PORTS

from .conftest import DELIBERATE_LEAK, KERNEL, WAYS, Lab, make_lab
from .guest.buffer_soak import PHASES

MESSAGES = int(os.environ.get("PCIEDMA_SOAK_MESSAGES", "20000"))
_CHUNK = 5000
#: The drain bound for messages: less than their time-out, so that looking finds one whose interrupt is lost; far more
#: than the half second for which a busy host may keep a card, QEMU or its guest from running, so that looking does not
#: overtake an interrupt that is only late.
_PATIENT_MS = 5000


def test_messages_with_jitter_are_never_lost(lab: Lab) -> None:
    timeouts = [lab.sysfs("capric", f"c0/{engine}/timeouts") for engine in ("c2h", "h2c")]
    looks = [lab.sysfs("capric", f"c0/{engine}/looks") for engine in ("c2h", "h2c")]
    with lab.drain_bound("capric", _PATIENT_MS):
        for number in range(0, MESSAGES, _CHUNK):
            # from "done before the start call returns" to "long after the caller sleeps"
            fault = ("jitter=0-200", "jitter=0-60", "early_completion", "jitter=20-500")[number // _CHUNK % 4]
            lab.capric.control.clear_faults()
            lab.capric.control.set_fault(fault)
            result = lab.call("transfers:echo", 900, path=lab.data, count=min(_CHUNK, MESSAGES - number), seed=number)
            assert result["errors"] == 0, result["first_error"]
    assert [lab.sysfs("capric", f"c0/{engine}/timeouts") for engine in ("c2h", "h2c")] == timeouts
    assert [lab.sysfs("capric", f"c0/{engine}/looks") for engine in ("c2h", "h2c")] == looks


ABORTS = int(os.environ.get("PCIEDMA_SOAK_ABORTS", "1200"))
EDU_ABORTS = int(os.environ.get("PCIEDMA_SOAK_EDU_ABORTS", "20"))
LOAD = int(os.environ.get("PCIEDMA_SOAK_LOAD_MIB", "128")) << 20
UNBINDS = int(os.environ.get("PCIEDMA_SOAK_UNBINDS", "36"))
DEVICE_DELS = int(os.environ.get("PCIEDMA_SOAK_DEVICE_DELS", "6"))
DEATHS = int(os.environ.get("PCIEDMA_SOAK_DEATHS", "4"))
CYCLES = int(os.environ.get("PCIEDMA_SOAK_CYCLES", "400"))
UNPLUGS = int(os.environ.get("PCIEDMA_SOAK_UNPLUGS", "0"))
_ABORTS_CHUNK = 300
LENGTHS = {"capric": [64, 2000], "xdma": [64, 5000, 65536, 3 << 20], "edu": [64, 4000]}


@pytest.mark.late_interrupts
@pytest.mark.parametrize("card", ["capric", "xdma"])
def test_requests_given_up_leave_no_dma_behind(lab: Lab, card: str) -> None:
    """Time-outs, signals, kills and CANCEL at random moments of DMAs that end early, late, and after the halt."""
    model = lab.cards[card]
    path = f"{lab.nodes[card]}c0"
    halts = lab.sysfs(card, "c0/c2h/halts") + lab.sysfs(card, "c0/h2c/halts")
    with lab.drain_bound(card, 2):
        for number in range(0, ABORTS // 2, _ABORTS_CHUNK):
            model.control.clear_faults()
            model.control.set_fault("late_dma" if number // _ABORTS_CHUNK % 2 == 0 else "jitter=0-6000")
            count = min(_ABORTS_CHUNK, ABORTS // 2 - number)
            found = lab.call("aborts:abort", 900, path=path, count=count, lengths=LENGTHS[card], seed=number)
            assert found["wrong"] == [], found
            assert model.control.violations() == []
    assert lab.sysfs(card, "c0/c2h/halts") + lab.sysfs(card, "c0/h2c/halts") > halts + ABORTS // 200
    lab.settled()


def test_requests_given_up_on_edu_leave_no_dma_behind(lab: Lab) -> None:
    options = {"count": EDU_ABORTS, "lengths": LENGTHS["edu"], "longest_us": 100_000}
    found = lab.call("aborts:abort", 900, path=lab.nodes["edu"] + "c0", **options)
    assert found["wrong"] == [], found


def test_mixed_load_from_several_processes_is_right(lab: Lab) -> None:
    lab.xdma.control.set_fault("jitter=0-100")
    found = lab.verified_load("together", 3000, workers=4, base=12345, span=(2 << 20) + 3, total=LOAD // 4)
    assert found["bytes"] >= LOAD
    assert len(found["calls"]) == 5
    lab.settled()


def test_unbinds_under_load_end_every_call(lab: Lab) -> None:
    for number in range(UNBINDS):
        card = ("capric", "xdma")[number % 2]
        way = WAYS[number // 2 % len(WAYS)]
        target = "transfers:repeat_until_error" if card == "capric" else "memory:repeat_until_error"
        options = {"path": lab.data} if card == "capric" else {"path": lab.memory, "way": way}
        calls = [lab.start(target, direction=direction, **options) for direction in ("write", "read")]
        time.sleep(0.02 * (number % 4))
        lab.call("processes:unbind", driver=f"pciedma_{card}", address=lab.addresses[card])
        assert {call.value(60)["errno"] for call in calls} <= {errno.ENODEV, errno.ENOENT}
        lab.call("processes:bind", driver=f"pciedma_{card}", address=lab.addresses[card])
        lab.find()
    lab.settled()


def test_buffers_made_and_let_go_of_leave_nothing(lab: Lab) -> None:
    """A twentieth of the processes is killed in the midst of it."""
    for number in range(0, CYCLES, _CHUNK):
        count = min(_CHUNK, CYCLES - number)
        assert lab.call("buffer_soak:cycles", 900, path=lab.memory, count=count, kills=count // 20, seed=number) == []
    lab.settled()


def test_card_that_goes_leaves_who_has_its_memory_what_he_has() -> None:
    """In each phase of a buffer's life, with MSI as below: all of them at once, or each alone and often."""
    xdma = EmulatedCard("xdma", variant="msi")
    phases = [[name] for name in PHASES for _ in range(UNPLUGS)] or [[*PHASES]]
    with Machine(KERNEL, iommu=True, cards=[xdma], time_limit_s=300 + 20 * len(phases)) as vm:
        lab = make_lab(vm, xdma)
        for names in phases:
            vm.run(["rm", "-f", "/tmp/ready", "/tmp/goes"])
            xdma.control.set_fault("bandwidth=20")
            process = lab.start("buffer_soak:gone", path=lab.memory, names=names, ready="/tmp/ready", goes="/tmp/goes")
            lab.wait_until("test -e /tmp/ready")
            vm.device_del(xdma)
            vm.run(["touch", "/tmp/goes"])
            assert process.value(120) == [], names
            xdma.control.clear_faults()
            lab.plug_in("xdma")
            lab.there_and_back()
        lab.settled()
        vm.unload_modules()


def _load(lab: Lab, path: str, way: str) -> list[Process]:
    """Start reads and writes that repeat until the card goes."""
    return [lab.start("memory:repeat_until_error", path=path, way=way, direction=d) for d in ("write", "read")]


def test_device_dels_under_load_end_every_call() -> None:
    """The card has MSI: QEMU crashes when it unplugs a card of another process that has MSI-X."""
    xdma = EmulatedCard("xdma", variant="msi")
    with Machine(KERNEL, iommu=True, cards=[xdma], time_limit_s=300 + 20 * DEVICE_DELS) as vm:
        lab = make_lab(vm, xdma)
        for number in range(DEVICE_DELS):
            opened = lab.hold_open(lab.memory)
            calls = _load(lab, lab.memory, WAYS[number % len(WAYS)])
            xdma.control.counters(reset=True)
            lab.wait_for("c2h0_descriptors", "h2c0_descriptors", card="xdma")
            vm.device_del(xdma)
            assert {call.value(60)["errno"] for call in calls} <= {errno.ENODEV, errno.ENOENT}
            assert opened.value() == {"hup": True, "read": "ENODEV", "write": "ENODEV"}
            lab.plug_in("xdma")
            lab.there_and_back()
        lab.settled()
        vm.unload_modules()


def test_deaths_of_cards_under_load_end_every_call() -> None:
    for number in range(0, DEATHS, ROOT_PORTS):
        _die([EmulatedCard("xdma") for _ in range(min(ROOT_PORTS, DEATHS - number))], number)


def _die(cards: list[EmulatedCard], number: int) -> None:
    with Machine(KERNEL, cards=cards, time_limit_s=300) as vm:
        for pattern in DELIBERATE_LEAK:
            vm.expect_log(pattern)
        vm.load_modules()
        lab = Lab(vm, {})
        for index, card in enumerate(cards):
            path = f"/dev/pciedma{index}c0"
            opened = lab.hold_open(path)
            calls = _load(lab, path, WAYS[(number + index) % len(WAYS)])
            lab.cards["xdma"] = card
            card.control.counters(reset=True)
            lab.wait_for("c2h0_descriptors", "h2c0_descriptors", card="xdma")
            card.control.set_fault("death*1")
            assert {call.value(120)["errno"] for call in calls} <= {errno.ENODEV, errno.ENOENT}
            assert opened.value(120) == {"hup": True, "read": "ENODEV", "write": "ENODEV"}
            assert not card.alive
        vm.unload_modules()
