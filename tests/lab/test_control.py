"""The control socket."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pciedma_lab.cards.capric import Model
from pciedma_lab.control import Control, ControlError, ControlServer

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


@pytest.fixture
def other(served: Served) -> Iterator[socket.socket]:
    """A client that is not as orderly as Control."""
    with socket.socket(socket.AF_UNIX) as other:
        other.settimeout(10)
        other.connect(str(served.control_path))
        yield other


def test_client_that_does_not_read_holds_up_neither_the_guest_nor_others(
    control: Control, client: Client, other: socket.socket
) -> None:
    other.setblocking(False)
    requests = b'{"command": "state"}\n' * 500
    with pytest.raises(BlockingIOError):
        while True:
            other.sendall(requests)
    begin = time.monotonic()
    for _ in range(100):
        client.read(DCSR1)
    assert control.faults() == []
    assert time.monotonic() - begin < 2


def test_client_that_reads_late_gets_all_its_answers(control: Control, other: socket.socket) -> None:
    """Many times what a socket holds."""
    other.sendall(b'{"command": "state"}\n{"command": "faults"}\n' * 1000)
    state = control.state()
    with other.makefile("rb") as file:
        answers = [json.loads(file.readline())["value"] for _ in range(2000)]
    assert answers == [state, []] * 1000


def test_requests_that_come_at_once_are_answered_in_as_many_turns(tmp_path: Path) -> None:
    """So that the card gets its own in between."""
    poll = select.poll()
    server = ControlServer(Model(), tmp_path / "control")
    server.register(poll)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "control"))
        client.sendall(b'{"command": "faults"}\n' * 20)
        client.setblocking(False)
        answers: list[bytes] = []
        while len(answers) < 20:
            (fd, _), = poll.poll(10_000)
            server.handle(fd)
            with contextlib.suppress(BlockingIOError):
                answers.append(client.recv(4096))
        assert answers == [b'{"value": []}\n'] * 20
        assert poll.poll(0) == []
    (fd, _), = poll.poll(10_000)
    server.handle(fd)
    assert poll.poll(0) == []
    server.close()


@pytest.mark.parametrize("last_words", [None, b"", b'{"value'])
def test_model_that_ends_is_told_as_such_whatever_it_was_doing(tmp_path: Path, last_words: bytes | None) -> None:
    with socket.socket(socket.AF_UNIX) as model:
        model.bind(str(tmp_path / "control"))
        model.listen()
        control = Control(tmp_path / "control")
        connection, _ = model.accept()

    def end() -> None:
        if last_words is not None:
            connection.recv(100)
            connection.sendall(last_words)
        connection.close()

    ending = threading.Thread(target=end)
    ending.start()
    if last_words is None:
        ending.join()
    with pytest.raises(ControlError, match="the model has ended"):
        control.violations()
    ending.join()
    control.close()


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
