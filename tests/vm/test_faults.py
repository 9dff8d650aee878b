"""What the card does wrong: nothing is lost, nothing hangs, and the channel works on."""

from __future__ import annotations

import errno

import pytest

from pciedma_lab.machine import Machine

from .conftest import Lab

#: Capric's drain bound in seconds: a waiter looks by itself after it.
DRAIN_S = 0.25


@pytest.mark.late_interrupts
def test_lost_interrupt_is_found_by_looking(lab: Lab) -> None:
    looks = lab.sysfs("capric", "c0/h2c/looks")
    lab.capric.control.set_fault("lost_interrupt*1")
    result = lab.call("transfers:one", path=lab.data, direction="write")
    assert result["moved"] == 100
    assert result["seconds"] >= DRAIN_S
    assert lab.sysfs("capric", "c0/h2c/looks") == looks + 1


@pytest.mark.late_interrupts
def test_interrupts_that_never_come_slow_but_lose_nothing(lab: Lab) -> None:
    lab.capric.control.set_fault("lost_interrupt")
    lab.echo(5)


@pytest.mark.parametrize("direction", ["read", "write"])
def test_stalled_engine_times_out_and_works_on(lab: Lab, direction: str) -> None:
    before = lab.sysfs("capric", f"c0/{'c2h' if direction == 'read' else 'h2c'}/timeouts")
    lab.capric.control.set_fault("stall*1")
    result = lab.call("transfers:one", path=lab.data, direction=direction, timeout_s=0.5)
    assert result["errno"] == errno.ETIMEDOUT
    assert result["class"] == "DmaTimeoutError"
    assert result["seconds"] >= 0.5
    assert lab.sysfs("capric", f"c0/{'c2h' if direction == 'read' else 'h2c'}/timeouts") == before + 1
    lab.echo()


def test_stalled_engine_polled_times_out_and_works_on(lab: Lab) -> None:
    lab.capric.control.set_fault("stall*1")
    result = lab.call("transfers:one", path=lab.data, direction="write", timeout_s=0.5, wait_mode="POLL")
    assert result["errno"] == errno.ETIMEDOUT
    lab.echo(wait_mode="POLL")


def test_stalled_engine_does_not_disturb_the_other_direction(lab: Lab) -> None:
    lab.echo(1, size=100)
    lab.capric.control.set_fault("stall=h2c*1")
    blocked = lab.start("transfers:one", path=lab.data, direction="write", timeout_s=1.0)
    for _ in range(5):
        assert lab.call("transfers:one", path=lab.data, direction="read")["moved"] == 100
    assert blocked.value()["errno"] == errno.ETIMEDOUT


def test_queued_request_survives_the_recovery_of_the_one_before_it(lab: Lab) -> None:
    lab.capric.control.set_fault("stall=h2c*1")
    blocked = lab.begin("transfers:one", path=lab.data, direction="write", timeout_s=0.7)
    queued = [lab.start("transfers:one", path=lab.data, direction="write", timeout_s=10.0) for _ in range(4)]
    assert blocked.value()["errno"] == errno.ETIMEDOUT
    assert [process.value()["moved"] for process in queued] == [100] * 4


def test_time_out_in_the_queue_does_not_touch_the_engine(lab: Lab) -> None:
    halts = lab.sysfs("capric", "c0/h2c/halts")
    lab.capric.control.set_fault("stall=h2c*1")
    blocked = lab.begin("transfers:one", path=lab.data, direction="write", timeout_s=2.0)
    queued = lab.call("transfers:one", path=lab.data, direction="write", timeout_s=0.1)
    assert queued["errno"] == errno.ETIMEDOUT
    assert queued["seconds"] < 1.5
    assert lab.sysfs("capric", "c0/h2c/halts") == halts
    assert blocked.value()["errno"] == errno.ETIMEDOUT


@pytest.mark.parametrize("timeout_s", [1e-9, 1e-6, 1e-3])
def test_tiny_time_out_lets_a_started_dma_end(lab: Lab, timeout_s: float) -> None:
    halts = lab.sysfs("capric", "c0/h2c/halts")
    for _ in range(20):
        result = lab.call("transfers:one", path=lab.data, direction="write", timeout_s=timeout_s)
        assert result.get("moved") == 100
    assert lab.sysfs("capric", "c0/h2c/halts") == halts


@pytest.mark.late_interrupts
def test_no_time_out_waits_for_a_late_dma(lab: Lab) -> None:
    lab.capric.control.set_fault("delay=3000000*1")
    result = lab.call("transfers:one", path=lab.data, direction="write", timeout_s=None)
    assert result["moved"] == 100
    assert result["seconds"] >= 2.5


def test_time_out_zero_on_an_idle_card_moves(lab: Lab) -> None:
    assert lab.call("transfers:one", path=lab.data, direction="write", timeout_s=0)["moved"] == 100


