"""Suspend and resume, and errors of the bus, with requests under way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from pciedma_lab import modules
from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine

from .conftest import KERNEL, WAYS, Lab, make_lab

PORT_CLOSED = "lab: the port is closed"
RESUMED = "/tmp/resumed"
#: 7.3 takes the host's end of the agent's port for closed from then on; others know within moments that it is open.
#: When the guest was awake again stands in RESUMED.
SUSPEND = f"""
mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
echo devices > /sys/power/pm_test
echo freeze > /sys/power/state || exit
cat /proc/uptime > {RESUMED}
for _ in $(seq 100); do
    ! grep -q 'host_connected: 1' /sys/kernel/debug/virtio-ports/* || exit 0
    sleep 0.1
done
echo {PORT_CLOSED} > /dev/kmsg
"""
COPY_PROJECT = """
mkdir /dev/shm/project
cp -r /mnt/project/python /mnt/project/tests /dev/shm/project
mount --bind /dev/shm/project /mnt/project
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[Lab]:
    """A guest of its own, with a copy of the project: older kernels do not get shared folders back after a suspend."""
    modules.build(KERNEL)
    cards = [EmulatedCard("capric", seed=1), EmulatedCard("xdma", seed=1)]
    with Machine(KERNEL, iommu=True, cards=cards, edu=1) as vm:
        lab = make_lab(vm, *cards)
        assert vm.run(["sh", "-ec", COPY_PROJECT]).returncode == 0
        yield lab


def through_a_suspend(lab: Lab, target: str, **options: Any) -> dict[str, Any]:
    """Have requests under way while the guest is suspended; returns what they led to, as *target* says."""

    def times_closed() -> int:
        return lab.vm.guest.console.read_text(errors="replace").count(PORT_CLOSED)

    before, end = times_closed(), time.monotonic() + 120 * lab.vm.patience
    process = lab.start(target, action=["sh", "-c", SUSPEND], **options)
    while not process.done and time.monotonic() < end:
        if times_closed() > before:
            lab.vm.reconnect()
            break
        time.sleep(0.2)
    found: dict[str, Any] = process.value(120)
    return found


@pytest.mark.parametrize("fault", ["stall*1", "delay=300000", "late_dma*1"])
def test_suspend_ends_what_hangs_and_what_waits_goes_on(lab: Lab, fault: str) -> None:
    lab.there_and_back(lengths=[100])
    lab.call("memory:begun", path=lab.memory, way="io_uring")
    lab.xdma.control.set_fault(fault)
    found = through_a_suspend(lab, "memory:during", path=lab.memory)
    assert found.pop("status") == 0
    assert set(found) == {*WAYS}
    assert set(found.values()) <= {"EIO", 65536}
    lab.xdma.control.clear_faults()
    lab.there_and_back()
    lab.echo()
