"""Windows: the registers of the user's logic, and what becomes of them when the card is reset, asleep or gone."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pciedma_lab import modules
from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.chroot import PROJECT
from pciedma_lab.machine import Machine, Process

from ..c_build import CALLER, compiled, install
from .conftest import DELIBERATE_LEAK, KERNEL, Lab, make_lab
from .test_power import COPY_PROJECT, SUSPEND

VALUE = 0x01234567
ONES = 0xFFFFFFFF
USER_SIZE, BYPASS_SIZE = 65536, 1 << 20
#: Reads of a register that was written, is reset at any time, and never comes from a bus on which nobody answers.
REAL = {"0", str(VALUE)}
PROGRAM = "build/examples/windows"


@pytest.fixture(scope="module")
def machine() -> Iterator[Lab]:
    """A card with both windows."""
    modules.build(KERNEL)
    xdma = EmulatedCard("xdma", variant="user-bypass", seed=1)
    with Machine(KERNEL, iommu=True, cards=[xdma], time_limit_s=900) as vm:
        yield make_lab(vm, xdma)


@pytest.fixture
def lab(machine: Lab) -> Iterator[Lab]:
    """The machine; afterwards the card must work on."""
    machine.xdma.control.clear_faults()
    machine.restore()
    yield machine
    machine.xdma.control.clear_faults()
    assert machine.xdma.control.violations(clear=True) == []
    machine.there_and_back(lengths=[100, 9000])


def user(lab: Lab, card: str = "xdma") -> str:
    """The node of the user's registers."""
    return lab.nodes[card] + "w0"


def window(name: str, size: int, bar: int, number: int, combining: bool = False) -> dict[str, Any]:
    """What INFO and sysfs say of a window."""
    widths = [1, 2, 4] if name == "user" else [1, 2, 4, 8]
    info = {"window": number, "name": name, "bar": bar, "size": size, "widths": widths, "mappable": True,
            "write_combining": combining, "by": "mmap"}
    sysfs = {"name": name, "bar": str(bar), "size": str(size), "widths": " ".join(map(str, widths)), "mappable": "1",
             "write_combining": str(int(combining))}
    return info | {"sysfs": sysfs}


#: The windows that INFO and sysfs must show of each design.
DESIGNS = {
    "default": [],
    "user": [window("user", USER_SIZE, 0, 0)],
    "bypass": [window("bypass", BYPASS_SIZE, 1, 0)],
    "64bit-user-bypass": [window("user", USER_SIZE, 0, 0), window("bypass", BYPASS_SIZE, 4, 1, combining=True)],
}


def test_windows_of_each_design_are_what_they_say_and_can_be_switched_off() -> None:
    cards = [EmulatedCard("xdma", variant=variant) for variant in DESIGNS]
    with Machine(KERNEL, iommu=True, cards=cards, time_limit_s=300) as vm:
        vm.load_modules()
        assert vm.call("tests.vm.guest.windows:listed", 120) == list(DESIGNS.values())
        _combining(vm, cards[-1])
        vm.unload_modules()
        vm.load_modules(pciedma="windows=0")
        assert vm.call("tests.vm.guest.windows:listed", 120) == [[]] * len(DESIGNS)
        assert vm.run(["sh", "-c", "ls /dev/pciedma*w*"]).returncode != 0
        vm.unload_modules()


def _combining(vm: Machine, xdma: EmulatedCard) -> None:
    """Memory in a prefetchable BAR is mapped with write-combining, and a call is an access all the same."""
    if KERNEL != "debug":  # which has no page attributes
        types = vm.run(
            ["sh", "-c", "mount -t debugfs none /sys/kernel/debug; cat /sys/kernel/debug/x86/pat_memtype_list"],
        )
        assert "write-combining" in types.stdout
    options = {"card": "/dev/pciedma3", "name": "bypass", "by": "call", "width": 8, "offset": 8, "value": VALUE}
    xdma.control.counters(reset=True)
    vm.call("tests.vm.guest.windows:access", 120, **options, write=True)
    assert xdma.control.counters()["bypass_writes.8"] == 1
    assert vm.call("tests.vm.guest.windows:access", 120, **options, write=False) == VALUE
    assert xdma.control.counters()["bypass_reads.8"] == 1


