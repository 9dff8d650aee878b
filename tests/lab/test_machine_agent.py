"""The agent of the guest and the host's side of its commands and calls, without a guest between them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pciedma_lab import guest_agent
from pciedma_lab.chroot import PROJECT
from pciedma_lab.guest_process import GuestError, MachineFailed, Process

_AGENT = "import sys; from pciedma_lab.guest_agent import Agent; Agent(int(sys.argv[1])).serve()"


class FakeHost:
    """What Machine is for a Process, over a socket to an agent that is a process of this computer."""

    patience = 1

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.processes: dict[int, Process] = {}
        self.alive = True

    def read(self) -> None:
        with self.connection.makefile("rb") as file:
            for line in file:
                message = json.loads(line)
                if message["id"] in self.processes:
                    self.processes[message["id"]].deliver(message)

    def send(self, kind: str, identifier: int, /, **arguments: Any) -> None:
        data = json.dumps({"kind": kind, "id": identifier, **arguments}) + "\n"
        self.connection.sendall(data.encode())

    def check_alive(self) -> None:
        if not self.alive:
            raise MachineFailed("gone")

    def failure(self, text: str) -> MachineFailed:
        return MachineFailed(text)

    def process(self) -> Process:
        process = Process(self, len(self.processes) + 1)
        self.processes[process.number] = process
        return process

    def run(self, *argv: str, stdin: str = "", env: dict[str, str] | None = None) -> Process:
        process = self.process()
        self.send("run", process.number, argv=argv, cwd="/", env=env or {}, stdin=stdin)
        return process

    def call(self, target: str, **kwargs: Any) -> Process:
        process = self.process()
        self.send("call", process.number, target=target, kwargs=kwargs)
        return process


@pytest.fixture
def host() -> Iterator[FakeHost]:
    ours, theirs = socket.socketpair()
    with (
        ours,
        subprocess.Popen(
            [sys.executable, "-c", _AGENT, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            env={"PYTHONPATH": str(PROJECT / "python"), "PATH": "/usr/bin:/bin"},
        ) as agent,
    ):
        theirs.close()
        host = FakeHost(ours)
        reader = threading.Thread(target=host.read)
        reader.start()
        yield host
        os.killpg(agent.pid, signal.SIGKILL)  # with the children of calls that do not end
        reader.join()


def test_run_returns_status_and_both_outputs(host: FakeHost) -> None:
    result = host.run("sh", "-c", "echo out; echo err >&2; exit 7").completed()
    assert (result.returncode, result.stdout, result.stderr) == (7, "out\n", "err\n")


def test_run_passes_input_of_any_size_and_environment(host: FakeHost) -> None:
    text = "ünïcode " * 50000
    assert host.run("cat", stdin=text).completed().stdout == text
    assert host.run("sh", "-c", "echo $X", env={"X": "y"}).completed().stdout == "y\n"


def test_run_that_reads_no_input_does_not_stop_the_agent(host: FakeHost) -> None:
    sleeper = host.run("sleep", "1000", stdin="x" * 1000000).started()
    assert host.run("true").completed().returncode == 0
    sleeper.signal(signal.SIGKILL)
    assert sleeper.wait() == -signal.SIGKILL


def test_run_absent_command_gives_127(host: FakeHost) -> None:
    result = host.run("no-such-command").completed()
    assert result.returncode == 127
    assert "no-such-command" in result.stderr


def test_run_output_arrives_while_it_runs(host: FakeHost) -> None:
    pieces: list[tuple[str, str]] = []
    process = host.run("sh", "-c", "echo early; exec sleep 1000")

    def end_it(stream: str, text: str) -> None:
        pieces.append((stream, text))
        process.signal(signal.SIGKILL)

    process.on_output = end_it
    process.wait()
    assert pieces == [("stdout", "early\n")]


def test_run_ends_with_its_process_whatever_that_leaves_behind(host: FakeHost, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert host.run("sh", "-c", f"cat {fifo} & echo done").completed().stdout == "done\n"
    fifo.write_text("end")


def test_call_returns_its_value(host: FakeHost) -> None:
    assert host.call("json:loads", s="[1, null]").value() == [1, None]


def test_call_value_larger_than_a_pipe_arrives(host: FakeHost) -> None:
    assert len(host.call("textwrap:indent", text="x\n" * 200000, prefix="  ").value()) == 800000


def test_call_that_raises_gives_the_remote_traceback(host: FakeHost) -> None:
    with pytest.raises(GuestError, match=r"(?s)Traceback.*JSONDecodeError"):
        host.call("json:loads", s="[").value()


def test_call_of_absent_module_gives_the_remote_traceback(host: FakeHost) -> None:
    with pytest.raises(GuestError, match="No module named 'absent'"):
        host.call("absent:function").value()


def test_call_killed_is_an_error(host: FakeHost) -> None:
    process = host.call("signal:pause").started()
    process.signal(signal.SIGKILL)
    with pytest.raises(GuestError, match="status -9"):
        process.value()


def test_calls_run_at_the_same_time(host: FakeHost) -> None:
    waiting = [host.call("signal:pause").started() for _ in range(3)]
    assert host.call("os:getpid").value() not in {process.pid for process in waiting}
    assert not any(process.done for process in waiting)
    for process in waiting:
        process.signal(signal.SIGKILL)
        process.wait()


def test_wait_ends_when_time_is_up(host: FakeHost) -> None:
    process = host.call("signal:pause").started()
    with pytest.raises(MachineFailed, match="nothing ended within 0 s"):
        process.wait(0)


def test_wait_ends_when_the_machine_is_gone(host: FakeHost) -> None:
    process = host.call("signal:pause").started()
    host.alive = False
    with pytest.raises(MachineFailed, match="gone"):
        process.wait()


def test_agent_gives_the_users_modules_to_commands_and_takes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/first"])
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(os.path, "ismount", lambda path: path == guest_agent.WORK)
    guest_agent.set_paths()
    assert os.environ["PYTHONPATH"] == "/mnt/work:/mnt/project:/mnt/project/python"
    assert sys.path == ["/mnt/project", "/mnt/project/python", "/first"]


def test_agent_goes_on_when_the_host_is_there_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port without a host reads as its end."""
    done: list[int] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        agent = guest_agent.Agent(theirs.fileno())
        monkeypatch.setattr(agent, "do_signal", lambda id, number: done.append(number))
        with monkeypatch.context() as gone:
            gone.setattr(os, "read", lambda fd, size: b"")
            agent.read_port()
        assert done == []
        ours.sendall(b'{"kind": "signal", "id": 1, "number": 15}\n')
        agent.read_port()
    assert done == [15]
