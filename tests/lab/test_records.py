"""What is recorded has bounds, and says how much was dropped; what is kept is enough to judge."""

from __future__ import annotations

import base64
import socket
from pathlib import Path

import pytest

from pciedma_lab import guest_process, machine, verdict
from pciedma_lab.control import Control
from pciedma_lab.guest_process import GuestError, Process
from pciedma_lab.machine import Machine, MachineFailed
from pciedma_lab.qemu import Guest
from pciedma_lab.records import Records

from .bench import DCSR2, Client, eventually
from .conftest import Served


def test_violations_are_bounded_by_name_and_hide_no_other() -> None:
    records = Records({})
    for number in range(5000):
        records.violation("reserved_bits", "again", number=number)
    records.violation("start_while_busy", "once")
    found = records.violations
    assert len(found) == 102
    assert [violation.get("number") for violation in found[:100]] == [*range(100)]
    assert found[100]["name"] == "start_while_busy"
    assert (found[101]["name"], found[101]["dropped"]) == ("reserved_bits", 4900)
    records.clear_violations()
    assert records.violations == []
    records.violation("reserved_bits", "anew")
    assert [violation["text"] for violation in records.violations] == ["anew"]


def test_events_are_bounded_and_the_last_are_kept() -> None:
    records = Records({})
    for number in range(1000):
        records.event("x", number=number)
    assert len(records.events) == 1000
    for number in range(1000, 1500):
        records.event("x", number=number)
    first, *rest = records.events
    assert (first["name"], first["count"]) == ("dropped", 500)
    assert [event["number"] for event in rest] == [*range(500, 1500)]


def test_flood_of_violations_is_told_over_the_control_socket(served: Served, client: Client) -> None:
    control = Control(served.control_path)
    for _ in range(300):
        client.write(DCSR2, 1 << 2, posted=True)
    assert eventually(lambda: control.counters().get("writes.DCSR2", 0) == 300)
    found = control.clear_violations()
    assert (len(found), found[-1]["dropped"]) == (101, 200)
    assert control.violations() == []
    control.close()


def test_request_without_an_end_is_not_kept(served: Served) -> None:
    endless = socket.socket(socket.AF_UNIX)
    endless.settimeout(10)
    endless.connect(str(served.control_path))
    with pytest.raises(ConnectionError):
        while True:
            endless.sendall(b"x" * 65536)
    endless.close()
    control = Control(served.control_path)
    assert control.faults() == []
    control.close()


def test_verdict_shows_the_first_lines_and_counts_the_rest() -> None:
    log = "".join(f"[    9.000000] WARNING: {number}\n" for number in range(50_000))
    problems = verdict.judge(log, log, 0, "the end")
    shown = verdict.shortened(problems)
    assert len(problems) == 50_001
    assert shown[:2] == ["[    9.000000] WARNING: 0", "[    9.000000] WARNING: 1"]
    assert (len(shown), shown[-1]) == (201, "and 49801 lines more")
    assert verdict.shortened(["one"]) == ["one"]


@pytest.fixture
def vm(tmp_path: Path) -> Machine:
    """A machine that was never started."""
    machine = Machine()
    names = ("image", "initramfs", "root", "folder", "results", "sockets")
    machine.guest = Guest(**dict.fromkeys(names, tmp_path))  # type: ignore[arg-type]
    return machine


def test_guest_that_floods_its_console_is_ended(vm: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    vm.guest.console.write_text("all is well\n")
    vm.check_alive()
    monkeypatch.setattr(machine, "_CONSOLE_BYTES", 1 << 20)
    monkeypatch.setattr(machine, "_END_BYTES", 1000)
    with vm.guest.console.open("w") as file:
        file.write("the beginning\n" + "a line\n" * 200_000 + "the end\n")
    with pytest.raises(MachineFailed, match="printed more than 1 MiB") as caught:
        vm.check_alive()
    assert str(caught.value).endswith("the end")
    assert len(str(caught.value)) < 3000


def deliver(process: Process, stream: str, size: int) -> None:
    data = base64.b64encode(b"x" * size).decode()
    process.deliver({"event": "output", "stream": stream, "data": data})


def test_output_that_is_kept_has_a_bound_and_says_what_is_missing(
    vm: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest_process, "_KEPT_BYTES", 1000)
    process = Process(vm, 1)
    for _ in range(5):
        deliver(process, "stdout", 300)
    deliver(process, "stderr", 300)
    process.deliver({"event": "done", "status": 0})
    result = process.completed()
    assert result.stdout == "x" * 1000 + "\n500 bytes more, dropped\n"
    assert result.stderr == "x" * 300
    call = Process(vm, 2)
    deliver(call, "result", 2000)
    call.deliver({"event": "done", "status": 0})
    with pytest.raises(GuestError, match="more than 1000 bytes"):
        call.value()
