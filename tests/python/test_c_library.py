"""The C library without a card: it compiles everywhere, installs, finds what is there, and tells errors."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

import pciedma
from pciedma import uapi

from ..c_build import CALLER, EXAMPLES, compile, compiled, install

STANDARDS = [
    ("cc", "-std=c11", "-D_POSIX_C_SOURCE=200809L"), ("cc", "-std=gnu11"), ("cc", "-std=gnu17"),
    ("c++", "-std=c++17"), ("c++", "-std=gnu++20"),
]
TOO_FAR = 1 << 63


@pytest.fixture(scope="module")
def include(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the installed headers."""
    return install(tmp_path_factory.mktemp("installed"))


class Caller:
    """The program that calls the library, with a sysfs and a /dev of its own in *folder*."""

    def __init__(self, include: Path, folder: Path) -> None:
        self.sysfs, self.devices = folder / "sys", folder / "dev"
        self.devices.mkdir()
        places = [f'-DPCIEDMA_SYSFS="{self.sysfs}"', f'-DPCIEDMA_DEVICES="{self.devices}"']
        self.program = compiled(CALLER, folder / "caller", include, "-O2", *places)
        self.fake = compiled(CALLER, folder / "fake", include, "-O2", "-DFAKE", *places)

    def add_card(self, number: int, address: str = "0000:01:00.0") -> None:
        """Show a card with one channel, whose nodes are files."""
        for name in (f"pciedma{number}", f"pciedma{number}c0"):
            (self.sysfs / name).mkdir(parents=True)
            (self.devices / name).touch()
        (self.sysfs / f"pciedma{number}/device").symlink_to(f"../../../{address}")

    def __call__(self, *arguments: object, fake: bool = False, **settings: int) -> list[str]:
        """Return what it prints."""
        environment = os.environ | {name: str(value) for name, value in settings.items()}
        command = [str(self.fake if fake else self.program), *map(str, arguments)]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.fixture(scope="module")
def _shared(include: Path, tmp_path_factory: pytest.TempPathFactory) -> Caller:
    return Caller(include, tmp_path_factory.mktemp("caller"))


@pytest.fixture
def caller(_shared: Caller) -> Caller:
    """The caller; there is no card yet."""
    shutil.rmtree(_shared.sysfs, ignore_errors=True)
    shutil.rmtree(_shared.devices)
    _shared.devices.mkdir()
    return _shared


@pytest.mark.parametrize("optimisation", ["-O0", "-O2"])
@pytest.mark.parametrize("standard", STANDARDS, ids=" ".join)
def test_header_compiles_alone_without_a_warning(
    standard: tuple[str, ...], optimisation: str, include: Path, tmp_path: Path
) -> None:
    source = tmp_path / "alone.c"
    source.write_text("#include <pciedma/pciedma.h>\nint main(void) { return 0; }\n")
    compiler, *options = standard
    compiled(source, tmp_path / "alone", include, optimisation, *options, compiler=compiler)


def test_header_included_by_two_files_links(include: Path, tmp_path: Path) -> None:
    (tmp_path / "other.c").write_text("#include <pciedma/pciedma.h>\n#include <pciedma/pciedma.h>\n")
    (tmp_path / "main.c").write_text('#include <pciedma/pciedma.h>\nint main(void) { return 0; }\n')
    compiled(tmp_path / "main.c", tmp_path / "main", include, str(tmp_path / "other.c"))


def test_header_without_posix_says_what_to_define(include: Path, tmp_path: Path) -> None:
    source = tmp_path / "strict.c"
    source.write_text("#include <pciedma/pciedma.h>\nint main(void) { return 0; }\n")
    result = compile(source, tmp_path / "strict", include, "-std=c11")
    assert result.returncode != 0
    assert "define _POSIX_C_SOURCE as 200809L" in result.stderr


