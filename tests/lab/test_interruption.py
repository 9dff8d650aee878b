"""A run or a card that is asked to end: it does so in order, and leaves neither processes nor files."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pciedma_lab import card_command, chroot, interruption, run_command
from pciedma_lab.interruption import Interrupted
from pciedma_lab.listener import Listener
from pciedma_lab.machine import Machine
from pciedma_lab.vfio_user import Server

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Each as in a program that has just begun, and so again afterwards."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_raises_once_and_then_disturbs_no_more(number: signal.Signals) -> None:
    with pytest.raises(Interrupted) as caught, interruption.orderly():
        try:
            send(number)
            pytest.fail("it went on")
        finally:
            for other in SIGNALS:
                send(other)
    assert caught.value.number == number


def test_handlers_are_as_before_afterwards() -> None:
    with interruption.orderly():
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_signal_that_is_ignored_stays_so() -> None:
    """As nohup has it, and the shell for what runs in the background."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interruption.orderly():
        send(signal.SIGHUP)


def test_postponed_signal_comes_at_the_end() -> None:
    done = []
    with pytest.raises(Interrupted), interruption.orderly(), interruption.postponed():
        send(signal.SIGTERM)
        with interruption.postponed():
            done.append("inner")
        done.append("outer")
    assert done == ["inner", "outer"]


def test_postponed_in_another_thread_holds_up_nothing() -> None:
    inside, over = threading.Event(), threading.Event()

    def other() -> None:
        with interruption.postponed():
            inside.set()
            over.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(10)
    with pytest.raises(Interrupted), interruption.orderly():
        send(signal.SIGTERM)
    over.set()
    thread.join()


def served_card(folder: Path) -> int:
    return card_command.main(["capric", "--socket", str(folder / "socket"), "--control", str(folder / "control")])


@pytest.mark.parametrize("number", SIGNALS)
def test_card_that_is_ended_again_while_it_ends_leaves_no_socket_and_tells_what_it_saw(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, number: signal.Signals
) -> None:
    close = Listener.close

    def disturbed(self: Listener) -> None:
        send(number)
        close(self)

    monkeypatch.setattr(Server, "serve", lambda self: send(number))
    monkeypatch.setattr(Listener, "close", disturbed)
    assert served_card(tmp_path) == 0
    assert [*tmp_path.iterdir()] == []
    assert '"violations": []' in capsys.readouterr().out


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("name", ["control", "socket"])
def test_card_that_is_ended_as_it_begins_leaves_no_socket(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, number: signal.Signals
) -> None:
    make = Listener.__init__

    def disturbed(self: Listener, path: Path) -> None:
        make(self, path)
        if path.name == name:
            send(number)

    monkeypatch.setattr(Server, "serve", lambda self: pytest.fail("it goes on"))
    monkeypatch.setattr(Listener, "__init__", disturbed)
    assert served_card(tmp_path) == 0
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("number", SIGNALS)
def test_card_that_ignores_a_signal_lives_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: signal.Signals
) -> None:
    """As one that nohup has started does when its terminal goes."""
    served: list[bool] = []

    def serve(self: Server) -> None:
        send(number)
        served.append(True)

    signal.signal(number, signal.SIG_IGN)
    monkeypatch.setattr(Server, "serve", serve)
    assert served_card(tmp_path) == 0
    assert served == [True]


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("moment", ["_boot", "_start_qemu", "_connect", "finish", "close"])
def test_run_that_is_ended_leaves_nothing_in_tmp(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    moment: str,
    number: signal.Signals,
) -> None:
    """With a card whose process runs, and in place of QEMU one that does nothing."""
    machines: list[Machine] = []
    empty = dict.fromkeys(("image", "initramfs", "root"), tmp_path)
    monkeypatch.setattr(chroot, "SHARED_TMP", str(tmp_path))
    monkeypatch.setattr(chroot.Chroot, "command", lambda self, argv, mounts: ["sleep", "1000"])
    monkeypatch.setattr(run_command, "prepare", lambda *words, **options: None)
    monkeypatch.setattr(run_command, "_load", lambda *words: None)
    monkeypatch.setattr(run_command, "_run", lambda vm, arguments: 0)
    for name, value in (("_boot", empty), ("_connect", None), ("finish", None)):
        monkeypatch.setattr(Machine, name, lambda *words, value=value: value)
    right = getattr(Machine, moment)

    def interrupted(self: Machine, *words: Any) -> Any:
        if self not in machines:
            machines.append(self)
            if moment != "close":
                right(self, *words)
            send(number)
        return right(self, *words)

    monkeypatch.setattr(Machine, moment, interrupted)
    assert run_command.main(["--card", "capric", "--", "true"]) == 128 + number
    assert [*tmp_path.iterdir()] == []
    for machine in machines:
        assert not any(card.alive for card in machine.cards)
        assert machine._qemu is None or machine._qemu.poll() is not None
    assert capsys.readouterr().err.endswith(f"ended by {number.name}\n")
