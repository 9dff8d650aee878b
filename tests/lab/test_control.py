"""The control socket."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import pytest

from pciedma_lab.control import Control, ControlError

from .bench import C2H, DCSR1, DCSR2, INT_REG, WR_DMA_SIZE, Client, eventually
from .conftest import Served


@pytest.fixture
def control(served: Served) -> Iterator[Control]:
    control = Control(served.control_path)
    yield control
    control.close()


def test_counters_are_the_clients_accesses(control: Control, client: Client) -> None:
    control.reset_counters()
    client.read(INT_REG)
    client.read(INT_REG)
    client.write(WR_DMA_SIZE, 5)
    assert control.counters() == {
        "mmio_reads": 2, "reads.INT_REG": 2, "mmio_writes": 1, "writes.WR_DMA_SIZE": 1,
    }


def test_reset_counters_returns_what_was_and_begins_again(control: Control, client: Client) -> None:
    control.reset_counters()
    client.read(DCSR1)
    assert control.reset_counters()["mmio_reads"] == 1
    assert control.counters() == {}


def test_no_access_is_lost_between_resets(control: Control, client: Client) -> None:
    control.reset_counters()
    reader = threading.Thread(target=lambda: [client.read(DCSR1) for _ in range(3000)])
    reader.start()
    total = 0
    while reader.is_alive():
        total += control.counters(reset=True).get("mmio_reads", 0)
    reader.join()
    assert total + control.counters().get("mmio_reads", 0) == 3000


def test_violations_are_told_and_cleared(control: Control, client: Client) -> None:
    assert control.violations() == []
    client.write(DCSR2, C2H["start"])
    violation, = control.violations()
    assert violation["name"] == "size_zero"
    assert "size 0" in violation["text"]
    assert violation["history"][-1] == "write DCSR2 0x00000001"
    assert control.clear_violations() == [violation]
    assert control.violations() == []


def test_faults_can_be_set_listed_and_cleared(control: Control, client: Client) -> None:
    control.set_fault("all_ones*2")
    control.set_fault("delay=5")
    assert control.faults() == ["all_ones", "delay"]
    assert [client.read(INT_REG) for _ in range(3)] == [0xFFFFFFFF, 0xFFFFFFFF, 0]
    assert control.faults() == ["delay"]
    control.clear_faults()
    assert control.faults() == []


@pytest.mark.parametrize("fault", ["gremlins", "delay", "stall=sideways"])
def test_bad_fault_is_refused_by_its_name(control: Control, fault: str) -> None:
    with pytest.raises(ControlError, match=fault):
        control.set_fault(fault)
    assert control.faults() == []


def test_events_are_told(control: Control, client: Client) -> None:
    client.write(4, 0, 2, region=7)
    client.write(WR_DMA_SIZE, 5)
    client.write(DCSR2, C2H["start"])
    client.read(INT_REG)
    assert [event["name"] for event in control.events()] == ["dma_without_bus_master"]


def test_state_is_told(control: Control, client: Client) -> None:
    client.write(WR_DMA_SIZE, 5)
    assert control.state()["registers"]["WR_DMA_SIZE"] == 5


@pytest.mark.parametrize("line", [
    b"nonsense", b"[]", b"{}", b'{"command": "gone"}', b'{"command": "counters"}', b'{"command": 5}',
    b'{"command": "set_fault", "text": 5}', b"\xff\xfe",
])
def test_bad_request_is_answered_and_ends_nothing(served: Served, control: Control, line: bytes) -> None:
    other = socket.socket(socket.AF_UNIX)
    other.settimeout(10)
    other.connect(str(served.control_path))
    other.sendall(line + b"\n")
    assert set(json.loads(other.recv(4096))) == {"error"}
    other.close()
    assert control.faults() == []


def test_client_that_hangs_up_at_once_ends_nothing(served: Served, control: Control) -> None:
    for _ in range(20):
        other = socket.socket(socket.AF_UNIX)
        other.connect(str(served.control_path))
        other.sendall(b'{"command": "events"}\n' * 50)
        other.close()
    assert control.faults() == []
    assert served.alive


def test_control_gets_its_turn_while_the_client_never_pauses(control: Control, client: Client) -> None:
    stop = threading.Event()

    def hammer() -> None:
        while not stop.is_set():
            client.write(WR_DMA_SIZE, 1, posted=True)

    hammering = threading.Thread(target=hammer)
    hammering.start()
    try:
        first = control.counters().get("mmio_writes", 0)
        assert eventually(lambda: control.counters().get("mmio_writes", 0) > first)
    finally:
        stop.set()
        hammering.join()