@pytest.mark.parametrize("optimisation", ["-O0", "-O2"])
@pytest.mark.parametrize("standard", STANDARDS, ids=" ".join)
@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.c")))
def test_example_compiles_without_a_warning(
    name: str, standard: tuple[str, ...], optimisation: str, include: Path, tmp_path: Path
) -> None:
    compiler, *options = standard
    compiled(EXAMPLES / name, tmp_path / "example", include, optimisation, *options, compiler=compiler)


def test_there_are_examples() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.c")} >= {"message_echo", "memory_copy", "asynchronous"}


def test_install_puts_readable_files_where_told(tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        install(tmp_path / "destination", "/opt/pciedma")
    finally:
        os.umask(mask)
    root = tmp_path / "destination/opt/pciedma"
    found = {str(path.relative_to(root)): stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*")}
    assert found == {
        "include": 0o755, "include/pciedma": 0o755, "share": 0o755, "share/pkgconfig": 0o755,
        "include/pciedma/pciedma.h": 0o644, "include/pciedma/uapi.h": 0o644, "share/pkgconfig/pciedma.pc": 0o644,
    }


def test_pkg_config_file_says_version_and_where_the_headers_are(tmp_path: Path) -> None:
    install(tmp_path, "/opt/pciedma")
    text = (tmp_path / "opt/pciedma/share/pkgconfig/pciedma.pc").read_text()
    assert "@" not in text
    assert re.search(rf"^Version: {re.escape(pciedma.__version__)}$", text, re.MULTILINE)
    assert re.search(r"^prefix=/opt/pciedma$", text, re.MULTILINE)
    assert re.search(r"^includedir=\$\{prefix\}/include$", text, re.MULTILINE)
    assert re.search(r"^Cflags: -I\$\{includedir\} -D_FILE_OFFSET_BITS=64$", text, re.MULTILINE)


@pytest.mark.skipif(not shutil.which("pkg-config"), reason="there is no pkg-config here")
def test_pkg_config_understands_the_file(tmp_path: Path) -> None:
    install(tmp_path, "/opt/pciedma")
    environment = os.environ | {"PKG_CONFIG_PATH": str(tmp_path / "opt/pciedma/share/pkgconfig")}

    def ask(option: str) -> str:
        command = ["pkg-config", option, "pciedma"]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()

    assert ask("--modversion") == pciedma.__version__
    assert ask("--cflags").split() == ["-I/opt/pciedma/include", "-D_FILE_OFFSET_BITS=64"]
    assert ask("--libs") == ""


def returned(printed: list[str]) -> list[str]:
    """Return what calls have returned, without the ioctls that they made."""
    return [line for line in printed if not line.startswith("ioctl ")]


def _failed(number: int) -> list[str]:
    return [f"open -1 {number}"]


@pytest.mark.parametrize("which", [[], ["01:00.0"], ["0"], ["99999999999"], ["/dev/no-such-card"], [""], ["card"]])
def test_open_without_a_card_is_enoent(caller: Caller, which: list[str]) -> None:
    assert caller("open", *which) == _failed(errno.ENOENT)
    caller.sysfs.mkdir()
    assert caller("open", *which) == _failed(errno.ENOENT)


def test_open_opens_the_card_with_the_lowest_number(caller: Caller) -> None:
    for number in (10, 2, 7):
        caller.add_card(number)
    (caller.sysfs / "pciedma").mkdir()
    (caller.sysfs / "pciedma1x").mkdir()
    assert caller("open") == ["open 0 0", f"{caller.devices}/pciedma2", "cloexec 1 0", f"access {os.O_RDWR} 0"]


@pytest.mark.parametrize("which", ["0000:0a:00.0", "0a:00.0", "0A:00.0"])
def test_open_by_address_opens_the_card_there(caller: Caller, which: str) -> None:
    caller.add_card(0, "0000:01:00.0")
    caller.add_card(1, "10000:0a:00.0")
    caller.add_card(2, "0000:0a:00.0")
    assert caller("open", which)[1] == f"{caller.devices}/pciedma2"


@pytest.mark.parametrize("which", ["0001:0a:00.0", "0a:00.1", "0000:0a:00.", "a:00.0"])
def test_open_by_another_address_is_enoent(caller: Caller, which: str) -> None:
    caller.add_card(0, "0000:0a:00.0")
    assert caller("open", which) == _failed(errno.ENOENT)


def test_open_by_number_or_path_needs_no_sysfs(caller: Caller) -> None:
    node = caller.devices / "pciedma3"
    node.touch()
    for arguments in (("open", "3"), ("number", "3")):
        assert caller(*arguments)[:3] == ["open 0 0", str(node), "cloexec 1 0"]
    link = caller.devices / "link"
    link.symlink_to("pciedma3")
    for path in (node, link):
        assert returned(caller("open", path, fake=True, CHANNEL=-1))[:3] == ["open 0 0", str(node), "cloexec 1 0"]


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero"])
def test_open_by_a_path_that_is_no_card_is_enotty(caller: Caller, path: str) -> None:
    assert caller("open", path) == _failed(errno.ENOTTY)


@pytest.mark.parametrize("part", [{"CHANNEL": 3}, {"CHANNEL": -1, "WINDOW": 3}])
def test_open_by_the_path_of_a_channel_or_window_is_enotty(caller: Caller, part: dict[str, int]) -> None:
    assert returned(caller("open", "/dev/null", fake=True, **part)) == _failed(errno.ENOTTY)


@pytest.mark.parametrize("last", [0, 1, 2])
@pytest.mark.parametrize(
    ("error", "told"), [(errno.ENODEV, errno.ENODEV), (errno.EIO, errno.EIO), (errno.EINVAL, errno.ENOTTY)]
)
def test_open_by_a_path_that_answers_otherwise_tells_why(caller: Caller, last: int, error: int, told: int) -> None:
    told = error if last else told  # of CARD_INFO alone EINVAL is a stranger's word
    printed = caller("open", "/dev/null", fake=True, CHANNEL=-1, LAST=last, ERROR=error)
    assert returned(printed) == _failed(told)


def test_open_by_a_number_beyond_32_bits_does_not_wrap(caller: Caller) -> None:
    caller.add_card(3)
    assert caller("open", (1 << 32) + 3) == _failed(errno.ENOENT)
    assert caller("open", 10 * (1 << 32) + 3) == _failed(errno.ENOENT)


def test_channel_of_a_card_is_opened_with_the_flags_given(caller: Caller) -> None:
    caller.add_card(0)
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_EXCL | os.O_NONBLOCK):
        opened = returned(caller("channel", "0", 0, flags, fake=True))
        access = f"access {flags & os.O_ACCMODE} 0"
        assert opened == ["open 0 0", f"{caller.devices}/pciedma0c0", "cloexec 1 0", access]


def test_channel_that_is_not_there_is_enoent(caller: Caller) -> None:
    caller.add_card(0)
    assert returned(caller("channel", "0", 1, os.O_RDWR, fake=True)) == _failed(errno.ENOENT)


@pytest.mark.parametrize("settings", [{"FOUND": 1}, {"CHANNEL": 1}, {"FOUND": 7, "CHANNEL": 7}])
def test_channel_of_another_card_or_number_is_enodev(caller: Caller, settings: dict[str, int]) -> None:
    caller.add_card(0)
    printed = caller("channel", "0", 0, os.O_RDWR, fake=True, **settings)
    assert returned(printed) == _failed(errno.ENODEV)


def test_channel_of_a_card_that_has_gone_is_enodev(caller: Caller) -> None:
    caller.add_card(0)
    for last in range(3):
        printed = caller("channel", "0", 0, os.O_RDWR, fake=True, LAST=last, ERROR=errno.ENODEV)
        assert returned(printed) == _failed(errno.ENODEV)


@pytest.mark.parametrize(("abi", "older"), [(0, 1), (uapi.PCIEDMA_ABI_VERSION, 0), (77, 0)])
def test_driver_is_older_if_its_abi_is(caller: Caller, abi: int, older: int) -> None:
    assert f"card_is_older {older} 0" in caller("calls", "/dev/null", "/dev/null", fake=True, ABI=abi)


@pytest.mark.parametrize("flag", [os.O_CREAT, os.O_TRUNC, os.O_APPEND])
def test_channel_with_another_flag_is_einval(caller: Caller, flag: int) -> None:
    caller.add_card(0)
    assert caller("channel", "0", 0, os.O_RDWR | flag) == _failed(errno.EINVAL)


def test_channel_of_no_card_is_enotty_or_ebadf(caller: Caller) -> None:
    caller.add_card(0)
    assert caller("channel", "0", 0, os.O_RDWR) == _failed(errno.ENOTTY)
    assert caller("channel", "/dev/no-such-card", 0, os.O_RDWR) == _failed(errno.EBADF)


def test_window_of_a_card_is_opened_with_the_flags_given(caller: Caller) -> None:
    caller.add_card(0)
    (caller.devices / "pciedma0w1").touch()
    for flags in (os.O_RDONLY, os.O_RDWR | os.O_NONBLOCK):
        opened = returned(caller("window", "0", 1, flags, fake=True, WINDOW=1))
        assert opened == ["open 0 0", f"{caller.devices}/pciedma0w1", "cloexec 1 0", f"access {flags & os.O_ACCMODE} 0"]
    assert returned(caller("window", "0", 0, os.O_RDWR, fake=True)) == _failed(errno.ENOENT)
    assert caller("window", "0", 1, os.O_RDWR) == _failed(errno.ENOTTY)
    for flag in (os.O_EXCL, os.O_APPEND):
        assert caller("window", "0", 1, os.O_RDWR | flag) == _failed(errno.EINVAL)


#: The ways to window 0 of card 0: by number, and by name.
TO_A_WINDOW = [("window", "0", 0, os.O_RDWR), ("named-window", "0", "user")]


@pytest.mark.parametrize("way", TO_A_WINDOW)
@pytest.mark.parametrize(
    ("settings", "number"),
    [
        ({"WINDOW": 0, "FOUND": 1}, errno.ENODEV), ({"WINDOW": 1}, errno.ENODEV), ({"WINDOW": -1}, errno.ENOTTY),
        *(({"WINDOW": 0, "LAST": last, "ERROR": errno.ENODEV}, errno.ENODEV) for last in range(3)),
    ],
)
def test_window_of_another_card_or_number_or_of_one_that_has_gone_is_refused(
    caller: Caller, way: tuple[object, ...], settings: dict[str, int], number: int
) -> None:
    caller.add_card(0)
    (caller.devices / "pciedma0w0").touch()
    assert returned(caller(*way, fake=True, WINDOWS=1, **settings)) == _failed(number)


def test_window_is_opened_by_its_name(caller: Caller) -> None:
    caller.add_card(0)
    (caller.devices / "pciedma0w0").touch()
    opened = returned(caller("named-window", "0", "user", fake=True, WINDOWS=1, WINDOW=0))
    assert opened == ["open 0 0", f"{caller.devices}/pciedma0w0", "cloexec 1 0", f"access {os.O_RDWR} 0"]
    for settings in ({"WINDOWS": 0}, {"WINDOWS": 1}):
        assert returned(caller("named-window", "0", "other", fake=True, WINDOW=0, **settings)) == _failed(errno.ENOENT)
    asking = {"LAST": 4, "ERROR": errno.ENODEV}  # its name
    printed = caller("named-window", "0", "user", fake=True, WINDOWS=1, WINDOW=0, **asking)
    assert returned(printed) == _failed(errno.ENODEV)


CALLS = [
    "card_get_info", "card_is_older", "card_reset", "card_listen", "card_get_events", "channel_get_info",
    "channel_set_timeout", "channel_set_wait_mode", "channel_get_wait", "channel_cancel", "window_get_info",
    "window_map",
]


@pytest.mark.parametrize("call", CALLS)
def test_call_on_a_file_is_enotty_and_leaves_zeros(caller: Caller, call: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    printed = caller("calls", path, path)
    assert f"{call} -1 {errno.ENOTTY}" in printed
    assert {"lines 0 0", "kind 0 0", "timeout_ns 0 0", "mode 0 0", "size 0 0"} <= set(printed)


def _handed(printed: list[str]) -> list[tuple[int, bytes]]:
    """Return the ioctls that were made."""
    matches = [re.fullmatch(r"ioctl (\d+) ([0-9a-f]*)", line) for line in printed]
    return [(int(match[1]), bytes.fromhex(match[2])) for match in matches if match]


def test_ioctls_are_handed_zeros_but_for_what_is_asked(caller: Caller) -> None:
    handed = _handed(caller("calls", "/dev/null", "/dev/null", fake=True))
    wait = (uapi.PCIEDMA_IOC_GET_WAIT, uapi.pciedma_wait())
    expected: list[tuple[int, ctypes.Structure]] = [
        (uapi.PCIEDMA_IOC_CARD_INFO, uapi.pciedma_card_info()),
        (uapi.PCIEDMA_IOC_CARD_INFO, uapi.pciedma_card_info()),
        (uapi.PCIEDMA_IOC_RESET, uapi.pciedma_reset()),
        (uapi.PCIEDMA_IOC_SET_EVENTS, uapi.pciedma_events(lines=8, eventfd=-1)),
        (uapi.PCIEDMA_IOC_GET_EVENTS, uapi.pciedma_events()),
        (uapi.PCIEDMA_IOC_CHANNEL_INFO, uapi.pciedma_channel_info()),
        wait,
        (uapi.PCIEDMA_IOC_SET_WAIT, uapi.pciedma_wait(mode=uapi.PCIEDMA_WAIT_INTERRUPT, timeout_ns=5)),
        wait,
        (uapi.PCIEDMA_IOC_SET_WAIT, uapi.pciedma_wait(mode=uapi.PCIEDMA_WAIT_POLL, timeout_ns=77)),
        wait,
        (uapi.PCIEDMA_IOC_CANCEL, uapi.pciedma_cancel()),
        (uapi.PCIEDMA_IOC_WINDOW_INFO, uapi.pciedma_window_info()),
        (uapi.PCIEDMA_IOC_WINDOW_INFO, uapi.pciedma_window_info()),
    ]
    assert handed == [(request, bytes(structure)) for request, structure in expected]


BOTH = uapi.PCIEDMA_BUFFER_C2H | uapi.PCIEDMA_BUFFER_H2C
#: How the caller opens a channel, and for which directions its buffers are.
SHARED = ("buffers", "/dev/null", os.O_RDWR, BOTH)
CREATE = uapi.pciedma_buffer_create


def test_ioctls_of_buffers_are_handed_zeros_but_for_what_is_asked(caller: Caller) -> None:
    handed = _handed(caller(*SHARED, fake=True))
    made = [CREATE.from_buffer_copy(data) for request, data in handed if request == uapi.PCIEDMA_IOC_BUFFER_CREATE]
    new = CREATE(flags=BOTH, type=uapi.PCIEDMA_BUFFER_NEW, size=5000)
    user = CREATE(flags=BOTH, type=uapi.PCIEDMA_BUFFER_USER, size=4096, address=made[1].address)
    dmabuf = CREATE(flags=BOTH, type=uapi.PCIEDMA_BUFFER_DMABUF, fd=made[2].fd)
    assert [bytes(each) for each in made] == [bytes(each) for each in (new, user, dmabuf)]
    assert user.address % 4096 == 0 < user.address
    assert dmabuf.fd > 2
    destroy = (uapi.PCIEDMA_IOC_BUFFER_DESTROY, bytes(uapi.pciedma_buffer_destroy(id=7)))
    assert handed[-3:] == [destroy] * 3
    assert (uapi.PCIEDMA_IOC_BUFFER_EXPORT, bytes(uapi.pciedma_buffer_export(id=7))) in handed


def test_new_buffer_is_mapped_and_unmapped_and_others_are_not(caller: Caller) -> None:
    printed = caller(*SHARED, fake=True)
    mapping = f"{mmap.PROT_READ | mmap.PROT_WRITE} {mmap.MAP_SHARED} at {3 << 12}"
    assert [line for line in printed if line.startswith(("mmap", "munmap"))] == [f"mmap 8192 {mapping}", "munmap 8192"]
    assert [line for line in printed if line.startswith("buffer ")] == [
        "buffer 1 8192 8192 7", "buffer 1 4096 0 7", "buffer 0 0 0 7", "buffer 0 0 0 0",
    ]
    assert printed[-1] == "files left 0"


def test_new_buffer_of_a_channel_that_cannot_be_mapped_is_mapped_by_a_dma_buf(caller: Caller) -> None:
    printed = caller(*SHARED, fake=True, CHANNEL_MAP=errno.EACCES)
    assert [line.split(" at ")[1] for line in printed if line.startswith("mmap")] == [str(3 << 12), "0"]
    assert "buffer 1 8192 8192 7" in printed
    assert "buffer_new 0 0" in printed
    assert printed[-1] == "files left 0"


@pytest.mark.parametrize(
    ("settings", "number", "calls"),
    [
        ({"LAST": 0, "ERROR": errno.ENOMEM}, errno.ENOMEM, ["CREATE"]),
        ({"CHANNEL_MAP": errno.ENODEV}, errno.ENODEV, ["CREATE", "DESTROY"]),
        (
            {"CHANNEL_MAP": errno.EACCES, "LAST": 1, "ERROR": errno.EMFILE}, errno.EMFILE,
            ["CREATE", "EXPORT", "DESTROY"],
        ),
        ({"CHANNEL_MAP": errno.EACCES, "DMABUF_MAP": errno.ENFILE}, errno.ENFILE, ["CREATE", "EXPORT", "DESTROY"]),
        ({"CHANNEL_MAP": errno.ENFILE, "LAST": 1, "ERROR": errno.ENOENT}, errno.ENFILE, ["CREATE", "DESTROY"]),
    ],
)
def test_new_buffer_that_cannot_be_had_leaves_nothing_and_its_own_errno(
    caller: Caller, settings: dict[str, int], number: int, calls: list[str]
) -> None:
    printed = caller(*SHARED, fake=True, **settings)
    told = printed.index(f"buffer_new -1 {number}")
    requests = [request for request, _ in _handed(printed[:told])]
    assert requests == [getattr(uapi, f"PCIEDMA_IOC_BUFFER_{call}") for call in calls]
    assert printed[told + 1] == "buffer 0 0 0 0"
    assert not any(line.startswith("munmap") for line in printed)
    assert printed[-1] == "files left 0"


@pytest.mark.parametrize("last", [1, 2, 3])
def test_error_of_a_buffer_s_call_is_told_and_leaves_zeros(caller: Caller, last: int) -> None:
    call = ["register", "export_dmabuf", "import_dmabuf"][last - 1]
    printed = caller(*SHARED, fake=True, LAST=last, ERROR=errno.ENOMEM)
    told = printed.index(f"buffer_{call} -1 {errno.ENOMEM}")
    assert call == "export_dmabuf" or printed[told + 1] == "buffer 0 0 0 0"
    assert printed[-1] == "files left 0"


def test_buffer_whose_channel_is_closed_is_unmapped(caller: Caller) -> None:
    before = 8  # three times CREATE, EXPORT, two times TRANSFER, two times DESTROY
    printed = caller(*SHARED, fake=True, LAST=before, ERROR=errno.EBADF)
    assert "munmap 8192" in printed
    assert printed[-3:] == [f"buffer_close -1 {errno.EBADF}", "buffer 0 0 0 0", "files left 0"]


BATCH, ENTRY = uapi.pciedma_transfer_batch, uapi.pciedma_transfer_entry
H2C, C2H = uapi.PCIEDMA_ENTRY_H2C, uapi.PCIEDMA_ENTRY_C2H
SUBMIT, EACH = uapi.PCIEDMA_TRANSFER_SUBMIT, uapi.PCIEDMA_TRANSFER_EACH


def _entries(printed: list[str]) -> list[bytes]:
    return [bytes.fromhex(line.removeprefix("entry ")) for line in printed if line.startswith("entry ")]


def test_part_of_a_buffer_is_moved_by_one_entry(caller: Caller) -> None:
    printed = caller(*SHARED, fake=True, TAKEN=1)
    assert _entries(printed) == [
        bytes(ENTRY(flags=H2C, buffer=7, offset=96, length=304, address=64)),
        bytes(ENTRY(flags=C2H, buffer=7, offset=1024, length=304, address=64)),
    ]
    assert {"buffer_write 100 0", "buffer_read 100 0"} <= set(printed)
    printed = caller(*SHARED, fake=True, TAKEN=1, WHOLE=-1)
    assert {f"buffer_write -1 {errno.ETIMEDOUT}", f"buffer_read -1 {errno.ETIMEDOUT}"} <= set(printed)


def test_ioctls_of_transfers_are_handed_zeros_but_for_what_is_asked(caller: Caller) -> None:
    printed = caller("transfers", "/dev/null", fake=True)
    first = bytes(ENTRY(flags=H2C, buffer=7, length=200, tag=5))
    second = bytes(ENTRY(flags=C2H | uapi.PCIEDMA_ENTRY_BARRIER, buffer=7, offset=400, length=200, tag=6))
    assert _entries(printed) == [first, second, first, first, second]
    handed = _handed(printed)[1:-1]
    given = BATCH.from_buffer_copy(handed[0][1])
    entries, results = given.entries, given.results
    assert entries and results
    expected: list[tuple[int, ctypes.Structure]] = [
        (uapi.PCIEDMA_IOC_TRANSFER, BATCH(count=2, entries=entries, results=results)),
        (uapi.PCIEDMA_IOC_TRANSFER, BATCH(flags=EACH, count=1, entries=entries)),
        (uapi.PCIEDMA_IOC_TRANSFER_EVENTFD, uapi.pciedma_transfer_eventfd(eventfd=-1)),
        (uapi.PCIEDMA_IOC_TRANSFER, BATCH(flags=SUBMIT | EACH, count=2, entries=entries)),
        (uapi.PCIEDMA_IOC_TRANSFER_WAIT,
         uapi.pciedma_transfer_wait(min=2, max=2, timeout_ns=5_000_000_000, results=results)),
        (uapi.PCIEDMA_IOC_TRANSFER_WAIT, uapi.pciedma_transfer_wait(max=2, results=results)),
    ]
    assert handed == [(request, bytes(structure)) for request, structure in expected]


@pytest.mark.parametrize(("whole", "told"), [(1, "1 0"), (-1, f"-1 {errno.ETIMEDOUT}")])
def test_transfer_tells_how_many_were_taken_also_if_it_fails(caller: Caller, whole: int, told: str) -> None:
    printed = caller("transfers", "/dev/null", fake=True, TAKEN=1, WHOLE=whole)
    at = printed.index(f"channel_transfer {told}")
    assert printed[at + 1 : at + 3] == ["taken 1", "results 100 0"]


def test_calls_of_buffers_on_a_file_are_enotty_and_leave_zeros(caller: Caller, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    printed = caller("buffers", path, os.O_RDWR, BOTH)
    assert set(printed) == {
        *(f"buffer_{call} -1 {errno.ENOTTY}"
          for call in ("new", "register", "export_dmabuf", "import_dmabuf", "write", "read", "close")),
        "buffer 0 0 0 0", "files left 0",
    }
    calls = [f"channel_{call} -1 {errno.ENOTTY}" for call in ("transfer", "submit", "wait", "set_eventfd")]
    assert {*calls, "taken 0"} <= set(caller("transfers", path))


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """A file that holds for card memory."""
    path = tmp_path / "memory"
    path.write_bytes(b"0123456789abcdef")
    return path


def test_read_full_returns_what_is_there_and_no_errno_at_the_end(caller: Caller, memory: Path) -> None:
    assert caller("read", memory, 6, 4) == ["moved 6 0", "data 456789"]
    assert caller("read", memory, 10, 12) == ["moved 4 0", "data cdef"]
    assert caller("read", memory, 10, 1000) == ["moved 0 0", "data "]


def test_write_full_writes_at_the_address(caller: Caller, memory: Path) -> None:
    assert caller("write", memory, 3, 5)[0] == "moved 3 0"
    assert memory.read_bytes() == b"01234xxx89abcdef"


def test_write_full_without_room_is_enospc(caller: Caller) -> None:
    assert caller("write", "/dev/full", 10, 0)[0] == f"moved 0 {errno.ENOSPC}"
    assert caller("write", "-", 10, 0, fake=True, CALLS=0, ERROR=0)[1] == f"moved 0 {errno.ENOSPC}"


@pytest.mark.parametrize("verb", ["read", "write"])
@pytest.mark.parametrize(
    ("length", "address"), [(1, TOO_FAR), (1, TOO_FAR - 1), (16, TOO_FAR - 16), (1, 2 * TOO_FAR - 1)]
)
def test_transfer_above_the_last_address_is_eoverflow_and_moves_nothing(
    caller: Caller, verb: str, length: int, address: int
) -> None:
    assert caller(verb, "-", length, address, fake=True)[0] == f"moved 0 {errno.EOVERFLOW}"


@pytest.mark.parametrize("verb", ["read", "write"])
def test_transfer_up_to_the_last_address_is_asked_for(caller: Caller, verb: str) -> None:
    address = TOO_FAR - 17
    assert caller(verb, "-", 16, address, fake=True)[:2] == [f"call 16 at {address}", "moved 16 0"]


@pytest.mark.parametrize("verb", ["read", "write"])
def test_transfer_on_what_has_no_position_is_espipe(caller: Caller, verb: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert caller(verb, tmp_path / "pipe", 1, 0)[0] == f"moved 0 {errno.ESPIPE}"
    assert caller(verb, tmp_path / "absent", 1, 0)[0] == f"moved 0 {errno.EBADF}"


@pytest.mark.parametrize("verb", ["read", "write"])
def test_transfer_goes_on_after_short_counts(caller: Caller, verb: str) -> None:
    assert caller(verb, "-", 10000, 1 << 40, fake=True, MOST=4000) == [
        f"call 10000 at {1 << 40}", f"call 6000 at {(1 << 40) + 4000}", f"call 2000 at {(1 << 40) + 8000}",
        "moved 10000 0",
    ]


@pytest.mark.parametrize("verb", ["read", "write"])
def test_transfer_is_cut_where_the_kernel_would(caller: Caller, verb: str) -> None:
    most = 0x7FFFF000
    assert caller(verb, "-", 5 << 30, 7, fake=True) == [
        f"call {most} at 7", f"call {most} at {most + 7}", f"call {(5 << 30) - 2 * most} at {2 * most + 7}",
        f"moved {5 << 30} 0",
    ]


@pytest.mark.parametrize("verb", ["read", "write"])
@pytest.mark.parametrize("number", [errno.EINTR, errno.EIO, errno.EAGAIN, errno.ETIMEDOUT, errno.ECANCELED])
def test_error_ends_the_transfer_and_is_told_beside_the_count(caller: Caller, verb: str, number: int) -> None:
    printed = caller(verb, "-", 10000, 0, fake=True, MOST=4000, CALLS=2, ERROR=number)
    assert printed[-1] == f"moved 8000 {number}"
    assert len(printed) == 4
