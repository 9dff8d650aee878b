"""The program that runs in the guest and does what the host's Machine asks of it.

It speaks lines of JSON over a virtio port. Requests: ``run`` (a command), ``input`` (more of its standard input),
``output_taken`` (how much of its output somebody has taken on the host), ``call`` (a function of a module of the
project, in a forked child, so that no interpreter has to start), ``signal``, ``shut_down``. Replies carry the request's
``id``. What commands read and write is bytes: base64 here.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import fcntl
import functools
import importlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import termios
import time
import traceback
from pathlib import Path
from typing import Any

PROJECT = Path("/mnt/project")
#: Where a folder of the user's is, if there is one.
WORK = "/mnt/work"
#: Where a root file system of the user's is, if there is one.
ROOT = "/mnt/root"
PORT_NAME = "pciedma.agent"
SENTINEL = "pciedma-lab: the guest ends in order"
RB_POWER_OFF = 0x4321FEDC
#: As Debian's root has it.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Between two looks at a port at whose other end is nobody.
_AGAIN_S = 0.1
#: Of one read.
_CHUNK = 65536
#: So much of a job's output may be with the host and not taken there; then the job has to wait.
OUTPUT_WINDOW = 1 << 20


class Job:
    """A child that is under way: its process, the pipes that it still may write to, and the one that it reads.

    It ends when its process does, even if processes that it left behind hold the pipes.
    """

    def __init__(self, number: int, pid: int, pipes: dict[int, str], stdin: int | None = None) -> None:
        """Take over *pipes*, file descriptors and what they carry, and the writing end *stdin*."""
        self.number = number
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.pipes = pipes
        self.stdin = stdin
        #: What has come for it, and has no room in the pipe yet; and whether that is all.
        self.input = b""
        self.input_ends = False
        #: How much more of its output the host has room for.
        self.room = OUTPUT_WINDOW


class Agent:
    """The loop between the port and the children."""

    def __init__(self, port: int) -> None:
        """Serve the open file descriptor *port*."""
        self.port = port
        self.selector = selectors.DefaultSelector()
        self.selector.register(port, selectors.EVENT_READ)
        self.jobs: dict[int, Job] = {}
        self.rest = b""

    def serve(self) -> None:
        """Answer until the guest is shut down."""
        self.send(id=0, event="ready", release=os.uname().release)
        while True:
            for key, _ in self.selector.select():
                job = key.data
                if key.fd == self.port:
                    self.read_port()
                elif key.fd == job.pidfd:
                    self.end(job)
                elif key.fd in job.pipes:
                    self.pass_output(key.fd, job)
                elif key.fd == job.stdin:
                    self.write_input(job)

    def send(self, **message: Any) -> None:
        """Send one message to the host."""
        data = memoryview(json.dumps(message).encode() + b"\n")
        while data:
            data = data[os.write(self.port, data) :]

    def read_port(self) -> None:
        """Take what the host has sent and do each request."""
        data = os.read(self.port, _CHUNK)
        if not data:  # the host is not there, or the kernel thinks so
            time.sleep(_AGAIN_S)
            return
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            getattr(self, "do_" + request.pop("kind"))(**request)

    def do_run(
        self, id: int, argv: list[str], cwd: str, env: dict[str, str], stdin: str | None, root: str | None = None
    ) -> None:
        """Start a command, in another *root*; *stdin* is its whole input, or None if that comes by ``input``."""
        try:
            process = start(argv, cwd, env, stdin, root)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            text = f"{root}: cannot be entered at {cwd}" if isinstance(error, subprocess.SubprocessError) else error
            self.send_output(id, "stderr", f"{text}\n".encode())
            self.send(id=id, event="done", status=127)
            return
        assert process.stdout and process.stderr
        pipes = {os.dup(process.stdout.fileno()): "stdout", os.dup(process.stderr.fileno()): "stderr"}
        writing = os.dup(process.stdin.fileno()) if process.stdin else None
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe:
                pipe.close()
        process.returncode = 0  # this loop waits for it, not the object
        self.watch(Job(id, process.pid, pipes, writing))

    def do_input(self, id: int, data: str) -> None:
        """Pass more input to a command; the end, if *data* is empty."""
        job = self.jobs.get(id)
        if job is None or job.stdin is None:
            return
        job.input += base64.b64decode(data)
        job.input_ends = not data
        self.write_input(job)

    def write_input(self, job: Job) -> None:
        """Write to a command as much as the pipe takes, and tell the host how much that was."""
        if job.stdin is None:
            return
        try:
            written = os.write(job.stdin, job.input) if job.input else 0
        except BlockingIOError:
            written = 0
        except OSError:  # it has closed its end
            self.close_input(job)
            return
        job.input = job.input[written:]
        if written:
            self.send(id=job.number, event="input", taken=written)
        if job.input_ends and not job.input:
            self.close_input(job)
        else:
            self.wait_for_room(job, bool(job.input))

    def wait_for_room(self, job: Job, wanted: bool) -> None:
        """Let the loop watch a command's standard input, or not."""
        assert job.stdin is not None
        watched = job.stdin in self.selector.get_map()
        if wanted and not watched:
            self.selector.register(job.stdin, selectors.EVENT_WRITE, job)
        elif watched and not wanted:
            self.selector.unregister(job.stdin)

    def close_input(self, job: Job) -> None:
        """End a command's input, and tell the host that no more is wanted."""
        if job.stdin is None:
            return
        self.wait_for_room(job, False)
        os.close(job.stdin)
        job.stdin, job.input = None, b""
        self.send(id=job.number, event="input_over")

    def do_call(self, id: int, target: str, kwargs: dict[str, Any]) -> None:
        """Start a function in a child.

        Its module is imported here, once for all calls: the shared folder is slow.
        """
        with contextlib.suppress(Exception):  # the child tries again, and its caller learns why
            importlib.import_module(target.partition(":")[0])
        readable, writable = os.pipe()
        pid = os.fork()
        if pid == 0:
            self.child(writable, target, kwargs)
        os.close(writable)
        self.watch(Job(id, pid, {readable: "result"}))

    def child(self, result: int, target: str, kwargs: dict[str, Any]) -> None:
        """Run the function, write what it returned as JSON, and end."""
        os.close(self.port)
        for job in self.jobs.values():
            if job.stdin is not None:  # else it would not see its input's end while this child lives
                os.close(job.stdin)
        self.selector.close()
        try:
            module, _, name = target.partition(":")
            value = {"value": getattr(importlib.import_module(module), name)(**kwargs)}
        except BaseException:
            value = {"error": traceback.format_exc()}
        with os.fdopen(result, "w") as file:
            json.dump(value, file)
        os._exit(0)

    def do_signal(self, id: int, number: int) -> None:
        """Send a signal to a child."""
        job = self.jobs.get(id)
        if job:
            os.kill(job.pid, number)

    def do_shut_down(self, id: int) -> None:
        """Say how the kernel is, and power off."""
        tainted = int(Path("/proc/sys/kernel/tainted").read_text())
        self.send(id=id, event="done", tainted=tainted, log=kernel_log())
        Path("/dev/kmsg").write_text(f"{SENTINEL}\n")
        if Path("/run/systemd/system").exists():
            subprocess.run(["systemctl", "--no-block", "poweroff"], check=True)
            return
        os.sync()
        ctypes.CDLL(None).reboot(RB_POWER_OFF)

    def watch(self, job: Job) -> None:
        """Wait for a job's output and end from now on."""
        self.jobs[job.number] = job
        self.send(id=job.number, event="started", pid=job.pid)
        self.selector.register(job.pidfd, selectors.EVENT_READ, job)
        for pipe in job.pipes:
            os.set_blocking(pipe, False)
        self.watch_output(job, True)
        if job.stdin is not None:
            os.set_blocking(job.stdin, False)

    def send_output(self, number: int, stream: str, data: bytes) -> None:
        """Send what a job has written."""
        self.send(id=number, event="output", stream=stream, data=base64.b64encode(data).decode())

    def watch_output(self, job: Job, wanted: bool) -> None:
        """Let the loop watch a job's pipes, or not: then it waits as soon as they are full."""
        for pipe in job.pipes:
            watched = pipe in self.selector.get_map()
            if wanted and not watched:
                self.selector.register(pipe, selectors.EVENT_READ, job)
            elif watched and not wanted:
                self.selector.unregister(pipe)

    def pass_output(self, pipe: int, job: Job) -> None:
        """Pass on as much output as the host has room for."""
        if job.room:  # else its other pipe has just taken the rest
            job.room -= self.read_pipe(pipe, job, job.room)
            if not job.room:
                self.watch_output(job, False)

    def do_output_taken(self, id: int, size: int) -> None:
        """The host has room for more of a job's output."""
        job = self.jobs.get(id)
        if job:
            job.room += size
            self.watch_output(job, True)

    def read_pipe(self, pipe: int, job: Job, size: int) -> int:
        """Pass on so much output at most, and close the pipe at its end; returns how much it was."""
        try:
            data = os.read(pipe, min(size, _CHUNK))
        except BlockingIOError:
            return 0
        if data:
            self.send_output(job.number, job.pipes[pipe], data)
        else:
            self.close_pipe(pipe, job)
        return len(data)

    def close_pipe(self, pipe: int, job: Job) -> None:
        """Forget a pipe."""
        if pipe in self.selector.get_map():
            self.selector.unregister(pipe)
        os.close(pipe)
        del job.pipes[pipe]

    def end(self, job: Job) -> None:
        """A job has ended: pass on what is left of its output (its own children may still hold the pipes)."""
        for pipe in [*job.pipes]:
            left = waiting(pipe)  # asked once: they may write on for ever
            while left and (taken := self.read_pipe(pipe, job, left)):
                left -= taken
        for pipe in [*job.pipes]:
            self.close_pipe(pipe, job)
        self.close_input(job)
        self.selector.unregister(job.pidfd)
        os.close(job.pidfd)
        _, status = os.waitpid(job.pid, 0)
        del self.jobs[job.number]
        self.send(id=job.number, event="done", status=os.waitstatus_to_exitcode(status))


