"""A virtual machine: a real kernel with emulated cards, what runs in it, and the verdict on it."""

from __future__ import annotations

import itertools
import json
import queue
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from . import cache, chroot, guest_image, kernels, modules, verdict
from .guest_agent import SENTINEL
from .qemu import ROOT_PORTS, Guest
from .qmp import Qmp

_BOOT_SECONDS = 180
_numbers = itertools.count()


class MachineFailed(Exception):
    """The guest crashed, hung, ended early, or did not end clean."""


class GuestError(Exception):
    """A function that ran in the guest raised; the text is its traceback."""


class Control(Protocol):
    """What the machine asks of a card's control connection."""

    def violations(self) -> list[dict[str, Any]]:
        """Return what the model forbids and has seen."""


class Card(Protocol):
    """An emulated card that can be plugged into the machine."""

    name: str

    @property
    def control(self) -> Control:
        """The connection to the model."""

    @property
    def alive(self) -> bool:
        """Whether the model's process runs."""

    def start(self) -> None:
        """Start the model."""

    def stop(self) -> None:
        """End it."""

    def qemu_device_arguments(self, bus: str | None) -> str:
        """Return what QEMU's -device takes, as JSON with an id."""


class Process:
    """A command or a call in the guest that is under way."""

    def __init__(self, machine: Machine, number: int) -> None:
        """Made by Machine."""
        self._machine = machine
        self._number = number
        self._messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._output = {"stdout": "", "stderr": "", "result": ""}
        self._status: int | None = None
        self.pid = 0
        #: Called with each piece of output: stream and text.
        self.on_output = lambda stream, text: None

    def deliver(self, message: dict[str, Any]) -> None:
        """Take a message of the agent's (from the machine's reader thread)."""
        self._messages.put(message)

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        while self._status is None and not self._messages.empty():
            self._take(self._messages.get())
        return self._status is not None

    def started(self, timeout_s: float = 30) -> Process:
        """Wait until it runs."""
        self._wait(lambda: self.pid != 0 or self._status is not None, timeout_s)
        return self

    def wait(self, timeout_s: float = 60) -> int:
        """Wait until it has ended and return its exit status; raises MachineFailed when time is up."""
        self._wait(lambda: self._status is not None, timeout_s)
        assert self._status is not None
        return self._status

    def completed(self, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Wait for a command's end and return its output."""
        status = self.wait(timeout_s)
        return subprocess.CompletedProcess([], status, self._output["stdout"], self._output["stderr"])

    def value(self, timeout_s: float = 60) -> Any:
        """Wait for a call's end and return its value; raises GuestError if it raised or was killed."""
        status = self.wait(timeout_s)
        if not self._output["result"]:
            raise GuestError(f"the call ended with status {status} and no value")
        result = json.loads(self._output["result"])
        if "error" in result:
            raise GuestError(result["error"])
        return result["value"]

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal."""
        self._machine.send("signal", self._number, number=int(number))

    def _wait(self, condition: Any, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            try:
                self._take(self._messages.get(timeout=max(0.0, min(1.0, end - time.monotonic()))))
            except queue.Empty:
                self._machine.check_alive()
                if time.monotonic() > end:
                    raise self._machine.failure(f"nothing ended within {timeout_s} s") from None

    def _take(self, message: dict[str, Any]) -> None:
        if message["event"] == "started":
            self.pid = message["pid"]
        elif message["event"] == "output":
            self._output[message["stream"]] += message["text"]
            self.on_output(message["stream"], message["text"])
        else:
            self._status = message.get("status", 0)
            self.final = message


class Machine:
    """A guest, from power-on to the verdict. Use it as a context manager; threads may share it.

    ``kernel`` names a series of kernels.SERIES. Leaving the context shuts the guest down in order and raises
    MachineFailed unless the guest ended in order, its kernel's log and taint flags are clean, and no card's
    model saw a violation.
    """

    def __init__(
        self,
        kernel: str = "trixie",
        *,
        iommu: bool = False,
        swiotlb_force: bool = False,
        memory_mib: int = 1024,
        cpus: int = 2,
        cards: Sequence[Card] = (),
        edu: int = 0,
        results: Path | None = None,
        time_limit_s: float = 900,
    ) -> None:
        """Prepare; nothing runs before the context is entered."""
        self.series = kernel
        self.cards = list(cards)
        self._time_limit_s = time_limit_s
        self._options = {"iommu": iommu, "swiotlb_force": swiotlb_force, "memory_mib": memory_mib}
        self._cpus = cpus
        self._edu = edu
        self._results = results
        self._expected_log: list[str] = []
        self._expected_violations: set[str] = set()
        self._requests = itertools.count(1)
        self._processes: dict[int, Process] = {}
        self._qemu: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self.kernel_release = ""

    def __enter__(self) -> Machine:
        """Boot, and wait for the agent."""
        kernel = kernels.provide(self.series)
        image, root = guest_image.initramfs(kernel), guest_image.root_image()
        folder = modules.BUILD / "vm" / f"{self.series}-{next(_numbers)}"
        cache.remove(folder)
        folder.mkdir(parents=True)
        self._sockets = tempfile.TemporaryDirectory(prefix="pciedma-vm-")
        results = self._results or folder / "results"
        results.mkdir(parents=True, exist_ok=True)
        try:
            for card in self.cards:
                card.start()
            self.guest = Guest(
                kernel.image, image, root, folder, results, cpus=self._cpus, edu=self._edu,
                sockets=Path(self._sockets.name),
                cards=[card.qemu_device_arguments(f"port{n}") for n, card in enumerate(self.cards)],
                **self._options,  # type: ignore[arg-type]
            )
            self._start_qemu()
            self._connect()
        except BaseException:
            self._tear_down()
            raise
        return self

    def _start_qemu(self) -> None:
        with (self.guest.folder / "qemu.log").open("wb") as log:
            self._qemu = subprocess.Popen(
                chroot.EMULATOR.command(self.guest.command()), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=chroot.environment(),
            )
        self._timer = threading.Timer(self._time_limit_s, self._qemu.kill)
        self._timer.daemon = True
        self._timer.start()

    def _connect(self) -> None:
        end = time.monotonic() + _BOOT_SECONDS
        while not (self.guest.agent.exists() and self.guest.qmp.exists()):
            self.check_alive()
            time.sleep(0.02)
        self.qmp = Qmp(self.guest.qmp)
        self._agent = socket.socket(socket.AF_UNIX)
        self._agent.connect(str(self.guest.agent))
        ready = self._process(0)
        threading.Thread(target=self._read, daemon=True).start()
        ready.wait(end - time.monotonic())
        self.kernel_release = ready.final["release"]

    def _read(self) -> None:
        with self._agent.makefile("rb") as file:
            for line in file:
                message = json.loads(line)
                process = self._processes.get(message["id"])
                if process:
                    process.deliver(message)

    def _process(self, number: int) -> Process:
        process = Process(self, number)
        self._processes[number] = process
        return process

    def send(self, kind: str, number: int, **arguments: Any) -> None:
        """Send a request to the agent."""
        with self._lock:
            self._agent.sendall(json.dumps({"kind": kind, "id": number, **arguments}).encode() + b"\n")

    def start_run(self, argv: Sequence[str], *, cwd: str = "/mnt/project", env: dict[str, str] | None = None,
                  stdin: str = "") -> Process:
        """Start a command in the guest."""
        process = self._process(next(self._requests))
        self.send("run", process._number, argv=list(argv), cwd=cwd, env=env or {}, stdin=stdin)
        return process

    def run(self, argv: Sequence[str], timeout_s: float = 60, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in the guest and return its status and output."""
        return self.start_run(argv, **options).completed(timeout_s)

    def start_call(self, target: str, **kwargs: Any) -> Process:
        """Start a function of a project's module, ``package.module:function``, in a process of its own."""
        process = self._process(next(self._requests))
        self.send("call", process._number, target=target, kwargs=kwargs)
        return process

    def call(self, target: str, timeout_s: float = 60, **kwargs: Any) -> Any:
        """Run a function in the guest; arguments and value pass through JSON. Raises GuestError if it does."""
        return self.start_call(target, **kwargs).value(timeout_s)

    def load_modules(self, **parameters: str) -> None:
        """Load the modules built for this kernel, core first; parameters by module name without ``pciedma_``."""
        names = sorted(path.stem for path in modules.built(self.series).glob("*.ko"))
        folder = f"/mnt/project/build/{self.series}/modules"
        for name in sorted(names, key=len):
            words = parameters.get(name.removeprefix("pciedma_"), "").split()
            self._must(["insmod", f"{folder}/{name}.ko", *words])

    def unload_modules(self) -> None:
        """Unload them."""
        names = sorted((path.stem for path in modules.built(self.series).glob("*.ko")), key=len, reverse=True)
        self._must(["rmmod", *names])

    def _must(self, argv: Sequence[str]) -> None:
        result = self.run(argv)
        if result.returncode:
            raise MachineFailed(f"{' '.join(argv)}: {result.stdout}{result.stderr}")

    def kernel_log(self) -> str:
        """Return the kernel's log so far."""
        return self.run(["dmesg"]).stdout

    def wait_log(self, pattern: str, timeout_s: float = 30) -> str:
        """Wait until a line of the kernel's log matches; returns it."""
        end = time.monotonic() + timeout_s
        while True:
            for line in self.kernel_log().splitlines():
                if re.search(pattern, line):
                    return line
            if time.monotonic() > end:
                raise self.failure(f"the kernel's log has no line like {pattern!r}")

    def expect_log(self, pattern: str) -> None:
        """Let the verdict pass suspicious lines of the kernel's log that match, since a test provokes them."""
        self._expected_log.append(pattern)

    def expect_violation(self, name: str) -> None:
        """Let the verdict pass violations of this name, since a test provokes them."""
        self._expected_violations.add(name)

    def device_del(self, card: Card) -> None:
        """Unplug a card in order, and wait until it is gone."""
        number = self.cards.index(card)
        device = json.loads(card.qemu_device_arguments(f"port{number}"))["id"]
        self.qmp.execute("device_del", id=device)
        self.qmp.wait_event("DEVICE_DELETED", device)

    def device_add(self, card: Card) -> None:
        """Plug a card in, into the port it was in or the next free one."""
        if card not in self.cards:
            self.cards.append(card)
            card.start()
        number = self.cards.index(card)
        assert number < ROOT_PORTS
        arguments = json.loads(card.qemu_device_arguments(f"port{number}"))
        self.qmp.execute("device_add", **arguments)

    def check_alive(self) -> None:
        """Raise MachineFailed if QEMU has ended."""
        if self._qemu is not None and self._qemu.poll() is not None:
            raise self.failure(f"QEMU ended with status {self._qemu.returncode}")

    def failure(self, text: str) -> MachineFailed:
        """Return an exception with the end of the guest's console."""
        parts = [text, f"console: {self.guest.console}"]
        for path in (self.guest.console, self.guest.folder / "qemu.log"):
            if path.exists():
                parts += path.read_text(errors="replace").splitlines()[-60:]
        return MachineFailed("\n".join(parts))

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Shut down; judge, unless an exception is under way already."""
        try:
            if kind is None:
                self._finish()
        finally:
            self._tear_down()

    def _finish(self) -> None:
        violations = self._violations()
        process = self._process(next(self._requests))
        self.send("shut_down", process._number)
        process.wait(60)
        assert self._qemu is not None
        try:
            self._qemu.wait(60)
        except subprocess.TimeoutExpired:
            raise self.failure("the guest did not power off") from None
        log = process.final["log"]
        console = self.guest.console.read_text(errors="replace")
        problems = verdict.suspicious(log, self._expected_log)
        problems += [line for line in verdict.suspicious(console, self._expected_log) if line not in problems]
        if tainted := verdict.bad_taint(process.final["tainted"]):
            problems.append(f"the kernel is tainted: {tainted:#x}")
        if SENTINEL not in console:
            problems.append("the guest did not say that it ends in order")
        problems += violations
        if problems:
            raise self.failure("the run was not clean:\n" + "\n".join(problems) + "\n")

    def _violations(self) -> list[str]:
        found = []
        for card in self.cards:
            if card.alive:
                found += [v for v in card.control.violations() if v["name"] not in self._expected_violations]
        return [f"violation: {json.dumps(violation)}" for violation in found]

    def _tear_down(self) -> None:
        if self._qemu is not None:
            self._timer.cancel()
            self._qemu.kill()
            self._qemu.wait()
        for card in self.cards:
            card.stop()
        self._sockets.cleanup()
