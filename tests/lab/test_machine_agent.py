"""The agent of the guest and the host's side of its commands and calls, without a guest between them."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import os
import pty
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pciedma_lab import guest_agent, standard_input
from pciedma_lab.chroot import PROJECT
from pciedma_lab.guest_process import GuestError, MachineFailed, Process
from pciedma_lab.standard_input import Pump

from .bench import eventually

_WRITE_ALL = "os.fdopen(1, 'wb').write(d)"
_AGENT = "import sys; from pciedma_lab.guest_agent import Agent; Agent(int(sys.argv[1])).serve()"


class FakeHost:
    """What Machine is for a Process, over a socket to an agent that is a process of this computer."""

    patience = 1

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.processes: dict[int, Process] = {}
        #: How much output has come of each, whether anybody has taken it or not.
        self.came: Counter[int] = Counter()
        self.alive = True
        self._lock = threading.Lock()

    def read(self) -> None:
        with contextlib.suppress(ConnectionResetError), self.connection.makefile("rb") as file:
            for line in file:
                message = json.loads(line)
                if message["event"] == "output":
                    self.came[message["id"]] += len(base64.b64decode(message["data"]))
                if message["id"] in self.processes:
                    self.processes[message["id"]].deliver(message)

    def send(self, kind: str, identifier: int, /, **arguments: Any) -> None:
        data = json.dumps({"kind": kind, "id": identifier, **arguments}) + "\n"
        with self._lock:
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

    def run(
        self,
        *argv: str,
        stdin: str | None = "",
        env: dict[str, str] | None = None,
        cwd: str = "/",
        root: str | None = None,
    ) -> Process:
        process = self.process()
        stdin = None if stdin is None else base64.b64encode(stdin.encode()).decode()
        self.send("run", process.number, argv=argv, cwd=cwd, env=env or {}, stdin=stdin, root=root)
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


@pytest.mark.parametrize(
    ("argv", "place", "text"),
    [
        (["true"], {"cwd": "/absent"}, "/absent"),
        (["true"], {"root": "/absent"}, "/absent"),
        (["a\0b"], {}, "null byte"),
    ],
)
def test_run_that_cannot_begin_gives_127_and_ends_nothing(
    host: FakeHost, argv: list[str], place: dict[str, Any], text: str
) -> None:
    result = host.run(*argv, **place).completed(20)
    assert result.returncode == 127
    assert text in result.stderr
    assert host.run("true").wait(20) == 0


def test_run_input_for_which_there_is_no_room_gives_127(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        agent = guest_agent.Agent(theirs.fileno())
        with monkeypatch.context() as full:
            full.setattr(tempfile, "TemporaryFile", functools.partial(open, "/dev/full", "r+b", buffering=0))
            agent.do_run(1, ["cat"], "/", {}, base64.b64encode(b"words").decode())
        *_, done = map(json.loads, ours.recv(4096).splitlines())
    assert (done["event"], done["status"]) == ("done", 127)


def test_run_output_arrives_while_it_runs(host: FakeHost) -> None:
    pieces: list[tuple[str, bytes]] = []
    process = host.run("sh", "-c", "echo early; exec sleep 1000")

    def end_it(stream: str, data: bytes) -> None:
        pieces.append((stream, data))
        process.signal(signal.SIGKILL)

    process.on_output = end_it
    process.wait()
    assert pieces == [("stdout", b"early\n")]
    assert process.completed().stdout == ""


def test_run_ends_with_its_process_whatever_that_leaves_behind(host: FakeHost, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert host.run("sh", "-c", f"cat {fifo} & echo done").completed().stdout == "done\n"
    fifo.write_text("end")


def test_run_output_is_bytes_of_any_value_each_stream_its_own(host: FakeHost) -> None:
    data = random.Random(1).randbytes(100_000)
    parts = {"stdout": b"", "stderr": b""}

    def keep(stream: str, piece: bytes) -> None:
        parts[stream] += piece

    script = f"import random, os; d = random.Random(1).randbytes(100_000); os.write(2, d[::-1]); {_WRITE_ALL}"
    process = host.run(sys.executable, "-c", script)
    process.on_output = keep
    assert process.wait() == 0
    assert parts == {"stdout": data, "stderr": data[::-1]}


def test_end_of_a_process_takes_no_more_than_it_left_though_its_own_child_writes_on(
    monkeypatch: pytest.MonkeyPatch, source: tuple[int, int]
) -> None:
    reading, writing = source
    taken: list[bytes] = []

    def write_on(number: int, stream: str, data: bytes) -> None:
        taken.append(data)
        assert len(taken) < 10, "it goes on for ever"
        os.write(writing, data)

    ours, theirs = socket.socketpair()
    with ours, theirs:
        agent = guest_agent.Agent(theirs.fileno())
        monkeypatch.setattr(agent, "send_output", write_on)
        process = subprocess.Popen(["true"])
        job = guest_agent.Job(1, process.pid, {os.dup(reading): "stdout"})
        agent.watch(job)
        os.write(writing, b"x" * 65536)
        agent.end(job)
        process.returncode = 0  # the agent has waited for it
    assert b"".join(taken) == b"x" * 65536
    assert agent.jobs == {}


def test_run_whose_output_nobody_takes_waits_and_stops_no_other(host: FakeHost) -> None:
    silent = host.run("yes").started()
    assert eventually(lambda: host.came[silent.number] >= guest_agent.OUTPUT_WINDOW)
    for _ in range(20):
        assert host.run("echo", "done").completed().stdout == "done\n"
    assert host.came[silent.number] == guest_agent.OUTPUT_WINDOW
    silent.signal(signal.SIGKILL)
    assert silent.wait() == -signal.SIGKILL


def test_run_output_goes_on_as_it_is_taken_both_streams_whole(host: FakeHost) -> None:
    size = 5 * guest_agent.OUTPUT_WINDOW
    process = host.run("sh", "-c", f"head -c {size} /dev/zero & head -c {size} /dev/zero >&2; wait").started()
    assert eventually(lambda: host.came[process.number] >= guest_agent.OUTPUT_WINDOW)
    result = process.completed()
    assert (len(result.stdout), len(result.stderr)) == (size, size)


def test_run_that_has_ended_leaves_all_its_output_though_nobody_took_any(host: FakeHost) -> None:
    size = guest_agent.OUTPUT_WINDOW + 40_000  # more than the window: the rest is in the pipe
    process = host.run("head", "-c", str(size), "/dev/zero")
    assert eventually(lambda: host.came[process.number] == size)
    assert len(process.completed().stdout) == size


def test_output_of_a_machine_that_is_gone_can_be_taken(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(kind: str, identifier: int, /, **arguments: Any) -> None:
        raise MachineFailed("gone")

    process = host.run("head", "-c", str(guest_agent.OUTPUT_WINDOW), "/dev/zero")
    assert eventually(lambda: host.came[process.number] == guest_agent.OUTPUT_WINDOW)
    monkeypatch.setattr(host, "send", fail)
    assert len(process.completed().stdout) == guest_agent.OUTPUT_WINDOW


@pytest.fixture
def source() -> Iterator[tuple[int, int]]:
    """A pipe: what Pump reads, and what fills it."""
    reading, writing = os.pipe()
    yield reading, writing
    for fd in (reading, writing):
        with contextlib.suppress(OSError):
            os.close(fd)


def test_input_streams_bytes_of_any_value_and_its_end(host: FakeHost, source: tuple[int, int]) -> None:
    """Much more than what may be under way, to a command that reads late."""
    data = random.Random(2).randbytes(3_000_000)
    reading, writing = source

    def fill() -> None:
        with os.fdopen(writing, "wb") as file:
            file.write(data)

    filler = threading.Thread(target=fill)
    filler.start()
    process = host.run("sh", "-c", "sleep 0.5; exec sha256sum", stdin=None)
    with Pump(process, reading):
        assert process.completed().stdout.split()[0] == hashlib.sha256(data).hexdigest()
    filler.join()


def test_input_that_comes_late_arrives_at_once(host: FakeHost, source: tuple[int, int]) -> None:
    pieces: list[bytes] = []
    process = host.run("cat", stdin=None)

    def answer(stream: str, data: bytes) -> None:
        pieces.append(data)
        os.write(source[1], b"second") if len(pieces) == 1 else os.close(source[1])

    process.on_output = answer
    with Pump(process, source[0]):
        os.write(source[1], b"first")
        assert process.wait() == 0
    assert pieces == [b"first", b"second"]


def test_input_that_never_ends_does_not_hold_up_the_command(host: FakeHost, source: tuple[int, int]) -> None:
    process = host.run("echo", "done", stdin=None)
    with Pump(process, source[0]):
        assert process.completed().stdout == "done\n"
    os.write(source[1], b"for who comes next")
    assert os.read(source[0], 100) == b"for who comes next"


def test_input_that_is_not_wanted_any_more_stays_where_it_is(host: FakeHost, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(64 << 20))
    with (tmp_path / "file").open("rb", buffering=0) as file:
        process = host.run("sh", "-c", "exec 0<&-; sleep 1; echo done", stdin=None)
        with Pump(process, file.fileno()):
            assert process.completed().stdout == "done\n"
        assert file.tell() < 2 << 20


def test_input_ends_while_calls_run_that_know_nothing_of_it(host: FakeHost, source: tuple[int, int]) -> None:
    process = host.run("cat", stdin=None).started()
    waiting = host.call("signal:pause").started()
    with Pump(process, source[0]):
        os.close(source[1])
        assert process.wait(20) == 0
    waiting.signal(signal.SIGKILL)
    waiting.wait()


def test_input_that_cannot_be_read_ends(
    host: FakeHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    process = host.run("cat", stdin=None)
    with Pump(process, folder):
        assert process.wait() == 0
    os.close(folder)
    assert "standard input: Is a directory" in capsys.readouterr().err


def test_input_of_an_absent_command_is_no_matter(host: FakeHost, source: tuple[int, int]) -> None:
    os.write(source[1], b"words")
    process = host.run("no-such-command", stdin=None)
    with Pump(process, source[0]):
        assert process.wait() == 127
    assert host.run("true").wait() == 0


def test_input_is_not_taken_from_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    saved = os.dup(0)
    try:
        monkeypatch.setattr(sys, "stdin", sys.__stdin__)
        os.dup2(theirs, 0)
        assert not standard_input.is_given()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        assert standard_input.is_given()
        monkeypatch.setattr(sys, "stdin", None)  # as Python has it if the descriptor is closed
        assert not standard_input.is_given()
    finally:
        os.dup2(saved, 0)
        for fd in (ours, theirs, saved):
            os.close(fd)


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