def start(
    argv: list[str], cwd: str, env: dict[str, str], stdin: str | None, root: str | None
) -> subprocess.Popen[bytes]:
    """Start a command, as do_run() is asked to.

    Raises OSError, ValueError for words that no command can have, and SubprocessError if *root* cannot be entered.
    """
    with tempfile.TemporaryFile() as file:  # not a pipe: the command may read late or never
        file.write(base64.b64decode(stdin or ""))
        file.seek(0)
        return subprocess.Popen(
            argv,
            cwd=None if root else cwd,
            preexec_fn=functools.partial(enter, root, cwd) if root else None,
            env=os.environ | env,
            stdin=subprocess.PIPE if stdin is None else file,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


def waiting(pipe: int) -> int:
    """Return how many bytes a pipe holds."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def enter(root: str, cwd: str) -> None:
    """Go on in another root."""
    os.chroot(root)
    os.chdir(cwd)


def kernel_log() -> str:
    """Return the kernel's log."""
    return subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout


def open_port() -> int:
    """Return a file descriptor of the port to the host."""
    for name in Path("/sys/class/virtio-ports").glob("*/name"):
        if name.read_text().strip() == PORT_NAME:
            port = os.open(f"/dev/{name.parent.name}", os.O_RDWR)
            fcntl.fcntl(port, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
            return port
    raise SystemExit(f"there is no port {PORT_NAME}")


def set_paths() -> None:
    """Let commands find the user's modules and the project's, and the agent the latter alone.

    Else a module of the user's would become a part of it.
    """
    ours = [str(PROJECT), str(PROJECT / "python")]
    os.environ["PYTHONPATH"] = ":".join([*([WORK] if os.path.ismount(WORK) else []), *ours])
    sys.path[:0] = ours


def main() -> None:
    """Serve the host for ever."""
    os.environ.update(PATH=_PATH, HOME="/root", LANG="C.UTF-8")
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    os.chdir("/")
    set_paths()
    Agent(open_port()).serve()


if __name__ == "__main__":
    main()
