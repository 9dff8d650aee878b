"""A virtual machine: a real kernel with emulated cards, what runs in it, and the verdict on it."""

from __future__ import annotations

import base64
import contextlib
import functools
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from . import cache, chroot, guest_image, interruption, kernel_image, kernels, modules, project, secure_boot, verdict
from .control import ControlError
from .guest_agent import PROJECT, ROOT, SENTINEL, WORK
from .guest_process import GuestError, MachineFailed, Process
from .installed import Installed
from .qemu import ROOT_PORTS, Guest
from .qmp import Qmp, QmpError

__all__ = ["Card", "Control", "GuestError", "Machine", "MachineFailed", "Process", "prepare"]

_BOOT_SECONDS = 180
_END_SECONDS = 60
_REPORT_SECONDS = 120  # for what a debug kernel has to say at the end
_KEPT_FOLDERS = 30
_CONSOLE_BYTES = 64 << 20  # as much as no guest says that is in order
_END_BYTES = 64 << 10
_INSTALLED_PATIENCE = 4  # a whole distribution takes longer for everything than our own init
#: In the folder of a machine that was judged: what was wrong, as a list.
VERDICT = "verdict.json"
_ORDERED_DEATH = 86  # the exit status of a model that was told to die
_ENDING_SECONDS = 2  # from the end of its connection to that of its process
_numbers = itertools.count()
_REPORTS = "pciedma_lab.guest.debug_reports"


class Control(Protocol):
    """What the machine asks of a card's control connection."""

    def violations(self) -> list[dict[str, Any]]:
        """Return what the model forbids and has seen, each with a ``name``."""


class Card(Protocol):
    """An emulated card that can be plugged into the machine."""

    name: str
    #: The file of a model outside the project, beside which its back end lies.
    source: Path | None
    process: subprocess.Popen[bytes] | None

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


