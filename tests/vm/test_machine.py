"""The virtual machine itself: commands, calls, files, and a verdict that a failure cannot pass."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pciedma_lab.machine import GuestError, Machine, MachineFailed

KERNEL = "trixie"

#: Not again under `make check-debug` and `make check-kernels`.
pytestmark = [pytest.mark.stock_kernel, pytest.mark.fixed_kernel]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def vm(results: Path) -> Iterator[Machine]:
    with Machine(KERNEL, results=results) as machine:
        yield machine


def write_log(vm: Machine, line: str) -> None:
    vm.run(["sh", "-c", "cat > /dev/kmsg"], input=line)


def test_run_has_status_input_output_and_the_project(vm: Machine) -> None:
    result = vm.run(["sh", "-c", "cat; ls python >&2; exit 5"], input="words")
    assert (result.returncode, result.stdout) == (5, "words")
    assert "pciedma_lab" in result.stderr


def test_kernel_is_the_one_asked_for(vm: Machine) -> None:
    assert vm.run(["uname", "-r"]).stdout.strip() == vm.kernel_release
    assert vm.kernel_release.startswith("6.12")


def test_call_returns_and_raises(vm: Machine) -> None:
    assert vm.call("json:loads", 30, s="[1]") == [1]
    with pytest.raises(GuestError, match=r"(?s)Traceback.*ZeroDivisionError"):
        vm.call("fractions:Fraction", 30, denominator=0)


def test_calls_run_in_the_background_and_take_signals(vm: Machine) -> None:
    waiting = vm.start_call("signal:pause").started()
    assert Path(f"/proc/{waiting.pid}").name in vm.run(["ls", "/proc"]).stdout.split()
    waiting.signal(signal.SIGKILL)
    assert waiting.wait() == -signal.SIGKILL


def test_results_come_back_while_the_guest_runs(vm: Machine, results: Path) -> None:
    vm.run(["sh", "-c", "echo figures > /mnt/results/file"])
    assert (results / "file").read_text() == "figures\n"


def test_project_is_read_only(vm: Machine) -> None:
    assert vm.run(["touch", "/mnt/project/x"]).returncode != 0


def test_crash_is_reported_with_the_guests_log() -> None:
    with pytest.raises(MachineFailed, match=r"(?s)QEMU ended.*sysrq triggered crash"), Machine(KERNEL) as vm:
        vm.run(["sh", "-c", "echo c > /proc/sysrq-trigger"])


def test_early_exit_is_reported() -> None:
    with pytest.raises(MachineFailed, match="QEMU ended"), Machine(KERNEL) as vm:
        vm.run(["sh", "-c", "echo b > /proc/sysrq-trigger"])


def test_hang_ends_with_the_time_limit() -> None:
    with pytest.raises(MachineFailed, match="time limit of 20 s"), Machine(KERNEL, time_limit_s=20) as vm:
        vm.run(["sleep", "1000"], 1000)


def test_reset_after_the_last_word_fails_the_verdict() -> None:
    with pytest.raises(MachineFailed, match="did not power off: guest-reset"), Machine(KERNEL) as vm:
        vm.qmp.events.append({"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-reset"}})


def test_warning_in_the_log_fails_the_verdict_after_all_succeeded() -> None:
    with pytest.raises(MachineFailed, match=r"not clean.*\n.*WARNING: provoked"), Machine(KERNEL) as vm:
        write_log(vm, "WARNING: provoked")


def test_expected_warning_passes() -> None:
    with Machine(KERNEL) as vm:
        vm.expect_log("provoked")
        write_log(vm, "WARNING: provoked")
        vm.finish()
    assert vm.guest.console.exists()
