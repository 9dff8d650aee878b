"""The machine's process on this side, without a guest: whatever happens, it does not outlive its context."""

from __future__ import annotations

import contextlib
import errno
import json
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from pciedma_lab import machine
from pciedma_lab.chroot import Chroot
from pciedma_lab.control import ControlError
from pciedma_lab.guest_agent import SENTINEL
from pciedma_lab.machine import VERDICT, Machine, MachineFailed
from pciedma_lab.qemu import Guest


@pytest.fixture
def vm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine in place of whose QEMU something runs that does nothing."""
    names = ("image", "initramfs", "root", "folder", "results", "sockets")
    guest = Guest(**dict.fromkeys(names, tmp_path))  # type: ignore[arg-type]
    monkeypatch.setattr(Machine, "_prepare", lambda self: guest)
    monkeypatch.setattr(Chroot, "command", lambda self, argv, mounts: ["sleep", "1000"])
    vm = Machine()
    vm.guest = guest
    return vm


def test_interrupt_between_qemu_and_its_time_limit_leaves_nothing_running(
    vm: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*words: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*words, **options))
        return started[0]

    def interrupt(seconds: float, function: object) -> threading.Timer:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(threading, "Timer", interrupt)
    try:
        with pytest.raises(KeyboardInterrupt), vm:
            pytest.fail("there is no guest")
        assert started[0].returncode == -signal.SIGKILL
    finally:
        started[0].kill()


class FakeCard:
    """A card whose control connection says what a test has put there, one after the other."""

    name = "capric"
    alive = True

    def __init__(self, *answers: list[dict[str, Any]] | Exception, status: int | None = None) -> None:
        self._answers = list(answers)
        self._end = ["sleep", "1000"] if status is None else ["sh", "-c", f"exit {status}"]
        self.process: subprocess.Popen[bytes] | None = None
        self.control = self

    def start(self) -> None:
        self.process = subprocess.Popen(self._end)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def violations(self) -> list[dict[str, Any]]:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def verdict_on(vm: Machine, monkeypatch: pytest.MonkeyPatch, *cards: FakeCard) -> list[str]:
    """Judge a guest that has ended in order, with cards."""
    vm.guest.console.write_text(f"{SENTINEL}\n")
    monkeypatch.setattr(machine, "_ENDING_SECONDS", 1)
    monkeypatch.setattr(vm, "cards", list(cards))
    monkeypatch.setattr(vm, "_power_off", lambda: {"tainted": 0, "log": ""})
    monkeypatch.setattr(vm, "_shutdown_reason", lambda: "guest-shutdown")
    try:
        for card in cards:
            card.start()
        with contextlib.suppress(MachineFailed):
            vm.finish()
    finally:
        for card in cards:
            card.stop()
    problems: list[str] = json.loads((vm.guest.folder / VERDICT).read_text())
    return problems


SEEN = {"name": "size_zero"}


def test_verdict_on_models_that_answer_and_saw_nothing_is_good(vm: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verdict_on(vm, monkeypatch, FakeCard([], []), FakeCard([], [])) == []


def test_verdict_with_models_that_answer_has_each_violation_once(vm: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    late = {"name": "size_zero", "text": "as the guest went"}
    found = verdict_on(vm, monkeypatch, FakeCard([SEEN], [SEEN, late]))
    assert found == [f"violation: {json.dumps(violation)}" for violation in (SEEN, late)]


@pytest.mark.parametrize(
    "error",
    [
        ControlError("the model has ended"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        TimeoutError("timed out"),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_verdict_on_a_model_that_does_not_answer_says_so_and_what_others_saw(
    vm: Machine, monkeypatch: pytest.MonkeyPatch, error: Exception, late: bool
) -> None:
    silent = FakeCard([], error) if late else FakeCard(error, error)
    found = verdict_on(vm, monkeypatch, silent, FakeCard([SEEN], [SEEN]))
    assert sorted(found) == [f"the model of capric does not answer: {error}", f"violation: {json.dumps(SEEN)}"]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(("status", "text"), [(86, []), (1, ["the model of capric ended with status 1"])])
def test_verdict_on_a_model_that_ends_just_then_is_by_its_status(
    vm: Machine, monkeypatch: pytest.MonkeyPatch, status: int, text: list[str], late: bool
) -> None:
    """Not yet when it is asked; one that was told to die is in order, and what it saw before counts."""
    error = ConnectionResetError("reset")
    card = FakeCard([SEEN], error, status=status) if late else FakeCard(error, error, status=status)
    seen = [f"violation: {json.dumps(SEEN)}"] if late else []
    assert verdict_on(vm, monkeypatch, card) == text + seen


def test_reconnect_ends_the_connection_makes_another_and_wakes_the_agent(vm: Machine) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(vm.guest.agent))
        server.listen()
        vm._listen()
        first, _ = server.accept()
        reconnecting = threading.Thread(target=vm.reconnect)
        reconnecting.start()
        second, _ = server.accept()
        with first, second:
            assert first.recv(100) == b""
            assert json.loads(second.recv(1000))["argv"] == ["true"]
            assert reconnecting.is_alive()  # it has no answer yet
            second.sendall(b'{"id": 1, "event": "done", "status": 0}\n')
            reconnecting.join(30)
            assert not reconnecting.is_alive()
            vm._agent.close()  # type: ignore[union-attr]


def test_guest_that_ends_within_a_message_has_said_nothing_more(
    vm: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(vm.guest.agent))
        server.listen()
        before = {*threading.enumerate()}
        vm._listen()
        [reader] = {*threading.enumerate()} - before
        process = vm._process(1)
        client, _ = server.accept()
        with client:
            client.sendall(b'{"id": 1, "event": "done", "status": 0}\n{"id": 1, "eve')
        reader.join(30)
        vm._agent.close()  # type: ignore[union-attr]
        assert not reader.is_alive() and process.done
    assert not raised
