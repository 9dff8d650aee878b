"""How a request of a memory channel may end before its time: each ending during each way in."""

from __future__ import annotations

import signal
import time

import pytest

from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine

from .conftest import KERNEL, WAYS, Lab, make_lab

KERNELS_WAYS = WAYS[:3]
DRIVER = "pciedma_xdma"


@pytest.mark.parametrize("way", KERNELS_WAYS)
@pytest.mark.parametrize("direction", ["read", "write"])
def test_signal_lets_a_dma_end(lab: Lab, way: str, direction: str) -> None:
    lab.xdma.control.set_fault("delay=1000000*1")
    with lab.drain_bound("xdma", 4000):
        caller = lab.start("memory:signalled", path=lab.memory, way=way, direction=direction)
        lab.wait_taken()
        caller.signal(signal.SIGALRM)
        assert caller.value() == {"result": 65536, "signals": 1}


def test_signal_does_not_end_the_wait_of_a_call_that_is_restarted(lab: Lab) -> None:
    """All transfers are with an engine that has hung until after the signal came."""
    blockers = lab.begin_stalled("queues:ended", path=lab.memory, way="aio", end="")
    caller = lab.start("memory:signalled", path=lab.memory, way="sync", restart=True)
    lab.wait_until(f"grep -qE 'pciedma_request_sleep|completion_sleep' /proc/{caller.pid}/wchan")
    caller.signal(signal.SIGALRM)
    time.sleep(1)
    blockers.signal(9)
    blockers.wait(30)
    assert caller.value() == {"result": 65536, "signals": 1}


def test_signal_ends_a_call_whose_dma_hangs(lab: Lab) -> None:
    caller = lab.begin_stalled("memory:signalled", path=lab.memory, way="sync")
    caller.signal(signal.SIGALRM)
    assert caller.value() == {"result": "EIO", "signals": 1}
    lab.there_and_back()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", ["stall*1", "late_dma*1"])
def test_kill_ends_what_hangs(lab: Lab, way: str, fault: str) -> None:
    if fault != "stall*1":
        lab.xdma.control.set_fault(fault)
    process = lab.begin_stalled("memory:begun", path=lab.memory, way=way, timeout_s=None)
    process.signal(9)
    process.wait(30)
    lab.wait_stalled(False)
    lab.settled()
    lab.there_and_back()


@pytest.mark.parametrize("way", KERNELS_WAYS)
@pytest.mark.parametrize("direction", ["read", "write"])
def test_close_lets_a_request_end(lab: Lab, way: str, direction: str) -> None:
    lab.xdma.control.set_fault("delay=300000*1")
    assert lab.call("memory:closed", path=lab.memory, way=way, direction=direction) == 65536
    lab.settled()


@pytest.mark.parametrize("fault", ["stall*1", "late_dma*1"])
def test_device_del_ends_what_is_under_way(unpluggable: Lab, fault: str) -> None:
    lab, xdma = unpluggable, unpluggable.xdma
    for way in WAYS:
        if fault != "stall*1":
            xdma.control.set_fault(fault)
        opened = lab.hold_open(lab.memory)
        blocked = lab.begin_stalled("memory:begun", path=lab.memory, way=way)
        lab.vm.device_del(xdma)
        assert blocked.value() in ("ENODEV", 65536)
        assert opened.value() == {"hup": True, "read": "ENODEV", "write": "ENODEV"}
        xdma.control.clear_faults()
        lab.plug_in("xdma")
        lab.there_and_back()


@pytest.mark.parametrize("way", WAYS)
def test_card_that_leaves_the_bus_ends_what_is_under_way(lab: Lab, way: str) -> None:
    blocked = lab.begin_stalled("memory:begun", path=lab.memory, way=way)
    lab.xdma.control.set_fault("all_ones_config")
    lab.xdma.control.set_fault("all_ones")
    assert blocked.value() == "ENODEV"
    assert lab.call("memory:begun", path=lab.memory, way=way) == "ENODEV"
    assert lab.sysfs("xdma", "quarantined_bytes") > 0
    lab.xdma.control.clear_faults()
    lab.call("resets:reset", card=lab.nodes["xdma"])
    lab.there_and_back()


