"""The command ``run`` with a guest: what goes in and comes out, and what a guest has for its command."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pciedma_lab.chroot import PROJECT

from .conftest import KERNEL

#: About the machine itself: not again on the debug kernel.
pytestmark = pytest.mark.stock_kernel

#: A connection over loopback; then a general protection fault, and an access to nothing, of the user's own.
_PROGRAM = """\
import ctypes, mmap, os, signal, socket, sys
server = socket.create_server(("localhost", 0))
socket.create_connection(server.getsockname()).close()
for how in (0, 1):
    child = os.fork()
    if child == 0:
        page = mmap.mmap(-1, 4096, prot=7)
        page.write(b"\\xf4" if how else b"\\x31\\xc0\\x8b\\x00")
        ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
    print(signal.Signals(os.WTERMSIG(os.waitpid(child, 0)[1])).name, file=sys.stderr)
"""


def start(*words: str, **options: object) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "pciedma_lab", "run", "--kernel", KERNEL, *words]
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "python")}
    return subprocess.Popen(argv, env=environment, **options)  # type: ignore[call-overload, no-any-return]


def run(*words: str, data: bytes | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    stdin = subprocess.DEVNULL if data is None else subprocess.PIPE
    with start(*words, cwd=cwd, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        out, err = process.communicate(data, 500)
    return subprocess.CompletedProcess([], process.returncode, out, err)


def test_run_passes_bytes_both_ways_and_gives_the_command_what_it_needs(tmp_path: Path) -> None:
    """One machine for all of it; a program's own mistakes are no verdict on the driver."""
    data = random.Random(5).randbytes(100_000)
    (tmp_path / "program.py").write_text(_PROGRAM)
    script = "cat; pciedma list --json >&2; python3 program.py; dmesg | grep -c 'traps:.* general prot' >&2; exit 7"
    result = run("--card", "capric", "--", "sh", "-c", script, data=data, cwd=tmp_path)
    err = result.stderr.decode()
    assert result.returncode == 7, err
    assert result.stdout == data
    assert '"name": "capric"' in err
    assert err.endswith("SIGSEGV\nSIGSEGV\n1\n"), err


def test_run_that_is_ended_is_quick_and_leaves_nothing_in_tmp(tmp_path: Path) -> None:
    """In the midst of a command that would go on."""
    shown = tmp_path / "out"
    with shown.open("wb") as out, start(
        "--card", "capric", "--", "sh", "-c", "echo $$; exec sleep 1000", stdin=subprocess.DEVNULL, stdout=out,
        stderr=subprocess.PIPE,
    ) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not shown.read_bytes() and process.poll() is None:
            time.sleep(0.1)
        commands = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children.read_text().split()]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, err
    places = {word for command in commands for word in command.split(b"\0") if b"/pciedma-" in word}
    assert len(places) >= 2  # of the card and of QEMU
    for place in places:
        folder = "/tmp/pciedma-" + place.decode().split("/pciedma-")[1].split("/")[0]
        assert not Path(folder).exists(), folder


def test_run_whose_output_nobody_reads_any_more_ends() -> None:
    with start("--", "yes", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(4) == b"y\ny\n"
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
    assert process.returncode == 128 + signal.SIGPIPE, err
    assert b"Traceback" not in err


def test_run_whose_output_is_read_late_passes_all_of_it() -> None:
    """Much more than the host keeps of what nobody has taken."""
    size = 16 << 20
    with start(
        "--", "head", "-c", str(size), "/dev/zero", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        time.sleep(2)
        rest = process.stdout.read()
    assert process.returncode == 0
    assert first + rest == bytes(size)
