"""Suspend and resume, and errors of the bus, with requests under way."""

from __future__ import annotations

import pytest

from .conftest import Lab

SUSPEND = "echo devices > /sys/power/pm_test; echo freeze > /sys/power/state"


@pytest.mark.parametrize("fault", ["stall*1", "delay=300000", "late_dma*1"])
def test_suspend_ends_what_hangs_and_what_waits_goes_on(lab: Lab, fault: str) -> None:
    lab.there_and_back(lengths=[100])
    lab.call("memory:begun", path=lab.memory, way="io_uring")
    lab.xdma.control.set_fault(fault)
    found = lab.call("memory:during", path=lab.memory, action=["sh", "-c", SUSPEND])
    assert found.pop("status") == 0
    assert set(found) == {"sync", "aio", "io_uring"}
    assert set(found.values()) <= {"EIO", 65536}
    lab.xdma.control.clear_faults()
    lab.there_and_back()
    lab.echo()