@pytest.mark.parametrize("by", ["mmap", "call"])
@pytest.mark.parametrize(
    ("name", "width"), [*(("user", 1 << n) for n in range(3)), *(("bypass", 1 << n) for n in range(4))]
)
def test_access_by_the_binding_is_one_on_the_bus(lab: Lab, name: str, width: int, by: str) -> None:
    value = 0x1122334455667788 & ((1 << 8 * width) - 1)
    options = {"card": lab.nodes["xdma"], "name": name, "by": by, "width": width, "offset": 0, "value": value}
    counters = lab.xdma.control.counters(reset=True)
    lab.call("windows:access", **options, write=True)
    counters = lab.xdma.control.counters(reset=True)
    assert {n: counters.get(n, 0) for n in ("mmio_writes", "mmio_reads", f"{name}_writes.{width}")} == {
        "mmio_writes": 1, "mmio_reads": 0, f"{name}_writes.{width}": 1,
    }
    assert lab.call("windows:access", **options, write=False) == value
    counters = lab.xdma.control.counters()
    assert {n: counters.get(n, 0) for n in ("mmio_writes", "mmio_reads", f"{name}_reads.{width}")} == {
        "mmio_writes": 0, "mmio_reads": 1, f"{name}_reads.{width}": 1,
    }


@pytest.mark.parametrize("by", ["mmap", "call"])
def test_register_that_reads_once_is_read_once_and_never_by_a_write(lab: Lab, by: str) -> None:
    """It counts the writes to the scratch register since it was read."""
    options = {"card": lab.nodes["xdma"], "name": "user", "by": by, "width": 4, "value": VALUE}
    lab.call("windows:access", **options, offset=8, write=False)
    lab.xdma.control.counters(reset=True)
    for _ in range(3):
        lab.call("windows:access", **options, offset=0, write=True)
    lab.call("windows:access", **options, offset=8, write=True)
    assert lab.xdma.control.counters().get("user_reads.0x8.4", 0) == 0
    assert lab.call("windows:access", **options, offset=8, write=False) == 3
    assert lab.xdma.control.counters()["user_reads.0x8.4"] == 1
    assert lab.call("windows:access", **options, offset=8, write=False) == 0


def test_registers_from_c_by_both_ways_are_one_access_each(lab: Lab, tmp_path: Path) -> None:
    compiled(CALLER, PROJECT / PROGRAM, install(tmp_path), "-O2")
    lab.xdma.control.counters(reset=True)
    result = lab.vm.run([PROGRAM, "registers", lab.nodes["xdma"], "user", "0"])
    assert result.stdout.splitlines() == [
        "read32 1234567", "read16 4321", "read8 99", "pwrite 4", "pread 4 89abcdef",
    ], result
    counters = lab.xdma.control.counters()
    assert {name: count for name, count in counters.items() if re.fullmatch(r"user_[a-z]+\.\d", name)} == {
        "user_writes.4": 2, "user_reads.4": 2, "user_writes.2": 1, "user_reads.2": 1, "user_writes.1": 1,
        "user_reads.1": 1,
    }
    assert counters["mmio_reads"] == counters["mmio_writes"] == 4


def test_wrong_use_of_the_binding_is_refused_without_an_access(lab: Lab) -> None:
    lab.xdma.control.counters(reset=True)
    assert lab.call("windows:refusals", card=lab.nodes["xdma"]) == {
        "unaligned": "ValueError", "beyond": "IndexError", "negative": "IndexError", "width": "ValueError",
        "too large": "ValueError", "below zero": "ValueError", "no number": "TypeError", "by": "ValueError",
        "name": "LookupError", "number": "IndexError", "closed": "ValueError",
    }
    assert lab.xdma.control.counters().get("mmio_reads", 0) == lab.xdma.control.counters().get("mmio_writes", 0) == 0


def test_unsuitable_calls_are_refused_without_an_access(lab: Lab) -> None:
    lab.xdma.control.counters(reset=True)
    found = lab.call("windows:unsuitable_calls", path=user(lab), size=USER_SIZE)
    for direction in ("read", "write"):
        assert found.pop(f"{direction} 0 bytes") == 0
        for name in ("3 bytes", "16 bytes", "a page", "unaligned", "8 bytes"):
            assert found.pop(f"{direction} {name}") == "EINVAL", name
    assert found == {
        "read end": 0, "read far": 0, "write end": "ENOSPC", "write far": "ENOSPC",
        "vector with a wrong element": "EINVAL", "vector with an unaligned element": "EINVAL",
        "seek end": USER_SIZE, "seek behind": "EINVAL", "bad memory": "EFAULT", "append": "EINVAL",
        "exclusive": "EINVAL", "RWF_APPEND": "EINVAL", "channel's ioctl": "ENOTTY",
    }
    counters = lab.xdma.control.counters()
    assert counters.get("mmio_reads", 0) == counters.get("mmio_writes", 0) == 0


