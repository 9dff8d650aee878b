"""The examples in C and in Python, and the C library's calls, with emulated cards."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pciedma import uapi
from pciedma_lab.chroot import PROJECT

from ..c_build import CALLER, EXAMPLES, compiled, install
from .conftest import Lab

pytestmark = pytest.mark.stock_kernel  # they are about programs

_BUILT = "build/examples"  # in the guest, too
#: Not a multiple of anything, and more than the examples move at a time.
SIZE = (20 << 20) + 123
ADDRESS = 0x1001
BOTH = uapi.PCIEDMA_BUFFER_C2H | uapi.PCIEDMA_BUFFER_H2C

#: Runs an example in the guest, by its name and arguments.
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled examples, and the program that calls the library."""
    include = install(tmp_path_factory.mktemp("installed"))
    for source in (*EXAMPLES.glob("*.c"), CALLER):
        compiled(source, PROJECT / _BUILT / source.stem, include, "-O2")
    return PROJECT / _BUILT


@pytest.fixture(params=["c", "python"])
def run(request: pytest.FixtureRequest, lab: Lab, programs: Path) -> Run:
    """Both kinds of example in turn."""

    def run_example(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        python = ["python3", f"examples/python/{name}.py"]
        argv = python if request.param == "python" else [f"{_BUILT}/{name}"]
        return lab.vm.run([*argv, *map(str, arguments)], 120)

    return run_example


def _failure(result: subprocess.CompletedProcess[str], name: str, words: str) -> None:
    assert result.returncode == 1, result
    assert result.stderr.splitlines()[-1].startswith(f"{name}: ")
    assert words in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


@pytest.fixture
def image(lab: Lab) -> str:
    """A file of the guest's with random bytes."""
    lab.vm.run(["sh", "-c", f"head -c {SIZE} /dev/urandom > /tmp/image"])
    return "/tmp/image"


@pytest.mark.parametrize("name", ["message_echo", "memory_copy"])
def test_example_tells_its_usage(name: str, run: Run) -> None:
    told = run(name, "--help")
    assert (told.returncode, told.stderr) == (0, "")
    assert "usage: " in told.stdout
    wrong = run(name)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "usage: " in wrong.stderr


@pytest.mark.parametrize(("name", "arguments"), [("message_echo", []), ("memory_copy", ["0", "/etc/os-release"])])
def test_example_without_its_card_says_so(name: str, arguments: list[str], run: Run) -> None:
    result = run(name, "99", *arguments)
    assert result.returncode == 1
    assert result.stderr.startswith(f"{name}: ")
    assert "99" in result.stderr
    assert "Traceback" not in result.stderr


def test_message_echo_text_comes_back(lab: Lab, run: Run) -> None:
    node, address = lab.nodes["capric"], lab.addresses["capric"]
    for card in (node, node.removeprefix("/dev/pciedma"), address, address.removeprefix("0000:")):
        lab.capric.control.counters(reset=True)
        result = run("message_echo", card, "good morning")
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout == "messages of up to 2047 bytes\n12 bytes there and back: good morning\n"
        assert lab.capric.control.counters()["starts"] == 2


def test_message_echo_of_too_long_a_text_fails(lab: Lab, run: Run) -> None:
    _failure(run("message_echo", lab.nodes["capric"], "x" * 2048), "message_echo", "Message too long")


def test_message_echo_on_memory_fails(lab: Lab, run: Run) -> None:
    _failure(run("message_echo", lab.nodes["xdma"]), "message_echo", "channel 0 is not for messages")


def test_memory_copy_card_has_the_file(lab: Lab, run: Run, image: str) -> None:
    result = run("memory_copy", lab.nodes["xdma"], hex(ADDRESS), image)
    assert (result.returncode, result.stdout) == (0, f"{SIZE} bytes at {ADDRESS:#x} read back as written\n")
    assert result.stderr.splitlines() == [
        f"{verb} {size} bytes" for verb in ("written", "compared") for size in (16 << 20, SIZE)
    ]
    script = f"dd if={lab.memory} iflag=skip_bytes,count_bytes skip={ADDRESS} count={SIZE} bs=1M | cmp - {image}"
    assert lab.vm.run(["sh", "-c", script]).returncode == 0


def test_memory_copy_of_more_than_the_card_has_fails(lab: Lab, run: Run) -> None:
    lab.vm.run(["sh", "-c", "head -c 5000 /dev/urandom > /tmp/long"])
    _failure(run("memory_copy", lab.nodes["edu"], "0", "/tmp/long"), "memory_copy", "No space left on device")


def test_memory_copy_on_messages_or_of_no_file_fails(lab: Lab, run: Run) -> None:
    result = run("memory_copy", lab.nodes["capric"], "0", "/etc/os-release")
    _failure(result, "memory_copy", "channel 0 is not memory")
    result = run("memory_copy", lab.nodes["xdma"], "0", "/tmp/no-such-file")
    _failure(result, "memory_copy", "No such file")


def test_asynchronous_blocks_are_read_back(lab: Lab, programs: Path) -> None:
    lab.xdma.control.counters(reset=True)
    result = lab.vm.run([f"{_BUILT}/asynchronous", lab.nodes["xdma"], hex(ADDRESS)])
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "8 requests of 65536 bytes each way, read back as written\n"
    counters = lab.xdma.control.counters()
    assert counters["h2c0_bytes"] == counters["c2h0_bytes"] == 8 << 16


def test_asynchronous_error_of_the_card_is_told(lab: Lab, programs: Path) -> None:
    lab.xdma.control.set_fault("read_error*1")
    result = lab.vm.run([f"{_BUILT}/asynchronous", lab.nodes["xdma"], "0"])
    assert (result.returncode, result.stdout) == (1, "")
    assert "asynchronous: block " in result.stderr
    assert "Input/output error" in result.stderr


def test_asynchronous_wrong_arguments_fail(lab: Lab, programs: Path) -> None:
    program = f"{_BUILT}/asynchronous"
    assert "usage: " in lab.vm.run([program, "--help"]).stdout
    for arguments in ([], ["0", "-1"], ["0", "x"], ["0", "0x8000000000000000"]):
        assert lab.vm.run([program, *arguments]).returncode == 2
    _failure(lab.vm.run([program, lab.nodes["capric"], "0"]), "asynchronous", "channel 0 is not memory")


def test_events_prints_the_lines_that_fire(lab: Lab) -> None:
    path = lab.nodes["xdma"]
    argv = ["python3", "examples/python/events.py", path, "--line", "3", "--line", "4", "--count", "1"]
    process = lab.vm.start_run([*argv, "--timeout", "60"])
    lab.wait_until(f"ls -l /proc/[0-9]*/fd 2>/dev/null | grep -q {path}$ && sleep 1")
    lab.xdma.control.set_fault("user_interrupt=4")
    result = process.completed()
    assert (result.returncode, result.stdout, result.stderr) == (0, "listening\nline 4 has fired\n", "")
    lab.call("resets:reset", card=path)  # nobody has served the card's logic
    assert lab.xdma.control.state()["wires"] == 0


def test_events_without_an_event_or_lines_fails(lab: Lab) -> None:
    argv = ["python3", "examples/python/events.py"]
    result = lab.vm.run([*argv, lab.nodes["xdma"], "--line", "5", "--timeout", "0.2"])
    _failure(result, "events", "nothing for 0.2 s")
    _failure(lab.vm.run([*argv, lab.nodes["xdma"], "--line", "16"]), "events", "has 16 event lines")
    _failure(lab.vm.run([*argv, lab.nodes["capric"]]), "events", "the card capric has no event lines")


#: Of the examples that use shared memory: the command without card and address, what it prints, and how many pages are
#: pinned at most. Without shared memory it would be at least 512, 928 and 600.
SHARED = {
    "shared_buffer": (
        (f"{_BUILT}/shared_buffer",),
        "524288 bytes each way by pwrite and pread, read back as written\n"
        "524288 bytes each way by one call of 256 parts, read back as written\n",
        0,
    ),
    "many_transfers": (
        (f"{_BUILT}/many_transfers", "200"),
        "200 reads of 16384 bytes, 32 at a time, read as written\n",
        2 * 129,  # those of what is written before, and those that are registered
    ),
    "asyncio_reads": (
        ("python3", "examples/python/asyncio_reads.py", "--count", "300"),
        "300 reads of 4096 bytes at once, read as written; threads: 1\n",
        512,  # the channel's own 2 MiB
    ),
}


@pytest.mark.parametrize("name", SHARED)
def test_shared_memory_example_pins_little_and_tells_errors(name: str, lab: Lab, programs: Path) -> None:
    words, told, most = SHARED[name]
    at = 2 if words[0] == "python3" else 1

    def run_with(card: str, address: int) -> subprocess.CompletedProcess[str]:
        return lab.vm.run([*words[:at], lab.nodes[card], hex(address), *words[at:]], 120)

    before = lab.call("memory:pinned")[0]
    result = run_with("xdma", ADDRESS)
    assert (result.returncode, result.stdout, result.stderr) == (0, told, "")
    assert lab.call("memory:pinned")[0] - before <= most
    assert "usage: " in lab.vm.run([*words[:at], "--help"]).stdout
    assert lab.vm.run(list(words[:at])).returncode == 2
    _failure(run_with("capric", 0), name, "channel 0 is not memory")
    lab.xdma.control.set_fault("write_error*1")  # of its first read
    _failure(run_with("xdma", 0), name, "Input/output error")
    lab.settled()


def test_numpy_blocks_without_numpy_says_what_to_install(lab: Lab) -> None:
    """With numpy it is run in test_tools.py, whose machine has it."""
    result = lab.vm.run(["python3", "examples/python/numpy_blocks.py", lab.nodes["xdma"], "0"])
    _failure(result, "numpy_blocks", "sudo apt install python3-numpy")


def test_c_library_calls_reach_the_driver(lab: Lab, programs: Path) -> None:
    card = lab.nodes["xdma"]
    printed = lab.vm.run([f"{_BUILT}/c_library", "calls", card, f"{card}c0"]).stdout.splitlines()
    assert printed == [
        "card_get_info 0 0", "name xdma", "card_is_older 0 0", "card_reset 0 0", "card_listen 0 0",
        "card_get_events 0 0", "lines 0 0",
        "channel_get_info 0 0", "kind 1 0", "channel_set_timeout 0 0", "channel_set_wait_mode 0 0",
        "channel_get_wait 0 0", "timeout_ns 5 0", "mode 1 0", "channel_cancel 0 0",
        f"window_get_info -1 {errno.ENOTTY}", "size 0 0", f"window_map -1 {errno.ENOTTY}",  # a channel is none
    ]


def test_c_library_finds_the_first_card(lab: Lab, programs: Path) -> None:
    opened = lab.vm.run([f"{_BUILT}/c_library", "open"]).stdout.splitlines()
    assert opened[:2] == ["open 0 0", min(lab.nodes.values())]


def test_c_library_channel_that_the_card_lacks_is_enoent(lab: Lab, programs: Path) -> None:
    opened = lab.vm.run([f"{_BUILT}/c_library", "channel", lab.nodes["capric"], "1", str(os.O_RDWR)]).stdout
    assert opened == f"open -1 {errno.ENOENT}\n"


def _copied(lab: Lab, card: str) -> int:
    return sum(lab.sysfs(card, f"c0/{direction}/copied") for direction in ("c2h", "h2c"))


#: How a channel is opened, and what its buffers are for.
DIRECTIONS = {os.O_RDWR: BOTH, os.O_RDONLY: uapi.PCIEDMA_BUFFER_C2H, os.O_WRONLY: uapi.PCIEDMA_BUFFER_H2C}


@pytest.mark.parametrize("flags", DIRECTIONS, ids=["both", "to read", "to write"])
def test_c_library_buffers_are_moved_without_a_copy_by_files_of_each_direction(
    flags: int, lab: Lab, programs: Path
) -> None:
    """edu's engine copies what lies in no buffer."""
    node = f"{lab.nodes['edu']}c0"
    writes, reads = flags != os.O_RDONLY, flags != os.O_WRONLY
    lab.vm.run(["sh", "-c", f"head -c 1000 /dev/zero | tr '\\0' {'x' if writes else 'w'} > {node}"])
    before = _copied(lab, "edu")
    printed = lab.vm.run([f"{_BUILT}/c_library", "buffers", node, str(flags), str(DIRECTIONS[flags])]).stdout
    refused = f"-1 {errno.EBADF}"
    assert printed.splitlines() == [
        "buffer_new 0 0", "buffer 1 8192 8192 1", "buffer_register 0 0", "buffer 1 4096 0 2",
        "buffer_export_dmabuf 0 0", "buffer_import_dmabuf 0 0", "buffer 0 8192 0 3",
        f"buffer_write {'304 0' if writes else refused}", f"buffer_read {'304 0' if reads else refused}",
        "zeroed 1", f"pwrite {'1000 0' if writes else refused}", f"pread {'1000 0' if reads else refused}",
        f"same {int(reads)}",
        "buffer_close 0 0", "buffer_close 0 0", "buffer_close 0 0", "buffer 0 0 0 0", "files left 0",
    ]
    assert _copied(lab, "edu") == before
    assert lab.vm.run(["head", "-c", "1000", node]).stdout == "w" * 1000
    assert _copied(lab, "edu") > before  # by head, whose memory is no buffer


def test_c_library_transfers_reach_the_driver(lab: Lab, programs: Path) -> None:
    printed = lab.vm.run([f"{_BUILT}/c_library", "transfers", lab.memory]).stdout.splitlines()
    assert printed == [
        "channel_transfer 2 0", "taken 2", "results 200 200", "channel_transfer 1 0", "channel_set_eventfd 0 0",
        "channel_submit 2 0", "channel_wait 2 0", "tags 5 6", "channel_wait 0 0", "same 1",
    ]
