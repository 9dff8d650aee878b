"""Channels without a driver: buffers, addresses, settings and errors, with files and pipes in place of nodes."""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import pciedma
from pciedma import uapi
from pciedma.errors import translated

from .fake_driver import FakeDriver


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pciedma.Channel]:
    """A memory channel whose card is a file of 4096 bytes."""
    monkeypatch.setattr(fcntl, "ioctl", FakeDriver().ioctl)
    path = tmp_path / "pciedma0c0"
    path.write_bytes(bytes(range(256)) * 16)
    with pciedma.Channel(str(path)) as channel:
        yield channel


@pytest.fixture
def message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pciedma.Channel]:
    """A message channel whose card is a FIFO: what is written is read."""
    monkeypatch.setattr(fcntl, "ioctl", FakeDriver(uapi.PCIEDMA_KIND_MESSAGE, 0).ioctl)
    path = tmp_path / "pciedma0c0"
    os.mkfifo(path)
    with pciedma.Channel(str(path)) as channel:
        yield channel


BUFFERS = [
    pytest.param(lambda: bytearray(16), id="bytearray"),
    pytest.param(lambda: array.array("I", [0] * 4), id="array"),
    pytest.param(lambda: mmap.mmap(-1, 16), id="mmap"),
    pytest.param(lambda: memoryview(bytearray(32))[8:24], id="slice"),
    pytest.param(lambda: (ctypes.c_uint16 * 8)(), id="ctypes"),
    pytest.param(lambda: memoryview(bytearray(16)).cast("H", (2, 4)), id="two-dimensional"),
]


@pytest.mark.parametrize("make", BUFFERS)
def test_readinto_fills_any_contiguous_buffer(memory: pciedma.Channel, make: Any) -> None:
    buffer = make()
    assert memory.readinto(buffer, 32) == 16
    assert bytes(memoryview(buffer).cast("B")) == bytes(range(32, 48))


@pytest.mark.parametrize("make", BUFFERS)
def test_write_takes_any_contiguous_buffer(memory: pciedma.Channel, make: Any) -> None:
    buffer = make()
    memoryview(buffer).cast("B")[:] = b"0123456789abcdef"
    assert memory.write(buffer, 100) == 16
    assert memory.read(16, 100) == b"0123456789abcdef"


def test_write_takes_what_is_read_only(memory: pciedma.Channel) -> None:
    assert memory.write(b"xyz", 1) == 3
    assert memory.read(5) == b"\x00xyz\x04"


def test_readinto_refuses_a_read_only_buffer(memory: pciedma.Channel) -> None:
    with pytest.raises(TypeError, match="read-only"):
        memory.readinto(b"abc")


def test_buffers_with_gaps_are_refused(memory: pciedma.Channel) -> None:
    with pytest.raises(TypeError, match="contiguous"):
        memory.readinto(memoryview(bytearray(16))[::2])
    with pytest.raises(TypeError, match="contiguous"):
        memory.write(memoryview(bytes(16))[::2])


def test_read_without_a_size_takes_the_rest_of_the_memory(memory: pciedma.Channel) -> None:
    assert memory.read(address=4090) == bytes(range(250, 256))
    assert memory.read(address=5000) == b""


@pytest.mark.parametrize(("address", "why"), [(-1, "negative"), (1 << 63, "or more"), (1 << 80, "or more")])
def test_address_that_no_offset_can_be_is_refused(memory: pciedma.Channel, address: int, why: str) -> None:
    for call in (lambda: memory.read(1, address), lambda: memory.write(b"x", address)):
        with pytest.raises(ValueError, match=why):
            call()


def test_message_goes_and_comes(message: pciedma.Channel) -> None:
    assert message.write(b"hello") == 5
    assert message.read() == b"hello"


def test_message_channel_has_no_addresses(message: pciedma.Channel) -> None:
    for call in (lambda: message.read(1, 0), lambda: message.write(b"x", 0)):
        with pytest.raises(ValueError, match="no addresses"):
            call()


@pytest.mark.parametrize(
    ("seconds", "nanoseconds"),
    [(None, -1), (0, 0), (0.0, 0), (1e-12, 1), (1e-9, 1), (0.5, 500_000_000), (3, 3_000_000_000)],
)
def test_time_out_in_seconds_is_nanoseconds_in_the_kernel(
    memory: pciedma.Channel, seconds: float | None, nanoseconds: int
) -> None:
    memory.timeout_s = seconds
    assert memory._get_wait().timeout_ns == nanoseconds
    assert memory.timeout_s == (None if seconds is None else nanoseconds / 1e9)