def test_calls_have_a_position_and_vectors_are_an_access_for_each_element(lab: Lab) -> None:
    lab.xdma.control.counters(reset=True)
    assert lab.call("windows:calls", path=user(lab)) == {
        "position": [4, 4], "read": ["11111111", "0000", 6], "pwritev": 12, "preadv": [4, "01020304"], "nowait": 2,
        "to the end": 4,
    }
    counters = lab.xdma.control.counters()
    assert {name: count for name, count in counters.items() if re.fullmatch(r"user_[a-z]+\.\d", name)} == {
        "user_writes.4": 3, "user_writes.2": 1, "user_writes.1": 2, "user_reads.4": 2, "user_reads.2": 3,
        "user_reads.1": 2,
    }


def test_mappings_are_shared_and_within_the_window(lab: Lab) -> None:
    found = lab.call("windows:mappings", path=user(lab), size=USER_SIZE)
    may = ("whole", "last page", "read-only", "populated")
    assert {name: found.pop(name) for name in may} == dict.fromkeys(may, "ok")
    assert found == {
        "private": "EINVAL", "private, read-only": "EINVAL", "private of a read-only file": "EINVAL",
        "too long": "EINVAL", "behind": "EINVAL", "across": "EINVAL", "far": "EINVAL",
        "writable of a read-only file": "EACCES", "of a write-only file": "EACCES", "grown": "EFAULT",
        "made writable": "EACCES", "futex": "EFAULT",
    }


def test_every_reserved_field_of_info_is_refused(lab: Lab) -> None:
    found = lab.call("bad_input:bad_window_ioctls", path=user(lab))
    assert found.pop("good") == "ok"
    assert found.pop("NULL") == "EFAULT"
    assert len(found) == (1 + 6) + (1 + 7)
    assert set(found.values()) == {"EINVAL"}


def test_child_uses_its_parents_mapping(lab: Lab) -> None:
    assert lab.call("windows:forked", path=user(lab), value=VALUE) == {"child": 1, "parent": VALUE + 1}


def _went_on(found: dict[str, Any], after: set[int]) -> None:
    assert found.pop("status", 0) == 0
    for by, seen in found.pop("seen").items():
        assert set(seen) <= REAL, by
        assert str(VALUE) in seen, by
    assert found.pop("after") in after
    assert found == {
        "before": VALUE, "faults before": 0, "faults after": True, "goes on": True, "written": VALUE + 1,
    }


@pytest.mark.parametrize("way", ["RESET", "sysfs"])
def test_reset_takes_the_pages_away_and_threads_go_on(lab: Lab, way: str) -> None:
    for _ in range(3):
        script = way if way == "RESET" else f"echo 1 > /sys/bus/pci/devices/{lab.addresses['xdma']}/reset"
        found = lab.call("windows:read_during", card=lab.nodes["xdma"], path=user(lab), script=script, value=VALUE)
        _went_on(found, {0})


def test_access_during_a_reset_waits_and_nothing_else_does(lab: Lab) -> None:
    """The card does not come back before the test wants it."""
    process = lab.start("windows:wait_closed", path=user(lab), name="closed", value=VALUE)
    lab.wait_until("test -e /tmp/closed-ready")
    lab.xdma.control.set_fault("long_reset")
    reset = lab.vm.start_run(["sh", "-c", f"echo 1 > /sys/bus/pci/devices/{lab.addresses['xdma']}/reset"])
    lab.wait_until("test -e /tmp/closed-closed")
    lab.xdma.control.counters(reset=True)
    lab.wait_until("test -e /tmp/closed-done")
    counters = lab.xdma.control.counters()
    assert counters.get("user_reads.4", 0) == counters.get("user_writes.4", 0) == 0
    lab.xdma.control.clear_faults()
    found = process.value(120)
    assert reset.wait(120) == 0
    assert found.pop("after") in ([VALUE] * 3, [0] * 3)
    assert found == {
        "before": [VALUE] * 3, "nonblocking": ["EAGAIN", "EAGAIN"], "mmap": True, "mremap": True, "munmap": 0,
        "fork": 7, "maps": True, "waiting": [0, 0], "still closed": "EAGAIN",
        "killed": [-9, -9], "waited": [0, 0], "beside a fault": 0,
    }