class Machine:
    """A guest, from power-on to the verdict. Use it as a context manager; threads may share it.

    ``kernel`` names a series of kernels.SERIES; ``results`` is a folder of the host that the guest sees as
    ``/mnt/results``; ``work`` is one that it sees as ``/mnt/work``, read-only. The whole project (of an installed lab:
    its packages and what it has built) is at ``/mnt/project``, read-only. Its system has Debian's ``packages``, too; in
    ``root``, a root file system of the host's, commands run that are started ``in_root``. ``installed`` boots a whole
    distribution from its own disk in place of the lab's small system. ``words`` go to the end of the kernel's command
    line. Leaving the context shuts the guest down in order and raises MachineFailed unless the guest ended in order,
    its kernel's log and taint flags are clean, and no card's model crashed or saw a violation. The guest ends with the
    thread that entered the context, whatever happens, and after ``time_limit_s`` seconds; a slow kernel gets
    ``patience`` times as long for everything.
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
        icount: bool = False,
        native_hotplug: bool = False,
        words: Sequence[str] = (),
        installed: Installed | None = None,
        results: Path | None = None,
        work: Path | None = None,
        root: Path | None = None,
        packages: Sequence[str] = (),
        time_limit_s: float = 600,
    ) -> None:
        """Prepare; nothing runs before the context is entered."""
        self.series = kernel
        self.cards = list(cards)
        #: The files of cards from outside the project, as modules.build() wants them.
        self.back_ends = list(dict.fromkeys(card.source for card in cards if card.source))
        #: What ``uname -r`` says in the guest.
        self.kernel_release = ""
        self._options: dict[str, Any] = {
            "iommu": iommu,
            "swiotlb_force": swiotlb_force,
            "memory_mib": memory_mib,
            "cpus": cpus,
            "edu": edu,
            "icount": icount,
            "native_hotplug": native_hotplug,
            "work": work is not None,
            "root_folder": root is not None,
        }
        self.packages = tuple(packages)
        #: Folders of the caller's, by the places where QEMU finds them.
        self._mounts = {place: path.resolve() for place, path in ((WORK, work), (ROOT, root)) if path}
        if results:
            self._mounts[str(results.resolve())] = results.resolve()
        self._words = tuple(words)
        self.allowed_taint = 0
        self._installed = installed
        self._results = results
        self._time_limit_s = time_limit_s
        self._out_of_time = False
        self._finished = False
        self._expected_log: list[str] = []
        self._leaks: list[str] = []
        self._expected_violations: set[str] = set()
        self._requests = itertools.count(1)
        self._processes: dict[int, Process] = {}
        self._qemu: subprocess.Popen[bytes] | None = None
        self._timer: threading.Timer | None = None
        self._agent: socket.socket | None = None
        self._lock = threading.Lock()

    @property
    def patience(self) -> int:
        """The factor by which its waits and its time limit are longer than said, since the kernel is slower."""
        return _INSTALLED_PATIENCE if self._installed else kernels.SERIES[self.series].patience

    @property
    def _built(self) -> Path:
        return modules.built(self.series, self.back_ends)

    @property
    def _place(self) -> str:
        """The folder of the guest's in which commands run."""
        return WORK if WORK in self._mounts else str(PROJECT)

    @property
    def _is_debug(self) -> bool:
        return kernels.SERIES[self.series].is_debug

    def __enter__(self) -> Machine:
        """Boot, and wait for the agent."""
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self.guest = self._prepare()
            for card in self.cards:
                card.start()
            self._start_qemu()
            self._connect()
            if self._is_debug:
                self.call(f"{_REPORTS}:mount")
            undo.pop_all()
        return self

    def _prepare(self) -> Guest:
        """Provide all that the guest is made of."""
        project.provide()
        folder = _make_folder(self.series)
        with interruption.postponed():
            self._sockets = tempfile.TemporaryDirectory(prefix="pciedma-vm-", dir=chroot.SHARED_TMP)
        results = (self._results or folder / "results").resolve()
        results.mkdir(parents=True, exist_ok=True)
        sockets = Path(self._sockets.name)
        boot = self._boot(folder)
        boot["words"] = (*boot.get("words", ()), *self._words)
        guest = Guest(**boot, folder=folder, results=results, sockets=sockets, **self._options)
        if guest.firmware is not None:
            words = guest.kernel_command_line()
            secure_boot.fill_boot_folder(guest.firmware.boot, guest.image, guest.initramfs, words)
        return guest

    def _boot(self, folder: Path) -> dict[str, Any]:
        """Return what of the guest says what it boots."""
        if self._installed is not None:
            return self._installed.boot(folder)
        kernels.find(self.series, to_boot=True)
        image = functools.partial(guest_image.root_image, self.packages)
        provide = functools.partial(kernels.provide, self.series)
        compiled = functools.partial(guest_image.compile_imported, self.packages)
        root, kernel, _ = cache.together(image, provide, compiled)
        return {
            "image": kernel_image.to_boot(kernel),
            "initramfs": guest_image.initramfs(kernel),
            "root": root,
            "modules": kernel.modules,
        }

    def _start_qemu(self) -> None:
        cards = [card.qemu_device_arguments(f"port{number}") for number, card in enumerate(self.cards)]
        with (self.guest.folder / "qemu.log").open("wb") as log, interruption.postponed():
            self._qemu = subprocess.Popen(
                chroot.EMULATOR.command(self.guest.command(cards), mounts=self._mounts),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=chroot.environment(),
            )
        self._timer = threading.Timer(self._time_limit_s * self.patience, self._stop_late)
        self._timer.daemon = True
        self._timer.start()

    def _stop_late(self) -> None:
        self._out_of_time = True
        if self._qemu is not None:
            self._qemu.kill()

    def _connect(self) -> None:
        end = time.monotonic() + _BOOT_SECONDS * self.patience
        while not (self.guest.agent.exists() and self.guest.qmp.exists()):
            self.check_alive()
            time.sleep(0.02)
        try:
            self.qmp = Qmp(self.guest.qmp, 30 * self.patience)
            ready = self._process(0)
            self._listen()
        except (QmpError, OSError) as error:
            raise self.failure(f"QEMU did not start: {error!r}") from error
        ready.wait((end - time.monotonic()) / self.patience)
        self.kernel_release = ready.final["release"]

    def _listen(self) -> None:
        """Connect to the agent, and take what it says from now on."""
        self._agent = socket.socket(socket.AF_UNIX)
        self._agent.connect(str(self.guest.agent))
        threading.Thread(target=self._read, args=(self._agent,), daemon=True).start()

    def reconnect(self) -> None:
        """Let the guest's kernel know again that the host is there.

        After a suspend 7.3 does not: it asks before it has room for the answer. What either side was sending is lost.
        """
        assert self._agent is not None
        with self._lock:
            self._agent.shutdown(socket.SHUT_RDWR)
            self._agent.close()
            self._listen()
        self.run(["true"])  # what comes in also wakes an agent that 7.3 leaves waiting for the host that is there again

    def _read(self, agent: socket.socket) -> None:
        with contextlib.suppress(OSError), agent.makefile("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break  # QEMU ended in the midst of it
                message = json.loads(line)
                process = self._processes.get(message["id"])
                if process:
                    process.deliver(message)
                    if message["event"] == "done":
                        del self._processes[message["id"]]

    def _process(self, number: int) -> Process:
        process = Process(self, number)
        self._processes[number] = process
        return process

    def send(self, kind: str, identifier: int, /, **arguments: Any) -> None:
        """Send a request to the agent."""
        assert self._agent is not None
        data = json.dumps({"kind": kind, "id": identifier, **arguments}).encode() + b"\n"
        try:
            with self._lock:
                self._agent.sendall(data)
        except OSError:
            raise self.failure("the guest does not listen any more") from None

    def start_run(
        self,
        argv: Sequence[str],
        *,
        input: str | bytes = "",
        streams_input: bool = False,
        in_root: bool = False,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
    ) -> Process:
        """Start a command in the guest, in ``/mnt/work`` if there is one; *input* is its whole standard input.

        If it *streams_input* instead, that comes by the process's send_input().
        """
        process = self._process(next(self._requests))
        data = base64.b64encode(input.encode() if isinstance(input, str) else input).decode()
        options = {"cwd": cwd or self._place, "env": env or {}, "stdin": None if streams_input else data}
        self.send("run", process.number, argv=list(argv), root=ROOT if in_root else None, **options)
        return process

    def run(self, argv: Sequence[str], timeout_s: float = 60, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in the guest and return its status and output; options as for start_run()."""
        return self.start_run(argv, **options).completed(timeout_s)

    def start_call(self, target: str, /, **kwargs: Any) -> Process:
        """Start a function of a project's module, ``package.module:function``, in a process of its own."""
        process = self._process(next(self._requests))
        self.send("call", process.number, target=target, kwargs=kwargs)
        return process

    def call(self, target: str, wait_s: float = 60, /, **kwargs: Any) -> Any:
        """Run a function in the guest, for *wait_s* at most; arguments and value pass through JSON.

        Raises GuestError if it does.
        """
        return self.start_call(target, **kwargs).value(wait_s)

    def load_modules(self, **parameters: str) -> None:
        """Load the modules built for this kernel, core first; parameters by module name without ``pciedma_``."""
        for name in self._modules():
            words = parameters.get(name.removeprefix("pciedma_"), "")
            module = f"/mnt/project/build/{self.series}/{self._built.name}/{name}.ko"
            self._must(["insmod", module, *([words] if words else [])])

    def load_foreign(self, built: Sequence[Path], parameters: Mapping[str, str]) -> None:
        """Load other modules, which were *built* below the project's ``build``, and what of the kernel's they need.

        *parameters* are by module name.
        """
        paths = [str(PROJECT / path.relative_to(chroot.PROJECT)) for path in built]
        self.allowed_taint |= verdict.TAINT_PROPRIETARY
        try:
            self.call("pciedma_lab.guest.foreign_modules:load", 120, paths=paths, parameters=dict(parameters))
        except GuestError as error:
            raise self.failure(str(error).splitlines()[-1]) from None

    def unload_modules(self) -> None:
        """Unload them."""
        if self._is_debug:
            self._look_for_leaks()
        self._must(["rmmod", *reversed(self._modules())])

    def _modules(self) -> list[str]:
        names = sorted(path.stem for path in self._built.glob("*.ko"))
        if not names:
            raise cache.LabError(f"build the modules first: python3 -m pciedma_lab modules --kernel {self.series}")
        return names  # the core's name is the beginning of all others

    def _must(self, argv: Sequence[str]) -> None:
        result = self.run(argv)
        if result.returncode:
            raise self.failure(f"{' '.join(argv)}: {result.stdout}{result.stderr}")

    def kernel_log(self) -> str:
        """Return the kernel's log so far."""
        return self.run(["dmesg"]).stdout

    def wait_log(self, pattern: str, timeout_s: float = 30) -> str:
        """Wait until a line of the kernel's log matches; returns it."""
        end = time.monotonic() + timeout_s * self.patience
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
        """Unplug a card in order, and wait until it is gone; its model lives on."""
        number = self.cards.index(card)
        device = json.loads(card.qemu_device_arguments(f"port{number}"))["id"]
        self.qmp.execute("device_del", id=device)
        try:
            self.qmp.wait_event("DEVICE_DELETED", device)
        except (QmpError, TimeoutError) as error:
            raise self.failure(f"the card {device} was not removed: {error!r}") from error

    def device_add(self, card: Card) -> None:
        """Plug a card in, into the port it was in or the next free one; starts its model if it does not run."""
        if card not in self.cards:
            self.cards.append(card)
        if not card.alive:
            card.stop()
            card.start()
        number = self.cards.index(card)
        if number >= ROOT_PORTS:
            raise ValueError(f"the machine has {ROOT_PORTS} ports")
        self.qmp.execute("device_add", **json.loads(card.qemu_device_arguments(f"port{number}")))

    def check_alive(self) -> None:
        """Raise MachineFailed if QEMU has ended."""
        if self._qemu is not None and self._qemu.poll() is not None:
            if self._out_of_time:
                raise self.failure(f"the machine's time limit of {self._time_limit_s * self.patience} s is over")
            raise self.failure(f"QEMU ended with status {self._qemu.returncode}")
        if self.guest.console.exists() and self.guest.console.stat().st_size > _CONSOLE_BYTES:
            raise self.failure(f"the guest has printed more than {_CONSOLE_BYTES >> 20} MiB on its console")

    def failure(self, text: str) -> MachineFailed:
        """Return an exception with the end of the guest's console."""
        parts = [text, f"console: {self.guest.console}"]
        for path in (self.guest.console, self.guest.folder / "qemu.log"):
            if path.exists():
                parts += _end_of(path).splitlines()[-60:]
        return MachineFailed("\n".join(parts))

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Shut down; judge, unless an exception is under way already, which then names the console's file."""
        try:
            if value is None:
                self.finish()
            else:
                value.add_note(self._note())
        finally:
            self.close()

    def _note(self) -> str:
        console = self.guest.console.read_text(errors="replace") if self.guest.console.exists() else ""
        lines = verdict.suspicious(console, self._expected_log)
        return "\n".join([f"the guest's console: {self.guest.console}", *lines[:20]])

    def finish(self) -> None:
        """Shut the guest down in order and judge; leaving the context does it if it was not done before."""
        if self._finished:
            return
        self._finished = True
        violations = self._violations()
        reports = self._debug_reports() if self._is_debug else []
        final = self._power_off()
        violations += self._violations()
        console = self.guest.console.read_text(errors="replace")
        problems = [*self._crashed_models(), *dict.fromkeys(violations), *reports]
        if not self._aborted_over_dead_model(console):
            problems += verdict.judge_end(self._shutdown_reason())
        tainted = final["tainted"] & ~self.allowed_taint
        problems += verdict.judge(final["log"], console, tainted, SENTINEL, self._expected_log)
        problems = verdict.shortened(problems)
        (self.guest.folder / VERDICT).write_text(json.dumps(problems))
        if problems:
            raise self.failure("the run was not clean:\n" + "\n".join(problems) + "\n")

    def _debug_reports(self) -> list[str]:
        """Keep the coverage of our modules in the folder of the results; return the memory that they leaked."""
        problems = []
        try:
            self.call(f"{_REPORTS}:keep_coverage", _REPORT_SECONDS)
        except GuestError as error:
            problems.append(f"no coverage: {error}")
        self._look_for_leaks()
        return [*self._leaks, *problems]

    def _look_for_leaks(self) -> None:
        """Note what our modules have leaked: while they are loaded, since then the report names them."""
        try:
            ours, others = verdict.leaks(self.call(f"{_REPORTS}:leaks", _REPORT_SECONDS))
        except GuestError as error:
            self._leaks.append(f"kmemleak does not work: {error}")
            return
        self._leaks += [f"leaked: {text}" for text in ours]
        if others:
            cache.say(f"leaked, but not by us:\n{''.join(others)}")

    def _power_off(self) -> dict[str, Any]:
        """Let the guest end, and return its last words."""
        process = self._process(next(self._requests))
        self.send("shut_down", process.number)
        process.wait(_END_SECONDS)
        assert self._qemu is not None
        try:
            self._qemu.wait(_END_SECONDS * self.patience)
        except subprocess.TimeoutExpired:
            raise self.failure("the guest did not power off") from None
        return process.final

    def _shutdown_reason(self) -> str:
        """Return why the guest ended, in QEMU's word."""
        try:
            return str(self.qmp.wait_event("SHUTDOWN")["data"]["reason"])
        except (QmpError, OSError) as error:
            return repr(error)

    def _aborted_over_dead_model(self, console: str) -> bool:
        """Return whether QEMU gave up when the guest, powering off, turned the IOMMU off: a model had died by order."""
        dead = any(card.process and card.process.poll() == _ORDERED_DEATH for card in self.cards)
        aborted = self._qemu is not None and self._qemu.returncode == -signal.SIGABRT
        return dead and aborted and "reboot: Power down" in console

    def _violations(self) -> list[str]:
        """Return what the models have seen so far, and which of them do not answer."""
        problems = []
        for card in self.cards:
            if not card.alive:
                continue
            try:
                found = [v for v in card.control.violations() if v["name"] not in self._expected_violations]
            except (ControlError, OSError) as error:
                if not _ends(card):  # else its exit status tells
                    problems.append(f"the model of {card.name} does not answer: {error}")
            else:
                problems += [f"violation: {json.dumps(violation)}" for violation in found]
        return problems

    def _crashed_models(self) -> list[str]:
        status = {card.name: card.process.poll() for card in self.cards if card.process is not None}
        return [
            f"the model of {name} ended with status {value}"
            for name, value in status.items()
            if value not in (None, _ORDERED_DEATH)
        ]

    def close(self) -> None:
        """End what runs, without a verdict; nothing of it survives. Leaving the context does it."""
        with interruption.postponed(), contextlib.ExitStack() as stack:
            if hasattr(self, "_sockets"):
                stack.callback(self._sockets.cleanup)
            for card in self.cards:
                stack.callback(card.stop)
            if self._agent is not None:
                stack.callback(self._agent.close)
            if hasattr(self, "qmp"):
                stack.callback(self.qmp.close)
            if self._qemu is not None:
                self._qemu.kill()
                self._qemu.wait()
            if self._timer is not None:  # else an interrupt came before it was made
                self._timer.cancel()


def _ends(card: Card) -> bool:
    """Return whether a model's process has ended, or is about to."""
    try:
        return card.process is None or card.process.wait(_ENDING_SECONDS) is not None
    except subprocess.TimeoutExpired:
        return False


def _end_of(path: Path) -> str:
    """Return the last text in a file, of which there may be much."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _END_BYTES))
        return file.read().decode(errors="replace")


def prepare(*series: str, back_ends: Sequence[Path] = (), packages: Sequence[str] = (), builds: bool = True) -> None:
    """Provide what machines with these kernels need and build the modules for them, several things at a time.

    Machine does by itself what is missing, but one thing after the other, and does not build modules: unless this
    *builds* neither.
    """
    for name in series:
        kernels.find(name, to_boot=True)
    makers: list[Callable[[], object]] = [functools.partial(kernels.provide, name) for name in series]
    if builds:
        makers = [functools.partial(modules.build, name, back_ends) for name in series]
    cache.together(functools.partial(guest_image.root_image, packages), chroot.EMULATOR.provide, *makers)


def _make_folder(series: str) -> Path:
    """Make a folder for a machine's logs, and remove the oldest of those that nobody uses."""
    parent = modules.BUILD / "vm"
    folder = parent / f"{series}-{os.getpid()}-{next(_numbers)}"
    cache.remove(folder)
    folder.mkdir(parents=True)
    ages = {old: cache.age_s(old) for old in parent.iterdir()}
    for old in sorted(ages, key=ages.__getitem__)[_KEPT_FOLDERS:]:
        if ages[old] > 24 * 3600:
            shutil.rmtree(old, ignore_errors=True)
    return folder
