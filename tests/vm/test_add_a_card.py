"""The card of docs/add-a-card.md: built, run and aborted as the page says, and found out when it lies."""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pciedma_lab import modules, run_command
from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.chroot import PROJECT
from pciedma_lab.machine import Machine

from .conftest import KERNEL, Lab, make_lab

PAGE = (PROJECT / "docs/add-a-card.md").read_text()


def commands() -> list[tuple[list[str], str]]:
    """Return the page's commands, each as its words, and what they print."""
    found = []
    for block in re.findall(r"^    \$ (.*\n(?:    .*\n)*)", PAGE, re.M):
        lines = block.replace("\n    ", "\n").splitlines(keepends=True)
        command = ""
        while not command or command.count("'") % 2:
            command += lines.pop(0)
        found.append((shlex.split(command), "".join(lines)))
    return found


COPY, RUN, STALL, MISTAKE = commands()
#: The operations of which the contract says that they are called with the engine's lock held; this card has no stray.
LOCKED = re.findall(r"^\| `((?!stray)\w+)` \|.*\| the engine's \|", (PROJECT / "docs/contract.md").read_text(), re.M)
#: That no spinlock is held which interrupts take, too: what such a lock switches off depends on PREEMPT_RT.
UNLOCKED = "!irqs_disabled() && !current->migration_disabled"


@pytest.fixture
def mycard(tmp_path: Path) -> Path:
    """The copy with which the page begins."""
    program, option, source, target = COPY[0]
    assert (program, option, target) == ("cp", "-r", "mycard")
    shutil.copytree(PROJECT / source, tmp_path / target)
    return tmp_path / target


def shown(vm: Machine, loop: EmulatedCard, words: list[str], output: str) -> None:
    """Insist that a command of the page, in this machine instead of one of its own, prints what the page shows."""
    begin = words.index("--")
    options, argv = words[:begin], words[begin + 1 :]
    if "--fault" in options:
        *options, _, fault = options
        loop.control.set_fault(fault.removeprefix("loop:"))
    assert shlex.join(options) == "python3 -m pciedma_lab run --card mycard/loop.py --iommu"
    result = vm.run(argv)
    assert (result.stderr, result.stdout) == ("", output)


def aborted(lab: Lab) -> None:
    """End stalled requests by time-out, signal and death, both ways, copied and direct."""
    path, loop = lab.nodes["loop"] + "c0", lab.cards["loop"]
    for direction in ("read", "write"):
        for length in (100, 65536):
            loop.control.set_fault("stall*1")
            found = lab.call("transfers:one", path=path, direction=direction, length=length, timeout_s=0.3)
            assert found["moved"] == min(length, 256)
    loop.control.set_fault("stall*1")
    assert lab.call("processes:raw_write_interrupted", path=path, after_s=0.5)["result"] == 100
    loop.control.set_fault("stall*1")
    loop.control.counters(reset=True)
    killed = lab.start("transfers:one", path=path, direction="read", length=65536, timeout_s=None)
    lab.wait_for("starts", card="loop")
    killed.signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL


def watched(source: str) -> str:
    """Return a back end that warns if the core calls one of these operations without the engine's lock."""
    for name in LOCKED:
        head = re.search(rf"^static (void|int) loop_{name}\((.*)\)\n{{", source, re.M)
        assert head and source.count(f"= loop_{name},") == 1
        passed = ", ".join(re.findall(r"(\w+)(?:,|$)", head[2]))
        call = f"{'' if head[1] == 'void' else 'return '}loop_{name}({passed});"
        body = f"\tWARN_ON_ONCE({UNLOCKED});\n\t{call}\n"
        watch = f"static {head[1]} watched_{name}({head[2]})\n{{\n{body}}}\n\n"
        table = "static const struct pciedma_card_type loop_type"
        source = source.replace(table, watch + table).replace(f"= loop_{name},", f"= watched_{name},")
    return source


def test_card_of_the_page_moves_data_and_survives_aborts(mycard: Path) -> None:
    loop = EmulatedCard(str(mycard / "loop.py"), seed=1)
    (mycard / "loop.c").write_text(watched((mycard / "loop.c").read_text()))
    modules.build(KERNEL, [mycard / "loop.py"], warnings_are_errors=True)
    with Machine(KERNEL, iommu=True, cards=[loop], time_limit_s=300) as vm:
        lab = make_lab(vm, loop)
        path = lab.nodes["loop"] + "c0"
        shown(vm, loop, *RUN)
        shown(vm, loop, *STALL)
        assert lab.call("memory:there_and_back", path=path, lengths=[1, 100, 5000, 40_000]) == []
        for fault in ("jitter=0-200", "lost_interrupt*3", "delayed_writes=100", "duplicate_interrupt"):
            loop.control.set_fault(fault)
            assert lab.call("memory:there_and_back", path=path, lengths=[100, 20_000], skews=[4097]) == []
        loop.control.clear_faults()
        aborted(lab)
        lamps = {"card": lab.nodes["loop"], "name": "user", "width": 4, "offset": 0, "value": 0x5A}
        for by in ("mmap", "call"):
            lab.call("windows:access", **lamps, by=by, write=True)
            assert lab.call("windows:access", **lamps, by=by, write=False) == 0x5A
        assert loop.control.counters()["reads.LAMPS"] == loop.control.counters()["writes.LAMPS"] == 2
        assert lab.call("memory:uring", path=path, depth=4, length=10_000) == {"bad": []}
        loop.control.set_fault("stall*1")
        loop.control.counters(reset=True)
        blocked = lab.start("processes:blocked_call", path=path, direction="read", timeout_s=None)
        lab.wait_for("starts", card="loop")
        lab.call("processes:unbind", driver="pciedma_loop", address=lab.addresses["loop"])
        assert blocked.value()["results"][1] == "ENODEV"
        lab.call("processes:bind", driver="pciedma_loop", address=lab.addresses["loop"])
        lab.find()
        assert lab.call("memory:there_and_back", path=path, lengths=[20_000]) == []
        assert lab.sysfs("loop", "quarantined_bytes") == 0
        assert loop.control.violations() == []
        vm.unload_modules()


@pytest.mark.stock_kernel
def test_mistake_of_the_page_fails_the_run_as_it_says(mycard: Path) -> None:
    right, wrong = re.findall(r"^    (return .*;)$", PAGE, re.M)
    source = mycard / "loop.c"
    function = re.search(r"^static int loop_idle\(.*?^}", source.read_text(), re.M | re.S)
    assert function and function[0].count(right) == 1
    source.write_text(source.read_text().replace(function[0], function[0].replace(right, wrong)))
    words = [str(mycard.parent / word) if word.startswith("mycard/") else word for word in MISTAKE[0]]
    words[:1] = [sys.executable]
    words[words.index("--") : words.index("--")] = ["--kernel", KERNEL]
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "python")}
    result = subprocess.run(words, text=True, check=False, capture_output=True, env=environment)
    assert result.returncode == run_command.LAB_FAILED, result.stderr
    for line in MISTAKE[1].splitlines():
        pattern = ".*".join(re.escape(part) for part in line.split("..."))
        assert re.search(f"^{pattern}$", result.stderr, re.M), f"{line} is not in {result.stderr}"
    assert f"[Errno {errno.ETIMEDOUT}]" in MISTAKE[1]