def _gone(found: dict[str, Any]) -> None:
    assert set(found["seen"]["call"]) <= {"0", str(VALUE), str(ONES), "ENODEV"}
    assert "ENODEV" in found["seen"]["call"]
    assert set(found["seen"].pop("mmap")) <= {"0", str(VALUE), str(ONES)}
    del found["seen"]
    assert found == {
        "ones": [ONES] * 4, "own": [0x11111111, ONES, ONES], "other process": [ONES, 0x22222222, 0x22222222],
        "child": 1, "unchanged": [0x11111111, ONES], "moved": 0x11111111, "second half": 0x11111111,
        "kept on fork": [1, 0x33333333], "pread": "ENODEV", "pwrite": "ENODEV", "info": "ENODEV", "mmap": "ENODEV",
    }


def test_unbind_leaves_each_process_a_page_of_ones_of_its_own(lab: Lab) -> None:
    address = lab.addresses["xdma"]
    script = f"echo {address} > /sys/bus/pci/drivers/pciedma_xdma/unbind"
    found = lab.call("windows:removed", path=user(lab), script=script, value=VALUE)
    assert not set(found["seen"]["call"]) - {"0", str(VALUE), "ENODEV"}  # the card was there all the time
    _gone(found)
    lab.call("processes:bind", driver="pciedma_xdma", address=address)
    lab.find()
    assert lab.call("windows:forked", path=user(lab), value=VALUE) == {"child": 1, "parent": VALUE + 1}


def test_unbind_while_the_card_is_reset_ends_what_waits(lab: Lab) -> None:
    """A reset and a removal at the same time: whoever waits for the first hears of the second."""
    for _ in range(5):
        address = lab.addresses["xdma"]
        script = (f"echo 1 > /sys/bus/pci/devices/{address}/reset & sleep 0.02;"
                  f"echo {address} > /sys/bus/pci/drivers/pciedma_xdma/unbind; wait")
        _gone(lab.call("windows:removed", path=user(lab), script=script, value=VALUE))
        lab.call("processes:bind", driver="pciedma_xdma", address=address)
        lab.find()


def _started(lab: Lab, target: str, **options: Any) -> Process:
    """Start a function in the guest, and wait until it says that it is ready."""
    lab.vm.run(["rm", "-f", "/tmp/ready"])
    process = lab.start(target, **options)
    lab.wait_until("test -e /tmp/ready")
    return process


def test_unplugged_card_leaves_pages_of_ones(unpluggable: Lab) -> None:
    lab = unpluggable
    process = _started(lab, "windows:removed", path=user(lab), script="", value=VALUE)
    lab.vm.device_del(lab.xdma)
    _gone(process.value(120))
    lab.plug_in("xdma")
    assert lab.call("windows:forked", path=user(lab), value=VALUE) == {"child": 1, "parent": VALUE + 1}


def test_death_of_the_card_gives_what_the_bus_gives(unpluggable: Lab) -> None:
    """Last of its machine: memory that the card may still reach is kept for ever."""
    lab = unpluggable
    for pattern in DELIBERATE_LEAK:
        lab.vm.expect_log(pattern)
    process = _started(lab, "windows:read_until_gone", path=user(lab))
    lab.xdma.control.die()
    assert process.value(120) == {"call": [str(VALUE + 1), str(ONES)], "mmap": [str(VALUE + 1), str(ONES)]}