def test_time_out_zero_and_nonblock_do_not_queue(lab: Lab) -> None:
    lab.capric.control.set_fault("stall=h2c*1")
    blocked = lab.begin("transfers:one", path=lab.data, direction="write", timeout_s=1.5 * lab.vm.patience)
    for options in ({"timeout_s": 0}, {"nonblocking": True}):
        result = lab.call("transfers:one", path=lab.data, direction="write", **options)
        assert result["errno"] == errno.EAGAIN
        assert result["class"] == "WouldBlockError"
    assert blocked.value()["errno"] == errno.ETIMEDOUT


def test_poll_tells_the_truth(lab: Lab) -> None:
    lab.capric.control.set_fault("stall=h2c*1")
    states = lab.call("processes:poll_states", path=lab.data)
    assert states == {
        "before": [True, True], "during": [True, False], "nonblocking": "EAGAIN", "woken": True,
        "after": [True, True],
    }


@pytest.mark.parametrize(
    "fault", ["early_completion", "duplicate_interrupt", "spurious_interrupt=2", "late_interrupt=5",
              "delayed_writes=50", "jitter=0-400", "delay=300"],
)
@pytest.mark.parametrize("wait_mode", ["INTERRUPT", "POLL"])
def test_odd_timing_loses_nothing(lab: Lab, fault: str, wait_mode: str) -> None:
    lab.capric.control.set_fault(fault)
    lab.echo(200, wait_mode=wait_mode)


@pytest.mark.parametrize("kind", ["ur", "ca", "unexpected"])
def test_error_completion_is_eio_at_once(lab: Lab, kind: str) -> None:
    lab.capric.control.set_fault(f"error={kind}*1")
    result = lab.call("transfers:one", path=lab.data, direction="write")
    assert result["errno"] == errno.EIO
    assert result["seconds"] < 2
    assert "DMA read failed" in lab.vm.kernel_log()


def test_all_ones_is_eio_and_a_reset_brings_the_card_back(lab: Lab) -> None:
    lab.capric.control.set_fault("all_ones")
    for direction in ("write", "read"):  # with more time than until the card is looked at
        result = lab.call("transfers:one", path=lab.data, direction=direction, timeout_s=3.0)
        assert result["errno"] == errno.EIO
    lab.capric.control.clear_faults()
    assert lab.call("transfers:one", path=lab.data, direction="write")["errno"] == errno.EIO
    lab.call("resets:reset", card=lab.nodes["capric"])
    lab.echo()


def test_all_ones_everywhere_is_enodev_and_keeps_the_memory(lab: Lab) -> None:
    lab.capric.control.set_fault("stall=h2c*1")
    blocked = lab.begin("processes:blocked_call", path=lab.data, timeout_s=3.0)
    lab.capric.control.set_fault("all_ones_config")
    assert blocked.value() == {"results": ["ENODEV", "ENODEV"], "hup": True}
    assert lab.sysfs("capric", "quarantined_bytes") == 4096
    lab.capric.control.clear_faults()
    lab.call("resets:reset", card=lab.nodes["capric"])
    assert lab.sysfs("capric", "quarantined_bytes") == 0


def test_reset_ioctl_leaves_queued_requests_alone(lab: Lab) -> None:
    before = lab.sysfs("capric", "resets")
    writer = lab.start("processes:pattern_writer", path=lab.data, count=2000, value=1)
    for _ in range(5):
        lab.call("resets:reset", card=lab.nodes["capric"])
    assert writer.value(120) == 2000
    assert lab.sysfs("capric", "resets") == before + 5


def test_reset_by_sysfs_leaves_the_card_working(lab: Lab) -> None:
    before = lab.sysfs("capric", "resets")
    address = lab.addresses["capric"]
    assert lab.vm.run(["sh", "-c", f"echo 1 > /sys/bus/pci/devices/{address}/reset"]).returncode == 0
    assert lab.sysfs("capric", "resets") == before + 1
    lab.echo()


def test_reset_of_edu_waits_for_its_dma(lab: Lab) -> None:
    path = lab.nodes["edu"] + "c0"
    running = lab.start("transfers:one", path=path, direction="write", length=4096)
    lab.call("resets:reset", card=lab.nodes["edu"])
    assert running.value()["moved"] == 4096


def test_late_dma_after_the_halt_is_survived(lab: Lab) -> None:
    for direction in ("read", "write"):
        before = lab.last_late_dma("capric")
        lab.capric.control.set_fault("late_dma*1")
        lab.vm.run(["true"])
        result = lab.call("transfers:one", path=lab.data, direction=direction, timeout_s=0.3)
        assert result["errno"] == errno.ETIMEDOUT
        assert lab.last_late_dma("capric") > before
        lab.echo()


def test_machine_names_the_kernel_it_runs(machine: Lab) -> None:
    assert isinstance(machine.vm, Machine)
    assert machine.vm.kernel_release == machine.vm.run(["uname", "-r"]).stdout.strip()
