"""Signals before, during and after a DMA; processes that die; descriptors that close."""

from __future__ import annotations

import signal

import pytest

from .conftest import Lab


def test_signal_while_queued_is_eintr_and_moves_nothing(lab: Lab) -> None:
    lab.capric.control.set_fault("stall=h2c*1")
    blocked = lab.begin("transfers:one", path=lab.data, direction="write", timeout_s=2.0)
    result = lab.call("processes:raw_write_interrupted", path=lab.data, after_s=0.2)
    assert result["result"] == "EINTR"
    assert result["seconds"] < 1.5
    assert "errno" in blocked.value()


def test_signal_during_a_dma_lets_it_end(lab: Lab) -> None:
    halts = lab.sysfs("capric", "c0/h2c/halts")
    lab.capric.control.set_fault("delay=100000*1")
    result = lab.call("processes:raw_write_interrupted", path=lab.data, after_s=0.03)
    assert result["result"] == 100
    assert lab.sysfs("capric", "c0/h2c/halts") == halts


def test_signal_during_a_dma_that_hangs_is_eio_soon(lab: Lab) -> None:
    lab.capric.control.set_fault("stall=h2c*1")
    result = lab.call("processes:raw_write_interrupted", path=lab.data, after_s=0.05)
    assert result["result"] == "EIO"
    assert result["seconds"] < 3


def test_signal_after_the_dma_changes_nothing(lab: Lab) -> None:
    result = lab.call("processes:raw_write_interrupted", path=lab.data, after_s=1.0)
    assert result["result"] == 100


def test_signal_during_edu_dma_lets_it_end(lab: Lab) -> None:
    result = lab.call("processes:raw_write_interrupted", path=lab.nodes["edu"] + "c0", after_s=0.02)
    assert result["result"] == 100


@pytest.mark.parametrize("fault", ["stall*1", "delay=100000*1", "late_dma*1"])
def test_killed_process_leaves_the_channel_working(lab: Lab, fault: str) -> None:
    for direction in ("write", "read"):
        lab.capric.control.set_fault(fault)
        blocked = lab.begin("transfers:one", path=lab.data, direction=direction, timeout_s=None)
        blocked.signal(signal.SIGKILL)
        assert blocked.wait(20) == -signal.SIGKILL
        lab.echo(5)


def test_killed_process_in_edu_dma_leaves_the_channel_working(lab: Lab) -> None:
    path = lab.nodes["edu"] + "c0"
    blocked = lab.start("transfers:one", path=path, direction="write", length=4096)
    blocked.signal(signal.SIGKILL)
    blocked.wait(20)
    result = lab.call("transfers:fill_and_verify", path=path, transfers=3)
    assert result["errors"] == 0, result["first_error"]


def test_close_during_a_transfer_lets_it_end(lab: Lab) -> None:
    lab.capric.control.set_fault("delay=200000*1")
    result = lab.call("processes:close_during_transfer", path=lab.data, hold_s=0.05)
    assert result["outcome"] == 100