#: Windows that a back end describes wrongly, as C, and what the log must say of each.
WRONG = [
    ('"User", 1, 0, 0x400, 4', 'no window "User" in BAR1: a name is 1 to 15 small letters, digits and hyphens'),
    ('"c0", 1, 0, 0x400, 4', 'no window "c0" in BAR1: a name is'),
    ('"sixteen-letters-", 1, 0, 0x400, 4', 'no window "sixteen-letters-" in BAR1: a name is'),
    ('"absent", 5, 0, 0, 4', 'no window "absent" in BAR5: its BAR is not there'),
    ('"number", 6, 0, 0, 4', 'no window "number" in BAR6: its BAR is not there'),
    ('"behind", 1, 0x1000, 4, 4', 'no window "behind" in BAR1: it goes beyond its BAR'),
    ('"long", 1, 0x400, 0xc04, 4', 'no window "long" in BAR1: it goes beyond its BAR'),
    ('"no-width", 1, 0, 0x400, 0', 'no window "no-width" in BAR1: widths are a mask of 1, 2, 4 and 8'),
    ('"wide", 1, 0, 0x400, 16', 'no window "wide" in BAR1: widths are a mask of 1, 2, 4 and 8'),
    ('"odd-place", 1, 4, 0x3f8, 8', 'no window "odd-place" in BAR1: its place and its length are no multiples'),
    ('"odd-length", 1, 0, 0x3fc, 15', 'no window "odd-length" in BAR1: its place and its length are no multiples'),
    ('"messages", 1, 0x400, 0, 4', 'no window "messages" in BAR1: the table of the interrupt messages lies in it'),
    ('"pending", 1, 0xc00, 8, 8', 'no window "pending" in BAR1: the table of the interrupt messages lies in it'),
    ('"combining", 0, 0x800, 0x400, 4, true', 'no window "combining" in BAR0: others use its BAR without'),
    ('"user", 1, 0x400, 0x400, 4', 'no window "user" in BAR1: there is another of this name'),
    ('"again", 1, 0x3fc, 4, 4', 'no window "again" in BAR1: another lies at the same place'),
]


def test_window_that_is_described_wrongly_is_refused_with_one_line(tmp_path: Path) -> None:
    """The example card with messages in its user's BAR, where half a page is left for a window."""
    wrong = "".join(f"\tpciedma_window_add(card, &(struct pciedma_window_desc){{ {text} }});\n" for text, _ in WRONG)
    card = tmp_path / "loop"
    shutil.copytree(PROJECT / "examples/card", card)
    for name, old, new in (
        ("loop.py", "msi_vectors=1", "msi_vectors=0, msix_vectors=1, msix_table=(1, 0x800), msix_pending=(1, 0xC00)"),
        ("loop.c", "\t.bar\t\t= LOOP_USER_BAR,\n", "\t.bar\t\t= LOOP_USER_BAR,\n\t.length\t\t= 0x400,\n"),
        ("loop.c", "\treturn ret ?: pciedma_window_add(card, &loop_user);\n",
         f"\tret = ret ?: pciedma_window_add(card, &loop_user);\n{wrong}\treturn ret;\n"),
    ):
        source = card / name
        assert source.read_text().count(old) == 1
        source.write_text(source.read_text().replace(old, new))
    loop = EmulatedCard(str(card / "loop.py"))
    modules.build(KERNEL, [card / "loop.py"])
    with Machine(KERNEL, cards=[loop], time_limit_s=300) as vm:
        lab = make_lab(vm, loop)
        lines = [line.partition(": no window ")[2] for line in vm.kernel_log().splitlines() if ": no window " in line]
        assert len(lines) == len(WRONG)
        for line, (_, expected) in zip(lines, WRONG, strict=True):
            assert f"no window {line}".startswith(expected)
        found, = lab.call("windows:listed")
        assert [(w["name"], w["size"], w["mappable"], w["by"]) for w in found] == [("user", 0x400, False, "call")]
        assert lab.call("windows:unmappable", path=user(lab, "loop")) == ["EOPNOTSUPP", "EOPNOTSUPP"]
        options = {"card": lab.nodes["loop"], "name": "user", "by": "call", "width": 4, "offset": 0, "value": 0x5A}
        lab.call("windows:access", **options, write=True)
        assert lab.call("windows:access", **options, write=False) == 0x5A
        vm.unload_modules()


def test_suspend_takes_the_pages_away_and_threads_go_on(machine: Lab) -> None:
    """Last of its machine, which may have lost the project's folder afterwards."""
    lab = machine
    lab.find()
    assert lab.vm.run(["sh", "-ec", COPY_PROJECT]).returncode == 0
    options = {"card": lab.nodes["xdma"], "path": user(lab), "script": SUSPEND, "value": VALUE}
    process = lab.start("windows:read_during", **options)
    end = time.monotonic() + 120 * lab.vm.patience
    while not process.done and time.monotonic() < end:
        if "lab: the port is closed" in lab.vm.guest.console.read_text(errors="replace"):
            lab.vm.reconnect()
            break
        time.sleep(0.2)
    _went_on(process.value(120), {0, VALUE})
