"""Cards as processes, and the command that they run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pciedma_lab import card_command, card_process, cards
from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.control import Control, ControlError

from .bench import (
    C2H,
    DCSR1,
    DCSR2,
    INT_REG,
    INT_WR_ENB,
    MEMORY,
    MEMORY_SIZE,
    MSI,
    WR_DMA_ADR,
    WR_DMA_SIZE,
    Client,
    Ram,
    eventually,
    rings,
)

PYTHON = str(Path(card_command.__file__).parents[1])


@pytest.fixture
def card() -> Iterator[EmulatedCard]:
    card = EmulatedCard("capric")
    card.start()
    yield card
    card.stop()


def connected(card: EmulatedCard, ram: Ram) -> Client:
    client = Client(card.socket)
    client.version()
    client.map(MEMORY, MEMORY_SIZE, ram.fd)
    client.write(4, 6, 2, region=7)
    client.enable_messages(MSI)
    client.write(DCSR1, INT_WR_ENB)
    return client


def start(client: Client) -> None:
    client.write(WR_DMA_ADR, MEMORY)
    client.write(WR_DMA_SIZE, 64)
    client.write(DCSR2, C2H["start"])


def test_process_serves_a_card(card: EmulatedCard, ram: Ram, eventfd: int) -> None:
    client = connected(card, ram)
    client.set_irqs(4 | 32, 1, 0, 1, [eventfd])
    start(client)
    assert rings(eventfd) == 1
    assert card.control.counters()["c2h_bytes"] == 64
    assert card.control.violations() == []
    client.close()


def test_qemu_arguments_name_socket_and_bus(card: EmulatedCard) -> None:
    arguments = json.loads(card.qemu_device_arguments("port1"))
    assert arguments == {
        "driver": "vfio-user-pci", "id": card.identifier, "bus": "port1",
        "socket": {"path": str(card.socket), "type": "unix"},
    }
    assert "bus" not in json.loads(card.qemu_device_arguments(None))


def test_process_takes_no_module_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "argparse.py").write_text("raise SystemExit('the user has one, too')\n")
    monkeypatch.chdir(tmp_path)
    card = EmulatedCard("capric")
    card.start()
    card.stop()


def test_model_given_by_its_path_may_import_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "of_the_card.py").write_text("from pciedma_lab.cards.capric import Model\n")
    (tmp_path / "argparse.py").write_text("raise SystemExit('the user has one, too')\n")
    (tmp_path / "mine.py").write_text("import argparse\nfrom of_the_card import Model\n")
    card = EmulatedCard(str(tmp_path / "mine.py"))
    card.start()
    assert card.control.violations() == []
    card.stop()


def test_two_cards_have_different_ids() -> None:
    assert EmulatedCard("capric").identifier != EmulatedCard("capric").identifier


def test_faults_variant_and_seed_reach_the_model() -> None:
    card = EmulatedCard("capric", variant="foreign-bar", faults=["delay=5", "stall*2"], seed=3)
    card.start()
    try:
        assert card.control.faults() == ["delay", "stall"]
        client = Client(card.socket)
        client.version()
        client.write(0x10, 0xFFFFFFFF, region=7)
        assert client.config(0x10) == 0xFFFF0000
    finally:
        card.stop()


def test_stop_ends_the_process_and_removes_its_files(card: EmulatedCard) -> None:
    assert card.alive
    process, folder = card.process, card.folder
    assert process is not None
    card.stop()
    assert not card.alive
    assert process.returncode == 0
    assert not folder.exists()
    card.stop()


def test_given_directory_keeps_the_output(tmp_path: Path) -> None:
    card = EmulatedCard("capric", directory=tmp_path)
    card.start()
    card.stop()
    assert '"violations": []' in (tmp_path / "log").read_text()
    assert not (tmp_path / "socket").exists()


def test_card_can_be_started_again(card: EmulatedCard, ram: Ram) -> None:
    card.stop()
    card.start()
    connected(card, ram).close()


def test_bad_start_tells_why(tmp_path: Path) -> None:
    for card in (EmulatedCard("capric", faults=["gremlins"]), EmulatedCard("capric", variant="green")):
        with pytest.raises(RuntimeError, match=r"the (faults|variants) (of capric )?are"):
            card.start()
        assert not card.alive


def test_model_that_ends_as_it_starts_tells_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> Control:
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(card_process, "Control", refuse)
    card = EmulatedCard("capric")
    with pytest.raises(RuntimeError, match="the card capric did not start: attach it"):
        card.start()
    assert not card.alive
    assert not card.folder.exists()


def test_card_that_does_not_run_has_no_control() -> None:
    card = EmulatedCard("capric")
    with pytest.raises(RuntimeError, match="does not run"):
        _ = card.control
    with pytest.raises(RuntimeError, match="does not run"):
        card.qemu_device_arguments(None)


def test_death_comes_at_the_next_start(card: EmulatedCard, ram: Ram) -> None:
    client = connected(card, ram)
    card.control.set_fault("death")
    client.read(INT_REG)
    assert card.alive
    with pytest.raises(ConnectionError):
        start(client)
    assert card.process is not None
    assert card.process.wait(10) == 86
    with pytest.raises((ControlError, ConnectionError)):
        card.control.counters()


def test_die_ends_it_at_once(card: EmulatedCard) -> None:
    card.control.die()
    assert card.process is not None
    assert card.process.wait(10) == 86


def refuses(path: Path) -> bool:
    try:
        Client(path).close()
    except ConnectionRefusedError:
        return True
    except BlockingIOError:  # it lives, but is too busy to take one more
        return False
    return False


def test_process_ends_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import pathlib, time\nfrom pciedma_lab.card_process import EmulatedCard\n"
        f"card = EmulatedCard('capric', directory=pathlib.Path({str(tmp_path)!r}))\n"
        "card.start()\nprint('listening', flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": PYTHON}
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "listening\n"
    Client(tmp_path / "socket").close()
    parent.kill()
    parent.wait()
    assert eventually(lambda: refuses(tmp_path / "socket"))
    parent.stdout.close()


def test_socket_that_a_dead_card_left_is_replaced(tmp_path: Path, ram: Ram) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "control"))
    stale.close()
    card = EmulatedCard("capric", directory=tmp_path)
    card.start()
    connected(card, ram).close()
    card.stop()


@pytest.fixture
def command(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The command, as a user runs it: in the foreground, even if these tests are not."""
    argv = [sys.executable, "-m", "pciedma_lab", "card", "capric", "--socket", str(tmp_path / "socket")]
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": PYTHON},
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_command_says_how_to_attach_and_ends_clean(
    command: subprocess.Popen[str], tmp_path: Path, number: signal.Signals
) -> None:
    assert command.stdout is not None
    lines = [command.stdout.readline() for _ in range(3)]
    assert "share=on" in lines[1]
    device = json.loads(lines[2].split("-device ")[1].strip().strip("'"))
    assert device["socket"]["path"] == str(tmp_path / "socket")
    command.send_signal(number)
    assert json.loads(command.communicate(timeout=60)[0]) == {"counters": {}, "violations": []}
    assert command.returncode == 0


def test_command_with_a_violation_prints_it_and_ends_with_1(
    command: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert command.stdout is not None
    for _ in range(3):
        command.stdout.readline()
    client = Client(tmp_path / "socket")
    client.version()
    client.write(DCSR2, 1 << 2)
    command.send_signal(signal.SIGTERM)
    records = json.loads(command.communicate(timeout=60)[0])
    assert records["violations"][0]["name"] == "reserved_bits"
    assert records["counters"]["writes.DCSR2"] == 1
    assert command.returncode == 1


def test_cards_are_found_by_the_names_of_their_files() -> None:
    assert "capric" in cards.names()
    assert cards.model("capric").name == "capric"
    with pytest.raises(KeyError, match="capric"):
        cards.model("unicorn")