def _inject(vm: Machine, port: str, error: str) -> None:
    """Have a root port report an error of its link."""
    vm.expect_log("AER: |PCIe Bus Error")
    answer = vm.qmp.execute("human-monitor-command", **{"command-line": f"pcie_aer_inject_error {port} {error}"})
    assert str(answer).startswith("OK")


def _wait_for_log(vm: Machine, text: str, times: int) -> None:
    end = time.monotonic() + 30 * vm.patience
    while vm.kernel_log().count(text) < times:
        assert time.monotonic() < end, f"the log does not say: {text}"
        time.sleep(0.2)


def test_fatal_error_of_the_bus_fails_what_is_under_way_and_the_link_is_reset() -> None:
    xdma = EmulatedCard("xdma")
    with Machine(KERNEL, iommu=True, cards=[xdma], native_hotplug=True, time_limit_s=300) as vm:
        lab = make_lab(vm, xdma)
        for number, way in enumerate(WAYS):
            blocked = lab.begin_stalled("memory:begun", path=lab.memory, way=way)
            _inject(vm, "port0", "DLP")
            assert blocked.value() == "EIO"
            _wait_for_log(vm, "device recovery successful", number + 1)
            assert lab.sysfs("xdma", "resets") == number + 1
            assert lab.sysfs("xdma", "quarantined_bytes") == 0
            lab.there_and_back()


@pytest.mark.parametrize("way", WAYS)
def test_fatal_error_of_a_bus_that_does_not_recover_is_eio_until_a_reset(lab: Lab, way: str) -> None:
    """These ports do not say that their links are up again; only newer kernels tell drivers that it did not work."""
    failures = lab.vm.kernel_log().count("device recovery failed")
    blocked = lab.begin_stalled("memory:begun", path=lab.memory, way=way)
    _inject(lab.vm, "port1", "DLP")
    assert blocked.value() == "EIO"
    _wait_for_log(lab.vm, "device recovery failed", failures + 1)
    assert lab.call("memory:begun", path=lab.memory, way=way) == "EIO"
    assert lab.sysfs("xdma", "quarantined_bytes") > 0
    lab.call("resets:reset", card=lab.nodes["xdma"])
    lab.there_and_back()


def _let_the_bus_fail(lab: Lab, fault: str = "") -> None:
    """Have a fatal error of the bus, of which it does not recover, end a read; with *fault* the card has it then."""
    failures = lab.vm.kernel_log().count("device recovery failed")
    blocked = lab.begin_stalled("memory:begun", path=lab.memory, way="sync")
    if fault:
        lab.xdma.control.set_fault(fault)
    _inject(lab.vm, "port1", "DLP")
    assert blocked.value() in ("EIO", "ENODEV")
    _wait_for_log(lab.vm, "device recovery failed", failures + 1)


def test_card_that_did_not_answer_when_the_bus_failed_comes_back_by_a_reset(lab: Lab) -> None:
    """Newer kernels give such a card up in front of the driver, too."""
    _let_the_bus_fail(lab, "all_ones_config")
    lab.xdma.control.clear_faults()
    lab.call("resets:reset", card=lab.nodes["xdma"])
    lab.there_and_back()
    assert lab.sysfs("xdma", "quarantined_bytes") == 0


def test_card_is_unbound_after_the_bus_failed_and_works_when_it_is_bound_again(lab: Lab) -> None:
    _let_the_bus_fail(lab)
    lab.call("processes:unbind", driver="pciedma_xdma", address=lab.addresses["xdma"])
    lab.call("processes:bind", driver="pciedma_xdma", address=lab.addresses["xdma"])
    lab.find()
    lab.there_and_back()


@pytest.mark.late_interrupts
@pytest.mark.parametrize("way", WAYS)
def test_error_of_the_bus_that_is_not_fatal_changes_nothing(lab: Lab, way: str) -> None:
    recovered = lab.vm.kernel_log().count("device recovery successful")
    lab.xdma.control.set_fault("delay=1000000*1")
    blocked = lab.start("memory:begun", path=lab.memory, way=way)
    _inject(lab.vm, "port1", "COMP_TIME")
    _wait_for_log(lab.vm, "device recovery successful", recovered + 1)
    assert blocked.value() == 65536
