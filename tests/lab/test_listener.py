"""Sockets by name: what stands at a path is replaced only if it is a socket that nobody has any more."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pciedma_lab import card_command
from pciedma_lab.cache import LabError
from pciedma_lab.control import Control
from pciedma_lab.listener import Listener, _identity

from .bench import Client
from .conftest import Served

PYTHON = str(Path(card_command.__file__).parents[1])
LONGEST = 107


def named(folder: Path, length: int) -> Path:
    """Return a path of so many bytes in a folder."""
    path = folder / ("n" * (length - len(str(folder)) - 1))
    assert len(str(path)) == length
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def reached(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    return True


def bind_only(path: Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, kind)
    bound.bind(str(path))
    return bound


def test_listener_takes_a_new_path_and_leaves_nothing(tmp_path: Path) -> None:
    listener = Listener(tmp_path / "socket")
    assert reached(tmp_path / "socket")
    assert [path.name for path in tmp_path.iterdir()] == ["socket"]
    listener.close()
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_listener_replaces_a_stale_socket(tmp_path: Path, kind: socket.SocketKind) -> None:
    bind_only(tmp_path / "socket", kind).close()
    listener = Listener(tmp_path / "socket")
    assert reached(tmp_path / "socket")
    listener.close()


def test_listener_replaces_what_a_killed_process_left(tmp_path: Path) -> None:
    script = f"import pathlib, time; from pciedma_lab.listener import Listener\n" \
        f"l = Listener(pathlib.Path({str(tmp_path / 'socket')!r})); print(flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": PYTHON}
    ) as process:
        assert process.stdout and process.stdout.readline() == b"\n"
        with pytest.raises(LabError, match="another process has this socket"):
            Listener(tmp_path / "socket")
        process.kill()
    Listener(tmp_path / "socket").close()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_listener_leaves_a_living_socket_of_any_type(tmp_path: Path, kind: socket.SocketKind) -> None:
    bound = bind_only(tmp_path / "socket", kind)
    inode = (tmp_path / "socket").stat().st_ino
    with pytest.raises(LabError, match="another process has this socket"):
        Listener(tmp_path / "socket")
    assert (tmp_path / "socket").stat().st_ino == inode
    assert [path.name for path in tmp_path.iterdir()] == ["socket"]
    bound.close()


def test_listener_with_a_full_queue_is_not_taken_for_a_stale_one(tmp_path: Path) -> None:
    first = Listener(tmp_path / "socket")
    waiting = []
    for _ in range(9):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(tmp_path / "socket"))
        waiting.append(client)
    with pytest.raises(LabError, match="another process"):
        Listener(tmp_path / "socket")
    for client in waiting:
        client.close()
    first.close()


def make_file(path: Path) -> None:
    path.write_text("precious")


def make_link(path: Path) -> None:
    (path.parent / "target").write_text("precious")
    path.symlink_to("target")


def make_link_to_nothing(path: Path) -> None:
    path.symlink_to("nothing")


@pytest.mark.parametrize("make", [make_file, make_link, make_link_to_nothing, os.mkfifo, Path.mkdir])
def test_listener_refuses_what_is_no_socket_and_leaves_it(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "socket"
    make(path)
    before = (path.lstat(), path.read_text() if path.is_file() else "", names(tmp_path))
    with pytest.raises(LabError, match=r"there is a (file that is no socket|folder)"):
        Listener(path)
    assert (path.lstat().st_ino, names(tmp_path)) == (before[0].st_ino, before[2])
    assert (path.read_text() if path.is_file() else "") == before[1]


def test_listener_leaves_files_beside_it_alone(tmp_path: Path) -> None:
    (tmp_path / "socket.new").write_text("precious")
    Listener(tmp_path / "socket").close()
    assert (tmp_path / "socket.new").read_text() == "precious"


def test_listener_does_not_remove_what_has_come_to_its_place(tmp_path: Path) -> None:
    listener = Listener(tmp_path / "socket")
    (tmp_path / "socket").unlink()
    (tmp_path / "socket").write_text("precious")
    listener.close()
    assert (tmp_path / "socket").read_text() == "precious"


def test_listener_path_may_have_as_many_bytes_as_an_address(tmp_path: Path) -> None:
    listener = Listener(named(tmp_path, LONGEST))
    assert reached(named(tmp_path, LONGEST))
    listener.close()
    for length in (LONGEST + 1, LONGEST + 2, 300):
        with pytest.raises(LabError, match=f"at most, this one {length}"):
            Listener(named(tmp_path, length))
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("absent/socket", "No such file or directory"),
        ("file/socket", "Not a directory"),
        ("..", "there is a folder"),
        ("", "there is a folder"),
        ("s\udcffcket", "not UTF-8"),
        ("/proc/socket", "no socket can be made here"),
    ],
)
def test_listener_at_a_bad_path_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(LabError, match=text):
        Listener(Path(path))
    assert names(tmp_path) == ["file"]


def test_listener_without_permission_says_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    was = os.geteuid()
    try:
        if was == 0:
            os.seteuid(65534)
        with pytest.raises(LabError, match="Permission denied"):
            Listener(tmp_path / "socket")
    finally:
        os.seteuid(was)
        tmp_path.chmod(0o755)


def test_of_many_that_want_a_stale_path_at_once_one_gets_it(tmp_path: Path) -> None:
    bind_only(tmp_path / "socket").close()
    won: list[Listener] = []
    refused: list[LabError] = []

    def take() -> None:
        try:
            won.append(Listener(tmp_path / "socket"))
        except LabError as error:
            refused.append(error)

    threads = [threading.Thread(target=take) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(refused)) == (1, 15)
    assert reached(tmp_path / "socket")
    won[0].close()


@pytest.mark.parametrize("stale", [False, True])
def test_listener_does_not_replace_what_comes_after_it_has_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stale: bool
) -> None:
    """Made by a program that knows nothing of the lock."""
    path = tmp_path / "socket"
    if stale:
        bind_only(path).close()

    def disturbed(folder: int, name: str) -> tuple[int, int]:
        if name != path.name and not path.is_file():
            path.unlink(missing_ok=True)
            path.write_text("precious")
        return _identity(folder, name)

    monkeypatch.setattr("pciedma_lab.listener._identity", disturbed)
    with pytest.raises(LabError, match=r"no socket can be made here: File exists"):
        Listener(path)
    assert path.read_text() == "precious"
    assert names(tmp_path) == ["socket"]


def card(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "pciedma_lab", "card", "capric", *words]
    environment = os.environ | {"PYTHONPATH": PYTHON}
    return subprocess.run(argv, text=True, check=False, capture_output=True, timeout=60, env=environment)


def test_card_does_not_take_a_living_cards_sockets_nor_disturb_it(served: Served, tmp_path: Path) -> None:
    client = served.client()
    client.version()
    for words in (["--socket", str(served.path)], ["--socket", str(tmp_path / "s"), "--control", str(served.path)]):
        result = card(*words)
        assert (result.returncode, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
        assert "another process has this socket" in result.stderr
    control = Control(served.control_path)
    assert control.counters().get("resets", 0) == 0
    control.close()
    assert names(tmp_path) == ["control", "socket"]


@pytest.mark.parametrize("control", ["socket", "./socket", "link/socket"])
def test_card_refuses_one_path_for_both_sockets(tmp_path: Path, control: str) -> None:
    (tmp_path / "link").symlink_to(".")
    result = card("--socket", str(tmp_path / "socket"), "--control", f"{tmp_path}/{control}")
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert "--socket and --control" in result.stderr
    assert names(tmp_path) == ["link"]


def test_card_at_a_bad_path_ends_in_one_line_and_leaves_no_other_socket(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("precious")
    for bad in (tmp_path / "notes", tmp_path / "absent/socket", tmp_path, named(tmp_path, LONGEST + 1)):
        result = card("--socket", str(bad), "--control", str(tmp_path / "control"))
        assert (result.returncode, result.stdout, len(result.stderr.splitlines())) == (2, "", 1), result.stderr
        assert str(bad) in result.stderr
    assert names(tmp_path) == ["notes"]
    assert (tmp_path / "notes").read_text() == "precious"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_card_that_is_ended_leaves_no_socket(tmp_path: Path, number: signal.Signals) -> None:
    argv = [sys.executable, "-m", "pciedma_lab", "card", "capric", "--socket", str(tmp_path / "socket")]
    argv += ["--control", str(tmp_path / "control")]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": PYTHON},
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    ) as process:
        assert process.stdout
        for _ in range(3):
            process.stdout.readline()
        Client(tmp_path / "socket").close()
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert names(tmp_path) == []
