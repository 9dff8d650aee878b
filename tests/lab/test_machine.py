"""The machine's process on this side, without a guest: whatever happens, it does not outlive its context."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from pciedma_lab.chroot import Chroot
from pciedma_lab.machine import Machine
from pciedma_lab.qemu import Guest


@pytest.fixture
def vm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine in place of whose QEMU something runs that does nothing."""
    names = ("image", "initramfs", "root", "folder", "results", "sockets")
    guest = Guest(**dict.fromkeys(names, tmp_path))  # type: ignore[arg-type]
    monkeypatch.setattr(Machine, "_prepare", lambda self: guest)
    monkeypatch.setattr(Chroot, "command", lambda self, argv, mounts: ["sleep", "1000"])
    machine = Machine()
    machine.guest = guest
    return machine


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


def test_reconnect_ends_the_connection_and_makes_another(vm: Machine) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(vm.guest.agent))
        server.listen()
        vm._listen()
        first, _ = server.accept()
        vm.reconnect()
        second, _ = server.accept()
        process = vm.start_run(["true"])
        with first, second:
            assert first.recv(100) == b""
            assert json.loads(second.recv(1000))["argv"] == ["true"]
            second.sendall(b'{"id": 1, "event": "done", "status": 3}\n')
            assert process.wait() == 3
            vm._agent.close()  # type: ignore[union-attr]