@pytest.mark.parametrize("seconds", [-1, -1e-9, 1e10, float("inf"), float("nan")])
def test_unsuitable_time_outs_are_refused(memory: pciedma.Channel, seconds: float) -> None:
    with pytest.raises(ValueError, match="time-out"):
        memory.timeout_s = seconds
    assert memory.timeout_s == 10.0


@pytest.mark.parametrize("seconds", ["1", b"1", True, False, 1j, [1], timedelta(seconds=1)])
def test_time_outs_that_are_no_numbers_are_refused(memory: pciedma.Channel, seconds: Any) -> None:
    with pytest.raises(TypeError, match="timeout_s is seconds, a number, or None"):
        memory.timeout_s = seconds
    assert memory.timeout_s == 10.0


@pytest.mark.parametrize("seconds", [Decimal("2.5"), Fraction(5, 2)])
def test_time_outs_of_all_kinds_of_numbers_are_taken(memory: pciedma.Channel, seconds: Any) -> None:
    memory.timeout_s = seconds
    assert memory.timeout_s == 2.5


@pytest.mark.parametrize("mode", ["poll", "POLL", 1, None, True, pciedma.Kind.MEMORY])
def test_wait_mode_that_is_none_names_those_that_are(memory: pciedma.Channel, mode: Any) -> None:
    with pytest.raises(TypeError, match=r"WaitMode.INTERRUPT, WaitMode.POLL, WaitMode.ADAPTIVE, not ") as caught:
        memory.wait_mode = mode
    assert repr(mode) in str(caught.value)


def test_wait_mode_keeps_the_time_out(memory: pciedma.Channel) -> None:
    memory.timeout_s = 2.0
    memory.wait_mode = pciedma.WaitMode.POLL
    assert (memory.wait_mode, memory.timeout_s) == (pciedma.WaitMode.POLL, 2.0)


def test_closed_channel_says_so(memory: pciedma.Channel) -> None:
    memory.close()
    memory.close()
    with pytest.raises(ValueError, match="is closed"):
        memory.read(1)
    assert "closed" in repr(memory)


def test_unclosed_channel_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "ioctl", FakeDriver(uapi.PCIEDMA_KIND_MEMORY, 1).ioctl)
    (tmp_path / "pciedma0c0").touch()
    with pytest.warns(ResourceWarning, match="unclosed"):
        del_me = pciedma.Channel(str(tmp_path / "pciedma0c0"))
        del del_me


@pytest.mark.parametrize("there", [os.O_RDWR, os.O_RDONLY, os.O_WRONLY])
def test_channel_is_opened_for_the_directions_that_it_has(
    there: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refuse(path: str, flags: int) -> int:
        if flags & os.O_ACCMODE != there:
            raise OSError(errno.EOPNOTSUPP, "not that way")
        return opened(path, flags)

    (tmp_path / "pciedma0c0").touch()
    monkeypatch.setattr(fcntl, "ioctl", FakeDriver().ioctl)
    monkeypatch.setattr(os, "open", refuse)
    with pciedma.Channel(str(tmp_path / "pciedma0c0")) as channel:
        monkeypatch.undo()
        assert fcntl.fcntl(channel.fileno(), fcntl.F_GETFL) & os.O_ACCMODE == there


def test_channel_that_opens_no_way_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, flags: int) -> int:
        raise OSError(errno.EOPNOTSUPP, "a stream")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match="not supported") as caught:
        pciedma.Channel(str(tmp_path / "pciedma0c0"))
    assert caught.value.errno == errno.EOPNOTSUPP


@pytest.mark.filterwarnings("error")
def test_failed_open_closes_the_node(tmp_path: Path) -> None:
    node = tmp_path / "pciedma0c0"
    node.touch()
    with node.open():
        assert files_open(node) == 1
        with pytest.raises(OSError, match="ioctl"):
            pciedma.Channel(str(node))
        assert files_open(node) == 1


def files_open(path: Path) -> int:
    """How many files this process has open on `path`: others may come and go, with the garbage of earlier tests."""
    return sum(fd.is_symlink() and fd.readlink() == path for fd in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize(
    ("code", "kind", "builtin"),
    [
        (errno.ENODEV, pciedma.CardGoneError, OSError),
        (errno.ETIMEDOUT, pciedma.DmaTimeoutError, TimeoutError),
        (errno.EMSGSIZE, pciedma.MessageTooLongError, OSError),
        (errno.EAGAIN, BlockingIOError, BlockingIOError),
        (errno.EIO, OSError, OSError),
    ],
)
def test_errors_have_their_class_and_errno(code: int, kind: type[OSError], builtin: type[OSError]) -> None:
    with pytest.raises(builtin) as caught, translated("/dev/pciedma0c0"):
        raise OSError(code, "x")
    assert type(caught.value) is kind
    assert (caught.value.errno, caught.value.filename) == (code, "/dev/pciedma0c0")
